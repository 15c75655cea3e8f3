/* Bytes of both directions in pieces: the same messages as in one piece, and no more than the bytes could hold. */
#include "base/alloc.h"
#include "filters/network/mongo_decode.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    size_t messages;
    unsigned broken;
    uint64_t sum;
};

static void on_message(void *arg, const struct mongo_message *m)
{
    struct heard *h = arg;
    h->messages++;
    h->sum = h->sum * 31 + (uint64_t)m->op + m->flags + (uint64_t)m->get + m->documents + m->bytes +
             mz_xxh64(m->command.p, m->command.n, 1) +
             mz_xxh64(m->collection.p, m->collection.n, 2);
}

static void on_broken(void *arg)
{
    ((struct heard *)arg)->broken++;
}

/* First byte of a record: direction and length (0..127); @piece 0: whole. */
static struct heard play(const uint8_t *d, size_t n, size_t piece)
{
    struct heard h = { 0 };
    struct mongo m = { .message = on_message, .broken = on_broken, .arg = &h };
    while (n) {
        size_t len = d[0] >> 1, part = len < n - 1 ? len : n - 1;
        for (size_t at = 0; at < part;) {
            size_t step = piece && piece < part - at ? piece : part - at;
            mongo_feed(&m, d[0] & 1, (const char *)d + 1 + at, step);
            at += step;
        }
        d += 1 + part;
        n -= 1 + part;
    }
    mongo_fini(&m);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole = play(data, size, 0), bytes = play(data, size, 1);
    if (whole.messages != bytes.messages || whole.sum != bytes.sum ||
        whole.broken != bytes.broken || whole.messages > size / 16 || whole.broken > 1)
        abort();
    return 0;
}
