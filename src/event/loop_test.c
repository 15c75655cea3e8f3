#include "base/test.h"

#include "event/loop.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char trace[256];

static void note(const char *what)
{
    size_t n = strlen(trace);
    (void)snprintf(trace + n, sizeof(trace) - n, "%s ", what);
}

static void socket_pair(int out_fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, out_fds), 0);
}

struct probe {
    struct mz_io io;
    unsigned calls, events;
    struct probe *victim; /* deleted by the callback */
};

static void probe_ready(struct mz_io *io, unsigned events)
{
    struct probe *p = MZ_CONTAINER(io, struct probe, io);
    p->calls++;
    p->events = events;
    if (p->victim)
        mz_io_del(&p->victim->io);
}

static void test_edge(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("main_thread");
    assert_string_equal(mz_loop_name(l), "main_thread");
    int fds[2];
    socket_pair(fds);
    struct probe p = { 0 };
    assert_int_equal(mz_io_add(l, &p.io, fds[0], probe_ready), 0);
    assert_int_equal(p.calls, 0); /* never from inside the registering call */
    mz_loop_turn(l, 0);
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.events, MZ_IO_WRITE);
    mz_loop_turn(l, 0);
    assert_int_equal(p.calls, 1); /* an edge is told once */
    assert_int_equal(write(fds[1], "x", 1), 1);
    mz_loop_turn(l, -1);
    assert_int_equal(p.calls, 2);
    assert_true(p.events & MZ_IO_READ);
    close(fds[1]);
    mz_loop_turn(l, -1);
    assert_true(p.events & MZ_IO_HUP);
    assert_true(p.events & MZ_IO_READ);
    mz_io_del(&p.io);
    mz_io_del(&p.io);
    close(fds[0]);
    assert_int_equal(mz_io_add(l, &p.io, fds[0], probe_ready), -EBADF);
    mz_io_del(&p.io);
    mz_loop_destroy(l);
}

