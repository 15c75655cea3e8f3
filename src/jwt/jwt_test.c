#include "jwt/jwt_priv.h"

#include "base/base64.h"
#include "base/test.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

/* Keys are made here, so that every algorithm is tried in both directions. */
static struct mz_arena *arena;
static EVP_PKEY *rsa, *rsa2, *ec[3], *ed;
static const char *const curve_names[] = { "P-256", "P-384", "P-521" };
static const size_t halves[] = { 32, 48, 66 };
#define SECRET "0123456789abcdef0123456789abcdef"

static struct mz_str b64(struct mz_str bytes)
{
    struct mz_str s = mz_base64_encode(bytes, arena);
    char *p = (char *)(uintptr_t)s.p;
    while (s.n && p[s.n - 1] == '=')
        s.n--;
    for (size_t i = 0; i < s.n; i++)
        p[i] = p[i] == '+' ? '-' : p[i] == '/' ? '_' : p[i];
    p[s.n] = 0;
    return s;
}

static struct mz_str b64_c(const char *s)
{
    return b64(mz_str_c(s));
}

static struct mz_str der_to_raw(struct mz_str der, size_t half)
{
    const unsigned char *p = (const unsigned char *)der.p;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
    unsigned char *out = mz_arena_alloc(arena, 2 * half);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, (int)half);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + half, (int)half);
    ECDSA_SIG_free(sig);
    return (struct mz_str){ (char *)out, 2 * half };
}

static struct mz_str signature(const struct jwt_alg *alg, EVP_PKEY *key, struct mz_str text)
{
    unsigned char *out = mz_arena_alloc(arena, 2048);
    size_t n = 2048;
    if (alg->type == KEY_OCT) {
        unsigned len = 0;
        assert_non_null(HMAC(alg->md(), SECRET, (int)strlen(SECRET), (const unsigned char *)text.p,
                             text.n, out, &len));
        return (struct mz_str){ (char *)out, len };
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx;
    assert_int_equal(EVP_DigestSignInit(ctx, &pctx, alg->md ? alg->md() : NULL, NULL, key), 1);
    if (alg->pss)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
    if (alg->pss)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 1);
    assert_int_equal(EVP_DigestSign(ctx, out, &n, (const unsigned char *)text.p, text.n), 1);
    EVP_MD_CTX_free(ctx);
    struct mz_str sig = { (char *)out, n };
    return alg->type == KEY_EC ? der_to_raw(sig, alg->half) : sig;
}

static const struct jwt_alg *alg_of(const char *name)
{
    for (size_t i = 0; i < jwt_algs_n; i++)
        if (mz_str_eq(jwt_algs[i].name, mz_str_c(name)))
            return &jwt_algs[i];
    abort();
}

static EVP_PKEY *key_of(const struct jwt_alg *alg)
{
    switch (alg->type) {
    case KEY_RSA:
        return rsa;
    case KEY_EC:
        return alg->half == 32 ? ec[0] : alg->half == 48 ? ec[1] : ec[2];
    default:
        return ed;
    }
}

/* The header says @header, the signature is by @alg. */
static struct mz_str token_of(const char *header, const char *payload, const char *alg)
{
    const struct jwt_alg *a = alg_of(alg);
    struct mz_str text =
        mz_arena_cat(arena, 3, (struct mz_str[]){ b64_c(header), MZ_STR("."), b64_c(payload) });
    return mz_arena_cat(arena, 3,
                        (struct mz_str[]){ text, MZ_STR("."), b64(signature(a, key_of(a), text)) });
}

static struct mz_str good_token(const char *alg)
{
    return token_of(mz_arena_printf(arena, "{\"alg\":\"%s\"}", alg).p, "{\"iss\":\"i\"}", alg);
}

static struct mz_str bn_text(const EVP_PKEY *k, const char *name)
{
    BIGNUM *n = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(k, name, &n), 1);
    unsigned char *out = mz_arena_alloc(arena, 2048);
    int len = BN_bn2bin(n, out);
    BN_free(n);
    return b64((struct mz_str){ (char *)out, (size_t)len });
}

static const char *rsa_jwk(const EVP_PKEY *k, const char *more)
{
    return mz_arena_printf(arena, "{\"kty\":\"RSA\",\"n\":\"" MZ_STR_FMT "\",\"e\":\"AQAB\"%s}",
                           MZ_STR_ARG(bn_text(k, OSSL_PKEY_PARAM_RSA_N)), more)
        .p;
}

