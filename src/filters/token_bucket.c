#include "filters/token_bucket.h"

#include <math.h>
#include <string.h>

/* Token buckets without a lock or a timer (L5, H9). */

/* Sums of doubles may be off by less than this many tokens. */
#define CLOSE 1e-6
/* A bucket that was empty then is full: loops' clocks differ by their turns, so now would be too exact. */
#define LONG_AGO -1e15

static double load(const token_bucket *b)
{
    uint64_t bits = __atomic_load_n(b, __ATOMIC_RELAXED);
    double at;
    memcpy(&at, &bits, sizeof(at));
    return at;
}

static uint64_t bits_of(double at)
{
    uint64_t bits;
    memcpy(&bits, &at, sizeof(bits));
    return bits;
}

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static double tokens(double empty_at, const struct bucket_rate *r, uint64_t now_us)
{
    double n = (seconds(now_us) - empty_at) * r->per_s;
    return n < 0 ? 0 : n > r->max ? r->max : n;
}

void bucket_fill(token_bucket *b)
{
    __atomic_store_n(b, bits_of(LONG_AGO), __ATOMIC_RELAXED);
}

bool bucket_take(token_bucket *b, const struct bucket_rate *r, uint64_t n, uint64_t now_us)
{
    for (;;) {
        double at = load(b), have = tokens(at, r, now_us);
        if (n == 0 || have + CLOSE < (double)n)
            return false;
        uint64_t old = bits_of(at);
        uint64_t wanted = bits_of(seconds(now_us) - (have - (double)n) / r->per_s);
        if (__atomic_compare_exchange_n(b, &old, wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return true;
    }
}

uint64_t bucket_left(const token_bucket *b, const struct bucket_rate *r, uint64_t now_us)
{
    return (uint64_t)(tokens(load(b), r, now_us) + CLOSE);
}

uint64_t bucket_wait_s(const token_bucket *b, const struct bucket_rate *r, uint64_t now_us)
{
    double have = tokens(load(b), r, now_us);
    return have + CLOSE >= 1 ? 0 : (uint64_t)ceil((1 - have) / r->per_s - CLOSE);
}
