#include "filters/http/ratelimit.h"

#include "filters/http/fraction.h"

/*
 * ratelimit (H9): a service says whether a request's descriptors are over their limits. The stream waits for it, and takes the
 * question with it when it goes (F11).
 */

static const struct mz_grpc_method should_rate_limit = {
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    &pb_RateLimitRequest__descriptor, &pb_RateLimitResponse__descriptor
};
struct state {
    struct mz_filter base;
    struct mz_grpc_call *call;   /* the service is asked */
    struct mz_cluster *cluster;  /* of the route then; reference */
    struct mz_headers *response; /* for the answer; NULL: none */
};

static const struct rl_cfg *cfg_of(const struct state *st)
{
    return st->base.cfg;
}

static struct state *from_filter(struct mz_filter *f)
{
    return (struct state *)(void *)f;
}

/* ---- the question ---- */

/* Of the route's configuration of this filter, of the filter's, else of the route and its virtual host. */
static struct mz_descriptor *describe(struct state *st, const struct mz_route *r, size_t *out_n)
{
    struct mz_stream *s = st->base.stream;
    const struct rl_route_cfg *rc = st->base.route_cfg;
    const struct rl_cfg *c = cfg_of(st);
    struct mz_stream_info *info = mz_stream_info(s);
    struct mz_rate_query q = { .route = r, .service_cluster = c->service_cluster, .global = true };
    q.q = (struct mz_route_query){ .h = mz_stream_request_headers(s),
                                   .random = mz_stream_random(s),
                                   .info = info,
                                   .arena = mz_stream_arena(s),
                                   .dynamic_metadata = info->dynamic_metadata };
    const struct mz_rate_limits *first = rc && rc->own ? rc->own : c->own, *more = NULL;
    if (!first) {
        enum rl_vhost vhost = r->include_vh_rate_limits ? RL_INCLUDE : rc ? rc->vhost : RL_OVERRIDE;
        first = r->rate_limits;
        if (vhost == RL_INCLUDE || (vhost == RL_OVERRIDE && !mz_rate_limits_n(first)))
            more = r->vhost->rate_limits;
    }
    size_t n = mz_rate_limits_n(first) + mz_rate_limits_n(more);
    struct mz_descriptor *d = mz_arena_alloc(q.q.arena, mz_mul(n, sizeof(*d)));
    *out_n = mz_rate_limits_describe(first, c->stage, &q, d);
    *out_n += mz_rate_limits_describe(more, c->stage, &q, d + *out_n);
    return d;
}

static pb_RateLimitDescriptor *descriptor(const struct mz_descriptor *d, struct mz_arena *a)
{
    pb_RateLimitDescriptor *m = mz_proto_new(a, pb_RateLimitDescriptor);
    m->entries = mz_arena_alloc0(a, mz_mul(d->n, sizeof(*m->entries)));
    for (size_t i = 0; i < d->n; i++) {
        m->entries[i] = mz_proto_new(a, pb_RateLimitDescriptor_Entry);
        m->entries[i]->key = mz_proto_text(d->v[i].key, a);
        m->entries[i]->value = mz_proto_text(d->v[i].value, a);
        m->n_entries++;
    }
    if (d->hits != 1) {
        m->hits_addend = mz_proto_new(a, pb_UInt64Value);
        m->hits_addend->value = d->hits;
    }
    return m;
}

static void on_done(void *arg, const struct mz_grpc_status *status, struct mz_grpc_message *reply);

static void ask(struct state *st, const struct mz_descriptor *d, size_t n)
{
    struct mz_stream *s = st->base.stream;
    const struct rl_route_cfg *rc = st->base.route_cfg;
    const struct rl_cfg *c = cfg_of(st);
    struct mz_arena *a = mz_stream_arena(s);
    const struct mz_format_ctx format = { .info = mz_stream_info(s),
                                          .req = mz_stream_request_headers(s) };
    const struct mz_grpc_opts o = { .timeout_ms = c->timeout_ms, .format = &format };
    pb_RateLimitRequest *m = mz_proto_new(a, pb_RateLimitRequest);
    m->domain = mz_proto_text(rc && rc->domain.n ? rc->domain : c->domain, a);
    m->descriptors = mz_arena_alloc0(a, mz_mul(n, sizeof(*m->descriptors)));
    for (size_t i = 0; i < n; i++)
        m->descriptors[m->n_descriptors++] = descriptor(&d[i], a);
    st->call = mz_grpc_call(mz_stream_worker(s)->upstream, c->service, &should_rate_limit,
                            (const ProtobufCMessage *)m, &o, on_done, st);
}

/* ---- the answer ---- */

static void count(const struct state *st, enum ratelimit_stat stat)
{
    cluster_scopes_count(&cfg_of(st)->clusters, st->cluster, stat);
}

static void add_all(const struct mz_headers *from, struct mz_headers *to)
{
    mz_headers_foreach(e, from) mz_headers_add(to, e->name, e->value);
}

static void limited_headers(struct mz_headers *h, void *arg)
{
    struct state *st = arg;
    const struct mz_format_ctx ctx = { .info = mz_stream_info(st->base.stream),
                                       .req = mz_stream_request_headers(st->base.stream),
                                       .resp = h };
    add_all(st->response, h);
    st->response = NULL;
    mz_header_mutations_apply(&cfg_of(st)->response, h, &ctx);
}

static void refuse(struct state *st, const struct mz_local_reply *r, struct mz_str why)
{
    mz_stream_story(st->base.stream, MZ_STEP_FILTER, st->base.name, why, 0, 0);
    mz_stream_local_reply(st->base.stream, r);
}

