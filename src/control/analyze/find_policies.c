/* AuthorizationPolicies, Sidecars, EnvoyFilters, extensions. */
#include "control/analyze/finders.h"

static void no_workloads(struct mz_documents *d, const struct mz_object *policy)
{
    const struct mz_node *selector = mz_node_at(policy->tree, "spec.selector.match_labels");
    const bool root = mz_str_eq(policy->ns, MZ_STR("istio-system"));
    bool any = false;
    if (root && !selector)
        return;
    objects_foreach(it, d, "Pod") any |=
        (root || mz_str_eq((*it)->ns, policy->ns)) &&
        (!selector || selector_matches(selector, object_labels(*it)));
    if (!any)
        found(d, MZ_LEVEL_WARNING, 127, policy, 0,
              "No matching workloads for this resource with the following labels: %.*s",
              MZ_STR_ARG(selector_text(selector, d->arena)));
}

static bool is_general(const struct mz_object *sidecar)
{
    return !mz_node_at(sidecar->tree, "spec.workload_selector");
}

static void sidecars(struct mz_documents *d, const struct mz_object *one)
{
    struct mz_str names = MZ_STR("");
    size_t n = 0;
    if (!is_general(one))
        return;
    objects_foreach(it, d, "Sidecar") if (is_general(*it) && mz_str_eq((*it)->ns, one->ns)) names =
        mz_arena_printf(d->arena, "%.*s%s%.*s", MZ_STR_ARG(names), n++ ? " " : "",
                        MZ_STR_ARG((*it)->name));
    if (n > 1)
        found(d, MZ_LEVEL_ERROR, 111, one, 0,
              "The Sidecars [%.*s] in namespace \"%.*s\" have no workload selector, which can lead "
              "to "
              "undefined behavior.",
              MZ_STR_ARG(names), MZ_STR_ARG(one->ns));
}

static void envoy_filter(struct mz_documents *d, const struct mz_object *f)
{
    static const char *const relative[] = { "REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER" };
    const struct mz_node *patches = mz_node_at(f->tree, "spec.config_patches");
    const bool has_priority = mz_node_number(f->tree, "spec.priority") != 0;
    found(d, MZ_LEVEL_WARNING, 133, f, 0,
          "Schema validation warning: EnvoyFilter exposes internal implementation details that may "
          "change at any "
          "time. Prefer other APIs if possible, and exercise extreme caution, especially around "
          "upgrades.");
    for (size_t i = 0; !has_priority && i < mz_node_count(patches); i++) {
        const struct mz_str op = mz_node_text(patches->list[i], "patch.operation");
        for (size_t j = 0; j < MZ_COUNT(relative); j++)
            if (mz_str_eq(op, mz_str_c(relative[j])))
                found(d, MZ_LEVEL_WARNING, 151, f, 0,
                      "This EnvoyFilter does not have a priority and has a relative patch "
                      "operation set which can "
                      "cause the EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD "
                      "option or setting the "
                      "priority may help in ensuring the EnvoyFilter is applied correctly.");
    }
}

static void wasm(struct mz_documents *d, const struct mz_object *o)
{
    if (object_is(o, "WasmPlugin") || mz_node_at(o->tree, "spec.wasm"))
        found(d, MZ_LEVEL_WARNING, 133, o, 0,
              "Schema validation warning: proxies without WebAssembly, Mizzen's own among them, go "
              "without this extension.");
}

void find_in_policies(struct mz_documents *d)
{
    objects_foreach(it, d, "AuthorizationPolicy") no_workloads(d, *it);
    objects_foreach(it, d, "Sidecar") sidecars(d, *it);
    objects_foreach(it, d, "EnvoyFilter") envoy_filter(d, *it);
    objects_foreach(it, d, "WasmPlugin") wasm(d, *it);
    objects_foreach(it, d, "TrafficExtension") wasm(d, *it);
}
