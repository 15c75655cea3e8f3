/* The two listeners that catch everything (LDS): 15001 for what leaves, 15006 for what comes. */
#include <stdlib.h>

#include "control/translate/dynamic.h"
#include "control/translate/extensions.h"
#include "control/translate/gateway.h"
#include "control/translate/ingress.h"
#include "control/translate/matchers.h"
#include "control/translate/mesh.h"
#include "control/translate/own.h"
#include "control/translate/telemetry.h"

enum { OWN_OUTBOUND, OWN_INBOUND };

static const char *const http_alpn[] = { "istio-http/1.0", "istio-http/1.1", "istio-h2", NULL };
static const char *const tcp_alpn[] = { "istio-peer-exchange", "istio", NULL };
static const char *const all_alpn[] = { "istio",          "istio-peer-exchange",
                                        "istio-http/1.0", "istio-http/1.1",
                                        "istio-h2",       NULL };
static const char *const plain_http[] = { "http/1.0", "http/1.1", "h2c", NULL };

/* What the inspector finds in plain bytes; without HTTP/1.0 where that would be refused anyway. */
static const char *const *plain_http_of(const struct mz_view *v)
{
    return plain_http + !v->t->features.http10;
}

/* ---- TLS of the mesh, as a server ---- */

static pb_SdsSecretConfig *secret(struct mz_view *v, struct mz_arena *a, const char *name)
{
    pb_SdsSecretConfig *s = TR_NEW(a, SdsSecretConfig);
    s->name = TR_CONST(name);
    s->sds_config = TR_PIECE(v, SDS);
    return s;
}

static pb_CertificateValidationContext *of_the_mesh(struct mz_view *v, struct mz_arena *a)
{
    pb_CertificateValidationContext *c = TR_NEW(a, CertificateValidationContext);
    struct mz_str domain;
    for (size_t i = 0;
         !v->t->features.any_trust_domain && mz_mesh_trust_domain(&v->model->mesh, i, &domain); i++)
        TR_ADD(a, c, match_subject_alt_names) =
            tr_match_prefix(a, mz_arena_printf(a, "spiffe://%.*s/", MZ_STR_ARG(domain)));
    return c;
}

static pb_TransportSocket *server_tls(struct mz_view *v, struct mz_arena *a, bool http)
{
    static const char *const ciphers[] = { "ECDHE-ECDSA-AES256-GCM-SHA384",
                                           "ECDHE-RSA-AES256-GCM-SHA384",
                                           "ECDHE-ECDSA-AES128-GCM-SHA256",
                                           "ECDHE-RSA-AES128-GCM-SHA256",
                                           "AES256-GCM-SHA384",
                                           "AES128-GCM-SHA256" };
    pb_DownstreamTlsContext *t = TR_NEW(a, DownstreamTlsContext);
    pb_CommonTlsContext *m = t->common_tls_context = TR_NEW(a, CommonTlsContext);
    m->tls_params = TR_NEW(a, TlsParameters);
    m->tls_params->tls_minimum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_2;
    m->tls_params->tls_maximum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_3;
    const ist_MeshConfig_TLSConfig *mesh = v->model->mesh.config->mesh_mtls;
    if (mesh && mesh->min_protocol_version == ist_MeshConfig_TLSConfig_TLSProtocol_TLSV1_3)
        m->tls_params->tls_minimum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_3;
    for (size_t i = 0; mesh && i < mesh->n_cipher_suites; i++)
        TR_ADD(a, m->tls_params, cipher_suites) = mesh->cipher_suites[i];
    for (size_t i = 0; !(mesh && mesh->n_cipher_suites) && i < MZ_COUNT(ciphers); i++)
        TR_ADD(a, m->tls_params, cipher_suites) = TR_CONST(ciphers[i]);
    if (!http && v->exchange && !v->t->features.no_exchange_alpn)
        TR_ADD(a, m, alpn_protocols) = TR_CONST("istio-peer-exchange");
    TR_ADD(a, m, alpn_protocols) = TR_CONST("h2");
    TR_ADD(a, m, alpn_protocols) = TR_CONST("http/1.1");
    TR_ADD(a, m, tls_certificate_sds_secret_configs) = secret(v, a, "default");
    m->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    m->combined_validation_context =
        TR_NEW(a, CommonTlsContext_CombinedCertificateValidationContext);
    m->combined_validation_context->default_validation_context = of_the_mesh(v, a);
    m->combined_validation_context->validation_context_sds_secret_config = secret(v, a, "ROOTCA");
    t->require_client_certificate = tr_bool(a, true);
    return tr_transport_socket(a, "envoy.transport_sockets.tls", t);
}

