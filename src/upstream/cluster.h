#ifndef MZ_UPSTREAM_CLUSTER_H
#define MZ_UPSTREAM_CLUSTER_H
/*
 * Clusters (U1-U4, U7). Three layers:
 * - struct mz_cluster: one cluster of the configuration; immutable but for atomics (breakers); shared by all threads.
 * - struct mz_host_set: the hosts of one priority at one moment; immutable; made on the main thread, posted to workers.
 * - struct mz_wcluster: what one worker holds of a cluster: current host sets, load balancer state, pools. Made at the
 *   first use on that worker, so that clusters that nobody uses cost their configuration only (design.md 3.6).
 */
#include "base/arena.h"
#include "base/err.h"
#include "event/loop.h"
#include "http/codec.h"
#include "net/addr.h"
#include "net/transport.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"
#include "stats/stats.h"
#include "upstream/stats.h"

struct mz_init;
struct mz_log_file;
struct mz_log_files;
struct mz_cluster_manager; /* main thread */
struct mz_xds;
struct mz_upstream;        /* one worker's view */
struct mz_wcluster;

enum mz_host_health { MZ_HOST_UNHEALTHY, MZ_HOST_DEGRADED, MZ_HOST_HEALTHY };
enum { /* reasons a host is out: health_flags, atomics; main thread writes */
    MZ_HOST_FAILED_ACTIVE_HC = 1, MZ_HOST_FAILED_OUTLIER = 2, MZ_HOST_FAILED_EDS = 4, MZ_HOST_DEGRADED_ACTIVE_HC = 8,
    MZ_HOST_DEGRADED_EDS = 16, MZ_HOST_PENDING_REMOVAL = 32, MZ_HOST_PENDING_ACTIVE_HC = 64, MZ_HOST_EXCLUDED_IMMEDIATE_HC = 128,
    MZ_HOST_DRAINING_EDS = 256, MZ_HOST_ACTIVE_HC_TIMEOUT = 512,
    MZ_HOST_GONE = 1024, /* no host of its cluster any more; nobody shows it */
};
struct mz_host_stats { /* atomics, relaxed; shown by /clusters */
    uint64_t cx_total, cx_active, cx_connect_fail, rq_total, rq_active, rq_success, rq_error, rq_timeout, rq_pending_active;
};
struct mz_host {
    unsigned refs; /* atomic */
    struct mz_addr addr;    /* the first of addrs */
    struct mz_addr health_check_addr;
    struct mz_addr *addrs;  /* all that a connection may go to (happy eyeballs), as configured or answered; NULL: addr alone */
    uint32_t n_addrs;
    struct mz_str hostname; /* as configured or the DNS name; "" */
    uint32_t weight;        /* 1.. */
    uint32_t priority;
    bool canary;
    uint8_t eds_status; /* pb_HealthStatus as configured */
    uint32_t health_flags; /* atomic */
    uint64_t healthy_since_us; /* atomic, monotonic: made, or passed its health check after a failure; for slow start */
    bool used;             /* atomic; of ORIGINAL_DST: chosen since the last cleaning */
    union {
        struct mz_place place;
        struct {
            struct mz_str region, zone, sub_zone;
        };
    };
    const struct mz_meta *metadata, *locality_metadata;
    uint64_t made_of; /* hash of what an update of endpoints may not change */
    const struct mz_transport_factory *transport; /* by transport_socket_matches; NULL: the cluster's. Borrowed */
    struct mz_host_stats stats;
    struct mz_cluster *cluster; /* borrowed */
    struct mz_arena *arena;     /* texts and metadata */
    struct host_health *health; /* outlier detection and active checks; NULL: the cluster has neither */
    char addr_text[80];         /* "1.2.3.4:80", for logs */
    uint8_t addr_text_n;
};
struct mz_host *mz_host_ref(struct mz_host *h); /* any thread */
void mz_host_unref(struct mz_host *h);
enum mz_host_health mz_host_health(const struct mz_host *h);

/* ---- what became of a host's requests and connections, for outlier detection (U5). Any thread, no lock.
 * Costs one load where the cluster has no outlier detection. ---- */
