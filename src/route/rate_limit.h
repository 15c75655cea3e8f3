#ifndef MZ_ROUTE_RATE_LIMIT_H
#define MZ_ROUTE_RATE_LIMIT_H
/*
 * rate_limits of routes, virtual hosts and filters (H9): actions that turn a request into descriptors, which rate limit filters
 * look up. Built on the main thread, immutable, any thread.
 */
#include "route/route.h"

struct mz_descriptor_entry {
    struct mz_str key, value;
};
struct mz_descriptor { /* in the stream's arena */
    struct mz_descriptor_entry *v;
    size_t n;
    uint64_t hits; /* tokens that the request takes; 1 unless hits_addend says otherwise */
};
struct mz_rate_limits;
struct Envoy__Config__Route__V3__RateLimit;
/**
 * @of_filter: of a filter's own rate_limits, which know hits_addend but neither stage, disable_key nor dynamic_metadata; those of
 * routes are the other way round, hits_addend has no effect there (Envoy 1.40). Lives in @a.
 * Errors: "[1].actions[0].header_value_match.headers[0]: ..."
 */
bool mz_rate_limits_build(struct Envoy__Config__Route__V3__RateLimit **v, size_t n, bool of_filter, struct mz_arena *a,
                          const struct mz_rate_limits **out, struct mz_err *err);
size_t mz_rate_limits_n(const struct mz_rate_limits *l); /* NULL: 0 */

struct mz_rate_query {
    const struct mz_route *route;
    struct mz_route_query q; /* h, info, arena, random, dynamic_metadata */
    struct mz_str service_cluster;
    bool global; /* the runtime is asked about disable_key; without: who has one gives no descriptor (local limits, Envoy) */
};
/* The descriptors of those of @stage, in their order; one whose action finds nothing gives none. @out has room for
 * mz_rate_limits_n(l). Returns how many there are. */
size_t mz_rate_limits_describe(const struct mz_rate_limits *l, unsigned stage, const struct mz_rate_query *q,
                               struct mz_descriptor *out);
#endif
