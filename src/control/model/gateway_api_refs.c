/* What documents refer to: who may, and whether it is there. */
#include "control/model/gateway_api_priv.h"
#include "control/model/secret.h"

/* ---- ReferenceGrants ---- */

static const char *const from_kinds[] = { "Gateway",   "ListenerSet", "HTTPRoute",
                                          "GRPCRoute", "TCPRoute",    "TLSRoute" };
static const char *const to_kinds[] = { "ConfigMap", "Secret", "Service" };

static bool is_one_of(const char *const *v, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i], text) == 0)
            return true;
    return false;
}

static struct mz_str grant_key(struct mz_arena *a, const char *from, struct mz_str ns,
                               const char *to, struct mz_str other, const char *name)
{
    return mz_arena_printf(a, "%s/%.*s>%s/%.*s/%s", from, MZ_STR_ARG(ns), to, MZ_STR_ARG(other),
                           name);
}

void gw_add_grants(struct gw_making *g)
{
    size_t n;
    const struct mz_doc *const *docs = mz_store_list(g->d->store, MZ_KIND_REFERENCE_GRANT, &n);
    for (size_t i = 0; i < n; i++) {
        const k8s_ReferenceGrant *m =
            (const k8s_ReferenceGrant *)mz_doc_body(docs[i], g->d->scratch);
        for (size_t f = 0; f < m->n_from; f++)
            for (size_t t = 0; t < m->n_to; t++) {
                const k8s_ReferenceGrantFrom *from = m->from[f];
                const k8s_ReferenceGrantTo *to = m->to[t];
                if (strcmp(from->group, GW_GROUP) != 0 || to->group[0] ||
                    !is_one_of(from_kinds, MZ_COUNT(from_kinds), from->kind) ||
                    !is_one_of(to_kinds, MZ_COUNT(to_kinds), to->kind))
                    continue; /* may be for others */
                (void)mz_map_put(&g->d->grants,
                                 grant_key(g->d->scratch, from->kind, mz_str_c(from->namespace_),
                                           to->kind, docs[i]->ns, gw_or(to->name, "*")),
                                 g);
            }
    }
}

bool model_granted(struct model_draft *d, const char *from, struct mz_str ns, const char *to,
                   struct mz_str other, const char *name)
{
    return mz_map_get(&d->grants, grant_key(d->scratch, from, ns, to, other, "*")) ||
           (strcmp(name, "*") != 0 &&
            mz_map_get(&d->grants, grant_key(d->scratch, from, ns, to, other, name)));
}

/* ---- namespaces ---- */

static const char *label_of(const k8s_ObjectMeta *m, const char *key)
{
    if (strcmp(key, "kubernetes.io/metadata.name") == 0)
        return m->name;
    for (size_t i = 0; i < m->n_labels; i++)
        if (strcmp(m->labels[i]->key, key) == 0)
            return m->labels[i]->value;
    return NULL;
}

static bool holds(const k8s_LabelSelectorRequirement *r, const char *value)
{
    bool in = false;
    for (size_t i = 0; value && i < r->n_values; i++)
        in |= strcmp(r->values[i], value) == 0;
    return strcmp(r->operator_, "In") == 0       ? in
           : strcmp(r->operator_, "NotIn") == 0  ? !in
           : strcmp(r->operator_, "Exists") == 0 ? value != NULL
                                                 : value == NULL; /* DoesNotExist; no others pass */
}

bool gw_namespaces_match(struct gw_making *g, const k8s_LabelSelector *s, const struct mz_doc *doc)
{
    const k8s_ObjectMeta *m = mz_doc_meta(doc, g->d->scratch);
    for (size_t i = 0; i < s->n_matchlabels; i++) {
        const char *v = label_of(m, s->matchlabels[i]->key);
        if (!v || strcmp(v, s->matchlabels[i]->value) != 0)
            return false;
    }
    for (size_t i = 0; i < s->n_matchexpressions; i++)
        if (!holds(s->matchexpressions[i], label_of(m, s->matchexpressions[i]->key)))
            return false;
    return true;
}

const struct mz_str *gw_allowed_namespaces(struct gw_making *g, struct mz_str own,
                                           const k8s_AllowedRoutes *r, size_t *out_n)
{
    const k8s_RouteNamespaces *from = r ? r->namespaces : NULL;
    const char *which = from ? gw_or(from->from, "Same") : "Same";
    size_t n = 0;
    struct mz_str *v = mz_arena_alloc(g->a, sizeof(*v));
    *out_n = 1;
    v[0] = strcmp(which, "Same") == 0 ? own : MZ_STR("*");
    if (strcmp(which, "Selector") != 0 || !from->selector)
        return v;
    const struct mz_doc *const *docs = mz_store_list(g->d->store, MZ_KIND_NAMESPACE, &n);
    v = mz_arena_alloc(g->a, n * sizeof(*v));
    *out_n = 0;
    for (size_t i = 0; i < n; i++) /* by name */
        if (gw_namespaces_match(g, from->selector, docs[i]))
            v[(*out_n)++] = mz_arena_dup(g->a, docs[i]->name);
    return v;
}

/* ---- certificates ---- */

bool gw_has_pair(struct gw_making *g, const struct mz_doc *doc, struct mz_gw_error *e,
                 const char *reason, const char *what)
{
    struct mz_secret s;
    struct mz_err err = { .path = "", .msg = "" };
    mz_secret_open(doc, g->d->scratch, &s);
    if (!mz_secret_has_pair(&s, &err))
        return gw_fail(g, e, reason, "%s, %s", what, err.msg);
    if (!mz_secret_pair_fits(&s, &err)) /* nobody gets it, but its name stays */
        (void)gw_fail(g, e, reason, "%s, %s", what, err.msg);
    return true;
}

bool gw_has_root(struct gw_making *g, const struct mz_doc *doc, struct mz_gw_error *e,
                 const char *reason, const char *what)
{
    struct mz_secret s;
    struct mz_err err = { .path = "", .msg = "" };
    mz_secret_open(doc, g->d->scratch, &s);
    return mz_secret_has_root(&s, &err) || gw_fail(g, e, reason, "%s, %s", what, err.msg);
}
