/*
 * The parts of /config_dump (O4): messages of envoy.admin.v3 made from the bytes that the managers keep; they live in the
 * arena of one answer.
 */
#include <stdlib.h>

#include "base/regex.h"
#include "listener/listener.h"
#include "server/pages_priv.h"
#include "upstream/cluster.h"

static pb_Timestamp *timestamp(struct mz_arena *a, uint64_t wall_us)
{
    pb_Timestamp *t = page_new(a, &pb_Timestamp__descriptor);
    t->seconds = (int64_t)(wall_us / 1000000);
    t->nanos = (int32_t)(wall_us / 1000 % 1000 * 1000000); /* milliseconds, as Envoy */
    return t;
}

/* @bytes stay the manager's: they outlive the answer, nothing changes on this thread meanwhile. */
static pb_Any *any_of(struct mz_arena *a, const ProtobufCMessageDescriptor *d, struct mz_str bytes)
{
    pb_Any *any = page_new(a, &pb_Any__descriptor);
    any->type_url = page_chars(mz_arena_printf(a, "type.googleapis.com/%s", d->name).p);
    any->value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    return any;
}

static ProtobufCMessage *unpack(struct mz_arena *a, const ProtobufCMessageDescriptor *d,
                                struct mz_str bytes)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true };
    ProtobufCMessage *m;
    struct mz_err err;
    return mz_msg_unpack(&ctx, bytes, d, &m, &err) ? m : NULL;
}

static bool wanted(const struct dump *d, struct mz_str name)
{
    return !d->name || mz_regex_full(d->name, name);
}

/* A growing list of messages in the arena: protobuf-c wants an array of pointers. */
struct messages {
    struct mz_arena *arena;
    ProtobufCMessage **v;
    size_t n, cap;
};

static void add(struct messages *l, ProtobufCMessage *m)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        ProtobufCMessage **v = mz_arena_alloc(l->arena, l->cap * sizeof(*v));
        if (l->n)
            memcpy(v, l->v, l->n * sizeof(*v));
        l->v = v;
    }
    l->v[l->n++] = m;
}

/* ---- clusters ---- */

struct walk {
    const struct dump *d;
    struct messages fixed, dynamic;
};

static void one_cluster(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                        uint64_t updated_us)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, name))
        return;
    pb_Any *any = any_of(a, &pb_Cluster__descriptor, bytes);
    if (via_api) {
        pb_ClustersConfigDump_DynamicCluster *c =
            page_new(a, &pb_ClustersConfigDump_DynamicCluster__descriptor);
        c->cluster = any;
        c->last_updated = timestamp(a, updated_us);
        add(&w->dynamic, &c->base);
    } else {
        pb_ClustersConfigDump_StaticCluster *c =
            page_new(a, &pb_ClustersConfigDump_StaticCluster__descriptor);
        c->cluster = any;
        c->last_updated = timestamp(a, updated_us);
        add(&w->fixed, &c->base);
    }
}

/* Envoy shows the clusters by name. */
struct named {
    struct mz_str name, bytes;
    bool via_api;
    uint64_t updated_us;
};
struct named_list {
    struct named *v;
    size_t n;
};

static void note_named(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                       uint64_t updated_us)
{
    struct named_list *l = arg;
    l->v[l->n++] = (struct named){ name, bytes, via_api, updated_us };
}

static int by_name(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    return mz_str_cmp(a->name, b->name);
}

ProtobufCMessage *dump_clusters(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena } };
    struct mz_cluster_manager *manager = d->pages->env.clusters;
    struct named_list l = {
        mz_arena_alloc(d->arena, (mz_cluster_manager_count(manager) + 1) * sizeof(*l.v)), 0
    };
    mz_cluster_manager_each(manager, note_named, &l);
    qsort(l.v, l.n, sizeof(*l.v), by_name);
    for (size_t i = 0; i < l.n; i++)
        one_cluster(&w, l.v[i].name, l.v[i].bytes, l.v[i].via_api, l.v[i].updated_us);
    pb_ClustersConfigDump *m = page_new(d->arena, &pb_ClustersConfigDump__descriptor);
    m->n_static_clusters = w.fixed.n;
    m->static_clusters = (pb_ClustersConfigDump_StaticCluster **)w.fixed.v;
    m->n_dynamic_active_clusters = w.dynamic.n;
    m->dynamic_active_clusters = (pb_ClustersConfigDump_DynamicCluster **)w.dynamic.v;
    return &m->base;
}

