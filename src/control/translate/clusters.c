/* Clusters (CDS): one per visible service and port, one per port of the workload, and the three that are always there. */
#include "control/translate/translate_priv.h"

#define UNLIMITED  UINT32_MAX
#define FOR_EVER_S 9223372035LL /* the longest duration that every proxy can take */

static void limits(struct tr_cluster *c)
{
    pb_CircuitBreakers_Thresholds *t = TR_NEW(c->a, CircuitBreakers_Thresholds);
    t->max_connections = tr_u32(c->a, UNLIMITED);
    t->max_pending_requests = tr_u32(c->a, UNLIMITED);
    t->max_requests = tr_u32(c->a, UNLIMITED);
    t->max_retries = tr_u32(c->a, UNLIMITED);
    c->m->circuit_breakers = TR_NEW(c->a, CircuitBreakers);
    TR_ADD(c->a, c->m->circuit_breakers, thresholds) = t;
}

static void http_options(struct tr_cluster *c, const void *options)
{
    pb_Cluster_TypedExtensionProtocolOptionsEntry *e =
        TR_NEW(c->a, Cluster_TypedExtensionProtocolOptionsEntry);
    e->key = TR_CONST("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    e->value = tr_any(c->a, options);
    TR_ADD(c->a, c->m, typed_extension_protocol_options) = e;
}

/* As the port says; where it says nothing, sidecars speak what the client speaks. */
static void protocol(struct tr_cluster *c, enum mz_protocol p)
{
    c->http2 = mz_protocol_is_http2(p);
    if (c->http2)
        http_options(c, TR_PIECE(c->v, HTTP2));
    else if (p == MZ_PROTOCOL_UNKNOWN && c->v->proxy->type == MZ_PROXY_SIDECAR)
        http_options(c, TR_PIECE(c->v, DOWNSTREAM_HTTP));
}

static void begin(struct tr_cluster *c, char *name, int type)
{
    c->m = TR_NEW(c->a, Cluster);
    c->m->name = name;
    c->m->alt_stat_name = TR_PRINTF(
        c->a, "%s;", name); /* the semicolon ends the name for whoever takes tags out of it */
    c->m->cluster_discovery_type_case = pb_Cluster_CLUSTER_DISCOVERY_TYPE_TYPE;
    c->m->type = (pb_Cluster_DiscoveryType)type;
    c->m->connect_timeout = tr_duration_us(c->a, c->v->model->mesh.connect_timeout_us);
}

/* What telemetry calls the services behind a cluster. */
static void name_service(struct tr_cluster *c, const struct mz_service *s)
{
    pb_Struct *istio = tr_metadata(c->a, &c->m->metadata, "istio");
    pb_Struct *one = tr_list_add_struct(c->a, tr_struct_list(c->a, istio, "services"));
    tr_struct_text(c->a, one, "host", s->host);
    tr_struct_text(c->a, one, "name", s->name);
    tr_struct_text(c->a, one, "namespace", s->ns);
}

static void exchange_metadata(struct tr_cluster *c)
{
    TR_ADD(c->a, c->m, filters) = TR_PIECE(c->v, CLUSTER_EXCHANGE);
}

static struct mz_out *finish(struct tr_cluster *c)
{
    return mz_out_create(mz_str_c(c->m->name), &c->m->base);
}

/* ---- outbound ---- */

static void by_endpoints(struct tr_cluster *c)
{
    c->m->lb_policy = pb_Cluster_LbPolicy_LEAST_REQUEST;
    c->m->eds_cluster_config = TR_NEW(c->a, Cluster_EdsClusterConfig);
    c->m->eds_cluster_config->eds_config = tr_ads(c->a);
    c->m->eds_cluster_config->service_name = c->m->name;
}

/* Headless: the client has chosen the address. A gateway has no client that could. */
static bool by_client(const struct mz_view *v, const struct mz_service *s)
{
    return s->resolution == MZ_RESOLVE_PASSTHROUGH && v->proxy->type == MZ_PROXY_SIDECAR;
}

static struct mz_out *build_outbound(struct mz_view *v, const struct mz_service *s,
                                     const struct mz_port *p)
{
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM), .service = s, .port = p };
    const bool direct = by_client(v, s);
    begin(&c, tr_cluster_name(c.a, "outbound", p->port, MZ_STR(""), s->host),
          direct ? pb_Cluster_DiscoveryType_ORIGINAL_DST : pb_Cluster_DiscoveryType_EDS);
    c.m->common_lb_config = TR_NEW(c.a, Cluster_CommonLbConfig);
    c.m->common_lb_config->healthy_panic_threshold = TR_NEW(c.a, Percent); /* 0: no panic */
    limits(&c);
    protocol(&c, p->protocol);
    name_service(&c, s);
    if (direct)
        c.m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
    else
        by_endpoints(&c);
    tr_cluster_tls(&c);
    exchange_metadata(&c);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

