/* RESP in pieces, commands by name, routes by prefix (L5). */
#include "filters/redis/redis.h"

#include "base/test.h"
#include <string.h>

static const struct {
    const char *in, *out; /* out NULL: broken */
    bool commands;
} values[] = {
    { "+OK\r\n", "+OK\r\n", false },
    { "-ERR no\r\n", "-ERR no\r\n", false },
    { ":-9223372036854775808\r\n", ":-9223372036854775808\r\n", false },
    { ":9223372036854775808\r\n", NULL, false },
    { "$-1\r\n", "$-1\r\n", false },
    { "*-1\r\n", "$-1\r\n", false }, /* as Envoy writes it */
    { "*-2\r\n", NULL, false },
    { "*0\r\n$0\r\n\r\n", "*0\r\n$0\r\n\r\n", false },
    { "*2\r\n*1\r\n:1\r\n$3\r\na\r\n\r\n", "*2\r\n*1\r\n:1\r\n$3\r\na\r\n\r\n", false },
    { "$3\r\nabcd\r\n", NULL, false },
    { "*x\r\n", NULL, false },
    { "*\r\n", NULL, false },
    { "$99999999999999999999\r\n", NULL, false },
    { "$600000000\r\n", NULL, false },
    { "*2000000\r\n", NULL, false },
    { "get a\r\n", NULL, false },
    { "get a\r\n", "*2\r\n$3\r\nget\r\n$1\r\na\r\n", true },
    { " get  \"a b\"\t\r\n", "*2\r\n$3\r\nget\r\n$3\r\na b\r\n", true },
    { "\r\n", "*0\r\n", true },
    { "*1\r\nget\r\n", NULL, true },
};

/* All of @in in pieces of @piece bytes; false: broken. */
static bool play(const char *in, size_t piece, bool commands, struct mz_buf *out)
{
    struct resp_decoder d = { .commands = commands };
    enum resp_result r = RESP_MORE;
    for (size_t at = 0, n = strlen(in); at < n && r != RESP_BROKEN; at += piece) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_buf_append(&b, in + at, piece < n - at ? piece : n - at);
        struct mz_arena *a;
        const struct resp_value *v;
        while ((r = resp_decode(&d, &b, &a, &v)) == RESP_VALUE) {
            resp_encode(out, v);
            mz_arena_destroy(a);
        }
        mz_buf_fini(&b);
    }
    resp_fini(&d);
    return r != RESP_BROKEN;
}

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(values); i++)
        for (size_t piece = 1; piece < 40; piece++) {
            struct mz_buf out;
            mz_buf_init(&out);
            bool ok = play(values[i].in, piece, values[i].commands, &out);
            assert_int_equal(ok, values[i].out != NULL);
            if (ok) {
                assert_int_equal(mz_buf_len(&out), strlen(values[i].out));
                assert_memory_equal(mz_buf_linearize(&out, mz_buf_len(&out)).p, values[i].out,
                                    strlen(values[i].out));
            }
            mz_buf_fini(&out);
        }
}

static void test_depth(void **state)
{
    (void)state;
    struct mz_buf out, in;
    mz_buf_init(&out);
    for (unsigned depth = RESP_DEPTH; depth <= RESP_DEPTH + 1; depth++) {
        mz_buf_init(&in);
        for (unsigned i = 0; i < depth; i++)
            mz_buf_append(&in, "*1\r\n", 4);
        mz_buf_append(&in, ":1\r\n", 5); /* with a NUL: a C string */
        assert_int_equal(play(mz_buf_linearize(&in, mz_buf_len(&in)).p, 7, false, &out),
                         depth == RESP_DEPTH);
        mz_buf_fini(&in);
    }
    mz_buf_fini(&out);
}

static void test_lines(void **state)
{
    (void)state;
    struct mz_buf out;
    mz_buf_init(&out);
    resp_error(&out, MZ_STR("a\r\nb")); /* no answer can be smuggled in by a name */
    assert_memory_equal(mz_buf_linearize(&out, 7).p, "-a  b\r\n", 7);
    mz_buf_fini(&out);
}

static void test_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < redis_n_commands; i++)
        assert_ptr_equal(redis_command_find(redis_commands[i].name), &redis_commands[i]);
    assert_int_equal(redis_command_find(MZ_STR("MGet"))->kind, REDIS_MGET);
    assert_true(redis_command_find(MZ_STR("XADD"))->writes);
    assert_null(redis_command_find(MZ_STR("ge")));
    assert_null(redis_command_find(MZ_STR("gets")));
    assert_null(redis_command_find(MZ_STR("")));
}

static void test_routes(void **state)
{
    (void)state;
    static struct redis_route routes[] = {
        /* as config.c sorts them */
        { .prefix = MZ_STR_INIT("user:vip:"), .cluster = MZ_STR_INIT("vip") },
        { .prefix = MZ_STR_INIT("user:"), .cluster = MZ_STR_INIT("users"), .remove_prefix = true },
    };
    static struct redis_route rest = { .cluster = MZ_STR_INIT("rest") };
    static const struct {
        const char *key, *cluster, *becomes;
        bool any_case;
    } cases[] = {
        { "user:vip:1", "vip", "user:vip:1", false },
        { "user:1", "users", "1", false },
        { "user:", "users", "", false },
        { "use", "rest", "use", false },
        { "USER:1", "rest", "USER:1", false },
        { "USER:1", "users", "1", true },
    };
    struct redis_cfg c = { .routes = routes, .n_routes = 2, .otherwise = &rest };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str key = mz_str_c(cases[i].key);
        c.any_case = cases[i].any_case;
        const struct redis_route *r = redis_route_find(&c, &key);
        assert_true(mz_str_eq(r->cluster, mz_str_c(cases[i].cluster)));
        assert_true(mz_str_eq(key, mz_str_c(cases[i].becomes)));
    }
    c.otherwise = NULL;
    struct mz_str key = MZ_STR("x");
    assert_null(redis_route_find(&c, &key));
}

static void test_hash_tags(void **state)
{
    (void)state;
    static const struct {
        const char *key, *tag;
    } cases[] = { { "{a}.b", "a" }, { "x{a}{b}", "a" }, { "{}a", "{}a" }, { "{a", "{a" },
                  { "a}", "a}" },   { "", "" },         { "{{a}}", "{a" } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        assert_true(mz_str_eq(redis_hash_tag(mz_str_c(cases[i].key)), mz_str_c(cases[i].tag)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_lines),  cmocka_unit_test(test_commands),
        cmocka_unit_test(test_routes), cmocka_unit_test(test_hash_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
