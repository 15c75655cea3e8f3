/* ServiceEntries: services that no platform knows of, or machines behind a name. */
#include <stdlib.h>

#include "control/model/workload_entry.h"

static struct mz_str dup_c(struct model_draft *d, const char *s)
{
    return mz_arena_dup(d->m->arena, mz_str_c(s));
}

static struct mz_str said_distribution(const k8s_ObjectMeta *m)
{
    for (size_t i = 0; i < m->n_annotations; i++)
        if (strcmp(m->annotations[i]->key, MODEL_DISTRIBUTION) == 0)
            return mz_str_c(m->annotations[i]->value);
    return MZ_STR("");
}

static enum mz_resolution resolution(ist_ServiceEntry_Resolution r)
{
    switch (r) {
    case ist_ServiceEntry_Resolution_NONE:
        return MZ_RESOLVE_PASSTHROUGH;
    case ist_ServiceEntry_Resolution_DNS:
        return MZ_RESOLVE_DNS;
    case ist_ServiceEntry_Resolution_DNS_ROUND_ROBIN:
        return MZ_RESOLVE_DNS_ONE;
    case ist_ServiceEntry_Resolution_DYNAMIC_DNS:
        return MZ_RESOLVE_DYNAMIC;
    default:
        return MZ_RESOLVE_EDS;
    }
}

static void take_ports(struct model_draft *d, struct mz_service *s, const ist_ServiceEntry *e)
{
    struct mz_port *v = mz_arena_alloc0(d->m->arena, e->n_ports * sizeof(*v));
    for (size_t i = 0; i < e->n_ports; i++) {
        const ist_ServicePort *p = e->ports[i];
        v[i] = (struct mz_port){ .name = dup_c(d, p->name),
                                 .port = (uint16_t)p->number,
                                 .target = (uint16_t)(p->target_port ? p->target_port : p->number),
                                 .protocol = mz_protocol_parse(mz_str_c(p->protocol)) };
    }
    s->ports = v;
    s->ports_n = e->n_ports;
}

/* A range of one address is that address. */
static struct mz_str single(struct mz_str address)
{
    const ptrdiff_t slash = mz_str_chr(address, '/');
    if (slash < 0)
        return address;
    const struct mz_str ip = { address.p, (size_t)slash };
    const struct mz_str bits = mz_str_skip(address, (size_t)slash);
    return mz_str_eq(bits, mz_str_chr(ip, ':') < 0 ? MZ_STR("/32") : MZ_STR("/128")) ? ip : address;
}

static void take_addresses(struct model_draft *d, struct mz_service *s, const ist_ServiceEntry *e)
{
    struct mz_str *v = mz_arena_alloc(d->m->arena, e->n_addresses * sizeof(*v));
    for (size_t i = 0; i < e->n_addresses; i++)
        v[i] = single(dup_c(d, e->addresses[i]));
    s->addresses = v;
    s->addresses_n = e->n_addresses;
}

static bool has_text(const struct mz_service *s, struct mz_str text)
{
    for (size_t i = 0; i < s->export_to_n; i++)
        if (mz_str_eq(s->export_to[i], text))
            return true;
    return false;
}

/* Where the mesh says who may see entries of a namespace, exportTo only narrows that. */
static void narrow(struct model_draft *d, struct mz_service *s, enum mz_audience audience)
{
    static const struct mz_str own = MZ_STR("."), nobody = MZ_STR("~");
    if (audience == MZ_AUDIENCE_ALL)
        return;
    model_default_export(d->m, s);
    const bool here =
        !s->export_to_n || has_text(s, MZ_STR("*")) || has_text(s, own) || has_text(s, s->ns);
    s->export_to = here && audience == MZ_AUDIENCE_NAMESPACE ? &own : &nobody;
    s->export_to_n = 1;
}

