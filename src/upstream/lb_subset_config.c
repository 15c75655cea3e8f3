/* lb_subset_config (U2) becomes a struct subset_config: keys sorted and numbered, each set of keys once. */
#include "upstream/lb_subset.h"
#include <stdlib.h>

static const struct mz_stat_def defs[] = {
    { "lb_subsets_single_host_per_subset_duplicate", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind subset_stats = { "subset_lb", defs, MZ_COUNT(defs) };

static int by_text(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void names_build(const pb_Cluster_LbSubsetConfig *m, struct mz_cluster *c,
                        struct subset_config *cfg)
{
    size_t n = 0, unique = 0;
    for (size_t i = 0; i < m->n_subset_selectors; i++)
        n += m->subset_selectors[i]->n_keys;
    struct mz_str *v = cluster_keep(c, mz_mul(n + 1, sizeof(*v)));
    n = 0;
    for (size_t i = 0; i < m->n_subset_selectors; i++)
        for (size_t k = 0; k < m->subset_selectors[i]->n_keys; k++)
            v[n++] = cluster_keep_str(c, m->subset_selectors[i]->keys[k]);
    qsort(v, n, sizeof(*v), by_text);
    for (size_t i = 0; i < n; i++)
        if (!unique || !mz_str_eq(v[unique - 1], v[i]))
            v[unique++] = v[i];
    cfg->names = v;
    cfg->n_names = (uint32_t)unique;
}

/* Numbers of the names, sorted, each once. */
static uint32_t *numbers(struct mz_cluster *c, const struct subset_config *cfg, char **keys,
                         size_t n, uint32_t *out_n)
{
    uint32_t *v = cluster_keep(c, mz_mul(n + 1, sizeof(*v))), unique = 0;
    for (size_t i = 0; i < n; i++) {
        struct mz_str key = mz_str_c(keys[i]);
        const struct mz_str *at =
            bsearch(&key, cfg->names, cfg->n_names, sizeof(*cfg->names), by_text);
        v[i] = at ? (uint32_t)(at - cfg->names) : UINT32_MAX;
    }
    qsort(v, n, sizeof(*v), by_number);
    for (size_t i = 0; i < n; i++)
        if (!unique || v[unique - 1] != v[i])
            v[unique++] = v[i];
    *out_n = unique;
    return v;
}

static bool fallback_keys_check(const struct subset_selector *s, struct mz_err *err)
{
    bool keys = s->fallback == SUBSET_KEYS;
    uint32_t found = 0;
    for (uint32_t i = 0; i < s->n_kept; i++)
        for (uint32_t k = 0; k < s->n_keys; k++)
            found += s->kept[i] == s->keys[k];
    const char *why = NULL;
    if (!keys && s->n_kept)
        why = "fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy";
    else if (keys && !s->n_kept)
        why = "fallback_keys_subset cannot be empty";
    else if (keys && found != s->n_kept)
        why = "fallback_keys_subset must be a subset of selector keys";
    else if (keys && s->n_kept == s->n_keys)
        why = "fallback_keys_subset cannot be equal to keys";
    return !why || mz_err_set(err, "%s", why) || mz_err_at(err, "fallback_keys_subset");
}

static bool same_keys(const struct subset_selector *a, const struct subset_selector *b)
{
    return a->n_keys == b->n_keys && memcmp(a->keys, b->keys, a->n_keys * sizeof(*a->keys)) == 0;
}

static void selector_add(struct subset_config *cfg, const struct subset_selector *s)
{
    for (uint32_t i = 0; i < cfg->n; i++)
        if (same_keys(&cfg->v[i], s))
            return; /* the first of them counts, as Envoy does */
    cfg->needs_any = cfg->needs_any || s->fallback == SUBSET_ANY_ENDPOINT;
    cfg->needs_default = cfg->needs_default || s->fallback == SUBSET_DEFAULT;
    if (s->n_keys)
        cfg->v[cfg->n++] = *s;
}

static bool selectors_build(const pb_Cluster_LbSubsetConfig *m, struct mz_cluster *c,
                            struct subset_config *cfg, struct mz_err *err)
{
    cfg->v = cluster_keep(c, mz_mul(m->n_subset_selectors, sizeof(*cfg->v)));
    for (size_t i = 0; i < m->n_subset_selectors; i++) {
        const pb_Cluster_LbSubsetConfig_LbSubsetSelector *from = m->subset_selectors[i];
        struct subset_selector s = { .single_host = from->single_host_per_subset,
                                     .fallback = (enum subset_policy)from->fallback_policy };
        s.keys = numbers(c, cfg, from->keys, from->n_keys, &s.n_keys);
        s.kept =
            numbers(c, cfg, from->fallback_keys_subset, from->n_fallback_keys_subset, &s.n_kept);
        if (!fallback_keys_check(&s, err))
            return mz_err_at(err, "subset_selectors[%zu]", i);
        selector_add(cfg, &s);
    }
    return true;
}

void subset_scope(struct subset_config *cfg, struct mz_stats *st, struct mz_str prefix)
{
    cfg->scope = mz_scope_create(st, &subset_stats, prefix);
    mz_gauge_set(cfg->scope, 0, 0);
}

bool subset_config_build(const pb_Cluster_LbSubsetConfig *m, struct mz_cluster *c,
                         struct subset_config **out_config, struct mz_err *err)
{
    static const enum subset_policy policies[] = { SUBSET_NO_FALLBACK, SUBSET_ANY_ENDPOINT,
                                                   SUBSET_DEFAULT };
    struct subset_config *cfg = cluster_keep(c, sizeof(*cfg));
    unsigned policy = (unsigned)m->fallback_policy;
    cfg->fallback = policies[policy < MZ_COUNT(policies) ? policy : 0];
    cfg->needs_any = cfg->fallback == SUBSET_ANY_ENDPOINT || m->panic_mode_any;
    cfg->needs_default = cfg->fallback == SUBSET_DEFAULT;
    cfg->locality_weight_aware = m->locality_weight_aware;
    cfg->scale_locality_weight = m->scale_locality_weight;
    cfg->panic_mode_any = m->panic_mode_any;
    cfg->list_as_any = m->list_as_any;
    cfg->fallback_list = m->metadata_fallback_policy ==
                         pb_Cluster_LbSubsetConfig_LbSubsetMetadataFallbackPolicy_FALLBACK_LIST;
    if (m->default_subset) {
        c->arena = c->arena ? c->arena : mz_arena_create(MZ_MEM_UPSTREAM);
        cfg->default_subset = mz_value_build(m->default_subset, c->arena);
    }
    names_build(m, c, cfg);
    if (!selectors_build(m, c, cfg, err))
        return false;
    *out_config = m->n_subset_selectors ? cfg : NULL;
    return true;
}
