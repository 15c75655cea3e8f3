#include "base/test.h"

#include "base/arena.h"
#include "base/rand.h"
#include "observe/json_text.h"
#include "observe/stream_info.h"
#include "observe/substitution.h"
#include "proto/mapper.h"
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *yaml, *text;
} good[] = {
    { "text_format_source: {inline_string: 'a %RESPONSE_CODE% %REQ(x)%'}", "a 200 -" },
    { "{text_format_source: {inline_string: 'a %REQ(x)%|'}, omit_empty_values: true}", "a |" },
    { "text_format: '%PROTOCOL%'", "HTTP/1.1" },
    { "text_format_source: {environment_variable: MZ_TEST_FORMAT}", "from HTTP/1.1" },
    { "text_format_source: {inline_bytes: JVBST1RPQ09MJQ==}", "HTTP/1.1" },
    { "json_format: {z: '%RESPONSE_CODE%', a: '%BYTES_SENT% bytes', m: '%REQ(x-none)%', flags: "
      "'%RESPONSE_FLAGS%'}",
      "{\"a\":\"10 bytes\",\"flags\":\"-\",\"m\":null,\"z\":200}\n" },
    { "json_format: {ua: '%REQ(user-agent)%', 'n': {inner: '%PROTOCOL%', list: ['%REQ(:METHOD)%', "
      "1, null, true, 1.5, 1e20]}}",
      "{\"n\":{\"inner\":\"HTTP/1.1\",\"list\":[\"GET\",1,null,true,\"1.5\",\"1e20\"]},\"ua\":\"x "
      "\\\"quoted\\\"\"}\n" },
    { "json_format: {two: '%BYTES_SENT%%BYTES_SENT%', part: '%REQ(user-agent):3%', mix: "
      "'x%REQ(none)%'}",
      "{\"mix\":\"x-\",\"part\":\"x \\\"\",\"two\":\"1010\"}\n" },
    { "json_format: {bad: '%REQ(x-latin)%', ctl: '%REQ(x-ctl)%', lit: \"\\x01\\\"\\\\/\\xe9\", "
      "'k\"': 1}",
      "{\"bad\":\"u\\u00ff\\u00c3\\u00a9\\u0022q\\u005c\\u0009t\",\"ctl\":\"a\\u001b\\t\\u007f\","
      "\"k\\\"\":1,"
      "\"lit\":\"\\u0001\\\"\\\\/\xc3\xa9\"}\n" },
    { "{json_format: {a: '%REQ(none)%', c: 'x%REQ(none)%', d: {e: '%REQ(none)%'}, l: "
      "['%REQ(none)%', '%PROTOCOL%', null, {}], n: null,"
      " b: false}, omit_empty_values: true}",
      "{\"b\":false,\"c\":\"x\",\"l\":[\"HTTP/1.1\"]}\n" },
    { "{json_format: {p: '%REQ_WITHOUT_QUERY(:path)%'}, formatters: [{name: q, typed_config: "
      "{'@type': "
      "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery}}]}",
      "{\"p\":\"/p\"}\n" },
};

static struct mz_log_format *build(struct mz_arena *a, const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = a };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML,
                          &pb_SubstitutionFormatString__descriptor, &m, err))
        fail_msg("%s: %s", yaml, err->msg);
    return mz_log_format_create((const void *)m, err);
}

static void info_fill(struct mz_stream_info *info, struct mz_arena *a)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/p?q"));
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("x \"quoted\""));
    mz_headers_add(h, MZ_STR("x-latin"), MZ_STR("u\xff\xc3\xa9\"q\\\tt"));
    mz_headers_add(h, MZ_STR("x-ctl"), MZ_STR("a\x1b\t\x7f"));
    *info = (struct mz_stream_info){ .arena = a,
                                     .has_protocol = true,
                                     .protocol = MZ_HTTP11,
                                     .status = 200,
                                     .tx_body = 10,
                                     .req = h };
}

static void test_formats(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info info;
    info_fill(&info, a);
    struct mz_format_ctx c = { .info = &info };
    (void)setenv("MZ_TEST_FORMAT", "from %PROTOCOL%", 1);
    for (size_t i = 0; i < MZ_COUNT(good); i++) {
        struct mz_err err = { "", "" };
        struct mz_log_format *f = build(a, good[i].yaml, &err);
        if (!f)
            fail_msg("%s: %s", good[i].yaml, err.msg);
        struct mz_buf b;
        mz_buf_init(&b);
        mz_log_format_append(f, &c, &b);
        char text[512];
        text[mz_buf_copyout(&b, 0, text, sizeof(text) - 1)] = 0;
        assert_string_equal(text, good[i].text);
        mz_buf_fini(&b);
        mz_log_format_destroy(f);
    }
    mz_arena_destroy(a);
}

