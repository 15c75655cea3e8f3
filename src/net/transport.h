#ifndef MZ_NET_TRANSPORT_H
#define MZ_NET_TRANSPORT_H
/*
 * Transport sockets (U8): what lies between a connection's buffers and its descriptor. raw_buffer is the descriptor itself;
 * TLS and others come later at this interface. One object per connection, on the connection's loop.
 */
#include "base/arena.h"
#include "base/buf.h"
#include <stdbool.h>

struct mz_conn;
enum mz_io_status { MZ_IO_OK, MZ_IO_AGAIN, MZ_IO_EOF, MZ_IO_FAIL }; /* FAIL: errno or mz_transport_failure() tells why */

struct mz_transport;
struct mz_transport_ops {
    const char *name;
    /* Appends at most about max bytes to in. OK: there may be more at once; AGAIN: the kernel has no more now (also after
     * some bytes were appended); EOF: the peer ended its direction (bytes may have been appended before). */
    enum mz_io_status (*read)(struct mz_transport *t, struct mz_buf *in, size_t max);
    /* Takes bytes off the front of out. OK: all written; AGAIN: the kernel is full. end: shut the direction down when empty. */
    enum mz_io_status (*write)(struct mz_transport *t, struct mz_buf *out, bool end);
    void (*connected)(struct mz_transport *t);  /* the TCP connection stands: may start a handshake; NULL: ready at once */
    bool (*ready)(const struct mz_transport *t); /* handshake done? NULL: always */
    struct mz_str (*failure)(const struct mz_transport *t); /* text for %..TRANSPORT_FAILURE_REASON%; NULL: none */
    struct mz_str (*protocol)(const struct mz_transport *t); /* negotiated ALPN; NULL: none */
    void (*close)(struct mz_transport *t, bool reset); /* before the descriptor is closed (close_notify) */
    void (*destroy)(struct mz_transport *t);
};
struct mz_transport {
    const struct mz_transport_ops *ops;
    struct mz_conn *conn; /* set by the connection */
};
struct mz_transport *mz_transport_raw(void); /* a shared static object is not possible: it knows its conn */

/* Makes transports for the connections of a filter chain or a cluster; immutable, shared by threads. */
struct mz_transport_factory {
    const char *name; /* "raw_buffer", "tls" */
    bool secure;      /* ssl: scheme https, %DOWNSTREAM_TLS_..% */
    struct mz_transport *(*create)(const struct mz_transport_factory *f, struct mz_conn *c);
    void (*destroy)(struct mz_transport_factory *f); /* last reference */
    unsigned refs;                                   /* atomic */
};
struct mz_transport_factory *mz_transport_factory_raw(void);
struct mz_transport_factory *mz_transport_factory_ref(const struct mz_transport_factory *f);
void mz_transport_factory_unref(const struct mz_transport_factory *f);
#endif
