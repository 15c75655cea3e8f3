#ifndef MZ_STATS_STATS_PRIV_H
#define MZ_STATS_STATS_PRIV_H
#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/vec.h"
#include "stats/config.h"
#include "stats/histogram.h"
#include "stats/stats.h"
#include <pthread.h>

struct mz_regex;

/* ---- the store ---- */
struct code_counts { /* one family of one thread; 100 codes of a class appear at their first use */
    const char *family; /* the caller's pointer, compared first */
    char *name;         /* copy of the text */
    uint64_t *classes[10];
    struct code_counts *next;
};
struct cells { /* of one thread in one scope */
    struct mz_scope_cells pub;
    struct code_counts *codes;
};
struct code_base { /* what /reset_counters takes off */
    char *name;
    uint64_t counts[1000];
    struct code_base *next;
};
struct named_kind { /* mz_stat_kind_named() */
    struct named_kind *next;
    struct mz_stat_kind kind;
    struct mz_stat_def def;
    char text[]; /* of the kind: type and unit, then the name */
};
struct scope; /* there are thousands: each byte counts */
struct prefix {
    struct mz_list link;  /* in the store */
    struct scope *scopes; /* one a kind; with the last the prefix goes */
    size_t n;
    char text[];
};
struct first_values { /* one set for all scopes that began with it; with the last it goes */
    struct first_values *next;
    unsigned refs; /* under the store's mutex */
    unsigned n;
    uint64_t v[];
};
struct scope {
    struct mz_scope pub;
    struct scope *next; /* of the same prefix */
    unsigned refs;                    /* under the store's mutex */
    struct first_values *first; /* atomic; added to every sum; NULL: zeros */
    uint64_t *base;      /* kind->n numbers that /reset_counters takes off; NULL before */
    struct code_base *code_base;
    char **texts; /* kind->n, NULL before the first */
    struct mz_hist_view *
        *views; /* kind->n latched histograms; NULL before the first flush that found values */
    struct mz_scope_cells *slots[];
};
struct mz_stats {
    unsigned slots;
    pthread_mutex_t mutex; /* prefixes, scopes, firsts, refs, texts; never taken on the way of a request */
    struct mz_list prefixes;
    struct mz_list sources; /* main thread */
    struct mz_map by_prefix;
    struct first_values *firsts;
    const struct mz_stat_kind *deferred; /* mz_stats_defer(); NULL: none */
    MZ_VEC(struct mz_scope *) tagged; /* a reference each */
    struct named_kind *named;
    unsigned n_named;
    struct mz_stats_config
        *config; /* NULL: the default, which store_config() builds when first asked */
};
static inline struct scope *scope_of(struct mz_scope *s)
{
    return MZ_CONTAINER(s, struct scope, pub);
}
/* The prefix of a tagged scope: "ns." TAG_NAME "name" TAG_VALUE "value" TAG_NAME "name"... */
#define TAG_NAME  '\1'
#define TAG_VALUE '\2'
/* Every scope of the store, in the order of their prefixes' creation; the mutex is held. */
#define scopes_foreach(s, st)                                                                      \
    mz_list_foreach (link_, &(st)->prefixes)                                                       \
        for (struct scope *s = MZ_CONTAINER(link_, struct prefix, link)->scopes; s; s = s->next)
const struct mz_stats_config *store_config(struct mz_stats *s); /* main thread */
/* All scopes, each with a reference, those of sources too: what takes long goes on without the mutex, which first uses on workers
 * want. Main thread. */
typedef MZ_VEC(struct scope *) scopes_vec;
void scopes_hold(struct mz_stats *st, scopes_vec *out);
void scopes_release(struct mz_stats *st, scopes_vec *v);
uint64_t scope_value(const struct scope *s, unsigned i);
bool scope_used(const struct scope *s, unsigned i);
/* One code family summed over the threads. */
struct code_sums {
    const char *family;
    uint64_t counts[1000];
    bool used[1000];
};
typedef MZ_VEC(struct code_sums *) code_sums_vec;
void scope_code_sums(const struct scope *s, struct mz_arena *a, code_sums_vec *out_families);

/* ---- configuration ---- */
struct tag {
    struct mz_str name, value;
};
#define TAGS_MAX MZ_STATS_TAGS_MAX
struct mz_stats_config *config_default(void);
bool config_shows(const struct mz_stats_config *c, struct mz_str name);
void config_buckets(const struct mz_stats_config *c, struct mz_str name, const double **out_bounds,
                    size_t *out_n);
/* Finds the tags of a full name; the rest of the name without them lives in @a. */
unsigned config_tags(const struct mz_stats_config *c, struct mz_str name, struct mz_arena *a,
                     struct tag *out_tags, struct mz_str *out_rest);

/* ---- what is shown ---- */
struct item {
    struct mz_str name;
    struct mz_str tags; /* as in the prefix of a tagged scope; "": they are found in the name */
    struct mz_str rest; /* of one with tags: the name without them and without the namespace */
    uint64_t value;
    const struct mz_hist_view *view; /* NULL: no recorded values */
    const char *text;
    uint8_t type, unit;
};
typedef MZ_VEC(struct item) items;
/* The statistics that the query wants, sorted by name within each type; names live in @a. */
struct shown {
    struct mz_arena *arena;
    items texts, numbers, histograms;
};
void shown_init(struct shown *w, struct mz_stats *s, const struct mz_stats_query *q);
void shown_fini(struct shown *w);
int item_cmp(const void *a, const void *b);

/* Shortest decimal text that reads back as v; "nan", "inf". Returns out_text. */
#define DOUBLE_TEXT 40
const char *double_text(double v, char out_text[DOUBLE_TEXT]);
/* The same number in JSON: with an exponent where that is shorter; "null" when not finite. */
const char *double_json(double v, char out_text[DOUBLE_TEXT]);
#endif
