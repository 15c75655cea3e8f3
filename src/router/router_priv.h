#ifndef MZ_ROUTER_PRIV_H
#define MZ_ROUTER_PRIV_H
/* The router filter's own objects; for src/router only. All in the stream's arena, on the stream's loop. */
#include "base/log.h"
#include "hcm/filter.h"
#include "router/retry.h"
#include "router/router.h"
#include "router/timeout.h"
#include "upstream/cluster.h"
#include "upstream/pool.h"

struct router_cfg {
    struct mz_scope *scope;
    bool suppress_headers, respect_expected, suppress_grpc_failure_codes, dynamic_stats;
    struct strict_check {
        uint8_t id;
        bool (*valid)(struct mz_str value);
    } strict[8];
    size_t n_strict;
    struct mz_access_log **logs;
    size_t n_logs;
};

struct router;
struct attempt_bytes {
    uint64_t wire_in, wire_out, header_in, header_out;
};
struct attempt { /* one try at one host */
    struct mz_list link;
    struct router *r;
    struct mz_stream_in in;
    struct mz_pool_pending *pending; /* waits for a connection */
    struct tunnel *tunnel_pending;   /* or this does */
    bool is_tunnel;                  /* CONNECT ends here */
    struct mz_stream_enc *enc;       /* has one; NULL before and after */
    struct mz_host *host;            /* referenced */
    unsigned number;                 /* from 1 */
    struct attempt_bytes counted;    /* what the stream's info has of it: the sum over all tries, as in Envoy */
    bool started;                    /* request headers were sent */
    bool sent_end;                   /* the whole request was sent */
    bool answered;                   /* final answer headers came */
    bool answer_end;                 /* the answer is complete */
    bool paused_client, paused_upstream, timed_out, over;
    bool retried; /* hedged: another try was made beside it, and none will be for what becomes of it */
    bool grpc_outcome_open; /* whether it succeeded will be known with the trailers */
    struct mz_span *span;   /* of the try itself; NULL: none */
    unsigned status;        /* of the answer; 0: none came */
    const char *failure;    /* why it broke, for its span; NULL */
    uint64_t failure_flags;
    uint64_t start_us;
    uint64_t ready_us, conn_age_us; /* when it got its connection, and how old that was: for the story */
    struct mz_buf
        queued; /* request body that waits for the connection, when the router keeps none */
    struct mz_timer try_timer, try_idle_timer, life_timer;
};
struct router {
    struct mz_filter base;
    const struct router_cfg *cfg;
    const struct mz_route *route;
    const struct mz_weighted_cluster *weighted;
    struct mz_wcluster *wcluster;
    struct mz_cluster *cluster; /* referenced */
    struct mz_headers *headers;
    struct mz_headers *trailers;
    struct mz_scope *vcluster;
    struct mz_scope *alt; /* of x-envoy-upstream-alt-stat-name; borrowed of the cluster; NULL */
    struct mz_str set_cookie;
    struct mz_timeouts times;
    struct mz_retry retry;
    bool retry_ready;
    enum mz_priority priority;
    bool has_hash;
    struct mz_str auto_sni, auto_san; /* of upstream_http_protocol_options; "": none. In the stream's arena */
    uint64_t hash;
    struct mz_list attempts; /* not over */
    unsigned n_attempts, n_started;
    uint32_t override_taken; /* hosts that the request names and that were tried (mz_lb_ctx) */
    struct mz_attempt *tried; /* n_started of them, for the stream info */
    uint32_t tried_cap;
    struct mz_host *last_host; /* of the attempt that ended last; referenced until the stream's logs are written */
    struct attempt *final; /* its answer goes to the client */
    bool keep_body, request_end, is_head, is_upgrade, grpc, dropped_all, finished, response_started,
        informed /* 1xx went to the client */, down_above,
        backing_off, retry_is_timeout,
        retried; /* there was more than one try, or there will be */
    uint64_t request_end_us, start_us;
    struct mz_buf body; /* all of the request's body so far, while keep_body */
    struct mz_timer timeout_timer, backoff_timer;
    uint32_t mirrors_mask;
};
static inline struct mz_stream *stream_of(const struct router *r)
{
    return r->base.stream;
}
static inline struct mz_loop *loop_of(const struct router *r)
{
    return mz_stream_worker(r->base.stream)->loop;
}
static inline struct mz_stream_info *info_of(const struct router *r)
{
    return mz_stream_info(r->base.stream);
}
static inline uint64_t now_of(const struct router *r)
{
    return mz_loop_now_us(loop_of(r));
}
/* A step of the story, for those of every request; others by mz_stream_story(). */
#define router_note(r, k, a, b, n, m) mz_note(info_of(r)->decision, now_of(r), k, (a), (b), (int64_t)(n), (int64_t)(m))

