#include "mesh/probe.h"

#include <signal.h>

enum { FIRST_PAUSE_MS = 4, QUICK_MS = 250 };

static void on_answer(struct mz_mesh_ask *a, int status);
static void on_next(struct mz_timer *t);

void mz_mesh_probe_init(struct mz_mesh_probe *p, struct mz_mesh_node *node,
                        const struct mz_mesh_probe_spec *spec,
                        void (*changed)(struct mz_mesh_probe *p))
{
    *p = (struct mz_mesh_probe){ .spec = spec, .node = node, .changed = changed };
    mz_mesh_ask_init(&p->ask, node->loop, on_answer);
    mz_timer_init(node->loop, &p->next, on_next);
}

static void again(struct mz_mesh_probe *p)
{
    const uint64_t quick = p->pause_ms * 2 < QUICK_MS ? p->pause_ms * 2 : QUICK_MS;
    const bool wait = p->ever || p->spec->period_ms < quick;
    p->pause_ms = wait ? p->spec->period_ms : quick;
    mz_timer_start_ms(&p->next, p->pause_ms);
}

/* Failures are counted by what they take in time while it asks more often than its period. */
static bool has_failed(const struct mz_mesh_probe *p)
{
    if (p->ever)
        return p->bad >= p->spec->failures;
    const uint64_t ms = (mz_loop_now_us(p->node->loop) - p->began_us) / 1000;
    return ms >= p->spec->delay_ms + (uint64_t)p->spec->failures * p->spec->period_ms;
}

static void result(struct mz_mesh_probe *p, bool good)
{
    const bool before = p->passing;
    p->good = good ? p->good + 1 : 0;
    p->bad = good ? 0 : p->bad + 1;
    if (good && p->good >= p->spec->successes)
        p->passing = p->ever = true;
    else if (!good && has_failed(p))
        p->passing = false;
    again(p);
    if (p->passing != before)
        p->changed(p);
}

static void on_answer(struct mz_mesh_ask *a, int status)
{
    result(MZ_CONTAINER(a, struct mz_mesh_probe, ask), status >= 200 && status < 400);
}

static void on_command(struct mz_mesh_process *c, int code)
{
    struct mz_mesh_probe *p = MZ_CONTAINER(c, struct mz_mesh_probe, command);
    result(p, code == 0);
}

static void run_command(struct mz_mesh_probe *p)
{
    const int null = p->node->null;
    const struct mz_mesh_spawn s = { .in = p->in,
                                     .argv = p->spec->argv,
                                     .env = p->of->env,
                                     .dir = p->of->dir,
                                     .gid = p->of->gid,
                                     .caps = p->of->caps,
                                     .fds = { null, null, null } };
    struct mz_err err;
    if (mz_mesh_process_start(&p->node->processes, &p->command, &s, on_command, &err))
        mz_timer_start_ms(&p->next, p->spec->timeout_ms);
    else
        result(p, false);
}

static void on_next(struct mz_timer *t)
{
    struct mz_mesh_probe *p = MZ_CONTAINER(t, struct mz_mesh_probe, next);
    if (p->spec->kind == MZ_MESH_PROBE_EXEC) {
        if (p->command.pid)
            mz_mesh_process_signal(&p->command, SIGKILL); /* its end is the answer */
        else
            run_command(p);
        return;
    }
    const struct mz_mesh_ask_opts o = { .ns = -1,
                                        .back = p->node->net,
                                        .ip = p->ip,
                                        .port = p->spec->port,
                                        .request = p->spec->request,
                                        .timeout_ms = p->spec->timeout_ms };
    mz_mesh_ask_start(&p->ask, &o);
}

void mz_mesh_probe_start(struct mz_mesh_probe *p, const struct mz_mesh_sandbox *in,
                         const struct mz_mesh_container_spec *of, uint32_t ip, bool passing)
{
    mz_mesh_probe_stop(p);
    p->in = in;
    p->of = of;
    p->ip = ip;
    p->passing = passing;
    p->ever = false;
    p->good = p->bad = 0;
    p->pause_ms = FIRST_PAUSE_MS;
    p->began_us = mz_loop_now_us(p->node->loop);
    if (p->spec->kind == MZ_MESH_PROBE_NONE)
        return;
    p->running = true;
    mz_timer_start_ms(&p->next, p->spec->delay_ms);
}

void mz_mesh_probe_stop(struct mz_mesh_probe *p)
{
    p->running = false;
    mz_timer_stop(&p->next);
    mz_mesh_ask_stop(&p->ask);
    mz_mesh_process_abandon(&p->command);
}
