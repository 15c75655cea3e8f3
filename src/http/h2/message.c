#include "http/h2/h2_priv.h"
#include "http/validate.h"

/* What a message may hold (RFC 9113 8): fields one by one as HPACK gives them, then the whole. */

static struct mz_arena *arena_of(const struct h2_stream *s)
{
    return s->in.arena;
}

static bool digits3(struct mz_str v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
    return v.n == 3 && v.p[0] != '0';
}

static bool scheme_valid(struct mz_str v)
{
    for (size_t i = 0; i < v.n; i++) {
        char ch = mz_lower(v.p[i]);
        bool alpha = ch >= 'a' && ch <= 'z';
        if (!alpha &&
            (i == 0 || !((ch >= '0' && ch <= '9') || ch == '+' || ch == '-' || ch == '.')))
            return false;
    }
    return v.n > 0;
}

/* ---- pseudo-headers ---- */

static bool *pseudo_seen(struct h2_head *hd, enum mz_header_id id)
{
    switch (id) {
    case MZ_H_METHOD:
        return &hd->method;
    case MZ_H_SCHEME:
        return &hd->scheme;
    case MZ_H_PATH:
        return &hd->path;
    case MZ_H_AUTHORITY:
        return &hd->authority;
    case MZ_H_PROTOCOL:
        return &hd->protocol;
    case MZ_H_STATUS:
        return &hd->status;
    default:
        return NULL;
    }
}

static bool pseudo_value_ok(const struct h2 *c, enum mz_header_id id, struct mz_str v)
{
    switch (id) {
    case MZ_H_METHOD:
    case MZ_H_PROTOCOL:
        return mz_header_name_valid(v) && (id == MZ_H_METHOD || c->o->allow_connect);
    case MZ_H_SCHEME:
        return scheme_valid(v);
    case MZ_H_PATH:
        return mz_target_valid(v);
    case MZ_H_AUTHORITY:
        return mz_authority_valid(v);
    default:
        return digits3(v);
    }
}

static enum h2_verdict pseudo(struct h2 *c, struct h2_stream *s, struct mz_str name,
                              struct mz_str value)
{
    struct h2_head *hd = &s->head;
    enum mz_header_id id = mz_header_id(name);
    bool *seen = pseudo_seen(hd, id);
    if (!seen || *seen || hd->regular || hd->trailers)
        return H2_INVALID;
    if ((id == MZ_H_STATUS) != h2_is_client(c) || !pseudo_value_ok(c, id, value))
        return H2_INVALID;
    *seen = true;
    if (id == MZ_H_METHOD)
        hd->is_connect = mz_str_eq(value, MZ_STR("CONNECT"));
    if (s->headers)
        mz_headers_add_id(s->headers, id, mz_arena_dup(arena_of(s), value));
    return H2_FINE;
}

/* ---- other fields ---- */

static bool length_field(struct h2_stream *s, struct mz_str value)
{
    struct h2_head *hd = &s->head;
    if (hd->has_length || hd->trailers || !mz_str_u64(value, &hd->length) || hd->length > INT64_MAX)
        return false;
    hd->has_length = true;
    return true;
}

/* Fields of a connection have no place in HTTP/2 (D17). */
static bool hop_by_hop(enum mz_header_id id, struct mz_str value)
{
    switch (id) {
    case MZ_H_CONNECTION:
    case MZ_H_KEEP_ALIVE:
    case MZ_H_PROXY_CONNECTION:
    case MZ_H_TRANSFER_ENCODING:
    case MZ_H_UPGRADE:
        return true;
    case MZ_H_TE:
        return !mz_str_ieq(value, MZ_STR("trailers"));
    default:
        return false;
    }
}

/* Fields that frame or route a message are dropped from trailers, as in HTTP/1 (A17). */
static bool not_in_trailers(enum mz_header_id id)
{
    static const uint8_t ids[] = { MZ_H_HOST,          MZ_H_TE,
                                   MZ_H_TRAILER,       MZ_H_EXPECT,
                                   MZ_H_AUTHORIZATION, MZ_H_CONTENT_ENCODING,
                                   MZ_H_COOKIE,        MZ_H_CONTENT_TYPE,
                                   MZ_H_SET_COOKIE };
    return id && memchr(ids, id, sizeof(ids));
}

