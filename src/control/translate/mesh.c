#include "control/translate/mesh.h"

const ist_mesh_ProxyConfig *tr_proxy_config(const struct mz_view *v)
{
    return v->proxy->config ? v->proxy->config : v->model->mesh.config->default_config;
}

static const ist_ProxyConfig_ProxyHeaders *headers(const struct mz_view *v)
{
    const ist_mesh_ProxyConfig *c = tr_proxy_config(v);
    return c ? c->proxy_headers : NULL;
}

/* ---- connection managers ---- */

static void normalize(const struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m)
{
    const ist_MeshConfig_ProxyPathNormalization *p = v->model->mesh.config->path_normalization;
    if (!p)
        return;
    const bool decode =
        p->normalization ==
        ist_MeshConfig_ProxyPathNormalization_NormalizationType_DECODE_AND_MERGE_SLASHES;
    if (p->normalization == ist_MeshConfig_ProxyPathNormalization_NormalizationType_NONE)
        m->normalize_path = tr_bool(a, false);
    m->merge_slashes =
        decode ||
        p->normalization == ist_MeshConfig_ProxyPathNormalization_NormalizationType_MERGE_SLASHES;
    if (decode)
        m->path_with_escaped_slashes_action =
            pb_HttpConnectionManager_PathWithEscapedSlashesAction_UNESCAPE_AND_FORWARD;
}

/* Both enums have the same names, and other numbers. */
static bool forward_of(ist_ForwardClientCertDetails d,
                       pb_HttpConnectionManager_ForwardClientCertDetails *out)
{
    static const struct {
        ist_ForwardClientCertDetails from;
        pb_HttpConnectionManager_ForwardClientCertDetails to;
    } all[] = {
        { ist_ForwardClientCertDetails_SANITIZE,
          pb_HttpConnectionManager_ForwardClientCertDetails_SANITIZE },
        { ist_ForwardClientCertDetails_FORWARD_ONLY,
          pb_HttpConnectionManager_ForwardClientCertDetails_FORWARD_ONLY },
        { ist_ForwardClientCertDetails_APPEND_FORWARD,
          pb_HttpConnectionManager_ForwardClientCertDetails_APPEND_FORWARD },
        { ist_ForwardClientCertDetails_SANITIZE_SET,
          pb_HttpConnectionManager_ForwardClientCertDetails_SANITIZE_SET },
        { ist_ForwardClientCertDetails_ALWAYS_FORWARD_ONLY,
          pb_HttpConnectionManager_ForwardClientCertDetails_ALWAYS_FORWARD_ONLY },
    };
    for (size_t i = 0; i < MZ_COUNT(all); i++)
        if (all[i].from == d) {
            *out = all[i].to;
            return true;
        }
    return false;
}

static void certificate_of_client(struct mz_arena *a, const ist_ProxyConfig_ProxyHeaders *h,
                                  pb_HttpConnectionManager *m)
{
    const ist_ProxyConfig_ProxyHeaders_SetCurrentClientCertDetails *s =
        h->set_current_client_cert_details;
    (void)forward_of(h->forwarded_client_cert, &m->forward_client_cert_details);
    if (!s)
        return;
    pb_HttpConnectionManager_SetCurrentClientCertDetails *d =
        TR_NEW(a, HttpConnectionManager_SetCurrentClientCertDetails);
    d->subject = tr_bool(a, mz_bool_or(s->subject, true));
    d->uri = mz_bool_or(s->uri, true);
    d->dns = mz_bool_or(s->dns, true);
    d->cert = mz_bool_or(s->cert, false);
    d->chain = mz_bool_or(s->chain, false);
    m->set_current_client_cert_details = d;
}

static void name_server(const ist_ProxyConfig_ProxyHeaders_Server *s, pb_HttpConnectionManager *m)
{
    if (s && mz_bool_or(s->disabled, false)) {
        m->server_name = TR_CONST("");
        m->server_header_transformation =
            pb_HttpConnectionManager_ServerHeaderTransformation_PASS_THROUGH;
    } else if (s && s->value[0]) {
        m->server_name = s->value;
    }
}

