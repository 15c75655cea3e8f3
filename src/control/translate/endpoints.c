/* Endpoints (EDS): by locality. */
#include <stdlib.h>

#include "control/translate/locality.h"
#include "control/translate/tell.h"

/* workload;namespace;canonical name;canonical revision;cluster: telemetry where the peer tells nothing itself. */
static char *telemetry(struct mz_arena *a, const struct mz_workload *w, struct mz_str cluster)
{
    static const char *const names[] = { "service.istio.io/canonical-name",
                                         "app.kubernetes.io/name", "app" };
    static const char *const revisions[] = { "service.istio.io/canonical-revision",
                                             "app.kubernetes.io/version", "version" };
    struct mz_str owner = w ? w->owner : MZ_STR(""), ns = w ? w->ns : MZ_STR("");
    struct mz_labels l = w ? w->labels : (struct mz_labels){ 0 };
    struct mz_str name = mz_labels_first(l, names, MZ_COUNT(names), owner);
    struct mz_str revision = mz_labels_first(l, revisions, MZ_COUNT(revisions), MZ_STR(""));
    if (mz_str_eq(revision, MZ_STR("latest"))) /* what everybody takes for granted */
        revision = MZ_STR("");
    const struct mz_str end = MZ_STR(";");
    return TR_CAT(a, owner, end, ns, end, name, end, revision, end, cluster);
}

/* Its proxy takes mutual TLS at this port; what a rule says of TLS counts more than what the workload's policy does. */
static bool takes_mtls(const struct mz_view *v, const struct mz_endpoint *e,
                       const struct mz_policy *p)
{
    const struct mz_workload *w = e->workload;
    if (p && p->endpoint_tls)
        return w && w->mtls && p->endpoint_tls->mode == ist_ClientTLSSettings_TLSmode_ISTIO_MUTUAL;
    return w && w->mtls && mz_model_mtls(v->model, w->ns, w->labels, e->port) != MZ_MTLS_DISABLE;
}

/* On the client's own node. */
static bool is_here(const struct mz_proxy *p, const struct mz_endpoint *e)
{
    return mz_str_eq(p->node, e->workload ? e->workload->node : MZ_STR(""));
}

static uint32_t weight_of(const struct mz_endpoint *e)
{
    return e->workload && e->workload->weight ? e->workload->weight : 1;
}

/* It ends, and clients that have a session with it keep it till then. */
static bool is_drained(const struct mz_endpoint *e)
{
    return e->health == MZ_DRAINING ||
           (e->workload && mz_label_get(e->workload->labels, "istio.io/draining").n);
}

static bool is_usable(const struct mz_endpoint *e)
{
    return e->health == MZ_HEALTHY || e->health == MZ_UNCHECKED;
}

struct same { /* what endpoints of one workload have in common */
    bool made, mtls;
    const struct mz_workload *of;
    pb_Metadata *metadata;
};

static pb_Metadata *metadata(const struct mz_view *v, struct mz_arena *a,
                             const struct mz_endpoint *e, const struct mz_policy *p,
                             struct same *last)
{
    const bool mtls = takes_mtls(v, e, p);
    if (last->made && last->of == e->workload && last->mtls == mtls)
        return last->metadata;
    pb_Metadata *m = NULL;
    if (mtls)
        tr_struct_text(a, tr_metadata(a, &m, "envoy.transport_socket_match"), "tlsMode",
                       MZ_STR("istio"));
    if (!v->t->features.no_service_names && !v->t->features.no_workload_names)
        tr_struct_text(a, tr_metadata(a, &m, "istio"), "workload",
                       mz_str_c(telemetry(a, e->workload, v->model->mesh.cluster_id)));
    *last = (struct same){ true, mtls, e->workload, m ? tr_packed(a, m) : NULL };
    return last->metadata;
}

static pb_LbEndpoint *endpoint(const struct mz_view *v, struct mz_arena *a,
                               const struct mz_endpoint *e, const struct mz_policy *p,
                               struct same *last)
{
    pb_LbEndpoint *m = TR_NEW(a, LbEndpoint);
    m->host_identifier_case = pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT;
    m->endpoint = TR_NEW(a, Endpoint);
    m->endpoint->address = tr_address_or_pipe(a, e->address, e->port);
    m->health_status = is_drained(e)               ? pb_HealthStatus_DRAINING
                       : e->health == MZ_UNCHECKED ? pb_HealthStatus_UNKNOWN
                       : e->health == MZ_UNHEALTHY ? pb_HealthStatus_UNHEALTHY
                                                   : pb_HealthStatus_HEALTHY;
    m->load_balancing_weight = tr_u32(a, weight_of(e));
    m->metadata = metadata(v, a, e, p, last);
    return m;
}

