#ifndef MZ_LISTENER_LISTENER_FILTER_H
#define MZ_LISTENER_LISTENER_FILTER_H
/*
 * Listener filters (L2): they look at a connection before its filter chain is chosen, at the first bytes (which stay in the
 * socket) or at the socket itself. In order, one after another; on the worker that accepted.
 */
#include "base/arena.h"
#include "listener/factory.h"
#include "net/addr.h"

struct mz_meta;

/* An accepted connection that has no chain yet; what filters find out goes here. Texts lie in @arena. */
struct mz_incoming {
    int fd;                               /* -1: it stands on @wire */
    struct mz_wire *wire;                 /* of an internal listener (net/wire.h); NULL: a socket */
    struct mz_shared_state *state;        /* filter state that came with it; the arena holds a reference. NULL: none */
    uint64_t caller;                      /* id of the client's connection, with @wire */
    unsigned hops;                        /* connections to internal listeners that led here, this one too */
    struct mz_addr local, remote;         /* as restored by filters */
    struct mz_addr socket_local, direct_remote; /* as the socket has them */
    uint16_t listening_port;              /* of the socket that accepted it */
    bool local_restored;                  /* the client wanted to go elsewhere (original_dst, PROXY protocol) */
    bool local_asked;                     /* original_dst knows the destination, be it this listener itself */
    struct mz_addr upstream_source;       /* whence connections made for it come (original_src); len 0: as configured */
    uint32_t upstream_mark;               /* SO_MARK of those; 0: none */
    struct mz_str transport;              /* "raw_buffer", "tls" */
    struct mz_str server_name;            /* lower case */
    struct mz_str *protocols;             /* ALPN, or what http_inspector saw */
    size_t n_protocols;
    struct mz_str ja3, ja4;
    struct mz_str proxy_tlvs;             /* of a PROXY protocol header, those that may be passed on; as in its version 2 */
    bool proxied;                         /* a PROXY protocol header named the addresses */
    struct mz_meta *metadata;             /* dynamic; NULL: none */
    struct mz_arena *arena;               /* NULL for a listener without filters */
    struct mz_worker *worker;
    struct mz_scope *scope;               /* of the listener */
};

enum mz_lfilter_flow {
    MZ_LF_CONTINUE, /* done: the next filter */
    MZ_LF_STOP,     /* more bytes are needed; on_data is called when they came */
    MZ_LF_CLOSE,    /* the connection ends here */
};
struct mz_lfilter_type;
struct mz_lfilter {
    const struct mz_lfilter_type *type;
    const void *cfg;         /* borrowed: the listener's configuration holds it */
    struct mz_incoming *in;
    size_t consume;          /* set with CONTINUE: so many of the bytes shown are taken off the socket */
};
struct mz_lfilter_type {
    const char *name, *config_type;
    size_t size; /* of the object: begins with struct mz_lfilter, rest zeroed; in the connection's arena */
    void *(*config_build)(const void *msg, const struct mz_factory *f, struct mz_err *err); /* main thread */
    void (*config_destroy)(void *cfg);
    enum mz_lfilter_flow (*on_accept)(struct mz_lfilter *f); /* NULL: asks for data */
    /* @bytes: all that the socket holds, at most @want(); @end: nothing more will come. */
    enum mz_lfilter_flow (*on_data)(struct mz_lfilter *f, struct mz_str bytes, bool end);
    size_t (*want)(const struct mz_lfilter *f);  /* most bytes on_data may look at */
    size_t (*first)(const struct mz_lfilter *f); /* bytes looked at in the first place, then twice as many; NULL: 2 KiB */
};
#endif
