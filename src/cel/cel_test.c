#include "base/test.h"

#include "cel/cel.h"
#include "proto/mapper.h"
#include <stdio.h>

/* Expressions and what they yield, as the reference implementation. Variables: s "abc", n 7, m {"a": 1, "b": [1, 2]}, none. */

static struct mz_arena *arena;
static const struct mz_str names[] = { MZ_STR_INIT("s"), MZ_STR_INIT("n"), MZ_STR_INIT("m"),
                                       MZ_STR_INIT("none"), MZ_STR_INIT("bad") };

static bool map_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                    struct mz_cel_value *out)
{
    (void)obj;
    if (key->kind != MZ_CEL_STRING)
        return false;
    if (mz_str_eq(key->s, MZ_STR("a"))) {
        *out = mz_cel_int(1);
        return true;
    }
    struct mz_cel_value *v = mz_arena_alloc(a, 2 * sizeof(*v));
    v[0] = mz_cel_int(1);
    v[1] = mz_cel_int(2);
    *out = (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { v, 2 } };
    return mz_str_eq(key->s, MZ_STR("b"));
}

static size_t map_size(const void *obj)
{
    (void)obj;
    return 2;
}

static void map_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)obj;
    (void)a;
    *out = mz_cel_string(i ? MZ_STR("b") : MZ_STR("a"));
}

static const struct mz_cel_map map_ops = { .get = map_get, .size = map_size, .key = map_key };

static bool get(const struct mz_cel_vars *v, unsigned i, struct mz_arena *a,
                struct mz_cel_value *out)
{
    (void)v;
    (void)a;
    const struct mz_cel_value values[] = {
        mz_cel_string(MZ_STR("abc")),
        mz_cel_int(7),
        { .kind = MZ_CEL_MAP, .map = { &map_ops, NULL } },
    };
    if (i == 4)
        *out = mz_cel_string(MZ_STR("\xff"
                                    "evil"));
    else if (i < 3)
        *out = values[i];
    return i != 3;
}

static const struct mz_cel_vars vars = { get };
static const struct mz_cel_env env = {
    .names = names, .n = MZ_COUNT(names), .string_conversion = true, .string_concat = true
};

/* As Envoy prints it, with the kind in front: "i7", "t\"abc\"", "!no such key". */
static const char *show(const struct mz_cel_value *v)
{
    static const char kinds[] = "0bIUDSBLMdtT!";
    struct mz_str text;
    if (!mz_cel_text(v, arena, &text))
        return mz_arena_printf(arena, "!%s", v->error).p;
    return mz_arena_printf(arena, "%c " MZ_STR_FMT, kinds[v->kind], MZ_STR_ARG(text)).p;
}

static const char *run(struct mz_cel *p)
{
    struct mz_cel_value v;
    mz_cel_eval(p, &vars, arena, &v);
    return show(&v);
}

