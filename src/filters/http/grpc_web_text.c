#include "filters/http/grpc_web_text.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One group of four; 0: it is none, else the number of bytes. */
static unsigned group(const unsigned char in[4], unsigned char out[3])
{
    unsigned pad = in[3] == '=' ? in[2] == '=' ? 2 : 1 : 0;
    uint32_t bits = 0;
    for (unsigned i = 0; i < 4; i++) {
        int v = i < 4 - pad ? value_of(in[i]) : 0;
        if (v < 0)
            return 0;
        bits = bits << 6 | (uint32_t)v;
    }
    if (bits & (pad == 1 ? 0xff : pad == 2 ? 0xffff : 0)) /* bits behind the last byte */
        return 0;
    out[0] = (unsigned char)(bits >> 16);
    out[1] = (unsigned char)(bits >> 8);
    out[2] = (unsigned char)bits;
    return 3 - pad;
}

bool grpc_web_decode(struct grpc_web_decoder *d, struct mz_buf *data, bool end, bool *out_short)
{
    size_t len = mz_buf_len(data);
    struct mz_buf out;
    bool ok = true, padded = false;
    mz_buf_init(&out);
    *out_short = end && (d->n + len) % 4 != 0;
    while (len && ok && !*out_short) {
        struct mz_str piece = mz_buf_first(data);
        for (size_t i = 0; i < piece.n && ok; i++) {
            unsigned char bytes[3];
            d->held[d->n++] = (unsigned char)piece.p[i];
            if (d->n < 4)
                continue;
            unsigned n = group(d->held, bytes);
            ok = n && !padded; /* padding ends a piece */
            padded = n < 3;
            d->n = 0;
            mz_buf_append(&out, bytes, n);
        }
        len -= piece.n;
        mz_buf_drain(data, piece.n);
    }
    if (!mz_buf_len(data))
        mz_buf_move_all(data, &out);
    mz_buf_fini(&out);
    return ok && !*out_short;
}

static void put(struct mz_buf *out, const unsigned char in[3], unsigned n)
{
    unsigned char b[3] = { in[0], n > 1 ? in[1] : 0, n > 2 ? in[2] : 0 };
    const char text[4] = { alphabet[b[0] >> 2], alphabet[(b[0] & 3) << 4 | b[1] >> 4],
                           n > 1 ? alphabet[(b[1] & 15) << 2 | b[2] >> 6] : '=',
                           n > 2 ? alphabet[b[2] & 63] : '=' };
    mz_buf_append(out, text, sizeof(text));
}

static void flush(struct grpc_web_encoder *e, struct mz_buf *out)
{
    if (e->n)
        put(out, e->held, e->n);
    e->n = 0;
}

static void one(struct grpc_web_encoder *e, unsigned char c, struct mz_buf *out)
{
    e->held[e->n++] = c;
    if (e->n == 3)
        flush(e, out);
}

void grpc_web_encode(struct grpc_web_encoder *e, struct mz_buf *data)
{
    struct mz_buf out;
    mz_buf_init(&out);
    while (mz_buf_len(data)) {
        struct mz_str piece = mz_buf_first(data);
        for (size_t i = 0; i < piece.n; i++) {
            unsigned char c = (unsigned char)piece.p[i];
            one(e, c, &out);
            if (e->head < 5) {
                e->size = e->head ? e->size << 8 | c : 0; /* flags, then the length */
                e->left = ++e->head == 5 ? e->size : 1;
            } else {
                e->left--;
            }
            if (e->head == 5 && !e->left) {
                flush(e, &out);
                e->head = 0;
            }
        }
        mz_buf_drain(data, piece.n);
    }
    mz_buf_move_all(data, &out);
    mz_buf_fini(&out);
}

void grpc_web_encode_all(struct mz_buf *data)
{
    struct grpc_web_encoder e = { .head = 5, .left = mz_buf_len(data) };
    if (e.left)
        grpc_web_encode(&e, data);
}
