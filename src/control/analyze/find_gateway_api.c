/* The Gateway API and Ingress: what does not hold together, told as the conditions that a control plane would set (IST0171). */
#include "control/analyze/finders.h"
#include "control/model/gateway_api.h"

#define GROUP         "gateway.networking.k8s.io"
#define GATEWAY_LABEL "gateway.networking.k8s.io/gateway-name"

static void nobody(void *arg)
{
    (void)arg; /* it is read once */
}

static struct mz_str api_key(struct mz_arena *a, struct mz_str group, struct mz_str kind,
                             struct mz_str ns, struct mz_str name)
{
    return mz_arena_printf(a, "%.*s/%.*s/%.*s/%.*s", MZ_STR_ARG(group), MZ_STR_ARG(kind),
                           MZ_STR_ARG(ns), MZ_STR_ARG(name));
}

static const struct mz_object *find(const struct mz_documents *d, const char *group,
                                    const char *kind, struct mz_str ns, struct mz_str name)
{
    return mz_map_get(&d->apis, api_key(d->arena, mz_str_c(group), mz_str_c(kind), ns, name));
}

static void negative(struct mz_documents *d, const struct mz_object *of, uint32_t line,
                     const char *type, const struct mz_gw_error *e)
{
    if (of && e->reason)
        found(d, MZ_LEVEL_WARNING, 171, of, line,
              "A condition with a negative status is present: type=%s, reason=%s, message=%.*s.",
              type, e->reason, MZ_STR_ARG(e->text));
}

/* ---- the Gateway API ---- */

static uint32_t item_line(const struct mz_object *o, const char *list, size_t i)
{
    const struct mz_node *v = mz_node_at(o->tree, list);
    return i < mz_node_count(v) ? v->list[i]->line : 0;
}

static void gateway(struct mz_documents *d, const struct mz_gw *gw)
{
    const char *kind = gw->kind == MZ_KIND_LISTENER_SET ? "ListenerSet" : "Gateway";
    const struct mz_object *o = find(d, GROUP, kind, gw->ns, gw->name);
    const struct mz_gw_error refused = { gw->refused ? "NotAllowed" : NULL, mz_str_c(gw->refused) };
    if (!o)
        return;
    negative(d, o, 0, "Accepted", &gw->error);
    negative(d, o, 0, "Accepted", &refused);
    negative(d, o, 0, "ResolvedRefs", &gw->backend_tls);
    for (size_t i = 0; i < gw->listeners_n; i++) {
        const struct mz_gw_listener *l = &gw->listeners[i];
        const uint32_t line = item_line(o, "spec.listeners", i);
        const struct mz_gw_error conflict = {
            l->conflict,
            MZ_STR_INIT("Listener has a conflict with another listener attached to the "
                        "same Gateway")
        };
        const struct mz_gw_error kinds = { l->kinds_valid ? NULL : "InvalidRouteKinds",
                                           MZ_STR_INIT("Invalid route kinds") };
        negative(d, o, line, "Accepted", &conflict);
        negative(d, o, line, "Accepted", &l->accepted);
        negative(d, o, line, "ResolvedRefs", &l->refs);
        negative(d, o, line, "ResolvedRefs", &kinds);
    }
}

static void route(struct mz_documents *d, const struct mz_gw_route *r)
{
    const struct mz_object *o = find(d, GROUP, mz_kind_info(r->kind)->name, r->ns, r->name);
    for (size_t i = 0; o && i < r->parents_n; i++) {
        const struct mz_node *refs = mz_node_at(o->tree, "spec.parentRefs");
        uint32_t line = 0;
        for (size_t k = 0; k < mz_node_count(refs) && !line; k++)
            if (mz_str_eq(mz_node_text(refs->list[k], "name"), mz_str_c(r->parents[i].ref->name)))
                line = refs->list[k]->line;
        negative(d, o, line, "Accepted", &r->parents[i].denied);
        negative(d, o, 0, "ResolvedRefs", &r->parents[i].route);
    }
}