static struct mz_locality locality_of(const struct mz_endpoint *e)
{
    return e->workload ? e->workload->locality : (struct mz_locality){ 0 };
}

static bool same_locality(const pb_Locality *m, struct mz_locality l)
{
    return mz_str_eq(mz_str_c(m->region), l.region) && mz_str_eq(mz_str_c(m->zone), l.zone) &&
           mz_str_eq(mz_str_c(m->sub_zone), l.subzone);
}

/* Endpoints of one place while they are gathered. */
struct group {
    pb_LocalityLbEndpoints *m;
    const struct mz_endpoint **v;
    size_t n_v;
};
struct grouping {
    struct mz_arena *a;
    pb_ClusterLoadAssignment *m;
    struct group *v; /* as those of the message */
    size_t n_v;
    struct mz_map at; /* of many: place to its number, counted from 1 */
};

static struct mz_str place_key(struct mz_arena *a, struct mz_locality l)
{
    return mz_arena_printf(a, "%.*s\n%.*s\n%.*s", MZ_STR_ARG(l.region), MZ_STR_ARG(l.zone),
                           MZ_STR_ARG(l.subzone));
}

static size_t find_group(struct grouping *g, struct mz_locality l)
{
    enum { FEW = 16 };
    size_t i = 0;
    if (g->n_v > FEW)
        return (size_t)(uintptr_t)mz_map_get(&g->at, place_key(g->a, l)) - 1;
    while (i < g->n_v && !same_locality(g->v[i].m->locality, l))
        i++;
    return i;
}

static struct group *group_of(struct grouping *x, struct mz_locality l)
{
    struct mz_arena *a = x->a;
    const size_t had = find_group(x, l);
    if (had < x->n_v)
        return &x->v[had];
    pb_LocalityLbEndpoints *g = TR_NEW(a, LocalityLbEndpoints);
    g->locality = TR_NEW(a, Locality);
    g->locality->region = tr_text(a, l.region);
    g->locality->zone = tr_text(a, l.zone);
    g->locality->sub_zone = tr_text(a, l.subzone);
    g->load_balancing_weight = tr_u32(a, 0);
    TR_ADD(a, x->m, endpoints) = g;
    TR_ADD(a, x, v) = (struct group){ .m = g };
    (void)mz_map_put(&x->at, place_key(a, l), (void *)(uintptr_t)x->n_v);
    return &x->v[x->n_v - 1];
}

static int compare_groups(const void *a, const void *b)
{
    const pb_Locality *x = ((const struct group *)a)->m->locality,
                      *y = ((const struct group *)b)->m->locality;
    int c = strcmp(x->region, y->region);
    c = c ? c : strcmp(x->zone, y->zone);
    return c ? c : strcmp(x->sub_zone, y->sub_zone);
}

/* Whether the workload has each label of a subset. */
static bool is_in(const struct mz_endpoint *e, const ist_Subset *s)
{
    for (size_t i = 0; s && i < s->n_labels; i++) {
        const struct mz_str have =
            e->workload ? mz_label_get(e->workload->labels, s->labels[i]->key) : MZ_STR("");
        if (!mz_str_eq(have, mz_str_c(s->labels[i]->value)))
            return false;
    }
    return true;
}

/* How many subsets, from the first on, have room for their endpoints. */
static size_t count_subsets(const struct mz_rule *r, const struct mz_endpoints *e)
{
    enum { MAX_ENDPOINTS = 262144, MAX_LOOKED_AT = 1 << 22 };
    size_t all = 0, i = 0;
    for (; i < r->subsets_n && i * e->n <= MAX_LOOKED_AT && all <= MAX_ENDPOINTS; i++)
        for (size_t k = 0; k < e->n; k++)
            all += is_in(&e->v[k], r->subsets[i]);
    return all > MAX_ENDPOINTS ? i - 1 : i;
}

/* Looked for once for all of them. */
static size_t subsets_with_room(struct mz_view *v, const struct mz_rule *r,
                                const struct mz_endpoints *e)
{
    struct mz_key k;
    size_t n;
    mz_key_init(&k, 'm');
    mz_key_u64(&k, r->hash);
    mz_key_u64(&k, e->hash);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        n = count_subsets(r, e);
        o = mz_out_of_bytes(MZ_STR(""), (struct mz_str){ (const char *)&n, sizeof(n) });
        mz_cache_put(v->t->cache, &k, o);
    }
    memcpy(&n, o->bytes.p, sizeof(n));
    mz_out_unref(o);
    return n;
}