static void outbound(struct mz_view *v, const struct mz_service *s, const struct mz_port *p,
                     struct mz_outs *out)
{
    struct mz_key k;
    mz_key_init(&k, 'c');
    mz_key_str(&k, s->host);
    mz_key_u64(&k, p->port);
    mz_key_u64(&k, s->hash);
    mz_key_u64(&k, v->model->mesh.hash);
    mz_key_u64(&k, v->proxy->shape);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build_outbound(v, s, p);
        mz_cache_put(v->t->cache, &k, o);
    }
    *mz_vec_push(&out->v, MZ_MEM_XDS) = o;
}

/* ---- inbound ---- */

static struct mz_str local_source(const struct mz_proxy *p)
{
    return p->ipv4 ? MZ_STR("127.0.0.6") : MZ_STR("::6"); /* what the packet rules let pass */
}

static void bind_source(struct tr_cluster *c, bool both)
{
    const struct mz_proxy *p = c->v->proxy;
    c->m->upstream_bind_config = TR_NEW(c->a, BindConfig);
    c->m->upstream_bind_config->source_address = tr_socket_address(c->a, local_source(p), 0);
    if (both && p->ipv4 && p->ipv6) {
        pb_ExtraSourceAddress *e = TR_NEW(c->a, ExtraSourceAddress);
        e->address = tr_socket_address(c->a, MZ_STR("::6"), 0);
        TR_ADD(c->a, c->m->upstream_bind_config, extra_source_addresses) = e;
    }
}

static bool named_before(const struct mz_targets *t, size_t first, size_t i)
{
    for (size_t k = first; k < i; k++)
        if (t->v[k].number == t->v[i].number && t->v[k].service == t->v[i].service)
            return true;
    return false;
}

/* @first is the first target of its number: it decides, the others are named as far as they have its port. */
static struct mz_out *build_inbound(struct mz_view *v, size_t first)
{
    const struct mz_target *t = &v->targets.v[first];
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, tr_cluster_name(c.a, "inbound", t->number, MZ_STR(""), MZ_STR("")),
          pb_Cluster_DiscoveryType_ORIGINAL_DST);
    c.m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
    c.m->common_lb_config = TR_NEW(c.a, Cluster_CommonLbConfig);
    c.m->cleanup_interval = TR_NEW(c.a, Duration);
    c.m->cleanup_interval->seconds = FOR_EVER_S;
    limits(&c);
    protocol(&c, t->port->protocol);
    for (size_t i = first; !t->service->external && i < v->targets.n; i++)
        if (v->targets.v[i].number == t->number && v->targets.v[i].port->port == t->port->port &&
            !named_before(&v->targets, first, i))
            name_service(&c, v->targets.v[i].service);
    bind_source(&c, false);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

static void inbound(struct mz_view *v, struct mz_outs *out)
{
    for (size_t i = 0; i < v->targets.n; i++) {
        bool had = false;
        for (size_t k = 0; k < i; k++)
            had |= v->targets.v[k].number == v->targets.v[i].number;
        if (!had)
            *mz_vec_push(&out->v, MZ_MEM_XDS) = build_inbound(v, i);
    }
}

/* ---- always there ---- */

static struct mz_out *build_passthrough(struct mz_view *v, bool in)
{
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, TR_CONST("PassthroughCluster"), pb_Cluster_DiscoveryType_ORIGINAL_DST);
    c.m->lb_policy = pb_Cluster_LbPolicy_CLUSTER_PROVIDED;
    limits(&c);
    http_options(&c, TR_PIECE(v, PASSTHROUGH_HTTP));
    if (in) { /* statistics of both run together */
        c.m->name = TR_CONST("InboundPassthroughCluster");
        bind_source(&c, true);
    } else {
        exchange_metadata(&c);
    }
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

static struct mz_out *build_blackhole(struct mz_view *v)
{
    struct tr_cluster c = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    begin(&c, TR_CONST("BlackHoleCluster"), pb_Cluster_DiscoveryType_STATIC);
    struct mz_out *o = finish(&c);
    mz_arena_destroy(c.a);
    return o;
}

void tr_clusters(struct mz_view *v, struct mz_outs *out)
{
    for (size_t i = 0; i < v->scope->services_n; i++) {
        const struct mz_service *s = v->scope->services[i];
        for (size_t k = 0; s->resolution != MZ_RESOLVE_ALIAS && k < s->ports_n; k++)
            if (s->ports[k].protocol != MZ_PROTOCOL_UDP &&
                mz_service_port(s, s->ports[k].port) == &s->ports[k])
                outbound(v, s, &s->ports[k], out);
    }
    *mz_vec_push(&out->v, MZ_MEM_XDS) = build_blackhole(v);
    if (v->proxy->type != MZ_PROXY_SIDECAR)
        return;
    *mz_vec_push(&out->v, MZ_MEM_XDS) = build_passthrough(v, false);
    inbound(v, out);
    *mz_vec_push(&out->v, MZ_MEM_XDS) = build_passthrough(v, true);
}
