/* HTTP connection managers, and the pieces of filter chains that listeners of both directions share. */
#include "control/translate/translate_priv.h"

/* ---- access logs ---- */

static const char default_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% "
    "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" "
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static pb_AccessLog *file_log(const struct mz_mesh *mesh, struct mz_arena *a)
{
    pb_FileAccessLog *f = TR_NEW(a, FileAccessLog);
    pb_SubstitutionFormatString *s = TR_NEW(a, SubstitutionFormatString);
    const char *own = mesh->access_log_format.p;
    const bool line =
        mesh->access_log_format.n && mz_str_ends(mesh->access_log_format, MZ_STR("\n"));
    s->format_case = pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT_SOURCE;
    s->text_format_source = TR_NEW(a, DataSource);
    s->text_format_source->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
    s->text_format_source->inline_string = !mesh->access_log_format.n
                                               ? TR_CONST(default_format)
                                               : TR_PRINTF(a, "%s%s", own, line ? "" : "\n");
    f->path = tr_text(a, mesh->access_log_file);
    f->access_log_format_case = pb_FileAccessLog_ACCESS_LOG_FORMAT_LOG_FORMAT;
    f->log_format = s;
    pb_AccessLog *l = TR_NEW(a, AccessLog);
    l->name = TR_CONST("envoy.access_loggers.file");
    l->config_type_case = pb_AccessLog_CONFIG_TYPE_TYPED_CONFIG;
    l->typed_config = tr_any(a, f);
    return l;
}

pb_AccessLog *tr_access_log(struct mz_view *v)
{
    if (!v->log && v->model->mesh.access_log_file.n)
        v->log = file_log(&v->model->mesh, v->arena);
    return v->log;
}

/* A listener logs what found no filter chain: nobody else would. */
pb_AccessLog *tr_listener_log(struct mz_view *v, struct mz_arena *a)
{
    const pb_AccessLog *all = tr_access_log(v);
    if (!all)
        return NULL;
    pb_AccessLog *l = TR_NEW(a, AccessLog);
    *l = *all; /* shares its configuration */
    l->filter = TR_NEW(a, AccessLogFilter);
    l->filter->filter_specifier_case = pb_AccessLogFilter_FILTER_SPECIFIER_RESPONSE_FLAG_FILTER;
    l->filter->response_flag_filter = TR_NEW(a, ResponseFlagFilter);
    TR_ADD(a, l->filter->response_flag_filter, flags) = TR_CONST("NR");
    return l;
}

/* ---- tracing ---- */

static void literal(struct mz_arena *a, pb_HttpConnectionManager_Tracing *t, const char *tag,
                    struct mz_str value)
{
    if (!value.n)
        return;
    pb_CustomTag *c = TR_NEW(a, CustomTag);
    c->tag = TR_CONST(tag);
    c->type_case = pb_CustomTag_TYPE_LITERAL;
    c->literal = TR_NEW(a, CustomTag_Literal);
    c->literal->value = tr_text(a, value);
    TR_ADD(a, t, custom_tags) = c;
}

/* What policies in dry run would have done. */
static void dry_run(struct mz_arena *a, pb_HttpConnectionManager_Tracing *t, const char *tag,
                    const char *key)
{
    pb_CustomTag *c = TR_NEW(a, CustomTag);
    pb_MetadataKey_PathSegment *s = TR_NEW(a, MetadataKey_PathSegment);
    s->segment_case = pb_MetadataKey_PathSegment_SEGMENT_KEY;
    s->key = TR_CONST(key);
    c->tag = TR_CONST(tag);
    c->type_case = pb_CustomTag_TYPE_METADATA;
    c->metadata = TR_NEW(a, CustomTag_Metadata);
    c->metadata->kind = TR_NEW(a, MetadataKind);
    c->metadata->kind->kind_case = pb_MetadataKind_KIND_REQUEST;
    c->metadata->kind->request = TR_NEW(a, MetadataKind_Request);
    c->metadata->metadata_key = TR_NEW(a, MetadataKey);
    c->metadata->metadata_key->key = TR_CONST("envoy.filters.http.rbac");
    TR_ADD(a, c->metadata->metadata_key, path) = s;
    TR_ADD(a, t, custom_tags) = c;
}

static pb_Percent *percent(struct mz_arena *a, double value)
{
    pb_Percent *p = TR_NEW(a, Percent);
    p->value = value;
    return p;
}

