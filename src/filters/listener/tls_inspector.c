/* tls_inspector (L2): is this TLS, for which server name, with which application protocols? Nothing is consumed. */
#include "base/log.h"
#include "filters/listener/client_hello.h"
#include "filters/listener/listener_filters.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#define HELLO_BYTES_MAX 16384
#define FIRST_BYTES     2048

#define STATS(X)                                                                                   \
    X(ALPN_FOUND, "alpn_found", COUNTER)                                                           \
    X(ALPN_NOT_FOUND, "alpn_not_found", COUNTER)                                                   \
    X(TOO_LARGE, "client_hello_too_large", COUNTER)                                                \
    X(SNI_FOUND, "sni_found", COUNTER)                                                             \
    X(SNI_NOT_FOUND, "sni_not_found", COUNTER)                                                     \
    X(TLS_FOUND, "tls_found", COUNTER)                                                             \
    X(TLS_NOT_FOUND, "tls_not_found", COUNTER) X(BYTES_PROCESSED, "bytes_processed", HISTOGRAM)
enum {
#define X(id, name, type) S_##id,
    STATS(X)
#undef X
};
static const struct mz_stat_def defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_BYTES, 0 },
    STATS(X)
#undef X
};
static const struct mz_stat_kind kind = { "tls_inspector", defs, MZ_COUNT(defs) };

struct inspector_cfg {
    bool ja3, ja4, close_on_error;
    uint32_t max, first;
    struct mz_scope *scope;
};

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_TlsInspector *m = msg;
    uint32_t max = mz_u32_or(m->max_client_hello_size, HELLO_BYTES_MAX);
    if (max > HELLO_BYTES_MAX) {
        mz_err_set(err, "max_client_hello_size of %u is greater than maximum of %u.", max,
                   HELLO_BYTES_MAX);
        return NULL;
    }
    struct inspector_cfg *c = mz_new0(MZ_MEM_CONFIG, struct inspector_cfg);
    *c = (struct inspector_cfg){ .ja3 = mz_bool_or(m->enable_ja3_fingerprinting, false),
                                 .ja4 = mz_bool_or(m->enable_ja4_fingerprinting, false),
                                 .close_on_error =
                                     m->close_connection_on_client_hello_parsing_errors,
                                 .max = max,
                                 .first = mz_u32_or(m->initial_read_buffer_size, FIRST_BYTES),
                                 .scope =
                                     mz_scope_create(f->stats, &kind, MZ_STR("tls_inspector.")) };
    return c;
}

static void destroy(void *cfg)
{
    struct inspector_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_CONFIG, c);
}

static void take_protocols(struct mz_incoming *in, struct mz_str list)
{
    size_t n = 0;
    for (size_t i = 0; i < list.n; i += (unsigned char)list.p[i] + 1u)
        n++;
    in->protocols = mz_arena_alloc(in->arena, n * sizeof(*in->protocols));
    for (size_t i = 0; i < list.n; i += (unsigned char)list.p[i] + 1u)
        in->protocols[in->n_protocols++] =
            mz_arena_dup(in->arena, (struct mz_str){ list.p + i + 1, (unsigned char)list.p[i] });
}

static void found(const struct inspector_cfg *c, struct mz_incoming *in,
                  const struct client_hello *h)
{
    mz_count(c->scope, S_TLS_FOUND, 1);
    mz_count(c->scope, h->sni.n ? S_SNI_FOUND : S_SNI_NOT_FOUND, 1);
    mz_count(c->scope, h->has_alpn ? S_ALPN_FOUND : S_ALPN_NOT_FOUND, 1);
    in->transport = MZ_STR("tls");
    char *low = mz_arena_alloc(in->arena, h->sni.n + 1);
    for (size_t i = 0; i < h->sni.n; i++)
        low[i] = mz_lower(h->sni.p[i]);
    in->server_name = (struct mz_str){ low, h->sni.n };
    if (h->has_alpn)
        take_protocols(in, h->alpn);
    if (c->ja3)
        in->ja3 = client_hello_ja3(h, in->arena);
    if (c->ja4)
        in->ja4 = client_hello_ja4(h, in->arena);
}

static enum mz_lfilter_flow on_data(struct mz_lfilter *f, struct mz_str bytes, bool end)
{
    const struct inspector_cfg *c = f->cfg;
    struct client_hello h;
    size_t used = bytes.n;
    switch (client_hello_read(bytes, f->in->arena, &h, &used)) {
    case HELLO_DONE:
        mz_hist_record(c->scope, S_BYTES_PROCESSED, used);
        found(c, f->in, &h);
        return MZ_LF_CONTINUE;
    case HELLO_MORE:
        if (bytes.n < c->max)
            return end ? MZ_LF_CLOSE : MZ_LF_STOP;
        mz_count(c->scope, S_TOO_LARGE, 1);
        return MZ_LF_CLOSE;
    case HELLO_NOT_TLS:
        break;
    }
    mz_hist_record(c->scope, S_BYTES_PROCESSED, bytes.n);
    if (c->close_on_error)
        return MZ_LF_CLOSE;
    mz_count(c->scope, S_TLS_NOT_FOUND, 1);
    return MZ_LF_CONTINUE;
}

static size_t want(const struct mz_lfilter *f)
{
    return ((const struct inspector_cfg *)f->cfg)->max;
}

static size_t first(const struct mz_lfilter *f)
{
    const struct inspector_cfg *c = f->cfg;
    return c->first < c->max ? c->first : c->max;
}

const struct mz_lfilter_type mz_lfilter_tls_inspector = {
    .name = "envoy.filters.listener.tls_inspector",
    .config_type = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_data = on_data,
    .want = want,
    .first = first,
};
