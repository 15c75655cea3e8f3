/* Sets of keys: RFC 7517, 7518 section 6, 8037; PEM certificates by kid as Envoy reads them. */
#include "jwt/jwt_priv.h"

#include "base/base64.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

static bool named(struct mz_str s, const char *name)
{
    return mz_str_eq(s, mz_str_c(name));
}

static EVP_PKEY *pkey_make(const char *type, OSSL_PARAM_BLD *b)
{
    EVP_PKEY *k = NULL;
    OSSL_PARAM *params = b ? OSSL_PARAM_BLD_to_param(b) : NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &k, EVP_PKEY_PUBLIC_KEY, params) != 1)
        k = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return k;
}

/* ---- RSA ---- */

static bool rsa_size_ok(const EVP_PKEY *k)
{
    int bits = EVP_PKEY_get_bits(k);
    return bits >= MZ_JWK_RSA_MIN_BITS && bits <= MZ_JWK_RSA_MAX_BITS;
}

static BIGNUM *number(struct mz_str text, struct mz_arena *a)
{
    struct mz_str bytes;
    if (!mz_base64url_decode(text, a, &bytes) || !bytes.n || bytes.n > MZ_JWK_RSA_MAX_BITS / 8 + 1)
        return NULL;
    return BN_bin2bn((const unsigned char *)bytes.p, (int)bytes.n, NULL);
}

/* An odd modulus of a sane size and one of the two usual exponents: a number that is 1, even or a power of two proves nothing. */
static bool rsa_make(struct mz_str n_text, struct mz_str e_text, struct mz_arena *a,
                     struct jwk *out)
{
    BIGNUM *n = number(n_text, a), *e = number(e_text, a);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (n && e && BN_is_odd(n) && (BN_is_word(e, 3) || BN_is_word(e, 65537)) &&
        BN_num_bits(n) >= MZ_JWK_RSA_MIN_BITS && BN_num_bits(n) <= MZ_JWK_RSA_MAX_BITS &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        out->pkey = pkey_make("RSA", b);
    OSSL_PARAM_BLD_free(b);
    BN_free(n);
    BN_free(e);
    return out->pkey != NULL;
}

static enum mz_jwt_status rsa_read(const struct mz_node *m, struct mz_arena *a, struct jwk *out)
{
    out->type = KEY_RSA;
    if (out->alg.n && !mz_str_starts(out->alg, MZ_STR("RS")) &&
        !mz_str_starts(out->alg, MZ_STR("PS")))
        return MZ_JWT_RSA_ALG;
    struct mz_str n = { 0 }, e = { 0 };
    enum member got = node_text(m, "n", &n);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_RSA_N_MISSING : MZ_JWT_RSA_N_TYPE;
    got = node_text(m, "e", &e);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_RSA_E_MISSING : MZ_JWT_RSA_E_TYPE;
    return rsa_make(n, e, a, out) ? MZ_JWT_OK : MZ_JWT_JWK_RSA;
}

/* ---- elliptic curves ---- */

static const struct {
    const char *crv, *alg, *group;
    uint16_t half;
} curves[] = {
    { "P-256", "ES256", "prime256v1", 32 },
    { "P-384", "ES384", "secp384r1", 48 },
    { "P-521", "ES512", "secp521r1", 66 },
};

/* Right-aligned in @half bytes, as a point has it; false: too long. */
static bool coordinate(struct mz_str bytes, size_t half, unsigned char *out)
{
    while (bytes.n > half && !*bytes.p)
        bytes = mz_str_skip(bytes, 1);
    if (bytes.n > half)
        return false;
    memset(out, 0, half - bytes.n);
    if (bytes.n)
        memcpy(out + half - bytes.n, bytes.p, bytes.n);
    return true;
}

static enum mz_jwt_status ec_make(struct mz_str x_text, struct mz_str y_text, size_t curve,
                                  struct mz_arena *a, struct jwk *out)
{
    struct mz_str x, y;
    if (!mz_base64url_decode(x_text, a, &x) || !mz_base64url_decode(y_text, a, &y))
        return MZ_JWT_JWK_EC_BASE64;
    unsigned char point[1 + 2 * 66] = { POINT_CONVERSION_UNCOMPRESSED };
    size_t half = curves[curve].half;
    if (!coordinate(x, half, point + 1) || !coordinate(y, half, point + 1 + half))
        return MZ_JWT_JWK_EC;
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, curves[curve].group, 0) ==
            1 &&
        OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * half) == 1)
        out->pkey = pkey_make("EC", b); /* refuses a point that is not on the curve */
    OSSL_PARAM_BLD_free(b);
    return out->pkey ? MZ_JWT_OK : MZ_JWT_JWK_EC;
}

static enum mz_jwt_status curve_find(struct mz_str crv, struct mz_str alg, size_t *out)
{
    for (size_t i = 0; i < MZ_COUNT(curves); i++) {
        bool by_crv = named(crv, curves[i].crv), by_alg = named(alg, curves[i].alg);
        if (by_crv && alg.n && !by_alg)
            return MZ_JWT_EC_MISMATCH;
        if (by_crv || (!crv.n && (by_alg || !alg.n))) { /* neither: P-256 */
            *out = i;
            return MZ_JWT_OK;
        }
    }
    return crv.n && alg.n ? MZ_JWT_EC_MISMATCH : MZ_JWT_EC_UNKNOWN;
}

