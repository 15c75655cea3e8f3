/* A Cluster message becomes a struct mz_cluster (U1-U4, U7): main thread, once; the message is not kept. */
#include "upstream/health/health.h"
#include "upstream/lb_subset.h"
#include <math.h>

#define DEFAULT_CONNECT_TIMEOUT_MS 5000
#define DEFAULT_BUFFER_LIMIT       (1u << 20)
#define DEFAULT_BREAKER            1024
#define DEFAULT_RETRIES            3

struct kept {
    struct kept *next;
    max_align_t mem[];
};

void *cluster_keep(struct mz_cluster *c, size_t n)
{
    struct kept *k = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*k) + n);
    k->next = cluster_priv(c)->kept;
    cluster_priv(c)->kept = k;
    return k->mem;
}

struct mz_str cluster_keep_str(struct mz_cluster *c, const char *s)
{
    struct mz_str text = mz_str_c(s);
    char *p = cluster_keep(c, text.n + 1);
    if (text.n)
        memcpy(p, text.p, text.n);
    return (struct mz_str){ p, text.n };
}

bool percent_build(const pb_Percent *p, double otherwise, double *out_value, struct mz_err *err)
{
    double v = p ? p->value : otherwise;
    if (!(v >= 0 && v <= 100))
        return mz_err_set(err, "must be a percentage between 0 and 100, is %g", v);
    *out_value = v;
    return true;
}

static bool budget_build(const pb_CircuitBreakers_Thresholds_RetryBudget *m, struct mz_circuit *b,
                         struct mz_err *err)
{
    if (!m)
        return true;
    b->has_budget = true;
    b->min_retry_concurrency = mz_u32_or(m->min_retry_concurrency, 3);
    return percent_build(m->budget_percent, 20, &b->budget_percent, err) ||
           mz_err_at(err, "retry_budget.budget_percent");
}

static bool thresholds_build(const pb_CircuitBreakers_Thresholds *m, struct mz_circuit *b,
                             struct mz_err *err)
{
    b->max_connections = mz_u32_or(m->max_connections, DEFAULT_BREAKER);
    b->max_pending = mz_u32_or(m->max_pending_requests, DEFAULT_BREAKER);
    b->max_requests = mz_u32_or(m->max_requests, DEFAULT_BREAKER);
    b->max_retries = mz_u32_or(m->max_retries, DEFAULT_RETRIES);
    b->max_pools = m->max_connection_pools ? m->max_connection_pools->value : UINT64_MAX;
    b->track_remaining = m->track_remaining;
    return budget_build(m->retry_budget, b, err);
}

static bool circuits_build(const pb_CircuitBreakers *m, struct mz_cluster *c, struct mz_err *err)
{
    bool seen[MZ_PRIORITY__COUNT] = { false };
    for (size_t i = 0; i < MZ_PRIORITY__COUNT; i++)
        c->circuit[i] = (struct mz_circuit){ .max_connections = DEFAULT_BREAKER,
                                             .max_pending = DEFAULT_BREAKER,
                                             .max_requests = DEFAULT_BREAKER,
                                             .max_retries = DEFAULT_RETRIES,
                                             .max_pools = UINT64_MAX };
    cluster_priv(c)->host_max_connections = UINT64_MAX;
    for (size_t i = 0; m && i < m->n_thresholds; i++) {
        unsigned p = (unsigned)m->thresholds[i]->priority;
        if (p >= MZ_PRIORITY__COUNT)
            return mz_err_set(err, "unknown routing priority %u", p) ||
                   mz_err_at(err, "circuit_breakers.thresholds[%zu].priority", i);
        if (!seen[p] && !thresholds_build(m->thresholds[i], &c->circuit[p],
                                          err)) /* the first of a priority counts */
            return mz_err_at(err, "circuit_breakers.thresholds[%zu]", i);
        seen[p] = true;
    }
    for (size_t i = 0; m && i < m->n_per_host_thresholds; i++) {
        const pb_CircuitBreakers_Thresholds *t = m->per_host_thresholds[i];
        if (t->max_pending_requests || t->max_requests || t->max_retries ||
            t->max_connection_pools || t->retry_budget || t->track_remaining)
            return mz_err_set(err, "only max_connections can be limited per host") ||
                   mz_err_at(err, "circuit_breakers.per_host_thresholds[%zu]", i);
        if ((int)t->priority == MZ_PRIORITY_DEFAULT && t->max_connections)
            cluster_priv(c)->host_max_connections = t->max_connections->value;
    }
    return true;
}

