/* Workloads: pods as their controllers would make them, and what Services make of them. */
#include <stdlib.h>

#include "control/analyze/finders.h"

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
        *pod = (struct mz_object){ MZ_STR(""), MZ_STR("Pod"), o->ns,          o->name,
                                   o->file,    template,      template->line, true };
        *mz_vec_push(&d->v, MZ_MEM_CONFIG) = pod;
    }
}

/* ---- what Services make of a Deployment ---- */

struct port {
    const struct mz_object *service;
    uint64_t number;
    struct mz_str target, protocol;
};
typedef MZ_VEC(struct port) port_list;

static void ports_of(struct mz_documents *d, const struct mz_object *deployment, port_list *out)
{
    const struct mz_node *labels = mz_node_at(deployment->tree, "spec.template.metadata.labels");
    objects_foreach(it, d, "Service")
    {
        const struct mz_node *ports = mz_node_at((*it)->tree, "spec.ports");
        if (!mz_str_eq((*it)->ns, deployment->ns) ||
            !selector_matches(mz_node_at((*it)->tree, "spec.selector"), labels))
            continue;
        for (size_t i = 0; i < mz_node_count(ports); i++) {
            const struct mz_node *target = mz_node_get(ports->list[i], "targetPort");
            const struct mz_str protocol = mz_node_text(ports->list[i], "protocol");
            const struct port p = { *it, mz_node_number(ports->list[i], "port"),
                                    target && target->text.n ? target->text : (struct mz_str){ 0 },
                                    protocol.n ? protocol : MZ_STR("TCP") };
            *mz_vec_push(out, MZ_MEM_CONFIG) = p;
            if (!p.target.n) /* the same number */
                out->v[out->n - 1].target =
                    mz_arena_printf(d->arena, "%llu", (unsigned long long)p.number);
        }
    }
}

static int by_text(const void *a, const void *b)
{
    return mz_str_cmp(*(const struct mz_str *)a, *(const struct mz_str *)b);
}

/* "[ns/a ns/b]", sorted; services that are there twice are told twice, as the field's tool does. */
static struct mz_str names(struct mz_documents *d, const struct port *v, const bool *taken,
                           size_t n)
{
    struct mz_str *all = mz_arena_alloc0(d->arena, (n + 1) * sizeof(*all)), text = MZ_STR("[");
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (taken[i])
            all[count++] =
                mz_arena_printf(d->arena, MZ_STR_FMT "/" MZ_STR_FMT, MZ_STR_ARG(v[i].service->ns),
                                MZ_STR_ARG(v[i].service->name));
    qsort(all, count, sizeof(*all), by_text);
    for (size_t i = 0; i < count; i++)
        text = mz_arena_printf(d->arena, MZ_STR_FMT "%s" MZ_STR_FMT, MZ_STR_ARG(text), i ? " " : "",
                               MZ_STR_ARG(all[i]));
    return mz_arena_printf(d->arena, MZ_STR_FMT "]", MZ_STR_ARG(text));
}

static bool is_first(const port_list *l, size_t at, bool by_target)
{
    for (size_t i = 0; i < at; i++)
        if (by_target ? mz_str_eq(l->v[i].target, l->v[at].target)
                      : l->v[i].number == l->v[at].number)
            return false;
    return true;
}

/* One port number, several protocols. */
static void protocols(struct mz_documents *d, const struct mz_object *o, const port_list *l,
                      size_t at, bool *taken)
{
    bool differ = false;
    for (size_t i = 0; i < l->n; i++) {
        taken[i] = l->v[i].number == l->v[at].number;
        differ |= taken[i] && !mz_str_eq(l->v[i].protocol, l->v[at].protocol);
    }
    if (differ)
        found(d, MZ_LEVEL_WARNING, 116, o, name_line(o),
              "This deployment " MZ_STR_FMT " is associated with multiple services using port %llu "
              "but different protocols: " MZ_STR_FMT,
              MZ_STR_ARG(o->name), (unsigned long long)l->v[at].number,
              MZ_STR_ARG(names(d, l->v, taken, l->n)));
}

