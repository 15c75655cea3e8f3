#include "http/h2/h2_priv.h"
#include "http/validate.h"

/*
 * Messages out. Heads and trailers are given to nghttp2 by reference and written by the end of the loop's turn; DATA frames
 * move slices from the stream's buffer into the sink's. One write a turn, or at the end of a message.
 */

#define NV_MAX_STACK 64

struct h2_trailers {
    size_t n;
    nghttp2_nv nv[];
};

void h2_rst(struct h2_stream *s, uint32_t code)
{
    if (s->closed || s->resetting || s->c->dead)
        return;
    s->resetting = true;
    if (!h2_stream_known(s))
        return;
    h2_count(s->c, MZ_H2S_TX_RESET);
    nghttp2_submit_rst_stream(h2_ng(s->c), NGHTTP2_FLAG_NONE, (int32_t)s->enc.id, code);
    h2_flush_later(s->c);
}

/* ---- watermarks ---- */

void h2_stream_pause_update(struct h2_stream *s)
{
    bool above = s->c->above_conn || s->above_out;
    if (!s->in.ops || above == s->above_told)
        return;
    s->above_told = above;
    if (above)
        s->in.ops->on_above_high(s->in.arg);
    else
        s->in.ops->on_below_low(s->in.arg);
}

static size_t stream_high(const struct h2 *c)
{
    uint32_t of_conn = c->sink.high;
    return of_conn && of_conn < H2_STREAM_BUFFER ? of_conn : H2_STREAM_BUFFER;
}

/* ---- fields ---- */

static nghttp2_nv field(struct mz_str name, struct mz_str value)
{
    return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name.p,
                         .value = (uint8_t *)(uintptr_t)value.p,
                         .namelen = name.n,
                         .valuelen = value.n,
                         .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
}

static bool goes_out(const struct mz_header *e)
{
    switch (e->id) {
    case MZ_H_CONNECTION:
    case MZ_H_KEEP_ALIVE:
    case MZ_H_PROXY_CONNECTION:
    case MZ_H_TRANSFER_ENCODING:
    case MZ_H_UPGRADE:
        return false;
    default:
        return true;
    }
}

/* Pseudo-headers first. @skip: ids of pseudo-headers that are written in another way. */
static size_t fields(const struct mz_headers *h, nghttp2_nv *nv, uint32_t skip)
{
    size_t n = 0;
    mz_headers_foreach(e, h)
    {
        if (e->name.p[0] != ':')
            continue;
        if (!(e->id < 32 && skip >> e->id & 1))
            nv[n++] = field(e->name, e->value);
    }
    mz_headers_foreach(e, h)
    {
        if (e->name.p[0] == ':' || !goes_out(e))
            continue;
        nv[n] = field(e->name, e->value);
        if (e->id == MZ_H_X_REQUEST_ID) /* never again: not worth a place in the peer's table */
            nv[n].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
        n++;
    }
    return n;
}

static size_t fields_bytes(const nghttp2_nv *nv, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += nv[i].namelen + nv[i].valuelen;
    return bytes;
}

/* Room for what a map holds and two more; small maps use the caller's. */
static nghttp2_nv *nv_room(const struct mz_headers *h, nghttp2_nv *small)
{
    size_t n = (size_t)h->live + 2;
    return n <= NV_MAX_STACK ? small : mz_alloc(MZ_MEM_CONN, mz_mul(n, sizeof(*small)));
}

static void nv_done(nghttp2_nv *nv, const nghttp2_nv *small)
{
    if (nv != small)
        mz_free(MZ_MEM_CONN, nv);
}

/* ---- DATA ---- */

static void trailers_submit(struct h2_stream *s)
{
    struct h2_trailers *t = s->out_trailers;
    if (s->trailers_submitted)
        return;
    s->trailers_submitted = true;
    nghttp2_submit_trailer(h2_ng(s->c), (int32_t)s->enc.id, t->nv, t->n);
}

