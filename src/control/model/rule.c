#include "control/model/rule.h"

#include <stdlib.h>

#include "control/model/model_priv.h"

/* ---- building ---- */

/* A name without a dot is one of the document's namespace. */
struct mz_str model_full_host(struct model_draft *d, struct mz_str host, struct mz_str ns)
{
    if (mz_str_chr(host, '.') >= 0 || mz_str_chr(host, ':') >= 0 || mz_str_eq(host, MZ_STR("*")))
        return mz_arena_dup(d->m->arena, host);
    return mz_arena_printf(d->m->arena, "%.*s.%.*s.svc.%.*s", MZ_STR_ARG(host), MZ_STR_ARG(ns),
                           MZ_STR_ARG(d->m->mesh.domain));
}

static const struct mz_str *export_to(struct model_draft *d, const ist_DestinationRule *m,
                                      size_t *out_n)
{
    struct mz_str *v = mz_arena_alloc(d->m->arena, m->n_export_to * sizeof(*v));
    for (size_t i = 0; i < m->n_export_to; i++)
        v[i] = mz_arena_dup(d->m->arena, mz_str_c(m->export_to[i]));
    *out_n = m->n_export_to;
    if (!*out_n) {
        *out_n = d->m->mesh.rule_export_to_n;
        return d->m->mesh.rule_export_to;
    }
    return v;
}

const ist_Subset *mz_rule_subset(const struct mz_rule *r, struct mz_str name)
{
    for (size_t i = 0; i < r->subsets_n; i++)
        if (mz_str_eq(mz_str_c(r->subsets[i]->name), name))
            return r->subsets[i];
    return NULL;
}

/* A later document of the same host adds subsets, and the policy where there is none yet. */
static void join(struct model_draft *d, struct mz_rule *r, const ist_DestinationRule *m,
                 uint64_t version)
{
    const ist_Subset **v = mz_arena_alloc(d->m->arena, (r->subsets_n + m->n_subsets) * sizeof(*v));
    if (r->subsets_n)
        memcpy(v, r->subsets, r->subsets_n * sizeof(*v));
    r->subsets = v;
    for (size_t i = 0; i < m->n_subsets; i++)
        if (!mz_rule_subset(r, mz_str_c(m->subsets[i]->name)))
            v[r->subsets_n++] = m->subsets[i];
    r->policy = r->policy ? r->policy : m->traffic_policy;
    r->hash = mz_xxh64(&version, sizeof(version), r->hash);
}

static int compare_rules(const void *a, const void *b)
{
    const struct model_rule *x = a, *y = b;
    int c = mz_str_cmp(x->created, y->created);
    c = c ? c : mz_str_cmp(x->ns, y->ns);
    return c ? c : mz_str_cmp(x->name, y->name);
}

static bool is_dialled(const ist_TrafficPolicy *t)
{
    bool any = t && t->load_balancer &&
               t->load_balancer->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_SIMPLE &&
               t->load_balancer->simple == ist_LoadBalancerSettings_SimpleLB_PASSTHROUGH;
    for (size_t i = 0; t && i < t->n_port_level_settings; i++) {
        const ist_LoadBalancerSettings *l = t->port_level_settings[i]->load_balancer;
        any |= l && l->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_SIMPLE &&
               l->simple == ist_LoadBalancerSettings_SimpleLB_PASSTHROUGH;
    }
    return any;
}

static bool lets_dial(const ist_DestinationRule *m)
{
    bool any = is_dialled(m->traffic_policy);
    for (size_t i = 0; i < m->n_subsets; i++)
        any |= is_dialled(m->subsets[i]->traffic_policy);
    return any;
}

static bool same_labels(struct mz_labels a, struct mz_labels b)
{
    for (size_t i = 0; a.n == b.n && i < a.n; i++)
        if (!mz_str_eq(a.v[i].key, b.v[i].key) || !mz_str_eq(a.v[i].value, b.v[i].value))
            return false;
    return a.n == b.n;
}

static void add_rule(struct model_draft *d, const struct model_rule *from)
{
    const ist_DestinationRule *m = from->m;
    struct mz_str host = model_full_host(d, mz_str_c(m->host), from->ns);
    struct mz_str key =
        mz_arena_printf(d->m->arena, "%.*s/%.*s", MZ_STR_ARG(from->ns), MZ_STR_ARG(host));
    const struct mz_labels selector = model_selector(d->m->arena, m->workload_selector);
    struct mz_rule *first = mz_map_get(&d->m->rules, key), *r = first, *last = NULL;
    while (r && !same_labels(r->selector, selector)) {
        last = r;
        r = (struct mz_rule *)(uintptr_t)r->next; /* ours until the model stands */
    }
    if (!r) {
        r = mz_arena_new0(d->m->arena, struct mz_rule);
        r->selector = selector;
        r->ns = mz_arena_dup(d->m->arena, from->ns);
        r->name = mz_arena_dup(d->m->arena, from->name);
        r->host = host;
        r->export_to = export_to(d, m, &r->export_to_n);
        if (last)
            last->next = r;
        else
            (void)mz_map_put(&d->m->rules, key, r);
    }
    join(d, r, m, from->version);
    d->m->dialled |= lets_dial(m);
    d->m->rules_by_labels |= selector.n != 0;
    d->m->rules_hash = model_hash_str(
        model_hash_str(mz_xxh64(&from->version, sizeof(from->version), d->m->rules_hash), from->ns),
        from->name);
}