static const struct {
    const char *text, *want;
} cases[] = {
    /* literals */
    { "1", "I 1" },
    { "-9223372036854775808", "I -9223372036854775808" },
    { "0x1F", "I 31" },
    { "-0x1", "I -1" },
    { "2u", "U 2" },
    { "0xFFu", "U 255" },
    { "1.5", "D 1.5" },
    { "1e3", "D 1000" },
    { ".5", "D 0.5" },
    { "1.0", "D 1" },
    { "'a\\n\\x41\\u00e4\\101'", "S a\nA\xc3\xa4"
                                 "A" },
    { "r'\\d'", "S \\d" },
    { "\"\"\"a\"b\n\"\"\"", "S a\"b\n" },
    { "b'\\xff'", "B \xff" },
    { "true", "b true" },
    { "null", "0 NULL" },
    { "[1, 2,]", "L CelList value" },
    { "{'a': 1, 2: 'b'}", "M CelMap value" },
    { "int", "T CelType value" },
    { "'\\U0001f600'", "S \xf0\x9f\x98\x80" },
    /* operators */
    { "1 + 2 * 3 % 4 - 5", "I -2" },
    { "(1 + 2) * 3", "I 9" },
    { "-n", "I -7" },
    { "--n", "I 7" },
    { "-(-1)", "I 1" },
    { "7 / 2", "I 3" },
    { "-7 / 2", "I -3" },
    { "-7 % 4", "I -3" },
    { "7.0 / 2.0", "D 3.5" },
    { "1u - 2u", "!number out of range" },
    { "1/0", "!divide by zero" },
    { "1%0", "!modulus by zero" },
    { "9223372036854775807 + 1", "!number out of range" },
    { "-9223372036854775808 / -1", "!number out of range" },
    { "1 + 1u", "!no such overload" },
    { "'a' + 'b'", "S ab" },
    { "size([1] + [2, 3])", "I 3" },
    { "!true", "b false" },
    { "!!true", "b true" },
    { "!1", "!no such overload" },
    { "true ? 1 : 2", "I 1" },
    { "false ? 1 : true ? 3 : 4", "I 3" },
    { "1 ? 2 : 3", "!no such overload" },
    { "none ? 1 : 2", "!no value now" },
    /* comparisons */
    { "1 == 1.0", "b true" },
    { "1u == 1", "b true" },
    { "1 == 'a'", "b false" },
    { "1 != 'a'", "b true" },
    { "null == null", "b true" },
    { "[1, [2]] == [1u, [2.0]]", "b true" },
    { "{'a': 1} == {'a': 1.0}", "b true" },
    { "{'a': 1} == {'b': 1}", "b false" },
    { "m == {'a': 1, 'b': [1, 2]}", "b true" },
    { "type(1) == int", "b true" },
    { "'a' < 'b'", "b true" },
    { "2 <= 2", "b true" },
    { "2 > 2u", "b false" },
    { "-1 < 1u", "b true" },
    { "1.5 >= 1", "b true" },
    { "9223372036854775807 < 9223372036854775808.0", "b true" },
    { "1 < 'a'", "!no such overload" },
    { "0.0/0.0 == 0.0/0.0", "b false" },
    { "0.0/0.0 < 1.0", "b false" },
    { "b'a' < b'b'", "b true" },
    { "1 in [1, 2]", "b true" },
    { "3 in [1, 2]", "b false" },
    { "'a' in m", "b true" },
    { "'z' in m", "b false" },
    { "1 in 2", "!no such overload" },
    /* errors are absorbed */
    { "true || 1/0 == 1", "b true" },
    { "1/0 == 1 || true", "b true" },
    { "1/0 == 1 && false", "b false" },
    { "false && none", "b false" },
    { "1/0 == 1 || false", "!divide by zero" },
    { "1 || true", "b true" },
    { "1 || false", "!no such overload" },
    { "false || false || false || true", "b true" },
    { "none && true", "!no value now" },
    /* selection */
    { "m.a", "I 1" },
    { "m['a']", "I 1" },
    { "m.b[1]", "I 2" },
    { "m.c", "!no such key" },
    { "m[1]", "!no such key" },
    { "[1][1]", "!index out of range" },
    { "[1][-1]", "!index out of range" },
    { "[5][0u]", "I 5" },
    { "s.a", "!no such overload" },
    { "has(m.a)", "b true" },
    { "has(m.c)", "b false" },
    { "has({'x': 1}.x)", "b true" },
    { "{'x': {'y': 2}}.x.y", "I 2" },
    { "{1: 'one'}[1u]", "S one" },
    { "'abc'[0]", "!no such overload" },
    { ".n", "I 7" },
    { "none.a", "!no value now" },
    { "has(none.a)", "!no value now" },
    /* functions */
    { "size('\xc3\xa4"
      "b')",
      "I 2" },
    { "s.size()", "I 3" },
    { "size(m)", "I 2" },
    { "size(b'\\xff\\xff')", "I 2" },
    { "size(1)", "!no such overload" },
    { "s.contains('b')", "b true" },
    { "s.startsWith('ab')", "b true" },
    { "s.endsWith('ab')", "b false" },
    { "s.contains(1)", "!no such overload" },
    { "s.matches('^a.c$')", "b true" },
    { "s.matches('b')", "b true" },
    { "matches(s, 'x')", "b false" },
    { "bad.matches('evil')", "b true" },
    { "!bad.matches('.*evil.*')", "b false" },
    { "int('-3')", "I -3" },
    { "int(3.9)", "I 3" },
    { "int('x')", "!not a number" },
    { "int(1e30)", "!number out of range" },
    { "uint(3)", "U 3" },
    { "uint(-3)", "!number out of range" },
    { "double('1.5')", "D 1.5" },
    { "double(3)", "D 3" },
    { "string(3)", "S 3" },
    { "string(true)", "S true" },
    { "string(b'\\xff')", "!not UTF-8" },
    { "bytes('a')", "B a" },
    { "bool('true')", "b true" },
    { "dyn(1)", "I 1" },
    /* times */
    { "duration('1h2m3.5s')", "d 1h2m3.5s" },
    { "duration('139.656us')", "d 139.656us" },
    { "duration('-90s')", "d -1m30s" },
    { "duration('0')", "d 0" },
    { "duration('1.5ms')", "d 1.5ms" },
    { "duration('1x')", "!not a duration" },
    { "duration('50s')", "d 50s" },
    { "duration('1h')", "d 1h" },
    { "duration('1000000h') < duration('1000001h')", "b true" },
    { "duration('99999999999999h')", "!not a duration" },
    { "timestamp('2020-01-02T03:04:05.6Z')", "t 2020-01-02T03:04:05.6+00:00" },
    { "timestamp('2020-01-02T03:04:05+01:00')", "t 2020-01-02T02:04:05+00:00" },
    { "timestamp('2020-02-30T00:00:00Z')", "!not a timestamp" },
    { "timestamp(0)", "t 1970-01-01T00:00:00+00:00" },
    { "timestamp('2020-01-02T03:04:05Z') + duration('1h')", "t 2020-01-02T04:04:05+00:00" },
    { "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T23:59:59.5Z')", "d 500ms" },
    { "duration('1s') - duration('1500ms')", "d -500ms" },
    { "duration('-1.5s') + duration('1s')", "d -500ms" },
    { "timestamp('2020-01-02T03:04:05Z') + timestamp('2020-01-02T03:04:05Z')",
      "!no such overload" },
    { "timestamp('2020-03-01T03:04:05.006Z').getFullYear()", "I 2020" },
    { "timestamp('2020-03-01T03:04:05Z').getMonth()", "I 2" },
    { "timestamp('2020-03-01T03:04:05Z').getDayOfYear()", "I 60" },
    { "timestamp('2020-03-01T03:04:05Z').getDate()", "I 1" },
    { "timestamp('2020-03-01T03:04:05.006Z').getMilliseconds()", "I 6" },
    { "duration('3h5m').getMinutes()", "I 185" },
    { "duration('3h').getFullYear()", "!no such overload" },
    /* macros */
    { "[1, 2].all(x, x > 0)", "b true" },
    { "[1, 2].all(x, x > 1)", "b false" },
    { "[].all(x, 1/0 == 1)", "b true" },
    { "[1, 0].all(x, 1/x == 1)", "!divide by zero" },
    { "[0, 1].all(x, 1/x == 2)", "b false" },
    { "[1, 2].exists(x, x == 2)", "b true" },
    { "[0, 1].exists(x, 1/x == 1)", "b true" },
    { "[0].exists(x, 1/x == 1)", "!divide by zero" },
    { "[1, 2, 1].exists_one(x, x == 2)", "b true" },
    { "[1, 2, 1].exists_one(x, x == 1)", "b false" },
    { "[1, 2, 3].filter(x, x > 1) == [2, 3]", "b true" },
    { "[1, 2].map(x, x * 2) == [2, 4]", "b true" },
    { "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]", "b true" },
    { "m.all(k, k in ['a', 'b'])", "b true" },
    { "m.exists(k, m[k] == 1)", "b true" },
    { "[[1], [2, 3]].map(l, l.map(x, x + n)) == [[8], [9, 10]]", "b true" },
    { "[1].map(n, n) == [1]", "b true" },
    { "1.all(x, true)", "!no such overload" },
    { "1 // a comment\n + 1", "I 2" },
};

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_err err = { .path = "" };
        struct mz_cel *p = mz_cel_create(mz_str_c(cases[i].text), &env, &err);
        if (!p)
            fail_msg("%s: %s", cases[i].text, err.msg);
        const char *got = run(p);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: %s instead of %s", cases[i].text, got, cases[i].want);
        mz_cel_destroy(p);
    }
}

