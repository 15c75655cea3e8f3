#include "base/test.h"

#include "filters/http/fault.h"
#include "proto/mapper.h"
#include <stdio.h>
#include <string.h>

/* Configuration of fault, the choice by headers and runtime, the token bucket (H9). */

static struct mz_arena *arena;
static struct mz_stats *stats;
static struct mz_loop *loop;
static struct mz_runtime_store *store;

static ProtobufCMessage *message(const char *yaml, const ProtobufCMessageDescriptor *d)
{
    struct mz_proto_ctx ctx = { .arena = arena };
    struct mz_err err;
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, d, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    return m;
}

static struct fault_cfg *config(const char *yaml)
{
    struct mz_factory f = { .stats = stats, .workers = 1, .http_stat_prefix = MZ_STR("in") };
    struct mz_err err;
    struct fault_cfg *c = fault_config_build(message(yaml, &pb_HTTPFault__descriptor), &f, &err);
    if (!c)
        fail_msg("%s: %s", err.path, err.msg);
    return c;
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_MISC);
    stats = mz_stats_create(2);
    loop = mz_loop_create("test");
    struct mz_err err;
    pb_LayeredRuntime *m = (pb_LayeredRuntime *)message(
        "layers: [{name: l, static_layer: {own.ms: 7, fault.http.one.abort.http_status: 411,"
        " fault.http.none.abort.abort_percent: 0, odd.status: 99, fault.http.max_active_faults: "
        "5}}]",
        &pb_LayeredRuntime__descriptor);
    store = mz_runtime_store_create(stats, m, MZ_STR("svc"), &err);
    assert_non_null(store);
    mz_runtime_store_add_thread(store, loop);
    mz_loop_turn(loop, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_runtime_store_destroy(store);
    mz_loop_turn(loop, 0);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_arena_destroy(arena);
    return 0;
}

#define ALL          "percentage: {numerator: 100}"
#define HEADER_ABORT "abort: {header_abort: {}, " ALL "}"
#define HEADER_DELAY "delay: {header_delay: {}, " ALL "}"
#define HEADER_RATE  "response_rate_limit: {header_limit: {}, " ALL "}"
static const struct {
    const char *yaml, *headers[6], *downstream;
    unsigned status, grpc; /* status 0: no abort; grpc 999: none */
    uint64_t delay, rate;
} cases[] = {
    { "{}", { 0 }, "", 0, 999, 0, 0 },
    { "abort: {http_status: 503, " ALL "}", { 0 }, "", 503, 999, 0, 0 },
    { "abort: {http_status: 503, percentage: {numerator: 0}}", { 0 }, "", 0, 999, 0, 0 },
    { "abort: {http_status: 503}", { 0 }, "", 0, 999, 0, 0 },
    { "abort: {http_status: 503, percentage: {numerator: 1000000, denominator: MILLION}}",
      { 0 },
      "",
      503,
      999,
      0,
      0 },
    { "abort: {grpc_status: 5, " ALL "}", { 0 }, "", 200, 5, 0, 0 },
    /* a fixed fault is not the client's to change */
    { "abort: {http_status: 503, " ALL "}",
      { "x-envoy-fault-abort-request", "400" },
      "",
      503,
      999,
      0,
      0 },
    { "abort: {http_status: 503, " ALL "}",
      { "x-envoy-fault-abort-request-percentage", "0" },
      "",
      503,
      999,
      0,
      0 },
    { HEADER_ABORT, { 0 }, "", 0, 999, 0, 0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-request", "429" }, "", 429, 999, 0, 0 },
    { HEADER_ABORT,
      { "x-envoy-fault-abort-request", "429", "x-envoy-fault-abort-request-percentage", "0" },
      "",
      0,
      999,
      0,
      0 },
    { HEADER_ABORT,
      { "x-envoy-fault-abort-request", "429", "x-envoy-fault-abort-request-percentage", "x" },
      "",
      429,
      999,
      0,
      0 },
    { "abort: {header_abort: {}, percentage: {numerator: 0}}",
      { "x-envoy-fault-abort-request", "429", "x-envoy-fault-abort-request-percentage",
        "100" }, /* lowers only */
      "",
      0,
      999,
      0,
      0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-request", "199" }, "", 0, 999, 0, 0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-request", "600" }, "", 0, 999, 0, 0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-request", "4 0" }, "", 0, 999, 0, 0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-request", "" }, "", 0, 999, 0, 0 },
    { HEADER_ABORT,
      { "x-envoy-fault-abort-request", "429", "x-envoy-fault-abort-request", "404" },
      "",
      429,
      999,
      0,
      0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-grpc-request", "5" }, "", 200, 5, 0, 0 },
    { HEADER_ABORT, { "x-envoy-fault-abort-grpc-request", "-5" }, "", 0, 999, 0, 0 },
    { HEADER_ABORT,
      { "x-envoy-fault-abort-request", "999", "x-envoy-fault-abort-grpc-request", "5" },
      "",
      200,
      5,
      0,
      0 },
    { HEADER_DELAY, { 0 }, "", 0, 999, 0, 0 },
    { HEADER_DELAY, { "x-envoy-fault-delay-request", "200" }, "", 0, 999, 200, 0 },
    { HEADER_DELAY, { "x-envoy-fault-delay-request", "0" }, "", 0, 999, 0, 0 },
    { HEADER_DELAY,
      { "x-envoy-fault-delay-request", "18446744073709551615" },
      "",
      0,
      999,
      2147483647,
      0 },
    { HEADER_DELAY, { "x-envoy-fault-delay-request", "18446744073709551616" }, "", 0, 999, 0, 0 },
    { HEADER_DELAY,
      { "x-envoy-fault-delay-request", "200", "x-envoy-fault-delay-request-percentage", "0" },
      "",
      0,
      999,
      0,
      0 },
    { "delay: {fixed_delay: 1.5s, " ALL "}",
      { "x-envoy-fault-delay-request", "3" },
      "",
      0,
      999,
      1500,
      0 },
    { "response_rate_limit: {fixed_limit: {limit_kbps: 3}, " ALL "}", { 0 }, "", 0, 999, 0, 3 },
    { HEADER_RATE, { "x-envoy-fault-throughput-response", "12" }, "", 0, 999, 0, 12 },
    { HEADER_RATE, { "x-envoy-fault-throughput-response", "0" }, "", 0, 999, 0, 0 },
    { HEADER_RATE,
      { "x-envoy-fault-throughput-response", "18446744073709551615" },
      "",
      0,
      999,
      0,
      (uint64_t)1 << 32 },
    { HEADER_RATE,
      { "x-envoy-fault-throughput-response", "9", "x-envoy-fault-throughput-response-percentage",
        "0" },
      "",
      0,
      999,
      0,
      0 },
    /* runtime */
    { "{delay_duration_runtime: own.ms, delay: {fixed_delay: 1s, " ALL "}}",
      { 0 },
      "",
      0,
      999,
      7,
      0 },
    { "{abort_http_status_runtime: odd.status, abort: {http_status: 503, " ALL "}}",
      { 0 },
      "",
      503,
      999,
      0,
      0 },
    { "abort: {http_status: 503, " ALL "}", { 0 }, "one", 411, 999, 0, 0 },
    { "abort: {http_status: 503, " ALL "}", { 0 }, "none", 0, 999, 0, 0 },
    { "abort: {http_status: 503, " ALL "}", { 0 }, "two", 503, 999, 0, 0 },
};

