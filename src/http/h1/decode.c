#include "http/h1/h1_priv.h"
#include "http/status.h"
#include "http/validate.h"

enum step { STEP_ON, STEP_WAIT, STEP_FAIL };

bool h1_fail(struct h1 *c, unsigned status, const char *details)
{
    status = c->client ? 502 : status;
    c->base.error = (struct mz_codec_error){ status, details, mz_status_reason(status).p };
    return false;
}

void h1_stream_begin(struct h1 *c)
{
    uint32_t id = c->enc.id + 1;
    h1_idle_end(c);
    c->enc = (struct mz_stream_enc){ .ops = &h1_enc_ops, .id = id };
    c->active = true;
    c->in_done = c->out_done = c->broken = false;
    c->is_head = c->is_connect = c->is_upgrade = false;
    c->req_close = false;
    c->base.must_close = false;
    c->n_1xx = 0;
    c->scanned = 0;
    c->end_state = H1_END_NONE;
    c->out = H1_OUT_HEAD;
}

void h1_stream_over(struct h1 *c)
{
    bool more = c->client ? !c->base.must_close : !c->req_close && !c->broken;
    c->active = false;
    c->gen++;
    c->state = more ? H1_START : H1_DEAD;
    c->scanned = 0;
    c->above_held = false;
    h1_held_free(c);
    if (c->read_off) {
        c->read_off = 0;
        c->sink.read_disable(c->sink.arg, false);
    }
    if (more)
        h1_idle_begin(c);
}

void h1_pause_update(struct h1 *c, bool *cause, bool value)
{
    bool before = c->above_conn || c->above_held;
    *cause = value;
    bool after = c->above_conn || c->above_held;
    if (!c->active || before == after || !c->in.ops)
        return;
    if (after)
        c->in.ops->on_above_high(c->in.arg);
    else
        c->in.ops->on_below_low(c->in.arg);
}

bool h1_connection_names(const struct mz_headers *h, struct mz_str word)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_CONNECTION);
    for (; e; e = mz_headers_next(h, e))
        if (mz_list_has(e->value, word))
            return true;
    return false;
}

/* The message is read. Called before its last event, so that a callback which ends the other direction ends the stream. */
static void in_finish(struct h1 *c, const struct mz_buf *in)
{
    c->in_done = true;
    c->state = H1_COMPLETE;
    if (c->client && (!c->out_done || in->len)) /* early answer, or bytes behind it (A23, F02) */
        c->base.must_close = true;
}

/* After a last event. */
static void in_finished(struct h1 *c, uint32_t gen)
{
    if (gen == c->gen && c->out_done)
        h1_stream_over(c);
}

/* Gives @body (emptied) to the stream. */
static void deliver(struct h1 *c, struct mz_buf *body, bool end)
{
    uint32_t gen = c->gen;
    c->in.ops->on_data(c->in.arg, body, end);
    mz_buf_fini(body);
    if (end)
        in_finished(c, gen);
}

static void deliver_headers(struct h1 *c, bool end)
{
    uint32_t gen = c->gen;
    c->in.ops->on_headers(c->in.arg, c->headers, end);
    if (end)
        in_finished(c, gen);
}

/* ---- heads ---- */

/* Length of the head at the front of @in, or 0 when its end has not come. */
static size_t head_find(struct h1 *c, struct mz_buf *in)
{
    size_t max = (size_t)c->o->max_headers_kb * 1024 + 1;
    if (in->len == 0)
        return 0;
    struct mz_str s = mz_buf_first(in);
    if (s.n < in->len && s.n < max && c->scanned >= s.n)
        s = mz_buf_linearize(in, in->len < max ? in->len : max);
    for (;;) {
        enum h1_end_state st = c->end_state;
        size_t k = h1_head_end(s.p + c->scanned, s.n - c->scanned, &st);
        c->end_state = (uint8_t)st;
        if (k)
            return c->scanned + k;
        c->scanned = (uint32_t)s.n;
        if (s.n >= in->len || s.n >= max)
            return 0;
        s = mz_buf_linearize(in, in->len < max ? in->len : max);
    }
}

