#include "control/ca/x509.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/log.h"

EVP_PKEY *x509_key_create(void)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    MZ_ASSERT(k != NULL); /* only without memory */
    return k;
}

/* ---- writing ---- */

static bool add_name(X509_NAME *n, const char *field, const char *value)
{
    return !value || X509_NAME_add_entry_by_txt(n, field, MBSTRING_UTF8,
                                                (const unsigned char *)value, -1, -1, 0) == 1;
}

static bool add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    const bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool push_san(GENERAL_NAMES *v, int type, struct mz_str text)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    if (g && s && ASN1_STRING_set(s, text.p, (int)text.n) == 1) {
        GENERAL_NAME_set0_value(g, type, s);
        if (sk_GENERAL_NAME_push(v, g) > 0)
            return true;
        s = NULL; /* is g's */
    }
    ASN1_IA5STRING_free(s);
    GENERAL_NAME_free(g);
    return false;
}

/* Critical where nothing else names the subject (RFC 5280, 4.2.1.6). */
static bool add_sans(X509 *x, const struct x509_request *r)
{
    GENERAL_NAMES *v = GENERAL_NAMES_new();
    bool ok = v != NULL;
    if (r->uri.n)
        ok = ok && push_san(v, GEN_URI, r->uri);
    for (size_t i = 0; ok && r->dns && r->dns[i]; i++)
        ok = push_san(v, GEN_DNS, mz_str_c(r->dns[i]));
    if (ok && sk_GENERAL_NAME_num(v) > 0)
        ok = X509_add1_ext_i2d(x, NID_subject_alt_name, v, !r->common_name && !r->organization,
                               0) == 1;
    GENERAL_NAMES_free(v);
    return ok;
}

static bool set_serial(X509 *x)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, never short */
    BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    const bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
    BN_free(n);
    return ok;
}

static bool fill(X509 *x, const struct x509_request *r, EVP_PKEY *key, X509 *issuer)
{
    X509_NAME *subject = X509_get_subject_name(x);
    return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
           add_name(subject, "O", r->organization) && add_name(subject, "CN", r->common_name) &&
           X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(x), (time_t)r->from_s) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(x), (time_t)r->until_s) != NULL &&
           X509_set_pubkey(x, key) == 1 &&
           add_ext(x, issuer, NID_key_usage,
                   r->authority ? "critical,keyCertSign,cRLSign"
                                : "critical,digitalSignature,keyEncipherment") &&
           (r->authority || add_ext(x, issuer, NID_ext_key_usage, "serverAuth,clientAuth")) &&
           add_ext(x, issuer, NID_basic_constraints,
                   r->authority ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
           add_ext(x, issuer, NID_subject_key_identifier, "hash") &&
           add_ext(x, issuer, NID_authority_key_identifier, "keyid") && add_sans(x, r);
}

X509 *x509_sign(const struct x509_request *r, EVP_PKEY *subject_key, X509 *issuer,
                EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    const int type = EVP_PKEY_get_base_id(issuer_key);
    const EVP_MD *md = type == EVP_PKEY_ED25519 || type == EVP_PKEY_ED448 ? NULL : EVP_sha256();
    if (x && fill(x, r, subject_key, issuer) && X509_sign(x, issuer_key, md) > 0)
        return x;
    X509_free(x);
    return NULL;
}

/* ---- PEM ---- */

static struct mz_str taken(BIO *b, struct mz_arena *a)
{
    char *p = NULL;
    const long n = b ? BIO_get_mem_data(b, &p) : 0;
    const struct mz_str s = mz_arena_dup(a, (struct mz_str){ p, n > 0 ? (size_t)n : 0 });
    BIO_free(b);
    return s;
}

struct mz_str x509_cert_pem(X509 *x, struct mz_arena *a)
{
    BIO *b = BIO_new(BIO_s_mem());
    if (b && PEM_write_bio_X509(b, x) != 1)
        (void)BIO_reset(b); /* then it is empty */
    return taken(b, a);
}

