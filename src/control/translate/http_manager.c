/* HTTP connection managers, and the pieces of filter chains that listeners of both directions share. */
#include "control/translate/authz.h"
#include "control/translate/dynamic.h"
#include "control/translate/extensions.h"
#include "control/translate/mesh.h"
#include "control/translate/telemetry.h"

/* ---- the manager ---- */

/* What policies say of requests: at the workload that they come to, and at gateways. Extensions of users stand between. */
static void add_guards(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m,
                       const struct tr_at *at)
{
    static const struct tr_guards none;
    const struct tr_guards *g = at->class == TR_OUTBOUND ? &none : tr_guards(v);
    for (size_t i = 0; i < g->n_custom_http; i++)
        TR_ADD(a, m, http_filters) = g->custom_http[i];
    tr_extensions_http(v, a, m, *at, ist_TrafficExtension_ExecutionPhase_AUTHN);
    for (size_t i = 0; i < g->n_jwt; i++)
        TR_ADD(a, m, http_filters) = g->jwt[i];
    tr_extensions_http(v, a, m, *at, ist_TrafficExtension_ExecutionPhase_AUTHZ);
    for (size_t i = 0; i < g->n_http; i++)
        TR_ADD(a, m, http_filters) = g->http[i];
    tr_extensions_http(v, a, m, *at, ist_TrafficExtension_ExecutionPhase_STATS);
    tr_extensions_http(v, a, m, *at, ist_TrafficExtension_ExecutionPhase_UNSPECIFIED);
}

static pb_HttpFilter *router(struct mz_view *v, struct mz_arena *a)
{
    if (!tr_mesh_hides_debug_headers(v))
        return TR_PIECE(v, ROUTER);
    pb_Router *r = TR_NEW(a, Router);
    r->suppress_envoy_headers = true;
    return tr_named_http_filter(a, "envoy.filters.http.router", r);
}

static void add_filters(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m,
                        const struct tr_at *at)
{
    const bool in = at->class == TR_INBOUND;
    const struct tr_telemetry *t = tr_telemetry(v, at->class);
    if (v->exchange)
        TR_ADD(a, m, http_filters) = in                            ? TR_PIECE(v, HTTP_EXCHANGE_IN)
                                     : tr_mesh_exchanges_within(v) ? TR_PIECE(v, HTTP_EXCHANGE_MESH)
                                                                   : TR_PIECE(v, HTTP_EXCHANGE_OUT);
    add_guards(v, a, m, at);
    if (at->grpc_web)
        TR_ADD(a, m, http_filters) =
            tr_named_http_filter(a, "envoy.filters.http.grpc_web", TR_NEW(a, GrpcWeb));
    TR_ADD(a, m, http_filters) = TR_PIECE(v, GRPC_STATS);
    if (!in && v->alpn)
        TR_ADD(a, m, http_filters) = TR_PIECE(v, ALPN);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, FAULT);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, CORS);
    for (size_t i = 0; i < t->n_http_stats; i++)
        TR_ADD(a, m, http_filters) = t->http_stats[i];
    if (!in && v->t->features.sessions) /* virtual hosts of services that have them say which */
        TR_ADD(a, m, http_filters) =
            tr_named_http_filter(a, TR_SESSIONS, TR_NEW(a, StatefulSession));
    TR_ADD(a, m, http_filters) = router(v, a);
}

/* Of HTTP/1: @m's are a gateway's, and shared. */
static void put_http1(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m)
{
    const pb_Http1ProtocolOptions *h = tr_mesh_http1(v);
    const bool http10 = v->t->features.http10 || v->proxy->http10;
    if (!h && !http10)
        return;
    pb_Http1ProtocolOptions *own = TR_NEW(a, Http1ProtocolOptions);
    if (m->http_protocol_options)
        *own = *m->http_protocol_options;
    own->header_key_format = h ? h->header_key_format : NULL;
    own->accept_http_10 = http10;
    m->http_protocol_options = own;
}

pb_HttpConnectionManager *tr_http_manager(struct mz_view *v, struct mz_arena *a,
                                          const struct tr_at *at, char *stat_prefix)
{
    const enum tr_class class = at->class;
    const struct tr_telemetry *t = tr_telemetry(v, class);
    pb_HttpConnectionManager *m = TR_NEW(a, HttpConnectionManager);
    *m = *(const pb_HttpConnectionManager *)(class == TR_INBOUND   ? TR_PIECE(v, MANAGER_IN)
                                             : class == TR_GATEWAY ? TR_PIECE(v, MANAGER_GATEWAY)
                                                                   : TR_PIECE(v, MANAGER_OUT));
    m->stat_prefix = stat_prefix;
    tr_mesh_manager(v, a, class, m);
    put_http1(v, a, m);
    m->proxy_100_continue = !v->t->features.no_continue;
    if (class == TR_OUTBOUND && v->t->features.remote_address)
        m->use_remote_address = tr_bool(a, true);
    if (v->proxy->idle) {
        m->common_http_protocol_options = TR_NEW(a, HttpProtocolOptions);
        m->common_http_protocol_options->idle_timeout = (pb_Duration *)(uintptr_t)v->proxy->idle;
    }
    tr_mesh_connections(v, a, m);
    add_filters(v, a, m, at);
    m->tracing = t->tracing;
    m->request_id_extension = t->request_id ? t->request_id : m->request_id_extension;
    for (size_t i = 0; i < t->n_http_logs; i++)
        TR_ADD(a, m, access_log) = t->http_logs[i];
    return m;
}