static const char *ec_jwk(size_t curve, const char *more)
{
    unsigned char pub[200];
    size_t n = 0, half = halves[curve];
    assert_int_equal(
        EVP_PKEY_get_octet_string_param(ec[curve], OSSL_PKEY_PARAM_PUB_KEY, pub, sizeof(pub), &n),
        1);
    assert_int_equal(n, 1 + 2 * half);
    struct mz_str x = b64((struct mz_str){ (char *)pub + 1, half });
    struct mz_str y = b64((struct mz_str){ (char *)pub + 1 + half, half });
    return mz_arena_printf(arena,
                           "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"" MZ_STR_FMT
                           "\",\"y\":\"" MZ_STR_FMT "\"%s}",
                           curve_names[curve], MZ_STR_ARG(x), MZ_STR_ARG(y), more)
        .p;
}

static const char *oct_jwk(const char *more)
{
    return mz_arena_printf(arena, "{\"kty\":\"oct\",\"k\":\"" MZ_STR_FMT "\"%s}",
                           MZ_STR_ARG(b64_c(SECRET)), more)
        .p;
}

static const char *ed_jwk(const char *more)
{
    unsigned char pub[32];
    size_t n = sizeof(pub);
    assert_int_equal(EVP_PKEY_get_raw_public_key(ed, pub, &n), 1);
    return mz_arena_printf(arena,
                           "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" MZ_STR_FMT "\"%s}",
                           MZ_STR_ARG(b64((struct mz_str){ (char *)pub, n })), more)
        .p;
}

static struct mz_jwks *set_of(const char *a, const char *b)
{
    enum mz_jwt_status s = MZ_JWT_OK;
    struct mz_str text = mz_arena_printf(arena, "{\"keys\":[%s%s%s]}", a, b ? "," : "", b ? b : "");
    struct mz_jwks *k = mz_jwks_create(text, &s);
    if (!k)
        fail_msg("%s", mz_jwt_status_text(s));
    return k;
}

static enum mz_jwt_status verify(struct mz_jwks *set, struct mz_str token)
{
    struct mz_jwt j;
    enum mz_jwt_status s = mz_jwt_parse(token, arena, &j);
    return s == MZ_JWT_OK ? mz_jwks_verify(set, &j) : s;
}

static enum mz_jwt_status verify_once(struct mz_jwks *take, struct mz_str token)
{
    enum mz_jwt_status s = verify(take, token);
    mz_jwks_unref(take);
    return s;
}

static struct mz_jwks *all_keys(void)
{
    const char *both = mz_arena_printf(arena, "%s,%s,%s,%s", ec_jwk(0, ""), ec_jwk(1, ""),
                                       ec_jwk(2, ""), ed_jwk(""))
                           .p;
    return set_of(mz_arena_printf(arena, "%s,%s", rsa_jwk(rsa, ""), oct_jwk("")).p, both);
}

static void test_every_algorithm(void **state)
{
    (void)state;
    struct mz_jwks *set = all_keys();
    for (size_t i = 0; i < jwt_algs_n; i++) {
        struct mz_str good = good_token(jwt_algs[i].name.p);
        if (verify(set, good) != MZ_JWT_OK)
            fail_msg("%s", jwt_algs[i].name.p);
        for (size_t j = 0; j < jwt_algs_n; j++) { /* G01: signed by one, called another */
            if (i == j)
                continue;
            struct mz_str lie =
                token_of(mz_arena_printf(arena, "{\"alg\":\"%s\"}", jwt_algs[j].name.p).p, "{}",
                         jwt_algs[i].name.p);
            enum mz_jwt_status s = verify(set, lie);
            if (s != MZ_JWT_VERIFICATION && s != MZ_JWT_ED25519_LENGTH)
                fail_msg("%s as %s: %d", jwt_algs[i].name.p, jwt_algs[j].name.p, (int)s);
        }
    }
    mz_jwks_unref(set);
}

