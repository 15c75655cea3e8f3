#include "route/retry_on.h"
#include "route/route_priv.h"

/* ---- which cluster ---- */

static bool weighted_build(struct builder *b, const pb_WeightedCluster_ClusterWeight *m,
                           const char *runtime_prefix, struct mz_weighted_cluster *out)
{
    if ((m->name[0] != 0) == (m->cluster_header[0] != 0))
        return mz_err_set(b->err, "exactly one of name, cluster_header is required");
    if (m->name[0] && !build_cluster_known(b, m->name))
        return mz_err_at(b->err, "name");
    out->name = build_str(b, m->name);
    out->cluster_header = build_lower(b, m->cluster_header);
    out->weight = mz_u32_or(m->weight, 0);
    if (runtime_prefix[0])
        out->runtime_key = mz_arena_printf(b->a, "%s.%s", runtime_prefix, m->name);
    out->metadata_match = mz_meta_build(m->metadata_match, b->a);
    if (m->host_rewrite_specifier_case ==
        pb_WeightedCluster_ClusterWeight_HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL)
        out->host_rewrite = build_str(b, m->host_rewrite_literal);
    struct pb_override *v = build_newn0(b, struct pb_override, m->n_typed_per_filter_config);
    for (size_t i = 0; i < m->n_typed_per_filter_config; i++)
        v[i] = (struct pb_override){ m->typed_per_filter_config[i]->key,
                                     m->typed_per_filter_config[i]->value };
    if (m->n_typed_per_filter_config)
        out->overrides = build_new0(b, struct mz_filter_overrides);
    return build_overrides(b, v, m->n_typed_per_filter_config, out->overrides) &&
           build_mutations(b, m->request_headers_to_add, m->n_request_headers_to_add,
                           m->request_headers_to_remove, m->n_request_headers_to_remove, "request",
                           &out->req) &&
           build_mutations(b, m->response_headers_to_add, m->n_response_headers_to_add,
                           m->response_headers_to_remove, m->n_response_headers_to_remove,
                           "response", &out->resp);
}

static bool weighted_clusters_build(struct builder *b, const pb_WeightedCluster *m,
                                    struct mz_route *r)
{
    if (!m->n_clusters)
        return mz_err_set(b->err, "clusters must have at least 1 item");
    r->weighted = build_newn0(b, struct mz_weighted_cluster, m->n_clusters);
    for (size_t i = 0; i < m->n_clusters; i++) {
        if (!weighted_build(b, m->clusters[i], m->runtime_key_prefix, &r->weighted[i]))
            return mz_err_at(b->err, "clusters[%zu]", i);
        r->weighted[i].metadata_match = mz_meta_merged(
            r->metadata_match, r->weighted[i].metadata_match, MZ_STR("envoy.lb"), b->a);
        r->n_weighted++;
        r->total_weight += r->weighted[i].weight;
    }
    if (m->random_value_specifier_case == pb_WeightedCluster_RANDOM_VALUE_SPECIFIER_HEADER_NAME)
        r->weighted_random_header = build_lower(b, m->header_name);
    if (r->total_weight > UINT32_MAX)
        return mz_err_set(b->err, "the sum of the weights is %llu; at most 4294967295 is allowed",
                          (unsigned long long)r->total_weight);
    return r->total_weight > 0 ||
           mz_err_set(b->err, "the sum of the weights must be greater than 0");
}

bool build_cluster_choice(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    switch (m->cluster_specifier_case) {
    case pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER:
        r->cluster = build_str(b, m->cluster);
        if (!r->cluster.n)
            return mz_err_set(b->err, "cluster must not be empty");
        return build_cluster_known(b, m->cluster) || mz_err_at(b->err, "cluster");
    case pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER_HEADER:
        r->cluster_header = build_lower(b, m->cluster_header);
        return r->cluster_header.n || mz_err_set(b->err, "cluster_header must not be empty");
    case pb_RouteAction_CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS:
        return weighted_clusters_build(b, m->weighted_clusters, r) ||
               mz_err_at(b->err, "weighted_clusters");
    default:
        return mz_err_set(b->err, "one of cluster, cluster_header, weighted_clusters is required");
    }
}

