/* Documents of Kubernetes to services and workloads. */
#include <stdio.h>
#include <stdlib.h>

#include "control/model/model_priv.h"

static struct mz_str dup_c(struct model_draft *d, const char *s)
{
    return mz_arena_dup(d->m->arena, mz_str_c(s));
}

static struct mz_labels labels(struct model_draft *d, const void *map, size_t n)
{
    return model_labels(d, (const void *const *)map, n);
}

static struct mz_str annotation(const k8s_ObjectMeta *m, const char *key)
{
    for (size_t i = 0; i < m->n_annotations; i++)
        if (strcmp(m->annotations[i]->key, key) == 0)
            return mz_str_c(m->annotations[i]->value);
    return MZ_STR("");
}

/* ---- services ---- */

static const struct mz_port *service_ports(struct model_draft *d, const k8s_ServiceSpec *spec,
                                           size_t *out_n)
{
    struct mz_port *v = mz_arena_alloc0(d->m->arena, spec->n_ports * sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < spec->n_ports; i++) {
        const k8s_ServicePort *p = spec->ports[i];
        const pb_Value *t = p->targetport;
        if (p->port < 1 || p->port > UINT16_MAX)
            continue; /* the API does not take it */
        struct mz_port *o = &v[n++];
        o->name = dup_c(d, p->name);
        o->port = o->target = (uint16_t)p->port;
        o->protocol =
            mz_protocol_of_port(o->port, o->name, mz_str_c(p->protocol), mz_str_c(p->appprotocol));
        if (t && t->kind_case == pb_Value_KIND_STRING_VALUE) {
            o->target = 0;
            o->target_name = dup_c(d, t->string_value);
        } else if (t && t->kind_case == pb_Value_KIND_NUMBER_VALUE && t->number_value >= 1 &&
                   t->number_value <= UINT16_MAX) {
            o->target = (uint16_t)t->number_value;
        }
    }
    *out_n = n;
    return v;
}

static const struct mz_str *addresses(struct model_draft *d, const k8s_ServiceSpec *spec,
                                      size_t *out_n)
{
    const bool many = spec->n_clusterips > 1;
    const size_t n = many ? spec->n_clusterips : 1;
    struct mz_str *v = mz_arena_alloc(d->m->arena, n * sizeof(*v));
    const bool none = !spec->clusterip[0] || strcmp(spec->clusterip, "None") == 0;
    for (size_t i = 0; !none && i < n; i++)
        v[i] = dup_c(d, many ? spec->clusterips[i] : spec->clusterip);
    *out_n = none ? 0 : n;
    return v;
}

static unsigned families(const k8s_ServiceSpec *spec)
{
    unsigned f = 0;
    for (size_t i = 0; i < spec->n_ipfamilies; i++)
        f |= strcmp(spec->ipfamilies[i], "IPv6") == 0 ? MZ_FAMILY_IPV6 : MZ_FAMILY_IPV4;
    return f;
}

static const struct mz_str *export_to(struct model_draft *d, const k8s_ObjectMeta *meta,
                                      size_t *out_n)
{
    struct mz_str rest = annotation(meta, "networking.istio.io/exportTo");
    MZ_VEC(struct mz_str) v = { 0 };
    for (struct mz_str one; mz_str_split(&rest, ',', &one);)
        *mz_vec_push(&v, MZ_MEM_CONFIG) = mz_arena_dup(d->m->arena, mz_str_trim(one));
    *out_n = v.n;
    const struct mz_str *out = model_sorted(d->m->arena, v.v, out_n);
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return out;
}

/* Who may answer for it besides those that its pods run as. */
static const struct mz_str *named_accounts(struct model_draft *d, const k8s_ObjectMeta *meta,
                                           struct mz_str ns, size_t *out_n)
{
    struct mz_str whole = annotation(meta, "alpha.istio.io/canonical-serviceaccounts"),
                  names = annotation(meta, "alpha.istio.io/kubernetes-serviceaccounts");
    MZ_VEC(struct mz_str) v = { 0 };
    for (struct mz_str one; mz_str_split(&whole, ',', &one);)
        *mz_vec_push(&v, MZ_MEM_CONFIG) = mz_arena_dup(d->m->arena, one);
    for (struct mz_str one; mz_str_split(&names, ',', &one);)
        *mz_vec_push(&v, MZ_MEM_CONFIG) =
            mz_arena_printf(d->m->arena, "spiffe://%.*s/ns/%.*s/sa/%.*s",
                            MZ_STR_ARG(d->m->mesh.trust_domain), MZ_STR_ARG(ns), MZ_STR_ARG(one));
    *out_n = v.n;
    const struct mz_str *out = model_sorted(d->m->arena, v.v, out_n);
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return out;
}