/* A parent that is nowhere has no controller that could say so: Istio's own tool is silent. */
static void lost_parents(struct mz_documents *d, const struct mz_object *o)
{
    const struct mz_node *refs = mz_node_at(o->tree, "spec.parentRefs");
    for (size_t i = 0; i < mz_node_count(refs); i++) {
        const struct mz_node *r = refs->list[i];
        const struct mz_str kind = mz_node_text(r, "kind"), group = mz_node_text(r, "group"),
                            ns = mz_node_text(r, "namespace"), name = mz_node_text(r, "name");
        const bool is = (!kind.n || mz_str_eq(kind, MZ_STR("Gateway"))) &&
                        (!group.n || mz_str_eq(group, MZ_STR(GROUP)));
        if (is && !find(d, GROUP, "Gateway", ns.n ? ns : o->ns, name))
            found(d, MZ_LEVEL_ERROR, 101, o, r->line, "Referenced gateway not found: \"%.*s\"",
                  MZ_STR_ARG(name));
    }
}

static void policy(struct mz_documents *d, const struct mz_gw_policy *p)
{
    const struct mz_object *o = find(d, GROUP, "BackendTLSPolicy", p->ns, p->name);
    for (size_t i = 0; o && i < p->targets_n; i++) {
        negative(d, o, item_line(o, "spec.targetRefs", i), "Accepted", &p->targets[i].accepted);
        negative(d, o, item_line(o, "spec.targetRefs", i), "ResolvedRefs", &p->targets[i].refs);
    }
}

/* ---- Ingress ---- */

static void ingress(struct mz_documents *d, const struct mz_gw_ingress *i)
{
    const struct mz_object *o = find(d, "networking.k8s.io", "Ingress", i->ns, i->name);
    const struct mz_node *rules = o ? mz_node_at(o->tree, "spec.rules") : NULL;
    if (o && i->has_default)
        found(d, MZ_LEVEL_WARNING, 133, o, 0,
              "Schema validation warning: defaultBackend has no effect; a rule without host is for "
              "every host");
    for (size_t k = 0; k < mz_node_count(rules); k++) {
        const struct mz_node *paths = mz_node_at(rules->list[k], "http.paths");
        for (size_t j = 0; j < mz_node_count(paths); j++) {
            const struct mz_node *name = mz_node_at(paths->list[j], "backend.service.name");
            if (name && name->kind == MZ_NODE_STR && !object_find(d, "Service", o->ns, name->text))
                found(d, MZ_LEVEL_ERROR, 101, o, name->line, "Referenced host not found: \"%.*s\"",
                      MZ_STR_ARG(name->text));
        }
    }
}

/* ---- policies that would reach proxies of a Gateway by selector ---- */

static void selectors(struct mz_documents *d, const char *kind)
{
    objects_foreach(it, d, kind)
    {
        const struct mz_node *s = mz_node_at((*it)->tree, "spec.selector.match_labels");
        if (!s || mz_node_at((*it)->tree, "spec.target_ref") ||
            mz_node_at((*it)->tree, "spec.target_refs"))
            continue;
        for (struct mz_object *const *pod = pods_near(d, (*it)->ns, s);
             *pod && !found_enough(d, *it); pod++) {
            const struct mz_str gw = object_label(*pod, GATEWAY_LABEL);
            if (gw.n && selector_matches(s, object_labels(*pod)))
                found(d, MZ_LEVEL_WARNING, 166, *it, 0,
                      "Ineffective selector on Kubernetes Gateway %.*s. Use the TargetRef field "
                      "instead.",
                      MZ_STR_ARG(gw));
        }
    }
}

/* ---- what a control plane has written into objects ---- */

