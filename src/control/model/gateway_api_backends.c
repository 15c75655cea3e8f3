/* Where a rule leads: backendRefs to destinations. */
#include "control/model/gateway_api_priv.h"

static ist_Destination *destination(struct gw_making *g, struct mz_str host,
                                    const pb_Int32Value *port)
{
    ist_Destination *d = GW_MAKE(g->a, Destination);
    d->host = gw_text(g->a, host);
    if (port) {
        d->port = GW_MAKE(g->a, networking_PortSelector);
        d->port->number = (uint32_t)port->value;
    }
    return d;
}

/* A cluster of this name is nowhere. */
static ist_Destination *nowhere(struct gw_making *g)
{
    return GW_MAKE(g->a, Destination);
}

static bool is_imported(const struct gw_target *to)
{
    return strcmp(to->group, "multicluster.x-k8s.io") == 0 &&
           strcmp(to->kind, "ServiceImport") == 0;
}

static ist_Destination *to_hostname(struct gw_making *g, const struct gw_route *r,
                                    const struct gw_target *to, struct mz_gw_error *e)
{
    if (to->ns) {
        (void)gw_fail(g, e, "InvalidDestination", "namespace may not be set with Hostname type");
        return NULL;
    }
    if (!mz_map_get(&g->hosts,
                    mz_arena_printf(g->d->scratch, "%.*s/%s", MZ_STR_ARG(r->doc->ns), to->name)))
        (void)gw_fail(g, e, "BackendNotFound", "backend(%s) not found", to->name);
    return destination(g, mz_str_c(to->name), to->port);
}

ist_Destination *gw_destination(struct gw_making *g, const struct gw_route *r,
                                const struct gw_target *to, bool mesh, struct mz_gw_error *e)
{
    const struct mz_str ns = to->ns ? mz_str_c(to->ns) : r->doc->ns;
    const bool service = !to->group[0] && strcmp(to->kind, "Service") == 0;
    ist_Destination *d;
    if (!mesh && !mz_str_eq(ns, r->doc->ns) &&
        !(service &&
          gw_granted(g, mz_gw_route_kinds[r->kind], r->doc->ns, "Service", ns, to->name))) {
        (void)gw_fail(g, e, "RefNotPermitted",
                      "backendRef %s/%.*s not accessible to a %s in namespace \"%.*s\" (missing a "
                      "ReferenceGrant?)",
                      to->name, MZ_STR_ARG(ns), mz_gw_route_kinds[r->kind], MZ_STR_ARG(r->doc->ns));
        return nowhere(g);
    }
    if (service || is_imported(to)) {
        const struct mz_str host =
            mz_arena_printf(g->d->scratch, "%s.%.*s.svc.%.*s", to->name, MZ_STR_ARG(ns),
                            MZ_STR_ARG(g->d->m->mesh.domain));
        if (service && strchr(to->name, '.')) {
            (void)gw_fail(g, e, "InvalidDestination",
                          "service name invalid; the name of the Service must be used, not the "
                          "hostname.");
            return NULL;
        }
        if (!gw_doc(g, "Service", ns, to->name))
            (void)gw_fail(g, e, "BackendNotFound", "backend(%.*s) not found", MZ_STR_ARG(host));
        d = destination(g, host, to->port);
    } else if (strcmp(to->group, "networking.istio.io") == 0 && strcmp(to->kind, "Hostname") == 0) {
        d = to_hostname(g, r, to, e);
    } else {
        (void)gw_fail(g, e, "InvalidKind",
                      "referencing unsupported backendRef: group \"%s\" kind \"%s\"", to->group,
                      to->kind);
        return nowhere(g);
    }
    if (d && !to->port) {
        *e = (struct mz_gw_error){ 0 };
        (void)gw_fail(g, e, "InvalidDestination", "port is required in backendRef");
        return NULL;
    }
    return d;
}

static struct gw_target target_of(const k8s_BackendRef *b)
{
    return (struct gw_target){ gw_or(b->group, ""), gw_or(b->kind, "Service"), b->name,
                               b->namespace_ ? b->namespace_->value : NULL, b->port };
}

static int32_t weight_of(const k8s_BackendRef *b)
{
    return b->weight ? b->weight->value : 1;
}

bool gw_weighs_nothing(k8s_BackendRef *const *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (weight_of(v[i]) > 0)
            return false;
    return true;
}

static size_t count(k8s_BackendRef *const *v, size_t n)
{
    size_t some = 0;
    for (size_t i = 0; i < n; i++)
        some += weight_of(v[i]) > 0;
    return some;
}

/* A part that leads nowhere is told, the last one wins as in the field's control plane; the others go on. */
static ist_Destination *lead(struct gw_making *g, const struct gw_route *r, const k8s_BackendRef *b,
                             bool mesh, struct mz_gw_error *e)
{
    const struct gw_target to = target_of(b);
    struct mz_gw_error one = { 0 };
    ist_Destination *d = gw_destination(g, r, &to, mesh, &one);
    if (one.reason)
        *e = one;
    return d;
}

bool gw_http_destinations(struct gw_making *g, const struct gw_route *r, k8s_BackendRef *const *v,
                          size_t n, bool mesh, ist_HTTPRoute *out, struct mz_gw_error *e)
{
    const bool one = count(v, n) == 1;
    for (size_t i = 0; i < n; i++) {
        if (weight_of(v[i]) <= 0)
            continue;
        ist_HTTPRouteDestination *d = GW_MAKE(g->a, HTTPRouteDestination);
        d->destination = lead(g, r, v[i], mesh, e);
        if (!d->destination || !gw_headers(g, v[i]->filters, v[i]->n_filters, &d->headers, e))
            return false;
        d->weight = one ? 0 : weight_of(v[i]);
        GW_ADD(g->a, out, route) = d;
    }
    return true;
}

bool gw_l4_destinations(struct gw_making *g, const struct gw_route *r, k8s_BackendRef *const *v,
                        size_t n, bool mesh, ist_RouteDestination ***out, size_t *out_n,
                        struct mz_gw_error *e)
{
    struct {
        ist_RouteDestination **to;
        size_t n_to;
    } l = { 0 };
    const bool one = count(v, n) == 1;
    for (size_t i = 0; i < n; i++) {
        if (weight_of(v[i]) <= 0)
            continue;
        ist_RouteDestination *d = GW_MAKE(g->a, RouteDestination);
        d->destination = lead(g, r, v[i], mesh, e);
        if (!d->destination)
            return false;
        d->weight = one ? 0 : weight_of(v[i]);
        GW_ADD(g->a, &l, to) = d;
    }
    if (!l.n_to) { /* connections are to fail: a cluster that is never there */
        static pb_Int32Value port = { .value = 65535 };
        ist_RouteDestination *d = GW_MAKE(g->a, RouteDestination);
        d->destination = destination(g, MZ_STR("internal.cluster.local"), &port);
        d->destination->subset = (char *)(uintptr_t) "zero-weight";
        GW_ADD(g->a, &l, to) = d;
    }
    *out = l.to;
    *out_n = l.n_to;
    return true;
}
