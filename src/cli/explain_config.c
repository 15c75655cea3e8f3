/* What a proxy's configuration says of the things that its record names. */
#include <stdio.h>

#include "cli/explain.h"

void view_open(struct view *v, const struct pods *p, const struct pod *pod)
{
    struct mz_err err;
    *v = (struct view){ .pod = pod };
    if (!pod_load(p, pod, "GET", "/config_dump", &v->config, &err))
        v->config.root = NULL; /* the story has fewer words */
}

void view_close(struct view *v)
{
    dump_fini(&v->config);
}

/* The resource called @name of a part's lists; @lists: "list.path" pairs, NULL behind the last. */
static const struct mz_node *resource(const struct view *v, const char *part,
                                      const char *const lists[][2], size_t n, struct mz_str name)
{
    struct mz_err err;
    const struct mz_node *p = v->config.root ? dump_part(&v->config, part, &err) : NULL;
    for (size_t i = 0; p && i < n; i++) {
        const struct mz_node *list = mz_node_get(p, lists[i][0]);
        for (size_t k = 0; k < mz_node_count(list); k++) {
            const struct mz_node *one = mz_node_at(list->list[k], lists[i][1]);
            if (one && mz_str_eq(mz_node_text(one, "name"), name))
                return one;
        }
    }
    return NULL;
}

const struct mz_node *view_listener(const struct view *v, struct mz_str name)
{
    static const char *const lists[][2] = { { "dynamic_listeners", "active_state.listener" },
                                            { "static_listeners", "listener" } };
    return resource(v, "ListenersConfigDump", lists, MZ_COUNT(lists), name);
}

const struct mz_node *view_cluster(const struct view *v, struct mz_str name)
{
    static const char *const lists[][2] = { { "dynamic_active_clusters", "cluster" },
                                            { "static_clusters", "cluster" } };
    return resource(v, "ClustersConfigDump", lists, MZ_COUNT(lists), name);
}

const struct mz_node *view_chain(const struct view *v, struct mz_str listener, struct mz_str chain)
{
    const struct mz_node *l = view_listener(v, listener), *list = mz_node_get(l, "filter_chains"),
                         *last = mz_node_get(l, "default_filter_chain");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(mz_node_text(list->list[i], "name"), chain))
            return list->list[i];
    return last && mz_str_eq(mz_node_text(last, "name"), chain) ? last : NULL;
}

const struct mz_node *view_filter(const struct mz_node *chain, const char *type)
{
    const struct mz_node *filters = mz_node_get(chain, "filters");
    for (size_t i = 0; i < mz_node_count(filters); i++) {
        const struct mz_node *c = mz_node_get(filters->list[i], "typed_config");
        if (mz_str_ends(mz_node_text(c, "@type"), mz_str_c(type)))
            return c;
    }
    return NULL;
}

static const struct mz_node *vhost_in(const struct mz_node *config, struct mz_str vhost)
{
    const struct mz_node *list = mz_node_get(config, "virtual_hosts");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(mz_node_text(list->list[i], "name"), vhost))
            return list->list[i];
    return NULL;
}

/* Records do not name their table. Sidecars' tables are called by the port, as the end of their listeners' names. */
static const struct mz_node *vhost_anywhere(const struct view *v, struct mz_str listener,
                                            struct mz_str vhost)
{
    const struct mz_str port = mz_str_skip(listener, (size_t)(mz_str_rchr(listener, '_') + 1));
    const struct mz_node *found = NULL;
    struct mz_err err;
    const struct mz_node *part = v->config.root ? dump_part(&v->config, "RoutesConfigDump", &err)
                                                : NULL,
                         *list = mz_node_get(part, "dynamic_route_configs");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *config = mz_node_get(list->list[i], "route_config"),
                             *one = vhost_in(config, vhost);
        if (one && (!found || mz_str_eq(mz_node_text(config, "name"), port)))
            found = one;
    }
    return found;
}

