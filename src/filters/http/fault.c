#include "filters/http/fault.h"

#include "filters/http/http_filters.h"
#include "upstream/cluster.h"

/* fault: delays and aborts requests, slows answers, as configured or as the client asks (H9). */

struct state {
    struct mz_filter base;
    const struct fault_cfg *cfg; /* the route's, else the filter's */
    struct mz_str downstream;
    bool active;  /* one of active_faults, whatever was injected */
    bool delayed; /* the timer runs: the request waits */
    bool over;    /* on_destroy came */
    struct mz_timer delay;
    /* the slow answer; bucket.rate 0: not slow */
    struct fault_bucket bucket;
    struct mz_buf held;
    struct mz_watermark mark;
    struct mz_timer tick;
    bool held_end, held_trailers;
};

static const struct fault_cfg *own_cfg(const struct state *st)
{
    return st->base.cfg;
}

static struct mz_loop *loop_of(const struct state *st)
{
    return mz_stream_worker(st->base.stream)->loop;
}

static struct fault_query query(const struct state *st)
{
    struct mz_stream *s = st->base.stream;
    return (struct fault_query){ .cfg = st->cfg,
                                 .h = mz_stream_request_headers(s),
                                 .runtime = mz_runtime_here(),
                                 .rand = mz_loop_rand(loop_of(st)),
                                 .arena = mz_stream_arena(s),
                                 .downstream = st->downstream };
}

/* May one more fault be active? The limit is not exact while several workers ask at once, as Envoy's. */
static bool activate(struct state *st, const struct fault_query *q)
{
    if (st->active)
        return true;
    struct mz_scope *scope = own_cfg(st)->scope;
    uint64_t max = fault_max_active(q);
    if (max != UINT64_MAX && mz_scope_value(scope, FAULT_ACTIVE_FAULTS) >= max) {
        mz_count(scope, FAULT_FAULTS_OVERFLOW, 1);
        return false;
    }
    mz_gauge_add(scope, FAULT_ACTIVE_FAULTS, 1);
    st->active = true;
    return true;
}

static void count(struct state *st, enum fault_stat stat)
{
    mz_count(own_cfg(st)->scope, stat, 1);
    if (!st->cfg->no_cluster_stats)
        fault_count_cluster(own_cfg(st), st->downstream, stat);
}

static bool upstream_matches(struct state *st, const struct mz_headers *h)
{
    struct mz_stream *s = st->base.stream;
    if (!st->cfg->upstream_cluster.n)
        return true;
    const struct mz_route *r = mz_stream_route(s);
    if (!r || r->action != MZ_ACTION_CLUSTER)
        return false;
    const struct mz_weighted_cluster *w;
    struct mz_str name;
    struct mz_route_query q = { .h = (struct mz_headers *)(uintptr_t)h,
                                .random = mz_stream_random(s),
                                .info = mz_stream_info(s),
                                .arena = mz_stream_arena(s) };
    return mz_route_cluster(r, &q, &name, &w) && mz_str_eq(name, st->cfg->upstream_cluster);
}

/* ---- the request ---- */

static bool try_abort(struct state *st)
{
    struct fault_query q = query(st);
    struct fault_abort a;
    if (!fault_abort(&q, &a) || !activate(st, &q))
        return false;
    count(st, FAULT_ABORTS_INJECTED);
    mz_stream_story(st->base.stream, MZ_STEP_FILTER, st->base.name, MZ_STR("fault_filter_abort"),
                    a.status, a.grpc_status);
    struct mz_local_reply r = { .status = a.status,
                                .body = MZ_STR("fault filter abort"),
                                .details = "fault_filter_abort",
                                .flags = MZ_FLAG(FAULT_INJECTED),
                                .has_grpc_status = a.grpc,
                                .grpc_status = a.grpc_status };
    mz_stream_local_reply(st->base.stream, &r);
    return true;
}

static void delay_over(struct mz_timer *t)
{
    struct state *st = MZ_CONTAINER(t, struct state, delay);
    st->delayed = false;
    if (!try_abort(st))
        mz_filter_continue_request(&st->base);
}

