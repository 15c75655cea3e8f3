/* Text of gRPC-Web, any bytes in pieces of any size: decoding takes what a whole decoder takes, encoding is undone by decoding. */
#include "base/log.h"
#include "filters/http/grpc_web_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void append_all(struct mz_buf *to, struct mz_buf *from)
{
    mz_buf_move_all(to, from);
}

/* @step bytes at a time; false: refused. */
static bool decode(const uint8_t *data, size_t size, size_t step, struct mz_buf *out)
{
    struct grpc_web_decoder d = { .n = 0 };
    bool too_short;
    for (size_t i = 0; i < size; i += step) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_append(&b, data + i, size - i < step ? size - i : step);
        bool ok = grpc_web_decode(&d, &b, size - i <= step, &too_short);
        append_all(out, &b);
        mz_buf_fini(&b);
        if (!ok)
            return false;
    }
    return true;
}

static void there_and_back(const uint8_t *data, size_t size, size_t step)
{
    struct grpc_web_encoder e = { .n = 0 };
    struct mz_buf text, back;
    mz_buf_init(&text);
    mz_buf_init(&back);
    for (size_t i = 0; i < size; i += step) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_append(&b, data + i, size - i < step ? size - i : step);
        grpc_web_encode(&e, &b);
        append_all(&text, &b);
        mz_buf_fini(&b);
    }
    size_t n = mz_buf_len(&text);
    struct mz_str all = mz_buf_linearize(&text, n);
    MZ_ASSERT(n % 4 == 0 && decode((const uint8_t *)all.p, n, 4, &back));
    size_t m = mz_buf_len(&back); /* the rest of an unfinished frame waits */
    MZ_ASSERT(m <= size && size - m < 3);
    MZ_ASSERT(!m || memcmp(mz_buf_linearize(&back, m).p, data, m) == 0);
    mz_buf_fini(&text);
    mz_buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_buf one, whole;
    if (!size)
        return 0;
    size_t step = data[0] % 17 + 1;
    data++;
    size--;
    mz_buf_init(&one);
    mz_buf_init(&whole);
    bool a = decode(data, size, step, &one), b = decode(data, size, size ? size : 1, &whole);
    if (b) { /* padding may stand between pieces, not within one */
        size_t n = mz_buf_len(&whole);
        MZ_ASSERT(a && mz_buf_len(&one) == n);
        MZ_ASSERT(!n || memcmp(mz_buf_linearize(&one, n).p, mz_buf_linearize(&whole, n).p, n) == 0);
    }
    mz_buf_fini(&one);
    mz_buf_fini(&whole);
    there_and_back(data, size, step);
    return 0;
}
