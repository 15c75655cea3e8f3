/*
 * The parts of /config_dump (O4): messages of envoy.admin.v3 made from the bytes that the managers keep; they live in the
 * arena of one answer.
 */
#include <stdlib.h>

#include "base/regex.h"
#include "hcm/rds.h"
#include "hcm/srds.h"
#include "listener/ecds.h"
#include "listener/listener.h"
#include "server/pages_priv.h"
#include "tls/secrets.h"
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
    bool some; /* there is something, be it not wanted */
};

/* Envoy shows the clusters by name. */
struct named_list {
    struct mz_cluster_shown *v;
    size_t n;
};

static void note_named(void *arg, const struct mz_cluster_shown *c)
{
    struct named_list *l = arg;
    l->v[l->n++] = *c;
}

static void count_shown(void *arg, const struct mz_cluster_shown *c)
{
    (void)c;
    ++*(size_t *)arg;
}

static int by_name(const void *x, const void *y)
{
    const struct mz_cluster_shown *a = x, *b = y;
    return mz_str_cmp(a->name, b->name);
}

static struct named_list clusters_by_name(const struct dump *d)
{
    struct named_list l = { .n = 0 };
    size_t n = 0;
    mz_cluster_manager_show(d->pages->env.clusters, count_shown, &n);
    l.v = mz_arena_alloc(d->arena, (n + 1) * sizeof(*l.v));
    mz_cluster_manager_show(d->pages->env.clusters, note_named, &l);
    qsort(l.v, l.n, sizeof(*l.v), by_name);
    return l;
}

static char *text_of(struct mz_arena *a, struct mz_str s)
{
    return page_chars(mz_arena_dup(a, s).p);
}

static ProtobufCMessage *static_cluster_message(struct mz_arena *a,
                                                const struct mz_cluster_shown *c)
{
    pb_ClustersConfigDump_StaticCluster *m =
        page_new(a, &pb_ClustersConfigDump_StaticCluster__descriptor);
    m->cluster = any_of(a, &pb_Cluster__descriptor, c->bytes);
    m->last_updated = timestamp(a, c->updated_wall_us);
    return &m->base;
}

static ProtobufCMessage *dynamic_cluster_message(struct mz_arena *a,
                                                 const struct mz_cluster_shown *c)
{
    pb_ClustersConfigDump_DynamicCluster *m =
        page_new(a, &pb_ClustersConfigDump_DynamicCluster__descriptor);
    m->version_info = text_of(a, c->version);
    m->cluster = any_of(a, &pb_Cluster__descriptor, c->bytes);
    m->last_updated = timestamp(a, c->updated_wall_us);
    return &m->base;
}

ProtobufCMessage *dump_clusters(const struct dump *d)
{
    struct mz_arena *a = d->arena;
    struct messages fixed = { .arena = a }, active = { .arena = a }, warming = { .arena = a };
    const struct named_list l = clusters_by_name(d);
    for (size_t i = 0; i < l.n; i++) {
        const struct mz_cluster_shown *c = &l.v[i];
        if (!wanted(d, c->name))
            continue;
        if (c->via_api)
            add(c->warming ? &warming : &active, dynamic_cluster_message(a, c));
        else
            add(&fixed, static_cluster_message(a, c));
    }
    pb_ClustersConfigDump *m = page_new(a, &pb_ClustersConfigDump__descriptor);
    if (d->pages->env.dynamic && d->pages->env.dynamic->cds)
        m->version_info = text_of(a, mz_cds_version(d->pages->env.dynamic->cds));
    m->n_static_clusters = fixed.n;
    m->static_clusters = (pb_ClustersConfigDump_StaticCluster **)fixed.v;
    m->n_dynamic_active_clusters = active.n;
    m->dynamic_active_clusters = (pb_ClustersConfigDump_DynamicCluster **)active.v;
    m->n_dynamic_warming_clusters = warming.n;
    m->dynamic_warming_clusters = (pb_ClustersConfigDump_DynamicCluster **)warming.v;
    return &m->base;
}

/* ---- listeners ---- */

static pb_ListenersConfigDump_DynamicListenerState *state_of(struct mz_arena *a,
                                                             const struct mz_listener_state *s)
{
    if (!s->bytes.p)
        return NULL;
    pb_ListenersConfigDump_DynamicListenerState *m =
        page_new(a, &pb_ListenersConfigDump_DynamicListenerState__descriptor);
    m->version_info = text_of(a, s->version);
    m->listener = any_of(a, &pb_Listener__descriptor, s->bytes);
    m->last_updated = timestamp(a, s->updated_wall_us);
    return m;
}

