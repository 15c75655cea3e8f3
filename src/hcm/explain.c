#include "hcm/hcm_priv.h"

/* POST /mizzen/explain: the manager's host and route work on given headers, nothing is sent. The same match function and the
 * same notes as for a real request, so the story cannot differ. */
const struct mz_route *mz_hcm_explain(const struct mz_hcm_config *c, struct mz_headers *h,
                                      const struct mz_addr *peer, bool secure,
                                      struct mz_decision *d, struct mz_arena *a)
{
    struct mz_stream_info info = {
        .arena = a, .remote = *peer, .direct_remote = *peer, .secure = secure, .decision = d
    };
    struct mz_route_query q = {
        .h = h, .secure = secure, .info = &info, .arena = a, .decision = d, .now_us = d->start_us
    };
    return c->routes ? mz_route_table_match(c->routes, &q) : NULL;
}