static void conditions(struct mz_documents *d, const struct mz_object *o, const char *const *types,
                       const struct mz_node *list)
{
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *c = list->list[i];
        const struct mz_str type = mz_node_text(c, "type"), reason = mz_node_text(c, "reason");
        bool negative = mz_str_eq(type, MZ_STR("WaypointAccepted")) &&
                        mz_str_eq(reason, MZ_STR("PartiallyInvalid"));
        for (size_t k = 0; types[k]; k++)
            negative |= mz_str_eq(type, mz_str_c(types[k])) &&
                        mz_str_ieq(mz_node_text(c, "status"), MZ_STR("False"));
        if (negative)
            found(d, MZ_LEVEL_WARNING, 171, o, 0,
                  "A condition with a negative status is present: type=%.*s, reason=%.*s, "
                  "message=%.*s.",
                  MZ_STR_ARG(type), MZ_STR_ARG(reason), MZ_STR_ARG(mz_node_text(c, "message")));
    }
}

static void written_conditions(struct mz_documents *d)
{
    static const char *const bound[] = { "istio.io/WaypointBound", NULL },
                             *const accepted[] = { "ZtunnelAccepted", "WaypointAccepted", NULL },
                             *const routed[] = { "Accepted", "Programmed", "ResolvedRefs", NULL };
    static const struct {
        const char *kind;
        const char *const *types;
    } told[] = { { "Service", bound },
                 { "ServiceEntry", bound },
                 { "WorkloadEntry", bound },
                 { "AuthorizationPolicy", accepted },
                 { "KubernetesGateway", routed },
                 { "HTTPRoute", routed },
                 { "GRPCRoute", routed } };
    for (size_t k = 0; k < MZ_COUNT(told); k++)
        objects_foreach(it, d, told[k].kind)
        {
            const struct mz_node *status = mz_node_get((*it)->tree, "status"),
                                 *parents = mz_node_get(status, "parents");
            conditions(d, *it, told[k].types, mz_node_get(status, "conditions"));
            for (size_t i = 0; i < mz_node_count(parents); i++)
                conditions(d, *it, told[k].types, mz_node_get(parents->list[i], "conditions"));
        }
}

/* ---- all ---- */

static bool concerns(const struct mz_object *o)
{
    return mz_str_eq(o->group, MZ_STR(GROUP)) ||
           (mz_str_eq(o->group, MZ_STR("networking.k8s.io")) &&
            mz_str_eq(o->kind, MZ_STR("Ingress")));
}

static void judge(struct mz_documents *d)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_model *m = mz_model_build(d->store, &o, NULL);
    const struct mz_gateway_api *g = m->gateway_api;
    for (size_t i = 0; i < g->gateways_n; i++)
        gateway(d, g->gateways[i]);
    for (size_t i = 0; i < g->routes_n; i++)
        route(d, &g->routes[i]);
    for (size_t i = 0; i < g->policies_n; i++)
        policy(d, &g->policies[i]);
    for (size_t i = 0; i < g->ingresses_n; i++)
        ingress(d, &g->ingresses[i]);
    mz_model_unref(m);
}

void documents_keep(struct mz_documents *d, struct mz_doc *doc)
{
    if (!d->store)
        d->store = mz_store_create(nobody, NULL);
    mz_store_put(d->store, doc);
}

void find_in_gateway_api(struct mz_documents *d)
{
    static const char *const kinds[] = { "AuthorizationPolicy", "RequestAuthentication",
                                         "Telemetry", "WasmPlugin" };
    bool any = false;
    mz_map_init(&d->apis, MZ_MEM_CONFIG);
    for (size_t i = 0; i < d->v.n; i++) {
        const struct mz_object *o = d->v.v[i];
        const struct mz_str key =
            concerns(o) ? api_key(d->arena, o->group, o->kind, o->ns, o->name) : MZ_STR("");
        any |= key.n > 0;
        if (key.n && !mz_map_get(&d->apis, key))
            (void)mz_map_put(&d->apis, key, d->v.v[i]);
    }
    for (size_t i = 0; any && i < d->v.n; i++) {
        const struct mz_str kind = d->v.v[i]->kind;
        if (mz_str_eq(d->v.v[i]->group, MZ_STR(GROUP)) && mz_str_ends(kind, MZ_STR("Route")))
            lost_parents(d, d->v.v[i]);
    }
    if (any && d->store)
        judge(d);
    written_conditions(d);
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        selectors(d, kinds[i]);
    mz_map_fini(&d->apis);
}
