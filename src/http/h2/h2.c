#include "http/h2/h2_priv.h"

#include <pthread.h>
#include <stdlib.h>

/* Frames of one head. Of a head that was refused nghttp2 tells nothing any more, so bytes cannot be counted then (D03, F10). */
#define MAX_CONTINUATIONS 1024
#define LINGER_MS         1000
#define LINGER_BYTES      65536

/* The codec's object: session, streams, what is told at the end of the turn, GOAWAY, keepalive. */

/* ---- streams ---- */

static void stream_free(struct h2_stream *s)
{
    h2_stream_out_drop(s);
    mz_buf_fini(&s->held);
    mz_timer_stop(&s->flush_timer);
    mz_list_del(&s->event);
    mz_list_del(&s->link);
    mz_free(MZ_MEM_CONN, s);
}

/* Neither its owner nor nghttp2 has it any more: freed at the end of the turn. */
static void maybe_gone(struct h2_stream *s)
{
    struct h2 *c = s->c;
    if (s->in.ops || h2_stream_known(s))
        return;
    mz_list_del(&s->event);
    mz_list_del(&s->link);
    mz_timer_stop(&s->flush_timer);
    mz_list_add_tail(&c->gone, &s->link);
    mz_task_schedule(c->loop, &c->task);
}

static void on_flush_timeout(struct mz_timer *t)
{
    struct h2_stream *s = MZ_CONTAINER(t, struct h2_stream, flush_timer);
    if (s->linger && s->out_sent) {
        h2_rst(s, NGHTTP2_NO_ERROR);
        return;
    }
    h2_count(s->c, MZ_H2S_TX_FLUSH_TIMEOUT);
    h2_rst(s, NGHTTP2_CANCEL);
    h2_stream_reset_told(s, MZ_RESET_LOCAL);
}

/* The answer is complete and the request is not: a short rest is read, so that a client that sends before it reads sees the
 * answer; then RST_STREAM says that no more is wanted (RFC 9113 8.1). */
void h2_linger(struct h2_stream *s)
{
    if (!s->closed && !s->resetting && !s->wire_end)
        mz_timer_start_ms(&s->flush_timer, LINGER_MS);
}

void h2_linger_data(struct h2_stream *s, size_t n)
{
    s->lingered += n;
    if (s->lingered > LINGER_BYTES && s->out_sent)
        h2_rst(s, NGHTTP2_NO_ERROR);
}

struct h2_stream *h2_stream_create(struct h2 *c)
{
    struct h2_stream *s = mz_new0(MZ_MEM_CONN, struct h2_stream);
    s->enc.ops = &h2_enc_ops;
    s->c = c;
    s->length = UINT64_MAX;
    s->above_told = c->above_conn;
    mz_buf_init(&s->held);
    mz_buf_init(&s->out);
    mz_list_init(&s->event);
    mz_timer_init(c->loop, &s->flush_timer, on_flush_timeout);
    mz_list_add_tail(&c->streams, &s->link);
    return s;
}

void h2_stream_opened(struct h2_stream *s)
{
    s->opened = true;
    s->c->n_streams++;
    s->c->opened_streams++;
    h2_gauge(s->c, MZ_H2S_STREAMS_ACTIVE, 1);
}

void h2_stream_closed(struct h2_stream *s)
{
    if (!h2_stream_known(s))
        return;
    s->closed = true;
    if (s->peer_ended)
        h2_stream_id_ended(s->c, s->enc.id, s->peer_reset);
    s->c->n_streams--;
    h2_gauge(s->c, MZ_H2S_STREAMS_ACTIVE, -1);
    maybe_gone(s);
}

void h2_stream_detach(struct h2_stream *s)
{
    s->in.ops = NULL;
    s->headers = NULL;
    h2_held_drop(s);
    if (s->c->body_stream == s)
        s->c->body_stream = NULL;
    maybe_gone(s);
}

/* ---- what is told when no callback of nghttp2 is running ---- */

void h2_events_later(struct h2_stream *s)
{
    mz_list_del(&s->event);
    mz_list_add_tail(&s->c->events, &s->event);
    mz_task_schedule(s->c->loop, &s->c->task);
}

static void stream_event(struct h2_stream *s)
{
    if (s->reset_event) {
        s->reset_event = false;
        h2_stream_reset_told(s, (enum mz_reset_reason)s->reset_reason);
        return;
    }
    h2_stream_pause_update(s);
    h2_resume_reading(s);
}

void h2_events_run(struct h2 *c)
{
    while (!mz_list_empty(&c->events)) {
        struct h2_stream *s = MZ_CONTAINER(c->events.next, struct h2_stream, event);
        mz_list_del(&s->event);
        stream_event(s);
    }
    if (c->goaway_received && !c->goaway_told && !c->dead) {
        c->goaway_told = true;
        if (c->client && c->client->goaway_received)
            c->client->goaway_received(c->arg);
        else if (c->server && c->server->goaway_received)
            c->server->goaway_received(c->arg);
    }
}

