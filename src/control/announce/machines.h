#ifndef MZ_CONTROL_ANNOUNCE_MACHINES_H
#define MZ_CONTROL_ANNOUNCE_MACHINES_H
/*
 * Machines that announce themselves (C2): a proxy whose node names a WorkloadGroup (metadata AUTO_REGISTER_GROUP) becomes a
 * WorkloadEntry of that group's template while it is connected, and for a grace period behind that. One whose own settings have a
 * readiness probe counts from when it says that it is healthy, and no more when it says that it is not. Nothing is written anywhere:
 * after a restart everybody connects again. Main thread.
 */
#include "base/buf.h"
#include "control/discovery/server.h"
#include "control/sources/store.h"

struct mz_machines;
struct mz_machines_opts {
    bool off;           /* PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION=false */
    bool unverified;    /* ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY=false: who came by the plain port may, too */
    uint64_t grace_ms;  /* PILOT_WORKLOAD_ENTRY_GRACE_PERIOD, 10 s */
};
struct mz_machines_opts mz_machines_opts_from_env(void); /* before threads start */
/* Entries go into @s, which outlives it. */
struct mz_machines *mz_machines_create(struct mz_loop *l, struct mz_store *s, const struct mz_machines_opts *o);
void mz_machines_destroy(struct mz_machines *m); /* NULL is fine; what it has put stays */
struct mz_discovery_watch mz_machines_watch(struct mz_machines *m);
void mz_machines_metrics(const struct mz_machines *m, struct mz_buf *out);
#endif
