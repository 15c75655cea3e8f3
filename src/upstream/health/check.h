#ifndef MZ_UPSTREAM_HEALTH_CHECK_H
#define MZ_UPSTREAM_HEALTH_CHECK_H
/*
 * Active health checks (U6), all on the main thread: a checker per cluster, a session per host. The session counts results
 * and decides on the host's state (check.c); a probe asks the host (check_http.c, check_tcp.c). A probe is given up silently
 * at any moment: whatever of its connection comes later finds that nobody waits.
 */
#include "observe/format.h"
#include "observe/matcher.h"
#include "upstream/health/health.h"

struct check_bytes {
    struct mz_str *v;
    size_t n, total;
};
struct check_range { /* from <= status < to */
    uint32_t from, to;
};
struct check_ranges {
    struct check_range *v;
    size_t n;
};
struct check_header {
    struct mz_str name; /* lower case */
    struct mz_format *value;
    int action; /* pb_HeaderValueOption_HeaderAppendAction */
    bool keep_empty;
};
struct check_http_config {
    struct mz_str host, path, method;
    bool http2, grpc; /* grpc: send is a framed HealthCheckRequest, the answer is judged by check_grpc.c */
    struct check_bytes send, receive;
    uint64_t buffer_size;
    struct check_header *add;
    size_t n_add;
    struct mz_str *remove;
    size_t n_remove;
    struct check_ranges expected, retriable;
    struct mz_string_match *service; /* NULL: any */
};
struct check_probe_type;
struct check_config {
    const struct check_probe_type *type;
    uint64_t timeout_ms, interval_ms, initial_jitter_ms, interval_jitter_ms;
    uint32_t jitter_percent, unhealthy_threshold, healthy_threshold;
    uint64_t no_traffic_ms, no_traffic_healthy_ms;
    uint64_t unhealthy_ms, unhealthy_edge_ms, healthy_edge_ms;
    uint16_t alt_port; /* 0: the host's */
    bool reuse, log_failures, log_success, exclude_new, forget_removed;
    struct mz_log_file **logs;
    size_t n_logs;
    struct check_http_config http;
    struct check_bytes tcp_send, tcp_receive;
};

enum check_failure { /* the numbers of envoy.data.core.v3.HealthCheckFailureType */
    FAILURE_ACTIVE,
    FAILURE_PASSIVE,
    FAILURE_NETWORK,
    FAILURE_NETWORK_TIMEOUT,
};
struct check_outcome { /* of a check that failed */
    enum check_failure type;
    bool retriable;
    enum check_result result;
    uint32_t value; /* HTTP status, errno */
};
enum check_change { CHANGE_NONE, CHANGE_PENDING, CHANGE_DONE };

struct checker {
    unsigned refs;              /* atomic: its cluster and each host that it checks */
    struct mz_cluster *cluster; /* main thread, until it is stopped */
    struct mz_loop *main;
    struct check_config cfg;
    struct mz_scope *scope;
    struct mz_scope *codec_scope; /* of the protocol that it speaks; NULL: none of HTTP, or nothing was asked yet */
    struct mz_list sessions;
    uint32_t n_first; /* sessions whose first check has not ended */
    uint32_t healthy, degraded;
    bool stopped;
    void (*first_done)(struct mz_cluster *c); /* once no first check is awaited any more */
};
struct check_session {
    struct mz_list link;
    struct checker *checker; /* borrowed: it ends its sessions */
    struct mz_host *host;    /* reference */
    struct mz_timer interval, timeout;
    bool first, kept; /* first check not ended; seen in the cluster's present hosts */
    uint32_t good, bad; /* in a row */
    void *probe;        /* the probe type's: a connection, maybe with a check under way */
};
struct check_probe_type {
    int number; /* envoy.data.core.v3.HealthCheckerType */
    const char *name;
    void (*start)(struct check_session *s);
    void (*drop)(struct check_session *s); /* closes; silent from here on. Idempotent */
};
extern const struct check_probe_type check_http, check_grpc, check_tcp;

/* check.c: a probe tells the outcome of the check under way */
void check_passed(struct check_session *s, bool degraded);
void check_failed(struct check_session *s, const struct check_outcome *o);
struct mz_conn_ops;
struct mz_conn *check_connect(struct check_session *s, const struct mz_conn_ops *ops, void *arg);
bool check_bytes_found(const struct check_bytes *b, struct mz_str in); /* all segments, in their order */

/* check_grpc.c: grpc.health.v1 */
size_t check_grpc_request_size(size_t service_name);
void check_grpc_request(struct mz_str service, char *out); /* frame and HealthCheckRequest: so many bytes */
#define CHECK_GRPC_ANSWER 1024 /* longest answer that is looked at */
bool check_grpc_answers(const struct mz_headers *h); /* do these headers begin an answer at all? else it is judged now */
/* @trailers NULL: there are none. @out_value: grpc-status, HTTP status or ServingStatus, as the result says. */
enum check_result check_grpc_judge(const struct mz_headers *h, const struct mz_headers *trailers, struct mz_str body,
                                   uint32_t *out_value);

/* check_config.c */
void check_config_fini(struct check_config *c);

/* events.c */
enum check_event { EVENT_EJECT, EVENT_ADD, EVENT_FAILURE, EVENT_DEGRADED, EVENT_NO_LONGER_DEGRADED, EVENT_SUCCESS };
void event_check(const struct check_session *s, enum check_event e, const struct check_outcome *o);
#endif
