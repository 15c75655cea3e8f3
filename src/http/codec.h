#ifndef MZ_HTTP_CODEC_H
#define MZ_HTTP_CODEC_H
/*
 * Codecs: bytes in, events out; bytes out through a sink. They never touch a socket, so tests and fuzzers drive them alone.
 * HTTP/1 and HTTP/2 (and 3) serve the same interface: a codec carries streams; HTTP/1 has one active at a time.
 *
 * Rules that keep late events harmless:
 * - After on_reset() or after both directions ended, the codec never calls the stream's callbacks again.
 * - After mz_stream_enc->reset() returned, likewise.
 * - Callbacks may call any encoder function, also reset(), on any stream of the codec.
 * - The codec object outlives dispatch(); its owner destroys it later through mz_loop_free_later().
 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "http/header_map.h"
#include "stats/stats.h"

enum mz_http_protocol { MZ_HTTP10, MZ_HTTP11, MZ_HTTP2, MZ_HTTP3 };
const char *mz_http_protocol_name(enum mz_http_protocol p); /* "HTTP/1.1" */

enum mz_reset_reason { /* Envoy's names in the comment are what logs and details show */
    MZ_RESET_LOCAL,              /* local reset */
    MZ_RESET_LOCAL_REFUSED,      /* local refused stream reset */
    MZ_RESET_REMOTE,             /* remote reset */
    MZ_RESET_REMOTE_REFUSED,     /* remote refused stream reset */
    MZ_RESET_LOCAL_CONNECT_FAIL, /* local connection failure */
    MZ_RESET_REMOTE_CONNECT_FAIL, /* remote connection failure */
    MZ_RESET_CONNECT_TIMEOUT,    /* connection timeout */
    MZ_RESET_CONN_TERMINATED,    /* connection termination */
    MZ_RESET_OVERFLOW,           /* overflow */
    MZ_RESET_CONNECT_ERROR,      /* remote error with CONNECT request */
    MZ_RESET_PROTOCOL_ERROR,     /* protocol error */
    MZ_RESET_OVERLOAD_MANAGER,   /* overload manager reset */
};
const char *mz_reset_reason_text(enum mz_reset_reason r);

/* ---- a message coming in (request at a server codec, response at a client codec) ---- */
struct mz_stream_in_ops {
    void (*on_1xx)(void *arg, struct mz_headers *h);                 /* client codecs only */
    void (*on_headers)(void *arg, struct mz_headers *h, bool end);   /* h lies in the arena given for the stream */
    void (*on_data)(void *arg, struct mz_buf *data, bool end);       /* takes what it wants; the rest is dropped */
    void (*on_trailers)(void *arg, struct mz_headers *h);
    void (*on_reset)(void *arg, enum mz_reset_reason r, const char *details /* static text or NULL: "http1.codec_error" */);
    /* Output of this stream's connection or window: pause and resume producing (H7). Stacks by cause within the codec:
     * strictly alternating above, below. */
    void (*on_above_high)(void *arg);
    void (*on_below_low)(void *arg);
};
struct mz_stream_in {
    const struct mz_stream_in_ops *ops;
    void *arg;
    struct mz_arena *arena; /* where the codec puts headers and trailers */
};

/* ---- a message going out (response at a server codec, request at a client codec) ---- */
struct mz_stream_enc;
struct mz_stream_enc_ops {
    void (*encode_1xx)(struct mz_stream_enc *e, struct mz_headers *h);
    void (*encode_headers)(struct mz_stream_enc *e, struct mz_headers *h, bool end);
    void (*encode_data)(struct mz_stream_enc *e, struct mz_buf *data, bool end); /* moves the bytes out of data */
    void (*encode_trailers)(struct mz_stream_enc *e, struct mz_headers *h);
    /* Ends the stream in both directions. HTTP/1: the connection cannot be used further: the codec's owner closes it when
     * mz_codec_must_close() says so. */
    void (*reset)(struct mz_stream_enc *e, enum mz_reset_reason r);
    void (*read_disable)(struct mz_stream_enc *e, bool disable); /* incoming data of this stream; stacks */
    bool (*above_high)(const struct mz_stream_enc *e);           /* state at creation: a new stream may start paused */
};
struct mz_stream_enc {
    const struct mz_stream_enc_ops *ops;
    uint32_t id; /* HTTP/2 stream id; HTTP/1: number of the message on this connection, from 1 */
    /* wire bytes of this stream, for %..WIRE_BYTES..% and %..HEADER_BYTES..%: */
    uint64_t wire_in, wire_out, header_in, header_out;
    uint64_t wire_came; /* HTTP/1: wire_in and what had come of the body with the head, read or not */
    const char *details; /* HTTP/2: why the codec ended the stream, static text: "http2.invalid.header.field"; NULL */
    /* HTTP/2, set by the owner: how long what was encoded may wait for the peer's window, counted from the last byte that went
     * out; then the stream is reset (tx_flush_timeout). 0: for ever. */
    uint32_t flush_timeout_ms;
};

