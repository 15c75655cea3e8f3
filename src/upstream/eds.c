/*
 * Clusters whose endpoints come by subscription (EDS, X1). The assignment stays as bytes until somebody needs the hosts: of ten
 * thousand clusters a proxy uses a few. Then an update makes new host sets in which hosts that are the same go on.
 */
#include "base/clock.h"
#include "upstream/health/health.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include "xds/name.h"
#include "xds/subscription.h"

struct policy { /* what an assignment says beside its hosts */
    uint32_t overprovisioning, drop_millionths;
    bool by_weight;
};
struct stale { /* endpoint_stale_after */
    struct mz_timer timer;
    struct cluster_entry *entry; /* borrowed: it owns us */
};
struct eds {
    struct mz_subscription *sub; /* NULL: stopped */
    char *
        bytes; /* of the last good assignment, behind them its version; NULL: none. Manager's lock to change */
    uint32_t bytes_n, version_n;
    struct policy policy; /* the same lock */
    uint32_t service_n;
    uint64_t updated_wall_us;
    struct stale *stale; /* NULL: never asked for */
    uint32_t counts[3];  /* of a cluster that sleeps, in the order of counted[] */
    bool started;
    char service[]; /* the resource's name */
};
enum { NO_REBUILD, EMPTY, STALE };
static const uint16_t counted[] = { MZ_CS_UPDATE_NO_REBUILD, MZ_CS_UPDATE_EMPTY,
                                    MZ_CS_ASSIGNMENT_STALE };

static struct mz_str service_of(const struct eds *e)
{
    return (struct mz_str){ e->service, e->service_n };
}

static struct mz_str bytes_of(const struct eds *e)
{
    return e && e->bytes ? (struct mz_str){ e->bytes, e->bytes_n } : (struct mz_str){ 0 };
}

static struct mz_str version_of(const struct eds *e)
{
    return e->bytes ? (struct mz_str){ e->bytes + e->bytes_n, e->version_n } : MZ_STR("");
}

struct mz_str eds_bytes(const struct mz_cluster *c)
{
    return bytes_of(cluster_priv(c)->entry->eds);
}

struct mz_str eds_service(const struct mz_cluster *c)
{
    const struct eds *e = cluster_priv(c)->entry->eds;
    return e && !mz_str_eq(service_of(e), c->name) ? service_of(e) : MZ_STR("");
}

struct mz_str eds_drop_category(const struct mz_cluster *c, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (!mz_msg_unpack(&ctx, eds_bytes(c), &pb_ClusterLoadAssignment__descriptor, &m, &err))
        return MZ_STR("");
    const pb_ClusterLoadAssignment_Policy *p = ((pb_ClusterLoadAssignment *)m)->policy;
    return p && p->n_drop_overloads ? mz_str_c(p->drop_overloads[0]->category) : MZ_STR("");
}

static void eds_count(struct cluster_entry *entry, unsigned what)
{
    const struct mz_cluster *c = cluster_entry_awake(entry);
    if (c)
        mz_count(c->scope, counted[what], 1);
    else
        entry->eds->counts[what]++;
}

static void counts_put(const struct eds *e, struct mz_scope *s)
{
    for (unsigned i = 0; i < MZ_COUNT(counted); i++)
        if (e->counts[i])
            mz_count(s, counted[i], e->counts[i]);
}

void eds_sleeps(struct cluster_entry *entry)
{
    if (entry->eds)
        mz_subscription_shrink(entry->eds->sub);
}

void eds_woken(struct cluster_entry *entry, struct mz_scope *s)
{
    if (!entry->eds)
        return;
    counts_put(entry->eds, s);
    if (entry->eds->sub)
        mz_subscription_grow(entry->eds->sub, s->prefix);
}

struct mz_scope *eds_show(const struct cluster_entry *entry, struct mz_scope *s, bool add)
{
    if (!entry->eds)
        return NULL;
    if (add)
        counts_put(entry->eds, s);
    return mz_subscription_show(entry->eds->sub, s->prefix, add);
}

void eds_reset(struct cluster_entry *entry)
{
    if (!entry->eds)
        return;
    memset(entry->eds->counts, 0, sizeof(entry->eds->counts));
    mz_subscription_reset(entry->eds->sub);
}

struct change { /* of the bytes, under the lock */
    struct cluster_entry *entry;
    const struct mz_resource *to;
    const struct policy *policy;
    const struct endpoints_count *count;
    struct mz_cluster *cluster; /* out: borrowed; NULL: it slept, and has counted */
};

