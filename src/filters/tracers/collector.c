#include "filters/tracers/collector.h"

#include "proto/mapper.h"

bool collector_build(const pb_HttpService *m, uint64_t timeout_otherwise_ms, struct mz_arena *a,
                     struct reporter_http *out, struct mz_header_mutations *add,
                     uint64_t *out_timeout_ms, struct mz_err *err)
{
    const pb_HttpUri *u = m->http_uri;
    if (!u)
        return mz_err_set(err, "is required") || mz_err_at(err, "http_uri");
    struct mz_str whole = mz_arena_dup(a, mz_str_c(u->uri));
    ptrdiff_t scheme = mz_str_find(whole, MZ_STR("://"));
    struct mz_str rest = scheme < 0 ? whole : mz_str_skip(whole, (size_t)scheme + 3);
    ptrdiff_t slash = mz_str_chr(rest, '/');
    out->host = slash < 0 ? rest : (struct mz_str){ rest.p, (size_t)slash };
    out->path = slash < 0 ? MZ_STR("/") : mz_str_skip(rest, (size_t)slash);
    out->cluster = mz_arena_dup(a, mz_str_c(u->cluster));
    out->add = add;
    if (!mz_duration_ms(u->timeout, timeout_otherwise_ms, out_timeout_ms, err)) {
        mz_err_at(err, "timeout");
        return mz_err_at(err, "http_uri");
    }
    return mz_header_mutations_build(m->request_headers_to_add, m->n_request_headers_to_add, NULL,
                                     0, false, add, err) ||
           mz_err_at(err, "request_headers_to_add");
}
