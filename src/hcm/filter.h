#ifndef MZ_HCM_FILTER_H
#define MZ_HCM_FILTER_H
/*
 * HTTP filters (H6). One object per filter and stream, in the stream's arena; requests pass the chain first to last, answers
 * last to first. The same for HTTP/1, HTTP/2 and HTTP/3.
 *
 * Statuses (Envoy's): from on_request_headers
 *   CONTINUE            go on with the next filter
 *   STOP                no later filter sees headers; body that arrives goes to this filter's on_request_data (iteration of data
 *                       is not stopped: Envoy's StopIteration)
 *   STOP_AND_BUFFER     StopAllIterationAndBuffer: body waits in the stream's buffer, over its limit: 413 / 500
 *   STOP_AND_WATERMARK  StopAllIterationAndWatermark: body waits, above the limit the peer is read-disabled
 * from on_request_data: CONTINUE; STOP (StopIterationNoBuffer: these bytes are the filter's own business);
 *   STOP_AND_BUFFER (kept for when the filter continues; over the limit 413 / 500); STOP_AND_WATERMARK (kept, flow-controlled).
 * from on_request_trailers: CONTINUE or STOP. Answers alike.
 *
 * A completion that arrives after the stream ended is this field's largest bug class: whoever waits for something takes
 * mz_stream_ticket() and asks mz_stream_by_ticket() when it comes; NULL: the stream is gone.
 */
#include "hcm/hcm.h"
#include "http/header_map.h"
#include "listener/factory.h"
#include "observe/stream_info.h"
#include "route/route.h"
#include "upstream/on_demand.h"

enum mz_flow { MZ_FLOW_CONTINUE, MZ_FLOW_STOP, MZ_FLOW_STOP_AND_BUFFER, MZ_FLOW_STOP_AND_WATERMARK };

struct mz_stream; /* hcm/stream.h is for the folder; filters use the functions below */
struct mz_filter {
    const struct mz_http_filter_type *type;
    const void *cfg;        /* borrowed: the stream's manager configuration holds it */
    const void *route_cfg;  /* most specific per-route configuration of the matched route, NULL; kept current by the manager */
    struct mz_stream *stream;
    uint8_t index;          /* place in the chain; private states beside it */
    uint8_t req_state, resp_state;
    struct mz_str name;     /* as configured: for stories and per-route look-up */
};
struct mz_imagined { /* a request that nobody sent, and the filter that is asked what it would do with it */
    const void *cfg, *route_cfg;
    struct mz_str name;
    struct mz_stream_info *info; /* with arena and decision; what other filters would leave for later ones is there */
    const struct mz_headers *h;
    const struct mz_route *route;     /* NULL: none matched */
    struct mz_str cluster_name;       /* where the route leads; "" nowhere */
    const struct mz_cluster *cluster; /* NULL: none, or it does not exist */
    unsigned status; /* out: of the answer that it would give itself; 0: the request goes on */
};
struct mz_http_filter_type {
    const char *name;
    const char *config_type;
    const char *route_config_type; /* message of typed_per_filter_config; NULL: config_type */
    bool terminal;
    size_t size; /* of the object: begins with struct mz_filter, rest zeroed */
    void *(*config_build)(const void *msg, const struct mz_factory *f, struct mz_err *err); /* main thread; NULL + err */
    void (*config_destroy)(void *cfg);
    void *(*route_config_build)(const void *msg, const struct mz_factory *f, struct mz_err *err); /* NULL: config_build */
    void (*route_config_destroy)(void *cfg);
    enum mz_flow (*on_request_headers)(struct mz_filter *f, struct mz_headers *h, bool end);
    enum mz_flow (*on_request_data)(struct mz_filter *f, struct mz_buf *data, bool end);
    enum mz_flow (*on_request_trailers)(struct mz_filter *f, struct mz_headers *h);
    enum mz_flow (*on_response_headers)(struct mz_filter *f, struct mz_headers *h, bool end);
    enum mz_flow (*on_response_data)(struct mz_filter *f, struct mz_buf *data, bool end);
    enum mz_flow (*on_response_trailers)(struct mz_filter *f, struct mz_headers *h);
    void (*on_response_1xx)(struct mz_filter *f, struct mz_headers *h);
    void (*on_downstream_above_high)(struct mz_filter *f); /* the answer's way is full: stop producing (router: upstream) */
    void (*on_downstream_below_low)(struct mz_filter *f);
    void (*on_request_resumed)(struct mz_filter *f); /* the request's way was full: mz_stream_request_paused() */
    void (*on_stream_done)(struct mz_filter *f);  /* before access logs: last chance to set what they show */
    void (*on_log)(struct mz_filter *f); /* with the access logs: times, sizes and flags are what they show */
    void (*on_destroy)(struct mz_filter *f);      /* stream ends now: cancel everything, no call of the stream afterwards */
    /* Tells in the story what it would do (POST /mizzen/explain); nothing is counted or sent. Main thread. NULL: not known. */
    void (*imagine)(struct mz_imagined *q);
};

