#include "http/h2/h2_priv.h"
#include "http/status.h"

/*
 * Bytes in, events out. nghttp2 is given the input fragment by fragment; DATA moves out of the same fragment without being
 * copied. Owners are called from here, from the end of dispatch and from the codec's task, never while nghttp2 is sending.
 */

static struct h2_stream *stream_by_id(struct h2 *c, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h2_ng(c), id);
}

static bool attached(const struct h2_stream *s)
{
    return s && s->in.ops;
}

/* ---- ends ---- */

void h2_fail(struct h2 *c, const char *details, uint32_t code, bool flood)
{
    if (c->failed)
        return;
    c->failed = true;
    c->overloaded = flood;
    c->base.must_close = true;
    unsigned status = flood ? 429 : 400;
    c->base.error = (struct mz_codec_error){ status, details, mz_status_reason(status).p };
    nghttp2_session_terminate_session(h2_ng(c), code);
}

const char *h2_error_details(uint32_t code)
{
    switch (code) {
    case NGHTTP2_FLOW_CONTROL_ERROR:
        return "http2.flow_control_error";
    case NGHTTP2_FRAME_SIZE_ERROR:
        return "http2.frame_size_error";
    case NGHTTP2_COMPRESSION_ERROR:
        return "http2.compression_error";
    case NGHTTP2_STREAM_CLOSED:
        return "http2.stream_closed";
    default:
        return "http2.protocol_error";
    }
}

void h2_stream_reset_told(struct h2_stream *s, enum mz_reset_reason r)
{
    if (!attached(s))
        return;
    struct mz_stream_in in = s->in;
    h2_stream_detach(s);
    in.ops->on_reset(in.arg, r, s->enc.details);
}

/* Both directions are over for the owner? Then it is not called again. */
static void maybe_done(struct h2_stream *s)
{
    if (s->in_end && s->out_end)
        h2_stream_detach(s);
}

