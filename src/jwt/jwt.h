#ifndef MZ_JWT_JWT_H
#define MZ_JWT_JWT_H
/*
 * JSON Web Tokens (RFC 7519) signed as JWS in compact form (RFC 7515, 7518, 8037), and sets of keys (RFC 7517). Pure functions
 * over bytes: no I/O, no clock. OpenSSL stands behind this header and is not seen through it.
 *
 * What comes in is foreign: sizes, nesting and counts are bounded, and a token's cost does not depend on what it says of
 * itself, but for the algorithm. Stricter than the usual libraries where the RFCs are (attacks G01-G08): exactly two dots;
 * base64url without blanks or stray bits; no member twice; "crit" is refused, as no extension is known (RFC 7515, 4.1.11); a key
 * serves only algorithms of its own type and curve; ECDSA signatures have the size of their curve.
 */
#include "base/arena.h"
#include "base/str.h"
#include "proto/tree.h"

#define MZ_JWT_MAX_BYTES    (256u << 10) /* of a token */
#define MZ_JWKS_MAX_BYTES   (1u << 20)   /* of a set's text */
#define MZ_JWKS_MAX_KEYS    256
#define MZ_JWK_RSA_MIN_BITS 1024
#define MZ_JWK_RSA_MAX_BITS 8192

/* X(identifier, number, text). Numbers and texts are Envoy's (they are shown in metadata and answers); ours begin at 1000. */
#define MZ_JWT_STATUSES(X)                                                                         \
    X(OK, 0, "OK")                                                                                 \
    X(MISSING, 1, "Jwt is missing")                                                                \
    X(NOT_YET_VALID, 2, "Jwt not yet valid")                                                       \
    X(EXPIRED, 3, "Jwt is expired")                                                                \
    X(BAD_FORM, 4,                                                                                 \
      "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")           \
    X(HEADER_BASE64, 5, "Jwt header is an invalid Base64url encoded")                              \
    X(HEADER_JSON, 6, "Jwt header is an invalid JSON")                                             \
    X(HEADER_ALG, 7, "Jwt header [alg] field is required and must be a string")                    \
    X(ALG_UNKNOWN, 8, "Jwt header [alg] is not supported")                                         \
    X(HEADER_KID, 9, "Jwt header [kid] field is not a string")                                     \
    X(PAYLOAD_BASE64, 10, "Jwt payload is an invalid Base64url encoded")                           \
    X(PAYLOAD_JSON, 11, "Jwt payload is an invalid JSON")                                          \
    X(ISS_TYPE, 12, "Jwt payload [iss] field is not a string")                                     \
    X(SUB_TYPE, 13, "Jwt payload [sub] field is not a string")                                     \
    X(IAT_TYPE, 14, "Jwt payload [iat] field is not an integer")                                   \
    X(IAT_RANGE, 15, "Jwt payload [iat] field is not a positive 64 bit integer")                   \
    X(NBF_TYPE, 16, "Jwt payload [nbf] field is not an integer")                                   \
    X(NBF_RANGE, 17, "Jwt payload [nbf] field is not a positive 64 bit integer")                   \
    X(EXP_TYPE, 18, "Jwt payload [exp] field is not an integer")                                   \
    X(EXP_RANGE, 19, "Jwt payload [exp] field is not a positive 64 bit integer")                   \
    X(JTI_TYPE, 20, "Jwt payload [jti] field is not a string")                                     \
    X(AUD_TYPE, 21, "Jwt payload [aud] field is not a string or string list")                      \
    X(SIGNATURE_BASE64, 22, "Jwt signature is an invalid Base64url encoded")                       \
    X(ED25519_LENGTH, 23, "Jwt ED25519 signature is wrong length")                                 \
    X(ISSUER_UNKNOWN, 24, "Jwt issuer is not configured")                                          \
    X(AUDIENCE, 25, "Audiences in Jwt are not allowed")                                            \
    X(VERIFICATION, 26, "Jwt verification fails")                                                  \
    X(JWKS_JSON, 28, "Jwks is an invalid JSON")                                                    \
    X(JWKS_NO_KEYS, 29, "Jwks does not have [keys] field")                                         \
    X(JWKS_KEYS_TYPE, 30, "[keys] in Jwks is not an array")                                        \
    X(JWKS_NO_VALID_KEYS, 31, "Jwks doesn't have any valid public key")                            \
    X(JWKS_NO_MATCH, 32, "Jwks doesn't have key to match kid or alg from Jwt")                     \
    X(JWK_RSA, 33, "Jwks RSA [n] or [e] field is missing or has a parse error")                    \
    X(JWK_EC_BASE64, 35, "Jwks EC [x] or [y] field is an invalid Base64.")                         \
    X(JWK_EC, 36, "Jwks EC [x] and [y] fields have a parse error.")                                \
    X(JWK_OCT, 37, "Jwks Oct key is an invalid Base64")                                            \
    X(JWK_OKP_BASE64, 38, "Jwks OKP [x] field is an invalid Base64.")                              \
    X(JWK_OKP_LENGTH, 39, "Jwks OKP [x] field is wrong length.")                                   \
    X(JWKS_FETCH, 40, "Jwks remote fetch is failed")                                               \
    X(JWK_KTY_MISSING, 41, "[kty] is missing in [keys]")                                           \
    X(JWK_KTY_TYPE, 42, "[kty] is bad in [keys]")                                                  \
    X(JWK_KTY_UNKNOWN, 43, "[kty] is not supported in [keys]")                                     \
    X(RSA_ALG, 44, "[alg] is not started with [RS] or [PS] for an RSA key")                        \
    X(RSA_N_MISSING, 45, "[n] field is missing for a RSA key")                                     \
    X(RSA_N_TYPE, 46, "[n] field is not string for a RSA key")                                     \
    X(RSA_E_MISSING, 47, "[e] field is missing for a RSA key")                                     \
    X(RSA_E_TYPE, 48, "[e] field is not string for a RSA key")                                     \
    X(EC_ALG, 49, "[alg] is not started with [ES] for an EC key")                                  \
    X(EC_CRV_TYPE, 50, "[crv] field is not string for an EC key")                                  \
    X(EC_UNKNOWN, 51, "[crv] or [alg] field is not supported for an EC key")                       \
    X(EC_MISMATCH, 52, "[crv] field specified is not compatible with [alg] for an EC key")         \
    X(EC_X_MISSING, 53, "[x] field is missing for an EC key")                                      \
    X(EC_X_TYPE, 54, "[x] field is not string for an EC key")                                      \
    X(EC_Y_MISSING, 55, "[y] field is missing for an EC key")                                      \
    X(EC_Y_TYPE, 56, "[y] field is not string for an EC key")                                      \
    X(OCT_ALG, 57, "[alg] does not start with [HS] for an HMAC key")                               \
    X(OCT_K_MISSING, 58, "[k] field is missing for an HMAC key")                                   \
    X(OCT_K_TYPE, 59, "[k] field is not string for an HMAC key")                                   \
    X(OKP_ALG, 60, "[alg] is not [EdDSA] for an OKP key")                                          \
    X(OKP_CRV_MISSING, 61, "[crv] field is missing for an OKP key")                                \
    X(OKP_CRV_TYPE, 62, "[crv] field is not string for an OKP key")                                \
    X(OKP_CRV_UNKNOWN, 63, "[crv] field is not supported for an OKP key")                          \
    X(OKP_X_MISSING, 64, "[x] field is missing for an OKP key")                                    \
    X(OKP_X_TYPE, 65, "[x] field is not string for an OKP key")                                    \
    X(X509, 67, "X509 parse pubkey fails")                                                         \
    X(X509_KEY, 68, "X509 parse pubkey internal fails: get pubkey")                                \
    X(HEADER_CRIT, 1000, "Jwt header [crit] names an extension that is not supported")             \
    X(JWKS_TOO_LARGE, 1001, "Jwks is too large")                                                   \
    X(JWKS_TOO_MANY_KEYS, 1002, "Jwks has too many keys")                                          \
    X(JWK_NOT_FOR_SIGNATURES, 1003, "[use] or [key_ops] of the key exclude signatures")