static struct mz_service *make(struct model_draft *d, const struct mz_doc *doc,
                               const ist_ServiceEntry *e, const char *host)
{
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, d->scratch);
    struct mz_service *s = mz_arena_new0(d->m->arena, struct mz_service);
    s->host = s->name = dup_c(d, host);
    s->ns = mz_arena_dup(d->m->arena, doc->ns);
    s->created = mz_arena_dup(d->m->arena, doc->created);
    s->entry = true;
    s->external = e->location == ist_ServiceEntry_Location_MESH_EXTERNAL;
    s->resolution = resolution(e->resolution);
    take_ports(d, s, e);
    take_addresses(d, s, e);
    s->labels = model_labels(d, (const void *const *)meta->labels, meta->n_labels);
    if (e->workload_selector)
        s->selector = model_labels(d, (const void *const *)e->workload_selector->labels,
                                   e->workload_selector->n_labels);
    s->export_to = model_texts(d, e->export_to, e->n_export_to);
    s->export_to_n = e->n_export_to;
    const enum mz_audience audience = model_audience(d, s->ns);
    narrow(d, s, audience);
    s->accounts = model_texts(d, e->subject_alt_names, e->n_subject_alt_names);
    s->accounts_n = e->n_subject_alt_names;
    s->distribution = model_distribution(d, s->ns, "", said_distribution(meta));
    s->hash = model_hash_str(doc->version + s->distribution + audience, s->host);
    return s;
}

/* ---- endpoints ---- */

static bool is_dns(const struct mz_service *s)
{
    return s->resolution == MZ_RESOLVE_DNS || s->resolution == MZ_RESOLVE_DNS_ONE;
}

/* Machines with a name instead of an address can only be looked up. */
static bool can_serve(const struct mz_service *s, const struct mz_workload *w)
{
    struct mz_addr ip;
    return is_dns(s) || w->pod || mz_addr_parse_ip(w->address, 0, &ip);
}

static void add_selected(struct model_draft *d, const struct mz_service *s,
                         struct model_gathered *g)
{
    g->all = mz_map_get(&d->entries_select, s->ns);
    if (!g->all) {
        g->all = mz_arena_alloc0(d->scratch, sizeof(*g->all));
        (void)mz_map_put(&d->entries_select, s->ns, g->all);
    }
    for (size_t i = 0; i < d->pods.n; i++)
        if (mz_str_eq(d->pods.v[i].w->ns, s->ns) && d->pods.v[i].ready && !d->pods.v[i].leaving &&
            mz_labels_match(s->selector, d->pods.v[i].w->labels))
            model_gather_everywhere(s, g, d->pods.v[i].w);
    for (size_t i = 0; i < d->machines.n; i++)
        if (mz_str_eq(d->machines.v[i]->ns, s->ns) && can_serve(s, d->machines.v[i]) &&
            mz_labels_match(s->selector, d->machines.v[i]->labels))
            model_gather_everywhere(s, g, d->machines.v[i]);
}

static void add_own(struct model_draft *d, const struct mz_doc *doc, const ist_ServiceEntry *e,
                    const struct mz_service *s, struct model_gathered *g)
{
    const ist_WorkloadEntry itself = ist_WorkloadEntry__INIT;
    for (size_t i = 0; i < e->n_endpoints; i++) {
        const struct mz_str name =
            mz_arena_printf(d->scratch, "%.*s-%zu", MZ_STR_ARG(doc->name), i);
        model_gather_everywhere(
            s, g, model_workload_entry(d, e->endpoints[i], doc->ns, name, (struct mz_labels){ 0 }));
    }
    if (e->n_endpoints || !is_dns(s))
        return;
    struct mz_workload *w =
        model_workload_entry(d, &itself, doc->ns, doc->name, (struct mz_labels){ 0 });
    w->address = s->host; /* the name is all there is to know */
    w->hash = model_hash_workload(w);
    model_gather_everywhere(s, g, w);
}

static void gather(struct model_draft *d, const struct mz_doc *doc, const ist_ServiceEntry *e,
                   const struct mz_service *s, struct model_gathered *g)
{
    d->m->selecting |= e->workload_selector != NULL;
    if (e->workload_selector)
        add_selected(d, s, g);
    else
        add_own(d, doc, e, s, g);
}

