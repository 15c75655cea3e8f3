#ifndef MZ_ROUTER_ASYNC_PRIV_H
#define MZ_ROUTER_ASYNC_PRIV_H
/* Between async.c (the stream and its user) and async_try.c (one try at one host). */
#include "base/log.h"
#include "router/async.h"
#include "router/router_priv.h"

struct async_try {
    struct mz_async *a;
    struct mz_stream_in in;
    struct mz_pool_pending *pending; /* waits for a connection */
    struct mz_stream_enc *enc;       /* has one */
    struct mz_host *host;            /* reference */
    bool started, sent_end, answered, answer_end, above, over;
    bool grpc_outcome_open; /* whether it succeeded will be known with the trailers */
    uint64_t start_us;
    struct mz_timer try_timer, life_timer;
};
struct mz_async {
    struct mz_upstream_user user;
    struct mz_upstream *upstream;
    struct mz_loop *loop;
    struct mz_arena *arena; /* holds this, too */
    struct mz_wcluster *w;  /* reference; NULL: there is none */
    struct mz_cluster *cluster;
    const struct mz_async_ops *ops;
    void *arg;
    struct mz_async_opts o;
    struct mz_headers *headers, *trailers;
    struct mz_buf body; /* of the request: kept for retries, or waits for the connection */
    struct mz_retry retry;
    struct mz_timeouts times;
    struct async_try *now; /* NULL: none, or it waits for the back-off */
    struct mz_host *host;  /* of the last try; reference */
    unsigned n_tries, calls; /* calls: on the stack, of the user into here */
    unsigned read_disabled;
    bool grpc, request_end, retry_ready, keep, full /* was paused, writable was not told */, answered, over;
    unsigned sorts; /* of the answer, for its time */
    uint64_t request_end_us;
    struct mz_timer timeout, backoff;
    struct mz_task tell; /* a failure that came up inside of a call */
    struct mz_async_failure failure;
};

/* async_try.c */
void try_start(struct mz_async *a); /* chooses a host and asks its pool */
void try_data(struct async_try *t, struct mz_buf *data, bool end);
void try_trailers(struct async_try *t);
void try_request_complete(struct async_try *t);
void try_drop(struct async_try *t); /* silent */

/* async.c: what a try's outcome means */
void async_headers(struct async_try *t, struct mz_headers *h, bool end);
void async_data(struct async_try *t, struct mz_buf *data, bool end);
void async_trailers(struct async_try *t, struct mz_headers *h);
void async_reset(struct async_try *t, enum mz_reset_reason why, struct mz_str transport_failure);
void async_try_over(struct async_try *t, bool life); /* its timeout, or its longest life */
void async_no_host(struct mz_async *a);
void async_writable(struct mz_async *a); /* the way may be free again */
extern const struct mz_route async_route; /* one that asks for nothing */
#endif
