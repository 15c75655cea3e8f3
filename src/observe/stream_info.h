#ifndef MZ_OBSERVE_STREAM_INFO_H
#define MZ_OBSERVE_STREAM_INFO_H
/*
 * What is known of one request or TCP connection: access logs, header formatters, the decision record and filters read it
 * (O2). It lies in the stream's arena; texts are borrowed from the arena or from the configuration snapshot that the stream
 * holds. Times are monotonic µs, 0: did not happen.
 */
#include "base/arena.h"
#include "http/codec.h"
#include "http/header_map.h"
#include "net/addr.h"
#include "observe/decision.h"
#include "stats/stats.h"

/* Response flags in Envoy's order: X(identifier, short, long). */
#define MZ_RESPONSE_FLAGS(X)                                                                                           \
    X(FAILED_LOCAL_HEALTH_CHECK, "LH", "FailedLocalHealthCheck") X(NO_HEALTHY_UPSTREAM, "UH", "NoHealthyUpstream")     \
    X(UPSTREAM_REQUEST_TIMEOUT, "UT", "UpstreamRequestTimeout") X(LOCAL_RESET, "LR", "LocalReset")                     \
    X(UPSTREAM_REMOTE_RESET, "UR", "UpstreamRemoteReset") X(UPSTREAM_CONNECTION_FAILURE, "UF", "UpstreamConnectionFailure") \
    X(UPSTREAM_CONNECTION_TERMINATION, "UC", "UpstreamConnectionTermination") X(UPSTREAM_OVERFLOW, "UO", "UpstreamOverflow") \
    X(NO_ROUTE_FOUND, "NR", "NoRouteFound") X(DELAY_INJECTED, "DI", "DelayInjected") X(FAULT_INJECTED, "FI", "FaultInjected") \
    X(RATE_LIMITED, "RL", "RateLimited") X(UNAUTHORIZED_EXTERNAL_SERVICE, "UAEX", "UnauthorizedExternalService")       \
    X(RATELIMIT_SERVICE_ERROR, "RLSE", "RateLimitServiceError")                                                        \
    X(DOWNSTREAM_CONNECTION_TERMINATION, "DC", "DownstreamConnectionTermination")                                      \
    X(UPSTREAM_RETRY_LIMIT_EXCEEDED, "URX", "UpstreamRetryLimitExceeded") X(STREAM_IDLE_TIMEOUT, "SI", "StreamIdleTimeout") \
    X(INVALID_ENVOY_REQUEST_HEADERS, "IH", "InvalidEnvoyRequestHeaders") X(DOWNSTREAM_PROTOCOL_ERROR, "DPE", "DownstreamProtocolError") \
    X(UPSTREAM_MAX_STREAM_DURATION, "UMSDR", "UpstreamMaxStreamDurationReached")                                       \
    X(RESPONSE_FROM_CACHE, "RFCF", "ResponseFromCacheFilter") X(NO_FILTER_CONFIG_FOUND, "NFCF", "NoFilterConfigFound") \
    X(DURATION_TIMEOUT, "DT", "DurationTimeout") X(UPSTREAM_PROTOCOL_ERROR, "UPE", "UpstreamProtocolError")            \
    X(NO_CLUSTER_FOUND, "NC", "NoClusterFound") X(OVERLOAD_MANAGER, "OM", "OverloadManagerTerminated")                 \
    X(DNS_FAILURE, "DF", "DnsResolutionFailed") X(DROP_OVERLOAD, "DO", "DropOverload")                                 \
    X(DOWNSTREAM_REMOTE_RESET, "DR", "DownstreamRemoteReset")                                                          \
    X(UNCONDITIONAL_DROP_OVERLOAD, "UDO", "UnconditionalDropOverload")
enum mz_flag_bit {
#define X(id, s, l) MZ_FLAG_BIT_##id,
    MZ_RESPONSE_FLAGS(X)
#undef X
    MZ_FLAG__COUNT
};
#define MZ_FLAG(id) (1ull << MZ_FLAG_BIT_##id)

