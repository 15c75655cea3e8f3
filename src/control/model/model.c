#include "control/model/model_priv.h"

#include <stdlib.h>

#include "base/log.h"

/* ---- small things ---- */

/* They are sorted; usually there are few. */
static const struct mz_label *find_label(struct mz_labels l, struct mz_str key)
{
    enum { FEW = 16 };
    size_t from = 0, to = l.n;
    while (to - from > FEW) {
        const size_t mid = from + (to - from) / 2;
        if (mz_str_cmp(l.v[mid].key, key) <= 0)
            from = mid;
        else
            to = mid;
    }
    for (size_t i = from; i < to; i++)
        if (mz_str_eq(l.v[i].key, key))
            return &l.v[i];
    return NULL;
}

struct mz_str model_label(struct mz_labels l, struct mz_str key)
{
    const struct mz_label *found = find_label(l, key);
    return found ? found->value : MZ_STR("");
}

bool model_has_label(struct mz_labels l, struct mz_str key)
{
    return find_label(l, key) != NULL;
}

struct mz_str mz_label_get(struct mz_labels l, const char *key)
{
    return model_label(l, mz_str_c(key));
}

struct mz_str mz_labels_first(struct mz_labels l, const char *const *keys, size_t n,
                              struct mz_str otherwise)
{
    for (size_t i = 0; i < n; i++) {
        struct mz_str v = mz_label_get(l, keys[i]);
        if (v.n)
            return v;
    }
    return otherwise;
}

bool mz_labels_match(struct mz_labels selector, struct mz_labels of)
{
    size_t j = 0;
    if (!selector.n)
        return false;
    for (size_t i = 0; i < selector.n; i++) { /* both are sorted */
        while (j < of.n && mz_str_cmp(of.v[j].key, selector.v[i].key) < 0)
            j++;
        if (j == of.n || !mz_str_eq(of.v[j].key, selector.v[i].key) ||
            !mz_str_eq(of.v[j].value, selector.v[i].value))
            return false;
    }
    return true;
}

static int compare_labels(const void *a, const void *b)
{
    const struct mz_label *x = a, *y = b;
    return mz_str_cmp(x->key, y->key);
}

struct mz_labels mz_labels_make(struct mz_arena *a, const struct mz_label *v, size_t n)
{
    struct mz_label *own = mz_arena_alloc(a, n * sizeof(*v));
    if (n) {
        memcpy(own, v, n * sizeof(*v));
        qsort(own, n, sizeof(*own), compare_labels);
    }
    return (struct mz_labels){ own, n };
}

uint64_t model_hash_str(uint64_t h, struct mz_str s)
{
    return mz_xxh64(s.p, s.n, mz_xxh64(&s.n, sizeof(s.n), h));
}

uint64_t model_hash_labels(uint64_t h, struct mz_labels l)
{
    for (size_t i = 0; i < l.n; i++)
        h = model_hash_str(model_hash_str(h, l.v[i].key), l.v[i].value);
    return mz_xxh64(&l.n, sizeof(l.n), h);
}

