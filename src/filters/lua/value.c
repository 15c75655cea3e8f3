#include "filters/lua/lua_priv.h"

#include <math.h>
#include <stdlib.h>

/* Metadata between the two worlds, and the objects that show it: metadata(), filterContext(), dynamicMetadata(). */

#define DEPTH_MAX 32

/* ---- to Lua ---- */

static void push_at(lua_State *L, const struct mz_value *v, int depth)
{
    luaL_checkstack(L, 4, "metadata is too deep");
    if (depth > DEPTH_MAX) {
        lua_pushnil(L);
        return;
    }
    switch (v->kind) {
    case MZ_VALUE_BOOL:
        lua_pushboolean(L, v->b);
        return;
    case MZ_VALUE_NUMBER:
        lua_pushnumber(L, v->number);
        return;
    case MZ_VALUE_STRING:
        lua_push_str(L, v->str);
        return;
    case MZ_VALUE_LIST:
        lua_createtable(L, (int)v->list.n, 0);
        for (size_t i = 0; i < v->list.n; i++) {
            push_at(L, &v->list.v[i], depth + 1);
            lua_rawseti(L, -2, (int)i + 1);
        }
        return;
    case MZ_VALUE_STRUCT:
        lua_createtable(L, 0, (int)v->fields.n);
        for (size_t i = 0; i < v->fields.n; i++) {
            lua_push_str(L, v->fields.v[i].key);
            push_at(L, v->fields.v[i].value, depth + 1);
            lua_rawset(L, -3);
        }
        return;
    default:
        lua_pushnil(L);
        return;
    }
}

void lua_push_value(lua_State *L, const struct mz_value *v)
{
    push_at(L, v, 0);
}

/* ---- from Lua ---- */

static const struct mz_value *take_at(lua_State *L, int at, int depth);

/* How many entries the table at the top has, and whether they are a list's: its keys are 1, 2, ... as far as one can see. */
static size_t entries(lua_State *L, bool *out_list)
{
    double most = 0;
    size_t n = 0;
    bool list = true;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        double k = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        if (k < 1 || floor(k) != k)
            list = false;
        else if (k > most)
            most = k;
        lua_pop(L, 1);
        n++;
    }
    if (list && most > LUA_TAKEN_MAX)
        luaL_error(L, "list in dynamicMetadata is too long");
    *out_list = list && n;
    return *out_list ? (size_t)most : n;
}

static void take_list(lua_State *L, struct mz_value *out, size_t n, int depth)
{
    struct mz_value *v = lua_take(L, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        v[i] = *take_at(L, -1, depth);
        lua_pop(L, 1);
    }
    out->kind = MZ_VALUE_LIST;
    out->list.v = v;
    out->list.n = n;
}

static int by_key(const void *a, const void *b)
{
    return mz_str_cmp(((const struct mz_field *)a)->key, ((const struct mz_field *)b)->key);
}

static void take_struct(lua_State *L, struct mz_value *out, size_t n, int depth)
{
    struct mz_field *v = lua_take(L, n * sizeof(*v));
    size_t i = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "unexpected type %s in table key (only string keys are supported)",
                       luaL_typename(L, -2));
        struct mz_str key = { lua_tostring(L, -2), lua_objlen(L, -2) };
        v[i].key = lua_take_str(L, key);
        v[i].value = take_at(L, -1, depth);
        lua_pop(L, 1);
        i++;
    }
    qsort(v, i, sizeof(*v), by_key);
    out->kind = MZ_VALUE_STRUCT;
    out->fields.v = v;
    out->fields.n = out->fields.cap = i;
}

static const struct mz_value *take_at(lua_State *L, int at, int depth)
{
    struct mz_value *v = lua_take(L, sizeof(*v));
    *v = (struct mz_value){ .kind = MZ_VALUE_NULL };
    luaL_checkstack(L, 6, "dynamicMetadata is too deep");
    switch (lua_type(L, at)) {
    case LUA_TNIL:
        return v;
    case LUA_TBOOLEAN:
        v->kind = MZ_VALUE_BOOL;
        v->b = lua_toboolean(L, at);
        return v;
    case LUA_TNUMBER:
        v->kind = MZ_VALUE_NUMBER;
        v->number = lua_tonumber(L, at);
        return v;
    case LUA_TSTRING:
        v->kind = MZ_VALUE_STRING;
        v->str = lua_take_str(L, lua_arg_str(L, at));
        return v;
    case LUA_TTABLE:
        break;
    default:
        luaL_error(L, "unexpected type '%s' in dynamicMetadata", luaL_typename(L, at));
    }
    if (depth > DEPTH_MAX) /* a table may hold itself */
        luaL_error(L, "dynamicMetadata is too deep");
    bool list;
    lua_pushvalue(L, at);
    size_t n = entries(L, &list);
    if (list)
        take_list(L, v, n, depth + 1);
    else
        take_struct(L, v, n, depth + 1);
    lua_pop(L, 1);
    return v;
}

