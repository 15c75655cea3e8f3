#include "jwt/jwt_priv.h"

#include "base/base64.h"

#include <math.h>
#include <stdlib.h>

const struct jwt_alg jwt_algs[] = {
    { MZ_STR_INIT("RS256"), KEY_RSA, false, 0, EVP_sha256 },
    { MZ_STR_INIT("RS384"), KEY_RSA, false, 0, EVP_sha384 },
    { MZ_STR_INIT("RS512"), KEY_RSA, false, 0, EVP_sha512 },
    { MZ_STR_INIT("PS256"), KEY_RSA, true, 0, EVP_sha256 },
    { MZ_STR_INIT("PS384"), KEY_RSA, true, 0, EVP_sha384 },
    { MZ_STR_INIT("PS512"), KEY_RSA, true, 0, EVP_sha512 },
    { MZ_STR_INIT("ES256"), KEY_EC, false, 32, EVP_sha256 },
    { MZ_STR_INIT("ES384"), KEY_EC, false, 48, EVP_sha384 },
    { MZ_STR_INIT("ES512"), KEY_EC, false, 66, EVP_sha512 },
    { MZ_STR_INIT("HS256"), KEY_OCT, false, 0, EVP_sha256 },
    { MZ_STR_INIT("HS384"), KEY_OCT, false, 0, EVP_sha384 },
    { MZ_STR_INIT("HS512"), KEY_OCT, false, 0, EVP_sha512 },
    { MZ_STR_INIT("EdDSA"), KEY_OKP, false, 0, NULL },
};
const size_t jwt_algs_n = MZ_COUNT(jwt_algs);

/* ---- members of objects ---- */

const struct mz_node *node_member(const struct mz_node *object, struct mz_str name)
{
    for (uint32_t i = 0; i < object->n; i++)
        if (mz_str_eq(object->pairs[i].key, name))
            return object->pairs[i].value;
    return NULL;
}

enum member node_text(const struct mz_node *object, const char *name, struct mz_str *out)
{
    const struct mz_node *n = node_member(object, mz_str_c(name));
    if (!n)
        return MEMBER_MISSING;
    if (n->kind != MZ_NODE_STR)
        return MEMBER_WRONG_TYPE;
    *out = n->text;
    return MEMBER_OK;
}

const struct mz_node *mz_jwt_claim(const struct mz_node *object, struct mz_str path)
{
    for (;;) {
        ptrdiff_t dot = mz_str_chr(path, '.');
        struct mz_str name = { path.p, dot < 0 ? path.n : (size_t)dot };
        const struct mz_node *n = node_member(object, name);
        if (dot < 0 || !n)
            return n;
        if (n->kind != MZ_NODE_MAP)
            return NULL;
        object = n;
        path = mz_str_skip(path, (size_t)dot + 1);
    }
}

/* ---- the three parts ---- */

/* Every number fits a double, as JSON of claims is read by everybody else (recursion: MZ_TREE_MAX_DEPTH). */
static bool numbers_finite(const struct mz_node *n)
{
    bool ok = n->kind != MZ_NODE_NUM || isfinite(strtod(n->text.p, NULL));
    for (uint32_t i = 0; ok && n->kind == MZ_NODE_LIST && i < n->n; i++)
        ok = numbers_finite(n->list[i]);
    for (uint32_t i = 0; ok && n->kind == MZ_NODE_MAP && i < n->n; i++)
        ok = numbers_finite(n->pairs[i].value);
    return ok;
}

static const struct mz_node *read_object(struct mz_str json, struct mz_arena *a)
{
    struct mz_err err;
    const struct mz_node *n = mz_tree_read(a, json, MZ_TEXT_JSON, &err);
    return n && n->kind == MZ_NODE_MAP && numbers_finite(n) ? n : NULL;
}

static enum mz_jwt_status header_read(struct mz_jwt *j, struct mz_arena *a)
{
    struct mz_str json, alg;
    if (!mz_base64url_decode(j->header_text, a, &json))
        return MZ_JWT_HEADER_BASE64;
    j->header = read_object(json, a);
    if (!j->header)
        return MZ_JWT_HEADER_JSON;
    if (node_text(j->header, "alg", &alg) != MEMBER_OK)
        return MZ_JWT_HEADER_ALG;
    while (j->alg < jwt_algs_n && !mz_str_eq(jwt_algs[j->alg].name, alg))
        j->alg++;
    if (j->alg == jwt_algs_n)
        return MZ_JWT_ALG_UNKNOWN;
    if (node_text(j->header, "kid", &j->kid) == MEMBER_WRONG_TYPE)
        return MZ_JWT_HEADER_KID;
    return node_member(j->header, MZ_STR("crit")) ? MZ_JWT_HEADER_CRIT : MZ_JWT_OK;
}

enum { TIME_OK, TIME_WRONG_TYPE, TIME_OUT_OF_RANGE };
static int time_read(const struct mz_jwt *j, const char *name, struct mz_jwt_time *out)
{
    const struct mz_node *n = node_member(j->payload, mz_str_c(name));
    if (!n)
        return TIME_OK;
    if (n->kind != MZ_NODE_NUM)
        return TIME_WRONG_TYPE;
    double d = strtod(n->text.p, NULL);
    if (!(d >= 0 && d < 18446744073709551615.0))
        return TIME_OUT_OF_RANGE;
    *out = (struct mz_jwt_time){ true, (uint64_t)d };
    return TIME_OK;
}

