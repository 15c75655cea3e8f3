#include "event/loop_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static _Thread_local char thread_mark;

const void *mz_loop_thread(void)
{
    return &thread_mark;
}

static void set_now(struct mz_loop *l)
{
    l->now_us = mz_clock->mono_us();
    l->now_ms = l->now_us / 1000;
    l->now_ms_up = l->now_ms + (l->now_ms * 1000 != l->now_us);
}

struct mz_loop *mz_loop_create(const char *name)
{
    struct mz_loop *l = mz_new0(MZ_MEM_LOOP, struct mz_loop);
    l->sys = &mz_sys_system;
    (void)snprintf(l->name, sizeof(l->name), "%s", name);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = l };
    if (l->epoll_fd < 0 || l->wake_fd < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) != 0) {
        MZ_LOG(CRITICAL, main, "no event loop: %s", strerrordesc_np(errno));
        _exit(1);
    }
    mz_list_init(&l->again);
    mz_list_init(&l->again_running);
    mz_list_init(&l->tasks);
    mz_list_init(&l->next_tasks);
    mz_list_init(&l->due_tasks);
    set_now(l);
    mz_wheel_init(&l->wheel, l->now_ms);
    mz_rand_init(&l->rand, 0);
    return l;
}

bool mz_loop_here(const struct mz_loop *l)
{
    const void *owner = __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
    return !owner || owner == &thread_mark;
}

const char *mz_loop_name(const struct mz_loop *l)
{
    return l->name;
}

uint64_t mz_loop_now_us(const struct mz_loop *l)
{
    return l->now_us;
}

uint64_t mz_loop_wall_us(struct mz_loop *l)
{
    if (!l->wall_us)
        l->wall_us = mz_clock->wall_us();
    return l->wall_us;
}

const char *mz_loop_http_date(struct mz_loop *l)
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    uint64_t s = mz_loop_wall_us(l) / 1000000;
    if (s == l->date_s && l->date[0])
        return l->date;
    time_t t = (time_t)s;
    struct tm tm;
    if (!gmtime_r(&t, &tm))
        return "Thu, 01 Jan 1970 00:00:00 GMT";
    (void)snprintf(l->date, sizeof(l->date), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                   days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000,
                   tm.tm_hour, tm.tm_min, tm.tm_sec);
    l->date_s = s;
    return l->date;
}

struct mz_rand *mz_loop_rand(struct mz_loop *l)
{
    return &l->rand;
}

const struct mz_sys *mz_loop_sys(const struct mz_loop *l)
{
    return l->sys;
}

void mz_loop_set_sys(struct mz_loop *l, const struct mz_sys *sys)
{
    l->sys = sys;
}

unsigned mz_loop_worker(const struct mz_loop *l)
{
    return l->worker;
}

struct mz_wire_host *mz_loop_wires(const struct mz_loop *l)
{
    return l->wires;
}

void mz_loop_set_wires(struct mz_loop *l, struct mz_wire_host *h)
{
    l->wires = h;
}

void mz_loop_set_worker(struct mz_loop *l, unsigned slot)
{
    l->worker = slot;
}

void mz_loop_on_turn(struct mz_loop *l,
                     void (*fn)(void *arg, uint64_t duration_us, uint64_t poll_delay_us), void *arg)
{
    l->on_turn = fn;
    l->on_turn_arg = arg;
}

/* ---- end of turn ---- */

void mz_task_init(struct mz_task *t, void (*run)(struct mz_task *t))
{
    t->run = run;
    mz_list_init(&t->link);
}

void mz_task_schedule(struct mz_loop *l, struct mz_task *t)
{
    if (mz_list_empty(&t->link))
        mz_list_add_tail(&l->tasks, &t->link);
}

void mz_task_schedule_next(struct mz_loop *l, struct mz_task *t)
{
    if (mz_list_empty(&t->link))
        mz_list_add_tail(&l->next_tasks, &t->link);
}

void mz_task_cancel(struct mz_task *t)
{
    mz_list_del(&t->link);
}

void mz_loop_free_later(struct mz_loop *l, void *p, void (*destroy)(void *p))
{
    *mz_vec_push(&l->garbage, MZ_MEM_LOOP) = (struct mz_loop_garbage){ p, destroy };
}

static void run_tasks(struct mz_list *tasks)
{
    while (!mz_list_empty(tasks)) {
        struct mz_list *e = tasks->next;
        mz_list_del(e);
        struct mz_task *t = MZ_CONTAINER(e, struct mz_task, link);
        t->run(t);
    }
}

static void run_garbage(struct mz_loop *l)
{
    for (size_t i = 0; i < l->garbage.n;
         i++) { /* a destructor may add more, and the array may move */
        struct mz_loop_garbage g = l->garbage.v[i];
        g.destroy(g.p);
    }
    l->garbage.n = 0;
}

/* ---- the turn ---- */