/* ---- for filters: the stream ---- */
struct mz_stream_info *mz_stream_info(struct mz_stream *s);
struct mz_arena *mz_stream_arena(struct mz_stream *s);
struct mz_worker *mz_stream_worker(struct mz_stream *s);
struct mz_downstream *mz_stream_downstream(struct mz_stream *s);
uint64_t mz_stream_id(const struct mz_stream *s);
uint64_t mz_stream_random(const struct mz_stream *s); /* fixed per stream */
struct mz_headers *mz_stream_request_headers(struct mz_stream *s);
struct mz_headers *mz_stream_response_headers(struct mz_stream *s); /* NULL before */
struct mz_headers *mz_stream_request_trailers(struct mz_stream *s);
const struct mz_route *mz_stream_route(struct mz_stream *s); /* matches when the cache is empty; NULL: none */
/* The cluster that the route names (by name, header or weight) on this worker; NULL: it names none or it does not exist. */
struct mz_wcluster *mz_stream_cluster(struct mz_stream *s, struct mz_str *out_name, const struct mz_weighted_cluster **out_weighted);
void mz_stream_clear_route_cache(struct mz_stream *s);       /* after :path, :authority or matched headers were changed (C17) */
/* No route serves this request: asks for its scope's table (SRDS) or its virtual host (VHDS) where they come on demand; false: they
 * do not. done as of mz_discovery_wait(): the wait lies in the filter's object, which cancels it in on_destroy. */
bool mz_stream_demand_routes(struct mz_stream *s, struct mz_discovery_wait *w,
                             void (*done)(struct mz_discovery_wait *w, enum mz_discovery how));
void mz_stream_renew_routes(struct mz_stream *s); /* the table that this thread has now in place of that of the request's begin */
const struct mz_hcm_config *mz_stream_config(const struct mz_stream *s);
bool mz_stream_scheme_of_upstream(const struct mz_stream *s); /* scheme_header_transformation.match_upstream */
bool mz_stream_trace(const struct mz_stream *s);             /* log lines forced for this stream (P9) */
bool mz_stream_request_complete(const struct mz_stream *s);  /* last byte of the request received */
void mz_stream_story(struct mz_stream *s, enum mz_step_kind k, struct mz_str a, struct mz_str b, int64_t n, int64_t m);

/* Spans (O3). One for each try where the configuration wants them; NULL: none is wanted. */
struct mz_span;
struct mz_span *mz_stream_span(struct mz_stream *s); /* of the request; NULL: it has none */
struct mz_span *mz_stream_upstream_span(struct mz_stream *s, uint64_t start_us);
struct mz_upstream_outcome { /* of a try */
    unsigned status, retries;     /* status 0: there was no answer */
    uint64_t flags, end_us;
    const char *reset;            /* why it broke; NULL: it did not */
    bool connected;               /* protocol is known */
    enum mz_http_protocol protocol;
    const struct mz_addr *address; /* NULL: none was asked */
};
void mz_stream_upstream_span_end(struct mz_stream *s, struct mz_span *span, const struct mz_upstream_outcome *o);

/* Goes on after a stop; harmless when the filter had not stopped. */
void mz_filter_continue_request(struct mz_filter *f);
void mz_filter_continue_response(struct mz_filter *f);
struct mz_buf *mz_filter_request_buffer(struct mz_filter *f);  /* what was kept so far; NULL when nothing */
struct mz_buf *mz_filter_response_buffer(struct mz_filter *f);
void mz_filter_add_request_data(struct mz_filter *f, struct mz_buf *take, bool watermark);  /* into the kept buffer */
void mz_filter_add_response_data(struct mz_filter *f, struct mz_buf *take, bool watermark);
void mz_filter_inject_request_data(struct mz_filter *f, struct mz_buf *take, bool end);     /* to later filters, now */
void mz_filter_inject_response_data(struct mz_filter *f, struct mz_buf *take, bool end);
struct mz_headers *mz_filter_add_request_trailers(struct mz_filter *f); /* at the end of the body: the request gets trailers */
struct mz_headers *mz_filter_add_response_trailers(struct mz_filter *f);
/* A filter that holds bytes of the answer itself is full: who produces it (router: upstream) pauses. Stacks; each true is undone
 * by a false of the same filter, except at the end of the stream. */
