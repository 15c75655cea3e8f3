/*
 * Clusters whose endpoints come by subscription (EDS, X1). The assignment stays as bytes until somebody needs the hosts: of ten
 * thousand clusters a proxy uses a few. Then an update makes new host sets in which hosts that are the same go on.
 */
#include "base/clock.h"
#include "upstream/health/health.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include "xds/subscription.h"

struct eds {
    struct mz_cluster *cluster;  /* borrowed: it owns us */
    struct mz_subscription *sub; /* NULL: stopped */
    struct mz_xds *xds;
    struct mz_str service; /* the resource's name */
    char *bytes;           /* of the last good assignment; NULL: none. Manager's lock to change */
    size_t bytes_n;
    char *version;
    uint64_t updated_wall_us;
    struct mz_timer stale; /* endpoint_stale_after */
    bool first_done;
    bool started;
};

struct mz_str eds_bytes(const struct mz_cluster *c)
{
    const struct eds *e = cluster_priv(c)->eds;
    return e && e->bytes ? (struct mz_str){ e->bytes, e->bytes_n } : (struct mz_str){ 0 };
}

struct change { /* of the bytes, under the lock */
    struct eds *eds;
    const struct mz_resource *to;
    struct cluster_priv *priv;
};

static void keep(void *arg)
{
    struct change *g = arg;
    struct eds *e = g->eds;
    mz_free(MZ_MEM_XDS, e->bytes);
    e->bytes = mz_strndup(MZ_MEM_XDS, g->to->bytes.n ? g->to->bytes.p : "", g->to->bytes.n);
    e->bytes_n = g->to->bytes.n;
    g->priv->seq++;
}

/* ---- what changed, where nobody made the hosts ---- */

static void addresses(const pb_ClusterLoadAssignment *a, struct mz_map *out, struct mz_arena *mem)
{
    for (size_t i = 0; a && i < a->n_endpoints; i++)
        for (size_t k = 0; k < a->endpoints[i]->n_lb_endpoints; k++) {
            const pb_LbEndpoint *e = a->endpoints[i]->lb_endpoints[k];
            char text[MZ_ADDR_TEXT];
            struct mz_addr at;
            struct mz_err err;
            const pb_Endpoint *ep = endpoint_of(a, e);
            if (!ep || !endpoint_address(ep->address, &at, &err))
                continue;
            struct mz_str key = { text, mz_addr_text(&at, text) };
            if (!mz_map_get(out, key))
                (void)mz_map_put(out, mz_arena_dup(mem, key), out);
        }
}

static void compare(struct mz_cluster *c, const pb_ClusterLoadAssignment *now,
                    struct endpoints_count *count)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct mz_map before, after;
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    mz_map_init(&before, MZ_MEM_CONFIG);
    mz_map_init(&after, MZ_MEM_CONFIG);
    if (eds_bytes(c).p &&
        mz_msg_unpack(&ctx, eds_bytes(c), &pb_ClusterLoadAssignment__descriptor, &m, &err))
        addresses((const pb_ClusterLoadAssignment *)m, &before, ctx.arena);
    addresses(now, &after, ctx.arena);
    count->added = 0;
    mz_map_foreach (it, &after)
        count->added += !mz_map_get(&before, it->key);
    count->total = (uint32_t)after.n;
    count->changed = count->added || before.n != after.n; /* whatever the priority */
    mz_map_fini(&before);
    mz_map_fini(&after);
    mz_arena_destroy(ctx.arena);
}

/* ---- hosts that are made ---- */

static struct endpoints_count members(const struct host_sets *now)
{
    struct endpoints_count count = { .total = now->n_hosts };
    for (uint32_t i = 0; i < now->n_hosts; i++) {
        const struct mz_host *h = now->hosts[i];
        enum mz_host_health health = mz_host_health(h);
        count.healthy += health == MZ_HOST_HEALTHY;
        count.degraded += health == MZ_HOST_DEGRADED;
        count.excluded += host_excluded(h);
        count.max_weight =
            weight_of_host(h) > count.max_weight ? weight_of_host(h) : count.max_weight;
    }
    return count;
}

static void publish(struct mz_cluster *c, const pb_ClusterLoadAssignment *a, uint64_t seq,
                    struct endpoints_count *out_count)
{
    struct host_sets *old = cluster_sets_made(c);
    struct host_sets *now = endpoints_build(c, a, old, seq);
    uint32_t same = 0;
    for (uint32_t i = 0; old && i < now->n_hosts; i++)
        same += host_map_find(host_sets_map(old), &now->hosts[i]->addr) == now->hosts[i];
    *out_count = members(now);
    out_count->added = now->n_hosts - same;
    out_count->changed = out_count->added || !old || old->n_hosts != now->n_hosts;
    host_sets_unref(old);
    cluster_set_hosts(c, now);
}

