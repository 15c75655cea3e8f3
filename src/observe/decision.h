#ifndef MZ_OBSERVE_DECISION_H
#define MZ_OBSERVE_DECISION_H
/*
 * The decision recorder (design.md 6): each place that chooses notes what was chosen and why the others were not, in a
 * fixed-size record. Access-log details, /mizzen/requests and /mizzen/explain read this one record, so an explanation
 * cannot differ from what the proxy did. Noting is a few stores; texts are made only when somebody reads.
 *
 * A step's texts are copied (cut) into the record's own text area when the record is kept, so it outlives its stream.
 */
#include "base/buf.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* X(identifier, "english text of the step"; %s takes a, %t takes b, %n number n, %m number m) - rendered by decision.c */
#define MZ_STEPS(X)                                                                                                    \
    X(ACCEPTED, "listener %s accepted connection %n from %t")                                                          \
    X(ASKED, "listener %s would accept the connection")                                                                \
    X(HANDED_OVER, "handed over to listener %s, which serves the original destination %t")                             \
    X(NOT_HANDED_OVER, "no other listener serves the original destination %t: listener %s keeps it")                   \
    X(CHAIN, "filter chain %s matched")                                                                                \
    X(NO_CHAIN, "no filter chain matched")                                                                             \
    X(NOT_VHOST, "virtual host %s does not serve this host")                                                           \
    X(VHOST, "virtual host %s serves host %t")                                                                         \
    X(NO_VHOST, "no virtual host serves host %t")                                                                      \
    X(NOT_ROUTE, "route %n %s did not match: %t")                                                                      \
    X(MORE_ROUTES, "%n more routes did not match either")                                                              \
    X(ROUTE, "route %n %s matched by %t")                                                                              \
    X(NO_ROUTE, "no route of virtual host %s matched")                                                                 \
    X(DIRECT, "the route answers itself with %n")                                                                      \
    X(REDIRECT, "the route redirects with %n to %t")                                                                   \
    X(CLUSTER, "cluster %s chosen by %t")                                                                              \
    X(NO_CLUSTER, "cluster %s does not exist")                                                                         \
    X(DISCOVER, "asking the control plane for cluster %s")                                                             \
    X(DISCOVERED, "the control plane's answer about cluster %s: %t")                                                   \
    X(TIMEOUT, "timeout of the whole request %n ms (%t)")                                                              \
    X(TRY_TIMEOUT, "timeout of each try %n ms")                                                                        \
    X(AMONG, "hosts to choose from: %s")                                                                               \
    X(SUCH_HOST, "a host such as %s, chosen by %t")                                                                    \
    X(HOST, "try %n: host %s chosen by %t")                                                                            \
    X(NO_HOST, "no host to choose: %t")                                                                                \
    X(BREAKER, "circuit breaker %s of cluster %t is open at %n")                                                       \
    X(CONN_NEW, "opening a connection to %s")                                                                          \
    X(CONN_REUSED, "reusing connection %n to %s, %m ms old")                                                           \
    X(CONN_RACED, "address %s answered, attempt %n of %m: %t")                                                         \
    X(CONN_QUEUED, "waiting for a connection to %s")                                                                   \
    X(CONN_FAILED, "connection to %s failed: %t, errno %n")                                                            \
    X(CONN_LOST, "connection %n to %s ended before the answer was whole: %t, it was %m ms old")                        \
    X(ANSWER, "host %s answered %n after %m ms")                                                                       \
    X(RETRY, "retry %n because of %t")                                                                                 \
    X(NO_RETRY, "no retry: %t")                                                                                        \
    X(TRY_TIMED_OUT, "try %n timed out after %m ms")                                                                   \
    X(TIMED_OUT, "%s timed out after %m ms")                                                                           \
    X(HEDGED, "another try runs beside (hedging)")                                                                     \
    X(FILTER, "filter %s ended the request: %t")                                                                       \
    X(DELAYED, "filter %s delays the request by %n ms")                                                               \
    X(SLOWED, "filter %s slows the answer to %n KiB/s")                                                                \
    X(RULE, "filter %s: rule %t decided")                                                                              \
    X(NOT_RULE, "filter %s: rule did not match: %t")                                                                   \
    X(NO_RULE, "filter %s: no rule speaks against it")                                                                 \
    X(WOULD, "filter %s would %t")                                                                                     \
    X(MORE_RULES, "filter %s: %n more rules did not match either")                                                     \
    X(INTERNAL_REDIRECT, "internal redirect to %t")                                                                    \
    X(NO_INTERNAL_REDIRECT, "internal redirect refused: %t")                                                           \
    X(CLIENT_GONE, "the client went away: %t")                                                                         \
    X(PROTOCOL, "the request is malformed: %t")                                                                        \
    X(LOCAL_REPLY, "answered %n by the proxy itself: %t")                                                              \
    X(MIRROR, "a copy went to cluster %s")
