/* Our own certificates and keys, and which of them serves a client (T1). */
#include "tls/tls_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <string.h>

#include "proto/data_source.h"

#define FILE_MAX (1u << 20) /* bytes of one file */

static int password_cb(char *out, int size, int writing, void *arg)
{
    (void)writing;
    const struct mz_str *p = arg;
    if (!p || p->n > (size_t)size)
        return 0;
    memcpy(out, p->p, p->n);
    return (int)p->n;
}

static bool chain_read(const pb_DataSource *m, struct tls_factory *f, struct key_pair *k,
                       struct mz_err *err)
{
    struct mz_str text;
    char why[160];
    if (!mz_data_source_read(m, FILE_MAX, f->arena, &text, err))
        return false;
    BIO *b = BIO_new_mem_buf(text.p ? text.p : "", (int)text.n);
    k->cert = PEM_read_bio_X509_AUX(b, NULL, NULL, NULL);
    for (X509 *x; k->cert && (x = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL;)
        (void)sk_X509_push(k->chain, x);
    BIO_free(b);
    if (!k->cert)
        return mz_err_set(err, "Failed to load certificate chain: %s", error_reason(why));
    ERR_clear_error(); /* the end of the file */
    return true;
}

static bool key_read(const pb_DataSource *m, struct mz_str *password, struct tls_factory *f,
                     struct key_pair *k, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS); /* not kept: it is the key */
    struct mz_str text;
    char why[160];
    (void)f;
    bool ok = mz_data_source_read(m, FILE_MAX, a, &text, err);
    if (ok) {
        BIO *b = BIO_new_mem_buf(text.p ? text.p : "", (int)text.n);
        k->key = PEM_read_bio_PrivateKey(b, NULL, password_cb, password);
        BIO_free(b);
        ok = k->key || mz_err_set(err, "Failed to load private key: %s", error_reason(why));
        if (text.n)
            OPENSSL_cleanse((void *)(uintptr_t)text.p, text.n);
    }
    mz_arena_destroy(a);
    return ok;
}

static bool pkcs12_read(const pb_DataSource *m, struct mz_str *password, struct tls_factory *f,
                        struct key_pair *k, struct mz_err *err)
{
    struct mz_str bytes, pass = password ? mz_arena_dup(f->arena, *password) : MZ_STR("");
    char why[160];
    if (!mz_data_source_read(m, FILE_MAX, f->arena, &bytes, err))
        return false;
    BIO *b = BIO_new_mem_buf(bytes.p ? bytes.p : "", (int)bytes.n);
    PKCS12 *p = d2i_PKCS12_bio(b, NULL);
    STACK_OF(X509) *more = NULL;
    bool ok = p && PKCS12_parse(p, pass.p ? pass.p : "", &k->key, &k->cert, &more) == 1 &&
              k->cert && k->key;
    if (!ok)
        mz_err_set(err, "Failed to load pkcs12: %s", error_reason(why));
    while (more && sk_X509_num(more))
        (void)sk_X509_push(k->chain, sk_X509_shift(more));
    sk_X509_free(more);
    PKCS12_free(p);
    BIO_free(b);
    return ok;
}

static bool key_strong(const struct key_pair *k, struct mz_err *err)
{
    int bits = EVP_PKEY_get_bits(k->key);
    if (EVP_PKEY_is_a(k->key, "RSA") && bits < 2048)
        return mz_err_set(
            err, "only RSA certificates with 2048-bit or larger keys are supported, has %d bits",
            bits);
    if (EVP_PKEY_is_a(k->key, "EC") && bits < 256)
        return mz_err_set(
            err, "only P-256, P-384 and P-521 ECDSA certificates are supported, has %d bits", bits);
    return true;
}

/* The names that the client's server name is compared with: DNS names, else the common name. */
static void names_read(struct key_pair *k, struct mz_arena *a)
{
    k->facts = mz_arena_new0(a, struct mz_tls_cert_facts);
    facts_of_cert(k->cert, a, k->facts);
    k->names = k->facts->dns_sans.v;
    k->n_names = k->facts->dns_sans.n;
    if (k->n_names)
        return;
    char cn[256];
    int n =
        X509_NAME_get_text_by_NID(X509_get_subject_name(k->cert), NID_commonName, cn, sizeof(cn));
    if (n <= 0)
        return;
    k->names = mz_arena_new0(a, struct mz_str);
    k->names[0] = mz_arena_dup(a, (struct mz_str){ cn, (size_t)n });
    k->n_names = 1;
}

