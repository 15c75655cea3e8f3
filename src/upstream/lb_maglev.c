/*
 * Maglev (U2): the table of "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4, with weights as Envoy
 * adds them. Each host walks a permutation of the slots of its own; in each round a host takes its next free slot, or waits
 * until rounds enough for its weight went by.
 */
#include "upstream/upstream_priv.h"

static const struct mz_stat_def defs[] = {
    { "min_entries_per_host", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    { "max_entries_per_host", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind maglev_stats = { "maglev_lb", defs, MZ_COUNT(defs) };

#define FREE UINT32_MAX
struct walker {
    uint32_t at, skip; /* next slot, and how far the one behind it is */
    uint32_t taken;
    double target;
};

static void walker_init(struct walker *w, struct mz_str key, uint64_t size)
{
    *w = (struct walker){ .at = (uint32_t)(mz_xxh64(key.p, key.n, 0) % size),
                          .skip = (uint32_t)(mz_xxh64(key.p, key.n, 1) % (size - 1) + 1) };
}

static uint32_t walker_step(struct walker *w, uint32_t size)
{
    uint32_t at = w->at;
    w->at = at >= size - w->skip ? at - (size - w->skip) : at + w->skip;
    return at;
}

static void fill(struct hash_table *t, struct walker *walkers)
{
    uint32_t left = t->n;
    for (uint64_t round = 1; left; round++) {
        for (uint32_t m = 0; m < t->n_members && left; m++) {
            struct walker *w = &walkers[m];
            if ((double)round * t->members[m].weight < w->target)
                continue;
            w->target += t->most;
            uint32_t at = walker_step(w, t->n);
            while (t->slots[at] != FREE)
                at = walker_step(w, t->n);
            t->slots[at] = m;
            w->taken++;
            left--;
        }
    }
}

static void build(const struct hash_config *c, struct hash_table *t)
{
    t->n = (uint32_t)c->table_size;
    t->slots = mz_newn0(MZ_MEM_UPSTREAM, uint32_t, t->n);
    memset(t->slots, 0xff, t->n * sizeof(t->slots[0]));
    struct walker *walkers = mz_newn0(MZ_MEM_UPSTREAM, struct walker, t->n_members);
    for (uint32_t m = 0; m < t->n_members; m++)
        walker_init(&walkers[m], hash_key(c, t->members[m].host), t->n);
    fill(t, walkers);
    t->fewest = t->n;
    for (uint32_t m = 0; m < t->n_members; m++) {
        t->fewest = walkers[m].taken < t->fewest ? walkers[m].taken : t->fewest;
        t->peak = walkers[m].taken > t->peak ? walkers[m].taken : t->peak;
    }
    mz_free(MZ_MEM_UPSTREAM, walkers);
}

/* A further attempt changes most bits of the hash, as Envoy does, so that the retries of one host spread. */
static uint32_t find(const struct hash_table *t, uint64_t hash, uint32_t attempt)
{
    if (attempt)
        hash ^= UINT64_MAX - attempt + 1;
    return t->slots[hash % t->n];
}

const struct lb_type lb_maglev = {
    .name = "maglev",
    .stats = &maglev_stats,
    .stats_prefix = "maglev_lb.",
    .build = build,
    .find = find,
};
