#include "filters/lua/lua_priv.h"

#include "filters/http/side_call.h"
#include "http/status.h"
#include "http/validate.h"

/* Headers, trailers and bodies. An object's p is the map, which 1 for trailers; or the buffer. */

enum { OF_HEADERS, OF_TRAILERS };

static const struct mz_headers *map(lua_State *L, int at)
{
    return lua_object(L, at, LUA_HEADERS)->p;
}

/* Names are looked up in lower case; "host" is the authority (Envoy). Of Lua's memory or the stream's. */
static struct mz_str name_arg(lua_State *L, int at)
{
    struct mz_str s = lua_arg_str(L, at);
    bool lower = true;
    for (size_t i = 0; i < s.n && lower; i++)
        lower = s.p[i] == mz_lower(s.p[i]);
    if (!lower) {
        char *p = lua_take(L, s.n + 1);
        for (size_t i = 0; i < s.n; i++)
            p[i] = mz_lower(s.p[i]);
        s.p = p;
    }
    return mz_str_eq(s, MZ_STR("host")) ? MZ_STR(":authority") : s;
}

/* ---- reading ---- */

static int headers_get(lua_State *L)
{
    const struct mz_headers *h = map(L, 1);
    struct mz_str name = name_arg(L, 2), value;
    const struct mz_header *e = mz_headers_get(h, name);
    if (!e)
        return 0;
    if (mz_headers_next(h, e)) {
        (void)lua_take(L, mz_headers_bytes(h)); /* the joined text lies in the stream's memory */
        (void)mz_headers_joined(h, name, &value);
    } else {
        value = e->value;
    }
    lua_push_str(L, value);
    return 1;
}

static int headers_get_at_index(lua_State *L)
{
    const struct mz_headers *h = map(L, 1);
    const struct mz_header *e = mz_headers_get(h, name_arg(L, 2));
    lua_Integer at = luaL_checkinteger(L, 3);
    if (at < 0)
        return 0;
    for (; e && at > 0; at--)
        e = mz_headers_next(h, e);
    if (!e)
        return 0;
    lua_push_str(L, e->value);
    return 1;
}

static int headers_get_num_values(lua_State *L)
{
    const struct mz_headers *h = map(L, 1);
    lua_Number n = 0;
    for (const struct mz_header *e = mz_headers_get(h, name_arg(L, 2)); e;
         e = mz_headers_next(h, e))
        n++;
    lua_pushnumber(L, n);
    return 1;
}

static int headers_next(lua_State *L)
{
    const struct lua_object *o = lua_object(L, lua_upvalueindex(1), LUA_HEADERS);
    const struct mz_headers *h = o->p;
    size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(2));
    while (i < h->n && h->v[i].gone)
        i++;
    lua_pushinteger(L, (lua_Integer)i + 1);
    lua_replace(L, lua_upvalueindex(2));
    if (i >= h->n) {
        lua_run_here(L)->iterates[o->which] = false;
        return 0;
    }
    lua_push_str(L, h->v[i].name);
    lua_push_str(L, h->v[i].value);
    return 2;
}

static int headers_pairs(lua_State *L)
{
    unsigned which = lua_object(L, 1, LUA_HEADERS)->which;
    struct lua_run *r = lua_run_here(L);
    if (r->iterates[which])
        return lua_no_second_iterator(L);
    r->iterates[which] = true;
    lua_settop(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, headers_next, 2);
    return 1;
}

/* ---- changing ---- */

static struct mz_headers *changeable(lua_State *L)
{
    struct lua_object *o = lua_object(L, 1, LUA_HEADERS);
    struct lua_run *r = lua_run_here(L);
    const struct lua_cfg *c = r->f->cfg;
    if (r->iterates[o->which])
        luaL_error(L, "header map cannot be modified while iterating");
    if (o->which == OF_TRAILERS)
        return o->p;
    if (r->continued)
        luaL_error(L, "header map can no longer be modified");
    if (!r->response && c->clear_route_cache)
        mz_stream_clear_route_cache(r->f->stream);
    return o->p;
}

/* May a message carry it? What frames messages is not the script's, but for a length, which it must tell when it changes a body. */
enum fit { FIT_TAKE, FIT_PASS };
static enum fit fit_check(lua_State *L, struct mz_str name, struct mz_str value, bool answer,
                          bool trailers)
{
    bool length = mz_str_eq(name, MZ_STR("content-length"));
    uint64_t n;
    if (answer && !trailers && mz_str_eq(name, MZ_STR(":status"))) {
        if (!mz_str_u64(value, &n) || n < 200 || n > 599)
            luaL_error(L, ":status must be between 200-599");
        return FIT_TAKE;
    }
    if (foreign_header_frames(name) && !(length && !trailers && mz_str_u64(value, &n)))
        return FIT_PASS;
    bool pseudo = name.n && name.p[0] == ':';
    bool fits = answer || trailers
                    ? !pseudo && mz_header_name_valid(name) && mz_header_value_valid(value)
                    : foreign_header_fits_request(name, value);
    if (!fits)
        luaL_error(L, "no header of a message: %s", name.p);
    return FIT_TAKE;
}

