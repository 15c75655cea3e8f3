#ifndef MZ_EVENT_LOOP_PRIV_H
#define MZ_EVENT_LOOP_PRIV_H
#include "base/vec.h"
#include "event/loop.h"
#include "event/wheel.h"
#include <sys/epoll.h>

#define MZ_LOOP_BATCH 128 /* events taken by one epoll_wait */

struct mz_post;
struct mz_loop_signals;
struct mz_loop_garbage {
    void *p;
    void (*destroy)(void *p);
};

struct mz_loop {
    int epoll_fd;
    int wake_fd;            /* eventfd, edge-triggered and never read: each write is an edge */
    int wait_ms;            /* of the last poll, for its delay */
    int n_events, at_event; /* the batch that is being run */
    bool own_posts;         /* the loop's thread posted: no wake-up was written */
    const void *owner;      /* atomic: address in the thread that runs it, NULL while nobody does */
    const struct mz_sys *sys;
    struct mz_wire_host *wires;
    uint64_t now_us, now_ms, now_ms_up; /* now_ms_up: rounded up */
    struct mz_list again, again_running;
    struct mz_list tasks, next_tasks, due_tasks; /* of this turn's end; of the next turn; of this one, from the last */
    MZ_VEC(struct mz_loop_garbage) garbage;
    struct mz_wheel wheel;

    uint64_t wall_us, date_s; /* wall_us 0: not read in this turn */
    char date[32];
    struct mz_rand rand;
    unsigned worker;
    void (*on_turn)(void *arg, uint64_t duration_us, uint64_t poll_delay_us);
    void *on_turn_arg;
    struct mz_loop_signals *signals;
    char name[32];
    struct epoll_event events[MZ_LOOP_BATCH];

    char pad[64];          /* what other threads write has a cache line of its own */
    struct mz_post *posts; /* atomic: the last post first */
    bool stop;             /* atomic */
};

void mz_loop_wake(struct mz_loop *l);      /* any thread */
void mz_loop_run_posts(struct mz_loop *l); /* those there now */
void mz_loop_signals_destroy(struct mz_loop *l);
/* The thread's identity for mz_loop_here(). */
const void *mz_loop_thread(void);
#endif
