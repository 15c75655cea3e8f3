/* AuthorizationPolicies, EnvoyFilters, extensions. */
#include "control/analyze/finders.h"

static struct mz_str root_namespace(const struct mz_documents *d)
{
    const struct mz_str ns = mz_node_text(d->mesh, "root_namespace");
    return ns.n ? ns : MZ_STR("istio-system");
}

static void no_workloads(struct mz_documents *d, const struct mz_object *policy)
{
    const struct mz_node *selector = mz_node_at(policy->tree, "spec.selector"),
                         *labels = mz_node_get(selector, "match_labels");
    const bool root = mz_str_eq(policy->ns, root_namespace(d));
    bool any = false;
    if (root && !selector)
        return;
    for (struct mz_object *const *it = pods_near(d, root ? MZ_STR("*") : policy->ns, labels);
         *it && !any; it++)
        any = (!labels || !labels->n || selector_matches(labels, object_labels(*it))) &&
              (pod_is_in_mesh(d, *it) || pod_is_ambient(*it));
    if (!any)
        found(d, MZ_LEVEL_WARNING, 127, policy, 0,
              "No matching workloads for this resource with the following labels: %.*s",
              MZ_STR_ARG(selector_text(labels, d->arena)));
}

/* '*' at one end stands for anything. */
static bool is_like(struct mz_str pattern, struct mz_str ns)
{
    if (pattern.n && pattern.p[0] == '*')
        return mz_str_ends(ns, mz_str_skip(pattern, 1));
    if (pattern.n && pattern.p[pattern.n - 1] == '*')
        return mz_str_starts(ns, (struct mz_str){ pattern.p, pattern.n - 1 });
    return mz_str_ieq(pattern, ns);
}

static void namespaces(struct mz_documents *d, const struct mz_object *policy,
                       const struct mz_node *list)
{
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str ns = scalar_text(list->list[i]);
        bool any = object_find(d, "Namespace", MZ_STR(""), ns) != NULL;
        for (struct mz_object *const *it = objects_of(d, "Namespace"); *it && !any; it++)
            any = is_like(ns, (*it)->name);
        if (!any)
            found(d, MZ_LEVEL_ERROR, 101, policy, list->list[i]->line,
                  "Referenced namespace not found: \"%.*s\"", MZ_STR_ARG(ns));
    }
}

static void sources(struct mz_documents *d, const struct mz_object *policy)
{
    const struct mz_node *rules = mz_node_at(policy->tree, "spec.rules");
    for (size_t i = 0; i < mz_node_count(rules); i++) {
        const struct mz_node *from = mz_node_get(rules->list[i], "from");
        for (size_t j = 0; j < mz_node_count(from); j++) {
            namespaces(d, policy, mz_node_at(from->list[j], "source.namespaces"));
            namespaces(d, policy, mz_node_at(from->list[j], "source.not_namespaces"));
        }
    }
}

/* ---- EnvoyFilters ---- */

/* Filters that patches for some versions of proxies are about are remembered, across EnvoyFilters. */

static struct mz_str filter_of(const struct mz_node *patch)
{
    const struct mz_node *value = mz_node_at(patch, "patch.value");
    const struct mz_str name = mz_node_text(value, "name");
    return name.n || !value ? name : mz_node_text(patch, "match.listener.filter_chain.filter.name");
}

static void relative(struct mz_documents *d, const struct mz_object *f, uint32_t line,
                     const struct mz_map *names, struct mz_str name)
{
    const bool by_version = mz_map_get(names, name) != NULL;
    if (mz_node_number(f->tree, "spec.priority") ||
        mz_str_starts(scalar_text(mz_node_at(f->tree, "spec.priority")), MZ_STR("-")))
        return;
    if (by_version)
        found(d, MZ_LEVEL_WARNING, 155, f, line,
              "This EnvoyFilter does not have a priority and has a relative patch operation "
              "(NSTERT_BEFORE/AFTER, REPLACE, MERGE, DELETE) and proxyVersion set which can cause "
              "the EnvoyFilter not to be applied during an upgrade. Using the INSERT_FIRST or ADD "
              "option or setting the priority may help in ensuring the EnvoyFilter is applied "
              "correctly.");
    else
        found(d, MZ_LEVEL_WARNING, 151, f, line,
              "This EnvoyFilter does not have a priority and has a relative patch operation set "
              "which can cause the EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD "
              "option or setting the priority may help in ensuring the EnvoyFilter is applied "
              "correctly.");
}

