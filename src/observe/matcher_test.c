#include "base/test.h"

#include "observe/matcher.h"
#include "proto/mapper.h"
#include <stdio.h>

static ProtobufCMessage *parse(struct mz_arena *a, const char *yaml,
                               const ProtobufCMessageDescriptor *d)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, d, &m, &err))
        fail_msg("%s: %s", yaml, err.msg);
    return m;
}

static const struct {
    const char *matcher, *text;
    bool yes;
    const char *story;
} strings[] = {
    { "exact: ab", "ab", true, "exact ab" },
    { "exact: ab", "abc", false, "exact ab" },
    { "exact: ab", "Ab", false, "exact ab" },
    { "{exact: aB, ignore_case: true}", "Ab", true, "exact aB (any case)" },
    { "exact: ''", "", true, "exact " },
    { "prefix: ab", "abc", true, "prefix ab" },
    { "prefix: ab", "a", false, "prefix ab" },
    { "{prefix: aB, ignore_case: true}", "ABc", true, "prefix aB (any case)" },
    { "suffix: bc", "abc", true, "suffix bc" },
    { "suffix: bc", "abcd", false, "suffix bc" },
    { "{suffix: BC, ignore_case: true}", "abc", true, "suffix BC (any case)" },
    { "contains: bc", "abcd", true, "contains bc" },
    { "contains: bc", "acbd", false, "contains bc" },
    { "{contains: BC, ignore_case: true}", "abCd", true, "contains BC (any case)" },
    { "safe_regex: {regex: 'a+b'}", "aab", true, "regex a+b" },
    { "safe_regex: {regex: 'a+b'}", "aabb", false, "regex a+b" },
    { "safe_regex: {regex: '.*'}", "a\xff\xfe", true,
      "regex .*" }, /* C13: bytes that are not UTF-8 do not escape a rule */
    { "safe_regex: {regex: '(a+)+$'}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false,
      "regex (a+)+$" },
};

static void test_strings(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(strings); i++) {
        struct mz_err err;
        struct mz_string_match *m = mz_string_match_build(
            (const void *)parse(a, strings[i].matcher, &pb_StringMatcher__descriptor), &err);
        assert_non_null(m);
        if (mz_string_match(m, mz_str_c(strings[i].text)) != strings[i].yes)
            fail_msg("%s on %s", strings[i].matcher, strings[i].text);
        assert_string_equal(mz_string_match_text(m), strings[i].story);
        mz_string_match_destroy(m);
    }
    mz_arena_destroy(a);
}

/* Rows: matchers; columns: values that Envoy 1.40.0 was asked about. "+" is a match. */
static const char *const columns[][2] = { { "v", "w" },
                                          { "w", "v" },
                                          { "v", NULL },
                                          { NULL, NULL },
                                          { "", NULL },
                                          { "x", "3" },
                                          { "a\xff"
                                            "b",
                                            NULL },
                                          { "+3", NULL },
                                          { "q", "r" } };
static const struct {
    const char *matcher, *outcome, *story;
} headers[] = {
    { "string_match: {exact: 'v,w'}", "---------", "header x-k exact v,w" },
    { "string_match: {exact: w}", "++-------", "header x-k exact w" },
    { "string_match: {safe_regex: {regex: 'v.*w'}}", "---------", "header x-k regex v.*w" },
    { "string_match: {suffix: v}", "+++------", "header x-k suffix v" },
    { "string_match: {exact: v}, invert_match: true", "----+++++", "header x-k not exact v" },
    { "string_match: {exact: w}, invert_match: true", "--+-+++++", "header x-k not exact w" },
    { "range_match: {start: 1, end: 5}", "-----+-+-", "header x-k in range 1 to 5" },
    { "exact_match: v", "+++------", "header x-k exact v" },
    { "exact_match: ''", "+++-+++++", "header x-k present" },
    { "prefix_match: w", "++-------", "header x-k prefix w" },
    { "suffix_match: w", "++-------", "header x-k suffix w" },
    { "contains_match: w", "++-------", "header x-k contains w" },
    { "safe_regex_match: {regex: '[v-w]'}", "+++------", "header x-k regex [v-w]" },
    { "present_match: true", "+++-+++++", "header x-k present" },
    { "present_match: false", "---+-----", "header x-k not present" },
    { "present_match: false, invert_match: true", "+++-+++++", "header x-k present" },
    { "present_match: false, treat_missing_header_as_empty: true", "---------",
      "header x-k not present" },
    { "string_match: {safe_regex: {regex: '[a-z]+'}}, invert_match: true", "----+-++-",
      "header x-k not regex [a-z]+" },
    { "string_match: {safe_regex: {regex: '.*'}}, invert_match: true", "---------",
      "header x-k not regex .*" },
    { "string_match: {exact: x}, invert_match: true, treat_missing_header_as_empty: true",
      "+++++-+++", "header x-k not exact x" },
    { "string_match: {exact: ''}, treat_missing_header_as_empty: true", "---++----",
      "header x-k exact " },
    { "", "+++-+++++", "header x-k present" },
};

