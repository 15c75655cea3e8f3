/* Is this certificate good enough? CertificateValidationContext (T1, G10, G11). Runs inside the handshake, on a worker. */
#include "tls/tls_priv.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "proto/data_source.h"

#define FILE_MAX (8u << 20) /* bytes of one file */

/* ---- building ---- */

static BIO *source_bio(const pb_DataSource *m, struct mz_arena *a, struct mz_err *err)
{
    struct mz_str text;
    if (!mz_data_source_read(m, FILE_MAX, a, &text, err))
        return NULL;
    return BIO_new_mem_buf(text.p ? text.p : "", (int)text.n);
}

/* The first one stands for all of them on /certs and in statistics, as at Envoy. */
void verify_note_authority(struct tls_factory *f, X509 *x, struct mz_str path)
{
    if (f->verify.ca)
        return;
    f->verify.ca = mz_arena_new0(f->arena, struct mz_tls_cert_facts);
    facts_of_cert(x, f->arena, f->verify.ca);
    f->verify.ca_path = mz_arena_dup(f->arena, path);
}

static bool read_authorities(const pb_DataSource *m, struct tls_factory *f, struct mz_err *err)
{
    BIO *b = source_bio(m, f->arena, err);
    if (!b)
        return false;
    int certs = 0;
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(b, NULL, NULL, NULL);
    BIO_free(b);
    for (int i = 0; all && i < sk_X509_INFO_num(all); i++) {
        const X509_INFO *x = sk_X509_INFO_value(all, i);
        if (x->x509 && X509_STORE_add_cert(f->verify.store, x->x509) == 1) {
            certs++;
            verify_note_authority(f, x->x509,
                                  m->specifier_case == pb_DataSource_SPECIFIER_FILENAME
                                      ? mz_str_c(m->filename)
                                      : MZ_STR("<inline>"));
            if (f->server)
                (void)SSL_CTX_add_client_CA(f->ctx, x->x509);
        }
        if (x->crl) {
            (void)X509_STORE_add_crl(f->verify.store, x->crl);
            X509_STORE_set_flags(f->verify.store,
                                 X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
        }
    }
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    char why[160];
    if (certs == 0)
        return mz_err_set(err, "Failed to load trusted CA certificates: %s", error_reason(why));
    return true;
}

static bool read_crl(const pb_CertificateValidationContext *m, struct tls_factory *f,
                     struct mz_err *err)
{
    BIO *b = source_bio(m->crl, f->arena, err);
    if (!b)
        return false;
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(b, NULL, NULL, NULL);
    BIO_free(b);
    int lists = 0;
    for (int i = 0; all && i < sk_X509_INFO_num(all); i++)
        if (sk_X509_INFO_value(all, i)->crl)
            lists += X509_STORE_add_crl(f->verify.store, sk_X509_INFO_value(all, i)->crl);
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    if (lists == 0)
        return mz_err_set(err, "Failed to load CRL");
    unsigned long flags = X509_V_FLAG_CRL_CHECK;
    if (!m->only_verify_leaf_cert_crl)
        flags |= X509_V_FLAG_CRL_CHECK_ALL;
    X509_STORE_set_flags(f->verify.store, flags);
    return true;
}

static bool hash_read(const char *text, bool base64, unsigned char out[32], struct mz_err *err)
{
    struct mz_str s = mz_str_c(text);
    if (base64) {
        unsigned char d[36];
        if (s.n != 44 || EVP_DecodeBlock(d, (const unsigned char *)s.p, (int)s.n) < 33)
            return mz_err_set(err, "Invalid base64-encoded SHA-256 %s", text);
        memcpy(out, d, 32);
        return true;
    }
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = mz_lower(s.p[i]);
        if (c == ':')
            continue;
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0 || n == 64)
            return mz_err_set(err, "Invalid hex-encoded SHA-256 %s", text);
        out[n / 2] = (unsigned char)(n % 2 ? out[n / 2] | v : v << 4);
        n++;
    }
    return n == 64 || mz_err_set(err, "Invalid hex-encoded SHA-256 %s", text);
}

static bool hashes_build(const char *field, char **texts, size_t n, bool base64,
                         unsigned char (**out)[32], size_t *out_n, struct mz_arena *a,
                         struct mz_err *err)
{
    *out = mz_arena_alloc0(a, n * 32);
    for (size_t i = 0; i < n; i++)
        if (!hash_read(texts[i], base64, (*out)[i], err))
            return mz_err_at(err, "%s[%zu]", field, i);
    *out_n = n;
    return true;
}