/* Of who stands before a gateway; the header with the client's certificate follows from that alone. */
static void topology(const ist_mesh_ProxyConfig *c, pb_HttpConnectionManager *m)
{
    const ist_Topology *t = c ? c->gateway_topology : NULL;
    if (!t)
        return;
    m->xff_num_trusted_hops = t->num_trusted_proxies;
    if (forward_of(t->forward_client_cert_details, &m->forward_client_cert_details) &&
        m->forward_client_cert_details !=
            pb_HttpConnectionManager_ForwardClientCertDetails_APPEND_FORWARD &&
        m->forward_client_cert_details !=
            pb_HttpConnectionManager_ForwardClientCertDetails_SANITIZE_SET)
        m->set_current_client_cert_details = NULL;
}

void tr_mesh_manager(const struct mz_view *v, struct mz_arena *a, enum tr_class class,
                     pb_HttpConnectionManager *m)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    normalize(v, a, m);
    if (class == TR_GATEWAY)
        topology(tr_proxy_config(v), m);
    if (!h)
        return;
    name_server(h->server, m);
    if (class == TR_INBOUND)
        certificate_of_client(a, h, m);
    if (h->request_id && mz_bool_or(h->request_id->disabled, false))
        m->generate_request_id = tr_bool(a, false);
    m->append_x_forwarded_port =
        h->x_forwarded_port && mz_bool_or(h->x_forwarded_port->enabled, false);
}

/* ---- connectionSettings ---- */

typedef ist_ProxyConfig_ConnectionSettings settings;

/* The proxy's own, else the mesh's. NULL: none. */
static const settings *connections(const struct mz_view *v)
{
    const ist_mesh_ProxyConfig *own = tr_proxy_config(v),
                               *mesh = v->model->mesh.config->default_config;
    if (own && own->connection_settings)
        return own->connection_settings;
    return mesh ? mesh->connection_settings : NULL;
}

/* A gateway at the edge is careful where nothing is said. */
static bool is_edge(const struct mz_view *v, const settings *s)
{
    return s->profile == ist_ProxyConfig_ConnectionSettings_Profile_EDGE &&
           v->proxy->type == MZ_PROXY_ROUTER;
}

static pb_Duration *duration(struct mz_arena *a, pb_Duration *said, bool edge, uint64_t seconds)
{
    return said || !edge || !seconds ? said : tr_duration_us(a, seconds * 1000000);
}

static pb_UInt32Value *number(struct mz_arena *a, const pb_Int32Value *said, bool edge,
                              uint32_t otherwise)
{
    if (said)
        return said->value < 0 ? NULL : tr_u32(a, (uint32_t)said->value);
    return edge ? tr_u32(a, otherwise) : NULL;
}

pb_UInt32Value *tr_mesh_buffer_limit(const struct mz_view *v, struct mz_arena *a)
{
    const settings *s = connections(v);
    return s ? number(a, s->listener_per_connection_buffer_limit_bytes, is_edge(v, s), 32768)
             : NULL;
}

static void limit_time(struct mz_arena *a, const settings *s, bool edge,
                       pb_HttpConnectionManager *m)
{
    pb_Duration *idle = duration(a, s->http_idle_timeout, edge, 3600),
                *stream = duration(a, s->http_stream_idle_timeout, edge, 300);
    if (idle || s->http_max_connection_duration || s->http_max_stream_duration) {
        pb_HttpProtocolOptions *o = m->common_http_protocol_options;
        if (!o)
            o = m->common_http_protocol_options = TR_NEW(a, HttpProtocolOptions);
        o->idle_timeout = idle ? idle : o->idle_timeout;
        o->max_connection_duration = s->http_max_connection_duration;
        o->max_stream_duration = s->http_max_stream_duration;
    }
    m->stream_idle_timeout = stream ? stream : m->stream_idle_timeout;
    m->request_timeout = duration(a, s->http_request_timeout, edge, 300);
    m->request_headers_timeout = duration(a, s->http_request_headers_timeout, edge, 60);
    m->drain_timeout = s->http_drain_timeout;
}

static void limit_http2(struct mz_arena *a, const settings *s, bool edge,
                        pb_HttpConnectionManager *m)
{
    pb_UInt32Value *streams = number(a, s->http_max_concurrent_streams, edge, 100),
                   *window = number(a, s->http2_initial_stream_window_size, edge, 65536),
                   *all = number(a, s->http2_initial_connection_window_size, edge, 1048576);
    if (!streams && !window && !all)
        return;
    pb_Http2ProtocolOptions *o = m->http2_protocol_options = TR_NEW(a, Http2ProtocolOptions);
    o->max_concurrent_streams = streams;
    o->initial_stream_window_size = window;
    o->initial_connection_window_size = all;
}