static bool try_delay(struct state *st)
{
    struct fault_query q = query(st);
    uint64_t ms;
    if (!fault_delay(&q, &ms) || !activate(st, &q))
        return false;
    count(st, FAULT_DELAYS_INJECTED);
    mz_info_flag(mz_stream_info(st->base.stream), MZ_FLAG(DELAY_INJECTED));
    mz_stream_story(st->base.stream, MZ_STEP_DELAYED, st->base.name, MZ_STR(""), (int64_t)ms, 0);
    st->delayed = true;
    mz_timer_start_ms(&st->delay, ms);
    return true;
}

static void try_rate(struct state *st)
{
    struct fault_query q = query(st);
    uint64_t kib;
    if (!fault_rate(&q, &kib) || !activate(st, &q))
        return;
    mz_count(own_cfg(st)->scope, FAULT_RESPONSE_RL_INJECTED, 1);
    mz_stream_story(st->base.stream, MZ_STEP_SLOWED, st->base.name, MZ_STR(""), (int64_t)kib, 0);
    fault_bucket_init(&st->bucket, kib, mz_loop_now_us(loop_of(st)));
    mz_watermark_init(&st->mark, mz_stream_buffer_limit(st->base.stream));
}

static void on_tick(struct mz_timer *t);

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct fault_cfg *c = f->route_cfg ? f->route_cfg : f->cfg;
    if (!c->delay.source && !c->abort.source && !c->rate.source)
        return MZ_FLOW_CONTINUE; /* none is configured: in sidecars the usual case */
    st->cfg = c;
    mz_timer_init(loop_of(st), &st->delay, delay_over);
    mz_timer_init(loop_of(st), &st->tick, on_tick);
    mz_buf_init(&st->held);
    struct fault_query q = query(st);
    if (!upstream_matches(st, h) || !fault_matches(&q))
        return MZ_FLOW_CONTINUE;
    st->downstream = mz_headers_value_id(h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
    try_rate(st);
    return try_delay(st) || try_abort(st) ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    (void)data, (void)end;
    return ((struct state *)(void *)f)->delayed ? MZ_FLOW_STOP_AND_WATERMARK : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    return ((struct state *)(void *)f)->delayed ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

/* ---- the slow answer ---- */

static void mark_update(struct state *st)
{
    enum mz_wm_change change = mz_watermark_update(&st->mark, mz_buf_len(&st->held));
    if (change != MZ_WM_SAME)
        mz_filter_pause_response(&st->base, change == MZ_WM_ABOVE);
}

static void on_tick(struct mz_timer *t)
{
    struct state *st = MZ_CONTAINER(t, struct state, tick);
    size_t n = fault_bucket_take(&st->bucket, mz_buf_len(&st->held), mz_loop_now_us(loop_of(st)));
    struct mz_buf out;
    mz_buf_init(&out);
    mz_buf_move(&out, &st->held, n);
    bool rest = mz_buf_len(&st->held) > 0;
    bool last = st->held_end && !rest;
    if (rest)
        mz_timer_start_ms(t, FAULT_TICK_MS);
    if (n || (last && !st->held_trailers))
        mz_filter_inject_response_data(&st->base, &out, last && !st->held_trailers);
    mz_buf_fini(&out);
    if (st->over)
        return;
    mark_update(st);
    if (last && st->held_trailers && !st->over)
        mz_filter_continue_response(&st->base);
}

/* Another answer takes the place of the one that was held (a filter nearer to the client refused it). */
static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h, (void)end;
    struct state *st = (struct state *)(void *)f;
    if (!st->bucket.rate)
        return MZ_FLOW_CONTINUE;
    mz_timer_stop(&st->tick);
    mz_buf_fini(&st->held);
    st->held_end = st->held_trailers = false;
    mark_update(st);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->bucket.rate)
        return MZ_FLOW_CONTINUE;
    mz_buf_move_all(&st->held, data);
    st->held_end = end;
    if (!mz_timer_armed(&st->tick))
        mz_timer_start_ms(&st->tick, 0);
    mark_update(st);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    if (!st->bucket.rate || (!mz_buf_len(&st->held) && !mz_timer_armed(&st->tick)))
        return MZ_FLOW_CONTINUE;
    st->held_end = st->held_trailers = true;
    return MZ_FLOW_STOP;
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = (struct state *)(void *)f;
    st->over = true;
    if (!st->cfg)
        return; /* the request's headers did not come this far, or there was nothing to do */
    mz_timer_stop(&st->delay);
    mz_timer_stop(&st->tick);
    mz_buf_fini(&st->held);
    if (st->active)
        mz_gauge_add(own_cfg(st)->scope, FAULT_ACTIVE_FAULTS, -1);
}

