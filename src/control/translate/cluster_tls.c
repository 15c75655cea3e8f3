/* TLS towards upstreams: mutual TLS of the mesh where the endpoint has a proxy before it, plain where not (C10). */
#include <stdlib.h>

#include "control/translate/mesh.h"

static pb_SdsSecretConfig *secret(struct tr_cluster *c, const char *name)
{
    pb_SdsSecretConfig *s = TR_NEW(c->a, SdsSecretConfig);
    s->name = TR_CONST(name);
    s->sds_config = TR_PIECE(c->v, SDS);
    return s;
}

static void expect(struct tr_cluster *c, pb_CertificateValidationContext *m, char *exact)
{
    pb_StringMatcher *s = TR_NEW(c->a, StringMatcher);
    s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
    s->exact = exact;
    TR_ADD(c->a, m, match_subject_alt_names) = s;
}

/* The account, by the name of each of the mesh's trust domains: "spiffe://domain/ns/demo/sa/web". */
static void expect_account(struct tr_cluster *c, pb_CertificateValidationContext *m,
                           struct mz_str account)
{
    const struct mz_str scheme = MZ_STR("spiffe://");
    const struct mz_str id =
        mz_str_skip(account, mz_str_starts(account, scheme) ? scheme.n : account.n);
    const ptrdiff_t slash = mz_str_chr(id, '/');
    struct mz_str domain;
    expect(c, m, tr_text(c->a, account));
    for (size_t i = 1; slash > 0 && mz_mesh_trust_domain(&c->v->model->mesh, i, &domain); i++)
        if (mz_str_starts(mz_str_skip(id, (size_t)slash), MZ_STR("/ns/")))
            expect(c, m,
                   TR_PRINTF(c->a, "spiffe://%.*s%.*s", MZ_STR_ARG(domain),
                             MZ_STR_ARG(mz_str_skip(id, (size_t)slash))));
}

static int compare_names(const void *a, const void *b)
{
    const pb_StringMatcher *const *x = a, *const *y = b;
    return strcmp((*x)->exact, (*y)->exact);
}

static void expect_accounts(struct tr_cluster *c, pb_CertificateValidationContext *m)
{
    for (size_t i = 0; i < c->service->accounts_n; i++)
        expect_account(c, m, c->service->accounts[i]);
    if (m->n_match_subject_alt_names)
        qsort(m->match_subject_alt_names, m->n_match_subject_alt_names,
              sizeof(*m->match_subject_alt_names), compare_names);
}

static pb_CertificateValidationContext *accounts(struct tr_cluster *c)
{
    pb_CertificateValidationContext *m = TR_NEW(c->a, CertificateValidationContext);
    const ist_ClientTLSSettings *own = c->policy.tls;
    for (size_t i = 0; own && i < own->n_subject_alt_names; i++)
        expect(c, m, own->subject_alt_names[i]);
    if (!m->n_match_subject_alt_names)
        expect_accounts(c, m);
    return m;
}

static pb_CommonTlsContext *common(struct tr_cluster *c)
{
    pb_CommonTlsContext *m = TR_NEW(c->a, CommonTlsContext);
    pb_CommonTlsContext_CombinedCertificateValidationContext *v =
        TR_NEW(c->a, CommonTlsContext_CombinedCertificateValidationContext);
    m->tls_params = TR_NEW(c->a, TlsParameters);
    m->tls_params->tls_minimum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_2;
    m->tls_params->tls_maximum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_3;
    TR_ADD(c->a, m, tls_certificate_sds_secret_configs) = secret(c, "default");
    v->default_validation_context = accounts(c);
    v->validation_context_sds_secret_config = secret(c, "ROOTCA");
    m->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    m->combined_validation_context = v;
    if (c->v->exchange && !c->v->t->features.no_exchange_alpn)
        TR_ADD(c->a, m, alpn_protocols) = TR_CONST("istio-peer-exchange");
    TR_ADD(c->a, m, alpn_protocols) = TR_CONST("istio");
    if (tr_cluster_is_http2(c))
        TR_ADD(c->a, m, alpn_protocols) = TR_CONST("h2");
    return m;
}

