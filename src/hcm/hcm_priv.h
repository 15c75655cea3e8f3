#ifndef MZ_HCM_PRIV_H
#define MZ_HCM_PRIV_H
/* The connection manager's own objects: configuration, connection, stream. For src/hcm only. */
#include "base/log.h"
#include "hcm/filter.h"
#include "hcm/rds.h"
#include "hcm/srds.h"
#include "hcm/stats.h"
#include "http/path.h"
#include "listener/ecds.h"
#include "observe/access_log.h"
#include "observe/custom_tag.h"
#include "observe/decision.h"
#include "observe/tracer.h"
#include "upstream/cluster.h"

struct filter_entry { /* one of http_filters */
    const struct mz_http_filter_type *type;
    void *cfg;
    struct mz_ecds_place *place; /* not NULL: type and cfg come from there */
    struct mz_str name;
    bool disabled; /* until a route enables it */
    /* by chain_prepare(): */
    bool hears_end;     /* has one of on_stream_done, on_log, on_destroy, or may */
    uint32_t bytes;     /* of its object; 0: it comes by subscription */
};
struct filter_list {
    struct filter_entry *v;
    size_t n;
    size_t bytes; /* by chain_prepare(): of all its objects, and what finds them */
};
struct upgrade_entry {
    struct mz_str type;
    bool enabled;
    bool own_filters;
    struct filter_list filters;
};
struct local_reply_config;
enum codec_type { CODEC_AUTO, CODEC_HTTP1, CODEC_HTTP2 }; /* as in the message */
enum server_transform { SERVER_OVERWRITE, SERVER_APPEND_IF_ABSENT, SERVER_PASS_THROUGH };
enum xfcc { XFCC_SANITIZE, XFCC_FORWARD_ONLY, XFCC_APPEND_FORWARD, XFCC_SANITIZE_SET, XFCC_ALWAYS_FORWARD_ONLY };
enum { XFCC_SUBJECT = 1, XFCC_CERT = 2, XFCC_CHAIN = 4, XFCC_DNS = 8, XFCC_URI = 16 }; /* set_current_client_cert_details */
struct ip_detection { /* original_ip_detection_extensions, in order */
    enum { DETECT_XFF, DETECT_HEADER } kind;
    uint32_t xff_hops;
    struct mz_cidr *proxies; /* xff_trusted_cidrs, used instead of hops when there are any */
    size_t n_proxies;
    bool skip_xff_append, trusted, reject;
    struct mz_str header;
    unsigned reject_status;
};

struct mz_hcm_config { /* immutable; a connection's filter chain holds it */
    struct mz_arena *arena;
    struct mz_scope *scope, *listener_scope, *http1_scope;
    struct mz_scope **http2_scope; /* NULL inside until the first connection that speaks it; any worker */
    struct filter_list filters;
    struct upgrade_entry *upgrades;
    size_t n_upgrades;
    const struct mz_route_table *routes;
    struct mz_rds *rds; /* NULL: routes, if there are any */
    struct mz_srds *srds; /* NULL: routes or rds; else they are by request */
    struct mz_init_wait rds_wait; /* for one of the two */
    struct mz_access_log **logs;
    size_t n_logs;
    struct mz_recorder *recorder;
    struct mz_process *process;
    struct mz_http1_opts http1;
    struct mz_http2_opts http2;
    enum codec_type codec_type;
    struct mz_str stat_prefix;
    bool admin;
    /* header work */
    bool use_remote_address, skip_xff_append, generate_request_id, preserve_external_request_id, always_set_request_id;
    bool request_id_extension, pack_trace_reason, use_request_id_for_trace;
    struct tracing_config *tracing; /* NULL: no tracing */
    uint32_t xff_hops;
    struct mz_cidr *internal_cidrs;
    size_t n_internal_cidrs;
    bool internal_unix, internal_configured;
    struct ip_detection *detections;
    size_t n_detections;
    struct mz_header_ops *early;
    size_t n_early;
    struct mz_str via, server_name, scheme_overwrite, node_cluster, node_id;
    bool scheme_match_upstream, append_forwarded_port, add_user_agent, proxy_100_continue;
    enum server_transform server_transform;
    enum xfcc xfcc;
    uint8_t xfcc_details;
    struct mz_path_rules path_rules;
    bool strip_matching_port, strip_any_port, strip_trailing_dot;
    /* limits; ms, 0: none */
    uint64_t idle_timeout_ms, max_connection_duration_ms, max_stream_duration_ms, stream_idle_timeout_ms, request_timeout_ms,
        request_headers_timeout_ms, drain_timeout_ms, delayed_close_ms;
    uint32_t max_requests_per_connection;
    bool log_on_new_request, log_on_tunnel;
    uint64_t log_interval_ms; /* 0: only at the end */
    struct local_reply_config *local_reply;
};