const struct mz_value *lua_take_value(lua_State *L, int at)
{
    return take_at(L, at, 0);
}

/* ---- metadata of the configuration: an object's p is a struct, or NULL where there is none ---- */

static const struct mz_value *field(const struct mz_value *s, struct mz_str key)
{
    for (size_t i = 0; s && i < s->fields.n; i++)
        if (mz_str_eq(s->fields.v[i].key, key))
            return s->fields.v[i].value;
    return NULL;
}

static int metadata_get(lua_State *L)
{
    const struct lua_object *o = lua_object(L, 1, LUA_METADATA);
    const struct mz_value *v = field(o->p, lua_arg_str(L, 2));
    if (!v)
        return 0;
    lua_push_value(L, v);
    return 1;
}

/* Upvalues of an iterator: the object, the next place. */
static lua_Integer next_place(lua_State *L)
{
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(2));
    return i;
}

static int metadata_next(lua_State *L)
{
    const struct mz_value *s = lua_object(L, lua_upvalueindex(1), LUA_METADATA)->p;
    size_t i = (size_t)next_place(L);
    if (!s || i >= s->fields.n)
        return 0;
    lua_push_str(L, s->fields.v[i].key);
    lua_push_value(L, s->fields.v[i].value);
    return 2;
}

static int iterate(lua_State *L, lua_CFunction next)
{
    lua_settop(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next, 2);
    return 1;
}

static int metadata_pairs(lua_State *L)
{
    (void)lua_object(L, 1, LUA_METADATA);
    return iterate(L, metadata_next);
}

const struct lua_method lua_metadata_methods[] = {
    { "get", metadata_get },
    { "__pairs", metadata_pairs },
    { NULL, NULL },
};

/* ---- dynamic metadata; which: of the connection, which scripts only read ---- */

static struct mz_meta *dynamic(lua_State *L, int at, bool *out_of_connection)
{
    const struct lua_object *o = lua_object(L, at, LUA_DYNAMIC_METADATA);
    const struct mz_stream_info *i = o->p;
    *out_of_connection = o->which != 0;
    return i ? i->dynamic_metadata : NULL;
}

static int dynamic_get(lua_State *L)
{
    bool of_connection;
    const struct mz_meta *m = dynamic(L, 1, &of_connection);
    const struct mz_value *v = m ? mz_meta_get(m, lua_arg_str(L, 2), NULL, 0) : NULL;
    if (!v)
        return 0;
    lua_push_value(L, v);
    return 1;
}

static int dynamic_set(lua_State *L)
{
    bool of_connection;
    (void)dynamic(L, 1, &of_connection);
    struct lua_run *r = lua_run_here(L);
    struct mz_stream_info *info = mz_stream_info(r->f->stream);
    if (of_connection)
        return luaL_error(L, "dynamic metadata of the connection cannot be modified");
    if (r->iterates_metadata)
        return luaL_error(L, "dynamic metadata map cannot be modified while iterating");
    struct mz_str ns = lua_take_str(L, lua_arg_str(L, 2)), key = lua_take_str(L, lua_arg_str(L, 3));
    lua_settop(L, 4);
    const struct mz_value *v = lua_take_value(L, 4);
    if (!info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    mz_meta_set(info->dynamic_metadata, ns, key, v);
    return 0;
}

static int dynamic_next(lua_State *L)
{
    bool of_connection;
    const struct mz_meta *m = dynamic(L, lua_upvalueindex(1), &of_connection);
    size_t i = (size_t)next_place(L);
    if (!m || i >= m->n) {
        lua_run_here(L)->iterates_metadata = false;
        return 0;
    }
    lua_push_str(L, m->v[i].key);
    lua_push_value(L, m->v[i].value);
    return 2;
}

static int dynamic_pairs(lua_State *L)
{
    bool of_connection;
    (void)dynamic(L, 1, &of_connection);
    struct lua_run *r = lua_run_here(L);
    if (r->iterates_metadata)
        return lua_no_second_iterator(L);
    r->iterates_metadata = true;
    return iterate(L, dynamic_next);
}

const struct lua_method lua_dynamic_metadata_methods[] = {
    { "get", dynamic_get },
    { "set", dynamic_set },
    { "__pairs", dynamic_pairs },
    { NULL, NULL },
};
