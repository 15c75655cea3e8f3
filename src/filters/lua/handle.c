#include "filters/lua/lua_priv.h"

#include "base/clock.h"
#include "base/log.h"

/* The handle that envoy_on_request() and envoy_on_response() get. What waits sets the run's state and yields; filter.c goes on. */

/* ---- the message ---- */

static int handle_headers(lua_State *L)
{
    return lua_push_object(L, LUA_HEADERS, lua_self(L)->headers, 0);
}

static int wait(lua_State *L, struct lua_run *r, enum lua_wait for_what)
{
    r->wait = for_what;
    return lua_yield(L, 0);
}

static struct mz_buf *kept(const struct lua_run *r)
{
    return r->response ? mz_filter_response_buffer(r->f) : mz_filter_request_buffer(r->f);
}

static void add_empty(const struct lua_run *r)
{
    struct mz_buf none;
    mz_buf_init(&none);
    if (r->response)
        mz_filter_add_response_data(r->f, &none, true);
    else
        mz_filter_add_request_data(r->f, &none, true);
}

int lua_push_body(lua_State *L, struct lua_run *r)
{
    return kept(r) ? lua_push_object(L, LUA_BUFFER, kept(r), 0) : 0;
}

static int handle_body(lua_State *L)
{
    bool always = false;
    struct lua_run *r = lua_self_on_own(L);
    if (lua_gettop(L) >= 2) {
        luaL_checktype(L, 2, LUA_TBOOLEAN);
        always = lua_toboolean(L, 2);
    }
    if (r->end && !r->buffered && r->saw_body)
        return luaL_error(L, "cannot call body() after body has been streamed");
    if (r->end) {
        if (!kept(r) && always && !r->continued)
            add_empty(r);
        return lua_push_body(L, r);
    }
    if (r->saw_body)
        return luaL_error(L, "cannot call body() after body streaming has started");
    r->buffered = true;
    return wait(L, r, LUA_WAIT_BODY);
}

/* Upvalue 1: the handle. */
static int next_chunk(lua_State *L)
{
    (void)lua_object(L, lua_upvalueindex(1), LUA_HANDLE);
    struct lua_run *r = lua_run_here(L);
    if (L != r->co)
        return luaL_error(L, "a coroutine of the script's own cannot wait for the proxy");
    return r->end ? 0 : wait(L, r, LUA_WAIT_CHUNK);
}

static int handle_body_chunks(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    if (r->saw_body)
        return luaL_error(L, "cannot call bodyChunks after body processing has begun");
    lua_settop(L, 1);
    lua_pushcclosure(L, next_chunk, 1);
    return 1;
}

static int handle_trailers(lua_State *L)
{
    struct lua_run *r = lua_self_on_own(L);
    if (r->trailers)
        return lua_push_object(L, LUA_HEADERS, r->trailers, 1);
    return r->end ? 0 : wait(L, r, LUA_WAIT_TRAILERS);
}

/* ---- answering ---- */

static int handle_respond(lua_State *L)
{
    struct lua_run *r = lua_self_on_own(L);
    if (r->response)
        return luaL_error(L, "respond not currently supported in the response path");
    if (r->continued)
        return luaL_error(L, "respond() cannot be called if headers have been continued");
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    struct mz_headers *h = lua_take(L, sizeof(*h));
    mz_headers_init(h, mz_stream_arena(r->f->stream));
    lua_take_headers(L, 2, h, true);
    struct lua_reply reply = { .status = mz_headers_status(h), .headers = h };
    if (reply.status < 200 || reply.status > 599)
        return luaL_error(L, ":status must be between 200-599");
    if (!lua_isnil(L, 3))
        reply.body = lua_take_str(L, lua_arg_str(L, 3));
    mz_headers_remove_id(h, MZ_H_STATUS);
    r->reply = reply;
    return wait(L, r, LUA_RESPONDED);
}

/* ---- what is known ---- */

static const struct mz_value *space(const struct mz_meta *m, struct mz_str name)
{
    return m ? mz_meta_get(m, name, NULL, 0) : NULL;
}

static int handle_metadata(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    const struct mz_stream_info *i = mz_stream_info(r->f->stream);
    (void)mz_stream_route(r->f->stream);
    const struct mz_value *v = space(i->route_metadata, r->f->name);
    if (!v)
        v = space(i->route_metadata, MZ_STR("envoy.filters.http.lua"));
    return lua_push_object(L, LUA_METADATA, v, 0);
}

static int handle_route(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    (void)mz_stream_route(r->f->stream);
    return lua_push_object(L, LUA_PLACE,
                           space(mz_stream_info(r->f->stream)->route_metadata, r->f->name), 0);
}

static int handle_virtual_host(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    (void)mz_stream_route(r->f->stream);
    return lua_push_object(L, LUA_PLACE,
                           space(mz_stream_info(r->f->stream)->vhost_metadata, r->f->name), 0);
}

