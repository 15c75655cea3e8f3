/* Istio's annotations on objects of Kubernetes: unknown ones, in the wrong place, with a value that nobody can read, old ones. */
#include "control/analyze/finders.h"
#include "control/inject/annotations.h"

static bool is_istios(struct mz_str name)
{
    const ptrdiff_t slash = mz_str_chr(name, '/');
    const struct mz_str group = { name.p, slash < 0 ? name.n : (size_t)slash };
    return mz_str_eq(name, MZ_STR("kubernetes.io/ingress.class")) ||
           mz_str_ends(group, MZ_STR("istio.io"));
}

/* Set by controllers, not by people. */
static bool is_ignored(struct mz_str name)
{
    return mz_str_eq(name, MZ_STR("sidecar.istio.io/status")) ||
           mz_str_eq(name, MZ_STR("gateway.istio.io/controller-version")) ||
           mz_str_eq(name, MZ_STR("istio.io/rev"));
}

static bool may_stand_on(const struct mz_annotation *a, struct mz_str kind)
{
    struct mz_str rest = mz_str_c(a->on), part;
    while (mz_str_split(&rest, ',', &part))
        if (mz_str_eq(mz_str_trim(part), kind))
            return true;
    return false;
}

static void annotation(struct mz_documents *d, const struct mz_object *o, const struct mz_pair *p)
{
    const struct mz_annotation *a = mz_annotation_find(p->key);
    const bool inject = mz_str_eq(p->key, MZ_STR("sidecar.istio.io/inject"));
    struct mz_err err;
    if (!a) {
        found(d, MZ_LEVEL_WARNING, 108, o, p->value->line, "Unknown annotation: %.*s",
              MZ_STR_ARG(p->key));
        return;
    }
    if (a->deprecated && !(inject && map_get(object_labels(o), p->key)))
        found(d, MZ_LEVEL_INFO, 135, o, p->value->line,
              "Annotation \"%s\" has been deprecated%s and may not work in future Istio versions.",
              a->name, inject ? " in favor of the \"sidecar.istio.io/inject\" label" : "");
    if (strcmp(a->on, "Any") == 0)
        return;
    if (!may_stand_on(a, o->kind))
        found(d, MZ_LEVEL_WARNING, 107, o, p->value->line,
              "Misplaced annotation: %s can only be applied to %s", a->name, a->on);
    else if (!mz_annotation_check(p->key, scalar_text(p->value), &err))
        found(d, MZ_LEVEL_WARNING, 125, o, p->value->line, "Invalid annotation %s: %s", a->name,
              err.msg);
}

void find_in_annotations(struct mz_documents *d)
{
    static const char *const kinds[] = { "Namespace", "Service", "Pod", "Deployment" };
    for (size_t k = 0; k < MZ_COUNT(kinds); k++)
        objects_foreach(it, d, kinds[k])
        {
            const struct mz_node *notes = object_annotations(*it);
            for (uint32_t i = 0;
                 !(*it)->made && notes && notes->kind == MZ_NODE_MAP && i < notes->n; i++)
                if (is_istios(notes->pairs[i].key) && !is_ignored(notes->pairs[i].key))
                    annotation(d, *it, &notes->pairs[i]);
        }
}
