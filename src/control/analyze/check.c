#include "control/analyze/check_priv.h"

#include "base/map.h"
#include "control/analyze/check_policy.h"

bool mz_check_is_positive(const pb_Duration *d, const char *path, struct mz_err *err)
{
    uint64_t ms;
    if (!d)
        return true;
    if (!mz_duration_ms(d, 0, &ms, err))
        return mz_err_at(err, "%s", path);
    return ms ? true : AT(mz_err_set(err, "must be at least 1ms"), "%s", path);
}

static bool is_not_negative(int32_t v, const char *path, struct mz_err *err)
{
    return v >= 0 ? true : AT(mz_err_set(err, "must not be negative, is %d", v), "%s", path);
}

bool mz_check_connection_pool(const ist_ConnectionPoolSettings *p, struct mz_err *err)
{
    if (!p)
        return true;
    const ist_ConnectionPoolSettings_TCPSettings *t = p->tcp;
    const ist_ConnectionPoolSettings_HTTPSettings *h = p->http;
    if (t &&
        !(is_not_negative(t->max_connections, "tcp.max_connections", err) &&
          mz_check_is_positive(t->connect_timeout, "tcp.connect_timeout", err) &&
          mz_check_is_positive(t->max_connection_duration, "tcp.max_connection_duration", err)))
        return false;
    return !h || (is_not_negative(h->http1_max_pending_requests, "http.http1_max_pending_requests",
                                  err) &&
                  is_not_negative(h->http2_max_requests, "http.http2_max_requests", err) &&
                  is_not_negative(h->max_requests_per_connection,
                                  "http.max_requests_per_connection", err) &&
                  is_not_negative(h->max_retries, "http.max_retries", err) &&
                  is_not_negative(h->max_concurrent_streams, "http.max_concurrent_streams", err) &&
                  mz_check_is_positive(h->idle_timeout, "http.idle_timeout", err));
}

static bool is_percent(int32_t v, const char *path, struct mz_err *err)
{
    return v >= 0 && v <= 100 ? true
                              : AT(mz_err_set(err, "must be in 0..100, is %d", v), "%s", path);
}

static bool outlier(const ist_OutlierDetection *o, struct mz_err *err)
{
    if (!o)
        return true;
    if (!o->split_external_local_origin_errors &&
        mz_u32_or(o->consecutive_local_origin_failures, 0))
        return AT(mz_err_set(err, "needs split_external_local_origin_errors"),
                  "consecutive_local_origin_failures");
    return mz_check_is_positive(o->interval, "interval", err) &&
           mz_check_is_positive(o->base_ejection_time, "base_ejection_time", err) &&
           is_percent(o->max_ejection_percent, "max_ejection_percent", err) &&
           is_percent(o->min_health_percent, "min_health_percent", err);
}

static bool client_tls(const ist_ClientTLSSettings *t, struct mz_err *err)
{
    if (!t || t->credential_name[0] || t->mode != ist_ClientTLSSettings_TLSmode_MUTUAL)
        return true;
    if (!t->client_certificate[0])
        return AT(mz_err_set(err, "is required"), "tls.client_certificate");
    return t->private_key[0] || AT(mz_err_set(err, "is required"), "tls.private_key");
}

static bool places(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err)
{
    if (l && l->n_distribute && (l->n_failover || l->n_failover_priority))
        return mz_err_set(err, "only one of distribute and failover, failover_priority can be set");
    for (size_t i = 0; l && i < l->n_failover; i++)
        if (strcmp(l->failover[i]->from, l->failover[i]->to) == 0)
            return AT(mz_err_set(err, "\"%.60s\" cannot fail over to itself", l->failover[i]->from),
                      "failover[%zu]", i);
    for (size_t i = 0; l && i < l->n_failover_priority; i++)
        if (!l->failover_priority[i][0])
            return AT(mz_err_set(err, "must not be empty"), "failover_priority[%zu]", i);
    for (size_t i = 0; l && i < l->n_distribute; i++) {
        uint64_t sum = 0;
        for (size_t k = 0; k < l->distribute[i]->n_to; k++)
            sum += l->distribute[i]->to[k]->value;
        if (sum != 100)
            return AT(
                mz_err_set(err, "the shares together are %llu, not 100", (unsigned long long)sum),
                "distribute[%zu].to", i);
    }
    return true;
}

