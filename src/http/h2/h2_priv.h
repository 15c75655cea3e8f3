#ifndef MZ_HTTP_H2_PRIV_H
#define MZ_HTTP_H2_PRIV_H
/*
 * The HTTP/2 codec's inside. libnghttp2 reads and writes frames; what a message may hold (message.c), what a peer may cost
 * (limits.c), when bytes are granted and handed on (decode.c, encode.c) is ours. Of src/http/h2 only.
 */
#include <nghttp2/nghttp2.h>

#include "base/list.h"
#include "base/log.h"
#include "event/loop.h"
#include "http/codec.h"
#include "http/h2/stats.h"

#define H2_STREAM_BUFFER  65536 /* bytes that wait for a stream's window before its producer is paused */
#define H2_OUT_RANGES     8
#define H2_FRAMES_MIN     16384 /* the only piece that large of a new session is the room for frames (mem.c) */
#define H2_ENDED_IDS      32
#define H2_SKIPPED_IDS    4
#define H2_1XX_MAX        8 /* informational answers told to the owner; further ones are read over (F06) */

struct h2;

/* What the fields of a head or of trailers said so far (message.c). */
struct h2_head {
    uint64_t length; /* content-length */
    uint32_t n_fields, bytes, n_cookies;
    bool has_length, regular, has_host, trailers;
    bool method, scheme, path, authority, protocol, status; /* pseudo-headers seen */
    bool is_connect;
};

struct h2_trailers; /* a copy that waits behind the body (encode.c) */

struct h2_stream {
    struct mz_stream_enc enc;
    struct h2 *c;
    struct mz_list link;        /* of c->streams */
    struct mz_list event;       /* of c->events: something is to be told when no callback of nghttp2 is running */
    struct mz_stream_in in;     /* ops NULL: its owner has gone (both directions ended, or it was reset) */
    struct mz_headers *headers; /* being read; NULL: its fields are nobody's */
    struct h2_head head;
    uint64_t body_in;  /* bytes of DATA received */
    uint64_t length;   /* content-length of what comes in; UINT64_MAX: none */
    struct mz_buf held; /* received while reading was disabled */
    struct mz_buf out;  /* waits for the stream's window */
    struct h2_trailers *out_trailers;
    struct mz_headers *in_trailers; /* held back behind the body */
    struct mz_timer flush_timer;
    size_t lingered;
    size_t unconsumed; /* bytes received that the stream's window has not got back */
    uint32_t read_off;
    uint16_t status;     /* client: of the answer */
    uint8_t reset_reason; /* enum mz_reset_reason, told with the event */
    uint8_t n_1xx;
    bool submitted;      /* nghttp2 has its outgoing head */
    bool head_sent;      /* ... and it went out */
    bool trailers_submitted;
    bool opened, closed; /* nghttp2 has it, has forgotten it */
    bool head_done;      /* the (final) head was handed on */
    bool wire_end;       /* END_STREAM was received */
    bool in_end;         /* ... and the end was handed on */
    bool out_end;        /* the owner gave its last byte */
    bool out_sent;       /* ... and it went out */
    bool deferred;       /* nghttp2 waits for resume_data */
    bool above_out, above_told;
    bool resetting;      /* RST_STREAM was submitted by us */
    bool linger;         /* server: the answer is complete, the request is not */
    bool peer_ended;     /* END_STREAM or RST_STREAM was received, whatever came of it */
    bool peer_reset;     /* the latter */
    bool reading;        /* fields are being read */
    bool reset_event;
    bool is_head, connect, upgrade, tunnel; /* upgrade: HTTP/1 shape outside, extended CONNECT on the wire */
    struct mz_str upgrade_type; /* client: what was asked for */
};

struct h2_range { /* frames in the sink's buffer up to a position of the output */
    uint64_t end;
    uint32_t frames, control;
};

struct h2_keepalive {
    struct h2 *c;
    struct mz_timer interval, timeout;
    uint64_t last_frame_us;
};