const struct mz_node *view_vhost(const struct view *v, const struct telling *t, struct mz_str vhost)
{
    static const char *const lists[][2] = { { "dynamic_route_configs", "route_config" },
                                            { "static_route_configs", "route_config" } };
    const struct mz_str routes = mz_node_text(t->answer, "route_config");
    const struct mz_node *own =
        mz_node_get(view_filter(t->chain_node, ".HttpConnectionManager"), "route_config");
    const struct mz_node *config =
        routes.n ? resource(v, "RoutesConfigDump", lists, 1, routes) : NULL;
    if (!config)
        config = own        ? own
                 : routes.n ? resource(v, "RoutesConfigDump", lists, MZ_COUNT(lists), routes)
                            : NULL;
    return config ? vhost_in(config, vhost) : vhost_anywhere(v, t->listener, vhost);
}

const struct mz_node *view_socket(const struct mz_node *cluster, int match)
{
    const struct mz_node *list = mz_node_get(cluster, "transport_socket_matches");
    return match >= 0 && (size_t)match < mz_node_count(list)
               ? mz_node_at(list->list[match], "transport_socket.typed_config")
               : mz_node_at(cluster, "transport_socket.typed_config");
}

static const struct mz_node *istio_of(const struct mz_node *resource_node)
{
    return mz_node_get(mz_node_at(resource_node, "metadata.filter_metadata"), "istio");
}

struct object_ref view_rule(const struct explain *x, const struct mz_node *node, const char *path)
{
    struct object_ref r = { .kind = MZ_STR("") };
    char kind[80];
    if (!object_of_config(mz_node_text(istio_of(node), "config"), x->arena, &r))
        return (struct object_ref){ .kind = MZ_STR(""), .name = MZ_STR("") };
    (void)snprintf(kind, sizeof(kind), "%.*s", MZ_STR_ARG(r.kind));
    return object_ref(&x->objects, kind, mz_arena_dup(x->arena, r.ns),
                      mz_arena_dup(x->arena, r.name), path, x->arena);
}

size_t view_gateways(const struct explain *x, const struct object_ref *virtual_service,
                     struct object_ref *out, size_t most)
{
    const struct mz_node *doc = object_document(&x->objects, virtual_service, x->arena),
                         *list = mz_node_at(doc, "spec.gateways");
    size_t n = 0;
    for (size_t i = 0; i < mz_node_count(list) && n < most; i++) {
        if (list->list[i]->kind != MZ_NODE_STR)
            continue;
        struct mz_str name = list->list[i]->text, ns = virtual_service->ns;
        const ptrdiff_t slash = mz_str_chr(name, '/');
        if (slash > 0) {
            ns = (struct mz_str){ name.p, (size_t)slash };
            name = mz_str_skip(name, (size_t)slash + 1);
        }
        if (object_exists(&x->objects, "Gateway", ns, name))
            out[n++] = object_ref(&x->objects, "Gateway", ns, name, "spec.servers[0]", x->arena);
    }
    return n;
}

struct object_ref view_service(const struct explain *x, const struct mz_node *cluster)
{
    const struct mz_node *list = mz_node_get(istio_of(cluster), "services");
    const struct mz_node *s = mz_node_count(list) ? list->list[0] : NULL;
    const struct mz_str ns = mz_arena_dup(x->arena, mz_node_text(s, "namespace")),
                        name = mz_arena_dup(x->arena, mz_node_text(s, "name"));
    if (!s || !name.n)
        return (struct object_ref){ .kind = MZ_STR(""), .name = MZ_STR("") };
    return object_of_service(&x->objects, ns, name, NULL, x->arena);
}

struct mz_str view_own_uri(const struct pods *p, const struct pod *pod, struct mz_arena *a,
                           struct mz_str *out_until)
{
    struct mz_str uri = MZ_STR("");
    struct mz_err err;
    struct dump d;
    *out_until = MZ_STR("");
    if (pod_load(p, pod, "GET", "/certs", &d, &err)) {
        const struct mz_node *certs = mz_node_get(d.root, "certificates");
        for (size_t i = 0; i < mz_node_count(certs) && !uri.n; i++) {
            const struct mz_node *chain = mz_node_get(certs->list[i], "cert_chain");
            const struct mz_node *own = mz_node_count(chain) ? chain->list[0] : NULL;
            const struct mz_node *sans = mz_node_get(own, "subject_alt_names");
            for (size_t k = 0; k < mz_node_count(sans) && !uri.n; k++)
                uri = mz_arena_dup(a, mz_node_text(sans->list[k], "uri"));
            *out_until = mz_arena_dup(a, mz_node_text(own, "expiration_time"));
        }
    }
    dump_fini(&d);
    return uri;
}
