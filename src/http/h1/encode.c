#include "http/h1/h1_priv.h"
#include "http/status.h"
#include "http/validate.h"

#define NAME_ROW 48 /* bytes that a known name is written with, whatever its length */
#define EXTRA_ROOM                                                                                 \
    (160 +                                                                                         \
     NAME_ROW) /* what the codec itself adds to a head: version, status, framing, connection */

/* Names and values are short: overlapping words cost less than a call of memcpy. */
static inline __attribute__((always_inline)) char *put(char *at, struct mz_str s)
{
    if (s.n < 8) {
        if (s.n >= 4) {
            uint32_t a, b;
            memcpy(&a, s.p, 4);
            memcpy(&b, s.p + s.n - 4, 4);
            memcpy(at, &a, 4);
            memcpy(at + s.n - 4, &b, 4);
        } else if (s.n) {
            char a = s.p[0], b = s.p[s.n / 2], z = s.p[s.n - 1];
            at[0] = a;
            at[s.n / 2] = b;
            at[s.n - 1] = z;
        }
    } else if (s.n <= 16) {
        uint64_t a, b;
        memcpy(&a, s.p, 8);
        memcpy(&b, s.p + s.n - 8, 8);
        memcpy(at, &a, 8);
        memcpy(at + s.n - 8, &b, 8);
    } else if (s.n <= 32) {
        char a[16], b[16];
        memcpy(a, s.p, 16);
        memcpy(b, s.p + s.n - 16, 16);
        memcpy(at, a, 16);
        memcpy(at + s.n - 16, b, 16);
    } else if (s.n <= 64) {
        char a[32], b[32];
        memcpy(a, s.p, 32);
        memcpy(b, s.p + s.n - 32, 32);
        memcpy(at, a, 32);
        memcpy(at + s.n - 32, b, 32);
    } else {
        memcpy(at, s.p, s.n);
    }
    return at + s.n;
}
#define PUT(at, lit) put((at), MZ_STR(lit))

static struct h1 *of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct h1, enc);
}

/* ---- fields ---- */

/* Known names as they are written, with colon and blank. */
static const char name_rows[MZ_H__COUNT][NAME_ROW] = {
#define X(id, text) [MZ_H_##id] = text ": ",
    MZ_HEADERS_KNOWN(X)
#undef X
};
static const uint8_t name_lengths[MZ_H__COUNT] = {
#define X(id, text) [MZ_H_##id] = sizeof(text ": ") - 1,
    MZ_HEADERS_KNOWN(X)
#undef X
};
#define ID_BIT(id) (UINT64_C(1) << MZ_H_##id)
_Static_assert(MZ_H_TRANSFER_ENCODING < 64 && MZ_H_CONNECTION < 64 && MZ_H_CONTENT_LENGTH < 64,
               "ids that may be skipped fit one word");

static char *put_proper(char *at, struct mz_str name)
{
    bool up = true;
    for (size_t i = 0; i < name.n; i++) {
        char ch = name.p[i];
        bool letter = ch >= 'a' && ch <= 'z';
        *at++ = up && letter ? (char)(ch & ~0x20) : ch;
        up = !letter && (ch < '0' || ch > '9');
    }
    return at;
}

/* A name that this side made is written in the case that the configuration asks for. */
static inline bool writes_proper(const struct h1 *c)
{
    return c->o->header_case == MZ_CASE_PROPER ||
           (c->o->header_case == MZ_CASE_PRESERVE && c->o->proper_on_unknown);
}

static char *put_field(const struct h1 *c, char *at, struct mz_str name, struct mz_str value)
{
    at = writes_proper(c) ? put_proper(at, name) : put(at, name);
    at = PUT(at, ": ");
    at = put(at, value);
    return PUT(at, "\r\n");
}

/* Bytes that the fields take at most: removed ones are not told apart. */
static size_t fields_room(const struct mz_headers *h)
{
    size_t n = (size_t)h->n * 4;
    for (const struct mz_header *e = h->v, *end = e + h->n; e != end; e++)
        n += e->name.n + e->value.n;
    return n;
}

