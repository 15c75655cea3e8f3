#ifndef MZ_STATS_STATS_H
#define MZ_STATS_STATS_H
/*
 * Statistics (O1, design.md 9). A kind is a static table of names; a scope is one object's numbers of that kind
 * ("cluster.one."). Each thread adds into its own array, which appears at its first write: a scope that nothing touched
 * costs its header only, and counting is one plain add (relaxed store). Readers sum over the threads.
 *
 * Slots: 0 is the main thread, 1..MZ_STATS_SLOTS-1 the workers; mz_stats_thread_slot() once per thread.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum mz_stat_type { MZ_COUNTER, MZ_GAUGE, MZ_HISTOGRAM, MZ_TEXT };
enum mz_stat_unit { MZ_UNIT_NONE, MZ_UNIT_BYTES, MZ_UNIT_US, MZ_UNIT_MS, MZ_UNIT_PERCENT };
enum { MZ_STAT_LAZY = 1 /* exists only once written, as Envoy's upstream_rq_2xx */, MZ_STAT_HIDDEN = 2 /* never shown */,
       MZ_STAT_NEVER_IMPORT = 4 };
struct mz_stat_def {
    const char *name; /* behind the scope's prefix: "upstream_rq_total" */
    uint8_t type, unit, flags;
};
struct mz_stat_kind {
    const char *name;
    const struct mz_stat_def *defs;
    uint16_t n;
};

#define MZ_STATS_SLOTS 129
struct mz_stats;       /* the store: one per process, plus as many as tests like */
struct mz_scope_cells; /* per slot */
struct mz_scope {
    struct mz_scope_cells **slots; /* MZ slots in use; each NULL until first written by its thread */
    const struct mz_stat_kind *kind;
    struct mz_stats *store;
    struct mz_str prefix;
    /* private fields follow in stats_priv.h */
};
struct mz_scope_cells {
    uint64_t *v;    /* kind->n numbers */
    uint8_t *used;  /* kind->n flags: was it ever written (usedonly, MZ_STAT_LAZY) */
};

extern _Thread_local unsigned mz_stats_slot;
void mz_stats_thread_slot(unsigned slot);

struct mz_stats *mz_stats_create(unsigned slots /* workers + 1 */);
void mz_stats_destroy(struct mz_stats *s); /* all scopes must be gone in test builds */

/* Any thread may create, ref, unref; a scope of the same prefix and kind is shared (a listener that is replaced keeps its
 * counters). @prefix ends with a dot: "cluster.one."; bytes that are odd in names (':') are kept as given by the caller. */
struct mz_scope *mz_scope_create(struct mz_stats *s, const struct mz_stat_kind *kind, struct mz_str prefix);
struct mz_scope *mz_scope_ref(struct mz_scope *s);
void mz_scope_unref(struct mz_scope *s);

/* Statistics with tags that are given, not found in the name: "<ns>.<def>.<tag>.<value>..." in text, <def>{<tag>="<value>",...} of
 * Prometheus, whose names have neither @ns nor "envoy_" in front. They stay until the store goes, for their tags come from traffic
 * and nobody else knows them; there are at most MZ_STATS_TAGGED_MAX (E13). Bytes of names and values that are no text become '_'. Any thread.
 * The scope is borrowed of the store. NULL: there are too many. */
#define MZ_STATS_TAGGED_MAX 20000
#define MZ_STATS_TAGS_MAX   48
struct mz_stat_tag {
    struct mz_str name, value;
};
struct mz_scope *mz_scope_tagged(struct mz_stats *s, const struct mz_stat_kind *kind, struct mz_str ns, const struct mz_stat_tag *tags,
                                 unsigned n);

/* A kind of one statistic whose name a configuration chose; of the store, as its scopes: the same again for the same name, type and
 * unit. NULL: there are MZ_STATS_NAMED_MAX (E13), or the name is empty, too long or no printable text. Any thread. */
#define MZ_STATS_NAMED_MAX 1000
#define MZ_STATS_NAME_MAX  256
const struct mz_stat_kind *mz_stat_kind_named(struct mz_stats *s, struct mz_str name, enum mz_stat_type type, enum mz_stat_unit unit);

struct mz_scope_cells *mz_scope_cells_create(struct mz_scope *s); /* slow path of mz_count(); this thread's slot */