void tr_http_before_router(struct mz_arena *a, pb_HttpConnectionManager *m, pb_HttpFilter *f)
{
    pb_HttpFilter *last = m->http_filters[m->n_http_filters - 1];
    m->http_filters[m->n_http_filters - 1] = f;
    TR_ADD(a, m, http_filters) = last;
}

pb_Filter *tr_filter(struct mz_arena *a, const char *name, const void *config)
{
    pb_Filter *f = TR_NEW(a, Filter);
    f->name = TR_CONST(name);
    f->config_type_case = pb_Filter_CONFIG_TYPE_TYPED_CONFIG;
    f->typed_config = tr_any(a, config);
    return f;
}

pb_HttpFilter *tr_named_http_filter(struct mz_arena *a, const char *name, const void *config)
{
    pb_HttpFilter *f = TR_NEW(a, HttpFilter);
    f->name = TR_CONST(name);
    f->config_type_case = pb_HttpFilter_CONFIG_TYPE_TYPED_CONFIG;
    f->typed_config = tr_any(a, config);
    return f;
}

void tr_http_filters(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c,
                     const struct tr_at *at, const pb_HttpConnectionManager *m)
{
    if (at->class == TR_INBOUND && v->exchange)
        TR_ADD(a, c, filters) = TR_PIECE(v, TCP_EXCHANGE);
    tr_extensions_tcp(v, a, c, *at, ist_TrafficExtension_ExecutionPhase_AUTHN);
    tr_extensions_tcp(v, a, c, *at, ist_TrafficExtension_ExecutionPhase_AUTHZ);
    tr_extensions_tcp(v, a, c, *at, ist_TrafficExtension_ExecutionPhase_STATS);
    tr_extensions_tcp(v, a, c, *at, ist_TrafficExtension_ExecutionPhase_UNSPECIFIED);
    TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.http_connection_manager", m);
}

static bool hashes_source(const ist_TrafficPolicy *t)
{
    const ist_LoadBalancerSettings *lb = t ? t->load_balancer : NULL;
    return lb && lb->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_CONSISTENT_HASH &&
           lb->consistent_hash->hash_key_case ==
               ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY_USE_SOURCE_IP &&
           lb->consistent_hash->use_source_ip;
}

void tr_tcp_policy(struct tr_tcp *t, const struct mz_rule *r, struct mz_str subset, uint64_t *hash)
{
    const ist_ConnectionPoolSettings *pool = r->policy ? r->policy->connection_pool : NULL;
    const ist_ConnectionPoolSettings_TCPSettings *tcp = pool ? pool->tcp : NULL;
    const ist_Subset *s = subset.n ? mz_rule_subset(r, subset) : NULL;
    const ist_TrafficPolicy *own = s ? s->traffic_policy : NULL;
    t->idle = tcp ? tcp->idle_timeout : NULL;
    t->longest = tcp ? tcp->max_connection_duration : NULL;
    const ist_TrafficPolicy *tunnels = subset.n ? own : r->policy; /* nothing is inherited */
    t->tunnel = tunnels ? tunnels->tunnel : NULL;
    t->by_source = hashes_source(own && own->load_balancer ? own : r->policy);
    if (tcp || t->tunnel || t->by_source)
        *hash = mz_xxh64(&r->hash, sizeof(r->hash), *hash);
}

static void put_policy(struct mz_arena *a, pb_TcpProxy *t, const struct tr_tcp *to)
{
    if (to->by_source) {
        pb_HashPolicy *h = TR_NEW(a, HashPolicy);
        h->policy_specifier_case = pb_HashPolicy_POLICY_SPECIFIER_SOURCE_IP;
        h->source_ip = TR_NEW(a, HashPolicy_SourceIp);
        TR_ADD(a, t, hash_policy) = h;
    }
    if (!to->tunnel)
        return;
    t->tunneling_config = TR_NEW(a, TcpProxy_TunnelingConfig);
    t->tunneling_config->hostname =
        TR_PRINTF(a, "%s:%u", to->tunnel->target_host, to->tunnel->target_port);
    t->tunneling_config->use_post = strcmp(to->tunnel->protocol, "POST") == 0;
}