static int compare_strs(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

struct mz_str *model_sorted(struct mz_arena *a, struct mz_str *v, size_t *n)
{
    size_t kept = 0;
    if (!*n)
        return NULL;
    qsort(v, *n, sizeof(*v), compare_strs);
    for (size_t i = 0; i < *n; i++)
        if (!kept || !mz_str_eq(v[kept - 1], v[i]))
            v[kept++] = v[i];
    struct mz_str *own = mz_arena_alloc(a, kept * sizeof(*v));
    memcpy(own, v, kept * sizeof(*v));
    *n = kept;
    return own;
}

/* ---- the mesh's settings ---- */

static struct mz_str or_default(struct mz_arena *a, const char *text, const char *otherwise)
{
    return mz_arena_dup(a, mz_str_c(text && text[0] ? text : otherwise));
}

const struct mz_str *model_texts(struct model_draft *d, char *const *v, size_t n)
{
    struct mz_str *own = mz_arena_alloc(d->m->arena, n * sizeof(*own));
    for (size_t i = 0; i < n; i++)
        own[i] = mz_arena_dup(d->m->arena, mz_str_c(v[i]));
    return own;
}

/* As the MeshConfig is that an installation writes. */
static const ist_MeshConfig *with_metrics(struct model_draft *d, const ist_MeshConfig *c)
{
    static char *names[] = { (char *)(uintptr_t) "prometheus" };
    static ist_MeshConfig_DefaultProviders providers;
    ist_MeshConfig *own = mz_arena_new0(d->m->arena, ist_MeshConfig);
    providers = (ist_MeshConfig_DefaultProviders)ist_MeshConfig_DefaultProviders__INIT;
    providers.metrics = names;
    providers.n_metrics = MZ_COUNT(names);
    *own = *c;
    own->default_providers = &providers;
    return own;
}

static void build_mesh(struct model_draft *d, const struct mz_model_opts *o)
{
    static const ist_MeshConfig none = ist_MeshConfig__INIT;
    struct mz_mesh *mesh = &d->m->mesh;
    struct mz_err err;
    const struct mz_doc *doc = mz_store_get(d->store, MZ_STR("MeshConfig/mesh"));
    const ist_MeshConfig *c = doc ? (const ist_MeshConfig *)mz_doc_body(doc, d->m->arena) : &none;
    mesh->config = o->installed && !doc ? with_metrics(d, c) : c;
    mesh->domain = mz_arena_dup(d->m->arena, mz_str_c(o->domain));
    mesh->trust_domain = or_default(d->m->arena, c->trust_domain, "cluster.local");
    mesh->root_ns = or_default(d->m->arena, c->root_namespace, "istio-system");
    mesh->cluster_id = MZ_STR("Kubernetes");
    mesh->connect_timeout_us = 10000000;
    (void)mz_duration_us(c->connect_timeout, mesh->connect_timeout_us, &mesh->connect_timeout_us,
                         &err); /* a negative one was refused with its document */
    (void)mz_duration_us(c->protocol_detection_timeout, 0, &mesh->detection_timeout_us, &err);
    (void)mz_duration_us(c->dns_refresh_rate, 60000000, &mesh->dns_refresh_us, &err);
    mesh->service_export_to =
        model_texts(d, c->default_service_export_to, c->n_default_service_export_to);
    mesh->service_export_to_n = c->n_default_service_export_to;
    mesh->rule_export_to = model_texts(d, c->default_destination_rule_export_to,
                                       c->n_default_destination_rule_export_to);
    mesh->rule_export_to_n = c->n_default_destination_rule_export_to;
    mesh->virtual_export_to = model_texts(d, c->default_virtual_service_export_to,
                                          c->n_default_virtual_service_export_to);
    mesh->virtual_export_to_n = c->n_default_virtual_service_export_to;
    mesh->registry_only =
        c->outbound_traffic_policy &&
        c->outbound_traffic_policy->mode == ist_MeshConfig_OutboundTrafficPolicy_Mode_REGISTRY_ONLY;
    mesh->hash = model_hash_str(doc ? doc->version : 0, mesh->domain);
}

bool mz_mesh_trust_domain(const struct mz_mesh *m, size_t i, struct mz_str *out)
{
    const ist_MeshConfig *c = m->config;
    if (i > c->n_trust_domain_aliases)
        return false;
    *out = i ? mz_str_c(c->trust_domain_aliases[i - 1]) : m->trust_domain;
    return true;
}

/* ---- building ---- */

int mz_service_order(const struct mz_service *a, const struct mz_service *b)
{
    int c = mz_str_cmp(a->created, b->created);
    c = c ? c : mz_str_cmp(a->name, b->name);
    c = c ? c : mz_str_cmp(a->ns, b->ns);
    return c ? c : a->entry - b->entry;
}

static int compare_services(const void *a, const void *b)
{
    const struct mz_service *const *x = a, *const *y = b;
    return mz_service_order(*x, *y);
}

/* Of one host Kubernetes' own service wins, else the older one: nobody takes a name from it. */
static bool name_service(struct mz_index **by, struct mz_str key, const struct mz_service *s)
{
    const struct mz_service *had = mz_index_get(*by, key);
    if (!had || (had->entry && !s->entry))
        (void)mz_index_put(by, key, s);
    return had != NULL;
}

static void count_namespaces(struct mz_model *m)
{
    for (size_t i = 0; i < m->services_n; i++) {
        struct mz_services *l = mz_index_get(m->by_ns, m->services[i]->ns);
        if (!l) {
            l = mz_arena_new0(m->arena, struct mz_services);
            (void)mz_index_put(&m->by_ns, m->services[i]->ns, l);
        }
        l->n++;
    }
}

static void fill_namespaces(struct mz_model *m)
{
    count_namespaces(m);
    mz_index_foreach (it, m->by_ns) {
        struct mz_services *l = it.value;
        l->v = mz_arena_alloc(m->arena, l->n * sizeof(*l->v));
        l->n = 0;
    }
    for (size_t i = 0; i < m->services_n; i++) {
        struct mz_services *l = mz_index_get(m->by_ns, m->services[i]->ns);
        l->v[l->n++] = m->services[i];
    }
}

void model_default_export(const struct mz_model *m, struct mz_service *s)
{
    if (s->export_to_n)
        return;
    s->export_to = m->mesh.service_export_to;
    s->export_to_n = m->mesh.service_export_to_n;
}

static void finish_services(struct model_draft *d)
{
    struct mz_model *m = d->m;
    const size_t n = d->services.n;
    m->services_table = model_table(n);
    const void **v = m->services_table->v;
    if (n) {
        qsort(d->services.v, n, sizeof(*d->services.v), compare_services);
        memcpy(v, d->services.v, n * sizeof(*v));
    }
    m->services = (const struct mz_service *const *)m->services_table->v;
    m->services_n = n;
    for (size_t i = 0; i < n; i++) {
        const struct mz_service *s = m->services[i];
        model_default_export(m, d->services.v[i]);
        m->aliases |= s->resolution == MZ_RESOLVE_ALIAS;
        m->gives |= s->given;
        if (name_service(&m->by_host, s->host, s))
            (void)mz_index_put(&m->twins, s->host, s);
        (void)name_service(
            &m->by_name,
            mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->host)), s);
    }
    fill_namespaces(m);
}

