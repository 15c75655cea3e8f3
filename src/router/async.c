#include "router/async_priv.h"

#include "http/grpc.h"

/*
 * Streams of the proxy's own (Envoy's AsyncClient): what the user sees, when a try is repeated, what is counted. The user is
 * never called from inside its own call: a failure that comes up there is told at the end of the turn.
 */

static const struct mz_hedge_policy no_hedge = { .set = false };
const struct mz_route async_route = { .hedge = &no_hedge };

/* ---- the end ---- */

static void async_free(void *p)
{
    struct mz_async *a = p;
    mz_buf_fini(&a->body);
    mz_host_unref(a->host);
    if (a->w)
        mz_wcluster_unref(a->w);
    if (a->cluster)
        mz_cluster_unref(a->cluster);
    mz_arena_destroy(a->arena);
}

/* Nothing moves any more. */
static void stop(struct mz_async *a)
{
    a->over = true;
    mz_timer_stop(&a->timeout);
    mz_timer_stop(&a->backoff);
    if (a->now)
        try_drop(a->now);
    if (a->retry_ready)
        mz_retry_fini(&a->retry);
    a->retry_ready = false;
}

/* No callback follows but the one that is about to run. */
static void release(struct mz_async *a)
{
    mz_task_cancel(&a->tell);
    mz_upstream_del_user(&a->user);
    mz_loop_free_later(a->loop, a, async_free);
}

static void tell(struct mz_async *a)
{
    release(a);
    if (a->ops->failed)
        a->ops->failed(a->arg, &a->failure);
}

static void tell_task(struct mz_task *t)
{
    tell(MZ_CONTAINER(t, struct mz_async, tell));
}

static void fail(struct mz_async *a, const struct mz_async_failure *f)
{
    a->failure = *f;
    a->failure.answered = a->answered;
    stop(a);
    if (a->calls)
        mz_task_schedule(a->loop, &a->tell);
    else
        tell(a);
}

static void gone(struct mz_upstream_user *user)
{
    struct mz_async *a = MZ_CONTAINER(user, struct mz_async, user);
    if (a->over)
        tell(a);
    else
        fail(a, &(struct mz_async_failure){ .status = 503,
                                            .text = MZ_STR("shutting down"),
                                            .details = "cluster_not_found",
                                            .no_cluster = true });
}

void mz_async_cancel(struct mz_async *a)
{
    if (!a)
        return;
    stop(a);
    release(a);
}

/* ---- counting ---- */

static void charge(struct mz_async *a, unsigned status, struct mz_host *host,
                   const struct mz_headers *answer)
{
    a->sorts = charge_sorts_of(a->headers, host, answer);
    charge_cluster_code(a->cluster, a->sorts, status);
    if (host && status >= 500)
        charge_host(host, false);
}

static void charge_outcome(struct async_try *t, const struct mz_headers *h, bool end)
{
    int status;
    if (!t->a->grpc)
        charge_host(t->host, true);
    else if (end)
        charge_host(t->host, mz_grpc_status(h, &status) && mz_http_status_of_grpc(status) < 500);
    t->grpc_outcome_open = t->a->grpc && !end;
}

/* An answer's status, of gRPC its grpc-status where it stands in the headers, tells of the host. */
static void report_status(struct async_try *t, const struct mz_headers *h, unsigned status)
{
    int grpc;
    if (t->a->grpc && mz_grpc_status(h, &grpc))
        status = mz_http_status_of_grpc(grpc);
    mz_outlier_status(t->host, status);
    if (mz_headers_get_id(h, MZ_H_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL))
        mz_host_says_unhealthy(t->host);
}

/* ---- tries that fail ---- */

static bool retry(struct mz_async *a, enum mz_retry_verdict v)
{
    if (v != MZ_RETRY_YES)
        return false;
    mz_timer_start_ms(&a->backoff, a->retry.backoff_ms);
    return true;
}

