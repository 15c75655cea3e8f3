/* GatewayClasses, Gateways, ListenerSets, BackendTLSPolicies. */
#include "control/status/status_priv.h"
#include "net/addr.h"

#define GROUP "gateway.networking.k8s.io"

static const struct mz_gw_error none = { 0 };

static struct mz_str joined(struct mz_arena *a, const struct mz_str *v, size_t n)
{
    struct mz_str s = n ? v[0] : MZ_STR("");
    for (size_t i = 1; i < n; i++)
        s = mz_arena_printf(a, "%.*s%s%s%.*s", MZ_STR_ARG(s), n > 2 ? "," : "",
                            i + 1 == n ? " and " : " ", MZ_STR_ARG(v[i]));
    return s;
}

static struct mz_str listed(struct mz_arena *a, const struct mz_str *v, size_t n)
{
    struct mz_str s = n ? v[0] : MZ_STR("");
    for (size_t i = 1; i < n; i++)
        s = mz_arena_printf(a, "%.*s; %.*s", MZ_STR_ARG(s), MZ_STR_ARG(v[i]));
    return s;
}

/* ---- listeners ---- */

static void kinds(struct status_making *m, unsigned bits)
{
    json_key(&m->j, "supportedKinds");
    json_open(&m->j, '[');
    for (unsigned k = 0; k < MZ_GW_ROUTE_KINDS; k++)
        if (bits >> k & 1) {
            json_open(&m->j, '{');
            json_member(&m->j, "group", MZ_STR(GROUP));
            json_member(&m->j, "kind", mz_str_c(mz_gw_route_kinds[k]));
            json_close(&m->j, '}');
        }
    json_close(&m->j, ']');
}

static void conditions_of(struct status_making *m, const struct mz_gw_listener *l)
{
    const struct mz_str fine = MZ_STR("No errors found");
    const struct mz_gw_error kind = { "InvalidRouteKinds", MZ_STR_INIT("Invalid route kinds") };
    const struct mz_gw_error both = {
        l->conflict,
        MZ_STR_INIT("Listener has a conflict with another listener attached to the same Gateway")
    };
    status_judge(m, "Accepted", l->conflict ? &both : &l->accepted, "Accepted", fine);
    status_condition(m, "Conflicted", l->conflict != NULL,
                     l->conflict ? l->conflict : "NoConflicts", l->conflict ? both.text : fine);
    status_judge(m, "Programmed", l->conflict ? &both : &l->programmed, "Programmed", fine);
    if (!l->conflict || !l->kinds_valid)
        status_judge(m, "ResolvedRefs", l->kinds_valid ? &l->refs : &kind, "ResolvedRefs", fine);
}

static void listeners(struct status_making *m, const struct mz_gw *gw)
{
    json_key(&m->j, "listeners");
    json_open(&m->j, '[');
    for (size_t i = 0; i < gw->listeners_n; i++) {
        const struct mz_gw_listener *l = &gw->listeners[i];
        json_open(&m->j, '{');
        json_key(&m->j, "attachedRoutes");
        json_u64(&m->j, l->attached);
        json_key(&m->j, "conditions");
        json_open(&m->j, '[');
        conditions_of(m, l);
        json_close(&m->j, ']');
        json_member(&m->j, "name", mz_str_c(l->spec->name));
        kinds(m, l->kinds);
        json_close(&m->j, '}');
    }
    json_close(&m->j, ']');
}

static size_t count_valid(const struct mz_gw *gw)
{
    size_t n = 0;
    for (size_t i = 0; i < gw->listeners_n; i++)
        n += gw->listeners[i].valid;
    return n;
}

/* ---- Gateways ---- */

static void programmed(struct status_making *m, const struct mz_gw *gw,
                       const struct status_addresses *at, const struct mz_gw_error *instead)
{
    const struct mz_str in = joined(m->a, at->internal, at->n_internal),
                        why = listed(m->a, at->warnings, at->n_warnings);
    struct mz_gw_error e = *instead;
    if (!e.reason && !gw->services_n)
        e = (struct mz_gw_error){ "UnsupportedAddress",
                                  MZ_STR("Failed to assign to any requested addresses") };
    else if (!e.reason && at->n_warnings)
        e = (struct mz_gw_error){
            at->unusable ? "AddressNotUsable" : "AddressNotAssigned",
            at->n_internal
                ? mz_arena_printf(m->a,
                                  "Assigned to service(s) %.*s, but failed to assign to all "
                                  "requested addresses: %.*s",
                                  MZ_STR_ARG(in), MZ_STR_ARG(why))
                : mz_arena_printf(m->a, "Failed to assign to any requested addresses: %.*s",
                                  MZ_STR_ARG(why))
        };
    status_judge(m, "Programmed", &e, "Programmed",
                 at->n_internal
                     ? mz_arena_printf(m->a, "Resource programmed, assigned to service(s) %.*s",
                                       MZ_STR_ARG(in))
                     : MZ_STR("Resource programmed"));
}

