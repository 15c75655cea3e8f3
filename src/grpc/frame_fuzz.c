/* Messages out of frames: however the input is cut, the same messages and the same end; never more kept than allowed. */
#include "grpc/frame.h"

#include <stdlib.h>
#include <string.h>

#define MAX 300

struct seen {
    uint64_t hash;
    unsigned messages;
    enum mz_grpc_frame end;
    bool idle;
};

static void note(struct seen *s, struct mz_buf *m)
{
    struct mz_str bytes = mz_buf_linearize(m, mz_buf_len(m));
    for (size_t i = 0; i < bytes.n; i++)
        s->hash = (s->hash ^ (unsigned char)bytes.p[i]) * 0x100000001b3ull;
    s->hash = s->hash * 31 + bytes.n;
    s->messages++;
    if (bytes.n > MAX)
        abort();
    mz_buf_fini(m);
}

static struct seen decode(const uint8_t *data, size_t size, size_t piece)
{
    struct seen s = { .end = MZ_GRPC_FRAME_MORE };
    struct mz_grpc_decoder d;
    struct mz_buf in;
    mz_grpc_decoder_init(&d);
    mz_buf_init(&in);
    for (size_t at = 0; at < size && s.end == MZ_GRPC_FRAME_MORE; at += piece) {
        mz_buf_append(&in, data + at, size - at < piece ? size - at : piece);
        while ((s.end = mz_grpc_decode(&d, &in, MAX)) == MZ_GRPC_FRAME_MESSAGE)
            note(&s, &d.message);
    }
    s.idle = mz_grpc_decoder_idle(&d);
    mz_buf_fini(&in);
    mz_grpc_decoder_fini(&d);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const struct seen whole = decode(data, size, size), single = decode(data, size, 1),
                      some = decode(data, size, 1 + data[0] % 7);
    if (whole.hash != single.hash || whole.messages != single.messages || whole.end != single.end ||
        whole.hash != some.hash || whole.messages != some.messages || whole.end != some.end)
        abort();
    return 0;
}
