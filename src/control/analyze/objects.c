/* Documents by kind and name, and questions that several finders ask. */
#include <stdio.h>
#include <stdlib.h>

#include "control/analyze/finders.h"

/* ---- by kind and name ---- */

static bool is_system(const struct mz_object *o)
{
    static const char *const names[] = { "kube-system", "kube-public", "kube-node-lease",
                                         "local-path-storage" };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(object_is(o, "Namespace") ? o->name : o->ns, mz_str_c(names[i])))
            return true;
    return false;
}

bool object_is(const struct mz_object *o, const char *kind)
{
    return mz_str_eq(o->kind, mz_str_c(kind)) &&
           (!mz_str_eq(o->kind, MZ_STR("Gateway")) ||
            mz_str_eq(o->group, MZ_STR("networking.istio.io"))) &&
           !(mz_str_eq(o->kind, MZ_STR("Service")) && o->group.n);
}

static struct mz_str kind_name(const struct mz_object *o)
{
    if (mz_str_eq(o->kind, MZ_STR("Gateway")) && !object_is(o, "Gateway"))
        return MZ_STR("KubernetesGateway");
    return mz_str_eq(o->kind, MZ_STR("Service")) && o->group.n ? MZ_STR("") : o->kind;
}

static struct mz_str key_of(struct mz_arena *a, struct mz_str kind, struct mz_str ns,
                            struct mz_str name)
{
    return mz_arena_printf(a, "%.*s/%.*s/%.*s", MZ_STR_ARG(kind), MZ_STR_ARG(ns), MZ_STR_ARG(name));
}

static void index_object(struct mz_documents *d, struct mz_object *o)
{
    const struct mz_str name = kind_name(o), key = key_of(d->arena, name, o->ns, o->name);
    if (!name.n)
        return;
    objects_push(objects_listed(d->arena, &d->kinds, name), o);
    objects_list(d, o);
    if (!mz_map_get(&d->names, key))
        (void)mz_map_put(&d->names, key, o);
}

void documents_index(struct mz_documents *d, bool system)
{
    mz_map_init(&d->kinds, MZ_MEM_CONFIG);
    mz_map_init(&d->names, MZ_MEM_CONFIG);
    mz_map_init(&d->lists, MZ_MEM_CONFIG);
    for (size_t i = 0; i < d->v.n; i++) {
        d->v.v[i]->order = (uint32_t)i;
        if (system || !is_system(d->v.v[i]))
            index_object(d, d->v.v[i]);
    }
}

void documents_unindex(struct mz_documents *d)
{
    objects_free(&d->kinds);
    objects_free(&d->lists);
    mz_map_fini(&d->names);
}

struct mz_object *const *objects_of(const struct mz_documents *d, const char *kind)
{
    static struct mz_object *const none[] = { NULL };
    const struct objects *k = mz_map_get(&d->kinds, mz_str_c(kind));
    return k ? k->v.v : none;
}

const struct mz_object *object_find(const struct mz_documents *d, const char *kind,
                                    struct mz_str ns, struct mz_str name)
{
    char key[768]; /* names of objects have at most 253 bytes */
    const int n =
        snprintf(key, sizeof(key), "%s/%.*s/%.*s", kind, MZ_STR_ARG(ns), MZ_STR_ARG(name));
    return (size_t)n < sizeof(key) ? mz_map_get(&d->names, (struct mz_str){ key, (size_t)n })
                                   : NULL;
}

struct mz_str object_name(const struct mz_documents *d, const struct mz_object *o)
{
    struct mz_object *own = (struct mz_object *)(uintptr_t)o; /* it is kept: many ask */
    if (!o->ns.n)
        return o->name;
    if (!o->full.n)
        own->full = mz_arena_printf(d->arena, "%.*s/%.*s", MZ_STR_ARG(o->ns), MZ_STR_ARG(o->name));
    return o->full;
}

/* ---- maps of texts ---- */

const struct mz_node *object_labels(const struct mz_object *o)
{
    return mz_node_at(o->tree, "metadata.labels");
}

const struct mz_node *object_annotations(const struct mz_object *o)
{
    return mz_node_at(o->tree, "metadata.annotations");
}

const struct mz_node *map_get(const struct mz_node *map, struct mz_str key)
{
    for (uint32_t i = 0; map && map->kind == MZ_NODE_MAP && i < map->n; i++)
        if (mz_str_eq(map->pairs[i].key, key))
            return map->pairs[i].value;
    return NULL;
}

struct mz_str scalar_text(const struct mz_node *n)
{
    return n && (n->kind == MZ_NODE_STR || n->kind == MZ_NODE_NUM) ? n->text : MZ_STR("");
}

struct mz_str map_text(const struct mz_node *map, const char *key)
{
    return scalar_text(map_get(map, mz_str_c(key)));
}

struct mz_str object_label(const struct mz_object *o, const char *key)
{
    return map_text(object_labels(o), key);
}

