/*
 * Which subset serves a request (U2). What it wants is the route's metadata_match under `envoy.lb`, where the request's own
 * dynamic metadata of that name wins, looked at through the keys that selectors name.
 */
#include "upstream/lb_subset.h"

struct wanted {
    const struct mz_value **v; /* by the names of the configuration; NULL: not wanted */
    uint32_t known, all;       /* keys that are names; all keys */
};

static const struct mz_value *space(const struct mz_meta *m)
{
    const struct mz_value *v = m ? mz_meta_get(m, MZ_STR("envoy.lb"), NULL, 0) : NULL;
    return v && v->kind == MZ_VALUE_STRUCT ? v : NULL;
}

static const struct mz_value *field(const struct mz_value *fields, struct mz_str key)
{
    for (size_t i = 0; fields && i < fields->fields.n; i++)
        if (mz_str_eq(fields->fields.v[i].key, key))
            return fields->fields.v[i].value;
    return NULL;
}

static uint32_t name_of(const struct subset_config *cfg, struct mz_str key)
{
    for (uint32_t i = 0; i < cfg->n_names; i++)
        if (mz_str_eq(cfg->names[i], key))
            return i;
    return UINT32_MAX;
}

#define LAYERS 3 /* later ones win: route, request, entry of fallback_list */
static void collect(const struct subset_config *cfg, const struct mz_value *const layers[LAYERS],
                    bool list, struct wanted *out)
{
    static const struct mz_str list_key = MZ_STR_INIT("fallback_list");
    memset(out->v, 0, cfg->n_names * sizeof(struct mz_value *));
    out->known = out->all = 0;
    for (unsigned k = 0; k < LAYERS; k++) {
        const struct mz_value *l = layers[k];
        for (size_t i = 0; l && i < l->fields.n; i++) {
            const struct mz_field *f = &l->fields.v[i];
            if (list && k < LAYERS - 1 && mz_str_eq(f->key, list_key))
                continue;
            uint32_t name = name_of(cfg, f->key);
            bool seen = name < cfg->n_names && out->v[name];
            for (unsigned e = 0; e < k && !seen && name == UINT32_MAX; e++)
                seen = field(layers[e], f->key) != NULL;
            if (name < cfg->n_names)
                out->v[name] = f->value;
            out->all += !seen;
            out->known += !seen && name < cfg->n_names;
        }
    }
}

static bool has_keys(const struct subset_selector *s, const struct wanted *w)
{
    for (uint32_t i = 0; i < s->n_keys; i++)
        if (!w->v[s->keys[i]])
            return false;
    return true;
}

/* The selector of exactly these keys or, where others may be there too, the first one whose keys are. */
static uint32_t selector_of(const struct subset_config *cfg, const struct wanted *w)
{
    for (uint32_t i = 0; i < cfg->n; i++)
        if ((cfg->allow_redundant_keys || (w->all == w->known && w->known == cfg->v[i].n_keys)) &&
            has_keys(&cfg->v[i], w))
            return i;
    return SUBSET_NONE;
}

static void keep_only(const struct subset_config *cfg, const struct subset_selector *s,
                      struct wanted *w)
{
    uint32_t k = 0; /* both are sorted */
    for (uint32_t i = 0; i < cfg->n_names; i++) {
        if (k < s->n_kept && s->kept[k] == i)
            k++;
        else
            w->v[i] = NULL;
    }
    w->known = w->all = s->n_kept;
}

static struct mz_host *choose_in(struct lb *b, uint32_t i, struct mz_lb_ctx *ctx)
{
    const struct subset *s = i == SUBSET_NONE ? NULL : &b->sets->subsets->v[i];
    if (!s)
        return NULL;
    ctx->where = s->text;
    if (s->single) {
        ctx->why = "the subset's single host";
        return s->single;
    }
    if (!b->inner[i]) {
        b->inner[i] = mz_new0(MZ_MEM_UPSTREAM, struct lb);
        lb_init(b->inner[i], b->cfg, b->opts, b->rand, b->scope);
        b->inner[i]->site = b->site;
        lb_set_hosts(b->inner[i], host_sets_ref(s->sets));
    }
    return lb_choose_plain(b->inner[i], ctx);
}

static uint32_t find_wanted(const struct lb *b, uint32_t selector, const struct wanted *w)
{
    const struct subset_selector *s = &b->sets->subsets->cfg->v[selector];
    for (uint32_t i = 0; i < s->n_keys; i++)
        b->values[i] = w->v[s->keys[i]];
    return subsets_find(b->sets->subsets, selector, b->values);
}