static enum mz_jwt_status ec_read(const struct mz_node *m, struct mz_arena *a, struct jwk *out)
{
    out->type = KEY_EC;
    if (out->alg.n && !mz_str_starts(out->alg, MZ_STR("ES")))
        return MZ_JWT_EC_ALG;
    struct mz_str crv = { 0 }, x = { 0 }, y = { 0 };
    if (node_text(m, "crv", &crv) == MEMBER_WRONG_TYPE)
        return MZ_JWT_EC_CRV_TYPE;
    size_t curve = 0;
    enum mz_jwt_status s = curve_find(crv, out->alg, &curve);
    if (s != MZ_JWT_OK)
        return s;
    out->half = curves[curve].half;
    enum member got = node_text(m, "x", &x);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_EC_X_MISSING : MZ_JWT_EC_X_TYPE;
    got = node_text(m, "y", &y);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_EC_Y_MISSING : MZ_JWT_EC_Y_TYPE;
    return ec_make(x, y, curve, a, out);
}

/* ---- secrets and Edwards curves ---- */

static enum mz_jwt_status oct_read(const struct mz_node *m, struct mz_arena *a, struct jwk *out)
{
    out->type = KEY_OCT;
    if (out->alg.n && !named(out->alg, "HS256") && !named(out->alg, "HS384") &&
        !named(out->alg, "HS512"))
        return MZ_JWT_OCT_ALG;
    struct mz_str k = { 0 };
    enum member got = node_text(m, "k", &k);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_OCT_K_MISSING : MZ_JWT_OCT_K_TYPE;
    return mz_base64url_decode(k, a, &out->secret) && out->secret.n ? MZ_JWT_OK : MZ_JWT_JWK_OCT;
}

static enum mz_jwt_status okp_read(const struct mz_node *m, struct mz_arena *a, struct jwk *out)
{
    out->type = KEY_OKP;
    if (out->alg.n && !named(out->alg, "EdDSA"))
        return MZ_JWT_OKP_ALG;
    struct mz_str crv = { 0 }, x = { 0 }, bytes;
    enum member got = node_text(m, "crv", &crv);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_OKP_CRV_MISSING : MZ_JWT_OKP_CRV_TYPE;
    if (!named(crv, "Ed25519"))
        return MZ_JWT_OKP_CRV_UNKNOWN;
    got = node_text(m, "x", &x);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_OKP_X_MISSING : MZ_JWT_OKP_X_TYPE;
    if (!mz_base64url_decode(x, a, &bytes))
        return MZ_JWT_JWK_OKP_BASE64;
    if (bytes.n == 32)
        out->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                                (const unsigned char *)bytes.p, bytes.n);
    return out->pkey ? MZ_JWT_OK : MZ_JWT_JWK_OKP_LENGTH;
}

/* ---- one key ---- */

static bool for_signatures(const struct mz_node *m)
{
    struct mz_str use;
    if (node_text(m, "use", &use) == MEMBER_OK && !named(use, "sig"))
        return false;
    const struct mz_node *ops = node_member(m, MZ_STR("key_ops"));
    if (!ops || ops->kind != MZ_NODE_LIST)
        return true;
    for (uint32_t i = 0; i < ops->n; i++)
        if (ops->list[i]->kind == MZ_NODE_STR && named(ops->list[i]->text, "verify"))
            return true;
    return false;
}

static enum mz_jwt_status jwk_read(const struct mz_node *m, struct mz_arena *a, struct jwk *out)
{
    static const struct {
        const char *kty;
        enum mz_jwt_status (*read)(const struct mz_node *m, struct mz_arena *a, struct jwk *out);
    } types[] = {
        { "EC", ec_read }, { "RSA", rsa_read }, { "oct", oct_read }, { "OKP", okp_read }
    };
    struct mz_str kty = { 0 };
    enum member got = node_text(m, "kty", &kty);
    if (got != MEMBER_OK)
        return got == MEMBER_MISSING ? MZ_JWT_JWK_KTY_MISSING : MZ_JWT_JWK_KTY_TYPE;
    (void)node_text(m, "kid", &out->kid); /* of another type: as if absent (Envoy) */
    (void)node_text(m, "alg", &out->alg);
    if (!for_signatures(m))
        return MZ_JWT_JWK_NOT_FOR_SIGNATURES;
    for (size_t i = 0; i < MZ_COUNT(types); i++)
        if (named(kty, types[i].kty))
            return types[i].read(m, a, out);
    return MZ_JWT_JWK_KTY_UNKNOWN;
}

static enum mz_jwt_status certificate_read(struct mz_str kid, struct mz_str pem, struct jwk *out)
{
    *out = (struct jwk){ .kid = kid, .type = KEY_RSA };
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    if (!x)
        return MZ_JWT_X509;
    EVP_PKEY *k = X509_get_pubkey(x);
    X509_free(x);
    if (k && EVP_PKEY_get_base_id(k) == EVP_PKEY_RSA && rsa_size_ok(k)) {
        out->pkey = k;
        return MZ_JWT_OK;
    }
    EVP_PKEY_free(k);
    return MZ_JWT_X509_KEY;
}