static bool balancer(const ist_LoadBalancerSettings *b, struct mz_err *err)
{
    if (b && b->warmup && !b->warmup->duration)
        return AT(mz_err_set(err, "is required"), "load_balancer.warmup.duration");
    return !b || places(b->locality_lb_setting, err) ||
           mz_err_at(err, "load_balancer.locality_lb_setting");
}

/* ---- MeshConfig ---- */

static bool selector(const ist_mesh_LabelSelector *s, struct mz_err *err)
{
    static const char *const operators[] = { "In", "NotIn", "Exists", "DoesNotExist" };
    for (size_t i = 0; i < s->n_matchexpressions; i++) {
        const ist_LabelSelectorRequirement *r = s->matchexpressions[i];
        bool known = false;
        for (size_t k = 0; k < MZ_COUNT(operators); k++)
            known |= strcmp(r->operator_, operators[k]) == 0;
        if (!known)
            return AT(mz_err_set(err, "\"%.60s\" is none of In, NotIn, Exists, DoesNotExist",
                                 r->operator_),
                      "matchExpressions[%zu].operator", i);
    }
    return true;
}

static bool mesh_config(const ist_MeshConfig *c, struct mz_err *err)
{
    uint64_t ms;
    for (size_t i = 0; i < c->n_discovery_selectors; i++)
        if (!selector(c->discovery_selectors[i], err))
            return mz_err_at(err, "discovery_selectors[%zu]", i);
    if (c->default_traffic_policy &&
        (!mz_check_connection_pool(c->default_traffic_policy->connection_pool, err) ||
         !outlier(c->default_traffic_policy->outlier_detection, err)))
        return mz_err_at(err, "default_traffic_policy");
    if (!places(c->locality_lb_setting, err))
        return mz_err_at(err, "locality_lb_setting");
    if (!mz_duration_ms(c->connect_timeout, 1, &ms, err))
        return mz_err_at(err, "connect_timeout");
    if (ms == 0)
        return AT(mz_err_set(err, "must be greater than 0s"), "connect_timeout");
    if (!mz_duration_ms(c->dns_refresh_rate, 60000, &ms, err))
        return mz_err_at(err, "dns_refresh_rate");
    return mz_duration_ms(c->protocol_detection_timeout, 0, &ms, err) ||
           mz_err_at(err, "protocol_detection_timeout");
}

/* ---- DestinationRule ---- */

static bool policy(const ist_TrafficPolicy *t, struct mz_err *err)
{
    if (!t)
        return true;
    if (!mz_check_connection_pool(t->connection_pool, err))
        return mz_err_at(err, "connection_pool");
    if (!outlier(t->outlier_detection, err))
        return mz_err_at(err, "outlier_detection");
    if (!client_tls(t->tls, err) || !balancer(t->load_balancer, err))
        return false;
    for (size_t i = 0; i < t->n_port_level_settings; i++) {
        const ist_TrafficPolicy_PortTrafficPolicy *p = t->port_level_settings[i];
        if (!p->port || p->port->number < 1 || p->port->number > UINT16_MAX)
            return AT(mz_err_set(err, "must be a number in 1..65535"),
                      "port_level_settings[%zu].port", i);
        if (!mz_check_connection_pool(p->connection_pool, err))
            return mz_err_at(err, "port_level_settings[%zu].connection_pool", i);
        if (!outlier(p->outlier_detection, err))
            return mz_err_at(err, "port_level_settings[%zu].outlier_detection", i);
        if (!client_tls(p->tls, err) || !balancer(p->load_balancer, err))
            return mz_err_at(err, "port_level_settings[%zu]", i);
    }
    return true;
}

bool mz_check_is_label(const char *s)
{
    const struct mz_str t = mz_str_c(s);
    for (size_t i = 0; i < t.n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
              (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '.' || s[i] == '_'))
            return false;
    return t.n > 0 && t.n <= 63;
}