/* Of two names one is the older. */
static enum mz_preference distribution(struct mz_str text)
{
    if (mz_str_ieq(text, MZ_STR("PreferClose")) || mz_str_ieq(text, MZ_STR("PreferSameZone")))
        return MZ_PREFER_SAME_ZONE;
    return mz_str_ieq(text, MZ_STR("PreferSameNode")) ? MZ_PREFER_SAME_NODE : MZ_PREFER_NOTHING;
}

uint64_t model_distribution(struct model_draft *d, struct mz_str ns, const char *spec,
                            struct mz_str said)
{
    const k8s_ObjectMeta *of = NULL;
    if (spec[0])
        return distribution(mz_str_c(spec));
    if (!said.n && (of = model_namespace(d, ns)))
        said = annotation(of, MODEL_DISTRIBUTION);
    return distribution(said);
}

struct mz_service *model_make_service(struct model_draft *d, const struct mz_doc *doc,
                                      const k8s_ServiceSpec **out_spec, bool *wants)
{
    static const k8s_ServiceSpec empty = k8s_ServiceSpec__INIT;
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, d->scratch);
    const k8s_Service *in = (const k8s_Service *)mz_doc_body(doc, d->scratch);
    const k8s_ServiceSpec *spec = in->spec ? in->spec : &empty;
    const bool alias = strcmp(spec->type, "ExternalName") == 0 && spec->externalname[0];
    struct mz_service *s = mz_arena_new0(d->m->arena, struct mz_service);
    s->name = dup_c(d, meta->name);
    s->ns = dup_c(d, meta->namespace_);
    s->created = mz_arena_dup(d->m->arena, doc->created);
    s->host = mz_arena_printf(d->m->arena, "%s.%s.svc.%.*s", meta->name, meta->namespace_,
                              MZ_STR_ARG(d->m->mesh.domain));
    s->ports = service_ports(d, spec, &s->ports_n);
    model_index_ports(d->m->arena, s);
    s->addresses = addresses(d, spec, &s->addresses_n);
    s->resolution = alias                                  ? MZ_RESOLVE_ALIAS
                    : strcmp(spec->clusterip, "None") == 0 ? MZ_RESOLVE_PASSTHROUGH
                                                           : MZ_RESOLVE_EDS;
    s->external = alias;
    s->alias_of = alias ? dup_c(d, spec->externalname) : MZ_STR("");
    s->node_local = strcmp(spec->internaltrafficpolicy, "Local") == 0;
    s->unready = spec->publishnotreadyaddresses;
    s->families = families(spec);
    s->labels = labels(d, meta->labels, meta->n_labels);
    s->selector = labels(d, spec->selector, spec->n_selector);
    s->export_to = export_to(d, meta, &s->export_to_n);
    s->accounts = named_accounts(d, meta, s->ns, &s->accounts_n);
    s->distribution = model_distribution(d, s->ns, spec->trafficdistribution,
                                         annotation(meta, MODEL_DISTRIBUTION));
    s->hash = mz_xxh64(&s->distribution, sizeof(s->distribution), doc->version);
    *wants = !alias && !spec->clusterip[0];
    *out_spec = spec;
    return s;
}

static void add_service(struct model_draft *d, const struct mz_doc *doc, struct model_addresses *a)
{
    const k8s_ServiceSpec *spec;
    bool wants;
    struct mz_service *s = model_make_service(d, doc, &spec, &wants);
    *mz_vec_push(&d->services, MZ_MEM_CONFIG) = s;
    if (wants)
        model_addresses_want(a, s, spec, d->addresses);
}

/* ---- endpoints ---- */

static bool yes(const pb_BoolValue *v)
{
    return !v || v->value;
}