/* Trailers that no DATA stands before wait for no window (RFC 9113 5.2.1). A request's go behind its head: nghttp2 has another
 * queue for that one. */
static void trailers_at_once(struct h2_stream *s)
{
    if (s->out_trailers && !mz_buf_len(&s->out) && (s->head_sent || !h2_is_client(s->c)))
        trailers_submit(s);
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)ng;
    (void)id;
    (void)buf;
    struct h2 *c = arg;
    struct h2_stream *s = source->ptr;
    size_t have = mz_buf_len(&s->out), n = have < length ? have : length;
    if (n == 0 && !s->out_end) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n && (c->overloaded || c->above_conn ||
              (c->sink.high && mz_buf_len(c->sink.out) > c->sink.high))) {
        c->paused = true; /* conn_below_low() goes on */
        return NGHTTP2_ERR_PAUSE;
    }
    *flags = NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == have && s->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->out_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            trailers_submit(s);
        }
    }
    return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t length,
                     nghttp2_data_source *source, void *arg)
{
    (void)ng;
    (void)frame;
    struct h2 *c = arg;
    struct h2_stream *s = source->ptr;
    mz_buf_append(c->sink.out, head, 9);
    mz_buf_move(c->sink.out, &s->out, length);
    s->enc.wire_out += 9 + length;
    c->data_frames_sent++;
    h2_gauge(c, MZ_H2S_PENDING_SEND_BYTES, -(int64_t)length);
    h2_frame_out(c, NGHTTP2_DATA, 9 + length);
    if (s->above_out && mz_buf_len(&s->out) <= stream_high(c) / 2) {
        s->above_out = false;
        if (s->in.ops)
            h2_events_later(s);
    }
    if (mz_timer_armed(&s->flush_timer))
        mz_timer_start_ms(&s->flush_timer, s->enc.flush_timeout_ms);
    return 0;
}

/* ---- frames that went out ---- */

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    (void)ng;
    struct h2 *c = arg;
    if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR && !c->failed) {
        /* nghttp2 found the error itself. */
        c->failed = c->base.must_close = true;
        const char *details = h2_error_details(f->goaway.error_code);
        c->base.error = (struct mz_codec_error){ 400, details, "Bad Request" };
    }
    if (f->hd.type == NGHTTP2_RST_STREAM)
        return h2_rst_out_ok(c, f->rst_stream.error_code) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    if (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA)
        return 0;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h2_ng(c), f->hd.stream_id);
    if (!s)
        return 0;
    if (f->hd.type == NGHTTP2_HEADERS) {
        s->enc.wire_out += 9 + f->hd.length;
        s->head_sent = true;
        trailers_at_once(s);
    }
    if (!(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    s->out_sent = true;
    mz_timer_stop(&s->flush_timer);
    if (s->linger)
        h2_linger(s);
    return 0;
}

static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *f, int error, void *arg)
{
    (void)ng;
    (void)error;
    struct h2 *c = arg;
    if (f->hd.type != NGHTTP2_HEADERS || !h2_is_client(c))
        return 0;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h2_ng(c), f->hd.stream_id);
    if (!s || s->closed)
        return 0;
    h2_stream_closed(s);
    s->reset_reason = MZ_RESET_LOCAL_REFUSED;
    s->reset_event = true;
    if (s->in.ops)
        h2_events_later(s);
    return 0;
}

void h2_callbacks_set_out(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
}

/* ---- to the sink ---- */

/* nghttp2 would end the connection over a stream too many; we refuse the stream, and so tell nghttp2 no limit but the peer
 * the real one. */