void mz_filter_pause_response(struct mz_filter *f, bool pause);

/* The answer of the proxy itself. Runs the response filters from the last one on; goes past them when they have an answer in
 * their hands already, which it replaces; resets the stream when that one's head has left. @details: static or arena text without blanks; may be NULL body. */
struct mz_local_reply {
    unsigned status;
    struct mz_str body;
    const char *details;
    uint64_t flags;            /* response flags to set */
    bool has_grpc_status; unsigned grpc_status;
    void (*modify)(struct mz_headers *h, void *arg); /* adds headers; NULL */
    void *modify_arg;
};
void mz_stream_local_reply(struct mz_stream *s, const struct mz_local_reply *r);
/* Headers of an answer come from the terminal filter (router): */
void mz_stream_respond_1xx(struct mz_stream *s, struct mz_headers *h);
void mz_stream_respond_headers(struct mz_stream *s, struct mz_headers *h, bool end);
void mz_stream_respond_data(struct mz_stream *s, struct mz_buf *data, bool end); /* moves the bytes out */
void mz_stream_respond_trailers(struct mz_stream *s, struct mz_headers *h);
void mz_stream_reset(struct mz_stream *s, const char *details); /* aborts the downstream stream (answer cannot be completed) */
/* Flow control towards the client's body: stacks. */
void mz_stream_request_read_disable(struct mz_stream *s, bool disable);
/* Is the way of the request, of the answer, full? A filter that makes much out of little stops then, and goes on after
 * on_request_resumed, on_downstream_below_low: not from within, the others hear of it in their turn. */
bool mz_stream_request_paused(const struct mz_stream *s);
bool mz_stream_response_paused(const struct mz_stream *s);
uint32_t mz_stream_buffer_limit(const struct mz_stream *s);
void mz_stream_set_buffer_limit(struct mz_stream *s, uint32_t bytes);
/* The host that the first try of this request goes to, where its cluster has it and it may be used (U2): "10.0.0.1:80"; in the
 * stream's arena. @strict: or to none. */
void mz_stream_wish_host(struct mz_stream *s, struct mz_str host, bool strict);
struct mz_str mz_stream_wished_host(const struct mz_stream *s, bool *out_strict); /* "": none */
/* Starts the request over with the request headers as they are now (@from: the route of an internal redirect; NULL: it is none), with @body (all of it; empty when it
 * has none). The calling filter is finished: it must return at once. */
void mz_stream_recreate(struct mz_stream *s, const struct mz_route *from, struct mz_buf *take_body,
                        struct mz_headers *original_response);

/* Per-route configurations of this filter, the least specific first (table, virtual host, route, weighted cluster); at most 4. */
unsigned mz_filter_route_configs(const struct mz_filter *f, const void *out_cfgs[4]);

/* The next filter of @type in the chain behind @after (NULL: the first); NULL: none. Filters that are off here are no part of it. */
struct mz_filter *mz_stream_next_filter(struct mz_stream *s, const struct mz_http_filter_type *type,
                                        const struct mz_filter *after);

/* Routes that this request was internally redirected from, oldest first (at most 16 are remembered, all counted). */
const struct mz_route *const *mz_stream_redirected_routes(const struct mz_stream *s, unsigned *out_n);

/* Something of a filter that lives as long as the client's connection, found by a @key that is never used for anything else;
 * NULL: none. A stream's thread only; @destroy gets it when the connection ends. */
void *mz_stream_conn_object(const struct mz_stream *s, uint64_t key);
void mz_stream_set_conn_object(struct mz_stream *s, uint64_t key, void *take, void (*destroy)(void *object));

/* Late completions. */
struct mz_ticket {
    uint32_t slot, generation;
};
struct mz_ticket mz_stream_ticket(struct mz_stream *s);
struct mz_stream *mz_stream_by_ticket(struct mz_ticket t); /* on the stream's thread only */
void mz_stream_thread_trim(void); /* gives the thread's table of tickets back; no stream of it lives any more */
#endif
