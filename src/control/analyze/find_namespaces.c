/* Whether pods of a namespace get a proxy, whether they have one, and which. */
#include "control/analyze/finders.h"

/* The values of the injector for @revision ("": the default one); NULL: its ConfigMap is not there. */
static const struct mz_node *read_values(const struct mz_documents *d, struct mz_str revision)
{
    const bool plain = !revision.n || mz_str_eq(revision, MZ_STR("default"));
    const struct mz_str name =
        mz_arena_printf(d->arena, "istio-sidecar-injector%s%.*s", plain ? "" : "-",
                        plain ? 0 : (int)revision.n, revision.p);
    objects_foreach(it, d, "ConfigMap")
    {
        const struct mz_str text = mz_node_text(mz_node_get((*it)->tree, "data"), "values");
        struct mz_err err;
        if (mz_str_eq((*it)->name, name))
            return text.n ? mz_tree_read_json(d->arena, text, &err) : NULL;
    }
    return NULL;
}

/* Read once for all namespaces: @known by revision, where there are any. */
static const struct mz_node *values_of(const struct mz_documents *d, struct mz_map *known,
                                       struct mz_str revision)
{
    static const struct mz_node none = { .kind = MZ_NODE_NULL };
    const struct mz_node *n = mz_map_get(known, revision);
    if (!n) {
        n = read_values(d, revision);
        (void)mz_map_put(known, revision, (void *)(uintptr_t)(n ? n : &none));
    }
    return n == &none ? NULL : n;
}

static void injection(struct mz_documents *d, struct mz_map *known, const struct mz_object *ns)
{
    static const char *const others[] = { "istio.io/rev", "istio.io/dataplane-mode" };
    const struct mz_node *labels = object_labels(ns);
    const struct mz_node *old = map_get(labels, MZ_STR("istio-injection"));
    const struct mz_str value = scalar_text(old);
    struct mz_str list = MZ_STR("");
    size_t n = 0;
    if (mz_str_eq(ns->name, MZ_STR("istio-system")))
        return;
    if (old) {
        list = mz_arena_printf(d->arena, "istio-injection=%.*s", MZ_STR_ARG(value));
        n++;
    }
    for (size_t i = 0; i < MZ_COUNT(others); i++) {
        const struct mz_node *l = map_get(labels, mz_str_c(others[i]));
        if (l && (!old || mz_str_eq(value, MZ_STR("enabled"))))
            list = mz_arena_printf(d->arena, "%.*s%s%s=%.*s", MZ_STR_ARG(list), n++ ? " " : "",
                                   others[i], MZ_STR_ARG(scalar_text(l)));
    }
    if (n > 1)
        found(d, MZ_LEVEL_WARNING, 123, ns, 0,
              "The namespace has more than one type of injection labels [%.*s], which may lead to "
              "undefined behavior. Make sure only one injection label exists.",
              MZ_STR_ARG(list));
    if (value.n || map_get(labels, MZ_STR("istio.io/rev")) ||
        mz_str_eq(map_text(labels, "istio.io/dataplane-mode"), MZ_STR("ambient")))
        return;
    if (mz_node_is(values_of(d, known, MZ_STR("")),
                   "sidecarInjectorWebhook.enableNamespacesByDefault"))
        found(d, MZ_LEVEL_INFO, 148, ns, 0,
              "is enabled for Istio injection, as Istio is installed with "
              "enableNamespacesByDefault as true.");
    else
        found(d, MZ_LEVEL_INFO, 102, ns, name_line(ns),
              "The namespace is not enabled for Istio injection. Run 'kubectl label namespace %.*s "
              "istio-injection=enabled' to enable it, or 'kubectl label namespace %.*s "
              "istio-injection=disabled' to explicitly mark it as not needing injection.",
              MZ_STR_ARG(ns->name), MZ_STR_ARG(ns->name));
}

static const struct mz_node *proxy_of(const struct mz_object *pod)
{
    static const char *const lists[] = { "containers", "initContainers" };
    for (size_t k = 0; k < MZ_COUNT(lists); k++) {
        const struct mz_node *list = mz_node_get(pod_spec(pod), lists[k]);
        for (size_t i = 0; i < mz_node_count(list); i++)
            if (mz_str_eq(mz_node_text(list->list[i], "name"), MZ_STR("istio-proxy")))
                return list->list[i];
    }
    return NULL;
}