static pb_UpdateFailureState *failure_of(struct mz_arena *a, const struct mz_lds_error *e)
{
    pb_UpdateFailureState *m = page_new(a, &pb_UpdateFailureState__descriptor);
    m->failed_configuration = any_of(a, &pb_Listener__descriptor, e->bytes);
    m->last_update_attempt = timestamp(a, e->wall_us);
    m->details = text_of(a, e->details);
    m->version_info = text_of(a, e->version);
    return m;
}

/* The entry of that name, made where there is none yet. */
static pb_ListenersConfigDump_DynamicListener *dynamic_of(struct walk *w, struct mz_str name)
{
    for (size_t i = 0; i < w->dynamic.n; i++) {
        pb_ListenersConfigDump_DynamicListener *l =
            (pb_ListenersConfigDump_DynamicListener *)w->dynamic.v[i];
        if (mz_str_eq(mz_str_c(l->name), name))
            return l;
    }
    pb_ListenersConfigDump_DynamicListener *l =
        page_new(w->d->arena, &pb_ListenersConfigDump_DynamicListener__descriptor);
    l->name = text_of(w->d->arena, name);
    add(&w->dynamic, &l->base);
    return l;
}

static void one_listener(void *arg, const struct mz_listener_shown *shown)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, shown->name))
        return;
    if (shown->draining.bytes.p) {
        if (shown->via_api)
            dynamic_of(w, shown->name)->draining_state = state_of(a, &shown->draining);
    } else if (shown->via_api) {
        pb_ListenersConfigDump_DynamicListener *l =
            page_new(a, &pb_ListenersConfigDump_DynamicListener__descriptor);
        l->name = text_of(a, shown->name);
        l->active_state = state_of(a, &shown->active);
        l->warming_state = state_of(a, &shown->warming);
        add(&w->dynamic, &l->base);
    } else {
        pb_ListenersConfigDump_StaticListener *l =
            page_new(a, &pb_ListenersConfigDump_StaticListener__descriptor);
        l->listener = any_of(a, &pb_Listener__descriptor, shown->active.bytes);
        l->last_updated = timestamp(a, shown->active.updated_wall_us);
        add(&w->fixed, &l->base);
    }
}

/* What the last update had that was refused: of a listener that runs, or by its name alone. */
static void one_error(void *arg, const struct mz_lds_error *e)
{
    struct walk *w = arg;
    if (wanted(w->d, e->name))
        dynamic_of(w, e->name)->error_state = failure_of(w->d->arena, e);
}

ProtobufCMessage *dump_listeners(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena }, false };
    const struct mz_lds *lds = d->pages->env.dynamic ? d->pages->env.dynamic->lds : NULL;
    mz_listener_manager_each(d->pages->env.listeners, one_listener, &w);
    pb_ListenersConfigDump *m = page_new(d->arena, &pb_ListenersConfigDump__descriptor);
    if (lds) {
        mz_lds_errors(lds, one_error, &w);
        m->version_info = text_of(d->arena, mz_lds_version(lds));
    }
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
    if (rc->vhds || !wanted(w->d, mz_str_c(rc->name))) /* those with vhds: one_subscribed() */
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

static void listener_routes(void *arg, const struct mz_listener_shown *shown)
{
    struct walk *w = arg;
    uint64_t updated_us = shown->active.updated_wall_us;
    const pb_Listener *l =
        shown->active.bytes.p
            ? (pb_Listener *)unpack(w->d->arena, &pb_Listener__descriptor, shown->active.bytes)
            : NULL;
    for (size_t i = 0; l && i < l->n_filter_chains; i++)
        chain_routes(w, l->filter_chains[i], updated_us);
    if (l)
        chain_routes(w, l->default_filter_chain, updated_us);
}

static void one_subscribed(void *arg, const struct mz_rds_shown *r)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!r->bytes.p || !wanted(w->d, r->name))
        return;
    if (r->inlined) {
        pb_RoutesConfigDump_StaticRouteConfig *fixed =
            page_new(a, &pb_RoutesConfigDump_StaticRouteConfig__descriptor);
        fixed->route_config = any_of(a, &pb_RouteConfiguration__descriptor, r->bytes);
        fixed->last_updated = timestamp(a, r->updated_wall_us);
        add(&w->fixed, &fixed->base);
        return;
    }
    pb_RoutesConfigDump_DynamicRouteConfig *m =
        page_new(a, &pb_RoutesConfigDump_DynamicRouteConfig__descriptor);
    m->version_info = text_of(a, r->version);
    m->route_config = any_of(a, &pb_RouteConfiguration__descriptor, r->bytes);
    m->last_updated = timestamp(a, r->updated_wall_us);
    add(&w->dynamic, &m->base);
}

