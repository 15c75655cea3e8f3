#include "router/async_priv.h"

#include "http/grpc.h"

/*
 * One try of a stream of the proxy's own: a host, a stream of its pool, what goes out and what comes back. It lies in the
 * stream's arena; once dropped neither pool nor codec calls it again.
 */

static void above_set(struct async_try *t, bool above)
{
    if (t->above == above)
        return;
    t->above = above;
    t->a->full |= above;
    mz_count(t->a->cluster->scope, above ? MZ_CS_FLOW_BACKED_UP : MZ_CS_FLOW_DRAINED, 1);
}

/* ---- what comes back ---- */

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h;
}

static void answer_ended(struct async_try *t)
{
    t->answer_end = true;
    mz_timer_stop(&t->try_timer);
    mz_timer_stop(&t->life_timer);
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct async_try *t = arg;
    t->answered = true;
    mz_timer_stop(&t->try_timer);
    if (end)
        answer_ended(t);
    async_headers(t, h, end);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct async_try *t = arg;
    if (end)
        answer_ended(t);
    async_data(t, data, end);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct async_try *t = arg;
    answer_ended(t);
    async_trailers(t, h);
}

static void on_reset(void *arg, enum mz_reset_reason why, const char *details)
{
    struct async_try *t = arg;
    (void)details;
    t->enc = NULL; /* the codec has let go of it */
    async_reset(t, why, MZ_STR(""));
}

static void on_above_high(void *arg)
{
    above_set(arg, true);
}

static void on_below_low(void *arg)
{
    struct async_try *t = arg;
    above_set(t, false);
    async_writable(t->a);
}

static const struct mz_stream_in_ops in_ops = { on_1xx,   on_headers,    on_data,     on_trailers,
                                                on_reset, on_above_high, on_below_low };

/* ---- what goes out ---- */

void try_data(struct async_try *t, struct mz_buf *data, bool end)
{
    t->sent_end = end;
    t->enc->ops->encode_data(t->enc, data, end);
}

void try_trailers(struct async_try *t)
{
    t->sent_end = true;
    t->enc->ops->encode_trailers(t->enc, t->a->trailers);
}

static void send_body(struct async_try *t, bool end)
{
    struct mz_async *a = t->a;
    struct mz_buf data;
    mz_buf_init(&data);
    if (a->keep)
        mz_buf_copy(&data, &a->body);
    else
        mz_buf_move_all(&data, &a->body);
    try_data(t, &data, end);
    mz_buf_fini(&data);
}

/* What was sent may have ended the stream: each step looks again. */
static void send_request(struct async_try *t)
{
    struct mz_async *a = t->a;
    bool body = mz_buf_len(&a->body) > 0;
    bool headers_only = a->request_end && !body && !a->trailers;
    t->started = true;
    t->sent_end = headers_only;
    t->enc->ops->encode_headers(t->enc, a->headers, headers_only);
    if (t->enc && (body || (a->request_end && !headers_only && !a->trailers)))
        send_body(t, a->request_end && !a->trailers);
    if (t->enc && a->trailers)
        try_trailers(t);
}

void try_request_complete(struct async_try *t)
{
    if (t->started && t->a->times.per_try_ms && !t->answered)
        mz_timer_start_ms(&t->try_timer, t->a->times.per_try_ms);
}

static void on_ready(void *arg, const struct mz_pool_ready *p)
{
    struct async_try *t = arg;
    struct mz_async *a = t->a;
    t->pending = NULL;
    t->enc = p->enc;
    mz_outlier_report(p->host, MZ_OUTLIER_CONNECTED, 0);
    if (a->cluster->max_stream_duration_ms)
        mz_timer_start_ms(&t->life_timer, a->cluster->max_stream_duration_ms);
    for (unsigned i = 0; i < a->read_disabled; i++)
        t->enc->ops->read_disable(t->enc, true);
    send_request(t);
    if (t->over || !t->enc)
        return;
    above_set(t, t->enc->ops->above_high && t->enc->ops->above_high(t->enc));
    if (a->request_end)
        try_request_complete(t);
    async_writable(a);
}