static void accepted(struct status_making *m, const struct mz_gw *gw)
{
    const size_t valid = count_valid(gw);
    const struct mz_gw_error no_one = { "ListenersNotValid",
                                        MZ_STR_INIT("None of the Gateway's listeners are valid") };
    if (gw->error.reason)
        status_judge(m, "Accepted", &gw->error, "", MZ_STR(""));
    else if (gw->listeners_n && !valid)
        status_judge(m, "Accepted", &no_one, "", MZ_STR(""));
    else if (valid < gw->listeners_n)
        status_condition(m, "Accepted", true, "ListenersNotValid",
                         MZ_STR("One or more of the Gateway's listeners are invalid"));
    else
        status_condition(m, "Accepted", true, "Accepted", MZ_STR("Resource accepted"));
}

static void address(struct status_making *m, const char *type, struct mz_str value)
{
    json_open(&m->j, '{');
    json_member(&m->j, "type", mz_str_c(type));
    json_member(&m->j, "value", value);
    json_close(&m->j, '}');
}

/* Those outside; without any, those inside of the kind that is wanted. */
static void addresses(struct status_making *m, const struct mz_gw *gw,
                      const struct status_addresses *at)
{
    struct mz_addr parsed;
    struct mz_str *v = at->external;
    size_t n = at->n_external;
    const bool ip = mz_str_eq(gw->address_type, MZ_STR("IPAddress"));
    if (!n && ip) {
        v = at->internal_ip;
        n = at->n_internal_ip;
    }
    for (size_t i = 0; !at->n_external && !ip && i < at->n_internal; i++) {
        struct mz_str host = at->internal[i];
        host.n = (size_t)mz_str_rchr(host, ':');
        bool waits = false;
        for (size_t k = 0; k < at->n_pending; k++)
            waits |= mz_str_eq(at->pending[k], host);
        if (!waits)
            v = status_add_text(m->a, v, &n, host);
    }
    if (!n)
        return;
    json_key(&m->j, "addresses");
    json_open(&m->j, '[');
    for (size_t i = 0; i < n; i++)
        address(m, mz_addr_parse_ip(v[i], 0, &parsed) ? "IPAddress" : "Hostname", v[i]);
    json_close(&m->j, ']');
}

static void remote(struct status_making *m, const struct mz_gw *gw)
{
    if (gw->spec->n_addresses) {
        json_key(&m->j, "addresses");
        json_open(&m->j, '[');
        for (size_t i = 0; i < gw->spec->n_addresses; i++) {
            const k8s_GatewayAddress *x = gw->spec->addresses[i];
            address(m, x->type ? x->type->value : "IPAddress", mz_str_c(x->value));
        }
        json_close(&m->j, ']');
    }
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    status_condition(m, "Accepted", true, "Accepted", MZ_STR("Resource accepted"));
    status_condition(m, "Programmed", true, "Programmed",
                     MZ_STR("This Gateway is remote; Istio will not program it"));
    json_close(&m->j, ']');
}

static void gateway(struct status_making *m, const struct mz_gw *gw)
{
    const struct status_addresses at = status_find_addresses(m, gw);
    status_begin(m, GROUP, "v1", "Gateway", gw->ns, gw->name, gw->key);
    if (gw->remote) {
        remote(m, gw);
        status_end(m, "KubernetesGateway", gw->ns, gw->name);
        return;
    }
    addresses(m, gw, &at);
    if (gw->sets) {
        json_key(&m->j, "attachedListenerSets");
        json_u64(&m->j, gw->sets);
    }
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    accepted(m, gw);
    if (gw->insecure)
        status_condition(m, "InsecureFrontendValidationMode", true, "ConfigurationChanged",
                         MZ_STR("Gateway is operating in AllowInsecureFallback mode for frontend "
                                "validation"));
    programmed(m, gw, &at, &none);
    status_judge(m, "ResolvedRefs", &gw->backend_tls, "ResolvedRefs",
                 MZ_STR("All references resolved"));
    json_close(&m->j, ']');
    listeners(m, gw);
    status_end(m, "KubernetesGateway", gw->ns, gw->name);
}