static struct mz_str line_of(const struct mz_log_format *f, const struct mz_format_ctx *c,
                             size_t room, struct mz_arena *a)
{
    char *mem = mz_arena_alloc(a, room + 1);
    struct mz_buf over;
    mz_buf_init(&over);
    size_t n = mz_log_format_line(f, c, mem, room, &over);
    struct mz_str line =
        n ? (struct mz_str){ mem, n } : mz_arena_dup(a, mz_buf_linearize(&over, mz_buf_len(&over)));
    mz_buf_fini(&over);
    return line;
}

/* One list of steps and the tree that is walked say the same of values that are there, whatever bytes they have. */
static void test_json_both_ways(void **state)
{
    (void)state;
    static const char fields[] = "json_format: {method: '%REQ(:METHOD)%', short: '%REQ(:PATH):9%', "
                                 "mixed: 'a \"%REQ(:PATH)%\" of %REQ(x-own)%', own: "
                                 "'%REQ(x-own)%', list: ['%PROTOCOL%', {code: "
                                 "'%RESPONSE_CODE%'}], a_rather_long_name_of_a_member: 1}";
    struct mz_arena *config = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_err err = { "", "" };
    char omitting[512];
    (void)snprintf(omitting, sizeof(omitting), "{%s, omit_empty_values: true}", fields);
    struct mz_log_format *at_once = build(config, fields, &err),
                         *walked = build(config, omitting, &err);
    assert_true(at_once && walked);
    struct mz_rand r;
    mz_rand_init(&r, 5);
    for (unsigned i = 0; i < 2000; i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_stream_info info;
        info_fill(&info, a);
        char *text[2];
        size_t n[2];
        for (unsigned k = 0; k < 2; k++) {
            n[k] = (size_t)mz_rand_below(&r, i % 9 ? 60 : 400);
            text[k] = mz_arena_alloc(a, n[k] + 1);
            for (size_t at = 0; at < n[k]; at++)
                text[k][at] = (char)(mz_rand_below(&r, i % 3 * 20 + 1) ? 'a' : mz_rand_u64(&r));
        }
        struct mz_headers *h = mz_headers_create(a);
        mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
        mz_headers_add_id(h, MZ_H_PATH, (struct mz_str){ text[0], n[0] });
        mz_headers_add(h, MZ_STR("x-own"), (struct mz_str){ text[1], n[1] });
        info.req = h;
        struct mz_format_ctx c = { .info = &info };
        struct mz_str want = line_of(walked, &c, 0, a);
        struct mz_str got = line_of(at_once, &c, (size_t)mz_rand_below(&r, 1500), a);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.p, want.p, want.n);
        struct mz_buf own; /* and both what a string of JSON is */
        mz_buf_init(&own);
        mz_buf_append_str(&own, MZ_STR("\"own\":"));
        mz_json_string(&own, (struct mz_str){ text[1], n[1] });
        assert_true(mz_str_find(got, mz_buf_linearize(&own, mz_buf_len(&own))) >= 0);
        mz_buf_fini(&own);
        mz_arena_destroy(a);
    }
    mz_log_format_destroy(at_once);
    mz_log_format_destroy(walked);
    mz_arena_destroy(config);
}

static const struct {
    const char *yaml, *path, *message;
} wrong[] = {
    { "text_format_source: {inline_string: '%NOPE%'}", "text_format_source",
      "unknown format operator %NOPE%" },
    { "json_format: {a: {b: ['x', '%REQ%']}}", "json_format.a.b[1]",
      "format operator REQ requires parameters" },
    { "text_format_source: {environment_variable: MZ_TEST_UNSET}", "text_format_source",
      "environment_variable: 'MZ_TEST_UNSET' is not set" },
    { "text_format_source: {filename: /nonexistent/format}", "text_format_source.filename",
      "cannot read '/nonexistent/format': No such file or directory" },
    { "{text_format: x, formatters: [{name: q, typed_config: {'@type': "
      "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}",
      "formatters[0].typed_config",
      "unknown formatter extension \"envoy.extensions.filters.http.router.v3.Router\"" },
};

static void test_wrong(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 0; i < MZ_COUNT(wrong); i++) {
        struct mz_err err = { "", "" };
        assert_null(build(a, wrong[i].yaml, &err));
        assert_string_equal(err.msg, wrong[i].message);
        assert_string_equal(err.path, wrong[i].path);
    }
    mz_arena_destroy(a);
}

static void test_content_type(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    static const char *const cases[][2] = { { "text_format: x", "text/plain" },
                                            { "json_format: {}", "application/json" },
                                            { "{text_format: x, content_type: text/x-local}",
                                              "text/x-local" } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_err err;
        struct mz_log_format *f = build(a, cases[i][0], &err);
        assert_true(mz_str_eq(mz_log_format_content_type(f), mz_str_c(cases[i][1])));
        assert_int_equal(mz_log_format_is_json(f), i == 1);
        mz_log_format_destroy(f);
    }
    struct mz_err err;
    struct mz_log_format *f = mz_log_format_create_text(mz_log_format_default, &err);
    assert_non_null(f);
    mz_log_format_destroy(f);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_formats),
                                        cmocka_unit_test(test_json_both_ways),
                                        cmocka_unit_test(test_wrong),
                                        cmocka_unit_test(test_content_type) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
