#ifndef MZ_SERVER_PAGES_H
#define MZ_SERVER_PAGES_H
/*
 * The admin pages of the proxy (O4, P9, design.md 6) and the HTTP filter that serves them. Main thread. What the pages show
 * and do comes in as pointers; what only the server can do comes in as functions. Who changes something must POST (H07).
 */
#include "admin/admin.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct Envoy__Admin__V3__CommandLineOptions;
struct mz_cluster_manager;
struct mz_http_filter_type;
struct mz_listener_manager;
struct mz_log_files;
struct mz_recorder;
struct mz_runtime_store;
struct mz_stats;
struct mz_cds;
struct mz_lds;
struct mz_rds_manager;
struct mz_secrets;
struct mz_init;

struct mz_dynamic { /* what came by subscription; each may be NULL */
    struct mz_cds *cds;
    struct mz_lds *lds;
    struct mz_rds_manager *rds;
    struct mz_ecds *ecds;
    struct mz_secrets *secrets;
    struct mz_init *init; /* what the start waits for */
};

struct mz_drain_request { /* POST /drain_listeners */
    bool graceful;     /* wait --drain-time-s with closing the listening sockets */
    bool skip_exit;    /* drain connections, never close the listening sockets */
    bool inbound_only; /* listeners whose traffic_direction is INBOUND */
};

/* Borrowed; all of it lives longer than the pages. */
struct mz_pages_env {
    struct mz_stats *stats;
    struct mz_cluster_manager *clusters;
    struct mz_listener_manager *listeners;
    struct mz_runtime_store *runtime;
    struct mz_recorder *recorder;
    struct mz_log_files *log_files;
    const struct mz_dynamic *dynamic;
    /* The Bootstrap as merged, packed, with the node as the command line completed it. Static listeners and clusters may be
     * left out of it: /config_dump puts in those of the managers. */
    struct mz_str bootstrap;
    uint64_t bootstrap_wall_us;
    const struct Envoy__Admin__V3__CommandLineOptions *options;
    const char *version;           /* <revision>/<version>/<state>/<build>/<tls> */
    uint64_t start_us;             /* mz_clock->mono_us() at start */
    uint64_t first_epoch_wall_us;  /* start of the first process of a chain of hot restarts */
    unsigned (*state)(void *arg);               /* a value of envoy.admin.v3.ServerInfo.State */
    void (*set_healthy)(void *arg, bool ok);    /* /healthcheck/ok, /healthcheck/fail */
    void (*refresh)(void *arg);                 /* before statistics are read: gauges that are asked of the process */
    void (*quit)(void *arg);                    /* as SIGTERM; the answer is still sent */
    void (*drain_listeners)(void *arg, const struct mz_drain_request *rq);
    void *arg; /* of the functions above */
};

struct mz_pages;
struct mz_pages *mz_pages_create(const struct mz_pages_env *env); /* copies the struct */
void mz_pages_destroy(struct mz_pages *p);                        /* after the struct mz_admin that it was added to */
void mz_pages_add(struct mz_pages *p, struct mz_admin *a);        /* every page below */

/* The terminal filter of the admin listener, for mz_hcm_config_admin(); its configuration is a struct mz_admin. A POST that a
 * browser sends for another site's page is refused (403): Origin must name the host that the request is for. */
extern const struct mz_http_filter_type mz_http_filter_admin;
#endif