static const struct {
    const char *text, *error;
} errors[] = {
    { "", "the expression ends where a value is expected" },
    { "1 +", "the expression ends where a value is expected" },
    { "1 2", "expected an operator or the end at position 3, found \"2\"" },
    { "(1", "the expression ends where \")\" is expected" },
    { "sx", "unknown name \"sx\"; did you mean \"s\"?" },
    { "f(1)", "no function \"f\" takes 1 arguments" },
    { "s.f(1)", "no member function \"f\" takes 1 arguments" },
    { "size(1, 2)", "no function \"size\" takes 2 arguments" },
    { "s.matches(s)", "the pattern of matches() must be a constant string" },
    { "s.matches('(')", "regex" },
    { "'abc", "string without end, or with an unknown escape, at position 1" },
    { "'\\q'", "string without end, or with an unknown escape, at position 1" },
    { "1 # 2", "unexpected character at position 3" },
    { "9223372036854775808", "number out of range at position 1" },
    { "18446744073709551616u", "number out of range at position 1" },
    { "has(s)", "has() takes a field selection: has(a.b)" },
    { "[1].all(1, true)", "expected a variable's name at position 9, found \"1, true)\"" },
    { "a = 1", "unknown name" },
    { "{1}", "expected \":\" at position 3, found \"}\"" },
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(errors); i++) {
        struct mz_err err = { .path = "" };
        assert_null(mz_cel_create(mz_str_c(errors[i].text), &env, &err));
        if (!strstr(err.msg, errors[i].error))
            fail_msg("%s: %s", errors[i].text, err.msg);
    }
    struct mz_err err;
    const struct mz_cel_env bare = { .names = names, .n = MZ_COUNT(names) };
    assert_null(mz_cel_create(MZ_STR("string(1)"), &bare, &err));
    struct mz_cel *p = mz_cel_create(MZ_STR("'a' + 'b'"), &bare, &err);
    assert_string_equal(run(p), "!no such overload");
    mz_cel_destroy(p);
}