static void patch(struct mz_documents *d, const struct mz_object *f, const struct mz_node *p,
                  const struct mz_map *names)
{
    const struct mz_str op = mz_node_text(p, "patch.operation"), to = mz_node_text(p, "apply_to");
    const struct mz_node *value = mz_node_at(p, "patch.value");
    const uint32_t line = value && value->kind != MZ_NODE_MAP ? value->line : 0;
    const bool routes = mz_str_eq(to, MZ_STR("ROUTE_CONFIGURATION")) ||
                        mz_str_eq(to, MZ_STR("HTTP_ROUTE")),
               filters = mz_str_eq(to, MZ_STR("HTTP_FILTER")) ||
                         mz_str_eq(to, MZ_STR("NETWORK_FILTER")) ||
                         mz_str_eq(to, MZ_STR("VIRTUAL_HOST"));
    if (mz_str_eq(op, MZ_STR("ADD")) && routes)
        found(d, MZ_LEVEL_ERROR, 153, f, line,
              "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or "
              "HTTP_ROUTE.");
    else if (mz_str_eq(op, MZ_STR("REMOVE")) && routes)
        found(d, MZ_LEVEL_ERROR, 154, f, line,
              "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or "
              "HTTP_ROUTE.");
    else if (mz_str_eq(op, MZ_STR("REPLACE")) && !filters)
        found(d, MZ_LEVEL_ERROR, 152, f, line,
              "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.");
    else if (mz_str_eq(op, MZ_STR("REMOVE")) || mz_str_eq(op, MZ_STR("REPLACE")) ||
             mz_str_eq(op, MZ_STR("INSERT_BEFORE")) || mz_str_eq(op, MZ_STR("INSERT_AFTER")))
        relative(d, f, line, names, filter_of(p));
}

static void envoy_filter(struct mz_documents *d, const struct mz_object *f, struct mz_map *names)
{
    const struct mz_node *patches = mz_node_at(f->tree, "spec.config_patches");
    for (size_t i = 0; i < mz_node_count(patches); i++) {
        if (!mz_node_get(patches->list[i], "patch"))
            return;
        patch(d, f, patches->list[i], names);
        if (mz_node_text(patches->list[i], "match.proxy.proxy_version").n)
            (void)mz_map_put(names, filter_of(patches->list[i]), (void *)(uintptr_t)f);
    }
}

static void wasm(struct mz_documents *d, const struct mz_object *o)
{
    if (object_is(o, "WasmPlugin") || mz_node_at(o->tree, "spec.wasm"))
        found(d, MZ_LEVEL_WARNING, 133, o, 0,
              "Schema validation warning: proxies without WebAssembly, Mizzen's own among them, go "
              "without this extension.");
}

static void warned(void *arg, const struct mz_object *of, uint32_t line, struct mz_str text)
{
    (void)line; /* they are about the object, as all that is said of its schema */
    found(arg, MZ_LEVEL_WARNING, 133, of, 0, "Schema validation warning: %.*s", MZ_STR_ARG(text));
}

static void refused(void *arg, const struct mz_object *of, uint32_t line, struct mz_str text)
{
    (void)line;
    found(arg, MZ_LEVEL_ERROR, 106, of, 0, "Schema validation error: %.*s", MZ_STR_ARG(text));
}

void find_in_policies(struct mz_documents *d)
{
    struct mz_map names;
    mz_map_init(&names, MZ_MEM_CONFIG);
    objects_foreach(it, d, "AuthorizationPolicy")
    {
        no_workloads(d, *it);
        sources(d, *it);
    }
    objects_foreach(it, d, "EnvoyFilter") envoy_filter(d, *it, &names);
    objects_foreach(it, d, "WasmPlugin") wasm(d, *it);
    objects_foreach(it, d, "TrafficExtension") wasm(d, *it);
    objects_warn(d, warned, d);
    objects_refuse(d, refused, d);
    mz_map_fini(&names);
}