static void test_rfc7515_a1(void **state)
{
    (void)state;
    struct mz_jwks *set = set_of("{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQ"
                                 "Lr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\"}",
                                 NULL);
    struct mz_str token =
        MZ_STR("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
               "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb2"
               "90Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    struct mz_jwt j;
    assert_int_equal(mz_jwt_parse(token, arena, &j), MZ_JWT_OK);
    assert_true(mz_str_eq(j.iss, MZ_STR("joe")));
    assert_int_equal(j.exp.s, 1300819380);
    assert_int_equal(verify_once(set, token), MZ_JWT_OK);
}

/* G01: the public key as the secret of an HMAC, as text or as bytes. */
static void test_g01_public_key_is_no_secret(void **state)
{
    (void)state;
    struct mz_jwks *set = set_of(rsa_jwk(rsa, ",\"kid\":\"k\""), NULL);
    struct mz_str text = mz_arena_cat(
        arena, 3,
        (struct mz_str[]){ b64_c("{\"alg\":\"HS256\",\"kid\":\"k\"}"), MZ_STR("."), b64_c("{}") });
    unsigned char *der = NULL, mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int len = i2d_PUBKEY(rsa, &der);
    assert_non_null(HMAC(EVP_sha256(), der, len, (const unsigned char *)text.p, text.n, mac, &n));
    OPENSSL_free(der);
    struct mz_str sig = b64((struct mz_str){ (char *)mac, n });
    assert_int_equal(
        verify_once(set, mz_arena_cat(arena, 3, (struct mz_str[]){ text, MZ_STR("."), sig })),
        MZ_JWT_VERIFICATION);
}

static void test_g01_kid_and_alg_choose_keys(void **state)
{
    (void)state;
    static const struct {
        const char *key_more, *header;
        enum mz_jwt_status status;
    } cases[] = {
        { ",\"kid\":\"a\"", "{\"alg\":\"RS256\",\"kid\":\"a\"}", MZ_JWT_OK },
        { ",\"kid\":\"a\"", "{\"alg\":\"RS256\"}", MZ_JWT_OK },
        { "", "{\"alg\":\"RS256\",\"kid\":\"a\"}", MZ_JWT_OK },
        { ",\"kid\":\"a\"", "{\"alg\":\"RS256\",\"kid\":\"b\"}", MZ_JWT_JWKS_NO_MATCH },
        { ",\"kid\":\"a\"", "{\"alg\":\"RS256\",\"kid\":\"A\"}", MZ_JWT_JWKS_NO_MATCH },
        { ",\"kid\":1", "{\"alg\":\"RS256\",\"kid\":\"b\"}", MZ_JWT_OK },
        { ",\"alg\":\"RS256\"", "{\"alg\":\"RS256\"}", MZ_JWT_OK },
        { ",\"alg\":\"RS512\"", "{\"alg\":\"RS256\"}", MZ_JWT_JWKS_NO_MATCH },
        { ",\"use\":\"sig\",\"key_ops\":[\"verify\"]", "{\"alg\":\"RS256\"}", MZ_JWT_OK },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str token = token_of(cases[i].header, "{}", "RS256");
        enum mz_jwt_status s = verify_once(set_of(rsa_jwk(rsa, cases[i].key_more), NULL), token);
        if (s != cases[i].status)
            fail_msg("%s %s: %d", cases[i].key_more, cases[i].header, (int)s);
    }
}

/* G08: two keys of one kid are both tried. */
static void test_g08_duplicate_kid(void **state)
{
    (void)state;
    struct mz_jwks *set = set_of(rsa_jwk(rsa2, ",\"kid\":\"a\""), rsa_jwk(rsa, ",\"kid\":\"a\""));
    assert_int_equal(verify_once(set, token_of("{\"alg\":\"RS256\",\"kid\":\"a\"}", "{}", "RS256")),
                     MZ_JWT_OK);
}

static void test_g02_signatures(void **state)
{
    (void)state;
    struct mz_jwks *set = all_keys();
    static const char *const algs[] = { "RS256", "PS512", "ES256", "ES512", "HS384", "EdDSA" };
    for (size_t i = 0; i < MZ_COUNT(algs); i++) {
        struct mz_str good = good_token(algs[i]), other = token_of("{}", "{}", algs[i]);
        ptrdiff_t dot = mz_str_rchr(good, '.');
        for (size_t cut = 1; cut < good.n - (size_t)dot; cut += 7)
            assert_int_not_equal(verify(set, (struct mz_str){ good.p, good.n - cut }), MZ_JWT_OK);
        for (size_t at = 0; at < good.n; at += 3) { /* any change of any character but the dots */
            struct mz_str bad = mz_arena_dup(arena, good);
            char *c = (char *)(uintptr_t)bad.p + at;
            if (*c == '.')
                continue;
            *c = *c == 'A' ? 'B' : 'A';
            if (verify(set, bad) == MZ_JWT_OK)
                fail_msg("%s: %s at %zu", algs[i], bad.p, at);
        }
        struct mz_str swapped =
            mz_arena_cat(arena, 2,
                         (struct mz_str[]){ { good.p, (size_t)dot },
                                            mz_str_skip(other, (size_t)mz_str_rchr(other, '.')) });
        assert_int_not_equal(verify(set, swapped), MZ_JWT_OK);
        struct mz_str longer = mz_arena_cat(arena, 2, (struct mz_str[]){ good, MZ_STR("AAAA") });
        assert_int_not_equal(verify(set, longer), MZ_JWT_OK);
    }
    mz_jwks_unref(set);
}

/* ---- forms ---- */

static void test_g02_g05_forms(void **state)
{
    (void)state;
    static const char h[] = "eyJhbGciOiJIUzI1NiJ9"; /* {"alg":"HS256"} */
    static const struct {
        const char *token;
        enum mz_jwt_status status;
    } cases[] = {
        { "", MZ_JWT_BAD_FORM },
        { "a", MZ_JWT_BAD_FORM },
        { "a.b", MZ_JWT_BAD_FORM },
        { "a.b.c.d", MZ_JWT_BAD_FORM },
        { "%s.e30.", MZ_JWT_BAD_FORM },
        { ".%s.e30.AA", MZ_JWT_BAD_FORM },
        { "%s..AA", MZ_JWT_BAD_FORM },
        { "%s.e30.AA.", MZ_JWT_BAD_FORM },
        { ".e30.AA", MZ_JWT_BAD_FORM },
        { "%s.e30.AA", MZ_JWT_OK },
        { "%s.e30.AA==", MZ_JWT_OK },
        { "%s.e30=.AA", MZ_JWT_OK },
        { "%s.e30.=", MZ_JWT_SIGNATURE_BASE64 }, /* padding alone */
        { "%s.e30 .AA", MZ_JWT_PAYLOAD_BASE64 },
        { "%s.e3+.AA", MZ_JWT_PAYLOAD_BASE64 },
        { "%s.e31.AA", MZ_JWT_PAYLOAD_BASE64 }, /* a stray bit */
        { "%s.e3t9.AA", MZ_JWT_PAYLOAD_JSON },
        { "%s.e30.AB", MZ_JWT_SIGNATURE_BASE64 },
        { "%s.e30.A", MZ_JWT_SIGNATURE_BASE64 },
        { "%s.W10.AA", MZ_JWT_PAYLOAD_JSON }, /* [] */
        { "W10.e30.AA", MZ_JWT_HEADER_JSON },
        { "!.e30.AA", MZ_JWT_HEADER_BASE64 },
    };
    struct mz_jwt j;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const char *mark = strstr(cases[i].token, "%s");
        struct mz_str t = mz_str_c(cases[i].token);
        if (mark)
            t = mz_arena_cat(arena, 3,
                             (struct mz_str[]){
                                 { t.p, (size_t)(mark - t.p) }, mz_str_c(h), mz_str_c(mark + 2) });
        enum mz_jwt_status s = mz_jwt_parse(t, arena, &j);
        if (s != cases[i].status)
            fail_msg("%s: %d", cases[i].token, (int)s);
    }
    char *junk = malloc(300u << 10);
    memset(junk, 'A', 300u << 10);
    assert_int_equal(mz_jwt_parse((struct mz_str){ junk, 10000 }, arena, &j), MZ_JWT_BAD_FORM);
    junk[5] = junk[10] = '.'; /* form is right, too long */
    assert_int_equal(mz_jwt_parse((struct mz_str){ junk, 300u << 10 }, arena, &j), MZ_JWT_BAD_FORM);
    free(junk);
}

