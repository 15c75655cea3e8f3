#include "base/test.h"

#include "filters/http/local_ratelimit.h"
#include "proto/mapper.h"
#include <pthread.h>

/* Token buckets, the table of those that requests choose, and what configurations say (H9). */

static void test_bucket(void **state)
{
    (void)state;
    const struct bucket_rate r = { 4, 0.1 };
    token_bucket b;
    uint64_t now = 5000000;
    bucket_fill(&b);
    for (uint64_t left = 4; left-- > 0;) {
        assert_true(bucket_take(&b, &r, 1, now));
        assert_int_equal(bucket_left(&b, &r, now), left);
        assert_int_equal(bucket_wait_s(&b, &r, now), left ? 0 : 10);
    }
    assert_false(bucket_take(&b, &r, 1, now));
    assert_int_equal(bucket_wait_s(&b, &r, now + 1200000), 9);
    assert_false(bucket_take(&b, &r, 1, now + 9999000));
    assert_true(bucket_take(&b, &r, 1, now + 10000000));
    assert_false(bucket_take(&b, &r, 1, now)); /* another loop's clock may be behind */
    assert_false(bucket_take(&b, &r, 0, now + 99000000));
    assert_true(bucket_take(&b, &r, 4, now + 99000000));
    assert_false(bucket_take(&b, &r, 1, now + 99000000));
    assert_false(bucket_take(&b, &r, 5, now + 999000000000)); /* more than fit */
}

/* A bucket gives what flows in, whatever the steps: sums of doubles lose nothing that matters. */
static void test_long_run(void **state)
{
    (void)state;
    const struct bucket_rate r = { 3, 7.0 / 3 };
    token_bucket b;
    uint64_t given = 0, now = 123456789;
    bucket_fill(&b);
    for (unsigned i = 0; i < 300000; i++, now += 1000)
        given += bucket_take(&b, &r, 1, now);
    assert_in_range(given, 702, 703); /* 3 at first, 300 s of 7/3 a second */
}

static void test_table(void **state)
{
    (void)state;
    const struct bucket_rate r = { 1, 0.001 };
    struct lrl_table *t = mz_alloc0(MZ_MEM_MISC, lrl_table_bytes(2));
    lrl_table_init(t, 2);
    const struct {
        uint64_t key;
        bool fresh; /* has its token */
    } steps[] = { { 10, true }, { 10, false }, { 0, true }, { 10, false },
                  { 30, true }, { 10, false }, { 0, true }, { 30, true } };
    for (size_t i = 0; i < MZ_COUNT(steps); i++)
        if (bucket_take(lrl_table_get(t, steps[i].key), &r, 1, 1000000) != steps[i].fresh)
            fail_msg("step %zu", i);
    mz_free(MZ_MEM_MISC, t);
}

static void test_large_table_is_bounded(void **state)
{
    (void)state;
    const struct bucket_rate r = { 1, 0.001 };
    struct lrl_table *t = mz_alloc0(MZ_MEM_MISC, lrl_table_bytes(1000));
    lrl_table_init(t, 1000);
    assert_in_range(lrl_table_bytes(1000), 900 * sizeof(struct lrl_slot),
                    1000 * sizeof(struct lrl_slot) + sizeof(*t));
    unsigned fresh = 0, kept = 0;
    for (uint64_t i = 0; i < 100000; i++)
        fresh += bucket_take(lrl_table_get(t, mz_xxh64(&i, sizeof(i), 0)), &r, 1, 1000000);
    assert_int_equal(fresh, 100000);
    for (uint64_t i = 99900; i < 100000; i++) /* the newest are there still, nearly all */
        kept += !bucket_take(lrl_table_get(t, mz_xxh64(&i, sizeof(i), 0)), &r, 1, 1000000);
    assert_in_range(kept, 95, 100);
    mz_free(MZ_MEM_MISC, t);
}

static struct {
    token_bucket bucket;
    struct lrl_table *table;
    uint64_t given;
} shared;

static void *taker(void *arg)
{
    static const struct bucket_rate r = { 1000, 0.001 };
    uint64_t mine = 0, key = 1;
    (void)arg;
    for (unsigned i = 0; i < 20000; i++) {
        mine += bucket_take(&shared.bucket, &r, 1, 1000000);
        key = key * 6364136223846793005u + 1442695040888963407u;
        (void)bucket_take(lrl_table_get(shared.table, key >> 33), &r, 1, 1000000);
    }
    __atomic_fetch_add(&shared.given, mine, __ATOMIC_RELAXED);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t t[4];
    shared.table = mz_alloc0(MZ_MEM_MISC, lrl_table_bytes(8));
    lrl_table_init(shared.table, 8);
    bucket_fill(&shared.bucket);
    for (size_t i = 0; i < MZ_COUNT(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, taker, NULL), 0);
    for (size_t i = 0; i < MZ_COUNT(t); i++)
        pthread_join(t[i], NULL);
    assert_int_equal(shared.given, 1000);
    mz_free(MZ_MEM_MISC, shared.table);
}

