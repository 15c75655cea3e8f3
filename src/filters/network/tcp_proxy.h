#ifndef MZ_FILTERS_NETWORK_TCP_PROXY_H
#define MZ_FILTERS_NETWORK_TCP_PROXY_H
/*
 * tcp_proxy (L6), shared by its files: tcp_proxy_config.c (message to configuration), tcp_proxy.c (a session: two
 * connections joined), tcp_proxy_connect.c (cluster, host, attempts), tcp_proxy_flush.c (an upstream connection whose client
 * has gone), tcp_proxy_log.c (access logs, the story).
 */
#include "filters/network/network_filters.h"
#include "observe/access_log.h"
#include "observe/substitution.h"
#include "observe/stream_info.h"
#include "route/route.h"
#include "upstream/on_demand.h"
#include "upstream/pool.h"

/* Filter state of the connection by which earlier filters decide (Envoy's keys). */
#define TCP_STATE_CLUSTER "envoy.tcp_proxy.cluster" /* the name of the cluster; wins over `cluster`, not over weighted ones */

#define TCP_STATE_IDLE "envoy.tcp_proxy.per_connection_idle_timeout_ms" /* instead of idle_timeout; 0: none */

struct tcp_tlv { /* proxy_protocol_tlvs */
    uint8_t type;
    struct mz_str value;
    struct mz_log_format *format; /* NULL: value */
};
#define TCP_STATE_NO_TUNNEL "envoy.tcp_proxy.disable_tunneling" /* "true": straight to the host */

struct tcp_tunnel_cfg { /* tunneling_config */
    struct mz_log_format *host;
    bool post, keep_headers, keep_trailers;
    struct mz_str path; /* of POST */
    struct mz_header_mutations headers;
    struct mz_scope *scope; /* tcp.<stat_prefix>.tcpproxy_tunneling. */
};
struct tcp_demand_cfg { /* on_demand */
    struct mz_odcds *source;
    uint64_t timeout_ms;
    struct mz_scope *scope; /* tcp.<stat_prefix>., kind tcp_demand_stats */
};
struct tcp_cluster {
    struct mz_str name;
    uint64_t weight_end;                  /* weights up to and with this one */
    const struct mz_meta *metadata_match; /* merged: the entry's own keys win */
};
struct tcp_cfg { /* immutable; the connection's filter chain holds it */
    struct mz_arena *arena;
    struct mz_scope *scope; /* tcp.<stat_prefix>. */
    struct tcp_cluster *clusters;
    size_t n_clusters;
    uint64_t idle_ms, max_duration_ms, log_interval_ms; /* 0: none */
    uint64_t duration_jitter_ms;                        /* added to max_duration_ms: up to this, by chance */
    uint64_t backoff_base_ms, backoff_max_ms; /* base 0: the next attempt follows at once */
    uint32_t max_attempts;
    bool weighted, hash_source_ip, log_on_connected;
    struct mz_access_log **logs;
    size_t n_logs;
    struct tcp_tlv *tlvs;
    size_t n_tlvs;
    struct tcp_tunnel_cfg *tunnel; /* NULL: none */
    struct tcp_demand_cfg *demand; /* NULL: a cluster that is not there is not asked for */
    struct mz_recorder *recorder;
};
void *tcp_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void tcp_config_destroy(void *cfg);
const struct tcp_cluster *tcp_config_choose(const struct tcp_cfg *c, uint64_t random);

/* tcp.<stat_prefix>. */
#define TCP_STATS(X)                                                                               \
    X(CX_HALF_CLOSED, "downstream_cx_half_closed", GAUGE, NONE) /* ours (D1) */                    \
    X(CX_DRAIN_CLOSE, "downstream_cx_drain_close", COUNTER, NONE)                                  \
    X(CX_NO_ROUTE, "downstream_cx_no_route", COUNTER, NONE)                                        \
    X(CX_OVERLOAD_CLOSE, "downstream_cx_overload_close", COUNTER, NONE)                            \
    X(CX_RX_BYTES_BUFFERED, "downstream_cx_rx_bytes_buffered", GAUGE, BYTES)                       \
    X(CX_RX_BYTES_TOTAL, "downstream_cx_rx_bytes_total", COUNTER, BYTES)                           \
    X(CX_TOTAL, "downstream_cx_total", COUNTER, NONE)                                              \
    X(CX_TX_BYTES_BUFFERED, "downstream_cx_tx_bytes_buffered", GAUGE, BYTES)                       \
    X(CX_TX_BYTES_TOTAL, "downstream_cx_tx_bytes_total", COUNTER, BYTES)                           \
    X(FLOW_PAUSED, "downstream_flow_control_paused_reading_total", COUNTER, NONE)                  \
    X(FLOW_RESUMED, "downstream_flow_control_resumed_reading_total", COUNTER, NONE)                \
    X(EARLY_DATA, "early_data_received_count_total", COUNTER, NONE)                                \
    X(IDLE_TIMEOUT, "idle_timeout", COUNTER, NONE)                                                 \
    X(MAX_DURATION, "max_downstream_connection_duration", COUNTER, NONE)                           \
    X(ROUTE_DELAYED, "route_delayed_total", COUNTER, NONE)                                         \
    X(FLUSH_ACTIVE, "upstream_flush_active", GAUGE, NONE)                                          \
    X(FLUSH_TOTAL, "upstream_flush_total", COUNTER, NONE)
