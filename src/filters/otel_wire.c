#include "filters/otel_wire.h"

#include "proto/tree.h"
#include "proto/wire.h"

enum { ANY_STRING = 1, KV_KEY = 1, KV_VALUE = 2 };

void otel_put_message(struct mz_buf *out, unsigned field, struct mz_buf *take)
{
    mz_wire_put_head(out, field, mz_buf_len(take));
    mz_buf_move_all(out, take);
    mz_buf_fini(take);
}

static void put_repaired(struct mz_buf *out, struct mz_str text)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, text);
    struct mz_str s = mz_buf_linearize(&b, mz_buf_len(&b));
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] >= 0x80)
            ((char *)(uintptr_t)s.p)[i] = '!';
    mz_wire_put_bytes(out, ANY_STRING, s);
    mz_buf_fini(&b);
}

void otel_put_string(struct mz_buf *out, struct mz_str text)
{
    if (mz_utf8_valid(text))
        mz_wire_put_bytes(out, ANY_STRING, text);
    else
        put_repaired(out, text);
}

void otel_put_pair(struct mz_buf *out, unsigned field, struct mz_str key, struct mz_str text)
{
    struct mz_buf pair, value;
    mz_buf_init(&pair);
    mz_buf_init(&value);
    otel_put_string(&value, text);
    mz_wire_put_bytes(&pair, KV_KEY, key);
    otel_put_message(&pair, KV_VALUE, &value);
    otel_put_message(out, field, &pair);
}

void otel_put_time(struct mz_buf *out, unsigned field, uint64_t wall_us)
{
    unsigned char bytes[9] = { (unsigned char)(field << 3 | 1) };
    uint64_t ns = wall_us * 1000;
    for (unsigned i = 0; i < 8; i++)
        bytes[1 + i] = (unsigned char)(ns >> (8 * i));
    mz_buf_append(out, bytes, sizeof(bytes));
}