static struct mz_str path_of(const pb_DataSource *m)
{
    return m->specifier_case == pb_DataSource_SPECIFIER_FILENAME ? mz_str_c(m->filename)
                                                                 : MZ_STR("<inline>");
}

static bool pair_build(const pb_TlsCertificate *m, struct tls_factory *f, struct key_pair *k,
                       struct mz_err *err)
{
    struct mz_str password, *pass = NULL;
    k->chain = sk_X509_new_null();
    if (m->password) {
        if (!mz_data_source_read(m->password, 4096, f->arena, &password, err))
            return mz_err_at(err, "password");
        pass = &password;
    }
    if (m->pkcs12) {
        if (m->certificate_chain || m->private_key)
            return mz_err_set(err, "pkcs12 excludes certificate_chain and private_key");
        if (!pkcs12_read(m->pkcs12, pass, f, k, err))
            return mz_err_at(err, "pkcs12");
    } else {
        if (!m->certificate_chain || !m->private_key)
            return mz_err_set(err, "certificate_chain and private_key are required, or pkcs12");
        if (!chain_read(m->certificate_chain, f, k, err))
            return mz_err_at(err, "certificate_chain");
        if (!key_read(m->private_key, pass, f, k, err))
            return mz_err_at(err, "private_key");
    }
    if (X509_check_private_key(k->cert, k->key) != 1) {
        char why[160];
        return mz_err_set(err, "Failed to load private key: %s", error_reason(why)) ||
               mz_err_at(err, "private_key");
    }
    names_read(k, f->arena);
    k->path = mz_arena_dup(f->arena, path_of(m->pkcs12 ? m->pkcs12 : m->certificate_chain));
    if (f->server && !staple_build(m, f, k, err))
        return mz_err_at(err, "ocsp_staple");
    return key_strong(k, err);
}

bool pairs_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err)
{
    f->pairs = mz_arena_alloc0(f->arena, m->n_tls_certificates * sizeof(*f->pairs));
    for (size_t i = 0; i < m->n_tls_certificates; i++) {
        f->n_pairs = i + 1;
        if (!pair_build(m->tls_certificates[i], f, &f->pairs[i], err))
            return mz_err_at(err, "common_tls_context.tls_certificates[%zu]", i);
    }
    return true;
}

void pairs_fini(struct tls_factory *f)
{
    for (size_t i = 0; i < f->n_pairs; i++) {
        X509_free(f->pairs[i].cert);
        EVP_PKEY_free(f->pairs[i].key);
        sk_X509_pop_free(f->pairs[i].chain, X509_free);
    }
}

static bool covers(const struct key_pair *k, struct mz_str name)
{
    const char *dot = memchr(name.p, '.', name.n);
    for (size_t i = 0; i < k->n_names; i++) {
        struct mz_str p = k->names[i];
        if (mz_str_ieq(p, name))
            return true;
        if (dot && p.n > 2 && p.p[0] == '*' && p.p[1] == '.' &&
            mz_str_ieq(mz_str_skip(p, 1), mz_str_skip(name, (size_t)(dot - name.p))))
            return true;
    }
    return false;
}

/* TLS 1.2: is one of the suites that the client offers for this kind of key, and ours, too? */
static bool suite_fits(SSL *ssl, bool ec)
{
    STACK_OF(SSL_CIPHER) *ours = SSL_get_ciphers(ssl), *theirs = SSL_get_client_ciphers(ssl);
    int kind = ec ? NID_auth_ecdsa : NID_auth_rsa;
    for (int i = 0; i < sk_SSL_CIPHER_num(theirs); i++) {
        const SSL_CIPHER *c = sk_SSL_CIPHER_value(theirs, i);
        if (SSL_CIPHER_get_auth_nid(c) == kind &&
            sk_SSL_CIPHER_find(ours, (SSL_CIPHER *)(uintptr_t)c) >= 0)
            return true;
    }
    return false;
}