/* ---- timeouts ---- */

static bool timeouts_build(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    r->new_timeouts = m->max_stream_duration != NULL;
    if (!mz_duration_ms(m->timeout, 15000, &r->timeout_ms, b->err))
        return mz_err_at(b->err, "timeout");
    if (!build_opt_ms(b, m->idle_timeout, "idle_timeout", &r->idle_timeout) ||
        !build_opt_ms(b, m->max_grpc_timeout, "max_grpc_timeout", &r->max_grpc_timeout) ||
        !build_opt_ms(b, m->grpc_timeout_offset, "grpc_timeout_offset", &r->grpc_timeout_offset))
        return false;
    const pb_RouteAction_MaxStreamDuration *d = m->max_stream_duration;
    return !d || (build_opt_ms(b, d->max_stream_duration, "max_stream_duration.max_stream_duration",
                               &r->max_stream_duration) &&
                  build_opt_ms(b, d->grpc_timeout_header_max,
                               "max_stream_duration.grpc_timeout_header_max",
                               &r->grpc_timeout_header_max) &&
                  build_opt_ms(b, d->grpc_timeout_header_offset,
                               "max_stream_duration.grpc_timeout_header_offset",
                               &r->grpc_timeout_header_offset));
}

/* ---- upgrades ---- */

static bool upgrade_build(struct builder *b, const pb_RouteAction_UpgradeConfig *m,
                          struct mz_route *r)
{
    struct mz_upgrade *out = &r->upgrades[r->n_upgrades];
    out->type = build_str(b, m->upgrade_type);
    for (uint32_t i = 0; i < r->n_upgrades; i++)
        if (mz_str_ieq(r->upgrades[i].type, out->type))
            return mz_err_set(b->err, "upgrade_type '%s' is there twice", m->upgrade_type);
    out->enabled = mz_bool_or(m->enabled, true);
    out->connect = mz_str_ieq(out->type, MZ_STR("CONNECT"));
    if (m->connect_config && !out->connect)
        return mz_err_set(b->err, "connect_config is for upgrade_type CONNECT only, not '%s'",
                          m->upgrade_type);
    out->allow_post = m->connect_config && m->connect_config->allow_post;
    r->connect_terminates |= m->connect_config != NULL;
    r->n_upgrades++;
    return true;
}

static bool upgrades_build(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    r->upgrades = build_newn0(b, struct mz_upgrade, m->n_upgrade_configs);
    for (size_t i = 0; i < m->n_upgrade_configs; i++)
        if (!upgrade_build(b, m->upgrade_configs[i], r))
            return mz_err_at(b->err, "upgrade_configs[%zu]", i);
    return true;
}

/* ---- internal redirects ---- */

static bool predicate_build(struct builder *b, const pb_TypedExtensionConfig *m,
                            struct mz_internal_redirect *out)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!m->typed_config)
        return mz_err_set(b->err, "typed_config is required");
    if (!mz_any_unpack(b->env->factory->proto, m->typed_config, &type, &msg, b->err))
        return mz_err_at(b->err, "typed_config");
    if (type == &pb_PreviousRoutesConfig__descriptor) {
        out->previous_routes = true;
    } else if (type == &pb_SafeCrossSchemeConfig__descriptor) {
        out->safe_cross_scheme = true;
    } else if (type == &pb_AllowListedRoutesConfig__descriptor) {
        const pb_AllowListedRoutesConfig *cfg = (const pb_AllowListedRoutesConfig *)msg;
        out->allow_listed = true;
        out->allow_list = build_newn0(b, struct mz_str, cfg->n_allowed_route_names);
        for (size_t i = 0; i < cfg->n_allowed_route_names; i++)
            out->allow_list[out->n_allow_list++] = build_str(b, cfg->allowed_route_names[i]);
    } else {
        return mz_err_set(
            b->err, "typed_config is a %s; expected a predicate of internal redirects", type->name);
    }
    return true;
}