static struct mz_str repeat(const char *text, unsigned n, const char *end)
{
    struct mz_str *parts = mz_arena_alloc(arena, (n + 1) * sizeof(*parts));
    for (unsigned i = 0; i < n; i++)
        parts[i] = mz_str_c(text);
    parts[n] = mz_str_c(end);
    return mz_arena_cat(arena, n + 1, parts);
}

static void test_limits(void **state)
{
    (void)state;
    struct mz_err err = { .path = "" };
    assert_null(mz_cel_create(repeat("(", 5000, "1"), &env, &err));
    assert_null(mz_cel_create(repeat("[", 5000, "1"), &env, &err));
    assert_null(mz_cel_create(repeat("1+", 5000, "1"), &env, &err));
    assert_null(mz_cel_create(repeat("1,", 40000, "1"), &env, &err));
    assert_null(mz_cel_create(repeat("!-", 3000, "1"), &env, &err));
    assert_null(mz_cel_create(repeat("[1].all(x,", 20, "true"), &env, &err));
    struct mz_cel *p =
        mz_cel_create(repeat("n==1||", 3000, "n==7"), &env, &err); /* flat, however long */
    assert_non_null(p);
    assert_string_equal(run(p), "b true");
    mz_cel_destroy(p);
    p = mz_cel_create(MZ_STR("[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, "
                             "[1,2,3,4,5,6,7,8,9,10].all(c, "
                             "[1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a + b + "
                             "c + d + e > 0)))))"),
                      &env, &err);
    assert_non_null(p);
    assert_string_equal(run(p), "!the expression costs too much");
    assert_int_equal(mz_cel_test(p, &vars, arena), MZ_CEL_TOO_DEAR);
    mz_cel_destroy(p);
}