static const char *details_of(struct mz_async *a, bool begun, const char *reason,
                              struct mz_str failure)
{
    struct mz_str text = mz_arena_printf(
        a->arena, "%s{%s%s" MZ_STR_FMT "}",
        begun ? "upstream_reset_after_response_started" : "upstream_reset_before_response_started",
        reason, failure.n && !begun ? "|" : "", MZ_STR_ARG(begun ? MZ_STR("") : failure));
    for (char *p = (char *)(uintptr_t)text.p; *p; p++)
        if (*p == ' ')
            *p = '_';
    return text.p;
}

void async_reset(struct async_try *t, enum mz_reset_reason why, struct mz_str transport_failure)
{
    struct mz_async *a = t->a;
    if (t->over || a->over)
        return;
    if (why != MZ_RESET_OVERFLOW) /* a breaker says nothing of the host */
        mz_outlier_report(t->host, MZ_OUTLIER_CONNECT_FAILED, 0);
    bool started = t->started, answered = t->answered, open = t->grpc_outcome_open;
    try_drop(t);
    if (!answered && retry(a, mz_retry_on_reset(&a->retry, why, started)))
        return;
    if (!answered)
        charge(a, reset_outcome(why)->status, a->host, NULL);
    else if (open) {
        charge_host(a->host, false);
        mz_count(mz_upstream_async_scope(a->upstream), MZ_RS_RESET_AFTER_RESPONSE, 1);
    }
    const char *reason = mz_reset_reason_text(why);
    fail(a,
         &(struct mz_async_failure){
             .status = reset_outcome(why)->status,
             .text = mz_arena_printf(a->arena,
                                     "upstream connect error or disconnect/reset before headers. "
                                     "reset reason: %s",
                                     reason),
             .details = details_of(a, answered, reason, transport_failure),
             .reason = why });
}

void async_no_host(struct mz_async *a)
{
    mz_count(a->cluster->scope, MZ_CS_CX_NONE_HEALTHY, 1);
    charge(a, 503, NULL, NULL);
    fail(a, &(struct mz_async_failure){ .status = 503,
                                        .text = MZ_STR("no healthy upstream"),
                                        .details = "no_healthy_upstream",
                                        .reason = MZ_RESET_LOCAL_CONNECT_FAIL });
}

static void count_host_timeout(struct async_try *t)
{
    __atomic_add_fetch(&t->host->stats.rq_timeout, 1, __ATOMIC_RELAXED);
    if (!t->answered)
        mz_outlier_report(t->host, MZ_OUTLIER_TIMEOUT, 504);
}

static void on_timeout(struct mz_timer *timer)
{
    struct mz_async *a = MZ_CONTAINER(timer, struct mz_async, timeout);
    mz_count(a->cluster->scope, MZ_CS_RQ_TIMEOUT, 1);
    if (a->now)
        count_host_timeout(a->now);
    if (!a->answered)
        charge(a, 504, a->now ? a->host : NULL, NULL);
    fail(a, &(struct mz_async_failure){ .status = 504,
                                        .text = MZ_STR("upstream request timeout"),
                                        .details = "response_timeout",
                                        .timeout = true });
}

void async_try_over(struct async_try *t, bool life)
{
    struct mz_async *a = t->a;
    mz_count(a->cluster->scope, life ? MZ_CS_RQ_MAX_DURATION_REACHED : MZ_CS_RQ_PER_TRY_TIMEOUT, 1);
    if (!life)
        count_host_timeout(t);
    bool answered = t->answered;
    try_drop(t);
    if (!answered && retry(a, mz_retry_on_reset(&a->retry, MZ_RESET_LOCAL, true)))
        return;
    unsigned status = life && !a->request_end ? 408 : 504;
    if (!answered)
        charge(a, status, a->host, NULL);
    fail(a,
         &(struct mz_async_failure){ .status = status,
                                     .text = life ? MZ_STR("upstream max stream duration reached")
                                                  : MZ_STR("upstream request timeout"),
                                     .details = life ? "upstream_max_stream_duration_reached"
                                                     : "upstream_per_try_timeout",
                                     .timeout = true });
}