/* Of one that is not ready, silence means that it ends. */
static enum mz_health health(const struct mz_service *s, const k8s_Endpoint *e)
{
    const bool sessions = mz_label_get(s->labels, MZ_SESSION_LABEL).n ||
                          mz_label_get(s->labels, MZ_SESSION_HEADER_LABEL).n;
    if (!e->conditions || yes(e->conditions->ready))
        return MZ_HEALTHY;
    if (!yes(e->conditions->terminating))
        return MZ_UNHEALTHY;
    return sessions && yes(e->conditions->serving) ? MZ_DRAINING : MZ_TERMINATING;
}

/* Whoever tells of the pod later has to look at the service again. */
static void await(struct model_draft *d, const struct mz_service *s, struct mz_str pod)
{
    struct mz_model *m = d->m;
    struct model_waiting *w = mz_arena_new0(m->arena, struct model_waiting);
    w->key = mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->name));
    w->next = mz_index_get(m->awaited, pod);
    if (w->next && mz_str_eq(w->next->key, w->key))
        return;
    (void)mz_index_put(&m->awaited, mz_arena_dup(m->arena, pod), w);
}

static const struct mz_workload *workload_of(struct model_draft *d, const struct mz_service *s,
                                             const k8s_Endpoint *e, const struct mz_doc *slice,
                                             const char *address, bool *out_awaited)
{
    const k8s_ObjectReference *r = e->targetref;
    char key[600];
    *out_awaited = r && strcmp(r->kind, "Pod") == 0;
    d->m->loose |= !*out_awaited;
    if (!*out_awaited)
        return mz_index_get(d->m->by_address, mz_str_c(address));
    int n = snprintf(key, sizeof(key), "%.*s/%s", MZ_STR_ARG(slice->ns), r->name);
    if (n <= 0 || (size_t)n >= sizeof(key))
        return NULL;
    const struct mz_str pod = { key, (size_t)n };
    const struct mz_workload *w = mz_index_get(d->m->by_workload, pod);
    if (!w)
        await(d, s, pod);
    return w;
}

/* Ports of a list of endpoints that its service has. */
struct served {
    uint32_t port; /* of the service */
    uint16_t number;
};
struct serving {
    const struct mz_service *s;
    struct model_gathered *g;
    struct served *v;
    size_t n;
};

static size_t port_named(const struct mz_service *s, const struct mz_map *names, struct mz_str name)
{
    size_t k = 0;
    if (s->by_number)
        return (size_t)(uintptr_t)mz_map_get(names, name) - 1;
    while (k < s->ports_n && !mz_str_eq(s->ports[k].name, name))
        k++;
    return k;
}

/* Of ports of one name the first counts. */
static void match_ports(struct model_draft *d, struct serving *x, k8s_EndpointPort *const *ports,
                        size_t n)
{
    const struct mz_service *s = x->s;
    struct mz_map names;
    mz_map_init(&names, MZ_MEM_CONFIG);
    for (size_t k = s->by_number ? s->ports_n : 0; k--;)
        (void)mz_map_put(&names, s->ports[k].name, (void *)(uintptr_t)(k + 1));
    x->v = mz_arena_alloc(d->scratch, n * sizeof(*x->v));
    x->n = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t k = port_named(s, &names, mz_str_c(ports[i]->name));
        const int number = ports[i]->port;
        if (k < s->ports_n)
            x->v[x->n++] =
                (struct served){ (uint32_t)k,
                                 (uint16_t)(number > 0 && number <= UINT16_MAX ? number : 0) };
    }
    mz_map_fini(&names);
}

static void add_endpoint(struct model_draft *d, const struct serving *x, const struct mz_doc *doc,
                         const k8s_Endpoint *e, const char *address)
{
    bool awaited;
    const struct mz_workload *w = workload_of(d, x->s, e, doc, address, &awaited);
    if ((awaited && !w) || !x->n) /* its pod comes with a later document */
        return;
    const struct mz_str own = dup_c(d, address);
    for (size_t i = 0; i < x->n; i++)
        model_gather_put(x->g, x->v[i].port,
                         (struct mz_endpoint){ own, x->v[i].number, health(x->s, e), w });
}

static void add_slice(struct model_draft *d, const struct mz_doc *doc, const struct mz_service *s,
                      struct model_gathered *g)
{
    const k8s_EndpointSlice *slice = (const k8s_EndpointSlice *)mz_doc_body(doc, d->scratch);
    struct serving x = { .s = s, .g = g };
    if (strcmp(slice->addresstype, "FQDN") == 0)
        return;
    match_ports(d, &x, slice->ports, slice->n_ports);
    for (size_t i = 0; i < slice->n_endpoints; i++)
        for (size_t k = 0; k < slice->endpoints[i]->n_addresses; k++)
            add_endpoint(d, &x, doc, slice->endpoints[i], slice->endpoints[i]->addresses[k]);
}

