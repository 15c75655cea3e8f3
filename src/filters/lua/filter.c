#include "filters/lua/lua_priv.h"

#include "base/log.h"
#include "filters/http/http_filters.h"
#include "router/async.h"

/*
 * The filter: gives a script its turns as a message comes. Requests and answers alike, each a run of its own. A script that fails
 * is counted, and the message goes on as it is (Envoy). One that reached a limit has decided nothing, and the message does
 * not go on: 500, or a reset where its head has left.
 */

struct state {
    struct mz_filter base;
    struct lua_run request, response;
};

static struct state *from_filter(struct mz_filter *f)
{
    return (struct state *)(void *)f;
}

static const struct lua_script *script_of(struct mz_filter *f)
{
    const struct lua_cfg *c = f->cfg;
    (void)mz_stream_route(f->stream); /* keeps route_cfg current */
    const struct lua_route_cfg *route = f->route_cfg;
    if (!route)
        return c->script;
    if (route->disabled)
        return NULL;
    for (size_t i = 0; route->name.n && i < c->n_named; i++)
        if (mz_str_eq(c->named[i].name, route->name))
            return c->named[i].script;
    return route->name.n ? NULL : route->script ? route->script : c->script;
}

/* ---- after a turn ---- */

static void run_end(struct lua_run *r)
{
    mz_async_cancel(r->call);
    r->call = NULL;
    r->active = false;
    r->wait = LUA_RUNNING;
    if (r->vm)
        lua_run_drop(r);
}

static void failed(struct lua_run *r)
{
    struct state *st = from_filter(r->f);
    const struct lua_cfg *c = r->f->cfg;
    const struct mz_stream_info *i = mz_stream_info(r->f->stream);
    mz_count(c->scope, LUA_ERRORS, 1);
    MZ_LOG_IDS(ERROR, lua, i->conn_id, i->stream_id, "script log: %s", r->vm->error);
    mz_stream_story(r->f->stream, MZ_STEP_RULE, r->f->name, MZ_STR("script failed"), 0, 0);
    run_end(&st->request); /* neither is trusted any more (Envoy) */
    run_end(&st->response);
}

static void reply_headers(struct mz_headers *h, void *arg)
{
    const struct lua_reply *reply = arg;
    mz_headers_foreach(e, reply->headers) mz_headers_add(h, e->name, e->value);
}

static void respond(struct lua_run *r)
{
    const struct mz_local_reply reply = { .status = r->reply.status,
                                          .body = r->reply.body,
                                          .details = "lua_response",
                                          .modify = reply_headers,
                                          .modify_arg = &r->reply };
    mz_stream_story(r->f->stream, MZ_STEP_RULE, r->f->name, MZ_STR("respond()"),
                    (int64_t)r->reply.status, 0);
    mz_stream_local_reply(r->f->stream, &reply);
}

static void give_up(struct lua_run *r)
{
    static const char details[] = "lua_limit_exceeded";
    struct mz_stream *s = r->f->stream;
    if (r->response || r->continued) {
        mz_stream_reset(s, details);
        return;
    }
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 500, .details = details });
}

/* False: the stream may be gone, the caller returns at once. */
static bool turn(struct lua_run *r, int (*push)(lua_State *L, struct lua_run *r))
{
    r->wait = LUA_RUNNING;
    enum lua_turn t = lua_vm_turn(r, push);
    if (t == LUA_TURN_FAILED || t == LUA_TURN_OVER)
        failed(r);
    if (t == LUA_TURN_OVER) {
        give_up(r);
        return false;
    }
    if (r->wait != LUA_RESPONDED)
        return true;
    respond(r);
    return false;
}

/* ---- the message comes ---- */

static int push_handle(lua_State *L, struct lua_run *r)
{
    (void)r;
    return lua_push_object(L, LUA_HANDLE, NULL, 0);
}

static int push_nothing(lua_State *L, struct lua_run *r)
{
    (void)L, (void)r;
    return 0;
}

static int push_chunk(lua_State *L, struct lua_run *r)
{
    return lua_push_object(L, LUA_BUFFER, r->chunk, 0);
}

static int push_trailers(lua_State *L, struct lua_run *r)
{
    return lua_push_object(L, LUA_HEADERS, r->trailers, 1);
}

