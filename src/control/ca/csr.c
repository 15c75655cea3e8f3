#include "control/ca/csr.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { RSA_MIN = 2048, RSA_MAX = 4096, MAX_EXTENSIONS = 16 };

static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static bool key_ok(EVP_PKEY *k, struct mz_err *err)
{
    char group[64] = "";
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
        return EVP_PKEY_get_bits(k) >= RSA_MIN && EVP_PKEY_get_bits(k) <= RSA_MAX
                   ? true
                   : mz_err_set(err, "an RSA key of %d bits is not in %d..%d", EVP_PKEY_get_bits(k),
                                RSA_MIN, RSA_MAX);
    case EVP_PKEY_EC:
        (void)EVP_PKEY_get_group_name(k, group, sizeof(group), NULL); /* else "" */
        return strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0
                   ? true
                   : mz_err_set(err, "keys of curve \"%s\" are not signed", group);
    default:
        return mz_err_set(err, "keys of this kind are not signed");
    }
}

static bool names_ok(const GENERAL_NAMES *v, struct mz_str identity, struct mz_err *err)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(v); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(v, i);
        if (g->type != GEN_URI)
            return mz_err_set(err, "it names something else than a URI");
        const struct mz_str uri = { (const char *)ASN1_STRING_get0_data(
                                        g->d.uniformResourceIdentifier),
                                    (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier) };
        if (!mz_str_eq(uri, identity))
            return mz_err_set(err, "it names another identity than the caller's");
    }
    return true;
}

static bool extensions_ok(const STACK_OF(X509_EXTENSION) * v, struct mz_str identity,
                          struct mz_err *err)
{
    int critical = 0;
    if (sk_X509_EXTENSION_num(v) > MAX_EXTENSIONS)
        return mz_err_set(err, "it has %d extensions", sk_X509_EXTENSION_num(v));
    BASIC_CONSTRAINTS *bc = X509V3_get_d2i(v, NID_basic_constraints, &critical, NULL);
    const bool authority = bc && bc->ca;
    BASIC_CONSTRAINTS_free(bc);
    if (authority)
        return mz_err_set(err, "it wishes to be an authority");
    GENERAL_NAMES *names = X509V3_get_d2i(v, NID_subject_alt_name, &critical, NULL);
    if (!names && critical != -1) /* there, but twice or not readable */
        return mz_err_set(err, "its names cannot be read");
    const bool ok = names_ok(names, identity, err);
    GENERAL_NAMES_free(names);
    return ok;
}

static bool request_ok(X509_REQ *r, struct mz_str identity, struct mz_err *err)
{
    EVP_PKEY *k = X509_REQ_get0_pubkey(r);
    if (!k)
        return mz_err_set(err, "its key cannot be read");
    if (!key_ok(k, err)) /* before its signature: a huge key takes long */
        return false;
    if (X509_REQ_verify(r, k) != 1)
        return mz_err_set(err, "its signature is wrong");
    STACK_OF(X509_EXTENSION) *v = X509_REQ_get_extensions(r);
    const bool ok = extensions_ok(v, identity, err);
    sk_X509_EXTENSION_pop_free(v, X509_EXTENSION_free);
    return ok;
}

EVP_PKEY *csr_key(struct mz_str pem, struct mz_str identity, struct mz_err *err)
{
    EVP_PKEY *k = NULL;
    if (pem.n > CSR_MAX_BYTES) {
        mz_err_set(err, "a request of %zu bytes is too large", pem.n);
        return NULL;
    }
    BIO *b = pem.n ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509_REQ *r = b ? PEM_read_bio_X509_REQ(b, NULL, no_passphrase, NULL) : NULL;
    if (!r)
        mz_err_set(err, "not a certificate signing request");
    else if (request_ok(r, identity, err))
        k = X509_REQ_get_pubkey(r);
    X509_REQ_free(r);
    BIO_free(b);
    ERR_clear_error(); /* told already */
    return k;
}