/* ---- Endpoints, the older form ---- */

static void add_address(struct model_draft *d, const struct serving *x, const struct mz_doc *doc,
                        const k8s_EndpointAddress *a, bool ready)
{
    k8s_Endpoint e = k8s_Endpoint__INIT;
    k8s_EndpointConditions conditions = k8s_EndpointConditions__INIT;
    pb_BoolValue is_ready = pb_BoolValue__INIT;
    pb_BoolValue ends = pb_BoolValue__INIT;
    is_ready.value = ready;
    conditions.ready = &is_ready;
    conditions.terminating = &ends; /* the older form cannot say it */
    e.conditions = &conditions;
    e.targetref = a->targetref;
    add_endpoint(d, x, doc, &e, a->ip);
}

static bool has_endpoints(const struct model_gathered *g)
{
    return g->n > 0;
}

static void add_endpoints(struct model_draft *d, const struct mz_doc *doc,
                          const struct mz_service *s, struct model_gathered *g)
{
    const k8s_Endpoints *m = (const k8s_Endpoints *)mz_doc_body(doc, d->scratch);
    for (size_t i = 0; i < m->n_subsets; i++) {
        const k8s_EndpointSubset *u = m->subsets[i];
        struct serving x = { .s = s, .g = g };
        match_ports(d, &x, u->ports, u->n_ports);
        for (size_t k = 0; k < u->n_addresses; k++)
            add_address(d, &x, doc, u->addresses[k], true);
        for (size_t k = 0; k < u->n_notreadyaddresses; k++)
            add_address(d, &x, doc, u->notreadyaddresses[k], false);
    }
}

/* Kubernetes writes slices of Endpoints, which then count: only where there are none, the older form does; and where there is neither,
 * what its controllers would write. */
struct model_gathered *model_gather_slices(struct model_draft *d, const struct mz_service *s)
{
    struct model_gathered *g = model_gather(d, s);
    size_t n;
    g->all = model_in_namespace(d, s->ns);
    const struct mz_doc *const *v = mz_store_of(
        d->store, mz_arena_printf(d->scratch, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->name)),
        &n);
    for (size_t i = 0; i < n; i++)
        if (v[i]->kind == MZ_KIND_ENDPOINT_SLICE)
            add_slice(d, v[i], s, g);
    for (size_t i = 0; i < n && !has_endpoints(g); i++)
        if (v[i]->kind == MZ_KIND_ENDPOINTS)
            add_endpoints(d, v[i], s, g);
    if (!n)
        model_gather_pods(d, s, g);
    return g;
}

/* WorkloadEntries that a service with an address selects; a name or a path is no address that it could have. */
static void add_machines(struct model_draft *d, const struct mz_service *s,
                         struct model_gathered *g)
{
    const bool selects = s->selector.n && s->resolution == MZ_RESOLVE_EDS;
    for (size_t i = 0; selects && i < d->machines.n; i++) {
        const struct mz_workload *w = d->machines.v[i];
        struct mz_addr ip;
        if (mz_str_eq(w->ns, s->ns) && mz_labels_match(s->selector, w->labels) &&
            mz_addr_parse_ip(w->address, 0, &ip))
            model_gather_everywhere(s, g, w);
    }
}

static void add_services(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *v = model_docs(d, MZ_KIND_SERVICE, &n);
    struct model_addresses *a = model_addresses_begin(d);
    for (size_t i = 0; i < n; i++)
        add_service(d, v[i], a);
    model_addresses_give(d, a);
    model_select_pods(d);
    for (size_t i = 0; i < d->services.n; i++) { /* there are no others yet */
        struct mz_service *s = d->services.v[i];
        struct model_gathered *g = model_gather_slices(d, s);
        add_machines(d, s, g);
        model_finish_service(d, s, g, true);
    }
    model_keep_counts(d);
}

void model_add_kubernetes(struct model_draft *d)
{
    model_add_pods(d);
    model_add_workload_entries(d);
    add_services(d);
}
