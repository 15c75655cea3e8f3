/* Documents by namespace and by label, so that no question looks at everybody (lists of tenants are long). */
#include <stdio.h>
#include <stdlib.h>

#include "control/analyze/finders.h"

static struct mz_object *const nobody[] = { NULL };

void objects_push(struct objects *l, struct mz_object *o)
{
    *mz_vec_push(&l->v, MZ_MEM_CONFIG) = o;
    *mz_vec_push(&l->v, MZ_MEM_CONFIG) = NULL;
    l->v.n--;
}

struct objects *objects_listed(struct mz_arena *a, struct mz_map *lists, struct mz_str key)
{
    struct objects *l = mz_map_get(lists, key);
    if (l)
        return l;
    l = mz_arena_new0(a, struct objects);
    (void)mz_map_put(lists, mz_arena_dup(a, key), l);
    return l;
}

void objects_free(struct mz_map *lists)
{
    mz_map_foreach (e, lists)
        mz_vec_free(&((struct objects *)e->value)->v, MZ_MEM_CONFIG);
    mz_map_fini(lists);
}

/* "Pod|demo|app=web"; the key of most needs no memory. */
struct key {
    char room[512];
    struct mz_str text;
};
static void key_make(struct key *k, struct mz_arena *a, struct mz_str kind, struct mz_str ns,
                     struct mz_str name, struct mz_str value)
{
    const int n = snprintf(k->room, sizeof(k->room), "%.*s|%.*s|%.*s=%.*s", MZ_STR_ARG(kind),
                           MZ_STR_ARG(ns), MZ_STR_ARG(name), MZ_STR_ARG(value));
    k->text = (size_t)n < sizeof(k->room)
                  ? (struct mz_str){ k->room, (size_t)n }
                  : mz_arena_printf(a, "%.*s|%.*s|%.*s=%.*s", MZ_STR_ARG(kind), MZ_STR_ARG(ns),
                                    MZ_STR_ARG(name), MZ_STR_ARG(value));
}

static void list(struct mz_documents *d, struct mz_object *o, struct mz_str kind, struct mz_str ns,
                 struct mz_str name, struct mz_str value)
{
    struct key k;
    key_make(&k, d->arena, kind, ns, name, value);
    objects_push(objects_listed(d->arena, &d->lists, k.text), o);
}

static const struct objects *find(const struct mz_documents *d, struct mz_str kind,
                                  struct mz_str ns, struct mz_str name, struct mz_str value)
{
    struct key k;
    key_make(&k, d->arena, kind, ns, name, value);
    return mz_map_get(&d->lists, k.text);
}

#define EVERYWHERE MZ_STR("*")

static void list_pod(struct mz_documents *d, struct mz_object *pod)
{
    const struct mz_node *l = object_labels(pod);
    for (uint32_t i = 0; l && l->kind == MZ_NODE_MAP && i < l->n; i++) {
        const struct mz_str value = scalar_text(l->pairs[i].value);
        list(d, pod, pod->kind, pod->ns, l->pairs[i].key, value);
        list(d, pod, pod->kind, EVERYWHERE, l->pairs[i].key, value);
    }
}

static const char *selector_path(const struct mz_object *o)
{
    return object_is(o, "Service")     ? "spec.selector"
           : object_is(o, "Sidecar")   ? "spec.workload_selector.labels"
           : object_is(o, "Telemetry") ? "spec.selector.match_labels"
                                       : NULL;
}

void objects_list(struct mz_documents *d, struct mz_object *o)
{
    const char *path = selector_path(o);
    const struct mz_node *s = path ? mz_node_at(o->tree, path) : NULL;
    if (object_is(o, "Pod"))
        list_pod(d, o);
    if (s && s->kind == MZ_NODE_MAP && s->n) /* found by one of its labels */
        list(d, o, o->kind, o->ns, s->pairs[0].key, scalar_text(s->pairs[0].value));
    list(d, o, o->kind, o->ns, MZ_STR(""), MZ_STR(""));
}

struct mz_object *const *objects_in(const struct mz_documents *d, const char *kind,
                                    struct mz_str ns)
{
    const struct objects *l = find(d, mz_str_c(kind), ns, MZ_STR(""), MZ_STR(""));
    return l ? l->v.v : nobody;
}

struct mz_object *const *pods_near(const struct mz_documents *d, struct mz_str ns,
                                   const struct mz_node *selector)
{
    const bool all = mz_str_eq(ns, EVERYWHERE);
    struct mz_object *const *least = nobody;
    size_t n = SIZE_MAX;
    if (!selector || selector->kind != MZ_NODE_MAP || !selector->n)
        return all ? objects_of(d, "Pod") : objects_in(d, "Pod", ns);
    for (uint32_t i = 0; i < selector->n; i++) {
        const struct mz_pair *p = &selector->pairs[i];
        const struct objects *l = find(d, MZ_STR("Pod"), ns, p->key, scalar_text(p->value));
        if (!l)
            return nobody;
        if (l->v.n < n) {
            least = l->v.v;
            n = l->v.n;
        }
    }
    return least;
}

static int by_order(const void *a, const void *b)
{
    const struct mz_object *const *x = a, *const *y = b;
    return ((*x)->order > (*y)->order) - ((*x)->order < (*y)->order);
}

void objects_selecting(const struct mz_documents *d, const char *kind, struct mz_str ns,
                       const struct mz_node *labels, struct objects *out)
{
    *out = (struct objects){ { 0 } };
    for (uint32_t i = 0; labels && labels->kind == MZ_NODE_MAP && i < labels->n; i++) {
        const struct mz_pair *p = &labels->pairs[i];
        const struct objects *l = find(d, mz_str_c(kind), ns, p->key, scalar_text(p->value));
        for (size_t k = 0; l && k < l->v.n; k++)
            if (selector_matches(mz_node_at(l->v.v[k]->tree, selector_path(l->v.v[k])), labels))
                *mz_vec_push(&out->v, MZ_MEM_CONFIG) = l->v.v[k];
    }
    if (out->v.n)
        qsort(out->v.v, out->v.n, sizeof(*out->v.v), by_order);
}
