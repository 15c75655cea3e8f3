#ifndef MZ_NET_CONN_H
#define MZ_NET_CONN_H
/*
 * A connection, downstream or upstream: one descriptor, its transport, an input buffer, an output buffer with watermarks.
 * It belongs to one loop. What sits above (network filter chain, pool client) gets the callbacks of struct mz_conn_ops.
 *
 * Reading is edge-triggered: one read per event unless it filled its budget; a short read means drained. Input stays in
 * the buffer until the owner takes it; mz_conn_read_disable() counts, so several causes stack (H7).
 * Writing is gathered: mz_conn_write() appends, the bytes leave in one writev at the end of the loop's turn.
 */
#include "base/buf.h"
#include "event/loop.h"
#include "net/addr.h"
#include "net/transport.h"
#include "stats/stats.h"
#include <sys/uio.h>

enum mz_conn_event {
    MZ_CONN_CONNECTED,     /* upstream: TCP and transport handshake done; downstream: transport handshake done */
    MZ_CONN_REMOTE_CLOSE,  /* the peer closed or reset: the connection is closed now, ops->event is the last callback */
    MZ_CONN_LOCAL_CLOSE,   /* mz_conn_close() ran to its end */
};
enum mz_close {
    MZ_CLOSE_FLUSH,       /* write what is in the output buffer, then close */
    MZ_CLOSE_NOW,         /* drop the output; FIN */
    MZ_CLOSE_RESET,       /* drop the output; RST (SO_LINGER 0) */
    MZ_CLOSE_FLUSH_DELAY, /* flush, wait for the peer's end or delayed_close_ms, then close (rule 5 of
                             attacks.md: the answer stays readable) */
};
struct mz_conn;
struct mz_conn_ops {
    /* New bytes are in mz_conn_in(); end: the peer sent FIN (once). With half-close enabled the connection stays open for
     * writing afterwards; without, REMOTE_CLOSE follows when data() returned. */
    void (*data)(struct mz_conn *c, void *arg, bool end);
    void (*event)(struct mz_conn *c, void *arg, enum mz_conn_event ev);
    void (*above_high)(struct mz_conn *c, void *arg); /* output buffer above its limit */
    void (*below_low)(struct mz_conn *c, void *arg);
    void (*flushed)(struct mz_conn *c, void *arg); /* optional: the output buffer became empty */
};
struct mz_wire; /* net/wire.h */
struct mz_bulk; /* net/bulk.c */
struct mz_race; /* net/eyeballs.c */
/* Byte counters and such of a connection's owner; any member NULL: not counted. Listener, http and cluster differ. */
struct mz_conn_stats {
    struct mz_scope *scope;
    uint16_t rx_total, rx_buffered, tx_total, tx_buffered; /* indices: counter, gauge, counter, gauge */
    uint16_t bind_errors, delayed_close_timeout;
};
#define MZ_STAT_NONE 0xffffu

struct mz_conn {
    struct mz_io io;
    struct mz_loop *loop;
    struct mz_transport *transport;
    const struct mz_conn_ops *ops;
    void *arg;
    struct mz_buf in, out;
    struct mz_watermark out_wm;
    uint64_t id;             /* process-wide, from 0 as Envoy's: log lines, %CONNECTION_ID% */
    uint64_t created_us;     /* monotonic */
    uint64_t last_activity_us; /* last byte either way */
    uint64_t rx_bytes, tx_bytes;
    uint32_t read_limit;     /* bytes read per event at most: 4 slices unless buffer limits say less */
    uint16_t read_disabled;  /* count of causes */
    uint8_t state;           /* private: connecting, open, flushing, delayed, closed */
    bool half_close;         /* mz_conn_set_half_close() */
    bool read_end, write_end; /* FIN received; FIN sent or queued */
    bool early_close;        /* the peer's end is noticed though reading is disabled: default for accepted connections; not
                                for connects, whose unread answer must not be lost */
    bool failed_at_once;     /* connect() itself gave the error, or what goes before it */
    bool failed_here;        /* what goes before it: LOCAL_CLOSE. Where bind() failed, local is the address */
    bool trace;              /* log lines of this connection are written at any level (P9: live tracing) */
    int error;               /* errno of the failure, 0 */
    const char *close_reason; /* static text: local close reason, %CONNECTION_TERMINATION_DETAILS% or NULL */
    struct mz_addr local, remote, direct_remote;
    struct mz_conn_closing *closing; /* its time; NULL: it does not close, or without one */
    struct mz_task flush_task;
    struct mz_conn_stats stats;
    struct mz_wire *wire; /* owned; what it has instead of a descriptor. NULL: a socket */
    struct mz_bulk *bulk; /* NULL: not joined to another, see mz_conn_join() */
    struct mz_race *race; /* NULL: one address, or connected in a turn before this one; see net/eyeballs.h */
    /* Private to conn.c. */
    uint32_t buffer_limit, delayed_close_ms;
    uint32_t in_gauge, out_gauge; /* what the buffered gauges hold of us */
    bool read_ready;              /* the kernel may have more input than was taken */
    bool offer;                   /* input that is buffered goes to data() though nothing new came */
    bool peer_end;                /* epoll told of the peer's end: a short read does not mean drained */
    bool big_reads;               /* the last read filled its slice */
    bool write_blocked, write_failed, fin_sent, wrote, delay, bind_failed, announced;
};

