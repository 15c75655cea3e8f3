#ifndef MZ_FILTERS_GRPC_NAMES_H
#define MZ_FILTERS_GRPC_NAMES_H
/*
 * Statistics of gRPC calls, cluster.<name>.<protocol>.<service>.<method>., for grpc_stats and grpc_web. Service and method are what
 * a client wrote: each worker knows GRPC_NAMES_MAX pairs; what comes later, or is too long, is counted without them (E13).
 */
#include "base/map.h"
#include "http/header_map.h"
#include "stats/stats.h"

enum grpc_stat {
    /* 0..16: the status of that number */
    GS_SUCCESS = 17,
    GS_FAILURE,
    GS_TOTAL,
    GS_REQUEST_MESSAGES,
    GS_RESPONSE_MESSAGES,
    GS_UPSTREAM_RQ_TIME,
    GS__COUNT
};
#define GRPC_NAMES_MAX   1024
#define GRPC_NAMES_BYTES 256

struct grpc_names { /* of one configuration */
    struct mz_stats *stats;
    struct mz_str protocol; /* "grpc."; static */
    struct {                /* touched by its thread only */
        struct mz_map map;
        unsigned n; /* those with service and method */
    } *slots;
    unsigned n_slots;
};
void grpc_names_init(struct grpc_names *g, struct mz_stats *stats, const char *protocol, unsigned workers, struct mz_arena *a);
void grpc_names_fini(struct grpc_names *g);
/* "/service/method", empty parts and a query aside; false: it is nothing like that. */
bool grpc_names_split(struct mz_str path, struct mz_str *out_service, struct mz_str *out_method);
/* @cluster: "cluster.x."; @names: "service.method." or "". Borrowed of @g; NULL: too long. Thread of a worker. */
struct mz_scope *grpc_names_scope(const struct grpc_names *g, struct mz_str cluster, struct mz_str names);
/* By the grpc-status of an answer's headers or trailers, where there is one. A status that gRPC does not know is a failure without a
 * name of its own. @scope NULL: nothing. */
void grpc_names_outcome(struct mz_scope *scope, const struct mz_headers *h);
#endif