static void test_choice(void **state)
{
    (void)state;
    struct mz_rand rand;
    mz_rand_init(&rand, 1);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fault_cfg *c = config(cases[i].yaml);
        struct mz_headers *h = mz_headers_create(arena);
        for (size_t k = 0; k < 6 && cases[i].headers[k]; k += 2)
            mz_headers_add(h, mz_str_c(cases[i].headers[k]), mz_str_c(cases[i].headers[k + 1]));
        struct fault_query q = { c,     h,     mz_runtime_here(),
                                 &rand, arena, mz_str_c(cases[i].downstream) };
        struct fault_abort a = { 0 };
        uint64_t delay = 0, rate = 0;
        bool aborts = fault_abort(&q, &a), delays = fault_delay(&q, &delay),
             slows = fault_rate(&q, &rate);
        bool right =
            aborts == (cases[i].status != 0) && delays == (cases[i].delay != 0) &&
            slows == (cases[i].rate != 0) &&
            (!aborts || (a.status == cases[i].status && a.grpc == (cases[i].grpc != 999))) &&
            (!a.grpc || a.grpc_status == cases[i].grpc) && (!delays || delay == cases[i].delay) &&
            (!slows || rate == cases[i].rate);
        if (!right)
            fail_msg("case %zu: abort %d status %u grpc %u, delay %d of %lu ms, rate %d of %lu", i,
                     aborts, a.status, a.grpc_status, delays, (unsigned long)delay, slows,
                     (unsigned long)rate);
        fault_config_destroy(c);
    }
}

/* A share is kept: about a quarter of many requests. */
static void test_share(void **state)
{
    (void)state;
    struct mz_rand rand;
    mz_rand_init(&rand, 7);
    struct fault_cfg *c = config(
        "abort: {http_status: 503, percentage: {numerator: 2500, denominator: TEN_THOUSAND}}");
    struct fault_query q = { c,         mz_headers_create(arena), mz_runtime_here(), &rand, arena,
                             MZ_STR("") };
    unsigned n = 0;
    for (int i = 0; i < 4000; i++) {
        struct fault_abort a;
        n += fault_abort(&q, &a);
    }
    assert_in_range(n, 850, 1150);
    fault_config_destroy(c);
}

