/* Sidecars and Telemetries: whom they select, two of them for one pod, two of them for a namespace; providers. */
#include "control/analyze/finders.h"

struct selecting { /* a kind of documents that select pods of their namespace */
    const char *kind, *plural, *selector; /* path of its labels */
    unsigned of_pod, of_namespace;        /* codes */
};
static const struct selecting sidecars = { "Sidecar", "Sidecars", "spec.workload_selector.labels",
                                           110, 111 };
static const struct selecting telemetries = { "Telemetry", "Telemetries",
                                              "spec.selector.match_labels", 159, 160 };

static bool selects(const struct selecting *s, const struct mz_object *o,
                    const struct mz_object *pod)
{
    return mz_str_eq(o->ns, pod->ns) &&
           selector_matches(mz_node_at(o->tree, s->selector), object_labels(pod));
}

static bool has_selector(const struct selecting *s, const struct mz_object *o)
{
    const struct mz_node *n = mz_node_at(o->tree, s->selector);
    return n && n->kind == MZ_NODE_MAP && n->n;
}

static void nobody(struct mz_documents *d, const struct selecting *s, const struct mz_object *o)
{
    const struct mz_node *labels = mz_node_at(o->tree, s->selector);
    bool any = false;
    for (struct mz_object *const *pod = pods_near(d, o->ns, labels); *pod && !any; pod++)
        any = selects(s, o, *pod);
    if (!any)
        found(d, MZ_LEVEL_ERROR, 101, o, selector_line(labels),
              "Referenced selector not found: \"%.*s\"",
              MZ_STR_ARG(selector_text(labels, d->arena)));
}

static void ineffective(struct mz_documents *d, const struct mz_object *o, const char *why)
{
    found(d, MZ_LEVEL_WARNING, 167, o, 0, "The policy has no impact: %s.", why);
}

static void of_pod(struct mz_documents *d, const struct selecting *s, const struct mz_object *pod)
{
    const bool ambient = s == &sidecars && pod_is_ambient(pod);
    struct names names = { 0 };
    struct objects list;
    objects_selecting(d, s->kind, pod->ns, object_labels(pod), &list);
    for (size_t i = 0; list.v.n > 1 && i < list.v.n && names.v.n < MAX_NAMES; i++)
        names_add(&names, list.v.v[i]->name);
    const struct mz_str text = names_text(&names, " ", d->arena);
    for (size_t i = 0; (ambient || list.v.n > 1) && i < list.v.n; i++) {
        const struct mz_object *o = list.v.v[i];
        if (ambient)
            ineffective(d, o, "selected workload is in ambient mode, the policy has no impact");
        else
            found(d, MZ_LEVEL_ERROR, s->of_pod, o, name_line(o),
                  "The %s [%.*s] in namespace \"%.*s\" select the same workload pod \"%.*s\", "
                  "which can lead to undefined behavior.",
                  s->plural, MZ_STR_ARG(text), MZ_STR_ARG(pod->ns), MZ_STR_ARG(pod->name));
    }
    mz_vec_free(&list.v, MZ_MEM_CONFIG);
}

static bool is_ambient(const struct mz_documents *d, struct mz_str ns)
{
    const struct mz_object *o = object_find(d, "Namespace", MZ_STR(""), ns);
    return o && !mz_str_eq(object_label(o, "istio-injection"), MZ_STR("enabled")) &&
           !object_label(o, "istio.io/rev").n &&
           mz_str_eq(object_label(o, "istio.io/dataplane-mode"), MZ_STR("ambient"));
}

/* Those of @one's namespace that select nobody by labels; @one is the first of them. */
static void of_namespace(struct mz_documents *d, const struct selecting *s,
                         const struct mz_object *one)
{
    struct mz_object *const *all = objects_in(d, s->kind, one->ns);
    const bool ambient = s == &sidecars && is_ambient(d, one->ns);
    struct names names = { 0 };
    for (struct mz_object *const *it = all; *it; it++)
        if (!has_selector(s, *it))
            names_add(&names, (*it)->name);
    const size_t n = names.v.n;
    const struct mz_str list = names_text(&names, " ", d->arena);
    for (struct mz_object *const *it = all; *it; it++)
        if (has_selector(s, *it))
            continue;
        else if (ambient)
            ineffective(d, *it, "namespace is in ambient mode, the policy has no impact");
        else if (n > 1)
            found(d, MZ_LEVEL_ERROR, s->of_namespace, *it, 0,
                  "The %s [%.*s] in namespace \"%.*s\" have no workload selector, which can lead "
                  "to undefined behavior.",
                  s->plural, MZ_STR_ARG(list), MZ_STR_ARG(one->ns));
}

static void selecting(struct mz_documents *d, const struct selecting *s)
{
    struct mz_map told; /* namespaces */
    bool any = false;
    mz_map_init(&told, MZ_MEM_CONFIG);
    objects_foreach(it, d, s->kind)
    {
        const bool selector = has_selector(s, *it);
        any |= selector;
        if (selector)
            nobody(d, s, *it);
        else if (!mz_map_put(&told, (*it)->ns, *it))
            of_namespace(d, s, *it);
    }
    mz_map_fini(&told);
    objects_foreach(pod, d, "Pod") if (any) of_pod(d, s, *pod);
}

/* ---- providers ---- */

static void no_provider(struct mz_documents *d, const struct mz_object *t)
{
    const struct mz_node *list = mz_node_at(t->tree, "spec.access_logging");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (!mz_node_is(list->list[i], "disabled") &&
            !mz_node_count(mz_node_get(list->list[i], "providers")))
            found(d, MZ_LEVEL_WARNING, 157, t, 0,
                  "The Telemetry %.*s in namespace \"%.*s\" with empty providers will be ignored.",
                  MZ_STR_ARG(t->name), MZ_STR_ARG(t->ns));
}

static bool is_lightstep(const struct mz_documents *d, struct mz_str provider)
{
    const struct mz_node *list = mz_node_at(d->mesh, "extension_providers");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(mz_node_text(list->list[i], "name"), provider))
            return mz_node_get(list->list[i], "lightstep") != NULL;
    return false;
}

static void lightstep(struct mz_documents *d, const struct mz_object *t)
{
    const struct mz_node *list = mz_node_at(t->tree, "spec.tracing");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *by = mz_node_get(list->list[i], "providers");
        for (size_t j = 0; j < mz_node_count(by); j++) {
            const struct mz_str name = mz_node_text(by->list[j], "name");
            if (is_lightstep(d, name))
                found(d, MZ_LEVEL_WARNING, 2, t, 0,
                      "Deprecated: The Lightstep provider %.*s is deprecated, please migrate to "
                      "OpenTelemetry provider.",
                      MZ_STR_ARG(name));
        }
    }
}

static void egress_proxy(struct mz_documents *d, const struct mz_object *sidecar)
{
    if (mz_node_at(sidecar->tree, "spec.outbound_traffic_policy.egress_proxy"))
        found(d, MZ_LEVEL_WARNING, 2, sidecar, 0,
              "Deprecated: OutboundTrafficPolicy.EgressProxy ignored");
}

void find_in_selectors(struct mz_documents *d)
{
    const bool logs = mz_node_count(mz_node_at(d->mesh, "default_providers.access_logging")) > 0;
    selecting(d, &sidecars);
    selecting(d, &telemetries);
    objects_foreach(it, d, "Sidecar") egress_proxy(d, *it);
    objects_foreach(it, d, "Telemetry")
    {
        if (!logs)
            no_provider(d, *it);
        lightstep(d, *it);
    }
}