static void finish_table(struct model_draft *d)
{
    struct mz_model *m = d->m;
    m->endpoints_n = d->table.n;
    m->endpoints = model_table(d->table.n);
    if (m->endpoints_n)
        memcpy(m->endpoints->v, d->table.v, m->endpoints_n * sizeof(*m->endpoints->v));
}

static bool is_derived(struct mz_store *s)
{
    static const enum mz_kind kinds[] = { MZ_KIND_INGRESS,      MZ_KIND_K8S_GATEWAY,
                                          MZ_KIND_LISTENER_SET, MZ_KIND_HTTP_ROUTE,
                                          MZ_KIND_GRPC_ROUTE,   MZ_KIND_TCP_ROUTE,
                                          MZ_KIND_TLS_ROUTE,    MZ_KIND_BACKEND_TLS_POLICY };
    size_t all = 0, n;
    for (size_t i = 0; i < MZ_COUNT(kinds); i++, all += n)
        (void)mz_store_list(s, kinds[i], &n);
    return all != 0;
}

struct mz_model *mz_model_build(struct mz_store *s, const struct mz_model_opts *o,
                                const struct mz_model *before)
{
    struct mz_model *patched = model_patch(s, before);
    mz_store_forget_changes(s);
    if (patched)
        return patched;
    struct mz_model *m = model_create(NULL);
    struct model_draft d = { .m = m, .store = s, .scratch = mz_arena_create(MZ_MEM_CONFIG) };
    mz_map_init(&d.grants, MZ_MEM_CONFIG);
    build_mesh(&d, o);
    d.addresses = o->addresses;
    mz_map_init(&d.selected, MZ_MEM_CONFIG);
    mz_map_init(&d.in_namespace, MZ_MEM_CONFIG);
    model_add_kubernetes(&d);
    model_add_service_entries(&d);
    model_resolve_aliases(&d);
    model_add_sidecars(&d);
    model_add_gateway_api(&d);
    model_add_rules(&d);
    model_add_virtuals(&d);
    model_add_gateways(&d);
    model_add_peer_auth(&d);
    model_add_attached(&d);
    model_add_secrets(&d);
    finish_services(&d);
    finish_table(&d);
    m->machines = d.machines.n != 0;
    m->derived = is_derived(s);
    mz_vec_free(&d.services, MZ_MEM_CONFIG);
    mz_vec_free(&d.table, MZ_MEM_CONFIG);
    mz_vec_free(&d.gateways, MZ_MEM_CONFIG);
    mz_vec_free(&d.virtuals, MZ_MEM_CONFIG);
    mz_vec_free(&d.made_rules, MZ_MEM_CONFIG);
    mz_vec_free(&d.pods, MZ_MEM_CONFIG);
    model_forget_selected(&d);
    mz_map_fini(&d.in_namespace);
    mz_vec_free(&d.machines, MZ_MEM_CONFIG);
    mz_map_fini(&d.grants);
    mz_arena_destroy(d.scratch);
    return m;
}

