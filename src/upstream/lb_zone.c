/*
 * Zone aware routing (U2): requests stay in this proxy's own locality as far as its share of the upstream's healthy hosts
 * allows, seen beside the share of proxies (the hosts of the local cluster) that stand there; the rest goes to localities
 * that have more hosts than proxies. Only within priority 0, as Envoy does.
 */
#include "runtime/runtime.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

enum how { NOT_BY_ZONE, ALL_DIRECTLY, BY_CAPACITY };
struct lb_zone {
    const struct host_sets *local; /* what it was made of: compared only, with their number */
    uint64_t local_seq;
    enum how how;
    uint32_t here;      /* index of our locality, where the upstream has hosts in it */
    uint32_t stay;      /* of 10,000 */
    uint64_t *residual; /* running sums of what localities can take from elsewhere */
    char text[48];
};
#define WHOLE 10000u

static bool is_here(const struct lb_site *s, const struct locality *l)
{
    const struct mz_host *h = l->lists[SOURCE_ALL].v[0];
    return mz_str_eq(h->region, s->here.region) && mz_str_eq(h->zone, s->here.zone) &&
           mz_str_eq(h->sub_zone, s->here.sub_zone);
}

static uint32_t index_here(const struct lb_site *s, const struct host_set *set)
{
    for (uint32_t i = 0; i < set->n_localities; i++)
        if (is_here(s, &set->localities[i]))
            return i;
    return UINT32_MAX;
}

static uint64_t size_of(const struct lb *b, const struct locality *l)
{
    const struct host_list *list = &l->lists[SOURCE_HEALTHY];
    uint64_t sum = 0;
    if (!b->cfg->zone.by_weight)
        return list->n;
    for (uint32_t i = 0; i < list->n; i++)
        sum += weight_of_host(list->v[i]);
    return sum;
}

static uint64_t size_all(const struct lb *b, const struct host_set *set)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < set->n_localities; i++)
        sum += size_of(b, &set->localities[i]);
    return sum;
}

static uint64_t share(uint64_t part, uint64_t all)
{
    return all ? WHOLE * part / all : 0;
}

/* The proxies' share in the locality @l of the upstream; 0 where it has no healthy host. */
static uint64_t proxies_share(const struct lb *b, const struct host_set *local,
                              const struct locality *l)
{
    for (uint32_t i = 0; l->lists[SOURCE_HEALTHY].n && i < local->n_localities; i++)
        if (local->localities[i].lists[SOURCE_HEALTHY].n && locality_same(&local->localities[i], l))
            return share(size_of(b, &local->localities[i]), size_all(b, local));
    return 0;
}

static uint64_t min_size(const struct lb *b)
{
    return mz_runtime_u64(mz_runtime_here(), MZ_STR("upstream.zone_routing.min_cluster_size"),
                          b->cfg->zone.min_cluster_size);
}

