#include "base/test.h"

#include "base/clock.h"
#include "event/loop_priv.h"

/* The wheel against a model: an array that is searched. The clock is ours. */

static uint64_t fake_us, fake_wall_us = 784111777000000;

static uint64_t fake_mono(void)
{
    return fake_us;
}
static uint64_t fake_wall(void)
{
    return fake_wall_us;
}
static const struct mz_clock fake_clock = { fake_mono, fake_wall };

#define TIMERS 200
struct model {
    struct mz_timer t;
    uint64_t due_us; /* 0: not armed */
    unsigned fired;
};
static struct model models[TIMERS];
static uint64_t last_due_us;

static void model_fire(struct mz_timer *t)
{
    struct model *m = MZ_CONTAINER(t, struct model, t);
    assert_true(m->due_us != 0);
    assert_true(m->due_us <= fake_us);
    assert_true((m->due_us + 999) / 1000 >= (last_due_us + 999) / 1000);
    assert_false(mz_timer_armed(t));
    last_due_us = m->due_us;
    m->due_us = 0;
    m->fired++;
}

static uint64_t random_ms(struct mz_rand *r)
{
    static const uint64_t spans[] = { 2, 70, 5000, 300000, 90000000, 5000000000 };
    return mz_rand_below(r, spans[mz_rand_below(r, MZ_COUNT(spans))]);
}

static void random_operation(struct mz_loop *l, struct mz_rand *r)
{
    struct model *m = &models[mz_rand_below(r, TIMERS)];
    if (mz_rand_below(r, 4) == 0) {
        mz_timer_stop(&m->t);
        m->due_us = 0;
        return;
    }
    uint64_t ms = random_ms(r);
    if (mz_rand_below(r, 2)) {
        mz_timer_start_ms(&m->t, ms);
        m->due_us = mz_loop_now_us(l) + ms * 1000;
    } else {
        mz_timer_start_us(&m->t, ms * 1000 + 3);
        m->due_us = mz_loop_now_us(l) + ms * 1000 + 3;
    }
    assert_true(mz_timer_armed(&m->t));
}

static uint64_t model_next_ms(void)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++)
        if (models[i].due_us && (models[i].due_us + 999) / 1000 < next)
            next = (models[i].due_us + 999) / 1000;
    return next;
}

static void check_all_due_fired(void)
{
    for (size_t i = 0; i < TIMERS; i++) {
        assert_true(!models[i].due_us || (models[i].due_us + 999) / 1000 > fake_us / 1000);
        assert_int_equal(mz_timer_armed(&models[i].t), models[i].due_us != 0);
    }
}

static void jump(struct mz_rand *r)
{
    uint64_t next = model_next_ms() * 1000;
    switch (mz_rand_below(r, 3)) {
    case 0:
        fake_us += mz_rand_below(r, 3000);
        break;
    case 1: /* as a loop sleeps: to the next due time */
        fake_us = next > fake_us && next < UINT64_MAX / 2 ? next : fake_us + 1;
        break;
    default:
        fake_us += random_ms(r) * 1000;
    }
}

static void test_model(void **state)
{
    (void)state;
    struct mz_rand r;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        mz_rand_init(&r, seed);
        fake_us = mz_rand_below(&r, 1000000000000);
        struct mz_loop *l = mz_loop_create("test");
        for (size_t i = 0; i < TIMERS; i++) {
            mz_timer_init(l, &models[i].t, model_fire);
            models[i].due_us = 0;
        }
        for (unsigned step = 0; step < 8000; step++) {
            for (uint64_t n = mz_rand_below(&r, 4); n > 0; n--)
                random_operation(l, &r);
            assert_true(l->wheel.next_ms <= model_next_ms());
            jump(&r);
            last_due_us = 0;
            mz_loop_turn(l, 0);
            check_all_due_fired();
        }
        for (size_t i = 0; i < TIMERS; i++)
            mz_timer_stop(&models[i].t);
        for (unsigned i = 0; i < MZ_WHEEL_LEVELS; i++)
            assert_int_equal(l->wheel.bits[i], 0);
        mz_loop_destroy(l);
    }
}

static unsigned fired;

static void count_fire(struct mz_timer *t)
{
    (void)t;
    fired++;
}

/* How often the loop wakes on its way to one timer: once, however far. */
static void test_one_wakeup(void **state)
{
    (void)state;
    static const uint64_t spans_ms[] = { 1, 63, 64, 1000, 4097, 86400000, 4ULL * 7 * 86400000 };
    for (size_t i = 0; i < MZ_COUNT(spans_ms); i++) {
        fake_us = 123456789;
        fired = 0;
        struct mz_loop *l = mz_loop_create("test");
        struct mz_timer t;
        mz_timer_init(l, &t, count_fire);
        mz_timer_start_ms(&t, spans_ms[i]);
        assert_int_equal(l->wheel.next_ms, 123457 + spans_ms[i]);
        fake_us = l->wheel.next_ms * 1000 - 1;
        mz_loop_turn(l, 0);
        assert_int_equal(fired, 0);
        fake_us++;
        mz_loop_turn(l, 0);
        assert_int_equal(fired, 1);
        assert_true(l->wheel.next_ms == UINT64_MAX);
        mz_loop_destroy(l);
    }
}

