#include "filters/lua/lua_priv.h"

#include "listener/factory.h"
#include "router/async.h"

/* httpCall(): a request of the proxy's own. One that the script waits for ends with the stream; one that it does not wait for
 * lives on without anybody who would hear of its answer. */

#define ANSWER_MAX (32u << 20) /* Envoy's http.async_response_buffer_limit */
#define CALL_COST  4096        /* of the stream's memory budget: what a call takes of others */

struct options {
    bool asynchronous, duplicates, no_xff;
    uint64_t timeout_ms;
};

static void option(lua_State *L, struct mz_str name, struct options *o)
{
    if (mz_str_eq(name, MZ_STR("asynchronous"))) {
        o->asynchronous = lua_toboolean(L, -1);
    } else if (mz_str_eq(name, MZ_STR("timeout_ms"))) {
        lua_Integer ms = luaL_checkinteger(L, -1);
        if (ms < 0)
            luaL_error(L, "http call timeout must be >= 0");
        o->timeout_ms = (uint64_t)ms;
    } else if (mz_str_eq(name, MZ_STR("return_duplicate_headers"))) {
        o->duplicates = lua_toboolean(L, -1);
    } else if (mz_str_eq(name, MZ_STR("send_xff"))) {
        o->no_xff = !lua_toboolean(L, -1);
    } else if (!mz_str_eq(name, MZ_STR("trace_sampled"))) { /* its span: there is none of calls */
        luaL_error(L, "\"%s\" is not valid key for httpCall() options", name.p);
    }
}

static void options_take(lua_State *L, struct options *o)
{
    if (!lua_istable(L, 5)) {
        if (!lua_isnone(L, 6) && !lua_isboolean(L, 6))
            luaL_error(L, "http call asynchronous flag must be 'true', 'false', or empty");
        lua_Integer ms = luaL_checkinteger(L, 5);
        if (ms < 0)
            luaL_error(L, "http call timeout must be >= 0");
        o->timeout_ms = (uint64_t)ms;
        o->asynchronous = lua_toboolean(L, 6);
        return;
    }
    lua_pushnil(L);
    while (lua_next(L, 5)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "httpCall() options key must be a string");
        option(L, lua_arg_str(L, -2), o);
        lua_pop(L, 1);
    }
}

static void answered(void *arg, const struct mz_fetch_reply *reply)
{
    if (!arg) /* nobody waits */
        return;
    struct lua_run *r = arg;
    r->call = NULL;
    lua_run_answered(r, reply);
}

static struct mz_headers *headers_take(lua_State *L, struct mz_stream *s, const struct mz_str *body)
{
    struct mz_headers *h = lua_take(L, sizeof(*h));
    mz_headers_init(h, mz_stream_arena(s));
    lua_take_headers(L, 3, h, false);
    if (!mz_headers_get_id(h, MZ_H_PATH) || !mz_headers_get_id(h, MZ_H_METHOD) ||
        !mz_headers_get_id(h, MZ_H_AUTHORITY))
        luaL_error(L, "http call headers must include ':path', ':method', and ':authority'");
    if (!mz_headers_get_id(h, MZ_H_SCHEME))
        mz_headers_add_id(h, MZ_H_SCHEME, MZ_STR("http"));
    if (body) {
        char *text = lua_take(L, 20);
        mz_headers_set_id(h, MZ_H_CONTENT_LENGTH,
                          (struct mz_str){ text, mz_u64_text(body->n, text) });
    }
    return h;
}

int lua_http_call(lua_State *L)
{
    struct lua_run *r = lua_self_on_own(L);
    struct mz_stream *s = r->f->stream;
    struct options o = { 0 };
    struct mz_str cluster = lua_arg_str(L, 2), body = { 0 };
    luaL_checktype(L, 3, LUA_TTABLE);
    bool has_body = !lua_isnoneornil(L, 4);
    if (has_body)
        body = lua_arg_str(L, 4);
    options_take(L, &o);
    struct mz_upstream *u = mz_stream_worker(s)->upstream;
    if (!mz_upstream_find(u, cluster))
        return luaL_error(L, "http call cluster invalid. Must be configured");
    const struct mz_headers *h = headers_take(L, s, has_body ? &body : NULL);
    (void)lua_take(L, CALL_COST);
    cluster = lua_take_str(L, cluster);
    /* Nothing raises an error from here on. */
    const struct mz_async_opts opts = { .timeout_ms = o.timeout_ms, .no_xff = o.no_xff };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, body);
    struct mz_async *call = mz_fetch(u, cluster, h, has_body ? &b : NULL, ANSWER_MAX, &opts,
                                     answered, o.asynchronous ? NULL : r);
    mz_buf_fini(&b);
    if (o.asynchronous)
        return 0;
    r->call = call;
    r->duplicates = o.duplicates;
    r->wait = LUA_WAIT_CALL;
    return lua_yield(L, 0);
}

/* ---- the answer, in the turn that follows ---- */

static void push_list(lua_State *L, const struct mz_headers *h, const struct mz_header *e)
{
    lua_newtable(L);
    for (int i = 1; e; e = mz_headers_next(h, e), i++) {
        lua_push_str(L, e->value);
        lua_rawseti(L, -2, i);
    }
}

static void push_headers(lua_State *L, const struct mz_headers *h, bool duplicates)
{
    lua_newtable(L);
    mz_headers_foreach(e, h)
    {
        lua_push_str(L, e->name);
        if (duplicates && mz_headers_get(h, e->name) == e && mz_headers_next(h, e))
            push_list(L, h, e);
        else if (duplicates && mz_headers_get(h, e->name) != e)
            lua_pop(L, 1); /* it is in the first one's list */
        else
            lua_push_str(L, e->value);
        if (lua_gettop(L) > 1)
            lua_rawset(L, 1);
    }
}

/* No answer: what the proxy would tell a client of it. One that broke off, or too much of it: as Envoy's filter says. */
static int push_failure(lua_State *L, const struct mz_fetch_reply *a)
{
    const struct mz_async_failure *f = a->failure;
    bool told = f && !f->answered && !a->too_large && f->text.n;
    lua_createtable(L, 0, 3);
    lua_pushfstring(L, "%d", told ? (int)f->status : 503);
    lua_setfield(L, 1, ":status");
    if (!told) {
        lua_pushliteral(L, "upstream failure");
        return 2;
    }
    lua_pushfstring(L, "%d", (int)f->text.n);
    lua_setfield(L, 1, "content-length");
    lua_pushliteral(L, "text/plain");
    lua_setfield(L, 1, "content-type");
    lua_push_str(L, f->text);
    return 2;
}

int lua_push_answer(lua_State *L, struct lua_run *r)
{
    const struct mz_fetch_reply *a = r->answer;
    if (a->failure || a->too_large || !a->headers)
        return push_failure(L, a);
    push_headers(L, a->headers, r->duplicates);
    size_t n = a->body ? mz_buf_len(a->body) : 0;
    if (n)
        lua_push_str(L, mz_buf_linearize(a->body, n));
    else
        lua_pushnil(L);
    return 2;
}
