#include "base/test.h"

#include "base/rand.h"
#include "stats/stats_priv.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void test_bins(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        double low, width;
    } t[] = {
        { 0, 0, 0 },
        { 1, 1, 0.1 },
        { 9, 9, 0.1 },
        { 10, 10, 1 },
        { 99, 99, 1 },
        { 100, 100, 10 },
        { 109, 100, 10 },
        { 110, 110.00000000000001, 10 },
        { 9999, 9900, 100 },
        { 10000, 10000, 1000 },
        { UINT64_MAX, 1.8e19, 1e18 },
    };
    for (size_t i = 0; i < MZ_COUNT(t); i++) {
        uint16_t bin = mz_hist_bin(t[i].value);
        assert_true(bin < MZ_HIST_BINS);
        assert_true(fabs(mz_hist_bin_low(bin) - t[i].low) <= t[i].low * 1e-15);
        assert_true(mz_hist_bin_width(bin) == t[i].width);
    }
}

/* Each value lies in its bin, and bins ascend with the values. */
static void test_bins_hold_their_values(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 7);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t v = i < 100000 ? i : mz_rand_u64(&r) >> mz_rand_below(&r, 64);
        uint16_t bin = mz_hist_bin(v);
        double low = mz_hist_bin_low(bin), x = (double)v;
        assert_true(low <= x * (1 + 1e-15));
        assert_true(x <= (low + mz_hist_bin_width(bin)) * (1 + 1e-15));
        assert_true(v == UINT64_MAX || mz_hist_bin(v + 1) >= bin);
    }
}

static struct mz_hist_view view_of(const uint64_t *values, size_t n)
{
    uint64_t *sums = mz_newn0(MZ_MEM_STATS, uint64_t, MZ_HIST_BINS);
    struct mz_hist *h = mz_hist_create();
    struct mz_hist_view v = { 0 };
    for (size_t i = 0; i < n; i++)
        mz_hist_add(h, values[i]);
    mz_hist_sum(h, sums);
    mz_hist_view_latch(&v, sums);
    mz_hist_destroy(h);
    mz_free(MZ_MEM_STATS, sums);
    return v;
}

/* What the real Envoy 1.40 showed for these values. */
static const struct {
    uint64_t values[20];
    size_t n;
    const char *quantiles, *sum;
} golden[] = {
    { { 3, 9, 105 },
      3,
      "3.05 3.05 9.05 105 105 105 105 105 105 105",
      "116.86080884667968859957909444347" },
    { { 2, 4, 7 },
      3,
      "2.05 2.05 4.05 7.05 7.05 7.05 7.05 7.05 7.05 7.05",
      "13.147808593925184084127977257594" },
    { { 7, 7 },
      2,
      "7.033333333333333 7.033333333333333 7.033333333333333 7.066666666666666 7.066666666666666 "
      "7.066666666666666 "
      "7.066666666666666 7.066666666666666 7.066666666666666 7.066666666666666",
      "14.0992907801418443369811939192" },
    { { 511, 517 },
      2,
      "513.3333333333333 513.3333333333333 513.3333333333333 516.6666666666666 516.6666666666666 "
      "516.6666666666666 "
      "516.6666666666666 516.6666666666666 516.6666666666666 516.6666666666666",
      "1029.902912621359064360149204731" },
    { { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 },
      19,
      "1.005 1.025 1.05 1.075 1.09 1.095 1.095 1.095 1.095 1.095",
      "19.904761904761905100258445600048" },
    { { 15 },
      1,
      "15.5 15.5 15.5 15.5 15.5 15.5 15.5 15.5 15.5 15.5",
      "15.483870967741935942285635974258" },
    { { 0, 0, 0 }, 3, "0 0 0 0 0 0 0 0 0 0", "0" },
    { { 0 }, 0, "nan nan nan nan nan nan nan nan nan nan", "0" },
};