struct mz_str cluster_prefix(struct mz_str stat_name, char *out_text, size_t size)
{
    int n = snprintf(out_text, size, "cluster." MZ_STR_FMT ".", MZ_STR_ARG(stat_name));
    return (struct mz_str){ out_text, (size_t)n < size ? (size_t)n : size - 1 };
}

struct mz_scope *cluster_scope(struct mz_stats *st, uint8_t type, struct mz_str prefix)
{
    return mz_scope_create(st, type == CLUSTER_EDS ? &mz_eds_cluster_stats : &mz_cluster_stats,
                           prefix);
}

static void scopes_create(struct mz_cluster *c, struct mz_stats *st)
{
    char text[1024];
    struct mz_str s = cluster_prefix(c->stat_name, text, sizeof(text));
    c->scope = cluster_scope(st, c->type, s);
    circuit_scopes(c, st, s);
    cluster_lb_scope(c, st, s);
    if (cluster_priv(c)->outlier)
        outlier_scope(cluster_priv(c)->outlier, st, s);
    if (cluster_priv(c)->checker)
        checker_scope(cluster_priv(c)->checker, st, s);
}

static bool type_build(const pb_Cluster *m, struct mz_cluster *c, const struct mz_upstream_env *env,
                       struct mz_err *err)
{
    struct cluster_entry *entry = cluster_priv(c)->entry;
    bool given = m->cluster_discovery_type_case == pb_Cluster_CLUSTER_DISCOVERY_TYPE_TYPE;
    if (m->cluster_discovery_type_case == pb_Cluster_CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE) {
        if (strcmp(m->cluster_type->name, "envoy.clusters.dynamic_forward_proxy") == 0) {
            c->type = CLUSTER_FORWARD;
            return forward_config(m, c, err);
        }
        if (strcmp(m->cluster_type->name, "envoy.clusters.aggregate") != 0)
            return mz_err_set(err,
                              "Didn't find a registered cluster factory implementation for name: "
                              "'%s'",
                              m->cluster_type->name) ||
                   mz_err_at(err, "cluster_type.name");
        c->type = CLUSTER_AGGREGATE;
        if (m->load_assignment)
            return mz_err_set(err,
                              "an aggregate cluster has the hosts of its inner clusters only") ||
                   mz_err_at(err, "load_assignment");
        return aggregate_config(m->cluster_type, c, err) && aggregate_check(c, err);
    }
    switch (given ? m->type : pb_Cluster_DiscoveryType_STATIC) {
    case pb_Cluster_DiscoveryType_STATIC:
        c->type = CLUSTER_STATIC;
        return true;
    case pb_Cluster_DiscoveryType_STRICT_DNS:
        c->type = CLUSTER_STRICT_DNS;
        return true;
    case pb_Cluster_DiscoveryType_LOGICAL_DNS:
        c->type = CLUSTER_LOGICAL_DNS;
        return true;
    case pb_Cluster_DiscoveryType_EDS:
        c->type = CLUSTER_EDS;
        return entry->eds ||
               eds_config(m, entry, env, err); /* it is there: the object is made anew */
    case pb_Cluster_DiscoveryType_ORIGINAL_DST:
        c->type = CLUSTER_ORIGINAL_DST;
        return original_dst_config(m, c, err);
    default:
        return mz_err_set(err, "unknown cluster type %d", (int)m->type) || mz_err_at(err, "type");
    }
}

static bool preconnect_build(const pb_Cluster_PreconnectPolicy *m, struct mz_cluster *c,
                             struct mz_err *err)
{
    c->preconnect_per_upstream = m ? mz_double_or(m->per_upstream_preconnect_ratio, 1) : 1;
    c->preconnect_predictive = m ? mz_double_or(m->predictive_preconnect_ratio, 1) : 1;
    if (!(c->preconnect_per_upstream >= 1 && c->preconnect_per_upstream <= 3))
        return mz_err_set(err, "must be between 1 and 3, is %g", c->preconnect_per_upstream) ||
               mz_err_at(err, "preconnect_policy.per_upstream_preconnect_ratio");
    if (!(c->preconnect_predictive >= 1 && c->preconnect_predictive <= 3))
        return mz_err_set(err, "must be between 1 and 3, is %g", c->preconnect_predictive) ||
               mz_err_at(err, "preconnect_policy.predictive_preconnect_ratio");
    return true;
}

