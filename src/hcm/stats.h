#ifndef MZ_HCM_STATS_H
#define MZ_HCM_STATS_H
/* http.<stat_prefix>. and listener.<address>.http.<stat_prefix>. statistics, Envoy's names (tables in stats.c). */
#include "stats/stats.h"

/* X(identifier, "name", TYPE, UNIT) */
#define MZ_HCM_STATS(X)                                                                                                \
    X(CX_ACTIVE, "downstream_cx_active", GAUGE, NONE)                                                                  \
    X(CX_DELAYED_CLOSE_TIMEOUT, "downstream_cx_delayed_close_timeout", COUNTER, NONE)                                  \
    X(CX_DESTROY, "downstream_cx_destroy", COUNTER, NONE)                                                              \
    X(CX_DESTROY_ACTIVE_RQ, "downstream_cx_destroy_active_rq", COUNTER, NONE)                                          \
    X(CX_DESTROY_LOCAL, "downstream_cx_destroy_local", COUNTER, NONE)                                                  \
    X(CX_DESTROY_LOCAL_ACTIVE_RQ, "downstream_cx_destroy_local_active_rq", COUNTER, NONE)                              \
    X(CX_DESTROY_REMOTE, "downstream_cx_destroy_remote", COUNTER, NONE)                                                \
    X(CX_DESTROY_REMOTE_ACTIVE_RQ, "downstream_cx_destroy_remote_active_rq", COUNTER, NONE)                            \
    X(CX_DRAIN_CLOSE, "downstream_cx_drain_close", COUNTER, NONE)                                                      \
    X(CX_HTTP1_ACTIVE, "downstream_cx_http1_active", GAUGE, NONE)                                                      \
    X(CX_HTTP1_SOFT_DRAIN, "downstream_cx_http1_soft_drain", GAUGE, NONE)                                              \
    X(CX_HTTP1_TOTAL, "downstream_cx_http1_total", COUNTER, NONE)                                                      \
    X(CX_HTTP2_ACTIVE, "downstream_cx_http2_active", GAUGE, NONE)                                                      \
    X(CX_HTTP2_TOTAL, "downstream_cx_http2_total", COUNTER, NONE)                                                      \
    X(CX_HTTP3_ACTIVE, "downstream_cx_http3_active", GAUGE, NONE)                                                      \
    X(CX_HTTP3_TOTAL, "downstream_cx_http3_total", COUNTER, NONE)                                                      \
    X(CX_IDLE_TIMEOUT, "downstream_cx_idle_timeout", COUNTER, NONE)                                                    \
    X(CX_LENGTH_MS, "downstream_cx_length_ms", HISTOGRAM, MS)                                                          \
    X(CX_MAX_DURATION_REACHED, "downstream_cx_max_duration_reached", COUNTER, NONE)                                    \
    X(CX_MAX_REQUESTS_REACHED, "downstream_cx_max_requests_reached", COUNTER, NONE)                                    \
    X(CX_OVERLOAD_DISABLE_KEEPALIVE, "downstream_cx_overload_disable_keepalive", COUNTER, NONE)                        \
    X(CX_PROTOCOL_ERROR, "downstream_cx_protocol_error", COUNTER, NONE)                                                \
    X(CX_RX_BYTES_BUFFERED, "downstream_cx_rx_bytes_buffered", GAUGE, BYTES)                                           \
    X(CX_RX_BYTES_TOTAL, "downstream_cx_rx_bytes_total", COUNTER, BYTES)                                               \
    X(CX_SSL_ACTIVE, "downstream_cx_ssl_active", GAUGE, NONE)                                                          \
    X(CX_SSL_TOTAL, "downstream_cx_ssl_total", COUNTER, NONE)                                                          \
    X(CX_TOTAL, "downstream_cx_total", COUNTER, NONE)                                                                  \
    X(CX_TX_BYTES_BUFFERED, "downstream_cx_tx_bytes_buffered", GAUGE, BYTES)                                           \
    X(CX_TX_BYTES_TOTAL, "downstream_cx_tx_bytes_total", COUNTER, BYTES)                                               \
    X(CX_UPGRADES_ACTIVE, "downstream_cx_upgrades_active", GAUGE, NONE)                                                \
    X(CX_UPGRADES_TOTAL, "downstream_cx_upgrades_total", COUNTER, NONE)                                                \
    X(FLOW_PAUSED, "downstream_flow_control_paused_reading_total", COUNTER, NONE)                                      \
    X(FLOW_RESUMED, "downstream_flow_control_resumed_reading_total", COUNTER, NONE)                                    \
    X(RQ_1XX, "downstream_rq_1xx", COUNTER, NONE)                                                                      \
    X(RQ_2XX, "downstream_rq_2xx", COUNTER, NONE)                                                                      \
    X(RQ_3XX, "downstream_rq_3xx", COUNTER, NONE)                                                                      \
    X(RQ_4XX, "downstream_rq_4xx", COUNTER, NONE)                                                                      \
    X(RQ_5XX, "downstream_rq_5xx", COUNTER, NONE)                                                                      \
    X(RQ_ACTIVE, "downstream_rq_active", GAUGE, NONE)                                                                  \
    X(RQ_COMPLETED, "downstream_rq_completed", COUNTER, NONE)                                                          \
    X(RQ_FAILED_PATH_NORMALIZATION, "downstream_rq_failed_path_normalization", COUNTER, NONE)                          \
    X(RQ_HEADER_TIMEOUT, "downstream_rq_header_timeout", COUNTER, NONE)                                                \
    X(RQ_HTTP1_TOTAL, "downstream_rq_http1_total", COUNTER, NONE)                                                      \
    X(RQ_HTTP2_TOTAL, "downstream_rq_http2_total", COUNTER, NONE)                                                      \
    X(RQ_HTTP3_TOTAL, "downstream_rq_http3_total", COUNTER, NONE)                                                      \
    X(RQ_IDLE_TIMEOUT, "downstream_rq_idle_timeout", COUNTER, NONE)                                                    \
    X(RQ_MAX_DURATION_REACHED, "downstream_rq_max_duration_reached", COUNTER, NONE)                                    \
    X(RQ_NON_RELATIVE_PATH, "downstream_rq_non_relative_path", COUNTER, NONE)                                          \
    X(RQ_OVERLOAD_CLOSE, "downstream_rq_overload_close", COUNTER, NONE)                                                \
    X(RQ_REDIRECTED_NORMALIZED, "downstream_rq_redirected_with_normalized_path", COUNTER, NONE)                        \
    X(RQ_REJECTED_IP_DETECTION, "downstream_rq_rejected_via_ip_detection", COUNTER, NONE)                              \
    X(RQ_RESPONSE_BEFORE_COMPLETE, "downstream_rq_response_before_rq_complete", COUNTER, NONE)                         \
    X(RQ_RX_RESET, "downstream_rq_rx_reset", COUNTER, NONE)                                                            \
    X(RQ_TIME, "downstream_rq_time", HISTOGRAM, MS)                                                                    \
    X(RQ_TIMEOUT, "downstream_rq_timeout", COUNTER, NONE)                                                              \
    X(RQ_TOO_LARGE, "downstream_rq_too_large", COUNTER, NONE)                                                          \
    X(RQ_TOO_MANY_RESETS, "downstream_rq_too_many_premature_resets", COUNTER, NONE)                                    \
    X(RQ_TOTAL, "downstream_rq_total", COUNTER, NONE)                                                                  \
    X(RQ_TX_RESET, "downstream_rq_tx_reset", COUNTER, NONE)                                                            \
    X(RQ_WS_ON_NON_WS, "downstream_rq_ws_on_non_ws_route", COUNTER, NONE)                                              \
    X(RS_TOO_LARGE, "rs_too_large", COUNTER, NONE)                                                                     \
    X(TRACING_CLIENT, "tracing.client_enabled", COUNTER, NONE)                                                         \
    X(TRACING_HEALTH_CHECK, "tracing.health_check", COUNTER, NONE)                                                     \
    X(TRACING_NOT_TRACEABLE, "tracing.not_traceable", COUNTER, NONE)                                                   \
    X(TRACING_RANDOM, "tracing.random_sampling", COUNTER, NONE)                                                        \
    X(TRACING_FORCED, "tracing.service_forced", COUNTER, NONE)
enum mz_hcm_stat {
#define X(id, name, type, unit) MZ_HS_##id,
    MZ_HCM_STATS(X)
#undef X
    MZ_HS__COUNT
};
extern const struct mz_stat_kind mz_hcm_stats;

/* Per listener: counted with the same classes. */
enum { MZ_HL_1XX, MZ_HL_2XX, MZ_HL_3XX, MZ_HL_4XX, MZ_HL_5XX, MZ_HL_COMPLETED, MZ_HL__COUNT };
extern const struct mz_stat_kind mz_hcm_listener_stats;
#endif