static bool is_dynamic(const struct tr_cluster *c)
{
    return c->service->resolution == MZ_RESOLVE_DYNAMIC;
}

/* Without a name that was said, the request's host is the name. @t: what a rule says, NULL: nothing. */
static void name_by_host(struct tr_cluster *c, const ist_ClientTLSSettings *t)
{
    pb_UpstreamHttpProtocolOptions *o = TR_NEW(c->a, UpstreamHttpProtocolOptions);
    const bool insecure = t && t->insecure_skip_verify && t->insecure_skip_verify->value;
    o->auto_sni = !t || !t->sni[0];
    o->auto_san_validation = (is_dynamic(c) || !t || !t->n_subject_alt_names) && !insecure;
    if (o->auto_sni || o->auto_san_validation)
        tr_cluster_http(c)->upstream_http_protocol_options = o;
}

/* All that common() looks at besides settings. */
static void common_key(const struct tr_cluster *c, struct mz_key *k)
{
    const ist_ClientTLSSettings *own = c->policy.tls;
    const bool named = own && own->n_subject_alt_names;
    mz_key_init(k, named ? 'n' : 'a');
    mz_key_u64(k, (c->v->exchange ? 2 : 0) + tr_cluster_is_http2(c));
    for (size_t i = 0; i < (named ? own->n_subject_alt_names : c->service->accounts_n); i++)
        mz_key_str(k, named ? mz_str_c(own->subject_alt_names[i]) : c->service->accounts[i]);
}

/* An UpstreamTlsContext without a name, packed: most clusters have the same as the one before. */
static struct mz_str packed_common(struct tr_cluster *c)
{
    struct tr_last_common *last = &c->v->t->last_common;
    struct mz_key k MZ_UNINIT;
    common_key(c, &k);
    if (k.n <= MZ_KEY_BYTES && k.n == last->key_n && memcmp(k.bytes, last->key, k.n) == 0)
        return (struct mz_str){ last->packed, last->packed_n };
    pb_UpstreamTlsContext *t = TR_NEW(c->a, UpstreamTlsContext);
    t->common_tls_context = common(c);
    const struct mz_str packed = mz_msg_pack_alloc(&t->base, c->a);
    last->key_n = 0;
    if (k.n <= sizeof(last->key) && packed.n <= sizeof(last->packed)) {
        memcpy(last->key, k.bytes, k.n);
        memcpy(last->packed, packed.p, packed.n);
        last->key_n = k.n;
        last->packed_n = packed.n;
    }
    return packed;
}

static pb_TransportSocket *mutual(struct tr_cluster *c)
{
    pb_UpstreamTlsContext *named = TR_NEW(c->a, UpstreamTlsContext);
    const bool said = c->policy.tls && c->policy.tls->sni[0];
    if (said)
        named->sni = c->policy.tls->sni;
    else if (!is_dynamic(c))
        named->sni = tr_sni_cluster_name(c->a, c->port->port, c->subset, c->service->host);
    if (is_dynamic(c))
        name_by_host(c, c->policy.tls);
    /* The name stands behind all else. */
    const struct mz_str part[] = { packed_common(c), mz_msg_pack_alloc(&named->base, c->a) };
    return tr_transport_socket_packed(c->a, "envoy.transport_sockets.tls",
                                      &pb_UpstreamTlsContext__descriptor,
                                      mz_arena_cat(c->a, MZ_COUNT(part), part));
}

static pb_Cluster_TransportSocketMatch *match(struct tr_cluster *c, const char *name, pb_Struct *by,
                                              pb_TransportSocket *socket)
{
    pb_Cluster_TransportSocketMatch *m = TR_NEW(c->a, Cluster_TransportSocketMatch);
    m->name = TR_CONST(name);
    m->match = by;
    m->transport_socket = socket;
    return m;
}

