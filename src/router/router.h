#ifndef MZ_ROUTER_ROUTER_H
#define MZ_ROUTER_ROUTER_H
/* The terminal HTTP filter (H8): from a route to a cluster, host and connection, and the answer back; retries, hedges,
 * mirrors, internal redirects, timeouts. router.c (the request), attempt.c (one try), reply.c (outcomes), charge.c (counts). */
#include "hcm/filter.h"
extern const struct mz_http_filter_type mz_filter_router;
#endif
