#include "control/translate/virtual_routes.h"

/* "web.demo.svc.cluster.local:80/path*" where it goes to one place, else the document's name; for traces. */
static char *operation(const struct tr_routing *r, const pb_Route *m)
{
    const pb_RouteMatch *match = m->match;
    struct tr_subset_key to;
    const char *path = "/*";
    if (match->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_PREFIX)
        path = TR_PRINTF(r->a, "%s*", match->prefix);
    else if (match->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_PATH)
        path = match->path;
    else if (match->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_SAFE_REGEX)
        path = match->safe_regex->regex;
    const bool one = m->action_case == pb_Route_ACTION_ROUTE &&
                     m->route->cluster_specifier_case == pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER;
    if (one && tr_cluster_name_parse(mz_str_c(m->route->cluster), &to))
        return TR_PRINTF(r->a, "%.*s:%u%s", MZ_STR_ARG(to.host), to.port, path);
    return TR_PRINTF(r->a, "%.*s:%u%s", MZ_STR_ARG(r->vs->name), r->port, path);
}

static pb_Route *make(const struct tr_routing *r, const ist_HTTPRoute *in,
                      const ist_HTTPMatchRequest *match)
{
    struct mz_arena *a = r->a;
    if (!tr_match_applies(r, match))
        return NULL;
    pb_Route *m = TR_NEW(a, Route);
    m->name = in->name;
    if (match && match->name[0])
        m->name = TR_PRINTF(a, "%s.%s", in->name, match->name);
    m->match = tr_route_match(r, match);
    if (match)
        m->stat_prefix = match->stat_prefix;
    tr_name_document(a, &m->metadata, "virtual-service", r->vs->ns, r->vs->name);
    tr_route_action(r, in, m);
    m->decorator = TR_NEW(a, Decorator);
    m->decorator->operation = operation(r, m);
    tr_route_filters(r, in, m);
    return m;
}

struct tr_route_list tr_virtual_routes(const struct tr_routing *r)
{
    struct tr_route_list l = { 0 };
    for (size_t i = 0; i < r->vs->spec->n_http; i++) {
        const ist_HTTPRoute *in = r->vs->spec->http[i];
        for (size_t k = 0; k < (in->n_match ? in->n_match : 1); k++) {
            pb_Route *m = make(r, in, in->n_match ? in->match[k] : NULL);
            if (m)
                TR_ADD(r->a, &l, routes) = m;
            if (m ? tr_matches_everything(m->match) || l.n_routes == r->most : !in->n_match)
                return l;
        }
    }
    return l;
}
