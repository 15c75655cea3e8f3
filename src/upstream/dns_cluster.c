/*
 * Clusters that follow DNS names (U1), on the main thread. STRICT_DNS: every address of every name is a host. LOGICAL_DNS:
 * one host, at all of the name's addresses (happy eyeballs); connections to earlier addresses live on. A failed resolution keeps what was known.
 */
#include "upstream/health/health.h"
#include "upstream/lb_subset.h"
#include "upstream/stats.h"

struct target { /* one endpoint: a name that is resolved again and again */
    struct dns_cluster *d;
    struct mz_str name;
    uint16_t port;
    uint32_t weight, locality;
    uint32_t health_flags;
    const pb_LbEndpoint *endpoint; /* in the cluster's message */
    struct mz_dns_query *query;
    struct mz_timer timer;
    uint32_t failure_ms;    /* the next wait after a failure; 0: none failed */
    bool answered;          /* its first resolution ended */
    struct mz_host **hosts; /* what the last answer gave; one reference each */
    uint32_t n_hosts;
};
struct dns_cluster {
    struct mz_cluster *cluster; /* borrowed: the cluster owns us */
    struct mz_dns *dns;
    struct mz_arena *arena; /* the message, targets, localities */
    struct target *targets;
    size_t n_targets;
    struct locality_spec *localities;
    uint32_t n_localities;
    size_t unanswered;
    bool logical;
};

static void resolve(struct target *t);

static void fire(struct mz_timer *timer)
{
    resolve(MZ_CONTAINER(timer, struct target, timer));
}

static struct mz_host *known_host(const struct target *t, const struct mz_addr *a)
{
    for (uint32_t i = 0; i < t->n_hosts; i++)
        if (mz_addr_eq(&t->hosts[i]->addr, a))
            return t->hosts[i];
    return NULL;
}

static bool same_addresses(const struct mz_host *h, const struct mz_addr *v, size_t n)
{
    if (n < 2)
        return !h->n_addrs && mz_addr_eq(&h->addr, v);
    if (h->n_addrs != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!mz_addr_eq(&h->addrs[i], &v[i]))
            return false;
    return true;
}

static bool listed(struct mz_host *const *v, uint32_t n, const struct mz_host *h)
{
    for (uint32_t i = 0; i < n; i++)
        if (v[i] == h || mz_addr_eq(&v[i]->addr, &h->addr))
            return true;
    return false;
}

/* New hosts and sets of all targets; two names with one address of one priority give one host, as Envoy does. */
static void publish(struct dns_cluster *d, uint32_t added, bool changed)
{
    struct mz_cluster *c = d->cluster;
    struct endpoints_count count = { .added = added, .changed = changed };
    MZ_VEC(struct host_spec) specs = { 0 };
    for (size_t i = 0; i < d->n_targets; i++) {
        const struct target *t = &d->targets[i];
        for (uint32_t k = 0; k < t->n_hosts; k++) {
            struct mz_host *h = t->hosts[k];
            *mz_vec_push(&specs, MZ_MEM_UPSTREAM) =
                (struct host_spec){ mz_host_ref(h), t->locality };
            enum mz_host_health health = mz_host_health(h);
            count.total++;
            count.healthy += health == MZ_HOST_HEALTHY;
            count.degraded += health == MZ_HOST_DEGRADED;
            count.excluded += host_excluded(h);
            if (!d->logical && h->weight > count.max_weight)
                count.max_weight = h->weight;
        }
    }
    struct cluster_priv *p = cluster_priv(c);
    struct host_sets *s = host_sets_create(specs.v, (uint32_t)specs.n, d->localities,
                                           d->n_localities, p->lb.localities, ++p->seq);
    if (p->lb.subsets)
        subsets_build(p->lb.subsets, s);
    cluster_set_hosts(c, s);
    mz_vec_free(&specs, MZ_MEM_UPSTREAM);
    cluster_members_count(c, &count);
}

static struct mz_host *make_host(struct target *t, const struct mz_addr *a)
{
    struct dns_cluster *d = t->d;
    const struct locality_spec *l = &d->localities[t->locality];
    const char *hostname = t->endpoint->endpoint->hostname;
    struct host_text text = { hostname && hostname[0] ? mz_str_c(hostname) : t->name, l };
    struct mz_host *h = host_create(d->cluster, a, &text, t->weight, l->priority);
    endpoint_apply(h, t->endpoint, l);
    checker_host(cluster_priv(d->cluster)->checker, h, t->endpoint->endpoint);
    return h;
}

/* A host that is no longer named stays while active checks find it well (unless ignore_health_on_host_removal). */
static uint32_t keep_well(const struct target *t, struct mz_host **hosts, uint32_t n_hosts)
{
    const struct checker *k = cluster_priv(t->d->cluster)->checker;
    uint32_t n = n_hosts;
    for (uint32_t i = 0; k && i < n_hosts; i++) /* named again */
        __atomic_fetch_and(&hosts[i]->health_flags, ~(uint32_t)MZ_HOST_PENDING_REMOVAL,
                           __ATOMIC_RELAXED);
    for (uint32_t i = 0; k && !t->d->logical && i < t->n_hosts; i++) {
        struct mz_host *h = t->hosts[i];
        if (listed(hosts, n_hosts, h) || !checker_keeps(k, h))
            continue;
        __atomic_fetch_or(&h->health_flags, MZ_HOST_PENDING_REMOVAL, __ATOMIC_RELAXED);
        hosts[n++] = mz_host_ref(h);
    }
    return n;
}