enum mz_outlier_result {
    MZ_OUTLIER_SUCCESS,        /* a transaction with a server that speaks no HTTP ended well ... */
    MZ_OUTLIER_FAILURE,        /* ... or not */
    MZ_OUTLIER_CONNECTED,      /* a connection for a request, whose own outcome follows */
    MZ_OUTLIER_CONNECTED_ALL,  /* a connection that was all there is to report (tcp_proxy) */
    MZ_OUTLIER_TIMEOUT,        /* of a connect, a try, a request */
    MZ_OUTLIER_CONNECT_FAILED, /* also a reset before the answer's end */
};
void mz_outlier_status(struct mz_host *h, unsigned http_status); /* an answer; of gRPC: grpc-status as HTTP status */
/* @http_status: as which it counts where local errors are not counted apart; 0: as @r says */
void mz_host_says_unhealthy(struct mz_host *h); /* an answer had x-envoy-immediate-health-check-fail (U6) */
void mz_outlier_report(struct mz_host *h, enum mz_outlier_result r, unsigned http_status);

struct mz_circuit { /* one routing priority's breakers, over the whole process */
    uint64_t max_connections, max_pending, max_requests, max_retries, max_pools;
    bool track_remaining;
    bool has_budget;
    double budget_percent;
    uint32_t min_retry_concurrency;
    int64_t connections, pending, requests, retries, pools; /* atomics */
    struct mz_scope *scope; /* of kind mz_cluster_member_stats, the same for both priorities */
    uint16_t open_at, remaining_at; /* indices of the gauges in it */
};
enum mz_priority { MZ_PRIORITY_DEFAULT, MZ_PRIORITY_HIGH, MZ_PRIORITY__COUNT };
enum mz_circuit_kind { MZ_CIRCUIT_CX, MZ_CIRCUIT_PENDING, MZ_CIRCUIT_RQ, MZ_CIRCUIT_RETRY, MZ_CIRCUIT_POOL };
/* Takes one if below the limit (gauges _open and remaining_ follow); false: the breaker is open. Any thread. */
bool mz_circuit_take(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k);
bool mz_circuit_can(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k); /* would take() succeed? */
void mz_circuit_force(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k); /* takes, limit or not (first connection) */
void mz_circuit_give(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k);

struct mz_cluster {
    unsigned refs; /* atomic */
    struct mz_str name, stat_name; /* alt_stat_name or name: observability */
    uint8_t type;                  /* private to cluster.c */
    uint32_t connect_timeout_ms;
    uint32_t buffer_limit; /* per_connection_buffer_limit_bytes, 1 MiB */
    uint32_t max_requests_per_connection; /* 0: none */
    uint32_t idle_timeout_ms;             /* pool connections: 1 h default, 0 none */
    uint32_t max_connection_duration_ms;
    uint32_t max_stream_duration_ms; /* common_http_protocol_options */
    uint32_t drop_millionths; /* atomic, main writes: requests that are answered 503 at once (drop_overloads) */
    uint32_t max_response_headers_kb, max_response_headers_count;
    struct mz_http1_opts http1;
    struct mz_http2_opts http2_opts;
    bool http2, use_downstream_protocol;
    bool pool_per_downstream; /* connection_pool_per_downstream_connection */
    bool auto_protocol; /* auto_config: each connection speaks what ALPN says */
    double preconnect_per_upstream, preconnect_predictive; /* 1.0 */
    struct mz_transport_factory *transport;
    uint8_t transport_uses; /* MZ_TRANSPORT_USES_... of any of its transports */
    const struct mz_meta *metadata;
    struct mz_scope *scope; /* cluster.<name>. with kind mz_cluster_stats */
    struct mz_circuit circuit[MZ_PRIORITY__COUNT];
    bool added_via_api;
    bool track_timeout_budgets, track_sizes, per_endpoint_stats;
    struct mz_arena *arena; /* what the pointers above point to */
    void *priv;             /* upstream/cluster.c: LB configuration, discovery, bind and socket options */
};
static inline const struct mz_transport_factory *mz_host_transport(const struct mz_host *h)
{
    return h->transport ? h->transport : h->cluster->transport;
}
/* Lets @i, whose stream holds the cluster, say how many endpoints it has. */
void mz_cluster_show_members(const struct mz_cluster *c, struct mz_stream_info *i);
struct mz_cluster *mz_cluster_ref(struct mz_cluster *c);
void mz_cluster_unref(struct mz_cluster *c);
/* Statistics cluster.<name>.<alt>. that a trusted caller asked for with x-envoy-upstream-alt-stat-name; borrowed of the
 * cluster. A cluster has at most 64 such names of at most 128 visible bytes (E13); NULL: not this one. Any thread, no lock. */
