/* gRPC without a proxy: API listeners of what is dialled, listeners of what is served, clusters. */
#include "control/translate/proxyless.h"

#include <stdlib.h>

#include "control/translate/authz.h"

#define INBOUND "xds.istio.io/grpc/lds/inbound/"
#define TLS     "envoy.transport_sockets.tls"

static struct mz_out *done(struct mz_arena *a, struct mz_str name, const void *m)
{
    struct mz_out *o = mz_out_create(name, m);
    mz_arena_destroy(a);
    return o;
}

/* ---- TLS: certificates come from the library's own files, which its bootstrap calls "default" ---- */

static pb_CommonTlsContext_CertificateProviderInstance *provider(struct mz_arena *a,
                                                                 const char *what)
{
    pb_CommonTlsContext_CertificateProviderInstance *m =
        TR_NEW(a, CommonTlsContext_CertificateProviderInstance);
    m->instance_name = TR_CONST("default");
    m->certificate_name = TR_CONST(what);
    return m;
}

static pb_CommonTlsContext *common_tls(struct mz_arena *a, const struct mz_str *accounts, size_t n)
{
    pb_CommonTlsContext *m = TR_NEW(a, CommonTlsContext);
    pb_CommonTlsContext_CombinedCertificateValidationContext *c =
        TR_NEW(a, CommonTlsContext_CombinedCertificateValidationContext);
    m->tls_certificate_certificate_provider_instance = provider(a, "default");
    c->validation_context_certificate_provider_instance = provider(a, "ROOTCA");
    c->default_validation_context = TR_NEW(a, CertificateValidationContext);
    for (size_t i = 0; i < n; i++) {
        pb_StringMatcher *s = TR_NEW(a, StringMatcher);
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
        s->exact = tr_text(a, accounts[i]);
        TR_ADD(a, c->default_validation_context, match_subject_alt_names) = s;
    }
    m->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    m->combined_validation_context = c;
    return m;
}

/* ---- what is dialled ---- */

/* "web:7070", "web.demo:7070" or in full. */
static bool split_port(struct mz_str name, struct mz_str *out_host, uint16_t *out_port)
{
    const ptrdiff_t colon = mz_str_rchr(name, ':');
    uint64_t port;
    if (colon <= 0 || !mz_str_u64(mz_str_skip(name, (size_t)colon + 1), &port) || !port ||
        port > UINT16_MAX)
        return false;
    *out_host = (struct mz_str){ name.p, (size_t)colon };
    *out_port = (uint16_t)port;
    return true;
}

/* As the client's DNS would complete it: a name alone, one with the client's own namespace. */
static struct mz_str complete(const struct mz_proxy *p, struct mz_arena *a, struct mz_str host)
{
    const ptrdiff_t dot = mz_str_chr(host, '.');
    const struct mz_str first = { host.p, dot < 0 ? host.n : (size_t)dot };
    const struct mz_str rest = mz_str_skip(host, dot < 0 ? host.n : (size_t)dot + 1);
    const bool own =
        dot < 0 || (mz_str_starts(p->domain, rest) &&
                    (mz_str_eq(rest, p->ns) ||
                     mz_str_eq(rest, mz_arena_printf(a, "%.*s.svc", MZ_STR_ARG(p->ns)))));
    return own ? mz_arena_printf(a, "%.*s.%.*s", MZ_STR_ARG(first), MZ_STR_ARG(p->domain)) : host;
}

static const struct mz_service *dialled(const struct mz_view *v, struct mz_arena *a,
                                        struct mz_str host)
{
    const struct mz_service *s = mz_map_get(&v->scope->by_host, host);
    return s ? s : mz_map_get(&v->scope->by_host, complete(v->proxy, a, host));
}

static struct mz_str address_of(const struct mz_view *v, const struct mz_service *s)
{
    for (size_t i = 0; i < s->addresses_n; i++)
        if (tr_can_dial(v, s->addresses[i]))
            return s->addresses[i];
    return s->addresses_n ? s->addresses[0] : tr_wildcard(v->proxy);
}

static pb_HttpConnectionManager *api_manager(struct mz_view *v, struct mz_arena *a, char *routes)
{
    pb_HttpConnectionManager *m = TR_NEW(a, HttpConnectionManager);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, FAULT);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, ROUTER);
    m->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS;
    m->rds = TR_NEW(a, Rds);
    m->rds->config_source = TR_NEW(a, ConfigSource);
    m->rds->config_source->config_source_specifier_case =
        pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS;
    m->rds->config_source->ads = TR_NEW(a, AggregatedConfigSource);
    m->rds->route_config_name = routes;
    return m;
}