enum mz_step_kind {
#define X(id, text) MZ_STEP_##id,
    MZ_STEPS(X)
#undef X
    MZ_STEP__COUNT
};
struct mz_step {
    uint8_t kind;
    uint32_t at_us;          /* since the start of the stream */
    struct mz_str a, b;      /* borrowed: arena, configuration or static */
    int64_t n, m;
};
#define MZ_DECISION_STEPS 24 /* more are counted as dropped */
struct mz_decision { /* in the stream's arena */
    uint64_t start_us;
    uint16_t n, dropped, routes_skipped;
    bool refused; /* a filter ended the request (step FILTER) */
    struct mz_step v[MZ_DECISION_STEPS];
};
struct mz_arena;
struct mz_decision *mz_decision_create(struct mz_arena *a, uint64_t now_us);
void mz_decision_step(struct mz_decision *d, uint64_t now_us, enum mz_step_kind k, struct mz_str a, struct mz_str b, int64_t n,
                      int64_t m); /* d NULL: nothing */
/* The same, in place, for the steps of every request. */
static inline void mz_decision_note(struct mz_decision *d, uint64_t now_us, enum mz_step_kind k, struct mz_str a, struct mz_str b,
                                    int64_t n, int64_t m)
{
    uint64_t at = now_us > d->start_us ? now_us - d->start_us : 0;
    if (k == MZ_STEP_FILTER || d->n >= MZ_DECISION_STEPS || at > UINT32_MAX) {
        mz_decision_step(d, now_us, k, a, b, n, m);
        return;
    }
    struct mz_step *s = &d->v[d->n++];
    s->kind = (uint8_t)k;
    s->at_us = (uint32_t)at;
    s->a = a;
    s->b = b;
    s->n = n;
    s->m = m;
}
#define mz_note(d, now, k, a, b, n, m) ((d) ? mz_decision_note((d), (now), MZ_STEP_##k, (a), (b), (n), (m)) : (void)0)

/* ---- the flight recorder: per worker, fixed memory, the last failed and slow requests ---- */
struct mz_recorder;
struct mz_stream_info;
struct mz_recorder *mz_recorder_create(unsigned slots /* workers + 1 */, unsigned keep /* records per slot and list */);
void mz_recorder_destroy(struct mz_recorder *r);
/* At the end of a stream, on its thread: keeps a copy when it failed (status >= 500, a response flag, aborted), was
 * refused by a filter or slower than the slow limit. Cheap for all others. */
void mz_recorder_offer(struct mz_recorder *r, unsigned slot, const struct mz_stream_info *info);
void mz_recorder_set_slow_ms(struct mz_recorder *r, uint32_t ms); /* any thread; default 1000 */
/* For a while every request is kept that these fit, in a list of its own; texts are copied, at most MZ_WATCH_TEXT bytes each. One
 * watch at a time: the newest. Main thread. */
#define MZ_WATCH_TEXT 255
#define MZ_WATCH_MAX_S 600
struct mz_watch {
    uint32_t seconds;          /* 0: none any more */
    struct mz_str path_prefix; /* "" any path */
    struct mz_str header, value; /* "" no header is asked for; value "": any */
};
void mz_recorder_watch(struct mz_recorder *r, const struct mz_watch *w);
/* Main thread: newest first, in plain words or as JSON; takes what each worker published (lock per slot, off the request
 * path only when a request is kept). */
struct mz_recorder_ask {
    struct mz_str request_id; /* only those of this x-request-id; "" all */
    uint64_t since;           /* only those kept since a former answer's "next"; 0: all */
};
void mz_recorder_text(struct mz_recorder *r, const struct mz_recorder_ask *ask, struct mz_buf *out);
void mz_recorder_json(struct mz_recorder *r, const struct mz_recorder_ask *ask, struct mz_buf *out);
void mz_decision_text(const struct mz_decision *d, struct mz_buf *out); /* the story of one record, a line a step */
/* Array of {at_ms, step, text} and what the text is made of: a, b, n, m (MZ_STEPS). */
void mz_decision_json(const struct mz_decision *d, struct mz_buf *out);
#endif
