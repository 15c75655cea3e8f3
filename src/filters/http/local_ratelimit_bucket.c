#include "filters/http/local_ratelimit.h"

/* Tables of token buckets (H9). */

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

token_bucket *lrl_table_get(struct lrl_table *t, uint64_t hash)
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
            bucket_fill(&s->bucket);
        __atomic_store_n(&s->used, __atomic_add_fetch(&t->clock, 1, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
        return &s->bucket;
    }
}