/* ---- chains of 15006 ---- */

struct inbound { /* one port of the workload, or everything else */
    struct mz_view *v;
    struct mz_arena *a;
    pb_Listener *m;
    const struct mz_target *target;   /* NULL: no service has it */
    uint16_t port;                    /* 0: every other port */
    const struct tr_ingress *ingress; /* what a Sidecar says of it; NULL: nothing */
    char *cluster, *name, *http_name; /* of the chains */
};

static pb_FilterChain *add_chain(struct inbound *in, char *name, const char *transport,
                                 const char *const *alpn)
{
    pb_FilterChain *c = TR_NEW(in->a, FilterChain);
    c->name = name;
    c->filter_chain_match = TR_NEW(in->a, FilterChainMatch);
    c->filter_chain_match->transport_protocol = TR_CONST(transport);
    if (in->port)
        c->filter_chain_match->destination_port = tr_u32(in->a, in->port);
    for (; alpn && *alpn; alpn++)
        TR_ADD(in->a, c->filter_chain_match, application_protocols) = TR_CONST(*alpn);
    if (in->ingress) {
        const struct mz_sidecar *s = in->v->scope->sidecar;
        tr_struct_text(in->a, tr_metadata(in->a, &c->metadata, "istio"), "config",
                       mz_arena_printf(in->a,
                                       "/apis/networking.istio.io/v1/namespaces/%.*s/sidecar/%.*s",
                                       MZ_STR_ARG(in->v->scope->ns), MZ_STR_ARG(s->name)));
    }
    TR_ADD(in->a, in->m, filter_chains) = c;
    return c;
}

static void http_chain(struct inbound *in, const char *transport, const char *const *alpn, bool tls)
{
    struct mz_arena *a = in->a;
    pb_FilterChain *c = add_chain(in, in->http_name, transport, alpn);
    const struct tr_at at = { TR_INBOUND, in->port,
                              in->target && in->target->port->protocol == MZ_PROTOCOL_GRPC_WEB };
    pb_HttpConnectionManager *h = tr_http_manager(in->v, a, &at,
                                                  in->target ? TR_PRINTF(a, "inbound_%s;", in->name)
                                                             : TR_PRINTF(a, "%s;", in->cluster));
    if (in->target && mz_protocol_is_http2(in->target->port->protocol) &&
        !h->http2_protocol_options)
        h->http2_protocol_options = TR_NEW(a, Http2ProtocolOptions);
    h->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_ROUTE_CONFIG;
    h->route_config = tr_inbound_routes(in->v, a, in->cluster, in->target);
    tr_http_filters(in->v, a, c, &at, h);
    if (tls)
        c->transport_socket = server_tls(in->v, a, true);
}

static void tcp_chain(struct inbound *in, const char *transport, const char *const *alpn, bool tls)
{
    pb_FilterChain *c = add_chain(in, in->name, transport, alpn);
    const uint16_t port = in->target ? in->target->port->port : 0; /* not where it listens */
    const char *pattern = in->v->model->mesh.config->inbound_cluster_stat_name;
    const char *stat = pattern[0] && in->target && in->target->service
                           ? tr_mesh_stat_name(in->a, pattern, in->target->service, MZ_STR(""),
                                               in->target->port, in->target->number)
                           : NULL;
    tr_tcp_filters(in->v, in->a, c, TR_INBOUND,
                   &(struct tr_tcp){ .cluster = in->cluster,
                                     .stat = stat,
                                     .port = port,
                                     .protocol = in->target ? in->target->port->protocol
                                                            : MZ_PROTOCOL_UNKNOWN });
    if (tls)
        c->transport_socket = server_tls(in->v, in->a, false);
}

static enum mz_mtls mode_of(struct mz_view *v, uint16_t port)
{
    return mz_model_mtls(v->model, v->proxy->ns,
                         v->workload ? v->workload->labels : v->proxy->labels, port);
}