enum tcp_stat {
#define X(id, name, type, unit) TCP_STAT_##id,
    TCP_STATS(X)
#undef X
        TCP_STAT__COUNT
};
extern const struct mz_stat_kind tcp_stats;
enum { TCP_DEMAND_ATTEMPT, TCP_DEMAND_MISSING, TCP_DEMAND_SUCCESS, TCP_DEMAND_TIMEOUT, TCP_DEMAND__COUNT };

/* An upstream connection that was leased from the pool. */
struct tcp_lease {
    struct mz_conn *conn;
    struct mz_wcluster *cluster; /* reference */
    struct mz_host *host;        /* reference */
};
/* To be called from the connection's close event: gives back what the pool counted. References stay. */
void tcp_lease_closed(const struct tcp_lease *l, enum mz_conn_event ev);
/* Both directions ended in order: whoever noticed, it was not a hasty close. */
static inline bool tcp_both_ended(const struct mz_conn *c)
{
    return c->error == 0 && c->read_end && c->write_end;
}

struct tcp_session { /* the filter's object */
    struct mz_net_filter base;
    struct mz_arena *arena;
    struct mz_stream_info *info; /* in arena */
    struct tcp_cluster choice;
    struct tcp_lease
        up; /* conn NULL: not connected (any more); cluster and host of the current attempt */
    struct mz_tcp_pending *pending;
    struct mz_discovery_wait discovery; /* of its cluster */
    struct tcp_tunnel *tunnel; /* the upstream is a stream, or is to be one; NULL: not */
    struct mz_conn_state *up_state; /* of the upstream connection's filters, a reference; NULL: it has none */
    struct mz_timer idle, duration, log_interval, retry;
    uint64_t connected_us, backoff_ms, idle_ms;
    bool closed; /* the downstream connection ended: nothing starts any more */
    bool connected;
    bool connecting;  /* inside mz_tcp_pool_connect() */
    bool failed_here; /* the attempt failed inside that call */
    bool end_sent;    /* the client's end was handed on */
    bool half_closed; /* one end has ended: counted as such */
};
static inline const struct tcp_cfg *tcp_cfg_of(const struct tcp_session *s)
{
    return s->base.cfg;
}
static inline uint64_t tcp_now_us(const struct tcp_session *s)
{
    return mz_loop_now_us(s->base.worker->loop);
}

/* ---- tcp_proxy_opts.c: what the upstream connection's transport shall do; in the session's arena, NULL: nothing ---- */
const struct mz_transport_opts *tcp_transport_opts(struct tcp_session *s, const struct mz_host *h);
/* ---- tcp_proxy_connect.c ---- */
void tcp_connect_start(
    struct tcp_session *s); /* chooses the cluster, first attempt; may close the connection */
void tcp_connect_cancel(
    struct tcp_session *s); /* nothing is called afterwards; keeps a connection that stands */
/* The attempt ended without a connection (or the tunnel was refused): the next one, or the end of the session. */
void tcp_attempt_failed(struct tcp_session *s, enum mz_pool_failure why, struct mz_str transport_failure, int err,
                        struct mz_host *host);
void tcp_attempt_refused(struct tcp_session *s, struct mz_str why, struct mz_host *host);
void tcp_attempt_host(struct tcp_session *s, const struct mz_host *h); /* this one serves it: for logs */
/* ---- tcp_proxy_tunnel.c ---- */
void tcp_tunnel_start(struct tcp_session *s, struct mz_host *h); /* sets s->tunnel; may fail from inside */
void tcp_tunnel_write(struct tcp_tunnel *t, struct mz_buf *data, bool end);
void tcp_tunnel_read_disable(struct tcp_tunnel *t, bool disable);
void tcp_tunnel_end(struct tcp_tunnel *t); /* resets what has not ended; nothing is called afterwards */
uint64_t tcp_tunnel_activity_us(const struct tcp_tunnel *t);
/* ---- tcp_proxy.c ---- */
void tcp_connected(struct tcp_session *s,
                   const struct mz_tcp_ready *r); /* s->up has cluster and host */
void tcp_tunnel_stands(struct tcp_session *s);
void tcp_from_upstream(struct tcp_session *s, struct mz_buf *data, bool end);
void tcp_upstream_gone(struct tcp_session *s, bool reset); /* a tunnel before its ends */
void tcp_upstream_full(struct tcp_session *s, bool full);  /* a tunnel takes no more for now */
/* ---- tcp_proxy_flush.c: takes the lease, gives it back when its output is written, idle time passed, or the worker ends ---- */
void tcp_flush_start(struct mz_worker *w, const struct tcp_cfg *cfg, struct tcp_lease *take, uint64_t idle_ms);
void tcp_flush_stop(struct mz_worker *w);
/* ---- tcp_proxy_log.c ---- */
void tcp_info_start(struct tcp_session *s);
void tcp_log_write(struct tcp_session *s, const char *log_type);
void tcp_info_end(struct tcp_session *s, enum mz_conn_event ev); /* the last line, the recorder */
#define tcp_note(s, kind, a, b, n, m) mz_note((s)->info->decision, tcp_now_us(s), kind, a, b, n, m)
#endif
