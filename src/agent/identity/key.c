#include "agent/identity/key.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

static struct mz_str bio_text(BIO *b, struct mz_arena *a)
{
    char *p;
    const long n = BIO_get_mem_data(b, &p);
    return mz_arena_dup(a, (struct mz_str){ p, n > 0 ? (size_t)n : 0 });
}

static bool name_it(X509_REQ *r, struct mz_str identity, struct mz_arena *a)
{
    STACK_OF(X509_EXTENSION) *all = sk_X509_EXTENSION_new_null();
    const struct mz_str value =
        mz_arena_printf(a, "critical,URI:" MZ_STR_FMT, MZ_STR_ARG(identity));
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, value.p);
    bool ok = all && san && sk_X509_EXTENSION_push(all, san) > 0;
    if (!ok)
        X509_EXTENSION_free(san);
    ok = ok && X509_REQ_add_extensions(r, all) == 1;
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    return ok;
}

static bool write_out(X509_REQ *r, EVP_PKEY *key, struct mz_arena *a, struct mz_agent_key *out)
{
    BIO *csr = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_secmem());
    bool ok = csr && pem && PEM_write_bio_X509_REQ(csr, r) == 1 &&
              PEM_write_bio_PKCS8PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) == 1;
    if (ok)
        *out = (struct mz_agent_key){ bio_text(pem, a), bio_text(csr, a) };
    BIO_free(csr);
    BIO_free(pem); /* wipes */
    return ok;
}

bool mz_agent_key_create(struct mz_str identity, unsigned rsa_bits, struct mz_arena *a,
                         struct mz_agent_key *out, struct mz_err *err)
{
    EVP_PKEY *key = rsa_bits ? EVP_RSA_gen(rsa_bits) : EVP_EC_gen("P-256");
    X509_REQ *r = X509_REQ_new();
    const bool ok = key && r && X509_REQ_set_version(r, X509_REQ_VERSION_1) == 1 &&
                    X509_REQ_set_pubkey(r, key) == 1 && name_it(r, identity, a) &&
                    X509_REQ_sign(r, key, EVP_sha256()) > 0 && write_out(r, key, a, out);
    X509_REQ_free(r);
    EVP_PKEY_free(key);
    if (!ok) {
        char text[128];
        ERR_error_string_n(ERR_get_error(), text, sizeof(text));
        ERR_clear_error();
        return mz_err_set(err, "cannot make a certificate signing request: %s", text);
    }
    return true;
}

static X509 *read_cert(struct mz_str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    BIO_free(b);
    ERR_clear_error();
    return x;
}

static int64_t seconds(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

bool mz_agent_cert_times(struct mz_str pem, int64_t *out_from, int64_t *out_until)
{
    X509 *x = read_cert(pem);
    if (!x)
        return false;
    *out_from = seconds(X509_get0_notBefore(x));
    *out_until = seconds(X509_get0_notAfter(x));
    X509_free(x);
    return true;
}

bool mz_agent_cert_fits(struct mz_str cert_pem, struct mz_str key_pem)
{
    X509 *x = read_cert(cert_pem);
    BIO *b = BIO_new_mem_buf(key_pem.p, (int)key_pem.n);
    EVP_PKEY *k = b ? PEM_read_bio_PrivateKey(b, NULL, NULL, NULL) : NULL;
    const bool ok = x && k && X509_check_private_key(x, k) == 1;
    EVP_PKEY_free(k);
    BIO_free(b);
    X509_free(x);
    ERR_clear_error();
    return ok;
}