static int poll_wait_ms(struct mz_loop *l, int max_wait_ms)
{
    if (!mz_list_empty(&l->again) || !mz_list_empty(&l->tasks) || !mz_list_empty(&l->due_tasks) ||
        l->own_posts || l->garbage.n)
        return 0;
    uint64_t next = l->wheel.next_ms;
    if (next == UINT64_MAX || max_wait_ms == 0)
        return max_wait_ms;
    /* The cached time lags by this turn's length: that matters for short waits only. */
    uint64_t now_us = next <= l->now_ms + 1000 ? mz_clock->mono_us() : l->now_us;
    uint64_t wait = next * 1000 <= now_us ? 0 : (next * 1000 - now_us + 999) / 1000;
    if (wait > INT_MAX)
        wait = INT_MAX;
    return max_wait_ms < 0 || (int)wait < max_wait_ms ? (int)wait : max_wait_ms;
}

static unsigned io_events(uint32_t e)
{
    return (e & (EPOLLIN | EPOLLRDHUP) ? MZ_IO_READ : 0U) | (e & EPOLLOUT ? MZ_IO_WRITE : 0U) |
           (e & (EPOLLHUP | EPOLLERR) ? MZ_IO_HUP : 0U) | (e & EPOLLRDHUP ? MZ_IO_END : 0U);
}

/* Returns whether other threads posted. */
static bool run_events(struct mz_loop *l, int n)
{
    bool woken = false;
    l->n_events = n;
    for (l->at_event = 0; l->at_event < n; l->at_event++) {
        const struct epoll_event *ev = &l->events[l->at_event];
        struct mz_io *io = ev->data.ptr;
        if (ev->data.ptr == l) {
            woken = true;
        } else if (io) { /* else: deleted within this batch */
            unsigned events = io_events(ev->events);
            if (!mz_list_empty(&io->again)) {
                events |= io->again_events;
                mz_list_del(&io->again);
            }
            io->ready(io, events);
        }
    }
    l->n_events = 0;
    return woken;
}

static void run_again(struct mz_loop *l)
{
    while (!mz_list_empty(&l->again_running)) {
        struct mz_list *e = l->again_running.next;
        mz_list_del(e);
        struct mz_io *io = MZ_CONTAINER(e, struct mz_io, again);
        io->ready(io, io->again_events);
    }
}

static void list_splice(struct mz_list *to, struct mz_list *from) /* to is empty */
{
    if (mz_list_empty(from))
        return;
    *to = *from;
    to->next->prev = to->prev->next = to;
    mz_list_init(from);
}

static void report_turn(struct mz_loop *l, uint64_t poll_begin_us)
{
    uint64_t polled = l->now_us - poll_begin_us;
    uint64_t wanted = l->wait_ms > 0 ? (uint64_t)l->wait_ms * 1000 : 0;
    uint64_t delay = l->wait_ms >= 0 && polled > wanted ? polled - wanted : 0;
    l->on_turn(l->on_turn_arg, mz_clock->mono_us() - l->now_us, delay);
}

static void turn(struct mz_loop *l, int max_wait_ms)
{
    uint64_t poll_begin_us = l->on_turn ? mz_clock->mono_us() : 0;
    list_splice(&l->due_tasks, &l->next_tasks);
    l->wait_ms = poll_wait_ms(l, max_wait_ms);
    list_splice(&l->again_running, &l->again);
    int n = mz_sys_epoll_wait(l->epoll_fd, l->events, MZ_LOOP_BATCH, l->wait_ms);
    set_now(l);
    l->wall_us = 0;
    bool woken = run_events(l, n); /* n is -1 after a signal of a debugger: no events */
    run_again(l);
    if (l->now_ms >= l->wheel.next_ms)
        mz_wheel_run(&l->wheel, l->now_ms);
    if (woken || l->own_posts)
        mz_loop_run_posts(l);
    run_tasks(&l->due_tasks);
    run_tasks(&l->tasks);
    run_garbage(l);
    if (l->on_turn && poll_begin_us)
        report_turn(l, poll_begin_us);
}

void mz_loop_turn(struct mz_loop *l, int max_wait_ms)
{
    __atomic_store_n(&l->owner, &thread_mark, __ATOMIC_RELAXED);
    turn(l, max_wait_ms);
}

void mz_loop_run(struct mz_loop *l)
{
    __atomic_store_n(&l->owner, &thread_mark, __ATOMIC_RELAXED);
    while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
        turn(l, -1);
    __atomic_store_n(&l->stop, false, __ATOMIC_RELAXED);
    __atomic_store_n(&l->owner, NULL, __ATOMIC_RELAXED);
}

void mz_loop_stop(struct mz_loop *l)
{
    __atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
    mz_loop_wake(l);
}

void mz_loop_destroy(struct mz_loop *l)
{
    if (!l)
        return;
    while (__atomic_load_n(&l->posts, __ATOMIC_RELAXED) || !mz_list_empty(&l->tasks) ||
           !mz_list_empty(&l->next_tasks) || l->garbage.n) {
        mz_loop_run_posts(l);
        run_tasks(&l->due_tasks);
        run_tasks(&l->next_tasks);
        run_tasks(&l->tasks);
        run_garbage(l);
    }
    mz_loop_signals_destroy(l);
    mz_vec_free(&l->garbage, MZ_MEM_LOOP);
    (void)close(l->wake_fd);
    (void)close(l->epoll_fd);
    mz_free(MZ_MEM_LOOP, l);
}