struct mz_scope *mz_cluster_alt_scope(struct mz_cluster *c, struct mz_str alt);
uint64_t mz_cluster_member(const struct mz_cluster *c, enum mz_cluster_member_stat which); /* membership_total ...; any thread */

/* ---- main thread ---- */
struct mz_upstream_env {
    struct mz_loop *main;
    struct mz_stats *stats;
    struct mz_str local_region, local_zone, local_sub_zone; /* where this proxy stands */
    struct mz_str local_cluster; /* cluster_manager.local_cluster_name: whose hosts are the proxies like us; "" none */
    struct mz_log_files *log_files; /* of health check events; NULL: none are written */
    struct mz_log_file *outlier_log; /* cluster_manager.outlier_detection.event_log_path; NULL: none */
    /* Resolves a transport_socket message to a factory; NULL and err when its type is unknown. @prefix: "cluster.<name>." */
    /* @init: where it puts what has to come before it works (secrets). */
    struct mz_transport_factory *(*transport)(void *arg, const void *transport_socket_msg, struct mz_str prefix,
                                              struct mz_init *init, struct mz_err *err);
    /* One of the cluster's filters around the connections of @take_inner, whose reference it takes; NULL and err. */
    struct mz_transport_factory *(*filter)(void *arg, const void *filter_msg, struct mz_transport_factory *take_inner,
                                           struct mz_err *err);
    void *transport_arg;
    struct mz_xds *xds; /* endpoints by subscription; NULL: none */
};
struct Envoy__Config__Cluster__V3__Cluster;
struct mz_cluster_manager *mz_cluster_manager_create(const struct mz_upstream_env *env);
void mz_cluster_manager_destroy(struct mz_cluster_manager *m);
/* Validates and adds; a static cluster of the same name is an error. @bytes is the message as received, kept for dumps. */
bool mz_cluster_manager_add(struct mz_cluster_manager *m, const struct Envoy__Config__Cluster__V3__Cluster *c, struct mz_str bytes,
                            bool via_api, struct mz_err *err);
struct mz_str mz_cluster_manager_local(const struct mz_cluster_manager *m); /* env.local_cluster */
bool mz_cluster_manager_has(const struct mz_cluster_manager *m, struct mz_str name);
/* One per worker, before its thread starts; and one for the main thread where main itself sends requests. */
struct mz_upstream *mz_upstream_create(struct mz_cluster_manager *m, struct mz_loop *l);
void mz_upstream_destroy(struct mz_upstream *u); /* on its thread or after it ended: closes pools */
struct mz_loop *mz_upstream_loop(const struct mz_upstream *u);
/* Who is told, on its thread, that a view ends: gone runs once, before its pools close, and is no user any more. Embedded. */
struct mz_upstream_user {
    struct mz_list link;
    void (*gone)(struct mz_upstream_user *user);
};
void mz_upstream_add_user(struct mz_upstream *u, struct mz_upstream_user *user);
void mz_upstream_del_user(struct mz_upstream_user *user);
/* DNS and such: done(arg) once when each cluster's first discovery ended (ok or not) (X3). Later, never from inside. */
void mz_cluster_manager_when_ready(struct mz_cluster_manager *m, void (*done)(void *arg), void *arg);
void mz_cluster_manager_text(struct mz_cluster_manager *m, struct mz_buf *out);                    /* /clusters: newest first */
void mz_cluster_manager_json(struct mz_cluster_manager *m, struct mz_buf *out);                    /* ?format=json */
bool mz_cluster_manager_remove(struct mz_cluster_manager *m, struct mz_str name); /* false: none; requests in flight go on */
size_t mz_cluster_manager_count(const struct mz_cluster_manager *m); /* cluster_manager.active_clusters */
struct mz_cluster_shown { /* for /config_dump */
    struct mz_str name, bytes, version;
    uint64_t updated_wall_us;
    bool via_api, warming;
};
/* In no order, warming ones too; or those that serve, in the order in which they came. */
void mz_cluster_manager_show_added(struct mz_cluster_manager *m, void (*fn)(void *arg, const struct mz_cluster_shown *c), void *arg);
void mz_cluster_manager_show(struct mz_cluster_manager *m, void (*fn)(void *arg, const struct mz_cluster_shown *c), void *arg);