/* Both kinds of connections: mutual TLS of the mesh for whom the ALPN says so, as it comes for everybody else. */
static void permissive(struct inbound *in, enum mz_protocol p)
{
    if (mz_protocol_is_http(p)) {
        http_chain(in, "tls", all_alpn, true);
        http_chain(in, "raw_buffer", NULL, false);
    } else if (p == MZ_PROTOCOL_UNKNOWN) {
        http_chain(in, "tls", http_alpn, true);
        http_chain(in, "raw_buffer", plain_http_of(in->v), false);
        tcp_chain(in, "tls", tcp_alpn, true);
        tcp_chain(in, "raw_buffer", NULL, false);
        tcp_chain(in, "tls", NULL, false);
    } else {
        tcp_chain(in, "tls", all_alpn, true);
        tcp_chain(in, "tls", NULL, false);
        tcp_chain(in, "raw_buffer", NULL, false);
    }
}

/* One kind: all with TLS, or none. */
static void one_kind(struct inbound *in, enum mz_protocol p, bool tls)
{
    const char *transport = tls ? "tls" : "raw_buffer";
    if (p == MZ_PROTOCOL_UNKNOWN)
        http_chain(in, transport, tls ? http_alpn : plain_http_of(in->v), tls);
    if (mz_protocol_is_http(p))
        http_chain(in, transport, NULL, tls);
    else
        tcp_chain(in, transport, NULL, tls);
}

/* TLS that a Sidecar says, where the mesh has none: what is inside is no TLS any more (ingress.c). */
static void terminated(struct inbound *in, enum mz_protocol p)
{
    const size_t first = in->m->n_filter_chains;
    if (mz_protocol_is_http(p))
        http_chain(in, "tls", NULL, false);
    else
        tcp_chain(in, "tls", NULL, false);
    in->m->filter_chains[first]->transport_socket =
        tr_terminate(in->v, in->a, in->ingress->listener->tls, false);
}

static void chains_of(struct inbound *in, enum mz_protocol p)
{
    const enum mz_mtls mode = mode_of(in->v, in->port);
    if (in->ingress && in->ingress->terminates && mode == MZ_MTLS_DISABLE)
        terminated(in, p);
    else if (mode == MZ_MTLS_PERMISSIVE)
        permissive(in, p);
    else
        one_kind(in, p, mode == MZ_MTLS_STRICT);
}

/* A client that dials 15006 itself would go round for ever (G17). */
static void black_hole(struct mz_view *v, struct mz_arena *a, pb_Listener *m, bool in)
{
    pb_FilterChain *c = TR_NEW(a, FilterChain);
    c->name = TR_CONST(in ? "virtualInbound-blackhole" : "virtualOutbound-blackhole");
    c->filter_chain_match = TR_NEW(a, FilterChainMatch);
    c->filter_chain_match->destination_port = tr_u32(a, tr_mesh_port(v, in));
    tr_tcp_filters(v, a, c, in ? TR_INBOUND : TR_OUTBOUND,
                   &(struct tr_tcp){ .cluster = "BlackHoleCluster", .silent = true });
    TR_ADD(a, m, filter_chains) = c;
}

static struct mz_str bind_of(const struct mz_view *v, size_t target)
{
    return v->ingress ? v->ingress[target].bind : tr_wildcard(v->proxy);
}

static void inbound_port(struct inbound *in, size_t target)
{
    const struct mz_target *t = &in->v->targets.v[target];
    in->target = t;
    in->port = t->number;
    in->ingress = in->v->ingress ? &in->v->ingress[target] : NULL;
    in->cluster = tr_cluster_name(in->a, "inbound", t->number, MZ_STR(""), MZ_STR(""));
    in->name = in->http_name =
        TR_PRINTF(in->a, "%.*s_%u", MZ_STR_ARG(bind_of(in->v, target)), t->number);
    chains_of(in, t->port->protocol);
}

static bool has_own_socket(const struct mz_view *v, size_t target)
{
    return v->ingress && v->ingress[target].own_socket;
}

/* Ports of no service that a PeerAuthentication names. False: there are no more. */
static bool next_stranger(const struct mz_view *v, size_t *i, uint16_t *out_port)
{
    const struct mz_labels l = v->workload ? v->workload->labels : v->proxy->labels;
    for (uint16_t port; (port = mz_model_mtls_port(v->model, v->proxy->ns, l, *i));) {
        bool known = false;
        for (size_t k = 0; k < v->targets.n; k++)
            known |= v->targets.v[k].number == port;
        ++*i;
        if (known)
            continue;
        *out_port = port;
        return true;
    }
    return false;
}

