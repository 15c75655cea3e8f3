/* Routes of the Gateway API: what became of each of their parents. */
#include "control/status/status_priv.h"

static void member(struct status_making *m, const char *key, const pb_StringValue *v)
{
    if (!v)
        return;
    json_key(&m->j, key);
    json_str(&m->j, mz_str_c(v->value)); /* "" is Kubernetes' own group */
}

static void parent(struct status_making *m, const struct mz_gw_parent *p)
{
    const k8s_ParentReference *r = p->ref;
    json_open(&m->j, '{');
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    status_judge(m, "Accepted", &p->denied, "Accepted",
                 p->bound > 1
                     ? mz_arena_printf(m->a, "Route was valid, bound to %u parents", p->bound)
                     : MZ_STR("Route was valid"));
    status_judge(m, "ResolvedRefs", &p->route, "ResolvedRefs", MZ_STR("All references resolved"));
    json_close(&m->j, ']');
    json_member(&m->j, "controllerName", MZ_STR(MZ_GW_CONTROLLER));
    json_key(&m->j, "parentRef");
    json_open(&m->j, '{');
    member(m, "group", r->group);
    member(m, "kind", r->kind);
    json_member(&m->j, "name", mz_str_c(r->name));
    member(m, "namespace", r->namespace_);
    if (r->port) {
        json_key(&m->j, "port");
        json_u64(&m->j, (uint64_t)r->port->value);
    }
    member(m, "sectionName", r->sectionname);
    json_close(&m->j, '}');
    json_close(&m->j, '}');
}

void status_routes(struct status_making *m)
{
    const struct mz_gateway_api *g = m->f->model->gateway_api;
    for (size_t i = 0; i < g->routes_n; i++) {
        const struct mz_gw_route *r = &g->routes[i];
        const char *kind = mz_kind_info(r->kind)->name;
        status_begin(m, "gateway.networking.k8s.io", "v1", kind, r->ns, r->name, r->key);
        json_key(&m->j, "parents");
        json_open(&m->j, '[');
        for (size_t k = 0; k < r->parents_n; k++)
            parent(m, &r->parents[k]);
        json_close(&m->j, ']');
        status_end(m, kind, r->ns, r->name);
    }
}
