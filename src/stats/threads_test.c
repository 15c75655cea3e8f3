#include "base/test.h"

#include "stats/stats.h"
#include <pthread.h>

/* Writers count while a reader flushes, shows and resets; also run under the thread sanitizer. */

enum { WRITERS = 3, ROUNDS = 20000 };
enum { HITS, ACTIVE, TIME };
static const struct mz_stat_def defs[] = {
    { "hits", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "active", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    { "time", MZ_HISTOGRAM, MZ_UNIT_MS, 0 },
};
static const struct mz_stat_kind kind = { "t", defs, MZ_COUNT(defs) };
static const char family[] = "rq_";
static struct mz_stats *store;
static struct mz_scope *scope;
static unsigned running = WRITERS;

static void *write_all(void *arg)
{
    mz_stats_thread_slot((unsigned)(uintptr_t)arg);
    for (unsigned i = 0; i < ROUNDS; i++) {
        mz_count(scope, HITS, 1);
        mz_gauge_add(scope, ACTIVE, i % 2 ? -1 : 1);
        mz_hist_record(scope, TIME, i);
        mz_count_code(scope, family, 100 + i % 500);
        if (i % 1000 == 0) {
            struct mz_scope *s = mz_scope_create(store, &kind, MZ_STR("other."));
            mz_count(s, HITS, 1);
            mz_scope_unref(s);
        }
    }
    __atomic_sub_fetch(&running, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void read_all(void)
{
    const struct mz_stats_query q = { .usedonly = true };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_stats_flush(store);
    mz_stats_text(store, &q, &b);
    mz_stats_prometheus(store, &q, &b);
    mz_buf_fini(&b);
}

static void test_writers_and_reader(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    mz_stats_thread_slot(0);
    store = mz_stats_create(WRITERS + 1);
    scope = mz_scope_create(store, &kind, MZ_STR("one."));
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_all, (void *)(i + 1)), 0);
    do
        read_all();
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE));
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mz_scope_value(scope, HITS), WRITERS * ROUNDS);
    assert_int_equal(mz_scope_value(scope, ACTIVE), 0);
    uint64_t v = 0;
    assert_true(mz_stats_find(store, MZ_STR("one.rq_1xx"), &v));
    assert_int_equal(v, WRITERS * ROUNDS / 5);
    mz_stats_reset_counters(store);
    assert_int_equal(mz_scope_value(scope, HITS), 0);
    mz_scope_unref(scope);
    mz_stats_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_writers_and_reader) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
