#include "filters/http/local_ratelimit.h"

#include <math.h>

/* Token buckets without a lock or a timer, and tables of them (H9). */

/* Sums of doubles may be off by less than this many tokens. */
#define CLOSE 1e-6
/* A bucket that was empty then is full: loops' clocks differ by their turns, so now would be too exact. */
#define LONG_AGO -1e15

static double load(const lrl_bucket *b)
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

static double tokens(double empty_at, const struct lrl_rate *r, uint64_t now_us)
{
    double n = (seconds(now_us) - empty_at) * r->per_s;
    return n < 0 ? 0 : n > r->max ? r->max : n;
}

void lrl_fill(lrl_bucket *b)
{
    __atomic_store_n(b, bits_of(LONG_AGO), __ATOMIC_RELAXED);
}

bool lrl_take(lrl_bucket *b, const struct lrl_rate *r, uint64_t n, uint64_t now_us)
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

uint64_t lrl_left(const lrl_bucket *b, const struct lrl_rate *r, uint64_t now_us)
{
    return (uint64_t)(tokens(load(b), r, now_us) + CLOSE);
}

uint64_t lrl_wait_s(const lrl_bucket *b, const struct lrl_rate *r, uint64_t now_us)
{
    double have = tokens(load(b), r, now_us);
    return have + CLOSE >= 1 ? 0 : (uint64_t)ceil((1 - have) / r->per_s - CLOSE);
}

/* ---- tables ---- */

static void shape(uint32_t max, uint32_t *sets, uint32_t *ways)
{
    *sets = max > LRL_WAYS ? max / (LRL_WAYS / 4) : 1;
    *ways = max > LRL_WAYS ? LRL_WAYS / 4 : max;
}

size_t lrl_table_bytes(uint32_t max)
{
    uint32_t sets, ways;
    shape(max, &sets, &ways);
    return sizeof(struct lrl_table) + mz_mul((size_t)sets * ways, sizeof(struct lrl_slot));
}

void lrl_table_init(struct lrl_table *t, uint32_t max)
{
    shape(max, &t->sets, &t->ways);
}

/* The slot of the key, or the one that gives way; *out_found tells which. */
static struct lrl_slot *look(struct lrl_slot *set, uint32_t ways, uint64_t key, bool *out_found)
{
    struct lrl_slot *oldest = set;
    uint64_t least = UINT64_MAX;
    *out_found = true;
    for (uint32_t i = 0; i < ways; i++) {
        if (__atomic_load_n(&set[i].key, __ATOMIC_RELAXED) == key)
            return &set[i];
        uint64_t used = __atomic_load_n(&set[i].used, __ATOMIC_RELAXED);
        if (used < least) {
            least = used;
            oldest = &set[i];
        }
    }
    *out_found = false;
    return oldest;
}

lrl_bucket *lrl_table_get(struct lrl_table *t, uint64_t hash)
{
    uint64_t key = hash ? hash : 1;
    struct lrl_slot *set = &t->v[(size_t)(key % t->sets) * t->ways];
    for (;;) {
        bool found;
        struct lrl_slot *s = look(set, t->ways, key, &found);
        uint64_t old = __atomic_load_n(&s->key, __ATOMIC_RELAXED);
        if (!found &&
            (old == key || !__atomic_compare_exchange_n(&s->key, &old, key, false, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED)))
            continue; /* another worker took that place: look again */
        if (!found)
            lrl_fill(&s->bucket);
        __atomic_store_n(&s->used, __atomic_add_fetch(&t->clock, 1, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
        return &s->bucket;
    }
}