static void free_gone(struct h2 *c)
{
    while (!mz_list_empty(&c->gone))
        stream_free(MZ_CONTAINER(c->gone.next, struct h2_stream, link));
}

static void on_task(struct mz_task *t)
{
    struct h2 *c = MZ_CONTAINER(t, struct h2, task);
    h2_events_run(c);
    if (!c->dispatching)
        h2_flush(c);
    free_gone(c);
}

/* ---- keepalive ---- */

static void ping_start(struct h2 *c)
{
    struct h2_keepalive *k = c->keepalive;
    uint64_t ms = c->o->keepalive_interval_ms;
    if (!ms)
        return;
    uint64_t most = (uint64_t)((double)ms * c->o->keepalive_jitter / 100);
    mz_timer_start_ms(&k->interval, ms + (most ? mz_rand_u64(mz_loop_rand(c->loop)) % most : 0));
}

static void on_interval(struct mz_timer *t)
{
    struct h2 *c = MZ_CONTAINER(t, struct h2_keepalive, interval)->c;
    uint64_t now = mz_loop_now_us(c->loop);
    uint8_t data[8];
    memcpy(data, &now, sizeof(data));
    nghttp2_submit_ping(h2_ng(c), NGHTTP2_FLAG_NONE, data);
    mz_timer_start_ms(&c->keepalive->timeout, c->o->keepalive_timeout_ms);
    h2_flush_later(c);
}

static void on_timeout(struct mz_timer *t)
{
    struct h2 *c = MZ_CONTAINER(t, struct h2_keepalive, timeout)->c;
    h2_count(c, MZ_H2S_KEEPALIVE_TIMEOUT);
    if (c->client)
        c->client->keepalive_timeout(c->arg);
    else
        c->server->keepalive_timeout(c->arg);
}

void h2_keepalive_seen(struct h2 *c, const nghttp2_frame *ack)
{
    struct h2_keepalive *k = c->keepalive;
    if (!ack) {
        k->last_frame_us = mz_loop_now_us(c->loop);
        return;
    }
    if (!mz_timer_armed(&k->timeout))
        return;
    mz_timer_stop(&k->timeout);
    ping_start(c);
}

static void keepalive_create(struct h2 *c)
{
    if (!c->o->keepalive_interval_ms && !(c->client && c->o->keepalive_idle_ms))
        return;
    c->keepalive = mz_new0(MZ_MEM_CONN, struct h2_keepalive);
    c->keepalive->c = c;
    c->keepalive->last_frame_us = mz_loop_now_us(c->loop);
    mz_timer_init(c->loop, &c->keepalive->interval, on_interval);
    mz_timer_init(c->loop, &c->keepalive->timeout, on_timeout);
    ping_start(c);
}

static void keepalive_stop(struct h2 *c)
{
    if (!c->keepalive)
        return;
    mz_timer_stop(&c->keepalive->interval);
    mz_timer_stop(&c->keepalive->timeout);
}

/* ---- codec operations ---- */

static void goaway(struct mz_codec *codec, bool graceful_notice)
{
    struct h2 *c = h2_of(codec);
    if (c->dead || c->failed || c->final_goaway)
        return;
    if (graceful_notice && !c->client) {
        nghttp2_submit_shutdown_notice(h2_ng(c));
    } else {
        h2_count(c, MZ_H2S_GOAWAY_SENT);
        c->final_goaway = true;
        nghttp2_submit_goaway(h2_ng(c), NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h2_ng(c)), NGHTTP2_NO_ERROR,
                              NULL, 0);
    }
    h2_flush_later(c);
}

static bool wants_to_write(const struct mz_codec *codec)
{
    const struct h2 *c = (const struct h2 *)(const void *)codec;
    if (c->dead || c->failed || !c->ng)
        return false;
    if (nghttp2_session_want_write(c->ng))
        return true;
    mz_list_foreach (it, &c->streams) {
        const struct h2_stream *s = MZ_CONTAINER(it, struct h2_stream, link);
        if (s->out_end && !s->out_sent && !s->closed)
            return true;
    }
    return false;
}

/* Callbacks may end any stream: it leaves whichever list it is in. */
static void tell_pause(struct h2 *c)
{
    struct mz_list todo;
    mz_list_init(&todo);
    while (!mz_list_empty(&c->streams)) {
        struct mz_list *it = c->streams.next;
        mz_list_del(it);
        mz_list_add_tail(&todo, it);
    }
    while (!mz_list_empty(&todo)) {
        struct mz_list *it = todo.next;
        mz_list_del(it);
        mz_list_add_tail(&c->streams, it);
        h2_stream_pause_update(MZ_CONTAINER(it, struct h2_stream, link));
    }
}

