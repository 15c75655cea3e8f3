#include "filters/http/session_state.h"

#include "base/test.h"

static struct mz_arena *a;

static struct mz_headers *cookies(const char *text)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_COOKIE, mz_str_c(text));
    return h;
}

static struct session_state cookie(const char *path, uint64_t ttl_s)
{
    return (struct session_state){ .kind = SESSION_COOKIE,
                                   .name = MZ_STR("s"),
                                   .path = mz_str_c(path),
                                   .attributes = MZ_STR("; HttpOnly"),
                                   .ttl_s = ttl_s };
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *cookie, *path;
        bool applies;
    } cases[] = {
        { "", "/x", true },     { "/", "/x", true },    { "/a", "/a", true },
        { "/a", "/a/b", true }, { "/a", "/a?b", true }, { "/a", "/a#b", true },
        { "/a", "/ab", false }, { "/a", "/", false },   { "/a/", "/a/b", true },
        { "/a/", "/a", false },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct session_state s = cookie(cases[i].cookie, 0);
        if (session_applies(&s, mz_str_c(cases[i].path)) != cases[i].applies)
            fail_msg("%s %s", cases[i].cookie, cases[i].path);
    }
}

static void test_what_is_bound_is_found(void **state)
{
    (void)state;
    static const uint64_t ttls[] = { 0, 120 };
    for (size_t i = 0; i < MZ_COUNT(ttls); i++) {
        struct session_state s = cookie("", ttls[i]);
        struct mz_headers *h = mz_headers_create(a);
        session_bind(&s, h, MZ_STR("127.0.0.1:80"), 1000, a);
        struct mz_str set = mz_headers_value_id(h, MZ_H_SET_COOKIE);
        ptrdiff_t end = mz_str_chr(set, ';');
        assert_true(end > 0);
        struct mz_headers *req = mz_headers_create(a);
        mz_headers_add_id(req, MZ_H_COOKIE, (struct mz_str){ set.p, (size_t)end });
        assert_true(mz_str_eq(session_host(&s, req, 1120, a), MZ_STR("127.0.0.1:80")));
        assert_int_equal(session_host(&s, req, 1121, a).n, ttls[i] ? 0 : 12);
        assert_true(
            mz_str_ends(set, ttls[i] ? MZ_STR("; Max-Age=120; HttpOnly") : MZ_STR("\"; HttpOnly")));
    }
}

static void test_foreign_cookies(void **state)
{
    (void)state;
    static const struct {
        const char *cookie, *host;
    } cases[] = {
        { "", "" },
        { "t=CgFh", "" },
        { "s=CgFh", "a" },
        { "x=y; s=\"CgFh\"; s=CgFi", "a" },
        { "s=CgFhEAE=", "" },  /* expired in 1970 */
        { "s=CgFhEAA=", "a" }, /* 0: never */
        { "s=!", "" },
        { "s=CgVh", "\n\x05"
                    "a" },            /* too short a message: taken as a text, which is no host */
        { "s=EP//////////fw==", "" }, /* a host is missing */
        { "s=EP////////////8B",
          "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" }, /* no number: a text */
        { "s=MTI3LjAuMC4xOjgw", "127.0.0.1:80" },
    };
    struct session_state s = cookie("", 0);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str host = session_host(&s, cookies(cases[i].cookie), 1000, a);
        if (!mz_str_eq(host, mz_str_c(cases[i].host)))
            fail_msg("%s", cases[i].cookie);
    }
}

static void test_header(void **state)
{
    (void)state;
    struct session_state s = { .kind = SESSION_HEADER, .name = MZ_STR("x-s") };
    struct mz_headers *h = mz_headers_create(a);
    assert_int_equal(session_host(&s, h, 0, a).n, 0);
    session_bind(&s, h, MZ_STR("10.0.0.1:1"), 0, a);
    assert_true(mz_str_eq(mz_headers_get(h, MZ_STR("x-s"))->value, MZ_STR("MTAuMC4wLjE6MQ==")));
    assert_true(mz_str_eq(session_host(&s, h, 0, a), MZ_STR("10.0.0.1:1")));
}

static int setup(void **state)
{
    (void)state;
    a = mz_arena_create(MZ_MEM_MISC);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_arena_destroy(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(test_paths),
                                    cmocka_unit_test(test_what_is_bound_is_found),
                                    cmocka_unit_test(test_foreign_cookies),
                                    cmocka_unit_test(test_header) };
    return cmocka_run_group_tests_name("session_state", t, setup, teardown);
}