/* What of the map is not written as a field. */
struct skip {
    bool length, connection;
};

/* The same as a set of ids. */
static uint64_t skip_ids(const struct h1 *c, struct skip skip)
{
    uint64_t ids = ID_BIT(METHOD) | ID_BIT(SCHEME) | ID_BIT(PATH) | ID_BIT(PROTOCOL) |
                   ID_BIT(STATUS) | ID_BIT(TRANSFER_ENCODING);
    ids |= c->client ? 0 : ID_BIT(AUTHORITY);
    ids |= skip.length ? ID_BIT(CONTENT_LENGTH) : 0;
    return ids | (skip.connection ? ID_BIT(CONNECTION) : 0);
}

/* A name as received, or in another case than the map's, or unknown; with its colon. */
static char *put_name(bool proper, char *at, const struct mz_header *e)
{
    struct mz_str name = e->id == MZ_H_AUTHORITY ? MZ_STR("host") : e->name;
    if (e->raw)
        at = put(at, (struct mz_str){ e->raw, name.n });
    else
        at = proper ? put_proper(at, name) : put(at, name);
    return PUT(at, ": ");
}

static char *put_fields(const struct h1 *c, char *at, const struct mz_headers *h, struct skip skip)
{
    const bool proper =
        writes_proper(c) && (!h->keeps_case || c->o->header_case == MZ_CASE_PRESERVE);
    const uint64_t skipped = skip_ids(c, skip);
    mz_headers_foreach(e, h)
    {
        unsigned id = e->id;
        if (id < 64 && (skipped >> id & 1))
            continue;
        if (id == MZ_H_AUTHORITY)
            id = MZ_H_HOST;
        if (MZ_UNLIKELY(id == MZ_H_NONE && e->name.p[0] == ':'))
            continue;
        if (id != MZ_H_NONE && !proper && !e->raw) {
            memcpy(at, name_rows[id], NAME_ROW);
            at += name_lengths[id];
        } else {
            at = put_name(proper, at, e);
        }
        at = put(at, e->value);
        at = PUT(at, "\r\n");
    }
    return at;
}

/* @fields: behind the first line. Envoy's header bytes are the fields, not the first line nor the blank one. */
static void commit(struct h1 *c, const char *from, const char *fields, const char *to)
{
    size_t n = (size_t)(to - from);
    mz_buf_commit(c->sink.out, n);
    c->enc.wire_out += n;
    c->enc.header_out += (size_t)(to - fields) - 2;
}

static void written(struct h1 *c)
{
    c->sink.written(c->sink.arg);
}

/* The message is written. Bytes that its length promised and that never came spoil the connection. */
static void out_finish(struct h1 *c)
{
    if (c->out == H1_OUT_LENGTH && c->out_left)
        c->base.must_close = c->req_close = true;
    c->out_done = true;
    if (c->in_done)
        h1_stream_over(c);
}

/* ---- framing of what goes out ---- */

enum added { ADD_NONE, ADD_LENGTH_0, ADD_CHUNKED };

static char *put_added(const struct h1 *c, char *at, enum added a)
{
    if (a == ADD_LENGTH_0)
        return put_field(c, at, MZ_STR("content-length"), MZ_STR("0"));
    if (a == ADD_CHUNKED)
        return put_field(c, at, MZ_STR("transfer-encoding"), MZ_STR("chunked"));
    return at;
}

/* The map's content-length, when it is one. */
static bool length_of(const struct mz_headers *h, uint64_t *out_length)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_CONTENT_LENGTH);
    return e && mz_str_u64(e->value, out_length);
}

/* ---- responses ---- */

static bool response_tunnel(const struct h1 *c, unsigned status)
{
    return (status == 101 && c->is_upgrade) || (c->is_connect && status / 100 == 2);
}

