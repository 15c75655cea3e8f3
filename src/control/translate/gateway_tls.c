/* TLS that ends at a gateway: certificates by the name of a Secret, from files, or the mesh's own. */
#include "control/translate/gateway.h"
#include "control/translate/mesh.h"

static pb_SdsSecretConfig *secret(struct mz_arena *a, struct mz_str name, pb_ConfigSource *from)
{
    pb_SdsSecretConfig *s = TR_NEW(a, SdsSecretConfig);
    s->name = tr_text(a, name);
    s->sds_config = from;
    return s;
}

/* Secrets of the platform come from here, files and the mesh's certificates from the agent. */
static pb_ConfigSource *from_us(struct mz_arena *a)
{
    pb_ConfigSource *c = tr_ads(a);
    c->initial_fetch_timeout = NULL;
    return c;
}

static pb_ConfigSource *from_agent(struct mz_view *v, struct mz_arena *a, bool file)
{
    pb_ConfigSource *c = TR_NEW(a, ConfigSource);
    *c = *(const pb_ConfigSource *)TR_PIECE(v, SDS);
    if (file)
        c->initial_fetch_timeout = NULL;
    return c;
}

/* What the server says, over what the mesh says of all that are not its own. */
static void parameters(struct mz_view *v, struct mz_arena *a, const ist_ServerTLSSettings *t,
                       pb_CommonTlsContext *m)
{
    if (t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL)
        return;
    tr_mesh_tls(v, a, &m->tls_params);
    if (!t->n_cipher_suites && !t->n_ecdh_curves && !t->min_protocol_version &&
        !t->max_protocol_version)
        return;
    if (!m->tls_params)
        m->tls_params = TR_NEW(a, TlsParameters);
    if (t->min_protocol_version) /* both enums count alike */
        m->tls_params->tls_minimum_protocol_version =
            (pb_TlsParameters_TlsProtocol)t->min_protocol_version;
    if (t->max_protocol_version)
        m->tls_params->tls_maximum_protocol_version =
            (pb_TlsParameters_TlsProtocol)t->max_protocol_version;
    if (t->n_ecdh_curves) {
        m->tls_params->ecdh_curves = t->ecdh_curves; /* shared with the model */
        m->tls_params->n_ecdh_curves = t->n_ecdh_curves;
    }
    if (t->n_cipher_suites) {
        m->tls_params->cipher_suites = NULL;
        m->tls_params->n_cipher_suites = 0;
    }
    for (size_t i = 0; i < t->n_cipher_suites; i++)
        if (mz_is_cipher(mz_str_c(t->cipher_suites[i])))
            TR_ADD(a, m->tls_params, cipher_suites) = t->cipher_suites[i];
}

static pb_CertificateValidationContext *expected(struct mz_arena *a, const ist_ServerTLSSettings *t)
{
    pb_CertificateValidationContext *c = TR_NEW(a, CertificateValidationContext);
    for (size_t i = 0; i < t->n_subject_alt_names; i++) {
        pb_StringMatcher *s = TR_NEW(a, StringMatcher);
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
        s->exact = t->subject_alt_names[i];
        TR_ADD(a, c, match_subject_alt_names) = s;
    }
    if (t->ca_crl[0]) {
        c->crl = TR_NEW(a, DataSource);
        c->crl->specifier_case = pb_DataSource_SPECIFIER_FILENAME;
        c->crl->filename = t->ca_crl;
    }
    for (size_t i = 0; i < t->n_verify_certificate_hash; i++)
        TR_ADD(a, c, verify_certificate_hash) = t->verify_certificate_hash[i];
    for (size_t i = 0; i < t->n_verify_certificate_spki; i++)
        TR_ADD(a, c, verify_certificate_spki) = t->verify_certificate_spki[i];
    if (t->insecure_skip_verify && t->insecure_skip_verify->value)
        c->trust_chain_verification =
            pb_CertificateValidationContext_TrustChainVerification_ACCEPT_UNTRUSTED;
    return c;
}

