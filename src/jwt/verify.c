/* Signatures (RFC 7515 section 5.2; 7518 section 3). */
#include "jwt/jwt_priv.h"

#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

static const unsigned char *bytes(struct mz_str s)
{
    return (const unsigned char *)s.p;
}

/* Of RSA and Ed25519 as it is in the token, of ECDSA in DER. */
static bool public_verify(const struct jwk *k, const struct jwt_alg *alg, struct mz_str text,
                          const unsigned char *sig, size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    bool ok = EVP_DigestVerifyInit(ctx, &pctx, alg->md ? alg->md() : NULL, NULL, k->pkey) == 1 &&
              (!alg->pss || EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1) &&
              EVP_DigestVerify(ctx, sig, n, bytes(text), text.n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* RFC 7518, 3.4: two numbers, each of the curve's size. OpenSSL wants them in DER. */
static bool ecdsa_verify(const struct jwk *k, const struct jwt_alg *alg, const struct mz_jwt *j)
{
    size_t half = alg->half;
    if (k->half != half || j->signature.n != 2 * half)
        return false;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes(j->signature), (int)half, NULL);
    BIGNUM *s = BN_bin2bn(bytes(j->signature) + half, (int)half, NULL);
    unsigned char *der = NULL;
    bool ok = false;
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* the signature's now */
        int n = i2d_ECDSA_SIG(sig, &der);
        ok = n > 0 && public_verify(k, alg, j->signed_text, der, (size_t)n);
    }
    OPENSSL_free(der);
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return ok;
}

static bool hmac_verify(const struct jwk *k, const struct jwt_alg *alg, const struct mz_jwt *j)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    return k->secret.n <= INT32_MAX &&
           HMAC(alg->md(), k->secret.p, (int)k->secret.n, bytes(j->signed_text), j->signed_text.n,
                mac, &n) &&
           n == j->signature.n && CRYPTO_memcmp(mac, j->signature.p, n) == 0;
}

static bool verify_by(const struct jwk *k, const struct jwt_alg *alg, const struct mz_jwt *j)
{
    if (k->type != alg->type) /* a public key is no secret, and a curve no modulus (G01) */
        return false;
    switch ((enum key_type)k->type) {
    case KEY_EC:
        return ecdsa_verify(k, alg, j);
    case KEY_OCT:
        return hmac_verify(k, alg, j);
    case KEY_RSA:
    case KEY_OKP:
        return public_verify(k, alg, j->signed_text, bytes(j->signature), j->signature.n);
    }
    return false;
}

enum mz_jwt_status mz_jwks_verify(const struct mz_jwks *keys, const struct mz_jwt *j)
{
    const struct jwt_alg *alg = &jwt_algs[j->alg];
    bool matched = false;
    for (size_t i = 0; i < keys->n; i++) {
        const struct jwk *k = &keys->v[i];
        if (j->kid.n && k->kid.n && !mz_str_eq(k->kid, j->kid))
            continue;
        if (k->alg.n && !mz_str_eq(k->alg, alg->name))
            continue;
        matched = true;
        if (k->type == KEY_OKP && alg->type == KEY_OKP && j->signature.n != 64)
            return MZ_JWT_ED25519_LENGTH;
        bool ok = verify_by(k, alg, j);
        ERR_clear_error();
        if (ok)
            return MZ_JWT_OK;
    }
    return matched ? MZ_JWT_VERIFICATION : MZ_JWT_JWKS_NO_MATCH;
}