static void patch_settings(const struct h2 *c, uint8_t *at, size_t n)
{
    for (size_t i = 9; i + 6 <= n; i += 6) {
        if (at[i] != 0 || at[i + 1] != NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
            continue;
        uint32_t v = c->o->max_concurrent_streams;
        at[i + 2] = (uint8_t)(v >> 24);
        at[i + 3] = (uint8_t)(v >> 16);
        at[i + 4] = (uint8_t)(v >> 8);
        at[i + 5] = (uint8_t)v;
    }
}

static void append(struct h2 *c, const uint8_t *p, size_t n)
{
    if (!c->settings_sent && n >= 9 && p[3] == NGHTTP2_SETTINGS && !(p[4] & NGHTTP2_FLAG_ACK)) {
        uint8_t copy[9 + 6 * 64];
        c->settings_sent = true;
        MZ_ASSERT(n <= sizeof(copy));
        memcpy(copy, p, n);
        patch_settings(c, copy, n);
        mz_buf_append(c->sink.out, copy, n);
    } else {
        mz_buf_append(c->sink.out, p, n);
    }
    h2_frame_out(c, n >= 9 ? p[3] : NGHTTP2_DATA, n);
}

void h2_flush(struct h2 *c)
{
    if (c->dispatching || c->sending || c->dead)
        return;
    uint64_t pos = c->out_pos;
    c->sending = true;
    for (;;) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h2_ng(c), &p);
        bool say = !c->silent && (!c->overloaded || (n >= 9 && p[3] == NGHTTP2_GOAWAY));
        if (n > 0 && say)
            append(c, p, (size_t)n);
        else if (n <= 0)
            break;
    }
    c->sending = false;
    if (c->out_pos != pos) {
        c->sink.written(c->sink.arg);
        if (!c->dead) { /* what has left is looked at behind the write */
            mz_task_cancel(&c->task);
            mz_task_schedule(c->loop, &c->task);
        }
    } else if (c->out_frames != 0 || c->told_frames != 0) {
        h2_out_drained(c);
        h2_out_tell(c);
    }
}

void h2_flush_later(struct h2 *c)
{
    if (!c->dispatching && !c->dead)
        mz_task_schedule(c->loop, &c->task);
}

/* ---- what the stream's owner calls ---- */

static bool may_write(const struct h2_stream *s)
{
    return s->in.ops && !s->closed && !s->resetting && !s->out_end && !s->c->dead;
}

/* The owner has said its last word. */
static void out_finish(struct h2_stream *s)
{
    s->out_end = true;
    if (s->in_end)
        h2_stream_detach(s);
}

/* What is not out now may wait for a window that never opens (D08), whoever sends it later. */
static void ended_flush(struct h2_stream *s)
{
    struct h2 *c = s->c;
    if (!c->dispatching && !c->sending)
        h2_flush(c);
    if (!s->out_sent && !s->closed && s->enc.flush_timeout_ms && mz_buf_len(&s->out))
        mz_timer_start_ms(&s->flush_timer, s->enc.flush_timeout_ms);
}

static void encode_1xx(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct h2_stream *s = h2_stream_of(e);
    nghttp2_nv small[NV_MAX_STACK];
    if (!may_write(s) || s->submitted || mz_headers_status(h) == 101)
        return;
    nghttp2_nv *nv = nv_room(h, small);
    size_t n = fields(h, nv, 0);
    nghttp2_submit_headers(h2_ng(s->c), NGHTTP2_FLAG_NONE, (int32_t)e->id, NULL, nv, n, NULL);
    nv_done(nv, small);
    h2_flush_later(s->c);
}

static bool is_upgrade(const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_CONNECTION);
    for (; e; e = mz_headers_next(h, e))
        if (mz_list_has(e->value, MZ_STR("upgrade")))
            return mz_headers_value_id(h, MZ_H_UPGRADE).n > 0;
    return false;
}

