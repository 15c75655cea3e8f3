#ifndef MZ_GRPC_CLIENT_H
#define MZ_GRPC_CLIENT_H
/*
 * Calls of gRPC services in our clusters (envoy.config.core.v3.GrpcService with envoy_grpc), on router/async.h: on a worker
 * or on the main thread, whose struct mz_upstream is given. The same rules: no callback from inside the call that starts or
 * sends, exactly one last callback, silence after a cancel.
 *
 * Status: from trailers, from headers of an answer without a body, from another HTTP status (http/grpc.h's table), from the
 * failure of the stream as the router would tell a gRPC client: UNAVAILABLE (14) with the router's text, no cluster
 * UNAVAILABLE "Cluster not available", a broken stream INTERNAL (13), a deadline DEADLINE_EXCEEDED (4), a message above the
 * limit RESOURCE_EXHAUSTED (8), one that is no message or compressed INTERNAL, an answer without status UNKNOWN (2).
 */
#include "grpc/grpc.h"
#include "http/header_map.h"
#include "observe/format.h"
#include "upstream/cluster.h"

struct mz_err;
struct Envoy__Config__Core__V3__GrpcService;

/* ---- the configuration of a service: immutable, any thread; main thread makes it ---- */
struct mz_grpc_service;
/* The cluster need not exist yet (xDS may bring it). Errors begin with the field: "envoy_grpc.cluster_name ...". */
struct mz_grpc_service *mz_grpc_service_create(const struct Envoy__Config__Core__V3__GrpcService *m, struct mz_err *err);
void mz_grpc_service_destroy(struct mz_grpc_service *s); /* NULL is fine; streams on it have ended */
struct mz_str mz_grpc_service_cluster(const struct mz_grpc_service *s);
uint64_t mz_grpc_service_timeout_ms(const struct mz_grpc_service *s, uint64_t otherwise); /* its timeout field */

struct mz_grpc_opts {
    uint64_t timeout_ms;  /* 0: none; also sent as grpc-timeout. Of a stream: from its start */
    uint32_t max_receive; /* bytes of one message; 0: MZ_GRPC_MAX_RECEIVE. The service's max_receive_message_length, where
                           * set, counts instead */
    uint32_t max_queue;   /* of a stream: bytes that may wait to be sent; 0: MZ_GRPC_MAX_QUEUE */
    bool bytes_only;      /* messages are not unpacked */
    const struct mz_headers *metadata;  /* added to the request's headers, copied; NULL */
    const struct mz_format_ctx *format; /* for initial_metadata with operators: whose request this is; NULL */
    bool no_xff, no_internal;           /* as in router/async.h */
};
#define MZ_GRPC_MAX_RECEIVE (4u << 20)
#define MZ_GRPC_MAX_QUEUE   (1u << 20)

/* ---- unary ---- */
struct mz_grpc_call;
/* @reply NULL unless the status is OK. The call is gone when this runs. */
typedef void mz_grpc_done(void *arg, const struct mz_grpc_status *st, struct mz_grpc_message *reply);
/* @request is packed before this returns. Retries, if the service has a policy, by grpc-status as well. Never NULL. */
struct mz_grpc_call *mz_grpc_call(struct mz_upstream *u, const struct mz_grpc_service *s, const struct mz_grpc_method *m,
                                  const ProtobufCMessage *request, const struct mz_grpc_opts *o, mz_grpc_done *done, void *arg);
void mz_grpc_call_cancel(struct mz_grpc_call *c); /* NULL is fine */

/* ---- streams, in both directions ---- */
struct mz_grpc_stream;
struct mz_grpc_stream_ops { /* NULL: not wanted */
    void (*headers)(void *arg, const struct mz_headers *h); /* the server's initial metadata, before the first message */
    void (*message)(void *arg, struct mz_grpc_message *m);
    void (*writable)(void *arg); /* a send was refused for want of room, and there is room now */
    /* Last: also where the stream could never begin. */
    void (*closed)(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers /* NULL */);
};
/* Never NULL. The service's retry policy does not count: who keeps a stream opens it again, with a back-off. */
struct mz_grpc_stream *mz_grpc_stream_open(struct mz_upstream *u, const struct mz_grpc_service *s, const struct mz_grpc_method *m,
                                           const struct mz_grpc_opts *o, const struct mz_grpc_stream_ops *ops, void *arg);
/* False: more than max_queue would wait; nothing was taken, writable() will tell. One message alone may exceed the limit. */
bool mz_grpc_stream_send(struct mz_grpc_stream *s, const ProtobufCMessage *msg);
bool mz_grpc_stream_send_bytes(struct mz_grpc_stream *s, struct mz_str packed);
size_t mz_grpc_stream_queued(const struct mz_grpc_stream *s); /* bytes that have not reached the connection's buffer */
void mz_grpc_stream_end(struct mz_grpc_stream *s);            /* half-close: the peer hears that no more comes */
void mz_grpc_stream_read_disable(struct mz_grpc_stream *s, bool disable); /* no message() meanwhile; stacks */
void mz_grpc_stream_cancel(struct mz_grpc_stream *s);         /* RST_STREAM; silent; NULL is fine */
struct mz_str mz_grpc_stream_host(const struct mz_grpc_stream *s); /* "10.0.0.1:15010"; "" */
#endif
