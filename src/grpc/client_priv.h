#ifndef MZ_GRPC_CLIENT_PRIV_H
#define MZ_GRPC_CLIENT_PRIV_H
/* Between service.c, client.c (streams) and call.c (unary calls, which are streams of one message each way). */
#include "grpc/client.h"
#include "router/async.h"

struct service_header {
    struct mz_str name; /* lower case */
    struct mz_format *value;
};
struct mz_grpc_service {
    struct mz_arena *arena;
    struct mz_str cluster, authority;
    bool has_timeout, has_max_receive, skip_envoy_headers;
    uint64_t timeout_ms;
    uint32_t max_receive; /* 0: no limit */
    struct service_header *headers;
    size_t n_headers;
    const struct mz_retry_policy *retry; /* NULL: none */
};
/* The request's headers, in @a. */
struct mz_headers *service_request(const struct mz_grpc_service *s, const struct mz_grpc_method *m,
                                   const struct mz_grpc_opts *o, struct mz_arena *a);

enum stream_kind { KIND_STREAM, KIND_UNARY };
struct mz_grpc_stream *stream_open(struct mz_upstream *u, const struct mz_grpc_service *s,
                                   const struct mz_grpc_method *m, const struct mz_grpc_opts *o,
                                   enum stream_kind kind, const struct mz_grpc_stream_ops *ops, void *arg);
void stream_set_arg(struct mz_grpc_stream *s, void *arg);
struct mz_arena *stream_arena(struct mz_grpc_stream *s); /* goes at the end of the turn in which the stream ended */
#endif
