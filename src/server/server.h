#ifndef MZ_SERVER_SERVER_H
#define MZ_SERVER_SERVER_H
/*
 * The process: what the bootstrap asked for, the threads, and the way to the end (P2, P5). Everything here belongs to the
 * main thread; workers see it through struct mz_worker, struct mz_process and posts only.
 */
#include <pthread.h>

#include "admin/admin.h"
#include "filters/access_loggers/grpc_log.h"
#include "hcm/rds.h"
#include "listener/listener.h"
#include "proto/mapper.h"
#include "runtime/runtime.h"
#include "server/options.h"
#include "server/pages.h"
#include "tls/secrets.h"
#include "upstream/cluster.h"
#include "xds/init.h"
#include "xds/subscription.h"

enum mz_server_state { MZ_SERVER_LIVE, MZ_SERVER_DRAINING, MZ_SERVER_PRE_INITIALIZING, MZ_SERVER_INITIALIZING };
struct mz_thread {
    struct mz_worker worker;
    pthread_t id;
    bool running;
};
struct mz_server {
    struct mz_options opts;
    struct mz_arena *arena; /* texts and small objects that last as long as the process */
    struct mz_arena *load;  /* the bootstrap's text and messages; NULL once everything is built from them */
    struct mz_proto_ctx proto; /* arena: load */
    const pb_Bootstrap *bootstrap; /* in load */
    struct mz_loop *loop;
    struct mz_stats *stats;
    struct mz_scope *scope; /* server. */
    struct mz_runtime_store *runtime;
    struct mz_log_files *logs;
    struct mz_grpc_log_env grpc_logs; /* for access loggers that are services */
    struct mz_log_file *outlier_log; /* NULL: none */
    struct mz_recorder *recorder;
    struct mz_cluster_manager *clusters;
    struct mz_listener_manager *listeners;
    struct mz_factory factory;
    struct mz_process process;
    struct mz_worker main_worker; /* what main asks of clusters goes through its upstream */
    struct mz_thread *threads;
    struct mz_worker *workers; /* one an entry of threads */
    unsigned n_workers;
    struct mz_admin *admin;
    struct mz_pages *pages; /* of admin */
    struct mz_hcm_config *admin_hcm;
    struct mz_watchdog *watchdog;
    struct mz_scope **dispatchers; /* n_workers + 1; NULL without enable_dispatcher_stats */
    struct mz_timer flush_timer, drain_timer, exit_timer;
    uint64_t flush_ms, start_us, exit_deadline_us;
    enum mz_drain_scope drain_scope; /* of the graceful drain that runs */
    bool log_format; /* of the bootstrap is set */
    bool flush_on_admin; /* rather than every flush_ms */
    bool workers_started, exiting, skip_exit;
    bool clusters_ready; /* all of the first ones, by subscription too */
    struct mz_xds *xds;
    struct mz_workloads *workloads; /* NULL: the bootstrap has no such extension */
    const struct Envoy__Config__Core__V3__ConfigSource *workload_source; /* while the bootstrap is there */
    struct mz_loop **worker_loops; /* one a worker */
    struct mz_dynamic dynamic;
    struct mz_init init, runtime_init; /* what the start waits for; runtime layers come before clusters */
    bool cds_waiting;
    uint64_t unknown_counted; /* of mz_xds_unknown_fields() */
    void (*when_clusters_ready)(struct mz_server *s);
    void (*when_ready)(void *arg);
};

/* Reads, merges and checks the bootstrap; builds everything; binds unless @validate. False: err says where and why. */
bool mz_server_build(struct mz_server *s, const struct mz_options *o, struct mz_err *err);
bool mz_bootstrap_read(struct mz_server *s, struct mz_err *err); /* bootstrap.c */
bool mz_bootstrap_log(struct mz_server *s, struct mz_err *err);
struct mz_stats_config *mz_stats_config_from(const pb_StatsConfig *m, struct mz_arena *a, struct mz_err *err);
int mz_server_run(struct mz_server *s); /* until the end; the exit code */
void mz_server_destroy(struct mz_server *s);
enum mz_server_state mz_server_state(const struct mz_server *s);

/* dynamic.c */
void mz_server_xds_create(struct mz_server *s);                        /* after the workers' loops */
bool mz_server_extensions_build(struct mz_server *s, struct mz_err *err); /* before listeners; needs the factory */
bool mz_server_ads_build(struct mz_server *s, struct mz_err *err);     /* before whatever subscribes */
bool mz_server_secrets_build(struct mz_server *s, struct mz_err *err); /* before clusters and listeners */
bool mz_server_dynamic_build(struct mz_server *s, struct mz_err *err); /* after them */
void mz_server_dynamic_start(struct mz_server *s, void (*ready)(void *arg)); /* ready: all is there to serve with */
void mz_server_dynamic_stop(struct mz_server *s);
void mz_server_xds_destroy(struct mz_server *s);

bool mz_server_xds_context(struct mz_server *s, struct mz_err *err); /* xds_context.c: node_context_params */