/* router.c: the runtime wants no requests to this cluster (counted) */
bool cluster_maintained(struct mz_cluster *c, struct mz_loop *l, struct mz_arena *a);

/* attempt.c */
void attempt_start(struct router *r); /* chooses a host and asks its pool; may answer at once */
void router_write_attempt(struct router *r, unsigned number); /* x-envoy-attempt-count, where it is asked for */
void attempt_body(struct attempt *a, struct mz_buf *data, bool end); /* moves data */
void attempt_trailers(struct attempt *a);
void attempt_request_complete(struct attempt *a); /* starts the timeout of the try */
void attempt_drop(struct attempt *a); /* silent: cancels or resets, frees what it holds */
void attempt_span_begin(struct attempt *a); /* span.c */
void attempt_span_inject(struct attempt *a);
void attempt_span_end(struct attempt *a);
void attempt_keep_counts(struct attempt *a);                 /* wire bytes into the stream's info, before it is logged */
void attempt_read_disable(struct attempt *a, bool disable);

/* reply.c: what an attempt's outcome means */
void reply_headers(struct attempt *a, struct mz_headers *h, bool end);
void reply_1xx(struct attempt *a, struct mz_headers *h);
void reply_data(struct attempt *a, struct mz_buf *data, bool end);
void reply_trailers(struct attempt *a, struct mz_headers *h);
void reply_reset(struct attempt *a, enum mz_reset_reason why, struct mz_str transport_failure,
                 int err);
void reply_no_host(struct router *r);
void reply_no_pool(struct attempt *a); /* max_connection_pools */
void reply_timeout(struct router *r);
void reply_try_timeout(struct attempt *a, bool idle);
void reply_max_duration(struct attempt *a);
void reply_retry(struct router *r); /* verdict was YES: arms the back-off */

/* charge.c */
void charge_code(struct router *r, unsigned status, const struct mz_host *host,
                 const struct mz_headers *response);
void charge_host(struct mz_host *h, bool success); /* rq_success or rq_error */
void charge_success(struct attempt *a, const struct mz_headers *h, bool end); /* headers below 500, or trailers */
/* A begun answer broke off: Envoy counts that where it is gRPC whose outcome was to come with the trailers. */
void charge_broken(const struct attempt *a, struct mz_host *host);
void charge_time(struct router *r, const struct mz_host *host, const struct mz_headers *response);
/* The same of a cluster alone: what async.c counts. */
unsigned charge_sorts_of(const struct mz_headers *request, const struct mz_host *host,
                         const struct mz_headers *response);
void charge_cluster_code(struct mz_cluster *c, unsigned sorts, unsigned status);
void charge_cluster_time(struct mz_cluster *c, unsigned sorts, uint64_t ms);
struct reset_outcome { /* response flag and, for Envoy, the status of a way in which an attempt can end */
    uint64_t flag;
    uint16_t status;
};
const struct reset_outcome *reset_outcome(enum mz_reset_reason why);

/* redirect.c: true when the stream begins anew; the caller returns at once */
bool redirect_try(struct router *r, struct attempt *a, struct mz_headers *response);

/* mirror.c */
void mirrors_send(struct router *r);

/* tunnel.c: instead of mz_http_pool_request() for a CONNECT that ends here. NULL: failed() ran already. */
struct tunnel;
/* Of @o the priority and the transport's options count. */
struct tunnel *tunnel_start(struct mz_wcluster *w, struct mz_host *host, const struct mz_pool_opts *o, struct mz_loop *loop,
                            const struct mz_stream_in *in, const struct mz_pool_ops *ops, void *arg);
void tunnel_cancel(struct tunnel *t); /* while it waits for its connection; later through its encoder */
#endif
