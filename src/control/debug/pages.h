#ifndef MZ_CONTROL_DEBUG_PAGES_H
#define MZ_CONTROL_DEBUG_PAGES_H
/* What mizzend shows of itself under /debug (C7), in istiod's shapes. Main thread. */
#include "admin/admin.h"
#include "control/discovery/server.h"
#include "control/sources/source.h"

struct mz_debug_env {
    struct mz_discovery *discovery;
    struct mz_store *store;
    struct mz_source *source;
};
struct mz_debug;
struct mz_debug *mz_debug_create(const struct mz_debug_env *e); /* copied */
void mz_debug_destroy(struct mz_debug *d); /* after the table; NULL is fine */
void mz_debug_add(struct mz_debug *d, struct mz_admin *pages); /* the table borrows them */
#endif
