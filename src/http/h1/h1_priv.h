#ifndef MZ_HTTP_H1_PRIV_H
#define MZ_HTTP_H1_PRIV_H
/* The HTTP/1 codec's inside: one message at a time, read by decode.c, written by encode.c. Of src/http/h1 only. */
#include "base/buf.h"
#include "base/list.h"
#include "http/codec.h"
#include "http/h1/scan.h"

#define H1_BLANK_MAX      1024                /* bytes of empty lines before a request (B14) */
#define H1_CHUNK_MAX      (UINT64_C(1) << 40) /* bytes one chunk may announce (A12) */
#define H1_CHUNK_LINE_MAX 8192  /* bytes of one chunk-size line with its extensions (A16) */
#define H1_CHUNK_WASTE    16384 /* bytes of chunk lines beyond a fair share, per message (A16) */
#define H1_1XX_MAX        8 /* informational answers told to the owner; further ones are read over (F06) */
#define H1_NOMINATED_MAX  10 /* elements of Connection, as Envoy's limit */
#define H1_HELD_HIGH                                                                               \
    65536 /* bytes kept for an upgrade that is not answered yet; then its source is paused */

enum h1_state {
    H1_START,  /* between messages */
    H1_HEAD,   /* the head's end was not seen yet */
    H1_LENGTH, /* body with content-length */
    H1_CHUNKED,
    H1_TRAILERS,
    H1_UNTIL_CLOSE,
    H1_TUNNEL,   /* upgrade, CONNECT: bytes without framing */
    H1_COMPLETE, /* message read; the other direction is not finished */
    H1_DEAD,     /* nothing that comes is looked at */
};

/* ---- chunked framing (RFC 9112 7.1), chunk.c ---- */
enum h1_chunk_result { H1_CHUNK_MORE, H1_CHUNK_LAST, H1_CHUNK_BAD };
struct h1_chunk {
    uint64_t left; /* of the size being read, then of the data */
    uint32_t line; /* bytes of the size line so far */
    uint32_t waste;
    uint8_t step, digits;
};
/* Moves data from @in to @out; LAST: the final size line was read, trailers follow. *out_taken: bytes taken off @in. */
enum h1_chunk_result h1_chunk_take(struct h1_chunk *k, struct mz_buf *in, struct mz_buf *out,
                                   size_t *out_taken);

/* ---- heads, head.c ---- */
struct h1_head {     /* what framing and connection handling need of the fields */
    uint64_t length; /* content-length */
    uint32_t n_fields;
    uint8_t n_length, n_te, n_host, n_connection;
    bool read;                       /* all fields were valid */
    bool te_chunked;                 /* the single transfer-encoding is "chunked" */
    bool close, keep_alive, upgrade; /* elements of connection and proxy-connection */
};
struct h1;
/* Both take the head (@n bytes of @in, ended by an empty line) off @in and build c->headers. False: c->base.error is set. */
bool h1_request_head(struct h1 *c, struct mz_buf *in, size_t n);
bool h1_response_head(struct h1 *c, struct mz_buf *in, size_t n);
struct mz_headers *h1_trailers(struct h1 *c, struct mz_buf *in,
                               size_t n); /* NULL: c->base.error is set */
#define H1_START_LOOK 256 /* bytes of a head looked at before it is complete (B16) */
/* NULL: these bytes, the start of a head without a line end, can still become one (B16, F05). Else why not, static. */
const char *h1_request_start_error(const struct h1 *c, struct mz_str start);
const char *h1_response_start_error(struct mz_str start);

enum h1_out { H1_OUT_HEAD, H1_OUT_LENGTH, H1_OUT_CHUNKED, H1_OUT_RAW, H1_OUT_NOTHING, H1_OUT_HELD };

struct h1 {
    struct mz_codec base;
    struct mz_stream_enc enc;
    struct mz_stream_in in;
    const struct mz_http1_opts *o;
    struct mz_http1_stats stats;
    struct mz_codec_sink sink;
    const struct mz_codec_server_ops *ops;
    void *arg;
    struct mz_list idle; /* a server between two messages: of its thread's, the one used last at the end */
    uint32_t gen; /* changes when the stream ends: checked after each callback */
    bool client, active, in_done, out_done, dispatching;
    bool end_announced; /* goaway(notice): an answer may say close and the connection stays; its owner ends it */
    bool going_away;    /* goaway(final): the next answer closes, no request begins any more */
    bool req_close;    /* the request ends the connection's use: nothing behind it is read */
    bool broken;       /* an invalid message: what still comes is dropped */
    uint32_t read_off; /* stacked read_disable of the stream */
    bool above_conn, above_held; /* causes of on_above_high */

    uint8_t state;     /* enum h1_state */
    uint8_t end_state; /* enum h1_end_state of the search */
    uint8_t n_1xx;
    uint32_t scanned; /* bytes of the head (at the client's START: blank lines) looked at */
    uint64_t left;    /* H1_LENGTH */
    struct h1_chunk chunk;
    struct h1_head head;
    struct mz_headers *headers; /* of the head just read */

    /* The request, at both sides. */
    bool is_head, is_connect, is_upgrade;
    unsigned status; /* client: of the answer */

    uint8_t out;        /* enum h1_out */
    uint64_t out_left;  /* H1_OUT_LENGTH */
    struct mz_buf *held; /* client: upgrade data before the 101 (A21); NULL: none yet */
};

static inline struct h1 *h1_of(struct mz_codec *c)
{
    return MZ_CONTAINER(c, struct h1, base);
}

/* decode.c */
enum mz_codec_status h1_dispatch(struct mz_codec *c, struct mz_buf *in, bool end);
bool h1_fail(struct h1 *c, unsigned status,
             const char *details); /* sets the error; returns false */
void h1_idle_begin(struct h1 *c); /* h1.c: may make others rest, not this one */
void h1_idle_end(struct h1 *c);
void h1_stream_begin(struct h1 *c);
void h1_stream_over(struct h1 *c); /* both directions are done, or it was reset */
void h1_pause_update(struct h1 *c, bool *cause, bool value);
bool h1_connection_names(const struct mz_headers *h, struct mz_str word);
static inline bool h1_connection_has(const struct mz_headers *h, struct mz_str word) /* most have no such field */
{
    return mz_headers_get_id(h, MZ_H_CONNECTION) && h1_connection_names(h, word);
}
/* encode.c */
extern const struct mz_stream_enc_ops h1_enc_ops;
void h1_held_free(struct h1 *c);
void h1_held_release(struct h1 *c, bool drop); /* client: the upgrade was answered */
#endif