ProtobufCMessage *dump_routes(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena }, false };
    mz_listener_manager_each(d->pages->env.listeners, listener_routes, &w);
    if (d->pages->env.dynamic)
        mz_rds_manager_each(d->pages->env.dynamic->rds, one_subscribed, &w);
    pb_RoutesConfigDump *m = page_new(d->arena, &pb_RoutesConfigDump__descriptor);
    m->n_static_route_configs = w.fixed.n;
    m->static_route_configs = (pb_RoutesConfigDump_StaticRouteConfig **)w.fixed.v;
    m->n_dynamic_route_configs = w.dynamic.n;
    m->dynamic_route_configs = (pb_RoutesConfigDump_DynamicRouteConfig **)w.dynamic.v;
    return &m->base;
}

/* ---- the bootstrap, with the static listeners and clusters put back in ---- */

static void static_message(struct messages *l, struct mz_str bytes, bool via_api,
                           const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = via_api ? NULL : unpack(l->arena, d, bytes);
    if (m)
        add(l, m);
}

static void static_cluster(void *arg, const struct mz_cluster_shown *c)
{
    static_message(arg, c->bytes, c->via_api, &pb_Cluster__descriptor);
}

static void static_listener(void *arg, const struct mz_listener_shown *l)
{
    if (!l->draining.bytes.p)
        static_message(arg, l->active.bytes, l->via_api, &pb_Listener__descriptor);
}

static void put_resources(const struct dump *d, pb_Bootstrap *b)
{
    struct messages clusters = { .arena = d->arena }, listeners = { .arena = d->arena };
    mz_cluster_manager_show_added(d->pages->env.clusters, static_cluster, &clusters);
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

/* ---- endpoints ---- */

static void one_assignment(void *arg, const struct mz_assignment_shown *s)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, s->name))
        return;
    pb_Any *any = mz_any_pack(&s->assignment->base, a);
    if (s->via_api) {
        pb_EndpointsConfigDump_DynamicEndpointConfig *e =
            page_new(a, &pb_EndpointsConfigDump_DynamicEndpointConfig__descriptor);
        e->endpoint_config = any;
        add(&w->dynamic, &e->base);
    } else {
        pb_EndpointsConfigDump_StaticEndpointConfig *e =
            page_new(a, &pb_EndpointsConfigDump_StaticEndpointConfig__descriptor);
        e->endpoint_config = any;
        add(&w->fixed, &e->base);
    }
}

ProtobufCMessage *dump_endpoints(const struct dump *d)
{
    struct walk w = { d, { .arena = d->arena }, { .arena = d->arena }, false };
    mz_cluster_manager_assignments(d->pages->env.clusters, d->arena, one_assignment, &w);
    pb_EndpointsConfigDump *m = page_new(d->arena, &pb_EndpointsConfigDump__descriptor);
    m->n_static_endpoint_configs = w.fixed.n;
    m->static_endpoint_configs = (pb_EndpointsConfigDump_StaticEndpointConfig **)w.fixed.v;
    m->n_dynamic_endpoint_configs = w.dynamic.n;
    m->dynamic_endpoint_configs = (pb_EndpointsConfigDump_DynamicEndpointConfig **)w.dynamic.v;
    return &m->base;
}

/* ---- filters by subscription ---- */

static void one_extension(void *arg, const struct mz_ecds_shown *s)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    w->some = true;
    if (!s->bytes.p || !wanted(w->d, s->name))
        return;
    pb_EcdsConfigDump_EcdsFilterConfig *m =
        page_new(a, &pb_EcdsConfigDump_EcdsFilterConfig__descriptor);
    m->version_info = text_of(a, s->version);
    m->ecds_filter = any_of(a, &pb_TypedExtensionConfig__descriptor, s->bytes);
    m->last_updated = timestamp(a, s->updated_wall_us);
    add(&w->dynamic, &m->base);
}

static ProtobufCMessage *dump_ecds(const struct dump *d, const char *kind)
{
    struct walk w = { .d = d, .dynamic = { .arena = d->arena } };
    if (d->pages->env.dynamic)
        mz_ecds_each(d->pages->env.dynamic->ecds, kind, one_extension, &w);
    if (!w.some)
        return NULL;
    pb_EcdsConfigDump *m = page_new(d->arena, &pb_EcdsConfigDump__descriptor);
    m->n_ecds_filters = w.dynamic.n;
    m->ecds_filters = (pb_EcdsConfigDump_EcdsFilterConfig **)w.dynamic.v;
    return &m->base;
}

ProtobufCMessage *dump_ecds_http(const struct dump *d)
{
    return dump_ecds(d, "http_filter");
}

ProtobufCMessage *dump_ecds_network(const struct dump *d)
{
    return dump_ecds(d, mz_extension_network.stat);
}

ProtobufCMessage *dump_ecds_listener(const struct dump *d)
{
    return dump_ecds(d, mz_extension_listener.stat);
}

/* ---- scoped routes, secrets ---- */

