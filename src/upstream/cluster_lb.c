/* Load balancing configuration of a cluster (U2): lb_policy with its old side messages, or load_balancing_policy. */
#include "upstream/upstream_priv.h"
#include <math.h>

#define DEFAULT_OVERPROVISIONING 140
#define DEFAULT_PANIC_PERCENT    50

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
    default: {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
            &pb_Cluster_LbPolicy__descriptor, (int)m->lb_policy);
        return mz_err_set(err, "%s is not supported yet", v ? v->name : "this policy") ||
               mz_err_at(err, "lb_policy");
    }
    }
}

static bool common_build(const pb_Cluster_CommonLbConfig *m, struct mz_cluster *c,
                         struct mz_err *err)
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
    return true;
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
    return policy_build(m, c, err) &&
           (common_build(m->common_lb_config, c, err) || mz_err_at(err, "common_lb_config"));
}