static void on_backoff(struct mz_timer *timer)
{
    struct mz_async *a = MZ_CONTAINER(timer, struct mz_async, backoff);
    mz_retry_begins(&a->retry);
    try_start(a);
}

/* ---- answers ---- */

/* The last callback is about to run. */
static void complete(struct mz_async *a)
{
    if (a->request_end_us)
        charge_cluster_time(a->cluster, a->sorts,
                            (mz_loop_now_us(a->loop) - a->request_end_us) / 1000);
    stop(a);
    release(a);
}

static bool retry_answer(struct async_try *t, struct mz_headers *h, unsigned status)
{
    struct mz_async *a = t->a;
    if (!retry(a, mz_retry_on_headers(&a->retry, h, mz_loop_wall_us(a->loop))))
        return false;
    mz_count_code(a->cluster->scope, "retry.upstream_rq_", status);
    mz_count(a->cluster->scope, MZ_CS_RETRY_RQ_COMPLETED, 1);
    charge_host(t->host, false);
    try_drop(t);
    return true;
}

void async_headers(struct async_try *t, struct mz_headers *h, bool end)
{
    struct mz_async *a = t->a;
    unsigned status = mz_headers_status(h);
    report_status(t, h, status);
    if (retry_answer(t, h, status))
        return;
    a->answered = true;
    a->keep = false;
    mz_buf_fini(&a->body);
    charge(a, status, t->host, h);
    if (status < 500)
        charge_outcome(t, h, end);
    if (end)
        complete(a);
    if (a->ops->headers)
        a->ops->headers(a->arg, h, end);
}

void async_data(struct async_try *t, struct mz_buf *data, bool end)
{
    struct mz_async *a = t->a;
    if (end && t->grpc_outcome_open) /* neither headers nor trailers told */
        charge_host(t->host, false);
    if (end)
        complete(a);
    if (a->ops->data)
        a->ops->data(a->arg, data, end);
    mz_buf_drain(data, mz_buf_len(data));
}

void async_trailers(struct async_try *t, struct mz_headers *h)
{
    struct mz_async *a = t->a;
    if (t->grpc_outcome_open)
        charge_outcome(t, h, true);
    complete(a);
    if (a->ops->trailers)
        a->ops->trailers(a->arg, h);
}

/* ---- the request ---- */

static void request_complete(struct mz_async *a)
{
    a->request_end = true;
    a->request_end_us = mz_loop_now_us(a->loop);
    if (a->over)
        return;
    if (a->times.global_ms)
        mz_timer_start_ms(&a->timeout, a->times.global_ms);
    if (a->now)
        try_request_complete(a->now);
}

static void prepare(struct mz_async *a)
{
    struct mz_route route = async_route;
    struct mz_headers *h = a->headers;
    route.retry = a->o.retry;
    route.timeout_ms = a->o.timeout_ms;
    a->grpc = mz_is_grpc(h);
    if (!mz_headers_get_id(h, MZ_H_SCHEME))
        mz_headers_set_id(h, MZ_H_SCHEME, MZ_STR("http"));
    if (!a->o.no_internal)
        mz_headers_set_id(h, MZ_H_X_ENVOY_INTERNAL, MZ_STR("true"));
    const struct mz_addr *own = mz_addr_local_machine();
    if (!a->o.no_xff && own->len) {
        char text[MZ_ADDR_TEXT];
        struct mz_str ip = { text, mz_addr_ip_text(own, text) };
        mz_headers_append_id(h, MZ_H_X_FORWARDED_FOR, mz_arena_dup(a->arena, ip), ",");
    }
    mz_timeouts_read(&route, h, a->grpc, false, &a->times);
    a->times.hedge_on_try_timeout = false;
    mz_retry_init(&a->retry, &route, h, a->cluster, a->o.priority, NULL, NULL,
                  mz_loop_rand(a->loop), a->arena);
    a->retry_ready = true;
    mz_timeouts_write(&a->times, &async_route, h, a->grpc, !a->o.no_timeout_header, 0);
}