/* ---- several documents of one host ---- */

/* The older one counts; ports that only a later one has are added with their endpoints, those that both have get them. */
struct joined {
    struct mz_service *s;
    struct model_gathered *g;
    struct mz_port *ports; /* of several documents: its own list, with room */
    size_t room;
    struct mz_map by_number; /* to their places, counted from 1 */
};

static struct mz_str number_key(const struct mz_port *p)
{
    return (struct mz_str){ (const char *)&p->port, sizeof(p->port) };
}

static size_t port_of(const struct joined *j, const struct mz_port *p)
{
    const size_t at = (size_t)(uintptr_t)mz_map_get(&j->by_number, number_key(p));
    return at ? at - 1 : j->s->ports_n;
}

static void note_port(struct joined *j, size_t i)
{
    const struct mz_str key = number_key(&j->ports[i]); /* stays: memory of arenas does */
    if (!mz_map_get(&j->by_number, key))
        (void)mz_map_put(&j->by_number, key, (void *)(uintptr_t)(i + 1));
}

static void make_room(struct model_draft *d, struct joined *j, size_t more)
{
    const size_t n = j->s->ports_n;
    const bool first = !j->ports;
    if (!first && n + more <= j->room)
        return;
    j->room = 2 * (n + more);
    j->ports = mz_arena_alloc(d->m->arena, j->room * sizeof(*j->ports));
    void *gathered = mz_arena_alloc0(d->scratch, j->room * sizeof(*j->g->ports));
    if (n) {
        memcpy(j->ports, j->s->ports, n * sizeof(*j->ports));
        memcpy(gathered, j->g->ports, n * sizeof(*j->g->ports));
    }
    j->s->ports = j->ports;
    j->g->ports = gathered;
    for (size_t i = 0; first && i < n; i++)
        note_port(j, i);
}

static bool has_address(const struct mz_service *s, struct mz_str address)
{
    for (size_t i = 0; i < s->addresses_n; i++)
        if (mz_str_eq(s->addresses[i], address))
            return true;
    return false;
}

/* Clients may dial any of them. */
static void add_addresses(struct model_draft *d, struct mz_service *s,
                          const struct mz_service *more)
{
    const size_t n = s->addresses_n;
    struct mz_str *v = mz_arena_alloc(d->m->arena, (n + more->addresses_n) * sizeof(*v));
    if (n)
        memcpy(v, s->addresses, n * sizeof(*v));
    s->addresses = v;
    for (size_t i = 0; i < more->addresses_n; i++)
        if (!has_address(s, more->addresses[i]))
            v[s->addresses_n++] = more->addresses[i];
}

/* Its endpoints may be those of any of them; sorted and told apart when all are known. */
static void add_accounts(struct model_draft *d, struct mz_service *s, const struct mz_service *more)
{
    struct mz_str *v = mz_arena_alloc(d->m->arena, (s->accounts_n + more->accounts_n) * sizeof(*v));
    for (size_t i = 0; i < s->accounts_n; i++)
        v[i] = s->accounts[i];
    for (size_t i = 0; i < more->accounts_n; i++)
        v[s->accounts_n + i] = more->accounts[i];
    s->accounts = v;
    s->accounts_n += more->accounts_n;
}

static void join(struct model_draft *d, struct joined *j, const struct mz_service *s,
                 struct model_gathered *g)
{
    const bool grows = j->s->resolution == s->resolution;
    make_room(d, j, s->ports_n);
    if (g->all)
        *g->all -= g->n; /* they are counted again */
    j->g->all = g->all ? g->all : j->g->all;
    for (size_t i = 0; i < s->ports_n; i++) {
        const size_t at = port_of(j, &s->ports[i]);
        if (at == j->s->ports_n && grows) {
            j->ports[j->s->ports_n] = s->ports[i];
            note_port(j, j->s->ports_n++);
        }
        for (size_t k = 0; at < j->s->ports_n && k < g->ports[i].n; k++)
            if (s->resolution != MZ_RESOLVE_DNS_ONE || !j->g->ports[at].n)
                model_gather_put(j->g, at, g->ports[i].v[k]);
        mz_vec_free(&g->ports[i], MZ_MEM_CONFIG);
    }
    if (grows) {
        add_addresses(d, j->s, s);
        add_accounts(d, j->s, s);
    }
    j->s->hash = mz_xxh64(&s->hash, sizeof(s->hash), j->s->hash);
}

