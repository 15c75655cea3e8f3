#include "base/test.h"
#include "http/codec.h"
#include "http/query.h"
#include "http/status.h"
#include "http/url.h"
#include "http/validate.h"

static void assert_str(struct mz_str got, const char *want)
{
    if (got.n != strlen(want) || (got.n && memcmp(got.p, want, got.n) != 0))
        fail_msg("got " MZ_STR_FMT " wanted %s", MZ_STR_ARG(got), want);
}

static void test_url(void **state)
{
    (void)state;
    static const struct {
        const char *text, *scheme, *authority, *path; /* scheme NULL: refused */
    } cases[] = {
        { "http://a.test/x?y", "http", "a.test", "/x?y" },
        { "https://[::1]:8443", "https", "[::1]:8443", "" },
        { "http://a?x", "http", "a", "?x" },
        { "h+1://a/", "h+1", "a", "/" },
        { "http:///x", NULL, NULL, NULL },
        { "://a/", NULL, NULL, NULL },
        { "1http://a/", NULL, NULL, NULL },
        { "http://u@a/", NULL, NULL, NULL },
        { "http://a:99999/", NULL, NULL, NULL },
        { "http://a b/", NULL, NULL, NULL },
        { "/x", NULL, NULL, NULL },
        { "", NULL, NULL, NULL },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_url u;
        assert_int_equal(mz_url_parse(mz_str_c(cases[i].text), &u), cases[i].scheme != NULL);
        if (!cases[i].scheme)
            continue;
        assert_str(u.scheme, cases[i].scheme);
        assert_str(u.authority, cases[i].authority);
        assert_str(u.path, cases[i].path);
    }
}

static void test_host_port(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *bare; /* host NULL: refused */
        unsigned port;
        bool ipv6;
    } cases[] = {
        { "a", "a", "a", 0, false },          { "a:80", "a", "a", 80, false },
        { "[::1]", "::1", "[::1]", 0, true }, { "[::1]:80", "::1", "[::1]", 80, true },
        { "a:", NULL, "a", 0, false },        { "a:0", NULL, "a", 0, false },
        { "a:65536", NULL, "a", 0, false },   { "a:8x", NULL, "a", 0, false },
        { ":80", NULL, "", 0, false },        { "[::1", NULL, "[:", 0, false },
        { "[]:1", NULL, "[]", 0, false },     { "[::1]x", NULL, "[::1]x", 0, false },
        { "a]", NULL, "a]", 0, false },       { "::1", NULL, ":", 0, false },
        { "", NULL, "", 0, false },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_host_port hp;
        assert_int_equal(mz_host_port_parse(mz_str_c(cases[i].text), &hp), cases[i].host != NULL);
        assert_str(mz_authority_host(mz_str_c(cases[i].text)), cases[i].bare);
        if (!cases[i].host)
            continue;
        assert_str(hp.host, cases[i].host);
        assert_int_equal(hp.port, cases[i].port);
        assert_int_equal(hp.ipv6, cases[i].ipv6);
    }
}

static void test_query(void **state)
{
    (void)state;
    struct mz_str rest = mz_query_of(MZ_STR("/p?a=1&&b&c=x=y&=z#f?no")), k, v;
    static const char *const want[][2] = { { "a", "1" }, { "b", "" }, { "c", "x=y" }, { "", "z" } };
    for (size_t i = 0; i < MZ_COUNT(want); i++) {
        assert_true(mz_query_next(&rest, &k, &v));
        assert_str(k, want[i][0]);
        assert_str(v, want[i][1]);
    }
    assert_false(mz_query_next(&rest, &k, &v));
    assert_int_equal(mz_query_of(MZ_STR("/p")).n, 0);
    assert_true(mz_query_get(MZ_STR("/p?a=1&b=2"), MZ_STR("b"), &v));
    assert_str(v, "2");
    assert_false(mz_query_get(MZ_STR("/p?a=1"), MZ_STR("c"), &v));
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    assert_str(mz_percent_decode(a, MZ_STR("a%20b%2561%zz%4")), "a b%61%zz%4");
    assert_str(mz_percent_encode(a, MZ_STR("a b%&\xff"), "&"), "a%20b%25%26%FF");
    mz_arena_destroy(a);
}

static void test_validate(void **state)
{
    (void)state;
    assert_true(mz_header_name_valid(MZ_STR("X-a_1")));
    assert_false(mz_header_name_lower(MZ_STR("X-a")));
    assert_true(mz_header_name_lower(MZ_STR("x-a")));
    assert_false(mz_header_name_valid(MZ_STR("x a")));
    assert_false(mz_header_name_valid(MZ_STR("")));
    assert_false(mz_header_name_lower(MZ_STR(":path")));
    assert_true(mz_header_value_valid(MZ_STR("a\tb\xff")));
    assert_false(mz_header_value_valid(MZ_STR("a\x7f")));
    assert_false(mz_header_value_valid(MZ_STR("a\nb")));
    assert_true(mz_method_known(MZ_STR("M-SEARCH")));
    assert_false(mz_method_known(MZ_STR("get")));
    assert_true(mz_method_prefix(MZ_STR("OPT")));
    assert_false(mz_method_prefix(MZ_STR("OX")));
    assert_true(mz_authority_valid(MZ_STR("a.test:80")));
    assert_false(mz_authority_valid(MZ_STR("u@a")));
    assert_false(mz_target_valid(MZ_STR("/a b")));
    assert_true(mz_list_has(MZ_STR("a , Close,,b"), MZ_STR("close")));
    assert_false(mz_list_has(MZ_STR("closed"), MZ_STR("close")));
}

static void test_texts(void **state)
{
    (void)state;
    assert_str(mz_status_reason(413), "Payload Too Large");
    assert_str(mz_status_reason(299), "Unknown");
    assert_str(mz_status_reason(100000), "Unknown");
    assert_string_equal(mz_http_protocol_name(MZ_HTTP2), "HTTP/2");
    assert_string_equal(mz_reset_reason_text(MZ_RESET_CONN_TERMINATED), "connection termination");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url),   cmocka_unit_test(test_host_port),
        cmocka_unit_test(test_query), cmocka_unit_test(test_validate),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
