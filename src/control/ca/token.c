#include "control/ca/token.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "control/ca/files.h"
#include "control/ca/x509.h"
#include "jwt/jwt.h"

#define KEY_FILE "token-key.pem"
enum { HALF = 32 /* bytes of a coordinate of P-256 */, SKEW_S = 60 };

struct mz_tokens {
    struct mz_reviewer reviewer;
    struct mz_arena *arena;
    EVP_PKEY *key;
    struct mz_jwks *own, *other; /* NULL: there is no other */
    struct mz_str issuer;        /* of the other */
};

/* ---- keys ---- */

static struct mz_str base64url(struct mz_str bytes, struct mz_arena *a)
{
    struct mz_str s = mz_base64_encode(bytes, a);
    char *p = mz_arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n && s.p[i] != '='; i++)
        p[n++] = s.p[i] == '+' ? '-' : s.p[i] == '/' ? '_' : s.p[i];
    p[n] = 0;
    return (struct mz_str){ p, n };
}

static struct mz_str coordinate(EVP_PKEY *k, const char *name, struct mz_arena *a)
{
    BIGNUM *n = NULL;
    unsigned char bytes[HALF];
    struct mz_str out = MZ_STR("");
    if (EVP_PKEY_get_bn_param(k, name, &n) == 1 && BN_bn2binpad(n, bytes, HALF) == HALF)
        out = base64url((struct mz_str){ (const char *)bytes, HALF }, a);
    BN_free(n);
    return out;
}

/* The public half, as a set: so that one verifier serves all issuers. */
static struct mz_jwks *own_set(EVP_PKEY *k, struct mz_arena *a)
{
    enum mz_jwt_status st;
    return mz_jwks_create(mz_arena_printf(a,
                                          "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"alg\":"
                                          "\"ES256\",\"x\":\"%s\",\"y\":\"%s\"}]}",
                                          coordinate(k, OSSL_PKEY_PARAM_EC_PUB_X, a).p,
                                          coordinate(k, OSSL_PKEY_PARAM_EC_PUB_Y, a).p),
                          &st);
}

static bool key_write(struct mz_tokens *t, const char *dir, struct mz_err *err)
{
    const struct mz_str pem = x509_key_pem(t->key, t->arena);
    const bool ok = file_write(dir, KEY_FILE, true, pem, err);
    explicit_bzero((char *)(uintptr_t)pem.p, pem.n);
    return ok;
}

static bool key_load(struct mz_tokens *t, const char *dir, struct mz_err *err)
{
    struct mz_str pem;
    const int lock = dir_make(dir, err) ? dir_lock(dir, err) : -1;
    if (lock < 0)
        return false;
    const enum file_found f = file_read(dir, KEY_FILE, true, t->arena, &pem, err);
    bool ok = f == FILE_FOUND;
    if (ok) {
        t->key = x509_key_read(pem);
        explicit_bzero((char *)(uintptr_t)pem.p, pem.n);
        ok = t->key != NULL || mz_err_set(err, "%s/" KEY_FILE ": no private key", dir);
    } else if (f == FILE_ABSENT) {
        t->key = x509_key_create();
        ok = key_write(t, dir, err);
    }
    (void)close(lock); /* and so the lock */
    return ok;
}

static bool other_load(struct mz_tokens *t, const struct mz_tokens_opts *o, struct mz_err *err)
{
    struct mz_str text;
    enum mz_jwt_status st;
    if (!o->issuer && !o->jwks)
        return true;
    if (!o->issuer || !o->jwks)
        return mz_err_set(err, "an issuer of tokens and its keys come together");
    const enum file_found f =
        file_read(o->jwks[0] == '/' ? "" : ".", o->jwks, false, t->arena, &text, err);
    if (f == FILE_ABSENT)
        return mz_err_set(err, "%s: No such file or directory", o->jwks);
    if (f == FILE_FAULT)
        return false;
    t->issuer = mz_arena_dup(t->arena, mz_str_c(o->issuer));
    t->other = mz_jwks_create(text, &st);
    return t->other != NULL || mz_err_set(err, "%s: %s", o->jwks, mz_jwt_status_text(st));
}

static enum mz_reviewed review(struct mz_reviewer *v, struct mz_review *r)
{
    return mz_tokens_check(MZ_CONTAINER(v, struct mz_tokens, reviewer), r->token, r->arena, &r->who,
                           &r->err)
               ? MZ_REVIEW_GOOD
               : MZ_REVIEW_BAD;
}

struct mz_reviewer *mz_tokens_reviewer(struct mz_tokens *t)
{
    return &t->reviewer;
}

struct mz_tokens *mz_tokens_create(const struct mz_tokens_opts *o, struct mz_err *err)
{
    static const struct mz_reviewer_ops ops = { "local issuer", review, NULL };
    struct mz_tokens *t = mz_new0(MZ_MEM_TLS, struct mz_tokens);
    t->reviewer.ops = &ops;
    t->arena = mz_arena_create(MZ_MEM_TLS);
    if (!o->dir)
        t->key = x509_key_create();
    if ((t->key || key_load(t, o->dir, err)) && other_load(t, o, err)) {
        t->own = own_set(t->key, t->arena);
        if (t->own)
            return t;
        mz_err_set(err, KEY_FILE ": not a key of curve P-256");
    }
    mz_tokens_destroy(t);
    return NULL;
}