/* ---- the codec ---- */
enum mz_codec_status {
    MZ_CODEC_OK,
    MZ_CODEC_ERROR,        /* protocol error: error() tells; a server owner has been given the chance of an error answer */
    MZ_CODEC_PREMATURE,    /* client codec: bytes with no request outstanding */
};
struct mz_codec;
struct mz_codec_ops {
    /* Takes what it can off @in; leaves an incomplete rest. Stops early (returns OK with bytes left) when the stream that
     * would come next may not start yet (HTTP/1 pipelining) or reading is disabled. @end: the peer sent FIN. */
    enum mz_codec_status (*dispatch)(struct mz_codec *c, struct mz_buf *in, bool end);
    /* HTTP/2: what is to be sent goes into the sink's buffer now rather than at the end of the turn, as far as windows and the
     * sink's limit allow; not from within dispatch (no-op). NULL: it is there already. */
    void (*flush)(struct mz_codec *c);
    /* HTTP/2: without a stream, for some while probably; the codec keeps little memory until it is used again. NULL: HTTP/1, see
     * rest of struct mz_codec_server_ops. */
    void (*rest)(struct mz_codec *c);
    void (*goaway)(struct mz_codec *c, bool graceful_notice); /* HTTP/2: shutdown notice, then final; HTTP/1: once final the answer in work closes, no request begins */
    bool (*wants_to_write)(const struct mz_codec *c);
    void (*conn_above_high)(struct mz_codec *c); /* the connection's output buffer crossed: told to all streams */
    void (*conn_below_low)(struct mz_codec *c);
    void (*conn_closed)(struct mz_codec *c, enum mz_reset_reason r); /* resets all active streams */
    void (*destroy)(struct mz_codec *c); /* silent */
};
struct mz_codec_error { /* of the last dispatch */
    unsigned status;      /* answer of a server: 400, 408, 413, 426, 431, 501, 505...; client: 502 */
    const char *details;  /* static: "http1.invalid_characters" ... as Envoy's */
    const char *body;     /* static: what Envoy writes as body: "Bad Request" */
};
struct mz_codec {
    const struct mz_codec_ops *ops;
    enum mz_http_protocol protocol;
    struct mz_codec_error error;
    bool must_close; /* no further message may use the connection (close in either head, unfinished message, reset) */
    bool inside; /* HTTP/1 client: some bytes of an answer were read; not behind a 1xx */
};

/* ---- what a codec needs of its owner ---- */
struct mz_codec_sink {
    struct mz_buf *out;                    /* append here ... */
    void (*written)(void *arg);            /* ... then say so */
    void (*read_disable)(void *arg, bool disable); /* the connection's reading (HTTP/1: the stream is the connection) */
    void *arg;
    uint32_t high; /* HTTP/2: DATA is not put on top of more bytes than that (the owner's high watermark); 0: no limit */
    bool secure;   /* the connection has TLS */
};
struct mz_codec_server_ops {
    /* A new request begins; the owner fills out_in (callbacks and arena). HTTP/1: at its first byte after the previous
     * request and answer are complete. */
    void (*new_stream)(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in);
    /* Before dispatch returns ERROR with no or incomplete stream: the owner may answer on the stream by local reply.
     * Envoy sends its 4xx through the connection manager's local reply: stream exists, headers may be NULL. */
    void (*goaway_received)(void *arg); /* from within dispatch */
    void (*keepalive_timeout)(void *arg); /* a keepalive PING was not answered in time: the owner closes */
    /* HTTP/1, between two messages: other connections of the thread were used since. There is nothing to remember: true, the owner
     * forgot the codec and destroys it later (mz_loop_free_later()), and makes a new one when the next bytes come. NULL: never. */
    bool (*rest)(void *arg);
};

