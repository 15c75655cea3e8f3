/* load_balancing_policy (U2): the first policy of the list that is known; some wrap another list. */
#include "upstream/cluster_lb.h"
#include "upstream/lb_subset.h"

static bool slow_build(const pb_SlowStartConfig *m, struct mz_cluster *c, struct mz_err *err)
{
    return !m ||
           lb_slow_build(m->slow_start_window, m->aggression, m->min_weight_percent, c, err) ||
           mz_err_at(err, "slow_start_config");
}

static bool zone_build(const pb_LocalityLbConfig_ZoneAwareLbConfig *m, struct lb_config *lb,
                       struct mz_err *err)
{
    lb->zone.fail_traffic_on_panic = m->fail_traffic_on_panic;
    lb->zone.force_min = m->force_locality_direct_routing;
    if (m->force_local_zone)
        lb->zone.force_min = mz_u32_or(m->force_local_zone->min_size, 1);
    lb->zone.by_weight = m->locality_basis ==
                         pb_LocalityLbConfig_ZoneAwareLbConfig_LocalityBasis_HEALTHY_HOSTS_WEIGHT;
    return lb_zone_build(m->routing_enabled, m->min_cluster_size, lb, err) ||
           mz_err_at(err, "zone_aware_lb_config");
}

static bool locality_build(const pb_LocalityLbConfig *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (!m)
        return true;
    lb->locality_weighted =
        m->locality_config_specifier_case ==
        pb_LocalityLbConfig_LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG;
    return m->locality_config_specifier_case !=
               pb_LocalityLbConfig_LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG ||
           zone_build(m->zone_aware_lb_config, lb, err) || mz_err_at(err, "locality_lb_config");
}

static bool ring_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_RingHash *m = msg;
    struct lb_config *lb = &cluster_priv(c)->lb;
    lb->type = &lb_ring_hash;
    lb->locality_weighted = m->locality_weighted_lb_config != NULL;
    lb->hash.use_hostname = m->use_hostname_for_hashing;
    return lb_balance_build(m->hash_balance_factor, lb, err) &&
           lb_ring_build(m->minimum_ring_size, m->maximum_ring_size,
                         m->hash_function == pb_RingHash_HashFunction_MURMUR_HASH_2, lb, err) &&
           lb_consistent_build(m->consistent_hashing_lb_config, lb, err);
}

static bool maglev_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_Maglev *m = msg;
    struct lb_config *lb = &cluster_priv(c)->lb;
    lb->type = &lb_maglev;
    lb->locality_weighted = m->locality_weighted_lb_config != NULL;
    return lb_maglev_build(m->table_size, lb, err) &&
           lb_consistent_build(m->consistent_hashing_lb_config, lb, err);
}

static bool least_request_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_LeastRequest *m = msg;
    struct lb_config *lb = &cluster_priv(c)->lb;
    lb->type = &lb_least_request;
    lb->full_scan = m->selection_method == pb_LeastRequest_SelectionMethod_FULL_SCAN;
    return lb_choice_build(m->choice_count, lb, err) &&
           lb_bias_build(m->active_request_bias, c, err) &&
           slow_build(m->slow_start_config, c, err) &&
           locality_build(m->locality_lb_config, c, err);
}

static bool round_robin_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_RoundRobin *m = msg;
    cluster_priv(c)->lb.type = &lb_round_robin;
    return slow_build(m->slow_start_config, c, err) &&
           locality_build(m->locality_lb_config, c, err);
}

static bool random_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    cluster_priv(c)->lb.type = &lb_random;
    return locality_build(((const pb_Random *)msg)->locality_lb_config, c, err);
}

static bool provided_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    (void)msg; /* has no fields */
    (void)err;
    cluster_priv(c)->lb.type = &lb_cluster_provided;
    return true;
}

/* ---- policies around another ---- */

static bool policies_build(const pb_LoadBalancingPolicy *m, struct mz_cluster *c, bool inner,
                           struct mz_err *err);

