/*
 * The ways to the end (P5).
 * SIGTERM, SIGINT and /quitquitquit: no new connections (those in the backlog are taken first), requests that are in flight
 * get EXIT_GRACE_MS to finish, answers say Connection: close; what is left then is cut, as Envoy cuts everything at once.
 * Connections that are between two requests after EXIT_FIRST_MS end then: who had one to send has been answered and told.
 * A second signal ends at once. /drain_listeners: see Envoy's page; with graceful the drain time runs first.
 */
#include "base/clock.h"
#include "base/log.h"
#include "server/server.h"

#define EXIT_GRACE_MS 400
#define EXIT_LOOK_MS  5
#define EXIT_FIRST_MS 30 /* the listeners have closed, their last connections are counted */

static void drain_begin(struct mz_server *s, enum mz_drain_scope scope, uint64_t time_us,
                        bool immediate)
{
    uint64_t now = mz_clock->mono_us();
    __atomic_store_n(&s->process.drain_start_us, now, __ATOMIC_RELAXED);
    __atomic_store_n(&s->process.drain_end_us, now + time_us, __ATOMIC_RELAXED);
    __atomic_store_n(&s->process.drain_immediate, (uint32_t)immediate, __ATOMIC_RELAXED);
    __atomic_store_n(&s->process.draining, 1u, __ATOMIC_RELEASE);
    if (immediate)
        mz_listener_manager_drain(s->listeners, scope);
}

static void drain_over(struct mz_timer *t)
{
    struct mz_server *s = MZ_CONTAINER(t, struct mz_server, drain_timer);
    if (!s->skip_exit)
        mz_listener_manager_stop(s->listeners, s->drain_scope);
}

void mz_server_drain(struct mz_server *s, enum mz_drain_scope scope, bool graceful, bool skip_exit)
{
    if (!graceful && !skip_exit) {
        mz_listener_manager_stop(s->listeners, scope);
        return;
    }
    if (mz_timer_armed(&s->drain_timer))
        return; /* it runs already */
    s->drain_scope = scope;
    s->skip_exit = skip_exit;
    drain_begin(s, scope, (uint64_t)s->opts.drain_time_s * 1000000,
                s->opts.drain_strategy[0] == 'i');
    mz_timer_start_ms(&s->drain_timer, (uint64_t)s->opts.drain_time_s * 1000);
}

static void all_closed(void *arg)
{
    struct mz_server *s = arg;
    mz_loop_stop(s->loop);
}

static void exit_now(struct mz_server *s)
{
    mz_timer_stop(&s->exit_timer);
    if (s->workers_started)
        mz_listener_manager_close_all(s->listeners, s->loop, all_closed, s);
    else
        mz_loop_stop(s->loop);
}

/* Looks whether the last connection went; a timer, since connections end on other threads. */
static void exit_look(struct mz_timer *t)
{
    struct mz_server *s = MZ_CONTAINER(t, struct mz_server, exit_timer);
    bool late = mz_clock->mono_us() >= s->exit_deadline_us;
    if (late || mz_listener_manager_connections(s->listeners) == 0) {
        exit_now(s);
        return;
    }
    mz_listener_manager_end_idle(s->listeners);
    mz_timer_start_ms(&s->exit_timer, EXIT_LOOK_MS);
}

void mz_drain_init(struct mz_server *s)
{
    mz_timer_init(s->loop, &s->drain_timer, drain_over);
    mz_timer_init(s->loop, &s->exit_timer, exit_look);
}

void mz_drain_fini(struct mz_server *s)
{
    mz_timer_stop(&s->drain_timer);
    mz_timer_stop(&s->exit_timer);
}

void mz_server_exit(struct mz_server *s, const char *why)
{
    MZ_LOG(WARN, main, "caught %s", why);
    if (s->exiting) {
        s->exit_deadline_us = 0;
        return;
    }
    s->exiting = true;
    MZ_LOG(INFO, main, "shutting down server instance");
    s->exit_deadline_us = mz_clock->mono_us() + EXIT_GRACE_MS * 1000ull;
    mz_timer_stop(&s->drain_timer);
    if (s->workers_started) {
        mz_listener_manager_stop(s->listeners, MZ_DRAIN_ALL);
        drain_begin(s, MZ_DRAIN_ALL, 0, true);
    }
    mz_timer_start_ms(&s->exit_timer, EXIT_FIRST_MS);
}
