/* Bytes in one piece and byte by byte are the same values; what was read can be written and read again. */
#include "filters/redis/resp.h"

#include "base/alloc.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All values of @d, written one after another to @out; returns how it ended. */
static enum resp_result play(const uint8_t *d, size_t n, size_t piece, bool commands,
                             struct mz_buf *out)
{
    struct resp_decoder dec = { .commands = commands };
    enum resp_result r = RESP_MORE;
    for (size_t at = 0; at < n && r != RESP_BROKEN;) {
        size_t part = piece && piece < n - at ? piece : n - at;
        struct mz_buf in;
        mz_buf_init(&in);
        mz_buf_append(&in, d + at, part);
        at += part;
        for (;;) {
            struct mz_arena *a;
            const struct resp_value *v;
            r = resp_decode(&dec, &in, &a, &v);
            if (r != RESP_VALUE)
                break;
            resp_encode(out, v);
            mz_arena_destroy(a);
        }
        mz_buf_fini(&in);
    }
    resp_fini(&dec);
    return r;
}

static bool same(struct mz_buf *a, struct mz_buf *b)
{
    size_t n = mz_buf_len(a);
    struct mz_str x = mz_buf_linearize(a, n), y = mz_buf_linearize(b, mz_buf_len(b));
    return mz_str_eq(x, y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct mz_buf whole, bytes, again;
    mz_buf_init(&whole);
    mz_buf_init(&bytes);
    mz_buf_init(&again);
    bool commands = data[0] & 1;
    enum resp_result a = play(data + 1, size - 1, 0, commands, &whole),
                     b = play(data + 1, size - 1, 1, commands, &bytes);
    if (a != b || !same(&whole, &bytes))
        abort();
    size_t n = mz_buf_len(&whole);
    struct mz_str s = mz_buf_linearize(&whole, n);
    if (play((const uint8_t *)s.p, s.n, 0, false, &again) == RESP_BROKEN || !same(&whole, &again))
        abort();
    mz_buf_fini(&whole);
    mz_buf_fini(&bytes);
    mz_buf_fini(&again);
    return 0;
}