/* xds_net.c: see struct mz_xds_net */
bool mz_server_xds_grpc(void *arg, const struct Envoy__Config__Core__V3__GrpcService *m, struct mz_xds_transport *out,
                        void (**out_destroy)(void *arg), struct mz_err *err);
void *mz_server_xds_post(void *arg, struct mz_str cluster, const char *path, struct mz_str body, uint64_t timeout_ms,
                         void (*done)(void *done_arg, unsigned status, struct mz_str body), void *done_arg);
void mz_server_xds_post_cancel(void *post);

/* workers.c */
void mz_workers_create(struct mz_server *s, unsigned n);
void mz_workers_start(struct mz_server *s);
void mz_workers_stop(struct mz_server *s); /* ends and joins the threads */

/* watchdog.c: counts threads that do not answer (P4). Main thread; destroy once the workers' loops ran their last posts. */
struct mz_watchdog *mz_watchdog_create(struct mz_server *s);
void mz_watchdog_start(struct mz_watchdog *d);
void mz_watchdog_destroy(struct mz_watchdog *d);

/* drain.c */
void mz_drain_init(struct mz_server *s);
void mz_drain_fini(struct mz_server *s);
void mz_server_drain(struct mz_server *s, enum mz_drain_scope scope, bool graceful, bool skip_exit);
void mz_server_exit(struct mz_server *s, const char *why); /* SIGTERM, /quitquitquit: see the file */

/* stats.c */
#define MZ_SERVER_STATS(X)                                                                                             \
    X(COMPILATION_FIPS, "compilation_settings.fips_mode", GAUGE, NONE) X(CONCURRENCY, "concurrency", GAUGE, NONE)      \
    X(DAYS_UNTIL_CERT, "days_until_first_cert_expiring", GAUGE, NONE)                                                  \
    X(DEBUG_ASSERTIONS, "debug_assertion_failures", COUNTER, NONE)                                                     \
    X(DROPPED_FLUSHES, "dropped_stat_flushes", COUNTER, NONE) X(DYNAMIC_UNKNOWN, "dynamic_unknown_fields", COUNTER, NONE) \
    X(BUGS, "envoy_bug_failures", COUNTER, NONE) X(NOTIFICATIONS, "envoy_notifications", COUNTER, NONE)                \
    X(EPOCH, "hot_restart_epoch", GAUGE, NONE) X(INIT_MS, "initialization_time_ms", HISTOGRAM, MS)                     \
    X(LIVE, "live", GAUGE, NONE) X(MEMORY_ALLOCATED, "memory_allocated", GAUGE, BYTES)                                 \
    X(MEMORY_HEAP, "memory_heap_size", GAUGE, BYTES) X(MEMORY_PHYSICAL, "memory_physical_size", GAUGE, BYTES)          \
    X(PARENT_CONNECTIONS, "parent_connections", GAUGE, NONE)                                                           \
    X(SECONDS_UNTIL_OCSP, "seconds_until_first_ocsp_response_expiring", GAUGE, NONE) X(STATE, "state", GAUGE, NONE)    \
    X(STATIC_UNKNOWN, "static_unknown_fields", COUNTER, NONE) X(RECENT_LOOKUPS, "stats_recent_lookups", GAUGE, NONE)   \
    X(CONNECTIONS, "total_connections", GAUGE, NONE) X(UPTIME, "uptime", GAUGE, NONE) X(VERSION, "version", GAUGE, NONE) \
    X(WIP, "wip_protos", COUNTER, NONE)
enum {
#define X(id, name, type, unit) MZ_SERVER_STAT_##id,
    MZ_SERVER_STATS(X)
#undef X
    MZ_SERVER_STAT__COUNT
};
extern const struct mz_stat_kind mz_server_stats;
void mz_server_stats_update(struct mz_server *s); /* gauges that are asked of the process */
void mz_server_stats_show(struct mz_server *s);   /* before a page shows them: also flushes where the bootstrap says so */
void mz_server_dispatchers_create(struct mz_server *s); /* histograms of every loop's turns (P3) */
void mz_server_dispatchers_destroy(struct mz_server *s);

/* admin_listener.c, pages_env.c */
struct Envoy__Config__Core__V3__Node;
void mz_server_abilities(struct mz_arena *a, struct Envoy__Config__Core__V3__Node *node); /* abilities.c: sets its extensions */
bool mz_server_overload_build(struct mz_server *s, struct mz_err *err); /* overload.c */
struct mz_str mz_server_node(const struct mz_server *s); /* packed Node as others are told; in s->arena. Bootstrap read */
bool mz_server_admin_start(struct mz_server *s, struct mz_err *err);
void mz_server_node_show(const struct mz_server *s); /* to expressions (xds.node) */
struct Envoy__Config__Core__V3__Node *mz_server_node_message(const struct mz_server *s); /* the same, not packed */
struct mz_pages *mz_server_pages_create(struct mz_server *s); /* bootstrap read, parts made; owned by the caller */
#endif
