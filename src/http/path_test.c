#include "base/test.h"
#include "http/path.h"

enum { N = 1, M = 2, REJ = 4, RED = 8, FWD = 16 };
/* clang-format off */
static const struct {
    const char *in;
    unsigned rules;
    enum mz_path_verdict verdict;
    const char *out;
} cases[] = { /* what Envoy 1.40.0 did, except where a comment says more */
    { "/a/../b", 0, MZ_PATH_OK, "/a/../b" }, { "//admin", 0, MZ_PATH_OK, "//admin" },
    { "/a/../b", N, MZ_PATH_OK, "/b" }, { "/a/./b", N, MZ_PATH_OK, "/a/b" }, { "/a//b", N, MZ_PATH_OK, "/a//b" },
    { "/a%2Fb", N, MZ_PATH_OK, "/a%2Fb" }, { "/a%2fb", N, MZ_PATH_OK, "/a%2fb" }, { "/a%5Cb", N, MZ_PATH_OK, "/a%5Cb" },
    { "/a\\b", N, MZ_PATH_OK, "/a/b" }, { "/%2e%2e/x", N, MZ_PATH_OK, "/x" }, { "/../x", N, MZ_PATH_OK, "/x" },
    { "/a%41", N, MZ_PATH_OK, "/aA" }, { "/a/b/..", N, MZ_PATH_OK, "/a/" }, { "/a//../b", N, MZ_PATH_OK, "/a/b" },
    { "/a;x=1", N, MZ_PATH_OK, "/a;x=1" }, { "/a%zz", N, MZ_PATH_OK, "/a%zz" }, { "/a?x=/../y//z", N, MZ_PATH_OK, "/a?x=/../y//z" },
    { "//", N, MZ_PATH_OK, "//" }, { "/%7Euser", N, MZ_PATH_OK, "/~user" }, { "/a%", N, MZ_PATH_OK, "/a%" }, { "/a%4", N, MZ_PATH_OK, "/a%4" },
    { "/a/.", N, MZ_PATH_OK, "/a/" }, { "/.", N, MZ_PATH_OK, "/" }, { "/..", N, MZ_PATH_OK, "/" }, { "/a/..", N, MZ_PATH_OK, "/" },
    { "/a/b/../../../c", N, MZ_PATH_OK, "/c" }, { "/a%2e%2E/b", N, MZ_PATH_OK, "/a../b" }, { "/a/%2e./b", N, MZ_PATH_OK, "/b" },
    { "/a\"<>^`{|}b", N, MZ_PATH_OK, "/a%22%3C%3E%5E%60%7B%7C%7Db" }, { "/a\xff", N, MZ_PATH_OK, "/a%FF" },
    { "/a%22%3c", N, MZ_PATH_OK, "/a%22%3c" }, { "/a/...", N, MZ_PATH_OK, "/a/..." }, { "/a/.b/..c", N, MZ_PATH_OK, "/a/.b/..c" },
    { "/a/..?x=/../", N, MZ_PATH_OK, "/?x=/../" }, { "/a/..%2fb", N, MZ_PATH_OK, "/a/..%2fb" }, { "/a/%5C%2e%2e/b", N, MZ_PATH_OK, "/a/%5C../b" },
    /* C02, C03 */
    { "/x\\..\\admin", N, MZ_PATH_OK, "/admin" }, { "/ad%6Din?x", N, MZ_PATH_OK, "/admin?x" }, { "/x/%2e%2e/admin", N, MZ_PATH_OK, "/admin" },
    { "/x/..;/admin", N, MZ_PATH_OK, "/admin" }, { "/.;/admin", N, MZ_PATH_OK, "/admin" }, { "/x/..;a/admin", N, MZ_PATH_OK, "/admin" },
    { "/x/..;", N, MZ_PATH_OK, "/" }, { "/x/.;", N, MZ_PATH_OK, "/x/" }, { "/a/.;x=1;y/b", N, MZ_PATH_OK, "/a/b" },
    { "/a/...;/b", N, MZ_PATH_OK, "/a/...;/b" }, { "/;a/admin", N, MZ_PATH_OK, "/;a/admin" }, { "/admin;a=b", N, MZ_PATH_OK, "/admin;a=b" },
    { "/a/.%2E;x/b", N, MZ_PATH_OK, "/b" }, /* Envoy makes /a/..;x/b of it, which a second look would read as /b */
    /* C04 */
    { "/x/..%2fadmin", N | FWD, MZ_PATH_OK, "/admin" }, { "/x%5c..%5cadmin", N | FWD, MZ_PATH_OK, "/admin" },
    { "/a%2Fb", N | REJ, MZ_PATH_REJECT, "/a/b" }, { "/a%5cb?q=%2F", N | REJ, MZ_PATH_REJECT, "/a\\b?q=%2F" }, { "/plain", N | REJ, MZ_PATH_OK, "/plain" },
    { "/a%2f..%2fb", N | REJ, MZ_PATH_REJECT, "/a/../b" }, { "/a%5cb?q=%2F", N | RED, MZ_PATH_REDIRECT, "/a/b?q=%2F" }, { "/a%2f..%2fb", N | RED, MZ_PATH_REDIRECT, "/b" },
    { "/a%5cb?q=%2F", N | FWD, MZ_PATH_OK, "/a/b?q=%2F" }, { "/a?q=%2F", N | REJ, MZ_PATH_OK, "/a?q=%2F" },
    /* C05-C08 */
    { "/admin%00", N, MZ_PATH_REJECT, "/admin%00" }, { "/admin%00", 0, MZ_PATH_OK, "/admin%00" }, { "/a%01", N, MZ_PATH_OK, "/a%01" },
    { "/%252e%252e/admin", N, MZ_PATH_OK, "/%252e%252e/admin" }, { "/%2561dmin", N, MZ_PATH_OK, "/%2561dmin" },
    { "/public/..%252fadmin", N | FWD, MZ_PATH_OK, "/public/..%252fadmin" }, { "/%c0%aeadmin", N, MZ_PATH_OK, "/%c0%aeadmin" }, { "/admin/..", N, MZ_PATH_OK, "/" },
    { "/x/%%32e%%32e/admin", N, MZ_PATH_OK, "/x/%%32e%%32e/admin" }, /* nothing new may appear that decodes to dots */
    { "/%2%65/a", N, MZ_PATH_OK, "/%2%65/a" }, { "/%zz%65", N, MZ_PATH_OK, "/%zze" },
    /* slashes */
    { "/a//b", M, MZ_PATH_OK, "/a/b" }, { "//a///b//", M, MZ_PATH_OK, "/a/b/" }, { "/a/..//b", M, MZ_PATH_OK, "/a/../b" },
    { "/a?x=//y", M, MZ_PATH_OK, "/a?x=//y" }, { "/a%2F%2Fb", M, MZ_PATH_OK, "/a%2F%2Fb" }, { "/a/..//b", N | M, MZ_PATH_OK, "/b" }, { "//", M, MZ_PATH_OK, "//" },
    { "/a%2F%2F..%2Fb", N | M | FWD, MZ_PATH_OK, "/a/b" }, { "/a/%5C%2e%2e/b", N | M | FWD, MZ_PATH_OK, "/a/b" },
    /* others */
    { "/a#b", 0, MZ_PATH_REJECT, "/a#b" }, { "/a?b#c", N, MZ_PATH_REJECT, "/a?b#c" }, { "*", N | M, MZ_PATH_OK, "*" }, { "", N, MZ_PATH_OK, "" },
};
/* clang-format on */

static void test_clean(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        unsigned r = cases[i].rules;
        struct mz_path_rules rules = { .normalize = r & N, .merge_slashes = r & M };
        rules.escaped_slashes = r & REJ   ? MZ_SLASHES_REJECT
                                : r & RED ? MZ_SLASHES_REDIRECT
                                : r & FWD ? MZ_SLASHES_FORWARD
                                          : MZ_SLASHES_KEEP;
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_str out, again;
        enum mz_path_verdict v = mz_path_clean(a, mz_str_c(cases[i].in), &rules, &out);
        if (v != cases[i].verdict || out.n != strlen(cases[i].out) ||
            memcmp(out.p, cases[i].out, out.n) != 0)
            fail_msg("%s (rules %u): %d " MZ_STR_FMT, cases[i].in, r, v, MZ_STR_ARG(out));
        if (r == N && v == MZ_PATH_OK) { /* nothing is left for a second time */
            assert_int_equal(mz_path_clean(a, out, &rules, &again), MZ_PATH_OK);
            assert_true(mz_str_eq(out, again));
        }
        mz_arena_destroy(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_clean) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