static enum h2_verdict underscore(struct h2 *c, const struct h2_stream *s, struct mz_str name)
{
    if (c->o->underscores == MZ_UNDERSCORE_ALLOW || h2_is_client(c) || !memchr(name.p, '_', name.n))
        return H2_FINE;
    if (c->o->underscores == MZ_UNDERSCORE_DROP) {
        h2_count(c, MZ_H2S_DROPPED);
        return H2_DROP;
    }
    (void)s;
    h2_count(c, MZ_H2S_REJECTED);
    return H2_UNDERSCORE;
}

/* Is it one that goes no further, or that only the head's summary keeps? */
static enum h2_verdict special(struct h2_stream *s, enum mz_header_id id, struct mz_str value)
{
    struct h2_head *hd = &s->head;
    if (hop_by_hop(id, value))
        return H2_INVALID;
    if (hd->trailers)
        return id == MZ_H_CONTENT_LENGTH ? H2_INVALID : not_in_trailers(id) ? H2_DROP : H2_FINE;
    if (id == MZ_H_CONTENT_LENGTH)
        return length_field(s, value) ? H2_FINE : H2_INVALID;
    if (id == MZ_H_COOKIE)
        hd->n_cookies++;
    if (id != MZ_H_HOST || s->c->client)
        return H2_FINE;
    if (!mz_authority_valid(value) || hd->has_host)
        return H2_INVALID;
    hd->has_host = true;
    if (!hd->authority && s->headers) /* in its place; beside :authority it says nothing (D16) */
        mz_headers_add_id(s->headers, MZ_H_AUTHORITY, mz_arena_dup(arena_of(s), value));
    return H2_DROP;
}

static enum h2_verdict regular(struct h2 *c, struct h2_stream *s, struct mz_str name,
                               struct mz_str value)
{
    s->head.regular = true;
    value = mz_str_trim(
        value); /* nobody behind sees blanks that one of them may take for a part (D14) */
    if (!mz_header_name_lower(name) || !mz_header_value_valid(value))
        return H2_INVALID;
    enum mz_header_id id = mz_header_id(name);
    enum h2_verdict v = special(s, id, value);
    if (v == H2_FINE && !id)
        v = underscore(c, s, name);
    if (v != H2_FINE || !s->headers)
        return v;
    struct mz_arena *a = arena_of(s);
    mz_headers_add_raw(s->headers, id ? mz_header_name(id) : mz_arena_dup(a, name),
                       mz_arena_dup(a, value), (uint8_t)id);
    return H2_FINE;
}

enum h2_verdict h2_field(struct h2 *c, struct h2_stream *s, struct mz_str name, struct mz_str value)
{
    struct h2_head *hd = &s->head;
    hd->bytes += (uint32_t)(name.n + value.n);
    if (hd->bytes > c->o->max_headers_kb * 1024)
        return H2_TOO_LARGE;
    if (++hd->n_fields > c->o->max_headers_count)
        return H2_TOO_MANY;
    s->enc.header_in += name.n + value.n;
    if (name.n == 0)
        return H2_INVALID;
    return name.p[0] == ':' ? pseudo(c, s, name, value) : regular(c, s, name, value);
}

/* ---- the whole ---- */

/* Crumbs become one field again, at the end (RFC 9113 8.2.3). */
static void join_cookies(struct h2_stream *s)
{
    struct mz_headers *h = s->headers;
    struct mz_header *first = mz_headers_get_id(h, MZ_H_COOKIE);
    size_t n = 0;
    for (struct mz_header *e = first; e; e = mz_headers_next(h, e))
        n += e->value.n + 2;
    char *p = mz_arena_alloc(arena_of(s), n), *at = p;
    for (struct mz_header *e = first; e; e = mz_headers_next(h, e)) {
        if (e != first) {
            *at++ = ';';
            *at++ = ' ';
        }
        memcpy(at, e->value.p, e->value.n);
        at += e->value.n;
    }
    mz_headers_remove_id(h, MZ_H_COOKIE);
    mz_headers_add_id(h, MZ_H_COOKIE, (struct mz_str){ p, (size_t)(at - p) });
}