static void test_level(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    int fds[2];
    socket_pair(fds);
    struct probe p = { 0 };
    assert_int_equal(mz_io_add_level(l, &p.io, fds[0], MZ_IO_READ, probe_ready), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    mz_loop_turn(l, -1);
    mz_loop_turn(l, -1);
    assert_int_equal(p.calls, 2);
    assert_int_equal(p.events, MZ_IO_READ);
    assert_int_equal(mz_io_level_mod(&p.io, 0), 0);
    mz_loop_turn(l, 0);
    assert_int_equal(p.calls, 2);
    assert_int_equal(mz_io_level_mod(&p.io, MZ_IO_READ), 0);
    mz_loop_turn(l, 0);
    assert_int_equal(p.calls, 3);
    mz_io_del(&p.io);
    close(fds[0]);
    close(fds[1]);
    mz_loop_destroy(l);
}

/* Each of two ready descriptors deletes the other: only the first of the batch is called. */
static void test_del_in_batch(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    int a[2], b[2];
    socket_pair(a);
    socket_pair(b);
    struct probe pa = { 0 }, pb = { 0 };
    assert_int_equal(mz_io_add(l, &pa.io, a[0], probe_ready), 0);
    assert_int_equal(mz_io_add(l, &pb.io, b[0], probe_ready), 0);
    pa.victim = &pb;
    pb.victim = &pa;
    mz_loop_turn(l, 0);
    assert_int_equal(pa.calls + pb.calls, 1);
    mz_loop_turn(l, 0);
    assert_int_equal(pa.calls + pb.calls, 1);
    mz_io_del(&pa.io);
    mz_io_del(&pb.io);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
    mz_loop_destroy(l);
}

static void again_ready(struct mz_io *io, unsigned events)
{
    struct probe *p = MZ_CONTAINER(io, struct probe, io);
    p->events = events;
    if (++p->calls < 3)
        mz_io_again(io, MZ_IO_READ);
}

static void test_again(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    int fds[2];
    socket_pair(fds);
    struct probe p = { 0 };
    assert_int_equal(mz_io_add(l, &p.io, fds[0], again_ready), 0);
    mz_loop_turn(l, -1);
    assert_int_equal(p.calls, 1);
    mz_loop_turn(l, -1); /* does not block */
    assert_int_equal(p.calls, 2);
    assert_int_equal(p.events, MZ_IO_READ);
    mz_io_again(&p.io, MZ_IO_WRITE); /* joins the one that is asked for already */
    mz_loop_turn(l, -1);
    assert_int_equal(p.calls, 3);
    assert_int_equal(p.events, MZ_IO_READ | MZ_IO_WRITE);
    mz_io_again(&p.io, MZ_IO_READ);
    mz_io_del(&p.io);
    mz_io_again(&p.io, MZ_IO_READ);
    mz_loop_turn(l, 0);
    assert_int_equal(p.calls, 3);
    close(fds[0]);
    close(fds[1]);
    mz_loop_destroy(l);
}

/* ---- order within a turn ---- */
static struct mz_task task_a, task_b;

static void run_b(struct mz_task *t)
{
    (void)t;
    note("task_b");
}
static void free_it(void *p)
{
    note("free");
    free(p);
}
static struct mz_loop *next_again;
static void run_a(struct mz_task *t)
{
    note("task_a");
    if (next_again)
        mz_task_schedule_next(next_again, t);
    next_again = NULL;
}
static void on_post(struct mz_loop *l, void *arg)
{
    note("post");
    mz_loop_free_later(l, arg, free_it);
    mz_task_schedule(l, &task_a);
    mz_task_schedule(l, &task_a);
    mz_task_schedule(l, &task_b);
}
static void on_timer(struct mz_timer *t)
{
    note("timer");
    mz_loop_post(t->loop, on_post, malloc(1));
}
static void on_ready(struct mz_io *io, unsigned events)
{
    (void)io;
    (void)events;
    note("io");
}

static void test_order(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    int fds[2];
    socket_pair(fds);
    struct mz_io io;
    struct mz_timer t;
    mz_task_init(&task_a, run_a);
    mz_task_init(&task_b, run_b);
    mz_timer_init(l, &t, on_timer);
    assert_int_equal(mz_io_add(l, &io, fds[0], on_ready), 0);
    mz_timer_start_ms(&t, 0);
    mz_loop_turn(l, -1);
    assert_string_equal(trace, "io timer post task_a task_b free ");
    trace[0] = 0;
    mz_task_schedule(l, &task_a);
    mz_task_schedule(l, &task_b);
    mz_task_cancel(&task_a);
    mz_task_cancel(&task_a);
    mz_loop_turn(l, -1); /* work that waits means no sleep */
    assert_string_equal(trace, "task_b ");
    trace[0] = 0;
    mz_io_again(&io, MZ_IO_READ);
    mz_task_schedule_next(l, &task_a); /* asks for itself once more */
    mz_task_schedule_next(l, &task_a);
    mz_task_schedule(l, &task_b);
    next_again = l;
    mz_loop_turn(l, -1);
    assert_string_equal(trace, "io task_a task_b ");
    mz_task_schedule_next(l, &task_b);
    mz_task_cancel(&task_b);
    mz_loop_turn(l, -1);
    assert_string_equal(trace, "io task_a task_b task_a ");
    mz_io_del(&io);
    close(fds[0]);
    close(fds[1]);
    mz_loop_destroy(l);
}

static void test_destroy_runs_the_rest(void **state)
{
    (void)state;
    trace[0] = 0;
    struct mz_loop *l = mz_loop_create("test");
    mz_task_init(&task_a, run_a);
    mz_task_init(&task_b, run_b);
    mz_loop_post(l, on_post, malloc(1));
    mz_loop_destroy(l);
    assert_string_equal(trace, "post task_a task_b free ");
    trace[0] = 0;
    l = mz_loop_create("test");
    mz_task_schedule_next(l, &task_a);
    mz_loop_destroy(l);
    assert_string_equal(trace, "task_a ");
}

static void on_signal(void *arg, int signo)
{
    *(int *)arg += signo;
}

static void test_signals(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    int sum = 0;
    assert_false(mz_loop_on_signal(l, 0, on_signal, &sum));
    assert_true(mz_loop_on_signal(l, SIGUSR1, on_signal, &sum));
    assert_true(mz_loop_on_signal(l, SIGUSR2, on_signal, &sum));
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    assert_int_equal(sum, 0);
    mz_loop_turn(l, -1);
    assert_int_equal(sum, SIGUSR1 + SIGUSR2);
    mz_loop_destroy(l);
}

static uint64_t turns_seen;

static void on_turn(void *arg, uint64_t duration_us, uint64_t poll_delay_us)
{
    assert_ptr_equal(arg, &turns_seen);
    assert_true(duration_us < 10000000);
    assert_true(poll_delay_us < 10000000);
    turns_seen++;
}

static void test_turn_report(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    mz_loop_on_turn(l, on_turn, &turns_seen);
    mz_loop_turn(l, 0);
    mz_loop_turn(l, 1);
    assert_int_equal(turns_seen, 2);
    mz_loop_on_turn(l, NULL, NULL);
    mz_loop_turn(l, 0);
    assert_int_equal(turns_seen, 2);
    mz_loop_destroy(l);
}

static void test_sys(void **state)
{
    (void)state;
    struct mz_loop *l = mz_loop_create("test");
    const struct mz_sys *sys = mz_loop_sys(l);
    int fds[2];
    socket_pair(fds);
    struct iovec out[2] = { { (char[]){ "ab" }, 2 }, { (char[]){ "cd" }, 2 } };
    char text[8] = { 0 };
    struct iovec in[2] = { { text, 1 }, { text + 1, 7 } };
    assert_int_equal(sys->writev(fds[0], out, 2), 4);
    assert_int_equal(sys->writev(fds[0], out, 1), 2);
    assert_int_equal(sys->readv(fds[1], in, 2), 6);
    assert_string_equal(text, "abcdab");
    assert_int_equal(sys->readv(fds[1], in, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(sys->close(fds[1]), 0);
    assert_int_equal(sys->writev(fds[0], out, 2), -1); /* and no SIGPIPE */
    assert_int_equal(errno, EPIPE);
    assert_int_equal(sys->writev(fds[0], out, 1), -1);
    assert_int_equal(sys->close(fds[0]), 0);
    struct mz_sys mine = *sys;
    mz_loop_set_sys(l, &mine);
    assert_ptr_equal(mz_loop_sys(l), &mine);
    mz_loop_set_worker(l, 3);
    assert_int_equal(mz_loop_worker(l), 3);
    mz_loop_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edge),         cmocka_unit_test(test_level),
        cmocka_unit_test(test_del_in_batch), cmocka_unit_test(test_again),
        cmocka_unit_test(test_order),        cmocka_unit_test(test_destroy_runs_the_rest),
        cmocka_unit_test(test_signals),      cmocka_unit_test(test_turn_report),
        cmocka_unit_test(test_sys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
