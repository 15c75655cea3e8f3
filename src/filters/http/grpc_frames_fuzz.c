/* Any bytes, cut anywhere, count the same; and as many as a reader with the whole in hand finds. */
#include "base/log.h"
#include "filters/http/grpc_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t plainly(const uint8_t *p, size_t n)
{
    uint64_t count = 0;
    while (n) {
        count++;
        if (n < 5)
            break;
        uint64_t len = (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4];
        size_t take = len + 5 < n ? (size_t)len + 5 : n;
        p += take;
        n -= take;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grpc_frames whole = { 0 }, single = { 0 }, pieces = { 0 };
    if (!size)
        return 0;
    size_t step = data[0] + 1u; /* the first byte says how the rest is cut */
    data++;
    size--;
    (void)grpc_frames_pass_bytes(&whole, data, size); /* the counts are looked at below */
    for (size_t i = 0; i < size; i++)
        (void)grpc_frames_pass_bytes(&single, data + i, 1);
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < size; i += step) {
        mz_buf_append(&b, data + i, size - i < step ? size - i : step);
        if (i / step % 3 == 0) {
            (void)grpc_frames_pass(&pieces, &b);
            mz_buf_drain(&b, mz_buf_len(&b));
        }
    }
    (void)grpc_frames_pass(&pieces, &b);
    mz_buf_fini(&b);
    MZ_ASSERT(whole.count == plainly(data, size));
    MZ_ASSERT(single.count == whole.count && pieces.count == whole.count);
    MZ_ASSERT(single.left == whole.left && pieces.left == whole.left && pieces.head == whole.head);
    return 0;
}
