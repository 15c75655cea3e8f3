#include "base/test.h"

#include "filters/lua/lua_priv.h"
#include "proto/mapper.h"

/* Loading scripts: what is refused, and that nothing of a machine is left. */

struct fix {
    struct mz_arena *a;
    struct mz_proto_ctx proto;
    struct mz_stats *stats;
    struct mz_factory factory;
};

static void fix_init(struct fix *f)
{
    f->a = mz_arena_create(MZ_MEM_MISC);
    f->proto = (struct mz_proto_ctx){ .arena = f->a };
    f->stats = mz_stats_create(3);
    f->factory = (struct mz_factory){ .stats = f->stats, .proto = &f->proto, .workers = 2 };
}

static void fix_fini(struct fix *f)
{
    mz_stats_destroy(f->stats);
    mz_arena_destroy(f->a);
}

static uint64_t machines(struct fix *f)
{
    uint64_t n = 0;
    (void)mz_stats_find(f->stats, MZ_STR("lua.lua_vm_count"), &n);
    return n;
}

static const struct {
    const char *code, *err; /* what it begins with; "": it loads */
    bool on_request, on_response;
} scripts[] = {
    { "", "", false, false },
    { "function envoy_on_request(h) end", "", true, false },
    { "function envoy_on_response(h) end", "", false, true },
    { "envoy_on_request = 1", "", false, false },
    { "function envoy_on_request(h",
      "script load error: [string \"function envoy_on_request(h\"]:1: ')' expected near '<eof>'",
      false, false },
    { "x = nil + 1", "script load error: [string \"x = nil + 1\"]:1: ", false, false },
    { "error({})", "script load error: unspecified lua error", false, false },
    { "\x1bLJ\x02", "script load error: ", false, false },
    { "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
      "script load error: not enough memory", false, false },
    { "('x'):rep(1e9)", "script load error: not enough memory", false, false },
};

static void test_load(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    for (size_t i = 0; i < MZ_COUNT(scripts); i++) {
        struct mz_err err = { 0 };
        struct lua_script *s = lua_script_create(mz_str_c(scripts[i].code), &f.factory, &err);
        if ((s == NULL) != (scripts[i].err[0] != '\0') ||
            !mz_str_starts(mz_str_c(err.msg), mz_str_c(scripts[i].err)))
            fail_msg("%s: %s", scripts[i].code, err.msg);
        assert_int_equal(machines(&f), s ? 3 : 0);
        for (unsigned k = 0; s && k < 3; k++) {
            const struct lua_vm *vm = lua_script_vm(s, k);
            assert_int_equal(vm->on_request != LUA_NOREF, scripts[i].on_request);
            assert_int_equal(vm->on_response != LUA_NOREF, scripts[i].on_response);
        }
        if (s)
            assert_null(lua_script_vm(s, 3));
        lua_script_destroy(s);
        assert_int_equal(machines(&f), 0);
    }
    fix_fini(&f);
}

/* Each machine has globals of its own. */
static void test_apart(void **state)
{
    (void)state;
    struct fix f;
    struct mz_err err;
    fix_init(&f);
    struct lua_script *s = lua_script_create(MZ_STR("x = 1"), &f.factory, &err);
    assert_non_null(s);
    lua_State *one = lua_script_vm(s, 1)->L, *two = lua_script_vm(s, 2)->L;
    lua_pushinteger(one, 7);
    lua_setglobal(one, "x");
    lua_getglobal(two, "x");
    assert_int_equal(lua_tointeger(two, -1), 1);
    lua_script_destroy(s);
    fix_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
