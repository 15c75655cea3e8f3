#ifndef MZ_FILTERS_GRPC_LOG_H
#define MZ_FILTERS_GRPC_LOG_H
/*
 * The gRPC access log service (O2): HTTP and TCP entries, gathered on each worker and sent in one stream a worker and log.
 * Nothing of it ever blocks or fails a request: what finds no room is dropped and counted (access_logs.grpc_access_log.).
 */
#include "grpc/client.h"
#include "observe/access_log.h"
#include "observe/format.h"

struct mz_grpc_log_env { /* borrowed as long as logs live */
    struct mz_scope *scope;
    struct mz_str node; /* envoy.config.core.v3.Node, packed */
    struct mz_upstream *(*upstream_here)(void *arg); /* of the thread that asks; NULL: it has none any more */
    void *arg;
    unsigned n_slots;
};
extern const struct mz_stat_kind mz_grpc_log_stats;
extern const struct mz_access_logger_type mz_access_logger_http_grpc, mz_access_logger_tcp_grpc, mz_access_logger_otel;

/* grpc_log_entry.c: what a request or connection looks like as a message, in @a */
struct grpc_log_headers {
    struct mz_str *v; /* lower case */
    size_t n;
};
struct grpc_log_extra {
    struct grpc_log_headers request, response, trailers;
    struct grpc_log_headers objects; /* of the filter state, as named */
};
ProtobufCMessage *grpc_log_http(const struct mz_format_ctx *c, const struct grpc_log_extra *x, struct mz_arena *a);
ProtobufCMessage *grpc_log_tcp(const struct mz_format_ctx *c, const struct grpc_log_extra *x, struct mz_arena *a);
#endif