static enum mz_jwt_status parse_of(const char *header, const char *payload)
{
    struct mz_jwt j;
    return mz_jwt_parse(mz_arena_cat(arena, 4,
                                     (struct mz_str[]){ b64_c(header), MZ_STR("."), b64_c(payload),
                                                        MZ_STR(".AA") }),
                        arena, &j);
}

static void test_g04_types(void **state)
{
    (void)state;
    static const struct {
        const char *header, *payload; /* NULL: a good one */
        enum mz_jwt_status status;
    } cases[] = {
        { "{}", NULL, MZ_JWT_HEADER_ALG },
        { "{\"alg\":1}", NULL, MZ_JWT_HEADER_ALG },
        { "{\"alg\":\"none\"}", NULL, MZ_JWT_ALG_UNKNOWN }, /* G01 */
        { "{\"alg\":\"NONE\"}", NULL, MZ_JWT_ALG_UNKNOWN },
        { "{\"alg\":\"\"}", NULL, MZ_JWT_ALG_UNKNOWN },
        { "{\"alg\":\"hs256\"}", NULL, MZ_JWT_ALG_UNKNOWN },
        { "{\"alg\":\"HS256\",\"alg\":\"RS256\"}", NULL, MZ_JWT_HEADER_JSON },
        { "{\"alg\":\"HS256\",\"kid\":1}", NULL, MZ_JWT_HEADER_KID },
        { "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", NULL, MZ_JWT_HEADER_CRIT }, /* G07 */
        { "{\"alg\":\"HS256\",\"crit\":[],\"b64\":false}", NULL, MZ_JWT_HEADER_CRIT },
        { NULL, "{\"iss\":1}", MZ_JWT_ISS_TYPE },
        { NULL, "{\"sub\":null}", MZ_JWT_SUB_TYPE },
        { NULL, "{\"iat\":\"1\"}", MZ_JWT_IAT_TYPE },
        { NULL, "{\"iat\":-1}", MZ_JWT_IAT_RANGE },
        { NULL, "{\"nbf\":true}", MZ_JWT_NBF_TYPE },
        { NULL, "{\"nbf\":1e30}", MZ_JWT_NBF_RANGE },
        { NULL, "{\"exp\":\"1\"}", MZ_JWT_EXP_TYPE },
        { NULL, "{\"exp\":18446744073709551616}", MZ_JWT_EXP_RANGE },
        { NULL, "{\"exp\":1e400}", MZ_JWT_PAYLOAD_JSON },
        { NULL, "{\"x\":[{\"y\":-1e999}]}", MZ_JWT_PAYLOAD_JSON },
        { NULL, "{\"exp\":1,\"exp\":2}", MZ_JWT_PAYLOAD_JSON },
        { NULL, "{\"exp\":1.5}", MZ_JWT_OK },
        { NULL, "{\"jti\":{}}", MZ_JWT_JTI_TYPE },
        { NULL, "{\"aud\":1}", MZ_JWT_AUD_TYPE },
        { NULL, "{\"aud\":[\"a\",1]}", MZ_JWT_AUD_TYPE },
        { NULL, "{\"aud\":[]}", MZ_JWT_OK },
        { NULL, "{\"a\":\"\\ud800\"}", MZ_JWT_PAYLOAD_JSON },
        { NULL, "{} x", MZ_JWT_PAYLOAD_JSON },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const char *h = cases[i].header ? cases[i].header : "{\"alg\":\"HS256\"}";
        const char *p = cases[i].payload ? cases[i].payload : "{}";
        enum mz_jwt_status s = parse_of(h, p);
        if (s != cases[i].status)
            fail_msg("%s %s: %d", h, p, (int)s);
    }
}