static void test_headers(void **state) /* H8, C10, C13 */
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 0; i < MZ_COUNT(headers); i++) {
        char yaml[256];
        size_t n = strlen(headers[i].matcher);
        (void)snprintf(yaml, sizeof(yaml), "{name: X-K%s%.*s}", n ? ", " : "", (int)n,
                       headers[i].matcher);
        pb_HeaderMatcher *msg = (void *)parse(a, yaml, &pb_HeaderMatcher__descriptor);
        struct mz_err err;
        struct mz_header_match *m = mz_header_match_build(msg, &err);
        assert_non_null(m);
        for (size_t c = 0; c < MZ_COUNT(columns); c++) {
            struct mz_headers *h = mz_headers_create(a);
            for (size_t k = 0; k < 2 && columns[c][k]; k++)
                mz_headers_add(h, MZ_STR("x-k"), mz_str_c(columns[c][k]));
            if (mz_header_match(m, h) != (headers[i].outcome[c] == '+'))
                fail_msg("%s: column %zu", headers[i].matcher, c);
        }
        assert_string_equal(mz_header_match_text(m), headers[i].story);
        mz_header_match_destroy(m);
    }
    mz_arena_destroy(a);
}

static void test_wrong(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err = { "", "" };
    pb_StringMatcher s = pb_StringMatcher__INIT;
    assert_null(mz_string_match_build(&s, &err));
    assert_string_equal(err.msg, "no pattern: set exact, prefix, suffix, contains or safe_regex");
    pb_HeaderMatcher h = pb_HeaderMatcher__INIT;
    assert_null(mz_header_match_build(&h, &err));
    assert_string_equal(err.path, "name");
    h.name = (char *)(uintptr_t) "a";
    pb_RegexMatcher re = pb_RegexMatcher__INIT;
    re.regex = (char *)(uintptr_t) "(";
    h.header_match_specifier_case = pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_SAFE_REGEX_MATCH;
    h.safe_regex_match = &re;
    assert_null(mz_header_match_build(&h, &err));
    assert_string_equal(err.path, "safe_regex_match.regex");
    pb_MetadataMatcher m = pb_MetadataMatcher__INIT;
    assert_null(mz_metadata_match_build(&m, &err));
    assert_string_equal(err.path, "value");
    mz_header_match_destroy(NULL);
    mz_string_match_destroy(NULL);
    mz_metadata_match_destroy(NULL);
    mz_arena_destroy(a);
}

