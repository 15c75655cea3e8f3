#ifndef MZ_FILTERS_HTTP_RATELIMIT_H
#define MZ_FILTERS_HTTP_RATELIMIT_H
/* Between ratelimit.c (the filter), ratelimit_config.c and ratelimit_reply.c (what an answer means). */
#include "filters/http/http_filters.h"
#include "filters/http/side_call.h"
#include "grpc/client.h"
#include "observe/to_proto.h"
#include "route/rate_limit.h"

/* cluster.<of the route>.ratelimit.<stat_prefix.> */
enum ratelimit_stat { RL_ERROR, RL_FAILURE_MODE_ALLOWED, RL_OK, RL_OVER_LIMIT };
enum rl_requests { RL_BOTH, RL_INTERNAL, RL_EXTERNAL };
enum rl_vhost { RL_OVERRIDE, RL_INCLUDE, RL_IGNORE }; /* vh_rate_limits */

struct rl_route_cfg {
    struct mz_arena *arena;
    struct mz_str domain; /* "" the filter's */
    enum rl_vhost vhost;
    const struct mz_rate_limits *own; /* NULL: the route's count */
};
struct rl_cfg {
    struct mz_arena *arena;
    struct mz_grpc_service *service;
    uint64_t timeout_ms;
    struct mz_str domain, service_cluster;
    unsigned stage, limited_status, error_status;
    enum rl_requests requests;
    bool resource_exhausted, limit_headers, no_limited_header;
    const struct mz_rate_limits *own;
    struct mz_header_mutations response; /* of an answer that limits */
    struct mz_fraction enabled, enforced, deny;
    struct cluster_scopes clusters;
};
void *rl_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void rl_config_destroy(void *cfg);
void *rl_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void rl_route_config_destroy(void *cfg);

/* ratelimit_reply.c: x-ratelimit-limit, -remaining, -reset of the descriptor that has least left; in the arena of @to. */
void rl_limit_headers(const pb_RateLimitResponse *m, struct mz_headers *to);
/* The service's headers that may be sent. */
void rl_take_headers(pb_HeaderValue *const *v, size_t n, struct mz_headers *to);
#endif
