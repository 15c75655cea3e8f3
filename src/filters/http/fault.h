#ifndef MZ_FILTERS_HTTP_FAULT_H
#define MZ_FILTERS_HTTP_FAULT_H
/*
 * fault (H9): configuration (fault_config.c), what one request's headers and the runtime make of it (fault_choice.c), the slow
 * answer (fault_rate.c) and the filter (fault.c). For src/filters/http/fault*.c only.
 */
#include "base/buf.h"
#include "base/rand.h"
#include "event/loop.h"
#include "listener/factory.h"
#include "observe/matcher.h"
#include "runtime/runtime.h"

enum fault_stat {
    FAULT_ABORTS_INJECTED,
    FAULT_DELAYS_INJECTED,
    FAULT_FAULTS_OVERFLOW,
    FAULT_RESPONSE_RL_INJECTED,
    FAULT_ACTIVE_FAULTS,
};
/* Of one downstream cluster (x-envoy-downstream-service-cluster); the same first two numbers. */
#define FAULT_CLUSTERS_MAX 256 /* names a worker remembers: clients choose them */

enum fault_source { FAULT_OFF, FAULT_FIXED, FAULT_BY_HEADER };
struct fault_kind { /* one of delay, abort, rate */
    enum fault_source source;
    struct mz_fraction share; /* of the requests; key: the runtime's */
    struct mz_str value_key;  /* runtime key of the value */
    uint64_t value;           /* FAULT_FIXED: ms, status, KiB/s */
};
struct fault_cluster; /* counters of one downstream cluster on one worker */
struct fault_cfg {    /* immutable, but for the lists of downstream clusters */
    struct fault_kind delay, abort, rate;
    bool abort_is_grpc; /* FAULT_FIXED: value is a gRPC status */
    struct mz_str abort_grpc_key;
    struct mz_str upstream_cluster; /* "": any */
    struct mz_header_match **headers;
    size_t n_headers;
    struct mz_str *nodes;
    size_t n_nodes;
    uint64_t max_active;
    struct mz_str max_active_key;
    bool no_cluster_stats;
    struct mz_arena *arena; /* texts */
    /* of the filter only: faults that a route orders are counted there, too */
    struct mz_scope *scope;
    struct mz_stats *stats;
    struct mz_str prefix; /* "http.in.fault." */
    struct fault_cluster *
        *clusters; /* a list per statistics slot, each touched by its own thread only */
    unsigned n_slots;
};
/* Main thread. The path of an error begins at the message's own field. */
void *fault_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void *fault_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void fault_config_destroy(void *cfg); /* NULL is fine */
/* Counts @stat (ABORTS_INJECTED, DELAYS_INJECTED) for a downstream cluster; names too many or too long are not counted. */
void fault_count_cluster(const struct fault_cfg *filter, struct mz_str cluster,
                         enum fault_stat stat);

struct fault_query {             /* one request; borrowed */
    const struct fault_cfg *cfg; /* the route's, else the filter's */
    const struct mz_headers *h;
    const struct mz_runtime *runtime;
    struct mz_rand *rand;
    struct mz_arena *arena;
    struct mz_str
        downstream; /* cluster; "" unknown: runtime keys of its own go before the common ones */
};
struct fault_abort {
    unsigned status;
    bool grpc;
    unsigned grpc_status;
};
/* x-envoy-downstream-service-node and the header matchers. */
bool fault_matches(const struct fault_query *q);
bool fault_delay(const struct fault_query *q, uint64_t *out_ms);
bool fault_abort(const struct fault_query *q, struct fault_abort *out);
bool fault_rate(const struct fault_query *q, uint64_t *out_kib_per_s);
uint64_t fault_max_active(const struct fault_query *q);

/* ---- the slow answer ---- */
/*
 * A token bucket of one second's bytes that begins with one tick's, looked at each FAULT_TICK_MS while bytes wait, as in
 * Envoy. Embedded in the filter's object; the bytes wait here and not in the stream's buffer, which other filters share.
 */
#define FAULT_TICK_MS 50
struct fault_bucket {
    uint64_t rate;    /* bytes a second; 0: no limit */
    uint64_t have;    /* bytes that may go now, at most rate */
    uint64_t last_us; /* up to when have is reckoned */
};
void fault_bucket_init(struct fault_bucket *b, uint64_t kib_per_s, uint64_t now_us);
uint64_t fault_bucket_take(struct fault_bucket *b, uint64_t want,
                           uint64_t now_us); /* how many of them may go */
#endif