static enum added response_framing(struct h1 *c, const struct mz_headers *h, unsigned status,
                                   bool end)
{
    bool has_length = length_of(h, &c->out_left);
    c->out = H1_OUT_NOTHING;
    if (response_tunnel(c, status)) {
        c->out = H1_OUT_RAW;
        return ADD_NONE;
    }
    if (status < 200 || status == 204)
        return ADD_NONE;
    if (has_length) {
        if (!c->is_head && status != 304)
            c->out = H1_OUT_LENGTH;
        return ADD_NONE;
    }
    if (status == 304)
        return ADD_NONE;
    if (end && !c->is_head)
        return ADD_LENGTH_0;
    if (c->base.protocol == MZ_HTTP10) {
        if (!c->is_head)
            c->out = H1_OUT_RAW;
        return ADD_NONE;
    }
    if (!c->is_head)
        c->out = H1_OUT_CHUNKED;
    return ADD_CHUNKED; /* also in answer to HEAD, as Envoy guesses */
}

/* Must the connection end with this answer? */
static bool response_closes(const struct h1 *c, const struct mz_headers *h, unsigned status)
{
    bool has_length = mz_headers_get_id(h, MZ_H_CONTENT_LENGTH) != NULL;
    if (response_tunnel(c, status))
        return false;
    return c->req_close || c->going_away || !c->in_done || c->is_upgrade || c->is_connect ||
           (c->base.protocol == MZ_HTTP10 && !has_length) ||
           (!c->end_announced && h1_connection_has(h, MZ_STR("close")));
}

static char *put_status_line(const struct h1 *c, char *at, const struct mz_headers *h,
                             unsigned status)
{
    struct mz_str reason = h->reason.n ? h->reason : mz_status_reason(status);
    at = c->base.protocol == MZ_HTTP10 ? PUT(at, "HTTP/1.0 ") : PUT(at, "HTTP/1.1 ");
    at[0] = (char)('0' + status / 100 % 10);
    at[1] = (char)('0' + status / 10 % 10);
    at[2] = (char)('0' + status % 10);
    at[3] = ' ';
    at = put(at + 4, reason);
    return PUT(at, "\r\n");
}

static void response_1xx(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct h1 *c = of(e);
    if (!c->active || c->out_done || c->out != H1_OUT_HEAD || c->base.protocol == MZ_HTTP10)
        return;
    size_t room;
    char *from = mz_buf_reserve(c->sink.out, fields_room(h) + h->reason.n + EXTRA_ROOM, &room);
    char *at = put_status_line(c, from, h, mz_headers_status(h)), *first = at;
    at = put_fields(c, at, h, (struct skip){ .length = true });
    at = PUT(at, "\r\n");
    commit(c, from, first, at);
    written(c);
}

static void response_headers(struct h1 *c, struct mz_headers *h, bool end)
{
    unsigned status = mz_headers_status(h);
    bool tunnel = response_tunnel(c, status), bodiless = tunnel || status < 200 || status == 204;
    bool close = response_closes(c, h, status), old = c->base.protocol == MZ_HTTP10;
    enum added added = response_framing(c, h, status, end);
    size_t room;
    char *from = mz_buf_reserve(c->sink.out, fields_room(h) + h->reason.n + EXTRA_ROOM, &room);
    char *at = put_status_line(c, from, h, status), *first = at;
    at = put_fields(c, at, h, (struct skip){ .length = bodiless, .connection = close || old });
    at = put_added(c, at, added);
    if (close)
        at = put_field(c, at, MZ_STR("connection"), MZ_STR("close"));
    else if (old && !tunnel)
        at = put_field(c, at, MZ_STR("connection"), MZ_STR("keep-alive"));
    at = PUT(at, "\r\n");
    commit(c, from, first, at);
    c->base.must_close = c->base.must_close || close || tunnel;
    if (close || tunnel)
        c->req_close = true; /* what follows is no request */
    if (!tunnel && (c->is_upgrade || c->is_connect)) {
        c->in_done = true; /* nor is it a tunnel */
        c->state = H1_DEAD;
    }
}

/* ---- requests ---- */