static bool basics_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    uint64_t ms = DEFAULT_CONNECT_TIMEOUT_MS;
    c->pool_per_downstream = m->connection_pool_per_downstream_connection;
    if (c->pool_per_downstream && c->type == CLUSTER_AGGREGATE)
        return mz_err_set(err, "an aggregate cluster has no pools of its own") ||
               mz_err_at(err, "connection_pool_per_downstream_connection");
    if (!mz_duration_ms(m->connect_timeout, ms, &ms, err))
        return mz_err_at(err, "connect_timeout");
    if (!ms || ms > UINT32_MAX)
        return mz_err_set(err, "must be greater than 0s and at most %us", UINT32_MAX / 1000) ||
               mz_err_at(err, "connect_timeout");
    c->connect_timeout_ms = (uint32_t)ms;
    c->buffer_limit = mz_u32_or(m->per_connection_buffer_limit_bytes, DEFAULT_BUFFER_LIMIT);
    if (m->track_cluster_stats) {
        c->track_timeout_budgets = m->track_cluster_stats->timeout_budgets;
        c->track_sizes = m->track_cluster_stats->request_response_sizes;
    }
    if (m->metadata) {
        c->arena = mz_arena_create(MZ_MEM_UPSTREAM);
        c->metadata = mz_meta_build(m->metadata, c->arena);
    }
    cluster_priv(c)->close_on_health_failure = m->close_connections_on_host_health_failure;
    return true;
}

/* Cluster and private part: one allocation. The texts are the entry's. */
static struct mz_cluster *cluster_alloc(struct cluster_entry *e)
{
    struct box {
        struct mz_cluster c;
        struct cluster_priv p;
    } *box = mz_new0(MZ_MEM_UPSTREAM, struct box);
    box->c.refs = 1;
    box->c.priv = &box->p;
    box->p.manager = e->manager;
    box->p.entry = cluster_entry_ref(e);
    box->p.seq = 1; /* of the hosts before any came */
    box->c.name = e->name;
    box->c.stat_name = e->stat_name;
    box->c.added_via_api = e->via_api;
    return &box->c;
}

struct mz_cluster *cluster_create(struct cluster_entry *e, const struct mz_upstream_env *env,
                                  const pb_Cluster *m, struct endpoints_count *out_count,
                                  struct mz_err *err)
{
    struct mz_cluster *c = cluster_alloc(e);
    if (!c->name.n)
        (void)(mz_err_set(err, "must have at least 1 character") || mz_err_at(err, "name"));
    else if (type_build(m, c, env, err) && basics_build(m, c, err) &&
             circuits_build(m->circuit_breakers, c, err) &&
             outlier_build(m->outlier_detection, c, err) &&
             preconnect_build(m->preconnect_policy, c, err) && cluster_protocol_config(m, c, err) &&
             forward_names_check(m, c, err) &&
             checker_build(m, c, err) && /* a check by gRPC wants HTTP/2 */
             cluster_lb_config(m, c, err) && cluster_socket_config(m, c, err) &&
             (endpoints_check(m->load_assignment, c->type, out_count, err) ||
              mz_err_at(err, "load_assignment")) &&
             cluster_transport_config(m, c, env, err) && cluster_dns_config(m, c, err)) {
        scopes_create(c, env->stats);
        return c;
    }
    checker_stop(cluster_priv(c)->checker);
    cluster_free(c);
    return NULL;
}

void cluster_free(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    host_sets_unref(p->sets);
    cluster_transport_fini(c);
    mz_scope_unref(c->scope);
    alt_stats_destroy(p->alts);
    if (p->lb.subsets)
        mz_scope_unref(p->lb.subsets->scope);
    outlier_unref(p->outlier);
    checker_unref(p->checker);
    if (p->lb.hash.gauges)
        mz_scope_unref(p->lb.hash.gauges->scope);
    for (size_t i = 0; i < MZ_PRIORITY__COUNT; i++)
        mz_scope_unref(c->circuit[i].scope);
    mz_arena_destroy(c->arena);
    for (struct kept *k = p->kept, *next; k; k = next) {
        next = k->next;
        mz_free(MZ_MEM_UPSTREAM, k);
    }
    cluster_entry_unref(p->entry);
    mz_free(MZ_MEM_UPSTREAM, c);
}

struct mz_cluster *mz_cluster_ref(struct mz_cluster *c)
{
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void mz_cluster_unref(struct mz_cluster *c)
{
    if (c && __atomic_fetch_sub(&c->refs, 1, __ATOMIC_ACQ_REL) == 1)
        cluster_free(c);
}

void mz_cluster_show_members(const struct mz_cluster *c, struct mz_stream_info *i)
{
    i->up.members.scope = c->circuit[MZ_PRIORITY_DEFAULT].scope;
    i->up.members.i = MZ_CM_TOTAL;
}

uint64_t mz_cluster_member(const struct mz_cluster *c, enum mz_cluster_member_stat which)
{
    return mz_scope_value(c->circuit[MZ_PRIORITY_DEFAULT].scope, which);
}
