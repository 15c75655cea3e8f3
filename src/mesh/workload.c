#include "mesh/workload.h"

#include <stdlib.h>
#include <string.h>

#include "mesh/json.h"

static const struct {
    const char *kind;
    enum mz_mesh_workload_kind is;
} makers[] = {
    { "Deployment", MZ_MESH_DEPLOYMENT },
    { "StatefulSet", MZ_MESH_STATEFUL_SET },
    { "DaemonSet", MZ_MESH_DAEMON_SET },
    { "Job", MZ_MESH_JOB },
    { "Pod", MZ_MESH_POD },
};

/* Of Kubernetes: they become file names, host names, parts of identities. */
static bool name_ok(const char *s)
{
    const size_t n = strlen(s);
    bool ok = n && n <= 63 && s[0] != '-' && s[0] != '.' && s[n - 1] != '-' && s[n - 1] != '.';
    for (size_t i = 0; ok && i < n; i++)
        ok = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-' ||
             s[i] == '.';
    return ok;
}

static bool is_yes(const char *s)
{
    static const char *const yes[] = { "true", "y", "yes", "on" };
    for (size_t i = 0; i < MZ_COUNT(yes); i++)
        if (strcasecmp(s, yes[i]) == 0)
            return true;
    return false;
}

/* Namespaces are asked first, then pods; where both are silent, nobody is injected. */
static bool is_injected(const struct mz_mesh_folder *f, const char *ns, json_t *template)
{
    const struct mz_mesh_doc *d = mz_mesh_folder_find(f, "Namespace", "", ns);
    json_t *labels = d ? mz_json_at(d->object, "metadata", "labels", NULL) : NULL,
           *own = mz_json_at(template, "metadata", "labels", NULL);
    const char *space = mz_json_text(labels, "istio-injection", ""),
               *revision = mz_json_text(labels, "istio.io/rev", ""),
               *pod = mz_json_text(own, "sidecar.istio.io/inject", "");
    if (strcmp(space, "disabled") == 0)
        return false;
    if (strcmp(space, "enabled") == 0 || revision[0])
        return !pod[0] || is_yes(pod);
    return is_yes(pod) || (!pod[0] && mz_json_text(own, "istio.io/rev", "")[0]);
}

static uint64_t hash_of(const json_t *template, bool inject)
{
    char *text = json_dumps(template, JSON_COMPACT | JSON_SORT_KEYS);
    const uint64_t h = text ? mz_xxh64(text, strlen(text), inject) : 0;
    free(text);
    return h;
}

static bool count(const json_t *spec, const char *name, json_int_t otherwise, unsigned *out,
                  struct mz_err *err)
{
    const json_int_t n = mz_json_number(spec, name, otherwise);
    if (n < 0 || n > MZ_MESH_MAX_PODS)
        return mz_err_set(err, "spec.%s: must be in 0..%d, is %lld", name, MZ_MESH_MAX_PODS,
                          (long long)n);
    *out = (unsigned)n;
    return true;
}

static bool read_counts(struct mz_mesh_workload *w, const json_t *spec, struct mz_err *err)
{
    w->replicas = w->parallelism = 1;
    if (w->kind == MZ_MESH_DEPLOYMENT || w->kind == MZ_MESH_STATEFUL_SET)
        return count(spec, "replicas", 1, &w->replicas, err);
    return w->kind != MZ_MESH_JOB || (count(spec, "completions", 1, &w->replicas, err) &&
                                      count(spec, "parallelism", 1, &w->parallelism, err) &&
                                      count(spec, "backoffLimit", 6, &w->backoff_limit, err));
}

static bool read_one(const struct mz_mesh_folder *f, const struct mz_mesh_doc *d,
                     struct mz_mesh_workload *w, struct mz_err *err)
{
    json_t *spec = json_object_get(d->object, "spec");
    const bool pod = w->kind == MZ_MESH_POD;
    json_t *template = pod ? d->object : json_object_get(spec, "template");
    *w = (struct mz_mesh_workload){ .kind = w->kind,
                                    .ns = d->ns,
                                    .name = d->name,
                                    .api = mz_json_text(d->object, "apiVersion", "v1"),
                                    .kind_name = d->kind,
                                    .doc = d,
                                    .template = template };
    if (!name_ok(d->name) || !name_ok(d->ns))
        return mz_err_set(err, "metadata: \"%.80s/%.80s\" is no name: small letters, digits, '-'",
                          d->ns, d->name);
    if (!json_is_object(json_object_get(template, "spec")))
        return mz_err_set(err, "spec%s: is missing", pod ? "" : ".template.spec");
    w->inject = is_injected(f, w->ns, template);
    w->hash = hash_of(template, w->inject);
    return read_counts(w, spec, err);
}

bool mz_mesh_workloads(const struct mz_mesh_folder *f, struct mz_mesh_workloads *out,
                       struct mz_err *err)
{
    struct mz_mesh_workloads all = { .v = mz_arena_alloc0(f->arena,
                                                          (f->docs.n + 1) * sizeof(*all.v)) };
    size_t pods = 0;
    for (size_t i = 0; i < f->docs.n; i++)
        for (size_t k = 0; k < MZ_COUNT(makers); k++) {
            const struct mz_mesh_doc *d = &f->docs.v[i];
            struct mz_mesh_workload *w = &all.v[all.n];
            if (strcmp(makers[k].kind, d->kind) != 0)
                continue;
            w->kind = makers[k].is;
            if (!read_one(f, d, w, err))
                return mz_mesh_doc_err(d, err);
            pods += w->replicas;
            all.n++;
        }
    if (pods > MZ_MESH_MAX_PODS)
        return mz_err_set(err, "%s: %zu pods; at most %d run on one machine", f->dir, pods,
                          MZ_MESH_MAX_PODS);
    *out = all;
    return true;
}