void model_made_rule(struct model_draft *d, struct mz_str ns, struct mz_str name,
                     const ist_DestinationRule *m)
{
    const struct mz_str bytes = mz_msg_pack_alloc(&m->base, d->scratch);
    *mz_vec_push(&d->made_rules, MZ_MEM_CONFIG) = (struct model_rule){
        ns, name, MZ_STR(""), m, mz_xxh64(bytes.p, bytes.n, 1)
    }; /* what is made of policies has no age */
}

void model_add_rules(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *docs = model_docs(d, MZ_KIND_DESTINATION_RULE, &n);
    struct model_rule *v = mz_arena_alloc(d->scratch, (n + d->made_rules.n) * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (struct model_rule){ docs[i]->ns, docs[i]->name, docs[i]->created,
                                    (const ist_DestinationRule *)mz_doc_body(docs[i], d->m->arena),
                                    docs[i]->version };
    mz_vec_foreach (r, &d->made_rules)
        v[n++] = *r;
    if (n)
        qsort(v, n, sizeof(*v), compare_rules);
    for (size_t i = 0; i < n; i++)
        add_rule(d, &v[i]);
}

/* ---- choosing ---- */

static const struct mz_rule *at(const struct mz_model *m, struct mz_str ns, struct mz_str host)
{
    char key[600];
    if (ns.n + 1 + host.n > sizeof(key))
        return NULL;
    memcpy(key, ns.p, ns.n);
    key[ns.n] = '/';
    memcpy(key + ns.n + 1, host.p, host.n);
    return mz_map_get(&m->rules, (struct mz_str){ key, ns.n + 1 + host.n });
}

/* "a.b.c", "*.b.c", "*.c", "*". */
static const struct mz_rule *most_specific(const struct mz_model *m, struct mz_str ns,
                                           struct mz_str host)
{
    const struct mz_rule *r = at(m, ns, host);
    char wild[300] = "*";
    for (ptrdiff_t dot; !r && host.n < sizeof(wild) - 1 && (dot = mz_str_chr(host, '.')) >= 0;) {
        memcpy(wild + 1, host.p + dot, host.n - (size_t)dot);
        r = at(m, ns, (struct mz_str){ wild, 1 + host.n - (size_t)dot });
        host = mz_str_skip(host, (size_t)dot + 1);
    }
    return r ? r : at(m, ns, MZ_STR("*"));
}

static bool is_exported(const struct mz_rule *r, struct mz_str ns)
{
    for (size_t i = 0; i < r->export_to_n; i++)
        if (mz_str_eq(r->export_to[i], MZ_STR("*")) || mz_str_eq(r->export_to[i], ns))
            return true;
    return !r->export_to_n;
}

/* One that selects the client, else the one for all. */
static const struct mz_rule *choose(const struct mz_rule *first, struct mz_labels client)
{
    const struct mz_rule *all = NULL;
    for (const struct mz_rule *r = first; r; r = r->next)
        if (!r->selector.n)
            all = r;
        else if (mz_labels_match(r->selector, client))
            return r;
    return all;
}

const struct mz_rule *mz_model_rule_for(const struct mz_model *m, struct mz_str ns,
                                        struct mz_labels client, const struct mz_service *s)
{
    static const struct mz_labels nobody;
    const struct mz_str others[] = { s->ns, m->mesh.root_ns };
    const struct mz_rule *own = m->rules.n ? most_specific(m, ns, s->host) : NULL;
    if (own) /* also where it holds for none of these clients */
        return choose(own, client);
    const struct mz_rule *r = NULL;
    for (size_t i = 0; !r && m->rules.n && i < MZ_COUNT(others); i++) {
        r = most_specific(m, others[i], s->host);
        r = r ? choose(r, nobody) : NULL;
        r = r && is_exported(r, ns) ? r : NULL;
    }
    return r;
}

const struct mz_rule *mz_model_rule(const struct mz_model *m, struct mz_str ns,
                                    const struct mz_service *s)
{
    return mz_model_rule_for(m, ns, (struct mz_labels){ 0 }, s);
}

/* ---- policies ---- */

/* What of @t is said for this port replaces what is said for all, piece by piece; settings of a port inherit nothing of it. */
static void apply(struct mz_policy *p, const ist_TrafficPolicy *t, uint16_t port)
{
    if (!t)
        return;
    p->lb = t->load_balancer ? t->load_balancer : p->lb;
    p->pool = t->connection_pool ? t->connection_pool : p->pool;
    p->outlier = t->outlier_detection ? t->outlier_detection : p->outlier;
    p->tls = t->tls ? t->tls : p->tls;
    p->proxy_protocol = t->proxy_protocol ? t->proxy_protocol : p->proxy_protocol;
    for (size_t i = 0; i < t->n_port_level_settings; i++) {
        const ist_TrafficPolicy_PortTrafficPolicy *s = t->port_level_settings[i];
        if (s->port && s->port->number == port) {
            *p = (struct mz_policy){ s->load_balancer, s->connection_pool, s->outlier_detection,
                                     s->tls, p->proxy_protocol };
            return;
        }
    }
}

struct mz_policy mz_rule_policy(const struct mz_rule *r, const ist_Subset *subset, uint16_t port)
{
    struct mz_policy p = { 0 };
    if (r)
        apply(&p, r->policy, port);
    if (subset)
        apply(&p, subset->traffic_policy, port);
    return p;
}