bool selector_matches(const struct mz_node *selector, const struct mz_node *labels)
{
    if (!selector || selector->kind != MZ_NODE_MAP || !selector->n)
        return false;
    for (uint32_t i = 0; i < selector->n; i++) {
        const struct mz_node *have = map_get(labels, selector->pairs[i].key);
        if (!have || !mz_str_eq(scalar_text(have), scalar_text(selector->pairs[i].value)))
            return false;
    }
    return true;
}

static bool expression_matches(const struct mz_node *e, const struct mz_node *labels)
{
    const struct mz_str op = mz_node_text(e, "operator");
    const struct mz_node *have = map_get(labels, mz_node_text(e, "key")),
                         *values = mz_node_get(e, "values");
    bool in = false;
    if (mz_str_eq(op, MZ_STR("Exists")))
        return have != NULL;
    if (mz_str_eq(op, MZ_STR("DoesNotExist")))
        return !have;
    for (size_t i = 0; have && i < mz_node_count(values); i++)
        in |= mz_str_eq(scalar_text(values->list[i]), scalar_text(have));
    return mz_str_eq(op, MZ_STR("In")) ? in : mz_str_eq(op, MZ_STR("NotIn")) && !in;
}

bool label_selector_matches(const struct mz_node *selector, const struct mz_node *labels)
{
    const struct mz_node *plain = mz_node_get(selector, "matchLabels"),
                         *list = mz_node_get(selector, "matchExpressions");
    if (plain && plain->kind == MZ_NODE_MAP && plain->n && !selector_matches(plain, labels))
        return false;
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (!expression_matches(list->list[i], labels))
            return false;
    return true;
}

static int by_key(const void *a, const void *b)
{
    const struct mz_pair *x = a, *y = b;
    return mz_str_cmp(x->key, y->key);
}

struct mz_str selector_text(const struct mz_node *selector, struct mz_arena *a)
{
    if (!selector || selector->kind != MZ_NODE_MAP || !selector->n)
        return MZ_STR("");
    struct mz_pair *v = mz_arena_alloc(a, selector->n * sizeof(*v));
    struct mz_str *texts = mz_arena_alloc(a, selector->n * sizeof(*texts));
    memcpy(v, selector->pairs, selector->n * sizeof(*v));
    qsort(v, selector->n, sizeof(*v), by_key);
    for (uint32_t i = 0; i < selector->n; i++)
        texts[i] = mz_arena_printf(a, "%.*s=%.*s", MZ_STR_ARG(v[i].key),
                                   MZ_STR_ARG(scalar_text(v[i].value)));
    return texts_join(texts, selector->n, ",", a);
}

uint32_t selector_line(const struct mz_node *selector)
{
    const struct mz_pair *first = NULL;
    for (uint32_t i = 0; selector && selector->kind == MZ_NODE_MAP && i < selector->n; i++)
        if (!first || mz_str_cmp(selector->pairs[i].key, first->key) < 0)
            first = &selector->pairs[i];
    return first ? first->value->line : 0;
}

/* ---- lists of names ---- */

void names_add(struct names *n, struct mz_str s)
{
    if (n->v.n < MAX_NAMES)
        *mz_vec_push(&n->v, MZ_MEM_CONFIG) = s;
}

static int by_text(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

struct mz_str texts_join(const struct mz_str *v, size_t n, const char *with, struct mz_arena *a)
{
    enum { MAX = 4096 }; /* a finding holds less */
    const size_t between = strlen(with);
    size_t room = 1, at = 0, told = 0;
    while (told < n && room < MAX)
        room += v[told++].n + between;
    char *out = mz_arena_alloc(a, room);
    for (size_t i = 0; i < told; i++) {
        if (i)
            memcpy(out + at, with, between);
        at += i ? between : 0;
        if (v[i].n)
            memcpy(out + at, v[i].p, v[i].n);
        at += v[i].n;
    }
    return (struct mz_str){ out, at };
}

void names_unique(struct names *n)
{
    size_t left = 0;
    if (n->v.n)
        qsort(n->v.v, n->v.n, sizeof(*n->v.v), by_text);
    for (size_t i = 0; i < n->v.n; i++)
        if (!left || !mz_str_eq(n->v.v[left - 1], n->v.v[i]))
            n->v.v[left++] = n->v.v[i];
    n->v.n = left;
}

struct mz_str names_text(struct names *n, const char *with, struct mz_arena *a)
{
    enum { MAX = 100 }; /* names: who reads more? */
    if (n->v.n)
        qsort(n->v.v, n->v.n, sizeof(*n->v.v), by_text);
    const struct mz_str out = texts_join(n->v.v, n->v.n < MAX ? n->v.n : MAX, with, a);
    mz_vec_free(&n->v, MZ_MEM_CONFIG);
    return out;
}

bool list_has(const struct mz_node *list, const char *text)
{
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(scalar_text(list->list[i]), mz_str_c(text)))
            return true;
    return false;
}

/* ---- pods ---- */

const struct mz_node *pod_spec(const struct mz_object *o)
{
    return mz_node_at(o->tree, object_is(o, "Pod") ? "spec" : "spec.template.spec");
}

const struct mz_node *pod_labels(const struct mz_object *o)
{
    return object_is(o, "Pod") ? object_labels(o)
                               : mz_node_at(o->tree, "spec.template.metadata.labels");
}

