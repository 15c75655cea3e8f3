/* EnvoyFilters: route tables, their virtual hosts and routes. */
#include "control/translate/gateway.h"
#include "control/translate/patch.h"

static const ist_EnvoyFilter_RouteConfigurationMatch *match_of(const struct tr_patch *p)
{
    return p->match && p->match->object_types_case ==
                           ist_EnvoyFilter_EnvoyConfigObjectMatch_OBJECT_TYPES_ROUTE_CONFIGURATION
               ? p->match->route_configuration
               : NULL;
}

/* "80", "inbound|80||". */
static uint64_t port_of_name(struct mz_str name)
{
    struct tr_subset_key key;
    uint64_t port = 0;
    if (mz_str_starts(name, MZ_STR("inbound|")))
        return tr_cluster_name_parse(name, &key) ? key.port : 0;
    return mz_str_u64(name, &port) ? port : 0;
}

/* "http.8080", "https.443....": 0 is none. */
static uint64_t port_of_route(struct mz_str name)
{
    struct mz_str kind, port;
    uint64_t n = 0;
    return mz_str_split(&name, '.', &kind) && mz_str_split(&name, '.', &port) &&
                   mz_str_u64(port, &n)
               ? n
               : 0;
}

struct gateway_name { /* "http.8080", "https.443.name.gateway.namespace" */
    uint64_t port;
    struct mz_str port_name, gateway;
};

static struct gateway_name gateway_name(const struct patcher *x, struct mz_str name)
{
    struct gateway_name g = { 0 };
    struct mz_str kind, port, gateway, ns;
    g.port = port_of_route(name);
    if (!g.port || !mz_str_split(&name, '.', &kind) || !mz_str_split(&name, '.', &port))
        return (struct gateway_name){ 0 };
    if (mz_str_eq(kind, MZ_STR("http")) || !mz_str_split(&name, '.', &g.port_name) ||
        !mz_str_split(&name, '.', &gateway) || !mz_str_split(&name, '.', &ns))
        return g;
    g.gateway = mz_arena_printf(x->a, "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(gateway));
    return g;
}

/* A port of the servers whose table it is, as their Gateways say it; where there is none, the table's own. */
static bool is_port(const struct patcher *x, uint64_t own, uint32_t wanted)
{
    const struct tr_servers *all = tr_servers_of(x->v);
    bool known = false;
    for (size_t i = 0; i < all->n_by_route; i++) {
        const struct tr_server *s = all->by_route[i];
        if (port_of_route(s->route) != own)
            continue;
        if (s->s->port->number == wanted)
            return true;
        known = true;
    }
    return !known && own == wanted;
}

static bool table_fits(const struct patcher *x, const pb_RouteConfiguration *r,
                       const struct tr_patch *p)
{
    const ist_EnvoyFilter_RouteConfigurationMatch *m = match_of(p);
    const struct mz_str name = mz_str_c(r->name);
    if (!m)
        return true;
    if (m->name[0] && strcmp(m->name, r->name) != 0)
        return false;
    if (x->context != ist_EnvoyFilter_PatchContext_GATEWAY)
        return !m->port_number || m->port_number == port_of_name(name);
    const struct gateway_name g = gateway_name(x, name);
    return (!m->port_name[0] || mz_str_eq(mz_str_c(m->port_name), g.port_name)) &&
           (!m->gateway[0] || mz_str_eq(mz_str_c(m->gateway), g.gateway)) &&
           (!m->port_number || is_port(x, g.port, m->port_number));
}

static bool host_fits(const pb_VirtualHost *h, const struct tr_patch *p)
{
    const ist_EnvoyFilter_RouteConfigurationMatch *m = match_of(p);
    const ist_EnvoyFilter_RouteConfigurationMatch_VirtualHostMatch *v = m ? m->vhost : NULL;
    if (!v || (v->name[0] && strcmp(v->name, h->name) != 0))
        return !v;
    for (size_t i = 0; i < h->n_domains; i++)
        if (strcmp(h->domains[i], v->domain_name) == 0)
            return true;
    return !v->domain_name[0];
}

static const ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch *
route_match(const struct tr_patch *p)
{
    const ist_EnvoyFilter_RouteConfigurationMatch *m = match_of(p);
    return m && m->vhost ? m->vhost->route : NULL;
}

static bool route_fits(const void *item, const struct tr_patch *p)
{
    const ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch *m = route_match(p);
    const pb_Route *r = item;
    if (!m || (m->name[0] && strcmp(m->name, r->name) != 0))
        return !m;
    switch (r->action_case) {
    case pb_Route_ACTION_ROUTE:
        return m->action == ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_ANY ||
               m->action == ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_ROUTE;
    case pb_Route_ACTION_REDIRECT:
        return m->action == ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_ANY ||
               m->action == ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_REDIRECT;
    case pb_Route_ACTION_DIRECT_RESPONSE:
        return m->action == ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_ANY ||
               m->action ==
                   ist_EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action_DIRECT_RESPONSE;
    default:
        return true;
    }
}

/* ---- routes ---- */

/* False: it goes. */
static bool patch_route(const struct patcher *x, const pb_RouteConfiguration *t,
                        const pb_VirtualHost *h, pb_Route *r)
{
    const struct tr_patch *p;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_HTTP_ROUTE, &i));) {
        if (!table_fits(x, t, p) || !host_fits(h, p) || !route_fits(r, p))
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_REMOVE)
            return false;
        if (patch_merges(p))
            patch_merge(x, p, r, patch_fresh(x, p));
    }
    return true;
}

