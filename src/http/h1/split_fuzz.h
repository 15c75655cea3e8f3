#ifndef MZ_HTTP_H1_SPLIT_FUZZ_H
#define MZ_HTTP_H1_SPLIT_FUZZ_H
#include "http/h1/h1_trace.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static inline void split_begin(struct trace *t, unsigned flags, bool client)
{
    static const char *const methods[] = { "GET", "HEAD", "POST", "CONNECT" };
    struct mz_http1_opts o = trace_opts();
    o.enable_trailers = flags & 1;
    o.accept_http10 = flags & 2;
    o.allow_chunked_length = flags & 4;
    o.header_case = flags & 8 ? MZ_CASE_PRESERVE : MZ_CASE_LOWER;
    o.allow_custom_methods = flags & 16;
    o.underscores = flags & 32 ? MZ_UNDERSCORE_DROP : MZ_UNDERSCORE_ALLOW;
    trace_init(t, client, o);
    t->reset_at = flags & 0x80 ? 3 : 0;
    if (client)
        trace_request(t, methods[flags >> 4 & 3], flags & 64);
}

/* Parts of 1 to @max bytes by a small generator; 0: at once. Each part in a block of its own, so that overreads are seen. */
static inline void split_feed(struct trace *t, const uint8_t *p, size_t n, unsigned max)
{
    unsigned seed = max;
    enum mz_codec_status s = MZ_CODEC_OK;
    for (size_t at = 0; at < n && s == MZ_CODEC_OK;) {
        seed = seed * 1103515245u + 12345u;
        size_t m = max ? 1 + (seed >> 16) % max : n;
        m = m < n - at ? m : n - at;
        char *part = malloc(m);
        memcpy(part, p + at, m);
        s = trace_feed(t, part, m, t->client && at + m == n);
        free(part);
        at += m;
    }
}

static inline void split_same(struct mz_buf *whole, struct mz_buf *parts)
{
    struct mz_str a = trace_text(whole), b = trace_text(parts);
    if (mz_str_eq(a, b))
        return;
    fprintf(stderr, "at once: " MZ_STR_FMT "\nin parts: " MZ_STR_FMT "\n", MZ_STR_ARG(a),
            MZ_STR_ARG(b));
    abort();
}

static inline int split_fuzz(const uint8_t *p, size_t n, bool client)
{
    struct trace whole, parts;
    if (n < 2)
        return 0;
    split_begin(&whole, p[0], client);
    split_feed(&whole, p + 2, n - 2, 0);
    split_begin(&parts, p[0], client);
    split_feed(&parts, p + 2, n - 2, p[1] % 64 + 1);
    if (!whole.reset_at) { /* how many callbacks a body takes does depend on the split */
        split_same(&whole.events, &parts.events);
        split_same(&whole.out, &parts.out);
    }
    trace_fini(&whole);
    trace_fini(&parts);
    return 0;
}
#endif