static const struct {
    const char *matcher;
    bool yes;
} metadata[] = {
    { "{filter: ns, path: [{key: s}], value: {string_match: {exact: str}}}", true },
    { "{filter: ns, path: [{key: s}], value: {string_match: {exact: other}}}", false },
    { "{filter: ns, path: [{key: s}], value: {string_match: {exact: other}}, invert: true}", true },
    { "{filter: ns, path: [{key: 'n'}], value: {double_match: {exact: 7}}}", true },
    { "{filter: ns, path: [{key: 'n'}], value: {double_match: {range: {start: 7, end: 8}}}}",
      true },
    { "{filter: ns, path: [{key: 'n'}], value: {double_match: {range: {start: 6, end: 7}}}}",
      false },
    { "{filter: ns, path: [{key: b}], value: {bool_match: true}}", true },
    { "{filter: ns, path: [{key: z}], value: {null_match: {}}}", true },
    { "{filter: ns, path: [{key: l}], value: {list_match: {one_of: {double_match: {exact: 2}}}}}",
      true },
    { "{filter: ns, path: [{key: l}], value: {list_match: {one_of: {double_match: {exact: 3}}}}}",
      false },
    { "{filter: ns, path: [{key: o}, {key: i}], value: {present_match: true}}", true },
    { "{filter: ns, path: [{key: o}, {key: x}], value: {present_match: true}}", false },
    { "{filter: none, path: [{key: x}], value: {present_match: false}}", false },
    { "{filter: ns, path: [{key: s}], value: {present_match: false}}", false },
    { "{filter: ns, path: [{key: s}], value: {present_match: false}, invert: true}", true },
    { "{filter: ns, path: [{key: 'n'}], value: {or_match: {value_matchers: [{bool_match: true}, "
      "{double_match: {exact: 7}}]}}}",
      true },
    { "{filter: ns, path: [{key: 'n'}], value: {or_match: {value_matchers: [{bool_match: true}, "
      "{null_match: {}}]}}}",
      false },
};

static void test_metadata(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    const char *text =
        "filter_metadata: {ns: {s: str, 'n': 7, b: true, z: null, l: [1, 2], o: {i: x}}}";
    struct mz_meta *meta = mz_meta_build((const void *)parse(a, text, &pb_Metadata__descriptor), a);
    for (size_t i = 0; i < MZ_COUNT(metadata); i++) {
        struct mz_err err;
        struct mz_metadata_match *m = mz_metadata_match_build(
            (const void *)parse(a, metadata[i].matcher, &pb_MetadataMatcher__descriptor), &err);
        assert_non_null(m);
        if (mz_metadata_match(m, meta) != metadata[i].yes)
            fail_msg("%s", metadata[i].matcher);
        assert_false(mz_metadata_match_found(m, NULL));
        mz_metadata_match_destroy(m);
    }
    mz_arena_destroy(a);
}

/* A namespace of many streams at once: what one of them adds the others do not see. */
static void test_shared_namespace(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    const struct mz_str ns = MZ_STR("ns"), shared_key = MZ_STR("m"), own_key = MZ_STR("a");
    const struct mz_value yes = { .kind = MZ_VALUE_BOOL, .b = true };
    struct mz_field field = { shared_key, &yes };
    const struct mz_value shared = { .kind = MZ_VALUE_STRUCT, .fields = { &field, 1, 1 } };
    struct mz_meta *one = mz_meta_create(a), *two = mz_meta_create(a);
    mz_meta_set(one, MZ_STR("other"), own_key, &yes);
    assert_true(mz_meta_set_space(one, ns, &shared));
    assert_true(mz_meta_set_space(two, ns, &shared));
    assert_false(mz_meta_set_space(two, ns, &shared));
    mz_meta_set(one, ns, own_key, &yes);
    assert_ptr_equal(mz_meta_get(one, ns, &own_key, 1), &yes);
    assert_ptr_equal(mz_meta_get(one, ns, &shared_key, 1), &yes);
    assert_ptr_equal(mz_meta_get(two, ns, &shared_key, 1), &yes);
    assert_null(mz_meta_get(two, ns, &own_key, 1));
    assert_int_equal(shared.fields.n, 1);
    assert_true(mz_str_eq(one->v[0].key, ns)); /* sorted */
    for (int i = 0; i < 9; i++)                /* beyond the first room */
        mz_meta_set(one, mz_arena_printf(a, "more%d", i), own_key, &yes);
    assert_int_equal(one->n, 11);
    assert_ptr_equal(mz_meta_get(one, ns, &own_key, 1), &yes);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_strings),
                                        cmocka_unit_test(test_headers),
                                        cmocka_unit_test(test_wrong),
                                        cmocka_unit_test(test_metadata),
                                        cmocka_unit_test(test_shared_namespace) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
