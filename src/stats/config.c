#include "stats/config.h"

#include "base/regex.h"
#include "stats/stats_priv.h"
#include "stats/tags.h"
#include <stdlib.h>
#include <string.h>

struct rule {
    struct mz_stats_rule r;
    struct mz_regex *regex;
};
struct buckets {
    struct rule match;
    double *bounds;
    size_t n;
};
struct mz_stats_config {
    struct mz_arena *arena;
    extractors tags;
    enum mz_stats_filter filter;
    struct rule *rules;
    size_t n_rules;
    struct buckets *buckets;
    size_t n_buckets;
};

static const double default_bounds[] = { 0.5,   1,      5,      10,      25,     50,    100,
                                         250,   500,    1000,   2500,    5000,   10000, 30000,
                                         60000, 300000, 600000, 1800000, 3600000 };

static bool rule_build(struct mz_arena *a, const struct mz_stats_rule *in, struct rule *out,
                       struct mz_err *err)
{
    out->r = *in;
    out->r.text = mz_arena_dup(a, in->text);
    if (in->kind != MZ_STATS_REGEX)
        return true;
    out->regex = mz_regex_create(in->text, err);
    return out->regex != NULL;
}

static bool contains(struct mz_str s, struct mz_str what, bool ignore_case)
{
    if (!ignore_case)
        return mz_str_find(s, what) >= 0;
    for (size_t i = 0; i + what.n <= s.n; i++)
        if (mz_str_istarts(mz_str_skip(s, i), what))
            return true;
    return false;
}

static bool rule_matches(const struct rule *r, struct mz_str name)
{
    struct mz_str t = r->r.text;
    bool ic = r->r.ignore_case;
    switch (r->r.kind) {
    case MZ_STATS_EXACT:
        return ic ? mz_str_ieq(name, t) : mz_str_eq(name, t);
    case MZ_STATS_PREFIX:
        return ic ? mz_str_istarts(name, t) : mz_str_starts(name, t);
    case MZ_STATS_SUFFIX:
        return name.n >= t.n &&
               (ic ? mz_str_ieq(mz_str_skip(name, name.n - t.n), t) : mz_str_ends(name, t));
    case MZ_STATS_CONTAINS:
        return contains(name, t, ic);
    case MZ_STATS_REGEX:
        return mz_regex_full(r->regex, name);
    }
    return false;
}

static bool tags_build(struct mz_stats_config *c, const struct mz_stats_options *o,
                       struct mz_err *err)
{
    if (o->use_all_default_tags)
        (void)tags_add_default(&c->tags, (struct mz_str){ 0 });
    for (size_t i = 0; i < o->n_tags; i++) {
        struct mz_stats_tag t = o->tags[i];
        t.name = mz_arena_dup(c->arena, t.name);
        t.text = mz_arena_dup(c->arena, t.text);
        if (!tags_add(&c->tags, &t, err))
            return mz_err_at(err, "stats_tags[%zu]", i);
    }
    return true;
}

static bool rules_build(struct mz_stats_config *c, const struct mz_stats_options *o,
                        struct mz_err *err)
{
    c->filter = o->filter;
    c->rules = mz_arena_alloc0(c->arena, mz_mul(o->n_rules + 1, sizeof(*c->rules)));
    c->n_rules = o->n_rules;
    for (size_t i = 0; i < o->n_rules; i++)
        if (!rule_build(c->arena, &o->rules[i], &c->rules[i], err))
            return mz_err_at(err, "stats_matcher.%s.patterns[%zu]",
                             o->filter == MZ_STATS_INCLUDE ? "inclusion_list" : "exclusion_list",
                             i);
    return true;
}

static int double_cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool buckets_build(struct mz_stats_config *c, const struct mz_stats_options *o,
                          struct mz_err *err)
{
    c->buckets = mz_arena_alloc0(c->arena, mz_mul(o->n_buckets + 1, sizeof(*c->buckets)));
    c->n_buckets = o->n_buckets;
    for (size_t i = 0; i < o->n_buckets; i++) {
        const struct mz_stats_buckets_rule *in = &o->buckets[i];
        struct buckets *b = &c->buckets[i];
        b->n = in->n;
        b->bounds = mz_arena_alloc0(c->arena, mz_mul(in->n + 1, sizeof(double)));
        if (in->n)
            memcpy(b->bounds, in->bounds, in->n * sizeof(double));
        qsort(b->bounds, b->n, sizeof(double), double_cmp);
        if (!rule_build(c->arena, &in->match, &b->match, err))
            return mz_err_at(err, "histogram_bucket_settings[%zu].match", i);
    }
    return true;
}

struct mz_stats_config *mz_stats_config_build(const struct mz_stats_options *o, struct mz_err *err)
{
    struct mz_stats_config *c = mz_new0(MZ_MEM_STATS, struct mz_stats_config);
    c->arena = mz_arena_create(MZ_MEM_STATS);
    if (tags_build(c, o, err) && rules_build(c, o, err) && buckets_build(c, o, err))
        return c;
    mz_stats_config_destroy(c);
    return NULL;
}

void mz_stats_config_destroy(struct mz_stats_config *c)
{
    if (!c)
        return;
    tags_fini(&c->tags);
    for (size_t i = 0; c->rules && i < c->n_rules; i++)
        mz_regex_destroy(c->rules[i].regex);
    for (size_t i = 0; c->buckets && i < c->n_buckets; i++)
        mz_regex_destroy(c->buckets[i].match.regex);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_STATS, c);
}

struct mz_stats_config *config_default(void)
{
    struct mz_err err;
    return mz_stats_config_build(&(struct mz_stats_options){ .use_all_default_tags = true }, &err);
}

bool config_shows(const struct mz_stats_config *c, struct mz_str name)
{
    if (c->filter == MZ_STATS_ALL || c->filter == MZ_STATS_REJECT_ALL)
        return c->filter == MZ_STATS_ALL;
    bool any = false;
    for (size_t i = 0; i < c->n_rules && !any; i++)
        any = rule_matches(&c->rules[i], name);
    return any == (c->filter == MZ_STATS_INCLUDE);
}

void config_buckets(const struct mz_stats_config *c, struct mz_str name, const double **out_bounds,
                    size_t *out_n)
{
    *out_bounds = default_bounds;
    *out_n = MZ_COUNT(default_bounds);
    for (size_t i = 0; i < c->n_buckets; i++) {
        if (!rule_matches(&c->buckets[i].match, name))
            continue;
        *out_bounds = c->buckets[i].bounds;
        *out_n = c->buckets[i].n;
        return;
    }
}

unsigned config_tags(const struct mz_stats_config *c, struct mz_str name, struct mz_arena *a,
                     struct tag *out_tags, struct mz_str *out_rest)
{
    return tags_find(&c->tags, name, a, out_tags, out_rest);
}
