#include "control/debug/dump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"

/* ---- the Node ---- */

static bool read_file(const char *path, struct mz_buf *out, struct mz_err *err)
{
    FILE *f = fopen(path, "re");
    char text[16384];
    size_t n;
    if (!f)
        return mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    while ((n = fread(text, 1, sizeof(text), f)) > 0)
        mz_buf_append(out, text, n);
    const bool ok = !ferror(f);
    (void)fclose(f); /* only read */
    return ok || mz_err_set(err, "%s: cannot be read", path);
}

struct mz_proxy *mz_dump_read_node(const char *file, struct mz_err *err)
{
    struct mz_buf b;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *m = NULL;
    struct mz_proxy *p = NULL;
    mz_buf_init(&b);
    if (read_file(file, &b, err)) {
        struct mz_str text = mz_buf_linearize(&b, mz_buf_len(&b));
        if (mz_msg_from_text(&ctx, text, MZ_TEXT_YAML, &pb_Node__descriptor, &m, err))
            p = mz_proxy_create((const pb_Node *)m, err);
        if (!p)
            (void)mz_err_at(err, "%s", file);
    }
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    return p;
}

/* ---- names that follow from other resources ---- */

struct names {
    struct mz_arena *arena;
    MZ_VEC(struct mz_str) v;
};

static const ProtobufCMessage *open_out(const struct mz_out *o, enum mz_xds_type t,
                                        struct mz_arena *a)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    const bool ok = mz_msg_unpack(&ctx, mz_out_bytes(o, a), mz_translate_descriptor(t), &m, &err);
    MZ_ASSERT(ok); /* we packed it */
    return ok ? m : NULL;
}

static void names_of_clusters(struct names *n, struct names *filters, struct mz_outs *clusters)
{
    (void)filters;
    mz_vec_foreach (o, &clusters->v) {
        const pb_Cluster *c = (const pb_Cluster *)open_out(*o, MZ_XDS_CLUSTER, n->arena);
        if (c && c->cluster_discovery_type_case == pb_Cluster_CLUSTER_DISCOVERY_TYPE_TYPE &&
            c->type == pb_Cluster_DiscoveryType_EDS)
            *mz_vec_push(&n->v, MZ_MEM_XDS) = mz_str_c(c->name);
    }
}

/* Routes and filters that a manager awaits from elsewhere. */
static void names_of_manager(struct names *n, struct names *filters,
                             const pb_HttpConnectionManager *h)
{
    if (h->route_specifier_case == pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS)
        *mz_vec_push(&n->v, MZ_MEM_XDS) = mz_str_c(h->rds->route_config_name);
    for (size_t i = 0; i < h->n_http_filters; i++)
        if (h->http_filters[i]->config_type_case == pb_HttpFilter_CONFIG_TYPE_CONFIG_DISCOVERY)
            *mz_vec_push(&filters->v, MZ_MEM_XDS) = mz_str_c(h->http_filters[i]->name);
}