/* One target, several port numbers: of each number one service is told. */
static void targets(struct mz_documents *d, const struct mz_object *o, const port_list *l,
                    size_t at, bool *taken)
{
    struct mz_str numbers = MZ_STR("");
    size_t n = 0;
    for (uint64_t last = 0;; n++) {
        uint64_t next = UINT64_MAX;
        for (size_t i = 0; i < l->n; i++)
            if (mz_str_eq(l->v[i].target, l->v[at].target) && l->v[i].number > last &&
                l->v[i].number < next)
                next = l->v[i].number;
        if (next == UINT64_MAX)
            break;
        numbers = mz_arena_printf(d->arena, MZ_STR_FMT "%s%llu", MZ_STR_ARG(numbers), n ? " " : "",
                                  (unsigned long long)next);
        last = next;
    }
    if (n < 2)
        return;
    for (size_t i = 0; i < l->n; i++) {
        taken[i] = mz_str_eq(l->v[i].target, l->v[at].target);
        for (size_t k = i + 1; k < l->n && taken[i]; k++) /* the last of a number */
            taken[i] =
                l->v[k].number != l->v[i].number || !mz_str_eq(l->v[k].target, l->v[i].target);
    }
    found(d, MZ_LEVEL_WARNING, 137, o, name_line(o),
          "This deployment " MZ_STR_FMT " is associated with multiple services " MZ_STR_FMT
          " using targetPort \"" MZ_STR_FMT "\" but different ports: [" MZ_STR_FMT "].",
          MZ_STR_ARG(o->name), MZ_STR_ARG(names(d, l->v, taken, l->n)), MZ_STR_ARG(l->v[at].target),
          MZ_STR_ARG(numbers));
}

/* ---- who has a proxy ---- */

static bool is_in_mesh(const struct mz_documents *d, const struct mz_object *o)
{
    const struct mz_node *meta = mz_node_at(o->tree, "spec.template.metadata"),
                         *containers = mz_node_at(o->tree, "spec.template.spec.containers");
    const struct mz_node *from[] = { mz_node_get(meta, "labels"),
                                     mz_node_get(meta, "annotations") };
    for (size_t i = 0; i < mz_node_count(containers); i++)
        if (mz_str_eq(mz_node_text(containers->list[i], "name"), MZ_STR("istio-proxy")))
            return mz_node_text(containers->list[i], "image").n != 0;
    for (size_t i = 0; i < MZ_COUNT(from); i++) {
        const struct mz_node *v = map_member(from[i], MZ_STR("sidecar.istio.io/inject"));
        if (v)
            return mz_str_eq(v->text, MZ_STR("true"));
    }
    const struct mz_object *ns = object_find(d, "Namespace", MZ_STR(""), o->ns);
    return ns && mz_str_eq(object_label(ns, "istio-injection"), MZ_STR("enabled"));
}

/* ---- the proxy's user ---- */

static bool is_proxys(const struct mz_node *of)
{
    return mz_node_number(of, "securityContext.runAsUser") == 1337;
}

static void user(struct mz_documents *d, const struct mz_object *o, const struct mz_node *spec)
{
    const struct mz_node *containers = mz_node_get(spec, "containers");
    bool bad = is_proxys(spec);
    if (map_member(object_labels(o), MZ_STR("istio")) ||
        mz_str_eq(object_label(o, "release"), MZ_STR("istio")))
        return; /* the control plane */
    for (size_t i = 0; i < mz_node_count(containers); i++)
        bad |= !mz_str_eq(mz_node_text(containers->list[i], "name"), MZ_STR("istio-proxy")) &&
               is_proxys(containers->list[i]);
    if (bad)
        found(d, MZ_LEVEL_WARNING, 144, o, 0,
              "User ID (UID) 1337 is reserved for the sidecar proxy.");
}

void find_in_workloads(struct mz_documents *d)
{
    objects_foreach(it, d, "Deployment")
    {
        port_list l = { 0 };
        user(d, *it, mz_node_at((*it)->tree, "spec.template.spec"));
        if (is_in_mesh(d, *it))
            ports_of(d, *it, &l);
        bool *taken = mz_arena_alloc0(d->arena, l.n + 1);
        for (size_t i = 0; i < l.n; i++) {
            if (is_first(&l, i, false))
                protocols(d, *it, &l, i, taken);
            if (is_first(&l, i, true))
                targets(d, *it, &l, i, taken);
        }
        mz_vec_free(&l, MZ_MEM_CONFIG);
    }
    objects_foreach(it, d, "Pod") if (!(*it)->made) user(d, *it, mz_node_get((*it)->tree, "spec"));
}