enum mz_jwt_status {
#define X(id, number, text) MZ_JWT_##id = number,
    MZ_JWT_STATUSES(X)
#undef X
};
const char *mz_jwt_status_text(enum mz_jwt_status s); /* for answers; static */

/* ---- tokens ---- */
struct mz_jwt_time {
    bool set;
    uint64_t s; /* seconds since 1970, fractions cut off */
};
struct mz_jwt { /* views into the token and the arena that it was read with */
    struct mz_str header_text, payload_text,
        signed_text;         /* as in the token; the last is the first two with their dot */
    struct mz_str signature; /* decoded */
    const struct mz_node *header, *payload; /* objects; numbers are finite */
    uint8_t alg;                            /* private to this folder */
    struct mz_str kid, iss, sub, jti;       /* "" absent */
    struct mz_str *aud;
    size_t n_aud;
    struct mz_jwt_time iat, nbf, exp;
};
/* Reads a token and the types of its registered claims; verifies nothing. Borrows @token; @out is set also on failure, as far
 * as it went. */
enum mz_jwt_status mz_jwt_parse(struct mz_str token, struct mz_arena *a, struct mz_jwt *out);
/* nbf and exp against @now_s, with @skew_s to either side (RFC 7519, 4.1.4 and 4.1.5). */
enum mz_jwt_status mz_jwt_check_time(const struct mz_jwt *j, uint64_t now_s, uint64_t skew_s);
/* An audience without "http://" or "https://" in front and "/" behind: as which they are compared (Envoy). */
struct mz_str mz_jwt_audience(struct mz_str aud);
/* A member of @object by its path, names separated by dots ("a.b"); NULL: none. */
const struct mz_node *mz_jwt_claim(const struct mz_node *object, struct mz_str path);

/* ---- keys ---- */
struct mz_jwks; /* a set; immutable, shared by threads, counted */
/**
 * Reads a set: {"keys": [...]}, or an object of kid to PEM certificate with an RSA key. Keys that are not usable are left out;
 * when none is left the first one's fault is told. NULL with *out_status otherwise.
 * Not usable are also RSA keys of less than 1024 or more than 8192 bits or with another exponent than 3 and 65537, points off
 * their curve, keys whose "use" is not "sig" or whose "key_ops" lacks "verify" (RFC 7517, 4.2 and 4.3).
 */
struct mz_jwks *mz_jwks_create(struct mz_str text, enum mz_jwt_status *out_status);
struct mz_jwks *mz_jwks_ref(struct mz_jwks *k); /* any thread */
void mz_jwks_unref(struct mz_jwks *k);          /* any thread; NULL is fine */
size_t mz_jwks_count(const struct mz_jwks *k);
/* The signature: by the keys of the token's kid (all where either has none) whose alg is the token's (or absent). */
enum mz_jwt_status mz_jwks_verify(const struct mz_jwks *k, const struct mz_jwt *j);
#endif
