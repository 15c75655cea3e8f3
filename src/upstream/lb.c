/* One worker's balancer of one cluster: priority, then locality where they are weighted, then the policy's pick. */
#include "upstream/lb_subset.h"
#include "upstream/stats.h"

const struct lb_type lb_cluster_provided = { .name = "cluster provided" };

struct mz_host *lb_pick_weighted(const struct host_list *hosts, struct lb_source *state,
                                 struct mz_rand *r,
                                 double (*weight)(const void *arg, uint32_t item), const void *arg)
{
    if (!state->edf) {
        state->edf = edf_create(hosts->n);
        for (uint32_t i = 0; i < hosts->n; i++)
            edf_add(state->edf, i, weight(arg, i));
        for (uint64_t skip = mz_rand_below(r, hosts->n); skip;
             skip--) /* so that not all workers begin with the same host */
            (void)edf_pick(state->edf, weight, arg);
    }
    return hosts->v[edf_pick(state->edf, weight, arg)];
}

void lb_init(struct lb *b, const struct lb_config *cfg, const struct priority_opts *opts,
             struct mz_rand *r, struct mz_scope *scope)
{
    *b = (struct lb){ .cfg = cfg, .opts = opts, .rand = r, .scope = scope };
}

static void lb_drop_state(struct lb *b)
{
    for (uint32_t p = 0; b->sets && p < b->sets->n; p++) {
        struct lb_priority *pr = &b->priorities[p];
        for (unsigned s = 0; s < SOURCE__COUNT; s++) {
            edf_destroy(pr->sources[s].edf);
            edf_destroy(pr->locality_edf[s]);
        }
        for (uint32_t i = 0; pr->locality_sources && i < b->sets->v[p].n_localities * SOURCE__COUNT;
             i++)
            edf_destroy(pr->locality_sources[i].edf);
        mz_free(MZ_MEM_UPSTREAM, pr->locality_sources);
    }
    mz_free(MZ_MEM_UPSTREAM, b->priorities);
    mz_free(MZ_MEM_UPSTREAM, b->loads);
}

void lb_fini(struct lb *b)
{
    if (b->sets && b->sets->subsets)
        subset_drop(b);
    zone_drop(b);
    lb_drop_state(b);
    host_sets_unref(b->sets);
    b->sets = NULL;
}

/* A priority whose hosts did not change in number keeps its place in the round: an update shall not restart it. */
void lb_set_hosts(struct lb *b, struct host_sets *take)
{
    struct lb_priority *v = mz_newn0(MZ_MEM_UPSTREAM, struct lb_priority, take->n);
    for (uint32_t p = 0; p < take->n; p++) {
        for (unsigned s = 0; s < SOURCE__COUNT; s++)
            v[p].sources[s].next =
                b->sets && p < b->sets->n ? b->priorities[p].sources[s].next : UINT64_MAX;
        uint32_t n = take->v[p].n_localities * SOURCE__COUNT;
        v[p].locality_sources = n ? mz_newn0(MZ_MEM_UPSTREAM, struct lb_source, n) : NULL;
        for (uint32_t i = 0; i < n; i++)
            v[p].locality_sources[i].next = UINT64_MAX;
    }
    lb_drop_state(b);
    struct host_sets *old = b->sets;
    b->sets = take;
    b->priorities = v;
    b->loads = mz_newn0(MZ_MEM_UPSTREAM, struct priority_load, take->n);
    priority_loads(take, b->opts, b->loads);
    b->slow_until_us = b->cfg->slow ? slow_start_until(b->cfg->slow, take) : 0;
    zone_drop(b);
    if (take->subsets)
        subset_follow(b, old);
    host_sets_unref(old);
}

/* A locality's weight times the share of its usable hosts among those that count (with overprovisioning, at most 1). */
static double locality_weight(const struct lb *b, const struct locality *l, enum source s)
{
    if (!l->lists[s].n || !l->weight)
        return 0;
    double share = (double)l->lists[s].n / (l->lists[SOURCE_ALL].n - l->excluded) *
                   b->opts->overprovisioning / 100.0;
    return l->weight * (share < 1 ? share : 1);
}

static struct mz_host *pick_in_locality(struct lb *b, uint32_t p, enum source s, uint32_t i)
{
    const struct host_list *hosts = &b->sets->v[p].localities[i].lists[s];
    return hosts->n ? b->cfg->type->pick(b, hosts,
                                         &b->priorities[p].locality_sources[i * SOURCE__COUNT + s])
                    : NULL;
}

struct locality_arg {
    const struct lb *b;
    const struct host_set *set;
    enum source s;
};

static double locality_item_weight(const void *arg, uint32_t item)
{
    const struct locality_arg *a = arg;
    return locality_weight(a->b, &a->set->localities[item], a->s);
}

