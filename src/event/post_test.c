#include "base/test.h"

#include "event/loop.h"
#include <pthread.h>

/* Posts from several threads while the loop runs; also run under the thread sanitizer. */

enum { THREADS = 4, POSTS = 5000 };
struct item {
    unsigned thread, number;
};
static struct item items[THREADS][POSTS];
static unsigned next_number[THREADS], total; /* plain: written on the loop's thread only */

static void on_item(struct mz_loop *l, void *arg)
{
    const struct item *it = arg;
    assert_true(mz_loop_here(l));
    assert_int_equal(it->number, next_number[it->thread]); /* in order per posting thread */
    next_number[it->thread]++;
    if (++total == THREADS * POSTS)
        mz_loop_stop(l);
}

struct sender {
    struct mz_loop *loop;
    unsigned thread;
};

static void *send_all(void *arg)
{
    const struct sender *s = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        items[s->thread][i] = (struct item){ s->thread, i };
        mz_loop_post(s->loop, on_item, &items[s->thread][i]);
    }
    return NULL;
}

static void *run_loop(void *arg)
{
    mz_loop_run(arg);
    return NULL;
}

static void test_posts(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("worker_0");
    pthread_t loop_thread, threads[THREADS];
    struct sender senders[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){ l, i };
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    assert_int_equal(pthread_create(&loop_thread, NULL, run_loop, l), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(loop_thread, NULL);
    assert_int_equal(total, THREADS * POSTS);
    assert_true(mz_loop_here(l)); /* nobody runs it any more */
    mz_loop_destroy(l);
}

/* Two loops throw a ball: each post must wake a loop that sleeps. */
struct ball {
    struct mz_loop *loops[2];
    unsigned throws;
};

static void on_ball(struct mz_loop *l, void *arg)
{
    struct ball *b = arg;
    if (++b->throws >= 2000) {
        mz_loop_stop(b->loops[0]);
        mz_loop_stop(b->loops[1]);
        return;
    }
    struct mz_loop *other = l == b->loops[0] ? b->loops[1] : b->loops[0];
    mz_loop_post(b->throws % 5 == 0 ? l : other, on_ball, b); /* now and then to itself */
}

static void test_ball(void **state)
{
    (void)state;
    struct ball b = { { mz_loop_create("a"), mz_loop_create("b") }, 0 };
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_loop, b.loops[i]), 0);
    mz_loop_post(b.loops[0], on_ball, &b);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(b.throws, 2000);
    for (unsigned i = 0; i < 2; i++)
        mz_loop_destroy(b.loops[i]);
}

static void test_stop_before_run(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    mz_loop_stop(l);
    mz_loop_run(l); /* returns at once */
    mz_loop_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_ball),
        cmocka_unit_test(test_stop_before_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
