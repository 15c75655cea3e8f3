/* A RouteMatch that belongs to no route: rules of filters ask for what it matches. */
#include "route/route_priv.h"

struct mz_route_match {
    struct mz_arena *arena; /* holds everything, this struct too */
    struct mz_route route;  /* its path and conditions only */
    struct route_priv priv;
    struct mz_str text;
};

static bool conditions_check(const pb_RouteMatch *m, struct mz_err *err)
{
    const char *what = m->runtime_fraction     ? "runtime_fraction"
                       : m->grpc               ? "grpc"
                       : m->tls_context        ? "tls_context"
                       : m->n_dynamic_metadata ? "dynamic_metadata"
                                               : NULL;
    if (!what)
        return true;
    mz_err_set(err, "is for routes; a rule of this filter matches by path, headers, cookies and "
                    "query_parameters");
    return mz_err_at(err, "%s", what);
}

struct mz_route_match *mz_route_match_create(const pb_RouteMatch *m, const struct mz_factory *f,
                                             struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_route_match *out = mz_arena_new0(a, struct mz_route_match);
    const struct mz_route_env env = { .factory = f };
    struct builder b = { .a = a, .env = &env, .err = err };
    out->arena = a;
    out->route.priv = &out->priv;
    if (conditions_check(m, err) && build_match(&b, m, &out->route)) {
        out->text = route_match_text(&out->route);
        return out;
    }
    mz_route_match_destroy(out);
    return NULL;
}

void mz_route_match_destroy(struct mz_route_match *m)
{
    if (m)
        mz_arena_destroy(m->arena);
}

bool mz_route_match(const struct mz_route_match *m, const struct mz_headers *h)
{
    const struct mz_route_query q = { .h = h };
    const struct match_req r = { .q = &q,
                                 .full = mz_headers_path(h),
                                 .path = path_only(mz_headers_path(h)) };
    enum miss why;
    unsigned nth;
    return route_matches(&m->route, &r, &why, &nth);
}

struct mz_str mz_route_match_text(const struct mz_route_match *m)
{
    return m->text;
}
