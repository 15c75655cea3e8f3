/* DownstreamTlsContext and UpstreamTlsContext become a factory of transports (T1). Main thread. */
#include "tls/tls_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/data_source.h"
#include "tls/secrets_priv.h"

#define CIPHERS                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:"     \
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define SUITES          "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS          "X25519:P-256"
#define CACHED_SESSIONS 512 /* of a context, where they are not in tickets */

/* ---- parameters ---- */

static int version_of(pb_TlsParameters_TlsProtocol p, int automatic)
{
    switch (p) {
    case pb_TlsParameters_TlsProtocol_TLSv1_0:
        return TLS1_VERSION;
    case pb_TlsParameters_TlsProtocol_TLSv1_1:
        return TLS1_1_VERSION;
    case pb_TlsParameters_TlsProtocol_TLSv1_2:
        return TLS1_2_VERSION;
    case pb_TlsParameters_TlsProtocol_TLSv1_3:
        return TLS1_3_VERSION;
    default:
        return automatic;
    }
}

/* Names joined with ':'. Groups of equal preference, "[a|b]", are flattened: OpenSSL has none. */
static char *joined(char **v, size_t n, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (i)
            mz_buf_append(&b, ":", 1);
        for (const char *p = v[i]; *p; p++)
            if (*p == '|')
                mz_buf_append(&b, ":", 1);
            else if (*p != '[' && *p != ']')
                mz_buf_append(&b, p, 1);
    }
    mz_buf_append(&b, "", 1);
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return (char *)(uintptr_t)s.p;
}

static bool ciphers_build(const pb_TlsParameters *p, struct tls_factory *f, struct mz_err *err)
{
    char why[160];
    if (!p || !p->n_cipher_suites) {
        SSL_CTX_set_options(f->ctx, SSL_OP_PRIORITIZE_CHACHA);
        return SSL_CTX_set_cipher_list(f->ctx, CIPHERS) == 1;
    }
    for (size_t i = 0; i < p->n_cipher_suites; i++) { /* OpenSSL skips unknown names silently */
        char *one = joined(&p->cipher_suites[i], 1, f->arena);
        for (char *save, *w = strtok_r(one, ":", &save); w; w = strtok_r(NULL, ":", &save))
            if (SSL_CTX_set_cipher_list(f->ctx, w) != 1)
                return mz_err_set(err, "Failed to initialize cipher suites %s: %s", w,
                                  error_reason(why)) ||
                       mz_err_at(err, "cipher_suites[%zu]", i);
    }
    return SSL_CTX_set_cipher_list(f->ctx,
                                   joined(p->cipher_suites, p->n_cipher_suites, f->arena)) == 1;
}