static struct mz_out *outbound(struct mz_view *v, struct mz_str name)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str host;
    uint16_t port = 0;
    const struct mz_service *s = split_port(name, &host, &port) ? dialled(v, a, host) : NULL;
    if (!s || !mz_service_port(s, port)) {
        mz_arena_destroy(a);
        return NULL;
    }
    pb_Listener *m = TR_NEW(a, Listener);
    m->name = tr_text(a, name);
    m->address = tr_address(a, address_of(v, s), port);
    m->api_listener = TR_NEW(a, ApiListener);
    m->api_listener->api_listener =
        tr_any(a, api_manager(v, a, tr_cluster_name(a, "outbound", port, MZ_STR(""), s->host)));
    return done(a, name, m);
}

/* ---- what is served ---- */

/* The library takes one kind of connection: whoever is known to take mutual TLS is dialled with it. */
static bool takes_tls(const struct mz_view *v, uint16_t port)
{
    const struct mz_labels l = v->workload ? v->workload->labels : v->proxy->labels;
    const enum mz_mtls mode = mz_model_mtls(v->model, v->proxy->ns, l, port);
    return mode == MZ_MTLS_STRICT ||
           (mode == MZ_MTLS_PERMISSIVE &&
            mz_str_eq(mz_label_get(l, "security.istio.io/tlsMode"), MZ_STR("istio")));
}

static pb_RouteConfiguration *any_request(struct mz_arena *a)
{
    pb_RouteConfiguration *m = TR_NEW(a, RouteConfiguration);
    pb_VirtualHost *h = TR_NEW(a, VirtualHost);
    pb_Route *r = TR_NEW(a, Route);
    m->name = TR_CONST("inbound");
    TR_ADD(a, h, domains) = TR_CONST("*");
    r->match = TR_NEW(a, RouteMatch);
    r->match->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PREFIX;
    r->match->prefix = TR_CONST("/");
    r->action_case = pb_Route_ACTION_NON_FORWARDING_ACTION;
    r->non_forwarding_action = TR_NEW(a, NonForwardingAction);
    TR_ADD(a, h, routes) = r;
    TR_ADD(a, m, virtual_hosts) = h;
    return m;
}

static void add_rbac(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m,
                     ist_AuthorizationPolicy_Action action, const char *name)
{
    pb_http_rbac_RBAC *r = TR_NEW(a, http_rbac_RBAC);
    r->rules = tr_authz_enforced(v, action);
    if (r->rules)
        TR_ADD(a, m, http_filters) = tr_named_http_filter(a, name, r);
}

static pb_FilterChain *served(struct mz_view *v, struct mz_arena *a, bool tls)
{
    pb_FilterChain *c = TR_NEW(a, FilterChain);
    pb_HttpConnectionManager *m = TR_NEW(a, HttpConnectionManager);
    m->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_ROUTE_CONFIG;
    m->route_config = any_request(a);
    add_rbac(v, a, m, ist_AuthorizationPolicy_Action_DENY, "envoy.filters.http.rbac.DENY");
    add_rbac(v, a, m, ist_AuthorizationPolicy_Action_ALLOW, "envoy.filters.http.rbac");
    TR_ADD(a, m, http_filters) = TR_PIECE(v, ROUTER);
    c->name = TR_CONST(tls ? "inbound-mtls" : "inbound-plaintext");
    TR_ADD(a, c, filters) = tr_filter(a, tls ? "inbound-hcmmtls" : "inbound-hcmplaintext", m);
    if (tls) {
        pb_DownstreamTlsContext *t = TR_NEW(a, DownstreamTlsContext);
        t->common_tls_context = common_tls(a, NULL, 0);
        t->require_client_certificate = tr_bool(a, true);
        c->transport_socket = tr_transport_socket(a, TLS, t);
    }
    return c;
}

static bool answers(const struct mz_view *v, uint16_t port)
{
    for (size_t i = 0; i < v->targets.n; i++)
        if (v->targets.v[i].number == port)
            return true;
    return false;
}

static struct mz_out *inbound(struct mz_view *v, struct mz_str name, struct mz_str where)
{
    struct mz_str host;
    uint16_t port;
    if (!split_port(where, &host, &port) || !answers(v, port))
        return NULL;
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct mz_str){ host.p + 1, host.n - 2 };
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_Listener *m = TR_NEW(a, Listener);
    m->name = tr_text(a, name);
    m->address = tr_address(a, host, port);
    TR_ADD(a, m, filter_chains) = served(v, a, takes_tls(v, port));
    return done(a, name, m);
}

struct mz_out *tr_proxyless_listener(struct mz_view *v, struct mz_str name)
{
    const struct mz_str prefix = MZ_STR(INBOUND);
    return mz_str_starts(name, prefix) ? inbound(v, name, mz_str_skip(name, prefix.n))
                                       : outbound(v, name);
}