static struct mz_host *choose_fallback(struct lb *b, struct mz_lb_ctx *ctx)
{
    const struct subsets *x = b->sets->subsets;
    struct mz_host *h = NULL;
    if (x->cfg->fallback == SUBSET_NO_FALLBACK) {
        ctx->why = "no subset has these values, and there is no fallback";
        return NULL;
    }
    h = choose_in(b, x->cfg->fallback == SUBSET_ANY_ENDPOINT ? x->any : x->standard, ctx);
    if (h) {
        mz_count(b->scope, MZ_CS_LB_SUBSETS_FALLBACK, 1);
        return h;
    }
    h = x->cfg->panic_mode_any ? choose_in(b, x->any, ctx) : NULL;
    if (h) {
        mz_count(b->scope, MZ_CS_LB_SUBSETS_FALLBACK_PANIC, 1);
        ctx->where = MZ_STR("subsets in panic: no host in the fallback, any endpoint");
    }
    return h;
}

static struct mz_host *choose_wanted(struct lb *b, struct mz_lb_ctx *ctx, struct wanted *w)
{
    const struct subsets *x = b->sets->subsets;
    for (;;) { /* each turn has fewer keys */
        uint32_t selector = selector_of(x->cfg, w);
        if (selector == SUBSET_NONE)
            return choose_fallback(b, ctx);
        const struct subset_selector *s = &x->cfg->v[selector];
        uint32_t i = find_wanted(b, selector, w);
        if (i != SUBSET_NONE) {
            mz_count(b->scope, MZ_CS_LB_SUBSETS_SELECTED, 1);
            return choose_in(b, i, ctx);
        }
        switch (s->fallback) {
        case SUBSET_NOT_DEFINED:
            return choose_fallback(b, ctx);
        case SUBSET_ANY_ENDPOINT:
            return choose_in(b, x->any, ctx);
        case SUBSET_DEFAULT:
            return choose_in(b, x->standard, ctx);
        case SUBSET_KEYS:
            keep_only(x->cfg, s, w);
            break;
        default:
            ctx->why = "no subset has these values, and the selector has no fallback";
            return NULL;
        }
    }
}

struct mz_host *subset_choose(struct lb *b, struct mz_lb_ctx *ctx)
{
    const struct subset_config *cfg = b->sets->subsets->cfg;
    const struct mz_value *layers[LAYERS] = { space(ctx->metadata_match),
                                              space(ctx->request_metadata), NULL };
    struct wanted w = { .v = b->wanted };
    const struct mz_value *list = NULL;
    if (cfg->fallback_list) {
        list = field(layers[1], MZ_STR("fallback_list"));
        list = list ? list : field(layers[0], MZ_STR("fallback_list"));
    }
    struct mz_host *h = NULL;
    size_t n = list && list->kind == MZ_VALUE_LIST ? list->list.n : 0;
    for (size_t i = 0; i < n && !h; i++) {
        layers[LAYERS - 1] = list->list.v[i].kind == MZ_VALUE_STRUCT ? &list->list.v[i] : NULL;
        collect(cfg, layers, true, &w);
        h = choose_wanted(b, ctx, &w);
    }
    if (n)
        return h;
    collect(cfg, layers, list != NULL, &w);
    return choose_wanted(b, ctx, &w);
}

/* ---- the balancers of subsets that were used on this worker ---- */

static void inner_free(struct lb *b)
{
    if (b)
        lb_fini(b);
    mz_free(MZ_MEM_UPSTREAM, b);
}

static uint32_t same_subset(const struct subsets *now, const struct subsets *old, uint32_t i)
{
    if (i == old->any)
        return now->any;
    if (i == old->standard)
        return now->standard;
    return subsets_find(now, old->v[i].selector, old->v[i].values);
}

/* A subset that stays keeps its place in the round. */
void subset_follow(struct lb *b, const struct host_sets *old)
{
    const struct subsets *x = b->sets->subsets, *before = old ? old->subsets : NULL;
    struct lb **v = mz_newn0(MZ_MEM_UPSTREAM, struct lb *, x->total + 1);
    for (uint32_t i = 0; before && i < before->total; i++) {
        if (!b->inner[i])
            continue;
        uint32_t at = same_subset(x, before, i);
        if (at == SUBSET_NONE) {
            inner_free(b->inner[i]);
            continue;
        }
        v[at] = b->inner[i];
        lb_set_hosts(v[at], host_sets_ref(x->v[at].sets));
    }
    mz_free(MZ_MEM_UPSTREAM, b->inner);
    b->inner = v;
    if (!b->wanted) { /* room for one choice */
        b->wanted = mz_newn0(MZ_MEM_UPSTREAM, const struct mz_value *, x->cfg->n_names + 1);
        b->values = mz_newn0(MZ_MEM_UPSTREAM, const struct mz_value *, x->cfg->n_names + 1);
    }
    subsets_count(b->scope, before, x);
}

void subset_drop(struct lb *b)
{
    const struct subsets *x = b->sets->subsets;
    for (uint32_t i = 0; b->inner && i < x->total; i++)
        inner_free(b->inner[i]);
    mz_free(MZ_MEM_UPSTREAM, b->inner);
    mz_free(MZ_MEM_UPSTREAM, b->wanted);
    mz_free(MZ_MEM_UPSTREAM, b->values);
    subsets_count(b->scope, x, NULL);
}
