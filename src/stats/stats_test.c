#include "base/test.h"

#include "base/regex.h"
#include "stats/config.h"
#include "stats/stats.h"
#include <stdio.h>
#include <string.h>

enum { RQ_TOTAL, CX_ACTIVE, RQ_TIME, RQ_COMPLETED, SECRET, WHY, CX_LENGTH };
static const struct mz_stat_def defs[] = {
    [RQ_TOTAL] = { "upstream_rq_total", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [CX_ACTIVE] = { "upstream_cx_active", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [RQ_TIME] = { "upstream_rq_time", MZ_HISTOGRAM, MZ_UNIT_MS, MZ_STAT_LAZY },
    [RQ_COMPLETED] = { "upstream_rq_completed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [SECRET] = { "secret", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_HIDDEN },
    [WHY] = { "why", MZ_TEXT, MZ_UNIT_NONE, 0 },
    [CX_LENGTH] = { "upstream_cx_length_ms", MZ_HISTOGRAM, MZ_UNIT_MS, 0 },
};
static const struct mz_stat_kind kind = { "cluster", defs, MZ_COUNT(defs) };
static const char family[] = "upstream_rq_";

static struct mz_stats *store;
static struct mz_scope *one;

static int set_up(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    store = mz_stats_create(3);
    one = mz_scope_create(store, &kind, MZ_STR("cluster.one."));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    mz_scope_unref(one);
    mz_stats_destroy(store);
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_STATS].objects, 0);
    assert_int_equal(c[MZ_MEM_ADMIN].objects, 0);
    return 0;
}

typedef void page_fn(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out);

static void expect(page_fn *page, struct mz_stats_query q, const char *filter, const char *text)
{
    struct mz_err err;
    struct mz_buf b;
    struct mz_regex *re = filter ? mz_regex_create(mz_str_c(filter), &err) : NULL;
    q.filter = re;
    mz_buf_init(&b);
    page(store, &q, &b);
    mz_buf_append(&b, "", 1);
    assert_string_equal(mz_buf_linearize(&b, mz_buf_len(&b)).p, text);
    mz_buf_fini(&b);
    mz_regex_destroy(re);
}
#define QUERY(...) ((struct mz_stats_query){ __VA_ARGS__ })

static void test_text(void **state)
{
    (void)state;
    expect(mz_stats_text, QUERY(0), NULL,
           "cluster.one.why: \"\"\n"
           "cluster.one.upstream_cx_active: 0\n"
           "cluster.one.upstream_rq_total: 0\n"
           "cluster.one.upstream_cx_length_ms: No recorded values\n");
    expect(mz_stats_text, QUERY(.usedonly = true), NULL, "");
    mz_count(one, RQ_TOTAL, 2);
    mz_count(one, SECRET, 1);
    mz_gauge_add(one, CX_ACTIVE, 1);
    mz_gauge_add(one, CX_ACTIVE, -1); /* used, though zero */
    mz_count_code(one, family, 200);
    mz_count_code(one, family, 204);
    mz_count_code(one, family, 404);
    mz_count_code(one, family, 1000); /* there is no such code */
    mz_hist_record(one, RQ_TIME, 3);
    mz_text_set(one, WHY, MZ_STR("say \"so\""));
    expect(mz_stats_text, QUERY(.usedonly = true), NULL,
           "cluster.one.why: \"say \"so\"\"\n"
           "cluster.one.upstream_cx_active: 0\n"
           "cluster.one.upstream_rq_200: 1\n"
           "cluster.one.upstream_rq_204: 1\n"
           "cluster.one.upstream_rq_2xx: 2\n"
           "cluster.one.upstream_rq_404: 1\n"
           "cluster.one.upstream_rq_4xx: 1\n"
           "cluster.one.upstream_rq_total: 2\n");
    expect(mz_stats_text, QUERY(0), "rq_t",
           "cluster.one.upstream_rq_total: 2\ncluster.one.upstream_rq_time: No recorded values\n");
    expect(mz_stats_text, QUERY(.types = 1U << MZ_GAUGE), NULL,
           "cluster.one.upstream_cx_active: 0\n");
    expect(mz_stats_text, QUERY(.types = 1U << MZ_COUNTER, .invert_filter = true), "rq_[0-9]",
           "cluster.one.upstream_rq_total: 2\n");
}

static void test_histograms(void **state)
{
    (void)state;
    mz_hist_record(one, CX_LENGTH, 3);
    mz_hist_record(one, CX_LENGTH, 9);
    mz_hist_record(one, CX_LENGTH, 105);
    mz_stats_flush(store);
    expect(mz_stats_text, QUERY(0), "length",
           "cluster.one.upstream_cx_length_ms: P0(3.05,3.05) P25(3.05,3.05) P50(9.05,9.05) "
           "P75(105,105) P90(105,105) "
           "P95(105,105) P99(105,105) P99.5(105,105) P99.9(105,105) P100(105,105)\n");
    mz_stats_flush(store);
    expect(mz_stats_text, QUERY(.usedonly = true), "length",
           "cluster.one.upstream_cx_length_ms: P0(nan,3.05) P25(nan,3.05) P50(nan,9.05) "
           "P75(nan,105) P90(nan,105) "
           "P95(nan,105) P99(nan,105) P99.5(nan,105) P99.9(nan,105) P100(nan,105)\n");
    expect(mz_stats_text, QUERY(.buckets = MZ_BUCKETS_CUMULATIVE), "length",
           "cluster.one.upstream_cx_length_ms: B0.5(0,0) B1(0,0) B5(0,1) B10(0,2) B25(0,2) "
           "B50(0,2) B100(0,3) B250(0,3) "
           "B500(0,3) B1000(0,3) B2500(0,3) B5000(0,3) B10000(0,3) B30000(0,3) B60000(0,3) "
           "B300000(0,3) B600000(0,3) "
           "B1.8e+06(0,3) B3.6e+06(0,3)\n");
    mz_hist_record(one, CX_LENGTH, 9);
    mz_stats_flush(store);
    expect(mz_stats_text, QUERY(.buckets = MZ_BUCKETS_DISJOINT), "length",
           "cluster.one.upstream_cx_length_ms: B0.5(0,0) B1(0,0) B5(0,1) B10(1,2) B25(0,0) "
           "B50(0,0) B100(0,1) B250(0,0) "
           "B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) B30000(0,0) B60000(0,0) "
           "B300000(0,0) B600000(0,0) "
           "B1.8e+06(0,0) B3.6e+06(0,0)\n");
    expect(mz_stats_text, QUERY(.buckets = MZ_BUCKETS_DETAILED), "length",
           "cluster.one.upstream_cx_length_ms:\n  totals=3,0.1:1, 9,0.1:2, 100,10:1\n  "
           "intervals=9,0.1:1\n"
           "  summary=P0(9.05,3.05) P25(9.05,3.05) P50(9.05,9.033333333333333) "
           "P75(9.05,9.066666666666666) P90(9.05,105) "
           "P95(9.05,105) P99(9.05,105) P99.5(9.05,105) P99.9(9.05,105) P100(9.05,105)\n");
}

static void test_json(void **state)
{
    (void)state;
    expect(mz_stats_json, QUERY(0), "nothing", "{\"stats\":[]}");
    mz_text_set(one, WHY, MZ_STR("a\"\\\n"));
    expect(mz_stats_json, QUERY(0), "why|active",
           "{\"stats\":[{\"name\":\"cluster.one.why\",\"value\":\"a\\\"\\\\\\u000a\"},"
           "{\"name\":\"cluster.one.upstream_cx_active\",\"value\":0}]}");
    mz_hist_record(one, CX_LENGTH, 0);
    mz_stats_flush(store);
    expect(mz_stats_json, QUERY(.buckets = MZ_BUCKETS_DETAILED), "length",
           "{\"stats\":[{\"histograms\":{\"supported_percentiles\":[0,25,50,75,90,95,99,99.5,99.9,"
           "100],\"details\":["
           "{\"name\":\"cluster.one.upstream_cx_length_ms\",\"totals\":[{\"lower_bound\":0,"
           "\"width\":0,\"count\":1}],"
           "\"intervals\":[{\"lower_bound\":0,\"width\":0,\"count\":1}],\"percentiles\":["
           "{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,"
           "\"interval\":0},"
           "{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,"
           "\"interval\":0},"
           "{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,\"interval\":0},{\"cumulative\":0,"
           "\"interval\":0},"
           "{\"cumulative\":0,\"interval\":0}]}]}}]}");
    mz_stats_flush(store);
    expect(mz_stats_json, QUERY(0), "length|active",
           "{\"stats\":[{\"name\":\"cluster.one.upstream_cx_active\",\"value\":0},{\"histograms\":{"
           "\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,100],\"computed_quantiles\":["
           "{\"name\":\"cluster.one.upstream_cx_length_ms\",\"values\":["
           "{\"cumulative\":0,\"interval\":null},{\"cumulative\":0,\"interval\":null},{"
           "\"cumulative\":0,\"interval\":null},"
           "{\"cumulative\":0,\"interval\":null},{\"cumulative\":0,\"interval\":null},{"
           "\"cumulative\":0,\"interval\":null},"
           "{\"cumulative\":0,\"interval\":null},{\"cumulative\":0,\"interval\":null},{"
           "\"cumulative\":0,\"interval\":null},"
           "{\"cumulative\":0,\"interval\":null}]}]}}]}");
}

static struct mz_stats_config *bounds_config(const double *bounds, size_t n)
{
    struct mz_err err;
    const struct mz_stats_buckets_rule rule = { { MZ_STATS_SUFFIX, false, MZ_STR("_ms") },
                                                bounds,
                                                n };
    return mz_stats_config_build(&(struct mz_stats_options){ .use_all_default_tags = true,
                                                             .buckets = &rule,
                                                             .n_buckets = 1 },
                                 &err);
}

static void test_prometheus(void **state)
{
    (void)state;
    static const double bounds[] = { 300000, 10, 2.5 };
    mz_stats_configure(store, bounds_config(bounds, 3));
    struct mz_scope *two = mz_scope_create(store, &kind, MZ_STR("cluster.t\"wo."));
    mz_count(two, RQ_TOTAL, 7);
    mz_count_code(one, family, 503);
    mz_gauge_set(one, CX_ACTIVE, 4);
    mz_text_set(one, WHY, MZ_STR("x"));
    mz_hist_record(one, CX_LENGTH, 1);
    mz_stats_flush(store);
    expect(
        mz_stats_prometheus, QUERY(.usedonly = true, .types = 1U << MZ_GAUGE), NULL,
        "# TYPE envoy_cluster_upstream_rq counter\n"
        "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"one\"} 1\n"
        "# TYPE envoy_cluster_upstream_rq_total counter\n"
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"t\\\"wo\"} 7\n"
        "# TYPE envoy_cluster_upstream_rq_xx counter\n"
        "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"one\"} "
        "1\n"
        "# TYPE envoy_cluster_upstream_cx_active gauge\n"
        "envoy_cluster_upstream_cx_active{envoy_cluster_name=\"one\"} 4\n"
        "# TYPE envoy_cluster_upstream_cx_length_ms histogram\n"
        "envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name=\"one\",le=\"2.5\"} 1\n"
        "envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name=\"one\",le=\"10\"} 1\n"
        "envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name=\"one\",le=\"300000\"} 1\n"
        "envoy_cluster_upstream_cx_length_ms_bucket{envoy_cluster_name=\"one\",le=\"+Inf\"} 1\n"
        "envoy_cluster_upstream_cx_length_ms_sum{envoy_cluster_name=\"one\"} "
        "1.0476190476190476719153821250075\n"
        "envoy_cluster_upstream_cx_length_ms_count{envoy_cluster_name=\"one\"} 1\n");
    expect(mz_stats_prometheus, QUERY(.text_readouts = true), "one.why",
           "# TYPE envoy_cluster_why gauge\n"
           "envoy_cluster_why{envoy_cluster_name=\"one\",text_value=\"x\"} 1\n");
    mz_scope_unref(two);
}

static void test_summary(void **state)
{
    (void)state;
    mz_hist_record(one, CX_LENGTH, 10);
    mz_stats_flush(store);
    static const char begin[] =
        "envoy_cluster_upstream_cx_length_ms{envoy_cluster_name=\"one\",quantile=";
    char text[2048] = "# TYPE envoy_cluster_upstream_cx_length_ms summary\n";
    static const char *const q[] = { "0",    "0.25", "0.5",   "0.75",  "0.9",
                                     "0.95", "0.99", "0.995", "0.999", "1" };
    size_t n = strlen(text), head = n;
    for (size_t i = 0; i < MZ_COUNT(q); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%s\"} 10.5\n", begin, q[i]);
    (void)snprintf(text + n, sizeof(text) - n,
                   "envoy_cluster_upstream_cx_length_ms_sum{envoy_cluster_name=\"one\"} "
                   "10.476190476190476275064611400012\n"
                   "envoy_cluster_upstream_cx_length_ms_count{envoy_cluster_name=\"one\"} 1\n");
    expect(mz_stats_prometheus, QUERY(.buckets = MZ_BUCKETS_SUMMARY), "length", text);
    mz_stats_flush(store); /* nothing in the interval */
    n = head;
    for (size_t i = 0; i < MZ_COUNT(q); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%s\"} nan\n", begin, q[i]);
    (void)snprintf(text + n, sizeof(text) - n,
                   "envoy_cluster_upstream_cx_length_ms_sum{envoy_cluster_name=\"one\"} 0\n"
                   "envoy_cluster_upstream_cx_length_ms_count{envoy_cluster_name=\"one\"} 0\n");
    expect(mz_stats_prometheus, QUERY(.buckets = MZ_BUCKETS_SUMMARY), "length", text);
}

/* Tags that are given: shown in their order, in Prometheus' form without a prefix; the same tags are the same numbers. */
static void test_tagged(void **state)
{
    (void)state;
    const struct mz_stat_tag tags[] = { { MZ_STR("app"), MZ_STR("w\"eb\1\xc3") },
                                        { MZ_STR("none"), MZ_STR("") },
                                        { MZ_STR("last"), MZ_STR("") } };
    struct mz_scope *s = mz_scope_tagged(store, &kind, MZ_STR("custom"), tags, 3);
    assert_ptr_equal(mz_scope_tagged(store, &kind, MZ_STR("custom"), tags, 3), s);
    assert_ptr_not_equal(mz_scope_tagged(store, &kind, MZ_STR("custom"), tags, 2), s);
    mz_count(s, RQ_TOTAL, 3);
    expect(mz_stats_text, QUERY(.usedonly = true), NULL,
           "custom.upstream_rq_total.app.w\"eb__.none.last: 3\n");
    expect(mz_stats_prometheus, QUERY(.usedonly = true), NULL,
           "# TYPE upstream_rq_total counter\n"
           "upstream_rq_total{app=\"w\\\"eb__\",none=\"\",last=\"\"} 3\n");
}

static void test_tagged_without_tags(void **state)
{
    (void)state;
    mz_count(mz_scope_tagged(store, &kind, MZ_STR("custom"), NULL, 0), RQ_TOTAL, 3);
    expect(mz_stats_text, QUERY(.usedonly = true), NULL, "custom.upstream_rq_total: 3\n");
    expect(mz_stats_prometheus, QUERY(.usedonly = true), NULL,
           "# TYPE upstream_rq_total counter\n"
           "upstream_rq_total{} 3\n");
}

/* Names of configurations: one kind a name, type and unit. */
static void test_named(void **state)
{
    (void)state;
    char name[16], evil[] = "a\1b";
    const struct mz_stat_kind *k =
        mz_stat_kind_named(store, MZ_STR("my.total"), MZ_GAUGE, MZ_UNIT_NONE);
    assert_ptr_equal(mz_stat_kind_named(store, MZ_STR("my.total"), MZ_GAUGE, MZ_UNIT_NONE), k);
    assert_ptr_not_equal(mz_stat_kind_named(store, MZ_STR("my.total"), MZ_COUNTER, MZ_UNIT_NONE),
                         k);
    assert_null(mz_stat_kind_named(store, MZ_STR(""), MZ_GAUGE, MZ_UNIT_NONE));
    assert_null(mz_stat_kind_named(store, mz_str_c(evil), MZ_GAUGE, MZ_UNIT_NONE));
    const struct mz_stat_tag tag = { mz_str_c(evil), MZ_STR("v") };
    struct mz_scope *s = mz_scope_tagged(store, k, MZ_STR("c"), &tag, 1);
    mz_stats_thread_slot(1);
    mz_gauge_set_shared(s, 0, 7);
    mz_stats_thread_slot(2);
    mz_gauge_set_shared(s, 0, 9); /* the last one counts */
    mz_stats_thread_slot(0);
    expect(mz_stats_text, QUERY(.usedonly = true), NULL, "c.my.total.a_b.v: 9\n");
    expect(mz_stats_prometheus, QUERY(.usedonly = true), NULL,
           "# TYPE my_total gauge\nmy_total{a_b=\"v\"} 9\n");
    for (unsigned i = 0; i < MZ_STATS_NAMED_MAX; i++) {
        int n = snprintf(name, sizeof(name), "n%u", i);
        k = mz_stat_kind_named(store, (struct mz_str){ name, (size_t)n }, MZ_GAUGE, MZ_UNIT_NONE);
    }
    assert_null(k);
}

static void test_tagged_are_bounded(void **state)
{
    (void)state;
    char text[16];
    for (unsigned i = 0; i < MZ_STATS_TAGGED_MAX; i++) {
        int n = snprintf(text, sizeof(text), "%u", i);
        const struct mz_stat_tag tag = { MZ_STR("n"), { text, (size_t)n } };
        assert_non_null(mz_scope_tagged(store, &kind, MZ_STR("c"), &tag, 1));
    }
    const struct mz_stat_tag more = { MZ_STR("n"), MZ_STR("more") },
                             old = { MZ_STR("n"), MZ_STR("7") };
    assert_null(mz_scope_tagged(store, &kind, MZ_STR("c"), &more, 1));
    assert_non_null(mz_scope_tagged(store, &kind, MZ_STR("c"), &old, 1));
}

static void test_find_and_reset(void **state)
{
    (void)state;
    uint64_t v = 99;
    assert_false(mz_stats_find(store, MZ_STR("cluster.one.upstream_rq_completed"), &v)); /* lazy */
    assert_false(mz_stats_find(store, MZ_STR("cluster.one.upstream_rq_200"), &v));
    assert_int_equal(v, 99);
    mz_count(one, RQ_TOTAL, 5);
    mz_stats_thread_slot(1);
    mz_count(one, RQ_TOTAL, 6);
    mz_count_code(one, family, 200);
    mz_gauge_add(one, CX_ACTIVE, 3);
    mz_stats_thread_slot(2);
    mz_count_code(one, family, 200);
    mz_gauge_add(one, CX_ACTIVE, -2); /* another thread than the one that added */
    mz_stats_thread_slot(0);
    assert_int_equal(mz_scope_value(one, RQ_TOTAL), 11);
    assert_true(mz_stats_find(store, MZ_STR("cluster.one.upstream_rq_200"), &v));
    assert_int_equal(v, 2);
    assert_true(mz_stats_find(store, MZ_STR("cluster.one.upstream_cx_active"), &v));
    assert_int_equal(v, 1);
    mz_stats_reset_counters(store);
    mz_count(one, RQ_TOTAL, 1);
    mz_count_code(one, family, 200);
    expect(mz_stats_text, QUERY(.usedonly = true), NULL,
           "cluster.one.upstream_cx_active: 1\n"
           "cluster.one.upstream_rq_200: 1\n"
           "cluster.one.upstream_rq_2xx: 1\n"
           "cluster.one.upstream_rq_total: 1\n");
    mz_stats_reset_counters(store);
    assert_int_equal(mz_scope_value(one, RQ_TOTAL), 0);
    assert_true(mz_stats_find(store, MZ_STR("cluster.one.upstream_rq_2xx"),
                              &v)); /* used once, shown ever after */
    assert_int_equal(v, 0);
}

static void test_scopes_are_shared(void **state)
{
    (void)state;
    static const struct mz_stat_kind other = { "other", defs, 1 };
    struct mz_scope *again = mz_scope_create(store, &kind, MZ_STR("cluster.one."));
    assert_ptr_equal(again, one);
    struct mz_scope *different = mz_scope_create(store, &other, MZ_STR("cluster.one."));
    assert_ptr_not_equal(different, one);
    mz_scope_unref(different);
    assert_ptr_equal(mz_scope_ref(one), one);
    mz_scope_unref(again);
    mz_scope_unref(one);
    mz_count(one, RQ_TOTAL, 1);
    assert_int_equal(mz_scope_value(one, RQ_TOTAL), 1);
}

static void test_scopes_that_begin_alike(void **state)
{
    (void)state;
    static const uint64_t values[] = { 0, 7 };
    static const char *const names[] = { "cluster.two.", "cluster.three." };
    struct mz_scope *v[MZ_COUNT(names)];
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        v[i] = mz_scope_create(store, &kind, mz_str_c(names[i]));
        assert_true(mz_scope_begin(v[i], values, MZ_COUNT(values)));
        assert_false(mz_scope_begin(v[i], values, MZ_COUNT(values)));
        assert_int_equal(mz_scope_value(v[i], CX_ACTIVE), 7);
    }
    mz_gauge_set(v[0], CX_ACTIVE, 5);
    mz_gauge_add(v[0], CX_ACTIVE, -1);
    assert_int_equal(mz_scope_value(v[0], CX_ACTIVE), 4);
    assert_int_equal(mz_scope_value(v[1], CX_ACTIVE), 7); /* what they share does not change */
    mz_count(one, RQ_TOTAL, 1);
    assert_false(mz_scope_begin(one, values, MZ_COUNT(values))); /* written to already */
    assert_int_equal(mz_scope_value(one, CX_ACTIVE), 0);
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        mz_scope_unref(v[i]);
}

