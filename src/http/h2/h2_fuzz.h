#ifndef MZ_HTTP_H2_FUZZ_H
#define MZ_HTTP_H2_FUZZ_H
/* Arbitrary frames against a codec of either role; any split of the input gives the same events of each stream. */
#include "http/h2/h2_trace.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { FUZZ_ECHO = 1, FUZZ_STREAM_ERRORS = 2, FUZZ_CONNECT = 4, FUZZ_SMALL = 8, FUZZ_RESET = 16, FUZZ_BARE = 32 };

static inline void fuzz_begin(struct trace *t, struct mz_loop *l, unsigned flags, bool client)
{
    *t = (struct trace){ .echo = flags & FUZZ_ECHO, .reset_at = flags & FUZZ_RESET ? 2 : 0 };
    mz_http2_opts_init(&t->opts);
    t->opts.override_stream_error = flags & FUZZ_STREAM_ERRORS;
    t->opts.allow_connect = flags & FUZZ_CONNECT;
    if (flags & FUZZ_SMALL) {
        t->opts.stream_window = t->opts.connection_window = 65535;
        t->opts.max_concurrent_streams = 3;
        t->opts.max_headers_kb = 1;
        t->opts.underscores = MZ_UNDERSCORE_DROP;
    }
    trace_start(t, l, client, 0);
}

/* What stands before the input: the peer's preface, and at a client some requests that wait. */
static inline void fuzz_open(struct trace *t, unsigned flags)
{
    static const char settings[] = "\0\0\0\4\0\0\0\0\0";
    if (flags & FUZZ_BARE)
        return;
    if (t->client) {
        (void)trace_request(t, ":method: GET\n:scheme: http\n:authority: a\n:path: /", NULL, true);
        (void)trace_request(t, ":method: POST\n:scheme: http\n:authority: a\n:path: /", "abc", false);
        (void)trace_request(t, ":method: HEAD\n:scheme: http\n:authority: a\n:path: /", NULL, true);
    } else {
        mz_buf_append_str(&t->in, MZ_STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    }
    mz_buf_append(&t->in, settings, 9);
    mz_loop_turn(t->loop, 0);
    t->status = t->codec->ops->dispatch(t->codec, &t->in, false);
    mz_buf_drain(&t->out, mz_buf_len(&t->out));
}

/* Parts of 1 to @max bytes by a small generator; 0: at once. */
static inline void fuzz_feed(struct trace *t, const uint8_t *p, size_t n, unsigned max)
{
    unsigned seed = max;
    for (size_t at = 0; at < n && t->status == MZ_CODEC_OK;) {
        seed = seed * 1103515245u + 12345u;
        size_t m = max ? 1 + (seed >> 16) % max : n;
        m = m < n - at ? m : n - at;
        mz_buf_append(&t->in, p + at, m);
        if (max)
            t->codec->ops->rest(t->codec);
        t->status = t->codec->ops->dispatch(t->codec, &t->in, false);
        at += m;
        if (t->echo)
            mz_loop_turn(t->loop, 0);
    }
    mz_loop_turn(t->loop, 0);
}

/* How much of a body was handed on before an error, and whether a stream's own error was told before the connection's, depends
 * on the split; the head does not. */
static inline bool fuzz_same_stream(struct trace_stream *a, struct trace_stream *b, bool failed)
{
    struct mz_str x = trace_text(&a->events), y = trace_text(&b->events);
    if (mz_str_eq(x, y))
        return true;
    if (!failed && !(a->reset && b->reset))
        return false;
    ptrdiff_t i = mz_str_chr(x, ']'), k = mz_str_chr(y, ']');
    if (failed && (i < 0 || k < 0))
        return true;
    return i == k && (i < 0 || memcmp(x.p, y.p, (size_t)i) == 0);
}

/* A stream that we have reset is forgotten when its RST_STREAM has left: what the peer sends on it behind its own end is an error
 * of the connection from then on only. */
static inline bool fuzz_late(const struct trace *whole, const struct trace *parts)
{
    const struct trace *bad = whole->status == MZ_CODEC_OK ? parts : whole;
    if (whole->status == parts->status || !bad->codec->error.details || strcmp(bad->codec->error.details, "http2.stream_closed") != 0)
        return false;
    for (unsigned i = 0; i < bad->n; i++)
        if (bad->s[i]->reset)
            return true;
    return false;
}

/* @crowded: streams that we have reset count as open until their RST_STREAM has left, and so refuse others or do not. */
static inline void fuzz_same(struct trace *whole, struct trace *parts, bool crowded)
{
    unsigned n = whole->n < parts->n ? whole->n : parts->n;
    if (whole->goaways || parts->goaways || fuzz_late(whole, parts))
        return; /* nghttp2 reads over the rest once nothing is under way, and that depends on what it could send */
    bool same = (whole->n == parts->n || (crowded && n >= 3)) && whole->status == parts->status;
    for (unsigned i = 0; same && i < n; i++)
        same = fuzz_same_stream(whole->s[i], parts->s[i], whole->status != MZ_CODEC_OK);
    if (same)
        return;
    fprintf(stderr, "streams %u %u, status %d %d\n", whole->n, parts->n, (int)whole->status,
            (int)parts->status);
    for (unsigned i = 0; i < whole->n && i < parts->n; i++)
        fprintf(stderr, "%u\n at once: " MZ_STR_FMT "\n in parts: " MZ_STR_FMT "\n", i,
                MZ_STR_ARG(trace_text(&whole->s[i]->events)), MZ_STR_ARG(trace_text(&parts->s[i]->events)));
    abort();
}

static inline int fuzz_both(const uint8_t *p, size_t n, bool client)
{
    static struct trace whole, parts;
    if (n < 2)
        return 0;
    struct mz_loop *l = mz_loop_create("fuzz");
    fuzz_begin(&whole, l, p[0], client);
    fuzz_open(&whole, p[0]);
    fuzz_feed(&whole, p + 2, n - 2, 0);
    fuzz_begin(&parts, l, p[0], client);
    fuzz_open(&parts, p[0]);
    fuzz_feed(&parts, p + 2, n - 2, p[1] % 64 + 1);
    if (!(p[0] & (FUZZ_ECHO | FUZZ_RESET))) /* what we send in between depends on the split */
        fuzz_same(&whole, &parts, p[0] & FUZZ_SMALL);
    trace_stop(&whole);
    trace_stop(&parts);
    mz_loop_destroy(l);
    return 0;
}
#endif
