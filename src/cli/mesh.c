#include "cli/mesh.h"

#include <stdio.h>
#include <string.h>

#include "base/near.h"
#include "mesh/json.h"

static bool is_named(json_t *pod, const char *name)
{
    const char *own = mz_json_text(pod, "name", ""), *ns = mz_json_text(pod, "namespace", "");
    char full[200];
    (void)snprintf(full, sizeof(full), "%s/%s", ns, own);
    if (strcmp(own, name) == 0 || strcmp(full, name) == 0)
        return true;
    (void)snprintf(full, sizeof(full), "%s.%s", own, ns);
    return strcmp(full, name) == 0;
}

static bool is_of(json_t *pod, const char *name) /* "demo/Deployment/web": "web", "demo/web" */
{
    const char *workload = mz_json_text(pod, "workload", ""), *last = strrchr(workload, '/');
    char full[200];
    (void)snprintf(full, sizeof(full), "%s/%s", mz_json_text(pod, "namespace", ""),
                   last ? last + 1 : workload);
    return strcmp(full, name) == 0 || (last && strcmp(last + 1, name) == 0);
}

json_t *mesh_find_pod(json_t *list, const char *name, struct mz_err *err)
{
    json_t *found = NULL, *pod;
    struct mz_near near;
    size_t at;
    const char *slash = strrchr(name, '/');
    mz_near_init(&near, mz_str_c(slash ? slash + 1 : name));
    json_array_foreach(json_object_get(list, "pods"), at, pod)
    {
        if (is_named(pod, name))
            return pod;
        if (is_of(pod, name) && (!found || (json_is_true(json_object_get(pod, "ready")) &&
                                            !json_is_true(json_object_get(found, "ready")))))
            found = pod;
        const char *last = strrchr(mz_json_text(pod, "workload", ""), '/');
        mz_near_try(&near, mz_str_c(last ? last + 1 : ""));
        mz_near_try(&near, mz_str_c(mz_json_text(pod, "name", "")));
    }
    if (!found)
        mz_err_set(err, "there is no pod \"%.200s\" in the mesh \"%s\"%s", name,
                   mz_json_text(list, "name", ""), mz_near_text(&near));
    return found;
}
