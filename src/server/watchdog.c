/*
 * Threads that hang are counted (P4). Main posts a beat to every worker and looks at the next tick whether it was answered; main
 * itself was stuck when its own tick comes late. A stall counts once as a miss and, when it lasts, once as a mega miss.
 */
#include <stdio.h>

#include "base/log.h"
#include "server/server.h"

#define TICK_US (TICK_MS * 1000ull)
#define TICK_MS 200 /* as Envoy: a miss after 200 ms, a mega miss after a second */
#define MEGA_US 1000000

enum { MEGA_MISS, MISS };
static const struct mz_stat_def defs[] = {
    [MEGA_MISS] = { "watchdog_mega_miss", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MISS] = { "watchdog_miss", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind watchdog_stats = { "watchdog", defs, MZ_COUNT(defs) };

struct watched { /* one worker */
    struct mz_loop *loop;
    struct mz_scope *scope; /* server.worker_0. */
    uint64_t asked_us;
    bool answered; /* atomic: the worker sets it */
    bool missed, mega_missed;
};
struct mz_watchdog {
    struct mz_timer timer;
    struct mz_loop *main;
    struct mz_scope *main_scope, *main_total, *workers_total;
    uint64_t due_us; /* of the next tick */
    unsigned n;
    struct watched v[];
};

static void beat(struct mz_loop *l, void *arg) /* runs on the worker */
{
    (void)l;
    struct watched *w = arg;
    __atomic_store_n(&w->answered, true, __ATOMIC_RELEASE);
}

static void ask(struct watched *w, uint64_t now_us)
{
    w->asked_us = now_us;
    w->missed = w->mega_missed = false;
    __atomic_store_n(&w->answered, false, __ATOMIC_RELAXED);
    mz_loop_post(w->loop, beat, w);
}

static void miss(struct mz_scope *own, struct mz_scope *total, unsigned which)
{
    mz_count(own, which, 1);
    mz_count(total, which, 1);
}

static void check(struct mz_watchdog *d, struct watched *w, uint64_t now_us)
{
    if (__atomic_load_n(&w->answered, __ATOMIC_ACQUIRE)) {
        ask(w, now_us);
        return;
    }
    if (!w->missed)
        miss(w->scope, d->workers_total, MISS);
    w->missed = true;
    if (w->mega_missed || now_us - w->asked_us < MEGA_US)
        return;
    w->mega_missed = true;
    miss(w->scope, d->workers_total, MEGA_MISS);
    MZ_LOG(WARN, main, "%s has not answered for a second", mz_loop_name(w->loop));
}

static void check_main(struct mz_watchdog *d, uint64_t now_us)
{
    uint64_t late_us = now_us > d->due_us ? now_us - d->due_us : 0;
    if (late_us >= TICK_US)
        miss(d->main_scope, d->main_total, MISS);
    if (late_us >= MEGA_US)
        miss(d->main_scope, d->main_total, MEGA_MISS);
}

static void tick(struct mz_timer *t)
{
    struct mz_watchdog *d = MZ_CONTAINER(t, struct mz_watchdog, timer);
    uint64_t now_us = mz_loop_now_us(d->main);
    check_main(d, now_us);
    for (unsigned i = 0; i < d->n; i++)
        check(d, &d->v[i], now_us);
    d->due_us = now_us + TICK_US;
    mz_timer_start_ms(&d->timer, TICK_MS);
}

static struct mz_scope *scope_of(struct mz_server *s, const struct mz_loop *l)
{
    char prefix[64];
    int n = snprintf(prefix, sizeof(prefix), "server.%s.", mz_loop_name(l));
    return mz_scope_create(s->stats, &watchdog_stats, (struct mz_str){ prefix, (size_t)n });
}

struct mz_watchdog *mz_watchdog_create(struct mz_server *s)
{
    struct mz_watchdog *d = mz_alloc0(MZ_MEM_MISC, sizeof(*d) + s->n_workers * sizeof(d->v[0]));
    d->main = s->loop;
    const unsigned n = d->n = s->n_workers;
    d->main_scope = scope_of(s, s->loop);
    d->main_total = mz_scope_create(s->stats, &watchdog_stats, MZ_STR("main_thread."));
    d->workers_total = mz_scope_create(s->stats, &watchdog_stats, MZ_STR("workers."));
    mz_timer_init(s->loop, &d->timer, tick);
    for (unsigned i = 0; i < n; i++)
        d->v[i] = (struct watched){ .loop = s->workers[i].loop,
                                    .scope = scope_of(s, s->workers[i].loop),
                                    .answered = true };
    return d;
}

void mz_watchdog_start(struct mz_watchdog *d)
{
    d->due_us = mz_loop_now_us(d->main) + TICK_US;
    mz_timer_start_ms(&d->timer, TICK_MS);
}

void mz_watchdog_destroy(struct mz_watchdog *d)
{
    if (!d)
        return;
    mz_timer_stop(&d->timer);
    for (unsigned i = 0; i < d->n; i++)
        mz_scope_unref(d->v[i].scope);
    mz_scope_unref(d->main_scope);
    mz_scope_unref(d->main_total);
    mz_scope_unref(d->workers_total);
    mz_free(MZ_MEM_MISC, d);
}
