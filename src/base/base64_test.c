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

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_decode) };
    return cmocka_run_group_tests_name("base64", t, NULL, NULL);
}
