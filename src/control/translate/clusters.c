/* Clusters (CDS): one per visible service and port, one per port of the workload, and the three that are always there. */
#include "control/translate/dynamic.h"
#include "control/translate/gateway.h"
#include "control/translate/ingress.h"
#include "control/translate/mesh.h"
#include "control/translate/own.h"
#include "control/translate/tell.h"

#define FOR_EVER_S 9223372035LL /* the longest duration that every proxy can take */

static void put_http(struct tr_cluster *c, const void *options)
{
    pb_Cluster_TypedExtensionProtocolOptionsEntry *e =
        TR_NEW(c->a, Cluster_TypedExtensionProtocolOptionsEntry);
    e->key = TR_CONST("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    e->value = tr_any(c->a, options);
    TR_ADD(c->a, c->m, typed_extension_protocol_options) = e;
}

bool tr_cluster_is_http2(const struct tr_cluster *c)
{
    return c->http &&
           c->http->upstream_protocol_options_case ==
               pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG &&
           c->http->explicit_http_config->protocol_config_case ==
               pb_HttpProtocolOptions_ExplicitHttpConfig_PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS;
}

static void set_http2(struct tr_cluster *c)
{
    pb_http_HttpProtocolOptions *o = tr_cluster_http(c);
    o->upstream_protocol_options_case =
        pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG;
    o->explicit_http_config = TR_NEW(c->a, HttpProtocolOptions_ExplicitHttpConfig);
    o->explicit_http_config->protocol_config_case =
        pb_HttpProtocolOptions_ExplicitHttpConfig_PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS;
    o->explicit_http_config->http2_protocol_options = TR_NEW(c->a, Http2ProtocolOptions);
}

/* To HTTP/2, where the rule says so, or it says nothing and the mesh says so of all HTTP. */
static bool is_upgraded(const struct tr_cluster *c,
                        const ist_ConnectionPoolSettings_HTTPSettings *http, enum mz_protocol p)
{
    if (http && http->use_client_protocol)
        return false;
    if (http && http->h2_upgrade_policy != ist_ConnectionPoolSettings_H2UpgradePolicy_DEFAULT)
        return http->h2_upgrade_policy == ist_ConnectionPoolSettings_H2UpgradePolicy_UPGRADE;
    return mz_protocol_is_http(p) &&
           c->v->model->mesh.config->h2_upgrade_policy == ist_MeshConfig_H2UpgradePolicy_UPGRADE;
}

/* HTTP/1, and nothing else any more: an upgrade comes too late. */
static void set_http1(struct tr_cluster *c, const pb_Http1ProtocolOptions *http1)
{
    pb_http_HttpProtocolOptions *o = tr_cluster_http(c);
    o->upstream_protocol_options_case =
        pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG;
    o->explicit_http_config = TR_NEW(c->a, HttpProtocolOptions_ExplicitHttpConfig);
    o->explicit_http_config->protocol_config_case =
        pb_HttpProtocolOptions_ExplicitHttpConfig_PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS;
    o->explicit_http_config->http_protocol_options = (pb_Http1ProtocolOptions *)(uintptr_t)http1;
}

/* As the port says; where it says nothing, sidecars speak what the client speaks. */
static void protocol(struct tr_cluster *c, enum mz_protocol p)
{
    const ist_ConnectionPoolSettings_HTTPSettings *http =
        c->policy.pool ? c->policy.pool->http : NULL;
    const pb_Http1ProtocolOptions *http1 =
        p == MZ_PROTOCOL_UNKNOWN || mz_protocol_is_http(p) ? tr_mesh_http1(c->v) : NULL;
    if (mz_protocol_is_http2(p))
        set_http2(c);
    else if (p == MZ_PROTOCOL_UNKNOWN && c->v->proxy->type == MZ_PROXY_SIDECAR)
        tr_cluster_as_client(c);
    else if (http1)
        set_http1(c, http1);
    else if (c->service && is_upgraded(c, http, p))
        set_http2(c);
}

static void begin(struct tr_cluster *c, char *name, int type)
{
    c->m = TR_NEW(c->a, Cluster);
    c->m->name = name;
    c->m->alt_stat_name = TR_CAT(
        c->a, mz_str_c(name), MZ_STR(";")); /* it ends the name for whoever takes tags out of it */
    c->m->cluster_discovery_type_case = pb_Cluster_CLUSTER_DISCOVERY_TYPE_TYPE;
    c->m->type = (pb_Cluster_DiscoveryType)type;
    c->m->connect_timeout = tr_duration_us(c->a, c->v->model->mesh.connect_timeout_us);
}

/* What telemetry calls the services behind a cluster. */
static void name_service(struct tr_cluster *c, const struct mz_service *s)
{
    if (c->v->t->features.no_service_names)
        return;
    pb_Struct *istio = tr_metadata(c->a, &c->m->metadata, "istio");
    pb_Struct *one = tr_list_add_struct(c->a, tr_struct_list(c->a, istio, "services"));
    tr_struct_text(c->a, one, "host", s->host);
    tr_struct_text(c->a, one, "name", s->name);
    tr_struct_text(c->a, one, "namespace", s->ns);
}

static void exchange_metadata(struct tr_cluster *c)
{
    if (c->v->exchange)
        TR_ADD(c->a, c->m, filters) = TR_PACKED(c->v, CLUSTER_EXCHANGE);
}

/* Options of HTTP need a choice of protocol, and the plainest is HTTP/1. */
static void finish_http(struct tr_cluster *c)
{
    pb_http_HttpProtocolOptions *o = c->http;
    if (!o)
        return;
    if (o->upstream_protocol_options_case ==
        pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS__NOT_SET)
        set_http1(c, TR_NEW(c->a, Http1ProtocolOptions));
    put_http(c, o);
}

static struct mz_out *finish(struct tr_cluster *c)
{
    finish_http(c);
    return mz_out_create(mz_str_c(c->m->name), &c->m->base);
}

/* ---- outbound ---- */

static void by_endpoints(struct tr_cluster *c)
{
    c->m->eds_cluster_config = TR_NEW(c->a, Cluster_EdsClusterConfig);
    c->m->eds_cluster_config->eds_config = TR_PACKED(c->v, CLUSTER_BY_ADS);
    c->m->eds_cluster_config->service_name = c->m->name;
}

/* Where it came from, for people. */
static void name_rule(struct tr_cluster *c, const struct mz_rule *r)
{
    tr_name_document(c->a, &c->m->metadata, "destination-rule", r->ns, r->name);
    if (c->subset.n)
        tr_struct_text(c->a, tr_metadata(c->a, &c->m->metadata, "istio"), "subset", c->subset);
}

/* Headless: the client has chosen the address. A gateway has no client that could. */
static bool by_client(const struct mz_view *v, const struct mz_service *s)
{
    return s->resolution == MZ_RESOLVE_PASSTHROUGH && v->proxy->type == MZ_PROXY_SIDECAR;
}

static bool dials_itself(const struct mz_view *v, const struct mz_service *s,
                         const ist_LoadBalancerSettings *lb)
{
    return by_client(v, s) ||
           (lb && lb->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_SIMPLE &&
            lb->simple == ist_LoadBalancerSettings_SimpleLB_PASSTHROUGH);
}

static bool by_name(const struct mz_service *s)
{
    return s->resolution == MZ_RESOLVE_DNS || s->resolution == MZ_RESOLVE_DNS_ONE;
}

static int discovery_type(const struct mz_view *v, const struct mz_service *s)
{
    if (by_name(s))
        return s->resolution == MZ_RESOLVE_DNS ? pb_Cluster_DiscoveryType_STRICT_DNS
                                               : pb_Cluster_DiscoveryType_LOGICAL_DNS;
    if (s->resolution == MZ_RESOLVE_DYNAMIC)
        return pb_Cluster_DiscoveryType_STATIC; /* until its last step */
    return by_client(v, s) ? pb_Cluster_DiscoveryType_ORIGINAL_DST : pb_Cluster_DiscoveryType_EDS;
}

bool tr_has_endpoints(const struct mz_view *v, const struct mz_service *s)
{
    return discovery_type(v, s) == pb_Cluster_DiscoveryType_EDS;
}

/* Where the client wanted, but for the port (a ServiceEntry of NONE with a targetPort). */
static void other_port(struct tr_cluster *c)
{
    if (c->m->type != pb_Cluster_DiscoveryType_ORIGINAL_DST || !c->service->entry ||
        c->port->target == c->port->port)
        return;
    c->m->lb_config_case = pb_Cluster_LB_CONFIG_ORIGINAL_DST_LB_CONFIG;
    c->m->original_dst_lb_config = TR_NEW(c->a, Cluster_OriginalDstLbConfig);
    c->m->original_dst_lb_config->upstream_port_override = tr_u32(c->a, c->port->target);
}

/* The proxy looks the endpoints up itself. False: there are none to look up, and no such cluster then. */
static bool look_up(struct tr_cluster *c)
{
    const struct mz_proxy *p = c->v->proxy;
    if (c->m->type != pb_Cluster_DiscoveryType_STRICT_DNS &&
        c->m->type != pb_Cluster_DiscoveryType_LOGICAL_DNS)
        return true;
    c->m->dns_lookup_family = p->ipv6 && !p->ipv4 ? pb_Cluster_DnsLookupFamily_V6_ONLY
                                                  : pb_Cluster_DnsLookupFamily_V4_ONLY;
    c->m->dns_refresh_rate = tr_duration_us(c->a, c->v->model->mesh.dns_refresh_us);
    c->m->dns_jitter = tr_duration_us(c->a, 100000);
    c->m->respect_dns_ttl = true;
    c->m->typed_dns_resolver_config = TR_PACKED(c->v, RESOLVER);
    c->m->load_assignment = tr_assignment(c->v, c->a, mz_str_c(c->m->name), c->service,
                                          c->endpoints, c->selected, &c->policy);
    return c->m->load_assignment->n_endpoints != 0;
}

static bool keeps_sessions(const struct mz_service *s)
{
    return mz_label_get(s->labels, MZ_SESSION_LABEL).n ||
           mz_label_get(s->labels, MZ_SESSION_HEADER_LABEL).n;
}

/* Which endpoints a session may still choose: those that end, too. */
static pb_HealthStatusSet *while_it_ends(struct mz_arena *a)
{
    static const pb_HealthStatus statuses[] = { pb_HealthStatus_HEALTHY, pb_HealthStatus_DRAINING,
                                                pb_HealthStatus_UNKNOWN, pb_HealthStatus_DEGRADED };
    pb_HealthStatusSet *m = TR_NEW(a, HealthStatusSet);
    for (size_t i = 0; i < MZ_COUNT(statuses); i++)
        TR_ADD(a, m, statuses) = statuses[i];
    return m;
}

static bool is_own_tls(const ist_ClientTLSSettings *t)
{
    return t && (t->mode == ist_ClientTLSSettings_TLSmode_SIMPLE ||
                 t->mode == ist_ClientTLSSettings_TLSmode_MUTUAL);
}

/* NULL: it would have no endpoint that could ever be found. */
static struct mz_out *build_outbound(struct mz_view *v, const struct mz_service *s,
                                     const struct mz_port *p, const struct mz_rule *r,
                                     const ist_Subset *subset, bool sni)
{
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM), .service = s, .port = p };
    c.policy = tr_mesh_policy(v, mz_rule_policy(r, subset, p->port));
    c.endpoints = mz_model_endpoints(v->model, p);
    c.subset = mz_str_c(subset ? subset->name : "");
    c.selected = subset;
    begin(&c,
          sni ? tr_sni_cluster_name(c.a, p->port, c.subset, s->host)
              : tr_cluster_name(c.a, "outbound", p->port, c.subset, s->host),
          discovery_type(v, s));
    const bool dynamic = s->resolution == MZ_RESOLVE_DYNAMIC;
    const char *pattern = v->model->mesh.config->outbound_cluster_stat_name;
    if (pattern[0] && !dynamic)
        c.m->alt_stat_name =
            TR_PRINTF(c.a, "%s;", tr_mesh_stat_name(c.a, pattern, s, c.subset, p, 0));
    other_port(&c);
    c.m->common_lb_config = TR_NEW(c.a, Cluster_CommonLbConfig);
    c.m->common_lb_config->healthy_panic_threshold = TR_NEW(c.a, Percent); /* 0: no panic */
    if (!sni && !subset && keeps_sessions(s))
        c.m->common_lb_config->override_host_status = while_it_ends(c.a);
    protocol(&c, p->protocol);
    tr_cluster_pool(&c);
    tr_cluster_outlier(&c);
    const bool nothing_else = !r && !sni && !s->external && !c.policy.tls; /* of metadata */
    if (!dynamic)
        tr_cluster_balancer(&c);
    if (nothing_else && !v->t->features.no_service_names && !dynamic)
        c.m->metadata = tr_service_metadata(c.a, s->host, s->name, s->ns);
    else if (!dynamic)
        name_service(&c, s);
    if (r)
        name_rule(&c, r);
    if (c.m->type == pb_Cluster_DiscoveryType_EDS)
        by_endpoints(&c);
    if (sni && c.m->type != pb_Cluster_DiscoveryType_EDS)
        c.endpoints = tr_with_mtls(v, c.a, c.endpoints, &c.policy);
    static const struct mz_endpoints nobody;
    if (c.m->type != pb_Cluster_DiscoveryType_EDS &&
        !tr_subset_has_room(v, s, r, subset, c.endpoints))
        c.endpoints = &nobody;
    const bool any = look_up(&c) || sni;
    if (!sni)
        tr_cluster_tls(&c); /* else it is the client's */
    else if (is_own_tls(c.policy.tls))
        tr_struct_text(c.a, tr_metadata(c.a, &c.m->metadata, "istio"), "alpn_override",
                       MZ_STR("false"));
    exchange_metadata(&c);
    if (s->external && s->entry && !subset)
        tr_struct_bool(c.a, tr_metadata(c.a, &c.m->metadata, "istio"), "external", true);
    if (dynamic)
        tr_dynamic_cluster(&c);
    struct mz_out *o = any ? finish(&c) : NULL;
    mz_arena_destroy(c.a);
    return o;
}

