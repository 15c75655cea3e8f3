#ifndef MZ_ROUTER_RETRY_H
#define MZ_ROUTER_RETRY_H
/*
 * The retries of one request (H8): decides, counts and computes; timers, tries and streams are the router filter's. One per
 * stream, embedded in the router's filter object, on the stream's thread.
 *
 *   mz_retry_init()            once a route and cluster are known, before the first try; reads and removes x-envoy-* headers
 *   mz_retry_on_headers()      an answer's headers came            -> verdict; YES: arm a timer of r->backoff_ms, then try
 *   mz_retry_on_reset()        a try ended without an answer       -> verdict
 *   mz_retry_on_try_timeout()  hedging: the try stays alive        -> verdict
 *   mz_retry_avoid()           for mz_lb_ctx.avoid while choosing a host of a further try
 *   mz_retry_fini()            at the end of the stream, always
 *
 * While a retry is on its way it holds one of the cluster's retry breaker; the next verdict or fini gives it back.
 */
#include "base/rand.h"
#include "http/codec.h"
#include "http/header_map.h"
#include "route/retry_on.h"
#include "route/route.h"
#include "upstream/cluster.h"

enum mz_retry_verdict {
    MZ_RETRY_NO,          /* not asked for, or not such an answer */
    MZ_RETRY_NO_LIMIT,    /* num_retries used up: flag URX */
    MZ_RETRY_NO_OVERFLOW, /* breaker or budget: flag UO */
    MZ_RETRY_YES,
};
#define MZ_RETRY_PREVIOUS                                                                          \
    16 /* hosts and priorities remembered for previous_hosts, previous_priorities */
struct mz_retry {
    const struct mz_retry_policy *policy; /* of the route; NULL: none */
    struct mz_cluster *cluster;           /* borrowed */
    struct mz_scope *vcluster;            /* NULL: none */
    struct mz_scope *route_scope;         /* NULL: none */
    struct mz_rand *rand;
    struct mz_arena *arena;
    enum mz_priority priority;
    uint32_t retry_on;           /* 0: never retries */
    uint32_t left;               /* retries not used yet */
    uint32_t *codes;             /* of x-envoy-retriable-status-codes */
    struct mz_str *header_names; /* of x-envoy-retriable-header-names, lower case */
    size_t n_codes, n_header_names;
    uint64_t base_ms, max_ms, next_ms;        /* exponential back-off */
    uint64_t ratelimited_ms;                  /* from a reset header of the last answer; 0: none */
    bool ratelimited;                         /* that is what the back-off is */
    bool held;                                /* one of the breaker is ours */
    bool armed;                               /* a retry was made whose outcome is open */
    uint64_t backoff_ms;                      /* after YES: wait this long before the try */
    const char *why;                          /* static text of the last verdict: for the story */
    struct mz_host *tried[MZ_RETRY_PREVIOUS]; /* referenced */
    unsigned n_tried;
};
/* @h: the request's headers; the retry headers are removed from it. @vcluster, @route_scope may be NULL. */
void mz_retry_init(struct mz_retry *r, const struct mz_route *route, struct mz_headers *h,
                   struct mz_cluster *cluster, enum mz_priority priority, struct mz_scope *vcluster,
                   struct mz_scope *route_scope, struct mz_rand *rand, struct mz_arena *arena);
void mz_retry_fini(struct mz_retry *r);
void mz_retry_begins(const struct mz_retry *r); /* the back-off is over: counts the retry */
void mz_retry_abandon(struct mz_retry *r); /* from now on nothing is retried, counted or flagged */
static inline bool
mz_retry_active(const struct mz_retry *r) /* may anything be retried: is the body to be kept? */
{
    return r->retry_on != 0 && r->left > 0;
}
/* @wall_us: since the epoch, for reset headers with a time. Also to be called for an answer that will be sent on: counts
 * upstream_rq_retry_success when a retry led to it. */
enum mz_retry_verdict mz_retry_on_headers(struct mz_retry *r, const struct mz_headers *response,
                                          uint64_t wall_us);
/* @sent: any byte of the request went to the upstream (reset-before-request). */
/* Would it be retried, were it not that it has been already (hedging)? Counts nothing. */
bool mz_retry_would(const struct mz_retry *r, const struct mz_headers *response);
enum mz_retry_verdict mz_retry_on_reset(struct mz_retry *r, enum mz_reset_reason reason, bool sent);
enum mz_retry_verdict mz_retry_on_try_timeout(struct mz_retry *r); /* hedge_on_per_try_timeout */

void mz_retry_host_tried(
    struct mz_retry *r,
    struct mz_host *h); /* each try's host, when it is chosen; takes a reference */
uint32_t mz_retry_host_attempts(
    const struct mz_retry *r); /* host_selection_retry_max_attempts, for mz_lb_ctx */
bool mz_retry_avoid(void *retry, const struct mz_host *h); /* mz_lb_ctx.avoid with avoid_arg = r */
/* previous_priorities: the load per priority of @w for the next try, priorities that were tried get none. @load: healthy load of
 * @n priorities in percent; false: use it unchanged. */
bool mz_retry_priority_load(const struct mz_retry *r, struct mz_wcluster *w, const uint32_t *load,
                            uint32_t *out_load, unsigned n);
#endif
