/* Documents of Kubernetes to services and workloads. */
#include <stdio.h>
#include <stdlib.h>

#include "control/model/model_priv.h"

#define MAP_LABELS(d, map, n_map) model_labels((d), (const void *const *)(map), (n_map))

static struct mz_str dup_c(struct model_draft *d, const char *s)
{
    return mz_arena_dup(d->m->arena, mz_str_c(s));
}

static struct mz_str annotation(const k8s_ObjectMeta *m, const char *key)
{
    for (size_t i = 0; i < m->n_annotations; i++)
        if (strcmp(m->annotations[i]->key, key) == 0)
            return mz_str_c(m->annotations[i]->value);
    return MZ_STR("");
}

/* ---- nodes and pods ---- */

static struct mz_str first_label(struct mz_labels l, const char *key, const char *older)
{
    struct mz_str v = mz_label_get(l, key);
    return v.n ? v : mz_label_get(l, older);
}

static struct mz_locality node_locality(struct mz_labels l)
{
    return (struct mz_locality){
        first_label(l, "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
        first_label(l, "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        mz_label_get(l, "topology.istio.io/subzone")
    };
}

static void add_nodes(struct model_draft *d, struct mz_map *out)
{
    size_t n;
    const struct mz_doc *const *v = mz_store_list(d->store, MZ_KIND_NODE, &n);
    for (size_t i = 0; i < n; i++) {
        const k8s_ObjectMeta *meta = mz_doc_meta(v[i], d->scratch);
        struct mz_locality *l = mz_arena_new0(d->scratch, struct mz_locality);
        *l = node_locality(MAP_LABELS(d, meta->labels, meta->n_labels));
        (void)mz_map_put(out, mz_arena_dup(d->scratch, v[i]->name), l);
    }
}

static struct mz_labels container_ports(struct model_draft *d, const k8s_PodSpec *spec)
{
    MZ_VEC(struct mz_label) v = { 0 };
    for (size_t i = 0; spec && i < spec->n_containers; i++)
        for (size_t k = 0; k < spec->containers[i]->n_ports; k++) {
            const k8s_ContainerPort *p = spec->containers[i]->ports[k];
            if (p->name[0])
                *mz_vec_push(&v, MZ_MEM_CONFIG) =
                    (struct mz_label){ dup_c(d, p->name),
                                       mz_arena_printf(d->m->arena, "%d", p->containerport) };
        }
    struct mz_labels l = mz_labels_make(d->m->arena, v.v, v.n);
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return l;
}

static void add_pod(struct model_draft *d, const struct mz_doc *doc, const struct mz_map *nodes)
{
    const k8s_ObjectMeta *meta = mz_doc_meta(doc, d->scratch);
    const k8s_Pod *pod = (const k8s_Pod *)mz_doc_body(doc, d->scratch);
    const k8s_PodSpec *spec = pod->spec;
    const k8s_PodStatus *status = pod->status;
    const char *account =
        spec && spec->serviceaccountname[0] ? spec->serviceaccountname : "default";
    const char *phase = status ? status->phase : "";
    struct mz_workload *w = mz_arena_new0(d->m->arena, struct mz_workload);
    w->name = dup_c(d, meta->name);
    w->ns = dup_c(d, meta->namespace_);
    w->owner = w->name;
    w->account = mz_arena_printf(d->m->arena, "spiffe://%.*s/ns/%s/sa/%s",
                                 MZ_STR_ARG(d->m->mesh.trust_domain), meta->namespace_, account);
    w->labels = MAP_LABELS(d, meta->labels, meta->n_labels);
    w->ports = container_ports(d, spec);
    w->pod = true;
    if (spec) {
        w->hostname = dup_c(d, spec->hostname);
        w->subdomain = dup_c(d, spec->subdomain);
        w->node = dup_c(d, spec->nodename);
    }
    w->mtls = mz_str_eq(mz_label_get(w->labels, "security.istio.io/tlsMode"), MZ_STR("istio"));
    w->gone = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    if (status)
        w->address = dup_c(d, status->podip[0]   ? status->podip
                              : status->n_podips ? status->podips[0]->ip
                                                 : "");
    struct mz_str own = mz_label_get(w->labels, "istio-locality");
    const struct mz_locality *of_node = spec ? mz_map_get(nodes, mz_str_c(spec->nodename)) : NULL;
    w->locality = own.n ? model_locality(own) : of_node ? *of_node : (struct mz_locality){ 0 };
    w->hash = model_hash_workload(w);
    (void)mz_map_put(&d->m->by_workload,
                     mz_arena_printf(d->m->arena, "%s/%s", meta->namespace_, meta->name), w);
    if (w->address.n && !w->gone) {
        *mz_vec_push(&d->pods, MZ_MEM_CONFIG) = w;
        if (!mz_map_get(&d->m->by_address, w->address))
            (void)mz_map_put(&d->m->by_address, w->address, w);
    }
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

static struct mz_service *add_service(struct model_draft *d, const struct mz_doc *doc)
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
    s->addresses = addresses(d, spec, &s->addresses_n);
    s->resolution = alias                                  ? MZ_RESOLVE_ALIAS
                    : strcmp(spec->clusterip, "None") == 0 ? MZ_RESOLVE_PASSTHROUGH
                                                           : MZ_RESOLVE_EDS;
    s->external = alias;
    s->alias_of = alias ? dup_c(d, spec->externalname) : MZ_STR("");
    s->node_local = strcmp(spec->internaltrafficpolicy, "Local") == 0;
    s->unready = spec->publishnotreadyaddresses;
    s->labels = MAP_LABELS(d, meta->labels, meta->n_labels);
    s->selector = MAP_LABELS(d, spec->selector, spec->n_selector);
    s->export_to = export_to(d, meta, &s->export_to_n);
    s->distribution = model_distribution(d, s->ns, spec->trafficdistribution,
                                         annotation(meta, MODEL_DISTRIBUTION));
    s->hash = mz_xxh64(&s->distribution, sizeof(s->distribution), doc->version);
    *mz_vec_push(&d->services, MZ_MEM_CONFIG) = s;
    return s;
}

/* ---- endpoints ---- */

static bool yes(const pb_BoolValue *v)
{
    return !v || v->value;
}

static enum mz_health health(const k8s_Endpoint *e)
{
    return !e->conditions || yes(e->conditions->ready) ? MZ_HEALTHY : MZ_UNHEALTHY;
}

static const struct mz_workload *workload_of(struct model_draft *d, const k8s_Endpoint *e,
                                             const struct mz_doc *slice, const char *address,
                                             bool *out_awaited)
{
    const k8s_ObjectReference *r = e->targetref;
    char key[600];
    *out_awaited = r && strcmp(r->kind, "Pod") == 0;
    if (!*out_awaited)
        return mz_map_get(&d->m->by_address, mz_str_c(address));
    int n = snprintf(key, sizeof(key), "%.*s/%s", MZ_STR_ARG(slice->ns), r->name);
    return n > 0 && (size_t)n < sizeof(key)
               ? mz_map_get(&d->m->by_workload, (struct mz_str){ key, (size_t)n })
               : NULL;
}

static void add_endpoint(struct model_draft *d, const struct mz_service *s,
                         struct model_gathered *g, const struct mz_doc *doc,
                         const k8s_EndpointSlice *slice, const k8s_Endpoint *e, const char *address)
{
    bool awaited;
    const struct mz_workload *w = workload_of(d, e, doc, address, &awaited);
    if (awaited && !w)
        return; /* its pod comes with a later document */
    for (size_t i = 0; i < slice->n_ports; i++)
        for (size_t k = 0; k < s->ports_n; k++) {
            const int number = slice->ports[i]->port;
            if (!mz_str_eq(s->ports[k].name, mz_str_c(slice->ports[i]->name)))
                continue;
            *mz_vec_push(&g->ports[k], MZ_MEM_CONFIG) =
                (struct mz_endpoint){ dup_c(d, address),
                                      (uint16_t)(number > 0 && number <= UINT16_MAX ? number : 0),
                                      health(e), w };
            break;
        }
}

static void add_slice(struct model_draft *d, const struct mz_doc *doc, const struct mz_service *s,
                      struct model_gathered *g)
{
    const k8s_EndpointSlice *slice = (const k8s_EndpointSlice *)mz_doc_body(doc, d->scratch);
    if (strcmp(slice->addresstype, "FQDN") == 0)
        return;
    for (size_t i = 0; i < slice->n_endpoints; i++)
        for (size_t k = 0; k < slice->endpoints[i]->n_addresses; k++)
            add_endpoint(d, s, g, doc, slice, slice->endpoints[i],
                         slice->endpoints[i]->addresses[k]);
}

/* ---- Endpoints, the older form ---- */

static void add_address(struct model_draft *d, const struct mz_service *s, struct model_gathered *g,
                        const struct mz_doc *doc, const k8s_EndpointSubset *subset,
                        const k8s_EndpointAddress *a, bool ready)
{
    k8s_EndpointSlice slice = k8s_EndpointSlice__INIT;
    k8s_Endpoint e = k8s_Endpoint__INIT;
    k8s_EndpointConditions conditions = k8s_EndpointConditions__INIT;
    pb_BoolValue is_ready = pb_BoolValue__INIT;
    is_ready.value = ready;
    conditions.ready = &is_ready;
    e.conditions = &conditions;
    e.targetref = a->targetref;
    slice.n_ports = subset->n_ports;
    slice.ports = subset->ports;
    add_endpoint(d, s, g, doc, &slice, &e, a->ip);
}

static bool has_endpoints(const struct mz_service *s, const struct model_gathered *g)
{
    for (size_t i = 0; i < s->ports_n; i++)
        if (g->ports[i].n)
            return true;
    return false;
}

static void add_endpoints(struct model_draft *d, const struct mz_doc *doc,
                          const struct mz_service *s, struct model_gathered *g)
{
    const k8s_Endpoints *m = (const k8s_Endpoints *)mz_doc_body(doc, d->scratch);
    for (size_t i = 0; i < m->n_subsets; i++) {
        const k8s_EndpointSubset *u = m->subsets[i];
        for (size_t k = 0; k < u->n_addresses; k++)
            add_address(d, s, g, doc, u, u->addresses[k], true);
        for (size_t k = 0; k < u->n_notreadyaddresses; k++)
            add_address(d, s, g, doc, u, u->notreadyaddresses[k], false);
    }
}

/* Kubernetes writes slices of Endpoints, which then count: only where there are none, the older form does. */
struct model_gathered *model_gather_slices(struct model_draft *d, const struct mz_service *s)
{
    struct model_gathered *g = model_gather(d, s);
    size_t n;
    const struct mz_doc *const *v = mz_store_of(
        d->store, mz_arena_printf(d->scratch, "%.*s/%.*s", MZ_STR_ARG(s->ns), MZ_STR_ARG(s->name)),
        &n);
    for (size_t i = 0; i < n; i++)
        if (v[i]->kind == MZ_KIND_ENDPOINT_SLICE)
            add_slice(d, v[i], s, g);
    for (size_t i = 0; i < n && !has_endpoints(s, g); i++)
        if (v[i]->kind == MZ_KIND_ENDPOINTS)
            add_endpoints(d, v[i], s, g);
    return g;
}

/* WorkloadEntries that a service selects; a name or a path is no address that it could have. */
static void add_machines(struct model_draft *d, const struct mz_service *s,
                         struct model_gathered *g)
{
    for (size_t i = 0; s->selector.n && i < d->machines.n; i++) {
        const struct mz_workload *w = d->machines.v[i];
        struct mz_addr ip;
        if (mz_str_eq(w->ns, s->ns) && mz_labels_match(s->selector, w->labels) &&
            mz_addr_parse_ip(w->address, 0, &ip))
            for (size_t k = 0; k < s->ports_n; k++)
                model_gather_add(g, k, w, model_port_on(&s->ports[k], w->ports));
    }
}

static void add_services(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *v = model_docs(d, MZ_KIND_SERVICE, &n);
    for (size_t i = 0; i < n; i++) {
        struct mz_service *s = add_service(d, v[i]);
        struct model_gathered *g = model_gather_slices(d, s);
        add_machines(d, s, g);
        model_finish_service(d, s, g, true);
    }
}

void model_add_kubernetes(struct model_draft *d)
{
    size_t n;
    struct mz_map nodes;
    mz_map_init(&nodes, MZ_MEM_CONFIG);
    add_nodes(d, &nodes);
    const struct mz_doc *const *pods = model_docs(d, MZ_KIND_POD, &n);
    for (size_t i = 0; i < n; i++)
        add_pod(d, pods[i], &nodes);
    mz_map_fini(&nodes);
    model_add_workload_entries(d);
    add_services(d);
}