struct mz_str x509_key_pem(EVP_PKEY *k, struct mz_arena *a)
{
    BIO *b = BIO_new(BIO_s_secmem());
    if (b && PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) != 1)
        (void)BIO_reset(b); /* then it is empty */
    return taken(b, a);
}

/* Otherwise OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static BIO *reading(struct mz_str pem)
{
    return pem.n && pem.n <= INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
}

X509 *x509_cert_read(struct mz_str pem)
{
    BIO *b = reading(pem);
    X509 *x = b ? PEM_read_bio_X509(b, NULL, no_passphrase, NULL) : NULL;
    BIO_free(b);
    return x;
}

EVP_PKEY *x509_key_read(struct mz_str pem)
{
    BIO *b = reading(pem);
    EVP_PKEY *k = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
    BIO_free(b);
    return k;
}

STACK_OF(X509) * x509_certs_read(struct mz_str pem)
{
    STACK_OF(X509) *v = sk_X509_new_null();
    BIO *b = reading(pem);
    MZ_ASSERT(v != NULL); /* only without memory */
    for (X509 *x; b && (x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL;)
        if (sk_X509_push(v, x) <= 0)
            X509_free(x);
    ERR_clear_error(); /* "no start line" ends the list */
    BIO_free(b);
    return v;
}

static STACK_OF(X509_CRL) * crls_read(struct mz_str pem)
{
    STACK_OF(X509_CRL) *v = sk_X509_CRL_new_null();
    BIO *b = reading(pem);
    MZ_ASSERT(v != NULL); /* only without memory */
    for (X509_CRL *c; b && (c = PEM_read_bio_X509_CRL(b, NULL, no_passphrase, NULL)) != NULL;)
        if (sk_X509_CRL_push(v, c) <= 0)
            X509_CRL_free(c);
    ERR_clear_error(); /* "no start line" ends the list */
    BIO_free(b);
    return v;
}

size_t x509_crls_count(struct mz_str pem)
{
    STACK_OF(X509_CRL) *v = crls_read(pem);
    const int n = sk_X509_CRL_num(v);
    sk_X509_CRL_pop_free(v, X509_CRL_free);
    return (size_t)n;
}

static bool has_signed_one(X509 *x, STACK_OF(X509_CRL) * crls)
{
    bool any = false;
    EVP_PKEY *k = X509_get0_pubkey(x);
    for (int i = 0; k && i < sk_X509_CRL_num(crls); i++)
        any |= X509_CRL_verify(sk_X509_CRL_value(crls, i), k) == 1;
    ERR_clear_error();
    return any;
}

bool x509_crls_cover(struct mz_str crls, struct mz_str chain, struct mz_arena *a, const char **why)
{
    STACK_OF(X509_CRL) *lists = crls_read(crls);
    STACK_OF(X509) *v = x509_certs_read(chain);
    bool ok = true;
    for (int i = 0; ok && i < sk_X509_num(v); i++) {
        char name[200];
        ok = has_signed_one(sk_X509_value(v, i), lists);
        if (!ok) {
            X509_NAME_oneline(X509_get_subject_name(sk_X509_value(v, i)), name, sizeof(name));
            *why = mz_arena_dup(a, mz_str_c(name)).p;
        }
    }
    x509_certs_free(v);
    sk_X509_CRL_pop_free(lists, X509_CRL_free);
    return ok;
}

void x509_certs_free(STACK_OF(X509) * v)
{
    sk_X509_pop_free(v, X509_free);
}

static int64_t unix_time(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int64_t x509_from(const X509 *x)
{
    return unix_time(X509_get0_notBefore(x));
}

int64_t x509_until(const X509 *x)
{
    return unix_time(X509_get0_notAfter(x));
}

struct mz_str x509_why(struct mz_arena *a)
{
    const unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return mz_arena_dup(a, mz_str_c(reason ? reason : "not readable"));
}
