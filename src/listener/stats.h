#ifndef MZ_LISTENER_STATS_H
#define MZ_LISTENER_STATS_H
/* listener.<address>., listener.<address>.worker_<n>. and listener_manager. statistics, Envoy's names. */
#include "stats/stats.h"

/* X(identifier, "name", TYPE, UNIT, flags); the last two do not exist for the admin listener */
#define MZ_LISTENER_STATS(X)                                                                                           \
    X(CX_ACTIVE, "downstream_cx_active", GAUGE, NONE, 0)                                                               \
    X(CX_DESTROY, "downstream_cx_destroy", COUNTER, NONE, 0)                                                           \
    X(CX_LENGTH_MS, "downstream_cx_length_ms", HISTOGRAM, MS, 0)                                                       \
    X(CX_OVERFLOW, "downstream_cx_overflow", COUNTER, NONE, 0)                                                         \
    X(CX_OVERLOAD_REJECT, "downstream_cx_overload_reject", COUNTER, NONE, 0)                                           \
    X(CX_TOTAL, "downstream_cx_total", COUNTER, NONE, 0)                                                               \
    X(CX_TRANSPORT_TIMEOUT, "downstream_cx_transport_socket_connect_timeout", COUNTER, NONE, 0)                        \
    X(GLOBAL_CX_OVERFLOW, "downstream_global_cx_overflow", COUNTER, NONE, 0)                                           \
    X(FILTER_ERROR, "downstream_listener_filter_error", COUNTER, NONE, 0)                                              \
    X(FILTER_REMOTE_CLOSE, "downstream_listener_filter_remote_close", COUNTER, NONE, 0)                                \
    X(PRE_CX_ACTIVE, "downstream_pre_cx_active", GAUGE, NONE, 0)                                                       \
    X(PRE_CX_TIMEOUT, "downstream_pre_cx_timeout", COUNTER, NONE, 0)                                                   \
    X(NO_CHAIN, "no_filter_chain_match", COUNTER, NONE, 0)                                                             \
    X(ACCEPTED_PER_EVENT, "connections_accepted_per_socket_event", HISTOGRAM, NONE, 0)                                 \
    X(ACCEPT_PAUSED, "accept_paused", COUNTER, NONE, MZ_STAT_LAZY) /* ours: no descriptor was left (E09) */            \
    X(EXTENSION_MISSING, "extension_config_missing", COUNTER, NONE, 0)                                                 \
    X(NETWORK_EXTENSION_MISSING, "network_extension_config_missing", COUNTER, NONE, 0)
enum {
#define X(id, name, type, unit, flags) MZ_LISTENER_STAT_##id,
    MZ_LISTENER_STATS(X)
#undef X
    MZ_LISTENER_STAT__COUNT
};
enum { MZ_LISTENER_WORKER_CX_ACTIVE, MZ_LISTENER_WORKER_CX_TOTAL, MZ_LISTENER_WORKER_STAT__COUNT };

#define MZ_LISTENER_MANAGER_STATS(X)                                                                                   \
    X(ADDED, "listener_added", COUNTER) X(CREATE_FAILURE, "listener_create_failure", COUNTER)                          \
    X(CREATE_SUCCESS, "listener_create_success", COUNTER) X(IN_PLACE_UPDATED, "listener_in_place_updated", COUNTER)    \
    X(MODIFIED, "listener_modified", COUNTER) X(REMOVED, "listener_removed", COUNTER)                                  \
    X(STOPPED, "listener_stopped", COUNTER) X(CHAINS_DRAINING, "total_filter_chains_draining", GAUGE)                  \
    X(TOTAL_ACTIVE, "total_listeners_active", GAUGE) X(TOTAL_DRAINING, "total_listeners_draining", GAUGE)              \
    X(TOTAL_WARMING, "total_listeners_warming", GAUGE) X(WORKERS_PINNED, "workers_pinned", GAUGE)                      \
    X(WORKERS_STARTED, "workers_started", GAUGE)
enum {
#define X(id, name, type) MZ_LM_STAT_##id,
    MZ_LISTENER_MANAGER_STATS(X)
#undef X
    MZ_LM_STAT__COUNT
};
extern const struct mz_stat_kind mz_listener_stats, mz_listener_admin_stats, mz_listener_worker_stats,
    mz_listener_manager_stats;
#endif