static void conn_above_high(struct mz_codec *codec)
{
    struct h2 *c = h2_of(codec);
    c->above_conn = true;
    tell_pause(c);
}

static void conn_below_low(struct mz_codec *codec)
{
    struct h2 *c = h2_of(codec);
    c->above_conn = c->paused = false;
    h2_flush_later(c);
    tell_pause(c);
}

static void conn_closed(struct mz_codec *codec, enum mz_reset_reason r)
{
    struct h2 *c = h2_of(codec);
    if (c->dead)
        return;
    c->dead = c->base.must_close = true;
    keepalive_stop(c);
    while (!mz_list_empty(&c->streams)) {
        struct h2_stream *s = MZ_CONTAINER(c->streams.next, struct h2_stream, link);
        h2_stream_closed(s);
        if (s->in.ops)
            h2_stream_reset_told(s, r);
    }
    h2_out_forget(c);
}

static void flush(struct mz_codec *codec)
{
    h2_flush(h2_of(codec));
}

/* ---- rest ---- */

static void rest(struct mz_codec *codec)
{
    struct h2 *c = h2_of(codec);
    bool busy = c->dispatching || c->sending || c->n_streams || !mz_list_empty(&c->streams) ||
                !mz_list_empty(&c->events) || !mz_list_empty(&c->gone) || c->work.len ||
                c->body.len;
    if (!c->ng || !c->slot || busy || nghttp2_session_want_write(c->ng) || !h2_slot_pack(c->slot))
        return;
    c->resting = c->ng;
    c->ng = NULL;
}

void h2_wake(struct h2 *c)
{
    h2_slot_unpack(c->slot);
    c->ng = c->resting;
    c->resting = NULL;
}

static void destroy(struct mz_codec *codec)
{
    struct h2 *c = h2_of(codec);
    c->dead = true;
    mz_task_cancel(&c->task);
    while (!mz_list_empty(&c->streams)) {
        struct h2_stream *s = MZ_CONTAINER(c->streams.next, struct h2_stream, link);
        h2_stream_closed(s);
        mz_list_del(&s->link);
        mz_list_add_tail(&c->gone, &s->link);
    }
    mz_task_cancel(&c->task);
    free_gone(c);
    h2_out_forget(c);
    nghttp2_session_del(h2_ng(c));
    h2_mem_end(c);
    mz_buf_fini(&c->work);
    mz_buf_fini(&c->body);
    keepalive_stop(c);
    mz_free(MZ_MEM_CONN, c->keepalive);
    mz_free(MZ_MEM_CONN, c);
}

static const struct mz_codec_ops codec_ops = {
    .dispatch = h2_dispatch,
    .flush = flush,
    .rest = rest,
    .goaway = goaway,
    .wants_to_write = wants_to_write,
    .conn_above_high = conn_above_high,
    .conn_below_low = conn_below_low,
    .conn_closed = conn_closed,
    .destroy = destroy,
};

/* ---- creation ---- */

static nghttp2_session_callbacks *callbacks;

/* Only memory can be missing. */
static void must(int rv)
{
    if (rv != 0)
        abort();
}

static void callbacks_create(void)
{
    must(nghttp2_session_callbacks_new(&callbacks));
    h2_callbacks_set_in(callbacks);
    h2_callbacks_set_out(callbacks);
}

/* nghttp2 keeps a client's first bytes in the room for frames, which the next session to send would write over (mem.c). */
static void magic_take(struct h2 *c)
{
    const uint8_t *p;
    ssize_t n = nghttp2_session_mem_send(h2_ng(c), &p);
    must(n == NGHTTP2_CLIENT_MAGIC_LEN ? 0 : -1);
    mz_buf_append(c->sink.out, p, (size_t)n);
    c->out_pos += (uint64_t)n;
}

static void session_create(struct h2 *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    nghttp2_option *opt = NULL;
    pthread_once(&once, callbacks_create);
    must(nghttp2_option_new(&opt));
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_http_messaging(opt, 1); /* message.c */
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(opt, c->o->hpack_table_size);
    nghttp2_option_set_max_send_header_block_length(opt, 16u << 20);
    nghttp2_option_set_peer_max_concurrent_streams(opt, c->o->max_concurrent_streams);
    nghttp2_option_set_max_outbound_ack(opt, SIZE_MAX);             /* limits.c */
    nghttp2_option_set_stream_reset_rate_limit(opt, UINT64_MAX, 1); /* the owner's */
    nghttp2_option_set_max_continuations(opt, MAX_CONTINUATIONS);
    nghttp2_mem mem = h2_mem_begin(c);
    c->creating = true;
    int rv = c->client ? nghttp2_session_client_new3(&c->ng, callbacks, c, opt, &mem)
                       : nghttp2_session_server_new3(&c->ng, callbacks, c, opt, &mem);
    c->creating = false;
    nghttp2_option_del(opt);
    must(rv);
    if (c->client)
        magic_take(c);
}

