#ifndef MZ_UPSTREAM_POOL_PRIV_H
#define MZ_UPSTREAM_POOL_PRIV_H
/*
 * Between pool.c (who gets which connection), client.c (one connection), client_h1.c and client_h2.c (what the protocols do
 * differently) and pool_tcp.c. One worker's thread.
 */
#include "upstream/pool.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

enum client_state {
    CLIENT_CONNECTING,
    CLIENT_READY,   /* takes streams; an idle one has been polled by the loop since its last stream */
    CLIENT_RESTING, /* without streams, and the loop has not polled it (H10) */
    CLIENT_BUSY,    /* takes no stream: full, or serving its last ones */
    CLIENT_CLOSED,
    CLIENT__STATES
};
struct mz_pool_pending {
    union {
        struct mz_list link;                /* pool->pending or pool->waiting */
        struct mz_pool_pending *next_spare; /* of those that are free */
    };
    struct pool *pool;
    struct mz_pool_opts opts;
    struct mz_stream_in in;
    const struct mz_pool_ops *ops;
    void *arg;
    enum {
        QUEUE_PENDING, /* counted, holds the breaker */
        QUEUE_WAITING, /* for a resting connection: not pending in the sense of breakers and counters */
        QUEUE_FAILING, /* about to be told */
    } queue;
};
struct pool {
    struct mz_wcluster *w; /* reference */
    struct mz_host *host;  /* reference */
    enum mz_priority prio;
    enum pool_kind kind;
    uint64_t owner;                      /* client connection; 0: of all. The same holds: */
    struct mz_transport_opts *transport; /* copy; NULL: none. Its pool ends when it is empty: there may be many */
    unsigned refs; /* map, clients, serve_next under way, calls on the stack */
    bool gone;     /* host or cluster went: no new connections, ends when empty */
    bool mapped;
    bool serves_next;
    bool expects_http2; /* POOL_AUTO: what the last connection was told */
    struct mz_list clients[CLIENT__STATES];
    uint32_t n[CLIENT__STATES];
    struct mz_list pending, waiting;
    uint32_t n_pending, n_waiting, n_active; /* requests that wait, requests that run */
    uint64_t room_connecting, room_ready; /* streams that clients will take soon, and could take now */
    struct mz_pool_pending *spare; /* free ones, n_spare of them */
    uint32_t n_spare;
    struct mz_task serve, serve_next;
    MZ_VEC(struct mz_conn *)
        leases; /* of TCP, where close_connections_on_host_health_failure ends them */
};
struct client { /* a connection */
    struct mz_list link;
    struct pool *pool; /* reference */
    const struct client_type *type;
    enum client_state state;
    struct mz_conn *conn; /* NULL once closed */
    struct mz_codec *codec;
    struct mz_timer timer; /* connect timeout, then idle timeout */
    struct mz_timer life;  /* max_connection_duration */
    uint64_t start_us, connected_us, released_us;
    struct mz_list streams;
    uint32_t n_streams, limit; /* at once: as configured, later what the peer allows */
    uint32_t requests, left;   /* it served, it may still serve */
    uint32_t counted;          /* its part of the pool's room ... */
    uint64_t *counted_in;      /* ... and in which of the sums; NULL: none */
    bool connected, timed_out, protocol_error;
    bool last;        /* no further request on it */
    bool dispatching; /* inside codec dispatch: what follows from the end of streams waits */
    bool unsettled;   /* something waits so */
    bool stream_lost; /* its end counts as one with an active request */
    bool tunnelled;   /* it became a tunnel (HTTP/1) */
    bool goaway;      /* the peer announced its end (HTTP/2) */
    bool greeted;     /* the peer's settings came (HTTP/2) */
};
/* Stands before the user's callbacks and before the codec's encoder, to see both ends. In the user's arena. */
struct client_stream {
    struct mz_list link; /* client->streams */
    struct client *client;
    bool request_done, answer_done, ended;
    bool connect, upgrade, tunnel; /* of HTTP/1: asked for one of the two; has it: the end of either side is a FIN */
    struct mz_stream_in user; /* who asked */
    struct mz_stream_in in;   /* ours, before it */
    struct mz_stream_enc enc; /* ours, before the codec's */
    struct mz_stream_enc *inner;
};
/* What HTTP/1 and HTTP/2 do differently. */
struct client_type {
    enum mz_http_protocol protocol;
    uint16_t total; /* counter of connections */
    bool multiplex; /* many streams at once; the end of one does not touch the connection */
    uint32_t (*limit)(const struct mz_cluster *c); /* streams at once, before the peer said anything */
    uint32_t before_settings; /* streams at once until the peer's settings came; 0: there are none */
    uint32_t requests;        /* in a life, where nothing is configured */
    void (*begin)(struct mz_wcluster *w); /* a connection is begun: its statistics exist from now on, as in Envoy */
    struct mz_codec *(*codec)(struct client *c, const struct mz_codec_sink *sink);
    struct mz_stream_enc *(*request)(struct client *c, const struct mz_stream_in *in); /* NULL: it cannot */
    void (*answer_headers)(struct client *c, const struct mz_headers *h); /* or NULL */
    void (*answer_ends)(struct client *c);                                /* or NULL */
    void (*reset)(struct client *c, enum mz_reset_reason r); /* a stream was: counts; or NULL */
};
extern const struct client_type client_http1, client_http2;