/* ---- questions ---- */

const struct mz_service *mz_model_service(const struct mz_model *m, struct mz_str host)
{
    return mz_index_get(m->by_host, host);
}

const struct mz_service *mz_model_service_in(const struct mz_model *m, struct mz_str ns,
                                             struct mz_str host)
{
    char key[600];
    if (ns.n + 1 + host.n > sizeof(key))
        return NULL;
    memcpy(key, ns.p, ns.n);
    key[ns.n] = '/';
    memcpy(key + ns.n + 1, host.p, host.n);
    return mz_index_get(m->by_name, (struct mz_str){ key, ns.n + 1 + host.n });
}

bool mz_service_is_public(const struct mz_service *s)
{
    bool all = !s->export_to_n;
    for (size_t i = 0; i < s->export_to_n; i++)
        all |= mz_str_eq(s->export_to[i], MZ_STR("*"));
    return all;
}

bool mz_service_visible(const struct mz_service *s, struct mz_str ns)
{
    bool private = false;
    for (size_t i = 0; i < s->export_to_n; i++) {
        const struct mz_str to = s->export_to[i];
        if (mz_str_eq(to, MZ_STR("*")) || mz_str_eq(to, ns))
            return true;
        private |= mz_str_eq(to, MZ_STR("."));
    }
    return !s->export_to_n || (private && mz_str_eq(s->ns, ns));
}

const struct mz_endpoints *mz_model_endpoints(const struct mz_model *m, const struct mz_port *p)
{
    return m->endpoints->v[p->at];
}

const struct mz_port *mz_service_port(const struct mz_service *s, uint16_t port)
{
    if (!s->by_number) {
        const struct mz_port *udp = NULL;
        for (size_t i = 0; i < s->ports_n; i++) {
            const struct mz_port *p = &s->ports[i];
            if (p->port == port && p->protocol != MZ_PROTOCOL_UDP)
                return p;
            if (p->port == port && !udp)
                udp = p;
        }
        return udp;
    }
    size_t from = 0, to = s->ports_n;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (s->ports[s->by_number[mid]].port < port)
            from = mid + 1;
        else
            to = mid;
    }
    const struct mz_port *p = from < s->ports_n ? &s->ports[s->by_number[from]] : NULL;
    return p && p->port == port ? p : NULL;
}

/* Numbers are sorted with the places behind them. */
static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void model_index_ports(struct mz_arena *a, struct mz_service *s)
{
    enum { FEW = 16 };
    s->by_number = NULL;
    if (s->ports_n <= FEW)
        return;
    uint64_t *sorted = mz_alloc(MZ_MEM_CONFIG, s->ports_n * sizeof(*sorted));
    uint32_t *places = mz_arena_alloc(a, s->ports_n * sizeof(*places));
    for (size_t i = 0; i < s->ports_n; i++)
        sorted[i] = (uint64_t)s->ports[i].port << 33 |
                    (uint64_t)(s->ports[i].protocol == MZ_PROTOCOL_UDP) << 32 | i;
    qsort(sorted, s->ports_n, sizeof(*sorted), compare_u64);
    for (size_t i = 0; i < s->ports_n; i++)
        places[i] = (uint32_t)sorted[i];
    mz_free(MZ_MEM_CONFIG, sorted);
    s->by_number = places;
}