static uint32_t force_min(const struct lb *b)
{
    uint64_t v =
        mz_runtime_u64(mz_runtime_here(), MZ_STR("upstream.zone_routing.force_local_zone.min_size"),
                       b->cfg->zone.force_min);
    return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

static bool possible(struct lb *b, const struct host_set *set, const struct host_set *local)
{
    if (set->n_localities < 2 || (local->n_localities < 2 && !force_min(b)))
        return false;
    if (index_here(b->site, local) == UINT32_MAX) {
        mz_count(b->scope, MZ_CS_LB_LOCAL_CLUSTER_NOT_OK, 1);
        return false;
    }
    if (set->lists[SOURCE_HEALTHY].n < min_size(b)) {
        mz_count(b->scope, MZ_CS_LB_ZONE_CLUSTER_TOO_SMALL, 1);
        return false;
    }
    return true;
}

static void residual_fill(struct lb *b, struct lb_zone *z, const struct host_set *set,
                          const struct host_set *local)
{
    uint64_t sum = 0, all = size_all(b, set);
    z->residual = mz_newn0(MZ_MEM_UPSTREAM, uint64_t, set->n_localities);
    for (uint32_t i = 0; i < set->n_localities; i++) {
        uint64_t has = share(size_of(b, &set->localities[i]), all);
        uint64_t own = proxies_share(b, local, &set->localities[i]);
        if (i != z->here && has > own)
            sum += has - own;
        z->residual[i] = sum;
    }
}

static void recalculate(struct lb *b, struct lb_zone *z)
{
    const struct host_set *set = &b->sets->v[0], *local = &b->site->local->sets->v[0];
    mz_free(MZ_MEM_UPSTREAM, z->residual);
    *z = (struct lb_zone){ .local = b->site->local->sets,
                           .local_seq = b->site->local->sets->seq,
                           .here = index_here(b->site, set) };
    mz_count(b->scope, MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES, 1);
    if (!possible(b, set, local))
        return;
    if (z->here != UINT32_MAX) {
        const struct locality *l = &set->localities[z->here];
        uint64_t has = share(size_of(b, l), size_all(b, set)), own = proxies_share(b, local, l);
        uint32_t force = force_min(b);
        if ((has > 0 && has >= own) || (force && l->lists[SOURCE_HEALTHY].n >= force)) {
            z->how = ALL_DIRECTLY;
            (void)snprintf(z->text, sizeof(z->text), "zone aware: all within this zone");
            return;
        }
        z->stay = own ? (uint32_t)(has * WHOLE / own) : 0;
    }
    z->how = BY_CAPACITY;
    residual_fill(b, z, set, local);
    (void)snprintf(z->text, sizeof(z->text), "zone aware: %u %% cross zone",
                   (WHOLE - z->stay + 50) / 100);
}

void zone_drop(struct lb *b)
{
    if (b->zone)
        mz_free(MZ_MEM_UPSTREAM, b->zone->residual);
    mz_free(MZ_MEM_UPSTREAM, b->zone);
    b->zone = NULL;
}

static uint32_t pick(struct lb *b, const struct lb_zone *z)
{
    uint32_t n = b->sets->v[0].n_localities;
    if (z->how == ALL_DIRECTLY) {
        mz_count(b->scope, MZ_CS_LB_ZONE_ROUTING_ALL_DIRECTLY, 1);
        return z->here;
    }
    if (mz_rand_below(b->rand, WHOLE) < z->stay) {
        mz_count(b->scope, MZ_CS_LB_ZONE_ROUTING_SAMPLED, 1);
        return z->here;
    }
    mz_count(b->scope, MZ_CS_LB_ZONE_ROUTING_CROSS_ZONE, 1);
    if (!z->residual[n - 1]) { /* rounding */
        mz_count(b->scope, MZ_CS_LB_ZONE_NO_CAPACITY_LEFT, 1);
        return (uint32_t)mz_rand_below(b->rand, n);
    }
    uint64_t at = mz_rand_below(b->rand, z->residual[n - 1]);
    uint32_t i = 0;
    while (at >= z->residual[i])
        i++;
    return i;
}

enum zone_answer zone_choose(struct lb *b, struct mz_lb_ctx *ctx, uint32_t *out_locality)
{
    if (!b->site->local)
        return ZONE_ANY;
    if (!b->zone)
        b->zone = mz_new0(MZ_MEM_UPSTREAM, struct lb_zone);
    struct lb_zone *z = b->zone;
    const struct host_sets *local = b->site->local->sets;
    if (z->local != local || z->local_seq != local->seq)
        recalculate(b, z);
    if (z->how == NOT_BY_ZONE)
        return ZONE_ANY;
    const struct mz_fraction enabled = { MZ_STR("upstream.zone_routing.enabled"),
                                         b->cfg->zone.routing_enabled, 100 };
    if (!mz_runtime_fraction(mz_runtime_here(), &enabled, mz_rand_u64(b->rand)))
        return ZONE_ANY;
    if (host_set_in_panic(&local->v[0], panic_threshold(b->opts))) {
        mz_count(b->scope, MZ_CS_LB_LOCAL_CLUSTER_NOT_OK, 1);
        return b->cfg->zone.fail_traffic_on_panic ? ZONE_FAIL : ZONE_ANY;
    }
    *out_locality = pick(b, z);
    if (!ctx->where.n)
        ctx->where = mz_str_c(z->text);
    return ZONE_LOCALITY;
}