struct mz_route_view { /* names of what was chosen; borrowed from the route snapshot */
    struct mz_str route_name, vhost_name, vcluster_name, cluster_name /* observability name */, cluster_raw;
};
struct mz_value;
struct mz_meta; /* observe/metadata.h: a tree of namespaces to values (google.protobuf.Struct) */

struct mz_place { /* locality of a host; "": it has none */
    struct mz_str region, zone, sub_zone;
};
enum mz_sharing {        /* with the connections that are made for its stream or connection */
    MZ_SHARING_NONE,
    MZ_SHARING_ONCE,       /* the listener at an internal address that one of them leads to sees it */
    MZ_SHARING_TRANSITIVE, /* and those that it leads to, and so on */
};
struct mz_filter_object { /* value of filter_state: first member of the filter's own struct */
    struct mz_str (*text)(const struct mz_filter_object *o, struct mz_arena *a); /* %FILTER_STATE(name:PLAIN)% */
    bool (*field)(const struct mz_filter_object *o, struct mz_str name, struct mz_str *out_value); /* NULL: has none */
    const struct mz_value *(*tree)(const struct mz_filter_object *o, struct mz_arena *a); /* :TYPED; NULL: the text in quotes */
    uint64_t (*hash)(const struct mz_filter_object *o); /* for a route's hash policy; NULL: takes no part in one */
    /* A copy in @a that needs nothing of this one's memory; NULL: it cannot be shared. */
    struct mz_filter_object *(*copy)(const struct mz_filter_object *o, struct mz_arena *a);
    bool read_only;                                     /* nothing replaces it */
    uint8_t sharing;                                    /* enum mz_sharing */
    bool is_map;                                        /* expressions see the tree as a map, not the text as bytes */
};
struct mz_attempt { /* a host that was tried: %UPSTREAM_HOSTS_ATTEMPTED% and its relatives */
    struct mz_addr host;
    struct mz_str host_name; /* endpoint hostname, else address text */
    uint64_t conn_id;        /* 0: no connection was had */
};

