/* Strategic merge patches on pods (Kubernetes: patchStrategy and patchMergeKey of its types). */
#include "control/inject/templates_priv.h"

enum { MAX_DEPTH = 32 };
/* Lists of objects that are merged by a key; lists that are not here are replaced. */
static const struct {
    const char *list, *key;
} merged[] = {
    { "containers", "name" },
    { "initContainers", "name" },
    { "ephemeralContainers", "name" },
    { "volumes", "name" },
    { "env", "name" },
    { "ports", "containerPort" },
    { "volumeMounts", "mountPath" },
    { "volumeDevices", "devicePath" },
    { "imagePullSecrets", "name" },
    { "hostAliases", "ip" },
    { "topologySpreadConstraints", "topologyKey" },
    { "ownerReferences", "uid" },
    { "resourceClaims", "name" },
    { "schedulingGates", "name" },
};

static const char *key_of(const char *list)
{
    for (size_t i = 0; i < MZ_COUNT(merged); i++)
        if (strcmp(merged[i].list, list) == 0)
            return merged[i].key;
    return NULL;
}

static bool merge(json_t *into, const json_t *patch, unsigned depth, struct mz_err *err);

static const char *directive(const json_t *patch)
{
    const char *s = json_string_value(json_object_get(patch, "$patch"));
    return s ? s : "";
}

static size_t find(const json_t *list, const char *key, const json_t *value)
{
    size_t at;
    json_t *one;
    json_array_foreach(
        (json_t *)(uintptr_t)list, at,
        one) if (json_equal(json_object_get(one, key), (json_t *)(uintptr_t)value)) return at;
    return SIZE_MAX;
}

/* An object of a patch that has no counterpart: what takes away takes nothing. */
static bool add(json_t *to, const json_t *one, unsigned depth, struct mz_err *err)
{
    json_t *fresh = json_object();
    const bool ok = merge(fresh, one, depth + 1, err);
    (void)json_array_append_new(to, fresh); /* only without memory, as all below */
    return ok;
}

/*
 * Kubernetes' order: what only the patch has stands in front, what both have in the patch's order, and the rest keeps its place
 * before what followed it.
 */
void overlay_order(json_t *list, const json_t *before, const json_t *patch, const char *key)
{
    json_t *by_patch = json_array(), *rest = json_array(), *one;
    size_t at, i = 0, k = 0;
    json_array_foreach((json_t *)(uintptr_t)patch, at, one)
    {
        const size_t has = find(list, key, json_object_get(one, key));
        if (has != SIZE_MAX)
            (void)json_array_append(by_patch, json_array_get(list, has));
    }
    json_array_foreach(list, at, one) if (find(patch, key, json_object_get(one, key)) ==
                                          SIZE_MAX)(void) json_array_append(rest, one);
    (void)json_array_clear(list);
    while (i < json_array_size(rest) || k < json_array_size(by_patch)) {
        json_t *l = json_array_get(rest, i), *r = json_array_get(by_patch, k);
        const size_t at_l = l ? find(before, key, json_object_get(l, key)) : SIZE_MAX,
                     at_r = r ? find(before, key, json_object_get(r, key)) : SIZE_MAX;
        const bool left = !r || (l && at_l != SIZE_MAX && at_r != SIZE_MAX && at_l < at_r);
        (void)json_array_append(list, left ? l : r);
        i += left;
        k += !left;
    }
    json_decref(by_patch);
    json_decref(rest);
}

static bool merge_list(json_t *into, const json_t *patch, const char *key, unsigned depth,
                       struct mz_err *err)
{
    size_t at;
    json_t *one, *before = json_copy(into);
    json_array_foreach((json_t *)(uintptr_t)patch, at, one)
    {
        const json_t *value = json_object_get(one, key);
        const char *what = directive(one);
        if (strcmp(what, "replace") == 0 && !value) {
            (void)json_array_clear(into);
            continue;
        }
        if (!value) {
            json_decref(before);
            return mz_err_set(err, "an element without \"%s\"", key);
        }
        const size_t had = find(into, key, value);
        if (strcmp(what, "delete") == 0) {
            if (had != SIZE_MAX)
                (void)json_array_remove(into, had);
        } else if (had == SIZE_MAX) {
            if (!add(into, one, depth, err)) {
                json_decref(before);
                return false;
            }
        } else if (!merge(json_array_get(into, had), one, depth + 1, err)) {
            json_decref(before);
            return false;
        }
    }
    overlay_order(into, before, patch, key);
    json_decref(before);
    return true;
}

static bool merge_member(json_t *into, const char *name, json_t *value, unsigned depth,
                         struct mz_err *err)
{
    json_t *have = json_object_get(into, name);
    const char *key = key_of(name);
    if (json_is_null(value)) {
        (void)json_object_del(into, name);
        return true;
    }
    if (json_is_array(value) && key) {
        if (!json_is_array(have)) {
            have = json_array();
            (void)json_object_set_new(into, name, have);
        }
        return merge_list(have, value, key, depth, err) || mz_err_at(err, "%s", name);
    }
    if (!json_is_object(value)) {
        (void)json_object_set_new(into, name, json_deep_copy(value));
        return true;
    }
    if (!json_is_object(have)) {
        have = json_object();
        (void)json_object_set_new(into, name, have);
    }
    return merge(have, value, depth + 1, err) || mz_err_at(err, "%s", name);
}

static bool merge(json_t *into, const json_t *patch, unsigned depth, struct mz_err *err)
{
    const char *name, *what = directive(patch);
    json_t *value;
    if (depth > MAX_DEPTH)
        return mz_err_set(err, "is nested too deeply");
    if (strcmp(what, "delete") == 0 || strcmp(what, "replace") == 0)
        (void)json_object_clear(into);
    if (strcmp(what, "delete") == 0)
        return true;
    json_object_foreach((json_t *)(uintptr_t)patch, name,
                        value) if (name[0] != '$' &&
                                   !merge_member(into, name, value, depth, err)) return false;
    return true;
}

bool overlay(json_t *into, const json_t *patch, struct mz_err *err)
{
    return merge(into, patch, 0, err);
}