static void test_g05_nesting(void **state)
{
    (void)state;
    static const int depths[] = { 95, 101, 20000 };
    for (size_t i = 0; i < MZ_COUNT(depths); i++) {
        size_t n = (size_t)depths[i];
        char *p = calloc(1, 6 * n + 8), *at = p;
        for (size_t k = 0; k < n; k++)
            at = stpcpy(at, "{\"a\":");
        at = stpcpy(at, "1");
        memset(at, '}', n);
        assert_int_equal(parse_of("{\"alg\":\"HS256\"}", p),
                         depths[i] < 100 ? MZ_JWT_OK : MZ_JWT_PAYLOAD_JSON);
        free(p);
    }
}

/* ---- claims ---- */

static void test_g03_time(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        uint64_t now;
        enum mz_jwt_status status;
    } cases[] = {
        { "{}", 1000, MZ_JWT_OK },
        { "{\"exp\":1000}", 1000, MZ_JWT_OK },
        { "{\"exp\":1000}", 1060, MZ_JWT_OK },
        { "{\"exp\":1000}", 1061, MZ_JWT_EXPIRED },
        { "{\"exp\":0}", 1000, MZ_JWT_EXPIRED },
        { "{\"nbf\":1000}", 940, MZ_JWT_OK },
        { "{\"nbf\":1000}", 939, MZ_JWT_NOT_YET_VALID },
        { "{\"exp\":1.8e19}", UINT64_MAX - 1, MZ_JWT_EXPIRED },
        { "{\"exp\":1.8446744073709549e19}", UINT64_MAX - 5000,
          MZ_JWT_OK }, /* no wrapping around */
        { "{\"nbf\":1.8446744073709549e19}", 1000, MZ_JWT_NOT_YET_VALID },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_jwt j;
        struct mz_str t = mz_arena_cat(arena, 4,
                                       (struct mz_str[]){ b64_c("{\"alg\":\"HS256\"}"), MZ_STR("."),
                                                          b64_c(cases[i].payload), MZ_STR(".AA") });
        assert_int_equal(mz_jwt_parse(t, arena, &j), MZ_JWT_OK);
        enum mz_jwt_status s = mz_jwt_check_time(&j, cases[i].now, 60);
        if (s != cases[i].status)
            fail_msg("%s at %llu: %d", cases[i].payload, (unsigned long long)cases[i].now, (int)s);
    }
}

