#include "base/test.h"

#include "base/regex.h"
#include <stdlib.h>

static struct mz_regex *compile(const char *pattern)
{
    struct mz_err err = { 0 };
    struct mz_regex *r = mz_regex_create(mz_str_c(pattern), &err);
    assert_string_equal(err.msg, "");
    assert_non_null(r);
    return r;
}

static const struct {
    const char *pattern, *text;
    bool full, search;
} cases[] = {
    { "", "", true, true },
    { "", "x", false, true },
    { "a.c", "abc", true, true },
    { "a.c", "xabcx", false, true },
    { "^/api/v[0-9]+$", "/api/v12", true, true },
    { "^/api/v[0-9]+$", "/api/v", false, false },
    { "(?i)HOST", "host", true, true },
    { "a|ab", "ab", true, true }, /* full match does not stop at the first alternative */
    { "b$", "ab\n", false, false },
};

static void test_match(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_regex *r = compile(cases[i].pattern);
        assert_int_equal(mz_regex_full(r, mz_str_c(cases[i].text)), cases[i].full);
        assert_int_equal(mz_regex_search(r, mz_str_c(cases[i].text)), cases[i].search);
        mz_regex_destroy(r);
    }
    mz_regex_destroy(NULL);
}

static void test_errors(void **state)
{
    (void)state;
    struct mz_err err;
    assert_null(mz_regex_create(MZ_STR("a("), &err));
    assert_string_equal(err.msg, "invalid regex 'a(': missing ): a(");
    assert_null(mz_regex_create(MZ_STR("a(?=b)"), &err)); /* no look-ahead: it is not regular */
    assert_string_equal(err.msg, "invalid regex 'a(?=b)': invalid perl operator: (?=");
    static char lengthy[65537];
    memset(lengthy, 'a', sizeof(lengthy));
    assert_null(mz_regex_create((struct mz_str){ lengthy, sizeof(lengthy) }, &err));
    assert_string_equal(err.msg, "regex of 65537 bytes is too long, at most 65536 are allowed");
    assert_null(mz_regex_create(MZ_STR("((((a{100}){100}){100}){100})"), &err)); /* E12 */
}

/* Exponential for engines that backtrack (E12); ends at once here, else the test's time limit strikes. */
static void test_linear(void **state)
{
    (void)state;
    static char text[100000];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '!';
    struct mz_regex *r = compile("(a+)+$");
    assert_false(mz_regex_full(r, (struct mz_str){ text, sizeof(text) }));
    assert_true(mz_regex_size(r) > 0);
    mz_regex_destroy(r);
}

static void test_groups(void **state)
{
    (void)state;
    struct mz_regex *r = compile("([a-z]+)=(x)?([0-9]+)");
    struct mz_str g[6];
    assert_true(mz_regex_groups(r, MZ_STR("  key=42;"), g, 6));
    assert_true(mz_str_eq(g[0], MZ_STR("key=42")));
    assert_true(mz_str_eq(g[1], MZ_STR("key")));
    assert_null(g[2].p);
    assert_true(mz_str_eq(g[3], MZ_STR("42")));
    assert_null(g[4].p);
    assert_false(mz_regex_groups(r, MZ_STR("none"), g, 6));
    mz_regex_destroy(r);
}

static void test_replace(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *with, *result;
    } t[] = {
        { "^/service/([^/]+)(/.*)$", "/service/foo/v1/api", "\\2/instance/\\1",
          "/v1/api/instance/foo" },
        { "one", "/xxx/one/yyy/one/zzz", "two", "/xxx/two/yyy/two/zzz" },
        { "one", "/none", "two", "/ntwo" },
        { "x", "abc", "y", "abc" },
        { "b+", "abbbc", "", "ac" },
    };
    for (size_t i = 0; i < MZ_COUNT(t); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
        struct mz_regex *r = compile(t[i].pattern);
        struct mz_str s = mz_regex_replace(r, mz_str_c(t[i].text), mz_str_c(t[i].with), a);
        assert_string_equal(s.p, t[i].result);
        mz_regex_destroy(r);
        mz_arena_destroy(a);
    }
}

static void test_rewrite(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_regex *r = compile("(a)(b)");
    assert_true(mz_regex_rewrite_ok(r, MZ_STR("\\2\\1\\\\"), &err));
    assert_false(mz_regex_rewrite_ok(r, MZ_STR("\\3"), &err));
    assert_non_null(strstr(err.msg, "invalid substitution: "));
    assert_false(mz_regex_rewrite_ok(r, MZ_STR("\\"), &err));
    mz_regex_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_linear),  cmocka_unit_test(test_groups),
        cmocka_unit_test(test_replace), cmocka_unit_test(test_rewrite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