static void outbound(struct mz_view *v, const struct mz_service *s, const struct mz_port *p,
                     const struct mz_rule *r, const ist_Subset *subset, bool sni,
                     struct mz_outs *out)
{
    struct mz_key k;
    mz_key_init(&k, sni ? 's' : 'c');
    mz_key_str(&k, s->host);
    mz_key_u64(&k, p->port);
    mz_key_str(&k, mz_str_c(subset ? subset->name : ""));
    mz_key_u64(&k, s->hash);
    mz_key_u64(&k, r ? r->hash : 0);
    if (by_name(s) || s->resolution == MZ_RESOLVE_PASSTHROUGH ||
        dials_itself(v, s,
                     mz_rule_policy(r, subset, p->port).lb)) /* TLS follows from who is there */
        mz_key_u64(&k, mz_model_endpoints(v->model, p)->hash);
    mz_key_u64(&k, v->model->mtls_hash);
    mz_key_u64(&k, v->model->mesh.hash);
    mz_key_u64(&k, v->proxy->shape);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build_outbound(v, s, p, r, subset, sni);
        if (o)
            mz_cache_put(v->t->cache, &k, o);
    }
    if (o)
        *mz_vec_push(&out->v, MZ_MEM_XDS) = o;
}

/* @sni: once more for clients of the mesh elsewhere, whose TLS is not ended here. */
static void outbound_service(struct mz_view *v, const struct mz_service *s, bool sni,
                             struct mz_outs *out)
{
    const struct mz_rule *r = tr_rule(v, s);
    const size_t subsets = tr_subsets(s, r);
    if (r && subsets < r->subsets_n)
        tr_tell(v,
                mz_arena_printf(v->arena, "DestinationRule/%.*s/%.*s", MZ_STR_ARG(r->ns),
                                MZ_STR_ARG(r->name)),
                "all but %zu subsets are left out of clusters of %.*s: ports and subsets multiply",
                subsets, MZ_STR_ARG(s->host));
    for (size_t k = 0; k < s->ports_n; k++) {
        const struct mz_port *p = &s->ports[k];
        const bool dynamic = s->resolution == MZ_RESOLVE_DYNAMIC;
        if (p->protocol == MZ_PROTOCOL_UDP || mz_service_port(s, p->port) != p ||
            (dynamic && (sni || !tr_dynamic_speaks(p->protocol))))
            continue;
        outbound(v, s, p, r, NULL, sni, out);
        for (size_t i = 0; !dynamic && i < subsets; i++)
            outbound(v, s, p, r, r->subsets[i], sni, out);
    }
}

