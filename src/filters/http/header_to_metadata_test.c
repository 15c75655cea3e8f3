#include "base/test.h"

#include "filters/http/header_to_metadata.h"
#include <string.h>

/* Rules of header_to_metadata: what is refused, what cookies and odd values give (H9). */

static const struct {
    const char *rules, *error; /* "" none */
} configs[] = {
    { "[{header: a, on_header_present: {key: k}}]", "" },
    { "[{on_header_present: {key: k}}]",
      "request_rules[0]: exactly one of header, cookie is required" },
    { "[{header: a, cookie: b, on_header_present: {key: k}}]",
      "request_rules[0]: exactly one of header, cookie is required" },
    { "[{header: a}]",
      "request_rules[0]: one of on_header_present, on_header_missing is required" },
    { "[{cookie: a, on_header_present: {key: k}, remove: true}]",
      "request_rules[0]: remove is not for cookies" },
    { "[{header: a, on_header_missing: {key: k}}]",
      "request_rules[0].on_header_missing.value: must not be empty" },
    { "[{header: a, on_header_present: {key: k, value: v, regex_value_rewrite: {pattern: {regex: "
      "x}}}}]",
      "request_rules[0].on_header_present: value and regex_value_rewrite exclude each other" },
};

static pb_header_to_metadata_Config *message(struct mz_arena *a, const char *rules)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_err err;
    ProtobufCMessage *m;
    struct mz_str text =
        mz_arena_cat(a, 2, (struct mz_str[]){ MZ_STR("request_rules: "), mz_str_c(rules) });
    if (!mz_msg_from_text(&ctx, text, MZ_TEXT_YAML, &pb_header_to_metadata_Config__descriptor, &m,
                          &err))
        fail_msg("%s: %s", err.path, err.msg);
    return (pb_header_to_metadata_Config *)m;
}

static void test_config(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(configs); i++) {
        struct mz_err err;
        char text[512] = "";
        struct h2m_cfg *c = h2m_build(message(a, configs[i].rules), NULL, &err);
        if (c)
            h2m_destroy(c);
        else
            (void)mz_err_text(&err, text, sizeof(text));
        assert_string_equal(text, configs[i].error);
    }
    mz_arena_destroy(a);
}

static const struct {
    const char *cookie, *want; /* NULL: missing */
} cookies[] = {
    { "c=1", "1" },         { "a=2; c=1", "1" },     { "a=2;c=1;c=3", "1" }, { " c=1 ", "1" },
    { "c=\"1 2\"", "1 2" }, { "c=\"", "\"" },        { "c=a=b", "a=b" },     { "cc=1", NULL },
    { "c", NULL },          { "c=", NULL },          { "", NULL },           { "c =1", NULL },
    { "c=\"\"", NULL },     { ";;;=;c=;c=1", NULL },
};

static void test_cookies(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err;
    struct h2m_cfg *c =
        h2m_build(message(a, "[{cookie: c, on_header_present: {metadata_namespace: ns, key: k}}]"),
                  NULL, &err);
    assert_non_null(c);
    for (size_t i = 0; i < MZ_COUNT(cookies); i++) {
        struct mz_headers h;
        struct mz_meta *meta = NULL;
        mz_headers_init(&h, a);
        mz_headers_add_id(&h, MZ_H_COOKIE, mz_str_c(cookies[i].cookie));
        h2m_apply(c, false, &h, &meta, a);
        struct mz_str key = MZ_STR("k");
        const struct mz_value *v = mz_meta_get(meta, MZ_STR("ns"), &key, 1);
        if ((v != NULL) != (cookies[i].want != NULL) ||
            (v && !mz_str_eq(v->str, mz_str_c(cookies[i].want))))
            fail_msg("%s", cookies[i].cookie);
    }
    h2m_destroy(c);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_config), cmocka_unit_test(test_cookies) };
    return cmocka_run_group_tests_name("header_to_metadata", t, NULL, NULL);
}