static int change(lua_State *L, void (*by)(struct mz_headers *, struct mz_str, struct mz_str))
{
    struct mz_headers *h = changeable(L);
    unsigned which = lua_object(L, 1, LUA_HEADERS)->which;
    const struct lua_run *r = lua_run_here(L);
    struct mz_str name = lua_take_str(L, name_arg(L, 2)), value = lua_arg_str(L, 3);
    if (fit_check(L, name, value, r->response, which == OF_TRAILERS) == FIT_PASS)
        return 0;
    value = lua_take_str(L, value);
    if (name.p[0] == ':' || mz_str_eq(name, MZ_STR("content-length"))) /* there is one of each */
        by = mz_headers_set;
    by(h, name, value);
    return 0;
}

static int headers_add(lua_State *L)
{
    return change(L, mz_headers_add);
}

static int headers_replace(lua_State *L)
{
    return change(L, mz_headers_set);
}

static int headers_remove(lua_State *L)
{
    struct mz_headers *h = changeable(L);
    struct mz_str name = name_arg(L, 2);
    if (name.n && name.p[0] == ':' && mz_headers_get(h, name))
        return luaL_error(L, "a message cannot do without %s", name.p);
    (void)mz_headers_remove(h, name);
    return 0;
}

static int headers_set_reason(lua_State *L)
{
    struct mz_headers *h = changeable(L);
    struct mz_str text = lua_arg_str(L, 2);
    if (!mz_header_value_valid(text))
        return luaL_error(L, "no reason phrase: it has control bytes");
    if (lua_run_here(L)->response && h == lua_run_here(L)->headers)
        h->reason = lua_take_str(L, text);
    return 0;
}

const struct lua_method lua_headers_methods[] = {
    { "add", headers_add },
    { "get", headers_get },
    { "getAtIndex", headers_get_at_index },
    { "getNumValues", headers_get_num_values },
    { "remove", headers_remove },
    { "replace", headers_replace },
    { "setHttp1ReasonPhrase", headers_set_reason },
    { "__pairs", headers_pairs },
    { NULL, NULL },
};

/* ---- tables ---- */

/* The value is at the top. */
static void take_entry(lua_State *L, struct mz_headers *h, struct mz_str name, bool answer)
{
    struct mz_str value = lua_arg_str(L, -1);
    if (fit_check(L, name, value, answer, false) == FIT_PASS ||
        mz_str_eq(name, MZ_STR("content-length"))) /* told by the body beside it */
        return;
    value = lua_take_str(L, value);
    if (name.n && name.p[0] == ':')
        mz_headers_set(h, name, value);
    else
        mz_headers_add(h, name, value);
}

void lua_take_headers(lua_State *L, int at, struct mz_headers *h, bool answer)
{
    lua_pushnil(L);
    while (lua_next(L, at)) {
        if (lua_type(L, -2) != LUA_TSTRING) /* converting a key would confuse lua_next() */
            luaL_error(L, "header key must be a string");
        struct mz_str name = lua_take_str(L, name_arg(L, -2));
        if (lua_istable(L, -1)) {
            lua_pushnil(L);
            while (lua_next(L, -2)) {
                take_entry(L, h, name, answer);
                lua_pop(L, 1);
            }
        } else {
            take_entry(L, h, name, answer);
        }
        lua_pop(L, 1);
    }
}

/* ---- bodies ---- */

static int buffer_length(lua_State *L)
{
    const struct mz_buf *b = lua_object(L, 1, LUA_BUFFER)->p;
    lua_pushnumber(L, (lua_Number)mz_buf_len(b));
    return 1;
}

static int buffer_get_bytes(lua_State *L)
{
    struct mz_buf *b = lua_object(L, 1, LUA_BUFFER)->p;
    lua_Integer from = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3);
    if (from < 0 || n < 0 || (uint64_t)from + (uint64_t)n > mz_buf_len(b))
        return luaL_error(L,
                          "index/length must be >= 0 and (index + length) must be <= buffer size");
    if (n == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    struct mz_str all = mz_buf_linearize(b, (size_t)(from + n));
    lua_pushlstring(L, all.p + from, (size_t)n);
    return 1;
}

static int buffer_set_bytes(lua_State *L)
{
    struct mz_buf *b = lua_object(L, 1, LUA_BUFFER)->p;
    struct lua_run *r = lua_run_here(L);
    struct mz_str bytes = lua_arg_str(L, 2);
    char *text = lua_take(L, 20);
    mz_buf_drain(b, mz_buf_len(b));
    mz_buf_append_str(b, bytes);
    if (!r->continued) /* later it would not be told */
        mz_headers_set_id(r->headers, MZ_H_CONTENT_LENGTH,
                          (struct mz_str){ text, mz_u64_text(bytes.n, text) });
    lua_pushnumber(L, (lua_Number)bytes.n);
    return 1;
}

const struct lua_method lua_buffer_methods[] = {
    { "length", buffer_length },
    { "getBytes", buffer_get_bytes },
    { "setBytes", buffer_set_bytes },
    { NULL, NULL },
};
