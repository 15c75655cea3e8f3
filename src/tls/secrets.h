#ifndef MZ_TLS_SECRETS_H
#define MZ_TLS_SECRETS_H
/*
 * Secrets by name (T1, X1): those of the bootstrap and those by subscription (SDS), the latter one object for all that name the
 * same secret of the same source. A new one is taken only where every context that uses it can be built with it; so the one
 * of before goes on where it cannot. Files that a secret names are watched. Main thread.
 */
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include <stdbool.h>

struct mz_loop;
struct mz_xds;
struct mz_stats;
struct mz_secrets;
struct Envoy__Extensions__TransportSockets__Tls__V3__Secret;
struct mz_secrets *mz_secrets_create(struct mz_xds *x, struct mz_stats *st, struct mz_loop *main);
void mz_secrets_destroy(struct mz_secrets *s); /* after all factories that use it; NULL is fine */
/* Of the bootstrap. Error: a name twice. @m is copied. */
bool mz_secrets_add(struct mz_secrets *s, const struct Envoy__Extensions__TransportSockets__Tls__V3__Secret *m,
                    struct mz_err *err);

struct mz_secret_shown { /* for /config_dump; private keys are in @bytes: whoever shows them takes them out */
    struct mz_str name, version, bytes; /* bytes "": not there yet */
    uint64_t updated_wall_us;
    bool dynamic;
};
void mz_secrets_each(struct mz_secrets *s, void (*fn)(void *arg, const struct mz_secret_shown *v), void *arg);
#endif
