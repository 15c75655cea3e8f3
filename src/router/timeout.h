#ifndef MZ_ROUTER_TIMEOUT_H
#define MZ_ROUTER_TIMEOUT_H
/* Timeouts of a request (H5, H8): route, headers and gRPC put together as Envoy does. */
#include "route/route.h"

struct mz_timeouts {
    uint64_t global_ms, per_try_ms, per_try_idle_ms; /* 0: none */
    uint64_t stream_ms;                              /* x-envoy-upstream-stream-duration-ms, where has_stream; 0: none */
    bool has_stream;
    bool alt_response; /* x-envoy-upstream-rq-timeout-alt-response: 204 stands for 504 */
    bool hedge_on_try_timeout;
    bool from_header; /* global_ms came with the request: for the story */
};
/**
 * Reads and removes x-envoy-upstream-rq-timeout-ms, -per-try-timeout-ms, -timeout-alt-response, x-envoy-upstream-stream-duration-ms
 * and x-envoy-hedge-on-per-try-timeout of @h. A route with max_stream_duration has no timeout but that of a header.
 * @respect_expected  router filter's respect_expected_rq_timeout: x-envoy-expected-rq-timeout-ms counts and stays
 */
void mz_timeouts_read(const struct mz_route *r, struct mz_headers *h, bool grpc,
                      bool respect_expected, struct mz_timeouts *out);
/* Writes x-envoy-expected-rq-timeout-ms (when @insert: not suppress_envoy_headers) and, with max_grpc_timeout, grpc-timeout.
 * Again before each try with the time that went by. */
void mz_timeouts_write(const struct mz_timeouts *t, const struct mz_route *r, struct mz_headers *h,
                       bool grpc, bool insert, uint64_t elapsed_ms);
#endif
