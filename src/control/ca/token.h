#ifndef MZ_CONTROL_CA_TOKEN_H
#define MZ_CONTROL_CA_TOKEN_H
/*
 * Tokens of service accounts (C8), as Kubernetes writes them: who calls without a certificate shows one. Issuers are those whose
 * keys are here: our own, whose tokens `mizzend --mode token` makes, and one more by its set of keys (a Kubernetes API server's).
 * Main thread.
 */
#include "control/ca/review.h"

#define TOKEN_ISSUER   "mizzend"
#define TOKEN_AUDIENCE "istio-ca"
#define TOKEN_MAX_TTL_S (30 * 86400)
struct mz_tokens;
struct mz_tokens_opts {
    const char *dir;    /* of the authority: the key is token-key.pem; NULL: lasts as long as the process */
    const char *issuer; /* another issuer's `iss`, with `jwks`; NULL: none */
    const char *jwks;   /* file with its keys */
};
struct mz_tokens *mz_tokens_create(const struct mz_tokens_opts *o, struct mz_err *err); /* NULL and @err */
void mz_tokens_destroy(struct mz_tokens *t); /* NULL is fine */
struct mz_str mz_tokens_make(struct mz_tokens *t, struct mz_account who, uint64_t ttl_s, struct mz_arena *a);
/* Signature, issuer, audience, times (an expiry is required), subject "system:serviceaccount:NS:NAME". */
bool mz_tokens_check(const struct mz_tokens *t, struct mz_str token, struct mz_arena *a, struct mz_account *out, struct mz_err *err);
struct mz_reviewer *mz_tokens_reviewer(struct mz_tokens *t); /* the same check; borrowed */
#endif
