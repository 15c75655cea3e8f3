/* Deployments and Pods: those that controllers would make, services that disagree about them, the user that is the proxy's, keys that may be fetched anywhere. */
#include <stdlib.h>

#include "control/analyze/finders.h"

/* ---- pods that are still to be made ---- */

static const char *const controllers[] = { "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet",
                                           "Job" };

static bool makes_pods(const struct mz_object *o)
{
    const struct mz_node *replicas = mz_node_at(o->tree, "spec.replicas");
    if (replicas && mz_node_number(o->tree, "spec.replicas") == 0)
        return false;
    for (size_t i = 0; i < MZ_COUNT(controllers); i++)
        if (mz_str_eq(o->kind, mz_str_c(controllers[i])))
            return o->group.n != 0;
    return false;
}

/* A template has `metadata` and `spec` where a Pod has them. */
void workloads_expand(struct mz_documents *d)
{
    for (size_t i = 0, n = d->v.n; i < n; i++) {
        const struct mz_object *o = d->v.v[i];
        const struct mz_node *template = mz_node_at(o->tree, "spec.template");
        if (!template || !makes_pods(o))
            continue;
        struct mz_object *pod = mz_arena_new0(d->arena, struct mz_object);
        *pod = (struct mz_object){ .kind = MZ_STR("Pod"),
                                   .ns = o->ns,
                                   .name = o->name,
                                   .file = o->file,
                                   .tree = template,
                                   .line = template->line,
                                   .made = true };
        *mz_vec_push(&d->v, MZ_MEM_CONFIG) = pod;
    }
}

/* ---- services of one Deployment ---- */

struct door { /* a port of a service that selects the pods */
    uint64_t port;
    struct mz_str protocol, target, service;
};
struct doors {
    MZ_VEC(struct door) v;
};

static void add_doors(struct doors *doors, struct mz_documents *d, const struct mz_object *service)
{
    const struct mz_node *ports = mz_node_at(service->tree, "spec.ports");
    for (size_t i = 0; i < mz_node_count(ports); i++) {
        const struct mz_str protocol = mz_node_text(ports->list[i], "protocol"),
                            target = scalar_text(mz_node_get(ports->list[i], "targetPort")),
                            number = scalar_text(mz_node_get(ports->list[i], "port"));
        *mz_vec_push(&doors->v, MZ_MEM_CONFIG) = (struct door){
            mz_node_number(ports->list[i], "port"), protocol.n ? protocol : MZ_STR("TCP"),
            target.n && !mz_str_eq(target, MZ_STR("0")) ? target : number, object_name(d, service)
        };
    }
}

static int by_port(const void *a, const void *b)
{
    const struct door *x = a, *y = b;
    return (x->port > y->port) - (x->port < y->port);
}

static int by_target(const void *a, const void *b)
{
    const struct door *x = a, *y = b;
    const int c = mz_str_cmp(x->target, y->target);
    return c ? c : by_port(a, b);
}

static void protocols(struct mz_documents *d, const struct mz_object *o, struct door *v, size_t n)
{
    for (size_t i = 0, k; i < n; i = k) {
        struct names names = { 0 };
        bool differ = false;
        for (k = i; k < n && v[k].port == v[i].port; k++) {
            names_add(&names, v[k].service);
            differ |= !mz_str_eq(v[k].protocol, v[i].protocol);
        }
        const struct mz_str list = names_text(&names, " ", d->arena);
        if (differ)
            found(d, MZ_LEVEL_WARNING, 116, o, name_line(o),
                  "This deployment %.*s is associated with multiple services using port %u but "
                  "different protocols: [%.*s]",
                  MZ_STR_ARG(o->name), (unsigned)v[i].port, MZ_STR_ARG(list));
    }
}

static void targets(struct mz_documents *d, const struct mz_object *o, struct door *v, size_t n)
{
    for (size_t i = 0, k; i < n; i = k) {
        struct names names = { 0 };
        struct mz_str ports = MZ_STR("");
        size_t several = 0;
        for (k = i; k < n && mz_str_eq(v[k].target, v[i].target); k++) {
            if (k + 1 < n && mz_str_eq(v[k + 1].target, v[k].target) && v[k + 1].port == v[k].port)
                continue; /* the last service of a port stands for it */
            names_add(&names, v[k].service);
            if (several++ < 100)
                ports = mz_arena_printf(d->arena, "%.*s%s%u", MZ_STR_ARG(ports),
                                        several > 1 ? " " : "", (unsigned)v[k].port);
        }
        const struct mz_str list = names_text(&names, " ", d->arena);
        if (several > 1)
            found(d, MZ_LEVEL_WARNING, 137, o, name_line(o),
                  "This deployment %.*s is associated with multiple services [%.*s] using "
                  "targetPort \"%.*s\" but different ports: [%.*s].",
                  MZ_STR_ARG(o->name), MZ_STR_ARG(list), MZ_STR_ARG(v[i].target),
                  MZ_STR_ARG(ports));
    }
}