/* ---- inbound ---- */

static struct mz_str local_source(const struct mz_proxy *p)
{
    return p->ipv4 ? MZ_STR("127.0.0.6") : MZ_STR("::6"); /* what the packet rules let pass */
}

static void bind_source(struct tr_cluster *c)
{
    const struct mz_proxy *p = c->v->proxy;
    c->m->upstream_bind_config = TR_NEW(c->a, BindConfig);
    c->m->upstream_bind_config->source_address = tr_socket_address(c->a, local_source(p), 0);
    if (p->ipv4 && p->ipv6) {
        pb_ExtraSourceAddress *e = TR_NEW(c->a, ExtraSourceAddress);
        e->address = tr_socket_address(c->a, MZ_STR("::6"), 0);
        TR_ADD(c->a, c->m->upstream_bind_config, extra_source_addresses) = e;
    }
}

/* What the server side holds: as its Sidecar says, for the port or all of them, else as its clients' rule. */
static struct mz_policy inbound_policy(const struct mz_view *v, size_t target)
{
    const struct mz_target *t = &v->targets.v[target];
    const struct mz_sidecar *s = v->scope->sidecar;
    const struct tr_ingress *i = v->ingress ? &v->ingress[target] : NULL;
    const struct mz_service *service = i ? i->service : t->service;
    struct mz_policy p = { 0 };
    if (service)
        p = mz_rule_policy(tr_inbound_rule(v, service), NULL, t->port->port);
    if (i && i->listener->connection_pool)
        p.pool = i->listener->connection_pool;
    else if (s && s->spec->inbound_connection_pool)
        p.pool = s->spec->inbound_connection_pool;
    return (struct mz_policy){ .pool = p.pool, .retry_budget = p.retry_budget };
}

