#ifndef MZ_GRPC_SERVER_H
#define MZ_GRPC_SERVER_H
/*
 * Serves gRPC on a listener of its own (control plane, agent): HTTP/2 without an HTTP connection manager. A server, its
 * connections and calls belong to one loop.
 *
 * A call is told of by its handler's functions; they may call every function below on any call. None of them runs from inside
 * mz_grpc_serving_*(): begin, then any messages, then at most one half_closed, at last gone, exactly once, whatever happened.
 */
#include "base/err.h"
#include "grpc/grpc.h"
#include "http/header_map.h"
#include "net/addr.h"
#include "net/transport.h"

struct mz_loop;
struct mz_grpc_server;
struct mz_grpc_serving; /* one call */
struct mz_grpc_handler {
    struct mz_grpc_method method;
    bool bytes_only; /* messages are not unpacked */
    /* @h: the request's headers, valid as long as the call. Returns the handler's object for it; NULL is fine. */
    void *(*begin)(void *arg, struct mz_grpc_serving *c, const struct mz_headers *h);
    void (*message)(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m);
    void (*half_closed)(void *object, struct mz_grpc_serving *c); /* NULL; the client sends nothing more */
    void (*writable)(void *object, struct mz_grpc_serving *c);    /* NULL; a send was refused, and there is room again */
    /* Finished, reset by the client, its deadline over, the connection lost. @c is no more. */
    void (*gone)(void *object, struct mz_grpc_serving *c);
};
struct mz_grpc_server_opts {
    uint32_t max_receive;     /* bytes of a message; 0: 4 MiB */
    uint32_t max_queue;       /* bytes of a call that wait to be sent; 0: 1 MiB. One message alone may exceed it */
    uint32_t max_calls;       /* at once on a connection; 0: 100 */
    uint32_t max_connections; /* 0: 1024. More are closed at once */
    uint64_t idle_ms;         /* a connection without a call is closed; 0: 5 minutes */
    bool (*admit)(int fd);    /* whether a connection is taken, told before anything is read; NULL: each */
    uint64_t keepalive_ms;    /* PINGs on silent connections, answered within 20 s; 0: none */
};
struct mz_grpc_server *mz_grpc_server_create(struct mz_loop *l, const struct mz_grpc_handler *v, size_t n, void *arg,
                                             const struct mz_grpc_server_opts *o); /* borrows v; arg is for begin */
/* More methods, with an arg of their own; seven times at most. */
void mz_grpc_server_add(struct mz_grpc_server *s, const struct mz_grpc_handler *v, size_t n, void *arg); /* borrows v */
/* May be called several times. @f: reference is taken; NULL plain. Port 0: the kernel chooses; @out_addr tells, may be NULL. */
bool mz_grpc_server_listen(struct mz_grpc_server *s, const struct mz_addr *a, const struct mz_transport_factory *f,
                           struct mz_addr *out_addr, struct mz_err *err);
void mz_grpc_server_drain(struct mz_grpc_server *s); /* no further connections and calls; calls go on */
unsigned mz_grpc_server_calls(const struct mz_grpc_server *s);
void mz_grpc_server_destroy(struct mz_grpc_server *s); /* ends all calls: gone runs inside. Not from a handler's function */

/* ---- a call ---- */
/* False: more than max_queue would wait; nothing was taken. After its end everything is taken and dropped. */
bool mz_grpc_serving_send(struct mz_grpc_serving *c, const ProtobufCMessage *m);
bool mz_grpc_serving_send_bytes(struct mz_grpc_serving *c, struct mz_str packed);
bool mz_grpc_serving_send_buf(struct mz_grpc_serving *c, struct mz_buf *packed); /* a message; its slices move on, none is copied */
void mz_grpc_serving_finish(struct mz_grpc_serving *c, int code, struct mz_str message); /* after what was sent */
void mz_grpc_serving_read_disable(struct mz_grpc_serving *c, bool disable);              /* no message meanwhile; stacks */
size_t mz_grpc_serving_queued(const struct mz_grpc_serving *c);
const struct mz_addr *mz_grpc_serving_peer(const struct mz_grpc_serving *c);
const struct mz_tls_facts *mz_grpc_serving_tls(const struct mz_grpc_serving *c); /* NULL: plain, or the call is over */
struct mz_arena *mz_grpc_serving_arena(const struct mz_grpc_serving *c);        /* lives until the end of the turn of gone */
#endif