/* What arrived so far can never become a head: refused at once. */
static bool start_ok(struct h1 *c, const struct mz_buf *in)
{
    struct mz_str s = mz_buf_first(in);
    s.n = s.n < H1_START_LOOK ? s.n : H1_START_LOOK;
    const char *error = c->client ? h1_response_start_error(s) : h1_request_start_error(c, s);
    return !error || h1_fail(c, 400, error);
}

/* ON: *out_n bytes of head are there. */
static enum step head_wait(struct h1 *c, struct mz_buf *in, size_t *out_n)
{
    size_t max = (size_t)c->o->max_headers_kb * 1024;
    bool looked = c->scanned >= H1_START_LOOK;
    *out_n = head_find(c, in);
    if (*out_n && *out_n <= max)
        return STEP_ON;
    if (c->state == H1_HEAD && !looked && !start_ok(c, in))
        return STEP_FAIL;
    if (*out_n || c->scanned > max) {
        h1_fail(c, 431, "http1.headers_too_large");
        return STEP_FAIL;
    }
    return STEP_WAIT;
}

static void head_reset(struct h1 *c, enum h1_state next)
{
    c->state = (uint8_t)next;
    c->scanned = 0;
    c->end_state = H1_END_NONE;
    c->head = (struct h1_head){ .length = 0 };
}

/* The body that the head announced; false: none. */
static bool body_begin(struct h1 *c)
{
    if (c->head.n_te) {
        c->state = H1_CHUNKED;
        c->chunk = (struct h1_chunk){ .left = 0 };
    } else if (c->head.n_length && c->head.length) {
        c->state = H1_LENGTH;
        c->left = c->head.length;
    } else {
        return false;
    }
    return true;
}

/* An invalid head whose framing is clear and empty does not spoil the connection, where that is configured. */
static bool survives(const struct h1 *c)
{
    return c->o->override_stream_error && !c->client && c->head.read && c->head.n_te == 0 &&
           (c->head.n_length == 0 || c->head.length == 0) && !c->is_connect && !c->is_upgrade &&
           c->base.error.status == 400 && c->state == H1_COMPLETE;
}

static uint64_t came_along(const struct h1 *c, const struct mz_buf *in)
{
    return c->state == H1_LENGTH && c->left < in->len ? c->left : in->len;
}

static enum step request_head(struct h1 *c, struct mz_buf *in)
{
    size_t n;
    enum step s = head_wait(c, in, &n);
    if (s != STEP_ON)
        return s;
    head_reset(c, H1_HEAD);
    if (!h1_request_head(c, in, n))
        return STEP_FAIL;
    c->req_close = c->head.close || (c->base.protocol == MZ_HTTP10 && !c->head.keep_alive);
    c->base.must_close = c->req_close;
    bool end = false;
    if (c->is_connect || c->is_upgrade)
        c->state = H1_TUNNEL;
    else
        end = !body_begin(c);
    if (end)
        in_finish(c, in);
    else
        c->enc.wire_came = c->enc.wire_in + came_along(c, in);
    deliver_headers(c, end);
    return STEP_ON;
}

static bool informational(struct h1 *c)
{
    unsigned s = c->status;
    if (s >= 200 || s == 101)
        return false;
    head_reset(c, H1_START);
    c->base.inside = false;
    if (s == 100 || s == 102 || s == 103)
        c->in.ops->on_1xx(c->in.arg, c->headers);
    return true;
}

/* More informational answers than anyone needs are read over, so that they use up no memory (F06). */
static bool skip_1xx(struct h1 *c, struct mz_buf *in, size_t n)
{
    char start[12];
    if (c->n_1xx < H1_1XX_MAX || mz_buf_copyout(in, 0, start, 12) < 12)
        return false;
    if (memcmp(start, "HTTP/1.", 7) != 0 || start[9] != '1' || memcmp(start + 9, "101", 3) == 0)
        return false; /* parsed, and judged, as any other */
    mz_buf_drain(in, n);
    head_reset(c, H1_START);
    c->base.inside = false;
    return true;
}

static bool response_tunnel(const struct h1 *c)
{
    return c->status == 101 || (c->is_connect && c->status / 100 == 2);
}

static void response_keep_alive(struct h1 *c)
{
    bool old = c->base.protocol == MZ_HTTP10 && (!c->head.keep_alive || c->head.n_te);
    if (c->head.close || old)
        c->base.must_close = true;
}

