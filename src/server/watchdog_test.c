/* Beats and misses (P4): a worker that answers, one that hangs, one that hangs for long, main itself. */
#include "server/watchdog.c"

#include "base/clock.h"
#include "base/test.h"

static uint64_t now_us;
static uint64_t clock_now(void)
{
    return now_us;
}
static const struct mz_clock *real;
static struct mz_clock fake;

static const struct {
    const char *name;
    unsigned quiet_ticks; /* the worker does not turn for so many */
    uint64_t late_us;     /* of the last tick */
    uint64_t worker_miss, worker_mega, main_miss, main_mega;
} cases[] = {
    { "answers", 0, 0, 0, 0, 0, 0 },
    { "hangs", 2, 0, 1, 0, 0, 0 },
    { "hangs for long", 8, 0, 1, 1, 0, 0 },
    { "main was stuck", 0, 300000, 0, 0, 1, 0 },
    { "main was stuck for long", 0, 1500000, 0, 0, 1, 1 },
};

static void turn_both(struct mz_server *s, struct mz_loop *worker, bool quiet)
{
    mz_loop_turn(s->loop, 0);
    if (!quiet)
        mz_loop_turn(worker, 0);
}

static void test_misses(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        now_us = 1000000;
        struct mz_worker worker = { .loop = mz_loop_create("worker_0") };
        struct mz_server s = { .loop = mz_loop_create("main_thread"),
                               .stats = mz_stats_create(2),
                               .workers = &worker,
                               .n_workers = 1 };
        struct mz_watchdog *d = mz_watchdog_create(&s);
        mz_loop_turn(s.loop, 0);
        mz_watchdog_start(d);
        for (unsigned t = 0; t < 20; t++) {
            now_us += TICK_MS * 1000 + 1000 + (t == 19 ? cases[i].late_us : 0);
            turn_both(&s, worker.loop, t >= 5 && t < 5 + cases[i].quiet_ticks);
        }
        if (mz_scope_value(d->workers_total, MISS) != cases[i].worker_miss ||
            mz_scope_value(d->v[0].scope, MEGA_MISS) != cases[i].worker_mega ||
            mz_scope_value(d->main_total, MISS) != cases[i].main_miss ||
            mz_scope_value(d->main_scope, MEGA_MISS) != cases[i].main_mega)
            fail_msg("%s: %u %u %u %u", cases[i].name,
                     (unsigned)mz_scope_value(d->workers_total, MISS),
                     (unsigned)mz_scope_value(d->v[0].scope, MEGA_MISS),
                     (unsigned)mz_scope_value(d->main_total, MISS),
                     (unsigned)mz_scope_value(d->main_scope, MEGA_MISS));
        mz_loop_turn(worker.loop, 0);
        mz_watchdog_destroy(d);
        mz_loop_destroy(worker.loop);
        mz_loop_destroy(s.loop);
        mz_stats_destroy(s.stats);
    }
}

static int start(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    real = mz_clock;
    fake = *mz_clock;
    fake.mono_us = clock_now;
    mz_clock = &fake;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mz_clock = real;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_misses) };
    return cmocka_run_group_tests(tests, start, stop);
}
