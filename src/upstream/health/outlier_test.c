/* Outlier detection (U5): scripts of outcomes and time against a fake clock; who is out after each step, and the counters. */
#include "base/clock.h"
#include "base/test.h"
#include "upstream/health/health.h"
#include "upstream/stats.h"
#include <stdlib.h>
#include <string.h>

static uint64_t fake_us = 1000000;
static uint64_t fake_now(void)
{
    return fake_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *upstream;
static struct mz_cluster *cluster; /* reference */
static struct host_sets *sets;     /* reference */

static bool add(const char *options, unsigned hosts, struct mz_err *err)
{
    char yaml[8192];
    size_t n = (size_t)snprintf(yaml, sizeof(yaml),
                                "name: x\noutlier_detection: {%s}\nload_assignment: {cluster_name: "
                                "x, endpoints: [{lb_endpoints: [",
                                options);
    for (unsigned i = 0; i < hosts; i++)
        n += (size_t)snprintf(yaml + n, sizeof(yaml) - n,
                              "%s{endpoint: {address: {socket_address: {address: 127.0.0.1, "
                              "port_value: %u}}}}",
                              i ? ", " : "", 1000 + i);
    (void)snprintf(yaml + n, sizeof(yaml) - n, "]}]}\n");
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m = NULL;
    bool ok =
        mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               false, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void rig_start(const char *options, unsigned hosts)
{
    struct mz_err err;
    char text[512];
    mz_clock = &fake_clock;
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    if (!add(options, hosts, &err))
        fail_msg("%s", mz_err_text(&err, text, sizeof(text)));
    upstream = mz_upstream_create(manager, loop);
    mz_loop_turn(loop, 0);
    cluster = mz_cluster_ref(mz_wcluster_info(mz_upstream_find(upstream, MZ_STR("x"))));
    sets = cluster_sets(cluster);
}

static void rig_stop(void)
{
    host_sets_unref(sets);
    mz_upstream_destroy(upstream);
    mz_cluster_unref(cluster);
    mz_cluster_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_clock = &mz_clock_system;
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
}

static void pass_ms(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 50) {
        fake_us += 50000;
        mz_loop_turn(loop, 0);
    }
}

static void report(struct mz_host *h, const char *what)
{
    switch (*what) {
    case 'F':
        mz_outlier_report(h, MZ_OUTLIER_CONNECT_FAILED, 0);
        return;
    case 'T':
        mz_outlier_report(h, MZ_OUTLIER_TIMEOUT, 504);
        return;
    case 'C':
        mz_outlier_report(h, MZ_OUTLIER_CONNECTED, 0);
        return;
    case 'A':
        mz_outlier_report(h, MZ_OUTLIER_CONNECTED_ALL, 0);
        return;
    default:
        mz_outlier_status(h, (unsigned)strtoul(what, NULL, 10));
    }
}

/* "a500*3" host a answers 500 three times (F connect failed, T timeout, C connected, A connected for good); "+2000" ms pass;
 * "=ab" those are out, no others. */
static void play(const char *name, const char *script)
{
    struct mz_str rest = mz_str_c(script), word;
    while (mz_str_split(&rest, ' ', &word)) {
        char op[32];
        (void)snprintf(op, sizeof(op), MZ_STR_FMT, MZ_STR_ARG(word));
        if (op[0] == '+') {
            pass_ms(strtoull(op + 1, NULL, 10));
        } else if (op[0] == '=') {
            mz_loop_turn(loop, 0);
            mz_loop_turn(loop, 0);
            for (uint32_t i = 0; i < sets->n_hosts; i++) {
                bool out = sets->hosts[i]->health_flags & MZ_HOST_FAILED_OUTLIER;
                if (out != (strchr(op + 1, 'a' + (int)i) != NULL))
                    fail_msg("%s: at '%s' before '" MZ_STR_FMT "' host %c is %s", name, op,
                             MZ_STR_ARG(rest), 'a' + (int)i, out ? "out" : "in");
            }
        } else {
            const char *times = strchr(op, '*');
            for (unsigned long n = times ? strtoul(times + 1, NULL, 10) : 1; n; n--)
                report(sets->hosts[op[0] - 'a'], op + 1);
            mz_loop_turn(loop, 0);
            mz_loop_turn(loop, 0);
        }
    }
}

static void assert_counters(const char *name, const char *want)
{
    struct mz_str rest = mz_str_c(want), word;
    while (mz_str_split(&rest, ' ', &word)) {
        struct mz_str stat;
        (void)mz_str_split(&word, '=', &stat);
        char full[128];
        (void)snprintf(full, sizeof(full), "cluster.x.%s" MZ_STR_FMT,
                       stat.p[0] == 'm' ? "" : "outlier_detection.ejections_", MZ_STR_ARG(stat));
        uint64_t got = 0, expected = 0;
        assert_true(mz_str_u64(word, &expected));
        if (!mz_stats_find(stats, mz_str_c(full), &got) || got != expected)
            fail_msg("%s: %s is %llu, not %llu", name, full, (unsigned long long)got,
                     (unsigned long long)expected);
    }
}

#define FAST "interval: 1s, base_ejection_time: 3s, max_ejection_percent: 100, "
#define RATES                                                                                      \
    FAST "consecutive_5xx: 0, success_rate_minimum_hosts: 3, success_rate_request_volume: 10, "    \
         "failure_percentage_minimum_hosts: 3, failure_percentage_request_volume: 10, "
static const struct {
    const char *name, *options;
    unsigned hosts;
    const char *script, *counters;
} cases[] = {
    { "five 5xx in a row", FAST, 2, "a500*4 = a200 a500*4 = a500 =a b500*4 =a",
      "active=1 total=1 enforced_total=1 consecutive_5xx=1 detected_consecutive_5xx=1 "
      "enforced_consecutive_5xx=1 membership_healthy=1" },
    { "4xx do not count", FAST, 2, "a404*20 a499*9 =", "active=0 detected_consecutive_5xx=0" },
    { "back after the time, later the next time", FAST, 2,
      "a500*5 =a +2900 =a +200 = a500*5 =a +5800 =a +1300 =",
      "active=0 enforced_total=2 membership_healthy=2" },
    { "well for some intervals: short again", FAST, 2,
      "a500*5 =a +4100 = +3000 a500*5 =a +4100 =", "active=0 enforced_total=2" },
    { "never longer than max_ejection_time", FAST "max_ejection_time: 4s", 2,
      "a500*5 +4100 = a500*5 +5100 = a500*5 +5100 =", "active=0 enforced_total=3" },
    { "at most max_ejection_percent", "max_ejection_percent: 50", 4,
      "a500*5 b500*5 c500*5 d500*5 =ab", "active=2 overflow=2 detected_consecutive_5xx=4" },
    { "one alone is not out under 10 percent", "", 1, "a500*5 =", "active=0 overflow=1 total=0" },
    { "always_eject_one_host", "always_eject_one_host: true", 2, "a500*5 b500*5 =a",
      "active=1 overflow=1" },
    { "gateway failures are only noted by default", FAST "consecutive_5xx: 0", 2,
      "a503*5 =", "active=0 detected_consecutive_gateway_failure=1 enforced_total=0" },
    { "gateway failures enforced, 500 breaks the row",
      FAST "consecutive_5xx: 0, consecutive_gateway_failure: 3, "
           "enforcing_consecutive_gateway_failure: 100",
      2, "a502*2 a500 a504*2 = a503 =a", "active=1 enforced_consecutive_gateway_failure=1" },
    { "local failures count as 503 and 504", FAST "consecutive_5xx: 3", 2, "aF aT aF =a b500 bC bF",
      "active=1 enforced_consecutive_5xx=1 detected_consecutive_local_origin_failure=0" },
    { "a connection alone does not end a row of 5xx", FAST, 2, "aC a500 aC a500 aC a500*3 =a",
      "active=1" },
    { "a connection that is all does", FAST, 2, "aF*4 aA aF*4 = aF =a", "active=1" },
    { "local failures apart",
      FAST "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2", 2,
      "a500*4 aF = aC aF aT =a b500*5 =ab",
      "active=2 enforced_consecutive_local_origin_failure=1 enforced_consecutive_5xx=1" },
    { "noted, not enforced", FAST "enforcing_consecutive_5xx: 0", 2,
      "a500*5 a500*5 a500*5 =", "active=0 total=3 detected_consecutive_5xx=3 enforced_total=0" },
    { "success rate: one far below the others", RATES, 5,
      "a200*50 b200*50 c200*50 d200*50 e200*25 e500*25 +1100 =e",
      "active=1 enforced_success_rate=1 detected_success_rate=1 success_rate=1 total=1" },
    { "success rate: too few requests", RATES, 5,
      "a200*9 b200*9 c200*9 d200*9 e500*9 +1100 =", "detected_success_rate=0" },
    { "success rate: too few hosts", RATES, 2,
      "a200*50 b500*50 +1100 =", "detected_success_rate=0" },
    { "success rate: only the last interval counts", RATES, 5,
      "a200*50 b200*50 c200*50 d200*50 e200*5 +1100 e500*5 +1100 =", "detected_success_rate=0" },
    { "success rate, local",
      RATES "split_external_local_origin_errors: true, consecutive_local_origin_failure: 0", 5,
      "aC*50 bC*50 cC*50 dC*50 eC*25 eF*25 +1100 =e",
      "active=1 enforced_local_origin_success_rate=1 detected_success_rate=0" },
    { "failure percentage",
      RATES "enforcing_success_rate: 0, failure_percentage_threshold: 60, "
            "enforcing_failure_percentage: 100",
      4, "a200*20 a500*29 b200*20 b500*30 c500*50 d200*50 +1100 =bc",
      "active=2 enforced_failure_percentage=2 detected_failure_percentage=2" },
    { "failure percentage, local, noted",
      RATES "split_external_local_origin_errors: true, consecutive_local_origin_failure: 0, "
            "enforcing_local_origin_success_rate: 0",
      3, "aC*50 bC*50 cF*50 +1100 =", "detected_local_origin_failure_percentage=1 active=0" },
};

static void test_scripts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        rig_start(cases[i].options, cases[i].hosts);
        play(cases[i].name, cases[i].script);
        assert_counters(cases[i].name, cases[i].counters);
        rig_stop();
    }
}

