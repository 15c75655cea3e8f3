#include "hcm/hcm_priv.h"

/* POST /mizzen/explain: the manager's host, path and route work on given headers, nothing is sent. The same functions and
 * the same notes as for a real request, so the story cannot differ. */

static bool clean_path(const struct mz_hcm_config *c, struct mz_headers *h, struct mz_decision *d)
{
    struct mz_str path = mz_headers_path(h), out;
    if (!path.n || path.p[0] != '/') {
        mz_note(d, d->start_us, LOCAL_REPLY, MZ_STR(""), MZ_STR("absolute_path_rejected"), 404, 0);
        return false;
    }
    enum mz_path_verdict v = mz_path_clean(h->arena, path, &c->path_rules, &out);
    mz_headers_set_id(h, MZ_H_PATH, out);
    if (v != MZ_PATH_OK)
        mz_note(d, d->start_us, LOCAL_REPLY, MZ_STR(""), MZ_STR("path_normalization_failed"),
                v == MZ_PATH_REDIRECT ? 307 : 400, 0);
    return v == MZ_PATH_OK;
}

const struct mz_route *mz_hcm_explain(const struct mz_hcm_config *c, struct mz_headers *h,
                                      const struct mz_addr *local, const struct mz_addr *peer,
                                      bool secure, struct mz_decision *d, struct mz_arena *a)
{
    struct mz_stream_info info = { .arena = a,
                                   .local = *local,
                                   .remote = *peer,
                                   .direct_remote = *peer,
                                   .secure = secure,
                                   .decision = d };
    struct mz_route_query q = {
        .h = h, .secure = secure, .info = &info, .arena = a, .decision = d, .now_us = d->start_us
    };
    const struct mz_route_table *routes = c->srds ? mz_srds_table(c->srds, h, a) : hcm_routes(c);
    if (!routes || !clean_path(c, h, d))
        return NULL;
    if (mz_headers_get_id(h, MZ_H_AUTHORITY))
        mutate_host(c, h, local, mz_str_eq(mz_headers_method(h), MZ_STR("CONNECT")));
    return mz_route_table_match(routes, &q);
}
