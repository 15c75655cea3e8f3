#ifndef MZ_HTTP_H1_TRACE_H
#define MZ_HTTP_H1_TRACE_H
/*
 * For tests and fuzz targets: an owner of a codec that writes down every event as text and, at a server, answers. The text
 * does not depend on how the input was split. H[name value|...] headers, D data, T[...] trailers, ! end, R reset,
 * I[...] informational, ^ v pause and resume, E error.
 */
#include "http/codec.h"
#include "http/status.h"
#include <stdlib.h>

struct trace {
    struct mz_codec *codec;
    struct mz_stream_enc *enc;
    struct mz_arena *arena;
    struct mz_buf in, out, events, body; /* body: what the answer carries */
    struct mz_http1_opts opts;
    bool client, in_data, echo, answered, read_off, dead;
    unsigned callbacks, reset_at; /* reset the stream within the nth callback, counted from 1 */
    unsigned opened, resets;
    unsigned answer_status;
    bool lets_rest; /* of its codec */
    unsigned rests;
};

static inline bool trace_hit(struct trace *t)
{
    if (++t->callbacks != t->reset_at)
        return false;
    t->enc->ops->reset(t->enc, MZ_RESET_LOCAL);
    t->resets++;
    t->dead = true;
    return true;
}

static inline void trace_mark(struct trace *t, const char *what)
{
    mz_buf_append_str(&t->events, mz_str_c(what));
    t->in_data = false;
}

static inline void trace_headers(struct trace *t, const char *what, const struct mz_headers *h,
                                 bool end)
{
    const char *sep = "[";
    trace_mark(t, what);
    mz_headers_foreach(e, h)
    {
        mz_buf_append_str(&t->events, mz_str_c(sep));
        mz_buf_append_str(&t->events, e->name);
        mz_buf_append_str(&t->events, MZ_STR(" "));
        mz_buf_append_str(&t->events, e->value);
        sep = "|";
    }
    mz_buf_append_str(&t->events, end ? MZ_STR("]!") : MZ_STR("]"));
}

/* A local reply as the connection manager writes it. */
static inline void trace_answer(struct trace *t, unsigned status, const char *text)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers h;
    struct mz_buf body;
    mz_headers_init(&h, a);
    mz_buf_init(&body);
    mz_buf_append_str(&body, mz_str_c(text));
    mz_headers_set_status(&h, status);
    if (body.len)
        mz_headers_add_id(&h, MZ_H_CONTENT_LENGTH, mz_arena_printf(a, "%zu", body.len));
    t->answered = true;
    t->enc->ops->encode_headers(t->enc, &h, body.len == 0);
    if (body.len)
        t->enc->ops->encode_data(t->enc, &body, true);
    mz_buf_fini(&body);
    mz_arena_destroy(a);
}

static inline void trace_request_end(struct trace *t)
{
    if (!t->client && !t->answered && t->echo)
        trace_answer(t, t->answer_status ? t->answer_status : 200, "ok");
}

static inline void trace_on_1xx(void *arg, struct mz_headers *h)
{
    trace_headers(arg, "I", h, false);
    (void)trace_hit(arg);
}
static inline void trace_on_headers(void *arg, struct mz_headers *h, bool end)
{
    trace_headers(arg, "H", h, end);
    if (!trace_hit(arg) && end)
        trace_request_end(arg);
}
static inline void trace_on_data(void *arg, struct mz_buf *data, bool end)
{
    struct trace *t = arg;
    if (!t->in_data)
        trace_mark(t, "D");
    t->in_data = true;
    mz_buf_move_all(&t->events, data);
    if (end)
        trace_mark(t, "!");
    if (!trace_hit(t) && end)
        trace_request_end(t);
}
static inline void trace_on_trailers(void *arg, struct mz_headers *h)
{
    trace_headers(arg, "T", h, true);
    if (!trace_hit(arg))
        trace_request_end(arg);
}
static inline void trace_on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct trace *t = arg;
    (void)details;
    trace_mark(t, "R");
    mz_buf_append_str(&t->events, mz_str_c(mz_reset_reason_text(r)));
    t->resets++;
    t->dead = true;
}
static inline void trace_on_above(void *arg)
{
    trace_mark(arg, "^");
}
static inline void trace_on_below(void *arg)
{
    trace_mark(arg, "v");
}
static const struct mz_stream_in_ops trace_in_ops = {
    .on_1xx = trace_on_1xx,
    .on_headers = trace_on_headers,
    .on_data = trace_on_data,
    .on_trailers = trace_on_trailers,
    .on_reset = trace_on_reset,
    .on_above_high = trace_on_above,
    .on_below_low = trace_on_below,
};

