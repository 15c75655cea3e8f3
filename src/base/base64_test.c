#include "base/base64.h"
#include "base/test.h"

static const struct {
    const char *text, *bytes; /* NULL: refused */
} cases[] = {
    { "", "" },        { "YQ==", "a" },        { "YQ=", "a" },
    { "YQ", "a" },     { "YWI=", "ab" },       { "YWI==", "ab" },
    { "YWJj", "abc" }, { "aGVsbG8", "hello" }, { "YR", NULL },
    { "YQ-_", NULL },  { "YQ===", NULL },      { "Y", NULL },
    { "Y Q=", NULL },  { "YW9", NULL },        { "+/+/", "\xfb\xff\xbf" },
};

static void test_decode(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str out;
        bool ok = mz_base64_decode(mz_str_c(cases[i].text), a, &out);
        if (ok != (cases[i].bytes != NULL) || (ok && !mz_str_eq(out, mz_str_c(cases[i].bytes))))
            fail_msg("%s", cases[i].text);
    }
    mz_arena_destroy(a);
}

static void test_url_alphabet(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_str out;
    assert_true(mz_base64url_decode(MZ_STR("-_-_"), a, &out));
    assert_true(mz_str_eq(out, MZ_STR("\xfb\xff\xbf")));
    assert_false(mz_base64url_decode(MZ_STR("+/+/"), a, &out));
    mz_arena_destroy(a);
}

static void test_encode(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "", "" },
        { "a", "YQ==" },
        { "ab", "YWI=" },
        { "abc", "YWJj" },
        { "\xfb\xff\xbf\xfb", "+/+/+w==" },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(pairs); i++)
        assert_string_equal(mz_base64_encode(mz_str_c(pairs[i][0]), a).p, pairs[i][1]);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_decode),
                                    cmocka_unit_test(test_url_alphabet),
                                    cmocka_unit_test(test_encode) };
    return cmocka_run_group_tests_name("base64", t, NULL, NULL);
}