bool tr_subset_has_room(struct mz_view *v, const struct mz_service *s, const struct mz_rule *r,
                        const ist_Subset *subset, const struct mz_endpoints *e)
{
    enum { FEW = 100000 };
    if (!subset || r->subsets_n * e->n <= FEW)
        return true;
    const size_t n = subsets_with_room(v, r, e);
    for (size_t i = 0; i < n; i++)
        if (r->subsets[i] == subset)
            return true;
    tr_tell(v,
            mz_arena_printf(v->arena, "DestinationRule/%.*s/%.*s", MZ_STR_ARG(r->ns),
                            MZ_STR_ARG(r->name)),
            "endpoints of all but %zu subsets are left out of %.*s: subsets and endpoints multiply",
            n, MZ_STR_ARG(s->host));
    return false;
}

/* Endpoints that are not ready: proxies do not use them, unless a panic threshold makes them. */
static bool tells_unhealthy(const struct mz_view *v, const struct mz_service *s,
                            const struct mz_policy *p)
{
    const struct mz_features *f = &v->t->features;
    if (f->always_unhealthy || (s && s->distribution))
        return true;
    return !f->no_unhealthy && !(p && p->outlier && p->outlier->min_health_percent > 0);
}

static bool is_told(const struct mz_view *v, const struct mz_service *s,
                    const struct mz_endpoint *e, const struct mz_policy *p)
{
    if (is_drained(e))
        return s && mz_label_get(s->labels, MZ_SESSION_LABEL).n;
    return is_usable(e) || (e->health == MZ_UNHEALTHY && tells_unhealthy(v, s, p));
}

/* The groups in order. Returns the endpoints of each. */
static const struct mz_endpoint *const *const *sort_groups(struct grouping *g)
{
    const struct mz_endpoint ***of = mz_arena_alloc(g->a, g->n_v * sizeof(*of));
    if (g->n_v)
        qsort(g->v, g->n_v, sizeof(*g->v), compare_groups);
    for (size_t i = 0; i < g->n_v; i++) {
        g->m->endpoints[i] = g->v[i].m;
        of[i] = g->v[i].v;
    }
    return (const struct mz_endpoint *const *const *)of;
}

pb_ClusterLoadAssignment *tr_assignment(const struct mz_view *v, struct mz_arena *a,
                                        struct mz_str name, const struct mz_service *s,
                                        const struct mz_endpoints *e, const ist_Subset *subset,
                                        const struct mz_policy *policy)
{
    pb_ClusterLoadAssignment *m = TR_NEW(a, ClusterLoadAssignment);
    const struct tr_places places = tr_places_of(v, s, policy);
    struct grouping groups = { .a = a, .m = m };
    mz_map_init(&groups.at, MZ_MEM_XDS);
    struct same last = { 0 };
    m->cluster_name = tr_text(a, name);
    for (size_t i = 0; e && i < e->n; i++) {
        if (!is_told(v, s, &e->v[i], policy) || !is_in(&e->v[i], subset) ||
            (e->node_local && !is_here(v->proxy, &e->v[i])))
            continue;
        struct group *of = group_of(&groups, locality_of(&e->v[i]));
        pb_LocalityLbEndpoints *g = of->m;
        TR_ADD(a, g, lb_endpoints) = endpoint(v, a, &e->v[i], policy, &last);
        TR_ADD(a, of, v) = &e->v[i];
        const uint32_t room = UINT32_MAX - g->load_balancing_weight->value;
        g->load_balancing_weight->value += weight_of(&e->v[i]) < room ? weight_of(&e->v[i]) : room;
    }
    tr_places_apply(v, a, &places, policy && policy->outlier, m, sort_groups(&groups));
    mz_map_fini(&groups.at);
    return m;
}

/* Whoever is named by its server name takes mutual TLS of the mesh and nothing else. */
const struct mz_endpoints *tr_with_mtls(const struct mz_view *view, struct mz_arena *a,
                                        const struct mz_endpoints *e, const struct mz_policy *p)
{
    struct mz_endpoints *own = mz_arena_new0(a, struct mz_endpoints);
    struct mz_endpoint *v = mz_arena_alloc(a, e->n * sizeof(*v));
    *own = *e;
    own->n = 0;
    own->v = v;
    for (size_t i = 0; i < e->n; i++)
        if (takes_mtls(view, &e->v[i], p))
            v[own->n++] = e->v[i];
    return own;
}

