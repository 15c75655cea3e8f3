#ifndef MZ_FILTERS_ISTIO_STATS_PRIV_H
#define MZ_FILTERS_ISTIO_STATS_PRIV_H
/*
 * istio.stats (S1, S4): the metrics of a mesh, whose labels tell who spoke to whom. stats_config.c builds, stats_labels.c says the labels
 * of one request or connection, stats_series.c finds the numbers that belong to labels, stats.c are the filters.
 */
#include "base/map.h"
#include "filters/istio/peer.h"
#include "listener/factory.h"
#include "stats/stats.h"

/* In the order in which they are shown. */
#define LABELS(X)                                                                                                      \
    X(REPORTER, "reporter") X(SOURCE_WORKLOAD, "source_workload") X(SOURCE_CANONICAL_SERVICE, "source_canonical_service") \
    X(SOURCE_CANONICAL_REVISION, "source_canonical_revision") X(SOURCE_WORKLOAD_NAMESPACE, "source_workload_namespace") \
    X(SOURCE_PRINCIPAL, "source_principal") X(SOURCE_APP, "source_app") X(SOURCE_VERSION, "source_version")            \
    X(SOURCE_CLUSTER, "source_cluster") X(DESTINATION_WORKLOAD, "destination_workload")                                \
    X(DESTINATION_WORKLOAD_NAMESPACE, "destination_workload_namespace") X(DESTINATION_PRINCIPAL, "destination_principal") \
    X(DESTINATION_APP, "destination_app") X(DESTINATION_VERSION, "destination_version")                                \
    X(DESTINATION_SERVICE, "destination_service") X(DESTINATION_CANONICAL_SERVICE, "destination_canonical_service")    \
    X(DESTINATION_CANONICAL_REVISION, "destination_canonical_revision") X(DESTINATION_SERVICE_NAME, "destination_service_name") \
    X(DESTINATION_SERVICE_NAMESPACE, "destination_service_namespace") X(DESTINATION_CLUSTER, "destination_cluster")    \
    X(REQUEST_PROTOCOL, "request_protocol") X(RESPONSE_CODE, "response_code")                                          \
    X(GRPC_RESPONSE_STATUS, "grpc_response_status") X(RESPONSE_FLAGS, "response_flags")                                \
    X(CONNECTION_SECURITY_POLICY, "connection_security_policy")
enum label {
#define X(id, name) LABEL_##id,
    LABELS(X)
#undef X
    LABEL__COUNT
};
/* Metrics of one group have the same labels. X(identifier, name, group, type, unit) */
#define METRICS(X)                                                                                                     \
    X(REQUESTS, "requests_total", HTTP, COUNTER, NONE) X(DURATION, "request_duration_milliseconds", HTTP, HISTOGRAM, MS) \
    X(REQUEST_BYTES, "request_bytes", HTTP, HISTOGRAM, BYTES) X(RESPONSE_BYTES, "response_bytes", HTTP, HISTOGRAM, BYTES) \
    X(REQUEST_MESSAGES, "request_messages_total", MESSAGES, COUNTER, NONE)                                             \
    X(RESPONSE_MESSAGES, "response_messages_total", MESSAGES, COUNTER, NONE)                                           \
    X(TCP_OPENED, "tcp_connections_opened_total", TCP, COUNTER, NONE) X(TCP_CLOSED, "tcp_connections_closed_total", TCP, COUNTER, NONE) \
    X(TCP_SENT, "tcp_sent_bytes_total", TCP, COUNTER, NONE) X(TCP_RECEIVED, "tcp_received_bytes_total", TCP, COUNTER, NONE)
enum metric {
#define X(id, name, group, type, unit) METRIC_##id,
    METRICS(X)
#undef X
    METRIC__COUNT
};
enum group { GROUP_HTTP, GROUP_MESSAGES, GROUP_TCP, GROUP__COUNT };
struct metric_row {
    struct mz_str name; /* as configurations call it */
    enum group group;
    unsigned first; /* of its group */
    const struct mz_stat_kind *alone; /* a kind that has only it */
};
extern const struct metric_row metric_rows[METRIC__COUNT];
extern const struct mz_stat_kind group_kinds[GROUP__COUNT];
extern const struct mz_str label_names[LABEL__COUNT];

/* ---- configuration ---- */
enum reporter { REPORTER_CLIENT, REPORTER_SERVER, REPORTER_GATEWAY };
enum { TAG_AS_IS = -1, TAG_DROPPED = -2 }; /* else the number of an expression */
struct addition {
    struct mz_str name;
    int expr;
};
struct additions {
    struct addition *v;
    unsigned n;
};
struct change { /* of one metric */
    bool drop;
    int16_t tags[LABEL__COUNT];
    struct additions added;
};
struct custom { /* a metric that the configuration defines; its labels are those that it adds */
    struct mz_str name; /* as configurations call it */
    const struct mz_stat_kind *kind;
    int expr;
    struct additions added;
    struct mz_scope *overflow;
};
#define CUSTOM_MAX 200 /* of one configuration */
struct stats_cfg {
    struct mz_arena *arena;
    struct mz_stats *stats;
    enum reporter reporter;
    bool no_host_fallback;
    uint64_t report_ms; /* 0: never before the end */
    struct peer self;
    struct change *changes; /* METRIC__COUNT; NULL: none */
    struct custom *customs;
    unsigned n_customs;
    struct mz_cel **exprs;
    unsigned n_exprs;
    struct mz_map *known;   /* of each thread: series by labels */
    unsigned n_slots;
    struct mz_scope *overflow[GROUP__COUNT]; /* of the store; where there are too many series */
};
void *stats_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void stats_config_destroy(void *cfg);

/* ---- labels ---- */
struct labels {
    struct mz_str v[LABEL__COUNT];
    uint32_t has; /* bit per label */
};
static inline void label_set(struct labels *l, enum label i, struct mz_str v)
{
    l->v[i] = v;
    l->has |= UINT32_C(1) << i;
}
struct subject { /* what the labels are about */
    const struct mz_stream_info *info;
    const struct mz_map *peers; /* filter state with the peers */
    struct mz_str cluster;      /* "": none was chosen */
    const struct mz_meta *cluster_metadata;
};
/* Is it known who the peer is, or that nobody will tell? */
bool labels_peer_known(const struct stats_cfg *c, const struct mz_map *peers);
/* Sets reporter, source and destination, and the security policy. Texts are borrowed of @s and its configuration. */
void labels_of_peers(const struct stats_cfg *c, const struct subject *s, struct labels *l);

/* ---- series ---- */
struct series { /* one number */
    struct mz_scope *scope; /* of the store; NULL: dropped */
    unsigned i;
};
/* Evaluates the expressions of @c; the texts lie in the arena of @info, out_values has n_exprs. */
void stats_evaluate(const struct stats_cfg *c, const struct mz_stream_info *info, bool headers, struct mz_str *out_values);
/* The numbers of all metrics of @g with these labels; out_series has METRIC__COUNT places. */
void series_find(const struct stats_cfg *c, enum group g, const struct labels *l, const struct mz_str *values, struct series *out_series);
struct custom_value { /* what a metric of the configuration's own is about to count */
    struct mz_scope *scope;
    uint64_t amount;
};
/* By the values of the expressions; out_values has n_customs places. */
void customs_find(const struct stats_cfg *c, const struct mz_str *values, struct custom_value *out_values);
void customs_count(const struct stats_cfg *c, const struct custom_value *values);
#endif