/* ---- listeners ---- */

static void one_listener(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                         uint64_t updated_us)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, name))
        return;
    pb_Any *any = any_of(a, &pb_Listener__descriptor, bytes);
    if (via_api) {
        pb_ListenersConfigDump_DynamicListenerState *s =
            page_new(a, &pb_ListenersConfigDump_DynamicListenerState__descriptor);
        pb_ListenersConfigDump_DynamicListener *l =
            page_new(a, &pb_ListenersConfigDump_DynamicListener__descriptor);
        s->listener = any;
        s->last_updated = timestamp(a, updated_us);
        l->name = page_chars(mz_arena_dup(a, name).p);
        l->active_state = s;
        add(&w->dynamic, &l->base);
    } else {
        pb_ListenersConfigDump_StaticListener *l =
            page_new(a, &pb_ListenersConfigDump_StaticListener__descriptor);
        l->listener = any;
        l->last_updated = timestamp(a, updated_us);
        add(&w->fixed, &l->base);
    }
}

ProtobufCMessage *dump_listeners(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena } };
    mz_listener_manager_each(d->pages->env.listeners, one_listener, &w);
    pb_ListenersConfigDump *m = page_new(d->arena, &pb_ListenersConfigDump__descriptor);
    m->n_static_listeners = w.fixed.n;
    m->static_listeners = (pb_ListenersConfigDump_StaticListener **)w.fixed.v;
    m->n_dynamic_listeners = w.dynamic.n;
    m->dynamic_listeners = (pb_ListenersConfigDump_DynamicListener **)w.dynamic.v;
    return &m->base;
}

/* ---- routes: the inline tables of the connection managers in each listener ---- */

static void one_route_table(struct walk *w, pb_RouteConfiguration *rc, uint64_t updated_us)
{
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, mz_str_c(rc->name)))
        return;
    pb_RoutesConfigDump_StaticRouteConfig *m =
        page_new(a, &pb_RoutesConfigDump_StaticRouteConfig__descriptor);
    m->route_config = mz_any_pack(&rc->base, a);
    m->last_updated = timestamp(a, updated_us);
    add(&w->fixed, &m->base);
}

static void chain_routes(struct walk *w, const pb_FilterChain *c, uint64_t updated_us)
{
    for (size_t i = 0; c && i < c->n_filters; i++) {
        struct mz_proto_ctx ctx = { .arena = w->d->arena, .unknown = MZ_UNKNOWN_COUNT };
        const ProtobufCMessageDescriptor *d;
        ProtobufCMessage *m;
        struct mz_err err;
        const pb_Filter *f = c->filters[i];
        if (f->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG ||
            !mz_str_eq(mz_any_type(f->typed_config),
                       mz_str_c(pb_HttpConnectionManager__descriptor.name)) ||
            !mz_any_unpack(&ctx, f->typed_config, &d, &m, &err))
            continue;
        pb_HttpConnectionManager *hcm = (pb_HttpConnectionManager *)m;
        if (hcm->route_specifier_case == pb_HttpConnectionManager_ROUTE_SPECIFIER_ROUTE_CONFIG)
            one_route_table(w, hcm->route_config, updated_us);
    }
}

static void listener_routes(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                            uint64_t updated_us)
{
    (void)name, (void)via_api;
    struct walk *w = arg;
    const pb_Listener *l = (pb_Listener *)unpack(w->d->arena, &pb_Listener__descriptor, bytes);
    for (size_t i = 0; l && i < l->n_filter_chains; i++)
        chain_routes(w, l->filter_chains[i], updated_us);
    if (l)
        chain_routes(w, l->default_filter_chain, updated_us);
}

ProtobufCMessage *dump_routes(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena } };
    mz_listener_manager_each(d->pages->env.listeners, listener_routes, &w);
    pb_RoutesConfigDump *m = page_new(d->arena, &pb_RoutesConfigDump__descriptor);
    m->n_static_route_configs = w.fixed.n;
    m->static_route_configs = (pb_RoutesConfigDump_StaticRouteConfig **)w.fixed.v;
    return &m->base;
}