static void test_audience_and_claims(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "a", "a" }, { "http://a", "a" }, { "https://a/", "a" },     { "a/", "a" },
        { "", "" },   { "http://", "" },   { "HTTP://a", "HTTP://a" }
    };
    for (size_t i = 0; i < MZ_COUNT(pairs); i++)
        assert_true(mz_str_eq(mz_jwt_audience(mz_str_c(pairs[i][0])), mz_str_c(pairs[i][1])));
    struct mz_err err;
    const struct mz_node *n = mz_tree_read(
        arena, MZ_STR("{\"a\":{\"b\":{\"c\":\"deep\"},\"d\":1},\"x.y\":2}"), MZ_TEXT_JSON, &err);
    assert_true(mz_str_eq(mz_jwt_claim(n, MZ_STR("a.b.c"))->text, MZ_STR("deep")));
    assert_int_equal(mz_jwt_claim(n, MZ_STR("a"))->kind, MZ_NODE_MAP);
    static const char *const none[] = { "", "b", "a.c", "a.d.e", "a.", ".a", "x.y", "a..b" };
    for (size_t i = 0; i < MZ_COUNT(none); i++)
        assert_null(mz_jwt_claim(n, mz_str_c(none[i])));
}

/* ---- sets ---- */

static void test_g08_sets(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mz_jwt_status status;
    } cases[] = {
        { "", MZ_JWT_JWKS_JSON },
        { "[]", MZ_JWT_JWKS_JSON },
        { "{", MZ_JWT_JWKS_JSON },
        { "{\"keys\":[],\"keys\":[]}", MZ_JWT_JWKS_JSON },
        { "{}", MZ_JWT_JWKS_NO_KEYS },
        { "{\"a\":\"b\"}", MZ_JWT_JWKS_NO_KEYS },
        { "{\"keys\":{}}", MZ_JWT_JWKS_KEYS_TYPE },
        { "{\"keys\":[]}", MZ_JWT_JWKS_NO_VALID_KEYS },
        { "{\"keys\":[1,\"a\"]}", MZ_JWT_JWKS_NO_VALID_KEYS },
        { "{\"keys\":[{}]}", MZ_JWT_JWK_KTY_MISSING },
        { "{\"keys\":[{\"kty\":1}]}", MZ_JWT_JWK_KTY_TYPE },
        { "{\"keys\":[{\"kty\":\"rsa\"}]}", MZ_JWT_JWK_KTY_UNKNOWN },
        { "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"HS256\"}]}", MZ_JWT_RSA_ALG },
        { "{\"keys\":[{\"kty\":\"RSA\"}]}", MZ_JWT_RSA_N_MISSING },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":1}]}", MZ_JWT_RSA_N_TYPE },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}", MZ_JWT_RSA_E_MISSING },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":1}]}", MZ_JWT_RSA_E_TYPE },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", MZ_JWT_JWK_RSA },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"}]}", MZ_JWT_JWK_RSA },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"+\",\"e\":\"AQAB\"}]}", MZ_JWT_JWK_RSA },
        { "{\"keys\":[{\"kty\":\"EC\",\"alg\":\"RS256\"}]}", MZ_JWT_EC_ALG },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":1}]}", MZ_JWT_EC_CRV_TYPE },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-192\"}]}", MZ_JWT_EC_UNKNOWN },
        { "{\"keys\":[{\"kty\":\"EC\",\"alg\":\"ES999\"}]}", MZ_JWT_EC_UNKNOWN },
        { "{\"keys\":[{\"kty\":\"EC\",\"alg\":\"ES256\",\"crv\":\"P-384\"}]}", MZ_JWT_EC_MISMATCH },
        { "{\"keys\":[{\"kty\":\"EC\"}]}", MZ_JWT_EC_X_MISSING },
        { "{\"keys\":[{\"kty\":\"EC\",\"x\":1}]}", MZ_JWT_EC_X_TYPE },
        { "{\"keys\":[{\"kty\":\"EC\",\"x\":\"AA\"}]}", MZ_JWT_EC_Y_MISSING },
        { "{\"keys\":[{\"kty\":\"EC\",\"x\":\"AA\",\"y\":1}]}", MZ_JWT_EC_Y_TYPE },
        { "{\"keys\":[{\"kty\":\"EC\",\"x\":\"+\",\"y\":\"AA\"}]}", MZ_JWT_JWK_EC_BASE64 },
        { "{\"keys\":[{\"kty\":\"EC\",\"x\":\"AA\",\"y\":\"AA\"}]}", MZ_JWT_JWK_EC },
        { "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"RS256\"}]}", MZ_JWT_OCT_ALG },
        { "{\"keys\":[{\"kty\":\"oct\"}]}", MZ_JWT_OCT_K_MISSING },
        { "{\"keys\":[{\"kty\":\"oct\",\"k\":1}]}", MZ_JWT_OCT_K_TYPE },
        { "{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}", MZ_JWT_JWK_OCT },
        { "{\"keys\":[{\"kty\":\"OKP\",\"alg\":\"ES256\"}]}", MZ_JWT_OKP_ALG },
        { "{\"keys\":[{\"kty\":\"OKP\"}]}", MZ_JWT_OKP_CRV_MISSING },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":1}]}", MZ_JWT_OKP_CRV_TYPE },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\"}]}", MZ_JWT_OKP_CRV_UNKNOWN },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}]}", MZ_JWT_OKP_X_MISSING },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":1}]}", MZ_JWT_OKP_X_TYPE },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"!\"}]}", MZ_JWT_JWK_OKP_BASE64 },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
          MZ_JWT_JWK_OKP_LENGTH },
        { "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"use\":\"enc\"}]}",
          MZ_JWT_JWK_NOT_FOR_SIGNATURES },
        { "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"key_ops\":[\"sign\"]}]}",
          MZ_JWT_JWK_NOT_FOR_SIGNATURES },
        { "{\"a\":\"-----BEGIN CERTIFICATE-----\\nx\\n-----END CERTIFICATE-----\\n\"}",
          MZ_JWT_X509 },
        { "{\"a\":\"-----BEGIN CERTIFICATE-----\\nx\\n-----END CERTIFICATE-----\"}",
          MZ_JWT_JWKS_NO_KEYS },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        enum mz_jwt_status s = MZ_JWT_OK;
        assert_null(mz_jwks_create(mz_str_c(cases[i].text), &s));
        if (s != cases[i].status)
            fail_msg("%s: %d", cases[i].text, (int)s);
    }
}