uint64_t mz_conn_next_id(void); /* any thread */

/* Takes an accepted, non-blocking descriptor. Reading starts at once (first callback in a later turn). */
struct mz_conn *mz_conn_accepted(struct mz_loop *l, int fd, const struct mz_addr *local, const struct mz_addr *remote,
                                 struct mz_transport *take_transport, const struct mz_conn_ops *ops, void *arg);
/* The same of a connection within the thread. */
struct mz_conn *mz_conn_accepted_wire(struct mz_loop *l, struct mz_wire *take, const struct mz_addr *local,
                                      const struct mz_addr *remote, struct mz_transport *take_transport,
                                      const struct mz_conn_ops *ops, void *arg);
/* Starts a connect (U3); CONNECTED or REMOTE_CLOSE (c->error says why; LOCAL_CLOSE where no SYN left, as without the source
 * address) arrives later, never from inside this call. The
 * connect timeout belongs to the caller: it closes with mz_conn_close(NOW). @bind may be NULL. An internal address is answered on
 * the same loop (net/wire.h); nothing is bound there. */
struct mz_conn_connect_opts {
    const struct mz_addr *to;
    const struct mz_addr *bind; /* upstream_bind_config */
    const struct mz_socket_opts *opts; /* net/socket.h; NULL */
    bool foreign;               /* @bind is another machine's address (IP_TRANSPARENT; needs CAP_NET_ADMIN) */
    uint32_t mark;              /* SO_MARK; 0: none */
    unsigned hops;              /* connections to internal addresses that led here */
};
struct mz_conn_source {
    const struct mz_addr *addr; /* NULL: any */
    const struct mz_socket_opts *opts; /* NULL: none */
};
/* Of two sources, the second of which may have no address: that of @to's family, else the first. */
const struct mz_conn_source *mz_conn_source_for(const struct mz_conn_source v[2], const struct mz_addr *to);
struct mz_conn *mz_conn_connect(struct mz_loop *l, const struct mz_conn_connect_opts *o, struct mz_transport *take_transport,
                                const struct mz_conn_ops *ops, void *arg);

static inline struct mz_buf *mz_conn_in(struct mz_conn *c)
{
    return &c->in;
}
void mz_conn_write(struct mz_conn *c, struct mz_buf *take, bool end); /* moves all bytes; end: half-close after them */
struct mz_buf *mz_conn_out(struct mz_conn *c);  /* append directly, then mz_conn_written() once */
void mz_conn_written(struct mz_conn *c, bool end);
void mz_conn_flush_now(struct mz_conn *c);      /* does not wait for the end of the turn */
void mz_conn_read_disable(struct mz_conn *c, bool disable); /* stacks; on the last enable buffered input is offered again */
void mz_conn_read_resume(struct mz_conn *c); /* the owner took input that had reached the buffer limit */
void mz_conn_set_half_close(struct mz_conn *c, bool on);
void mz_conn_set_buffer_limit(struct mz_conn *c, uint32_t bytes); /* high watermark of out, and bounds reads; 0: none */
void mz_conn_set_ops(struct mz_conn *c, const struct mz_conn_ops *ops, void *arg); /* an idle pool client changes owner */
bool mz_conn_above_high(const struct mz_conn *c);
/* From now on whatever @from says goes to @to, and nobody looks at it: what data() finds in the input buffer its owner writes
 * to @to at once. Bulk is then moved by splice(2), past both buffers: data() is not called for it, @moved tells how much.
 * Order, limits, watermark callbacks of @to, counters, gauges and ends of input are the same. Both transports must be raw;
 * false: not possible. Ends with either connection. */
bool mz_conn_join(struct mz_conn *from, struct mz_conn *to, void (*moved)(void *arg, size_t n), void *arg);
size_t mz_conn_unsent(const struct mz_conn *c); /* bytes of output that the kernel has not taken */
/* Does nothing when already closed. The event LOCAL_CLOSE comes from inside this call for NOW and RESET (the owner must be
 * prepared), later for the others. After the close event no callback comes; the memory is freed at the end of the turn. */
void mz_conn_close(struct mz_conn *c, enum mz_close how, const char *reason, uint32_t delayed_close_ms);
/* The connection goes on under TLS once its output is written (starttls): false: its transport cannot. CONNECTED comes again when
 * the handshake is done. */
bool mz_conn_start_secure(struct mz_conn *c);
void mz_conn_handshakes(struct mz_conn *c); /* for transports: not ready any more */
/* For transports: as readv(), writev(), shutdown(SHUT_WR) on whatever the connection stands on. */
ssize_t mz_conn_readv(struct mz_conn *c, const struct iovec *iov, unsigned n);
ssize_t mz_conn_writev(struct mz_conn *c, const struct iovec *iov, unsigned n);
int mz_conn_shutdown(struct mz_conn *c);
void mz_conn_write_blocked(struct mz_conn *c); /* for transports: the kernel is full; the next room flushes again */
bool mz_conn_is_open(const struct mz_conn *c);
void mz_conn_no_delay(struct mz_conn *c, bool on);
#endif