void mz_targets_link(struct mz_target *v, size_t n)
{
    uint64_t few[32],
        *sorted = n <= MZ_COUNT(few) ? few : mz_alloc(MZ_MEM_CONFIG, n * sizeof(*sorted));
    for (size_t i = 0; i < n; i++)
        sorted[i] = (uint64_t)v[i].number << 32 | i;
    if (n > 1)
        qsort(sorted, n, sizeof(*sorted), compare_u64);
    for (size_t i = 0; i < n; i++) {
        struct mz_target *t = &v[(uint32_t)sorted[i]];
        const bool more = i + 1 < n && sorted[i + 1] >> 32 == t->number;
        t->first = !i || sorted[i - 1] >> 32 != t->number;
        t->next = more ? (uint32_t)sorted[i + 1] : 0;
    }
    if (sorted != few)
        mz_free(MZ_MEM_CONFIG, sorted);
}

/* Which numbers a service has led to, and with which protocols. */
struct led {
    const struct mz_target *first; /* of the service */
    size_t n;
    uint32_t *by_number; /* protocols, of a service with many ports; else NULL */
};

static bool is_led(struct led *l, uint16_t number, enum mz_protocol p)
{
    if (l->by_number) {
        const bool had = l->by_number[number] & 1u << p;
        l->by_number[number] |= 1u << p;
        return had;
    }
    bool had = false;
    for (size_t k = 0; k < l->n; k++)
        had |= l->first[k].number == number && l->first[k].port->protocol == p;
    return had;
}

/* By age; then the whole name counts: "a-b.ns" is before "a.ns". */
static int compare_hosts(const void *a, const void *b)
{
    const struct mz_service *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->host, (*y)->host);
    return c ? c : (*x)->entry - (*y)->entry;
}

static bool is_machine(const struct mz_workload *w)
{
    return w && !w->pod;
}

/* A headless Service has pods alone. */
static bool may_lead(const struct mz_service *s, const struct mz_workload *w)
{
    return s->entry || !is_machine(w) || s->resolution == MZ_RESOLVE_EDS;
}

struct mz_targets mz_model_targets(const struct mz_model *m, struct mz_str ns,
                                   struct mz_labels labels, const struct mz_workload *w,
                                   struct mz_arena *a)
{
    MZ_VEC(const struct mz_service *) services = { 0 };
    MZ_VEC(struct mz_target) out = { 0 };
    const struct mz_services *l = mz_index_get(m->by_ns, ns);
    const struct mz_labels ports = w ? w->ports : (struct mz_labels){ 0 };
    for (size_t i = 0; l && i < l->n; i++)
        if (mz_labels_match(l->v[i]->selector, labels) && may_lead(l->v[i], w))
            *mz_vec_push(&services, MZ_MEM_CONFIG) = l->v[i];
    if (services.n)
        qsort(services.v, services.n, sizeof(*services.v), compare_hosts);
    mz_vec_foreach (s, &services) {
        const size_t first = out.n;
        struct led led = { .by_number = (*s)->by_number
                                            ? mz_alloc0(MZ_MEM_CONFIG,
                                                        (UINT16_MAX + 1) * sizeof(*led.by_number))
                                            : NULL };
        for (size_t i = 0; i < (*s)->ports_n; i++) {
            const struct mz_port *p = &(*s)->ports[i];
            const uint16_t number = (*s)->entry || is_machine(w) ? model_port_on(p, ports)
                                                                 : model_port_of_pod(p, ports);
            led.first = out.n ? out.v + first : NULL;
            led.n = out.n - first;
            if (number && !is_led(&led, number, p->protocol))
                *mz_vec_push(&out, MZ_MEM_CONFIG) =
                    (struct mz_target){ .service = *s, .port = p, .number = number };
        }
        mz_free(MZ_MEM_CONFIG, led.by_number);
    }
    struct mz_target *v = mz_arena_alloc(a, out.n * sizeof(*v));
    if (out.n)
        memcpy(v, out.v, out.n * sizeof(*v));
    mz_targets_link(v, out.n);
    struct mz_targets t = { v, out.n };
    mz_vec_free(&services, MZ_MEM_CONFIG);
    mz_vec_free(&out, MZ_MEM_CONFIG);
    return t;
}