static size_t request_fields(struct h2_stream *s, struct mz_headers *h, nghttp2_nv *nv)
{
    struct mz_str method = mz_headers_method(h);
    s->is_head = mz_str_eq(method, MZ_STR("HEAD"));
    s->connect = mz_str_eq(method, MZ_STR("CONNECT"));
    s->upgrade = !s->connect && is_upgrade(h);
    if (s->connect)
        return fields(h, nv, 1u << MZ_H_SCHEME | 1u << MZ_H_PATH | 1u << MZ_H_PROTOCOL);
    if (!s->upgrade)
        return fields(h, nv, 0);
    s->upgrade_type = mz_arena_dup(s->in.arena, mz_headers_value_id(h, MZ_H_UPGRADE));
    nv[0] = field(MZ_STR(":method"), MZ_STR("CONNECT"));
    nv[1] = field(MZ_STR(":protocol"), s->upgrade_type);
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
    return 2 + fields(h, nv + 2, 1u << MZ_H_METHOD);
}

static void submit_request(struct h2_stream *s, nghttp2_nv *nv, size_t n, bool end)
{
    struct h2 *c = s->c;
    nghttp2_data_provider body = { { .ptr = s }, read_body };
    int32_t id = nghttp2_submit_request(h2_ng(c), NULL, nv, n, end ? NULL : &body, s);
    if (id < 0) {
        s->reset_reason = MZ_RESET_LOCAL_REFUSED;
        s->reset_event = true;
        h2_events_later(s);
        h2_flush_later(c);
        return;
    }
    s->enc.id = (uint32_t)id;
    s->submitted = true;
    h2_stream_opened(s);
}

static void submit_response(struct h2_stream *s, struct mz_headers *h, nghttp2_nv *nv, bool end)
{
    struct h2 *c = s->c;
    nghttp2_data_provider body = { { .ptr = s }, read_body };
    size_t n = fields(h, nv, 0);
    if (s->upgrade && mz_headers_status(h) == 101)
        for (size_t i = 0; i < n; i++)
            if (nv[i].namelen == 7 && memcmp(nv[i].name, ":status", 7) == 0)
                nv[i] = field(MZ_STR(":status"), MZ_STR("200"));
    s->enc.header_out += fields_bytes(nv, n);
    s->submitted = true;
    nghttp2_submit_response(h2_ng(c), (int32_t)s->enc.id, nv, n, end ? NULL : &body);
}

static void encode_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    struct h2_stream *s = h2_stream_of(e);
    struct h2 *c = s->c;
    MZ_UNINIT nghttp2_nv small[NV_MAX_STACK];
    if (!may_write(s) || s->submitted)
        return;
    nghttp2_nv *nv = nv_room(h, small);
    if (h2_is_client(c)) {
        size_t n = request_fields(s, h, nv);
        s->enc.header_out += fields_bytes(nv, n);
        submit_request(s, nv, n, end);
    } else {
        submit_response(s, h, nv, end);
    }
    nv_done(nv, small);
    if (end) {
        out_finish(s);
        ended_flush(s);
    }
    h2_flush_later(c);
}

static void encode_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct h2_stream *s = h2_stream_of(e);
    struct h2 *c = s->c;
    if (!may_write(s) || !s->submitted) {
        mz_buf_drain(data, mz_buf_len(data));
        return;
    }
    h2_gauge(c, MZ_H2S_PENDING_SEND_BYTES, (int64_t)mz_buf_len(data));
    mz_buf_move_all(&s->out, data);
    if (s->deferred && (end || mz_buf_len(&s->out))) {
        s->deferred = false;
        nghttp2_session_resume_data(h2_ng(c), (int32_t)e->id);
    }
    if (end) {
        out_finish(s);
        ended_flush(s);
    } else if (mz_buf_len(&s->out) > stream_high(c)) {
        h2_flush(c);
    }
    if (s->in.ops && !s->above_out && mz_buf_len(&s->out) > stream_high(c)) {
        s->above_out = true;
        h2_stream_pause_update(s);
    }
    h2_flush_later(c);
}