/* Numbers of hosts are many over the years: what no scope begins with any more is not kept. */
static void test_first_numbers_go_with_their_scopes(void **state)
{
    (void)state;
    struct mz_mem_count before[MZ_MEM__COUNT], after[MZ_MEM__COUNT];
    mz_mem_counts(before);
    for (uint64_t i = 0; i < 100; i++) {
        const uint64_t values[] = { 0, i };
        struct mz_scope *s = mz_scope_create(store, &kind, MZ_STR("cluster.two."));
        struct mz_scope *t = mz_scope_create(store, &kind, MZ_STR("cluster.three."));
        assert_true(mz_scope_begin(s, values, 2) && mz_scope_begin(t, values, 2));
        mz_scope_unref(s);
        assert_int_equal(mz_scope_value(t, CX_ACTIVE), i);
        mz_scope_unref(t);
    }
    mz_mem_counts(after);
    assert_int_equal(after[MZ_MEM_STATS].objects, before[MZ_MEM_STATS].objects);
}

static void test_rejected_are_not_shown(void **state)
{
    (void)state;
    struct mz_err err;
    static const struct mz_stats_rule rule = { MZ_STATS_PREFIX, false,
                                               MZ_STR_INIT("cluster.one.upstream_rq_") };
    mz_stats_configure(store, mz_stats_config_build(
                                  &(struct mz_stats_options){
                                      .filter = MZ_STATS_INCLUDE, .rules = &rule, .n_rules = 1 },
                                  &err));
    mz_count_code(one, family, 200);
    mz_count(one, RQ_TOTAL, 1);
    expect(mz_stats_text, QUERY(0), NULL,
           "cluster.one.upstream_rq_200: 1\ncluster.one.upstream_rq_2xx: "
           "1\ncluster.one.upstream_rq_total: 1\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_text),
        TEST(test_histograms),
        TEST(test_json),
        TEST(test_prometheus),
        TEST(test_summary),
        TEST(test_tagged),
        TEST(test_tagged_without_tags),
        TEST(test_named),
        TEST(test_tagged_are_bounded),
        TEST(test_find_and_reset),
        TEST(test_scopes_are_shared),
        TEST(test_scopes_that_begin_alike),
        TEST(test_first_numbers_go_with_their_scopes),
        TEST(test_rejected_are_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
