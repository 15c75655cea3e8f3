#include "loop.h"

#include <err.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static int epoll = -1;
static bool stopped;
static struct source *closed;
static struct timer *timers; /* by due time */

int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t now_ms(void)
{
    return now_us() / 1000;
}

void loop_init(void)
{
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        err(1, "epoll");
}

bool loop_add(struct source *s, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.ptr = s };
    s->wants = events;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &e) == 0;
}

void loop_want(struct source *s, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.ptr = s };
    if (s->fd >= 0 && s->wants != events)
        (void)epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &e); /* the descriptor is registered */
    s->wants = events;
}

static void ignore(struct source *s, uint32_t events)
{
    (void)s;
    (void)events;
}

void loop_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd); /* which ends the watch, too */
    s->fd = -1;
    s->ready = ignore;
    s->next_closed = closed;
    closed = s;
}

void timer_stop(struct timer *t)
{
    for (struct timer **p = &timers; t->due_ms && *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->due_ms = 0;
}

void timer_start(struct timer *t, int64_t ms, void (*fire)(struct timer *t))
{
    timer_stop(t);
    t->fire = fire;
    t->due_ms = now_ms() + (ms < 0 ? 0 : ms);
    struct timer **p = &timers;
    while (*p && (*p)->due_ms <= t->due_ms)
        p = &(*p)->next;
    t->next = *p;
    *p = t;
}

static int fire_due(void) /* returns the milliseconds until the next one, -1 when there is none */
{
    const int64_t now = now_ms();
    for (struct timer *t; (t = timers) && t->due_ms <= now;) {
        timer_stop(t);
        t->fire(t);
    }
    if (!timers)
        return -1;
    const int64_t left = timers->due_ms - now_ms();
    return left > 0 ? (int)left : 0;
}

static void free_closed(void)
{
    for (struct source *s; (s = closed);) {
        closed = s->next_closed;
        free(s);
    }
}

void loop_run(void)
{
    struct epoll_event ev[64];
    for (stopped = false; !stopped;) {
        const int wait = fire_due();
        free_closed();
        const int n = stopped ? 0 : epoll_wait(epoll, ev, 64, wait);
        if (n < 0 && errno != EINTR)
            err(1, "epoll");
        for (int i = 0; i < n; i++) {
            struct source *s = ev[i].data.ptr;
            s->ready(s, ev[i].events);
        }
        free_closed();
    }
}

void loop_stop(void)
{
    stopped = true;
}