static void names_of_any(struct names *n, struct names *filters, const pb_Any *any)
{
    struct mz_proto_ctx ctx = { .arena = n->arena,
                                .unknown = MZ_UNKNOWN_COUNT,
                                .partial = true,
                                .unchecked = true,
                                .control = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (mz_any_unpack_as(&ctx, any, &pb_HttpConnectionManager__descriptor, &m, &err))
        names_of_manager(n, filters, (const pb_HttpConnectionManager *)m); /* else another filter */
}

static void names_of_chain(struct names *n, struct names *filters, const pb_FilterChain *c)
{
    for (size_t i = 0; c && i < c->n_filters; i++) {
        if (c->filters[i]->config_type_case == pb_Filter_CONFIG_TYPE_CONFIG_DISCOVERY)
            *mz_vec_push(&filters->v, MZ_MEM_XDS) = mz_str_c(c->filters[i]->name);
        if (c->filters[i]->config_type_case == pb_Filter_CONFIG_TYPE_TYPED_CONFIG)
            names_of_any(n, filters, c->filters[i]->typed_config);
    }
}

static void names_of_listeners(struct names *n, struct names *filters, struct mz_outs *listeners)
{
    mz_vec_foreach (o, &listeners->v) {
        const pb_Listener *l = (const pb_Listener *)open_out(*o, MZ_XDS_LISTENER, n->arena);
        for (size_t i = 0; l && i < l->n_filter_chains; i++)
            names_of_chain(n, filters, l->filter_chains[i]);
        if (l)
            names_of_chain(n, filters, l->default_filter_chain);
        if (l && l->api_listener)
            names_of_any(n, filters, l->api_listener->api_listener);
    }
}

static void add_cluster(struct names *n, const char *name)
{
    if (name[0])
        *mz_vec_push(&n->v, MZ_MEM_XDS) = mz_str_c(name);
}

/* Clusters that routes lead to, and mirror to. */
static void names_of_routes(struct names *n, struct mz_outs *routes)
{
    mz_vec_foreach (o, &routes->v) {
        const pb_RouteConfiguration *m =
            (const pb_RouteConfiguration *)open_out(*o, MZ_XDS_ROUTE, n->arena);
        for (size_t i = 0; m && i < m->n_virtual_hosts; i++)
            for (size_t k = 0; k < m->virtual_hosts[i]->n_routes; k++) {
                const pb_Route *r = m->virtual_hosts[i]->routes[k];
                const pb_RouteAction *a = r->action_case == pb_Route_ACTION_ROUTE ? r->route : NULL;
                if (a && a->cluster_specifier_case == pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER)
                    add_cluster(n, a->cluster);
                if (a &&
                    a->cluster_specifier_case == pb_RouteAction_CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS)
                    for (size_t j = 0; j < a->weighted_clusters->n_clusters; j++)
                        add_cluster(n, a->weighted_clusters->clusters[j]->name);
            }
    }
}

/* ---- writing ---- */

static void put_resource(struct mz_buf *b, const struct mz_out *o, enum mz_xds_type t, bool first,
                         struct mz_arena *a)
{
    pb_Any any = pb_Any__INIT;
    any.type_url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                      mz_translate_descriptor(t)->name)
                       .p;
    const struct mz_str bytes = mz_out_bytes(o, a);
    any.value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    mz_buf_append_str(b, first ? MZ_STR("[\n") : MZ_STR(",\n"));
    mz_msg_to_json(&any.base, b, MZ_JSON_PRETTY);
}

static bool write_file(const char *path, const struct mz_buf *b, struct mz_err *err)
{
    FILE *f = fopen(path, "we");
    bool ok = f != NULL;
    for (uint32_t i = 0; ok && i < b->n; i++) {
        const struct mz_frag *g = mz_buf_frag(b, i);
        ok = fwrite(g->p, 1, g->n, f) == g->n;
    }
    if (f && fclose(f) != 0)
        ok = false;
    return ok || mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
}

static bool write_type(struct mz_outs *outs, enum mz_xds_type t, const char *dir,
                       struct mz_err *err)
{
    struct mz_buf b;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    bool first = true, ok = true;
    mz_buf_init(&b);
    mz_vec_foreach (o, &outs->v) {
        put_resource(&b, *o, t, first, a);
        first = false;
    }
    mz_buf_append_str(&b, first ? MZ_STR("[]\n") : MZ_STR("\n]\n"));
    ok = write_file(mz_arena_printf(a, "%s/%s.json", dir, mz_translate_short(t)).p, &b, err);
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    return ok;
}