static bool method_bodiless(struct mz_str m) /* RFC 9110 8.6: no content-length: 0 for these */
{
    static const struct mz_str methods[] = { MZ_STR_INIT("HEAD"), MZ_STR_INIT("DELETE"),
                                             MZ_STR_INIT("TRACE"), MZ_STR_INIT("CONNECT") };
    if (MZ_LIKELY(mz_str_eq(m, MZ_STR("GET"))))
        return true;
    for (size_t i = 0; i < MZ_COUNT(methods); i++)
        if (mz_str_eq(m, methods[i]))
            return true;
    return false;
}

static enum added request_framing(struct h1 *c, const struct mz_headers *h, bool end)
{
    if (c->is_connect || c->is_upgrade) {
        c->out = H1_OUT_HELD; /* until the answer allows it (A21) */
        return ADD_NONE;
    }
    if (length_of(h, &c->out_left)) {
        c->out = H1_OUT_LENGTH;
        return ADD_NONE;
    }
    c->out = end ? H1_OUT_NOTHING : H1_OUT_CHUNKED;
    if (!end)
        return ADD_CHUNKED;
    return method_bodiless(mz_headers_method(h)) ? ADD_NONE : ADD_LENGTH_0;
}

static char *put_request_line(const struct h1 *c, char *at, const struct mz_headers *h)
{
    at = put(at, mz_headers_method(h));
    *at++ = ' ';
    if (c->is_connect) {
        at = put(at, mz_headers_value_id(h, MZ_H_AUTHORITY));
    } else {
        if (c->o->send_fully_qualified_url) {
            at = put(at, mz_headers_value_id(h, MZ_H_SCHEME));
            at = PUT(at, "://");
            at = put(at, mz_headers_value_id(h, MZ_H_AUTHORITY));
        }
        at = put(at, mz_headers_path(h));
    }
    return PUT(at, " HTTP/1.1\r\n");
}

static void request_headers(struct h1 *c, struct mz_headers *h, bool end)
{
    struct mz_str method = mz_headers_method(h);
    c->is_head = mz_str_eq(method, MZ_STR("HEAD"));
    c->is_connect = mz_str_eq(method, MZ_STR("CONNECT"));
    c->is_upgrade =
        mz_headers_value_id(h, MZ_H_UPGRADE).n && h1_connection_has(h, MZ_STR("upgrade"));
    enum added added = request_framing(c, h, end);
    size_t room, line = mz_headers_value_id(h, MZ_H_AUTHORITY).n;
    char *from = mz_buf_reserve(c->sink.out, fields_room(h) + line + EXTRA_ROOM, &room);
    char *at = put_request_line(c, from, h), *first = at;
    at = put_fields(c, at, h, (struct skip){ .length = c->is_connect });
    at = put_added(c, at, added);
    at = PUT(at, "\r\n");
    commit(c, from, first, at);
    if (h1_connection_has(h, MZ_STR("close")))
        c->base.must_close = true;
}

/* ---- what the stream's owner calls ---- */

static void encode_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    struct h1 *c = of(e);
    if (!c->active || c->out_done || c->out != H1_OUT_HEAD)
        return;
    if (c->client)
        request_headers(c, h, end);
    else
        response_headers(c, h, end);
    if (end)
        out_finish(c);
    written(c);
}

static void chunk_out(struct h1 *c, struct mz_buf *data)
{
    static const char digits[] = "0123456789abcdef";
    char line[20], *at = line + sizeof(line);
    *--at = '\n';
    *--at = '\r';
    for (size_t v = data->len; v; v >>= 4)
        *--at = digits[v & 15];
    mz_buf_append(c->sink.out, at, (size_t)(line + sizeof(line) - at));
    mz_buf_move_all(c->sink.out, data);
    mz_buf_append_str(c->sink.out, MZ_STR("\r\n"));
}

static void length_out(struct h1 *c, struct mz_buf *data)
{
    size_t n = data->len;
    if (n > c->out_left) { /* more than the head promised never reaches the wire */
        n = (size_t)c->out_left;
        c->base.must_close = c->req_close = true;
    }
    c->out_left -= n;
    mz_buf_move(c->sink.out, data, n);
}