static int san_type(pb_SubjectAltNameMatcher_SanType t)
{
    switch (t) {
    case pb_SubjectAltNameMatcher_SanType_EMAIL:
        return GEN_EMAIL;
    case pb_SubjectAltNameMatcher_SanType_DNS:
        return GEN_DNS;
    case pb_SubjectAltNameMatcher_SanType_URI:
        return GEN_URI;
    case pb_SubjectAltNameMatcher_SanType_IP_ADDRESS:
        return GEN_IPADD;
    case pb_SubjectAltNameMatcher_SanType_OTHER_NAME:
        return GEN_OTHERNAME;
    default:
        return -1;
    }
}

static bool sans_build(const pb_CertificateValidationContext *m, struct tls_factory *f,
                       struct mz_err *err)
{
    struct verify_rules *v = &f->verify;
    v->sans = mz_arena_alloc0(f->arena,
                              (m->n_match_typed_subject_alt_names + m->n_match_subject_alt_names) *
                                  sizeof(*v->sans));
    for (size_t i = 0; i < m->n_match_typed_subject_alt_names; i++) {
        const pb_SubjectAltNameMatcher *s = m->match_typed_subject_alt_names[i];
        int type = san_type(s->san_type);
        if (type < 0)
            return mz_err_set(err, "must be one of EMAIL, DNS, URI, IP_ADDRESS, OTHER_NAME") ||
                   mz_err_at(err, "match_typed_subject_alt_names[%zu].san_type", i);
        v->sans[v->n_sans].type = type;
        if (type == GEN_OTHERNAME && !(v->sans[v->n_sans].oid = OBJ_txt2obj(s->oid, 1)))
            return mz_err_set(err, "must be an object identifier in dots, is \"%s\"", s->oid) ||
                   mz_err_at(err, "match_typed_subject_alt_names[%zu].oid", i);
        v->sans[v->n_sans].match = mz_string_match_build(s->matcher, err);
        if (!v->sans[v->n_sans].match)
            return mz_err_at(err, "match_typed_subject_alt_names[%zu].matcher", i);
        if (type == GEN_DNS &&
            s->matcher->match_pattern_case == pb_StringMatcher_MATCH_PATTERN_EXACT)
            v->sans[v->n_sans].exact = mz_arena_dup(f->arena, mz_str_c(s->matcher->exact));
        v->n_sans++;
    }
    for (size_t i = 0; i < m->n_match_subject_alt_names && !m->n_match_typed_subject_alt_names;
         i++) {
        v->sans[v->n_sans].match = mz_string_match_build(m->match_subject_alt_names[i], err);
        v->sans[v->n_sans].type = SAN_ANY;
        if (!v->sans[v->n_sans].match)
            return mz_err_at(err, "match_subject_alt_names[%zu]", i);
        v->n_sans++;
    }
    return true;
}

bool verify_build(const pb_CertificateValidationContext *m, struct tls_factory *f,
                  struct mz_err *err)
{
    struct verify_rules *v = &f->verify;
    v->max_depth = (int)mz_u32_or(m->max_verify_depth, 100);
    v->accept_untrusted = m->trust_chain_verification ==
                          pb_CertificateValidationContext_TrustChainVerification_ACCEPT_UNTRUSTED;
    v->allow_expired = m->allow_expired_certificate;
    if (m->custom_validator_config) {
        v->asks = true;
        f->require_client =
            true; /* of servers: a client without a certificate has no identity (Envoy) */
        return (spiffe_build(m->custom_validator_config, f, err) ||
                mz_err_at(err, "custom_validator_config")) &&
               sans_build(m, f, err);
    }
    if (m->trusted_ca && m->system_root_certs)
        return mz_err_set(err, "only one of trusted_ca, system_root_certs may be set");
    bool trusted = m->trusted_ca || m->system_root_certs;
    if ((m->n_match_typed_subject_alt_names || m->n_match_subject_alt_names) && !trusted)
        return mz_err_set(err, "SAN-based verification of peer certificates without trusted CA is "
                               "insecure and not allowed");
    if (m->crl && !trusted)
        return mz_err_set(err, "Failed to load CRL without trusted CA") || mz_err_at(err, "crl");
    if (trusted) {
        v->store = X509_STORE_new();
        if (m->system_root_certs && X509_STORE_set_default_paths(v->store) != 1)
            return mz_err_set(err, "cannot be read") || mz_err_at(err, "system_root_certs");
        if (m->trusted_ca && !read_authorities(m->trusted_ca, f, err))
            return mz_err_at(err, "trusted_ca");
        X509_STORE_set_flags(v->store, X509_V_FLAG_PARTIAL_CHAIN |
                                           (v->allow_expired ? X509_V_FLAG_NO_CHECK_TIME : 0));
    }
    if (m->crl && !read_crl(m, f, err))
        return mz_err_at(err, "crl");
    if (!hashes_build("verify_certificate_hash", m->verify_certificate_hash,
                      m->n_verify_certificate_hash, false, &v->hashes, &v->n_hashes, f->arena,
                      err) ||
        !hashes_build("verify_certificate_spki", m->verify_certificate_spki,
                      m->n_verify_certificate_spki, true, &v->spkis, &v->n_spkis, f->arena, err) ||
        !sans_build(m, f, err))
        return false;
    v->asks = v->store || v->n_hashes || v->n_spkis;
    return true;
}

