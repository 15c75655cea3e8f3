#ifndef MZ_FILTERS_ISTIO_WORKLOADS_H
#define MZ_FILTERS_ISTIO_WORKLOADS_H
/*
 * Workload discovery (S2): who has which address, told by the control plane (istio.workload.Workload) where the bootstrap has the
 * extension istio.workload.BootstrapExtension. One subscription for the process; threads look workloads up without a lock.
 */
#include "filters/istio/peer.h"
#include "xds/subscription.h"

struct mz_workloads;
struct workload { /* immutable, counted by atomics */
    unsigned refs;
    struct mz_arena *arena;
    struct mz_str uid;
    const struct mz_str *addresses; /* 4 or 16 bytes each */
    size_t n_addresses;
    struct peer peer;
    struct peer_object map, fields; /* of the peer, for filter state */
};

/* Main thread. The subscription begins with start(), and nobody waits for its first answer. Only ADS and files: there is no service
 * of this type alone. @at: what the error's path begins with is the caller's. */
struct mz_workloads *mz_workloads_create(struct mz_xds *x, struct mz_stats *stats);
bool mz_workloads_subscribe(struct mz_workloads *w, const struct Envoy__Config__Core__V3__ConfigSource *source, struct mz_err *err);
void mz_workloads_start(struct mz_workloads *w);
void mz_workloads_stop(struct mz_workloads *w);    /* ends the subscription; NULL is fine */
void mz_workloads_destroy(struct mz_workloads *w); /* workers have ended; NULL is fine */

/* Of the calling thread; a reference, or NULL: nobody is known to have the address (without its port). @w NULL: nobody ever. */
const struct workload *workload_find(const struct mz_workloads *w, const struct mz_addr *a);
void workload_unref(const struct workload *w); /* any thread; NULL is fine */
/* Of the host of a request or connection, by its address or, where it is internal, by its metadata. */
const struct workload *workload_of_host(const struct mz_workloads *w, const struct mz_addr *host, const struct mz_meta *metadata);
/* Where a connection to an internal address is to end, by its host's metadata; false: nobody says, or another network's gateway does. */
bool workload_internal_address(const struct mz_meta *metadata, struct mz_addr *out_end);
#endif