struct mz_http1_opts { /* from Http1ProtocolOptions and its owner; immutable, shared */
    bool refuse_https_on_plain; /* 403 for a target of https:// where the sink is not secure */
    bool allow_absolute_url, accept_http10, enable_trailers, allow_chunked_length, allow_custom_methods;
    bool override_stream_error;      /* keep the connection after an invalid message where framing allows */
    bool ignore_upgrade_h2c;         /* always true today: Upgrade: h2c is ignored (A24) */
    struct mz_str default_host_http10;
    enum { MZ_CASE_LOWER, MZ_CASE_PROPER, MZ_CASE_PRESERVE } header_case;
    bool forward_reason_phrase, proper_on_unknown /* preserve_case formatter for names that were not received */;
    uint32_t max_headers_kb;         /* 60 */
    uint32_t max_headers_count;      /* 100 */
    enum { MZ_UNDERSCORE_ALLOW, MZ_UNDERSCORE_REJECT, MZ_UNDERSCORE_DROP } underscores;
    bool enable_connect, send_fully_qualified_url;
};
#define MZ_STAT_NONE 0xffffu /* the same in net/conn.h */
struct mz_http1_stats { /* counters of the owner's scope, MZ_STAT_NONE: not counted */
    struct mz_scope *scope;
    unsigned dropped_headers_with_underscores, requests_rejected_with_underscores, metadata_not_supported, response_flood;
};
struct mz_codec *mz_http1_server_create(const struct mz_http1_opts *o, const struct mz_http1_stats *st,
                                        const struct mz_codec_sink *sink, const struct mz_codec_server_ops *ops, void *arg);
struct mz_codec *mz_http1_client_create(const struct mz_http1_opts *o, const struct mz_http1_stats *st,
                                        const struct mz_codec_sink *sink);
/* Starts a request; the answer comes to @in. HTTP/1: one at a time (asserted). */
struct mz_stream_enc *mz_http1_client_request(struct mz_codec *c, const struct mz_stream_in *in);

/* ---- HTTP/2 (h2/): libnghttp2 does frames and HPACK; limits, flow control and messages are ours (H2, D01-D21) ---- */
struct mz_http2_opts { /* from Http2ProtocolOptions and its owner; immutable, shared; defaults: mz_http2_opts_init() */
    uint32_t hpack_table_size, max_concurrent_streams; /* what we announce */
    uint32_t stream_window, connection_window;         /* bytes the peer may send before we grant more */
    bool allow_connect;         /* extended CONNECT is announced and taken (RFC 8441) */
    bool override_stream_error; /* an invalid message resets its stream only, the connection goes on */
    uint32_t max_outbound_frames, max_outbound_control_frames; /* queued: above them the connection ends */
    uint32_t max_empty_frames;              /* consecutive inbound frames without payload and end of stream */
    uint32_t max_priority_per_stream, max_window_updates_per_data; /* inbound */
    uint32_t max_headers_kb, max_headers_count;
    uint8_t underscores; /* MZ_UNDERSCORE_... */
    uint64_t keepalive_interval_ms, keepalive_timeout_ms, keepalive_idle_ms; /* 0: none */
    double keepalive_jitter;                                                 /* percent of the interval */
    uint32_t (*settings)[2];       /* custom_settings_parameters: id, value; borrowed */
    size_t n_settings;
};
void mz_http2_opts_init(struct mz_http2_opts *o); /* Envoy's defaults */
struct mz_http2_stats { /* scope of kind mz_http2_codec_stats ("...http2."), NULL: not counted */
    struct mz_scope *scope;
};
/*
 * Output leaves at the end of the loop's turn, or when a message ends. Headers given to the encoder are borrowed until then:
 * their arena must live to the end of the turn (mz_loop_free_later()). An extended CONNECT (RFC 8441) has the shape of an
 * HTTP/1 upgrade outside of the codec, in both roles: GET with `upgrade` and `connection: upgrade`, answered by 101.
 */
struct mz_loop;
struct mz_codec *mz_http2_server_create(const struct mz_http2_opts *o, const struct mz_http2_stats *st, struct mz_loop *l,
                                        const struct mz_codec_sink *sink, const struct mz_codec_server_ops *ops, void *arg);
struct mz_codec_client_ops {
    /* The peer will take no further stream (GOAWAY); streams above its last id have been reset with MZ_RESET_REMOTE_REFUSED
     * before this call, the others go on. */
    void (*goaway_received)(void *arg);
    /* The peer's SETTINGS arrived: how many streams it allows at once. Before the first: as configured here. */
    void (*max_streams_changed)(void *arg, uint32_t n);
    /* A keepalive PING was not answered in time: the owner closes. */
    void (*keepalive_timeout)(void *arg);
};
struct mz_codec *mz_http2_client_create(const struct mz_http2_opts *o, const struct mz_http2_stats *st, struct mz_loop *l,
                                        const struct mz_codec_sink *sink, const struct mz_codec_client_ops *ops, void *arg);
/* Starts a request; the answer comes to @in. Any number at once; the caller keeps below the peer's limit. NULL: no stream id is
 * left or the connection goes away: use another. */
struct mz_stream_enc *mz_http2_client_request(struct mz_codec *c, const struct mz_stream_in *in);
#endif
