#include "grpc/client_priv.h"

#include "http/grpc.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"
#include "route/route.h"

/* What envoy.config.core.v3.GrpcService says of a service, and the head of a request that follows from it. */

static void service_fini(struct mz_grpc_service *s)
{
    for (size_t i = 0; i < s->n_headers; i++)
        mz_format_destroy(s->headers[i].value);
    mz_arena_destroy(s->arena);
}

static struct mz_str lower(struct mz_arena *a, const char *text)
{
    struct mz_str s = mz_arena_dup(a, mz_str_c(text));
    for (size_t i = 0; i < s.n; i++)
        ((char *)(uintptr_t)s.p)[i] = mz_lower(s.p[i]);
    return s;
}

static bool metadata_build(struct mz_grpc_service *s, const pb_GrpcService *m, struct mz_err *err)
{
    s->headers = mz_arena_alloc0(s->arena, mz_mul(m->n_initial_metadata, sizeof(*s->headers)));
    for (size_t i = 0; i < m->n_initial_metadata; i++) {
        const pb_HeaderValue *v = m->initial_metadata[i];
        struct service_header *h = &s->headers[i];
        h->name = lower(s->arena, v->key);
        if (h->name.n && h->name.p[0] == ':')
            return mz_err_set(err, "key '%s': pseudo-headers cannot be set", v->key) ||
                   mz_err_at(err, "initial_metadata[%zu]", i);
        h->value = mz_format_create(mz_str_c(v->value), true, err);
        if (!h->value)
            return mz_err_at(err, "value") || mz_err_at(err, "initial_metadata[%zu]", i);
        s->n_headers++;
    }
    return true;
}

static bool service_fill(struct mz_grpc_service *s, const pb_GrpcService *m, struct mz_err *err)
{
    const pb_GrpcService_EnvoyGrpc *e = m->envoy_grpc;
    if (m->target_specifier_case != pb_GrpcService_TARGET_SPECIFIER_ENVOY_GRPC)
        return mz_err_set(err, "envoy_grpc is required");
    s->cluster = mz_arena_dup(s->arena, mz_str_c(e->cluster_name));
    s->authority = e->authority[0] ? mz_arena_dup(s->arena, mz_str_c(e->authority)) : s->cluster;
    s->has_max_receive = e->max_receive_message_length != NULL;
    s->max_receive = mz_u32_or(e->max_receive_message_length, 0);
    s->skip_envoy_headers = e->skip_envoy_headers != 0;
    s->has_timeout = m->timeout != NULL;
    if (!mz_duration_ms(m->timeout, 0, &s->timeout_ms, err))
        return mz_err_at(err, "timeout");
    if (m->retry_policy)
        s->retry = mz_retry_policy_core(m->retry_policy, NULL, s->arena, err);
    if (m->retry_policy && !s->retry)
        return mz_err_at(err, "retry_policy");
    return metadata_build(s, m, err);
}

struct mz_grpc_service *mz_grpc_service_create(const pb_GrpcService *m, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_grpc_service *s = mz_arena_new0(a, struct mz_grpc_service);
    s->arena = a;
    if (service_fill(s, m, err))
        return s;
    service_fini(s);
    return NULL;
}

void mz_grpc_service_destroy(struct mz_grpc_service *s)
{
    if (s)
        service_fini(s);
}

struct mz_str mz_grpc_service_cluster(const struct mz_grpc_service *s)
{
    return s->cluster;
}

uint64_t mz_grpc_service_timeout_ms(const struct mz_grpc_service *s, uint64_t otherwise)
{
    return s->has_timeout ? s->timeout_ms : otherwise;
}

static void configured_headers(const struct mz_grpc_service *s, const struct mz_grpc_opts *o,
                               struct mz_headers *h)
{
    struct mz_stream_info nothing;
    struct mz_format_ctx none = { .info = &nothing, .req = h };
    struct mz_buf b;
    if (!s->n_headers)
        return;
    if (!o->format)
        mz_info_init(&nothing);
    mz_buf_init(&b);
    for (size_t i = 0; i < s->n_headers; i++) {
        mz_format_append(s->headers[i].value, o->format ? o->format : &none, &b);
        if (mz_buf_len(&b))
            mz_headers_set(h, s->headers[i].name,
                           mz_arena_dup(h->arena, mz_buf_linearize(&b, mz_buf_len(&b))));
        mz_buf_drain(&b, mz_buf_len(&b));
    }
    mz_buf_fini(&b);
}

struct mz_headers *service_request(const struct mz_grpc_service *s, const struct mz_grpc_method *m,
                                   const struct mz_grpc_opts *o, struct mz_arena *a)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("POST"));
    mz_headers_add_id(h, MZ_H_PATH, mz_str_c(m->path));
    mz_headers_add_id(h, MZ_H_AUTHORITY, s->authority);
    mz_headers_add_id(h, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(h, MZ_H_TE, MZ_STR("trailers"));
    if (o->timeout_ms)
        mz_grpc_timeout_set(h, o->timeout_ms);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    configured_headers(s, o, h);
    if (o->metadata)
        mz_headers_foreach(e, o->metadata)
            mz_headers_add(h, mz_arena_dup(a, e->name), mz_arena_dup(a, e->value));
    return h;
}
