/* Tables of the policies that hash (U2): whose hosts with which weights, made once, and a choice that bounds each host's load. */
#include "upstream/upstream_priv.h"
#include <math.h>

static uint64_t read_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint64_t mz_murmur2(const void *p, size_t n, uint64_t seed)
{
    const uint64_t mul = 0xc6a4a7935bd1e995u;
    const unsigned char *at = p;
    uint64_t h = seed ^ (n * mul);
    for (; n >= 8; n -= 8, at += 8) {
        uint64_t v = read_le(at, 8) * mul;
        h = (h ^ ((v ^ v >> 47) * mul)) * mul;
    }
    if (n)
        h = (h ^ read_le(at, n)) * mul;
    h = (h ^ h >> 47) * mul;
    return h ^ h >> 47;
}

struct mz_str hash_key(const struct hash_config *c, const struct mz_host *h)
{
    static const struct mz_str key = MZ_STR_INIT("hash_key");
    const struct mz_value *v =
        h->metadata ? mz_meta_get(h->metadata, MZ_STR("envoy.lb"), &key, 1) : NULL;
    if (v && v->kind == MZ_VALUE_STRING && v->str.n)
        return v->str;
    if (c->use_hostname && h->hostname.n)
        return h->hostname;
    return (struct mz_str){ h->addr_text, h->addr_text_n };
}

/* ---- members and their weights ---- */

static void members_add(struct hash_table *t, const struct host_list *l, double share)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->n; i++)
        sum += weight_of_host(l->v[i]);
    for (uint32_t i = 0; i < l->n; i++) {
        double w = weight_of_host(l->v[i]) * share / (double)sum;
        t->members[t->n_members++] = (struct hash_member){ l->v[i], w };
        t->least = w < t->least ? w : t->least;
        t->most = w > t->most ? w : t->most;
    }
}

static uint64_t locality_weights(const struct host_set *set)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; set->localities && i < set->n_localities; i++)
        sum += set->localities[i].weight;
    return sum;
}

static struct hash_table *table_create(const struct lb_config *cfg, const struct host_set *set,
                                       enum source s)
{
    struct hash_table *t = mz_new0(MZ_MEM_UPSTREAM, struct hash_table);
    uint64_t weights = cfg->locality_weighted ? locality_weights(set) : 0;
    t->members = mz_newn0(MZ_MEM_UPSTREAM, struct hash_member, set->lists[s].n);
    t->least = 1;
    if (!weights)
        members_add(t, &set->lists[s], 1);
    for (uint32_t i = 0; weights && i < set->n_localities; i++) {
        const struct locality *l = &set->localities[i];
        if (l->weight && l->lists[s].n)
            members_add(t, &l->lists[s], (double)l->weight / (double)weights);
    }
    if (t->n_members)
        cfg->type->build(&cfg->hash, t);
    return t;
}

void hash_table_destroy(struct hash_table *t)
{
    if (!t)
        return;
    mz_free(MZ_MEM_UPSTREAM, t->members);
    mz_free(MZ_MEM_UPSTREAM, t->ring);
    mz_free(MZ_MEM_UPSTREAM, t->slots);
    mz_free(MZ_MEM_UPSTREAM, t);
}

/* Gauges sum over the threads: each adds the difference to what is shown. */
static void gauges_show(const struct lb_config *cfg, const struct hash_table *t)
{
    struct hash_gauges *g = cfg->hash.gauges;
    const uint64_t now[] = { t->n, t->fewest, t->peak };
    if (!g)
        return;
    unsigned first = MZ_COUNT(now) - cfg->type->stats->n;
    for (unsigned i = first; i < MZ_COUNT(now); i++) {
        uint64_t before = __atomic_exchange_n(&g->shown[i], now[i], __ATOMIC_RELAXED);
        mz_gauge_add(g->scope, i - first, (int64_t)(now[i] - before));
    }
}

const struct hash_table *hash_table_of(const struct lb_config *cfg, struct host_set *set,
                                       enum source s)
{
    struct hash_table *t = __atomic_load_n(&set->tables[s], __ATOMIC_ACQUIRE);
    if (MZ_LIKELY(t != NULL))
        return t;
    struct hash_table *made = table_create(cfg, set, s);
    if (!__atomic_compare_exchange_n(&set->tables[s], &t, made, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        hash_table_destroy(made); /* another worker was faster: its table is the same */
        return t;
    }
    gauges_show(cfg, made);
    return made;
}

void hash_tables_follow(const struct lb_config *cfg, struct host_sets *old, struct host_sets *now)
{
    for (uint32_t p = 0; old && p < old->n && p < now->n; p++)
        for (unsigned s = 0; s < SOURCE__COUNT; s++)
            if (__atomic_load_n(&old->v[p].tables[s], __ATOMIC_ACQUIRE))
                (void)hash_table_of(cfg, &now->v[p], s); /* made for its own sake */
}

/* ---- choice ---- */

static uint64_t requests_active(const struct mz_cluster *c)
{
    int64_t n = 0;
    for (unsigned i = 0; i < MZ_PRIORITY__COUNT; i++)
        n += __atomic_load_n(&c->circuit[i].requests, __ATOMIC_RELAXED);
    return n > 0 ? (uint64_t)n : 0;
}

/* Load of a host by what it may have: above 1 it is full. */
static double overload(const struct lb_config *cfg, const struct hash_member *m)
{
    uint64_t all = ((requests_active(m->host->cluster) + 1) * cfg->hash.balance_factor + 99) / 100;
    double slots = ceil((double)all * m->weight);
    uint64_t active = __atomic_load_n(&m->host->stats.rq_active, __ATOMIC_RELAXED);
    return (double)(active + 1) / (slots > 1 ? slots : 1);
}

/* The host is full: others in an order that the hash alone decides, so that the same key goes to the same second host. */
static struct mz_host *choose_unloaded(const struct lb_config *cfg, const struct hash_table *t,
                                       uint32_t first, uint64_t hash)
{
    struct mz_rand r;
    uint32_t best = first;
    double least = overload(cfg, &t->members[first]);
    mz_rand_init(&r, hash);
    uint32_t at = (uint32_t)mz_rand_below(&r, t->n_members);
    for (uint32_t i = 0; i < t->n_members && least > 1; i++, at = (at + 1) % t->n_members) {
        double load = overload(cfg, &t->members[at]);
        if (load < least) {
            best = at;
            least = load;
        }
    }
    return t->members[best].host;
}

struct mz_host *hash_table_choose(const struct lb_config *cfg, const struct hash_table *t,
                                  uint64_t hash, uint32_t attempt)
{
    if (!t->n)
        return NULL;
    uint32_t m = cfg->type->find(t, hash, attempt);
    if (!cfg->hash.balance_factor || overload(cfg, &t->members[m]) <= 1)
        return t->members[m].host;
    return choose_unloaded(cfg, t, m, hash);
}