/* NULL: no locality has weight, the hosts are taken as one list. */
static struct mz_host *choose_in_locality(struct lb *b, uint32_t p, enum source s)
{
    struct host_set *set = &b->sets->v[p];
    struct lb_priority *pr = &b->priorities[p];
    struct locality_arg arg = { b, set, s };
    if (!pr->locality_edf[s]) {
        bool any = false;
        pr->locality_edf[s] = edf_create(set->n_localities);
        for (uint32_t i = 0; i < set->n_localities; i++) {
            double w = locality_weight(b, &set->localities[i], s);
            if (w > 0) {
                edf_add(pr->locality_edf[s], i, w);
                any = true;
            }
        }
        if (!any) {
            edf_destroy(pr->locality_edf[s]);
            pr->locality_edf[s] = NULL;
            return NULL;
        }
    }
    uint32_t i = edf_pick(pr->locality_edf[s], locality_item_weight, &arg);
    return pick_in_locality(b, p, s, i);
}

struct
try { /* of one choice */
    uint64_t hash;
    uint32_t number; /* from 0; more where hosts are to be avoided */
};

/* Tables are of all localities. Degraded hosts serve where a priority has no healthy one. */
static struct mz_host *choose_hashed(struct lb *b, struct host_set *set, enum source s,
                                     const struct try *t)
{
    if (s == SOURCE_DEGRADED && set->lists[SOURCE_HEALTHY].n)
        s = SOURCE_HEALTHY;
    return hash_table_choose(b->cfg, hash_table_of(b->cfg, set, s), t->hash, t->number);
}

static struct mz_host *choose_once(struct lb *b, struct mz_lb_ctx *ctx, const struct try *t)
{
    enum source s = SOURCE_HEALTHY;
    uint32_t p = 0;
    if (MZ_UNLIKELY(ctx->forced)) {
        p = ctx->forced_priority < b->sets->n ? ctx->forced_priority : 0;
        s = ctx->forced_degraded ? SOURCE_DEGRADED : SOURCE_HEALTHY;
    } else if (b->sets->n > 1 || b->loads[0].healthy < 100) {
        bool hashed = ctx->has_hash || b->cfg->type->find;
        uint32_t at = (uint32_t)(hashed ? t->hash % 100 : mz_rand_below(b->rand, 100));
        p = priority_choose(b->loads, b->sets->n, ctx->priority_load, at, &s);
    }
    ctx->why = b->cfg->type->name;
    if (MZ_UNLIKELY(b->loads[p].panic)) {
        mz_count(b->scope, MZ_CS_LB_HEALTHY_PANIC, 1);
        if (b->cfg->zone.fail_traffic_on_panic && !b->cfg->type->find) {
            ctx->why = "panic: too few healthy hosts, and such traffic is to fail";
            return NULL;
        }
        ctx->why = "panic: too few healthy hosts, all of them are used";
        s = SOURCE_ALL;
    } else if (b->cfg->locality_weighted && b->sets->v[p].localities && !b->cfg->type->find) {
        struct mz_host *h = choose_in_locality(b, p, s);
        if (h)
            return h;
    }
    if (b->site && p == 0 && s != SOURCE_ALL && !b->cfg->type->find) {
        uint32_t i;
        enum zone_answer a = zone_choose(b, ctx, &i);
        if (a == ZONE_FAIL)
            ctx->why = "the local cluster is in panic, and such traffic is to fail";
        if (a != ZONE_ANY)
            return a == ZONE_FAIL ? NULL : pick_in_locality(b, p, s, i);
    }
    const struct host_list *hosts = &b->sets->v[p].lists[s];
    if (hosts->n && b->cfg->type->find)
        return choose_hashed(b, &b->sets->v[p], s, t);
    if (hosts->n)
        return b->cfg->type->pick(b, hosts, &b->priorities[p].sources[s]);
    ctx->why = b->sets->n_hosts ? "no host is healthy" : "the cluster has no hosts";
    return NULL;
}

struct mz_host *lb_choose(struct lb *b, struct mz_lb_ctx *ctx)
{
    struct mz_host *h = NULL;
    if (MZ_UNLIKELY(ctx->override_host.n)) {
        h = override_of_filter(b, ctx);
        if (h || ctx->override_strict)
            return h;
    }
    if (MZ_UNLIKELY(b->cfg->override != NULL))
        h = override_of_policy(b, ctx);
    if (h)
        return h;
    return b->sets->subsets ? subset_choose(b, ctx) : lb_choose_plain(b, ctx);
}

struct mz_host *lb_choose_plain(struct lb *b, struct mz_lb_ctx *ctx)
{
    struct try t = { ctx->hash, 0 };
    if (b->cfg->type->find && !ctx->has_hash)
        t.hash = mz_rand_u64(b->rand);
    struct mz_host *h = choose_once(b, ctx, &t);
    while (h && ctx->avoid && t.number < ctx->avoid_attempts && ctx->avoid(ctx->avoid_arg, h)) {
        t.number++;
        h = choose_once(b, ctx, &t); /* the last one is taken whatever avoid() says */
    }
    return h;
}