static int compare(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

static void sort_once(struct names *n)
{
    size_t kept = 0;
    if (n->v.n)
        qsort(n->v.v, n->v.n, sizeof(*n->v.v), compare);
    for (size_t i = 0; i < n->v.n; i++)
        if (!kept || !mz_str_eq(n->v.v[kept - 1], n->v.v[i]))
            n->v.v[kept++] = n->v.v[i];
    n->v.n = kept;
}

/* One type by name; what it says of the next one's names is read before it goes. */
static bool write_next(struct mz_view *v, enum mz_xds_type t, struct names *n,
                       void (*then)(struct names *next, struct mz_outs *outs), struct names *next,
                       const char *dir, struct mz_err *err)
{
    struct mz_outs outs = { 0 };
    sort_once(n);
    mz_translate(v, t, n->v.v, n->v.n, &outs);
    if (then)
        then(next, &outs);
    const bool ok = write_type(&outs, t, dir, err);
    mz_outs_fini(&outs);
    return ok;
}

/* A type that is asked for as a whole, then the one that follows from it, then filters that do. */
static bool write_pair(struct mz_view *v, enum mz_xds_type whole, enum mz_xds_type named,
                       void (*names_of)(struct names *n, struct names *filters,
                                        struct mz_outs *outs),
                       const char *dir, struct mz_err *err)
{
    struct mz_outs outs = { 0 };
    struct names n = { .arena = mz_arena_create(MZ_MEM_XDS) }, filters = { 0 };
    mz_translate(v, whole, NULL, 0, &outs);
    names_of(&n, &filters, &outs);
    const bool ok =
        write_type(&outs, whole, dir, err) && write_next(v, named, &n, NULL, NULL, dir, err) &&
        (!filters.v.n || write_next(v, MZ_XDS_EXTENSION, &filters, NULL, NULL, dir, err));
    mz_outs_fini(&outs);
    mz_vec_free(&n.v, MZ_MEM_XDS);
    mz_vec_free(&filters.v, MZ_MEM_XDS);
    mz_arena_destroy(n.arena);
    return ok;
}

static bool write_whole(struct mz_view *v, enum mz_xds_type t, const char *dir, struct mz_err *err)
{
    struct mz_outs outs = { 0 };
    mz_translate(v, t, NULL, 0, &outs);
    const bool ok = write_type(&outs, t, dir, err);
    mz_outs_fini(&outs);
    return ok;
}

static void routes_of(struct names *next, struct mz_outs *listeners)
{
    struct names none = { 0 };
    names_of_listeners(next, &none, listeners);
    mz_vec_free(&none.v, MZ_MEM_XDS);
}

static void endpoints_of(struct names *next, struct mz_outs *clusters)
{
    struct names none = { 0 };
    names_of_clusters(next, &none, clusters);
}

/* gRPC goes from what it dials to routes, clusters, endpoints, and asks for each by name. */
static bool write_proxyless(struct mz_view *v, const char *dir, struct mz_err *err)
{
    struct names n[4] = { { 0 } };
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str *listeners;
    size_t count;
    mz_view_listeners(v, a, &listeners, &count);
    for (size_t i = 0; i < MZ_COUNT(n); i++)
        n[i].arena = a;
    for (size_t i = 0; i < count; i++)
        *mz_vec_push(&n[0].v, MZ_MEM_XDS) = listeners[i];
    const bool ok = write_next(v, MZ_XDS_LISTENER, &n[0], routes_of, &n[1], dir, err) &&
                    write_next(v, MZ_XDS_ROUTE, &n[1], names_of_routes, &n[2], dir, err) &&
                    write_next(v, MZ_XDS_CLUSTER, &n[2], endpoints_of, &n[3], dir, err) &&
                    write_next(v, MZ_XDS_ENDPOINT, &n[3], NULL, NULL, dir, err);
    for (size_t i = 0; i < MZ_COUNT(n); i++)
        mz_vec_free(&n[i].v, MZ_MEM_XDS);
    mz_arena_destroy(a);
    return ok;
}

bool mz_dump_write(struct mz_view *v, const char *dir, struct mz_err *err)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return mz_err_set(err, "%s: %s", dir, strerrordesc_np(errno));
    if (mz_view_by_name(v))
        return write_proxyless(v, dir, err);
    return write_pair(v, MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT, names_of_clusters, dir, err) &&
           write_pair(v, MZ_XDS_LISTENER, MZ_XDS_ROUTE, names_of_listeners, dir, err) &&
           (!mz_view_answers_dns(v) || write_whole(v, MZ_XDS_NAME_TABLE, dir, err));
}