static int compare_names(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

void mz_view_listeners(const struct mz_view *v, struct mz_arena *a, struct mz_str **out,
                       size_t *out_n)
{
    size_t room = v->targets.n, n = 0, kept = 0;
    for (size_t i = 0; i < v->scope->services_n; i++)
        room += v->scope->services[i]->ports_n;
    struct mz_str *names = mz_arena_alloc(a, room * sizeof(*names));
    for (size_t i = 0; i < v->scope->services_n; i++) {
        const struct mz_service *s = v->scope->services[i];
        for (size_t k = 0; k < s->ports_n; k++)
            names[n++] = mz_arena_printf(a, "%.*s:%u", MZ_STR_ARG(s->host), s->ports[k].port);
    }
    for (size_t i = 0; i < v->targets.n; i++)
        names[n++] = mz_arena_printf(a, INBOUND "%.*s:%u", MZ_STR_ARG(tr_wildcard(v->proxy)),
                                     v->targets.v[i].number);
    if (n)
        qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) /* each once */
        if (!kept || !mz_str_eq(names[kept - 1], names[i]))
            names[kept++] = names[i];
    *out = names;
    *out_n = kept;
}

/* ---- clusters ---- */

static void use_tls(struct mz_arena *a, pb_Cluster *m, const struct mz_service *s,
                    const ist_ClientTLSSettings *t)
{
    if (!t || t->mode != ist_ClientTLSSettings_TLSmode_ISTIO_MUTUAL)
        return; /* the library has the mesh's certificates and no others */
    pb_UpstreamTlsContext *u = TR_NEW(a, UpstreamTlsContext);
    u->common_tls_context = common_tls(a, s->accounts, s->accounts_n);
    m->transport_socket = tr_transport_socket(a, TLS, u);
}

static void use_ring(struct mz_arena *a, pb_Cluster *m, const ist_LoadBalancerSettings *lb)
{
    if (!lb || lb->lb_policy_case != ist_LoadBalancerSettings_LB_POLICY_CONSISTENT_HASH)
        return; /* in turn */
    const ist_LoadBalancerSettings_ConsistentHashLB *h = lb->consistent_hash;
    const bool ring = h->hash_algorithm_case ==
                      ist_LoadBalancerSettings_ConsistentHashLB_HASH_ALGORITHM_RING_HASH;
    const uint64_t said = ring ? h->ring_hash->minimum_ring_size : h->minimum_ring_size;
    m->lb_policy = pb_Cluster_LbPolicy_RING_HASH;
    m->lb_config_case = pb_Cluster_LB_CONFIG_RING_HASH_LB_CONFIG;
    m->ring_hash_lb_config = TR_NEW(a, Cluster_RingHashLbConfig);
    m->ring_hash_lb_config->minimum_ring_size = TR_NEW(a, UInt64Value);
    m->ring_hash_lb_config->minimum_ring_size->value = said ? said : 1024;
}

static struct mz_out *build_cluster(struct mz_str name, const struct mz_service *s,
                                    const struct mz_policy *policy)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_Cluster *m = TR_NEW(a, Cluster);
    m->name = tr_text(a, name);
    m->cluster_discovery_type_case = pb_Cluster_CLUSTER_DISCOVERY_TYPE_TYPE;
    m->type = pb_Cluster_DiscoveryType_EDS;
    m->eds_cluster_config = TR_NEW(a, Cluster_EdsClusterConfig);
    m->eds_cluster_config->service_name = m->name;
    m->eds_cluster_config->eds_config = TR_NEW(a, ConfigSource);
    m->eds_cluster_config->eds_config->config_source_specifier_case =
        pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS;
    m->eds_cluster_config->eds_config->ads = TR_NEW(a, AggregatedConfigSource);
    use_ring(a, m, policy->lb);
    if (s)
        use_tls(a, m, s, policy->tls);
    return done(a, name, m);
}

struct mz_out *tr_proxyless_cluster(struct mz_view *v, struct mz_str name)
{
    struct tr_subset_key key;
    struct mz_key k;
    if (!tr_cluster_name_parse(name, &key) || key.sni ||
        !mz_str_eq(key.direction, MZ_STR("outbound")))
        return NULL;
    const struct mz_service *s = mz_map_get(&v->scope->by_host, key.host);
    s = s && mz_service_port(s, key.port) ? s : NULL; /* a cluster that finds no endpoints */
    const struct mz_rule *r = s ? tr_rule(v, s) : NULL;
    const ist_Subset *subset = r && key.subset.n ? mz_rule_subset(r, key.subset) : NULL;
    if (key.subset.n && !subset)
        return NULL;
    const struct mz_policy policy = mz_rule_policy(r, subset, key.port);
    mz_key_init(&k, 'g');
    mz_key_str(&k, name);
    mz_key_u64(&k, s ? s->hash : 0);
    mz_key_u64(&k, r ? r->hash : 0);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build_cluster(name, s, &policy);
        mz_cache_put(v->t->cache, &k, o);
    }
    return o;
}
