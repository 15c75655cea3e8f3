#ifndef MZ_CONTROL_KEYS_KEYS_H
#define MZ_CONTROL_KEYS_KEYS_H
/*
 * Keys of JWT rules that only say where they are (C10): fetched from jwksUri, or from where the issuer's OpenID configuration says,
 * and put into the store as documents (MZ_KIND_KEYS), so that proxies get them inline. Nothing waits for it: until the keys are
 * here, tokens of that issuer are refused. Then they are looked at again every 20 minutes; what cannot be fetched stays as it was
 * for a week. An answer that is not a set of keys never reaches anybody, so a URL cannot be used to read what it leads to.
 * Main thread.
 */
#include "base/buf.h"
#include "control/model/model.h"
#include "event/loop.h"

struct mz_keys;
struct mz_keys_opts {
    bool off;            /* proxies fetch them: PILOT_JWT_ENABLE_REMOTE_JWKS=envoy */
    uint64_t refresh_ms; /* PILOT_JWT_PUB_KEY_REFRESH_INTERVAL, 20 minutes */
    const char *blocked; /* BLOCKED_CIDRS_IN_JWKS_URIS: ranges that are not dialled */
    const char *dir;     /* the last good answers are kept here; NULL: nowhere */
};
struct mz_keys_opts mz_keys_opts_from_env(const char *dir); /* before threads start */
struct mz_keys *mz_keys_create(struct mz_loop *l, struct mz_store *s, const struct mz_keys_opts *o);
void mz_keys_stop(struct mz_keys *k);    /* before the loop goes; NULL is fine */
void mz_keys_destroy(struct mz_keys *k); /* after it; NULL is fine */
void mz_keys_look(struct mz_keys *k, const struct mz_model *m); /* which keys the rules of now want; commits later, not from inside */
void mz_keys_metrics(const struct mz_keys *k, struct mz_buf *out);
#endif