/* Ours come in Envoy's order; custom ones replace them or follow. */
static size_t settings(const struct h2 *c, nghttp2_settings_entry *v, size_t max)
{
    const struct mz_http2_opts *o = c->o;
    size_t n = 0;
    v[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, o->hpack_table_size };
    if (c->client)
        v[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };
    else
        v[n++] =
            (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, o->allow_connect };
    v[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX };
    v[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->stream_window };
    for (size_t i = 0; i < o->n_settings && n < max; i++) {
        size_t at = 0;
        while (at < n && v[at].settings_id != (int32_t)o->settings[i][0])
            at++;
        v[at] = (nghttp2_settings_entry){ (int32_t)o->settings[i][0], o->settings[i][1] };
        n += at == n;
    }
    return n;
}

static struct h2 *create(const struct mz_http2_opts *o, const struct mz_http2_stats *st,
                         struct mz_loop *l, const struct mz_codec_sink *sink,
                         const struct mz_codec_server_ops *server,
                         const struct mz_codec_client_ops *client, void *arg)
{
    struct h2 *c = mz_new0(MZ_MEM_CONN, struct h2);
    c->base.ops = &codec_ops;
    c->base.protocol = MZ_HTTP2;
    c->o = o;
    c->stats = *st;
    c->sink = *sink;
    c->server = server;
    c->client = client;
    c->arg = arg;
    c->loop = l;
    c->peer_max_streams = o->max_concurrent_streams;
    mz_list_init(&c->streams);
    mz_list_init(&c->events);
    mz_list_init(&c->gone);
    mz_task_init(&c->task, on_task);
    mz_buf_init(&c->work);
    mz_buf_init(&c->body);
    session_create(c);
    h2_count(c, client ? MZ_H2S_UPSTREAM_CX : MZ_H2S_DOWNSTREAM_CX);
    c->scan_left = client ? 0 : NGHTTP2_CLIENT_MAGIC_LEN;
    nghttp2_settings_entry v[64];
    size_t n = settings(c, v, MZ_COUNT(v));
    nghttp2_submit_settings(h2_ng(c), NGHTTP2_FLAG_NONE, v, n);
    nghttp2_session_set_local_window_size(h2_ng(c), NGHTTP2_FLAG_NONE, 0,
                                          (int32_t)o->connection_window);
    keepalive_create(c);
    h2_flush_later(c);
    return c;
}

struct mz_codec *mz_http2_server_create(const struct mz_http2_opts *o,
                                        const struct mz_http2_stats *st, struct mz_loop *l,
                                        const struct mz_codec_sink *sink,
                                        const struct mz_codec_server_ops *ops, void *arg)
{
    return &create(o, st, l, sink, ops, NULL, arg)->base;
}

struct mz_codec *mz_http2_client_create(const struct mz_http2_opts *o,
                                        const struct mz_http2_stats *st, struct mz_loop *l,
                                        const struct mz_codec_sink *sink,
                                        const struct mz_codec_client_ops *ops, void *arg)
{
    return &create(o, st, l, sink, NULL, ops, arg)->base;
}

/* A connection that was silent for long is asked whether it still stands before it gets a request. */
static void idle_ping(struct h2 *c)
{
    struct h2_keepalive *k = c->keepalive;
    if (!k || !c->o->keepalive_idle_ms || mz_timer_armed(&k->timeout))
        return;
    if (mz_loop_now_us(c->loop) - k->last_frame_us >= c->o->keepalive_idle_ms * 1000)
        on_interval(&k->interval);
}

struct mz_stream_enc *mz_http2_client_request(struct mz_codec *codec, const struct mz_stream_in *in)
{
    struct h2 *c = h2_of(codec);
    if (c->dead || c->failed || c->final_goaway || !nghttp2_session_check_request_allowed(h2_ng(c)))
        return NULL;
    struct h2_stream *s = h2_stream_create(c);
    s->in = *in;
    idle_ping(c);
    return &s->enc;
}

void mz_http2_opts_init(struct mz_http2_opts *o)
{
    *o = (struct mz_http2_opts){ .hpack_table_size = 4096,
                                 .max_concurrent_streams = 1024,
                                 .stream_window = 16u << 20,
                                 .connection_window = 24u << 20,
                                 .max_outbound_frames = 10000,
                                 .max_outbound_control_frames = 1000,
                                 .max_empty_frames = 1,
                                 .max_priority_per_stream = 100,
                                 .max_window_updates_per_data = 10,
                                 .max_headers_kb = 60,
                                 .max_headers_count = 100,
                                 .keepalive_jitter = 15 };
}