/* ---- hosts that stayed because they passed their checks (hosts_gone()) ---- */

static bool leaves(const struct mz_host *h)
{
    enum { LEAVES = MZ_HOST_PENDING_REMOVAL | MZ_HOST_FAILED_ACTIVE_HC };
    return (__atomic_load_n(&h->health_flags, __ATOMIC_RELAXED) & LEAVES) == LEAVES;
}

bool eds_leaving(const struct mz_cluster *c, const struct host_sets *s)
{
    for (uint32_t i = 0; c->type == CLUSTER_EDS && i < s->n_hosts; i++)
        if (leaves(s->hosts[i]))
            return true;
    return false;
}

struct host_sets *eds_left(struct mz_cluster *c, struct host_sets *s, uint64_t seq)
{
    for (uint32_t i = 0; i < s->n_hosts; i++)
        if (leaves(s->hosts[i]))
            __atomic_fetch_or(&s->hosts[i]->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
    struct host_sets *now = host_sets_again(s, seq);
    struct endpoints_count count = members(now);
    count.changed = true;
    cluster_members_count(c, &count);
    return now;
}

/* ---- updates ---- */

static bool policy_take(struct mz_cluster *c, const pb_ClusterLoadAssignment_Policy *m,
                        struct mz_err *err)
{
    static const pb_ClusterLoadAssignment_Policy none = pb_ClusterLoadAssignment_Policy__INIT;
    struct priority_opts *o = &cluster_priv(c)->priorities;
    uint32_t factor, drop;
    m = m ? m : &none;
    factor = mz_u32_or(m->overprovisioning_factor, 140);
    if (!factor)
        return mz_err_set(err, "must be greater than 0") ||
               mz_err_at(err, "policy.overprovisioning_factor");
    if (!endpoints_drop(m, &drop, err))
        return mz_err_at(err, "policy");
    __atomic_store_n(&o->overprovisioning, factor, __ATOMIC_RELAXED);
    __atomic_store_n(&o->by_weight, m->weighted_priority_health != 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->drop_millionths, drop, __ATOMIC_RELAXED);
    return true;
}

static bool stale_after(const pb_ClusterLoadAssignment *a, uint64_t *out_ms, struct mz_err *err)
{
    *out_ms = 0;
    return !a->policy || mz_duration_ms(a->policy->endpoint_stale_after, 0, out_ms, err) ||
           mz_err_at(err, "policy.endpoint_stale_after");
}

static bool apply(struct mz_cluster *c, const pb_ClusterLoadAssignment *a,
                  const struct mz_resource *r, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    struct eds *e = p->eds;
    struct endpoints_count count;
    uint64_t stale_ms;
    if (!endpoints_check(a, CLUSTER_EDS, &count, err) || !stale_after(a, &stale_ms, err) ||
        !policy_take(c, a->policy, err))
        return false;
    struct change g = { e, r, p };
    struct endpoints_count moved = { 0 };
    compare(c, a, &moved);
    count.total = moved.total;
    count.added = moved.added;
    count.changed = moved.changed;
    bool lazy = !p->checker && !p->lb.subsets && cluster_unmade(c, keep, &g);
    if (!lazy) {
        keep(&g);
        publish(c, a, p->seq, &count);
    }
    cluster_members_count(c, &count);
    mz_free(MZ_MEM_XDS, e->version);
    e->version = mz_strndup(MZ_MEM_XDS, r->version.n ? r->version.p : "", r->version.n);
    e->updated_wall_us = mz_clock->wall_us();
    if (stale_ms)
        mz_timer_start_ms(&e->stale, stale_ms);
    else
        mz_timer_stop(&e->stale);
    return true;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_cluster *c = arg;
    struct eds *e = cluster_priv(c)->eds;
    if (u->n == 0) {
        mz_count(c->scope, MZ_CS_UPDATE_EMPTY, 1);
        return true;
    }
    const struct mz_resource *r = &u->v[0];
    if (!mz_str_eq(r->name, e->service))
        return mz_err_set(err, "Unexpected EDS cluster (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                          MZ_STR_ARG(e->service), MZ_STR_ARG(r->name));
    if (e->bytes && mz_str_eq(r->bytes, eds_bytes(c))) {
        mz_count(c->scope, MZ_CS_UPDATE_NO_REBUILD, 1);
        return true;
    }
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m;
    bool ok = mz_resource_open(e->xds, r, MZ_XDS_ENDPOINT, &ctx, &m, err) &&
              apply(c, (const pb_ClusterLoadAssignment *)m, r, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void first(void *arg)
{
    struct mz_cluster *c = arg;
    cluster_priv(c)->eds->first_done = true;
    cluster_first_done(c);
}

static bool current(void *arg, struct mz_resource *out)
{
    const struct mz_cluster *c = arg;
    const struct eds *e = cluster_priv(c)->eds;
    *out = (struct mz_resource){ e->service, mz_str_c(e->version), eds_bytes(c) };
    return e->bytes != NULL;
}

/* Nobody confirmed the endpoints for so long: better none than wrong ones (Envoy). */
static void on_stale(struct mz_timer *t)
{
    struct eds *e = MZ_CONTAINER(t, struct eds, stale);
    struct mz_cluster *c = e->cluster;
    pb_ClusterLoadAssignment none = pb_ClusterLoadAssignment__INIT;
    struct mz_err err;
    none.cluster_name = (char *)(uintptr_t)e->service.p;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_resource r = { e->service, mz_str_c(e->version),
                                   mz_msg_pack_alloc(&none.base, a) };
    mz_count(c->scope, MZ_CS_ASSIGNMENT_STALE, 1);
    (void)apply(c, &none, &r, &err); /* nothing in it could be refused */
    mz_arena_destroy(a);
}

/* ---- the cluster's part ---- */

bool eds_config(const pb_Cluster *m, struct mz_cluster *c, const struct mz_upstream_env *env,
                struct mz_err *err)
{
    const pb_Cluster_EdsClusterConfig *cfg = m->eds_cluster_config;
    if (!cfg || !cfg->eds_config || !env->xds)
        return mz_err_set(err, "cannot create an EDS cluster without an EDS config") ||
               mz_err_at(err, "eds_cluster_config");
    if (m->load_assignment)
        return mz_err_set(err, "an EDS cluster has the endpoints that its subscription gives") ||
               mz_err_at(err, "load_assignment");
    struct eds *e = cluster_keep(c, sizeof(*e));
    cluster_priv(c)->eds = e;
    e->cluster = c;
    cluster_priv(c)->seq = 1; /* of the hosts before any came */
    mz_timer_init(env->main, &e->stale, on_stale);
    e->xds = env->xds;
    e->service = cfg->service_name[0] ? cluster_keep_str(c, cfg->service_name) : c->name;
    char prefix[1024];
    int n = snprintf(prefix, sizeof(prefix), "cluster." MZ_STR_FMT ".", MZ_STR_ARG(c->stat_name));
    const struct mz_subscriber who = { update, first, c, current, NULL };
    e->sub = mz_subscribe(
        env->xds, cfg->eds_config, MZ_XDS_ENDPOINT, e->service,
        (struct mz_str){ prefix, (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1 },
        &who, err);
    return e->sub || mz_err_at(err, "eds_cluster_config.eds_config");
}

void eds_start(struct mz_cluster *c)
{
    struct eds *e = cluster_priv(c)->eds;
    if (!e || e->started)
        return;
    e->started = true;
    mz_subscription_start(e->sub);
}

void eds_stop(struct mz_cluster *c)
{
    struct eds *e = cluster_priv(c)->eds;
    if (!e)
        return;
    mz_timer_stop(&e->stale);
    mz_subscription_end(e->sub);
    e->sub = NULL;
}

void eds_destroy(struct mz_cluster *c)
{
    struct eds *e = cluster_priv(c)->eds;
    if (!e)
        return;
    MZ_ASSERT(!e->sub);
    mz_free(MZ_MEM_XDS, e->bytes);
    mz_free(MZ_MEM_XDS, e->version);
}

void mz_cluster_manager_each_eds(struct mz_cluster_manager *m,
                                 void (*fn)(void *arg, const struct mz_eds_shown *s), void *arg)
{
    size_t n;
    struct mz_cluster **v = cluster_list(m, &n);
    for (size_t i = 0; i < n; i++) {
        const struct eds *e = cluster_priv(v[i])->eds;
        if (!e || !e->bytes)
            continue;
        const struct mz_eds_shown s = { e->service, mz_str_c(e->version), eds_bytes(v[i]),
                                        e->updated_wall_us };
        fn(arg, &s);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
}