struct conn_ends { /* timers of a connection that most never start: made on the first start */
    struct hcm_conn *conn;
    struct mz_timer duration, drain;
};
struct conn_object {
    struct conn_object *next;
    uint64_t key;
    void *object;
    void (*destroy)(void *object);
};
void conn_objects_destroy(struct conn_object *o); /* the whole list; NULL is fine */
enum { DRAIN_NONE, DRAIN_DRAINING, DRAIN_CLOSING };
struct hcm_conn { /* the network filter's object */
    struct mz_net_filter base;
    const struct mz_hcm_config *cfg;
    struct mz_codec *codec; /* NULL: the first bytes have not come, or HTTP/1 rests */
    struct mz_list streams;
    unsigned n_streams;
    uint32_t n_requests;
    uint32_t n_ended, n_premature; /* HTTP/2 streams: all, and those reset before they had an answer */
    uint8_t drain; /* DRAIN_... */
    bool spoke;    /* it has, or had, a codec */
    bool resting, dispatching, closing, closed, saw_codec_error;
    bool cut_streams; /* by such an error: it had some */
    uint64_t idle_since_us; /* the last stream ended */
    struct mz_timer idle_timer; /* it rests soon, and ends at last */
    struct conn_ends *ends; /* or NULL */
    struct conn_object *objects; /* of filters; a list, mostly empty */
    struct mz_task redispatch;
};

/* One direction of a stream through the chain. */
struct pass {
    struct mz_headers *headers, *trailers;
    struct mz_buf kept; /* what stopped filters wait with */
    bool has_kept;
    bool ended;         /* the last byte of this direction came in (complete) */
    bool above;         /* kept is above its limit and the producer was paused */
    bool data_running;  /* inside a data callback: its bytes are neither kept nor handed on yet */
};
enum { /* per filter and direction: req_state, resp_state */
    FS_SINGLE = 1,       /* stopped; its data callback is still called */
    FS_ALL_BUFFER = 2,   /* stopped all; data waits, hard limit */
    FS_ALL_WATERMARK = 4, /* stopped all; data waits, flow control */
    FS_STOPPED = 7,
    FS_HEADERS_CONTINUED = 16,
    FS_ENDED = 32,       /* has seen the end of this direction */
};

