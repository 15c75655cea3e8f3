#include "grpc/frame.h"

#include <protobuf-c/protobuf-c.h>

void mz_grpc_decoder_init(struct mz_grpc_decoder *d)
{
    *d = (struct mz_grpc_decoder){ .have = 0 };
    mz_buf_init(&d->message);
}

void mz_grpc_decoder_fini(struct mz_grpc_decoder *d)
{
    mz_buf_fini(&d->message);
}

bool mz_grpc_decoder_idle(const struct mz_grpc_decoder *d)
{
    return d->have == 0;
}

static uint32_t length_of(const unsigned char *p)
{
    return (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
}

/* Envoy takes the flag of compression where there is nothing to decompress. */
static bool flag_is_fine(const unsigned char *p)
{
    return p[0] == 0 || (p[0] == 1 && length_of(p) == 0);
}

enum mz_grpc_frame mz_grpc_decode(struct mz_grpc_decoder *d, struct mz_buf *in, uint32_t max)
{
    if (d->have < MZ_GRPC_PREFIX) {
        size_t n = mz_buf_copyout(in, 0, d->prefix + d->have, MZ_GRPC_PREFIX - d->have);
        mz_buf_drain(in, n);
        d->have = (uint8_t)(d->have + n);
        if (d->have < MZ_GRPC_PREFIX)
            return MZ_GRPC_FRAME_MORE;
        d->left = length_of(d->prefix);
        if (!flag_is_fine(d->prefix))
            return MZ_GRPC_FRAME_INVALID;
        if (max && d->left > max)
            return MZ_GRPC_FRAME_TOO_LARGE;
    }
    size_t n = mz_buf_len(in) < d->left ? mz_buf_len(in) : d->left;
    mz_buf_move(&d->message, in, n);
    d->left -= (uint32_t)n;
    if (d->left)
        return MZ_GRPC_FRAME_MORE;
    d->have = 0;
    return MZ_GRPC_FRAME_MESSAGE;
}

void mz_grpc_prefix(unsigned char out[MZ_GRPC_PREFIX], uint32_t n)
{
    out[0] = 0;
    for (unsigned i = 0; i < 4; i++)
        out[1 + i] = (unsigned char)(n >> (24 - 8 * i));
}

struct buf_sink { /* packs straight into a buffer */
    ProtobufCBuffer base;
    struct mz_buf *out;
};

static void sink_append(ProtobufCBuffer *b, size_t n, const uint8_t *p)
{
    mz_buf_append(((struct buf_sink *)(void *)b)->out, p, n);
}

void mz_grpc_frame_append(struct mz_buf *out, const struct ProtobufCMessage *msg)
{
    unsigned char prefix[MZ_GRPC_PREFIX];
    struct buf_sink sink = { { sink_append }, out };
    mz_grpc_prefix(prefix, (uint32_t)protobuf_c_message_get_packed_size(msg));
    mz_buf_append(out, prefix, sizeof(prefix));
    (void)protobuf_c_message_pack_to_buffer(msg, &sink.base);
}
