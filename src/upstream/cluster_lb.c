/* Load balancing configuration of a cluster (U2): lb_policy with its old side messages, or load_balancing_policy. */
#include "upstream/lb_subset.h"
#include <inttypes.h>
#include <math.h>

#define DEFAULT_OVERPROVISIONING 140
#define DEFAULT_PANIC_PERCENT    50
#define DEFAULT_RING_MIN         1024
#define DEFAULT_RING_MAX         (8u << 20)
#define DEFAULT_MAGLEV_SIZE      65537
#define MAX_MAGLEV_SIZE          5000011

static bool bias_build(const pb_RuntimeDouble *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (!m)
        return true;
    lb->active_request_bias = m->default_value;
    if (!(m->default_value >= 0))
        return mz_err_set(err, "must not be negative, is %g", m->default_value) ||
               mz_err_at(err, "active_request_bias");
    if (m->runtime_key && m->runtime_key[0])
        lb->bias_key = cluster_keep_str(c, m->runtime_key);
    return true;
}

static bool choice_build(const pb_UInt32Value *m, struct lb_config *lb, struct mz_err *err)
{
    lb->choice_count = mz_u32_or(m, 2);
    if (lb->choice_count < 2)
        return mz_err_set(err, "must be at least 2, is %u", lb->choice_count) ||
               mz_err_at(err, "choice_count");
    return true;
}

static bool no_slow_start(const void *m, struct mz_err *err)
{
    return !m || mz_err_set(err, "slow start is not supported yet") ||
           mz_err_at(err, "slow_start_config");
}

static bool locality_build(const pb_LocalityLbConfig *m, struct lb_config *lb)
{
    lb->locality_weighted = m && m->locality_config_specifier_case != 0;
    return true;
}

static uint64_t u64_or(const pb_UInt64Value *v, uint64_t otherwise)
{
    return v ? v->value : otherwise;
}

static bool ring_build(const pb_UInt64Value *least, const pb_UInt64Value *most, bool murmur,
                       struct lb_config *lb, struct mz_err *err)
{
    struct hash_config *h = &lb->hash;
    h->min_size = u64_or(least, DEFAULT_RING_MIN);
    h->max_size = u64_or(most, DEFAULT_RING_MAX);
    h->function = murmur ? HASH_MURMUR2 : HASH_XX;
    if (!h->min_size || h->min_size > DEFAULT_RING_MAX || h->max_size > DEFAULT_RING_MAX)
        return mz_err_set(err, "must be 1 to %u", DEFAULT_RING_MAX) ||
               mz_err_at(err, "minimum_ring_size");
    return h->min_size <= h->max_size || mz_err_set(err,
                                                    "ring hash: minimum_ring_size (%" PRIu64
                                                    ") > maximum_ring_size (%" PRIu64 ")",
                                                    h->min_size, h->max_size);
}

static bool is_prime(uint64_t n)
{
    for (uint64_t i = 2; i * i <= n; i++)
        if (n % i == 0)
            return false;
    return n > 1;
}

static bool maglev_build(const pb_UInt64Value *size, struct lb_config *lb, struct mz_err *err)
{
    lb->hash.table_size = u64_or(size, DEFAULT_MAGLEV_SIZE);
    return (lb->hash.table_size <= MAX_MAGLEV_SIZE && is_prime(lb->hash.table_size)) ||
           mz_err_set(err, "The table size of maglev must be prime number") ||
           mz_err_at(err, "table_size");
}

static bool balance_build(const pb_UInt32Value *factor, struct lb_config *lb, struct mz_err *err)
{
    lb->hash.balance_factor = mz_u32_or(factor, 0);
    return !factor || factor->value >= 100 ||
           mz_err_set(err, "must be at least 100, is %u", factor->value) ||
           mz_err_at(err, "hash_balance_factor");
}

static bool consistent_build(const pb_ConsistentHashingLbConfig *m, struct lb_config *lb,
                             struct mz_err *err)
{
    if (!m)
        return true;
    lb->hash.use_hostname = m->use_hostname_for_hashing;
    return balance_build(m->hash_balance_factor, lb, err) ||
           mz_err_at(err, "consistent_hashing_lb_config");
}

static bool typed_ring_build(const pb_RingHash *m, struct lb_config *lb, struct mz_err *err)
{
    lb->locality_weighted = m->locality_weighted_lb_config != NULL;
    lb->hash.use_hostname = m->use_hostname_for_hashing;
    return balance_build(m->hash_balance_factor, lb, err) &&
           ring_build(m->minimum_ring_size, m->maximum_ring_size,
                      m->hash_function == pb_RingHash_HashFunction_MURMUR_HASH_2, lb, err) &&
           consistent_build(m->consistent_hashing_lb_config, lb, err);
}

static bool typed_maglev_build(const pb_Maglev *m, struct lb_config *lb, struct mz_err *err)
{
    lb->locality_weighted = m->locality_weighted_lb_config != NULL;
    return maglev_build(m->table_size, lb, err) &&
           consistent_build(m->consistent_hashing_lb_config, lb, err);
}