/* Where the client chooses the endpoint, TLS is for all of them or for none. */
static bool all_take_it(const struct mz_endpoints *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (!e->v[i].workload || !e->v[i].workload->mtls)
            return false;
    return e->n != 0;
}

static bool by_itself(const struct tr_cluster *c)
{
    const ist_MeshConfig *mesh = c->v->model->mesh.config;
    if (c->service->external || !mz_bool_or(mesh->enable_auto_mtls, true) ||
        mz_model_mtls_of_namespace(c->v->model, c->service->ns) == MZ_MTLS_DISABLE)
        return false;
    return (c->service->resolution != MZ_RESOLVE_PASSTHROUGH &&
            c->m->type != pb_Cluster_DiscoveryType_ORIGINAL_DST) ||
           all_take_it(c->endpoints);
}

/* ---- TLS that a DestinationRule describes: outside of the mesh ---- */

static pb_SdsSecretConfig *outer_secret(struct tr_cluster *c, struct mz_str name, bool file)
{
    pb_SdsSecretConfig *s = TR_NEW(c->a, SdsSecretConfig);
    pb_ConfigSource *from = TR_NEW(c->a, ConfigSource);
    *from = *(const pb_ConfigSource *)(file ? TR_PIECE(c->v, SDS) : (void *)tr_ads(c->a));
    from->initial_fetch_timeout = NULL;
    s->name = tr_text(c->a, name);
    s->sds_config = from;
    return s;
}

static struct mz_str credential(struct tr_cluster *c, const ist_ClientTLSSettings *t,
                                const char *behind)
{
    const bool nobodys = strcmp(t->credential_name, "invalid://") == 0; /* of a BackendTLSPolicy */
    return mz_arena_printf(c->a, "%s%s%s", strstr(t->credential_name, "://") ? "" : "kubernetes://",
                           t->credential_name, nobodys ? "" : behind);
}

static void outer_root(struct tr_cluster *c, const ist_ClientTLSSettings *t, pb_CommonTlsContext *m)
{
    const char *ca = t->ca_certificates[0] ? t->ca_certificates : "system";
    if (t->insecure_skip_verify && t->insecure_skip_verify->value) {
        m->validation_context_type_case =
            pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
        m->validation_context = TR_NEW(c->a, CertificateValidationContext);
        return;
    }
    pb_CertificateValidationContext *names = TR_NEW(c->a, CertificateValidationContext);
    for (size_t i = 0; i < t->n_subject_alt_names; i++)
        expect(c, names, t->subject_alt_names[i]);
    if (!t->n_subject_alt_names && c->service->entry)
        expect_accounts(c, names);
    if (t->ca_crl[0] && !t->credential_name[0]) {
        names->crl = TR_NEW(c->a, DataSource);
        names->crl->specifier_case = pb_DataSource_SPECIFIER_FILENAME;
        names->crl->filename = t->ca_crl;
    }
    m->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    m->combined_validation_context =
        TR_NEW(c->a, CommonTlsContext_CombinedCertificateValidationContext);
    m->combined_validation_context->default_validation_context = names;
    m->combined_validation_context->validation_context_sds_secret_config =
        t->credential_name[0] ? outer_secret(c, credential(c, t, "-cacert"), false)
                              : outer_secret(c, mz_arena_printf(c->a, "file-root:%s", ca), true);
}

