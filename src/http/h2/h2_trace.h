#ifndef MZ_HTTP_H2_TRACE_H
#define MZ_HTTP_H2_TRACE_H
/*
 * For tests and fuzz targets: an owner of an HTTP/2 codec that writes down every event of every stream as text. The text of a
 * stream does not depend on how the input was split. H[name value|...] headers, D data, T[...] trailers, ! end, R reset,
 * I[...] informational, ^ v pause and resume.
 */
#include "event/loop.h"
#include "http/codec.h"
#include <stdlib.h>

#define TRACE_STREAMS 4096 /* of one run */

struct trace;
struct trace_stream {
    struct trace *t;
    struct mz_stream_enc *enc;
    struct mz_stream_in in;
    struct mz_arena *arena;
    struct mz_buf events;
    bool in_data, ended, answered, reset, paused;
    uint64_t got; /* bytes of body */
};
struct trace {
    struct mz_loop *loop;
    struct mz_codec *codec;
    struct mz_buf in, out;
    struct mz_http2_opts opts;
    struct mz_http2_stats stats;
    struct trace_stream *s[TRACE_STREAMS];
    unsigned n, goaways, max_streams_changes, max_streams, keepalives, written;
    bool client, echo /* a server answers 200 "ok" at the end of a request */, count_data /* instead of keeping it */;
    unsigned callbacks, reset_at; /* reset the stream within the nth callback, counted from 1 */
    enum mz_codec_status status;
};

static inline void trace_mark(struct trace_stream *s, const char *what)
{
    mz_buf_append_str(&s->events, mz_str_c(what));
    s->in_data = false;
}

static inline bool trace_hit(struct trace_stream *s)
{
    if (++s->t->callbacks != s->t->reset_at)
        return false;
    s->enc->ops->reset(s->enc, MZ_RESET_LOCAL);
    s->reset = true;
    return true;
}

static inline void trace_headers(struct trace_stream *s, const char *what, const struct mz_headers *h, bool end)
{
    const char *sep = "[";
    trace_mark(s, what);
    mz_headers_foreach(e, h)
    {
        mz_buf_append_str(&s->events, mz_str_c(sep));
        mz_buf_append_str(&s->events, e->name);
        mz_buf_append_str(&s->events, MZ_STR(" "));
        mz_buf_append_str(&s->events, e->value);
        sep = "|";
    }
    mz_buf_append_str(&s->events, end ? MZ_STR("]!") : MZ_STR("]"));
}

/* "a: b" lines; a name begins with ':' or not. */
static inline struct mz_headers *trace_map(struct mz_arena *a, const char *lines)
{
    struct mz_headers *h = mz_headers_create(a);
    struct mz_str all = mz_str_c(lines), line;
    while (mz_str_split(&all, '\n', &line)) {
        struct mz_str rest = mz_str_skip(line, 1);
        ptrdiff_t colon = mz_str_chr(rest, ':');
        struct mz_str name = { line.p, (size_t)colon + 1 };
        mz_headers_add(h, mz_arena_dup(a, name), mz_arena_dup(a, mz_str_trim(mz_str_skip(rest, (size_t)colon + 1))));
    }
    return h;
}

static inline void trace_send(struct trace_stream *s, const char *lines, const char *body, bool end)
{
    s->enc->ops->encode_headers(s->enc, trace_map(s->arena, lines), end && !body);
    if (!body)
        return;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, mz_str_c(body));
    s->enc->ops->encode_data(s->enc, &b, end);
    mz_buf_fini(&b);
}

static inline void trace_ended(struct trace_stream *s)
{
    s->ended = true;
    if (!s->t->echo || s->answered)
        return;
    s->answered = true;
    trace_send(s, ":status: 200\ncontent-length: 2", "ok", true);
}