static void put_clusters(struct mz_arena *a, pb_TcpProxy *t, const struct tr_tcp *to)
{
    t->cluster_specifier_case = pb_TcpProxy_CLUSTER_SPECIFIER_CLUSTER;
    t->cluster = TR_CONST(to->cluster);
    if (!to->clusters_n)
        return;
    t->cluster_specifier_case = pb_TcpProxy_CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
    t->weighted_clusters = TR_NEW(a, TcpProxy_WeightedCluster);
    for (size_t i = 0; i < to->clusters_n; i++) {
        pb_TcpProxy_WeightedCluster_ClusterWeight *w =
            TR_NEW(a, TcpProxy_WeightedCluster_ClusterWeight);
        w->name = TR_CONST(to->clusters[i].name);
        w->weight = to->clusters[i].weight;
        TR_ADD(a, t->weighted_clusters, clusters) = w;
    }
}

/* What policies say of connections, extensions of users between. */
static void add_tcp_guards(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c,
                           enum tr_class class, const struct tr_tcp *to)
{
    static const struct tr_guards none;
    const struct tr_guards *g =
        class != TR_OUTBOUND && !to->silent && !to->unguarded ? tr_guards(v) : &none;
    const struct tr_at at = { class, to->port, false };
    const bool extended = !to->silent && !to->bare;
    for (size_t i = 0; i < g->n_custom_tcp; i++)
        TR_ADD(a, c, filters) = g->custom_tcp[i];
    if (extended) {
        tr_extensions_tcp(v, a, c, at, ist_TrafficExtension_ExecutionPhase_AUTHN);
        tr_extensions_tcp(v, a, c, at, ist_TrafficExtension_ExecutionPhase_AUTHZ);
    }
    for (size_t i = 0; i < g->n_tcp; i++)
        TR_ADD(a, c, filters) = g->tcp[i];
    if (extended) {
        tr_extensions_tcp(v, a, c, at, ist_TrafficExtension_ExecutionPhase_STATS);
        tr_extensions_tcp(v, a, c, at, ist_TrafficExtension_ExecutionPhase_UNSPECIFIED);
    }
}

/* Takes commands apart, and is the last itself. */
static pb_Filter *redis(struct mz_arena *a, const pb_TcpProxy *t)
{
    pb_RedisProxy *m = TR_NEW(a, RedisProxy);
    m->stat_prefix = t->stat_prefix;
    m->latency_in_micros = true;
    m->settings = TR_NEW(a, RedisProxy_ConnPoolSettings);
    m->settings->op_timeout = tr_duration_us(a, 5000000);
    m->prefix_routes = TR_NEW(a, RedisProxy_PrefixRoutes);
    m->prefix_routes->catch_all_route = TR_NEW(a, RedisProxy_PrefixRoutes_Route);
    m->prefix_routes->catch_all_route->cluster = t->cluster;
    return tr_filter(a, "envoy.filters.network.redis_proxy", m);
}

/* Statistics of protocols, read on the way. */
static void add_reader(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, enum mz_protocol p,
                       char *stat_prefix)
{
    if (p == MZ_PROTOCOL_MONGO && !v->t->features.no_mongo) {
        pb_MongoProxy *m = TR_NEW(a, MongoProxy);
        m->stat_prefix = stat_prefix;
        TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.mongo_proxy", m);
    } else if (p == MZ_PROTOCOL_MYSQL && v->t->features.mysql && !v->proxy->lacks_mysql) {
        pb_MySQLProxy *m = TR_NEW(a, MySQLProxy);
        m->stat_prefix = stat_prefix;
        TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.mysql_proxy", m);
    }
}

/* Filters in front of TCP's last one, and that. */
void tr_tcp_filters(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, enum tr_class class,
                    const struct tr_tcp *to)
{
    const bool in = class == TR_INBOUND;
    const struct tr_telemetry *said = tr_telemetry(v, class);
    pb_TcpProxy *t = TR_NEW(a, TcpProxy);
    t->stat_prefix = TR_CONST(to->stat ? to->stat : to->cluster);
    put_clusters(a, t, to);
    put_policy(a, t, to);
    t->idle_timeout =
        (pb_Duration *)(uintptr_t)(to->idle || to->silent ? to->idle : v->proxy->idle); /* shared */
    t->max_downstream_connection_duration = (pb_Duration *)(uintptr_t)to->longest;
    for (size_t i = 0; !to->silent && i < said->n_tcp_logs; i++)
        TR_ADD(a, t, access_log) = said->tcp_logs[i];
    if ((in || to->exchange) && v->exchange)
        TR_ADD(a, c, filters) = TR_PIECE(v, TCP_EXCHANGE);
    add_tcp_guards(v, a, c, class, to);
    for (size_t i = 0; i < said->n_tcp_stats; i++)
        TR_ADD(a, c, filters) = said->tcp_stats[i];
    if (to->dynamic.n)
        TR_ADD(a, c, filters) = tr_dynamic_sni_filter(v, a, to->dynamic, to->port);
    if (!to->clusters_n && to->protocol == MZ_PROTOCOL_REDIS && v->t->features.redis) {
        TR_ADD(a, c, filters) = redis(a, t);
        return;
    }
    add_reader(v, a, c, to->protocol, t->stat_prefix);
    TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.tcp_proxy", t);
}