static bool path_ok(const struct mz_headers *h)
{
    struct mz_str path = mz_headers_path(h);
    return mz_str_starts(path, MZ_STR("/")) ||
           (mz_str_eq(path, MZ_STR("*")) && mz_str_eq(mz_headers_method(h), MZ_STR("OPTIONS")));
}

static bool request_ok(struct h2_stream *s, bool end)
{
    struct h2_head *hd = &s->head;
    bool host = hd->authority || hd->has_host;
    if (!hd->method || !host)
        return false;
    if (hd->is_connect && !hd->protocol)
        return !hd->scheme && !hd->path && hd->authority && !hd->has_length;
    if (!hd->scheme || !hd->path || !path_ok(s->headers) || (hd->protocol && !hd->is_connect))
        return false;
    return !end || !hd->has_length || hd->length == 0;
}

/* The shape that an HTTP/1 upgrade has: one code path serves both (RFC 8441). */
static void upgrade_from_connect(struct h2_stream *s)
{
    struct mz_headers *h = s->headers;
    struct mz_str to = mz_headers_value_id(h, MZ_H_PROTOCOL);
    s->upgrade = true;
    mz_headers_remove_id(h, MZ_H_PROTOCOL);
    mz_headers_set_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_UPGRADE, to);
    mz_headers_add_id(h, MZ_H_CONNECTION, MZ_STR("upgrade"));
}

static bool response_ok(struct h2_stream *s, bool end)
{
    struct h2_head *hd = &s->head;
    if (!hd->status)
        return false;
    s->status = (uint16_t)mz_headers_status(s->headers);
    if (s->status == 101 || (s->status < 200 && (end || hd->has_length)))
        return false;
    if (s->status == 204 && hd->has_length && hd->length)
        return false;
    bool bodiless = s->is_head || s->status == 304;
    return !end || bodiless || !hd->has_length || hd->length == 0;
}

/* The answer to an upgrade that went out as extended CONNECT. */
static void upgrade_to_101(struct h2_stream *s)
{
    struct mz_headers *h = s->headers;
    mz_headers_set_id(h, MZ_H_STATUS, MZ_STR("101"));
    mz_headers_set_id(h, MZ_H_UPGRADE, s->upgrade_type);
    mz_headers_set_id(h, MZ_H_CONNECTION, MZ_STR("upgrade"));
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
}

bool h2_head_finish(struct h2 *c, struct h2_stream *s, bool end)
{
    struct h2_head *hd = &s->head;
    if (hd->n_cookies && !h2_is_client(c))
        join_cookies(s);
    mz_headers_join_repeated(s->headers);
    if (h2_is_client(c) ? !response_ok(s, end) : !request_ok(s, end))
        return false;
    bool bodiless = h2_is_client(c) && (s->is_head || s->status == 304);
    s->length = hd->has_length && !bodiless ? hd->length : UINT64_MAX;
    if (h2_is_client(c)) {
        s->tunnel = (s->connect || s->upgrade) && s->status / 100 == 2;
        if (s->upgrade && s->status == 200)
            upgrade_to_101(s);
        if (s->tunnel)
            s->length = UINT64_MAX;
    } else if (hd->protocol) {
        upgrade_from_connect(s);
    } else if (hd->is_connect) {
        s->connect = true;
    } else {
        s->is_head = mz_str_eq(mz_headers_method(s->headers), MZ_STR("HEAD"));
    }
    return true;
}

bool h2_length_ok(const struct h2_stream *s, bool end)
{
    if (s->length == UINT64_MAX)
        return true;
    return end ? s->body_in == s->length : s->body_in <= s->length;
}
