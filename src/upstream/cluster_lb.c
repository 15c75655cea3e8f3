/* Load balancing configuration of a cluster (U2): lb_policy with its old side messages, or load_balancing_policy. */
#include "upstream/cluster_lb.h"
#include "upstream/lb_subset.h"
#include <math.h>

#define DEFAULT_OVERPROVISIONING 140
#define DEFAULT_PANIC_PERCENT    50
#define DEFAULT_MERGE_MS         1000

static bool old_slow_build(const pb_Cluster_SlowStartConfig *m, struct mz_cluster *c,
                           struct mz_err *err)
{
    return !m ||
           lb_slow_build(m->slow_start_window, m->aggression, m->min_weight_percent, c, err) ||
           mz_err_at(err, "slow_start_config");
}

static bool policy_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    const pb_Cluster_LeastRequestLbConfig *least =
        m->lb_config_case == pb_Cluster_LB_CONFIG_LEAST_REQUEST_LB_CONFIG
            ? m->least_request_lb_config
            : NULL;
    const pb_Cluster_RoundRobinLbConfig *rr =
        m->lb_config_case == pb_Cluster_LB_CONFIG_ROUND_ROBIN_LB_CONFIG ? m->round_robin_lb_config
                                                                        : NULL;
    const pb_Cluster_RingHashLbConfig *ring =
        m->lb_config_case == pb_Cluster_LB_CONFIG_RING_HASH_LB_CONFIG ? m->ring_hash_lb_config
                                                                      : NULL;
    const pb_Cluster_MaglevLbConfig *maglev =
        m->lb_config_case == pb_Cluster_LB_CONFIG_MAGLEV_LB_CONFIG ? m->maglev_lb_config : NULL;
    if (m->load_balancing_policy ||
        m->lb_policy == pb_Cluster_LbPolicy_LOAD_BALANCING_POLICY_CONFIG)
        return lb_extension_build(m->load_balancing_policy, c, err);
    switch (m->lb_policy) {
    case pb_Cluster_LbPolicy_ROUND_ROBIN:
        lb->type = &lb_round_robin;
        return !rr || old_slow_build(rr->slow_start_config, c, err) ||
               mz_err_at(err, "round_robin_lb_config");
    case pb_Cluster_LbPolicy_RANDOM:
        lb->type = &lb_random;
        return true;
    case pb_Cluster_LbPolicy_LEAST_REQUEST:
        lb->type = &lb_least_request;
        if (!least)
            return true;
        return (lb_choice_build(least->choice_count, lb, err) &&
                lb_bias_build(least->active_request_bias, c, err) &&
                old_slow_build(least->slow_start_config, c, err)) ||
               mz_err_at(err, "least_request_lb_config");
    case pb_Cluster_LbPolicy_RING_HASH:
        lb->type = &lb_ring_hash;
        return lb_ring_build(ring ? ring->minimum_ring_size : NULL,
                             ring ? ring->maximum_ring_size : NULL,
                             ring && ring->hash_function ==
                                         pb_Cluster_RingHashLbConfig_HashFunction_MURMUR_HASH_2,
                             lb, err) ||
               mz_err_at(err, "ring_hash_lb_config");
    case pb_Cluster_LbPolicy_MAGLEV:
        lb->type = &lb_maglev;
        return lb_maglev_build(maglev ? maglev->table_size : NULL, lb, err) ||
               mz_err_at(err, "maglev_lb_config");
    case pb_Cluster_LbPolicy_CLUSTER_PROVIDED:
        lb->type = &lb_cluster_provided;
        return true;
    default:
        return mz_err_set(err, "unknown policy %d", (int)m->lb_policy) ||
               mz_err_at(err, "lb_policy");
    }
}

/* Clusters that choose by themselves want that said; others cannot be asked to. */
static bool provided_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    const struct lb_type *own = c->type == CLUSTER_ORIGINAL_DST ? &lb_original_dst
                                : c->type == CLUSTER_AGGREGATE  ? &lb_aggregate
                                : c->type == CLUSTER_FORWARD    ? &lb_forward
                                                                : NULL;
    bool asked = lb->type == &lb_cluster_provided;
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&pb_Cluster_LbPolicy__descriptor, (int)m->lb_policy);
    if (own == &lb_original_dst && m->lb_policy != pb_Cluster_LbPolicy_CLUSTER_PROVIDED)
        return mz_err_set(err,
                          "LB policy %s is not valid for Cluster type ORIGINAL_DST. Only "
                          "'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'",
                          v ? v->name : "") ||
               mz_err_at(err, "lb_policy");
    if (asked != (own != NULL))
        return mz_err_set(err,
                          "cluster manager: cluster provided LB %sspecified but cluster '%s' %s "
                          "one. Check cluster documentation.",
                          asked ? "" : "not ", m->name, asked ? "did not provide" : "provided") ||
               mz_err_at(err, "lb_policy");
    if (!own)
        return true;
    lb->type = own;
    return !m->lb_subset_config ||
           mz_err_set(err, "LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config") ||
           mz_err_at(err, "lb_subset_config");
}

static uint8_t statuses(const pb_HealthStatusSet *m)
{
    unsigned bits = 0;
    for (size_t i = 0; i < m->n_statuses; i++)
        bits |= 1u << (unsigned)m->statuses[i];
    return (uint8_t)bits;
}