/* ---- the bootstrap, with the static listeners and clusters put back in ---- */

static void static_message(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                           const ProtobufCMessageDescriptor *d)
{
    (void)name;
    struct messages *l = arg;
    ProtobufCMessage *m = via_api ? NULL : unpack(l->arena, d, bytes);
    if (m)
        add(l, m);
}

static void static_cluster(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                           uint64_t updated_us)
{
    (void)updated_us;
    static_message(arg, name, bytes, via_api, &pb_Cluster__descriptor);
}

static void static_listener(void *arg, struct mz_str name, struct mz_str bytes, bool via_api,
                            uint64_t updated_us)
{
    (void)updated_us;
    static_message(arg, name, bytes, via_api, &pb_Listener__descriptor);
}

static void put_resources(const struct dump *d, pb_Bootstrap *b)
{
    struct messages clusters = { .arena = d->arena }, listeners = { .arena = d->arena };
    mz_cluster_manager_each(d->pages->env.clusters, static_cluster, &clusters);
    mz_listener_manager_each(d->pages->env.listeners, static_listener, &listeners);
    if (clusters.n + listeners.n == 0)
        return;
    if (!b->static_resources)
        b->static_resources = page_new(d->arena, &pb_Bootstrap_StaticResources__descriptor);
    if (clusters.n && !b->static_resources->n_clusters) {
        b->static_resources->n_clusters = clusters.n;
        b->static_resources->clusters = (pb_Cluster **)clusters.v;
    }
    if (listeners.n && !b->static_resources->n_listeners) {
        b->static_resources->n_listeners = listeners.n;
        b->static_resources->listeners = (pb_Listener **)listeners.v;
    }
}

ProtobufCMessage *dump_bootstrap(const struct dump *d)
{
    const struct mz_pages_env *e = &d->pages->env;
    pb_BootstrapConfigDump *m = page_new(d->arena, &pb_BootstrapConfigDump__descriptor);
    m->bootstrap = (pb_Bootstrap *)unpack(d->arena, &pb_Bootstrap__descriptor, e->bootstrap);
    if (m->bootstrap)
        put_resources(d, m->bootstrap);
    m->last_updated = timestamp(d->arena, e->bootstrap_wall_us);
    return &m->base;
}

/* ---- endpoints: from the host statuses, so that what DNS found is there too ---- */

static pb_HealthStatus health(const pb_HostHealthStatus *h)
{
    if (!h)
        return pb_HealthStatus_UNKNOWN;
    if (h->failed_active_health_check || h->failed_outlier_check)
        return pb_HealthStatus_UNHEALTHY;
    return h->failed_active_degraded_check ? pb_HealthStatus_DEGRADED : h->eds_health_status;
}

static pb_UInt32Value *wrapped(struct mz_arena *a, uint32_t v)
{
    pb_UInt32Value *w = page_new(a, &pb_UInt32Value__descriptor);
    w->value = v;
    return w;
}

static pb_LbEndpoint *endpoint(struct mz_arena *a, const pb_HostStatus *h)
{
    pb_Endpoint *e = page_new(a, &pb_Endpoint__descriptor);
    pb_Endpoint_HealthCheckConfig *hc = page_new(a, &pb_Endpoint_HealthCheckConfig__descriptor);
    pb_LbEndpoint *lb = page_new(a, &pb_LbEndpoint__descriptor);
    e->address = h->address;
    e->health_check_config = hc;
    e->hostname = h->hostname;
    e->n_additional_addresses = h->n_mizzen_additional_addresses;
    e->additional_addresses =
        mz_arena_alloc(a, (e->n_additional_addresses + 1) * sizeof(*e->additional_addresses));
    for (size_t i = 0; i < e->n_additional_addresses; i++) {
        e->additional_addresses[i] = page_new(a, &pb_Endpoint_AdditionalAddress__descriptor);
        e->additional_addresses[i]->address = h->mizzen_additional_addresses[i];
    }
    lb->host_identifier_case = pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT;
    lb->endpoint = e;
    lb->health_status = health(h->health_status);
    lb->load_balancing_weight = wrapped(a, h->weight);
    return lb;
}