static void begin(struct mz_async *a)
{
    if (!a->w) {
        fail(a, &(struct mz_async_failure){ .status = 503,
                                            .text = MZ_STR("Cluster not available"),
                                            .details = "cluster_not_found",
                                            .no_cluster = true });
        return;
    }
    a->cluster = mz_cluster_ref(mz_wcluster_info(mz_wcluster_ref(a->w)));
    mz_count(mz_upstream_async_scope(a->upstream), MZ_RS_TOTAL, 1);
    prepare(a);
    if (cluster_maintained(a->cluster, a->loop, a->arena)) {
        charge(a, 503, NULL, NULL);
        fail(a, &(struct mz_async_failure){ .status = 503,
                                            .text = MZ_STR("maintenance mode"),
                                            .details = "maintenance_mode",
                                            .reason = MZ_RESET_OVERFLOW });
        return;
    }
    a->keep = !a->request_end && mz_retry_active(&a->retry);
    try_start(a);
}

struct mz_async *mz_async_start(struct mz_upstream *u, struct mz_str cluster,
                                const struct mz_headers *h, bool end, const struct mz_async_opts *o,
                                const struct mz_async_ops *ops, void *arg)
{
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_async *a = mz_arena_new0(arena, struct mz_async);
    *a = (struct mz_async){ .user = { .gone = gone },
                            .upstream = u,
                            .loop = mz_upstream_loop(u),
                            .arena = arena,
                            .ops = ops,
                            .arg = arg,
                            .headers = mz_headers_clone(h, arena),
                            .request_end = end,
                            .calls = 1 };
    if (o)
        a->o = *o;
    MZ_ASSERT(mz_loop_here(a->loop));
    mz_list_init(&a->user.link);
    mz_buf_init(&a->body);
    mz_timer_init(a->loop, &a->timeout, on_timeout);
    mz_timer_init(a->loop, &a->backoff, on_backoff);
    mz_task_init(&a->tell, tell_task);
    if (!mz_upstream_closed(u)) {
        mz_upstream_add_user(u, &a->user);
        a->w = mz_upstream_find(u, cluster);
    }
    begin(a);
    if (end)
        request_complete(a);
    a->calls--;
    return a;
}

static uint64_t limit_of(const struct mz_async *a)
{
    return a->o.buffer_limit ? a->o.buffer_limit : a->cluster->buffer_limit;
}

bool mz_async_paused(const struct mz_async *a)
{
    if (a->over)
        return false;
    if (a->now && a->now->started)
        return a->now->above;
    return limit_of(a) && mz_buf_len(&a->body) > limit_of(a);
}

void async_writable(struct mz_async *a)
{
    if (!a->full || a->over || a->calls || mz_async_paused(a))
        return;
    a->full = false;
    if (a->ops->writable)
        a->ops->writable(a->arg);
}

/* The request can be kept no longer: it is not sent again. */
static void abandon(struct mz_async *a)
{
    a->keep = false;
    mz_retry_abandon(&a->retry);
    mz_count(a->cluster->scope, MZ_CS_RETRY_OR_SHADOW_ABANDONED, 1);
    if (a->now && a->now->started)
        mz_buf_fini(&a->body);
}

static void put(struct mz_async *a, struct mz_buf *data, bool end)
{
    if (a->keep && limit_of(a) && mz_buf_len(&a->body) + mz_buf_len(data) > limit_of(a))
        abandon(a);
    if (a->keep)
        mz_buf_copy(&a->body, data);
    a->request_end = end;
    struct async_try *t = a->now;
    if (t && t->started) {
        if (t->enc)
            try_data(t, data, end);
    } else if (!a->keep) {
        mz_buf_move_all(&a->body, data);
    }
}

void mz_async_send(struct mz_async *a, struct mz_buf *data, bool end)
{
    if (!a->over && !a->request_end) {
        a->calls++;
        put(a, data, end);
        if (end)
            request_complete(a);
        a->full = mz_async_paused(a);
        a->calls--;
    }
    mz_buf_drain(data, mz_buf_len(data));
}