static void limit_names(struct mz_arena *a, const settings *s, bool edge,
                        pb_HttpConnectionManager *m)
{
    int names = (int)s->http_headers_with_underscores_action,
        slashes = (int)s->http_path_with_escaped_slashes_action;
    if (edge && !names)
        names =
            ist_ProxyConfig_ConnectionSettings_HeadersWithUnderscoresAction_HEADERS_WITH_UNDERSCORES_REJECT_REQUEST;
    if (edge && !slashes)
        slashes =
            ist_ProxyConfig_ConnectionSettings_PathWithEscapedSlashesAction_UNESCAPE_AND_REDIRECT;
    if (names && !m->common_http_protocol_options)
        m->common_http_protocol_options = TR_NEW(a, HttpProtocolOptions);
    if (names) /* both enums have the same order, ours with "not said" in front */
        m->common_http_protocol_options->headers_with_underscores_action =
            (pb_HttpProtocolOptions_HeadersWithUnderscoresAction)(names - 1);
    if (slashes) /* here the same numbers */
        m->path_with_escaped_slashes_action =
            (pb_HttpConnectionManager_PathWithEscapedSlashesAction)slashes;
    if (s->http_merge_slashes || edge)
        m->merge_slashes = mz_bool_or(s->http_merge_slashes, true);
}

void tr_mesh_connections(const struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m)
{
    const settings *s = connections(v);
    if (!s)
        return;
    const bool edge = is_edge(v, s);
    limit_time(a, s, edge, m);
    limit_http2(a, s, edge, m);
    limit_names(a, s, edge, m);
}

pb_UInt32Value *tr_mesh_accepts(const struct mz_view *v, struct mz_arena *a)
{
    const struct mz_features *f = &v->t->features;
    return f->accepts_all ? NULL : tr_u32(a, f->accepts ? f->accepts : 1);
}

pb_Duration *tr_mesh_handshake(const struct mz_view *v, struct mz_arena *a)
{
    const struct mz_features *f = &v->t->features;
    return f->handshake_forever
               ? NULL
               : tr_duration_us(a, (f->handshake_ms ? f->handshake_ms : 15000) * 1000);
}

pb_Listener_ConnectionBalanceConfig *tr_mesh_balance(struct mz_arena *a)
{
    pb_Listener_ConnectionBalanceConfig *c = TR_NEW(a, Listener_ConnectionBalanceConfig);
    c->balance_type_case = pb_Listener_ConnectionBalanceConfig_BALANCE_TYPE_EXACT_BALANCE;
    c->exact_balance = TR_NEW(a, Listener_ConnectionBalanceConfig_ExactBalance);
    return c;
}

/* ---- headers ---- */

const pb_Http1ProtocolOptions *tr_mesh_http1(const struct mz_view *v)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    return h && mz_bool_or(h->preserve_http1_header_case, false) ? TR_PIECE(v, PRESERVE_CASE)
                                                                 : NULL;
}

bool tr_mesh_appends_host(const struct mz_view *v)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    return h && h->x_forwarded_host && mz_bool_or(h->x_forwarded_host->enabled, false);
}

bool tr_mesh_exchanges_within(const struct mz_view *v)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    return h && h->metadata_exchange_headers &&
           h->metadata_exchange_headers->mode ==
               ist_ProxyConfig_ProxyHeaders_MetadataExchangeMode_IN_MESH;
}

bool tr_mesh_hides_debug_headers(const struct mz_view *v)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    return h && h->envoy_debug_headers && mz_bool_or(h->envoy_debug_headers->disabled, false);
}

bool tr_mesh_counts_attempts(const struct mz_view *v)
{
    const ist_ProxyConfig_ProxyHeaders *h = headers(v);
    return !h || !h->attempt_count || !mz_bool_or(h->attempt_count->disabled, false);
}

bool tr_mesh_takes_proxy_protocol(const struct mz_view *v)
{
    const ist_mesh_ProxyConfig *c = tr_proxy_config(v);
    return c && c->gateway_topology && c->gateway_topology->proxy_protocol;
}