static inline __attribute__((always_inline)) uint64_t *mz_cell(struct mz_scope *s, unsigned i)
{
    struct mz_scope_cells *c = s->slots[mz_stats_slot];
    if (MZ_UNLIKELY(!c))
        c = mz_scope_cells_create(s);
    __atomic_store_n(&c->used[i], 1, __ATOMIC_RELAXED);
    return &c->v[i];
}
static inline void mz_count(struct mz_scope *s, unsigned i, uint64_t n) /* counter i of the kind's table */
{
    uint64_t *v = mz_cell(s, i);
    __atomic_store_n(v, *v + n, __ATOMIC_RELAXED);
}
static inline void mz_gauge_add(struct mz_scope *s, unsigned i, int64_t n) /* summed over threads: inc and dec may differ in thread */
{
    uint64_t *v = mz_cell(s, i);
    __atomic_store_n(v, *v + (uint64_t)n, __ATOMIC_RELAXED);
}
void mz_gauge_set(struct mz_scope *s, unsigned i, uint64_t v); /* a gauge that one thread only writes */
void mz_gauge_set_shared(struct mz_scope *s, unsigned i, uint64_t v); /* by any thread, the last one counts; nothing else writes in the scope */
/* Writes the first @n counters and gauges of a scope that nobody wrote to yet; false: somebody did, nothing changed. Scopes
 * of one kind that begin alike share these numbers: thousands of clusters with one host each have none of their own. */
bool mz_scope_begin(struct mz_scope *s, const uint64_t *values, unsigned n);
void mz_hist_record(struct mz_scope *s, unsigned i, uint64_t v); /* MZ_UNIT_PERCENT: in millionths */
void mz_text_set(struct mz_scope *s, unsigned i, struct mz_str text); /* main thread */

/* Response codes: family "upstream_rq_" gives upstream_rq_<code> and upstream_rq_<n>xx... Each appears at first use.
 * @family points to a string literal that is the same pointer at each call or an interned name; code is 0..999. */
void mz_count_code(struct mz_scope *s, const char *family, unsigned code); /* adds 1 to <family><code>; <family>2xx is their sum */

uint64_t mz_scope_value(const struct mz_scope *s, unsigned i); /* sum over slots; for admin pages, tests, /clusters */
bool mz_stats_find(struct mz_stats *s, struct mz_str full_name, uint64_t *out_value); /* counters and gauges; tests */

/* ---- configuration (bootstrap stats_config), before other scopes are made ---- */
struct mz_stats_config; /* built by mz_stats_config_build() in stats/config.h from the message */
void mz_stats_configure(struct mz_stats *s, struct mz_stats_config *take);

/* Scopes of this kind are shown once somebody wrote to them (deferred_stat_options); before there are others. */
void mz_stats_defer(struct mz_stats *s, const struct mz_stat_kind *kind);

/* Statistics of objects that do not exist yet, though a page tells of them: show() makes their scopes, hide() lets them go when the
 * page has what it needs; reset() is POST /reset_counters (scopes of the store are not its business). Embedded; main thread. */
struct mz_stats_source {
    struct mz_list link;
    void (*show)(struct mz_stats_source *s);
    void (*hide)(struct mz_stats_source *s);
    void (*reset)(struct mz_stats_source *s);
};
void mz_stats_add_source(struct mz_stats *s, struct mz_stats_source *source);
void mz_stats_del_source(struct mz_stats_source *source);
/* Is @s of others, too? Only a hint where other threads make scopes. */
bool mz_scope_shared(const struct mz_scope *s);
/* Main thread, of a scope that show() made: its histograms are shown as a flush would have left them, without an interval. */
void mz_scope_latch(struct mz_scope *s);

/* ---- output (main thread) ---- */
enum mz_stats_buckets { MZ_BUCKETS_DEFAULT, MZ_BUCKETS_CUMULATIVE, MZ_BUCKETS_DISJOINT, MZ_BUCKETS_DETAILED, MZ_BUCKETS_SUMMARY };
struct mz_regex;
struct mz_stats_query {
    bool usedonly, text_readouts, invert_filter;
    const struct mz_regex *filter; /* NULL: all */
    unsigned types;                /* bit per enum mz_stat_type; 0: all */
    enum mz_stats_buckets buckets;
};
void mz_stats_text(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out);       /* as Envoy's /stats */
void mz_stats_json(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out);       /* ?format=json */
void mz_stats_prometheus(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out); /* ?format=prometheus */
void mz_stats_flush(struct mz_stats *s);          /* each stats_flush_interval: latches the interval histograms */
void mz_stats_reset_counters(struct mz_stats *s); /* POST /reset_counters */
#endif