static void services(struct mz_documents *d, const struct mz_object *o)
{
    struct doors doors = { 0 };
    struct objects list;
    objects_selecting(d, "Service", o->ns, pod_labels(o), &list);
    mz_vec_foreach (it, &list.v)
        add_doors(&doors, d, *it);
    mz_vec_free(&list.v, MZ_MEM_CONFIG);
    if (doors.v.n) {
        qsort(doors.v.v, doors.v.n, sizeof(*doors.v.v), by_port);
        protocols(d, o, doors.v.v, doors.v.n);
        qsort(doors.v.v, doors.v.n, sizeof(*doors.v.v), by_target);
        targets(d, o, doors.v.v, doors.v.n);
    }
    mz_vec_free(&doors.v, MZ_MEM_CONFIG);
}

/* ---- users ---- */

static bool is_proxys(const struct mz_node *of)
{
    enum { PROXY_USER = 1337 };
    return mz_node_number(of, "securityContext.runAsUser") == PROXY_USER;
}

static void user(struct mz_documents *d, const struct mz_object *o)
{
    const struct mz_node *spec = pod_spec(o), *list = mz_node_get(spec, "containers");
    bool taken = is_proxys(spec);
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str name = mz_node_text(list->list[i], "name");
        taken |= is_proxys(list->list[i]) && !mz_str_eq(name, MZ_STR("istio-proxy")) &&
                 !mz_str_eq(name, MZ_STR("istio-operator"));
    }
    if (taken && !is_of_control_plane(o))
        found(d, MZ_LEVEL_WARNING, 144, o, 0,
              "User ID (UID) 1337 is reserved for the sidecar proxy.");
}

/* ---- where keys may be fetched ---- */

static bool blocks_ranges(const struct mz_object *o)
{
    const struct mz_node *list = mz_node_get(pod_spec(o), "containers");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *env = mz_node_get(list->list[i], "env");
        for (size_t j = 0; j < mz_node_count(env); j++)
            if (mz_str_eq(mz_node_text(env->list[j], "name"),
                          MZ_STR("BLOCKED_CIDRS_IN_JWKS_URIS")) &&
                scalar_text(mz_node_get(env->list[j], "value")).n)
                return true;
    }
    return false;
}

static void keys(struct mz_documents *d, const struct mz_object *istiod)
{
    enum { MAX = 5 };
    struct mz_str names = MZ_STR("");
    size_t n = 0;
    objects_foreach(it, d, "RequestAuthentication")
    {
        if (n < MAX)
            names = mz_arena_printf(d->arena, "%.*s%s%.*s", MZ_STR_ARG(names), n ? ", " : "",
                                    MZ_STR_ARG(object_name(d, *it)));
        n++;
    }
    if (n > MAX)
        names = mz_arena_printf(d->arena, "%.*s, and %zu more", MZ_STR_ARG(names), n - MAX);
    if (n && !blocks_ranges(istiod))
        found(d, MZ_LEVEL_WARNING, 175, istiod, 0,
              "BLOCKED_CIDRS_IN_JWKS_URIS is not configured but %zu RequestAuthentication "
              "resource(s) exist (%.*s). Consider configuring it to restrict JWKS URI fetches to "
              "trusted networks.",
              n, MZ_STR_ARG(names));
}

void find_in_workloads(struct mz_documents *d)
{
    objects_foreach(it, d, "Pod") if (!(*it)->made) user(d, *it);
    objects_foreach(it, d, "Deployment")
    {
        user(d, *it);
        if (!mz_str_eq(object_label(*it, "gateway.istio.io/managed"),
                       MZ_STR("istio.io-mesh-controller")) &&
            pod_is_in_mesh(d, *it))
            services(d, *it);
        if (mz_str_eq(object_label(*it, "app"), MZ_STR("istiod")))
            keys(d, *it);
    }
}