/* To the application where a Sidecar says that it is. */
static void to_application(struct tr_cluster *c, const struct tr_ingress *i)
{
    pb_LbEndpoint *e = TR_NEW(c->a, LbEndpoint);
    pb_LocalityLbEndpoints *l = TR_NEW(c->a, LocalityLbEndpoints);
    e->host_identifier_case = pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT;
    e->endpoint = TR_NEW(c->a, Endpoint);
    e->endpoint->address = tr_address_or_pipe(c->a, i->address, i->port);
    TR_ADD(c->a, l, lb_endpoints) = e;
    c->m->type = pb_Cluster_DiscoveryType_STATIC;
    c->m->load_assignment = TR_NEW(c->a, ClusterLoadAssignment);
    c->m->load_assignment->cluster_name = c->m->name;
    TR_ADD(c->a, c->m->load_assignment, endpoints) = l;
}

/* Which services telemetry knows the port by. */
static void name_inbound(struct tr_cluster *c, size_t first)
{
    const struct mz_targets *all = &c->v->targets;
    const struct mz_target *t = &all->v[first];
    const struct mz_service *decides = c->v->ingress ? c->v->ingress[first].service : t->service,
                            *named = NULL;
    if (!decides || decides->external)
        return;
    if (c->v->ingress) {
        name_service(c, decides);
        return;
    }
    for (size_t i = first;; i = all->v[i].next) { /* those of a service stand together */
        if (all->v[i].port->port == t->port->port && all->v[i].service != named)
            name_service(c, named = all->v[i].service);
        if (!all->v[i].next)
            break;
    }
}