static bool audiences_read(struct mz_jwt *j, struct mz_arena *a)
{
    const struct mz_node *n = node_member(j->payload, MZ_STR("aud"));
    if (!n)
        return true;
    bool list = n->kind == MZ_NODE_LIST;
    if (!list && n->kind != MZ_NODE_STR)
        return false;
    size_t count = list ? n->n : 1;
    j->aud = mz_arena_alloc0(a, (count + 1) * sizeof(*j->aud));
    for (size_t i = 0; i < count; i++) {
        const struct mz_node *one = list ? n->list[i] : n;
        if (one->kind != MZ_NODE_STR)
            return false;
        j->aud[j->n_aud++] = one->text;
    }
    return true;
}

static enum mz_jwt_status claims_read(struct mz_jwt *j, struct mz_arena *a)
{
    if (node_text(j->payload, "iss", &j->iss) == MEMBER_WRONG_TYPE)
        return MZ_JWT_ISS_TYPE;
    if (node_text(j->payload, "sub", &j->sub) == MEMBER_WRONG_TYPE)
        return MZ_JWT_SUB_TYPE;
    struct {
        const char *name;
        struct mz_jwt_time *out;
        enum mz_jwt_status type, range;
    } const times[] = {
        { "iat", &j->iat, MZ_JWT_IAT_TYPE, MZ_JWT_IAT_RANGE },
        { "nbf", &j->nbf, MZ_JWT_NBF_TYPE, MZ_JWT_NBF_RANGE },
        { "exp", &j->exp, MZ_JWT_EXP_TYPE, MZ_JWT_EXP_RANGE },
    };
    for (size_t i = 0; i < MZ_COUNT(times); i++) {
        int r = time_read(j, times[i].name, times[i].out);
        if (r != TIME_OK)
            return r == TIME_WRONG_TYPE ? times[i].type : times[i].range;
    }
    if (node_text(j->payload, "jti", &j->jti) == MEMBER_WRONG_TYPE)
        return MZ_JWT_JTI_TYPE;
    return audiences_read(j, a) ? MZ_JWT_OK : MZ_JWT_AUD_TYPE;
}

static enum mz_jwt_status payload_read(struct mz_jwt *j, struct mz_arena *a)
{
    struct mz_str json;
    if (!mz_base64url_decode(j->payload_text, a, &json))
        return MZ_JWT_PAYLOAD_BASE64;
    j->payload = read_object(json, a);
    return j->payload ? claims_read(j, a) : MZ_JWT_PAYLOAD_JSON;
}

enum mz_jwt_status mz_jwt_parse(struct mz_str token, struct mz_arena *a, struct mz_jwt *out)
{
    *out = (struct mz_jwt){ 0 };
    ptrdiff_t first = mz_str_chr(token, '.'), last = mz_str_rchr(token, '.');
    if (token.n > MZ_JWT_MAX_BYTES || first <= 0 || last <= first + 1 ||
        (size_t)last + 1 == token.n)
        return MZ_JWT_BAD_FORM;
    out->header_text = (struct mz_str){ token.p, (size_t)first };
    out->payload_text = (struct mz_str){ token.p + first + 1, (size_t)(last - first) - 1 };
    out->signed_text = (struct mz_str){ token.p, (size_t)last };
    if (mz_str_chr(out->payload_text, '.') >= 0)
        return MZ_JWT_BAD_FORM;
    enum mz_jwt_status s = header_read(out, a);
    if (s == MZ_JWT_OK)
        s = payload_read(out, a);
    if (s == MZ_JWT_OK &&
        (!mz_base64url_decode(mz_str_skip(token, (size_t)last + 1), a, &out->signature) ||
         !out->signature.n)) /* padding alone */
        s = MZ_JWT_SIGNATURE_BASE64;
    return s;
}

/* ---- claims against the world ---- */

static uint64_t plus(uint64_t x, uint64_t y)
{
    return x > UINT64_MAX - y ? UINT64_MAX : x + y;
}

enum mz_jwt_status mz_jwt_check_time(const struct mz_jwt *j, uint64_t now_s, uint64_t skew_s)
{
    if (j->nbf.set && plus(now_s, skew_s) < j->nbf.s)
        return MZ_JWT_NOT_YET_VALID;
    return j->exp.set && now_s > plus(j->exp.s, skew_s) ? MZ_JWT_EXPIRED : MZ_JWT_OK;
}

struct mz_str mz_jwt_audience(struct mz_str aud)
{
    static const struct mz_str schemes[] = { MZ_STR_INIT("http://"), MZ_STR_INIT("https://") };
    for (size_t i = 0; i < MZ_COUNT(schemes); i++)
        if (mz_str_starts(aud, schemes[i])) {
            aud = mz_str_skip(aud, schemes[i].n);
            break;
        }
    if (aud.n && aud.p[aud.n - 1] == '/')
        aud.n--;
    return aud;
}