static struct mz_out *build(struct mz_view *v, struct mz_str name, const struct mz_service *s,
                            const struct mz_endpoints *e, const ist_Subset *subset,
                            const struct mz_policy *policy, bool sni)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    e = e && sni ? tr_with_mtls(v, a, e, policy) : e;
    struct mz_out *o = mz_out_create(name, &tr_assignment(v, a, name, s, e, subset, policy)->base);
    mz_arena_destroy(a);
    return o;
}

struct mz_out *tr_endpoints(struct mz_view *v, struct mz_str name)
{
    struct tr_subset_key key;
    struct mz_key k;
    if (!tr_cluster_name_parse(name, &key))
        return NULL;
    const struct mz_service *s = mz_map_get(&v->scope->by_host, key.host);
    const struct mz_port *p = s ? mz_service_port(s, key.port) : NULL;
    const struct mz_endpoints *e = p ? mz_model_endpoints(v->model, p) : NULL;
    const struct mz_rule *r = s ? tr_rule(v, s) : NULL;
    const ist_Subset *subset = r && key.subset.n ? mz_rule_subset(r, key.subset) : NULL;
    if (key.subset.n && (!subset || (e && !tr_subset_has_room(v, s, r, subset, e))))
        e = NULL; /* a subset that nobody defines has no endpoints */
    const struct mz_policy policy = mz_rule_policy(r, subset, key.port);
    const struct tr_places places = tr_places_of(v, s, &policy);
    const bool near = policy.outlier || places.said || places.zones || places.force;
    mz_key_init(&k, 'e');
    mz_key_str(&k, name);
    mz_key_u64(&k, e ? e->hash : 0);
    mz_key_u64(&k, v->model->mesh.hash);
    mz_key_u64(&k, v->model->mtls_hash);
    mz_key_u64(&k, r && (subset || near) ? r->hash : 0);
    mz_key_u64(&k, policy.endpoint_tls ? 1 + (uint64_t)policy.endpoint_tls->mode : 0);
    mz_key_u64(&k, s ? s->distribution : 0);
    mz_key_u64(&k, s ? mz_label_get(s->labels, MZ_SESSION_LABEL).n != 0 : 0);
    if (e && e->node_local)
        mz_key_str(&k, v->proxy->node);
    if (near)
        tr_places_key(v, &places, &k);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build(v, name, s, e, subset, &policy, key.sni);
        mz_cache_put(v->t->cache, &k, o);
    }
    return o;
}

struct naming {
    const struct mz_view *v;
    struct mz_arena *a;
    MZ_VEC(struct mz_str) names;
};

static void name_service(struct naming *n, const struct mz_service *s, const struct mz_rule *r)
{
    const bool both = n->v->proxy->type != MZ_PROXY_SIDECAR; /* gateways have two forms */
    const size_t subsets = tr_subsets(s, r);
    for (size_t i = 0; i < s->ports_n; i++)
        for (size_t k = 0; k < 1 + subsets; k++) {
            const struct mz_str subset = mz_str_c(k ? r->subsets[k - 1]->name : "");
            const uint16_t port = s->ports[i].port;
            *mz_vec_push(&n->names, MZ_MEM_XDS) =
                mz_str_c(tr_cluster_name(n->a, "outbound", port, subset, s->host));
            if (both)
                *mz_vec_push(&n->names, MZ_MEM_XDS) =
                    mz_str_c(tr_sni_cluster_name(n->a, port, subset, s->host));
        }
}

/* By the rule that holds, and those that did. */
static void name_always(struct naming *n, const struct mz_service *s,
                        const struct mz_change_host *as)
{
    name_service(n, s, tr_rule(n->v, s));
    for (size_t i = 0; as && i < as->ruled.n; i++)
        for (const struct mz_rule *r = as->ruled.v[i]; r; r = r->next)
            name_service(n, s, r);
}

void mz_translate_names(const struct mz_view *v, struct mz_str host,
                        const struct mz_change_host *as, struct mz_arena *a, struct mz_str **out,
                        size_t *out_n)
{
    const struct mz_service *s = mz_map_get(&v->scope->by_host, host);
    struct naming n = { .v = v, .a = a };
    if (s)
        name_always(&n, s, as);
    for (size_t i = 0; as && i < as->as.n; i++)
        if (as->as.v[i] != s)
            name_always(&n, as->as.v[i], as);
    *out = mz_arena_alloc(a, n.names.n * sizeof(**out));
    if (n.names.n)
        memcpy(*out, n.names.v, n.names.n * sizeof(**out));
    *out_n = n.names.n;
    mz_vec_free(&n.names, MZ_MEM_XDS);
}
