/* Statistics as proxies write them. */
#include "base/test.h"

#include "base/alloc.h"

#include <math.h>

#include "cli/numbers.h"
#include "cli/prometheus.h"

static void test_samples(void **state)
{
    (void)state;
    static const struct {
        const char *line, *name, *label, *value_of_label;
        double value;
    } cases[] = {
        { "a 1", "a", "x", "", 1 },
        { "a{} 2 1700000000000", "a", "x", "", 2 },
        { "a{x=\"1\"} 3", "a", "x", "1", 3 },
        { "a{y=\"2\",x=\"1\"} 4.5", "a", "x", "1", 4.5 },
        { "a{y=\"}, x=\\\"9\",x=\"}\"} +Inf", "a", "x", "}", INFINITY },
        { "a_b:c{x=\"\"} 1e3", "a_b:c", "x", "", 1000 },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str rest = mz_str_c(cases[i].line);
        struct prom_sample s;
        assert_true(prom_next(&rest, &s));
        assert_true(mz_str_eq(s.name, mz_str_c(cases[i].name)));
        assert_true(s.value == cases[i].value);
        assert_true(mz_str_eq(prom_label(&s, cases[i].label), mz_str_c(cases[i].value_of_label)));
        assert_false(prom_next(&rest, &s));
    }
}

static void test_what_is_none(void **state)
{
    (void)state;
    static const char text[] =
        "# HELP a b\n\n{x=\"1\"} 2\na{x=\"1 3\na{x=\"\\\nb\nc x\nd NaN\nlast{z} 7\n";
    struct mz_str rest = mz_str_c(text);
    struct prom_sample s;
    assert_true(prom_next(&rest, &s));
    assert_true(mz_str_eq(s.name, MZ_STR("last")) && s.value == 7);
    assert_true(mz_str_eq(prom_label(&s, "z"), MZ_STR("")));
    assert_false(prom_next(&rest, &s));
}

#define HISTOGRAM(ten, hundred, all)                                                               \
    "istio_request_duration_milliseconds_bucket{reporter=\"destination\",le=\"10\"} " ten "\n"     \
    "istio_request_duration_milliseconds_bucket{reporter=\"destination\",le=\"100\"} " hundred     \
    "\n"                                                                                           \
    "istio_request_duration_milliseconds_bucket{reporter=\"destination\",le=\"+Inf\"} " all "\n"
#define ASKED(reporter, code, to, n)                                                               \
    "istio_requests_total{reporter=\"" reporter "\",response_code=\"" code                         \
    "\",source_workload=\"a\",source_workload_namespace=\"x\",destination_workload=\"" to          \
    "\",destination_workload_namespace=\"x\",destination_service=\"h.test\",connection_security_"  \
    "policy=\"none\"} " n "\n"

static void test_numbers(void **state)
{
    (void)state;
    static const char first[] = HISTOGRAM("2", "2", "2"),
                      second[] = HISTOGRAM("4", "12", "13") ASKED("destination", "200", "b", "10")
                          ASKED("destination", "503", "b", "2") ASKED("source", "200", "b", "7")
                              ASKED("source", "0", "unknown",
                                    "1") "envoy_server_memory_allocated{} 1048576\n";
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct numbers before = { .ok = false }, after = { .ok = false };
    numbers_read(&before, mz_str_c(first), a);
    numbers_read(&after, mz_str_c(second), a);
    assert_true(after.requests[SIDE_IN] == 12 && after.errors[SIDE_IN] == 2);
    assert_true(after.requests[SIDE_OUT] == 8 && after.errors[SIDE_OUT] == 1);
    assert_true(after.memory_bytes == 1048576);
    assert_int_equal(after.calls.n, 2); /* what b's proxy tells, and who has none */
    assert_true(mz_str_eq(after.calls.v[0].from, MZ_STR("a.x")) &&
                mz_str_eq(after.calls.v[0].to, MZ_STR("b.x")) && after.calls.v[0].requests == 12 &&
                after.calls.v[0].errors == 2);
    assert_true(mz_str_eq(after.calls.v[1].to, MZ_STR("h.test")));
    /* Eleven came: two below 10 ms, eight below 100, one above. */
    assert_true(numbers_quantile(&before.time[SIDE_IN], &after.time[SIDE_IN], 2.0 / 11) == 10);
    assert_true(numbers_quantile(&before.time[SIDE_IN], &after.time[SIDE_IN], 6.0 / 11) == 55);
    assert_true(numbers_quantile(&before.time[SIDE_IN], &after.time[SIDE_IN], 1) == 100);
    assert_true(numbers_quantile(&after.time[SIDE_IN], &after.time[SIDE_IN], 0.5) < 0);
    assert_true(numbers_gain(5, 7) == 2 && numbers_gain(7, 3) == 3);
    numbers_fini(&before);
    numbers_fini(&after);
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_samples),
                                        cmocka_unit_test(test_what_is_none),
                                        cmocka_unit_test(test_numbers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
