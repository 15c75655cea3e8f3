#ifndef MZ_CONTROL_CA_X509_H
#define MZ_CONTROL_CA_X509_H
/* Keys and certificates as the authority needs them. OpenSSL's types stay in this folder. Pure functions; any thread. */
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/arena.h"
#include "base/err.h"

struct x509_request {
    const char *common_name; /* of the subject; NULL: none */
    const char *organization; /* NULL: none */
    struct mz_str uri;        /* the one URI it names; "" none */
    const char *const *dns;   /* NULL-terminated; NULL: none */
    bool authority;           /* it may sign others */
    int64_t from_s, until_s;  /* UNIX time */
};
EVP_PKEY *x509_key_create(void); /* P-256; never NULL */
/* @issuer NULL: signed by itself. The serial number is of 127 random bits. NULL: OpenSSL refused (a key of a kind that cannot sign). */
X509 *x509_sign(const struct x509_request *r, EVP_PKEY *subject_key, X509 *issuer, EVP_PKEY *issuer_key);
struct mz_str x509_cert_pem(X509 *x, struct mz_arena *a);
struct mz_str x509_key_pem(EVP_PKEY *k, struct mz_arena *a); /* PKCS #8, wipe it after use */
/* The first of a text; never asks for a passphrase. NULL: there is none. */
X509 *x509_cert_read(struct mz_str pem);
EVP_PKEY *x509_key_read(struct mz_str pem);
STACK_OF(X509) *x509_certs_read(struct mz_str pem); /* all of them; never NULL; x509_certs_free() */
void x509_certs_free(STACK_OF(X509) *v);
size_t x509_crls_count(struct mz_str pem); /* lists of revoked certificates that can be read */
/* Each authority of @chain has signed one of @crls: else clients would refuse all that it signs. False: @why names the first that has not. */
bool x509_crls_cover(struct mz_str crls, struct mz_str chain, struct mz_arena *a, const char **why);
int64_t x509_from(const X509 *x); /* UNIX time */
int64_t x509_until(const X509 *x);
struct mz_str x509_why(struct mz_arena *a); /* OpenSSL's last reason, and its queue is empty then */
#endif
