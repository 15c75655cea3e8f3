/* JSON as it is written, and metrics. */
#include "base/test.h"

#include <math.h>

#include "control/debug/json.h"
#include "control/monitor/metrics.h"

static void same(struct mz_buf *b, const char *want)
{
    mz_buf_append(b, "", 1);
    assert_string_equal(mz_buf_linearize(b, mz_buf_len(b)).p, want);
    mz_buf_fini(b);
}

static void test_json(void **state)
{
    struct mz_buf b;
    struct json_out j = { .b = &b };
    (void)state;
    mz_buf_init(&b);
    json_open(&j, '{');
    json_key(&j, "a");
    json_open(&j, '[');
    json_u64(&j, 1);
    json_str(&j, MZ_STR("x\"\n<\x01"));
    json_open(&j, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_member(&j, "empty", MZ_STR(""));
    json_key(&j, "b");
    json_bool(&j, true);
    json_key(&j, "t");
    json_time(&j, 1767225600000001);
    json_key(&j, "raw");
    json_raw(&j, MZ_STR("{\n \"k\": 1\n}"));
    json_close(&j, '}');
    same(&b,
         "{\n  \"a\": [\n    1,\n    \"x\\\"\\n\\u003c\\u0001\",\n    {}\n  ],\n  \"b\": true,\n"
         "  \"t\": \"2026-01-01T00:00:00.000001Z\",\n  \"raw\": {\n   \"k\": 1\n  }\n}");
}

static void test_metrics(void **state)
{
    static const double bounds[] = { .5, 1 };
    struct mz_distribution d = { .bounds = bounds, .bounds_n = 2 };
    struct mz_buf b;
    (void)state;
    mz_buf_init(&b);
    mz_distribution_add(&d, .25);
    mz_distribution_add(&d, 1);
    mz_distribution_add(&d, 2);
    mz_metric_distribution(&b, "m", "help", &d);
    mz_metric_value(&b, "v", "l", MZ_STR("a\"\\\n"), 3);
    same(&b, "# HELP m help\n# TYPE m histogram\nm_bucket{le=\"0.5\"} 1\nm_bucket{le=\"1\"} 2\n"
             "m_bucket{le=\"+Inf\"} 3\nm_sum 3.25\nm_count 3\nv{l=\"a\\\"\\\\\\n\"} 3\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_json),
                                        cmocka_unit_test(test_metrics) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