static inline void trace_on_1xx(void *arg, struct mz_headers *h)
{
    trace_headers(arg, "I", h, false);
    (void)trace_hit(arg);
}
static inline void trace_on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct trace_stream *s = arg;
    trace_headers(s, "H", h, end);
    if (!trace_hit(s) && end)
        trace_ended(s);
}
static inline void trace_on_data(void *arg, struct mz_buf *data, bool end)
{
    struct trace_stream *s = arg;
    if (!s->in_data)
        trace_mark(s, "D");
    s->in_data = true;
    s->got += mz_buf_len(data);
    if (s->t->count_data)
        mz_buf_drain(data, mz_buf_len(data));
    else
        mz_buf_move_all(&s->events, data);
    if (end)
        trace_mark(s, "!");
    if (!trace_hit(s) && end)
        trace_ended(s);
}
static inline void trace_on_trailers(void *arg, struct mz_headers *h)
{
    struct trace_stream *s = arg;
    trace_headers(s, "T", h, true);
    if (!trace_hit(s))
        trace_ended(s);
}
static inline void trace_on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct trace_stream *s = arg;
    trace_mark(s, "R");
    mz_buf_append_str(&s->events, mz_str_c(mz_reset_reason_text(r)));
    if (details)
        mz_buf_printf(&s->events, "(%s)", details);
    s->reset = true;
}
static inline void trace_on_above(void *arg)
{
    struct trace_stream *s = arg;
    if (s->paused)
        abort(); /* strictly alternating */
    s->paused = true;
    trace_mark(s, "^");
}
static inline void trace_on_below(void *arg)
{
    struct trace_stream *s = arg;
    if (!s->paused)
        abort();
    s->paused = false;
    trace_mark(s, "v");
}
static const struct mz_stream_in_ops trace_ops = { trace_on_1xx,   trace_on_headers, trace_on_data, trace_on_trailers,
                                                   trace_on_reset, trace_on_above,   trace_on_below };

static inline struct trace_stream *trace_stream_begin(struct trace *t)
{
    struct trace_stream *s = calloc(1, sizeof(*s));
    if (!s || t->n == TRACE_STREAMS)
        abort();
    t->s[t->n++] = s;
    s->t = t;
    s->arena = mz_arena_create(MZ_MEM_STREAM);
    mz_buf_init(&s->events);
    s->in = (struct mz_stream_in){ &trace_ops, s, s->arena };
    return s;
}

static inline void trace_new_stream(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in)
{
    struct trace_stream *s = trace_stream_begin(arg);
    s->enc = enc;
    s->paused = enc->ops->above_high(enc);
    *out_in = s->in;
}
static inline void trace_goaway(void *arg)
{
    ((struct trace *)arg)->goaways++;
}
static inline void trace_max_streams(void *arg, uint32_t n)
{
    ((struct trace *)arg)->max_streams_changes++;
    ((struct trace *)arg)->max_streams = n;
}
static inline void trace_keepalive(void *arg)
{
    ((struct trace *)arg)->keepalives++;
}
static inline void trace_written(void *arg)
{
    ((struct trace *)arg)->written++;
}
static const struct mz_codec_server_ops trace_server_ops = { .new_stream = trace_new_stream,
                                                             .goaway_received = trace_goaway,
                                                             .keepalive_timeout = trace_keepalive };
static const struct mz_codec_client_ops trace_client_ops = { trace_goaway, trace_max_streams, trace_keepalive };

/* opts (and high) are set before. */
static inline void trace_start(struct trace *t, struct mz_loop *l, bool client, uint32_t high)
{
    t->loop = l;
    t->client = client;
    mz_buf_init(&t->in);
    mz_buf_init(&t->out);
    struct mz_codec_sink sink = { &t->out, trace_written, NULL, t, high, false };
    t->codec = client ? mz_http2_client_create(&t->opts, &t->stats, l, &sink, &trace_client_ops, t)
                      : mz_http2_server_create(&t->opts, &t->stats, l, &sink, &trace_server_ops, t);
}

static inline struct trace_stream *trace_request(struct trace *t, const char *lines, const char *body, bool end)
{
    struct trace_stream *s = trace_stream_begin(t);
    s->enc = mz_http2_client_request(t->codec, &s->in);
    if (!s->enc)
        abort(); /* tests of that ask mz_http2_client_request() themselves */
    trace_send(s, lines, body, end);
    return s;
}

static inline void trace_stop(struct trace *t)
{
    t->codec->ops->conn_closed(t->codec, MZ_RESET_CONN_TERMINATED);
    t->codec->ops->destroy(t->codec);
    mz_buf_fini(&t->in);
    mz_buf_fini(&t->out);
    for (unsigned i = 0; i < t->n; i++) {
        mz_arena_destroy(t->s[i]->arena);
        mz_buf_fini(&t->s[i]->events);
        free(t->s[i]);
    }
}

static inline struct mz_str trace_text(struct mz_buf *b)
{
    return mz_buf_linearize(b, mz_buf_len(b));
}
#endif
