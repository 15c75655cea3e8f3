#ifndef MZ_HTTP_H2_STATS_H
#define MZ_HTTP_H2_STATS_H
/* http2. and cluster.<name>.http2. statistics, Envoy's names. */
#include "stats/stats.h"

/* X(identifier, "name", TYPE, UNIT) */
#define MZ_HTTP2_CODEC_STATS(X)                                                                                        \
    X(COOKIES_TOO_LARGE, "cookies_total_bytes_too_large", COUNTER, NONE)                                               \
    X(DEFERRED_STREAM_CLOSE, "deferred_stream_close", COUNTER, NONE)                                                   \
    X(DROPPED, "dropped_headers_with_underscores", COUNTER, NONE)                                                      \
    X(GOAWAY_SENT, "goaway_sent", COUNTER, NONE)                                                                       \
    X(LIST_TOO_LARGE, "header_list_size_too_large", COUNTER, NONE)                                                     \
    X(HEADER_OVERFLOW, "header_overflow", COUNTER, NONE)                                                               \
    X(HEADERS_CB_NO_STREAM, "headers_cb_no_stream", COUNTER, NONE)                                                     \
    X(EMPTY_FLOOD, "inbound_empty_frames_flood", COUNTER, NONE)                                                        \
    X(PRIORITY_FLOOD, "inbound_priority_frames_flood", COUNTER, NONE)                                                  \
    X(WINDOW_UPDATE_FLOOD, "inbound_window_update_frames_flood", COUNTER, NONE)                                        \
    X(KEEPALIVE_TIMEOUT, "keepalive_timeout", COUNTER, NONE)                                                           \
    X(METADATA_EMPTY, "metadata_empty_frames", COUNTER, NONE)                                                          \
    X(DOWNSTREAM_CX, "nghttp2_downstream_connections", COUNTER, NONE)                                                  \
    X(UPSTREAM_CX, "nghttp2_upstream_connections", COUNTER, NONE)                                                      \
    X(OUTBOUND_CONTROL_FLOOD, "outbound_control_flood", COUNTER, NONE)                                                 \
    X(OUTBOUND_FLOOD, "outbound_flood", COUNTER, NONE)                                                                 \
    X(REJECTED, "requests_rejected_with_underscores_in_headers", COUNTER, NONE)                                        \
    X(RX_MESSAGING_ERROR, "rx_messaging_error", COUNTER, NONE)                                                         \
    X(RX_RESET, "rx_reset", COUNTER, NONE)                                                                             \
    X(STREAM_REFUSED, "stream_refused_errors", COUNTER, NONE)                                                          \
    X(TRAILERS, "trailers", COUNTER, NONE)                                                                             \
    X(TX_FLUSH_TIMEOUT, "tx_flush_timeout", COUNTER, NONE)                                                             \
    X(TX_RESET, "tx_reset", COUNTER, NONE)                                                                             \
    X(OUTBOUND_CONTROL_ACTIVE, "outbound_control_frames_active", GAUGE, NONE)                                          \
    X(OUTBOUND_ACTIVE, "outbound_frames_active", GAUGE, NONE)                                                          \
    X(PENDING_SEND_BYTES, "pending_send_bytes", GAUGE, BYTES)                                                          \
    X(STREAMS_ACTIVE, "streams_active", GAUGE, NONE)
enum mz_http2_codec_stat {
#define X(id, name, type, unit) MZ_H2S_##id,
    MZ_HTTP2_CODEC_STATS(X)
#undef X
    MZ_H2S__COUNT
};
extern const struct mz_stat_kind mz_http2_codec_stats;
#endif