static void test_matches(void **state)
{
    (void)state;
    struct fault_cfg *c = config("{downstream_nodes: [a, b], headers: [{name: x-hit, "
                                 "present_match: true}], max_active_faults: 9}");
    struct mz_headers *h = mz_headers_create(arena);
    struct fault_query q = { c, h, mz_runtime_here(), NULL, arena, MZ_STR("") };
    assert_false(fault_matches(&q));
    mz_headers_add(h, MZ_STR("x-hit"), MZ_STR("1"));
    assert_false(fault_matches(&q));
    mz_headers_add(h, MZ_STR("x-envoy-downstream-service-node"), MZ_STR("b"));
    assert_true(fault_matches(&q));
    mz_headers_remove(h, MZ_STR("x-hit"));
    assert_false(fault_matches(&q));
    assert_int_equal(fault_max_active(&q), 5); /* the runtime's */
    fault_config_destroy(c);
}

static void test_downstream_counters(void **state)
{
    (void)state;
    struct fault_cfg *c = config("{}");
    char name[160];
    for (int i = 0; i < FAULT_CLUSTERS_MAX + 50; i++)
        for (int twice = 0; twice < 2; twice++)
            fault_count_cluster(
                c, (struct mz_str){ name, (size_t)snprintf(name, sizeof(name), "c%d", i) },
                FAULT_DELAYS_INJECTED);
    fault_count_cluster(c, MZ_STR(""), FAULT_ABORTS_INJECTED);
    memset(name, 'n', sizeof(name));
    fault_count_cluster(c, (struct mz_str){ name, sizeof(name) }, FAULT_ABORTS_INJECTED);
    uint64_t v;
    assert_true(mz_stats_find(stats, MZ_STR("http.in.fault.c255.delays_injected"), &v));
    assert_int_equal(v, 2);
    assert_false(mz_stats_find(stats, MZ_STR("http.in.fault.c256.delays_injected"), &v));
    assert_false(mz_stats_find(stats, MZ_STR("http.in.fault..aborts_injected"), &v));
    fault_config_destroy(c);
}

static const struct {
    uint64_t kib, at_us, want, got;
} takes[] = {
    /* one bucket after the other: kib begins a new one */
    { 1, 0, 1000, 51 },
    { 0, 0, 1000, 0 },
    { 0, 500, 1000, 0 }, /* half a byte is not lost */
    { 0, 1000, 1000, 1 },
    { 0, 501000, 100, 100 },
    { 0, 501000, 1000, 412 },
    { 0, 100000000, 5000, 1024 }, /* never more than a second's */
    { 0, 90000000, 5000, 0 },     /* a clock that goes back gives nothing */
    { (uint64_t)1 << 32, 0, UINT64_MAX, ((uint64_t)1 << 42) / 20 },
    { 0, 999999, UINT64_MAX, 4398042113057 },
};

static void test_bucket(void **state)
{
    (void)state;
    struct fault_bucket b = { 0 };
    for (size_t i = 0; i < MZ_COUNT(takes); i++) {
        if (takes[i].kib)
            fault_bucket_init(&b, takes[i].kib, takes[i].at_us);
        uint64_t got = fault_bucket_take(&b, takes[i].want, takes[i].at_us);
        if (got != takes[i].got)
            fail_msg("take %zu: %lu instead of %lu", i, (unsigned long)got,
                     (unsigned long)takes[i].got);
    }
}

static const struct {
    const char *yaml, *path;
} errors[] = {
    { "delay: {percentage: {numerator: 1}}", "delay" },
    { "delay: {fixed_delay: 0s}", "delay.fixed_delay" },
    { "abort: {http_status: 199}", "abort.http_status" },
    { "abort: {http_status: 600}", "abort.http_status" },
    { "response_rate_limit: {}", "response_rate_limit" },
    { "response_rate_limit: {fixed_limit: {}}", "response_rate_limit.fixed_limit.limit_kbps" },
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(errors); i++) {
        struct mz_proto_ctx ctx = { .arena = arena };
        struct mz_err err;
        ProtobufCMessage *m;
        assert_false(mz_msg_from_text(&ctx, mz_str_c(errors[i].yaml), MZ_TEXT_YAML,
                                      &pb_HTTPFault__descriptor, &m, &err));
        assert_string_equal(err.path, errors[i].path);
    }
    struct mz_err err;
    assert_null(fault_route_config_build(
        message("headers: [{name: a, string_match: {safe_regex: {regex: '('}}}]",
                &pb_HTTPFault__descriptor),
        NULL, &err));
    assert_string_equal(err.path, "headers[0].string_match.safe_regex.regex");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),  cmocka_unit_test(test_share),
        cmocka_unit_test(test_matches), cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_errors),  cmocka_unit_test(test_downstream_counters),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