/* ---- the set ---- */

static void jwks_destroy(struct mz_jwks *k)
{
    for (size_t i = 0; i < k->n; i++) {
        EVP_PKEY_free(k->v[i].pkey);
        if (k->v[i].secret.n)
            OPENSSL_cleanse((void *)(uintptr_t)k->v[i].secret.p, k->v[i].secret.n);
    }
    mz_arena_destroy(k->arena);
}

struct mz_jwks *mz_jwks_ref(struct mz_jwks *k)
{
    __atomic_fetch_add(&k->refs, 1, __ATOMIC_RELAXED);
    return k;
}

void mz_jwks_unref(struct mz_jwks *k)
{
    if (k && __atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL) == 0)
        jwks_destroy(k);
}

size_t mz_jwks_count(const struct mz_jwks *k)
{
    return k->n;
}

static void room(struct mz_jwks *k, size_t n)
{
    k->v = mz_arena_alloc0(k->arena, (n + 1) * sizeof(*k->v));
}

/* Texts of keys that are kept must not lie in the arena of the document. */
static void keep(struct mz_jwks *k, struct jwk key)
{
    key.kid = mz_arena_dup(k->arena, key.kid);
    key.alg = mz_arena_dup(k->arena, key.alg);
    struct mz_str secret = key.secret;
    key.secret = mz_arena_dup(k->arena, secret);
    if (secret.n)
        OPENSSL_cleanse((void *)(uintptr_t)secret.p, secret.n);
    k->v[k->n++] = key;
}

static enum mz_jwt_status keys_read(const struct mz_node *list, struct mz_arena *a,
                                    struct mz_jwks *k)
{
    enum mz_jwt_status first = MZ_JWT_OK;
    if (list->kind != MZ_NODE_LIST)
        return MZ_JWT_JWKS_KEYS_TYPE;
    if (list->n > MZ_JWKS_MAX_KEYS)
        return MZ_JWT_JWKS_TOO_MANY_KEYS;
    room(k, list->n);
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->list[i]->kind != MZ_NODE_MAP)
            continue;
        struct jwk key = { 0 };
        enum mz_jwt_status s = jwk_read(list->list[i], a, &key);
        if (s == MZ_JWT_OK)
            keep(k, key);
        else if (first == MZ_JWT_OK)
            first = s;
    }
    if (k->n)
        return MZ_JWT_OK;
    return first != MZ_JWT_OK ? first : MZ_JWT_JWKS_NO_VALID_KEYS;
}

static bool all_certificates(const struct mz_node *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        const struct mz_node *v = m->pairs[i].value;
        if (!m->pairs[i].key.n || v->kind != MZ_NODE_STR ||
            !mz_str_starts(v->text, MZ_STR("-----BEGIN CERTIFICATE-----\n")) ||
            !mz_str_ends(v->text, MZ_STR("\n-----END CERTIFICATE-----\n")))
            return false;
    }
    return m->n > 0;
}

static enum mz_jwt_status certificates_read(const struct mz_node *m, struct mz_jwks *k)
{
    if (!all_certificates(m))
        return MZ_JWT_JWKS_NO_KEYS;
    if (m->n > MZ_JWKS_MAX_KEYS)
        return MZ_JWT_JWKS_TOO_MANY_KEYS;
    room(k, m->n);
    for (uint32_t i = 0; i < m->n; i++) {
        struct jwk key;
        enum mz_jwt_status s = certificate_read(m->pairs[i].key, m->pairs[i].value->text, &key);
        if (s != MZ_JWT_OK)
            return s;
        keep(k, key);
    }
    return MZ_JWT_OK;
}

static enum mz_jwt_status set_read(struct mz_str text, struct mz_arena *a, struct mz_jwks *k)
{
    if (text.n > MZ_JWKS_MAX_BYTES)
        return MZ_JWT_JWKS_TOO_LARGE;
    struct mz_err err;
    const struct mz_node *m = mz_tree_read(a, text, MZ_TEXT_JSON, &err);
    if (!m || m->kind != MZ_NODE_MAP)
        return MZ_JWT_JWKS_JSON;
    const struct mz_node *list = node_member(m, MZ_STR("keys"));
    return list ? keys_read(list, a, k) : certificates_read(m, k);
}

struct mz_jwks *mz_jwks_create(struct mz_str text, enum mz_jwt_status *out_status)
{
    struct mz_arena *document = mz_arena_create(MZ_MEM_CONFIG), *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_jwks *k = mz_arena_new0(a, struct mz_jwks);
    k->arena = a;
    k->refs = 1;
    enum mz_jwt_status s = set_read(text, document, k);
    mz_arena_destroy(document);
    ERR_clear_error();
    if (s == MZ_JWT_OK)
        return k;
    *out_status = s;
    jwks_destroy(k);
    return NULL;
}