void verify_fini(struct verify_rules *v)
{
    X509_STORE_free(v->store);
    spiffe_fini(v->spiffe);
    for (size_t i = 0; i < v->n_sans; i++) {
        mz_string_match_destroy(v->sans[i].match);
        ASN1_OBJECT_free(v->sans[i].oid);
    }
}

/* ---- judging ---- */

/* A DNS name of a certificate may be "*.x": it stands for one label of an exact rule (RFC 6125). */
static bool wildcard_covers(struct mz_str pattern, struct mz_str name)
{
    const char *dot = name.p ? memchr(name.p, '.', name.n) : NULL;
    if (pattern.n < 3 || pattern.p[0] != '*' || pattern.p[1] != '.' || !dot || dot == name.p)
        return false;
    return mz_str_ieq(mz_str_skip(pattern, 1), mz_str_skip(name, (size_t)(dot - name.p)));
}

static bool name_matches(const struct verify_rules *v, size_t rule, struct mz_str name)
{
    struct mz_str exact = v->sans[rule].exact;
    if (exact.n && (mz_str_ieq(exact, name) || wildcard_covers(name, exact)))
        return true;
    return mz_string_match(v->sans[rule].match, name);
}

static bool of_type(const struct verify_rules *v, size_t rule, const GENERAL_NAME *n)
{
    if (v->sans[rule].type == SAN_ANY)
        return n->type != GEN_OTHERNAME;
    return v->sans[rule].type == n->type &&
           (n->type != GEN_OTHERNAME || OBJ_cmp(v->sans[rule].oid, n->d.otherName->type_id) == 0);
}

static bool sans_match(const struct verify_rules *v, const GENERAL_NAMES *g, struct mz_arena *a)
{
    for (int i = 0; g && i < sk_GENERAL_NAME_num(g); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(g, i);
        struct mz_str text = facts_san_text(n, a);
        if (!text.p)
            continue;
        for (size_t k = 0; k < v->n_sans; k++)
            if (of_type(v, k, n) && name_matches(v, k, text))
                return true;
    }
    return false;
}

static bool check_sans(const struct tls_factory *f, SSL *ssl, X509 *leaf)
{
    if (!f->verify.n_sans)
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    GENERAL_NAMES *g = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool ok = sans_match(&f->verify, g, a);
    if (!ok) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_printf(&b, "verify cert failed: SAN matcher, certificate SANs are [");
        for (int i = 0, shown = 0; g && i < sk_GENERAL_NAME_num(g) && shown < 16; i++) {
            struct mz_str text = facts_san_text(sk_GENERAL_NAME_value(g, i), a);
            if (text.p)
                mz_buf_printf(&b, "%s" MZ_STR_FMT, shown++ ? ", " : "", MZ_STR_ARG(text));
        }
        mz_buf_append(&b, "]", 2);
        tls_set_failure(ssl, mz_buf_linearize(&b, mz_buf_len(&b)).p);
        mz_buf_fini(&b);
        mz_count(f->scope, MZ_TLS_FAIL_VERIFY_SAN, 1);
    }
    GENERAL_NAMES_free(g);
    mz_arena_destroy(a);
    return ok;
}

/* The names that a request wants of its upstream: exactly, but for wildcards of the certificate. */
static bool wanted_match(const struct mz_tls_names *want, const GENERAL_NAMES *g,
                         struct mz_arena *a)
{
    for (int i = 0; g && i < sk_GENERAL_NAME_num(g); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(g, i);
        struct mz_str text = facts_san_text(n, a);
        for (size_t k = 0; text.p && k < want->n; k++)
            if (n->type == GEN_DNS
                    ? mz_str_ieq(text, want->v[k]) || wildcard_covers(text, want->v[k])
                    : mz_str_eq(text, want->v[k]))
                return true;
    }
    return false;
}

