#include "control/translate/dynamic.h"

bool tr_dynamic_speaks(enum mz_protocol p)
{
    return p == MZ_PROTOCOL_HTTP || p == MZ_PROTOCOL_HTTP2 || p == MZ_PROTOCOL_GRPC ||
           p == MZ_PROTOCOL_TLS;
}

/* The agent knows names of the mesh, too. */
static pb_TypedExtensionConfig *agent(const struct mz_view *v, struct mz_arena *a)
{
    pb_TypedExtensionConfig *m = TR_NEW(a, TypedExtensionConfig);
    pb_CaresDnsResolverConfig *r = TR_NEW(a, CaresDnsResolverConfig);
    TR_ADD(a, r, resolvers) = tr_address(a, v->proxy->dns, v->proxy->dns_port);
    m->name = TR_CONST("envoy.network.dns_resolver.cares");
    m->typed_config = tr_any(a, r);
    return m;
}

static pb_DnsCacheConfig *cache(const struct mz_view *v, struct mz_arena *a, struct mz_str host)
{
    const bool all = !host.n;
    pb_DnsCacheConfig *m = TR_NEW(a, DnsCacheConfig);
    m->name = all ? TR_CONST("allow_any_dfp_dns_cache")
                  : TR_PRINTF(a, "%.*s_dfp_dns_cache", MZ_STR_ARG(host));
    if (all)
        m->max_hosts =
            tr_u32(a, v->t->features.dynamic_hosts ? v->t->features.dynamic_hosts : 1024);
    if (all && v->proxy->dns.n)
        m->typed_dns_resolver_config = agent(v, a);
    m->dns_lookup_family = v->proxy->ipv6 && !v->proxy->ipv4 ? pb_Cluster_DnsLookupFamily_V6_ONLY
                                                             : pb_Cluster_DnsLookupFamily_V4_ONLY;
    return m;
}

/* A proxy refuses a cluster of that kind with options of HTTP that do not check names, unless it is told that this is meant. */
static bool is_insecure(const struct tr_cluster *c)
{
    const pb_UpstreamHttpProtocolOptions *o =
        c->http ? c->http->upstream_http_protocol_options : NULL;
    return c->http && !(o && o->auto_sni && o->auto_san_validation);
}

static void make_dynamic(struct tr_cluster *c, struct mz_str host, bool insecure)
{
    pb_dynamic_forward_proxy_ClusterConfig *m = TR_NEW(c->a, dynamic_forward_proxy_ClusterConfig);
    m->cluster_implementation_specifier_case =
        pb_dynamic_forward_proxy_ClusterConfig_CLUSTER_IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG;
    m->dns_cache_config = cache(c->v, c->a, host);
    m->allow_insecure_cluster_options = insecure;
    c->m->cluster_discovery_type_case = pb_Cluster_CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE;
    c->m->cluster_type = TR_NEW(c->a, Cluster_CustomClusterType);
    c->m->cluster_type->name = TR_CONST("envoy.clusters.dynamic_forward_proxy");
    c->m->cluster_type->typed_config = tr_any(c->a, m);
    c->m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
}

void tr_dynamic_cluster(struct tr_cluster *c)
{
    make_dynamic(c, c->service->host, is_insecure(c));
    if (!c->m->outlier_detection)
        c->m->common_lb_config = NULL;
}

void tr_dynamic_cluster_of_mesh(struct tr_cluster *c, const ist_ClientTLSSettings *t)
{
    static const struct mz_service anything = { .resolution = MZ_RESOLVE_DYNAMIC };
    c->service = &anything;
    c->policy = (struct mz_policy){ .tls = t };
    if (t) {
        tr_cluster_tls(c);
        c->m->metadata = NULL;
    }
    make_dynamic(c, MZ_STR(""), !c->m->transport_socket || is_insecure(c));
}

pb_HttpFilter *tr_dynamic_http_filter(struct mz_view *v, struct mz_arena *a, struct mz_str host)
{
    pb_dynamic_forward_proxy_FilterConfig *m = TR_NEW(a, dynamic_forward_proxy_FilterConfig);
    m->implementation_specifier_case =
        pb_dynamic_forward_proxy_FilterConfig_IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG;
    m->dns_cache_config = cache(v, a, host);
    return tr_named_http_filter(a, "envoy.filters.http.dynamic_forward_proxy", m);
}

pb_Filter *tr_dynamic_sni_filter(struct mz_view *v, struct mz_arena *a, struct mz_str host,
                                 uint16_t port)
{
    pb_sni_dynamic_forward_proxy_FilterConfig *m =
        TR_NEW(a, sni_dynamic_forward_proxy_FilterConfig);
    m->dns_cache_config = cache(v, a, host);
    m->port_specifier_case = pb_sni_dynamic_forward_proxy_FilterConfig_PORT_SPECIFIER_PORT_VALUE;
    m->port_value = port;
    return tr_filter(a, "envoy.extensions.filters.network.sni_dynamic_forward_proxy", m);
}
