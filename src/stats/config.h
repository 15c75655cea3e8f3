#ifndef MZ_STATS_CONFIG_H
#define MZ_STATS_CONFIG_H
/*
 * The bootstrap's stats_config as plain values (whoever reads the message fills them in): additional tags, which statistics
 * are shown, histogram buckets (O1). Main thread, before scopes are made.
 */
#include "base/err.h"
#include "base/str.h"
#include "stats/stats.h"
#include <stdbool.h>
#include <stddef.h>

enum mz_stats_match {
    MZ_STATS_EXACT,
    MZ_STATS_PREFIX,
    MZ_STATS_SUFFIX,
    MZ_STATS_CONTAINS,
    MZ_STATS_REGEX
};
struct mz_stats_rule { /* a StringMatcher on the whole name */
    enum mz_stats_match kind;
    bool ignore_case; /* not for regexes */
    struct mz_str text;
};
enum mz_stats_tag_kind {
    MZ_STATS_TAG_DEFAULT, /* neither regex nor value: the default rules of that name */
    MZ_STATS_TAG_REGEX,
    MZ_STATS_TAG_FIXED,
};
struct mz_stats_tag {
    enum mz_stats_tag_kind kind;
    struct mz_str name, text; /* text: the regex or the fixed value */
};
struct mz_stats_buckets_rule {
    struct mz_stats_rule match;
    const double *bounds; /* upper ends; sorted here */
    size_t n;
};
enum mz_stats_filter { MZ_STATS_ALL, MZ_STATS_REJECT_ALL, MZ_STATS_INCLUDE, MZ_STATS_EXCLUDE };
struct mz_stats_options {
    bool use_all_default_tags;       /* true when the field is absent */
    const struct mz_stats_tag *tags; /* command line first, then the file */
    size_t n_tags;
    enum mz_stats_filter filter; /* stats_matcher; INCLUDE and EXCLUDE look at rules */
    const struct mz_stats_rule *rules;
    size_t n_rules;
    const struct mz_stats_buckets_rule *buckets;
    size_t n_buckets;
};

/* Copies what it needs. NULL: err has the path within stats_config ("stats_tags[0]: ...") and the reason. */
struct mz_stats_config *mz_stats_config_build(const struct mz_stats_options *o, struct mz_err *err);
void mz_stats_config_destroy(struct mz_stats_config *c);
#endif
