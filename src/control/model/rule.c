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

static int compare_names(const void *a, const void *b)
{
    return mz_str_cmp(*(const struct mz_str *)a, *(const struct mz_str *)b);
}

/* Sorted where the document says it. */
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
    qsort(v, *out_n, sizeof(*v), compare_names);
    return v;
}

const ist_Subset *mz_rule_subset(const struct mz_rule *r, struct mz_str name)
{
    size_t from = 0, to = r->subsets_n;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        const int c = mz_str_cmp(mz_str_c(r->by_name[mid]->name), name);
        if (!c)
            return r->by_name[mid];
        if (c < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

static int compare_subsets(const void *a, const void *b)
{
    const ist_Subset *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void sort_subsets(struct model_draft *d, struct mz_rule *r)
{
    const ist_Subset **v = mz_arena_alloc(d->m->arena, r->subsets_n * sizeof(*v));
    r->by_name = v;
    if (!r->subsets_n)
        return;
    memcpy(v, r->subsets, r->subsets_n * sizeof(*v));
    qsort(v, r->subsets_n, sizeof(*v), compare_subsets);
}

/* ---- what people wrote over what was made of policies of the Gateway API ---- */

static int compare_settings(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* By number; of one number they stay as they stand. */
static void sort_settings(struct mz_arena *a, ist_TrafficPolicy *t)
{
    const size_t n = t ? t->n_port_level_settings : 0;
    if (n < 2)
        return;
    ist_TrafficPolicy_PortTrafficPolicy **v = mz_arena_alloc(a, n * sizeof(*v));
    uint64_t *at = mz_alloc(MZ_MEM_CONFIG, n * sizeof(*at));
    for (size_t i = 0; i < n; i++) {
        const ist_TrafficPolicy_PortTrafficPolicy *s = t->port_level_settings[i];
        at[i] = (uint64_t)(s->port ? s->port->number : 0) << 32 | i;
    }
    qsort(at, n, sizeof(*at), compare_settings);
    for (size_t i = 0; i < n; i++)
        v[i] = t->port_level_settings[(uint32_t)at[i]];
    t->port_level_settings = v;
    mz_free(MZ_MEM_CONFIG, at);
}

static void sort_policies(struct mz_arena *a, const ist_DestinationRule *m)
{
    sort_settings(a, m->traffic_policy);
    for (size_t i = 0; i < m->n_subsets; i++)
        sort_settings(a, m->subsets[i]->traffic_policy);
}

#define FILL(to, from, field) ((to)->field = (to)->field ? (to)->field : (from)->field)

static void fill_port(struct model_draft *d, ist_TrafficPolicy *t,
                      ist_TrafficPolicy_PortTrafficPolicy *from)
{
    for (size_t i = 0; i < t->n_port_level_settings; i++) {
        ist_TrafficPolicy_PortTrafficPolicy *had = t->port_level_settings[i];
        if (!had->port || !from->port || had->port->number != from->port->number)
            continue;
        ist_TrafficPolicy_PortTrafficPolicy *own = mz_arena_alloc(d->m->arena, sizeof(*own));
        *own = *had;
        FILL(own, from, load_balancer);
        FILL(own, from, connection_pool);
        FILL(own, from, outlier_detection);
        FILL(own, from, tls);
        t->port_level_settings[i] = own;
        return;
    }
    t->port_level_settings[t->n_port_level_settings++] = from;
}

/* Each piece that @user does not say is @made's. Either may be NULL. */
static const ist_TrafficPolicy *filled(struct model_draft *d, const ist_TrafficPolicy *user,
                                       const ist_TrafficPolicy *made)
{
    if (!user || !made)
        return user ? user : made;
    ist_TrafficPolicy *t = mz_arena_alloc(d->m->arena, sizeof(*t));
    *t = *user;
    FILL(t, made, load_balancer);
    FILL(t, made, connection_pool);
    FILL(t, made, outlier_detection);
    FILL(t, made, tls);
    FILL(t, made, tunnel);
    FILL(t, made, proxy_protocol);
    FILL(t, made, retry_budget);
    const size_t n = user->n_port_level_settings;
    t->port_level_settings =
        mz_arena_alloc(d->m->arena, (n + made->n_port_level_settings) * sizeof(void *));
    if (n)
        memcpy(t->port_level_settings, user->port_level_settings, n * sizeof(void *));
    for (size_t i = 0; i < made->n_port_level_settings; i++)
        fill_port(d, t, made->port_level_settings[i]);
    sort_settings(d->m->arena, t);
    return t;
}

/* Documents of one host in one namespace becoming rules. */
struct joining {
    struct model_draft *d;
    struct mz_map subsets; /* rule and name of those that are there */
};

static bool is_new(struct joining *j, const struct mz_rule *r, const char *subset)
{
    const struct mz_str key[] = { { (const char *)&r, sizeof(r) }, mz_str_c(subset) };
    return !mz_map_put(&j->subsets, mz_arena_cat(j->d->scratch, MZ_COUNT(key), key), j);
}

static void add_subsets(struct joining *j, struct mz_rule *r, const ist_DestinationRule *m)
{
    const ist_Subset **v =
        (const ist_Subset **)(uintptr_t)r->subsets; /* ours until the model stands */
    for (size_t i = 0; i < m->n_subsets; i++) {
        if (!is_new(j, r, m->subsets[i]->name))
            continue;
        if (!(r->subsets_n & (r->subsets_n - 1))) { /* room doubles */
            const ist_Subset **more =
                mz_arena_alloc(j->d->m->arena, (2 * r->subsets_n + 1) * sizeof(*more));
            if (r->subsets_n)
                memcpy(more, v, r->subsets_n * sizeof(*more));
            r->subsets = v = more;
        }
        v[r->subsets_n++] = m->subsets[i];
    }
}

/* A later document of the same host adds subsets, and the policy where there is none yet. */
static void join(struct joining *j, struct mz_rule *r, const struct model_rule *from)
{
    struct model_draft *d = j->d;
    const ist_DestinationRule *m = from->m;
    const uint64_t version = from->version;
    add_subsets(j, r, m);
    if (!r->hash || r->made == from->made)
        r->policy = r->policy ? r->policy : m->traffic_policy;
    else
        r->policy = r->made ? filled(d, m->traffic_policy, r->policy)
                            : filled(d, r->policy, m->traffic_policy);
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

/* Every name of @b is one of @a; both are sorted. */
static bool holds(const struct mz_rule *a, const struct mz_rule *b)
{
    for (size_t i = 0, k = 0; i < b->export_to_n; i++) {
        while (k < a->export_to_n && mz_str_cmp(a->export_to[k], b->export_to[i]) < 0)
            k++;
        if (k == a->export_to_n || !mz_str_eq(a->export_to[k], b->export_to[i]))
            return false;
    }
    return true;
}

/* The later one is for the same clients, or for more. */
static bool is_for_more(const struct mz_rule *later, const struct mz_rule *r)
{
    if (!same_labels(later->selector, r->selector))
        return false;
    if (r->selector.n) /* which are of its own namespace, whatever it says */
        return true;
    return r->export_to_n ? holds(later, r) : !later->export_to_n;
}

/* Joins a document to those of its host that are for the same clients; the first of all. */
static struct mz_rule *add_rule(struct joining *j, struct mz_rule *first,
                                const struct model_rule *from)
{
    struct model_draft *d = j->d;
    struct mz_rule *own = mz_arena_new0(d->m->arena, struct mz_rule), *last = NULL;
    bool alone = true;
    own->selector = model_selector(d->m->arena, from->m->workload_selector);
    own->ns = from->ns;
    own->name = from->name;
    own->host = from->host;
    own->made = from->made;
    own->export_to = export_to(d, from->m, &own->export_to_n);
    for (struct mz_rule *r = first; r; r = (struct mz_rule *)(uintptr_t)r->next) {
        last = r; /* ours until the model stands */
        alone = !is_for_more(own, r);
        if (!alone)
            join(j, r, from);
    }
    if (!alone)
        return first;
    join(j, own, from);
    if (last)
        last->next = own;
    return first ? first : own;
}

/* All documents of one host in one namespace, oldest first. */
static const struct mz_rule *make_rules(struct model_draft *d, const struct model_rule *const *v,
                                        size_t n)
{
    struct mz_rule *first = NULL;
    struct joining j = { .d = d };
    mz_map_init(&j.subsets, MZ_MEM_CONFIG);
    for (size_t i = 0; i < n; i++)
        first = add_rule(&j, first, v[i]);
    mz_map_fini(&j.subsets);
    for (struct mz_rule *r = first; r; r = (struct mz_rule *)(uintptr_t)r->next)
        sort_subsets(d, r);
    if (first) {
        first->docs = v;
        first->docs_n = n;
    }
    return first;
}

/* What follows from each by itself. */
static void count_rule(struct mz_model *m, const struct model_rule *r, int by)
{
    const ist_WorkloadSelector *s = r->m->workload_selector;
    m->dialled += (unsigned)(lets_dial(r->m) ? by : 0);
    m->rules_wild += (unsigned)(mz_str_starts(r->host, MZ_STR("*")) ? by : 0);
    m->rules_by_labels += (unsigned)(s && s->n_match_labels ? by : 0);
    m->rules_hash += (uint64_t)by * model_hash_str(model_hash_str(r->version, r->ns), r->name);
}

static struct model_rule *finish_rule(struct model_draft *d, struct model_rule *r)
{
    struct mz_arena *a = d->m->arena;
    r->host = model_full_host(d, mz_str_c(r->m->host), r->ns);
    r->key = mz_arena_printf(a, "%.*s/%.*s", MZ_STR_ARG(r->ns), MZ_STR_ARG(r->host));
    sort_policies(a, r->m);
    return r;
}

static struct model_rule *read_rule(struct model_draft *d, const struct mz_doc *doc)
{
    struct mz_arena *a = d->m->arena;
    struct model_rule *r = mz_arena_new0(a, struct model_rule);
    *r = (struct model_rule){ mz_arena_dup(a, doc->ns),
                              mz_arena_dup(a, doc->name),
                              mz_arena_dup(a, doc->created),
                              (const ist_DestinationRule *)mz_doc_body(doc, a),
                              doc->version,
                              { 0 },
                              { 0 },
                              false };
    return finish_rule(d, r);
}

void model_made_rule(struct model_draft *d, struct mz_str ns, struct mz_str name,
                     const ist_DestinationRule *m)
{
    const struct mz_str bytes = mz_msg_pack_alloc(&m->base, d->scratch);
    *mz_vec_push(&d->made_rules, MZ_MEM_CONFIG) =
        (struct model_rule){ ns,    name,  MZ_STR(""), m, mz_xxh64(bytes.p, bytes.n, 1),
                             { 0 }, { 0 }, true }; /* what is made of policies has no age */
}

static struct mz_str doc_key(struct model_draft *d, struct mz_str ns, struct mz_str name)
{
    return mz_arena_printf(d->m->arena, "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(name));
}

/* Those of one host stand together, oldest first. */
static int compare_keys(const void *a, const void *b)
{
    const struct model_rule *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->key, (*y)->key);
    return c ? c : compare_rules(*x, *y);
}

void model_add_rules(struct model_draft *d)
{
    struct mz_model *m = d->m;
    size_t n;
    const struct mz_doc *const *docs = model_docs(d, MZ_KIND_DESTINATION_RULE, &n);
    const struct model_rule **v = mz_arena_alloc(m->arena, (n + d->made_rules.n) * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        v[i] = read_rule(d, docs[i]);
        (void)mz_index_put(&m->rule_docs, doc_key(d, v[i]->ns, v[i]->name), v[i]);
    }
    mz_vec_foreach (r, &d->made_rules) {
        struct model_rule *own = mz_arena_new0(m->arena, struct model_rule);
        *own = *r;
        own->ns = mz_arena_dup(m->arena, r->ns);
        own->name = mz_arena_dup(m->arena, r->name);
        v[n++] = finish_rule(d, own);
    }
    if (n)
        qsort(v, n, sizeof(*v), compare_keys);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && mz_str_eq(v[end]->key, v[i]->key); end++)
            count_rule(m, v[end], 1);
        (void)mz_index_put(&m->rules, v[i]->key, make_rules(d, &v[i], end - i));
    }
}

/* ---- one document is another ---- */

/* Those of one host without @old and with @new, either of which may be NULL. */
static void remake(struct model_patch *p, const struct model_rule *of, const struct model_rule *old,
                   const struct model_rule *new)
{
    struct mz_model *m = p->d.m;
    const struct mz_rule *was = mz_index_get(m->rules, of->key);
    const size_t had = was ? was->docs_n : 0;
    const struct model_rule **v = mz_arena_alloc(m->arena, (had + 1) * sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < had; i++)
        if (was->docs[i] != old)
            v[n++] = was->docs[i];
    if (new)
        v[n++] = new;
    if (n)
        qsort(v, n, sizeof(*v), compare_keys);
    const struct mz_rule *is = make_rules(&p->d, v, n);
    (void)mz_index_put(&m->rules, of->key, is);
    *mz_vec_push(&p->rules, MZ_MEM_CONFIG) = (struct mz_patched_rule){ of->host, was, is };
}

bool model_patch_rule(struct model_patch *p, const struct mz_store_change *c)
{
    struct mz_model *m = p->d.m;
    const struct mz_str key = doc_key(&p->d, c->ns, c->name);
    const struct mz_doc *doc = mz_store_get(p->d.store, c->key);
    const struct model_rule *old = mz_index_get(m->rule_docs, key),
                            *new = doc ? read_rule(&p->d, doc) : NULL;
    if (m->derived)
        return false;
    if (old == new || (old && new && old->version == new->version))
        return true;
    if ((old && mz_str_starts(old->host, MZ_STR("*"))) ||
        (new &&mz_str_starts(new->host, MZ_STR("*"))))
        return false; /* who knows whom it concerns */
    (void)mz_index_put(&m->rule_docs, key, new);
    if (old)
        count_rule(m, old, -1);
    if (new)
        count_rule(m, new, 1);
    if (old && new &&mz_str_eq(old->key, new->key)) {
        remake(p, old, old, new);
        return true;
    }
    if (old)
        remake(p, old, old, NULL);
    if (new)
        remake(p, new, NULL, new);
    return true;
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
    return mz_index_get(m->rules, (struct mz_str){ key, ns.n + 1 + host.n });
}

static bool says(const struct mz_rule *r, struct mz_str name)
{
    for (size_t i = 0; i < r->export_to_n; i++)
        if (mz_str_eq(r->export_to[i], name))
            return true;
    return false;
}

/* Which rules of a namespace count: those for itself; those for nobody else; those for others, too. */
enum whose { FOR_ITSELF, FOR_NOBODY_ELSE, FOR_OTHERS };

static bool counts(const struct mz_rule *r, enum whose w)
{
    const bool private =
        r->selector.n || (r->export_to_n == 1 && (says(r, MZ_STR(".")) || says(r, r->ns)));
    if (w == FOR_ITSELF)
        return r->selector.n || !r->export_to_n || says(r, MZ_STR("*")) || says(r, MZ_STR(".")) ||
               says(r, r->ns);
    return private == (w == FOR_NOBODY_ELSE);
}

/* The first of a chain that counts. */
static const struct mz_rule *counting(const struct mz_rule *r, enum whose w)
{
    while (r && !counts(r, w))
        r = r->next;
    return r;
}

/* "a.b.c", "*.b.c", "*.c", "*". */
static const struct mz_rule *most_specific(const struct mz_model *m, struct mz_str ns,
                                           struct mz_str host, enum whose w)
{
    const struct mz_rule *r = counting(at(m, ns, host), w);
    char wild[300] = "*";
    if (r || !m->rules_wild)
        return r;
    for (ptrdiff_t dot; !r && host.n < sizeof(wild) - 1 && (dot = mz_str_chr(host, '.')) >= 0;) {
        memcpy(wild + 1, host.p + dot, host.n - (size_t)dot);
        r = counting(at(m, ns, (struct mz_str){ wild, 1 + host.n - (size_t)dot }), w);
        host = mz_str_skip(host, (size_t)dot + 1);
    }
    return r ? r : counting(at(m, ns, MZ_STR("*")), w);
}

static bool is_exported(const struct mz_rule *r, struct mz_str ns)
{
    return !r->export_to_n || says(r, MZ_STR("*")) || says(r, ns);
}

/* One that selects the client, else the last for all. */
static const struct mz_rule *choose(const struct mz_rule *first, struct mz_labels client,
                                    enum whose w)
{
    const struct mz_rule *all = NULL;
    for (const struct mz_rule *r = first; r; r = r->next)
        if (!counts(r, w))
            continue;
        else if (!r->selector.n)
            all = r;
        else if (mz_labels_match(r->selector, client))
            return r;
    return all;
}

/* Of those that are for others the last that is for @ns. */
static const struct mz_rule *choose_exported(const struct mz_rule *first, struct mz_str ns)
{
    const struct mz_rule *found = NULL;
    for (const struct mz_rule *r = first; r; r = r->next)
        if (counts(r, FOR_OTHERS) && is_exported(r, ns))
            found = r;
    return found;
}

const struct mz_rule *mz_model_rule_for(const struct mz_model *m, struct mz_str ns,
                                        struct mz_labels client, const struct mz_service *s)
{
    const struct mz_str others[] = { s->ns, m->mesh.root_ns };
    /* What stands in the root namespace is for everybody: gateways that run there see services' own rules first. */
    const enum whose w = mz_str_eq(ns, m->mesh.root_ns) ? FOR_NOBODY_ELSE : FOR_ITSELF;
    if (!mz_index_count(m->rules))
        return NULL;
    const struct mz_rule *own = most_specific(m, ns, s->host, w), *r = NULL;
    if (own) /* also where it holds for none of these clients */
        return choose(own, client, w);
    for (size_t i = 0; !r && i < MZ_COUNT(others); i++)
        r = choose_exported(most_specific(m, others[i], s->host, FOR_OTHERS), ns);
    return r;
}

const struct mz_rule *mz_model_rule(const struct mz_model *m, struct mz_str ns,
                                    const struct mz_service *s)
{
    return mz_model_rule_for(m, ns, (struct mz_labels){ 0 }, s);
}

/* ---- policies ---- */

/* They are sorted. */
static const ist_TrafficPolicy_PortTrafficPolicy *settings_of(const ist_TrafficPolicy *t,
                                                              uint16_t port)
{
    size_t from = 0, to = t->n_port_level_settings;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        const ist_TrafficPolicy_PortTrafficPolicy *s = t->port_level_settings[mid];
        if (!s->port || s->port->number < port)
            from = mid + 1;
        else
            to = mid;
    }
    if (from == t->n_port_level_settings || !t->port_level_settings[from]->port)
        return NULL;
    return t->port_level_settings[from]->port->number == port ? t->port_level_settings[from] : NULL;
}

/* What of @t is said for this port replaces what is said for all, piece by piece; settings of a port inherit nothing of it. */
static void apply(struct mz_policy *p, const ist_TrafficPolicy *t, uint16_t port)
{
    const struct mz_policy before = *p;
    if (!t)
        return;
    p->lb = t->load_balancer ? t->load_balancer : p->lb;
    p->pool = t->connection_pool ? t->connection_pool : p->pool;
    p->outlier = t->outlier_detection ? t->outlier_detection : p->outlier;
    p->tls = t->tls ? t->tls : p->tls;
    p->endpoint_tls = t->tls ? t->tls : p->endpoint_tls;
    p->proxy_protocol = t->proxy_protocol ? t->proxy_protocol : p->proxy_protocol;
    p->retry_budget = t->retry_budget ? t->retry_budget : p->retry_budget;
    const ist_TrafficPolicy_PortTrafficPolicy *s = settings_of(t, port);
    if (s)
        *p = (struct mz_policy){ s->load_balancer,
                                 s->connection_pool,
                                 s->outlier_detection,
                                 s->tls,
                                 before.proxy_protocol,
                                 before.retry_budget,
                                 s->tls ? s->tls : p->endpoint_tls };
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

static bool is_hashed(const ist_LoadBalancerSettings *lb)
{
    return lb && lb->lb_policy_case == ist_LoadBalancerSettings_LB_POLICY_CONSISTENT_HASH &&
           lb->consistent_hash->hash_key_case !=
               ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY__NOT_SET;
}

static const ist_LoadBalancerSettings *hash_of(const ist_TrafficPolicy *t, uint16_t port)
{
    const ist_TrafficPolicy_PortTrafficPolicy *s = t ? settings_of(t, port) : NULL;
    if (s && is_hashed(s->load_balancer))
        return s->load_balancer;
    return t && is_hashed(t->load_balancer) ? t->load_balancer : NULL;
}

const ist_LoadBalancerSettings *mz_rule_hash(const struct mz_rule *r, const ist_Subset *subset,
                                             uint16_t port)
{
    const ist_LoadBalancerSettings *own = subset ? hash_of(subset->traffic_policy, port) : NULL;
    return own || !r ? own : hash_of(r->policy, port);
}
