#include "filters/http/session_state.h"

#include "base/base64.h"
#include "proto/wire.h"

/* ---- building ---- */

static struct mz_str cookie_attributes(const pb_Cookie *m, struct mz_arena *a)
{
    struct mz_str *parts = mz_arena_alloc0(a, (4 * m->n_attributes + 3) * sizeof(*parts));
    size_t n = 0;
    if (m->path[0]) {
        parts[n++] = MZ_STR("; Path=");
        parts[n++] = mz_str_c(m->path);
    }
    for (size_t i = 0; i < m->n_attributes; i++) {
        struct mz_str value = mz_str_c(m->attributes[i]->value);
        parts[n++] = MZ_STR("; ");
        parts[n++] = mz_str_c(m->attributes[i]->name);
        parts[n++] = value.n ? MZ_STR("=") : MZ_STR("");
        parts[n++] = value;
    }
    parts[n++] = MZ_STR("; HttpOnly");
    return mz_arena_cat(a, n, parts);
}

static bool cookie_build(const pb_Cookie *m, struct mz_arena *a, struct session_state *out,
                         struct mz_err *err)
{
    uint64_t ttl_ms;
    out->kind = SESSION_COOKIE;
    out->name = mz_arena_dup(a, mz_str_c(m->name));
    out->path = mz_arena_dup(a, mz_str_c(m->path));
    out->attributes = cookie_attributes(m, a);
    if (!mz_duration_ms(m->ttl, 0, &ttl_ms, err))
        return mz_err_at(err, "cookie.ttl");
    out->ttl_s = ttl_ms / 1000;
    return true;
}

bool session_state_build(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *msg,
                         struct mz_arena *a, struct session_state *out, struct mz_err *err)
{
    if (type == &pb_CookieBasedSessionState__descriptor)
        return cookie_build(((const pb_CookieBasedSessionState *)msg)->cookie, a, out, err);
    if (type != &pb_HeaderBasedSessionState__descriptor)
        return mz_err_set(err,
                          "is a %s; expected envoy.extensions.http.stateful_session.cookie.v3."
                          "CookieBasedSessionState or ....header.v3.HeaderBasedSessionState",
                          type->name);
    out->kind = SESSION_HEADER;
    out->name = mz_arena_dup(a, mz_str_c(((const pb_HeaderBasedSessionState *)msg)->name));
    for (size_t i = 0; i < out->name.n; i++)
        ((char *)(uintptr_t)out->name.p)[i] = mz_lower(out->name.p[i]);
    return true;
}

/* ---- what the client says ---- */

bool session_applies(const struct session_state *s, struct mz_str path)
{
    if (s->kind != SESSION_COOKIE)
        return s->kind == SESSION_HEADER;
    if (!s->path.n || mz_str_eq(s->path, MZ_STR("/")))
        return true;
    if (!mz_str_starts(path, s->path))
        return false;
    char next = path.n > s->path.n ? path.p[s->path.n] : '/';
    return s->path.p[s->path.n - 1] == '/' || next == '/' || next == '?' || next == '#';
}

static struct mz_str cookie_value(const struct mz_headers *h, struct mz_str name)
{
    for (const struct mz_header *e = mz_headers_get_id(h, MZ_H_COOKIE); e;
         e = mz_headers_next(h, e)) {
        struct mz_str rest = e->value, part;
        while (mz_str_split(&rest, ';', &part)) {
            part = mz_str_trim(part);
            ptrdiff_t eq = mz_str_chr(part, '=');
            if (eq < 0 || !mz_str_eq((struct mz_str){ part.p, (size_t)eq }, name))
                continue;
            struct mz_str v = mz_str_skip(part, (size_t)eq + 1);
            return v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"'
                       ? (struct mz_str){ v.p + 1, v.n - 2 }
                       : v;
        }
    }
    return (struct mz_str){ 0 };
}

/* envoy.Cookie, the message in the cookie: string address = 1; int64 expires = 2. False: it is none. */
static bool message_read(struct mz_str s, struct mz_str *out_host, uint64_t *out_expires)
{
    *out_host = (struct mz_str){ 0 };
    *out_expires = 0;
    while (s.n) {
        uint64_t tag, v;
        if (!mz_wire_take_varint(&s, &tag) || !mz_wire_take_varint(&s, &v))
            return false;
        if (tag == (1 << 3 | 2) && v <= s.n) {
            *out_host = (struct mz_str){ s.p, (size_t)v };
            s = mz_str_skip(s, (size_t)v);
        } else if (tag == (2 << 3 | 0)) {
            *out_expires = v;
        } else {
            return false;
        }
    }
    return true;
}

struct mz_str session_host(const struct session_state *s, const struct mz_headers *h,
                           uint64_t now_s, struct mz_arena *a)
{
    struct mz_str bytes, host;
    uint64_t expires;
    if (s->kind == SESSION_HEADER) {
        const struct mz_header *e = mz_headers_get(h, s->name);
        return e && mz_base64_decode(e->value, a, &bytes) ? bytes : MZ_STR("");
    }
    struct mz_str value = cookie_value(h, s->name);
    if (!value.n || !mz_base64_decode(value, a, &bytes))
        return MZ_STR("");
    if (!message_read(bytes, &host, &expires))
        return bytes; /* as older proxies wrote it: the address alone */
    return expires && expires < now_s ? MZ_STR("") : host;
}

/* ---- what we tell it ---- */

static struct mz_str message_of(struct mz_str host, uint64_t expires, struct mz_arena *a)
{
    char *out = mz_arena_alloc(a, host.n + 24);
    size_t n = 0;
    out[n++] = 1 << 3 | 2;
    n += mz_wire_varint(host.n, out + n);
    memcpy(out + n, host.p, host.n);
    n += host.n;
    if (expires) {
        out[n++] = 2 << 3 | 0;
        n += mz_wire_varint(expires, out + n);
    }
    return (struct mz_str){ out, n };
}

void session_bind(const struct session_state *s, struct mz_headers *h, struct mz_str host,
                  uint64_t now_s, struct mz_arena *a)
{
    if (s->kind == SESSION_HEADER) {
        mz_headers_set(h, s->name, mz_base64_encode(host, a));
        return;
    }
    struct mz_str value = mz_base64_encode(message_of(host, s->ttl_s ? now_s + s->ttl_s : 0, a), a);
    struct mz_str age =
        s->ttl_s ? mz_arena_printf(a, "; Max-Age=%llu", (unsigned long long)s->ttl_s) : MZ_STR("");
    mz_headers_add_id(h, MZ_H_SET_COOKIE,
                      mz_arena_cat(a, 6,
                                   (struct mz_str[]){ s->name, MZ_STR("=\""), value, MZ_STR("\""),
                                                      age, s->attributes }));
}