/* ---- configuration ---- */

#define T(n) "token_bucket: {max_tokens: " #n ", fill_interval: 1s}"
static const struct {
    const char *yaml, *error;
} configs[] = {
    { "{stat_prefix: a}", "" },
    { "{stat_prefix: a, " T(1) ", descriptors: [{entries: [{key: k}], " T(2) "}]}", "" },
    { "{stat_prefix: a, token_bucket: {max_tokens: 1, fill_interval: 0.049s}}",
      "token_bucket.fill_interval: must be at least 50ms, is 49ms" },
    { "{stat_prefix: a, descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: "
      "1, "
      "fill_interval: 0.01s}}]}",
      "descriptors[0].token_bucket.fill_interval: must be at least 50ms, is 10ms" },
    { "{stat_prefix: a, descriptors: [{entries: [{key: k, value: v}], " T(
          1) "}, {entries: [{key: k, "
             "value: v}], " T(2) "}]}",
      "descriptors[1].entries: the same as those of descriptors[0]" },
    { "{stat_prefix: a, rate_limits: [{stage: 1, actions: [{remote_address: {}}]}]}",
      "rate_limits[0]: stage and disable_key are for rate_limits of routes" },
    { "{stat_prefix: a, local_cluster_rate_limit: {}, local_rate_limit_per_downstream_connection: "
      "true}",
      "local_cluster_rate_limit: not with local_rate_limit_per_downstream_connection" },
};

static struct mz_stats *stats;
static struct lrl_cfg *config(struct mz_arena *a, const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_factory f = { .stats = stats, .workers = 1, .node_cluster = MZ_STR("svc") };
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML,
                          &pb_http_local_ratelimit_LocalRateLimit__descriptor, &m, err))
        fail_msg("%s: %s", err->path, err->msg);
    return lrl_config_build(m, &f, err);
}

static void test_config(void **state)
{
    (void)state;
    stats = mz_stats_create(2);
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    for (size_t i = 0; i < MZ_COUNT(configs); i++) {
        struct mz_err err;
        char text[512] = "";
        struct lrl_cfg *c = config(a, configs[i].yaml, &err);
        if (c)
            lrl_config_destroy(c);
        else
            (void)mz_err_text(&err, text, sizeof(text));
        assert_string_equal(text, configs[i].error);
    }
    mz_arena_destroy(a);
    mz_stats_destroy(stats);
}

static void test_find(void **state)
{
    (void)state;
    static struct mz_descriptor_entry v[] = { { MZ_STR_INIT("k"), MZ_STR_INIT("1") },
                                              { MZ_STR_INIT("l"), MZ_STR_INIT("2") } };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err;
    stats = mz_stats_create(2);
    struct lrl_cfg *c =
        config(a,
               "{stat_prefix: a, descriptors: [{entries: [{key: k}], " T(
                   1) "}, {entries: [{key: k, value: "
                      "'1'}], " T(2) "}, {entries: [{key: k}, {key: l, value: '2'}], " T(
                          3) "}, {entries: [{key: l, "
                             "value: '2'}], " T(4) "}]}",
               &err);
    assert_non_null(c);
    const struct {
        struct mz_descriptor d;
        int rule; /* -1: none */
    } cases[] = {
        { { v, 1, 1 }, 1 }, { { v, 2, 1 }, 2 }, { { v + 1, 1, 1 }, 3 }, { { v, 0, 1 }, -1 }
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct lrl_rule *r = lrl_find(c, &cases[i].d, lrl_key(cases[i].d.v, cases[i].d.n, a));
        assert_int_equal(r ? r - c->rules : -1, cases[i].rule);
    }
    v[0].value = MZ_STR("9");
    assert_ptr_equal(lrl_find(c, &cases[0].d, lrl_key(v, 1, a)), &c->rules[0]);
    assert_string_equal(c->rules[2].text.p, "descriptors[2] k=* l=2");
    lrl_config_destroy(c);
    mz_arena_destroy(a);
    mz_stats_destroy(stats);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_bucket),  cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_table),   cmocka_unit_test(test_large_table_is_bounded),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_config),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests_name("local_ratelimit", t, NULL, NULL);
}
