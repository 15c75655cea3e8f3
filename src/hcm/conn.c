#include "hcm/hcm_priv.h"
#include "http/h2/stats.h"
#include "runtime/runtime.h"

#include <string.h>

/*
 * One downstream connection: the codec and its streams, the times of the connection (H5), drain (P5). The network filter's
 * object; on its worker's loop.
 */

#define REST_MS 2000 /* without a stream, of HTTP/2 */

static struct hcm_conn *from_filter(struct mz_net_filter *f)
{
    return (struct hcm_conn *)(void *)f;
}
static struct mz_conn *wire(const struct hcm_conn *c)
{
    return c->base.down->conn;
}

static bool is_http2(const struct hcm_conn *c)
{
    return c->codec && c->codec->protocol == MZ_HTTP2;
}

static struct mz_stream *stream_of(struct mz_list *l)
{
    return MZ_CONTAINER(l, struct mz_stream, link);
}

/* ---- codec ---- */

static void sink_written(void *arg)
{
    struct hcm_conn *c = arg;
    mz_conn_written(wire(c), false);
    if (c->drain == DRAIN_CLOSING && c->n_streams == 0 && !c->closing)
        mz_task_schedule(conn_loop(c),
                         &c->redispatch); /* it may have been the last that was waited for */
}

static void sink_read_disable(void *arg, bool disable)
{
    struct hcm_conn *c = arg;
    if (!c->closed)
        mz_conn_read_disable(wire(c), disable);
}

void hcm_count_request(const struct hcm_conn *c)
{
    hcm_count(c, MZ_HS_RQ_TOTAL);
    hcm_count(c, is_http2(c) ? MZ_HS_RQ_HTTP2_TOTAL : MZ_HS_RQ_HTTP1_TOTAL);
}

static void on_new_stream(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in)
{
    struct hcm_conn *c = arg;
    struct mz_stream *s = stream_create(c, enc, out_in);
    mz_list_add_tail(&c->streams, &s->link);
    c->n_streams++;
    hcm_count_request(c);
    mz_gauge_add(c->cfg->scope, MZ_HS_RQ_ACTIVE, 1);
    if (c->cfg->max_requests_per_connection &&
        ++c->n_requests >= c->cfg->max_requests_per_connection) {
        if (c->n_requests == c->cfg->max_requests_per_connection || !is_http2(c))
            hcm_count(c, MZ_HS_CX_MAX_REQUESTS_REACHED);
        s->info.should_drain_connection = true;
    }
    MZ_LOG_FORCED(wire(c)->trace, DEBUG, http, wire(c)->id, 0, "new stream");
}

/* The client ends the connection: what it began is served, then it is closed. */
static void on_goaway(void *arg)
{
    struct hcm_conn *c = arg;
    if (c->closing || c->drain == DRAIN_CLOSING)
        return;
    c->codec->ops->goaway(c->codec, false);
    c->drain = DRAIN_CLOSING;
}

static void on_keepalive_timeout(void *arg)
{
    hcm_conn_close(arg, MZ_CLOSE_NOW, "http2_ping_timeout");
}

static void codec_destroy(void *p)
{
    struct mz_codec *codec = p;
    codec->ops->destroy(codec);
}

static bool on_codec_rest(void *arg)
{
    struct hcm_conn *c = arg;
    if (c->dispatching || c->n_streams || c->drain != DRAIN_NONE || c->closing || c->closed ||
        c->codec->must_close || mz_buf_len(mz_conn_in(wire(c))) || mz_conn_above_high(wire(c)))
        return false;
    mz_loop_free_later(conn_loop(c), c->codec, codec_destroy);
    c->codec = NULL;
    return true;
}

static const struct mz_codec_server_ops codec_ops = { .new_stream = on_new_stream,
                                                      .goaway_received = on_goaway,
                                                      .keepalive_timeout = on_keepalive_timeout,
                                                      .rest = on_codec_rest };