static void outer_tls(struct tr_cluster *c, const ist_ClientTLSSettings *t)
{
    pb_UpstreamTlsContext *u = TR_NEW(c->a, UpstreamTlsContext);
    pb_CommonTlsContext *m = u->common_tls_context = TR_NEW(c->a, CommonTlsContext);
    m->tls_params = TR_NEW(c->a, TlsParameters);
    m->tls_params->tls_minimum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_2;
    m->tls_params->tls_maximum_protocol_version = pb_TlsParameters_TlsProtocol_TLSv1_3;
    if (t->mode == ist_ClientTLSSettings_TLSmode_MUTUAL)
        TR_ADD(c->a, m, tls_certificate_sds_secret_configs) =
            t->credential_name[0]
                ? outer_secret(c, credential(c, t, ""), false)
                : outer_secret(c,
                               mz_arena_printf(c->a, "file-cert:%s~%s", t->client_certificate,
                                               t->private_key),
                               true);
    outer_root(c, t, m);
    tr_mesh_tls(c->v, c->a, &m->tls_params);
    if (tr_cluster_is_http2(c))
        TR_ADD(c->a, m, alpn_protocols) = TR_CONST("h2");
    u->sni = t->sni;
    if (!t->sni[0] || is_dynamic(c))
        name_by_host(c, t);
    tr_struct_text(c->a, tr_metadata(c->a, &c->m->metadata, "istio"), "alpn_override",
                   MZ_STR("false"));
    c->m->transport_socket = tr_transport_socket(c->a, "envoy.transport_sockets.tls", u);
}

static void put_tls(struct tr_cluster *c)
{
    const ist_ClientTLSSettings *said = c->policy.tls;
    if (said ? said->mode == ist_ClientTLSSettings_TLSmode_DISABLE : !by_itself(c))
        return;
    if (said && said->mode != ist_ClientTLSSettings_TLSmode_ISTIO_MUTUAL) {
        outer_tls(c, said);
        return;
    }
    pb_TransportSocket *tls = mutual(c);
    if (said || c->m->type == pb_Cluster_DiscoveryType_ORIGINAL_DST) {
        c->m->transport_socket = tls; /* as it was said, or no endpoint could tell what it has */
        return;
    }
    TR_ADD(c->a, c->m, transport_socket_matches) =
        match(c, "tlsMode-istio", TR_PACKED(c->v, TAKES_MTLS), tls);
    TR_ADD(c->a, c->m, transport_socket_matches) =
        c->policy.proxy_protocol /* stands before both */
            ? match(c, "tlsMode-disabled", TR_NEW(c->a, Struct), TR_PIECE(c->v, RAW_BUFFER))
            : TR_PACKED(c->v, CLUSTER_PLAIN);
}

static pb_TransportSocket *behind_proxy_protocol(struct tr_cluster *c, pb_TransportSocket *inner)
{
    const ist_TrafficPolicy_ProxyProtocol *p = c->policy.proxy_protocol;
    pb_ProxyProtocolUpstreamTransport *m = TR_NEW(c->a, ProxyProtocolUpstreamTransport);
    m->config = TR_NEW(c->a, ProxyProtocolConfig);
    m->config->version = p->version == ist_TrafficPolicy_ProxyProtocol_VERSION_V2
                             ? pb_ProxyProtocolConfig_Version_V2
                             : pb_ProxyProtocolConfig_Version_V1;
    m->transport_socket = inner;
    return tr_transport_socket(c->a, "envoy.transport_sockets.upstream_proxy_protocol", m);
}

static pb_TransportSocket *plain(struct tr_cluster *c)
{
    pb_TransportSocket *s = TR_NEW(c->a, TransportSocket);
    *s = *(const pb_TransportSocket *)TR_PIECE(c->v, RAW_BUFFER);
    s->name = TR_CONST("raw_buffer");
    return s;
}

/* In front of whatever is spoken, with endpoints that take mutual TLS and with those that do not. */
static void put_proxy_protocol(struct tr_cluster *c)
{
    pb_Cluster *m = c->m;
    if (!c->policy.proxy_protocol)
        return;
    for (size_t i = 0; i < m->n_transport_socket_matches; i++)
        m->transport_socket_matches[i]->transport_socket =
            behind_proxy_protocol(c, m->transport_socket_matches[i]->transport_socket);
    if (m->transport_socket || !m->n_transport_socket_matches)
        m->transport_socket =
            behind_proxy_protocol(c, m->transport_socket ? m->transport_socket : plain(c));
}

void tr_cluster_tls(struct tr_cluster *c)
{
    put_tls(c);
    put_proxy_protocol(c);
}
