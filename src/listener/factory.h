#ifndef MZ_LISTENER_FACTORY_H
#define MZ_LISTENER_FACTORY_H
/*
 * What configuration builders may use (main thread), and what a worker is. Services come in as pointers, so that this header
 * needs no other folder's.
 */
#include "base/err.h"
#include "base/str.h"
#include "event/loop.h"

struct mz_stats;
struct mz_value;
struct mz_scope;
struct mz_log_files;
struct mz_cluster_manager;
struct mz_upstream;
struct mz_recorder;
struct mz_proto_ctx;
struct mz_net_filter_type;
struct mz_http_filter_type;
struct mz_lfilter_type;
struct mz_tracer_type;
struct mz_transport_factory;
struct mz_server; /* server/server.h */
struct mz_xds;
struct mz_init;
struct mz_rds_manager; /* hcm/rds.h */
struct mz_ecds; /* listener/ecds.h */

/* State of the whole process that data paths look at; atomics. */
struct mz_process {
    uint32_t draining;          /* 1: drain asked for (SIGTERM with a drain time, /drain_listeners, hot restart) */
    uint32_t health_failed;     /* /healthcheck/fail */
    uint64_t drain_start_us;    /* gradual strategy: probability grows to 1 until drain_end_us */
    uint64_t drain_end_us;
    uint32_t drain_immediate;   /* strategy */
    uint64_t max_connections;   /* of clients, by the overload manager; 0: the runtime says. Set before workers run */
};
/* Shall a connection be told to go now (Connection: close, GOAWAY)? By strategy, with chance from @random. */
bool mz_process_drain_close(const struct mz_process *p, uint64_t now_us, uint64_t random);

struct mz_factory { /* borrowed by builders during the call only, except the services, which live until exit */
    struct mz_stats *stats;
    struct mz_log_files *log_files;
    struct mz_cluster_manager *clusters;
    struct mz_recorder *recorder;
    struct mz_process *process;
    struct mz_proto_ctx *proto;   /* arena and unknown-field policy of this document */
    struct mz_str node_id, node_cluster, node_region, node_zone;
    const struct mz_value *node_metadata; /* NULL: it has none */
    struct mz_str header_prefix;  /* "x-envoy" */
    struct mz_str version;        /* of the program */
    unsigned workers;
    struct mz_loop *main;
    const struct mz_worker *main_worker; /* what is asked of clusters ahead of any request goes through its upstream */
    uint64_t drain_ms; /* --drain-time-s: connections of what was replaced get so long */
    uint32_t internal_bytes; /* what an end of a connection to an internal listener may leave unread; 0: there are none */
    bool drain_at_once; /* --drain-strategy immediate */
    struct mz_scope *listener_scope;      /* listener.<addr>. when a listener is being built, else NULL */
    struct mz_str listener_name;
    struct mz_str http_stat_prefix; /* of the connection manager whose filters are being built */
    uint8_t traffic_direction;
    bool via_api;
    /* filters/registry.c, injected so that lower folders need not know it */
    const struct mz_net_filter_type *(*net_filter)(struct mz_str config_type);
    const struct mz_http_filter_type *(*http_filter)(struct mz_str config_type);
    const struct mz_lfilter_type *(*listener_filter)(struct mz_str config_type);
    const struct mz_tracer_type *(*tracer)(struct mz_str config_type);
    struct mz_transport_factory *(*transport)(const struct mz_factory *f, const void *transport_socket_msg, bool downstream,
                                              struct mz_err *err);
    struct mz_server *server;
    struct mz_xds *xds;
    struct mz_rds_manager *rds;
    struct mz_ecds *ecds;
    const struct mz_workloads *workloads; /* filters/istio/workloads.h; NULL: the bootstrap has no such extension */
    struct mz_init *init; /* what has to be there before that which is being built may serve; xds/init.h */
};

struct mz_worker { /* one per thread that serves connections; the main thread has one for the admin listener */
    struct mz_loop *loop;
    unsigned slot;                /* of statistics; 0 is main */
    struct mz_upstream *upstream;
    struct mz_recorder *recorder;
    struct mz_process *process;
    struct mz_acceptors *acceptors; /* by address, on its thread; NULL: none. listener/by_address.c */
};
#endif