static void on_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure, int err,
                      struct mz_host *host)
{
    static const uint8_t reasons[] = { [MZ_POOL_NONE] = MZ_RESET_OVERFLOW,
                                       [MZ_POOL_OVERFLOW] = MZ_RESET_OVERFLOW,
                                       [MZ_POOL_LOCAL_CONNECT_FAIL] = MZ_RESET_LOCAL_CONNECT_FAIL,
                                       [MZ_POOL_REMOTE_CONNECT_FAIL] = MZ_RESET_REMOTE_CONNECT_FAIL,
                                       [MZ_POOL_CONNECT_TIMEOUT] = MZ_RESET_CONNECT_TIMEOUT };
    struct async_try *t = arg;
    (void)err;
    (void)host;
    t->pending = NULL;
    async_reset(t, (enum mz_reset_reason)reasons[why], transport_failure);
}
static const struct mz_pool_ops pool_ops = { on_ready, on_failed };

/* ---- begin and end ---- */

static void on_try_timeout(struct mz_timer *t)
{
    async_try_over(MZ_CONTAINER(t, struct async_try, try_timer), false);
}

static void on_life(struct mz_timer *t)
{
    async_try_over(MZ_CONTAINER(t, struct async_try, life_timer), true);
}

static struct mz_host *choose(struct mz_async *a)
{
    struct mz_lb_ctx c = { .has_hash = a->o.has_hash,
                           .hash = a->o.hash,
                           .headers = a->headers,
                           .metadata_match = a->o.metadata_match };
    uint32_t load[16], changed[16];
    unsigned n = mz_wcluster_priorities(a->w);
    if (a->n_tries) {
        c.avoid = mz_retry_avoid;
        c.avoid_arg = &a->retry;
        c.avoid_attempts = mz_retry_host_attempts(&a->retry);
        if (a->o.retry && a->o.retry->previous_priorities && n <= 16) {
            mz_wcluster_priority_load(a->w, load, n);
            if (mz_retry_priority_load(&a->retry, a->w, load, changed, n))
                c.priority_load = changed;
        }
    }
    return mz_wcluster_choose(a->w, &c);
}

void try_start(struct mz_async *a)
{
    struct mz_host *host = choose(a);
    if (!host) {
        async_no_host(a);
        return;
    }
    if (a->n_tries++) /* the time that is left changed */
        mz_timeouts_write(&a->times, &async_route, a->headers, a->grpc, !a->o.no_timeout_header,
                          a->request_end_us ? (mz_loop_now_us(a->loop) - a->request_end_us) / 1000
                                            : 0);
    struct async_try *t = mz_arena_new0(a->arena, struct async_try);
    t->a = a;
    t->host = mz_host_ref(host);
    t->start_us = mz_loop_now_us(a->loop);
    t->in = (struct mz_stream_in){ &in_ops, t, a->arena };
    mz_timer_init(a->loop, &t->try_timer, on_try_timeout);
    mz_timer_init(a->loop, &t->life_timer, on_life);
    mz_host_unref(a->host);
    a->host = mz_host_ref(host);
    a->now = t;
    if (a->o.retry)
        mz_retry_host_tried(&a->retry, host);
    const struct mz_pool_opts o = { .priority = a->o.priority,
                                    .downstream_protocol =
                                        a->o.has_protocol ? a->o.protocol : MZ_HTTP11 };
    struct mz_pool_pending *p = mz_http_pool_request(a->w, host, &o, &t->in, &pool_ops, t);
    if (p) /* NULL: ready or failed ran already; the try may be over */
        t->pending = p;
}

void try_drop(struct async_try *t)
{
    if (t->over)
        return;
    struct mz_async *a = t->a;
    t->over = true;
    mz_timer_stop(&t->try_timer);
    mz_timer_stop(&t->life_timer);
    if (a->now == t)
        a->now = NULL;
    if (t->pending) {
        mz_count(a->cluster->scope, MZ_CS_RQ_CANCELLED, 1);
        mz_pool_cancel(t->pending, false);
    }
    t->pending = NULL;
    struct mz_stream_enc *e = t->enc;
    t->enc = NULL;
    if (e && !(t->sent_end && t->answer_end))
        e->ops->reset(e, MZ_RESET_LOCAL);
    above_set(t, false);
    mz_host_unref(t->host);
    t->host = NULL;
}