static void one_scope(void *arg, struct mz_str bytes)
{
    struct messages *l = arg;
    pb_Any *any = any_of(l->arena, &pb_ScopedRouteConfiguration__descriptor, bytes);
    add(l, &any->base);
}

static void scopes_of(void *arg, const struct mz_srds_shown *s)
{
    struct walk *w = arg;
    struct mz_arena *a = w->d->arena;
    struct messages scopes = { .arena = a };
    if (!wanted(w->d, s->name))
        return;
    s->scopes(s, one_scope, &scopes);
    if (s->inlined) {
        pb_ScopedRoutesConfigDump_InlineScopedRouteConfigs *m =
            page_new(a, &pb_ScopedRoutesConfigDump_InlineScopedRouteConfigs__descriptor);
        m->name = text_of(a, s->name);
        m->n_scoped_route_configs = scopes.n;
        m->scoped_route_configs = (pb_Any **)scopes.v;
        m->last_updated = timestamp(a, s->updated_wall_us);
        add(&w->fixed, &m->base);
        return;
    }
    pb_ScopedRoutesConfigDump_DynamicScopedRouteConfigs *m =
        page_new(a, &pb_ScopedRoutesConfigDump_DynamicScopedRouteConfigs__descriptor);
    m->name = text_of(a, s->name);
    m->version_info = text_of(a, s->version);
    m->n_scoped_route_configs = scopes.n;
    m->scoped_route_configs = (pb_Any **)scopes.v;
    m->last_updated = timestamp(a, s->updated_wall_us);
    add(&w->dynamic, &m->base);
}

ProtobufCMessage *dump_scoped_routes(const struct dump *d)
{
    struct walk w = { .d = d, .fixed = { .arena = d->arena }, .dynamic = { .arena = d->arena } };
    if (d->pages->env.dynamic)
        mz_srds_each(d->pages->env.dynamic->rds, scopes_of, &w);
    pb_ScopedRoutesConfigDump *m = page_new(d->arena, &pb_ScopedRoutesConfigDump__descriptor);
    m->n_inline_scoped_route_configs = w.fixed.n;
    m->inline_scoped_route_configs =
        (pb_ScopedRoutesConfigDump_InlineScopedRouteConfigs **)w.fixed.v;
    m->n_dynamic_scoped_route_configs = w.dynamic.n;
    m->dynamic_scoped_route_configs =
        (pb_ScopedRoutesConfigDump_DynamicScopedRouteConfigs **)w.dynamic.v;
    return &m->base;
}

struct secret_walk {
    const struct dump *d;
    struct messages fixed, active, warming;
};

static void one_secret(void *arg, const struct mz_secret_shown *v)
{
    struct secret_walk *w = arg;
    struct mz_arena *a = w->d->arena;
    if (!wanted(w->d, v->name))
        return;
    if (!v->dynamic) {
        pb_SecretsConfigDump_StaticSecret *m =
            page_new(a, &pb_SecretsConfigDump_StaticSecret__descriptor);
        m->name = text_of(a, v->name);
        m->secret = any_of(a, &pb_Secret__descriptor, v->bytes);
        m->last_updated = timestamp(a, v->updated_wall_us);
        add(&w->fixed, &m->base);
        return;
    }
    pb_SecretsConfigDump_DynamicSecret *m =
        page_new(a, &pb_SecretsConfigDump_DynamicSecret__descriptor);
    m->name = text_of(a, v->name);
    m->version_info = v->bytes.p ? text_of(a, v->version) : page_chars("uninitialized");
    if (v->bytes.p) {
        m->secret = any_of(a, &pb_Secret__descriptor, v->bytes);
        m->last_updated = timestamp(a, v->updated_wall_us);
    }
    add(v->bytes.p ? &w->active : &w->warming, &m->base);
}

ProtobufCMessage *dump_secrets(const struct dump *d)
{
    struct mz_arena *a = d->arena;
    struct secret_walk w = { d, { .arena = a }, { .arena = a }, { .arena = a } };
    if (d->pages->env.dynamic)
        mz_secrets_each(d->pages->env.dynamic->secrets, one_secret, &w);
    pb_SecretsConfigDump *m = page_new(a, &pb_SecretsConfigDump__descriptor);
    m->n_static_secrets = w.fixed.n;
    m->static_secrets = (pb_SecretsConfigDump_StaticSecret **)w.fixed.v;
    m->n_dynamic_active_secrets = w.active.n;
    m->dynamic_active_secrets = (pb_SecretsConfigDump_DynamicSecret **)w.active.v;
    m->n_dynamic_warming_secrets = w.warming.n;
    m->dynamic_warming_secrets = (pb_SecretsConfigDump_DynamicSecret **)w.warming.v;
    return &m->base;
}