/* @first is the first target of its number: it decides, the others are named as far as they have its port. */
static struct mz_out *build_inbound(struct mz_view *v, unsigned first)
{
    const struct mz_target *t = &v->targets.v[first];
    const struct mz_proxy *p = v->proxy;
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, tr_cluster_name(c.a, "inbound", t->number, MZ_STR(""), MZ_STR("")),
          pb_Cluster_DiscoveryType_ORIGINAL_DST);
    const struct tr_ingress *i = v->ingress ? &v->ingress[first] : NULL;
    const char *pattern = v->model->mesh.config->inbound_cluster_stat_name;
    if (pattern[0] && t->service)
        c.m->alt_stat_name =
            TR_PRINTF(c.a, "%s;",
                      tr_mesh_stat_name(c.a, pattern, t->service, MZ_STR(""), t->port, t->number));
    c.m->common_lb_config = TR_NEW(c.a, Cluster_CommonLbConfig);
    const struct tr_ingress local = { .address = p->ipv4 ? MZ_STR("127.0.0.1") : MZ_STR("::1"),
                                      .port = t->number };
    const bool loopback = !i && tr_mesh_dials_loopback(v);
    if (loopback || (i && i->address.n)) {
        to_application(&c, loopback ? &local : i);
    } else {
        c.m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
        c.m->cleanup_interval = TR_NEW(c.a, Duration);
        c.m->cleanup_interval->seconds = FOR_EVER_S;
    }
    c.policy = tr_mesh_policy(v, inbound_policy(v, first));
    protocol(&c, t->port->protocol);
    tr_cluster_pool(&c);
    name_inbound(&c, first);
    if (!loopback && (!i || !i->loopback))
        bind_source(&c);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

