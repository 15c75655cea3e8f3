/* What the MeshConfig says by labels of namespaces: which are looked at (discoverySelectors), who may see their ServiceEntries. */
#include "control/model/model_priv.h"

static const struct mz_str *find(const k8s_ObjectMeta *ns, const char *key, struct mz_str *room)
{
    for (size_t i = 0; ns && i < ns->n_labels; i++)
        if (strcmp(ns->labels[i]->key, key) == 0) {
            *room = mz_str_c(ns->labels[i]->value);
            return room;
        }
    return NULL;
}

static bool holds(const ist_LabelSelectorRequirement *r, const k8s_ObjectMeta *ns)
{
    struct mz_str room;
    const struct mz_str *have = find(ns, r->key, &room);
    bool in = false;
    for (size_t i = 0; have && i < r->n_values; i++)
        in |= mz_str_eq(*have, mz_str_c(r->values[i]));
    if (strcmp(r->operator_, "In") == 0)
        return in;
    if (strcmp(r->operator_, "NotIn") == 0)
        return !in;
    return (strcmp(r->operator_, "Exists") == 0) == (have != NULL); /* or DoesNotExist: checked */
}

static bool selects(const ist_mesh_LabelSelector *s, const k8s_ObjectMeta *ns)
{
    struct mz_str room;
    for (size_t i = 0; i < s->n_matchlabels; i++) {
        const struct mz_str *have = find(ns, s->matchlabels[i]->key, &room);
        if (!have || !mz_str_eq(*have, mz_str_c(s->matchlabels[i]->value)))
            return false;
    }
    for (size_t i = 0; i < s->n_matchexpressions; i++)
        if (!holds(s->matchexpressions[i], ns))
            return false;
    return true;
}

static bool is_chosen(struct model_draft *d, struct mz_str ns)
{
    const ist_MeshConfig *c = d->m->mesh.config;
    const k8s_ObjectMeta *meta = model_namespace(d, ns);
    for (size_t i = 0; i < c->n_discovery_selectors; i++)
        if (selects(c->discovery_selectors[i], meta))
            return true;
    return false;
}

static bool fits(const ist_ServiceEntryVisibility_Policy *p, const k8s_ObjectMeta *ns)
{
    for (size_t i = 0; i < p->n_matching_rules; i++) {
        const ist_mesh_LabelSelector *s = p->matching_rules[i]->namespace_selector;
        if (!s || !selects(s, ns))
            return false;
    }
    return true;
}

enum mz_audience model_audience(struct model_draft *d, struct mz_str ns)
{
    const ist_ServiceEntryVisibility *c = d->m->mesh.config->service_entry_visibility;
    if (!c || !c->apply_to_sidecars)
        return MZ_AUDIENCE_ALL;
    const k8s_ObjectMeta *meta = model_namespace(d, ns);
    ist_ServiceEntryVisibility_Visibility v = c->default_visibility;
    for (size_t i = 0; i < c->n_policies; i++)
        if (fits(c->policies[i], meta)) {
            v = c->policies[i]->visibility;
            break;
        }
    if (v == ist_ServiceEntryVisibility_Visibility_NONE)
        return MZ_AUDIENCE_NOBODY;
    return v == ist_ServiceEntryVisibility_Visibility_NAMESPACE ? MZ_AUDIENCE_NAMESPACE
                                                                : MZ_AUDIENCE_ALL;
}

const k8s_ObjectMeta *model_namespace(struct model_draft *d, struct mz_str ns)
{
    const struct mz_doc *doc =
        mz_store_get(d->store, mz_arena_printf(d->scratch, "Namespace/%.*s", MZ_STR_ARG(ns)));
    return doc ? mz_doc_meta(doc, d->scratch) : NULL;
}

const struct mz_doc *const *model_docs(struct model_draft *d, enum mz_kind k, size_t *out_n)
{
    const struct mz_doc *const *all = mz_store_list(d->store, k, out_n);
    if (!d->m->mesh.config->n_discovery_selectors)
        return all;
    const struct mz_doc **kept = mz_arena_alloc(d->scratch, *out_n * sizeof(*kept));
    size_t n = 0;
    bool chosen = true;
    for (size_t i = 0; i < *out_n; i++) { /* by namespace: each is judged once */
        if (!i || !mz_str_eq(all[i]->ns, all[i - 1]->ns))
            chosen = !all[i]->ns.n || is_chosen(d, all[i]->ns);
        if (chosen)
            kept[n++] = all[i];
    }
    *out_n = n;
    return kept;
}