static void client(struct mz_arena *a, const ist_ServerTLSSettings *t, pb_CommonTlsContext *m,
                   pb_SdsSecretConfig *root)
{
    m->validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT;
    m->combined_validation_context =
        TR_NEW(a, CommonTlsContext_CombinedCertificateValidationContext);
    m->combined_validation_context->default_validation_context = expected(a, t);
    m->combined_validation_context->validation_context_sds_secret_config = root;
}

static bool asks_client(const ist_ServerTLSSettings *t)
{
    return t->mode == ist_ServerTLSSettings_TLSmode_MUTUAL ||
           t->mode == ist_ServerTLSSettings_TLSmode_OPTIONAL_MUTUAL ||
           t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL;
}

/* By the name of a Secret or ConfigMap; "builtin://" means the mesh's own. */
static pb_SdsSecretConfig *credential(struct mz_view *v, struct mz_arena *a, const char *name,
                                      const char *behind)
{
    const char *scheme = strstr(name, "://") ? "" : "kubernetes://";
    if (strcmp(name, "builtin://") == 0)
        return secret(a, behind[0] ? MZ_STR("ROOTCA") : MZ_STR("default"), from_agent(v, a, false));
    return secret(a, mz_arena_printf(a, "%s%s%s", scheme, name, behind), from_us(a));
}

static pb_SdsSecretConfig *file(struct mz_view *v, struct mz_arena *a, const char *cert,
                                const char *key)
{
    if (!cert[0] || !key[0])
        return credential(v, a, "builtin://", "");
    return secret(a, mz_arena_printf(a, "file-cert:%s~%s", cert, key), from_agent(v, a, true));
}

static void certificates(struct mz_view *v, struct mz_arena *a, const ist_ServerTLSSettings *t,
                         pb_CommonTlsContext *m)
{
    const bool mesh = t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL;
    const char *root = t->ca_cert_credential_name;
    if (mesh || t->credential_name[0] || t->n_credential_names) {
        const char *first = mesh                    ? "builtin://"
                            : t->n_credential_names ? t->credential_names[0]
                                                    : t->credential_name;
        for (size_t i = 0; i < (t->n_credential_names ? t->n_credential_names : 1); i++)
            TR_ADD(a, m, tls_certificate_sds_secret_configs) =
                credential(v, a, i ? t->credential_names[i] : first, "");
        if (asks_client(t))
            client(a, t, m,
                   root[0] ? credential(v, a, root, "") : credential(v, a, first, "-cacert"));
        return;
    }
    for (size_t i = 0; i < t->n_tls_certificates; i++)
        TR_ADD(a, m, tls_certificate_sds_secret_configs) = file(
            v, a, t->tls_certificates[i]->server_certificate, t->tls_certificates[i]->private_key);
    if (!t->n_tls_certificates)
        TR_ADD(a, m, tls_certificate_sds_secret_configs) =
            file(v, a, t->server_certificate, t->private_key);
    if (asks_client(t))
        client(a, t, m,
               secret(a, mz_arena_printf(a, "file-root:%s", t->ca_certificates),
                      from_agent(v, a, true)));
}

pb_TransportSocket *tr_terminate(struct mz_view *v, struct mz_arena *a,
                                 const ist_ServerTLSSettings *t, bool tcp)
{
    pb_DownstreamTlsContext *d = TR_NEW(a, DownstreamTlsContext);
    pb_CommonTlsContext *m = d->common_tls_context = TR_NEW(a, CommonTlsContext);
    const bool mesh = t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL;
    parameters(v, a, t, m);
    if (mesh && tcp && v->exchange && !v->t->features.no_exchange_alpn)
        TR_ADD(a, m, alpn_protocols) = TR_CONST("istio-peer-exchange");
    TR_ADD(a, m, alpn_protocols) = TR_CONST("h2");
    TR_ADD(a, m, alpn_protocols) = TR_CONST("http/1.1");
    certificates(v, a, t, m);
    d->require_client_certificate =
        tr_bool(a, mesh || t->mode == ist_ServerTLSSettings_TLSmode_MUTUAL);
    return tr_transport_socket(a, "envoy.transport_sockets.tls", d);
}

pb_TransportSocket *tr_gateway_tls(struct mz_view *v, struct mz_arena *a, const struct tr_server *s)
{
    return tr_terminate(v, a, s->s->tls, !s->route.n);
}