void mz_tokens_destroy(struct mz_tokens *t)
{
    if (!t)
        return;
    mz_jwks_unref(t->own);
    mz_jwks_unref(t->other);
    EVP_PKEY_free(t->key);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_TLS, t);
}

/* ---- making ---- */

/* RFC 7518, 3.4: the two numbers, one behind the other. */
static struct mz_str signature(EVP_PKEY *k, struct mz_str text, struct mz_arena *a)
{
    unsigned char der[128], raw[2 * HALF] = { 0 };
    const unsigned char *p = der;
    size_t n = sizeof(der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k) == 1 &&
              EVP_DigestSign(ctx, der, &n, (const unsigned char *)text.p, text.n) == 1;
    ECDSA_SIG *sig = ok ? d2i_ECDSA_SIG(NULL, &p, (long)n) : NULL;
    ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, HALF) == HALF &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + HALF, HALF) == HALF;
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return ok ? base64url((struct mz_str){ (const char *)raw, sizeof(raw) }, a) : MZ_STR("");
}

struct mz_str mz_tokens_make(struct mz_tokens *t, struct mz_account who, uint64_t ttl_s,
                             struct mz_arena *a)
{
    const unsigned long long now = mz_clock->wall_us() / 1000000;
    const struct mz_str head = base64url(MZ_STR("{\"alg\":\"ES256\",\"typ\":\"JWT\"}"), a);
    const struct mz_str body = base64url(
        mz_arena_printf(
            a,
            "{\"iss\":\"" TOKEN_ISSUER "\",\"aud\":[\"" TOKEN_AUDIENCE
            "\"],\"iat\":%llu,\"exp\":%llu,"
            "\"sub\":\"system:serviceaccount:%.*s:%.*s\",\"kubernetes.io\":{\"namespace\":\"%.*s\","
            "\"serviceaccount\":{\"name\":\"%.*s\"}}}",
            now, now + ttl_s, MZ_STR_ARG(who.ns), MZ_STR_ARG(who.name), MZ_STR_ARG(who.ns),
            MZ_STR_ARG(who.name)),
        a);
    const struct mz_str text = mz_arena_printf(a, "%s.%s", head.p, body.p);
    return mz_arena_printf(a, "%s.%s", text.p, signature(t->key, text, a).p);
}

/* ---- checking ---- */

bool mz_account_ok(struct mz_account who)
{
    const struct mz_str parts[] = { who.ns, who.name };
    for (size_t i = 0; i < 2; i++) {
        if (!parts[i].n || parts[i].n > 253)
            return false;
        for (size_t k = 0; k < parts[i].n; k++) {
            const char c = parts[i].p[k];
            if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
                return false;
        }
    }
    return true;
}

static bool has_audience(const struct mz_jwt *j)
{
    for (size_t i = 0; i < j->n_aud; i++)
        if (mz_str_eq(j->aud[i], MZ_STR(TOKEN_AUDIENCE)))
            return true;
    return false;
}

static bool take_account(const struct mz_jwt *j, struct mz_account *out, struct mz_err *err)
{
    const struct mz_str before = MZ_STR("system:serviceaccount:");
    struct mz_str rest = j->sub;
    if (!mz_str_starts(rest, before))
        return mz_err_set(err, "the subject is no service account");
    rest = mz_str_skip(rest, before.n);
    const ptrdiff_t colon = mz_str_chr(rest, ':');
    if (colon < 0)
        return mz_err_set(err, "the subject is no service account");
    const struct mz_account who = { { rest.p, (size_t)colon },
                                    mz_str_skip(rest, (size_t)colon + 1) };
    if (!mz_account_ok(who))
        return mz_err_set(err, "the subject is no service account");
    *out = who;
    return true;
}

bool mz_tokens_check(const struct mz_tokens *t, struct mz_str token, struct mz_arena *a,
                     struct mz_account *out, struct mz_err *err)
{
    struct mz_jwt j;
    const uint64_t now = mz_clock->wall_us() / 1000000;
    enum mz_jwt_status st = mz_jwt_parse(token, a, &j);
    const struct mz_jwks *keys = NULL;
    if (st == MZ_JWT_OK)
        keys = mz_str_eq(j.iss, MZ_STR(TOKEN_ISSUER))                   ? t->own
               : t->other && t->issuer.n && mz_str_eq(j.iss, t->issuer) ? t->other
                                                                        : NULL;
    if (st == MZ_JWT_OK && !keys)
        st = MZ_JWT_ISSUER_UNKNOWN;
    if (st == MZ_JWT_OK)
        st = mz_jwks_verify(keys, &j);
    if (st == MZ_JWT_OK)
        st = mz_jwt_check_time(&j, now, SKEW_S);
    if (st != MZ_JWT_OK)
        return mz_err_set(err, "%s", mz_jwt_status_text(st));
    if (!j.exp.set)
        return mz_err_set(err, "the token never expires");
    if (!has_audience(&j))
        return mz_err_set(err, "%s", mz_jwt_status_text(MZ_JWT_AUDIENCE));
    return take_account(&j, out, err);
}