/* ---- addresses of their own ---- */

/*
 * For proxies that answer the DNS questions of their application: 240.240.0.0/16, the last byte never 0 or 255. By the name, so
 * that it stays when others come and go; where two meet, the older one keeps it.
 */
static void give_address(struct model_draft *d, struct mz_map *taken, struct mz_service *s)
{
    const bool wild = mz_str_starts(s->host, MZ_STR("*"));
    if (s->addresses_n || s->resolution == MZ_RESOLVE_PASSTHROUGH ||
        (wild && s->resolution != MZ_RESOLVE_DYNAMIC) ||
        mz_str_ieq(mz_label_get(s->labels, "networking.istio.io/enable-autoallocate-ip"),
                   MZ_STR("false")))
        return;
    const uint64_t h = model_hash_str(model_hash_str(0, s->ns), s->host);
    for (uint32_t i = 0; i < 256 * 254; i++) {
        const uint32_t at = (uint32_t)((h + i) % (256 * 254));
        struct mz_str ip = mz_arena_printf(d->m->arena, "240.240.%u.%u", at / 254, 1 + at % 254);
        if (mz_map_get(taken, ip))
            continue;
        (void)mz_map_put(taken, ip, s);
        s->automatic = ip;
        return;
    }
}

/* ---- all of them ---- */

static int compare_docs(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
    return c ? c : mz_str_cmp((*x)->name, (*y)->name);
}

static void add(struct model_draft *d, const struct mz_doc *doc, struct mz_map *hosts)
{
    const ist_ServiceEntry *e = (const ist_ServiceEntry *)mz_doc_body(doc, d->scratch);
    for (size_t i = 0; i < e->n_hosts; i++) {
        struct mz_service *s = make(d, doc, e, e->hosts[i]);
        struct model_gathered *g = model_gather(d, s);
        gather(d, doc, e, s, g);
        struct mz_str key =
            mz_arena_printf(d->scratch, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->host));
        struct joined *j = mz_map_get(hosts, key);
        if (j) {
            join(d, j, s, g);
            continue;
        }
        j = mz_arena_new0(d->scratch, struct joined);
        *j = (struct joined){ .s = s, .g = g };
        mz_map_init(&j->by_number, MZ_MEM_CONFIG);
        (void)mz_map_put(hosts, key, j);
        *mz_vec_push(&d->services, MZ_MEM_CONFIG) = s;
    }
}

void model_add_service_entries(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *v = model_docs(d, MZ_KIND_SERVICE_ENTRY, &n);
    const struct mz_doc **sorted = mz_arena_alloc(d->scratch, n * sizeof(*sorted));
    struct mz_map hosts, taken;
    const size_t first = d->services.n;
    if (n) {
        memcpy(sorted, v, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), compare_docs);
    }
    mz_map_init(&hosts, MZ_MEM_CONFIG);
    mz_map_init(&taken, MZ_MEM_CONFIG);
    mz_map_init(&d->entries_select, MZ_MEM_CONFIG);
    for (size_t i = 0; i < n; i++)
        add(d, sorted[i], &hosts);
    mz_map_foreach (it, &hosts) {
        struct joined *j = it->value;
        model_finish_service(d, j->s, j->g, false);
        mz_map_fini(&j->by_number);
    }
    for (size_t i = first; i < d->services.n; i++)
        give_address(d, &taken, d->services.v[i]);
    mz_map_fini(&taken);
    mz_map_fini(&d->entries_select);
    mz_map_fini(&hosts);
}
