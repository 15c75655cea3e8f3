#ifndef MZ_FILTERS_HTTP_LOCAL_RATELIMIT_H
#define MZ_FILTERS_HTTP_LOCAL_RATELIMIT_H
/*
 * local_ratelimit (H9): tables of token buckets (local_ratelimit_bucket.c), limits and descriptors (local_ratelimit_config.c), the filter
 * (local_ratelimit.c). For src/filters/http/local_ratelimit*.c only.
 *
 * What is configured is immutable; the state is a struct lrl_limiter, one of each configuration for all workers, or one of each
 * client connection. It changes by atomics only: no lock, no timer; a bucket refills by the time that passed.
 */
#include "base/map.h"
#include "filters/token_bucket.h"
#include "hcm/filter.h"
#include "route/rate_limit.h"

/* ---- tables of buckets ---- */
/* Buckets of descriptors with values that requests choose: at most so many, the one not used for longest gives way. More than
 * LRL_WAYS are a set-associative table: then it gives way within its set. Two workers that bring the same new value at once may
 * make two. */
#define LRL_WAYS 64
struct lrl_slot {
    uint64_t key; /* 0: free */
    uint64_t used;
    token_bucket bucket;
};
struct lrl_table { /* zeroed memory and lrl_table_init() */
    uint32_t sets, ways;
    uint64_t clock; /* of uses */
    struct lrl_slot v[];
};
size_t lrl_table_bytes(uint32_t max);
void lrl_table_init(struct lrl_table *t, uint32_t max);
token_bucket *lrl_table_get(struct lrl_table *t, uint64_t hash);

/* ---- configuration ---- */
enum lrl_stat { LRL_ENABLED, LRL_ENFORCED, LRL_OK, LRL_RATE_LIMITED, LRL_SHADOW_MODE };
enum lrl_vhost { LRL_OVERRIDE, LRL_INCLUDE, LRL_IGNORE }; /* vh_rate_limits */
struct lrl_rule { /* of a descriptor */
    struct bucket_rate rate;
    struct mz_descriptor_entry *v; /* an empty value stands for any */
    size_t n;
    struct mz_str text;  /* "descriptors[0] user=*": for the story */
    struct mz_str exact; /* key of the map; "" when a value is free */
    uint32_t place;      /* among the buckets, or among the tables when a value is free */
};
struct lrl_limiter { /* mutable, atomics */
    token_bucket *buckets; /* [0] is the default one's */
    struct lrl_table **tables;
};
struct lrl_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct lrl_limiter *limiter; /* NULL: one a connection */
    uint64_t id;                 /* of this configuration, never used again: key of connections' limiters */
    bool has_default, always_default, headers, resource_exhausted;
    bool by_cluster; /* local_cluster_rate_limit: the members of the local cluster share the limits */
    struct bucket_rate rate; /* of the default bucket */
    struct mz_str text;   /* "the default bucket of lim" */
    struct lrl_rule *rules;
    struct lrl_rule **free_rules; /* those with a free value, in their order */
    uint32_t n_rules, n_free, max_dynamic;
    struct mz_map exact; /* lrl_key() -> rule */
    const struct mz_rate_limits *own; /* rate_limits of the filter; NULL: the route's count */
    unsigned stage, status;
    enum lrl_vhost vhost;
    struct mz_fraction enabled, enforced;
    struct mz_header_mutations response, request; /* when limited; when limited and not enforced */
    struct mz_str service_cluster;
};
void *lrl_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void *lrl_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void lrl_config_destroy(void *cfg);
struct lrl_limiter *lrl_limiter_create(const struct lrl_cfg *c);
void lrl_limiter_destroy(void *limiter);
struct mz_str lrl_key(const struct mz_descriptor_entry *v, size_t n, struct mz_arena *a);
/* The rule that an exact descriptor or one with a free value names; NULL: none. */
const struct lrl_rule *lrl_find(const struct lrl_cfg *c, const struct mz_descriptor *d, struct mz_str key);
#endif
