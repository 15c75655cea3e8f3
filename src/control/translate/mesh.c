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