static void test_g08_bounds(void **state)
{
    (void)state;
    enum mz_jwt_status s = MZ_JWT_OK;
    size_t n = 10u << 20;
    char *big = malloc(n);
    memset(big, ' ', n);
    assert_null(mz_jwks_create((struct mz_str){ big, n }, &s));
    assert_int_equal(s, MZ_JWT_JWKS_TOO_LARGE);
    char *at = stpcpy(big, "{\"keys\":[0");
    for (unsigned i = 0; i < MZ_JWKS_MAX_KEYS; i++)
        at = stpcpy(at, ",0");
    at = stpcpy(at, "]}");
    assert_null(mz_jwks_create((struct mz_str){ big, (size_t)(at - big) }, &s));
    assert_int_equal(s, MZ_JWT_JWKS_TOO_MANY_KEYS);
    free(big);
}

/* G08: exponents and sizes with which a signature proves nothing; an even modulus; a point beside its curve. */
static void test_g08_weak_keys(void **state)
{
    (void)state;
    enum mz_jwt_status s;
    static const char *const exponents[] = { "AQ", "AA", "Ag", "Aw", "AQAB", "AQAA" };
    for (size_t i = 0; i < MZ_COUNT(exponents); i++) {
        struct mz_str text = mz_arena_printf(
            arena, "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" MZ_STR_FMT "\",\"e\":\"%s\"}]}",
            MZ_STR_ARG(bn_text(rsa, OSSL_PKEY_PARAM_RSA_N)), exponents[i]);
        struct mz_jwks *k = mz_jwks_create(text, &s);
        assert_int_equal(k != NULL, !strcmp(exponents[i], "Aw") || !strcmp(exponents[i], "AQAB"));
        mz_jwks_unref(k);
    }
    static const struct {
        size_t bytes;
        unsigned char last;
    } moduli[] = { { 64, 0xff }, { 127, 0xff }, { 256, 0xfe }, { 1025, 0xff }, { 5000, 0xff } };
    for (size_t i = 0; i < MZ_COUNT(moduli); i++) {
        char *bytes = mz_arena_alloc(arena, moduli[i].bytes);
        memset(bytes, 0xff, moduli[i].bytes);
        bytes[moduli[i].bytes - 1] = (char)moduli[i].last;
        struct mz_str text = mz_arena_printf(
            arena, "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" MZ_STR_FMT "\",\"e\":\"AQAB\"}]}",
            MZ_STR_ARG(b64((struct mz_str){ bytes, moduli[i].bytes })));
        assert_null(mz_jwks_create(text, &s));
        assert_int_equal(s, MZ_JWT_JWK_RSA);
    }
    struct mz_str off = mz_str_c(ec_jwk(0, ""));
    char *y = strstr((char *)(uintptr_t)off.p, "\"y\":\"") + 5;
    *y = *y == 'A' ? 'B' : 'A';
    assert_null(mz_jwks_create(mz_arena_printf(arena, "{\"keys\":[%s]}", off.p), &s));
    assert_int_equal(s, MZ_JWT_JWK_EC);
}