/* ---- clusters that come and go (CDS) ---- */
enum mz_cluster_change { MZ_CLUSTER_REFUSED, MZ_CLUSTER_UNCHANGED, MZ_CLUSTER_CHANGED };
/* Adds or updates by name; serves once its endpoints and secrets came (X3), until then the one of before does. A cluster of the
 * bootstrap is left alone (UNCHANGED). REFUSED: @err; what runs goes on. */
enum mz_cluster_change mz_cluster_manager_set(struct mz_cluster_manager *m, const struct Envoy__Config__Cluster__V3__Cluster *c,
                                              struct mz_str bytes, struct mz_str version, struct mz_err *err);
/* Would set() leave @name as it is: equal bytes, or a cluster of the bootstrap? The message need not be opened then. */
bool mz_cluster_manager_keeps(struct mz_cluster_manager *m, struct mz_str name, struct mz_str bytes);
bool mz_cluster_manager_remove_dynamic(struct mz_cluster_manager *m, struct mz_str name); /* false: no such one */
/* Clusters of the bootstrap that need no xDS are ready: xDS may begin, which is on one of them. */
void mz_cluster_manager_when_primary_ready(struct mz_cluster_manager *m, void (*done)(void *arg), void *arg);
struct mz_eds_shown {
    struct mz_str name, version, bytes;
    uint64_t updated_wall_us;
};
/* The endpoints that each cluster has now; made in @a, of which nothing is needed afterwards. Main thread. */
struct mz_assignment_shown {
    struct mz_str name; /* of the cluster */
    bool via_api;
    const struct Envoy__Config__Endpoint__V3__ClusterLoadAssignment *assignment;
};
void mz_cluster_manager_assignments(struct mz_cluster_manager *m, struct mz_arena *a,
                                    void (*fn)(void *arg, const struct mz_assignment_shown *s), void *arg);
void mz_cluster_manager_each_eds(struct mz_cluster_manager *m, void (*fn)(void *arg, const struct mz_eds_shown *s), void *arg);

/* ---- cds.c: the subscription ---- */
struct Envoy__Config__Core__V3__ConfigSource;
struct mz_cds;
/* @source, @locator: as of mz_subscribe_all(). @first runs once: its first update was taken or refused, or did not come in time. */
struct mz_cds *mz_cds_create(struct mz_cluster_manager *m, const struct Envoy__Config__Core__V3__ConfigSource *source,
                             const char *locator, void (*first)(void *arg), void *arg, struct mz_err *err);
void mz_cds_start(struct mz_cds *c);
void mz_cds_destroy(struct mz_cds *c); /* NULL is fine */
struct mz_str mz_cds_version(const struct mz_cds *c); /* of the last good update; "" */

/* ---- a worker ---- */
struct mz_wcluster *mz_upstream_find(struct mz_upstream *u, struct mz_str name); /* makes it at first use; NULL: none */
struct mz_scope *mz_upstream_async_scope(const struct mz_upstream *u); /* http.async-client., mz_router_stats; of all threads */
/* How many hosts the local cluster has now (env.local_cluster): proxies like us. 0: none is known. */
uint64_t mz_upstream_local_members(struct mz_upstream *u);
bool mz_upstream_closed(const struct mz_upstream *u); /* it is being destroyed: begin nothing */
/* A found cluster stays valid until the end of the turn; who keeps it longer holds a reference (this thread only). */
struct mz_wcluster *mz_wcluster_ref(struct mz_wcluster *w);
void mz_wcluster_unref(struct mz_wcluster *w);
struct mz_cluster *mz_wcluster_info(const struct mz_wcluster *w);                 /* valid as long as somebody refs it */

