#include "upstream/stats.h"

#define X(id, name, type, unit, flags) { name, MZ_##type, MZ_UNIT_##unit, flags },
static const struct mz_stat_def cluster_defs[] = { MZ_CLUSTER_STATS(X) };
static const struct mz_stat_def member_defs[] = { MZ_CLUSTER_MEMBER_STATS(X) };
static const struct mz_stat_def circuit_defs[] = { MZ_CIRCUIT_STATS(X) };
/* Gauges of the breakers first: an index means the same in both kinds. */
static const struct mz_stat_def remaining_defs[] = { MZ_CIRCUIT_STATS(X)
                                                         MZ_CIRCUIT_REMAINING_STATS(X) };
static const struct mz_stat_def manager_defs[] = { MZ_CLUSTER_MANAGER_STATS(X) };
static const struct mz_stat_def http1_defs[] = { MZ_HTTP1_CODEC_STATS(X) };
#undef X

const struct mz_stat_kind mz_cluster_stats = { "cluster", cluster_defs, MZ_COUNT(cluster_defs) };
const struct mz_stat_kind mz_cluster_member_stats = { "cluster_members", member_defs,
                                                      MZ_COUNT(member_defs) };
const struct mz_stat_kind mz_circuit_stats = { "circuit", circuit_defs, MZ_COUNT(circuit_defs) };
const struct mz_stat_kind mz_circuit_remaining_stats = { "circuit_remaining", remaining_defs,
                                                         MZ_COUNT(remaining_defs) };
const struct mz_stat_kind mz_cluster_manager_stats = { "cluster_manager", manager_defs,
                                                       MZ_COUNT(manager_defs) };
const struct mz_stat_kind mz_http1_codec_stats = { "http1_codec", http1_defs,
                                                   MZ_COUNT(http1_defs) };