struct held_table {
    struct held_table *next;
    const struct mz_route_table *table; /* reference */
};
struct held_extension { /* what came by ECDS and serves this stream */
    struct held_extension *next;
    const struct mz_extension *extension; /* reference */
};
struct mz_stream {
    struct mz_list link; /* of the connection */
    struct hcm_conn *conn;
    struct mz_arena *arena;
    struct mz_stream_enc *enc;
    struct mz_stream_in in;
    const struct filter_list *list;
    struct mz_filter **filters; /* n_filters objects; NULL: disabled for this stream */
    struct mz_filter **enders;  /* n_enders of them that hear of the stream's end */
    struct held_extension *extensions;
    uint8_t n_filters, n_enders;
    bool chain_made;
    bool dead;            /* ended: nothing may call its filters any more */
    bool codec_done;      /* the encoder may not be called any more (reset by peer or finished) */
    bool remote_end;      /* codec delivered the last byte of the request */
    bool local_end;       /* the last byte of the answer went to the codec */
    bool responding;      /* answer headers went to the codec */
    bool local_replying, is_grpc, is_head, is_upgrade, is_connect, upgrade_accepted, successful_upgrade, health_checked;
    bool trace, internal, idle_armed, route_cached, codec_reset, response_complete, is_internal_created;
    bool drain_counted, saw_connection_close, needs_close, expect_continue, rq_counted, timed_out;
    uint32_t buffer_limit;
    struct mz_str wished_host; /* mz_stream_wish_host() */
    bool wished_strictly;
    uint32_t read_disables; /* causes that pause the client's body */
    uint32_t down_above;    /* causes that pause the answer's producer */
    uint64_t id, random;
    uint32_t epoch; /* grows when the stream begins anew (internal redirect): older iterations end */
    uint32_t ticket_slot, ticket_gen;
    uint64_t idle_timeout_ms, touched_us; /* the latter: something moved last */
    struct pass req, resp;
    const struct mz_route_table *routes;
    struct held_table *held_tables; /* of scopes that were chosen before */
    const struct mz_route *route;
    struct mz_span *span;    /* NULL: none */
    struct mz_str operation; /* of the route's decorator, to be told to the other proxy; "" none */
    struct mz_wcluster *wcluster; /* the route's cluster on this worker; NULL: none, or it does not exist */
    const struct mz_weighted_cluster *weighted;
    struct mz_str cluster_name;
    struct mz_timer idle_timer, request_timer, headers_timer, duration_timer, log_timer;
    uint32_t internal_redirects;
    const struct mz_route *redirected[16]; /* of which internal_redirects are set */
    struct mz_stream_info info;            /* last: see stream_create() */
};

/* conn.c */
void hcm_count_request(const struct hcm_conn *c);
void hcm_conn_stream_ended(struct hcm_conn *c, struct mz_stream *s); /* unlinks; decides over keep-alive and close */
void hcm_conn_start_drain(struct hcm_conn *c);
void hcm_conn_close(struct hcm_conn *c, enum mz_close how, const char *reason);
static inline struct mz_loop *conn_loop(const struct hcm_conn *c)
{
    return c->base.worker->loop;
}
static inline void hcm_count(const struct hcm_conn *c, enum mz_hcm_stat i)
{
    mz_count(c->cfg->scope, i, 1);
}

/* hcm_config.c */
static inline const struct mz_route_table *hcm_routes(const struct mz_hcm_config *c) /* as this thread has them now; NULL: none */
{
    return c->rds ? mz_rds_table(c->rds) : c->routes;
}
void *hcm_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void hcm_config_destroy(void *cfg);

/* stream.c */
struct mz_stream *stream_create(struct hcm_conn *c, struct mz_stream_enc *enc, struct mz_stream_in *out_in);
void stream_codec_error(struct mz_stream *s, const struct mz_codec_error *e, bool close); /* answers or resets */
void stream_end(struct mz_stream *s);                /* both directions are over, or it was reset: log, destroy */
void stream_abort(struct mz_stream *s, uint64_t flag, const char *details, const char *termination); /* connection gone */
void stream_maybe_finish(struct mz_stream *s);
void stream_idle_arm(struct mz_stream *s);
void stream_read_disable(struct mz_stream *s, bool disable);
void stream_down_above(struct mz_stream *s);
void stream_down_below(struct mz_stream *s);
bool stream_refresh_route(struct mz_stream *s);
uint64_t stream_now(const struct mz_stream *s);
static inline void stream_touch(struct mz_stream *s) /* something moved: the idle timer, when it fires, begins anew from here */
{
    s->touched_us = mz_loop_now_us(conn_loop(s->conn));
    if (MZ_UNLIKELY(!mz_timer_armed(&s->idle_timer)))
        stream_idle_arm(s);
}

/* log.c */
void log_write(struct mz_stream *s, const char *type); /* @type: word of %ACCESS_LOG_TYPE% */
void log_begin(struct mz_stream *s);                   /* the stream begins: access_log_flush_interval */
void log_tunnel(struct mz_stream *s);                  /* the answer's head went out: does a tunnel stand now? */
void log_end(struct mz_stream *s);                     /* info is complete; the request story goes to the recorder, too */

