#include "base/test.h"

#include "http/grpc.h"
#include "route/route_test.h"
#include "router/timeout.h"

static void test_timeouts(void **state) /* timeout-header, retry-per-try-timeout */
{
    static const struct {
        const char *route, *request;
        bool grpc, respect;
        uint64_t elapsed, global, per_try;
        const char *expected; /* x-envoy-expected-rq-timeout-ms */
    } cases[] = {
        { "", NULL, false, false, 0, 15000, 0, "15000" },
        { ", timeout: 0s", NULL, false, false, 0, 0, 0, NULL },
        { ", timeout: 1s", "x-envoy-upstream-rq-timeout-ms: 250", false, false, 0, 250, 0, "250" },
        { ", timeout: 1s", "x-envoy-upstream-rq-timeout-ms: abc", false, false, 0, 1000, 0,
          "1000" },
        { ", timeout: 1s", "x-envoy-upstream-rq-timeout-ms: 0", false, false, 0, 0, 0, NULL },
        { ", timeout: 1s", "x-envoy-upstream-rq-per-try-timeout-ms: 200", false, false, 0, 1000,
          200, "200" },
        { ", timeout: 1s", "x-envoy-upstream-rq-per-try-timeout-ms: 1000", false, false, 0, 1000, 0,
          "1000" },
        { ", timeout: 1s, retry_policy: {per_try_timeout: 0.3s}", NULL, false, false, 0, 1000, 300,
          "300" },
        { ", timeout: 1s, retry_policy: {per_try_timeout: 0.3s}", NULL, false, false, 800, 1000,
          300, "200" },
        { ", timeout: 1s, retry_policy: {per_try_timeout: 0.3s}", NULL, false, false, 1200, 1000,
          300, "1" },
        { ", timeout: 1s, retry_policy: {per_try_timeout: 0.3s}, hedge_policy: "
          "{hedge_on_per_try_timeout: true}",
          NULL, false, false, 0, 1000, 300, "1000" },
        { ", timeout: 1s, retry_policy: {per_try_timeout: 0.3s}",
          "x-envoy-hedge-on-per-try-timeout: true", false, false, 0, 1000, 300, "1000" },
        { ", timeout: 1s", "x-envoy-expected-rq-timeout-ms: 70", false, false, 0, 1000, 0, "1000" },
        { ", timeout: 1s", "x-envoy-expected-rq-timeout-ms: 70", false, true, 0, 70, 0, "70" },
        { ", timeout: 1s, max_grpc_timeout: 0s", "grpc-timeout: 3S", true, false, 0, 3000, 0,
          "3000" },
        { ", timeout: 1s, max_grpc_timeout: 2s", "grpc-timeout: 3S", true, false, 0, 2000, 0,
          "2000" },
        { ", timeout: 1s, max_grpc_timeout: 2s", NULL, true, false, 0, 2000, 0, "2000" },
        { ", timeout: 1s, max_grpc_timeout: 0s, grpc_timeout_offset: 0.5s", "grpc-timeout: 3S",
          true, false, 0, 2500, 0, "2500" },
        { ", timeout: 1s, max_grpc_timeout: 2s", "grpc-timeout: 3S", false, false, 0, 1000, 0,
          "1000" },
        { ", timeout: 1s, max_grpc_timeout: 2s, max_stream_duration: {grpc_timeout_header_max: 0s}",
          "grpc-timeout: 3S", true, false, 0, 0, 0, NULL },
        { ", timeout: 1s, max_stream_duration: {}", NULL, false, false, 0, 0, 0, NULL },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        struct mz_timeouts t;
        fixture_init(&f);
        struct mz_str yaml = mz_arena_printf(
            f.a, "  - {match: {prefix: /}, route: {cluster: one%s}}\n", cases[i].route);
        if (!fixture_routes(&f, yaml.p))
            fail_msg("%s: %s", f.err.path, f.err.msg);
        const struct mz_route *r = fixture_get(&f, "h", "/", cases[i].request);
        mz_timeouts_read(r, f.h, cases[i].grpc, cases[i].respect, &t);
        assert_int_equal(t.global_ms, cases[i].global);
        assert_int_equal(t.per_try_ms, cases[i].per_try);
        assert_null(fixture_header(&f, "x-envoy-upstream-rq-timeout-ms"));
        assert_null(fixture_header(&f, "x-envoy-upstream-rq-per-try-timeout-ms"));
        mz_timeouts_write(&t, r, f.h, cases[i].grpc, true, cases[i].elapsed);
        const char *expected = fixture_header(&f, "x-envoy-expected-rq-timeout-ms");
        if (cases[i].expected)
            assert_string_equal(expected, cases[i].expected);
        else
            assert_null(expected);
        fixture_fini(&f);
    }
}

static void test_grpc_timeout(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t ms;
    } cases[] = {
        { "1H", true, 3600000 },    { "2M", true, 120000 }, { "3S", true, 3000 },
        { "4m", true, 4 },          { "1u", true, 1 },      { "1001u", true, 2 },
        { "1n", true, 1 },          { "0S", true, 0 },      { "99999999H", true, 359999996400000 },
        { "999999999S", false, 0 }, { "S", false, 0 },      { "", false, 0 },
        { "5", false, 0 },          { "-1S", false, 0 },    { "1s", false, 0 },
    };
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_headers *h = mz_headers_create(a);
        mz_headers_add_id(h, MZ_H_GRPC_TIMEOUT, mz_str_c(cases[i].text));
        uint64_t ms = 77;
        assert_int_equal(mz_grpc_timeout_ms(h, &ms), cases[i].ok);
        assert_int_equal(ms, cases[i].ok ? cases[i].ms : 77);
    }
    mz_arena_destroy(a);
}

static void test_grpc_header_is_rewritten(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = { { 1, "1m" },
                  { 99999999, "99999999m" },
                  { 100000000, "100001S" },
                  { 100000000000, "1666667M" } };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        assert_true(fixture_routes(
            &f, "  - {match: {prefix: /}, route: {cluster: one, max_grpc_timeout: 0s}}\n"));
        const struct mz_route *r = fixture_get(&f, "h", "/", NULL);
        mz_timeouts_write(&(struct mz_timeouts){ .global_ms = cases[i].ms }, r, f.h, true, false,
                          0);
        assert_string_equal(fixture_header(&f, "grpc-timeout"), cases[i].text);
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_grpc_timeout),
        cmocka_unit_test(test_grpc_header_is_rewritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
