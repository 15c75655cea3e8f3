#ifndef MZ_CONTROL_CA_SERVING_H
#define MZ_CONTROL_CA_SERVING_H
/*
 * TLS of the control plane's own servers (15012, 15017): a certificate of the authority, clients may show one of theirs. Renewed
 * when half of its time is over and whenever the authority changes; connections that stand keep what they began with. Main thread.
 */
#include "control/ca/authority.h"
#include "net/transport.h"

struct mz_serving;
struct mz_serving_opts {
    const char *const *dns; /* NULL-terminated; borrowed */
    bool grpc;              /* ALPN "h2", else "http/1.1" */
};
struct mz_serving *mz_serving_create(struct mz_authority *a, const struct mz_serving_opts *o, struct mz_err *err);
void mz_serving_destroy(struct mz_serving *s); /* after its listeners; NULL is fine */
const struct mz_transport_factory *mz_serving_factory(const struct mz_serving *s); /* the same for ever */
void mz_serving_refresh(struct mz_serving *s, bool authority_changed);
#endif