static enum step response_head(struct h1 *c, struct mz_buf *in)
{
    size_t n;
    enum step s = head_wait(c, in, &n);
    if (s != STEP_ON || skip_1xx(c, in, n))
        return s;
    head_reset(c, H1_HEAD);
    if (!h1_response_head(c, in, n))
        return STEP_FAIL;
    if (c->status < 200)
        c->n_1xx++;
    if (informational(c))
        return STEP_ON;
    response_keep_alive(c);
    bool tunnel = response_tunnel(c), end = false;
    uint32_t gen = c->gen;
    if (tunnel) {
        c->state = H1_TUNNEL;
        mz_headers_remove_id(c->headers, MZ_H_CONTENT_LENGTH);
    } else if (c->is_head || c->status == 204 || c->status == 304) {
        end = true;
    } else if (!body_begin(c)) {
        end = c->head.n_length > 0;
        c->state = H1_UNTIL_CLOSE;
    }
    if (tunnel || (!end && c->state == H1_UNTIL_CLOSE) || c->out == H1_OUT_HELD)
        c->base.must_close = true;
    if (end)
        in_finish(c, in);
    else
        c->enc.wire_came = c->enc.wire_in + came_along(c, in);
    deliver_headers(c, end);
    if (gen == c->gen && c->out == H1_OUT_HELD)
        h1_held_release(c, !tunnel);
    return STEP_ON;
}

/* ---- between messages ---- */

static enum step server_start(struct h1 *c, struct mz_buf *in)
{
    struct mz_str s = mz_buf_first(in);
    if (c->going_away) {
        c->state = H1_DEAD;
        return STEP_ON;
    }
    size_t n = 0;
    while (n < s.n && (s.p[n] == '\r' || s.p[n] == '\n'))
        n++;
    mz_buf_drain(in, n);
    c->scanned += (uint32_t)n;
    bool flood = c->scanned > H1_BLANK_MAX;
    if (in->len == 0 && !flood)
        return STEP_WAIT;
    if (n == s.n && !flood)
        return STEP_ON; /* the next fragment may begin with blank lines too */
    h1_stream_begin(c);
    head_reset(c, H1_HEAD);
    c->base.protocol = MZ_HTTP11;
    c->headers = NULL;
    c->ops->new_stream(c->arg, &c->enc, &c->in);
    if (flood) {
        h1_fail(c, 400, "http1.codec_error");
        return STEP_FAIL;
    }
    return STEP_ON;
}

static enum step client_start(struct h1 *c, const struct mz_buf *in)
{
    if (in->len == 0)
        return STEP_WAIT;
    head_reset(c, H1_HEAD);
    c->base.inside = true;
    return STEP_ON;
}

/* ---- bodies ---- */

static enum step body_length(struct h1 *c, struct mz_buf *in)
{
    size_t n = c->left < in->len ? (size_t)c->left : in->len;
    if (n == 0)
        return STEP_WAIT;
    struct mz_buf body;
    mz_buf_init(&body);
    mz_buf_move(&body, in, n);
    c->enc.wire_in += n;
    c->left -= n;
    if (c->left == 0)
        in_finish(c, in);
    deliver(c, &body, c->left == 0);
    return STEP_ON;
}

static enum step body_raw(struct h1 *c, struct mz_buf *in)
{
    if (in->len == 0)
        return STEP_WAIT;
    struct mz_buf body;
    mz_buf_init(&body);
    c->enc.wire_in += in->len;
    mz_buf_move_all(&body, in);
    deliver(c, &body, false);
    return STEP_ON;
}

/* The usual end of a chunked body: the empty line is there already and no trailer is. */
static bool no_trailers(struct h1 *c, struct mz_buf *in)
{
    char crlf[2];
    if (mz_buf_copyout(in, 0, crlf, 2) < 2 || crlf[0] != '\r' || crlf[1] != '\n')
        return false;
    mz_buf_drain(in, 2);
    c->enc.wire_in += 2;
    return true;
}