static void test_quantiles(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(golden); i++) {
        struct mz_hist_view v = view_of(golden[i].values, golden[i].n);
        double q[MZ_HIST_QUANTILES];
        char text[1024] = "", one[DOUBLE_TEXT];
        size_t n = 0;
        mz_hist_view_quantiles(&v, false, q);
        for (unsigned k = 0; k < MZ_HIST_QUANTILES; k++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", k ? " " : "",
                                  double_text(q[k], one));
        assert_string_equal(text, golden[i].quantiles);
        (void)snprintf(text, sizeof(text), "%.32g", mz_hist_view_sum(&v, false));
        assert_string_equal(text, golden[i].sum);
        assert_int_equal(mz_hist_view_count(&v, false), golden[i].n);
        mz_hist_view_fini(&v);
    }
}

/* A bound takes in the whole bin in which it lies. */
static void test_below(void **state)
{
    (void)state;
    static const uint64_t values[] = { 0, 1, 5, 100, 105, 110, 3600000, 4000000 };
    struct mz_hist_view v = view_of(values, MZ_COUNT(values));
    static const struct {
        double bound;
        uint64_t n;
    } t[] = { { 0, 1 },   { 0.5, 1 }, { 1, 2 },       { 5, 3 },   { 99, 3 },
              { 100, 5 }, { 250, 6 }, { 3600000, 7 }, { 1e19, 8 } };
    for (size_t i = 0; i < MZ_COUNT(t); i++)
        assert_int_equal(mz_hist_view_below(&v, false, t[i].bound), t[i].n);
    mz_hist_view_fini(&v);
}

static void test_latch(void **state)
{
    (void)state;
    uint64_t *sums = mz_newn0(MZ_MEM_STATS, uint64_t, MZ_HIST_BINS);
    struct mz_hist_view v = { 0 };
    sums[5] = 2;
    mz_hist_view_latch(&v, sums);
    assert_int_equal(mz_hist_view_count(&v, true), 2);
    sums[3] = 1;
    sums[5] = 5;
    mz_hist_view_latch(&v, sums);
    assert_int_equal(v.n, 2);
    assert_int_equal(v.bars[0].interval, 1);
    assert_int_equal(v.bars[1].interval, 3);
    assert_int_equal(v.bars[1].total, 5);
    mz_hist_view_latch(&v, sums);
    assert_int_equal(mz_hist_view_count(&v, true), 0);
    assert_int_equal(mz_hist_view_count(&v, false), 6);
    mz_hist_view_fini(&v);
    mz_free(MZ_MEM_STATS, sums);
}

static void test_double_text(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } t[] = {
        { 0, "0" },
        { 1, "1" },
        { -2.5, "-2.5" },
        { 0.1, "0.1" },
        { 105, "105" },
        { 1e15, "1000000000000000" },
        { 1e16, "1e+16" },
        { 1.5e300, "1.5e+300" },
        { 0.0001, "0.0001" },
        { 0.00001, "1e-05" },
        { 1.0 / 3, "0.3333333333333333" },
        { 10 + 1.0 / 3, "10.333333333333334" },
        { 123456.789, "123456.789" },
    };
    char text[DOUBLE_TEXT];
    for (size_t i = 0; i < MZ_COUNT(t); i++)
        assert_string_equal(double_text(t[i].v, text), t[i].text);
    assert_string_equal(double_text((double)INFINITY, text), "inf");
    assert_string_equal(double_json(30000, text), "30000"); /* as Envoy's JSON has them */
    assert_string_equal(double_json(300000, text), "3e+05");
    assert_string_equal(double_json(1800000, text), "1800000");
    assert_string_equal(double_json(1.05, text), "1.05");
    assert_string_equal(double_json((double)NAN, text), "null");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bins),      cmocka_unit_test(test_bins_hold_their_values),
        cmocka_unit_test(test_quantiles), cmocka_unit_test(test_below),
        cmocka_unit_test(test_latch),     cmocka_unit_test(test_double_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