/* ---- what it would do ---- */

/* "always", "never", or "for 25% of the requests": chance decides over single ones. */
static struct mz_str how_often(const struct fault_kind *k, struct mz_arena *a)
{
    const struct mz_runtime *r = mz_runtime_here();
    const uint32_t of = k->share.denominator ? k->share.denominator : 100;
    if (!mz_runtime_fraction(r, &k->share, 0))
        return MZ_STR("never");
    if (mz_runtime_fraction(r, &k->share, 999999)) /* the last of any denominator's */
        return MZ_STR("always");
    return mz_arena_printf(a, "for %g%% of the requests", 100.0 * k->share.numerator / of);
}

static void would(struct mz_imagined *q, struct mz_str what)
{
    mz_note(q->info->decision, q->info->decision->start_us, WOULD, q->name, what, 0, 0);
}

/* Kinds that the client orders by headers are told when it does. */
static bool orders(const struct fault_kind *k, const struct mz_imagined *q, const char *header)
{
    return k->source == FAULT_FIXED ||
           (k->source == FAULT_BY_HEADER && mz_headers_get(q->h, mz_str_c(header)));
}

static void imagine(struct mz_imagined *q)
{
    const struct fault_cfg *c = q->route_cfg ? q->route_cfg : q->cfg;
    struct mz_arena *a = q->info->arena;
    const struct fault_query query = {
        .cfg = c, .h = q->h, .runtime = mz_runtime_here(), .arena = a
    };
    if (!c->delay.source && !c->abort.source && !c->rate.source)
        return;
    if ((c->upstream_cluster.n && !mz_str_eq(c->upstream_cluster, q->cluster_name)) ||
        !fault_matches(&query)) {
        would(q, MZ_STR("do nothing: the request is none of those that it is for"));
        return;
    }
    if (orders(&c->delay, q, "x-envoy-fault-delay-request"))
        would(q, c->delay.source == FAULT_FIXED
                     ? mz_arena_printf(a, "delay it by %llu ms, %.*s",
                                       (unsigned long long)c->delay.value,
                                       MZ_STR_ARG(how_often(&c->delay, a)))
                     : MZ_STR("delay it as its headers say"));
    if (orders(&c->rate, q, "x-envoy-fault-throughput-response"))
        would(q, MZ_STR("slow the answer"));
    if (!orders(&c->abort, q, "x-envoy-fault-abort-request"))
        return;
    const struct mz_str often = how_often(&c->abort, a);
    would(q, c->abort.source == FAULT_FIXED
                 ? mz_arena_printf(a, "answer it with %s%llu itself, %.*s",
                                   c->abort_is_grpc ? "gRPC status " : "",
                                   (unsigned long long)c->abort.value, MZ_STR_ARG(often))
                 : MZ_STR("answer it as its headers say"));
    if (c->abort.source == FAULT_FIXED && mz_str_eq(often, MZ_STR("always")))
        q->status = c->abort_is_grpc ? 200 : (unsigned)c->abort.value;
}

const struct mz_http_filter_type mz_filter_fault = {
    .name = "envoy.filters.http.fault",
    .config_type = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    .size = sizeof(struct state),
    .config_build = fault_config_build,
    .config_destroy = fault_config_destroy,
    .route_config_build = fault_route_config_build,
    .route_config_destroy = fault_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_destroy = on_destroy,
    .imagine = imagine,
};
