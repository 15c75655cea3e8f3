#include "control/analyze/check_priv.h"

#include "control/analyze/check_policy.h"

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

static bool ports(const ist_MeshConfig *c, struct mz_err *err)
{
    const int32_t out = c->proxy_listen_port, in = c->proxy_inbound_listen_port;
    if (c->proxy_http_port < 0 || c->proxy_http_port > UINT16_MAX)
        return AT(mz_err_set(err, "%d is no port", c->proxy_http_port), "proxy_http_port");
    if (out < 0 || out > UINT16_MAX)
        return AT(mz_err_set(err, "%d is no port", out), "proxy_listen_port");
    if (in < 0 || in > UINT16_MAX)
        return AT(mz_err_set(err, "%d is no port", in), "proxy_inbound_listen_port");
    return (out ? out : 15001) != (in ? in : 15006) ||
           AT(mz_err_set(err, "is the port of what leaves"), "proxy_inbound_listen_port");
}

static bool visibility(const ist_ServiceEntryVisibility *v, struct mz_err *err)
{
    for (size_t i = 0; v && i < v->n_policies; i++)
        for (size_t k = 0; k < v->policies[i]->n_matching_rules; k++) {
            const ist_ServiceEntryVisibility_MatchRule *r = v->policies[i]->matching_rules[k];
            if (r->namespace_selector && !selector(r->namespace_selector, err))
                return AT(false, "policies[%zu].matching_rules[%zu].namespace_selector", i, k);
        }
    return true;
}

/* As many as a Telemetry may name. */
static bool default_providers(const ist_MeshConfig_DefaultProviders *d, struct mz_err *err)
{
    enum { MAX = 50 };
    return !d ||
           (mz_check_count(d->n_tracing, MAX, "default_providers.tracing", err) &&
            mz_check_count(d->n_metrics, MAX, "default_providers.metrics", err) &&
            mz_check_count(d->n_access_logging, MAX, "default_providers.access_logging", err));
}

static bool mesh_config(const ist_MeshConfig *c, struct mz_err *err)
{
    uint64_t ms;
    if (!ports(c, err) || !default_providers(c->default_providers, err))
        return false;
    for (size_t i = 0; i < c->n_discovery_selectors; i++)
        if (!selector(c->discovery_selectors[i], err))
            return mz_err_at(err, "discovery_selectors[%zu]", i);
    if (c->outbound_traffic_policy && !mz_check_client_tls(c->outbound_traffic_policy->tls, err))
        return mz_err_at(err, "outbound_traffic_policy");
    if (!visibility(c->service_entry_visibility, err))
        return mz_err_at(err, "service_entry_visibility");
    if (c->default_traffic_policy &&
        (!mz_check_connection_pool(c->default_traffic_policy->connection_pool, err) ||
         !mz_check_outlier(c->default_traffic_policy->outlier_detection, err)))
        return mz_err_at(err, "default_traffic_policy");
    const ist_HTTPRetry *in = c->default_inbound_http_retry_policy;
    if (in && (!mz_check_retries(in, err) ||
               (!in->attempts && in->backoff &&
                !AT(mz_err_set(err, "says how, but attempts is 0"), "backoff"))))
        return mz_err_at(err, "default_inbound_http_retry_policy");
    if (!mz_check_zones(c->zone_aware_lb_setting, err))
        return mz_err_at(err, "zone_aware_lb_setting");
    if (!mz_check_places(c->locality_lb_setting, err))
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

/* ---- PeerAuthentication ---- */

static bool peer_authentication(const ist_PeerAuthentication *m, struct mz_err *err)
{
    const bool selects = m->selector && m->selector->n_match_labels;
    if (m->n_port_level_mtls && !selects)
        return AT(mz_err_set(err, "needs a selector"), "port_level_mtls");
    for (size_t i = 0; i < m->n_port_level_mtls; i++)
        if (m->port_level_mtls[i]->key < 1 || m->port_level_mtls[i]->key > UINT16_MAX)
            return AT(mz_err_set(err, "%u is no port", m->port_level_mtls[i]->key),
                      "port_level_mtls");
    return check_targets(m->selector, NULL, NULL, 0, err);
}

/* Kubernetes has no limit; proxies of all who see a service get a cluster for each. */
static bool service(const k8s_Service *m, struct mz_err *err)
{
    enum { MAX_PORTS = 16384 };
    return !m->spec || mz_check_count(m->spec->n_ports, MAX_PORTS, "spec.ports", err);
}

bool mz_check_object(enum mz_kind k, const ProtobufCMessage *body, struct mz_err *err)
{
    switch (k) {
    case MZ_KIND_MESH_CONFIG:
        return mesh_config((const ist_MeshConfig *)body, err);
    case MZ_KIND_SERVICE:
        return service((const k8s_Service *)body, err);
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
        return mz_check_destination_rule((const ist_DestinationRule *)body, err);
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

static bool own_once(char *const *v, size_t n, struct mz_str ns, bool alone, struct mz_err *err)
{
    size_t own = 0;
    for (size_t i = 0; i < n; i++)
        own += strcmp(v[i], ".") == 0 || mz_str_eq(mz_str_c(v[i]), ns);
    if (own > 1)
        return AT(mz_err_set(err, "\".\" and \"%.*s\" are the same", MZ_STR_ARG(ns)), "export_to");
    return !alone || own == n ||
           AT(mz_err_set(err, "with a workload_selector it is for its own namespace"), "export_to");
}

bool mz_check_exports_from(enum mz_kind k, struct mz_str ns, const ProtobufCMessage *body,
                           struct mz_err *err)
{
    const ist_VirtualService *v = (const ist_VirtualService *)body;
    const ist_ServiceEntry *e = (const ist_ServiceEntry *)body;
    const ist_DestinationRule *r = (const ist_DestinationRule *)body;
    switch (k) {
    case MZ_KIND_VIRTUAL_SERVICE:
        return own_once(v->export_to, v->n_export_to, ns, false, err);
    case MZ_KIND_SERVICE_ENTRY:
        return own_once(e->export_to, e->n_export_to, ns, false, err);
    case MZ_KIND_DESTINATION_RULE:
        return own_once(r->export_to, r->n_export_to, ns, r->workload_selector, err);
    default:
        return true;
    }
}
