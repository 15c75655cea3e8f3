#include "filters/lua/lua_priv.h"

#include "base/log.h"

#include <fcntl.h>
#include <lualib.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * What scripts get of Lua's libraries: all that neither blocks, nor ends the process, nor reaches its memory. So no io, debug, ffi
 * and jit, of os only clocks and the environment, no C modules, no bytecode (which the machine trusts), no finalizers of their
 * own (no limit holds in them). Files with more Lua may be read: dofile(), loadfile(), require().
 */

#define FILE_MAX_BYTES (4u << 20)

/* Regular files only: opening and reading them does not wait. Leaves the function or a message. */
static int file_load(lua_State *L, const char *path)
{
    struct stat st;
    const char *name = lua_pushfstring(L, "@%s", path); /* first: it may raise an error */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        lua_pushfstring(L, "cannot open %s", path);
        return LUA_ERRFILE;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
        (void)close(fd);
        lua_pushfstring(L, "cannot read %s: not a file of at most 4 MiB", path);
        return LUA_ERRFILE;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    char *p = mz_arena_alloc(a, (size_t)st.st_size + 1);
    ssize_t n = read(fd, p, (size_t)st.st_size);
    (void)close(fd);
    /* luaL_loadbufferx() raises nothing: it is protected itself, and its message is on the stack. */
    int rc = luaL_loadbufferx(L, p, n > 0 ? (size_t)n : 0, name, "t");
    mz_arena_destroy(a);
    return rc;
}

static int load_file(lua_State *L)
{
    if (file_load(L, luaL_checkstring(L, 1)) == 0)
        return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static int do_file(lua_State *L)
{
    if (file_load(L, luaL_checkstring(L, 1)) != 0)
        return lua_error(L);
    int below = lua_gettop(L) - 1;
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L) - below;
}

/* load() and loadstring(): upvalue 1 is LuaJIT's, which takes what to allow as its third argument. */
static int load_text(lua_State *L)
{
    int n = lua_gettop(L);
    if (n < 3) {
        lua_settop(L, 3);
        n = 3;
    }
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

/* The only searcher of require() besides package.preload: Lua files along package.path. */
static int search(lua_State *L)
{
    const char *name = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    struct mz_str path = { lua_tostring(L, -1), lua_objlen(L, -1) }, one;
    if (!path.p)
        return luaL_error(L, "package.path must be a string");
    while (mz_str_split(&path, ';', &one)) {
        lua_pushlstring(L, one.p, one.n);
        const char *file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
        if (access(file, R_OK) != 0) {
            lua_pop(L, 2);
            continue;
        }
        if (file_load(L, file) != 0)
            return lua_error(L);
        return 1;
    }
    lua_pushfstring(L, "\n\tno file for '%s' in package.path", name);
    return 1;
}

static int print(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addlstring(&b, "\t", 1);
        lua_getglobal(L, "tostring");
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "'tostring' must return a string to 'print'");
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    MZ_LOG(INFO, lua, "script print: %s", lua_tostring(L, -1));
    return 0;
}

/* Debian's LuaJIT knows no __pairs, which Envoy's does and its objects have. */
static int pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs")) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getglobal(L, "next");
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* A full collection may take long, and a loop of them for ever: how much is used is all that it tells. */
static int collect(lua_State *L)
{
    bool count = strcmp(luaL_optstring(L, 1, "collect"), "count") == 0;
    lua_pushnumber(L, count ? (lua_Number)lua_vm_of(L)->used / 1024 : 0);
    return 1;
}

/* As Lua 5.2 has them, and Envoy's build of LuaJIT. */
static int pack(lua_State *L)
{
    int n = lua_gettop(L);
    lua_createtable(L, n, 1);
    lua_insert(L, 1);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 1, i);
    lua_pushinteger(L, n);
    lua_setfield(L, 1, "n");
    return 1;
}

static void open_library(lua_State *L, const char *name, lua_CFunction open)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static void forget(lua_State *L, const char *table, const char *const *names)
{
    lua_getglobal(L, table);
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

static void wrap_load(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    lua_pushcclosure(L, load_text, 1);
    lua_setglobal(L, name);
}

static void searchers(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_createtable(L, 2, 0);
    lua_rawgeti(L, -2, 1); /* package.preload */
    lua_rawseti(L, -2, 1);
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_setfield(L, -3, "loaders");
    lua_pop(L, 2);
}

void lua_vm_open(lua_State *L)
{
    static const char *const os[] = { "execute", "exit",      "remove", "rename",
                                      "tmpname", "setlocale", NULL };
    static const char *const package[] = { "loadlib", "cpath", "searchpath", NULL };
    static const char *const string[] = { "dump", NULL };
    static const char *const global[] = { "newproxy", NULL };
    static const struct lua_method own[] = {
        { "print", print },        { "pairs", pairs },    { "collectgarbage", collect },
        { "loadfile", load_file }, { "dofile", do_file },
    };
    open_library(L, "", luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, LUA_BITLIBNAME, luaopen_bit);
    open_library(L, LUA_OSLIBNAME, luaopen_os);
    open_library(L, LUA_LOADLIBNAME, luaopen_package);
    forget(L, LUA_OSLIBNAME, os);
    searchers(L);
    forget(L, LUA_LOADLIBNAME, package);
    forget(L, LUA_STRLIBNAME, string);
    forget(L, "_G", global);
    wrap_load(L, "load");
    wrap_load(L, "loadstring");
    for (size_t i = 0; i < MZ_COUNT(own); i++) {
        lua_pushcfunction(L, own[i].call);
        lua_setglobal(L, own[i].name);
    }
    lua_getglobal(L, LUA_TABLIBNAME);
    lua_pushcfunction(L, pack);
    lua_setfield(L, -2, "pack");
    lua_getglobal(L, "unpack");
    lua_setfield(L, -2, "unpack");
    lua_settop(L, 1); /* load()'s argument */
}