/* The policy FIPS_202205 of SP 800-52r2, over whatever else is set, as BoringSSL has it. */
static bool fips_apply(struct tls_factory *f, struct mz_err *err)
{
    return (SSL_CTX_set_min_proto_version(f->ctx, TLS1_2_VERSION) == 1 &&
            SSL_CTX_set_max_proto_version(f->ctx, TLS1_3_VERSION) == 1 &&
            SSL_CTX_set_ciphersuites(f->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") ==
                1 &&
            SSL_CTX_set_cipher_list(
                f->ctx, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384") == 1 &&
            SSL_CTX_set1_groups_list(f->ctx, "P-256:P-384") == 1 &&
            SSL_CTX_set1_sigalgs_list(
                f->ctx, "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512:"
                        "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:rsa_pss_rsae_sha256:"
                        "rsa_pss_rsae_sha384:rsa_pss_rsae_sha512") == 1) ||
           mz_err_set(err, "Failed to apply FIPS_202205 compliance policy") ||
           mz_err_at(err, "compliance_policies");
}

bool params_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err)
{
    const pb_TlsParameters *p = m->tls_params;
    char why[160];
    int min = version_of(p ? p->tls_minimum_protocol_version : 0, TLS1_2_VERSION);
    int max = version_of(p ? p->tls_maximum_protocol_version : 0,
                         f->server ? TLS1_3_VERSION : TLS1_2_VERSION);
    if (min > max && (!p || !p->tls_maximum_protocol_version))
        max = min;
    (void)SSL_CTX_set_min_proto_version(f->ctx, min);
    (void)SSL_CTX_set_max_proto_version(f->ctx, max);
    (void)SSL_CTX_set_ciphersuites(f->ctx, SUITES);
    if (!ciphers_build(p, f, err))
        return false;
    const char *groups =
        p && p->n_ecdh_curves ? joined(p->ecdh_curves, p->n_ecdh_curves, f->arena) : GROUPS;
    if (SSL_CTX_set1_groups_list(f->ctx, groups) != 1)
        return mz_err_set(err, "Failed to initialize ECDH curves %s: %s", groups,
                          error_reason(why)) ||
               mz_err_at(err, "ecdh_curves");
    if (p && p->n_compliance_policies) /* there is but one */
        return fips_apply(f, err);
    if (!p || !p->n_signature_algorithms)
        return true;
    const char *algorithms = joined(p->signature_algorithms, p->n_signature_algorithms, f->arena);
    if (SSL_CTX_set1_sigalgs_list(f->ctx, algorithms) != 1)
        return mz_err_set(err, "Failed to initialize TLS signature algorithms %s: %s", algorithms,
                          error_reason(why)) ||
               mz_err_at(err, "signature_algorithms");
    return true;
}

/* ---- ALPN ---- */

static bool alpn_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err)
{
    size_t n = 0, total = 0;
    f->alpn = mz_arena_alloc0(f->arena, m->n_alpn_protocols * sizeof(*f->alpn));
    for (size_t i = 0; i < m->n_alpn_protocols; i++) {
        struct mz_str rest = mz_str_c(m->alpn_protocols[i]);
        if (rest.n == 0 || rest.n > 255)
            return mz_err_set(err, "must be 1 to 255 bytes long") ||
                   mz_err_at(err, "alpn_protocols[%zu]", i);
        f->alpn[n] = mz_arena_dup(f->arena, rest);
        total += rest.n + 1;
        n++;
    }
    f->n_alpn = n;
    f->alpn_wire = mz_arena_alloc(f->arena, total + 1);
    for (size_t i = 0; i < n; i++) {
        f->alpn_wire[f->alpn_wire_n++] = (unsigned char)f->alpn[i].n;
        memcpy(f->alpn_wire + f->alpn_wire_n, f->alpn[i].p, f->alpn[i].n);
        f->alpn_wire_n += (unsigned)f->alpn[i].n;
    }
    return true;
}

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                       const unsigned char *in, unsigned in_n, void *arg)
{
    (void)ssl;
    const struct tls_factory *f = arg;
    unsigned char *hit;
    if (!f->alpn_wire_n || SSL_select_next_proto(&hit, out_n, f->alpn_wire, f->alpn_wire_n, in,
                                                 in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK; /* as Envoy: goes on without */
    *out = hit;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- key log ---- */

static bool cidrs(pb_CidrRange **v, size_t n, struct mz_arena *a, struct mz_cidr **out,
                  size_t *out_n, struct mz_err *err)
{
    *out = mz_arena_alloc0(a, n * sizeof(**out));
    for (size_t i = 0; i < n; i++)
        if (!mz_cidr_make(mz_str_c(v[i]->address_prefix), mz_u32_or(v[i]->prefix_len, 0),
                          &(*out)[i], err))
            return mz_err_at(err, "[%zu]", i);
    *out_n = n;
    return true;
}

static bool key_log_build(const pb_TlsKeyLog *m, struct tls_factory *f, struct mz_err *err)
{
    if (!m)
        return true;
    struct key_log *k = mz_arena_new0(f->arena, struct key_log);
    k->fd = -1;
    f->log = k;
    if (!m->path || !m->path[0])
        return mz_err_set(err, "must not be empty") || mz_err_at(err, "key_log.path");
    if (!cidrs(m->local_address_range, m->n_local_address_range, f->arena, &k->local, &k->n_local,
               err))
        return mz_err_at(err, "key_log.local_address_range");
    if (!cidrs(m->remote_address_range, m->n_remote_address_range, f->arena, &k->remote,
               &k->n_remote, err))
        return mz_err_at(err, "key_log.remote_address_range");
    k->fd = open(m->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return k->fd >= 0 || mz_err_set(err, "cannot open %s: %s", m->path, strerrordesc_np(errno)) ||
           mz_err_at(err, "key_log.path");
}

/* ---- session tickets ---- */

static bool tickets_build(const pb_TlsSessionTicketKeys *m, struct tls_factory *f,
                          struct mz_err *err)
{
    f->tickets = mz_arena_alloc0(f->arena, m->n_keys * sizeof(*f->tickets));
    if (m->n_keys == 0)
        return mz_err_set(err, "at least one key is required") ||
               mz_err_at(err, "session_ticket_keys.keys");
    for (size_t i = 0; i < m->n_keys; i++) {
        struct mz_str key;
        if (!mz_data_source_read(m->keys[i], 4096, f->arena, &key, err))
            return mz_err_at(err, "session_ticket_keys.keys[%zu]", i);
        if (key.n != sizeof(*f->tickets))
            return mz_err_set(err,
                              "Incorrect TLS session ticket key length: must be 80 bytes, is %zu",
                              key.n) ||
                   mz_err_at(err, "session_ticket_keys.keys[%zu]", i);
        memcpy(&f->tickets[i], key.p, key.n);
    }
    f->n_tickets = m->n_keys;
    return true;
}

static int ticket_mac(EVP_MAC_CTX *mac, const struct ticket_key *k)
{
    char sha256[] = "SHA256";
    OSSL_PARAM p[] = { OSSL_PARAM_construct_octet_string(
                           OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->hmac, sizeof(k->hmac)),
                       OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
                       OSSL_PARAM_construct_end() };
    return EVP_MAC_CTX_set_params(mac, p);
}

static int ticket_cb(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *c,
                     EVP_MAC_CTX *mac, int sealing)
{
    const struct tls_factory *f = tls_factory_of_ssl(ssl);
    const EVP_CIPHER *aes = EVP_aes_256_cbc();
    if (sealing) {
        const struct ticket_key *k = &f->tickets[0];
        memcpy(name, k->name, 16);
        return RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) == 1 &&
                       EVP_EncryptInit_ex(c, aes, NULL, k->aes, iv) == 1 && ticket_mac(mac, k)
                   ? 1
                   : -1;
    }
    for (size_t i = 0; i < f->n_tickets; i++) {
        const struct ticket_key *k = &f->tickets[i];
        if (memcmp(name, k->name, 16) != 0)
            continue;
        if (!ticket_mac(mac, k) || EVP_DecryptInit_ex(c, aes, NULL, k->aes, iv) != 1)
            return -1;
        return i == 0 ? 1 : 2; /* an old key: a new ticket is due */
    }
    return 0;
}

static bool sessions_build(const pb_DownstreamTlsContext *m, struct tls_factory *f,
                           struct mz_err *err)
{
    uint64_t seconds;
    static const unsigned char id[] = "mizzen";
    if (!mz_duration_ms(m->session_timeout, UINT64_C(7200000), &seconds, err))
        return mz_err_at(err, "session_timeout");
    SSL_CTX_set_timeout(f->ctx, (long)(seconds / 1000));
    (void)SSL_CTX_set_num_tickets(f->ctx, 1);
    (void)SSL_CTX_set_session_ticket_cb(f->ctx, session_ticket, NULL, NULL);
    (void)SSL_CTX_set_session_cache_mode(f->ctx, m->disable_stateful_session_resumption
                                                     ? SSL_SESS_CACHE_OFF
                                                     : SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(f->ctx, CACHED_SESSIONS);
    /* Sessions hold for contexts that would judge the client alike: each context is its own. */
    unsigned char context[sizeof(id) + 16];
    memcpy(context, id, sizeof(id));
    if (RAND_bytes(context + sizeof(id), 16) != 1 ||
        SSL_CTX_set_session_id_context(f->ctx, context, sizeof(context)) != 1)
        return mz_err_set(err, "no random bytes");
    if (m->session_ticket_keys_type_case ==
        pb_DownstreamTlsContext_SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS) {
        if (!tickets_build(m->session_ticket_keys, f, err))
            return false;
        (void)SSL_CTX_set_session_id_context(
            f->ctx, id, sizeof(id)); /* shared with others that have the keys */
        (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(f->ctx, ticket_cb);
    } else if (
        m->session_ticket_keys_type_case ==
            pb_DownstreamTlsContext_SESSION_TICKET_KEYS_TYPE_DISABLE_STATELESS_SESSION_RESUMPTION &&
        m->disable_stateless_session_resumption) {
        f->sessions_by_id = true;
        SSL_CTX_set_options(f->ctx, SSL_OP_NO_TICKET);
        if (m->disable_stateful_session_resumption)
            (void)SSL_CTX_set_num_tickets(f->ctx, 0);
    } else if (f->verify.asks && !m->disable_stateful_session_resumption) {
        /* A ticket would hold the client's certificate, and OpenSSL decodes that, which is half a handshake's work, once to
         * make the ticket and once to open it. Nobody else has this context's keys: its sessions may as well stay here. */
        SSL_CTX_set_options(f->ctx, SSL_OP_NO_TICKET);
    }
    return true;
}

/* ---- the factory ---- */

static struct tls_factory *factory_new(bool server, const struct mz_tls_env *env)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct tls_factory *f = mz_arena_new0(a, struct tls_factory);
    f->base = (struct mz_transport_factory){ .name = "tls",
                                             .secure = true,
                                             .create = tls_transport_create,
                                             .destroy = tls_factory_destroy,
                                             .refs = 1 };
    f->arena = a;
    f->server = server;
    f->ctx =
        SSL_CTX_new_ex(NULL, kdf_properties(), server ? TLS_server_method() : TLS_client_method());
    char prefix[1024];
    int n = snprintf(prefix, sizeof(prefix), MZ_STR_FMT "ssl.", MZ_STR_ARG(env->prefix));
    f->scope = mz_scope_create(
        env->stats, &mz_tls_stats,
        (struct mz_str){ prefix, (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1 });
    f->sds_scope = sds_scope(env, server);
    mz_list_init(&f->link);
    SSL_CTX_set_options(f->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                    SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(f->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(f->ctx, 1); /* header and body of a record in one call */
    return f;
}

void tls_factory_destroy(struct mz_transport_factory *base)
{
    struct tls_factory *f = tls_factory_of(base);
    inventory_remove(f);
    sessions_fini(f);
    pairs_fini(f);
    verify_fini(&f->verify);
    SSL_CTX_free(f->ctx);
    if (f->log && f->log->fd >= 0)
        (void)close(f->log->fd);
    if (f->tickets)
        OPENSSL_cleanse(f->tickets, f->n_tickets * sizeof(*f->tickets));
    for (size_t i = 0; i < f->n_expiry; i++)
        mz_scope_unref(f->expiry[i]);
    mz_scope_unref(f->sds_scope);
    mz_scope_unref(f->scope);
    mz_arena_destroy(f->arena);
}

struct mz_scope *sds_scope(const struct mz_tls_env *env, bool server)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct mz_str prefix = mz_arena_printf(a, MZ_STR_FMT "%s_ssl_socket_factory.",
                                           MZ_STR_ARG(env->prefix), server ? "server" : "client");
    struct mz_scope *s = mz_scope_create(env->stats, &mz_tls_sds_stats, prefix);
    mz_arena_destroy(a);
    return s;
}

static void expiry_show(struct tls_factory *f, struct mz_str name, const char *none,
                        const struct mz_tls_cert_facts *c)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    /* e3b0c442: of the hash of the name that there is not */
    struct mz_str prefix = name.n ? mz_arena_printf(a, MZ_STR_FMT "certificate." MZ_STR_FMT ".",
                                                    MZ_STR_ARG(f->scope->prefix), MZ_STR_ARG(name))
                                  : mz_arena_printf(a, MZ_STR_FMT "certificate.%s_e3b0c442.",
                                                    MZ_STR_ARG(f->scope->prefix), none);
    struct mz_scope *s = mz_scope_create(f->scope->store, &mz_tls_expiry_stats, prefix);
    mz_gauge_set(s, 0, (uint64_t)(c->valid_until_s > 0 ? c->valid_until_s : 0));
    f->expiry[f->n_expiry++] = s;
    mz_arena_destroy(a);
}

/* The factory is whole: its certificates can be seen. */
static struct mz_transport_factory *show(struct tls_factory *f, const struct mz_tls_env *env)
{
    f->expiry = mz_arena_alloc(f->arena, (f->n_pairs + 1) * sizeof(*f->expiry));
    for (size_t i = 0; i < f->n_pairs; i++)
        expiry_show(f, i < env->n_cert_names ? env->cert_names[i] : MZ_STR(""), "unnamed_cert",
                    f->pairs[i].facts);
    if (f->verify.ca)
        expiry_show(f, env->ca_name, "unnamed_ca_cert", f->verify.ca);
    inventory_add(f);
    return &f->base;
}

static bool common_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err)
{
    static const pb_CommonTlsContext none = pb_CommonTlsContext__INIT;
    if (!m)
        m = &none;
    if (!params_build(m, f, err))
        return mz_err_at(err, "common_tls_context.tls_params");
    if (!alpn_build(m, f, err) || !key_log_build(m->key_log, f, err))
        return mz_err_at(err, "common_tls_context");
    if (!pairs_build(m, f, err))
        return false;
    if (m->validation_context_type_case ==
            pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT &&
        !verify_build(m->validation_context, f, err))
        return mz_err_at(err, "common_tls_context.validation_context");
    if (f->n_pairs) {
        const struct key_pair *k = &f->pairs[0];
        char why[160];
        if (SSL_CTX_use_cert_and_key(f->ctx, k->cert, k->key, k->chain, 1) != 1)
            return mz_err_set(err, "%s", error_reason(why)) ||
                   mz_err_at(err, "common_tls_context.tls_certificates[0]");
    }
    if (f->verify.store)
        SSL_CTX_set1_cert_store(f->ctx, f->verify.store);
    SSL_CTX_set_cert_verify_callback(f->ctx, verify_callback, f);
    if (f->log)
        SSL_CTX_set_keylog_callback(f->ctx, key_log_line);
    return true;
}

static enum staple_policy policy_of(pb_DownstreamTlsContext_OcspStaplePolicy p)
{
    return p == pb_DownstreamTlsContext_OcspStaplePolicy_MUST_STAPLE       ? STAPLE_MUST
           : p == pb_DownstreamTlsContext_OcspStaplePolicy_STRICT_STAPLING ? STAPLE_STRICT
                                                                           : STAPLE_LENIENT;
}

struct mz_transport_factory *mz_tls_downstream_create(const pb_DownstreamTlsContext *m,
                                                      const struct mz_tls_env *env,
                                                      struct mz_err *err)
{
    if (context_names_secrets(m->common_tls_context) ||
        m->session_ticket_keys_type_case ==
            pb_DownstreamTlsContext_SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS_SDS_SECRET_CONFIG)
        return sds_factory_create(&m->base, true, env, err);
    struct tls_factory *f = factory_new(true, env);
    f->require_client = mz_bool_or(m->require_client_certificate, false);
    f->require_sni = mz_bool_or(m->require_sni, false);
    f->full_scan = mz_bool_or(m->full_scan_certs_on_sni_mismatch, false);
    f->staple_policy = policy_of(m->ocsp_staple_policy);
    bool ok = common_build(m->common_tls_context, f, err) && sessions_build(m, f, err);
    if (ok && f->n_pairs == 0)
        ok = mz_err_set(err, "No TLS certificates found for server context") ||
             mz_err_at(err, "common_tls_context.tls_certificates");
    if (!ok) {
        tls_factory_destroy(&f->base);
        return NULL;
    }
    if (m->prefer_client_ciphers)
        SSL_CTX_clear_options(f->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_client_hello_cb(f->ctx, pair_hello, f);
    SSL_CTX_set_cert_cb(f->ctx, pair_choose, f);
    (void)SSL_CTX_set_tlsext_status_cb(f->ctx, staple_send);
    SSL_CTX_set_alpn_select_cb(f->ctx, alpn_select, f);
    int mode = f->verify.asks || f->require_client ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    if (f->require_client)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(f->ctx, mode, NULL);
    return show(f, env);
}

struct mz_transport_factory *mz_tls_upstream_create(const pb_UpstreamTlsContext *m,
                                                    const struct mz_tls_env *env,
                                                    struct mz_err *err)
{
    if (context_names_secrets(m->common_tls_context))
        return sds_factory_create(&m->base, false, env, err);
    struct tls_factory *f = factory_new(false, env);
    f->sni = mz_arena_dup(f->arena, mz_str_c(m->sni));
    f->base.uses = MZ_TRANSPORT_USES_NAMES;
    f->auto_host_sni = m->auto_host_sni;
    f->sni_is_san = m->auto_sni_san_validation;
    f->max_sessions = mz_u32_or(m->max_session_keys, 1);
    bool ok = f->sni.n <= 255 ||
              mz_err_set(err, "SNI names longer than 255 octets are not allowed") ||
              mz_err_at(err, "sni");
    if (ok && f->n_pairs > 1)
        ok = mz_err_set(err, "Multiple TLS certificates are not supported for client contexts");
    if (!ok || !common_build(m->common_tls_context, f, err)) {
        tls_factory_destroy(&f->base);
        return NULL;
    }
    if (f->sni_is_san && !f->verify.store) {
        mz_err_set(err, "was configured without configuring a validation context");
        mz_err_at(err, "auto_sni_san_validation");
        tls_factory_destroy(&f->base);
        return NULL;
    }
    SSL_CTX_set_verify(f->ctx, SSL_VERIFY_PEER, NULL); /* verify_callback() knows what is asked */
    if (f->alpn_wire_n)
        (void)SSL_CTX_set_alpn_protos(f->ctx, f->alpn_wire, f->alpn_wire_n);
    if (f->max_sessions) {
        (void)SSL_CTX_set_session_cache_mode(f->ctx,
                                             SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(f->ctx, session_keep);
    }
    return show(f, env);
}

size_t mz_tls_alpn(const struct mz_transport_factory *f, const struct mz_str **out_protocols)
{
    while (f && f->inner)
        f = f->inner;
    if (!f)
        return 0;
    if (f->create != tls_transport_create)
        return sds_factory_alpn(f, out_protocols);
    *out_protocols = tls_factory_of(f)->alpn;
    return tls_factory_of(f)->n_alpn;
}