#define MZ_MURMUR_SEED 0xc70f6907u
uint64_t mz_murmur2(const void *p, size_t n, uint64_t seed); /* 64 bits, as libstdc++'s; Envoy hashes with it */

struct mz_lb_ctx { /* what a choice may depend on */
    bool has_hash;
    uint64_t hash;
    const struct mz_headers *headers;
    const struct mz_meta *metadata_match; /* subset: of the route, merged with its weighted cluster's */
    const struct mz_meta *request_metadata; /* dynamic metadata; its envoy.lb wins over metadata_match */
    struct mz_conn *downstream;
    const struct mz_addr *original_dst; /* where the client wanted to go; NULL: to this listener */
    struct mz_str wanted_host;  /* dynamic forward proxy, without headers: the name that the client asked for; "" none */
    uint16_t wanted_port;       /* and the port there; 0: as the cluster has it */
    /* Retry plug-ins: true: choose another (at most attempts times). */
    bool (*avoid)(void *arg, const struct mz_host *h);
    void *avoid_arg;
    uint32_t avoid_attempts;
    /* previous_priorities: may change the load per priority; NULL. */
    const uint32_t *priority_load; /* percent per priority, n_priorities of them */
    bool forced, forced_degraded;  /* within an aggregate, which chose: this priority, its degraded hosts */
    uint32_t forced_priority;
    struct mz_str override_host;
    bool override_strict;
    uint32_t *override_taken; /* the request's: how many of the hosts that it names were tried; NULL: begins anew each time */
    /* out: why this host or none, static text, for the decision record ("round robin", "least request of 2", "panic") */
    const char *why;
    struct mz_str where; /* out: which subset and such was chosen before ("" none). Copy it: it goes with the cluster's hosts */
};
/* Main thread: what such a choice may give, for /mizzen/explain; nothing is counted. Zones are not looked at. */
struct mz_imagined_host {
    struct mz_str address;   /* "": none; with the context's why and where it lies in the arena */
    int socket;              /* which of transport_socket_matches it has; -1: transport_socket */
    struct mz_str transport; /* "tls", "raw_buffer" ... */
    bool secure;             /* it is a kind of TLS */
};
/* False: the cluster chooses by itself (as where connections wanted to go); the host's own part is left empty then. */
bool mz_cluster_manager_explain(struct mz_cluster_manager *m, struct mz_str name, struct mz_lb_ctx *c, struct mz_arena *a,
                                struct mz_imagined_host *out);
const struct mz_cluster *mz_cluster_manager_peek(struct mz_cluster_manager *m, struct mz_str name); /* main; borrowed; NULL: no such */
bool mz_cluster_is_passthrough(const struct mz_cluster *c); /* it connects where the client wanted to go (ORIGINAL_DST) */
/* Does its policy want the hash of a request? Only then one is computed, and a cookie made (Envoy). */
bool mz_wcluster_hashes(const struct mz_wcluster *w);
/* Why none of its hosts serves: @why as mz_wcluster_choose() told, and for the first few hosts what keeps them out. For the
 * story of a request; on the arena. */
struct mz_str mz_wcluster_why_none(struct mz_wcluster *w, const char *why, struct mz_arena *a);
struct mz_host *mz_wcluster_choose(struct mz_wcluster *w, struct mz_lb_ctx *c); /* borrowed; ref to keep. NULL: no host */
/* Priorities of a cluster; those of an aggregate are all of its inner clusters' in a row. */
unsigned mz_wcluster_priorities(struct mz_wcluster *w);
uint32_t mz_wcluster_priority_of(struct mz_wcluster *w, const struct mz_host *h); /* UINT32_MAX: not (or no longer) of it */
void mz_wcluster_priority_load(struct mz_wcluster *w, uint32_t *out_percent, unsigned n); /* healthy load per priority */
#endif
