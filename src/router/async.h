#ifndef MZ_ROUTER_ASYNC_H
#define MZ_ROUTER_ASYNC_H
/*
 * The proxy as a client of its own clusters (Envoy's AsyncClient): mirrors, authorization and rate limit services, key sets,
 * logs, xDS. A stream goes through the ordinary load balancer, pools, breakers, timeouts, retries and statistics of its
 * cluster, and counts as internal (internal.upstream_rq_*).
 *
 * A stream belongs to the loop of the struct mz_upstream it was started on: a worker's (struct mz_worker.upstream) or the
 * main thread's. Everything here is for that thread only.
 *
 * What holds:
 * - No callback runs from inside mz_async_start() or a send; each runs at most as its comment says, none after
 *   mz_async_cancel().
 * - Exactly one last callback: headers, data or trailers with the end of the answer, or failed. From its call on the stream is
 *   gone: forget the pointer there. An answer that ends before the request did ends the request, too.
 * - Any callback may cancel the stream, or start others.
 * - What a callback is given is valid until it returns, unless it says more.
 */
#include "http/codec.h"
#include "observe/decision.h"
#include "upstream/cluster.h"

struct mz_retry_policy; /* route/route.h */
struct mz_async;        /* one stream */

struct mz_async_failure { /* no answer, or one that broke off */
    /* As which status and text the proxy would tell a client of it: 503 "upstream connect error or disconnect/reset before
     * headers. reset reason: ...", 503 "no healthy upstream", 504 "upstream request timeout". */
    unsigned status;
    struct mz_str text;
    const char *details;         /* response code details, as of the router: "upstream_reset_before_response_started{...}" */
    bool timeout;                /* the stream's own */
    bool no_cluster;             /* there was none of that name, or this thread is ending */
    bool answered;               /* headers had been handed over */
    enum mz_reset_reason reason; /* unless timeout or no_cluster; MZ_RESET_OVERFLOW: a breaker */
};
struct mz_async_ops { /* NULL: not wanted */
    void (*headers)(void *arg, struct mz_headers *h, bool end);   /* once, at most; never 1xx. Valid as long as the stream */
    void (*data)(void *arg, struct mz_buf *data, bool end);       /* takes what it wants; the rest is dropped */
    void (*trailers)(void *arg, struct mz_headers *h);            /* last */
    void (*failed)(void *arg, const struct mz_async_failure *f);  /* last */
    void (*writable)(void *arg); /* mz_async_paused() was true, and is no more; not from inside a send */
};
struct mz_async_opts {
    uint64_t timeout_ms; /* from the end of the request to the end of the answer, retries included; 0: none. Told to
                          * the upstream in x-envoy-expected-rq-timeout-ms */
    const struct mz_retry_policy *retry; /* borrowed as long as the stream; NULL: never. Its per-try timeouts count */
    enum mz_priority priority;
    uint32_t buffer_limit; /* bytes of the request that may wait, or are kept for retries; 0: the cluster's */
    bool no_internal;      /* without x-envoy-internal: counts as external */
    bool no_timeout_header; /* without x-envoy-expected-rq-timeout-ms */
    bool no_xff;           /* without this machine's address in x-forwarded-for */
    bool has_protocol;     /* for clusters that speak what the client speaks; else HTTP/1.1 */
    enum mz_http_protocol protocol;
    bool has_hash;
    uint64_t hash;                        /* for policies that hash */
    const struct mz_meta *metadata_match; /* subset, borrowed as long as the stream; NULL */
};
/**
 * Begins a stream to @cluster. @h: all of the request's headers with pseudo-headers; copied. @end: it has no body.
 * Never NULL: where the cluster does not exist, failed() tells so. A cluster that is removed later lets its streams end.
 * @u outlives the stream: when it is destroyed, streams that are left get failed() with no_cluster, from inside of that.
 */
struct mz_async *mz_async_start(struct mz_upstream *u, struct mz_str cluster, const struct mz_headers *h, bool end,
                                const struct mz_async_opts *o, const struct mz_async_ops *ops, void *arg);
/* The request's body and trailers; nothing after @end. Moves the bytes out. What waits is not bounded here but told of:
 * a producer stops while mz_async_paused(). */
void mz_async_send(struct mz_async *a, struct mz_buf *data, bool end);
void mz_async_send_trailers(struct mz_async *a, const struct mz_headers *h); /* copied; the end */
bool mz_async_paused(const struct mz_async *a);
void mz_async_read_disable(struct mz_async *a, bool disable); /* the answer's data; stacks */
void mz_async_cancel(struct mz_async *a);                     /* resets what there is; silent; NULL is fine */

struct mz_loop *mz_async_loop(const struct mz_async *a);
/* The host that answers, or that was tried last: "10.0.0.1:80"; "" none. */
struct mz_str mz_async_host(const struct mz_async *a);

/* ---- requests whose answer is wanted as a whole ---- */
struct mz_fetch_reply {
    unsigned status; /* of the answer, or of the failure */
    struct mz_headers *headers, *trailers; /* NULL: none */
    struct mz_buf *body;                   /* may be moved out */
    bool too_large;                        /* the body exceeded max_body; given up */
    const struct mz_async_failure *failure; /* NULL: the answer is whole */
};
/* @body: moved out; NULL none (content-length is the caller's). done: once, at the end; not from inside. To cancel:
 * mz_async_cancel() with what this returned. */
struct mz_async *mz_fetch(struct mz_upstream *u, struct mz_str cluster, const struct mz_headers *h, struct mz_buf *body,
                          size_t max_body, const struct mz_async_opts *o,
                          void (*done)(void *arg, const struct mz_fetch_reply *r), void *arg);
#endif
