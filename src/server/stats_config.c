/* The bootstrap's stats_config message as the plain values that stats/config.h takes (O1). */
#include "server/server.h"
#include "stats/config.h"

static struct mz_stats_rule rule(const pb_StringMatcher *m)
{
    struct mz_stats_rule r = { .kind = MZ_STATS_PREFIX,
                               .text = MZ_STR("") }; /* without a pattern: everything */
    if (!m)
        return r;
    r.ignore_case = m->ignore_case;
    switch (m->match_pattern_case) {
    case pb_StringMatcher_MATCH_PATTERN_EXACT:
        r.kind = MZ_STATS_EXACT;
        r.text = mz_str_c(m->exact);
        break;
    case pb_StringMatcher_MATCH_PATTERN_PREFIX:
        r.text = mz_str_c(m->prefix);
        break;
    case pb_StringMatcher_MATCH_PATTERN_SUFFIX:
        r.kind = MZ_STATS_SUFFIX;
        r.text = mz_str_c(m->suffix);
        break;
    case pb_StringMatcher_MATCH_PATTERN_CONTAINS:
        r.kind = MZ_STATS_CONTAINS;
        r.text = mz_str_c(m->contains);
        break;
    case pb_StringMatcher_MATCH_PATTERN_SAFE_REGEX:
        r.kind = MZ_STATS_REGEX;
        r.text = mz_str_c(m->safe_regex->regex);
        break;
    default:
        break;
    }
    return r;
}

static void filter_build(const pb_StatsMatcher *m, struct mz_stats_options *o, struct mz_arena *a)
{
    const pb_ListStringMatcher *list = NULL;
    switch (m ? m->stats_matcher_case : pb_StatsMatcher_STATS_MATCHER__NOT_SET) {
    case pb_StatsMatcher_STATS_MATCHER_REJECT_ALL:
        o->filter = m->reject_all ? MZ_STATS_REJECT_ALL : MZ_STATS_ALL;
        return;
    case pb_StatsMatcher_STATS_MATCHER_EXCLUSION_LIST:
        o->filter = MZ_STATS_EXCLUDE;
        list = m->exclusion_list;
        break;
    case pb_StatsMatcher_STATS_MATCHER_INCLUSION_LIST:
        o->filter = MZ_STATS_INCLUDE;
        list = m->inclusion_list;
        break;
    default:
        return;
    }
    struct mz_stats_rule *rules =
        mz_arena_alloc0(a, mz_mul(list->n_patterns ? list->n_patterns : 1, sizeof(*rules)));
    for (size_t i = 0; i < list->n_patterns; i++)
        rules[i] = rule(list->patterns[i]);
    o->rules = rules;
    o->n_rules = list->n_patterns;
}

static struct mz_stats_tag tag(const pb_TagSpecifier *m)
{
    struct mz_stats_tag t = { .kind = MZ_STATS_TAG_DEFAULT, .name = mz_str_c(m->tag_name) };
    if (m->tag_value_case == pb_TagSpecifier_TAG_VALUE_REGEX) {
        t.kind = MZ_STATS_TAG_REGEX;
        t.text = mz_str_c(m->regex);
    } else if (m->tag_value_case == pb_TagSpecifier_TAG_VALUE_FIXED_VALUE) {
        t.kind = MZ_STATS_TAG_FIXED;
        t.text = mz_str_c(m->fixed_value);
    }
    return t;
}

struct mz_stats_config *mz_stats_config_from(const pb_StatsConfig *m, struct mz_arena *a,
                                             struct mz_err *err)
{
    struct mz_stats_options o = { .use_all_default_tags = true };
    if (!m)
        return mz_stats_config_build(&o, err);
    o.use_all_default_tags = mz_bool_or(m->use_all_default_tags, true);
    struct mz_stats_tag *tags =
        mz_arena_alloc0(a, mz_mul(m->n_stats_tags ? m->n_stats_tags : 1, sizeof(*tags)));
    for (size_t i = 0; i < m->n_stats_tags; i++)
        tags[i] = tag(m->stats_tags[i]);
    o.tags = tags;
    o.n_tags = m->n_stats_tags;
    filter_build(m->stats_matcher, &o, a);
    size_t n = m->n_histogram_bucket_settings;
    struct mz_stats_buckets_rule *b = mz_arena_alloc0(a, mz_mul(n ? n : 1, sizeof(*b)));
    for (size_t i = 0; i < n; i++) {
        const pb_HistogramBucketSettings *h = m->histogram_bucket_settings[i];
        b[i] = (struct mz_stats_buckets_rule){ rule(h->match), h->buckets, h->n_buckets };
    }
    o.buckets = b;
    o.n_buckets = n;
    return mz_stats_config_build(&o, err);
}