static void failed(struct state *st, const struct mz_grpc_status *status)
{
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    struct mz_str why = mz_arena_printf(a, "the rate limit service failed with %s%s" MZ_STR_FMT,
                                        mz_grpc_code_name(status->code),
                                        status->message.n ? ": " : "", MZ_STR_ARG(status->message));
    count(st, RL_ERROR);
    if (!fraction_holds(&cfg_of(st)->deny, &st->base)) {
        count(st, RL_FAILURE_MODE_ALLOWED);
        mz_stream_story(st->base.stream, MZ_STEP_RULE, st->base.name, why, 0, 0);
        mz_filter_continue_request(&st->base);
        return;
    }
    refuse(st,
           &(struct mz_local_reply){ .status = cfg_of(st)->error_status,
                                     .details = "rate_limiter_error",
                                     .flags = MZ_FLAG(RATELIMIT_SERVICE_ERROR) },
           why);
}

static void over_limit(struct state *st, const pb_RateLimitResponse *m)
{
    const struct rl_cfg *c = cfg_of(st);
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    const struct mz_str body = { (const char *)m->raw_body.data, m->raw_body.len };
    refuse(st,
           &(struct mz_local_reply){ .status = c->limited_status,
                                     .body = body.n ? mz_arena_dup(a, body) : MZ_STR(""),
                                     .details = "request_rate_limited",
                                     .flags = MZ_FLAG(RATE_LIMITED),
                                     .has_grpc_status = c->resource_exhausted,
                                     .grpc_status = MZ_GRPC_RESOURCE_EXHAUSTED,
                                     .modify = limited_headers,
                                     .modify_arg = st },
           MZ_STR("the rate limit service says that it is over its limit"));
}

static void take_metadata(struct state *st, const pb_RateLimitResponse *m)
{
    struct mz_stream_info *info = mz_stream_info(st->base.stream);
    if (!m->dynamic_metadata)
        return;
    const struct mz_value *v = mz_value_build(m->dynamic_metadata, info->arena);
    if (v->fields.n && !info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    for (size_t i = 0; i < v->fields.n; i++)
        mz_meta_set(info->dynamic_metadata, MZ_STR("envoy.filters.http.ratelimit"),
                    v->fields.v[i].key, v->fields.v[i].value);
}

static void on_done(void *arg, const struct mz_grpc_status *status, struct mz_grpc_message *reply)
{
    struct state *st = arg;
    const struct rl_cfg *c = cfg_of(st);
    st->call = NULL;
    if (!reply) {
        failed(st, status);
        return;
    }
    const pb_RateLimitResponse *m = (const pb_RateLimitResponse *)reply->msg;
    bool over = m->overall_code == pb_RateLimitResponse_Code_OVER_LIMIT;
    struct mz_headers *h = mz_stream_request_headers(st->base.stream);
    take_metadata(st, m);
    count(st, over ? RL_OVER_LIMIT : RL_OK);
    st->response = mz_headers_create(mz_stream_arena(st->base.stream));
    rl_take_headers(m->response_headers_to_add, m->n_response_headers_to_add, st->response);
    if (over) {
        cluster_charge_answer(st->cluster, c->limited_status);
        if (!c->no_limited_header)
            mz_headers_set_id(st->response, MZ_H_X_ENVOY_RATELIMITED, MZ_STR("true"));
    }
    if (c->limit_headers)
        rl_limit_headers(m, st->response);
    if (over && fraction_holds(&c->enforced, &st->base)) {
        over_limit(st, m);
        return;
    }
    rl_take_headers(m->request_headers_to_add, m->n_request_headers_to_add, h);
    mz_filter_continue_request(&st->base);
}

/* ---- the filter ---- */

static bool is_asked(const struct state *st, const struct mz_headers *h)
{
    bool internal = mz_str_eq(mz_headers_value_id(h, MZ_H_X_ENVOY_INTERNAL), MZ_STR("true"));
    enum rl_requests r = cfg_of(st)->requests;
    return r == RL_BOTH || (r == RL_INTERNAL) == internal;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = from_filter(f);
    if (!fraction_holds(&cfg_of(st)->enabled, f) || !is_asked(st, h))
        return MZ_FLOW_CONTINUE;
    const struct mz_route *r = mz_stream_route(f->stream);
    struct mz_str name;
    const struct mz_weighted_cluster *weighted;
    struct mz_wcluster *w = r ? mz_stream_cluster(f->stream, &name, &weighted) : NULL;
    if (!w || r->action != MZ_ACTION_CLUSTER)
        return MZ_FLOW_CONTINUE;
    size_t n;
    struct mz_descriptor *d = describe(st, r, &n);
    if (!n)
        return MZ_FLOW_CONTINUE;
    st->cluster = mz_cluster_ref(mz_wcluster_info(w));
    ask(st, d, n);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    (void)data;
    (void)end;
    return from_filter(f)->call ? MZ_FLOW_STOP_AND_WATERMARK : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    return from_filter(f)->call ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = from_filter(f);
    if (st->response)
        add_all(st->response, h);
    st->response = NULL;
    return MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = from_filter(f);
    mz_grpc_call_cancel(st->call);
    st->call = NULL;
    if (st->cluster)
        mz_cluster_unref(st->cluster);
    st->cluster = NULL;
}

const struct mz_http_filter_type mz_filter_ratelimit = {
    .name = "envoy.filters.http.ratelimit",
    .config_type = "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    .route_config_type = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
    .size = sizeof(struct state),
    .config_build = rl_config_build,
    .config_destroy = rl_config_destroy,
    .route_config_build = rl_route_config_build,
    .route_config_destroy = rl_route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_destroy = on_destroy,
};