static bool typed_build(const ProtobufCMessage *msg, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (lb->type == &lb_least_request) {
        const pb_LeastRequest *m = (const pb_LeastRequest *)msg;
        return choice_build(m->choice_count, lb, err) &&
               bias_build(m->active_request_bias, c, err) &&
               no_slow_start(m->slow_start_config, err) &&
               locality_build(m->locality_lb_config, lb);
    }
    if (lb->type == &lb_round_robin) {
        const pb_RoundRobin *m = (const pb_RoundRobin *)msg;
        return no_slow_start(m->slow_start_config, err) &&
               locality_build(m->locality_lb_config, lb);
    }
    if (lb->type == &lb_ring_hash)
        return typed_ring_build((const pb_RingHash *)msg, lb, err);
    if (lb->type == &lb_maglev)
        return typed_maglev_build((const pb_Maglev *)msg, lb, err);
    if (lb->type == &lb_cluster_provided)
        return true; /* has no fields */
    return locality_build(((const pb_Random *)msg)->locality_lb_config, lb);
}

/* The first policy that is known wins, as the field says; none: an error that names the first. */
static bool extension_build(const pb_LoadBalancingPolicy *m, struct mz_cluster *c,
                            struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (!m || !m->n_policies)
        return mz_err_set(err, "at least one policy is required") ||
               mz_err_at(err, "load_balancing_policy");
    for (size_t i = 0; i < m->n_policies; i++) {
        const pb_TypedExtensionConfig *e = m->policies[i]->typed_extension_config;
        lb->type = e && e->typed_config ? lb_type_find(mz_any_type(e->typed_config)) : NULL;
        if (!lb->type)
            continue;
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                    .unknown = MZ_UNKNOWN_REJECT };
        ProtobufCMessage *msg;
        bool ok = mz_any_unpack_as(&ctx, e->typed_config, mz_type_find(mz_str_c(lb->type->config)),
                                   &msg, err) &&
                  typed_build(msg, c, err);
        mz_arena_destroy(ctx.arena);
        return ok ||
               mz_err_at(err,
                         "load_balancing_policy.policies[%zu].typed_extension_config.typed_config",
                         i);
    }
    const pb_TypedExtensionConfig *first = m->policies[0]->typed_extension_config;
    return mz_err_set(err, "no policy is supported; the first is '%s'", first ? first->name : "") ||
           mz_err_at(err, "load_balancing_policy.policies");
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
        return extension_build(m->load_balancing_policy, c, err);
    switch (m->lb_policy) {
    case pb_Cluster_LbPolicy_ROUND_ROBIN:
        lb->type = &lb_round_robin;
        return !rr || no_slow_start(rr->slow_start_config, err) ||
               mz_err_at(err, "round_robin_lb_config");
    case pb_Cluster_LbPolicy_RANDOM:
        lb->type = &lb_random;
        return true;
    case pb_Cluster_LbPolicy_LEAST_REQUEST:
        lb->type = &lb_least_request;
        if (!least)
            return true;
        return (choice_build(least->choice_count, lb, err) &&
                bias_build(least->active_request_bias, c, err) &&
                no_slow_start(least->slow_start_config, err)) ||
               mz_err_at(err, "least_request_lb_config");
    case pb_Cluster_LbPolicy_RING_HASH:
        lb->type = &lb_ring_hash;
        return ring_build(ring ? ring->minimum_ring_size : NULL,
                          ring ? ring->maximum_ring_size : NULL,
                          ring && ring->hash_function ==
                                      pb_Cluster_RingHashLbConfig_HashFunction_MURMUR_HASH_2,
                          lb, err) ||
               mz_err_at(err, "ring_hash_lb_config");
    case pb_Cluster_LbPolicy_MAGLEV:
        lb->type = &lb_maglev;
        return maglev_build(maglev ? maglev->table_size : NULL, lb, err) ||
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
    if (m->locality_config_specifier_case ==
        pb_Cluster_CommonLbConfig_LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        p->lb.locality_weighted = true;
    const pb_Cluster_CommonLbConfig_ConsistentHashingLbConfig *hash =
        m->consistent_hashing_lb_config;
    if (!hash || !p->lb.type->find || by_extension)
        return true;
    p->lb.hash.use_hostname = hash->use_hostname_for_hashing;
    return balance_build(hash->hash_balance_factor, &p->lb, err) ||
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

bool cluster_lb_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    const pb_ClusterLoadAssignment_Policy *policy =
        m->load_assignment ? m->load_assignment->policy : NULL;
    p->lb = (struct lb_config){ .choice_count = 2, .active_request_bias = 1 };
    p->priorities = (struct priority_opts){ .overprovisioning = DEFAULT_OVERPROVISIONING };
    if (policy) {
        if (policy->n_drop_overloads)
            return mz_err_set(err, "not supported yet") ||
                   mz_err_at(err, "load_assignment.policy.drop_overloads");
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
           subset_build(m, c, err);
}

void cluster_lb_scope(struct mz_cluster *c, struct mz_stats *st, struct mz_str prefix)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    char text[1100];
    if (lb->subsets)
        subset_scope(lb->subsets, st, prefix);
    if (!lb->type->stats)
        return;
    int n =
        snprintf(text, sizeof(text), MZ_STR_FMT "%s", MZ_STR_ARG(prefix), lb->type->stats_prefix);
    lb->hash.gauges = cluster_keep(c, sizeof(*lb->hash.gauges));
    lb->hash.gauges->scope = mz_scope_create(
        st, lb->type->stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
}
