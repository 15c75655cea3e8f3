#ifndef MZ_TLS_SECRETS_PRIV_H
#define MZ_TLS_SECRETS_PRIV_H
#include "tls/secrets.h"
#include "tls/tls_priv.h"

struct secret;
enum secret_kind { SECRET_CERTIFICATE, SECRET_VALIDATION, SECRET_TICKETS };
struct secret_user { /* embedded in who uses one */
    struct mz_list link;
    struct secret *secret; /* NULL: of none */
    enum secret_kind kind;
    bool (*changed)(void *arg, struct mz_err *err); /* secret_message() is the new one; false: it cannot be used */
    void (*first)(void *arg);                       /* it came, or will not for now; once */
    void *arg;
};
/* Finds or subscribes. The subscription starts with secret_want(). */
bool secret_use(struct mz_secrets *s, const pb_SdsSecretConfig *m, enum secret_kind kind, struct secret_user *u,
                struct mz_err *err);
void secret_want(struct secret_user *u); /* first() may run from inside */
void secret_drop(struct secret_user *u);
/* Any thread that holds the user: the message now, in @a; NULL: not there. */
const pb_Secret *secret_message(const struct secret_user *u, struct mz_arena *a);
struct mz_str secret_name(const struct secret_user *u);
bool secret_there(const struct secret_user *u);
bool secret_is_dynamic(const struct secret_user *u); /* by subscription */
/* Of the bytes of all secrets, which secret_message() reads on any thread, and of what users make of them there. */
void secrets_lock(struct mz_secrets *s);
void secrets_unlock(struct mz_secrets *s);
bool *secrets_untried(struct mz_secrets *s); /* main thread: no context was made yet of the secret that changes */
struct mz_xds *secrets_xds(const struct mz_secrets *s);
struct mz_loop *secrets_loop(const struct mz_secrets *s);

/* sds.c */
bool context_names_secrets(const pb_CommonTlsContext *m);
struct mz_transport_factory *sds_factory_create(const ProtobufCMessage *context, bool server, const struct mz_tls_env *env,
                                                struct mz_err *err);
size_t sds_factory_alpn(const struct mz_transport_factory *f, const struct mz_str **out_protocols); /* 0: not of ours, or none */
#endif
