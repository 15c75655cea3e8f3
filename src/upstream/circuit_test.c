/* Circuit breakers (U4): limits, gauges, retry budget, and many threads that take and give at once. */
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <pthread.h>

#define THREADS 4
#define ROUNDS  20000
static struct mz_stats *stats;

static void cluster_start(struct mz_cluster *c, bool track)
{
    struct mz_circuit *b = &c->circuit[MZ_PRIORITY_DEFAULT];
    *b = (struct mz_circuit){ .max_connections = 2,
                              .max_requests = 3,
                              .max_retries = 1,
                              .max_pools = UINT64_MAX,
                              .track_remaining = track };
    circuit_scopes(c, stats, MZ_STR("cluster.one."));
}

static void cluster_stop(struct mz_cluster *c)
{
    for (unsigned i = 0; i < MZ_PRIORITY__COUNT; i++)
        mz_scope_unref(c->circuit[i].scope);
}

static uint64_t gauge(const char *name)
{
    char full[128];
    uint64_t v = 0;
    (void)snprintf(full, sizeof(full), "cluster.one.circuit_breakers.default.%s", name);
    assert_true(mz_stats_find(stats, mz_str_c(full), &v));
    return v;
}

static void test_limits_and_gauges(void **state)
{
    (void)state;
    struct mz_cluster c = { 0 };
    cluster_start(&c, true);
    assert_true(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX));
    assert_int_equal(gauge("cx_open"), 0);
    assert_true(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX));
    assert_int_equal(gauge("cx_open"), 1);
    assert_int_equal(gauge("remaining_cx"), 0);
    assert_false(mz_circuit_can(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX));
    assert_false(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX));
    mz_circuit_force(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX); /* a pool's first connection */
    assert_int_equal(gauge("cx_open"), 1);
    for (int i = 0; i < 3; i++)
        mz_circuit_give(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_CX);
    assert_int_equal(gauge("cx_open"), 0);
    assert_int_equal(gauge("remaining_cx"), 2);
    assert_false(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_PENDING)); /* max 0 */
    assert_int_equal(gauge("rq_pending_open"), 0); /* as Envoy: never opened, so not open */
    cluster_stop(&c);
}

static void test_retry_budget(void **state)
{
    (void)state;
    static const struct {
        int64_t busy;
        uint32_t min, allowed;
    } cases[] = { { 0, 3, 3 }, { 10, 3, 3 }, { 100, 3, 20 }, { 100, 0, 20 }, { 0, 0, 0 } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_cluster c = { 0 };
        cluster_start(&c, false);
        struct mz_circuit *b = &c.circuit[0];
        b->has_budget = true;
        b->budget_percent = 20;
        b->min_retry_concurrency = cases[i].min;
        b->requests = cases[i].busy;
        for (uint32_t n = 0; n < cases[i].allowed; n++)
            assert_true(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_RETRY));
        assert_false(mz_circuit_take(&c, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_RETRY));
        cluster_stop(&c);
    }
}

struct worker {
    pthread_t thread;
    unsigned slot;
    struct mz_cluster *cluster;
    bool over;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    mz_stats_thread_slot(w->slot);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!mz_circuit_take(w->cluster, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_RQ))
            continue;
        w->over =
            w->over || __atomic_load_n(&w->cluster->circuit[0].requests, __ATOMIC_RELAXED) > 3;
        mz_circuit_give(w->cluster, MZ_PRIORITY_DEFAULT, MZ_CIRCUIT_RQ);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct mz_cluster c = { 0 };
    struct worker w[THREADS] = { 0 };
    cluster_start(&c, true);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].slot = i + 1;
        w[i].cluster = &c;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_false(w[i].over);
    }
    assert_int_equal(c.circuit[0].requests, 0);
    assert_int_equal(gauge("rq_open"), 0);
    assert_int_equal(gauge("remaining_rq"), 3);
    cluster_stop(&c);
}

static int start(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    stats = mz_stats_create(THREADS + 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mz_stats_destroy(stats);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_and_gauges),
        cmocka_unit_test(test_retry_budget),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