static void test_put_off(void **state)
{
    (void)state;
    fake_us = 1000000;
    fired = 0;
    struct mz_loop *l = mz_loop_create("test");
    struct mz_timer t, late;
    mz_timer_init(l, &t, count_fire);
    mz_timer_init(l, &late, count_fire);
    mz_timer_start_ms(&t, 100);
    mz_timer_start_ms(&t, 5000); /* one store: the old place stays */
    assert_int_equal(t.placed_ms, 1100);
    assert_int_equal(l->wheel.next_ms, 1100);
    mz_timer_start_ms(&late, 9000);
    fake_us = 1100000;
    mz_loop_turn(l, 0);
    assert_int_equal(fired, 0);
    assert_int_equal(l->wheel.next_ms, 6000);
    mz_timer_start_ms(&t, 10); /* and earlier again */
    assert_int_equal(l->wheel.next_ms, 1110);
    fake_us = 1110000;
    mz_loop_turn(l, 0);
    assert_int_equal(fired, 1);
    mz_timer_stop(&late);
    mz_timer_stop(&late);
    fake_us += 100000000;
    mz_loop_turn(l, 0);
    assert_int_equal(fired, 1);
    mz_loop_destroy(l);
}

static struct mz_timer pair[2];

static void fire_stops_other(struct mz_timer *t)
{
    fired++;
    mz_timer_stop(t == &pair[0] ? &pair[1] : &pair[0]);
    mz_timer_start_ms(t, 0);
}

static void test_within_fire(void **state)
{
    (void)state;
    fake_us = 5000000;
    fired = 0;
    struct mz_loop *l = mz_loop_create("test");
    mz_timer_init(l, &pair[0], fire_stops_other);
    mz_timer_init(l, &pair[1], fire_stops_other);
    mz_timer_start_ms(&pair[0], 0);
    mz_timer_start_ms(&pair[1], 0);
    mz_loop_turn(l, -1);
    assert_int_equal(fired, 1); /* the other was stopped, its own restart is for the next turn */
    mz_loop_turn(l, -1);
    assert_int_equal(fired, 2);
    mz_timer_stop(&pair[0]);
    mz_timer_start_ms(&pair[1], UINT64_MAX);
    assert_true(mz_timer_armed(&pair[1]));
    mz_timer_stop(&pair[1]);
    mz_loop_destroy(l);
}

static void test_many_in_one_place(void **state)
{
    (void)state;
    fake_us = 0;
    fired = 0;
    struct mz_loop *l = mz_loop_create("test");
    static struct mz_timer many[1000];
    for (size_t i = 0; i < MZ_COUNT(many); i++) {
        mz_timer_init(l, &many[i], count_fire);
        mz_timer_start_ms(&many[i], 4096 + i % 64);
    }
    unsigned turns = 0;
    while (fired < MZ_COUNT(many) && turns < 1000) {
        if (fake_us < l->wheel.next_ms * 1000)
            fake_us = l->wheel.next_ms * 1000;
        mz_loop_turn(l, 0);
        turns++;
    }
    assert_int_equal(fired, MZ_COUNT(many));
    assert_true(turns <= 64 + 2);
    mz_loop_destroy(l);
}

static void test_date(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    assert_string_equal(mz_loop_http_date(l), "Sun, 06 Nov 1994 08:49:37 GMT");
    mz_loop_destroy(l);
}

/* Somebody sets the machine's clock while the loop runs: texts follow it, timers do not. */
static void test_wall_clock_jumps(void **state)
{
    (void)state;
    static const struct {
        uint64_t wall_s;
        const char *date;
    } cases[] = {
        { 784111777 + 86400, "Mon, 07 Nov 1994 08:49:37 GMT" }, /* forward by a day */
        { 784111777 - 3600, "Sun, 06 Nov 1994 07:49:37 GMT" },  /* back by an hour */
        { 0, "Thu, 01 Jan 1970 00:00:00 GMT" },
        { 4294967296, "Sun, 07 Feb 2106 06:28:16 GMT" },
        { 784111777, "Sun, 06 Nov 1994 08:49:37 GMT" },
    };
    fake_us = 5000000;
    struct mz_loop *l = mz_loop_create("test");
    struct mz_timer t;
    mz_timer_init(l, &t, count_fire);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        fired = 0;
        mz_timer_start_ms(&t, 100);
        fake_us += 99000;
        fake_wall_us = cases[i].wall_s * 1000000;
        mz_loop_turn(l, 0);
        assert_int_equal(fired, 0);
        assert_string_equal(mz_loop_http_date(l), cases[i].date);
        fake_us += 1000;
        mz_loop_turn(l, 0);
        assert_int_equal(fired, 1);
    }
    mz_loop_destroy(l);
}

int main(void)
{
    mz_clock = &fake_clock;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_one_wakeup),
        cmocka_unit_test(test_put_off),
        cmocka_unit_test(test_within_fire),
        cmocka_unit_test(test_many_in_one_place),
        cmocka_unit_test(test_date),
        cmocka_unit_test(test_wall_clock_jumps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
