#ifndef MZ_FILTERS_TRACERS_COLLECTOR_H
#define MZ_FILTERS_TRACERS_COLLECTOR_H
/* envoy.config.core.v3.HttpService of a collector that is reached by HTTP. */
#include "base/err.h"
#include "filters/tracers/reporter.h"
#include "route/route.h"

struct Envoy__Config__Core__V3__HttpService;
/* Sets cluster, host, path and add of @out, which borrows @add. The URI is "http://host:port/path" or, as Istio writes it,
 * "host/path". */
bool collector_build(const struct Envoy__Config__Core__V3__HttpService *m, uint64_t timeout_otherwise_ms, struct mz_arena *a,
                     struct reporter_http *out, struct mz_header_mutations *add, uint64_t *out_timeout_ms, struct mz_err *err);
#endif