static void listener_set(struct status_making *m, const struct mz_gw *gw)
{
    const struct status_addresses at = status_find_addresses(m, gw);
    struct mz_gw_error e = { 0 }, p = { 0 };
    if (gw->refused)
        e = p = (struct mz_gw_error){ "NotAllowed", mz_str_c(gw->refused) };
    else if (!count_valid(gw))
        e = p = (struct mz_gw_error){ "ListenersNotValid",
                                      MZ_STR("None of the ListenerSet's listeners are valid") };
    if (!gw->refused && gw->error.reason)
        e = (struct mz_gw_error){ gw->error.reason,
                                  mz_arena_printf(m->a, "Parent not accepted: %.*s",
                                                  MZ_STR_ARG(gw->error.text)) };
    status_begin(m, GROUP, "v1", "ListenerSet", gw->ns, gw->name, gw->key);
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    status_judge(m, "Accepted", &e, "Accepted", MZ_STR("Resource accepted"));
    programmed(m, gw, &at, &p);
    json_close(&m->j, ']');
    if (!gw->refused)
        listeners(m, gw);
    status_end(m, "ListenerSet", gw->ns, gw->name);
}

/* ---- policies ---- */

static void ancestor(struct status_making *m, const char *controller,
                     const struct mz_gw_policy_target *t, struct mz_str gateway_name)
{
    json_open(&m->j, '{');
    json_key(&m->j, "ancestorRef");
    json_open(&m->j, '{');
    json_key(&m->j, "group");
    json_str(&m->j, gateway_name.n ? MZ_STR(GROUP) : mz_str_c(t->ref->group));
    json_member(&m->j, "kind", gateway_name.n ? MZ_STR("Gateway") : mz_str_c(t->ref->kind));
    json_member(&m->j, "name", gateway_name.n ? gateway_name : mz_str_c(t->ref->name));
    if (!gateway_name.n && t->ref->sectionname)
        json_member(&m->j, "sectionName", mz_str_c(t->ref->sectionname->value));
    json_close(&m->j, '}');
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    status_judge(m, "Accepted", &t->accepted, "Accepted",
                 mz_arena_printf(m->a, "Configuration is valid%.*s", MZ_STR_ARG(t->note)));
    status_judge(m, "ResolvedRefs", &t->refs, "ResolvedRefs", MZ_STR("Configuration is valid"));
    json_close(&m->j, ']');
    json_member(&m->j, "controllerName", mz_str_c(controller));
    json_close(&m->j, '}');
}

static void policy(struct status_making *m, const struct mz_gw_policy *p)
{
    size_t n = 0;
    status_begin(m, GROUP, "v1", "BackendTLSPolicy", p->ns, p->name, p->key);
    json_key(&m->j, "ancestors");
    json_open(&m->j, '[');
    for (size_t i = 0; i < p->targets_n && n < 16; i++, n++)
        ancestor(m, MZ_GW_MESH_CONTROLLER, &p->targets[i], MZ_STR(""));
    for (size_t i = 0; p->targets_n && i < p->gateways_n && n < 16; i++, n++)
        ancestor(m, MZ_GW_CONTROLLER, &p->targets[p->targets_n - 1],
                 mz_str_skip(p->gateways[i], (size_t)mz_str_chr(p->gateways[i], '/') + 1));
    json_close(&m->j, ']');
    status_end(m, "BackendTLSPolicy", p->ns, p->name);
}

void status_gateway_api(struct status_making *m)
{
    const struct mz_gateway_api *g = m->f->model->gateway_api;
    for (size_t i = 0; i < g->classes_n; i++) {
        status_begin(m, GROUP, "v1", "GatewayClass", MZ_STR(""), g->classes[i].name,
                     g->classes[i].key);
        json_key(&m->j, "conditions");
        json_open(&m->j, '[');
        status_condition(m, "Accepted", true, "Accepted", MZ_STR("Handled by Istio controller"));
        json_close(&m->j, ']');
        status_end(m, "GatewayClass", MZ_STR(""), g->classes[i].name);
    }
    for (size_t i = 0; i < g->gateways_n; i++)
        if (g->gateways[i]->parent)
            listener_set(m, g->gateways[i]);
        else
            gateway(m, g->gateways[i]);
    for (size_t i = 0; i < g->policies_n; i++)
        policy(m, &g->policies[i]);
}