/* As in Envoy these statistics exist from the first connection on. */
static struct mz_scope *http2_scope(const struct mz_hcm_config *cfg)
{
    struct mz_scope *have = __atomic_load_n(cfg->http2_scope, __ATOMIC_ACQUIRE), *made;
    if (have)
        return have;
    made = mz_scope_create(cfg->scope->store, &mz_http2_codec_stats, MZ_STR("http2."));
    if (__atomic_compare_exchange_n(cfg->http2_scope, &have, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    mz_scope_unref(made);
    return have;
}

static void create_http2(struct hcm_conn *c, const struct mz_codec_sink *sink)
{
    struct mz_http2_stats st = { http2_scope(c->cfg) };
    c->codec = mz_http2_server_create(&c->cfg->http2, &st, conn_loop(c), sink, &codec_ops, c);
    hcm_count(c, MZ_HS_CX_HTTP2_TOTAL);
    mz_gauge_add(c->cfg->scope, MZ_HS_CX_HTTP2_ACTIVE, 1);
}

static void create_http1(struct hcm_conn *c, const struct mz_codec_sink *sink)
{
    static const struct mz_http1_stats indices = { NULL, MZ_HC_DROPPED, MZ_HC_REJECTED,
                                                   MZ_HC_METADATA, MZ_HC_FLOOD };
    struct mz_http1_stats st = indices;
    st.scope = c->cfg->http1_scope;
    c->codec = mz_http1_server_create(&c->cfg->http1, &st, sink, &codec_ops, c);
    if (c->drain != DRAIN_NONE)
        c->codec->ops->goaway(c->codec, c->drain == DRAIN_DRAINING);
    if (c->spoke) /* it rested */
        return;
    hcm_count(c, MZ_HS_CX_HTTP1_TOTAL);
    mz_gauge_add(c->cfg->scope, MZ_HS_CX_HTTP1_ACTIVE, 1);
}

enum first_bytes { IS_HTTP1, IS_HTTP2, IS_OPEN };

/* AUTO: what ALPN agreed on, else the first bytes tell, for HTTP/2 begins with what is no request of HTTP/1. */
static enum first_bytes detect(struct hcm_conn *c, struct mz_buf *in, bool end)
{
    static const struct mz_str preface = MZ_STR_INIT("PRI * HTTP/2");
    const struct mz_transport *t = wire(c)->transport;
    struct mz_str alpn = t->ops->protocol ? t->ops->protocol(t) : MZ_STR("");
    if (alpn.n)
        return mz_str_eq(alpn, MZ_STR("h2")) ? IS_HTTP2 : IS_HTTP1;
    char start[12];
    size_t n = mz_buf_copyout(in, 0, start, sizeof(start));
    if (memcmp(start, preface.p, n) != 0)
        return IS_HTTP1;
    return n == preface.n ? IS_HTTP2 : end ? IS_HTTP1 : IS_OPEN;
}

/* False: the bytes do not tell yet. Of those that have spoken only HTTP/1 lacks a codec. */
static bool choose_codec(struct hcm_conn *c, struct mz_buf *in, bool end)
{
    struct mz_conn *w = wire(c);
    struct mz_codec_sink sink = { mz_conn_out(w),
                                  sink_written,
                                  sink_read_disable,
                                  c,
                                  w->out_wm.high > UINT32_MAX ? UINT32_MAX
                                                              : (uint32_t)w->out_wm.high,
                                  c->base.down->secure };
    if (c->spoke) {
        create_http1(c, &sink);
        return true;
    }
    bool http2 = c->cfg->codec_type == CODEC_HTTP2;
    if (c->cfg->codec_type == CODEC_AUTO) {
        enum first_bytes kind = detect(c, in, end);
        if (kind == IS_OPEN)
            return false;
        http2 = kind == IS_HTTP2;
    }
    (http2 ? create_http2 : create_http1)(c, &sink);
    c->spoke = true;
    return true;
}

/* ---- closing ---- */

void hcm_conn_close(struct hcm_conn *c, enum mz_close how, const char *reason)
{
    if (c->closing || c->closed)
        return;
    c->closing = true;
    if (c->codec && is_http2(c))
        c->codec->ops->flush(c->codec);
    else if (c->codec)
        c->codec->ops->goaway(c->codec, false); /* pipelined requests do not begin */
    mz_conn_close(wire(c), how, reason, (uint32_t)c->cfg->delayed_close_ms);
}

static void close_when_done(struct hcm_conn *c, bool skip_delay)
{
    if (c->drain != DRAIN_CLOSING || c->n_streams || c->closing)
        return;
    if (c->codec && is_http2(c)) { /* what its streams left is still to go out */
        if (c->dispatching)
            return;
        c->codec->ops->flush(c->codec);
        if (c->codec->ops->wants_to_write(c->codec))
            return;
    }
    hcm_conn_close(
        c, skip_delay || !c->cfg->delayed_close_ms ? MZ_CLOSE_FLUSH : MZ_CLOSE_FLUSH_DELAY, NULL);
}

static void on_drain_timeout(struct mz_timer *t)
{
    struct hcm_conn *c = MZ_CONTAINER(t, struct conn_ends, drain)->conn;
    if (c->drain == DRAIN_CLOSING)
        return;
    if (c->codec)
        c->codec->ops->goaway(c->codec, false);
    c->drain = DRAIN_CLOSING;
    close_when_done(c, false);
}

static void on_duration(struct mz_timer *t);

static struct conn_ends *ends(struct hcm_conn *c)
{
    if (!c->ends) {
        c->ends = mz_new0(MZ_MEM_CONN, struct conn_ends);
        c->ends->conn = c;
        mz_timer_init(conn_loop(c), &c->ends->duration, on_duration);
        mz_timer_init(conn_loop(c), &c->ends->drain, on_drain_timeout);
    }
    return c->ends;
}

void hcm_conn_start_drain(struct hcm_conn *c)
{
    if (c->drain != DRAIN_NONE)
        return;
    c->drain = DRAIN_DRAINING;
    if (c->codec)
        c->codec->ops->goaway(c->codec, true);
    mz_timer_start_ms(&ends(c)->drain, c->cfg->drain_timeout_ms);
}

static void idle_timer_start(struct hcm_conn *c, uint64_t idle_ms)
{
    uint64_t limit = c->cfg->idle_timeout_ms, left = limit > idle_ms ? limit - idle_ms : 1;
    bool may_rest = c->codec && c->codec->ops->rest && !c->resting;
    if (may_rest && (!limit || left > REST_MS))
        left = REST_MS;
    if (limit || may_rest)
        mz_timer_start_ms(&c->idle_timer, left);
}

static uint64_t idle_us(const struct hcm_conn *c)
{
    return mz_loop_now_us(conn_loop(c)) - c->idle_since_us;
}

static void on_idle(struct mz_timer *t)
{
    struct hcm_conn *c = MZ_CONTAINER(t, struct hcm_conn, idle_timer);
    uint64_t limit = c->cfg->idle_timeout_ms;
    if (c->n_streams)
        return;
    if (!limit || idle_us(c) < limit * 1000) {
        c->resting = true;
        if (c->codec && c->codec->ops->rest)
            c->codec->ops->rest(c->codec);
        idle_timer_start(c, idle_us(c) / 1000);
        return;
    }
    hcm_count(c, MZ_HS_CX_IDLE_TIMEOUT);
    if (!c->spoke)
        hcm_conn_close(c, MZ_CLOSE_FLUSH, "on_idle_timeout");
    else
        hcm_conn_start_drain(c);
}

static void on_duration(struct mz_timer *t)
{
    struct hcm_conn *c = MZ_CONTAINER(t, struct conn_ends, duration)->conn;
    hcm_count(c, MZ_HS_CX_MAX_DURATION_REACHED);
    if (!c->spoke)
        hcm_conn_close(c, MZ_CLOSE_FLUSH, "connection_duration_timeout");
    else
        hcm_conn_start_drain(c);
}

static void restart_idle(struct hcm_conn *c)
{
    if (c->closing)
        return;
    c->idle_since_us = mz_loop_now_us(conn_loop(c));
    c->resting = false;
    idle_timer_start(c, 0);
}

/* Clients that open streams and reset them cost more than they pay for (D01); so do those whose streams we have to reset
 * (D02). As Envoy: the connection ends once half of the streams of a full count were such. */
static bool too_many_resets(struct hcm_conn *c, const struct mz_stream *s)
{
    const struct mz_runtime *r = mz_runtime_here();
    bool plain = mz_runtime_empty(r);
    uint64_t total =
        plain ? 500 : mz_runtime_u64(r, MZ_STR("overload.premature_reset_total_stream_count"), 500);
    uint64_t least_s =
        plain
            ? 1
            : mz_runtime_u64(r, MZ_STR("overload.premature_reset_min_stream_lifetime_seconds"), 1);
    uint64_t lived_s = (s->info.end_us - s->info.start_us) / 1000000;
    c->n_ended++;
    c->n_premature += s->info.status == 0 && lived_s <= least_s;
    return c->n_premature &&
           2 * (uint64_t)c->n_premature >= (c->n_ended < total ? total : c->n_ended);
}

static void http2_stream_ended(struct hcm_conn *c, struct mz_stream *s)
{
    if (c->saw_codec_error)
        return; /* http2_failed() closes */
    if (!c->closing && too_many_resets(c, s)) {
        hcm_count(c, MZ_HS_RQ_TOO_MANY_RESETS);
        hcm_conn_close(c, MZ_CLOSE_NOW, "too_many_premature_resets");
        return;
    }
    close_when_done(c, false);
    if (c->n_streams == 0)
        restart_idle(c);
}

void hcm_conn_stream_ended(struct hcm_conn *c, struct mz_stream *s)
{
    mz_list_del(&s->link);
    c->n_streams--;
    if (c->closed)
        return;
    if (is_http2(c)) {
        http2_stream_ended(c, s);
        return;
    }
    if (s->needs_close || s->saw_connection_close || s->info.should_drain_connection ||
        c->codec->must_close)
        c->drain = DRAIN_CLOSING;
    bool whole = s->remote_end && !s->codec_reset;
    if (s->codec_reset && c->codec->protocol < MZ_HTTP2) {
        /* An answer that cannot be completed: the client must see an abort, never an end (F08). */
        hcm_conn_close(c, s->responding ? MZ_CLOSE_FLUSH : MZ_CLOSE_FLUSH_DELAY, s->info.details);
        return;
    }
    close_when_done(c, whole && s->saw_connection_close);
    if (c->n_streams == 0) {
        restart_idle(c);
        if (!c->closing && !c->dispatching && mz_buf_len(mz_conn_in(wire(c))))
            mz_task_schedule(conn_loop(c), &c->redispatch); /* a pipelined request waits */
    }
}

/* ---- data ---- */

/* GOAWAY has said why; nothing can be answered any more. Floods end without waiting for the peer. */
static void http2_failed(struct hcm_conn *c)
{
    const struct mz_codec_error *e = &c->codec->error;
    bool flood = e->status == 429;
    bool overload =
        flood && strncmp(e->details, "Too_many_", 9) != 0; /* as Envoy tells them apart */
    if (!flood)
        hcm_count(c, MZ_HS_CX_PROTOCOL_ERROR);
    else if (strcmp(e->details, "too_many_premature_resets") == 0)
        hcm_count(c, MZ_HS_RQ_TOO_MANY_RESETS);
    c->saw_codec_error = true;
    c->cut_streams = c->n_streams != 0;
    while (!mz_list_empty(&c->streams)) {
        struct mz_stream *s = stream_of(c->streams.next);
        hcm_count(c, MZ_HS_RQ_RX_RESET);
        const char *own = s->enc->details, *all = overload ? "overload_error:" : "codec_error:";
        stream_abort(
            s, overload && !own ? MZ_FLAG(OVERLOAD_MANAGER) : MZ_FLAG(DOWNSTREAM_PROTOCOL_ERROR),
            own ? own : mz_arena_printf(mz_stream_arena(s), "%s%s", all, e->details).p, NULL);
    }
    c->codec->ops->conn_closed(c->codec, MZ_RESET_PROTOCOL_ERROR); /* it forgets them too */
    if (c->closed)
        return;
    mz_buf_drain(mz_conn_in(wire(c)), mz_buf_len(mz_conn_in(wire(c))));
    if (flood)
        mz_conn_flush_now(wire(c));
    hcm_conn_close(c, flood ? MZ_CLOSE_NOW : MZ_CLOSE_FLUSH_DELAY, e->details);
}

/* True: the message was refused but its framing was sound, the connection goes on (override_stream_error...). */
static bool codec_failed(struct hcm_conn *c)
{
    const struct mz_codec_error *e = &c->codec->error;
    bool goes_on = !c->codec->must_close;
    hcm_count(c, MZ_HS_CX_PROTOCOL_ERROR);
    if (!goes_on) {
        mz_buf_drain(mz_conn_in(wire(c)), mz_buf_len(mz_conn_in(wire(c))));
        c->saw_codec_error = true;
        c->drain = DRAIN_CLOSING;
    }
    if (!mz_list_empty(&c->streams))
        stream_codec_error(stream_of(c->streams.prev), e, !goes_on);
    close_when_done(c, false);
    return goes_on;
}

/* One dispatch may start several pipelined requests, as long as each answer is complete at once. */
static void dispatch(struct hcm_conn *c, bool end)
{
    if (c->dispatching || c->closed || c->closing)
        return;
    struct mz_buf *in = mz_conn_in(wire(c));
    c->dispatching = true;
    for (;;) {
        size_t before = mz_buf_len(in);
        enum mz_codec_status st = c->codec->ops->dispatch(c->codec, in, end);
        if (c->closed)
            break;
        if (st != MZ_CODEC_OK && is_http2(c)) {
            http2_failed(c);
            break;
        }
        if (st != MZ_CODEC_OK && (!codec_failed(c) || c->closed))
            break;
        if (c->closing) {
            mz_buf_drain(in, mz_buf_len(in));
            break;
        }
        if (mz_buf_len(in) == 0 || mz_buf_len(in) == before || c->n_streams ||
            wire(c)->read_disabled)
            break;
    }
    c->dispatching = false;
    if (is_http2(c) && !c->closed)
        close_when_done(c, false);
}

static void on_redispatch(struct mz_task *t)
{
    struct hcm_conn *c = MZ_CONTAINER(t, struct hcm_conn, redispatch);
    if (c->codec && c->n_streams == 0 && !wire(c)->read_disabled && mz_buf_len(mz_conn_in(wire(c))))
        dispatch(c, wire(c)->read_end);
    else
        close_when_done(c, false);
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct hcm_conn *c = from_filter(f);
    if (c->closing) {
        mz_buf_drain(data, mz_buf_len(data));
        return MZ_NET_STOP;
    }
    bool ready = c->codec || (mz_buf_len(data) && choose_codec(c, data, end));
    if (MZ_UNLIKELY(c->resting)) { /* it rests again when no stream comes of it */
        c->resting = false;
        idle_timer_start(c, idle_us(c) / 1000);
    }
    if (ready)
        dispatch(c, end);
    return MZ_NET_STOP;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    struct mz_loop *l = conn_loop(c);
    c->cfg = f->cfg;
    mz_list_init(&c->streams);
    mz_task_init(&c->redispatch, on_redispatch);
    mz_timer_init(l, &c->idle_timer, on_idle);
    restart_idle(c);
    c->resting = true;
    if (c->cfg->max_connection_duration_ms)
        mz_timer_start_ms(&ends(c)->duration, c->cfg->max_connection_duration_ms);
    hcm_count(c, MZ_HS_CX_TOTAL);
    mz_gauge_add(c->cfg->scope, MZ_HS_CX_ACTIVE, 1);
    if (c->base.down->secure) {
        hcm_count(c, MZ_HS_CX_SSL_TOTAL);
        mz_gauge_add(c->cfg->scope, MZ_HS_CX_SSL_ACTIVE, 1);
    }
    wire(c)->stats = (struct mz_conn_stats){ c->cfg->scope,
                                             MZ_HS_CX_RX_BYTES_TOTAL,
                                             MZ_HS_CX_RX_BYTES_BUFFERED,
                                             MZ_HS_CX_TX_BYTES_TOTAL,
                                             MZ_HS_CX_TX_BYTES_BUFFERED,
                                             MZ_STAT_NONE,
                                             MZ_HS_CX_DELAYED_CLOSE_TIMEOUT };
    return MZ_NET_CONTINUE;
}

static void count_close(struct hcm_conn *c, bool local)
{
    struct mz_scope *sc = c->cfg->scope;
    hcm_count(c, MZ_HS_CX_DESTROY);
    hcm_count(c, local ? MZ_HS_CX_DESTROY_LOCAL : MZ_HS_CX_DESTROY_REMOTE);
    if (c->n_streams || c->cut_streams) {
        hcm_count(c, MZ_HS_CX_DESTROY_ACTIVE_RQ);
        hcm_count(c, local ? MZ_HS_CX_DESTROY_LOCAL_ACTIVE_RQ : MZ_HS_CX_DESTROY_REMOTE_ACTIVE_RQ);
    }
    mz_gauge_add(sc, MZ_HS_CX_ACTIVE, -1);
    if (c->spoke)
        mz_gauge_add(sc, is_http2(c) ? MZ_HS_CX_HTTP2_ACTIVE : MZ_HS_CX_HTTP1_ACTIVE, -1);
    if (c->base.down->secure)
        mz_gauge_add(sc, MZ_HS_CX_SSL_ACTIVE, -1);
    mz_hist_record(sc, MZ_HS_CX_LENGTH_MS,
                   (mz_loop_now_us(conn_loop(c)) - wire(c)->created_us) / 1000);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct hcm_conn *c = from_filter(f);
    if (ev == MZ_CONN_CONNECTED || c->closed || !c->cfg)
        return;
    c->closed = c->closing = true;
    bool local = ev == MZ_CONN_LOCAL_CLOSE;
    count_close(c, local);
    const char *reason = wire(c)->close_reason;
    mz_list_foreach (it, &c->streams) {
        struct mz_stream *st = stream_of(it);
        hcm_count(c, MZ_HS_RQ_RX_RESET);
        const char *details =
            local ? "downstream_local_disconnect" : "downstream_remote_disconnect";
        if (local && reason) /* as Envoy: what closed it stands in the details */
            details = mz_arena_printf(mz_stream_arena(st), "%s(%s)", details, reason).p;
        stream_abort(st, MZ_FLAG(DOWNSTREAM_CONNECTION_TERMINATION), details, NULL);
    }
    if (c->codec && is_http2(c))
        c->codec->ops->conn_closed(c->codec, MZ_RESET_CONN_TERMINATED);
    mz_timer_stop(&c->idle_timer);
    if (c->ends) {
        mz_timer_stop(&c->ends->duration);
        mz_timer_stop(&c->ends->drain);
    }
    mz_task_cancel(&c->redispatch);
}

static void above_high(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    if (c->codec)
        c->codec->ops->conn_above_high(c->codec);
}

static void below_low(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    if (c->codec)
        c->codec->ops->conn_below_low(c->codec);
}

/* The listener drains: idle connections end after drain_timeout, and answers until then say that they will (P5). */
static void drain(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    if (c->closing || c->drain != DRAIN_NONE)
        return;
    hcm_count(c, MZ_HS_CX_DRAIN_CLOSE);
    hcm_conn_start_drain(c);
}

/* A connection that had no request yet is left: its first one may be on the way. */
static void end_idle(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    if (c->spoke && c->n_streams == 0 && mz_buf_len(mz_conn_in(wire(c))) == 0)
        hcm_conn_close(c, MZ_CLOSE_FLUSH, NULL);
}

static void destroy(struct mz_net_filter *f)
{
    struct hcm_conn *c = from_filter(f);
    if (c->codec)
        c->codec->ops->destroy(c->codec);
    mz_free(MZ_MEM_CONN, c->ends);
    conn_objects_destroy(c->objects);
}

const struct mz_net_filter_type mz_net_filter_hcm = {
    .name = "envoy.filters.network.http_connection_manager",
    .config_type =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    .terminal = true,
    .size = sizeof(struct hcm_conn),
    .config_build = hcm_config_build,
    .config_destroy = hcm_config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_data,
    .on_event = on_event,
    .above_high = above_high,
    .below_low = below_low,
    .drain = drain,
    .end_idle = end_idle,
    .destroy = destroy,
};