/* Does the client take signatures of this key? */
static bool client_takes(SSL *ssl, const struct key_pair *k)
{
    bool ec = EVP_PKEY_is_a(k->key, "EC");
    if (SSL_version(ssl) < TLS1_3_VERSION && !suite_fits(ssl, ec))
        return false;
    int n = SSL_get_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL);
    for (int i = 0; i < n; i++) {
        int sign = 0;
        (void)SSL_get_sigalgs(ssl, i, &sign, NULL, NULL, NULL, NULL);
        if (ec ? sign == EVP_PKEY_EC : sign == EVP_PKEY_RSA || sign == EVP_PKEY_RSA_PSS)
            return true;
    }
    return n <= 0;
}

static const struct key_pair *choose(SSL *ssl, const struct tls_factory *f, bool staple)
{
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct key_pair *by_name = NULL, *by_key = NULL;
    for (size_t i = 0; i < f->n_pairs; i++) {
        const struct key_pair *k = &f->pairs[i];
        bool name = sni && covers(k, mz_str_c(sni)), key = client_takes(ssl, k);
        if (staple && staple_action(f, k) == STAPLE_FAIL)
            continue;
        if (name && key)
            return k;
        if (name && !by_name)
            by_name = k;
        if (key && !by_key)
            by_key = k;
    }
    return by_name && !f->full_scan ? by_name : by_key ? by_key : &f->pairs[0];
}

static enum staple_action staple_note(struct tls_transport *t, const struct key_pair *k)
{
    static const uint8_t stats[] = { [STAPLE_SEND] = MZ_TLS_OCSP_STAPLE_RESPONSES,
                                     [STAPLE_OMIT] = MZ_TLS_OCSP_STAPLE_OMITTED,
                                     [STAPLE_FAIL] = MZ_TLS_OCSP_STAPLE_FAILED };
    enum staple_action what = staple_action(t->f, k);
    mz_count(t->f->scope, stats[what], 1);
    t->staple = what == STAPLE_SEND ? &k->staple : NULL;
    return what;
}

/* Does the client offer TLS 1.3? supported_versions: a length, then two bytes each. */
static bool offers_13(SSL *ssl)
{
    const unsigned char *p;
    size_t n;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &n) != 1)
        return false;
    for (size_t i = 1; i + 1 < n; i += 2)
        if (p[i] == 3 && p[i + 1] == 4)
            return true;
    return false;
}

int pair_hello(SSL *ssl, int *alert, void *factory)
{
    (void)alert;
    const struct tls_factory *f = factory;
    struct tls_transport *t = SSL_get_app_data(ssl);
    const unsigned char *p;
    size_t n;
    /* Of the suites of TLS 1.3 the client's first one, as at Envoy: what it can do best, and often with the cheaper hash. */
    if (SSL_CTX_get_max_proto_version(f->ctx) == TLS1_3_VERSION && offers_13(ssl))
        SSL_clear_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    t->wants_staple = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_status_request, &p, &n) == 1 &&
                      n > 0 && p[0] == TLSEXT_STATUSTYPE_ocsp;
    if (t->wants_staple)
        mz_count(f->scope, MZ_TLS_OCSP_STAPLE_REQUESTS, 1);
    return SSL_CLIENT_HELLO_SUCCESS;
}

void pair_resumed(SSL *ssl)
{
    struct tls_transport *t = SSL_get_app_data(ssl);
    if (t->wants_staple)
        (void)staple_note(t, choose(ssl, t->f, true));
}

int pair_choose(SSL *ssl, void *factory)
{
    const struct tls_factory *f = factory;
    struct tls_transport *t = SSL_get_app_data(ssl);
    if (f->require_sni && !SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name))
        return 0;
    const struct key_pair *k = f->n_pairs < 2 ? &f->pairs[0] : choose(ssl, f, t->wants_staple);
    if (t->wants_staple && staple_note(t, k) == STAPLE_FAIL)
        return 0;
    if (f->n_pairs < 2)
        return 1;         /* the context has the only one */
    SSL_certs_clear(ssl); /* a key of another type would stand beside it */
    return SSL_use_cert_and_key(ssl, k->cert, k->key, k->chain, 1);
}
