#ifndef MZ_UPSTREAM_ON_DEMAND_H
#define MZ_UPSTREAM_ON_DEMAND_H
/*
 * Clusters on demand (ODCDS, X1): a request names a cluster that is not there, the control plane is asked for it by name, the
 * request waits. Who waits embeds a struct mz_discovery_wait and cancels it when it goes, so nothing late finds it.
 *
 * Names may come from clients (cluster_header): a name that the control plane does not know, or is not answered in time, is
 * forgotten, and at most MZ_DISCOVERIES of a source are unanswered at once; what comes beyond them is told MISSING.
 */
#include "base/list.h"
#include "event/loop.h"
#include "upstream/cluster.h"

#define MZ_DISCOVERIES 1024

struct Envoy__Config__Core__V3__ConfigSource;
struct mz_odcds;
/* Main thread: the source of such clusters, which lives until the manager goes; the same for equal messages. It has to be delta;
 * @source NULL: clusters whose names are of xDS-TP come from the bootstrap's authorities, others are missing.
 * NULL: @err, its path is within the message. */
struct mz_odcds *mz_odcds_get(struct mz_cluster_manager *m, const struct Envoy__Config__Core__V3__ConfigSource *source,
                              struct mz_err *err);

enum mz_discovery { MZ_DISCOVERY_AVAILABLE, MZ_DISCOVERY_MISSING, MZ_DISCOVERY_TIMEOUT };
struct mz_discovery_wait { /* zeroed before the first use */
    struct mz_list link;
    struct mz_timer timer;
    const void *source;
    void *pending; /* the others that wait for its name */
    void (*done)(struct mz_discovery_wait *w, enum mz_discovery how);
    bool waiting;
    bool cluster; /* mz_discover()'s */
};
/* On @u's thread. done runs once, not from inside: the cluster is there (and ready), does not exist, or did not come in
 * @timeout_ms; not after a cancel, nor when the view ends. */
void mz_discover(struct mz_upstream *u, struct mz_odcds *source, struct mz_str name, uint64_t timeout_ms,
                 struct mz_discovery_wait *w, void (*done)(struct mz_discovery_wait *w, enum mz_discovery how));
/* The same for anything else that main is asked for under a name: the answer, of the same @source, is mz_discovery_answer()'s.
 * @timeout_ms 0: whoever waits has a timeout of its own. */
void mz_discovery_wait(struct mz_upstream *u, const void *source, struct mz_str name, uint64_t timeout_ms,
                       struct mz_discovery_wait *w, void (*done)(struct mz_discovery_wait *w, enum mz_discovery how));
/* Main thread: tells all threads, behind what was posted to them before. @source is compared only. */
void mz_discovery_answer(struct mz_cluster_manager *m, const void *source, struct mz_str name, enum mz_discovery how);
void mz_discover_cancel(struct mz_discovery_wait *w); /* harmless when nothing waits */
#endif