/* Neighbours of one priority and locality form a group. */
static bool same_group(const pb_HostStatus *x, const pb_HostStatus *y)
{
    return x->priority == y->priority && x->locality && y->locality &&
           mz_msg_equal(&x->locality->base, &y->locality->base);
}

static pb_LocalityLbEndpoints *group(struct mz_arena *a, pb_HostStatus *const *v, size_t n)
{
    pb_LocalityLbEndpoints *g = page_new(a, &pb_LocalityLbEndpoints__descriptor);
    g->locality = v[0]->locality;
    g->priority = v[0]->priority;
    g->load_balancing_weight = wrapped(a, 0);
    g->n_lb_endpoints = n;
    g->lb_endpoints = mz_arena_alloc(a, n * sizeof(*g->lb_endpoints));
    for (size_t i = 0; i < n; i++)
        g->lb_endpoints[i] = endpoint(a, v[i]);
    return g;
}

static ProtobufCMessage *assignment(struct mz_arena *a, const pb_ClusterStatus *c)
{
    struct messages groups = { .arena = a };
    pb_ClusterLoadAssignment *m = page_new(a, &pb_ClusterLoadAssignment__descriptor);
    pb_ClusterLoadAssignment_Policy *p = page_new(a, &pb_ClusterLoadAssignment_Policy__descriptor);
    for (size_t i = 0, n; i < c->n_host_statuses; i += n) {
        for (n = 1; i + n < c->n_host_statuses &&
                    same_group(c->host_statuses[i], c->host_statuses[i + n]);)
            n++;
        add(&groups, &group(a, &c->host_statuses[i], n)->base);
    }
    p->overprovisioning_factor = wrapped(a, 140);
    m->policy = p;
    m->cluster_name = c->name;
    m->n_endpoints = groups.n;
    m->endpoints = (pb_LocalityLbEndpoints **)groups.v;
    return &m->base;
}

ProtobufCMessage *dump_endpoints(const struct dump *d)
{
    struct mz_arena *a = d->arena;
    struct messages fixed = { .arena = a }, dynamic = { .arena = a };
    const pb_Clusters *all = page_clusters(d->pages, a);
    for (size_t i = 0; all && i < all->n_cluster_statuses; i++) {
        const pb_ClusterStatus *c = all->cluster_statuses[i];
        if (!wanted(d, mz_str_c(c->name)))
            continue;
        pb_Any *any = mz_any_pack(assignment(a, c), a);
        if (c->added_via_api) {
            pb_EndpointsConfigDump_DynamicEndpointConfig *e =
                page_new(a, &pb_EndpointsConfigDump_DynamicEndpointConfig__descriptor);
            e->endpoint_config = any;
            add(&dynamic, &e->base);
        } else {
            pb_EndpointsConfigDump_StaticEndpointConfig *e =
                page_new(a, &pb_EndpointsConfigDump_StaticEndpointConfig__descriptor);
            e->endpoint_config = any;
            add(&fixed, &e->base);
        }
    }
    pb_EndpointsConfigDump *m = page_new(a, &pb_EndpointsConfigDump__descriptor);
    m->n_static_endpoint_configs = fixed.n;
    m->static_endpoint_configs = (pb_EndpointsConfigDump_StaticEndpointConfig **)fixed.v;
    m->n_dynamic_endpoint_configs = dynamic.n;
    m->dynamic_endpoint_configs = (pb_EndpointsConfigDump_DynamicEndpointConfig **)dynamic.v;
    return &m->base;
}

/* ---- nothing to show yet: scoped routes, secrets ---- */

ProtobufCMessage *dump_scoped_routes(const struct dump *d)
{
    pb_ScopedRoutesConfigDump *m = page_new(d->arena, &pb_ScopedRoutesConfigDump__descriptor);
    return &m->base;
}

ProtobufCMessage *dump_secrets(const struct dump *d)
{
    pb_SecretsConfigDump *m = page_new(d->arena, &pb_SecretsConfigDump__descriptor);
    return &m->base;
}