static enum step body_chunked(struct h1 *c, struct mz_buf *in)
{
    if (in->len == 0)
        return STEP_WAIT;
    struct mz_buf body;
    size_t taken;
    uint32_t gen = c->gen;
    mz_buf_init(&body);
    enum h1_chunk_result r = h1_chunk_take(&c->chunk, in, &body, &taken);
    c->enc.wire_in += taken;
    bool end = r == H1_CHUNK_LAST && no_trailers(c, in);
    if (end) {
        in_finish(c, in);
    } else if (r == H1_CHUNK_LAST) {
        head_reset(c, H1_TRAILERS);
        c->end_state = H1_END_LF; /* an empty line right here ends them */
    }
    if (body.len || end)
        deliver(c, &body, end);
    if (r != H1_CHUNK_BAD || gen != c->gen)
        return STEP_ON;
    h1_fail(c, 400, "http1.codec_error");
    return STEP_FAIL;
}

static enum step trailers(struct h1 *c, struct mz_buf *in)
{
    size_t n;
    enum step s = head_wait(c, in, &n);
    if (s != STEP_ON)
        return s;
    struct mz_headers *h = h1_trailers(c, in, n);
    if (!h)
        return STEP_FAIL;
    in_finish(c, in);
    if (h->live && c->o->enable_trailers) {
        uint32_t gen = c->gen;
        c->in.ops->on_trailers(c->in.arg, h);
        in_finished(c, gen);
    } else {
        struct mz_buf none;
        mz_buf_init(&none);
        deliver(c, &none, true);
    }
    return STEP_ON;
}

/* ---- the machine ---- */

static enum step step(struct h1 *c, struct mz_buf *in)
{
    switch ((enum h1_state)c->state) {
    case H1_START:
        return c->client ? client_start(c, in) : server_start(c, in);
    case H1_HEAD:
        return c->client ? response_head(c, in) : request_head(c, in);
    case H1_LENGTH:
        return body_length(c, in);
    case H1_CHUNKED:
        return body_chunked(c, in);
    case H1_TRAILERS:
        return trailers(c, in);
    case H1_UNTIL_CLOSE:
    case H1_TUNNEL:
        return body_raw(c, in);
    case H1_COMPLETE:
        return STEP_WAIT;
    default: /* H1_DEAD */
        mz_buf_drain(in, in->len);
        return STEP_WAIT;
    }
}

/* An invalid message: nothing more is read; a server may still answer on the stream. */
static enum mz_codec_status failed(struct h1 *c)
{
    c->in_done = true;
    if (c->state == H1_HEAD)
        c->state = H1_COMPLETE;
    if (survives(c))
        return MZ_CODEC_ERROR;
    c->broken = c->req_close = c->base.must_close = true;
    c->state = H1_DEAD;
    if (!c->client && c->active && c->out_done)
        h1_stream_over(c);
    return MZ_CODEC_ERROR;
}

/* The peer sent FIN and everything before it was taken. */
static enum mz_codec_status at_end(struct h1 *c)
{
    struct mz_buf none;
    if (!c->active || c->in_done)
        return MZ_CODEC_OK;
    if (c->state == H1_TUNNEL || c->state == H1_UNTIL_CLOSE) {
        mz_buf_init(&none);
        in_finish(c, &none);
        c->base.must_close = true;
        deliver(c, &none, true);
        return MZ_CODEC_OK;
    }
    if (!c->client || c->state == H1_START)
        return MZ_CODEC_OK; /* the owner closes and says so by conn_closed() */
    h1_fail(c, 502, "http1.codec_error");
    return failed(c);
}

static enum mz_codec_status run(struct h1 *c, struct mz_buf *in, bool end)
{
    enum step s = STEP_ON;
    while (s == STEP_ON) {
        if (c->read_off && c->state != H1_DEAD)
            return MZ_CODEC_OK;
        if (c->client && !c->active && c->state == H1_START && in->len) {
            c->base.must_close = true;
            c->state = H1_DEAD;
            mz_buf_drain(in, in->len);
            return MZ_CODEC_PREMATURE;
        }
        s = step(c, in);
    }
    if (s == STEP_FAIL)
        return failed(c);
    return end ? at_end(c) : MZ_CODEC_OK;
}

enum mz_codec_status h1_dispatch(struct mz_codec *codec, struct mz_buf *in, bool end)
{
    struct h1 *c = h1_of(codec);
    if (c->dispatching)
        return MZ_CODEC_OK; /* called from a callback: the outer call goes on */
    c->dispatching = true;
    enum mz_codec_status s = run(c, in, end);
    c->dispatching = false;
    return s;
}
