/* Ingresses: where those who serve them are reached. */
#include "control/status/status_priv.h"
#include "net/addr.h"

struct texts {
    struct mz_str *v;
    size_t n_v;
};

static void add(struct status_making *m, struct texts *l, const char *text)
{
    if (text[0])
        l->v = status_add_text(m->a, l->v, &l->n_v, mz_str_c(text));
}

static void of_service(struct status_making *m, const char *name, struct texts *out)
{
    const struct mz_doc *doc =
        mz_store_get(m->f->store, mz_arena_printf(m->a, "Service/istio-system/%s", name));
    const k8s_Service *s = doc ? (const k8s_Service *)mz_doc_body(doc, m->a) : NULL;
    const k8s_LoadBalancerStatus *lb = s && s->status ? s->status->loadbalancer : NULL;
    if (s && s->spec && strcmp(s->spec->type, "ExternalName") == 0) {
        add(m, out, s->spec->externalname);
        return;
    }
    for (size_t i = 0; lb && i < lb->n_ingress; i++)
        add(m, out, lb->ingress[i]->ip[0] ? lb->ingress[i]->ip : lb->ingress[i]->hostname);
    for (size_t i = 0; s && s->spec && i < s->spec->n_externalips; i++)
        add(m, out, s->spec->externalips[i]);
}

/* Without a Service, the outer addresses of the first pod's node. */
static void of_node(struct status_making *m, struct texts *out)
{
    const struct mz_labels selector = mz_ingress_selector(m->f->model->mesh.config, m->a);
    size_t n;
    const struct mz_doc *const *pods = mz_store_list(m->f->store, MZ_KIND_POD, &n);
    for (size_t i = 0; i < n; i++) {
        const struct mz_workload *w = mz_index_get(
            m->f->model->by_workload,
            mz_arena_printf(m->a, "%.*s/%.*s", MZ_STR_ARG(pods[i]->ns), MZ_STR_ARG(pods[i]->name)));
        const struct mz_doc *node =
            w && !w->gone && mz_str_eq(w->ns, MZ_STR("istio-system")) &&
                    mz_labels_match(selector, w->labels)
                ? mz_store_get(m->f->store, mz_arena_printf(m->a, "Node/%.*s", MZ_STR_ARG(w->node)))
                : NULL;
        const k8s_Node *k = node ? (const k8s_Node *)mz_doc_body(node, m->a) : NULL;
        for (size_t j = 0; k && k->status && j < k->status->n_addresses; j++)
            if (strcmp(k->status->addresses[j]->type, "ExternalIP") == 0)
                add(m, out, k->status->addresses[j]->address);
        if (k)
            return;
    }
}

static void balancer(struct status_making *m, const struct texts *at)
{
    struct mz_addr parsed;
    json_key(&m->j, "loadBalancer");
    json_open(&m->j, '{');
    if (at->n_v) {
        json_key(&m->j, "ingress");
        json_open(&m->j, '[');
        for (unsigned ip = 1; ip < 3; ip++) /* addresses first */
            for (size_t i = 0; i < at->n_v; i++)
                if (mz_addr_parse_ip(at->v[i], 0, &parsed) == (ip == 1)) {
                    json_open(&m->j, '{');
                    json_member(&m->j, ip == 1 ? "ip" : "hostname", at->v[i]);
                    json_close(&m->j, '}');
                }
        json_close(&m->j, ']');
    }
    json_close(&m->j, '}');
}

void status_ingresses(struct status_making *m)
{
    const struct mz_gateway_api *g = m->f->model->gateway_api;
    const char *service = m->f->model->mesh.config->ingress_service;
    struct texts at = { 0 };
    if (!g->ingresses_n)
        return;
    of_service(m, service[0] ? service : "istio-ingressgateway", &at);
    if (!at.n_v && service[0] == 0)
        of_node(m, &at);
    for (size_t i = 0; i < g->ingresses_n; i++) {
        const struct mz_gw_ingress *x = &g->ingresses[i];
        status_begin(m, "networking.k8s.io", "v1", "Ingress", x->ns, x->name, x->key);
        balancer(m, &at);
        status_end(m, "Ingress", x->ns, x->name);
    }
}
