/* Texts of documents: names of fields, quoting, what is data. */
#include "base/test.h"

#include "base/args.h"
#include "proto/show.h"

static void check(const char *json, bool camel, bool as_yaml, const char *want)
{
    struct mz_err err;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_node *n = mz_tree_read(a, mz_str_c(json), MZ_TEXT_JSON, &err);
    struct mz_buf b;
    mz_buf_init(&b);
    assert_non_null(n);
    (as_yaml ? mz_show_yaml : mz_show_json)(&b, n, camel);
    mz_buf_append(&b, "", 1);
    assert_string_equal(mz_buf_linearize(&b, mz_buf_len(&b)).p, want);
    mz_buf_fini(&b);
    mz_arena_destroy(a);
}

static void test_names(void **state)
{
    (void)state;
    check("{\"a_b\": 1, \"filter_metadata\": {\"x_y\": {\"c_d\": true}}}", true, false,
          "{\n    \"aB\": 1,\n    \"filterMetadata\": {\n        \"x_y\": {\n            \"c_d\": "
          "true\n        }\n    }\n}");
    check("{\"metadata\": {\"metadata_key\": {\"key\": \"x_y\"}}}", true, false,
          "{\n    \"metadata\": {\n        \"metadataKey\": {\n            \"key\": \"x_y\"\n      "
          "  }\n    "
          "}\n}");
    check("{\"typed_per_filter_config\": {\"e_f\": {\"g_h\": []}}, \"metadata\": {\"Z_Z\": null, "
          "\"A_A\": {}}}",
          true, false,
          "{\n    \"typedPerFilterConfig\": {\n        \"e_f\": {\n            \"gH\": []\n        "
          "}\n    },\n"
          "    \"metadata\": {\n        \"A_A\": {},\n        \"Z_Z\": null\n    }\n}");
    check("{\"value\": {\"a_b\": 1}}", true, false,
          "{\n    \"value\": {\n        \"aB\": 1\n    }\n}");
    check("{\"type_url\": \"t\", \"value\": {\"a_b\": 1}}", true, false,
          "{\n    \"typeUrl\": \"t\",\n    \"value\": {\n        \"a_b\": 1\n    }\n}");
}

static void test_yaml(void **state)
{
    static const struct {
        const char *json, *yaml;
    } cases[] = {
        { "\"plain text\"", "plain text\n" },
        { "\"\"", "\"\"\n" },
        { "\"true\"", "\"true\"\n" },
        { "\"8080\"", "\"8080\"\n" },
        { "\"0x10\"", "\"0x10\"\n" },
        { "\"1.5\"", "\"1.5\"\n" },
        { "\"2020-01-01\"", "\"2020-01-01\"\n" },
        { "\"2020-01-01T00:00:00Z\"", "\"2020-01-01T00:00:00Z\"\n" },
        { "\"10:20\"", "\"10:20\"\n" },
        { "\"1_000\"", "\"1_000\"\n" },
        { "\"127.0.0.1\"", "127.0.0.1\n" },
        { "\"127.0.0.1:80\"", "127.0.0.1:80\n" },
        { "\"2001:db8::1\"", "2001:db8::1\n" },
        { "\"1.2.3-a\"", "1.2.3-a\n" },
        { "\"*\"", "'*'\n" },
        { "\"a: b\"", "'a: b'\n" },
        { "\"a #b\"", "'a #b'\n" },
        { "\"it's\"", "it's\n" },
        { "\"'quoted'\"", "'''quoted'''\n" },
        { "\"-x\"", "-x\n" },
        { "\"- x\"", "'- x'\n" },
        { "\"{a}\"", "'{a}'\n" },
        { "\"\\u0001\"", "\"\\u0001\"\n" },
        { "\"a\xe2\x80\xa8"
          "b\"",
          "\"a\\u2028b\"\n" },
        { "\"\xc3\xa9\"", "\xc3\xa9\n" },
        { "7", "7\n" },
        { "{\"b\": [1, {\"c\": 2, \"a\": [\"x\"]}], \"a\": {}}",
          "a: {}\nb:\n- 1\n- a:\n  - x\n  c: 2\n" },
        { "{\"k\": \"one\\ntwo\\n\"}", "k: |\n  one\n  two\n" },
        { "{\"k\": \"one\\ntwo\"}", "k: |-\n  one\n  two\n" },
        { "[[1, 2], []]", "- - 1\n  - 2\n- []\n" },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        check(cases[i].json, false, true, cases[i].yaml);
}

struct options {
    const char *text;
    uint32_t number;
    bool on, also;
    struct arg_list list;
};

static void test_args(void **state)
{
    static const struct arg_flag flags[] = {
        { "text", 't', ARG_TEXT, offsetof(struct options, text), "" },
        { "number", 'n', ARG_NUMBER, offsetof(struct options, number), "" },
        { "on", 'o', ARG_SWITCH, offsetof(struct options, on), "" },
        { "also", 'a', ARG_SWITCH, offsetof(struct options, also), "" },
        { "list", 'l', ARG_LIST, offsetof(struct options, list), "" },
    };
    char line[][16] = { "one", "-oa",  "-tx",        "--number=7", "-l",
                        "p",   "-l=q", "--on=false", "--",         "-n" };
    char *argv[MZ_COUNT(line)], why[256];
    struct options o = { .text = "" };
    struct arg_result r;
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(line); i++)
        argv[i] = line[i];
    assert_true(args_parse(flags, MZ_COUNT(flags), MZ_COUNT(line), argv, &o, &r, why));
    assert_string_equal(o.text, "x");
    assert_int_equal(o.number, 7);
    assert_false(o.on);
    assert_true(o.also);
    assert_int_equal(o.list.n, 2);
    assert_string_equal(o.list.v[1], "q");
    assert_int_equal(r.others.n, 2);
    assert_string_equal(r.others.v[1], "-n");
    assert_false(args_parse(flags, MZ_COUNT(flags), 1, &argv[9], &o, &r, why));
    assert_string_equal(why, "flag needs an argument: --number");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names), cmocka_unit_test(test_yaml),
                                        cmocka_unit_test(test_args) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