static bool check_wanted(const struct tls_factory *f, SSL *ssl, X509 *leaf)
{
    const struct mz_tls_names *want = tls_wanted_sans(ssl);
    if (!want->n)
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    GENERAL_NAMES *g = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool ok = wanted_match(want, g, a);
    if (!ok) {
        tls_set_failure(ssl, "verify cert failed: verify SAN list");
        mz_count(f->scope, MZ_TLS_FAIL_VERIFY_SAN, 1);
    }
    GENERAL_NAMES_free(g);
    mz_arena_destroy(a);
    return ok;
}

static bool listed(unsigned char (*v)[32], size_t n, const unsigned char d[32])
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(v[i], d, 32) == 0)
            return true;
    return false;
}

static bool check_hashes(const struct tls_factory *f, SSL *ssl, X509 *leaf)
{
    const struct verify_rules *v = &f->verify;
    if (!v->n_hashes && !v->n_spkis)
        return true;
    unsigned char d[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned n = 0;
    bool ok =
        v->n_hashes && X509_digest(leaf, EVP_sha256(), d, &n) && listed(v->hashes, v->n_hashes, d);
    if (!ok && v->n_spkis) {
        int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
        ok = len > 0 && EVP_Digest(der, (size_t)len, d, &n, EVP_sha256(), NULL) &&
             listed(v->spkis, v->n_spkis, d);
        OPENSSL_free(der);
    }
    if (!ok) {
        mz_count(f->scope, MZ_TLS_FAIL_VERIFY_CERT_HASH, 1);
        tls_set_failure(ssl, "verify cert failed: cert hash and spki");
    }
    return ok;
}

void verify_chain_text(X509_STORE_CTX *ctx, char out_text[256])
{
    (void)snprintf(
        out_text, 256,
        "verify cert failed: X509_verify_cert: certificate verification error at depth %d: %s",
        X509_STORE_CTX_get_error_depth(ctx), verify_text(X509_STORE_CTX_get_error(ctx)));
}

static bool check_chain(const struct tls_factory *f, SSL *ssl, X509_STORE_CTX *ctx,
                        bool *out_trusted)
{
    *out_trusted = f->verify.n_hashes || f->verify.n_spkis;
    if (!f->verify.store)
        return true;
    X509_STORE_CTX_set_depth(ctx, f->verify.max_depth);
    *out_trusted = X509_verify_cert(ctx) == 1;
    if (!*out_trusted) /* counted whatever follows from it (Envoy) */
        mz_count(f->scope, MZ_TLS_FAIL_VERIFY_ERROR, 1);
    if (*out_trusted || f->verify.accept_untrusted) {
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return true;
    }
    char text[256];
    verify_chain_text(ctx, text);
    tls_set_failure(ssl, text);
    return false;
}

/* What servers sign the handshake with must be meant for signatures, where their certificate says what it is for (RFC 5246 7.4.2). */
static bool may_sign(X509 *leaf)
{
    return !(X509_get_extension_flags(leaf) & EXFLAG_KUSAGE) ||
           (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE);
}

int verify_callback(X509_STORE_CTX *ctx, void *factory)
{
    const struct tls_factory *f = factory;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    if (!leaf)
        return 0;
    if (!f->server && !may_sign(leaf)) {
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_KEYUSAGE_NO_DIGITAL_SIGNATURE);
        return 0;
    }
    bool trusted;
    if (f->verify.spiffe && !spiffe_judge(f, ssl, ctx, leaf)) {
        if (X509_STORE_CTX_get_error(ctx) == X509_V_OK)
            X509_STORE_CTX_set_error(ctx, X509_V_ERR_PERMITTED_VIOLATION);
        return 0;
    }
    if (f->verify.spiffe) {
        tls_note_validated(ssl);
        session_limit(ssl, leaf, X509_STORE_CTX_get0_chain(ctx));
        return 1;
    }
    if (!check_chain(f, ssl, ctx, &trusted))
        return 0;
    if (!check_wanted(f, ssl, leaf) || !check_sans(f, ssl, leaf) || !check_hashes(f, ssl, leaf)) {
        if (X509_STORE_CTX_get_error(ctx) == X509_V_OK)
            X509_STORE_CTX_set_error(
                ctx, X509_V_ERR_PERMITTED_VIOLATION /* its alert: certificate_unknown */);
        return 0;
    }
    if (trusted)
        tls_note_validated(ssl);
    session_limit(ssl, leaf, X509_STORE_CTX_get0_chain(ctx));
    return 1;
}
