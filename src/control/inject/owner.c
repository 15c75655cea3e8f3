/* Whose a pod is: the object that people wrote, found by how controllers name what they make. */
#include <stdio.h>

#include "control/inject/inject.h"

static const char *text_of(json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));
    return s ? s : "";
}

static json_t *controller_of(json_t *meta)
{
    size_t at;
    json_t *one;
    json_array_foreach(json_object_get(meta, "ownerReferences"), at,
                       one) if (json_is_true(json_object_get(one, "controller"))) return one;
    return json_array_get(json_object_get(meta, "ownerReferences"), 0);
}

/* "web-5d8f" of a pod with that hash: "web". */
static bool cut_hash(const char *name, const char *hash, char out[MZ_INJECT_NAME])
{
    const size_t n = strlen(name), h = strlen(hash);
    if (!h || n < h + 2 || name[n - h - 1] != '-' || strcmp(name + n - h, hash) != 0)
        return false;
    (void)snprintf(out, MZ_INJECT_NAME, "%.*s", (int)(n - h - 1), name);
    return true;
}

/* Jobs of a CronJob end in the minute for which they were made. */
static bool cut_time(const char *name, char out[MZ_INJECT_NAME])
{
    const size_t n = strlen(name);
    size_t digits = 0;
    while (digits < n && name[n - 1 - digits] >= '0' && name[n - 1 - digits] <= '9')
        digits++;
    if (digits < 8 || digits > 10 || n < digits + 2 || name[n - digits - 1] != '-')
        return false;
    (void)snprintf(out, MZ_INJECT_NAME, "%.*s", (int)(n - digits - 1), name);
    return true;
}

void mz_inject_owner_of_pod(json_t *pod, const char *ns, char name[MZ_INJECT_NAME],
                            struct mz_inject_owner *out)
{
    json_t *meta = json_object_get(pod, "metadata"), *labels = json_object_get(meta, "labels"),
           *by = controller_of(meta);
    *out = (struct mz_inject_owner){ "v1", "Pod", text_of(meta, "name"), ns };
    if (by) {
        out->api = text_of(by, "apiVersion");
        out->kind = text_of(by, "kind");
        out->name = text_of(by, "name");
    }
    if (strcmp(out->kind, "ReplicaSet") == 0 &&
        cut_hash(out->name, text_of(labels, "pod-template-hash"), name)) {
        out->kind = "Deployment";
        out->name = name;
    } else if (strcmp(out->kind, "ReplicaSet") == 0 &&
               cut_hash(out->name, text_of(labels, "rollouts-pod-template-hash"), name)) {
        out->api = "v1alpha1";
        out->kind = "Rollout";
        out->name = name;
    } else if (strcmp(out->kind, "ReplicationController") == 0 &&
               text_of(labels, "deploymentconfig")[0]) {
        out->kind = "DeploymentConfig";
        out->name = text_of(labels, "deploymentconfig");
    } else if (strcmp(out->kind, "Job") == 0 && cut_time(out->name, name)) {
        out->api = "batch/v1";
        out->kind = "CronJob";
        out->name = name;
    }
    if (!out->name[0]) { /* a generated one comes later */
        size_t n = strlen(text_of(meta, "generateName"));
        while (n && text_of(meta, "generateName")[n - 1] == '-')
            n--;
        (void)snprintf(name, MZ_INJECT_NAME, "%.*s",
                       (int)(n < MZ_INJECT_NAME ? n : MZ_INJECT_NAME - 1),
                       text_of(meta, "generateName"));
        out->name = name;
    }
}