struct h2 {
    struct mz_codec base;
    const struct mz_http2_opts *o;
    struct mz_http2_stats stats;
    struct mz_codec_sink sink;
    const struct mz_codec_server_ops *server;
    const struct mz_codec_client_ops *client; /* one of the two is NULL */
    void *arg;
    struct mz_loop *loop;
    nghttp2_session *ng; /* NULL: it rests; h2_ng() wakes it */
    nghttp2_session *resting;
    struct h2_slot *slot; /* NULL: nghttp2's memory is all malloc's */
    struct mz_list streams, events, gone;
    struct mz_task task; /* end of the turn: events, output, streams that are over */
    struct h2_keepalive *keepalive;
    struct mz_buf work;   /* the input that nghttp2 is reading */
    uint32_t scan_left; /* server: bytes of the frame that is passing, or of the preface */
    uint8_t scan_head[9], scan_n;
    const char *work_at;  /* its begin */
    size_t work_taken;    /* bytes moved or drained out of it */
    struct mz_buf body;   /* read of DATA frames of body_stream, not handed on yet */
    struct h2_stream *body_stream;
    size_t held;        /* bytes that streams have not consumed: of the connection's window */
    size_t conn_unconsumed; /* of these, what the connection's window has not got back */
    uint32_t n_streams; /* nghttp2's, open */
    uint32_t peer_max_streams;
    bool creating, dispatching, sending;
    bool dead;       /* the connection has gone */
    bool failed;     /* it is to end: base.error says why */
    bool above_conn; /* the sink's buffer is above its limit */
    bool paused;     /* DATA waits for it to drain */
    bool goaway_received, goaway_told, final_goaway, settings_sent, peer_settings;
    bool silent;     /* nothing is sent any more */
    bool overloaded; /* the failure is a flood: the peer gets a GOAWAY and no more */
    /* limits.c */
    uint32_t empty_frames, opened_streams, resets_sent, resets_got, strays;
    uint64_t priority_frames, window_updates, data_frames_sent, block_bytes;
    uint32_t last_id, ended_ids[H2_ENDED_IDS], skipped_ids[H2_SKIPPED_IDS][2]; /* server */
    uint8_t next_ended, next_skipped;
    uint64_t out_pos; /* bytes of output ever appended */
    uint32_t out_frames, out_control;
    uint32_t told_frames, told_control; /* to the gauges */
    struct h2_range ranges[H2_OUT_RANGES];
    uint8_t first_range, n_ranges;
};

static inline struct h2 *h2_of(struct mz_codec *c)
{
    return MZ_CONTAINER(c, struct h2, base);
}
static inline struct h2_stream *h2_stream_of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct h2_stream, enc);
}
static inline bool h2_is_client(const struct h2 *c)
{
    return c->client != NULL;
}
static inline void h2_count(const struct h2 *c, enum mz_http2_codec_stat i)
{
    if (c->stats.scope)
        mz_count(c->stats.scope, i, 1);
}
static inline void h2_gauge(const struct h2 *c, enum mz_http2_codec_stat i, int64_t n)
{
    if (c->stats.scope)
        mz_gauge_add(c->stats.scope, i, n);
}

void h2_wake(struct h2 *c);
static inline nghttp2_session *h2_ng(struct h2 *c)
{
    if (MZ_UNLIKELY(!c->ng))
        h2_wake(c);
    return c->ng;
}

/* h2.c */
struct h2_stream *h2_stream_create(struct h2 *c);
void h2_stream_opened(struct h2_stream *s); /* nghttp2 has it from now on ... */
void h2_stream_closed(struct h2_stream *s); /* ... until now */
static inline bool h2_stream_known(const struct h2_stream *s)
{
    return s->opened && !s->closed;
}
void h2_stream_detach(struct h2_stream *s); /* no call of its owner any more; freed once nghttp2 has forgotten it too */
void h2_events_later(struct h2_stream *s);
void h2_events_run(struct h2 *c);
void h2_keepalive_seen(struct h2 *c, const nghttp2_frame *ack);