/* Clusters of a workload's own, and what is always there. */
enum {
    OWN_BLACKHOLE,
    OWN_PASSTHROUGH,
    OWN_PASSTHROUGH_IN,
    OWN_DYNAMIC, /* where the mesh resolves what no service stands for */
    OWN_INBOUND  /* the first target of its number */
};

static struct mz_out *make_inbound(struct mz_view *v, unsigned what)
{
    return build_inbound(v, what - OWN_INBOUND);
}

static void inbound(struct mz_view *v, struct mz_outs *out)
{
    for (size_t i = 0; i < v->targets.n; i++) {
        if (v->targets.v[i].first)
            *mz_vec_push(&out->v, MZ_MEM_XDS) =
                tr_own(v, MZ_XDS_CLUSTER, OWN_INBOUND + (unsigned)i, make_inbound);
    }
}

/* ---- always there ---- */

static struct mz_out *build_passthrough(struct mz_view *v, unsigned what)
{
    const bool in = what == OWN_PASSTHROUGH_IN;
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, TR_CONST("PassthroughCluster"), pb_Cluster_DiscoveryType_ORIGINAL_DST);
    c.m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
    if (!in)
        c.policy.pool = tr_mesh_policy(v, c.policy).pool;
    tr_cluster_pool(&c);
    *tr_cluster_http(&c) = *(const pb_http_HttpProtocolOptions *)TR_PIECE(v, PASSTHROUGH_HTTP);
    tr_cluster_as_client(&c);
    if (in) { /* statistics of both run together */
        c.m->name = TR_CONST("InboundPassthroughCluster");
        bind_source(&c);
    } else {
        exchange_metadata(&c);
    }
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

static struct mz_out *build_blackhole(struct mz_view *v, unsigned what)
{
    (void)what;
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, TR_CONST("BlackHoleCluster"), pb_Cluster_DiscoveryType_STATIC);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

static struct mz_out *build_dynamic(struct mz_view *v, unsigned what)
{
    (void)what;
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, TR_CONST(TR_DYNAMIC_CLUSTER), pb_Cluster_DiscoveryType_STATIC);
    tr_cluster_pool(&c);
    tr_dynamic_cluster_of_mesh(&c, v->model->mesh.config->outbound_traffic_policy->tls);
    if (!c.http) {
        *tr_cluster_http(&c) = *(const pb_http_HttpProtocolOptions *)TR_PIECE(v, PASSTHROUGH_HTTP);
        tr_cluster_as_client(&c);
    }
    exchange_metadata(&c);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

void tr_clusters_outbound(struct mz_view *v, struct mz_outs *out)
{
    const bool sni = tr_has_auto_passthrough(v);
    for (size_t i = 0; i < v->scope->services_n; i++) {
        const struct mz_service *s = v->scope->services[i];
        if (s->resolution == MZ_RESOLVE_ALIAS)
            continue;
        outbound_service(v, s, false, out);
        if (sni && !s->external)
            outbound_service(v, s, true, out);
    }
}

void tr_clusters_of(struct mz_view *v, const struct mz_service *s, struct mz_outs *out)
{
    if (s->resolution != MZ_RESOLVE_ALIAS)
        outbound_service(v, s, false, out);
}

void tr_clusters_own(struct mz_view *v, struct mz_outs *out)
{
    if (v->proxy->type != MZ_PROXY_SIDECAR) {
        *mz_vec_push(&out->v, MZ_MEM_XDS) = build_blackhole(v, OWN_BLACKHOLE);
        return;
    }
    *mz_vec_push(&out->v, MZ_MEM_XDS) = tr_own(v, MZ_XDS_CLUSTER, OWN_BLACKHOLE, build_blackhole);
    *mz_vec_push(&out->v, MZ_MEM_XDS) =
        tr_own(v, MZ_XDS_CLUSTER, OWN_PASSTHROUGH, build_passthrough);
    if (v->scope->resolves)
        *mz_vec_push(&out->v, MZ_MEM_XDS) = tr_own(v, MZ_XDS_CLUSTER, OWN_DYNAMIC, build_dynamic);
    inbound(v, out);
    *mz_vec_push(&out->v, MZ_MEM_XDS) =
        tr_own(v, MZ_XDS_CLUSTER, OWN_PASSTHROUGH_IN, build_passthrough);
}
