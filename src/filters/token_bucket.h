#ifndef MZ_FILTERS_TOKEN_BUCKET_H
#define MZ_FILTERS_TOKEN_BUCKET_H
/* Token buckets that refill by the time that passes: one number each, atomic, no lock, no timer. */
#include <stdbool.h>
#include <stdint.h>

struct bucket_rate { /* immutable */
    double max, per_s;
};
/* State of a bucket: bits of a double, the second (of the loop's clock) at which it was empty. */
typedef uint64_t token_bucket;
void bucket_fill(token_bucket *b);
/* Takes @n tokens when they are there. None are never there, as in Envoy. */
bool bucket_take(token_bucket *b, const struct bucket_rate *r, uint64_t n, uint64_t now_us);
uint64_t bucket_left(const token_bucket *b, const struct bucket_rate *r, uint64_t now_us);
uint64_t bucket_wait_s(const token_bucket *b, const struct bucket_rate *r, uint64_t now_us); /* until there is one; 0: now */
#endif