void h2_linger(struct h2_stream *s);
void h2_linger_data(struct h2_stream *s, size_t n);

/* decode.c */
void h2_callbacks_set_in(nghttp2_session_callbacks *cb);
enum mz_codec_status h2_dispatch(struct mz_codec *codec, struct mz_buf *in, bool end);
void h2_fail(struct h2 *c, const char *details, uint32_t code, bool flood); /* the connection ends */
const char *h2_error_details(uint32_t code); /* RFC 9113 7: the peer's fault, for the details of requests */
void h2_resume_reading(struct h2_stream *s);
void h2_held_drop(struct h2_stream *s);
void h2_stream_reset_told(struct h2_stream *s, enum mz_reset_reason r);

/* encode.c */
extern const struct mz_stream_enc_ops h2_enc_ops;
void h2_callbacks_set_out(nghttp2_session_callbacks *cb);
void h2_flush(struct h2 *c); /* all that nghttp2 wants to send now, to the sink; not from within a callback */
void h2_flush_later(struct h2 *c);
void h2_stream_pause_update(struct h2_stream *s);
void h2_stream_out_drop(struct h2_stream *s); /* what has not been sent */
void h2_rst(struct h2_stream *s, uint32_t code);

/* message.c */
enum h2_verdict { H2_FINE, H2_DROP, H2_TOO_LARGE, H2_TOO_MANY, H2_UNDERSCORE, H2_INVALID };
enum h2_verdict h2_field(struct h2 *c, struct h2_stream *s, struct mz_str name, struct mz_str value);
/* All fields are there: is it a message? Joins cookies, makes an upgrade of an extended CONNECT. */
bool h2_head_finish(struct h2 *c, struct h2_stream *s, bool end);
bool h2_length_ok(const struct h2_stream *s, bool end); /* DATA so far against content-length */

/* limits.c */
bool h2_frame_begins_ok(struct h2 *c, const nghttp2_frame_hd *hd); /* false: h2_fail() was called */
/* A DATA frame's head for a stream that nghttp2 does not have; and what that means. */
bool h2_is_stray(struct h2 *c, const uint8_t *head);
bool h2_stray_ok(struct h2 *c, const uint8_t *head); /* false: h2_fail() was called */
bool h2_frame_in_ok(struct h2 *c, const nghttp2_frame *f);
/* Stream ids that the peer passed over, or has ended itself: nothing may come on them (D09). */
void h2_stream_id_used(struct h2 *c, uint32_t id);
void h2_stream_id_ended(struct h2 *c, uint32_t id, bool by_reset);
void h2_rst_in(struct h2 *c, bool premature); /* for a stream that had its answer already */
bool h2_rst_out_ok(struct h2 *c, uint32_t code);
void h2_frame_out(struct h2 *c, uint8_t type, size_t bytes);
void h2_out_drained(struct h2 *c); /* looks at what the sink has sent meanwhile */
void h2_out_tell(struct h2 *c);    /* the gauges follow */
void h2_out_forget(struct h2 *c);  /* gauges go back */

/* mem.c */
nghttp2_mem h2_mem_begin(struct h2 *c); /* for a session of this thread, which copies it */
void h2_mem_end(struct h2 *c);          /* it was deleted */

/* slot.c: the large pieces of one session, of its thread */
struct h2_slot;
struct h2_slot *h2_slot_take(void); /* NULL: there are none on this machine */
void h2_slot_drop(struct h2_slot *s); /* not while it is packed; NULL is fine */
void *h2_slot_alloc(struct h2_slot *s, size_t n); /* zeroed; NULL: not a large piece, or no room. Freed with the slot */
size_t h2_slot_has(const struct h2_slot *s, const void *p); /* bytes from @p to its end; 0: @p is not in it */
bool h2_slot_pack(struct h2_slot *s); /* true: nothing may look at its memory until h2_slot_unpack() */
void h2_slot_unpack(struct h2_slot *s);
#endif
