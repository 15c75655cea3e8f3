/*
 * From labels to numbers. The store has each series once, for good, behind its lock; each thread remembers those that it met, by
 * the bytes of their labels, so that a request takes no lock. Labels that peers choose are cut, series bounded (E13).
 */
#include "filters/istio/stats_priv.h"
#include "observe/attributes.h"

#define VALUE_MAX 256  /* bytes of a label */
#define KNOWN_MAX 4096 /* series that a thread remembers of one configuration */
#define KEY_MAX   8192

static const struct mz_str ns = MZ_STR_INIT("istiocustom");

/* ---- expressions ---- */

void stats_evaluate(const struct stats_cfg *c, const struct mz_stream_info *info, bool headers,
                    struct mz_str *out_values)
{
    static const struct mz_headers *const none;
    const struct mz_format_ctx ctx = { .info = info,
                                       .req = headers ? info->req : none,
                                       .resp = headers ? info->resp : none,
                                       .trailers = headers ? info->resp_trailers : none };
    for (unsigned i = 0; i < c->n_exprs; i++) {
        struct mz_attributes attributes;
        struct mz_cel_value v;
        out_values[i] = MZ_STR("unknown");
        mz_attributes_init(&attributes, &ctx);
        mz_cel_eval(c->exprs[i], &attributes.vars, info->arena, &v);
        if (!mz_cel_text(&v, info->arena, &out_values[i]))
            out_values[i] = MZ_STR("unknown");
    }
}

/* ---- tags of a metric ---- */

static struct mz_str cut(struct mz_str v)
{
    return v.n > VALUE_MAX ? (struct mz_str){ v.p, VALUE_MAX } : v;
}

static unsigned tags_add(const struct additions *a, const struct mz_str *values,
                         struct mz_stat_tag out[MZ_STATS_TAGS_MAX], unsigned n)
{
    for (unsigned i = 0; i < a->n; i++)
        out[n++] = (struct mz_stat_tag){ a->v[i].name, cut(values[a->v[i].expr]) };
    return n;
}

static unsigned tags_of(const struct change *change, const struct labels *l,
                        const struct mz_str *values, struct mz_stat_tag out[MZ_STATS_TAGS_MAX])
{
    unsigned n = 0;
    for (unsigned i = 0; i < LABEL__COUNT; i++) {
        int to = change ? change->tags[i] : TAG_AS_IS;
        if (l->has >> i & 1 && to != TAG_DROPPED)
            out[n++] =
                (struct mz_stat_tag){ label_names[i], cut(to == TAG_AS_IS ? l->v[i] : values[to]) };
    }
    return change ? tags_add(&change->added, values, out, n) : n;
}

/* ---- what this thread has met ---- */

/* Names are known by their place; what a metric drops makes it another kind. False: too long. */
static bool key_of(unsigned kind, const struct mz_stat_tag *tags, unsigned n, char key[KEY_MAX],
                   size_t *out_n)
{
    size_t at = 1;
    key[0] = (char)kind;
    for (unsigned i = 0; i < n; i++) {
        struct mz_str v = tags[i].value;
        if (at + v.n + 2 > KEY_MAX)
            return false;
        key[at++] = (char)v.n;
        key[at++] = (char)(v.n >> 8);
        if (v.n)
            memcpy(key + at, v.p, v.n);
        at += v.n;
    }
    *out_n = at;
    return true;
}

static void forget(struct mz_map *m)
{
    mz_map_foreach (e, m)
        mz_free(MZ_MEM_STATS, (void *)(uintptr_t)e->key.p);
    mz_map_fini(m);
    mz_map_init(m, MZ_MEM_STATS);
}

static void remember(struct mz_map *m, struct mz_str key, struct mz_scope *s)
{
    if (m->n >= KNOWN_MAX)
        forget(m);
    struct mz_str own = { mz_strndup(MZ_MEM_STATS, key.p, key.n), key.n };
    (void)mz_map_put(m, own, s); /* it was not there */
}

static struct mz_scope *scope_find(const struct stats_cfg *c, unsigned number,
                                   const struct mz_stat_kind *kind, struct mz_scope *overflow,
                                   const struct mz_stat_tag *tags, unsigned n)
{
    char key[KEY_MAX];
    size_t key_n = 0;
    struct mz_map *mine = mz_stats_slot < c->n_slots ? &c->known[mz_stats_slot] : NULL;
    bool keyed = mine && key_of(number, tags, n, key, &key_n);
    struct mz_scope *s = keyed ? mz_map_get(mine, (struct mz_str){ key, key_n }) : NULL;
    if (s)
        return s;
    s = mz_scope_tagged(c->stats, kind, ns, tags, n);
    if (s && keyed)
        remember(mine, (struct mz_str){ key, key_n }, s);
    return s ? s : overflow;
}

void series_find(const struct stats_cfg *c, enum group g, const struct labels *l,
                 const struct mz_str *values, struct series *out_series)
{
    struct mz_stat_tag tags[MZ_STATS_TAGS_MAX];
    struct mz_scope *all = NULL;
    if (!c->changes)
        all = scope_find(c, METRIC__COUNT + g, &group_kinds[g], c->overflow[g], tags,
                         tags_of(NULL, l, NULL, tags));
    for (unsigned m = 0; m < METRIC__COUNT; m++) {
        if (metric_rows[m].group != g)
            continue;
        out_series[m] = (struct series){ all, m - metric_rows[m].first };
        if (all || c->changes[m].drop)
            continue;
        unsigned n = tags_of(&c->changes[m], l, values, tags);
        struct mz_scope *s = scope_find(c, m, metric_rows[m].alone, c->overflow[g], tags, n);
        out_series[m] = (struct series){ s, s == c->overflow[g] ? m - metric_rows[m].first : 0 };
    }
}

/* ---- the configuration's own metrics ---- */

void customs_find(const struct stats_cfg *c, const struct mz_str *values,
                  struct custom_value *out_values)
{
    struct mz_stat_tag tags[MZ_STATS_TAGS_MAX];
    for (unsigned i = 0; i < c->n_customs; i++) {
        const struct custom *x = &c->customs[i];
        unsigned n = tags_add(&x->added, values, tags, 0);
        out_values[i] = (struct custom_value){
            scope_find(c, METRIC__COUNT + GROUP__COUNT + i, x->kind, x->overflow, tags, n), 0
        };
        if (!mz_str_u64(values[x->expr], &out_values[i].amount))
            out_values[i].amount = 0;
    }
}

void customs_count(const struct stats_cfg *c, const struct custom_value *values)
{
    for (unsigned i = 0; i < c->n_customs; i++) {
        struct mz_scope *s = values[i].scope;
        if (!s)
            continue;
        switch ((enum mz_stat_type)c->customs[i].kind->defs[0].type) {
        case MZ_HISTOGRAM:
            mz_hist_record(s, 0, values[i].amount);
            break;
        case MZ_GAUGE:
            mz_gauge_set_shared(s, 0, values[i].amount);
            break;
        default:
            mz_count(s, 0, values[i].amount);
        }
    }
}