/* Clusters are named after subsets. */
static bool names_differ(const ist_DestinationRule *m, struct mz_err *err)
{
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; ok && i < m->n_subsets; i++)
        if (mz_map_put(&seen, mz_str_c(m->subsets[i]->name), m->subsets[i]))
            ok = AT(mz_err_set(err, "duplicate subset names: %s", m->subsets[i]->name),
                    "subsets[%zu].name", i);
    mz_map_fini(&seen);
    return ok;
}

static bool destination_rule(const ist_DestinationRule *m, struct mz_err *err)
{
    if (!m->host[0])
        return AT(mz_err_set(err, "is required"), "host");
    if (!policy(m->traffic_policy, err))
        return mz_err_at(err, "traffic_policy");
    for (size_t i = 0; i < m->n_subsets; i++) {
        if (!mz_check_is_label(m->subsets[i]->name)) /* it becomes a part of names of clusters */
            return AT(mz_err_set(err, "\"%.100s\" is not a label", m->subsets[i]->name),
                      "subsets[%zu].name", i);
        if (!policy(m->subsets[i]->traffic_policy, err))
            return mz_err_at(err, "subsets[%zu].traffic_policy", i);
    }
    return names_differ(m, err);
}

static bool peer_authentication(const ist_PeerAuthentication *m, struct mz_err *err)
{
    const bool selects = m->selector && m->selector->n_match_labels;
    if (m->n_port_level_mtls && !selects)
        return AT(mz_err_set(err, "needs a selector"), "port_level_mtls");
    for (size_t i = 0; i < m->n_port_level_mtls; i++)
        if (m->port_level_mtls[i]->key < 1 || m->port_level_mtls[i]->key > UINT16_MAX)
            return AT(mz_err_set(err, "%u is no port", m->port_level_mtls[i]->key),
                      "port_level_mtls");
    return true;
}

bool mz_check_object(enum mz_kind k, const ProtobufCMessage *body, struct mz_err *err)
{
    switch (k) {
    case MZ_KIND_MESH_CONFIG:
        return mesh_config((const ist_MeshConfig *)body, err);
    case MZ_KIND_SERVICE_ENTRY:
        return mz_check_service_entry((const ist_ServiceEntry *)body, err);
    case MZ_KIND_WORKLOAD_ENTRY:
        return mz_check_workload_entry((const ist_WorkloadEntry *)body, err);
    case MZ_KIND_WORKLOAD_GROUP:
        return mz_check_workload_group((const ist_WorkloadGroup *)body, err);
    case MZ_KIND_PROXY_CONFIG:
        return check_proxy_config((const ist_networking_ProxyConfig *)body, err);
    case MZ_KIND_SIDECAR:
        return mz_check_sidecar((const ist_Sidecar *)body, err);
    case MZ_KIND_GATEWAY:
        return mz_check_gateway((const ist_Gateway *)body, err);
    case MZ_KIND_VIRTUAL_SERVICE:
        return mz_check_virtual_service((const ist_VirtualService *)body, err);
    case MZ_KIND_DESTINATION_RULE:
        return destination_rule((const ist_DestinationRule *)body, err);
    case MZ_KIND_PEER_AUTHENTICATION:
        return peer_authentication((const ist_PeerAuthentication *)body, err);
    case MZ_KIND_ENVOY_FILTER:
        return check_envoy_filter((const ist_EnvoyFilter *)body, err);
    case MZ_KIND_TELEMETRY:
        return check_telemetry((const ist_Telemetry *)body, err);
    case MZ_KIND_WASM_PLUGIN:
        return check_wasm_plugin((const ist_WasmPlugin *)body, err);
    case MZ_KIND_TRAFFIC_EXTENSION:
        return check_traffic_extension((const ist_TrafficExtension *)body, err);
    case MZ_KIND_AUTHORIZATION_POLICY:
        return check_authorization_policy((const ist_AuthorizationPolicy *)body, err);
    case MZ_KIND_REQUEST_AUTHENTICATION:
        return check_request_authentication((const ist_RequestAuthentication *)body, err);
    default:
        return mz_check_gateway_api(k, body, err); /* Kubernetes' own the API server has checked */
    }
}