/* LOGICAL_DNS: one host at all addresses; as Envoy's it is another one when the list or its order is. */
static struct mz_host *logical_host(struct target *t, const struct mz_dns_result *v, size_t n)
{
    struct mz_addr *addrs = mz_newn0(MZ_MEM_UPSTREAM, struct mz_addr, n);
    for (size_t i = 0; i < n; i++) {
        addrs[i] = v[i].addr;
        mz_addr_set_port(&addrs[i], t->port);
    }
    struct mz_host *h = t->n_hosts ? t->hosts[0] : NULL;
    if (h && same_addresses(h, addrs, n)) {
        mz_host_ref(h);
    } else {
        h = make_host(t, &addrs[0]);
        host_set_addresses(h, addrs, n);
    }
    mz_free(MZ_MEM_UPSTREAM, addrs);
    return h;
}

/* Returns whether the target's hosts changed. */
static bool take_answer(struct target *t, const struct mz_dns_result *v, size_t n,
                        uint32_t *out_added)
{
    struct dns_cluster *d = t->d;
    struct mz_host **hosts = mz_newn0(MZ_MEM_UPSTREAM, struct mz_host *, n + t->n_hosts + 1);
    uint32_t n_hosts = 0, kept = 0;
    *out_added = 0;
    if (d->logical && n) {
        hosts[n_hosts++] = logical_host(t, v, n);
        kept = t->n_hosts && hosts[0] == t->hosts[0];
    }
    for (size_t i = 0; !d->logical && i < n; i++) {
        struct mz_addr a = v[i].addr;
        mz_addr_set_port(&a, t->port);
        struct mz_host *h = known_host(t, &a);
        if (h && listed(hosts, n_hosts, h))
            continue;
        kept += h != NULL;
        h = h ? mz_host_ref(h) : make_host(t, &a);
        if (listed(hosts, n_hosts, h)) { /* the answer names an address twice */
            mz_host_unref(h);
            continue;
        }
        hosts[n_hosts++] = h;
    }
    *out_added = n_hosts - kept;
    if (d->logical && n_hosts && t->n_hosts && hosts[0] != t->hosts[0])
        checker_inherit(hosts[0], t->hosts[0]);
    uint32_t all = keep_well(t, hosts, n_hosts);
    kept += all - n_hosts;
    n_hosts = all;
    bool changed = n_hosts != t->n_hosts || kept != n_hosts;
    for (uint32_t i = 0; i < t->n_hosts; i++) {
        if (!d->logical && !listed(hosts, n_hosts, t->hosts[i]))
            __atomic_fetch_or(&t->hosts[i]->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
        mz_host_unref(t->hosts[i]);
    }
    mz_free(MZ_MEM_UPSTREAM, t->hosts);
    t->hosts = hosts;
    t->n_hosts = n_hosts;
    return changed;
}

static uint32_t jitter(struct dns_cluster *d)
{
    uint32_t j = cluster_priv(d->cluster)->dns_config->jitter_ms;
    return j ? (uint32_t)mz_rand_below(mz_loop_rand(cluster_loop(d->cluster)), j) : 0;
}

static uint32_t next_success_ms(struct target *t, const struct mz_dns_result *v, size_t n)
{
    const struct dns_config *cfg = cluster_priv(t->d->cluster)->dns_config;
    t->failure_ms = 0;
    if (!cfg->respect_ttl || !n)
        return cfg->refresh_ms;
    uint32_t ttl = v[0].ttl_s;
    for (size_t i = 1; i < n; i++)
        ttl = v[i].ttl_s < ttl ? v[i].ttl_s : ttl;
    return ttl ? (ttl > UINT32_MAX / 1000 ? UINT32_MAX : ttl * 1000)
               : cfg->refresh_ms; /* a TTL of 0 would spin (H09) */
}

/* Jittered back-off: anything up to a bound that doubles to the maximum. */
static uint32_t next_failure_ms(struct target *t)
{
    const struct dns_config *cfg = cluster_priv(t->d->cluster)->dns_config;
    t->failure_ms = t->failure_ms ? t->failure_ms : cfg->failure_base_ms;
    uint32_t bound = t->failure_ms;
    t->failure_ms = bound > cfg->failure_max_ms / 2 ? cfg->failure_max_ms : bound * 2;
    if (cfg->failure_base_ms == cfg->failure_max_ms)
        return bound; /* no back-off configured: the refresh rate */
    return 1 + (uint32_t)mz_rand_below(mz_loop_rand(cluster_loop(t->d->cluster)), bound);
}

static void answered(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n)
{
    struct target *t = arg;
    struct dns_cluster *d = t->d;
    struct mz_scope *s = d->cluster->scope;
    uint32_t added = 0;
    t->query = NULL;
    if (!ok) {
        mz_count(s, MZ_CS_UPDATE_FAILURE, 1);
        MZ_LOG(DEBUG, upstream, "cluster " MZ_STR_FMT ": resolving " MZ_STR_FMT " failed: %s",
               MZ_STR_ARG(d->cluster->name), MZ_STR_ARG(t->name), why ? why : "");
    } else {
        mz_count(s, MZ_CS_UPDATE_SUCCESS, 1);
        if (!n)
            mz_count(s, MZ_CS_UPDATE_EMPTY, 1);
        if (d->logical && !n) /* keeps its host */
            added = 0;
        else if (take_answer(t, v, n, &added))
            publish(d, added, true);
        else
            mz_count(s, MZ_CS_UPDATE_NO_REBUILD, 1);
    }
    mz_timer_start_ms(&t->timer,
                      (ok ? next_success_ms(t, v, n) : next_failure_ms(t)) + (uint64_t)jitter(d));
    if (!t->answered) {
        t->answered = true;
        if (--d->unanswered == 0)
            cluster_first_done(cluster_priv(d->cluster)->entry);
    }
}

static void resolve(struct target *t)
{
    struct dns_cluster *d = t->d;
    mz_count(d->cluster->scope, MZ_CS_UPDATE_ATTEMPT, 1);
    t->query =
        mz_dns_resolve(d->dns, t->name, cluster_priv(d->cluster)->dns_config->family, answered, t);
}

static void targets_build(struct dns_cluster *d, const pb_ClusterLoadAssignment *a)
{
    size_t n = 0;
    for (size_t i = 0; a && i < a->n_endpoints; i++)
        n += a->endpoints[i]->n_lb_endpoints;
    d->n_localities = a ? (uint32_t)a->n_endpoints : 0;
    d->localities = mz_arena_alloc0(d->arena, mz_mul(d->n_localities + 1, sizeof(*d->localities)));
    d->targets = mz_arena_alloc0(d->arena, mz_mul(n + 1, sizeof(*d->targets)));
    for (uint32_t i = 0; i < d->n_localities; i++) {
        d->localities[i] = locality_spec_of(a->endpoints[i]);
        for (size_t k = 0; k < a->endpoints[i]->n_lb_endpoints; k++) {
            const pb_LbEndpoint *e = a->endpoints[i]->lb_endpoints[k];
            const pb_SocketAddress *at = e->endpoint->address->socket_address;
            struct target *t = &d->targets[d->n_targets++];
            *t = (struct target){ .d = d,
                                  .endpoint = e,
                                  .name = mz_str_c(at->address),
                                  .port = (uint16_t)at->port_value,
                                  .weight = mz_u32_or(e->load_balancing_weight, 1),
                                  .locality = i };
            mz_timer_init(cluster_loop(d->cluster), &t->timer, fire);
        }
    }
    d->unanswered = d->n_targets;
}

struct dns_cluster *dns_cluster_create(struct mz_cluster *c, struct mz_err *err)
{
    const struct dns_config *cfg = cluster_priv(c)->dns_config;
    struct dns_cluster *d = mz_new0(MZ_MEM_UPSTREAM, struct dns_cluster);
    const struct mz_dns_opts o = { .servers = cfg->servers,
                                   .n_servers = cfg->n_servers,
                                   .use_tcp = cfg->use_tcp,
                                   .no_default_search = cfg->no_default_search,
                                   .rotate = cfg->rotate,
                                   .timeout_ms = cfg->timeout_ms,
                                   .tries = cfg->tries,
                                   .udp_max = cfg->udp_max };
    d->cluster = c;
    d->logical = c->type == CLUSTER_LOGICAL_DNS;
    d->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    struct mz_proto_ctx ctx = { .arena = d->arena, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg;
    if (mz_msg_unpack(&ctx, cluster_priv(c)->entry->bytes, &pb_Cluster__descriptor, &msg, err))
        d->dns = mz_dns_create(cluster_loop(c), &o, err);
    if (!d->dns) {
        dns_cluster_destroy(d);
        return NULL;
    }
    targets_build(d, ((const pb_Cluster *)msg)->load_assignment);
    for (size_t i = 0; i < d->n_targets; i++)
        resolve(&d->targets[i]);
    return d;
}

bool dns_cluster_waiting(const struct dns_cluster *d)
{
    return d->unanswered > 0;
}

void dns_cluster_destroy(struct dns_cluster *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_targets; i++) {
        struct target *t = &d->targets[i];
        mz_timer_stop(&t->timer);
        if (t->query)
            mz_dns_cancel(t->query);
        for (uint32_t k = 0; k < t->n_hosts; k++)
            mz_host_unref(t->hosts[k]);
        mz_free(MZ_MEM_UPSTREAM, t->hosts);
    }
    mz_dns_destroy(d->dns);
    mz_arena_destroy(d->arena);
    mz_free(MZ_MEM_UPSTREAM, d);
}
