#include "filters/lua/lua_priv.h"

#include "proto/data_source.h"
#include "proto/mapper.h"

#define CODE_MAX_BYTES (4u << 20)

static const struct mz_stat_def stat_defs[] = {
    [LUA_ERRORS] = { "errors", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [LUA_EXECUTIONS] = { "executions", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "lua", stat_defs, MZ_COUNT(stat_defs) };

static struct lua_script *script_of(const pb_DataSource *m, const struct mz_factory *f,
                                    struct mz_err *err)
{
    struct mz_str code;
    if (!mz_data_source_read(m, CODE_MAX_BYTES, f->proto->arena, &code, err))
        return NULL;
    return lua_script_create(code, f, err);
}

static struct mz_scope *scope_of(const pb_Lua *m, const struct mz_factory *f, struct mz_arena *a)
{
    size_t n = strlen(m->stat_prefix);
    bool dot = n && m->stat_prefix[n - 1] != '.';
    return mz_scope_create(
        f->stats, &stat_kind,
        mz_arena_cat(a, 5,
                     (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".lua."),
                                        mz_str_c(m->stat_prefix),
                                        dot ? MZ_STR(".") : MZ_STR("") }));
}

static bool default_build(const pb_Lua *m, const struct mz_factory *f, struct lua_cfg *c,
                          struct mz_err *err)
{
    if (m->default_source_code && m->inline_code[0])
        return mz_err_set(err, "Error: Only one of `inline_code` or `default_source_code` can be "
                               "set for the Lua filter.");
    if (m->default_source_code) {
        c->script = script_of(m->default_source_code, f, err);
        return c->script || mz_err_at(err, "default_source_code");
    }
    if (!m->inline_code[0])
        return true;
    c->script = lua_script_create(mz_str_c(m->inline_code), f, err);
    return c->script || mz_err_at(err, "inline_code");
}

void *lua_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_Lua *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct lua_cfg *c = mz_arena_new0(a, struct lua_cfg);
    c->arena = a;
    c->scope = scope_of(m, f, a);
    c->clear_route_cache = mz_bool_or(m->clear_route_cache, true);
    c->named = mz_arena_alloc0(a, mz_mul(m->n_source_codes, sizeof(*c->named)));
    if (!default_build(m, f, c, err))
        goto fail;
    for (; c->n_named < m->n_source_codes; c->n_named++) {
        const pb_Lua_SourceCodesEntry *e = m->source_codes[c->n_named];
        struct lua_named *n = &c->named[c->n_named];
        n->name = mz_arena_dup(a, mz_str_c(e->key));
        n->script = e->value ? script_of(e->value, f, err) : NULL;
        if (e->value && !n->script) {
            mz_err_at(err, "source_codes[%s]", e->key);
            goto fail;
        }
    }
    return c;
fail:
    lua_config_destroy(c);
    return NULL;
}

void lua_config_destroy(void *cfg)
{
    struct lua_cfg *c = cfg;
    lua_script_destroy(c->script);
    for (size_t i = 0; i < c->n_named; i++)
        lua_script_destroy(c->named[i].script);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

void *lua_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_LuaPerRoute *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct lua_route_cfg *c = mz_arena_new0(a, struct lua_route_cfg);
    c->arena = a;
    if (m->override_case == pb_LuaPerRoute_OVERRIDE_DISABLED)
        c->disabled = m->disabled;
    if (m->override_case == pb_LuaPerRoute_OVERRIDE_NAME)
        c->name = mz_arena_dup(a, mz_str_c(m->name));
    if (m->filter_context)
        c->context = mz_value_build(m->filter_context, a);
    if (m->override_case != pb_LuaPerRoute_OVERRIDE_SOURCE_CODE)
        return c;
    c->script = script_of(m->source_code, f, err);
    if (c->script)
        return c;
    mz_err_at(err, "source_code");
    lua_route_config_destroy(c);
    return NULL;
}

void lua_route_config_destroy(void *cfg)
{
    struct lua_route_cfg *c = cfg;
    lua_script_destroy(c->script);
    mz_arena_destroy(c->arena);
}