static bool redirect_code_add(uint32_t code, struct mz_internal_redirect *out)
{
    bool is_redirect = code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
    for (unsigned i = 0; i < out->n_codes; i++)
        if (out->codes[i] == code)
            return true;
    if (is_redirect)
        out->codes[out->n_codes++] = (uint16_t)code;
    return is_redirect;
}

bool build_internal_redirect(struct builder *b, const pb_InternalRedirectPolicy *m,
                             struct mz_route *r)
{
    struct mz_internal_redirect *out = build_new0(b, struct mz_internal_redirect);
    r->internal_redirect = out;
    out->enabled = true;
    out->max = mz_u32_or(m->max_internal_redirects, 1);
    out->allow_cross_scheme = m->allow_cross_scheme_redirect;
    for (size_t i = 0; i < m->n_redirect_response_codes; i++)
        (void)redirect_code_add(m->redirect_response_codes[i],
                                out); /* other codes have no effect, as in Envoy */
    if (!m->n_redirect_response_codes)
        (void)redirect_code_add(302, out);
    for (size_t i = 0; i < m->n_predicates; i++)
        if (!predicate_build(b, m->predicates[i], out))
            return mz_err_at(b->err, "predicates[%zu]", i);
    out->copy_headers = build_newn0(b, struct mz_str, m->n_response_headers_to_copy);
    for (size_t i = 0; i < m->n_response_headers_to_copy; i++) {
        struct mz_str name = build_lower(b, m->response_headers_to_copy[i]);
        if (name.n && name.p[0] == ':')
            return mz_err_set(b->err, "response_headers_to_copy[%zu]: '%s' is a pseudo-header", i,
                              name.p);
        out->copy_headers[out->n_copy_headers++] = name;
    }
    return true;
}

/* ---- the action ---- */

static bool policies_build(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    r->retry = b->retry;
    if (m->retry_policy && !build_retry(b, m->retry_policy, &r->retry))
        return mz_err_at(b->err, "retry_policy");
    r->hedge = b->hedge;
    if (m->hedge_policy && !build_hedge(b, m->hedge_policy, &r->hedge))
        return mz_err_at(b->err, "hedge_policy");
    r->mirrors = b->mirrors;
    r->n_mirrors = b->n_mirrors;
    if (m->n_request_mirror_policies) {
        r->n_mirrors = (uint32_t)m->n_request_mirror_policies;
        if (!build_mirrors(b, m->request_mirror_policies, m->n_request_mirror_policies,
                           &r->mirrors))
            return false;
    }
    if (m->internal_redirect_policy && !build_internal_redirect(b, m->internal_redirect_policy, r))
        return mz_err_at(b->err, "internal_redirect_policy");
    return build_hash(b, m, r) && upgrades_build(b, m, r);
}

bool build_action(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    static const unsigned not_found[] = { 503, 404, 500 };
    r->action = MZ_ACTION_CLUSTER;
    if ((unsigned)m->cluster_not_found_response_code >= MZ_COUNT(not_found))
        return mz_err_set(
            b->err,
            "cluster_not_found_response_code %d is not one of SERVICE_UNAVAILABLE, NOT_FOUND, "
            "INTERNAL_SERVER_ERROR",
            (int)m->cluster_not_found_response_code);
    r->cluster_not_found_status = not_found[m->cluster_not_found_response_code];
    r->metadata_match = mz_meta_build(m->metadata_match, b->a);
    r->append_x_forwarded_host = m->append_x_forwarded_host;
    r->priority_high = m->priority == pb_RoutingPriority_HIGH;
    r->include_vh_rate_limits = mz_bool_or(m->include_vh_rate_limits, false);
    return build_rate_limits(b, m->rate_limits, m->n_rate_limits, &r->rate_limits) &&
           build_cors(b, m->cors, &r->cors) && build_cluster_choice(b, m, r) &&
           build_path_rewrite(b, m, r) && build_host_rewrite(b, m, r) && timeouts_build(b, m, r) &&
           policies_build(b, m, r);
}