/* They wait behind the body, longer than the map may live. */
static struct h2_trailers *trailers_copy(const struct mz_headers *h)
{
    size_t room = mz_headers_bytes(h);
    struct h2_trailers *t =
        mz_alloc(MZ_MEM_CONN, sizeof(*t) + mz_mul(h->live, sizeof(t->nv[0])) + room);
    char *at = (char *)&t->nv[h->live];
    t->n = 0;
    mz_headers_foreach(e, h)
    {
        if (e->name.p[0] == ':' || !goes_out(e))
            continue;
        struct mz_str name = { at, e->name.n }, value = { at + e->name.n, e->value.n };
        memcpy(at, e->name.p, name.n);
        if (value.n)
            memcpy(at + name.n, e->value.p, value.n);
        at += name.n + value.n;
        t->nv[t->n++] = field(name, value);
    }
    return t;
}

static void encode_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct h2_stream *s = h2_stream_of(e);
    struct mz_buf none;
    mz_buf_init(&none);
    if (may_write(s) && s->submitted) {
        struct h2_trailers *t = trailers_copy(h);
        if (t->n) {
            s->out_trailers = t;
            e->header_out += fields_bytes(t->nv, t->n);
            trailers_at_once(s);
        } else {
            mz_free(MZ_MEM_CONN, t);
        }
    }
    encode_data(e, &none, true);
}

static uint32_t reset_code(const struct h2_stream *s, enum mz_reset_reason r)
{
    switch (r) {
    case MZ_RESET_LOCAL_REFUSED:
    case MZ_RESET_REMOTE_REFUSED:
        return NGHTTP2_REFUSED_STREAM;
    case MZ_RESET_CONNECT_ERROR:
        return NGHTTP2_CONNECT_ERROR;
    case MZ_RESET_PROTOCOL_ERROR:
        return NGHTTP2_PROTOCOL_ERROR;
    case MZ_RESET_OVERLOAD_MANAGER:
        return NGHTTP2_ENHANCE_YOUR_CALM;
    default:
        return h2_is_client(s->c) ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR;
    }
}

static void reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    struct h2_stream *s = h2_stream_of(e);
    if (!s->in.ops)
        return;
    bool whole = s->out_end && !h2_is_client(s->c) && r == MZ_RESET_LOCAL;
    if (!whole && s->submitted && !h2_is_client(s->c))
        h2_flush(s->c); /* what was given goes first: nghttp2 drops it once the stream is reset */
    if (!whole)
        h2_rst(s, reset_code(s, r));
    s->linger =
        whole && !s->wire_end; /* the answer goes out, then the rest of the request is refused */
    h2_stream_detach(s);
    if (s->linger && s->out_sent)
        h2_linger(s);
}

static void read_disable(struct mz_stream_enc *e, bool disable)
{
    struct h2_stream *s = h2_stream_of(e);
    if (!s->in.ops || (!disable && s->read_off == 0))
        return;
    s->read_off = disable ? s->read_off + 1 : s->read_off - 1;
    if (s->read_off == 0 && (mz_buf_len(&s->held) || (s->wire_end && !s->in_end)))
        h2_events_later(s);
}

static bool above_high(const struct mz_stream_enc *e)
{
    const struct h2_stream *s =
        (const struct h2_stream *)(const void *)((const char *)e - offsetof(struct h2_stream, enc));
    return s->c->above_conn || s->above_out;
}

void h2_stream_out_drop(struct h2_stream *s)
{
    h2_gauge(s->c, MZ_H2S_PENDING_SEND_BYTES, -(int64_t)mz_buf_len(&s->out));
    mz_buf_fini(&s->out);
    mz_free(MZ_MEM_CONN, s->out_trailers);
    s->out_trailers = NULL;
}

const struct mz_stream_enc_ops h2_enc_ops = {
    .encode_1xx = encode_1xx,
    .encode_headers = encode_headers,
    .encode_data = encode_data,
    .encode_trailers = encode_trailers,
    .reset = reset,
    .read_disable = read_disable,
    .above_high = above_high,
};
