#ifndef MZ_ROUTE_ROUTE_TEST_H
#define MZ_ROUTE_ROUTE_TEST_H
/* What the tests of this folder share: tables made of text, requests made of a line. */
#include "route/route.h"

struct fixture {        /* one per test: fixture_init, fixture_fini */
    struct mz_arena *a; /* of messages and requests */
    const struct mz_route_table *t;
    struct mz_stats *stats;
    struct mz_loop *loop;
    struct mz_runtime_store *runtime; /* one layer: w.one is 0 */
    struct mz_err err;
    struct mz_headers *h; /* of the last request */
    struct mz_route_query q;
    struct mz_decision *decision; /* NULL: not noted */
};
void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);
/* Builds from YAML of a RouteConfiguration; false: f->err. An older table goes. */
bool fixture_build(struct fixture *f, const char *yaml);
/* The same of routes only, in one virtual host "all" of "*". */
bool fixture_routes(struct fixture *f, const char *yaml);
/* A GET; @extra: "name: value\n" lines, NULL. Pseudo-headers may be given there as well. Leaves f->h. */
const struct mz_route *fixture_get(struct fixture *f, const char *host, const char *path,
                                   const char *extra);
const char *
fixture_header(const struct fixture *f,
               const char *name); /* of f->h, values joined with "|"; NULL when absent */
#endif
