#include "filters/http/grpc_frames.h"

uint64_t grpc_frames_pass_bytes(struct grpc_frames *f, const void *p, size_t n)
{
    const uint8_t *at = p, *end = at + n;
    uint64_t before = f->count;
    while (at < end) {
        if (f->left) {
            size_t skip = (size_t)(end - at) < f->left ? (size_t)(end - at) : f->left;
            f->left -= (uint32_t)skip;
            at += skip;
            continue;
        }
        if (f->head == 0) /* the flag: whatever it says */
            f->count++;
        else
            f->length = f->length << 8 | *at;
        at++;
        if (++f->head == 5) {
            f->left = f->length;
            f->length = 0;
            f->head = 0;
        }
    }
    return f->count - before;
}

uint64_t grpc_frames_pass(struct grpc_frames *f, const struct mz_buf *data)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < data->n; i++) {
        const struct mz_frag *part = mz_buf_frag(data, i);
        n += grpc_frames_pass_bytes(f, part->p, part->n);
    }
    return n;
}