static bool has_proxy(const struct mz_node *containers)
{
    for (size_t i = 0; i < mz_node_count(containers); i++)
        if (mz_str_eq(mz_node_text(containers->list[i], "name"), MZ_STR("istio-proxy")))
            return mz_node_text(containers->list[i], "image").n > 0;
    return false;
}

bool pod_is_in_mesh(const struct mz_documents *d, const struct mz_object *o)
{
    const struct mz_node *spec = pod_spec(o),
                         *notes = object_is(o, "Pod")
                                      ? object_annotations(o)
                                      : mz_node_at(o->tree, "spec.template.metadata.annotations"),
                         *of_pod[] = { pod_labels(o), notes };
    if (has_proxy(mz_node_get(spec, "containers")) ||
        (object_is(o, "Pod") && has_proxy(mz_node_get(spec, "initContainers"))))
        return true;
    for (size_t i = 0; i < MZ_COUNT(of_pod); i++) {
        const struct mz_node *inject = map_get(of_pod[i], MZ_STR("sidecar.istio.io/inject"));
        if (inject)
            return mz_str_eq(scalar_text(inject), MZ_STR("true"));
    }
    const struct mz_object *ns = object_find(d, "Namespace", MZ_STR(""), o->ns);
    return ns && mz_str_eq(object_label(ns, "istio-injection"), MZ_STR("enabled"));
}

bool pod_is_ambient(const struct mz_object *pod)
{
    return mz_str_eq(map_text(object_annotations(pod), "ambient.istio.io/redirection"),
                     MZ_STR("enabled"));
}

bool is_of_control_plane(const struct mz_object *o)
{
    return map_get(object_labels(o), MZ_STR("istio")) ||
           mz_str_eq(object_label(o, "release"), MZ_STR("istio"));
}

/* ---- what an installation has ---- */

void mz_documents_add_ingress(struct mz_documents *d)
{
    static const char text[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":["
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"istio-ingressgateway\","
        "\"namespace\":\"istio-system\",\"labels\":{\"istio\":\"ingressgateway\"}},"
        "\"spec\":{\"containers\":[{\"name\":\"istio-proxy\"}]}},"
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{"
        "\"name\":\"istio-ingressgateway\",\"namespace\":\"istio-system\"},\"spec\":{"
        "\"selector\":{\"istio\":\"ingressgateway\"},\"ports\":["
        "{\"name\":\"http2\",\"port\":80,\"protocol\":\"TCP\",\"targetPort\":80},"
        "{\"name\":\"https\",\"port\":443,\"protocol\":\"TCP\",\"targetPort\":443},"
        "{\"name\":\"tcp\",\"port\":31400,\"protocol\":\"TCP\",\"targetPort\":31400},"
        "{\"name\":\"tls\",\"port\":15443,\"protocol\":\"TCP\",\"targetPort\":15443}]}}]}";
    if (!mz_str_eq(mz_node_text(d->mesh, "ingress_controller_mode"), MZ_STR("OFF")))
        mz_documents_add(d, MZ_STR(""), mz_str_c(text), MZ_TEXT_JSON, MZ_STR("default"));
}

/* ---- hosts ---- */

struct mz_str host_fqdn(struct mz_str host, struct mz_str ns, struct mz_arena *a)
{
    return !host.n || host.p[0] == '*' || mz_str_chr(host, '.') >= 0
               ? host
               : mz_arena_printf(a, "%.*s.%.*s.svc.cluster.local", MZ_STR_ARG(host),
                                 MZ_STR_ARG(ns));
}

/* "*.b.c" holds "a.b.c", and "*.a.b.c". */
static bool covers(struct mz_str wild, struct mz_str host)
{
    return wild.n && wild.p[0] == '*' && mz_str_ends(host, mz_str_skip(wild, 1));
}

bool host_matches(struct mz_str a, struct mz_str b)
{
    return mz_str_eq(a, b) || covers(a, b) || covers(b, a);
}

bool exports_everywhere(const struct mz_object *o)
{
    const struct mz_node *list = mz_node_at(o->tree, "spec.export_to");
    return !mz_node_count(list) || list_has(list, "*");
}

const struct mz_str *export_scopes(const struct mz_documents *d, const struct mz_object *o)
{
    enum { MAX = 256 }; /* namespaces: each stands beside each host */
    const struct mz_node *list = mz_node_at(o->tree, "spec.export_to");
    struct mz_str *v = mz_arena_alloc0(d->arena, (mz_node_count(list) + 2) * sizeof(*v));
    size_t n = 0;
    if (exports_everywhere(o)) {
        v[0] = MZ_STR("*");
        return v;
    }
    for (size_t i = 0; i < mz_node_count(list) && n < MAX; i++) {
        const struct mz_str s = scalar_text(list->list[i]),
                            ns = mz_str_eq(s, MZ_STR(".")) ? o->ns : s;
        bool known = !ns.n;
        for (size_t k = 0; k < n; k++)
            known |= mz_str_eq(v[k], ns);
        if (!known)
            v[n++] = ns;
    }
    return v;
}
