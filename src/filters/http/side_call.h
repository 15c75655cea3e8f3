#ifndef MZ_FILTERS_HTTP_SIDE_CALL_H
#define MZ_FILTERS_HTTP_SIDE_CALL_H
/* What filters that ask a service about each request have in common: ext_authz, ratelimit. */
#include "base/map.h"
#include "hcm/filter.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

/* Statistics below those of the cluster that a request goes to; they appear with the first of them on a worker. */
struct cluster_scopes {
    struct mz_stats *stats;
    const struct mz_stat_kind *kind;
    struct mz_str prefix;      /* "ratelimit." */
    struct mz_map *by_cluster; /* one a statistics slot, each touched by its own thread */
    unsigned n_slots;
};
/* The prefix is "<name>.", or "<name>.<own>." */
void cluster_scopes_init(struct cluster_scopes *s, const struct mz_factory *f, const struct mz_stat_kind *kind,
                         const char *name, const char *own, struct mz_arena *a);
void cluster_scopes_fini(struct cluster_scopes *s);
void cluster_scopes_count(const struct cluster_scopes *s, const struct mz_cluster *c /* NULL: nowhere */, unsigned stat);
/* Counts an answer of ours as one of the cluster that the request would have gone to (Envoy). */
void cluster_charge_answer(const struct mz_cluster *c, unsigned status);

/* Headers that a service wants in a message: is it one that frames messages, which is not the service's business? */
bool foreign_header_frames(struct mz_str name);
bool foreign_header_fits_request(struct mz_str name, struct mz_str value); /* also pseudo-headers and host */
bool foreign_header_fits_answer(struct mz_str name, struct mz_str value);  /* no pseudo-header, none that frames */
#endif