static void missing(struct mz_documents *d, const struct mz_object *pod, const struct mz_object *ns)
{
    const struct mz_node *label = map_get(object_labels(pod), MZ_STR("sidecar.istio.io/inject"));
    const struct mz_str inject =
        label ? scalar_text(label) : map_text(object_annotations(pod), "sidecar.istio.io/inject");
    if (mz_str_eq(object_label(ns, "istio-injection"), MZ_STR("enabled")) &&
        !mz_str_ieq(inject, MZ_STR("false")) && !mz_node_is(pod->tree, "spec.hostNetwork") &&
        !mz_node_text(proxy_of(pod), "image").n)
        found(d, MZ_LEVEL_WARNING, 103, pod, 0,
              "The pod %.*s is missing the Istio proxy. This can often be resolved by restarting "
              "or redeploying the workload.",
              MZ_STR_ARG(object_name(d, pod)));
}

/* ---- images ---- */

static void type_from(const struct mz_node *config, const char *path, struct mz_str *type)
{
    const struct mz_str s = mz_node_text(config, path);
    if (s.n)
        *type = s;
}

/* The narrower word counts: mesh, namespace of the mesh, namespace, workload, the pod's own annotation. */
static struct mz_str image_type(const struct mz_documents *d, const struct mz_object *pod)
{
    const struct mz_str note = map_text(object_annotations(pod), "proxy.istio.io/config"),
                        root = MZ_STR_INIT("istio-system");
    struct mz_str type = MZ_STR("");
    struct mz_err err;
    type_from(d->mesh, "default_config.image.image_type", &type);
    for (unsigned round = 0; round < 3; round++)
        for (struct mz_object *const *it = objects_in(d, "ProxyConfig", round ? pod->ns : root);
             *it; it++) {
            const struct mz_node *sel = mz_node_at((*it)->tree, "spec.selector");
            const bool own = !mz_str_eq((*it)->ns, root);
            if (round == 0 ||
                (own && (round == 1 ? !sel
                                    : selector_matches(mz_node_get(sel, "match_labels"),
                                                       object_labels(pod)))))
                type_from((*it)->tree, "spec.image.image_type", &type);
        }
    if (note.n)
        type_from(mz_tree_read_yaml(d->arena, note, 0, &err), "image.image_type", &type);
    return mz_str_eq(type, MZ_STR("default")) ? MZ_STR("") : type;
}

static struct mz_str image_of(const struct mz_documents *d, const struct mz_node *values)
{
    const struct mz_str image = mz_node_text(values, "global.proxy.image");
    return mz_str_chr(image, '/') >= 0
               ? image
               : mz_arena_printf(d->arena, "%.*s/%.*s:%.*s",
                                 MZ_STR_ARG(mz_node_text(values, "global.hub")), MZ_STR_ARG(image),
                                 MZ_STR_ARG(scalar_text(mz_node_at(values, "global.tag"))));
}

static bool is_other(const struct mz_documents *d, const struct mz_object *pod, struct mz_str image)
{
    const struct mz_str have = mz_node_text(proxy_of(pod), "image");
    return proxy_of(pod) && !map_text(object_annotations(pod), "sidecar.istio.io/proxyImage").n &&
           !mz_str_eq(have, image) &&
           !mz_str_eq(have, mz_arena_printf(d->arena, "%.*s-%.*s", MZ_STR_ARG(image),
                                            MZ_STR_ARG(image_type(d, pod))));
}

static void images(struct mz_documents *d, struct mz_map *known, const struct mz_object *ns)
{
    const struct mz_node *revision = map_get(object_labels(ns), MZ_STR("istio.io/rev"));
    const struct mz_node *values = values_of(d, known, scalar_text(revision));
    struct names names = { 0 };
    if (!values ||
        (!revision && !mz_str_eq(object_label(ns, "istio-injection"), MZ_STR("enabled"))))
        return;
    const struct mz_str image = image_of(d, values);
    for (struct mz_object *const *pod = objects_in(d, "Pod", ns->name); *pod; pod++)
        if (!(*pod)->made && is_other(d, *pod, image))
            names_add(&names, (*pod)->name);
    const bool any = names.v.n > 0;
    const struct mz_str list = names_text(&names, " ", d->arena);
    if (any)
        found(d, MZ_LEVEL_WARNING, 158, ns, 0,
              "The Istio proxy images of the pods running in the namespace do not match the image "
              "defined in the injection configuration (pod names: [%.*s]). This often happens "
              "after upgrading the Istio control-plane and can be fixed by redeploying the pods.",
              MZ_STR_ARG(list));
}

void find_in_namespaces(struct mz_documents *d)
{
    struct mz_map known;
    mz_map_init(&known, MZ_MEM_CONFIG);
    objects_foreach(it, d, "Namespace")
    {
        injection(d, &known, *it);
        images(d, &known, *it);
    }
    mz_map_fini(&known);
    objects_foreach(pod, d, "Pod")
    {
        const struct mz_object *ns = object_find(d, "Namespace", MZ_STR(""), (*pod)->ns);
        if (ns && !(*pod)->made && !d->injects)
            missing(d, *pod, ns);
    }
}