static bool locality_build(const pb_Cluster_CommonLbConfig *m, struct lb_config *lb,
                           struct mz_err *err)
{
    if (m->locality_config_specifier_case ==
        pb_Cluster_CommonLbConfig_LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        lb->locality_weighted = true;
    if (m->locality_config_specifier_case !=
        pb_Cluster_CommonLbConfig_LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG)
        return true;
    const pb_Cluster_CommonLbConfig_ZoneAwareLbConfig *z = m->zone_aware_lb_config;
    lb->zone.fail_traffic_on_panic = z->fail_traffic_on_panic;
    return lb_zone_build(z->routing_enabled, z->min_cluster_size, lb, err) ||
           mz_err_at(err, "zone_aware_lb_config");
}

/* @by_extension: the policy's own message counts in place of the older fields here. */
static bool common_build(const pb_Cluster_CommonLbConfig *m, bool by_extension,
                         struct mz_cluster *c, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    double panic;
    if (!percent_build(m ? m->healthy_panic_threshold : NULL, DEFAULT_PANIC_PERCENT, &panic, err))
        return mz_err_at(err, "healthy_panic_threshold");
    p->priorities.panic_threshold = (uint32_t)lround(panic);
    if (!m)
        return true;
    p->close_on_host_set_change = m->close_connections_on_host_set_change;
    if (!mz_duration_ms(m->update_merge_window, DEFAULT_MERGE_MS, &p->merge_ms, err))
        return mz_err_at(err, "update_merge_window");
    if (m->override_host_status)
        p->lb.override_statuses = statuses(m->override_host_status);
    if (!by_extension && !locality_build(m, &p->lb, err))
        return false;
    const pb_Cluster_CommonLbConfig_ConsistentHashingLbConfig *hash =
        m->consistent_hashing_lb_config;
    if (!hash || !p->lb.type->find || by_extension)
        return true;
    p->lb.hash.use_hostname = hash->use_hostname_for_hashing;
    return lb_balance_build(hash->hash_balance_factor, &p->lb, err) ||
           mz_err_at(err, "consistent_hashing_lb_config");
}

static bool subset_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    const pb_Cluster_LbSubsetConfig *s = m->lb_subset_config;
    if (!s)
        return true;
    if (m->load_balancing_policy && s->n_subset_selectors)
        return mz_err_set(err, "load_balancing_policy cannot be combined with lb_subset_config") ||
               mz_err_at(err, "lb_subset_config");
    if (s->locality_weight_aware && !lb->locality_weighted)
        return mz_err_set(err, "Locality weight aware subset LB requires that a "
                               "locality_weighted_lb_config be set") ||
               mz_err_at(err, "lb_subset_config.locality_weight_aware");
    return subset_config_build(s, c, &lb->subsets, err) || mz_err_at(err, "lb_subset_config");
}

/* Hosts by locality: for weights, or for zones where the process knows a local cluster, which is grouped itself. */
static bool places_wanted(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    struct mz_str local = mz_cluster_manager_local(p->manager);
    p->lb.localities =
        p->lb.locality_weighted || (local.n && (p->lb.type->pick || mz_str_eq(local, c->name)));
    return true;
}

bool cluster_lb_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    const pb_ClusterLoadAssignment_Policy *policy =
        m->load_assignment ? m->load_assignment->policy : NULL;
    p->merge_ms = DEFAULT_MERGE_MS;
    p->lb = (struct lb_config){ .choice_count = 2,
                                .active_request_bias = 1,
                                .override_statuses = LB_OVERRIDE_STATUSES,
                                .zone = { .routing_enabled = 100, .min_cluster_size = 6 } };
    p->priorities = (struct priority_opts){ .overprovisioning = DEFAULT_OVERPROVISIONING };
    if (policy) {
        if (!endpoints_drop(policy, &c->drop_millionths, err))
            return mz_err_at(err, "load_assignment.policy");
        p->priorities.overprovisioning =
            mz_u32_or(policy->overprovisioning_factor, DEFAULT_OVERPROVISIONING);
        p->priorities.by_weight = policy->weighted_priority_health;
        if (!p->priorities.overprovisioning)
            return mz_err_set(err, "must be greater than 0") ||
                   mz_err_at(err, "load_assignment.policy.overprovisioning_factor");
    }
    return policy_build(m, c, err) && provided_build(m, c, err) &&
           (common_build(m->common_lb_config, m->load_balancing_policy != NULL, c, err) ||
            mz_err_at(err, "common_lb_config")) &&
           subset_build(m, c, err) && places_wanted(c);
}

struct mz_scope *lb_type_scope(const struct lb_type *t, struct mz_stats *st, struct mz_str prefix)
{
    char text[1100];
    if (!t->stats)
        return NULL;
    int n = snprintf(text, sizeof(text), MZ_STR_FMT "%s", MZ_STR_ARG(prefix), t->stats_prefix);
    return mz_scope_create(
        st, t->stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
}

void cluster_lb_scope(struct mz_cluster *c, struct mz_stats *st, struct mz_str prefix)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (lb->subsets)
        subset_scope(lb->subsets, st, prefix);
    struct mz_scope *scope = lb_type_scope(lb->type, st, prefix);
    if (!scope)
        return;
    lb->hash.gauges = cluster_keep(c, sizeof(*lb->hash.gauges));
    lb->hash.gauges->scope = scope;
}