static inline void trace_new_arena(struct trace *t)
{
    mz_arena_destroy(t->arena);
    t->arena = mz_arena_create(MZ_MEM_STREAM);
}
static inline void trace_new_stream(void *arg, struct mz_stream_enc *enc,
                                    struct mz_stream_in *out_in)
{
    struct trace *t = arg;
    trace_new_arena(t);
    t->enc = enc;
    t->answered = t->dead = false;
    t->opened++;
    *out_in = (struct mz_stream_in){ &trace_in_ops, t, t->arena };
}
static inline void trace_written(void *arg)
{
    (void)arg;
}
static inline void trace_read_disable(void *arg, bool disable)
{
    ((struct trace *)arg)->read_off = disable;
}
static inline bool trace_rest(void *arg)
{
    struct trace *t = arg;
    t->rests++;
    return t->lets_rest;
}
static const struct mz_codec_server_ops trace_server_ops = { .new_stream = trace_new_stream, .rest = trace_rest };

static inline struct mz_http1_opts trace_opts(void)
{
    return (struct mz_http1_opts){ .allow_absolute_url = true,
                                   .ignore_upgrade_h2c = true,
                                   .max_headers_kb = 60,
                                   .max_headers_count = 100 };
}

static inline void trace_init(struct trace *t, bool client, struct mz_http1_opts opts)
{
    static const struct mz_http1_stats none = { .scope = NULL };
    *t = (struct trace){ .client = client, .opts = opts, .echo = true };
    mz_buf_init(&t->in);
    mz_buf_init(&t->out);
    mz_buf_init(&t->events);
    struct mz_codec_sink sink = { &t->out, trace_written, trace_read_disable, t, 0, false };
    t->codec = client ? mz_http1_client_create(&t->opts, &none, &sink)
                      : mz_http1_server_create(&t->opts, &none, &sink, &trace_server_ops, t);
}

static inline void trace_fini(struct trace *t)
{
    t->codec->ops->destroy(t->codec);
    mz_arena_destroy(t->arena);
    mz_buf_fini(&t->in);
    mz_buf_fini(&t->out);
    mz_buf_fini(&t->events);
}

/* Client: sends a request "METHOD" with an optional upgrade; its answer is then fed. */
static inline void trace_request(struct trace *t, const char *method, bool upgrade)
{
    struct mz_stream_in in = { &trace_in_ops, t, NULL };
    trace_new_arena(t);
    in.arena = t->arena;
    struct mz_headers h;
    mz_headers_init(&h, t->arena);
    mz_headers_add_id(&h, MZ_H_METHOD, mz_str_c(method));
    mz_headers_add_id(&h, MZ_H_AUTHORITY, MZ_STR("a:1"));
    mz_headers_add_id(&h, MZ_H_PATH, MZ_STR("/"));
    if (upgrade) {
        mz_headers_add_id(&h, MZ_H_CONNECTION, MZ_STR("upgrade"));
        mz_headers_add_id(&h, MZ_H_UPGRADE, MZ_STR("websocket"));
    }
    t->dead = false;
    t->enc = mz_http1_client_request(t->codec, &in);
    t->enc->ops->encode_headers(t->enc, &h, !upgrade && strcmp(method, "CONNECT") != 0);
}

static inline enum mz_codec_status trace_feed(struct trace *t, const char *p, size_t n, bool end)
{
    mz_buf_append(&t->in, p, n);
    enum mz_codec_status s = t->codec->ops->dispatch(t->codec, &t->in, end);
    if (s != MZ_CODEC_ERROR)
        return s;
    trace_mark(t, "E");
    mz_buf_printf(&t->events, "%u %s", t->codec->error.status, t->codec->error.details);
    if (t->client)
        t->codec->ops->conn_closed(t->codec, MZ_RESET_PROTOCOL_ERROR);
    else if (!t->answered && !t->dead)
        trace_answer(t, t->codec->error.status, t->codec->error.body);
    return !t->codec->must_close && t->in.len ? trace_feed(t, NULL, 0, end) : s;
}

/* The events so far as one text; valid until the next event. */
static inline struct mz_str trace_text(struct mz_buf *b)
{
    return mz_buf_linearize(b, b->len);
}
#endif