/* Its fields have the numbers and types of lb_subset_config's, so its bytes are read as one. */
static bool subset_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_Subset *m = msg;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct lb_config *lb = &cluster_priv(c)->lb;
    ProtobufCMessage *old;
    bool ok =
        (policies_build(m->subset_lb_policy, c, true, err) || mz_err_at(err, "subset_lb_policy")) &&
        mz_msg_unpack(&ctx, mz_msg_pack_alloc(msg, ctx.arena),
                      &pb_Cluster_LbSubsetConfig__descriptor, &old, err) &&
        subset_config_build((const pb_Cluster_LbSubsetConfig *)old, c, &lb->subsets, err);
    if (ok && lb->subsets)
        lb->subsets->allow_redundant_keys = m->allow_redundant_keys;
    mz_arena_destroy(ctx.arena);
    return ok;
}

static bool override_source_build(const pb_OverrideHost_OverrideHostSource *m, struct mz_cluster *c,
                                  struct override_source *out, struct mz_err *err)
{
    if (!m->header[0] && !m->metadata)
        return mz_err_set(err, "Empty override source");
    if (m->header[0] && m->metadata)
        return mz_err_set(err, "Only one override source must be set");
    if (m->header[0])
        out->header = cluster_keep_lower(c, m->header);
    else
        lb_meta_key_build(m->metadata, c, &out->metadata);
    return true;
}

static bool override_build(const void *msg, struct mz_cluster *c, struct mz_err *err)
{
    const pb_OverrideHost *m = msg;
    struct override_config *o =
        cluster_keep(c, sizeof(*o) + mz_mul(m->n_override_host_sources, sizeof(o->v[0])));
    for (size_t i = 0; i < m->n_override_host_sources; i++)
        if (!override_source_build(m->override_host_sources[i], c, &o->v[o->n++], err))
            return mz_err_at(err, "override_host_sources[%zu]", i);
    cluster_priv(c)->lb.override = o;
    return policies_build(m->fallback_policy, c, true, err) || mz_err_at(err, "fallback_policy");
}

#define POLICY "envoy.extensions.load_balancing_policies."
static const struct policy {
    const char *config;
    bool (*build)(const void *msg, struct mz_cluster *c, struct mz_err *err);
    bool wraps; /* holds a list of policies; not within another */
} policies[] = {
    { POLICY "cluster_provided.v3.ClusterProvided", provided_build, false },
    { POLICY "least_request.v3.LeastRequest", least_request_build, false },
    { POLICY "maglev.v3.Maglev", maglev_build, false },
    { POLICY "override_host.v3.OverrideHost", override_build, true },
    { POLICY "random.v3.Random", random_build, false },
    { POLICY "ring_hash.v3.RingHash", ring_build, false },
    { POLICY "round_robin.v3.RoundRobin", round_robin_build, false },
    { POLICY "subset.v3.Subset", subset_build, true },
};

static const struct policy *policy_find(const pb_TypedExtensionConfig *e, bool inner)
{
    for (size_t i = 0; e && e->typed_config && i < MZ_COUNT(policies); i++)
        if (mz_str_eq(mz_any_type(e->typed_config), mz_str_c(policies[i].config)) &&
            !(inner && policies[i].wraps))
            return &policies[i];
    return NULL;
}

static bool policies_build(const pb_LoadBalancingPolicy *m, struct mz_cluster *c, bool inner,
                           struct mz_err *err)
{
    if (!m || !m->n_policies)
        return mz_err_set(err, "at least one policy is required");
    for (size_t i = 0; i < m->n_policies; i++) {
        const pb_TypedExtensionConfig *e = m->policies[i]->typed_extension_config;
        const struct policy *p = policy_find(e, inner);
        if (!p)
            continue;
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                    .unknown = MZ_UNKNOWN_COUNT };
        ProtobufCMessage *msg;
        bool ok =
            mz_any_unpack_as(&ctx, e->typed_config, mz_type_find(mz_str_c(p->config)), &msg, err) &&
            p->build(msg, c, err);
        mz_arena_destroy(ctx.arena);
        return ok || mz_err_at(err, "policies[%zu].typed_extension_config.typed_config", i);
    }
    const pb_TypedExtensionConfig *first = m->policies[0]->typed_extension_config;
    return mz_err_set(err, "no policy is supported%s; the first is '%s'", inner ? " here" : "",
                      first ? first->name : "") ||
           mz_err_at(err, "policies");
}

bool lb_extension_build(const pb_LoadBalancingPolicy *m, struct mz_cluster *c, struct mz_err *err)
{
    return policies_build(m, c, false, err) || mz_err_at(err, "load_balancing_policy");
}