/* An invalid message: its stream's matter where that is configured, else the connection's. Returns nghttp2's code. */
static int invalid_message(struct h2 *c, struct h2_stream *s, const char *details)
{
    h2_count(c, MZ_H2S_RX_MESSAGING_ERROR);
    s->enc.details = details;
    s->reading = false;
    if (!c->o->override_stream_error) {
        h2_fail(c, details, NGHTTP2_PROTOCOL_ERROR, false);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2_rst(s, NGHTTP2_PROTOCOL_ERROR);
    h2_stream_reset_told(s, MZ_RESET_PROTOCOL_ERROR);
    return c->dead ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* ---- windows ---- */

/* A stream that nobody reads keeps its own window. The connection's goes on for the others, until what is held for slow
 * streams exceeds a stream's window: then it is granted only as they are read. */
static void held(struct h2_stream *s, size_t n)
{
    struct h2 *c = s->c;
    s->unconsumed += n;
    c->held += n;
    if (c->held > c->o->stream_window)
        c->conn_unconsumed += n;
    else
        nghttp2_session_consume_connection(h2_ng(c), n);
}

static void released(struct h2_stream *s, size_t n)
{
    struct h2 *c = s->c;
    size_t give = n < c->conn_unconsumed ? n : c->conn_unconsumed;
    s->unconsumed -= n;
    c->held -= n;
    c->conn_unconsumed -= give;
    if (c->dead)
        return;
    if (give)
        nghttp2_session_consume_connection(h2_ng(c), give);
    if (!s->closed)
        nghttp2_session_consume_stream(h2_ng(c), (int32_t)s->enc.id, n);
}

void h2_held_drop(struct h2_stream *s)
{
    if (s->unconsumed)
        released(s, s->unconsumed);
    mz_buf_fini(&s->held);
    s->in_trailers = NULL;
}

/* ---- to the owner ---- */

static void give_end(struct h2_stream *s)
{
    s->in_end = true;
    if (s->in_trailers) {
        struct mz_headers *t = s->in_trailers;
        s->in_trailers = NULL;
        s->in.ops->on_trailers(s->in.arg, t);
    }
}

/* @data is emptied; @end: the stream's last byte (trailers, when there are any, follow). */
static void give_data(struct h2_stream *s, struct mz_buf *data, bool end)
{
    bool last = end && !s->in_trailers;
    if (mz_buf_len(data) || last) {
        s->in_end |= last;
        s->in.ops->on_data(s->in.arg, data, last);
    }
    mz_buf_fini(data);
    if (attached(s) && end && s->in_trailers)
        give_end(s);
    if (attached(s))
        maybe_done(s);
}

static void hold(struct h2_stream *s, struct mz_buf *data)
{
    held(s, mz_buf_len(data));
    mz_buf_move_all(&s->held, data);
    mz_buf_fini(data);
}

/* What was read of a DATA frame so far goes to its stream. */
static void body_flush(struct h2 *c, bool end)
{
    struct h2_stream *s = c->body_stream;
    struct mz_buf data;
    if (!s)
        return;
    c->body_stream = NULL;
    mz_buf_init(&data);
    mz_buf_move_all(&data, &c->body);
    if (!attached(s)) {
        mz_buf_fini(&data);
    } else if (s->read_off || s->held.len) {
        hold(s, &data);
    } else {
        size_t n = mz_buf_len(&data);
        if (!end) /* of a stream that ends nothing more is asked */
            nghttp2_session_consume_stream(h2_ng(c), (int32_t)s->enc.id, n);
        nghttp2_session_consume_connection(h2_ng(c), n);
        give_data(s, &data, end);
    }
}

void h2_resume_reading(struct h2_stream *s)
{
    if (!attached(s) || s->read_off || s->in_end)
        return;
    struct mz_buf data;
    mz_buf_init(&data);
    size_t n = mz_buf_len(&s->held);
    mz_buf_move_all(&data, &s->held);
    if (n)
        released(s, n);
    if (n || s->wire_end)
        give_data(s, &data, s->wire_end);
}

/* ---- callbacks: frames ---- */

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *arg)
{
    (void)ng;
    struct h2 *c = arg;
    if (c->body_stream &&
        (hd->type != NGHTTP2_DATA || (uint32_t)hd->stream_id != c->body_stream->enc.id))
        body_flush(c, false);
    if (c->dead || c->failed)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (c->keepalive)
        h2_keepalive_seen(c, NULL);
    return h2_frame_begins_ok(c, hd) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static bool server_stream(struct h2 *c, const nghttp2_frame *f)
{
    int32_t id = f->hd.stream_id;
    h2_stream_id_used(c, (uint32_t)id);
    if (c->n_streams >= c->o->max_concurrent_streams || c->goaway_received) {
        h2_count(c, MZ_H2S_STREAM_REFUSED);
        h2_count(c, MZ_H2S_TX_RESET);
        nghttp2_submit_rst_stream(h2_ng(c), NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        return false;
    }
    struct h2_stream *s = h2_stream_create(c);
    s->enc.id = (uint32_t)id;
    s->submitted = false;
    h2_stream_opened(s);
    nghttp2_session_set_stream_user_data(h2_ng(c), id, s);
    c->server->new_stream(c->arg, &s->enc, &s->in);
    return true;
}

/* What still comes for a stream whose answer is complete is checked, and kept nowhere. */
static void head_begin(struct h2_stream *s)
{
    s->head = (struct h2_head){ .trailers = s->head_done };
    s->headers = attached(s) ? mz_headers_create(s->in.arena) : NULL;
    s->reading = true;
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    (void)ng;
    struct h2 *c = arg;
    if (f->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (f->headers.cat == NGHTTP2_HCAT_REQUEST && !server_stream(c, f))
        return 0; /* its fields are read over */
    if (c->dead || c->failed)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct h2_stream *s = stream_by_id(c, f->hd.stream_id);
    if (s && (f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        s->peer_ended = true;
    if (s && !s->wire_end && !s->resetting)
        head_begin(s);
    else if (!s)
        h2_count(c, MZ_H2S_HEADERS_CB_NO_STREAM);
    return 0;
}

/* The rest of the block is read over: nghttp2 goes on with it, so that its frames stay counted. */
static int stream_refused(struct h2 *c, struct h2_stream *s, uint32_t code, const char *details)
{
    s->enc.details = details;
    s->reading = false;
    h2_rst(s, code);
    h2_stream_reset_told(s, MZ_RESET_REMOTE);
    return c->dead ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* Beyond the limits of the head: the stream's matter (SURPRISES: not 431). */
static int overflow(struct h2 *c, struct h2_stream *s, enum mz_http2_codec_stat stat,
                    const char *details)
{
    h2_count(c, stat);
    return stream_refused(c, s, NGHTTP2_INTERNAL_ERROR, details);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    (void)ng;
    (void)flags;
    struct h2 *c = arg;
    struct h2_stream *s = stream_by_id(c, f->hd.stream_id);
    if (!s || !s->reading)
        return 0;
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
    switch (h2_field(c, s, (struct mz_str){ (char *)n.base, n.len },
                     (struct mz_str){ (char *)v.base, v.len })) {
    case H2_FINE:
    case H2_DROP:
        return 0;
    case H2_TOO_LARGE:
        if (s->head.n_cookies && v.len && n.len == 6 && memcmp(n.base, "cookie", 6) == 0)
            h2_count(c, MZ_H2S_COOKIES_TOO_LARGE);
        return overflow(c, s, MZ_H2S_LIST_TOO_LARGE, "http2.header_list_size_too_large");
    case H2_TOO_MANY:
        return overflow(c, s, MZ_H2S_HEADER_OVERFLOW, "http2.too_many_headers");
    case H2_UNDERSCORE:
        return stream_refused(c, s, NGHTTP2_INTERNAL_ERROR, "http2.unexpected_underscore");
    default:
        return invalid_message(c, s, "http2.invalid.header.field");
    }
}

static int trailers_end(struct h2 *c, struct h2_stream *s, struct mz_headers *h, bool end)
{
    if (!end || !h2_length_ok(s, true))
        return invalid_message(c, s, "http2.violation.of.messaging.rule");
    s->wire_end = true;
    if (!h2_is_client(c))
        h2_count(c, MZ_H2S_TRAILERS);
    if (!attached(s))
        return 0;
    if (h)
        mz_headers_join_repeated(h);
    s->in_trailers = h && h->live ? h : NULL;
    if (s->read_off || s->held.len)
        return 0;
    struct mz_buf none;
    mz_buf_init(&none);
    give_data(s, &none, true);
    return 0;
}

static int head_end(struct h2 *c, struct h2_stream *s, bool end)
{
    struct mz_headers *h = s->headers;
    s->reading = false;
    if (s->head_done) {
        s->headers = NULL;
        return trailers_end(c, s, h, end);
    }
    bool ok = h2_head_finish(c, s, end);
    s->headers = NULL;
    if (!ok)
        return invalid_message(c, s, "http2.violation.of.messaging.rule");
    if (h2_is_client(c) && s->status < 200) {
        if (++s->n_1xx <= H2_1XX_MAX)
            s->in.ops->on_1xx(s->in.arg, h);
        return 0;
    }
    s->head_done = true;
    s->wire_end = end;
    s->in_end = end;
    s->in.ops->on_headers(s->in.arg, h, end);
    if (attached(s))
        maybe_done(s);
    return 0;
}

static int data_end(struct h2 *c, struct h2_stream *s, bool end)
{
    if (!h2_length_ok(s, end)) {
        c->body_stream = NULL;
        mz_buf_fini(&c->body);
        return invalid_message(c, s, "http2.violation.of.messaging.rule");
    }
    if (!end || !attached(s)) {
        s->wire_end = end;
        return 0; /* goes on with what follows, or at the end of the input */
    }
    s->wire_end = true;
    c->body_stream = s;
    body_flush(c, true);
    return 0;
}

static void settings(struct h2 *c, const nghttp2_frame *f)
{
    if (!h2_is_client(c) || (f->hd.flags & NGHTTP2_FLAG_ACK))
        return;
    uint32_t n =
        nghttp2_session_get_remote_settings(h2_ng(c), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (c->peer_settings && n == c->peer_max_streams)
        return;
    c->peer_settings = true;
    c->peer_max_streams = n;
    if (c->client->max_streams_changed)
        c->client->max_streams_changed(c->arg, n);
}

static void rst_received(struct h2 *c, struct h2_stream *s, uint32_t id, uint32_t code)
{
    h2_count(c, MZ_H2S_RX_RESET);
    bool refused = code == NGHTTP2_REFUSED_STREAM;
    if (!s && !c->client)
        h2_stream_id_ended(c, id, true); /* ours crossed it */
    if (s)
        s->peer_ended = s->peer_reset = true;
    if (!attached(s)) {
        h2_rst_in(c, s && !s->out_sent);
        return;
    }
    if (!s->enc.details)
        s->enc.details = refused ? "http2.remote_refuse" : "http2.remote_reset";
    h2_stream_reset_told(s, refused                         ? MZ_RESET_REMOTE_REFUSED
                            : code == NGHTTP2_CONNECT_ERROR ? MZ_RESET_CONNECT_ERROR
                                                            : MZ_RESET_REMOTE);
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    (void)ng;
    struct h2 *c = arg;
    struct h2_stream *s = f->hd.stream_id ? stream_by_id(c, f->hd.stream_id) : NULL;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    int rv = 0;
    if (!h2_frame_in_ok(c, f))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (s && f->hd.type <= NGHTTP2_HEADERS)
        s->peer_ended |= end;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        if (s && s->reading)
            rv = head_end(c, s, end);
        break;
    case NGHTTP2_DATA:
        if (s && !s->resetting)
            rv = data_end(c, s, end);
        break;
    case NGHTTP2_RST_STREAM:
        rst_received(c, s, (uint32_t)f->hd.stream_id, f->rst_stream.error_code);
        break;
    case NGHTTP2_SETTINGS:
        settings(c, f);
        break;
    case NGHTTP2_PING:
        if (c->keepalive && (f->hd.flags & NGHTTP2_FLAG_ACK))
            h2_keepalive_seen(c, f);
        break;
    case NGHTTP2_GOAWAY:
        c->goaway_received = true;
        break;
    default:
        break;
    }
    return c->dead || c->failed ? NGHTTP2_ERR_CALLBACK_FAILURE : rv;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t n, void *arg)
{
    (void)ng;
    (void)flags;
    struct h2 *c = arg;
    struct h2_stream *s = stream_by_id(c, id);
    size_t before = (size_t)((const char *)data - c->work_at); /* of the fragment */
    mz_buf_drain(&c->work, before - c->work_taken);
    c->work_taken = before + n;
    if (s)
        s->body_in += n;
    if (!attached(s)) { /* nobody's: dropped, and granted again to other streams */
        mz_buf_drain(&c->work, n);
        nghttp2_session_consume_connection(h2_ng(c), n);
        if (s)
            h2_linger_data(s, n);
        return 0;
    }
    s->enc.wire_in += n;
    mz_buf_move(&c->body, &c->work, n);
    c->body_stream = s;
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
    (void)ng;
    struct h2 *c = arg;
    struct h2_stream *s = stream_by_id(c, id);
    if (!s)
        return 0;
    if (c->body_stream == s) {
        c->body_stream = NULL;
        mz_buf_fini(&c->body);
    }
    h2_stream_closed(s);
    if (!attached(s))
        return 0;
    if (code == NGHTTP2_NO_ERROR && s->wire_end && s->out_end) {
        h2_count(c, MZ_H2S_DEFERRED_STREAM_CLOSE); /* what is held for it is still to come */
        return 0;
    }
    bool fault = code == NGHTTP2_FLOW_CONTROL_ERROR || code == NGHTTP2_PROTOCOL_ERROR;
    if (fault && !s->enc.details) /* nghttp2 found it and has reset the stream */
        s->enc.details = h2_error_details(code);
    s->reset_reason = fault                            ? MZ_RESET_PROTOCOL_ERROR
                      : code == NGHTTP2_REFUSED_STREAM ? MZ_RESET_REMOTE_REFUSED
                                                       : MZ_RESET_REMOTE;
    s->reset_event = true;
    h2_events_later(s);
    return 0;
}

void h2_callbacks_set_in(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
}

/* ---- dispatch ---- */

static bool recv_bytes(struct h2 *c, const char *p, size_t n)
{
    ssize_t k = n ? nghttp2_session_mem_recv(h2_ng(c), (const uint8_t *)p, n) : 0;
    if (k == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        c->silent = true; /* whoever it is does not speak HTTP/2 */
    if (k < 0 && !c->dead && !c->failed)
        h2_fail(c, k == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? "http2.bad_preface" : "http2.codec_error",
                k == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR,
                k == NGHTTP2_ERR_FLOODED);
    return k >= 0 && !c->dead && !c->failed;
}

/* Takes up to a whole frame's head or payload off @p. True: a head is complete, it stands in c->scan_head. */
static bool scan(struct h2 *c, const char *p, size_t n, size_t *out_taken)
{
    if (c->scan_left) {
        *out_taken = n < c->scan_left ? n : c->scan_left;
        c->scan_left -= (uint32_t)*out_taken;
        return false;
    }
    size_t want = sizeof(c->scan_head) - c->scan_n;
    *out_taken = n < want ? n : want;
    memcpy(c->scan_head + c->scan_n, p, *out_taken);
    c->scan_n = (uint8_t)(c->scan_n + *out_taken);
    if (c->scan_n < sizeof(c->scan_head))
        return false;
    const uint8_t *h = c->scan_head;
    c->scan_n = 0;
    c->scan_left = (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2];
    return true;
}

/* nghttp2 is silent about DATA for streams that are gone: those are looked at before it gets them. What stands before them in
 * the same input may open or end their stream. */
static bool recv_checked(struct h2 *c, const char *p, size_t n)
{
    size_t fed = 0;
    bool ends = false;
    for (size_t at = 0, k; at < n; at += k) {
        if (!scan(c, p + at, n - at, &k))
            continue;
        const uint8_t *head = c->scan_head;
        if (head[3] == NGHTTP2_DATA && (ends || h2_is_stray(c, head))) {
            size_t before = at + k < sizeof(c->scan_head) ? fed : at + k - sizeof(c->scan_head);
            if (!recv_bytes(c, p + fed, before - fed) || !h2_stray_ok(c, head))
                return false;
            fed = before;
            ends = false;
        }
        ends |= head[3] == NGHTTP2_RST_STREAM ||
                (head[3] <= NGHTTP2_HEADERS && (head[4] & NGHTTP2_FLAG_END_STREAM));
    }
    return recv_bytes(c, p + fed, n - fed);
}

/* One fragment of the input, moved aside: an owner that closes the connection meanwhile takes nothing from under nghttp2. */
static bool feed(struct h2 *c, struct mz_buf *in)
{
    mz_buf_move(&c->work, in, mz_buf_first(in).n);
    struct mz_str s = mz_buf_first(&c->work);
    c->work_at = s.p;
    c->work_taken = 0;
    bool ok = h2_is_client(c) ? recv_bytes(c, s.p, s.n) : recv_checked(c, s.p, s.n);
    if (ok)
        body_flush(c, false);
    c->body_stream = NULL;
    mz_buf_fini(&c->body);
    mz_buf_fini(&c->work);
    return ok && !c->dead && !c->failed;
}

enum mz_codec_status h2_dispatch(struct mz_codec *codec, struct mz_buf *in, bool end)
{
    struct h2 *c = h2_of(codec);
    (void)end; /* an end without GOAWAY is the owner's to tell: conn_closed() */
    if (c->dispatching)
        return MZ_CODEC_OK;
    if (c->dead || c->failed) {
        mz_buf_drain(in, mz_buf_len(in));
        return MZ_CODEC_OK;
    }
    c->dispatching = true;
    while (mz_buf_len(in) && feed(c, in))
        ;
    c->dispatching = false;
    h2_events_run(c);
    if (!c->dead)
        h2_flush(c);
    if (!c->failed || c->dead)
        return MZ_CODEC_OK;
    return MZ_CODEC_ERROR;
}
