#include "filters/http/fault.h"

/* The token bucket of a slow answer (H9). */

void fault_bucket_init(struct fault_bucket *b, uint64_t kib_per_s, uint64_t now_us)
{
    uint64_t rate = kib_per_s * 1024;
    *b = (struct fault_bucket){ .rate = rate,
                                .have = rate * FAULT_TICK_MS / 1000,
                                .last_us = now_us };
}

static void refill(struct fault_bucket *b, uint64_t now_us)
{
    if (now_us <= b->last_us)
        return;
    uint64_t passed = now_us - b->last_us;
    if (passed >= 1000000) {
        b->have = b->rate;
        b->last_us = now_us;
        return;
    }
    uint64_t new = b->rate *passed / 1000000;
    if (!new)
        return; /* the time is kept until it makes a byte */
    b->have = b->have + new < b->rate ? b->have + new : b->rate;
    b->last_us = now_us;
}

uint64_t fault_bucket_take(struct fault_bucket *b, uint64_t want, uint64_t now_us)
{
    refill(b, now_us);
    uint64_t n = want < b->have ? want : b->have;
    b->have -= n;
    return n;
}