static void held_out(struct h1 *c, struct mz_buf *data)
{
    if (!c->held) {
        c->held = mz_new0(MZ_MEM_CONN, struct mz_buf);
        mz_buf_init(c->held);
    }
    mz_buf_move_all(c->held, data);
    if (c->held->len > H1_HELD_HIGH)
        h1_pause_update(c, &c->above_held, true);
}

static void body_out(struct h1 *c, struct mz_buf *data)
{
    switch ((enum h1_out)c->out) {
    case H1_OUT_LENGTH:
        length_out(c, data);
        break;
    case H1_OUT_CHUNKED:
        chunk_out(c, data);
        break;
    case H1_OUT_RAW:
        mz_buf_move_all(c->sink.out, data);
        break;
    case H1_OUT_HELD:
        held_out(c, data);
        break;
    default: /* an answer that may have no body */
        break;
    }
}

static void encode_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct h1 *c = of(e);
    if (c->active && !c->out_done && c->out != H1_OUT_HEAD) {
        size_t before = c->sink.out->len;
        uint32_t gen = c->gen;
        if (data->len)
            body_out(c, data);
        if (gen == c->gen && end && c->out == H1_OUT_CHUNKED)
            mz_buf_append_str(c->sink.out, MZ_STR("0\r\n\r\n"));
        c->enc.wire_out += c->sink.out->len - before;
        if (gen == c->gen && end)
            out_finish(c);
        written(c);
    }
    mz_buf_drain(data, data->len);
}

static void encode_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct h1 *c = of(e);
    struct mz_buf none;
    if (!c->active || c->out_done || c->out != H1_OUT_CHUNKED || !c->o->enable_trailers) {
        mz_buf_init(&none);
        encode_data(e, &none, true);
        return;
    }
    size_t room;
    char *from = mz_buf_reserve(c->sink.out, fields_room(h) + EXTRA_ROOM, &room);
    char *at = PUT(from, "0\r\n");
    at = put_fields(c, at, h, (struct skip){ .length = true, .connection = true });
    at = PUT(at, "\r\n");
    mz_buf_commit(c->sink.out, (size_t)(at - from));
    c->enc.wire_out += (size_t)(at - from);
    out_finish(c);
    written(c);
}

static void reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    struct h1 *c = of(e);
    (void)r; /* HTTP/1 has no word for it: the connection ends */
    if (!c->active)
        return;
    c->base.must_close = c->req_close = true;
    h1_stream_over(c);
}

static void read_disable(struct mz_stream_enc *e, bool disable)
{
    struct h1 *c = of(e);
    if (!c->active || (!disable && c->read_off == 0))
        return;
    c->read_off = disable ? c->read_off + 1 : c->read_off - 1;
    if (c->read_off == (disable ? 1 : 0))
        c->sink.read_disable(c->sink.arg, disable);
}

static bool above_high(const struct mz_stream_enc *e)
{
    const struct h1 *c =
        (const struct h1 *)(const void *)((const char *)e - offsetof(struct h1, enc));
    return c->above_conn || c->above_held;
}

void h1_held_free(struct h1 *c)
{
    if (!c->held)
        return;
    mz_buf_fini(c->held);
    mz_free(MZ_MEM_CONN, c->held);
    c->held = NULL;
}

void h1_held_release(struct h1 *c, bool drop)
{
    c->out = drop ? H1_OUT_NOTHING : H1_OUT_RAW;
    if (drop) {
        c->base.must_close = true; /* what the other side sends now is no request */
    } else if (c->held && c->held->len) {
        c->enc.wire_out += c->held->len;
        mz_buf_move_all(c->sink.out, c->held);
        written(c);
    }
    h1_held_free(c);
    h1_pause_update(c, &c->above_held, false);
}

const struct mz_stream_enc_ops h1_enc_ops = {
    .encode_1xx = response_1xx,
    .encode_headers = encode_headers,
    .encode_data = encode_data,
    .encode_trailers = encode_trailers,
    .reset = reset,
    .read_disable = read_disable,
    .above_high = above_high,
};