static enum mz_flow on_headers(struct lua_run *r, struct mz_filter *f, bool response,
                               struct mz_headers *h, bool end)
{
    const struct lua_cfg *c = f->cfg;
    const struct lua_script *script = script_of(f);
    struct lua_vm *vm = script ? lua_script_vm(script, mz_stream_worker(f->stream)->slot) : NULL;
    int function = !vm ? LUA_NOREF : response ? vm->on_response : vm->on_request;
    if (function == LUA_NOREF)
        return MZ_FLOW_CONTINUE;
    run_end(r); /* of an answer that this one replaces */
    *r = (struct lua_run){ .f = f,
                           .vm = vm,
                           .function = function,
                           .response = response,
                           .active = true,
                           .end = end,
                           .headers = h };
    mz_count(c->scope, LUA_EXECUTIONS, 1);
    if (!turn(r, push_handle))
        return MZ_FLOW_STOP;
    if (r->wait == LUA_WAIT_BODY || r->wait == LUA_WAIT_CALL)
        return MZ_FLOW_STOP;
    r->continued = true;
    return MZ_FLOW_CONTINUE;
}

static void keep(struct lua_run *r, struct mz_buf *data)
{
    if (r->response)
        mz_filter_add_response_data(r->f, data, true);
    else
        mz_filter_add_request_data(r->f, data, true);
}

static const struct mz_buf *kept(const struct lua_run *r)
{
    return r->response ? mz_filter_response_buffer(r->f) : mz_filter_request_buffer(r->f);
}

/* With @data a body would be more than may be kept: the manager says so when it is to keep it. */
static bool too_large(const struct lua_run *r, const struct mz_buf *data)
{
    uint32_t limit = mz_stream_buffer_limit(r->f->stream);
    const struct mz_buf *k = kept(r);
    return limit && (k ? mz_buf_len(k) : 0) + mz_buf_len(data) > limit;
}

static enum mz_flow on_data(struct lua_run *r, struct mz_buf *data, bool end)
{
    bool goes_on = true;
    if (!r->active)
        return MZ_FLOW_CONTINUE;
    r->end = end;
    r->saw_body = true;
    if (r->wait == LUA_WAIT_CHUNK) {
        r->chunk = data;
        goes_on = turn(r, push_chunk);
        r->chunk = NULL;
    } else if (r->wait == LUA_WAIT_BODY && end && !too_large(r, data)) {
        keep(r, data);
        goes_on = turn(r, lua_push_body);
    } else if (r->wait == LUA_WAIT_TRAILERS && end) {
        goes_on = turn(r, push_nothing);
    }
    if (!goes_on || r->wait == LUA_RESPONDED)
        return MZ_FLOW_STOP;
    if (r->wait == LUA_WAIT_CALL)
        return MZ_FLOW_STOP_AND_WATERMARK;
    if (r->wait == LUA_WAIT_BODY)
        return MZ_FLOW_STOP_AND_BUFFER;
    r->continued = true;
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_trailers(struct lua_run *r, struct mz_headers *trailers)
{
    bool goes_on = true;
    if (!r->active)
        return MZ_FLOW_CONTINUE;
    r->end = true;
    r->trailers = trailers;
    if (r->wait == LUA_WAIT_CHUNK)
        goes_on = turn(r, push_nothing);
    else if (r->wait == LUA_WAIT_BODY)
        goes_on = turn(r, lua_push_body);
    if (goes_on && r->wait == LUA_WAIT_TRAILERS)
        goes_on = turn(r, push_trailers);
    if (!goes_on || r->wait == LUA_WAIT_CALL || r->wait == LUA_RESPONDED)
        return MZ_FLOW_STOP;
    r->continued = true;
    return MZ_FLOW_CONTINUE;
}

void lua_run_answered(struct lua_run *r, const struct mz_fetch_reply *reply)
{
    r->answer = reply;
    bool goes_on = turn(r, lua_push_answer);
    if (!goes_on)
        return;
    r->answer = NULL;
    if (r->wait != LUA_RUNNING)
        return;
    r->continued = true;
    if (r->response)
        mz_filter_continue_response(r->f);
    else
        mz_filter_continue_request(r->f);
}

/* ---- the filter's callbacks ---- */

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    return on_headers(&from_filter(f)->request, f, false, h, end);
}
static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    return on_data(&from_filter(f)->request, data, end);
}
static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    return on_trailers(&from_filter(f)->request, h);
}
static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    return on_headers(&from_filter(f)->response, f, true, h, end);
}
static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    return on_data(&from_filter(f)->response, data, end);
}
static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    return on_trailers(&from_filter(f)->response, h);
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = from_filter(f);
    run_end(&st->request);
    run_end(&st->response);
}

const struct mz_http_filter_type mz_filter_lua = {
    .name = "envoy.filters.http.lua",
    .config_type = "envoy.extensions.filters.http.lua.v3.Lua",
    .route_config_type = "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
    .size = sizeof(struct state),
    .config_build = lua_config_build,
    .config_destroy = lua_config_destroy,
    .route_config_build = lua_route_config_build,
    .route_config_destroy = lua_route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_destroy = on_destroy,
};
