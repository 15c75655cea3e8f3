#include "filters/lua/lua_priv.h"

/* Objects in scripts' hands, and the ways in and out of Lua that they share. */

static const struct {
    const char *name;
    const struct lua_method *methods;
} kinds[LUA_KIND__COUNT] = {
    [LUA_HANDLE] = { "handle", lua_handle_methods },
    [LUA_HEADERS] = { "headers", lua_headers_methods },
    [LUA_BUFFER] = { "buffer", lua_buffer_methods },
    [LUA_METADATA] = { "metadata", lua_metadata_methods },
    [LUA_STREAM_INFO] = { "streamInfo", lua_stream_info_methods },
    [LUA_CX_STREAM_INFO] = { "connectionStreamInfo", lua_cx_stream_info_methods },
    [LUA_DYNAMIC_METADATA] = { "dynamicMetadata", lua_dynamic_metadata_methods },
    [LUA_CONNECTION] = { "connection", lua_connection_methods },
    [LUA_SSL] = { "ssl", lua_ssl_methods },
    [LUA_FILTER_STATE] = { "filterState", lua_filter_state_methods },
    [LUA_PUBLIC_KEY] = { "publicKey", lua_public_key_methods },
    [LUA_PLACE] = { "route", lua_place_methods },
};

/* Each kind's table of methods is its metatable, which scripts cannot get at: a finalizer in it would know no limit. */
void lua_objects_register(lua_State *L)
{
    for (size_t i = 0; i < MZ_COUNT(kinds); i++) {
        (void)luaL_newmetatable(L, kinds[i].name);
        for (const struct lua_method *m = kinds[i].methods; m->name; m++) {
            lua_pushcfunction(L, m->call);
            lua_setfield(L, -2, m->name);
        }
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, 0);
    lua_setfield(L, -2, "MILLISECOND");
    lua_pushinteger(L, 1);
    lua_setfield(L, -2, "MICROSECOND");
    lua_setglobal(L, "EnvoyTimestampResolution");
}

int lua_push_object(lua_State *L, enum lua_kind k, const void *p, unsigned which)
{
    const struct lua_vm *vm = lua_vm_of(L);
    struct lua_object *o = lua_newuserdata(L, sizeof(*o));
    *o = (struct lua_object){ k == LUA_HANDLE ? vm->live->id : vm->turn, (void *)(uintptr_t)p,
                              which };
    luaL_getmetatable(L, kinds[k].name);
    (void)lua_setmetatable(L, -2);
    return 1;
}

struct lua_object *lua_object(lua_State *L, int at, enum lua_kind k)
{
    const struct lua_vm *vm = lua_vm_of(L);
    struct lua_object *o = luaL_checkudata(L, at, kinds[k].name);
    uint64_t owner = !vm->live ? 0 : k == LUA_HANDLE ? vm->live->id : vm->turn;
    if (!owner || o->owner != owner)
        luaL_error(L, "object used outside of proper scope");
    return o;
}

struct lua_run *lua_run_here(lua_State *L)
{
    struct lua_vm *vm = lua_vm_of(L);
    if (!vm->live) /* while the script is loaded */
        luaL_error(L, "object used outside of proper scope");
    return vm->live;
}

struct lua_run *lua_self(lua_State *L)
{
    (void)lua_object(L, 1, LUA_HANDLE);
    return lua_vm_of(L)->live;
}

struct lua_run *lua_self_on_own(lua_State *L)
{
    struct lua_run *r = lua_self(L);
    if (L != r->co)
        luaL_error(L, "a coroutine of the script's own cannot wait for the proxy");
    return r;
}

/* ---- memory ---- */

void *lua_take(lua_State *L, size_t n)
{
    struct lua_run *r = lua_run_here(L);
    size_t whole = n + 64; /* what lists of it cost as well */
    if (n > LUA_TAKEN_MAX || r->taken + whole > LUA_TAKEN_MAX)
        luaL_error(L, "script hands over more than %d bytes", (int)LUA_TAKEN_MAX);
    r->taken += whole;
    return mz_arena_alloc(mz_stream_arena(r->f->stream), n);
}

struct mz_str lua_take_str(lua_State *L, struct mz_str s)
{
    char *p = lua_take(L, s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct mz_str){ p, s.n };
}

struct mz_str lua_arg_str(lua_State *L, int at)
{
    struct mz_str s;
    s.p = luaL_checklstring(L, at, &s.n);
    return s;
}

void lua_push_str(lua_State *L, struct mz_str s)
{
    lua_pushlstring(L, s.n ? s.p : "", s.n);
}

int lua_no_second_iterator(lua_State *L)
{
    luaL_where(L, 2); /* who called pairs() */
    lua_pushliteral(L, "cannot create a second iterator before completing the first");
    lua_concat(L, 2);
    return lua_error(L);
}
