#ifndef MZ_EVENT_LOOP_H
#define MZ_EVENT_LOOP_H
/*
 * The event loop (P3): descriptors (edge-triggered epoll), timers (hierarchical wheel), posts from other threads, work
 * deferred to the end of the turn. One loop a thread; everything except mz_loop_post() and mz_loop_stop() is called on the
 * loop's own thread only.
 *
 * A turn: wait; run ready descriptors; run due timers; run posts; then the "end of turn" list (output flushes); then
 * deferred destruction. Nothing is called back from inside the registering call.
 */
#include "base/alloc.h"
#include "base/list.h"
#include "base/rand.h"
#include "event/sys.h"
#include <stdbool.h>
#include <stdint.h>

struct mz_loop;
struct mz_loop *mz_loop_create(const char *name /* "main_thread", "worker_0": for logs and statistics */);
void mz_loop_destroy(struct mz_loop *l); /* not from inside a callback; runs what is still posted and deferred */
void mz_loop_run(struct mz_loop *l);     /* until mz_loop_stop() */
void mz_loop_turn(struct mz_loop *l, int max_wait_ms); /* one turn, for tests; -1 waits without limit */
void mz_loop_stop(struct mz_loop *l);    /* any thread */
bool mz_loop_here(const struct mz_loop *l); /* is this its thread? for assertions */
const char *mz_loop_name(const struct mz_loop *l);

/* Cached once a turn. */
uint64_t mz_loop_now_us(const struct mz_loop *l);   /* monotonic */
uint64_t mz_loop_wall_us(struct mz_loop *l);        /* wall clock; read at most once a turn, on demand */
const char *mz_loop_http_date(struct mz_loop *l);   /* "Sun, 06 Nov 1994 08:49:37 GMT", 29 bytes, made once a second */
struct mz_rand *mz_loop_rand(struct mz_loop *l);
const struct mz_sys *mz_loop_sys(const struct mz_loop *l);
void mz_loop_set_sys(struct mz_loop *l, const struct mz_sys *sys); /* tests */
struct mz_wire_host; /* net/wire.h: who answers calls to internal addresses on this loop; NULL: nobody */
struct mz_wire_host *mz_loop_wires(const struct mz_loop *l);
void mz_loop_set_wires(struct mz_loop *l, struct mz_wire_host *h); /* on its thread, or before it runs */
unsigned mz_loop_worker(const struct mz_loop *l);                  /* 0 main, 1.. workers: the slot of statistics */
void mz_loop_set_worker(struct mz_loop *l, unsigned slot);

/* ---- descriptors: registered once, edge-triggered for reading and writing (EPOLLIN|OUT|RDHUP|ET) ---- */
enum {
    MZ_IO_READ = 1,
    MZ_IO_WRITE = 2,
    MZ_IO_HUP = 4,        /* both directions are gone (EPOLLHUP or EPOLLERR) */
    MZ_IO_END = 8,        /* with READ: the peer ended its direction (EPOLLRDHUP), so a short read does not mean drained */
    MZ_IO_EXCLUSIVE = 16, /* mz_io_add_level() only: of the threads that wait for a shared socket, one is woken */
};
struct mz_io { /* embedded in what owns the descriptor */
    int fd;
    void (*ready)(struct mz_io *io, unsigned events);
    struct mz_loop *loop;
    struct mz_list again; /* see mz_io_again() */
    unsigned again_events;
};
int mz_io_add(struct mz_loop *l, struct mz_io *io, int fd, void (*ready)(struct mz_io *io, unsigned events)); /* 0 or -errno */
int mz_io_add_level(struct mz_loop *l, struct mz_io *io, int fd, unsigned events,
                    void (*ready)(struct mz_io *io, unsigned events)); /* level-triggered: listeners */
/* Without a descriptor: told by mz_io_again() only. */
void mz_io_add_virtual(struct mz_loop *l, struct mz_io *io, void (*ready)(struct mz_io *io, unsigned events));
int mz_io_level_mod(struct mz_io *io, unsigned events);
void mz_io_del(struct mz_io *io); /* no callback afterwards, not even one of this turn; does not close fd */
/* Calls ready(events) again in the next turn, though epoll will not tell: budget used up, or reading was enabled again. */
void mz_io_again(struct mz_io *io, unsigned events);

/* ---- timers: embedded, one shot, resolution 1 ms ---- */
struct mz_timer {
    struct mz_list link;
    uint64_t due_ms;    /* when it shall fire; may lie behind its place in the wheel */
    uint64_t placed_ms; /* its place; 0 when not placed */
    struct mz_loop *loop;
    void (*fire)(struct mz_timer *t);
};
void mz_timer_init(struct mz_loop *l, struct mz_timer *t, void (*fire)(struct mz_timer *t));
/* (Re)arms: later than before costs one store (the wheel looks again when the old place is reached). */
void mz_timer_start_ms(struct mz_timer *t, uint64_t from_now_ms);
void mz_timer_start_us(struct mz_timer *t, uint64_t from_now_us); /* rounded up to the next ms */
void mz_timer_stop(struct mz_timer *t); /* O(1); must have run before the memory goes (also called fini) */
static inline bool mz_timer_armed(const struct mz_timer *t)
{
    return t->placed_ms != 0;
}

/* ---- end of turn ---- */
struct mz_task { /* embedded; runs once at the end of this turn, before deferred destruction */
    struct mz_list link;
    void (*run)(struct mz_task *t);
};
void mz_task_init(struct mz_task *t, void (*run)(struct mz_task *t));
void mz_task_schedule(struct mz_loop *l, struct mz_task *t); /* twice is once; scheduled within a task: runs in the same pass */
/* Runs in the next turn, behind its descriptors and timers: what is polled then has been seen. The loop does not sleep before. */
void mz_task_schedule_next(struct mz_loop *l, struct mz_task *t);
void mz_task_cancel(struct mz_task *t); /* of either kind */
/* destroy(p) at the very end of the turn: no object is freed inside its own callback. */
void mz_loop_free_later(struct mz_loop *l, void *p, void (*destroy)(void *p));

/* ---- from other threads ---- */
typedef void mz_post_fn(struct mz_loop *loop, void *arg);
void mz_loop_post(struct mz_loop *l, mz_post_fn *fn, void *arg); /* any thread; in order per posting thread */

/* ---- signals (main loop): the handler runs as an ordinary callback; signals are blocked in all threads before ---- */
bool mz_loop_on_signal(struct mz_loop *l, int signo, void (*fn)(void *arg, int signo), void *arg);

/* Durations of turns for the dispatcher statistics (P3): called once a turn with both in µs; NULL switches off. */
void mz_loop_on_turn(struct mz_loop *l, void (*fn)(void *arg, uint64_t duration_us, uint64_t poll_delay_us), void *arg);
#endif
