#ifndef MZ_FILTERS_HTTP_FRACTION_H
#define MZ_FILTERS_HTTP_FRACTION_H
/* envoy.config.core.v3.RuntimeFractionalPercent in the configuration of filters: filter_enabled, shadow_enabled, filter_enforced. */
#include "hcm/filter.h"
#include "proto/mapper.h"

/* @m was checked: it has its default value. NULL: @otherwise of all requests. Texts go to @a. */
struct mz_fraction fraction_build(const pb_RuntimeFractionalPercent *m, bool otherwise, struct mz_arena *a);
/* Drawn anew at each call, as in Envoy: two fractions of one request are independent. */
bool fraction_holds(const struct mz_fraction *f, const struct mz_filter *filter);
#endif