struct mz_stream_info {
    struct mz_arena *arena;
    enum mz_http_protocol protocol;
    bool has_protocol;          /* false: TCP, or the request was not read */
    bool secure;
    bool health_check;          /* a health-check request: access log filter, no rq statistics */
    bool should_drain_connection;
    uint8_t listener_direction; /* traffic_direction */
    uint64_t start_us, start_wall_us;
    uint64_t cx_start_us, cx_end_us; /* of the downstream connection; its end: TCP only */
    uint64_t rx_head_us, rx_end_us;  /* last byte of the request's head, of the request received */
    uint64_t tx_first_us, tx_last_us; /* first/last byte of the answer sent downstream */
    uint64_t end_us;
    struct { /* of the current or last attempt */
        uint64_t first_tx_us, last_tx_us, first_rx_us, first_body_us, last_rx_us, connect_start_us, connect_us, handshake_us;
        struct mz_addr host;          /* chosen host's first address; len 0: none */
        struct mz_addr local, remote; /* of the connection; len 0: none stood. remote: that of the host's that answered */
        struct mz_str host_name;    /* endpoint hostname, else address text */
        const struct mz_meta *metadata; /* of the endpoint */
        const struct mz_meta *locality_metadata; /* of the locality in which it stands */
        const struct mz_place *place;   /* of the endpoint; NULL: none was chosen */
        struct {
            const struct mz_scope *scope; /* the cluster's; NULL: there is none */
            unsigned i;                   /* of membership_total */
        } members;
        const struct mz_meta *cluster_metadata;
        struct mz_str cluster_stat_name; /* alt_stat_name or name */
        uint64_t conn_id;
        enum mz_http_protocol protocol;
        bool has_protocol;
        struct mz_str transport_failure; /* "" or text */
        uint64_t wire_in, wire_out, header_in, header_out;
        uint64_t begin_us;      /* the attempt began: a connection was asked for */
        uint64_t pool_ready_us; /* connection pool callback latency end */
        uint64_t hosts_n;       /* places used in hosts */
        const struct mz_attempt *hosts; /* every attempt in order; NULL: only host above is known */
        struct mz_map *filter_state;    /* of the connection; NULL: none */
        const char *close_type;         /* "LocalReset", "RemoteReset"; NULL: "Normal" */
        const char *local_close_reason; /* NULL: not closed by us */
        uint32_t conn_requests;
        const struct mz_tls_facts *tls; /* mz_format_upstream_tls() */
        struct mz_str peer_principal, own_principal; /* first URIs of the certificates; "": none, or mz_format_want_principals() was not called */
    } up;
    uint32_t attempts;
    unsigned status;            /* 0 none */
    const char *details;        /* response code details; arena or static, no blanks; NULL: none */
    const char *conn_termination; /* connection termination details, NULL */
    uint64_t flags;             /* MZ_FLAG(..) */
    uint64_t flag_order;        /* a byte each: bit number + 1 of the flags in the order of their setting, the first lowest */
    uint64_t rx_body, tx_body;  /* %BYTES_RECEIVED%, %BYTES_SENT% */
    uint64_t wire_in, wire_out, header_in, header_out; /* downstream */
    struct mz_route_view route;
    struct mz_str filter_chain_name, listener_name, sni, ja3, ja4, request_id;
    struct mz_addr local, remote, direct_remote; /* downstream: remote is after XFF */
    struct mz_addr direct_local;    /* before original_dst; len 0: as local */
    const char *close_type;         /* of the downstream connection, as up.close_type */
    const char *local_close_reason;
    uint64_t tls_done_us;           /* downstream handshake complete */
    bool traceable;                 /* sampled: access log filter */
    uint64_t conn_id, stream_id;
    const struct mz_headers *req, *resp, *resp_trailers, *req_trailers; /* NULL: none */
    const struct mz_meta *listener_metadata, *chain_metadata, *vhost_metadata, *route_metadata;
    struct mz_meta *dynamic_metadata; /* written by filters; NULL until first */
    struct mz_map *filter_state;      /* name -> struct mz_filter_object; NULL until first */
    struct mz_transport *transport;   /* of the downstream connection: facts of TLS, failure; NULL: none */
    const char *trace_id, *span_id; /* hexadecimal; NULL: none */
    struct mz_decision *decision;     /* the record beside the stream; NULL: not recorded */
};
/* Filter state of an upstream connection: whoever shows it holds a reference, for the connection may end before. One thread. */
struct mz_conn_state {
    unsigned refs;
    struct mz_arena *arena;
    struct mz_map *map;
};
struct mz_conn_state *mz_conn_state_create(void); /* one reference */
struct mz_conn_state *mz_conn_state_ref(struct mz_conn_state *s);
void mz_conn_state_unref(struct mz_conn_state *s); /* NULL is fine */

/* Clears *i. As a stream does it for each request, its addresses are only marked absent, not zeroed to the last byte. */
void mz_info_init(struct mz_stream_info *i);
/* Puts a filter's object into the state; @name and @o live as long as the stream. */
void mz_info_set_state(struct mz_stream_info *i, struct mz_str name, struct mz_filter_object *o);
struct mz_map *mz_info_state_map(struct mz_stream_info *i); /* makes it, for who shares it with another */
void mz_info_inherit_state(struct mz_stream_info *i, const struct mz_map *of_connection); /* NULL: nothing */
const struct mz_filter_object *mz_info_state(const struct mz_stream_info *i, struct mz_str name); /* NULL: none */
/* %STREAM_ID%: the request's, of a connection a UUID of its own, the same in each of its entries (Envoy); "" before there is one.
 * Borrowed, or in @out_text. */
#define MZ_UUID_TEXT 36
struct mz_str mz_info_stream_id(const struct mz_stream_info *i, char out_text[MZ_UUID_TEXT]);
void mz_info_uuid(uint64_t high, uint64_t low, char out_text[MZ_UUID_TEXT]); /* version 4; written without NUL */
/* "URX,UF" or "UpstreamRetryLimitExceeded,...", in the order of their setting; "-" for none. Written without NUL; returns the
 * length. */
#define MZ_FLAGS_TEXT 1024
size_t mz_flags_text(uint64_t flags, uint64_t order, bool long_names, char out_text[MZ_FLAGS_TEXT]);
bool mz_flag_parse(struct mz_str short_name, uint64_t *out_flag);
void mz_info_flag(struct mz_stream_info *i, uint64_t flags);
#endif