static void inbound_chains(struct mz_view *v, struct mz_arena *a, pb_Listener *m)
{
    struct inbound in = { .v = v,
                          .a = a,
                          .m = m,
                          .cluster = TR_CONST("InboundPassthroughCluster"),
                          .name = TR_CONST("virtualInbound"),
                          .http_name = TR_CONST("virtualInbound-catchall-http") };
    black_hole(v, a, m, true);
    chains_of(&in, MZ_PROTOCOL_UNKNOWN);
    for (size_t i = 0; next_stranger(v, &i, &in.port);)
        chains_of(&in, MZ_PROTOCOL_UNKNOWN);
    for (size_t i = 0; i < v->targets.n; i++)
        if (v->targets.v[i].first && !has_own_socket(v, i) &&
            v->targets.v[i].port->protocol != MZ_PROTOCOL_UDP)
            inbound_port(&in, i);
}

/* ---- inspectors of 15006 ---- */

static bool own_tls(const struct mz_view *v, size_t target)
{
    return v->ingress && v->ingress[target].terminates;
}

static pb_ListenerFilterChainMatchPredicate *port_is(struct mz_arena *a, uint16_t port)
{
    pb_ListenerFilterChainMatchPredicate *p = TR_NEW(a, ListenerFilterChainMatchPredicate);
    p->rule_case = pb_ListenerFilterChainMatchPredicate_RULE_DESTINATION_PORT_RANGE;
    p->destination_port_range = TR_NEW(a, Int32Range);
    p->destination_port_range->start = port;
    p->destination_port_range->end = port + 1;
    return p;
}

static int compare_ports(const void *x, const void *y)
{
    const uint16_t *a = x, *b = y;
    return (*a > *b) - (*a < *b);
}

/* One port by itself, several as a choice. */
static pb_ListenerFilterChainMatchPredicate *ports_are(struct mz_arena *a, uint16_t *v, size_t n)
{
    if (n == 1)
        return port_is(a, v[0]);
    pb_ListenerFilterChainMatchPredicate *p = TR_NEW(a, ListenerFilterChainMatchPredicate);
    p->rule_case = pb_ListenerFilterChainMatchPredicate_RULE_OR_MATCH;
    p->or_match = TR_NEW(a, ListenerFilterChainMatchPredicate_MatchSet);
    qsort(v, n, sizeof(*v), compare_ports);
    for (size_t i = 0; i < n; i++)
        TR_ADD(a, p->or_match, rules) = port_is(a, v[i]);
    return p;
}

static pb_ListenerFilterChainMatchPredicate *not_ports(struct mz_arena *a, uint16_t *v, size_t n)
{
    pb_ListenerFilterChainMatchPredicate *p = TR_NEW(a, ListenerFilterChainMatchPredicate);
    p->rule_case = pb_ListenerFilterChainMatchPredicate_RULE_NOT_MATCH;
    p->not_match = ports_are(a, v, n);
    return p;
}

static pb_ListenerFilter *inspector(struct mz_arena *a, const pb_ListenerFilter *piece,
                                    pb_ListenerFilterChainMatchPredicate *off)
{
    pb_ListenerFilter *f = TR_NEW(a, ListenerFilter);
    *f = *piece; /* shares its configuration */
    f->filter_disabled = off;
    return f;
}

/* What has to be looked at. */
static bool wants_tls(enum mz_mtls mode)
{
    return mode != MZ_MTLS_DISABLE;
}

static bool wants_http(enum mz_mtls mode, enum mz_protocol p)
{
    return mode != MZ_MTLS_STRICT && p == MZ_PROTOCOL_UNKNOWN;
}

struct
    inspected { /* by one inspector: which ports need none, which do; others: those of no service */
    uint16_t *off, *on;
    size_t off_n, on_n;
    bool others;
};

static void note_port(struct inspected *i, uint16_t port, bool wanted)
{
    if (wanted)
        i->on[i->on_n++] = port;
    else
        i->off[i->off_n++] = port;
}

