#ifndef MZ_HCM_RDS_H
#define MZ_HCM_RDS_H
/*
 * Route configurations by subscription (X1, X3): one object for all connection managers that name the same configuration of
 * the same source. Each thread sees the table that it was given last; a stream keeps the one that it began with.
 */
#include "base/list.h"
#include "base/map.h"
#include "route/route.h"
#include "upstream/on_demand.h"
#include "xds/init.h"
#include "xds/subscription.h"

struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__Rds;
struct mz_rds_manager; /* main thread */
struct mz_rds_manager *mz_rds_manager_create(struct mz_xds *x);
void mz_rds_manager_destroy(struct mz_rds_manager *m); /* after every configuration that uses it */

struct mz_map *mz_rds_manager_scoped(struct mz_rds_manager *m); /* of srds.c */
/* One reference more, where there is still one: an object that another thread is just giving up is not taken up again. */
bool mz_ref_take(unsigned *refs);

struct mz_rds;
/* One reference; the first one's stat prefix names the statistics http.<prefix>.rds.<name>. @f: what tables are built with; its
 * services are kept. */
struct mz_rds *mz_rds_get(struct mz_rds_manager *m,
                          const struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__Rds *rds,
                          struct mz_str stat_prefix, const struct mz_factory *f, const struct mz_route_filter_ops *ops,
                          struct mz_err *err);
/* One that stands in the configuration and whose virtual hosts come by subscription (vhds). @env is borrowed; its factory's
 * services are kept. An error has its path within the message. */
struct mz_rds *mz_rds_inline(struct mz_rds_manager *m, const struct Envoy__Config__Route__V3__RouteConfiguration *msg,
                             struct mz_str stat_prefix, const struct mz_route_env *env, struct mz_err *err);
struct mz_rds *mz_rds_ref(struct mz_rds *r);
void mz_rds_unref(struct mz_rds *r); /* any thread; NULL is fine */
const struct mz_route_table *mz_rds_table(const struct mz_rds *r); /* this thread's, borrowed; NULL: none came yet */

struct mz_rds_watch { /* embedded, zeroed before the first use */
    struct mz_list link;
    void (*changed)(void *arg);
    void *arg;
};
/* Main thread: changed() after each table that came by RDS; it unwatches nothing. */
void mz_rds_watch(struct mz_rds *r, struct mz_rds_watch *w, void (*changed)(void *arg), void *arg);
void mz_rds_unwatch(struct mz_rds_watch *w); /* again: nothing */

/* Any worker: asks for the virtual host of @host (in lower case), which its table does not have. MISSING: there is none; AVAILABLE:
 * this thread's table has it now. */
void mz_rds_demand(struct mz_rds *r, struct mz_upstream *u, struct mz_str host, struct mz_discovery_wait *w,
                   void (*done)(struct mz_discovery_wait *w, enum mz_discovery how));

/* Waits for the first table (and the first virtual hosts beside it); main thread, ends as mz_init_wait_end() says. */
void mz_rds_wait(struct mz_init_wait *w, struct mz_rds *r, struct mz_init *init);

struct mz_rds_shown { /* for /config_dump */
    struct mz_str name, version, bytes; /* bytes "": nothing came yet */
    bool inlined;
    uint64_t updated_wall_us;
};
void mz_rds_manager_each(struct mz_rds_manager *m, void (*fn)(void *arg, const struct mz_rds_shown *r), void *arg);
#endif