static void bytes_set(struct eds *e, const struct mz_resource *r)
{
    char *old = e->bytes; /* @r may lie in it */
    e->bytes = mz_alloc(MZ_MEM_XDS, r->bytes.n + r->version.n);
    if (r->bytes.n)
        memcpy(e->bytes, r->bytes.p, r->bytes.n);
    if (r->version.n)
        memcpy(e->bytes + r->bytes.n, r->version.p, r->version.n);
    e->bytes_n = (uint32_t)r->bytes.n;
    e->version_n = (uint32_t)r->version.n;
    mz_free(MZ_MEM_XDS, old);
}

void eds_policy(const struct cluster_entry *entry, struct mz_cluster *c)
{
    const struct eds *e = entry->eds;
    struct priority_opts *o = &cluster_priv(c)->priorities;
    if (!e || !e->bytes)
        return;
    __atomic_store_n(&o->overprovisioning, e->policy.overprovisioning, __ATOMIC_RELAXED);
    __atomic_store_n(&o->by_weight, e->policy.by_weight, __ATOMIC_RELAXED);
    __atomic_store_n(&c->drop_millionths, e->policy.drop_millionths, __ATOMIC_RELAXED);
}

static void keep(void *arg)
{
    struct change *g = arg;
    g->cluster = cluster_entry_awake(g->entry);
    bytes_set(g->entry->eds, g->to);
    g->entry->eds->policy = *g->policy;
    if (g->cluster) {
        cluster_priv(g->cluster)->seq++;
        eds_policy(g->entry, g->cluster);
    } else {
        cluster_entry_members(g->entry, g->count);
    }
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

static void compare(const struct eds *e, const pb_ClusterLoadAssignment *now,
                    struct endpoints_count *count)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct mz_map before, after;
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    mz_map_init(&before, MZ_MEM_CONFIG);
    mz_map_init(&after, MZ_MEM_CONFIG);
    if (e->bytes &&
        mz_msg_unpack(&ctx, bytes_of(e), &pb_ClusterLoadAssignment__descriptor, &m, &err))
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

static bool policy_read(const pb_ClusterLoadAssignment_Policy *m, struct policy *out,
                        struct mz_err *err)
{
    static const pb_ClusterLoadAssignment_Policy none = pb_ClusterLoadAssignment_Policy__INIT;
    m = m ? m : &none;
    *out = (struct policy){ .overprovisioning = mz_u32_or(m->overprovisioning_factor, 140),
                            .by_weight = m->weighted_priority_health != 0 };
    if (!out->overprovisioning)
        return mz_err_set(err, "must be greater than 0") ||
               mz_err_at(err, "policy.overprovisioning_factor");
    return endpoints_drop(m, &out->drop_millionths, err) || mz_err_at(err, "policy");
}

static bool stale_after(const pb_ClusterLoadAssignment *a, uint64_t *out_ms, struct mz_err *err)
{
    *out_ms = 0;
    return !a->policy || mz_duration_ms(a->policy->endpoint_stale_after, 0, out_ms, err) ||
           mz_err_at(err, "policy.endpoint_stale_after");
}

static void on_stale(struct mz_timer *t);

static void stale_start(struct cluster_entry *entry, uint64_t ms)
{
    struct eds *e = entry->eds;
    if (ms && !e->stale) {
        e->stale = mz_new0(MZ_MEM_XDS, struct stale);
        e->stale->entry = entry;
        mz_timer_init(cluster_manager_env(entry->manager)->main, &e->stale->timer, on_stale);
    }
    if (ms)
        mz_timer_start_ms(&e->stale->timer, ms);
    else if (e->stale)
        mz_timer_stop(&e->stale->timer);
}

/* Makes hosts of it at once where somebody uses or watches them. */
static void change_run(struct change *g, const pb_ClusterLoadAssignment *a,
                       struct endpoints_count *io_count)
{
    const struct mz_cluster *c = cluster_entry_awake(g->entry);
    bool watched = c && (cluster_priv(c)->checker || cluster_priv(c)->lb.subsets);
    if (!watched && cluster_entry_unmade(g->entry, keep, g))
        return;
    cluster_manager_lock(g->entry->manager);
    keep(g);
    cluster_manager_unlock(g->entry->manager);
    publish(g->cluster, a, cluster_priv(g->cluster)->seq, io_count);
}

static bool apply(struct cluster_entry *entry, const pb_ClusterLoadAssignment *a,
                  const struct mz_resource *r, struct mz_err *err)
{
    struct eds *e = entry->eds;
    struct endpoints_count count, moved = { 0 };
    struct policy policy;
    uint64_t stale_ms;
    if (!endpoints_check(a, CLUSTER_EDS, &count, err) || !stale_after(a, &stale_ms, err) ||
        !policy_read(a->policy, &policy, err))
        return false;
    compare(e, a, &moved);
    count.total = moved.total;
    count.added = moved.added;
    count.changed = moved.changed;
    struct change g = { entry, r, &policy, &count, NULL };
    change_run(&g, a, &count);
    if (g.cluster)
        cluster_members_count(g.cluster, &count);
    e->updated_wall_us = mz_clock->wall_us();
    stale_start(entry, stale_ms);
    return true;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct cluster_entry *entry = arg;
    struct eds *e = entry->eds;
    if (u->n == 0) {
        eds_count(entry, EMPTY);
        return true;
    }
    const struct mz_resource *r = &u->v[0];
    if (!mz_str_eq(r->name, service_of(e)))
        return mz_err_set(err, "Unexpected EDS cluster (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                          MZ_STR_ARG(service_of(e)), MZ_STR_ARG(r->name));
    if (e->bytes && mz_str_eq(r->bytes, bytes_of(e))) {
        eds_count(entry, NO_REBUILD);
        return true;
    }
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m;
    bool ok = mz_resource_open(cluster_manager_env(entry->manager)->xds, r, MZ_XDS_ENDPOINT, &ctx,
                               &m, err) &&
              apply(entry, (const pb_ClusterLoadAssignment *)m, r, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void first(void *arg)
{
    cluster_first_done(arg);
}

static bool current(void *arg, struct mz_resource *out)
{
    const struct eds *e = ((const struct cluster_entry *)arg)->eds;
    *out = (struct mz_resource){ service_of(e), version_of(e), bytes_of(e) };
    return e->bytes != NULL;
}

/* Nobody confirmed the endpoints for so long: better none than wrong ones (Envoy). */
static void on_stale(struct mz_timer *t)
{
    struct cluster_entry *entry = MZ_CONTAINER(t, struct stale, timer)->entry;
    const struct eds *e = entry->eds;
    pb_ClusterLoadAssignment none = pb_ClusterLoadAssignment__INIT;
    struct mz_err err;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    none.cluster_name = (char *)(uintptr_t)e->service;
    const struct mz_resource r = { service_of(e), version_of(e), mz_msg_pack_alloc(&none.base, a) };
    eds_count(entry, STALE);
    (void)apply(entry, &none, &r, &err); /* nothing in it could be refused */
    mz_arena_destroy(a);
}

/* ---- the cluster's part ---- */

bool eds_config(const pb_Cluster *m, struct cluster_entry *entry, const struct mz_upstream_env *env,
                struct mz_err *err)
{
    const pb_Cluster_EdsClusterConfig *cfg = m->eds_cluster_config;
    struct mz_str service = cfg && cfg->service_name[0] ? mz_str_c(cfg->service_name) : entry->name;
    if (!cfg || !(cfg->eds_config || mz_xds_name_is(service)) || !env->xds)
        return mz_err_set(err, "cannot create an EDS cluster without an EDS config") ||
               mz_err_at(err, "eds_cluster_config");
    if (m->load_assignment)
        return mz_err_set(err, "an EDS cluster has the endpoints that its subscription gives") ||
               mz_err_at(err, "load_assignment");
    struct eds *e =
        mz_alloc0(MZ_MEM_XDS, sizeof(*e) + service.n + 1); /* the NUL: a message's name */
    entry->eds = e;
    e->service_n = (uint32_t)service.n;
    memcpy(e->service, service.p, service.n);
    char prefix[1024];
    const struct mz_subscriber who = { update, first, entry, current, NULL };
    e->sub = mz_subscribe(env->xds, cfg->eds_config, MZ_XDS_ENDPOINT, service,
                          cluster_prefix(entry->stat_name, prefix, sizeof(prefix)), &who, err);
    return e->sub || mz_err_at(err, "eds_cluster_config.eds_config");
}

void eds_start(struct cluster_entry *entry)
{
    struct eds *e = entry->eds;
    if (!e || e->started)
        return;
    e->started = true;
    mz_subscription_start(e->sub);
}

void eds_stop(struct cluster_entry *entry)
{
    struct eds *e = entry->eds;
    if (!e)
        return;
    if (e->stale)
        mz_timer_stop(&e->stale->timer);
    mz_subscription_end(e->sub);
    e->sub = NULL;
}

void eds_destroy(struct cluster_entry *entry)
{
    struct eds *e = entry->eds;
    if (!e)
        return;
    MZ_ASSERT(!e->sub);
    mz_free(MZ_MEM_XDS, e->stale);
    mz_free(MZ_MEM_XDS, e->bytes);
    mz_free(MZ_MEM_XDS, e);
}

void mz_cluster_manager_each_eds(struct mz_cluster_manager *m,
                                 void (*fn)(void *arg, const struct mz_eds_shown *s), void *arg)
{
    size_t n;
    struct cluster_entry **v = cluster_list(m, &n);
    for (size_t i = 0; i < n; i++) {
        const struct eds *e = v[i]->eds;
        if (!e || !e->bytes)
            continue;
        const struct mz_eds_shown s = { service_of(e), version_of(e), bytes_of(e),
                                        e->updated_wall_us };
        fn(arg, &s);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
}