/* A bad key among good ones is left out. */
static void test_bad_keys_are_left_out(void **state)
{
    (void)state;
    struct mz_jwks *set = set_of("{\"kty\":\"RSA\"},{\"kty\":\"later\"}", rsa_jwk(rsa, ""));
    assert_int_equal(mz_jwks_count(set), 1);
    assert_int_equal(verify_once(mz_jwks_ref(set), good_token("PS256")), MZ_JWT_OK);
    mz_jwks_unref(set);
}

static const char *pem_of(EVP_PKEY *k)
{
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 1000);
    X509_set_pubkey(x, k);
    assert_true(X509_sign(x, k, EVP_sha256()) > 0);
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, x);
    char *p;
    long n = BIO_get_mem_data(b, &p);
    char *out = mz_arena_alloc(arena, 2 * (size_t)n + 1), *to = out;
    for (long i = 0; i < n; i++)
        to = p[i] == '\n' ? stpcpy(to, "\\n") : (*to++ = p[i], to);
    *to = 0;
    BIO_free(b);
    X509_free(x);
    return out;
}

static void test_certificates(void **state)
{
    (void)state;
    enum mz_jwt_status s = MZ_JWT_OK;
    struct mz_jwks *set = mz_jwks_create(
        mz_arena_printf(arena, "{\"a\":\"%s\",\"b\":\"%s\"}", pem_of(rsa2), pem_of(rsa)), &s);
    assert_non_null(set);
    assert_int_equal(verify(set, token_of("{\"alg\":\"RS256\",\"kid\":\"b\"}", "{}", "RS256")),
                     MZ_JWT_OK);
    assert_int_equal(verify(set, token_of("{\"alg\":\"RS256\",\"kid\":\"a\"}", "{}", "RS256")),
                     MZ_JWT_VERIFICATION);
    assert_int_equal(verify(set, good_token("HS256")), MZ_JWT_VERIFICATION);
    mz_jwks_unref(set);
    assert_null(mz_jwks_create(mz_arena_printf(arena, "{\"a\":\"%s\"}", pem_of(ec[0])), &s));
    assert_int_equal(s, MZ_JWT_X509_KEY);
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_MISC);
    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    rsa2 = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    for (size_t i = 0; i < 3; i++)
        ec[i] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve_names[i]);
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return rsa && rsa2 && ec[0] && ec[1] && ec[2] && ed ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(rsa2);
    for (size_t i = 0; i < 3; i++)
        EVP_PKEY_free(ec[i]);
    EVP_PKEY_free(ed);
    mz_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_every_algorithm),
        cmocka_unit_test(test_rfc7515_a1),
        cmocka_unit_test(test_g01_public_key_is_no_secret),
        cmocka_unit_test(test_g01_kid_and_alg_choose_keys),
        cmocka_unit_test(test_g02_signatures),
        cmocka_unit_test(test_g02_g05_forms),
        cmocka_unit_test(test_g03_time),
        cmocka_unit_test(test_g04_types),
        cmocka_unit_test(test_g05_nesting),
        cmocka_unit_test(test_g08_duplicate_kid),
        cmocka_unit_test(test_g08_sets),
        cmocka_unit_test(test_g08_bounds),
        cmocka_unit_test(test_g08_weak_keys),
        cmocka_unit_test(test_bad_keys_are_left_out),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_audience_and_claims),
    };
    return cmocka_run_group_tests_name("jwt", t, setup, teardown);
}
