#include "upstream/stats.h"

#define X(id, name, type, unit, flags) { name, MZ_##type, MZ_UNIT_##unit, flags },
static const struct mz_stat_def cluster_defs[] = { MZ_CLUSTER_STATS(X) };
#define GAUGE(name)                                                                                \
    {                                                                                              \
        name, MZ_GAUGE, MZ_UNIT_NONE, 0                                                            \
    }
#define OPEN(which)                                                                                \
    GAUGE("circuit_breakers." which ".cx_open"),                                                   \
        GAUGE("circuit_breakers." which ".rq_pending_open"),                                       \
        GAUGE("circuit_breakers." which ".rq_open"),                                               \
        GAUGE("circuit_breakers." which ".rq_retry_open"),                                         \
        GAUGE("circuit_breakers." which ".cx_pool_open")
#define REMAINING(which)                                                                           \
    GAUGE("circuit_breakers." which ".remaining_cx"),                                              \
        GAUGE("circuit_breakers." which ".remaining_pending"),                                     \
        GAUGE("circuit_breakers." which ".remaining_rq"),                                          \
        GAUGE("circuit_breakers." which ".remaining_retries"),                                     \
        GAUGE("circuit_breakers." which ".remaining_cx_pools")
static const struct mz_stat_def member_defs[] = { MZ_CLUSTER_MEMBER_STATS(X) OPEN("default"),
                                                  OPEN("high") };
static const struct mz_stat_def member_default_defs[] = { MZ_CLUSTER_MEMBER_STATS(X)
                                                              OPEN("default"),
                                                          OPEN("high"), REMAINING("default") };
static const struct mz_stat_def member_high_defs[] = { MZ_CLUSTER_MEMBER_STATS(X) OPEN("default"),
                                                       OPEN("high"), REMAINING("high") };
static const struct mz_stat_def member_both_defs[] = { MZ_CLUSTER_MEMBER_STATS(X) OPEN("default"),
                                                       OPEN("high"), REMAINING("default"),
                                                       REMAINING("high") };
static const struct mz_stat_def alt_defs[] = { MZ_CLUSTER_ALT_STATS(X) };
static const struct mz_stat_def outlier_defs[] = { MZ_OUTLIER_STATS(X) };
static const struct mz_stat_def health_check_defs[] = { MZ_HEALTH_CHECK_STATS(X) };
static const struct mz_stat_def router_defs[] = { MZ_ROUTER_STATS(X) };
static const struct mz_stat_def manager_defs[] = { MZ_CLUSTER_MANAGER_STATS(X) };
static const struct mz_stat_def http1_defs[] = { MZ_HTTP1_CODEC_STATS(X) };
static const struct mz_stat_def thread_defs[] = { { "clusters_inflated", MZ_GAUGE, MZ_UNIT_NONE,
                                                    0 } };
#undef X

const struct mz_stat_kind mz_cluster_stats = { "cluster", cluster_defs, MZ_COUNT(cluster_defs) };
/* What the subscription of an EDS cluster counts under the same names is hidden here. */
#define SUBSCRIBED(id)                                                                             \
    ((MZ_CS_##id) == MZ_CS_UPDATE_ATTEMPT || (MZ_CS_##id) == MZ_CS_UPDATE_FAILURE ||               \
             (MZ_CS_##id) == MZ_CS_UPDATE_SUCCESS || (MZ_CS_##id) == MZ_CS_VERSION                 \
         ? MZ_STAT_HIDDEN                                                                          \
         : 0)
#define X(id, name, type, unit, flags)                                                             \
    { name, MZ_##type, MZ_UNIT_##unit, (flags) | SUBSCRIBED(id) },
static const struct mz_stat_def eds_cluster_defs[] = { MZ_CLUSTER_STATS(X) };
#undef X
const struct mz_stat_kind mz_eds_cluster_stats = { "cluster", eds_cluster_defs,
                                                   MZ_COUNT(eds_cluster_defs) };
const struct mz_stat_kind mz_cluster_member_stats[4] = {
    { "cluster_members", member_defs, MZ_COUNT(member_defs) },
    { "cluster_members_default", member_default_defs, MZ_COUNT(member_default_defs) },
    { "cluster_members_high", member_high_defs, MZ_COUNT(member_high_defs) },
    { "cluster_members_both", member_both_defs, MZ_COUNT(member_both_defs) },
};
const struct mz_stat_kind mz_cluster_alt_stats = { "cluster_alt", alt_defs, MZ_COUNT(alt_defs) };
const struct mz_stat_kind mz_outlier_stats = { "outlier", outlier_defs, MZ_COUNT(outlier_defs) };
const struct mz_stat_kind mz_health_check_stats = { "health_check", health_check_defs,
                                                    MZ_COUNT(health_check_defs) };
const struct mz_stat_kind mz_router_stats = { "router", router_defs, MZ_RS__COUNT };
const struct mz_stat_kind mz_cluster_manager_stats = { "cluster_manager", manager_defs,
                                                       MZ_COUNT(manager_defs) };
const struct mz_stat_kind mz_http1_codec_stats = { "http1_codec", http1_defs,
                                                   MZ_COUNT(http1_defs) };
const struct mz_stat_kind mz_thread_cluster_stats = { "thread_clusters", thread_defs,
                                                      MZ_COUNT(thread_defs) };