static pb_HttpConnectionManager_Tracing *tracing(struct mz_view *v)
{
    static const char *const runs[][2] = {
        { "istio.authorization.dry_run.allow_policy.name",
          "istio_dry_run_allow_shadow_effective_policy_id" },
        { "istio.authorization.dry_run.allow_policy.result",
          "istio_dry_run_allow_shadow_engine_result" },
        { "istio.authorization.dry_run.deny_policy.name",
          "istio_dry_run_deny_shadow_effective_policy_id" },
        { "istio.authorization.dry_run.deny_policy.result",
          "istio_dry_run_deny_shadow_engine_result" },
    };
    const struct mz_proxy *p = v->proxy;
    if (v->tracing)
        return v->tracing;
    pb_HttpConnectionManager_Tracing *t = v->tracing =
        TR_NEW(v->arena, HttpConnectionManager_Tracing);
    t->client_sampling = percent(v->arena, 100);
    t->random_sampling = percent(v->arena, 1);
    t->overall_sampling = percent(v->arena, 100);
    for (size_t i = 0; i < MZ_COUNT(runs); i++)
        dry_run(v->arena, t, runs[i][0], runs[i][1]);
    literal(v->arena, t, "istio.canonical_revision", p->revision);
    literal(v->arena, t, "istio.canonical_service", p->canonical);
    literal(v->arena, t, "istio.cluster_id", p->cluster_id);
    literal(v->arena, t, "istio.mesh_id", p->mesh_id);
    literal(v->arena, t, "istio.namespace", p->ns);
    return t;
}

/* ---- the manager ---- */

static void add_filters(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m,
                        enum tr_class class)
{
    const bool in = class == TR_INBOUND;
    if (v->exchange)
        TR_ADD(a, m, http_filters) =
            in ? TR_PIECE(v, HTTP_EXCHANGE_IN) : TR_PIECE(v, HTTP_EXCHANGE_OUT);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, GRPC_STATS);
    if (!in && v->alpn)
        TR_ADD(a, m, http_filters) = TR_PIECE(v, ALPN);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, FAULT);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, CORS);
    if (v->metrics)
        TR_ADD(a, m, http_filters) =
            class != TR_OUTBOUND ? TR_PIECE(v, HTTP_STATS_IN) : TR_PIECE(v, HTTP_STATS_OUT);
    TR_ADD(a, m, http_filters) = TR_PIECE(v, ROUTER);
}

pb_HttpConnectionManager *tr_http_manager(struct mz_view *v, struct mz_arena *a,
                                          enum tr_class class, char *stat_prefix)
{
    pb_HttpConnectionManager *m = TR_NEW(a, HttpConnectionManager);
    *m = *(const pb_HttpConnectionManager *)(class == TR_INBOUND   ? TR_PIECE(v, MANAGER_IN)
                                             : class == TR_GATEWAY ? TR_PIECE(v, MANAGER_GATEWAY)
                                                                   : TR_PIECE(v, MANAGER_OUT));
    m->stat_prefix = stat_prefix;
    add_filters(v, a, m, class);
    m->tracing = tracing(v);
    if (tr_access_log(v))
        TR_ADD(a, m, access_log) = tr_access_log(v);
    return m;
}

pb_Filter *tr_filter(struct mz_arena *a, const char *name, const void *config)
{
    pb_Filter *f = TR_NEW(a, Filter);
    f->name = TR_CONST(name);
    f->config_type_case = pb_Filter_CONFIG_TYPE_TYPED_CONFIG;
    f->typed_config = tr_any(a, config);
    return f;
}

pb_Filter *tr_http_filter(struct mz_arena *a, const pb_HttpConnectionManager *m)
{
    return tr_filter(a, "envoy.filters.network.http_connection_manager", m);
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
    t->tunnel = own && own->tunnel ? own->tunnel : r->policy ? r->policy->tunnel : NULL;
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

/* Filters in front of TCP's last one, and that. */
void tr_tcp_filters(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, enum tr_class class,
                    const struct tr_tcp *to)
{
    const bool in = class == TR_INBOUND;
    pb_TcpProxy *t = TR_NEW(a, TcpProxy);
    t->stat_prefix = TR_CONST(to->cluster);
    put_clusters(a, t, to);
    put_policy(a, t, to);
    t->idle_timeout = (pb_Duration *)(uintptr_t)to->idle; /* shared with the model */
    t->max_downstream_connection_duration = (pb_Duration *)(uintptr_t)to->longest;
    if (!to->silent && tr_access_log(v))
        TR_ADD(a, t, access_log) = tr_access_log(v);
    if (in && v->exchange)
        TR_ADD(a, c, filters) = TR_PIECE(v, TCP_EXCHANGE);
    if (v->metrics)
        TR_ADD(a, c, filters) =
            class != TR_OUTBOUND ? TR_PIECE(v, TCP_STATS_IN) : TR_PIECE(v, TCP_STATS_OUT);
    if (to->protocol == MZ_PROTOCOL_MONGO) {
        pb_MongoProxy *m = TR_NEW(a, MongoProxy);
        m->stat_prefix = TR_CONST(to->cluster);
        TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.mongo_proxy", m);
    }
    TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.tcp_proxy", t);
}