static inline void pool_ref(struct pool *p)
{
    p->refs++;
}
void pool_unref(struct pool *p);
static inline struct mz_scope *pool_scope(const struct pool *p)
{
    return p->w->cluster->scope;
}
static inline void host_add(uint64_t *v, int64_t n)
{
    __atomic_fetch_add(v, (uint64_t)n, __ATOMIC_RELAXED);
}
static inline void pending_count(struct pool *p, int64_t n)
{
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_PENDING_ACTIVE, n);
    host_add(&p->host->stats.rq_pending_active, n);
}

/* client.c */
void client_create(struct pool *p); /* connects; counts; takes the breaker (forced) */
void client_attach(struct client *c, const struct mz_pool_opts *o, const struct mz_stream_in *in,
                   const struct mz_pool_ops *ops,
                   void *arg); /* c is ready; ready() or failed() runs inside */
void client_close(struct client *c, const char *reason);  /* at once */
void client_drain(struct client *c, const char *reason);  /* no further stream; closes with the last one, or now */
void client_move(struct client *c, enum client_state to); /* between the pool's lists */
/* Its limit, or what else decides whether it takes streams, changed: it may be ready again, or busy. */
void client_settle(struct client *c);

/* pool.c, called by clients */
void pool_client_ready(struct pool *p);   /* one became ready, serve who waits */
void pool_client_resting(struct pool *p); /* one was released */
void pool_room_lost(struct pool *p);      /* one takes less than before */
void pool_connect_failed(struct pool *p, enum mz_pool_failure why, struct mz_str text,
                         int err);     /* all pending fail */
void pool_client_gone(struct pool *p); /* one closed */

/* counters of a connection's begin and end, HTTP and TCP */
void cx_begin(struct pool *p);
struct cx_end {
    uint64_t start_us;
    bool remote, with_stream;
};
void cx_ended(struct pool *p, const struct cx_end *e);
bool cx_allowed(struct pool *p); /* breaker or first connection; counts the overflow */
struct mz_conn *cx_connect(struct pool *p, const struct mz_transport_opts *transport, const struct mz_conn_ops *ops,
                           void *arg);
const struct mz_http1_stats *wcluster_http1_stats(struct mz_wcluster *w);
const struct mz_http2_stats *wcluster_http2_stats(struct mz_wcluster *w);
void tcp_leases_close(struct pool *p);
struct pool *pool_find_tcp(struct mz_wcluster *w, struct mz_host *h,
                           enum mz_priority prio); /* with a live lease */
#define CX_ERROR_TEXT 256
const char *cx_error_text(const struct mz_conn *c, char out_text[CX_ERROR_TEXT]); /* of one that did not come about */
#endif
