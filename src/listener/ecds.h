#ifndef MZ_LISTENER_ECDS_H
#define MZ_LISTENER_ECDS_H
/*
 * Filters by subscription (ECDS, X1): a place in a chain of HTTP, network or listener filters is filled by the configuration
 * that came last under the filter's name. Each place builds an object of its own from it, since filters of different listeners
 * count and wait apart; each thread sees the one that it was given last. What began with one goes on with it, by reference.
 *
 * An update that one of its places cannot take (type, position, content) is refused for all of them. After a removal, and
 * where a place cannot take what came before it, the default serves, or nothing: HTTP answers 500, connections are closed.
 */
#include "listener/factory.h"
#include "xds/init.h"
#include "xds/subscription.h"

struct Envoy__Config__Core__V3__ExtensionConfigSource;
struct mz_ecds; /* every subscription of the process; main thread */
struct mz_ecds *mz_ecds_create(struct mz_xds *x);
void mz_ecds_destroy(struct mz_ecds *e); /* after every place; NULL is fine */

struct mz_extension_type { /* what all kinds of filters have */
    const void *type;      /* of the kind: struct mz_net_filter_type ... */
    const char *name;
    bool terminal;
    void *(*config_build)(const void *msg, const struct mz_factory *f, struct mz_err *err); /* NULL: it has none */
    void (*config_destroy)(void *cfg);
};
struct mz_extension_kind {
    const char *stat;  /* "http_filter" */
    const char *chain; /* "http", for errors; NULL: there are no terminal ones */
    bool (*find)(const struct mz_factory *f, struct mz_str config_type, struct mz_extension_type *out);
};
extern const struct mz_extension_kind mz_extension_network, mz_extension_listener;

struct mz_extension { /* immutable, counted by atomics */
    unsigned refs;
    struct mz_extension_type type;
    void *cfg;
};
const struct mz_extension *mz_extension_ref(const struct mz_extension *x);
void mz_extension_unref(const struct mz_extension *x); /* any thread; NULL is fine */

struct mz_ecds_place;
/* Main thread. @last: of its chain. What the place waits for is added to f->init, @f's services are kept. */
struct mz_ecds_place *mz_ecds_place_create(const struct Envoy__Config__Core__V3__ExtensionConfigSource *m, struct mz_str name,
                                           const struct mz_extension_kind *kind, bool last, const struct mz_factory *f,
                                           struct mz_err *err);
void mz_ecds_place_destroy(struct mz_ecds_place *p); /* any thread; NULL is fine */
/* This thread's, borrowed until the callback ends; NULL: there is none. */
const struct mz_extension *mz_ecds_place_get(const struct mz_ecds_place *p);

struct mz_ecds_shown { /* for /config_dump */
    struct mz_str name, version, bytes; /* of the TypedExtensionConfig; bytes "": nothing came yet */
    uint64_t updated_wall_us;
};
/* Of one kind, by mz_extension_kind.stat. */
void mz_ecds_each(struct mz_ecds *e, const char *stat, void (*fn)(void *arg, const struct mz_ecds_shown *s), void *arg);
#endif