/* respond.c: the answer's way to the codec, behind the last response filter */
void respond_headers(struct mz_stream *s, struct mz_headers *h, bool end);
void respond_data(struct mz_stream *s, struct mz_buf *data, bool end);
void respond_trailers(struct mz_stream *s, struct mz_headers *h);
void respond_1xx(struct mz_stream *s, struct mz_headers *h);
void respond_continue(struct mz_stream *s); /* the answer to Expect: 100-continue, ours */

/* extension.c */
extern const struct mz_extension_kind extension_http;
/* What serves @s at a place; NULL: nothing. @io_missing: something was missing, and the answer to that has its place. */
const struct mz_http_filter_type *extension_take(struct mz_stream *s, const struct filter_entry *e, const void **out_cfg,
                                                 bool *io_missing);
void extensions_drop(struct mz_stream *s);

/* filter_chain.c */
/* The most specific of the filter's typed_per_filter_config; NULL: none. */
const struct mz_filter_override *chain_override(const struct mz_route *r, const struct mz_weighted_cluster *w, struct mz_str name);
bool chain_enables(const struct filter_entry *e, const struct mz_filter_override *o);
void chain_prepare(struct filter_list *list); /* once, when all of its entries are there */
void chain_make(struct mz_stream *s, const struct filter_list *list);
void chain_request_headers(struct mz_stream *s, struct mz_headers *h, bool end);
void chain_request_data(struct mz_stream *s, struct mz_buf *data, bool end);
void chain_request_trailers(struct mz_stream *s, struct mz_headers *h);
void chain_response_1xx(struct mz_stream *s, struct mz_headers *h);
void chain_response_headers(struct mz_stream *s, struct mz_headers *h, bool end);
void chain_response_data(struct mz_stream *s, struct mz_buf *data, bool end);
void chain_response_trailers(struct mz_stream *s, struct mz_headers *h);
void chain_route_changed(struct mz_stream *s); /* refreshes route_cfg of each filter */
void chain_done(struct mz_stream *s);
void chain_log(struct mz_stream *s); /* at the end, behind the access logs */
void chain_destroy(struct mz_stream *s);
void chain_down_above(struct mz_stream *s);
void chain_down_below(struct mz_stream *s);
void chain_request_resumed(struct mz_stream *s);

/* mutate.c: the manager's own header work */
enum mutate_result { MUTATE_OK, MUTATE_ANSWERED };
enum mutate_result mutate_check_request(struct mz_stream *s, struct mz_headers *h);   /* host, path */
void mutate_host(const struct mz_hcm_config *c, struct mz_headers *h, const struct mz_addr *local, bool is_connect);
enum mutate_result mutate_request(struct mz_stream *s, struct mz_headers *h);         /* XFF, scheme, ids, sanitizing */
void mutate_xfcc(struct mz_stream *s, struct mz_headers *h); /* xfcc.c */
void mutate_response(struct mz_stream *s, struct mz_headers *h);
bool mutate_is_internal(const struct mz_hcm_config *c, const struct mz_addr *a);

/* local_reply.c */
struct local_reply_config *local_reply_config_build(const void *msg, const struct mz_factory *f, struct mz_arena *a, struct mz_err *err);
void local_reply_config_destroy(struct local_reply_config *c);
/* tracing.c */
struct tracing_config {
    struct mz_fraction client, random, overall;
    bool egress; /* else ingress */
    struct mz_tracer *tracer; /* NULL: sampling is decided, no span is made */
    bool verbose, spawn;
    uint32_t max_path;
    struct mz_custom_tags tags;
    struct mz_format *operation, *upstream_operation; /* NULL: names are the decorator's, the other proxy's, the tracer's */
    struct mz_str zone;
};
void tracing_destroy(struct tracing_config *t); /* NULL is fine */
bool tracing_build(const void *msg, const struct mz_factory *f, struct mz_hcm_config *c, struct mz_err *err); /* NULL: none */
void tracing_request(struct mz_stream *s, struct mz_headers *h); /* the route is known; only with c->tracing */
void tracing_response(struct mz_stream *s, struct mz_headers *h);
/* span.c */
void span_begin(struct mz_stream *s, const struct mz_headers *h, bool traced);
void span_end(struct mz_stream *s); /* harmless where there is none */
#endif