static bool any_fits(const pb_VirtualHost *h, const struct tr_patch *p)
{
    for (size_t i = 0; i < h->n_routes; i++)
        if (route_fits(h->routes[i], p))
            return true;
    return false;
}

/* Nothing is found by what goes. */
static void patch_host_routes(const struct patcher *x, const pb_RouteConfiguration *t,
                              pb_VirtualHost *h)
{
    const struct tr_patch *p;
    size_t kept = 0;
    for (size_t i = 0; i < h->n_routes; i++)
        if (patch_route(x, t, h, h->routes[i]))
            h->routes[kept++] = h->routes[i];
    h->n_routes = kept;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_HTTP_ROUTE, &i));) {
        const bool names = route_match(p) != NULL;
        if (!table_fits(x, t, p) || !host_fits(h, p) || patch_merges(p) ||
            p->op == ist_EnvoyFilter_Patch_Operation_REMOVE ||
            p->op == ist_EnvoyFilter_Patch_Operation_REPLACE)
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_INSERT_FIRST && names && !any_fits(h, p))
            continue;
        patch_list(x, p, PATCH_LIST(h, routes), names, route_fits);
    }
}

/* ---- virtual hosts ---- */

/* False: it goes. */
static bool patch_host(const struct patcher *x, const pb_RouteConfiguration *t, pb_VirtualHost **h)
{
    const struct tr_patch *p;
    pb_VirtualHost *other;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_VIRTUAL_HOST, &i));) {
        if (!table_fits(x, t, p) || !host_fits(*h, p))
            continue;
        if (p->op == ist_EnvoyFilter_Patch_Operation_REMOVE)
            return false;
        if (patch_merges(p))
            patch_merge(x, p, *h, patch_fresh(x, p));
        else if (p->op == ist_EnvoyFilter_Patch_Operation_REPLACE && (other = patch_fresh(x, p)))
            *h = other;
    }
    patch_host_routes(x, t, *h);
    return true;
}

static bool is_addition(const struct tr_patch *p)
{
    return p->op == ist_EnvoyFilter_Patch_Operation_ADD ||
           p->op == ist_EnvoyFilter_Patch_Operation_INSERT_FIRST ||
           p->op == ist_EnvoyFilter_Patch_Operation_INSERT_BEFORE ||
           p->op == ist_EnvoyFilter_Patch_Operation_INSERT_AFTER;
}

void patch_routes(const struct patcher *x, pb_RouteConfiguration *r)
{
    const struct tr_patch *p;
    pb_VirtualHost *more;
    size_t kept = 0;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_ROUTE_CONFIGURATION, &i));)
        if (patch_merges(p) && table_fits(x, r, p))
            patch_merge(x, p, r, patch_fresh(x, p));
    for (size_t k = 0; k < r->n_virtual_hosts; k++)
        if (patch_host(x, r, &r->virtual_hosts[k]))
            r->virtual_hosts[kept++] = r->virtual_hosts[k];
    r->n_virtual_hosts = kept;
    for (size_t i = 0; (p = patch_next(x, ist_EnvoyFilter_ApplyTo_VIRTUAL_HOST, &i));)
        if (is_addition(p) && table_fits(x, r, p) && (more = patch_fresh(x, p)))
            patch_insert(x, PATCH_LIST(r, virtual_hosts), r->n_virtual_hosts, more);
}