void mz_async_send_trailers(struct mz_async *a, const struct mz_headers *h)
{
    if (a->over || a->request_end)
        return;
    a->calls++;
    a->trailers = mz_headers_clone(h, a->arena);
    a->request_end = true;
    if (a->now && a->now->started && a->now->enc)
        try_trailers(a->now);
    request_complete(a);
    a->calls--;
}

void mz_async_read_disable(struct mz_async *a, bool disable)
{
    if (a->over)
        return;
    a->read_disabled += disable ? 1 : -1;
    if (a->now && a->now->enc)
        a->now->enc->ops->read_disable(a->now->enc, disable);
    if (a->read_disabled == (disable ? 1 : 0))
        mz_count(a->cluster->scope, disable ? MZ_CS_FLOW_PAUSED : MZ_CS_FLOW_RESUMED, 1);
}

struct mz_loop *mz_async_loop(const struct mz_async *a)
{
    return a->loop;
}

struct mz_str mz_async_host(const struct mz_async *a)
{
    return a->host ? (struct mz_str){ a->host->addr_text, a->host->addr_text_n } : MZ_STR("");
}

/* ---- whole answers ---- */

struct fetch {
    struct mz_async *a;
    size_t max;
    struct mz_buf body;
    struct mz_headers *headers;
    void (*done)(void *arg, const struct mz_fetch_reply *r);
    void *arg;
};

static void fetch_free(void *arg)
{
    mz_buf_fini(&((struct fetch *)arg)->body);
}

static void fetch_done(struct fetch *f, struct mz_headers *trailers,
                       const struct mz_async_failure *why, bool too_large)
{
    const struct mz_fetch_reply r = { .status = why ? why->status : mz_headers_status(f->headers),
                                      .headers = f->headers,
                                      .trailers = trailers,
                                      .body = &f->body,
                                      .too_large = too_large,
                                      .failure = why };
    f->done(f->arg, &r);
}

static void fetch_headers(void *arg, struct mz_headers *h, bool end)
{
    struct fetch *f = arg;
    f->headers = h;
    if (end)
        fetch_done(f, NULL, NULL, false);
}

static void fetch_data(void *arg, struct mz_buf *data, bool end)
{
    struct fetch *f = arg;
    if (mz_buf_len(&f->body) + mz_buf_len(data) > f->max) {
        if (!end)
            mz_async_cancel(f->a);
        fetch_done(f, NULL, NULL, true);
        return;
    }
    mz_buf_move_all(&f->body, data);
    if (end)
        fetch_done(f, NULL, NULL, false);
}

static void fetch_trailers(void *arg, struct mz_headers *h)
{
    fetch_done(arg, h, NULL, false);
}

static void fetch_failed(void *arg, const struct mz_async_failure *why)
{
    fetch_done(arg, NULL, why, false);
}
static const struct mz_async_ops fetch_ops = {
    .headers = fetch_headers, .data = fetch_data, .trailers = fetch_trailers, .failed = fetch_failed
};

struct mz_async *mz_fetch(struct mz_upstream *u, struct mz_str cluster, const struct mz_headers *h,
                          struct mz_buf *body, size_t max_body, const struct mz_async_opts *o,
                          void (*done)(void *arg, const struct mz_fetch_reply *r), void *arg)
{
    bool end = !body || !mz_buf_len(body);
    struct mz_async *a = mz_async_start(u, cluster, h, end, o, &fetch_ops, NULL);
    struct fetch *f = mz_arena_new0(a->arena, struct fetch); /* no callback ran yet */
    f->a = a;
    f->max = max_body;
    f->done = done;
    f->arg = arg;
    mz_buf_init(&f->body);
    mz_arena_cleanup(a->arena, fetch_free, f);
    a->arg = f;
    if (!end)
        mz_async_send(a, body, true);
    return a;
}
