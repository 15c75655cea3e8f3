/*
 * Ring hash (U2): ketama's ring as Envoy builds it, point for point, so that both send a key to the same host. A host has
 * points in proportion to its weight; point i of it is the hash of "<key>_<i>".
 */
#include "base/log.h"
#include "upstream/upstream_priv.h"
#include <math.h>
#include <stdlib.h>

static const struct mz_stat_def defs[] = {
    { "size", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    { "min_hashes_per_host", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    { "max_hashes_per_host", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind ring_stats = { "ring_hash_lb", defs, MZ_COUNT(defs) };

static int by_hash(const void *a, const void *b)
{
    const struct ring_point *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->member > y->member) - (x->member < y->member);
}

struct point_key { /* "<key>_" with room for a number */
    char *text;
    size_t n;
};

static struct point_key key_create(struct mz_str key)
{
    struct point_key k = { mz_alloc0(MZ_MEM_UPSTREAM, key.n + 21), key.n };
    if (key.n)
        memcpy(k.text, key.p, key.n);
    k.text[k.n++] = '_';
    return k;
}

static uint64_t point_hash(const struct hash_config *c, struct point_key *k, uint64_t i)
{
    size_t n = k->n + mz_u64_text(i, k->text + k->n);
    return c->function == HASH_MURMUR2 ? mz_murmur2(k->text, n, MZ_MURMUR_SEED)
                                       : mz_xxh64(k->text, n, 0);
}

/* The host of least weight gets a whole number of points; running sums give the others theirs. */
static void build(const struct hash_config *c, struct hash_table *t)
{
    double scale = ceil(t->least * (double)c->min_size) / t->least;
    scale = scale < (double)c->max_size ? scale : (double)c->max_size;
    uint32_t size = (uint32_t)ceil(scale);
    double made = 0, wanted = 0;
    /* sums of fractions may end one above the whole */
    t->ring = mz_newn0(MZ_MEM_UPSTREAM, struct ring_point, (size_t)size + 1);
    t->fewest = size;
    for (uint32_t m = 0; m < t->n_members; m++) {
        struct point_key key = key_create(hash_key(c, t->members[m].host));
        uint64_t i = 0;
        wanted += scale * t->members[m].weight;
        while (made < wanted && t->n <= size) {
            t->ring[t->n++] = (struct ring_point){ point_hash(c, &key, i++), m };
            made++;
        }
        mz_free(MZ_MEM_UPSTREAM, key.text);
        t->fewest = i < t->fewest ? i : t->fewest;
        t->peak = i > t->peak ? i : t->peak;
    }
    qsort(t->ring, t->n, sizeof(t->ring[0]), by_hash);
}

/* The first point at or behind @hash, round the ring; each further attempt goes one point on. */
static uint32_t find(const struct hash_table *t, uint64_t hash, uint32_t attempt)
{
    uint32_t low = 0, n = t->n;
    MZ_ASSERT(n);
    while (n) {
        uint32_t half = n / 2;
        if (t->ring[low + half].hash < hash) {
            low += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return t->ring[(low % t->n + (uint64_t)attempt) % t->n].member;
}

const struct lb_type lb_ring_hash = {
    .name = "ring hash",
    .stats = &ring_stats,
    .stats_prefix = "ring_hash_lb.",
    .build = build,
    .find = find,
};
