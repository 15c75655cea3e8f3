/* Where the services in front of a Gateway can be reached, and what keeps them from being so. */
#include "control/status/status_priv.h"

struct mz_str *status_add_text(struct mz_arena *a, struct mz_str *v, size_t *n, struct mz_str text)
{
    size_t at = *n;
    for (size_t i = 0; i < *n; i++)
        if (mz_str_eq(v[i], text))
            return v;
    struct mz_str *own = mz_arena_alloc(a, (*n + 1) * sizeof(*own));
    if (*n)
        memcpy(own, v, *n * sizeof(*own));
    for (; at && mz_str_cmp(own[at - 1], text) > 0; at--)
        own[at] = own[at - 1];
    own[at] = text;
    (*n)++;
    return own;
}
#define ADD(m, out, list, text)                                                                    \
    ((out)->list = status_add_text((m)->a, (out)->list, &(out)->n_##list, (text)))
#define WARN(m, out, ...) ADD(m, out, warnings, mz_arena_printf((m)->a, __VA_ARGS__))

static const k8s_Service *document_of(struct status_making *m, const struct mz_service *s)
{
    const struct mz_doc *doc =
        mz_store_get(m->f->store, mz_arena_printf(m->a, "Service/%.*s/%.*s", MZ_STR_ARG(s->ns),
                                                  MZ_STR_ARG(s->name)));
    return doc && !s->entry ? (const k8s_Service *)mz_doc_body(doc, m->a) : NULL;
}

static size_t add_external(struct status_making *m, const k8s_Service *s,
                           struct status_addresses *out)
{
    size_t n = 0;
    const k8s_LoadBalancerStatus *lb = s && s->status ? s->status->loadbalancer : NULL;
    for (size_t i = 0; lb && i < lb->n_ingress; i++, n++)
        ADD(m, out, external,
            mz_str_c(lb->ingress[i]->ip[0] ? lb->ingress[i]->ip : lb->ingress[i]->hostname));
    for (size_t i = 0; s && s->spec && i < s->spec->n_externalips; i++, n++)
        ADD(m, out, external, mz_str_c(s->spec->externalips[i]));
    return n;
}

static void add_served(struct status_making *m, const struct mz_service *s, uint16_t port,
                       struct status_addresses *out)
{
    const k8s_Service *doc = document_of(m, s);
    ADD(m, out, internal, mz_arena_printf(m->a, "%.*s:%u", MZ_STR_ARG(s->host), port));
    for (size_t i = 0; i < s->addresses_n; i++)
        ADD(m, out, internal_ip, s->addresses[i]);
    if (add_external(m, doc, out) || !doc || !doc->spec ||
        strcmp(doc->spec->type, "LoadBalancer") != 0)
        return;
    WARN(m, out, "address pending for hostname \"%.*s\"", MZ_STR_ARG(s->host));
    ADD(m, out, pending, s->host);
}

/* Perhaps the number that was meant is that of the workload. */
static void explain_port(struct status_making *m, const struct mz_service *s, uint16_t port,
                         struct status_addresses *out)
{
    struct mz_str hint = MZ_STR("");
    bool any = false;
    for (size_t i = 0; i < s->ports_n; i++) {
        const struct mz_endpoints *e = mz_model_endpoints(m->f->model, &s->ports[i]);
        bool meant = false;
        any |= e->n != 0;
        for (size_t k = 0; k < e->n; k++)
            meant |= e->v[k].port == port;
        if (meant)
            hint = mz_arena_printf(m->a, "%.*s%s%u", MZ_STR_ARG(hint), hint.n ? " " : "",
                                   s->ports[i].port);
    }
    if (!any) {
        WARN(m, out, "no instances found for hostname \"%.*s\"", MZ_STR_ARG(s->host));
        return;
    }
    if (hint.n)
        WARN(m, out,
             "port %u not found for hostname \"%.*s\" (hint: the service port should be "
             "specified, not the workload port. Did you mean one of these ports: [%.*s]?)",
             port, MZ_STR_ARG(s->host), MZ_STR_ARG(hint));
    else if (mz_label_get(s->labels, "gateway.istio.io/managed").n && mz_service_port(s, port))
        return; /* its endpoints come */
    else
        WARN(m, out, "port %u not found for hostname \"%.*s\"", port, MZ_STR_ARG(s->host));
    out->unusable = true;
}

static void resolve_port(struct status_making *m, const struct mz_service *s, uint16_t port,
                         struct status_addresses *out)
{
    const struct mz_port *p = mz_service_port(s, port);
    if (p && mz_model_endpoints(m->f->model, p)->n)
        add_served(m, s, port, out);
    else
        explain_port(m, s, port, out);
}

static void not_found(struct status_making *m, struct mz_str host, struct mz_str ns,
                      struct status_addresses *out)
{
    struct mz_str *others = NULL, list = MZ_STR("");
    size_t n = 0;
    out->unusable = true;
    for (size_t i = 0; i < m->f->model->services_n; i++)
        if (mz_str_eq(m->f->model->services[i]->host, host))
            others = status_add_text(m->a, others, &n, m->f->model->services[i]->ns);
    for (size_t i = 0; i < n; i++)
        list = mz_arena_printf(m->a, "%.*s%s\"%.*s\"", MZ_STR_ARG(list), i ? ", " : "",
                               MZ_STR_ARG(others[i]));
    if (n)
        WARN(m, out,
             "hostname \"%.*s\" not found in namespace \"%.*s\", but it was found in "
             "namespace(s) %.*s",
             MZ_STR_ARG(host), MZ_STR_ARG(ns), MZ_STR_ARG(list));
    else
        WARN(m, out, "hostname \"%.*s\" not found", MZ_STR_ARG(host));
}

/* Ports of its own listeners, and of the sets that were let in. */
static void resolve(struct status_making *m, const struct mz_gw *gw, const struct mz_gw *of,
                    const struct mz_service *s, struct status_addresses *out)
{
    for (size_t i = 0; i < of->listeners_n; i++)
        if (of->listeners[i].server && (of == gw || of->listeners[i].valid))
            resolve_port(m, s, of->listeners[i].port, out);
}

struct status_addresses status_find_addresses(struct status_making *m, const struct mz_gw *gw)
{
    struct status_addresses out = { 0 };
    const struct mz_gateway_api *all = m->f->model->gateway_api;
    const struct mz_str ns = gw->parent ? gw->parent->ns : gw->ns;
    for (size_t i = 0; i < gw->services_n; i++) {
        const struct mz_service *s = mz_model_service_in(m->f->model, ns, gw->services[i]);
        if (!s) {
            not_found(m, gw->services[i], ns, &out);
            continue;
        }
        resolve(m, gw, gw, s, &out);
        for (size_t k = 0; k < all->gateways_n; k++)
            if (all->gateways[k]->parent == gw)
                resolve(m, gw, all->gateways[k], s, &out);
    }
    return out;
}
