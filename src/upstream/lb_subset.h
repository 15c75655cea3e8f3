#ifndef MZ_UPSTREAM_LB_SUBSET_H
#define MZ_UPSTREAM_LB_SUBSET_H
/*
 * Subsets (U2): the hosts of a cluster by what their metadata `envoy.lb` says under the keys of a selector. An index of all
 * subsets belongs to a cluster's host sets: immutable, made once, shared by all workers. A request's metadata finds its subset
 * by one hash of the values, however many hosts or subsets there are.
 */
#include "upstream/upstream_priv.h"

enum subset_policy { /* where no subset has the request's values; numbers as in the selector's message */
    SUBSET_NOT_DEFINED, /* of a selector: as the whole cluster says */
    SUBSET_NO_FALLBACK,
    SUBSET_ANY_ENDPOINT,
    SUBSET_DEFAULT,
    SUBSET_KEYS, /* once more with fewer keys */
};
struct subset_selector {
    uint32_t *keys; /* indices of names, ascending */
    uint32_t n_keys;
    bool single_host;
    enum subset_policy fallback;
    uint32_t *kept; /* SUBSET_KEYS: which of the names stay */
    uint32_t n_kept;
};
struct subset_config { /* immutable; the cluster's */
    struct mz_str *names; /* the keys of all selectors, sorted */
    uint32_t n_names;
    struct subset_selector *v; /* no two with the same keys */
    uint32_t n;
    enum subset_policy fallback;            /* not SUBSET_NOT_DEFINED, not SUBSET_KEYS */
    const struct mz_value *default_subset; /* a struct; NULL: every host */
    bool needs_any, needs_default;
    bool locality_weight_aware, scale_locality_weight;
    bool panic_mode_any, list_as_any, fallback_list;
    bool allow_redundant_keys;
    struct mz_scope *scope; /* lb_subsets_single_host_per_subset_duplicate */
};
/* From lb_subset_config; @out_config NULL where it names no selector. */
bool subset_config_build(const pb_Cluster_LbSubsetConfig *m, struct mz_cluster *c,
                         struct subset_config **out_config, struct mz_err *err);

void subset_scope(struct subset_config *cfg, struct mz_stats *st, struct mz_str prefix);

struct subset {
    uint32_t selector;
    const struct mz_value **values; /* of the selector's keys; borrowed from a host */
    uint64_t hash;
    struct host_sets *sets; /* one reference */
    struct mz_host *single; /* single_host_per_subset: borrowed, else NULL */
    struct mz_str text;     /* "subset {version=v2} has 1 host" */
};
#define SUBSETS_MAX      100000u /* of a cluster; further combinations of values are left out, with a warning */
#define SUBSETS_HOST_MAX 10000u  /* of one host: lists under several keys multiply */
#define SUBSET_NONE      UINT32_MAX
struct subsets {
    const struct subset_config *cfg;
    struct subset *v; /* @n by values, then, where they are needed, those of any host and of default_subset */
    uint32_t n, total;
    uint32_t any, standard; /* index or SUBSET_NONE */
    uint32_t *slots, mask;  /* open addressing: index + 1, 0 is free */
    uint64_t duplicates;    /* hosts beyond the first of single-host subsets */
};
/* Sorts the hosts of @s into subsets; @s owns the result. Before @s is shared. */
void subsets_build(const struct subset_config *cfg, struct host_sets *s);
void subsets_fini(struct subsets *x); /* NULL is fine */
/* The subset of @values (by the selector's keys), or SUBSET_NONE. */
uint32_t subsets_find(const struct subsets *x, uint32_t selector,
                      const struct mz_value *const *values);
/* Gauge and counters of this thread's view: @old, @now may be NULL. */
void subsets_count(struct mz_scope *scope, const struct subsets *old, const struct subsets *now);

/* One worker's choice. */
struct mz_host *subset_choose(struct lb *b, struct mz_lb_ctx *ctx);
void subset_follow(struct lb *b, const struct host_sets *old); /* b->sets are new */
void subset_drop(struct lb *b);
#endif
