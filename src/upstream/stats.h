#ifndef MZ_UPSTREAM_STATS_H
#define MZ_UPSTREAM_STATS_H
/* cluster.<name>. statistics, Envoy's names (table in stats.c). X(identifier, "name", TYPE, UNIT, flags) */
#include "stats/stats.h"
#define MZ_CLUSTER_STATS(X)                                                                                            \
    X(ASSIGNMENT_STALE, "assignment_stale", COUNTER, NONE, 0)                                                          \
    X(ASSIGNMENT_TIMEOUT_RECEIVED, "assignment_timeout_received", COUNTER, NONE, 0)                                    \
    X(ASSIGNMENT_USE_CACHED, "assignment_use_cached", COUNTER, NONE, 0)                                                \
    X(BIND_ERRORS, "bind_errors", COUNTER, NONE, 0)                                                                    \
    X(LB_HEALTHY_PANIC, "lb_healthy_panic", COUNTER, NONE, 0)                                                          \
    X(LB_LOCAL_CLUSTER_NOT_OK, "lb_local_cluster_not_ok", COUNTER, NONE, 0)                                            \
    X(LB_RECALCULATE_ZONE_STRUCTURES, "lb_recalculate_zone_structures", COUNTER, NONE, 0)                              \
    X(LB_SUBSETS_ACTIVE, "lb_subsets_active", GAUGE, NONE, 0)                                                          \
    X(LB_SUBSETS_CREATED, "lb_subsets_created", COUNTER, NONE, 0)                                                      \
    X(LB_SUBSETS_FALLBACK, "lb_subsets_fallback", COUNTER, NONE, 0)                                                    \
    X(LB_SUBSETS_FALLBACK_PANIC, "lb_subsets_fallback_panic", COUNTER, NONE, 0)                                        \
    X(LB_SUBSETS_REMOVED, "lb_subsets_removed", COUNTER, NONE, 0)                                                      \
    X(LB_SUBSETS_SELECTED, "lb_subsets_selected", COUNTER, NONE, 0)                                                    \
    X(LB_ZONE_CLUSTER_TOO_SMALL, "lb_zone_cluster_too_small", COUNTER, NONE, 0)                                        \
    X(LB_ZONE_NO_CAPACITY_LEFT, "lb_zone_no_capacity_left", COUNTER, NONE, 0)                                          \
    X(LB_ZONE_ROUTING_ALL_DIRECTLY, "lb_zone_routing_all_directly", COUNTER, NONE, 0)                                  \
    X(LB_ZONE_ROUTING_CROSS_ZONE, "lb_zone_routing_cross_zone", COUNTER, NONE, 0)                                      \
    X(LB_ZONE_ROUTING_SAMPLED, "lb_zone_routing_sampled", COUNTER, NONE, 0)                                            \
    X(ORIGINAL_DST_HOST_INVALID, "original_dst_host_invalid", COUNTER, NONE, 0)                                        \
    X(RETRY_OR_SHADOW_ABANDONED, "retry_or_shadow_abandoned", COUNTER, NONE, 0)                                        \
    X(UPDATE_ATTEMPT, "update_attempt", COUNTER, NONE, 0) X(UPDATE_EMPTY, "update_empty", COUNTER, NONE, 0)            \
    X(UPDATE_FAILURE, "update_failure", COUNTER, NONE, 0) X(UPDATE_NO_REBUILD, "update_no_rebuild", COUNTER, NONE, 0)  \
    X(UPDATE_SUCCESS, "update_success", COUNTER, NONE, 0)                                                              \
    X(CX_ACTIVE, "upstream_cx_active", GAUGE, NONE, 0)                                                                 \
    X(CX_CLOSE_NOTIFY, "upstream_cx_close_notify", COUNTER, NONE, 0)                                                   \
    X(CX_CONNECT_ATTEMPTS_EXCEEDED, "upstream_cx_connect_attempts_exceeded", COUNTER, NONE, 0)                         \
    X(CX_CONNECT_FAIL, "upstream_cx_connect_fail", COUNTER, NONE, 0) X(CX_CONNECT_MS, "upstream_cx_connect_ms", HISTOGRAM, MS, 0) \
    X(CX_CONNECT_TIMEOUT, "upstream_cx_connect_timeout", COUNTER, NONE, 0)                                             \
    X(CX_CONNECT_WITH_0_RTT, "upstream_cx_connect_with_0_rtt", COUNTER, NONE, 0)                                       \
    X(CX_DESTROY, "upstream_cx_destroy", COUNTER, NONE, 0) X(CX_DESTROY_LOCAL, "upstream_cx_destroy_local", COUNTER, NONE, 0) \
    X(CX_DESTROY_LOCAL_WITH_ACTIVE_RQ, "upstream_cx_destroy_local_with_active_rq", COUNTER, NONE, 0)                   \
    X(CX_DESTROY_REMOTE, "upstream_cx_destroy_remote", COUNTER, NONE, 0)                                               \
    X(CX_DESTROY_REMOTE_WITH_ACTIVE_RQ, "upstream_cx_destroy_remote_with_active_rq", COUNTER, NONE, 0)                 \
    X(CX_DESTROY_WITH_ACTIVE_RQ, "upstream_cx_destroy_with_active_rq", COUNTER, NONE, 0)                               \
    X(CX_HTTP1_TOTAL, "upstream_cx_http1_total", COUNTER, NONE, 0) X(CX_HTTP2_TOTAL, "upstream_cx_http2_total", COUNTER, NONE, 0) \
    X(CX_HTTP3_TOTAL, "upstream_cx_http3_total", COUNTER, NONE, 0)                                                     \
    X(CX_IDLE_TIMEOUT, "upstream_cx_idle_timeout", COUNTER, NONE, 0) X(CX_LENGTH_MS, "upstream_cx_length_ms", HISTOGRAM, MS, 0) \
    X(CX_MAX_DURATION_REACHED, "upstream_cx_max_duration_reached", COUNTER, NONE, 0)                                   \
    X(CX_MAX_REQUESTS, "upstream_cx_max_requests", COUNTER, NONE, 0)                                                   \
    X(CX_NONE_HEALTHY, "upstream_cx_none_healthy", COUNTER, NONE, 0) X(CX_OVERFLOW, "upstream_cx_overflow", COUNTER, NONE, 0) \
    X(CX_POOL_OVERFLOW, "upstream_cx_pool_overflow", COUNTER, NONE, 0)                                                 \
    X(CX_PROTOCOL_ERROR, "upstream_cx_protocol_error", COUNTER, NONE, 0)                                               \
    X(CX_RX_BYTES_BUFFERED, "upstream_cx_rx_bytes_buffered", GAUGE, BYTES, 0)                                          \
    X(CX_RX_BYTES_TOTAL, "upstream_cx_rx_bytes_total", COUNTER, BYTES, 0) X(CX_TOTAL, "upstream_cx_total", COUNTER, NONE, 0) \
    X(CX_TX_BYTES_BUFFERED, "upstream_cx_tx_bytes_buffered", GAUGE, BYTES, 0)                                          \
    X(CX_TX_BYTES_TOTAL, "upstream_cx_tx_bytes_total", COUNTER, BYTES, 0)                                              \
    X(FLOW_BACKED_UP, "upstream_flow_control_backed_up_total", COUNTER, NONE, 0)                                       \
    X(FLOW_DRAINED, "upstream_flow_control_drained_total", COUNTER, NONE, 0)                                           \
    X(FLOW_PAUSED, "upstream_flow_control_paused_reading_total", COUNTER, NONE, 0)                                     \
    X(FLOW_RESUMED, "upstream_flow_control_resumed_reading_total", COUNTER, NONE, 0)                                   \
    X(HTTP3_BROKEN, "upstream_http3_broken", COUNTER, NONE, 0)                                                         \
    X(INTERNAL_REDIRECT_FAILED, "upstream_internal_redirect_failed_total", COUNTER, NONE, 0)                           \
    X(INTERNAL_REDIRECT_SUCCEEDED, "upstream_internal_redirect_succeeded_total", COUNTER, NONE, 0)                     \
    X(CANARY_RQ_COMPLETED, "canary.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                                \
    X(CANARY_RQ_TIME, "canary.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                          \
    X(EXTERNAL_RQ_COMPLETED, "external.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                            \
    X(EXTERNAL_RQ_TIME, "external.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                      \
    X(INTERNAL_RQ_COMPLETED, "internal.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                            \
    X(INTERNAL_RQ_TIME, "internal.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                      \
    X(RETRY_RQ_COMPLETED, "retry.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                                  \
    X(RQ_0RTT, "upstream_rq_0rtt", COUNTER, NONE, 0) X(RQ_ACTIVE, "upstream_rq_active", GAUGE, NONE, 0)                \
    X(RQ_ACTIVE_OVERFLOW, "upstream_rq_active_overflow", COUNTER, NONE, 0)                                             \
    X(RQ_CANCELLED, "upstream_rq_cancelled", COUNTER, NONE, 0)                                                         \
    X(RQ_COMPLETED, "upstream_rq_completed", COUNTER, NONE, 0)                                                         \
    X(RQ_TIME, "upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                                        \
    X(RQ_MAINTENANCE_MODE, "upstream_rq_maintenance_mode", COUNTER, NONE, 0)                                           \
    X(RQ_MAX_DURATION_REACHED, "upstream_rq_max_duration_reached", COUNTER, NONE, 0)                                   \
    X(RQ_PENDING_ACTIVE, "upstream_rq_pending_active", GAUGE, NONE, 0)                                                 \
    X(RQ_PENDING_FAILURE_EJECT, "upstream_rq_pending_failure_eject", COUNTER, NONE, 0)                                 \
    X(RQ_PENDING_OVERFLOW, "upstream_rq_pending_overflow", COUNTER, NONE, 0)                                           \
    X(RQ_PENDING_TOTAL, "upstream_rq_pending_total", COUNTER, NONE, 0)                                                 \
    X(RQ_PER_CX, "upstream_rq_per_cx", HISTOGRAM, NONE, 0)                                                             \
    X(RQ_PER_TRY_IDLE_TIMEOUT, "upstream_rq_per_try_idle_timeout", COUNTER, NONE, 0)                                   \
    X(RQ_PER_TRY_TIMEOUT, "upstream_rq_per_try_timeout", COUNTER, NONE, 0) X(RQ_RETRY, "upstream_rq_retry", COUNTER, NONE, 0) \
    X(RQ_RETRY_BACKOFF_EXPONENTIAL, "upstream_rq_retry_backoff_exponential", COUNTER, NONE, 0)                         \
    X(RQ_RETRY_BACKOFF_RATELIMITED, "upstream_rq_retry_backoff_ratelimited", COUNTER, NONE, 0)                         \
    X(RQ_RETRY_LIMIT_EXCEEDED, "upstream_rq_retry_limit_exceeded", COUNTER, NONE, 0)                                   \
    X(RQ_RETRY_OVERFLOW, "upstream_rq_retry_overflow", COUNTER, NONE, 0)                                               \
    X(RQ_RETRY_SUCCESS, "upstream_rq_retry_success", COUNTER, NONE, 0) X(RQ_RX_RESET, "upstream_rq_rx_reset", COUNTER, NONE, 0) \
    X(RQ_TIMEOUT, "upstream_rq_timeout", COUNTER, NONE, 0) X(RQ_TOTAL, "upstream_rq_total", COUNTER, NONE, 0)          \
    X(RQ_RX_RESET_NO_ERROR, "upstream_rq_rx_reset_no_error", COUNTER, NONE, 0)                                         \
    X(CX_PRECONNECT_SKIPPED, "upstream_cx_preconnect_skipped", COUNTER, NONE, 0)                                       \
    X(QUEUE_OVERLOADED, "upstream_queue_overloaded", GAUGE, NONE, 0) X(WARMING_STATE, "warming_state", GAUGE, NONE, 0) \
    X(RQ_TX_RESET, "upstream_rq_tx_reset", COUNTER, NONE, 0) X(VERSION, "version", GAUGE, NONE, MZ_STAT_NEVER_IMPORT)
enum mz_cluster_stat {
#define X(id, name, type, unit, flags) MZ_CS_##id,
    MZ_CLUSTER_STATS(X)
#undef X
    MZ_CS__COUNT
};
extern const struct mz_stat_kind mz_eds_cluster_stats, mz_cluster_stats;

/* The same prefix; a kind of its own, so that a cluster that nobody uses holds these numbers only. Main thread writes. */
#define MZ_CLUSTER_MEMBER_STATS(X)                                                                                     \
    X(CHANGE, "membership_change", COUNTER, NONE, 0) X(DEGRADED, "membership_degraded", GAUGE, NONE, 0)                \
    X(EXCLUDED, "membership_excluded", GAUGE, NONE, 0) X(HEALTHY, "membership_healthy", GAUGE, NONE, 0)                \
    X(TOTAL, "membership_total", GAUGE, NONE, 0) X(MAX_HOST_WEIGHT, "max_host_weight", GAUGE, NONE, MZ_STAT_NEVER_IMPORT) \
    X(TOTAL_MATCH_COUNT, "default.total_match_count", COUNTER, NONE, 0)
enum mz_cluster_member_stat {
#define X(id, name, type, unit, flags) MZ_CM_##id,
    MZ_CLUSTER_MEMBER_STATS(X)
#undef X
    MZ_CM__COUNT
};
/* Behind them in the same kind, so that a cluster has two scopes only: circuit_breakers.<default|high>. (U4), in the order of
 * enum mz_circuit_kind; remaining_ gauges only for a priority with track_remaining. The kind's index: bit 0 default, bit 1 high. */
enum { MZ_CIRCUIT_GAUGES = 5 };
extern const struct mz_stat_kind mz_cluster_member_stats[4];

/* cluster.<name>.<alt>. of x-envoy-upstream-alt-stat-name: what is counted per response, with its code families */
#define MZ_CLUSTER_ALT_STATS(X)                                                                                        \
    X(RQ_COMPLETED, "upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                                              \
    X(RQ_TIME, "upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                                        \
    X(CANARY_RQ_COMPLETED, "canary.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                                \
    X(CANARY_RQ_TIME, "canary.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                          \
    X(EXTERNAL_RQ_COMPLETED, "external.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                            \
    X(EXTERNAL_RQ_TIME, "external.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)                                      \
    X(INTERNAL_RQ_COMPLETED, "internal.upstream_rq_completed", COUNTER, NONE, MZ_STAT_LAZY)                            \
    X(INTERNAL_RQ_TIME, "internal.upstream_rq_time", HISTOGRAM, MS, MZ_STAT_LAZY)
enum mz_cluster_alt_stat {
#define X(id, name, type, unit, flags) MZ_CA_##id,
    MZ_CLUSTER_ALT_STATS(X)
#undef X
    MZ_CA__COUNT
};
extern const struct mz_stat_kind mz_cluster_alt_stats;

/* cluster.<name>.http1., from the first connection on */
#define MZ_HTTP1_CODEC_STATS(X)                                                                                        \
    X(DROPPED, "dropped_headers_with_underscores", COUNTER, NONE, 0)                                                   \
    X(METADATA, "metadata_not_supported_error", COUNTER, NONE, 0)                                                      \
    X(REJECTED, "requests_rejected_with_underscores_in_headers", COUNTER, NONE, 0)                                     \
    X(FLOOD, "response_flood", COUNTER, NONE, 0)
enum mz_http1_codec_stat {
#define X(id, name, type, unit, flags) MZ_HC_##id,
    MZ_HTTP1_CODEC_STATS(X)
#undef X
    MZ_HC__COUNT
};
extern const struct mz_stat_kind mz_http1_codec_stats;

/* cluster.<name>.outlier_detection. (U5), where it is configured; main thread writes */
#define MZ_OUTLIER_STATS(X)                                                                                            \
    X(ACTIVE, "ejections_active", GAUGE, NONE, 0) X(EJECTIONS_5XX, "ejections_consecutive_5xx", COUNTER, NONE, 0)      \
    X(DETECTED_5XX, "ejections_detected_consecutive_5xx", COUNTER, NONE, 0)                                            \
    X(DETECTED_GATEWAY, "ejections_detected_consecutive_gateway_failure", COUNTER, NONE, 0)                            \
    X(DETECTED_LOCAL, "ejections_detected_consecutive_local_origin_failure", COUNTER, NONE, 0)                         \
    X(DETECTED_DEGRADATION, "ejections_detected_degradation", COUNTER, NONE, 0)                                        \
    X(DETECTED_FAILURE_PERCENTAGE, "ejections_detected_failure_percentage", COUNTER, NONE, 0)                          \
    X(DETECTED_LOCAL_FAILURE_PERCENTAGE, "ejections_detected_local_origin_failure_percentage", COUNTER, NONE, 0)       \
    X(DETECTED_LOCAL_SUCCESS_RATE, "ejections_detected_local_origin_success_rate", COUNTER, NONE, 0)                   \
    X(DETECTED_SUCCESS_RATE, "ejections_detected_success_rate", COUNTER, NONE, 0)                                      \
    X(ENFORCED_5XX, "ejections_enforced_consecutive_5xx", COUNTER, NONE, 0)                                            \
    X(ENFORCED_GATEWAY, "ejections_enforced_consecutive_gateway_failure", COUNTER, NONE, 0)                            \
    X(ENFORCED_LOCAL, "ejections_enforced_consecutive_local_origin_failure", COUNTER, NONE, 0)                         \
    X(ENFORCED_FAILURE_PERCENTAGE, "ejections_enforced_failure_percentage", COUNTER, NONE, 0)                          \
    X(ENFORCED_LOCAL_FAILURE_PERCENTAGE, "ejections_enforced_local_origin_failure_percentage", COUNTER, NONE, 0)       \
    X(ENFORCED_LOCAL_SUCCESS_RATE, "ejections_enforced_local_origin_success_rate", COUNTER, NONE, 0)                   \
    X(ENFORCED_SUCCESS_RATE, "ejections_enforced_success_rate", COUNTER, NONE, 0)                                      \
    X(ENFORCED_TOTAL, "ejections_enforced_total", COUNTER, NONE, 0) X(OVERFLOW, "ejections_overflow", COUNTER, NONE, 0) \
    X(EJECTIONS_SUCCESS_RATE, "ejections_success_rate", COUNTER, NONE, 0) X(TOTAL, "ejections_total", COUNTER, NONE, 0)
enum mz_outlier_stat {
#define X(id, name, type, unit, flags) MZ_OD_##id,
    MZ_OUTLIER_STATS(X)
#undef X
    MZ_OD__COUNT
};
extern const struct mz_stat_kind mz_outlier_stats;

/* cluster.<name>.health_check. (U6), the same */
#define MZ_HEALTH_CHECK_STATS(X)                                                                                       \
    X(ATTEMPT, "attempt", COUNTER, NONE, 0) X(DEGRADED, "degraded", GAUGE, NONE, 0)                                    \
    X(FAILURE, "failure", COUNTER, NONE, 0) X(HEALTHY, "healthy", GAUGE, NONE, 0)                                      \
    X(NETWORK_FAILURE, "network_failure", COUNTER, NONE, 0) X(PASSIVE_FAILURE, "passive_failure", COUNTER, NONE, 0)    \
    X(SUCCESS, "success", COUNTER, NONE, 0) X(VERIFY_CLUSTER, "verify_cluster", COUNTER, NONE, 0)
enum mz_health_check_stat {
#define X(id, name, type, unit, flags) MZ_HCS_##id,
    MZ_HEALTH_CHECK_STATS(X)
#undef X
    MZ_HCS__COUNT
};
extern const struct mz_stat_kind mz_health_check_stats;

/* http.<stat_prefix>. of a router; of the proxy's own requests (http.async-client.) and of tunnels, too */
#define MZ_ROUTER_STATS(X)                                                                                             \
    X(NO_CLUSTER, "no_cluster", COUNTER, NONE, 0) X(NO_ROUTE, "no_route", COUNTER, NONE, 0)                            \
    X(REDIRECT_BAD_LOCATION, "passthrough_internal_redirect_bad_location", COUNTER, NONE, 0)                           \
    X(REDIRECT_NO_ROUTE, "passthrough_internal_redirect_no_route", COUNTER, NONE, 0)                                   \
    X(REDIRECT_PREDICATE, "passthrough_internal_redirect_predicate", COUNTER, NONE, 0)                                 \
    X(REDIRECT_TOO_MANY, "passthrough_internal_redirect_too_many_redirects", COUNTER, NONE, 0)                         \
    X(REDIRECT_UNSAFE_SCHEME, "passthrough_internal_redirect_unsafe_scheme", COUNTER, NONE, 0)                         \
    X(DIRECT_RESPONSE, "rq_direct_response", COUNTER, NONE, 0)                                                         \
    X(OVERLOAD_LOCAL_REPLY, "rq_overload_local_reply", COUNTER, NONE, 0)                                               \
    X(REDIRECT, "rq_redirect", COUNTER, NONE, 0)                                                                       \
    X(RESET_AFTER_RESPONSE, "rq_reset_after_downstream_response_started", COUNTER, NONE, 0)                            \
    X(TOTAL, "rq_total", COUNTER, NONE, 0)
enum mz_router_stat {
#define X(id, name, type, unit, flags) MZ_RS_##id,
    MZ_ROUTER_STATS(X)
#undef X
    MZ_RS__COUNT
};
extern const struct mz_stat_kind mz_router_stats;

/* thread_local_cluster_manager.<thread>.: how many clusters that thread has made something of. */
enum { MZ_TLC_CLUSTERS_INFLATED };
extern const struct mz_stat_kind mz_thread_cluster_stats;

/* cluster_manager. */
#define MZ_CLUSTER_MANAGER_STATS(X)                                                                                    \
    X(ACTIVE_CLUSTERS, "active_clusters", GAUGE, NONE, 0) X(CLUSTER_ADDED, "cluster_added", COUNTER, NONE, 0)          \
    X(CLUSTER_MODIFIED, "cluster_modified", COUNTER, NONE, 0) X(CLUSTER_REMOVED, "cluster_removed", COUNTER, NONE, 0)  \
    X(CLUSTER_UPDATED, "cluster_updated", COUNTER, NONE, 0)                                                            \
    X(CLUSTER_UPDATED_VIA_MERGE, "cluster_updated_via_merge", COUNTER, NONE, 0)                                        \
    X(UPDATE_MERGE_CANCELLED, "update_merge_cancelled", COUNTER, NONE, 0)                                              \
    X(UPDATE_OUT_OF_MERGE_WINDOW, "update_out_of_merge_window", COUNTER, NONE, 0)                                      \
    X(WARMING_CLUSTERS, "warming_clusters", GAUGE, NONE, 0)
enum mz_cluster_manager_stat {
#define X(id, name, type, unit, flags) MZ_CMS_##id,
    MZ_CLUSTER_MANAGER_STATS(X)
#undef X
    MZ_CMS__COUNT
};
extern const struct mz_stat_kind mz_cluster_manager_stats;

/* cluster.<name>.circuit_breakers.<default|high>. (U4); the second kind has the remaining_ gauges of track_remaining. */
#define MZ_CIRCUIT_STATS(X)                                                                                            \
    X(CX_OPEN, "cx_open", GAUGE, NONE, 0) X(RQ_PENDING_OPEN, "rq_pending_open", GAUGE, NONE, 0)                        \
    X(RQ_OPEN, "rq_open", GAUGE, NONE, 0) X(RQ_RETRY_OPEN, "rq_retry_open", GAUGE, NONE, 0)                            \
    X(CX_POOL_OPEN, "cx_pool_open", GAUGE, NONE, 0)
#define MZ_CIRCUIT_REMAINING_STATS(X)                                                                                  \
    X(REMAINING_CX, "remaining_cx", GAUGE, NONE, 0) X(REMAINING_PENDING, "remaining_pending", GAUGE, NONE, 0)          \
    X(REMAINING_RQ, "remaining_rq", GAUGE, NONE, 0) X(REMAINING_RETRIES, "remaining_retries", GAUGE, NONE, 0)          \
    X(REMAINING_CX_POOLS, "remaining_cx_pools", GAUGE, NONE, 0)
enum { MZ_CIRCUIT_REMAINING_FIRST = 5 };
extern const struct mz_stat_kind mz_circuit_stats, mz_circuit_remaining_stats; /* in the order of enum mz_circuit_kind */
#endif