/* ---- TLS ---- */

void tr_mesh_tls(const struct mz_view *v, struct mz_arena *a, pb_TlsParameters **p)
{
    const ist_MeshConfig_TLSConfig *t = v->model->mesh.config->tls_defaults;
    if (!t || (!t->n_ecdh_curves && !t->n_cipher_suites && !t->min_protocol_version))
        return;
    if (!*p)
        *p = TR_NEW(a, TlsParameters);
    if (t->n_ecdh_curves) {
        (*p)->ecdh_curves = t->ecdh_curves;
        (*p)->n_ecdh_curves = t->n_ecdh_curves;
    }
    if (t->n_cipher_suites) {
        (*p)->cipher_suites = t->cipher_suites;
        (*p)->n_cipher_suites = t->n_cipher_suites;
    }
    if (t->min_protocol_version)
        (*p)->tls_minimum_protocol_version =
            t->min_protocol_version == ist_MeshConfig_TLSConfig_TLSProtocol_TLSV1_3
                ? pb_TlsParameters_TlsProtocol_TLSv1_3
                : pb_TlsParameters_TlsProtocol_TLSv1_2;
}

/* ---- clusters ---- */

struct mz_policy tr_mesh_policy(const struct mz_view *v, struct mz_policy p)
{
    const ist_MeshConfig_DefaultTrafficPolicy *d = v->model->mesh.config->default_traffic_policy;
    p.pool = p.pool || !d ? p.pool : d->connection_pool;
    p.outlier = p.outlier || !d ? p.outlier : d->outlier_detection;
    return p;
}

uint16_t tr_mesh_port(const struct mz_view *v, bool in)
{
    const ist_MeshConfig *c = v->model->mesh.config;
    const int32_t said = in ? c->proxy_inbound_listen_port : c->proxy_listen_port;
    return (uint16_t)(said ? said : in ? 15006 : 15001);
}

bool tr_mesh_dials_loopback(const struct mz_view *v)
{
    const ist_MeshConfig_InboundTrafficPolicy *i = v->model->mesh.config->inbound_traffic_policy;
    return i && i->mode == ist_MeshConfig_InboundTrafficPolicy_Mode_LOCALHOST;
}

/* ---- names of statistics ---- */

static struct mz_str replaced(struct mz_arena *a, struct mz_str text, struct mz_str word,
                              struct mz_str by)
{
    struct mz_str out = MZ_STR("");
    for (ptrdiff_t at; (at = mz_str_find(text, word)) >= 0;) {
        out = mz_arena_printf(a, "%.*s%.*s%.*s", MZ_STR_ARG(out), (int)at, text.p, MZ_STR_ARG(by));
        text = mz_str_skip(text, (size_t)at + word.n);
    }
    return mz_arena_printf(a, "%.*s%.*s", MZ_STR_ARG(out), MZ_STR_ARG(text));
}

char *tr_mesh_stat_name(struct mz_arena *a, const char *pattern, const struct mz_service *s,
                        struct mz_str subset, const struct mz_port *p, unsigned target)
{
    const bool platform =
        s && !s->entry; /* services of others have no shorter name than their host */
    const struct mz_str host = s ? s->host : MZ_STR("");
    const struct {
        struct mz_str word, by;
    } all[] = {
        { MZ_STR("%SERVICE%"),
          platform ? mz_arena_printf(a, "%.*s.%.*s", MZ_STR_ARG(s->name), MZ_STR_ARG(s->ns))
                   : host },
        { MZ_STR("%SERVICE_NAME%"), platform ? s->name : host },
        { MZ_STR("%SERVICE_FQDN%"), host },
        { MZ_STR("%SUBSET_NAME%"), subset },
        { MZ_STR("%TARGET_PORT%"), mz_arena_printf(a, "%u", target) },
        { MZ_STR("%SERVICE_PORT%"), mz_arena_printf(a, "%u", p->port) },
        { MZ_STR("%SERVICE_PORT_NAME%"), p->name },
    };
    struct mz_str out = mz_str_c(pattern);
    for (size_t i = 0; i < MZ_COUNT(all); i++)
        out = replaced(a, out, all[i].word, all[i].by);
    return tr_text(a, out);
}