/* ---- syntax trees ---- */

static const struct {
    const char *yaml, *want;
} trees[] = {
    { "{const_expr: {int64_value: 5}}", "I 5" },
    { "{const_expr: {null_value: NULL_VALUE}}", "0 NULL" },
    { "{const_expr: {bytes_value: /w==}}", "B \xff" },
    { "{call_expr: {function: _==_, args: [{select_expr: {operand: {ident_expr: {name: m}}, field: "
      "a}}, {const_expr: {uint64_value: 1}}]}}",
      "b true" },
    { "{select_expr: {operand: {ident_expr: {name: m}}, field: q, test_only: true}}", "b false" },
    { "{call_expr: {target: {ident_expr: {name: s}}, function: startsWith, args: [{const_expr: "
      "{string_value: a}}]}}",
      "b true" },
    { "{call_expr: {function: '_?_:_', args: [{const_expr: {bool_value: false}}, {const_expr: "
      "{int64_value: 1}}, {const_expr: {double_value: 2.5}}]}}",
      "D 2.5" },
    { "{call_expr: {function: '@in', args: [{const_expr: {int64_value: 1}}, {list_expr: {elements: "
      "[{const_expr: {int64_value: 1}}]}}]}}",
      "b true" },
    { "{call_expr: {function: '_[_]', args: [{struct_expr: {entries: [{map_key: {const_expr: "
      "{string_value: k}}, value: {const_expr: {int64_value: 4}}}]}}, "
      "{const_expr: {string_value: k}}]}}",
      "I 4" },
    { "{comprehension_expr: {iter_var: x, iter_range: {list_expr: {elements: [{const_expr: "
      "{int64_value: 1}}, {const_expr: {int64_value: 2}}]}}, "
      "accu_var: __result__, accu_init: {const_expr: {bool_value: false}}, loop_condition: "
      "{call_expr: {function: '@not_strictly_false', args: "
      "[{call_expr: {function: '!_', args: [{ident_expr: {name: __result__}}]}}]}}, loop_step: "
      "{call_expr: {function: '_||_', args: "
      "[{ident_expr: {name: __result__}}, {call_expr: {function: _==_, args: [{ident_expr: {name: "
      "x}}, {const_expr: {int64_value: 2}}]}}]}}, "
      "result: {ident_expr: {name: __result__}}}}",
      "b true" },
};

static void test_trees(void **state)
{
    (void)state;
    struct mz_proto_ctx ctx = { .arena = arena };
    struct mz_err err;
    for (size_t i = 0; i < MZ_COUNT(trees); i++) {
        ProtobufCMessage *m;
        if (!mz_msg_from_text(&ctx, mz_str_c(trees[i].yaml), MZ_TEXT_YAML, &pb_Expr__descriptor, &m,
                              &err))
            fail_msg("%s: %s %s", trees[i].yaml, err.path, err.msg);
        struct mz_cel *p = mz_cel_create_ast((const pb_Expr *)m, &env, &err);
        if (!p)
            fail_msg("%s: %s", trees[i].yaml, err.msg);
        assert_string_equal(run(p), trees[i].want);
        mz_cel_destroy(p);
    }
    ProtobufCMessage *m;
    assert_true(mz_msg_from_text(&ctx, MZ_STR("{call_expr: {function: _+_, args: [{}]}}"),
                                 MZ_TEXT_YAML, &pb_Expr__descriptor, &m, &err));
    assert_null(mz_cel_create_ast((const pb_Expr *)m, &env, &err));
    assert_string_equal(err.msg, "expression without a kind");
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_MISC);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trees, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