static const struct {
    const char *options, *error;
} bad[] = {
    { "base_ejection_time: 10s, max_ejection_time: 9s",
      "outlier_detection.max_ejection_time: outlier detector's max_ejection_time cannot be "
      "smaller than base_ejection_time" },
    { "max_ejection_percent: 101", "max_ejection_percent" },
    { "interval: 0s", "interval" },
};

static void test_config(void **state)
{
    (void)state;
    rig_start("", 1);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        struct mz_err err;
        char text[512];
        assert_false(add(bad[i].options, 1, &err));
        assert_non_null(strstr(mz_err_text(&err, text, sizeof(text)), bad[i].error));
    }
    /* a base time above the usual maximum raises it */
    struct mz_err err;
    assert_true(add("base_ejection_time: 600s", 1, &err));
    rig_stop();
}

/* The last failure is told to main after the cluster went, or after its host did: nothing happens. */
static void test_gone(void **state)
{
    (void)state;
    rig_start(FAST, 2);
    for (unsigned i = 0; i < 5; i++)
        mz_outlier_status(sets->hosts[0], 500);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    play("cluster gone", "= a500*5 +2000 =");
    rig_stop();
    rig_start(FAST, 2);
    for (unsigned i = 0; i < 5; i++)
        mz_outlier_status(sets->hosts[0], 500);
    sets->hosts[0]->health_flags |= MZ_HOST_GONE;
    play("host gone", "= +2000 =");
    rig_stop();
    rig_start(FAST, 2); /* at the very end: the post runs when the manager is no more */
    for (unsigned i = 0; i < 5; i++)
        mz_outlier_status(sets->hosts[0], 500);
    rig_stop();
}

static void test_why(void **state)
{
    (void)state;
    rig_start(FAST, 2);
    play("why", "a500*5 =a +1000");
    struct health_reason r[HEALTH_REASONS];
    assert_int_equal(health_reasons(sets->hosts[1], r), 0);
    assert_int_equal(health_reasons(sets->hosts[0], r), 1);
    assert_string_equal(r[0].kind, "outlier_detection");
    assert_string_equal(r[0].text, "ejected by consecutive_5xx: 5 failures in a row (limit 5: "
                                   "consecutive_5xx), for 1.0s, 2.0s left, ejection 1");
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
