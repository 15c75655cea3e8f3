#ifndef MZ_FILTERS_TRACERS_REPORTER_H
#define MZ_FILTERS_TRACERS_REPORTER_H
/*
 * Spans on their way to a collector (O3): a buffer on each worker, one lot under way at a time. A lot leaves when there are enough
 * spans, or when the timer fires; nothing of it ever blocks or fails a request. What finds no room is dropped and counted.
 */
#include "base/arena.h"
#include "listener/factory.h"
#include "stats/stats.h"

struct mz_grpc_service;
struct mz_grpc_method;
struct mz_fetch_reply;
struct reporter;

struct reporter_http { /* where lots are posted */
    struct mz_str cluster, host, path, content_type;
    const struct mz_header_mutations *add; /* NULL: none */
    struct mz_str user_agent;              /* "": none */
};
enum { REPORTER_UNCOUNTED = UINT16_MAX };
struct reporter_opts { /* what is pointed at lives as long as the owner; texts as long as the process */
    void *owner;
    unsigned max_spans;
    struct mz_scope *scope;                   /* borrowed of the owner */
    uint16_t stat_sent, stat_dropped, stat_timer; /* places in it, or REPORTER_UNCOUNTED */
    struct mz_str key_min_spans, key_interval_ms; /* of the runtime */
    const struct mz_grpc_service *grpc; /* or http */
    const struct mz_grpc_method *method;
    const struct reporter_http *http;
    uint64_t timeout_ms;
    struct mz_str key_timeout_ms; /* "": it is as above */
    void (*body)(void *owner, struct mz_buf *take_spans, struct mz_buf *out); /* of a lot */
    void (*outcome)(void *owner, const struct mz_fetch_reply *reply); /* of HTTP; NULL: nobody wants to know */
    void (*destroy)(void *owner); /* when no lot is under way any more; the last call, any thread */
};
struct reporter *reporter_create(const struct reporter_opts *o, unsigned workers);
void reporter_release(struct reporter *r); /* main thread; ends with destroy() */

/* The worker's thread: where the next span is to be appended; NULL: there is no room, which was counted. */
struct mz_buf *reporter_room(struct reporter *r, const struct mz_worker *w);
void reporter_added(struct reporter *r, const struct mz_worker *w); /* one was */
#endif
