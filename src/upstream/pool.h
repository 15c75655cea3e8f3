#ifndef MZ_UPSTREAM_POOL_H
#define MZ_UPSTREAM_POOL_H
/*
 * Connection pools (U3): per worker, host, routing priority and protocol. Pools connect, queue pending requests up to the
 * breaker, hand out streams, keep idle connections. A released connection is used again only after its loop has polled it
 * once more (H10).
 */
#include "http/codec.h"
#include "net/conn.h"
#include "upstream/cluster.h"

/* NONE: max_connection_pools allows no pool for the host (HTTP) */
enum mz_pool_failure { MZ_POOL_NONE, MZ_POOL_OVERFLOW, MZ_POOL_LOCAL_CONNECT_FAIL, MZ_POOL_REMOTE_CONNECT_FAIL, MZ_POOL_CONNECT_TIMEOUT };

struct mz_pool_ready { /* what is known of the connection; valid during the callback, copy what you need */
    struct mz_stream_enc *enc;
    struct mz_host *host;
    const struct mz_addr *local, *remote;
    const struct mz_conn *conn; /* for mz_eyeballs_story() */
    uint64_t conn_id;
    enum mz_http_protocol protocol;
    bool reused;
    uint64_t conn_age_us;
    uint32_t conn_requests; /* requests it carried before */
    uint64_t connect_start_us, connect_us;
    struct mz_str alpn;
};
struct mz_pool_ops {
    /* Exactly one of the two, once; both may run from inside mz_http_pool_request(). */
    void (*ready)(void *arg, const struct mz_pool_ready *r);
    void (*failed)(void *arg, enum mz_pool_failure why, struct mz_str transport_failure, int err, struct mz_host *host);
};
struct mz_pool_pending; /* waits for a connection */
struct mz_pool_opts {
    enum mz_priority priority;
    enum mz_http_protocol downstream_protocol; /* use_downstream_protocol_config */
    bool upgrade;      /* the connection will not be used again */
    bool can_send_early;
    const struct mz_transport_opts *transport; /* connections are shared by requests with the same ones; NULL: none */
    uint64_t owner; /* ... and of the same client connection (connection_pool_per_downstream_connection); 0: of any */
};
/* No request of that owner comes any more: its connections close when they are idle. */
void mz_http_pool_owner_gone(struct mz_wcluster *w, uint64_t owner);
/* Asks for a stream to @host (of this cluster). @in gets the answer. Breakers: pending and requests are taken and given by
 * the pool; counts upstream_rq_total, _active, _pending_*, cx_*. Returns NULL when ready() or failed() already ran. */
struct mz_pool_pending *mz_http_pool_request(struct mz_wcluster *w, struct mz_host *host, const struct mz_pool_opts *o,
                                             const struct mz_stream_in *in, const struct mz_pool_ops *ops, void *arg);
void mz_pool_cancel(struct mz_pool_pending *p, bool close_excess); /* ready and failed stay silent; the caller counts */

/* TCP (tcp_proxy): a connection of its own each time. */
struct mz_tcp_ready {
    struct mz_conn *conn; /* now owned by the caller: set ops with mz_conn_set_ops(), close it */
    struct mz_host *host;
    uint64_t connect_start_us, connect_us;
};
struct mz_tcp_pool_ops {
    void (*ready)(void *arg, const struct mz_tcp_ready *r);
    void (*failed)(void *arg, enum mz_pool_failure why, struct mz_str transport_failure, int err, struct mz_host *host);
};
struct mz_tcp_lease; /* gives back breaker and host counts when the connection is over */
/* @transport: what the connection's transport is to do beyond the configuration; NULL: nothing. */
struct mz_tcp_pending *mz_tcp_pool_connect(struct mz_wcluster *w, struct mz_host *host, enum mz_priority prio,
                                           const struct mz_transport_opts *transport, const struct mz_tcp_pool_ops *ops,
                                           void *arg);
void mz_tcp_pool_cancel(struct mz_tcp_pending *p);
void mz_tcp_pool_closed(struct mz_wcluster *w, struct mz_host *host, enum mz_priority prio, struct mz_conn *c, bool local);
#endif
