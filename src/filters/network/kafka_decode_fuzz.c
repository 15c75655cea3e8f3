/* Bytes of both directions in pieces: the same messages as in one piece; no response without its request. */
#include "filters/network/kafka_decode.h"

#include "base/alloc.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    size_t requests, responses;
    unsigned broken;
    uint64_t sum;
};

static void on_message(void *arg, const struct kafka_message *m)
{
    struct heard *h = arg;
    *(m->request ? &h->requests : &h->responses) += 1;
    h->sum = h->sum * 31 + (uint64_t)m->key * 7 + (uint64_t)m->version + m->known + m->took_us;
    if (h->responses > h->requests || (m->known && (m->key < 0 || m->key >= KAFKA_N_APIS)))
        abort();
}

static void on_broken(void *arg, bool from_client)
{
    unsigned *b = &((struct heard *)arg)->broken;
    if (*b & 1u << from_client)
        abort();
    *b |= 1u << from_client;
}

/* First byte of a record: direction and length (0..127); @piece 0: whole. */
static struct heard play(const uint8_t *d, size_t n, size_t piece)
{
    struct heard h = { 0 };
    struct kafka k = { .message = on_message, .broken = on_broken, .arg = &h };
    while (n) {
        size_t len = d[0] >> 1, part = len < n - 1 ? len : n - 1;
        for (size_t at = 0; at < part;) {
            size_t step = piece && piece < part - at ? piece : part - at;
            kafka_feed(&k, d[0] & 1, (const char *)d + 1 + at, step, 5);
            at += step;
        }
        d += 1 + part;
        n -= 1 + part;
    }
    if (k.n_open > KAFKA_OPEN_MAX)
        abort();
    kafka_fini(&k);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole = play(data, size, 0), bytes = play(data, size, 1);
    if (whole.requests != bytes.requests || whole.responses != bytes.responses ||
        whole.sum != bytes.sum || whole.broken != bytes.broken || whole.requests > size / 12)
        abort();
    return 0;
}