static int handle_filter_context(lua_State *L)
{
    const struct lua_route_cfg *c = lua_self(L)->f->route_cfg;
    return lua_push_object(L, LUA_METADATA, c ? c->context : NULL, 0);
}

static int handle_stream_info(lua_State *L)
{
    (void)lua_self(L);
    return lua_push_object(L, LUA_STREAM_INFO, NULL, 0);
}

static int handle_cx_stream_info(lua_State *L)
{
    (void)lua_self(L);
    return lua_push_object(L, LUA_CX_STREAM_INFO, NULL, 0);
}

static int handle_connection(lua_State *L)
{
    (void)lua_self(L);
    return lua_push_object(L, LUA_CONNECTION, NULL, 0);
}

/* ---- where the request goes ---- */

static int handle_clear_route_cache(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    if (!r->response)
        mz_stream_clear_route_cache(r->f->stream);
    return 0;
}

static int handle_set_override_host(lua_State *L)
{
    const struct lua_run *r = lua_self(L);
    struct mz_str host = lua_arg_str(L, 2);
    struct mz_addr a;
    bool strict = false;
    if (!mz_addr_parse(host, &a) && !mz_addr_parse_ip(host, 0, &a))
        return luaL_error(L, "host is not a valid IP address");
    if (lua_gettop(L) >= 3) {
        luaL_checktype(L, 3, LUA_TBOOLEAN);
        strict = lua_toboolean(L, 3);
    }
    if (!r->response)
        mz_stream_wish_host(r->f->stream, lua_take_str(L, host), strict);
    return 0;
}

/* ---- time, log ---- */

static bool resolution(lua_State *L, uint64_t *out)
{
    struct mz_str s = lua_isnoneornil(L, 2) ? MZ_STR("") : lua_arg_str(L, 2);
    *out = 0;
    return !s.n || mz_str_u64(s, out);
}

static int handle_timestamp(lua_State *L)
{
    uint64_t unit;
    (void)lua_self(L);
    if (!resolution(L, &unit) || unit != 0)
        return luaL_error(L, "timestamp format must be MILLISECOND.");
    unit = mz_clock->wall_us() / 1000;
    lua_pushnumber(L, (lua_Number)unit);
    return 1;
}

static int handle_timestamp_string(lua_State *L)
{
    uint64_t unit;
    char text[20];
    (void)lua_self(L);
    if (!resolution(L, &unit) || unit > 1)
        return luaL_error(L, "timestamp format must be MILLISECOND or MICROSECOND.");
    uint64_t now = mz_clock->wall_us();
    lua_pushlstring(L, text, mz_u64_text(unit ? now : now / 1000, text));
    return 1;
}

static int log_at(lua_State *L, enum mz_log_level level)
{
    const struct lua_run *r = lua_self(L);
    const char *text = luaL_checkstring(L, 2);
    const struct mz_stream_info *i = mz_stream_info(r->f->stream);
    if (mz_log_on(MZ_LOG_C_lua, level))
        mz_log_write(MZ_LOG_C_lua, level, i->conn_id, i->stream_id, __FILE__, __LINE__,
                     "script log: %s", text);
    return 0;
}

static int handle_log_trace(lua_State *L)
{
    return log_at(L, MZ_LOG_TRACE);
}
static int handle_log_debug(lua_State *L)
{
    return log_at(L, MZ_LOG_DEBUG);
}
static int handle_log_info(lua_State *L)
{
    return log_at(L, MZ_LOG_INFO);
}
static int handle_log_warn(lua_State *L)
{
    return log_at(L, MZ_LOG_WARN);
}
static int handle_log_err(lua_State *L)
{
    return log_at(L, MZ_LOG_ERROR);
}
static int handle_log_critical(lua_State *L)
{
    return log_at(L, MZ_LOG_CRITICAL);
}

const struct lua_method lua_handle_methods[] = {
    { "headers", handle_headers },
    { "body", handle_body },
    { "bodyChunks", handle_body_chunks },
    { "trailers", handle_trailers },
    { "metadata", handle_metadata },
    { "logTrace", handle_log_trace },
    { "logDebug", handle_log_debug },
    { "logInfo", handle_log_info },
    { "logWarn", handle_log_warn },
    { "logErr", handle_log_err },
    { "logCritical", handle_log_critical },
    { "httpCall", lua_http_call },
    { "respond", handle_respond },
    { "streamInfo", handle_stream_info },
    { "connectionStreamInfo", handle_cx_stream_info },
    { "connection", handle_connection },
    { "virtualHost", handle_virtual_host },
    { "route", handle_route },
    { "importPublicKey", lua_import_public_key },
    { "verifySignature", lua_verify_signature },
    { "base64Escape", lua_base64_escape },
    { "base64Decode", lua_base64_decode },
    { "timestamp", handle_timestamp },
    { "timestampString", handle_timestamp_string },
    { "setUpstreamOverrideHost", handle_set_override_host },
    { "clearRouteCache", handle_clear_route_cache },
    { "filterContext", handle_filter_context },
    { NULL, NULL },
};