/* Nobody looks at the bytes of a port where it makes no difference. */
static void inbound_inspectors(struct mz_view *v, struct mz_arena *a, pb_Listener *m)
{
    size_t at = 0, strangers = 0;
    for (uint16_t i; next_stranger(v, &at, &i);)
        strangers++;
    at = 0;
    const size_t room = (v->targets.n + strangers + 2) * sizeof(uint16_t);
    const enum mz_mtls others = mode_of(v, 0);
    struct inspected tls = { .off = mz_arena_alloc(a, room),
                             .on = mz_arena_alloc(a, room),
                             .others = wants_tls(others) },
                     http = { .off = mz_arena_alloc(a, room),
                              .on = mz_arena_alloc(a, room),
                              .others = wants_http(others, MZ_PROTOCOL_UNKNOWN) };
    note_port(&tls, tr_mesh_port(v, true), false);
    note_port(&http, tr_mesh_port(v, true), false);
    if (!http.others)
        note_port(&http, 0, false);
    for (size_t i = 0; i < v->targets.n; i++) {
        const struct mz_target *t = &v->targets.v[i];
        const enum mz_mtls mode = mode_of(v, t->number);
        if (!t->first || has_own_socket(v, i))
            continue;
        note_port(&tls, t->number, wants_tls(mode) || own_tls(v, i));
        note_port(&http, t->number, wants_http(mode, t->port->protocol));
    }
    for (uint16_t port = 0; next_stranger(v, &at, &port);) {
        note_port(&tls, port, wants_tls(mode_of(v, port)));
        note_port(&http, port, wants_http(mode_of(v, port), MZ_PROTOCOL_UNKNOWN));
    }
    TR_ADD(a, m, listener_filters) = TR_PIECE(v, ORIGINAL_DST);
    if (v->proxy->tproxy)
        TR_ADD(a, m, listener_filters) = TR_PIECE(v, ORIGINAL_SRC);
    if (tls.others || tls.on_n)
        TR_ADD(a, m, listener_filters) = inspector(a, TR_PIECE(v, TLS_INSPECTOR),
                                                   tls.others ? ports_are(a, tls.off, tls.off_n)
                                                              : not_ports(a, tls.on, tls.on_n));
    if (http.others || http.on_n)
        TR_ADD(a, m, listener_filters) =
            inspector(a, TR_PIECE(v, HTTP_INSPECTOR), ports_are(a, http.off, http.off_n));
    m->listener_filters_timeout =
        tr_duration_us(a, http.others || http.on_n ? v->model->mesh.detection_timeout_us : 0);
    m->continue_on_listener_filters_timeout = true;
}

/* ---- both ---- */

static pb_Listener *begin(struct mz_view *v, struct mz_arena *a, const char *name, bool in)
{
    const struct tr_telemetry *t = tr_telemetry(v, in ? TR_INBOUND : TR_OUTBOUND);
    pb_Listener *m = TR_NEW(a, Listener);
    m->name = TR_CONST(name);
    m->address = tr_address(a, tr_wildcard(v->proxy), tr_mesh_port(v, in));
    m->max_connections_to_accept_per_socket_event = tr_mesh_accepts(v, a);
    if (in && v->proxy->balance_in)
        m->connection_balance_config = tr_mesh_balance(a);
    if (v->proxy->tproxy)
        m->transparent = tr_bool(a, true);
    for (size_t i = 0; i < t->n_listener_logs; i++)
        TR_ADD(a, m, access_log) = t->listener_logs[i];
    return m;
}

/* Of both families, where the proxy has both. */
void tr_other_wildcard(const struct mz_view *v, struct mz_arena *a, pb_Listener *m, uint32_t port)
{
    if (!v->proxy->ipv4 || !v->proxy->ipv6)
        return;
    pb_AdditionalAddress *o = TR_NEW(a, AdditionalAddress);
    o->address = tr_address(a, MZ_STR("::"), port);
    TR_ADD(a, m, additional_addresses) = o;
}

/* HTTP to what no service stands for, where its host is resolved. */
static pb_FilterChain *dynamic_chain(struct mz_view *v, struct mz_arena *a)
{
    const struct tr_at at = { .class = TR_OUTBOUND };
    pb_FilterChain *c = TR_NEW(a, FilterChain);
    pb_HttpConnectionManager *h =
        tr_http_manager(v, a, &at, TR_CONST("outbound_virtualOutbound_allow_any_dynamic_dns;"));
    h->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_ROUTE_CONFIG;
    h->route_config = tr_route_configuration(a, MZ_STR("allow_any_dynamic_dns"));
    TR_ADD(a, h->route_config, virtual_hosts) = tr_everything_else(v, a);
    tr_http_before_router(a, h, tr_dynamic_http_filter(v, a, MZ_STR("")));
    c->name = TR_CONST("virtualOutbound-catchall-tcp-http");
    c->filter_chain_match = TR_NEW(a, FilterChainMatch);
    for (const char *const *p = plain_http_of(v); *p; p++)
        TR_ADD(a, c->filter_chain_match, application_protocols) = TR_CONST(*p);
    TR_ADD(a, c, filters) = tr_filter(a, "envoy.filters.network.http_connection_manager", h);
    return c;
}

