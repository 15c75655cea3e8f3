#ifndef MZ_STATS_TAGS_H
#define MZ_STATS_TAGS_H
/* Tag extraction: which parts of a full name become labels, and what is left of the name (O1). Immutable once built. */
#include "stats/stats_priv.h"

struct extractor {
    enum { BY_REGEX, BY_TOKENS, FIXED } kind;
    struct mz_str name;
    struct mz_str text;      /* tokens or the fixed value */
    struct mz_str substr;    /* a text without it cannot match; may be empty */
    struct mz_str not_value; /* this value is no tag; may be empty */
    struct mz_str first;     /* first token that names must have; empty: any */
    bool dot; /* the first word must not be the only one */
    struct mz_regex *regex;
};
typedef MZ_VEC(struct extractor) extractors;

/* Adds the default rules of that name, or all when name is empty. Returns how many. */
size_t tags_add_default(extractors *v, struct mz_str name);
/* A rule of the configuration; texts are borrowed. */
bool tags_add(extractors *v, const struct mz_stats_tag *t, struct mz_err *err);
void tags_fini(extractors *v);
unsigned tags_find(const extractors *v, struct mz_str name, struct mz_arena *a,
                   struct tag *out_tags, struct mz_str *out_rest);
#endif
