#ifndef MZ_HCM_SRDS_H
#define MZ_HCM_SRDS_H
/*
 * Scoped routes (SRDS, H8, X1): which route table serves a request is chosen by a key that is made of its headers. Scopes stand
 * in the configuration or come by subscription; their tables by RDS, or inline. One object for all connection managers that
 * have the same scoped_routes. Each thread sees the scopes, as it sees their tables, as they were given to it last.
 *
 * A scope that is on_demand has no table, and no subscription to one, before a request asked for it: mz_srds_demand().
 */
#include "hcm/rds.h"

struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes;
struct mz_headers;
struct mz_srds;
/* Main thread; one reference. Parameters as of mz_rds_get(). */
struct mz_srds *mz_srds_get(struct mz_rds_manager *m,
                            const struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes *msg,
                            struct mz_str stat_prefix, const struct mz_factory *f, const struct mz_route_filter_ops *ops,
                            struct mz_err *err);
void mz_srds_unref(struct mz_srds *s); /* any thread; NULL is fine */
void mz_srds_wait(struct mz_init_wait *w, struct mz_srds *s, struct mz_init *init); /* for the first scopes and their tables */
/* The table of the request's scope on this thread, borrowed; NULL: no scope has its key, or its table has not come. */
const struct mz_route_table *mz_srds_table(const struct mz_srds *s, const struct mz_headers *h, struct mz_arena *a);
struct mz_rds *mz_srds_rds(const struct mz_srds *s, const struct mz_headers *h, struct mz_arena *a); /* NULL also: no subscription */

#define SRDS_ANSWER_MS 15000
/* Any worker, where there is no table: subscribes to that of the request's scope, once, and waits for it. False: no scope has its
 * key. done() as of mz_discovery_wait(): AVAILABLE: this thread has the table; MISSING: the scope has gone; TIMEOUT: none came in
 * SRDS_ANSWER_MS, and the subscription goes on. */
bool mz_srds_demand(struct mz_srds *s, const struct mz_headers *h, struct mz_arena *a, struct mz_upstream *u,
                    struct mz_discovery_wait *w, void (*done)(struct mz_discovery_wait *w, enum mz_discovery how));

struct mz_srds_shown { /* for /config_dump */
    struct mz_str name, version;
    bool inlined;
    uint64_t updated_wall_us;
    void (*scopes)(const struct mz_srds_shown *s, void (*fn)(void *arg, struct mz_str bytes), void *arg); /* ScopedRouteConfiguration */
    const struct mz_srds *srds;
};
void mz_srds_each(struct mz_rds_manager *m, void (*fn)(void *arg, const struct mz_srds_shown *s), void *arg);
#endif