static struct mz_out *virtual_outbound(struct mz_view *v, unsigned what)
{
    (void)what;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_Listener *m = begin(v, a, "virtualOutbound", false);
    tr_other_wildcard(v, a, m, tr_mesh_port(v, false));
    pb_FilterChain *c = TR_NEW(a, FilterChain);
    m->traffic_direction = pb_TrafficDirection_OUTBOUND;
    m->use_original_dst = tr_bool(a, true);
    black_hole(v, a, m, false);
    if (v->scope->resolves) {
        TR_ADD(a, m, filter_chains) = dynamic_chain(v, a);
        TR_ADD(a, m, listener_filters) = TR_PIECE(v, HTTP_INSPECTOR);
    }
    c->name = TR_CONST("virtualOutbound-catchall-tcp");
    tr_tcp_filters(v, a, c, TR_OUTBOUND,
                   &(struct tr_tcp){ .cluster = v->scope->elsewhere, .bare = true });
    TR_ADD(a, m, filter_chains) = c;
    struct mz_out *o = mz_out_create(mz_str_c(m->name), &m->base);
    mz_arena_destroy(a);
    return o;
}

static struct mz_out *virtual_inbound(struct mz_view *v, unsigned what)
{
    (void)what;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_Listener *m = begin(v, a, "virtualInbound", true);
    tr_other_wildcard(v, a, m, tr_mesh_port(v, true));
    m->traffic_direction = pb_TrafficDirection_INBOUND;
    inbound_chains(v, a, m);
    inbound_inspectors(v, a, m);
    struct mz_out *o = mz_out_create(mz_str_c(m->name), &m->base);
    mz_arena_destroy(a);
    return o;
}

/* A port of a Sidecar that its proxy opens itself. */
static struct mz_out *own_inbound(struct mz_view *v, size_t target)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    const struct mz_target *t = &v->targets.v[target];
    const struct mz_str bind = bind_of(v, target);
    struct inbound in = { .v = v, .a = a };
    in.m = begin(v, a, TR_PRINTF(a, "%.*s_%u", MZ_STR_ARG(bind), t->number), true);
    in.m->address = tr_address(a, bind, t->number);
    in.m->transparent = NULL; /* nothing is caught: clients dial it */
    in.m->traffic_direction = pb_TrafficDirection_INBOUND;
    inbound_port(&in, target);
    const enum mz_mtls mode = mode_of(v, t->number);
    uint16_t itself = t->number;
    if (wants_tls(mode) || own_tls(v, target))
        TR_ADD(a, in.m, listener_filters) =
            inspector(a, TR_PIECE(v, TLS_INSPECTOR), not_ports(a, &itself, 1));
    if (wants_http(mode, t->port->protocol))
        TR_ADD(a, in.m, listener_filters) = TR_PIECE(v, HTTP_INSPECTOR);
    in.m->listener_filters_timeout = tr_duration_us(a, v->model->mesh.detection_timeout_us);
    in.m->continue_on_listener_filters_timeout = true;
    struct mz_out *o = mz_out_create(mz_str_c(in.m->name), &in.m->base);
    mz_arena_destroy(a);
    return o;
}

void tr_listeners(struct mz_view *v, struct mz_outs *out)
{
    if (v->proxy->type != MZ_PROXY_SIDECAR) {
        tr_gateway_listeners(v, out);
        return;
    }
    struct mz_out *proxy = tr_listener_of_proxy(v);
    tr_listeners_outbound(v, out);
    if (proxy)
        *mz_vec_push(&out->v, MZ_MEM_XDS) = proxy;
    if (!v->proxy->uncaught) {
        *mz_vec_push(&out->v, MZ_MEM_XDS) =
            tr_own(v, MZ_XDS_LISTENER, OWN_OUTBOUND, virtual_outbound);
        *mz_vec_push(&out->v, MZ_MEM_XDS) =
            tr_own(v, MZ_XDS_LISTENER, OWN_INBOUND, virtual_inbound);
    }
    for (size_t i = 0; i < v->targets.n; i++)
        if (has_own_socket(v, i) && !(v->proxy->unprivileged && v->targets.v[i].number < 1024))
            *mz_vec_push(&out->v, MZ_MEM_XDS) = own_inbound(v, i);
}
