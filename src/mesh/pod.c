#include "mesh/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "mesh/json.h"
#include "mesh/network.h"

enum {
    FIRST_PAUSE_MS = 100,
    MAX_PAUSE_MS = 10000,
    LASTED_US = 60000000, /* so long it ran: the next end is no repetition */
    LEAVE_MS = 300,       /* until others know that a pod goes, before its application is told */
    NUDGE_MS = 150,       /* an agent that is told twice does not drain */
    PROXY_PATIENCE_MS = 60000,
    QUICK_MS = 3000,
    STATUS_PORT = 15020,
    LOOPBACK = 0x7f000001
};

static void advance(struct mz_mesh_pod *p);
static void wind_up(struct mz_mesh_pod *p);

const char *mz_mesh_phase_name(enum mz_mesh_phase phase)
{
    static const char *const names[] = { "Pending", "Running", "Succeeded", "Failed" };
    return names[phase];
}

static bool is_proxy(const struct mz_mesh_container *c)
{
    return c->spec->role == MZ_MESH_PROXY || c->spec->role == MZ_MESH_SIDECAR;
}

static bool is_init(const struct mz_mesh_container *c)
{
    return c->spec->role == MZ_MESH_INIT || c->spec->role == MZ_MESH_CAPTURE;
}

/* ---- what others see ---- */

__attribute__((format(printf, 2, 3))) static void because(struct mz_mesh_pod *p, const char *fmt,
                                                          ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(p->why, sizeof(p->why), fmt, ap);
    va_end(ap);
}

static bool container_ready(const struct mz_mesh_container *c)
{
    if (is_init(c))
        return c->state == MZ_MESH_DONE;
    return c->state == MZ_MESH_UP && c->started &&
           (c->spec->readiness.kind == MZ_MESH_PROBE_NONE || c->readiness.passing);
}

static void look_ready(struct mz_mesh_pod *p)
{
    bool ready = p->stage == MZ_MESH_RUN && p->phase == MZ_MESH_RUNNING;
    for (size_t i = 0; i < p->n && ready; i++)
        ready = container_ready(&p->v[i]);
    if (ready && !p->ready_after_us) {
        const uint64_t now = mz_loop_now_us(p->node->loop);
        p->ready_after_us = now - p->began_us ?: 1;
    }
    if (ready)
        p->why[0] = 0;
    if (ready == p->ready)
        return;
    p->ready = ready;
    p->ops->changed(p->ops->arg, p);
}

static void set_phase(struct mz_mesh_pod *p, enum mz_mesh_phase phase)
{
    if (p->phase == phase)
        return;
    p->phase = phase;
    p->ops->changed(p->ops->arg, p);
}

/* ---- one container ---- */

const char *mz_mesh_pod_log(const struct mz_mesh_pod *p, const char *container, char *out, size_t n)
{
    (void)snprintf(out, n, "%s/logs/%s_%s_%s.log", p->node->state, p->spec->ns, p->spec->name,
                   container);
    return out;
}

static void stop_probes(struct mz_mesh_container *c)
{
    mz_mesh_probe_stop(&c->startup);
    mz_mesh_probe_stop(&c->readiness);
    mz_mesh_probe_stop(&c->liveness);
}

static void is_started(struct mz_mesh_container *c)
{
    const struct mz_mesh_pod *p = c->pod;
    c->started = c->ever_started = true;
    mz_mesh_probe_start(&c->readiness, &p->sandbox, c->spec, p->ip, false);
    mz_mesh_probe_start(&c->liveness, &p->sandbox, c->spec, p->ip, true);
}

static struct mz_mesh_container *of_probe(struct mz_mesh_probe *p, size_t offset)
{
    return (struct mz_mesh_container *)(void *)((char *)p - offset);
}

static void on_startup(struct mz_mesh_probe *probe)
{
    struct mz_mesh_container *c = of_probe(probe, offsetof(struct mz_mesh_container, startup));
    if (!probe->passing)
        return;
    mz_mesh_probe_stop(probe);
    is_started(c);
    advance(c->pod);
}

static void on_readiness(struct mz_mesh_probe *probe)
{
    struct mz_mesh_container *c = of_probe(probe, offsetof(struct mz_mesh_container, readiness));
    if (!probe->passing)
        because(c->pod, "container %s is not ready", c->spec->name);
    look_ready(c->pod);
}

static void on_liveness(struct mz_mesh_probe *probe)
{
    struct mz_mesh_container *c = of_probe(probe, offsetof(struct mz_mesh_container, liveness));
    if (probe->passing)
        return;
    MZ_LOG(WARN, main, "%s/%s: container %s: its liveness probe fails, it is started again",
           c->pod->spec->ns, c->pod->spec->name, c->spec->name);
    mz_mesh_process_signal(&c->process, SIGKILL);
}

static void later(struct mz_mesh_container *c)
{
    if (mz_loop_now_us(c->pod->node->loop) - c->began_us > LASTED_US)
        c->pause_ms = FIRST_PAUSE_MS;
    c->state = MZ_MESH_BACK_OFF;
    mz_timer_start_ms(&c->again, c->pause_ms);
    c->pause_ms = c->pause_ms * 2 > MAX_PAUSE_MS ? MAX_PAUSE_MS : c->pause_ms * 2;
}

/* Jobs and pods that are not to be started again for ever. */
static bool is_again(const struct mz_mesh_container *c, int code)
{
    const enum mz_mesh_restart r = c->pod->spec->restart;
    if (c->pod->stage != MZ_MESH_RUN)
        return false;
    if (is_proxy(c))
        return r == MZ_MESH_ALWAYS || code != 0;
    if (is_init(c))
        return code != 0 && r != MZ_MESH_NEVER;
    return r == MZ_MESH_ALWAYS || (r == MZ_MESH_ON_FAILURE && code != 0);
}

/* The last line that it wrote: most often that is why. */
static void last_line(const struct mz_mesh_container *c, char out[120])
{
    char path[1024], part[240];
    const int fd =
        open(mz_mesh_pod_log(c->pod, c->spec->name, path, sizeof(path)), O_RDONLY | O_CLOEXEC);
    const off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    const ssize_t n = fd >= 0 ? pread(fd, part, sizeof(part) - 1, end > 239 ? end - 239 : 0) : 0;
    if (fd >= 0)
        (void)close(fd);
    struct mz_str s = { part, n > 0 ? (size_t)n : 0 };
    while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
        s.n--;
    s = mz_str_skip(s, (size_t)(mz_str_rchr(s, '\n') + 1));
    (void)snprintf(out, 120, "%s%.*s", s.n ? ": " : "", (int)s.n, s.p ? s.p : "");
}

static void on_ended(struct mz_mesh_process *process, int code)
{
    struct mz_mesh_container *c = MZ_CONTAINER(process, struct mz_mesh_container, process);
    struct mz_mesh_pod *p = c->pod;
    stop_probes(c);
    c->code = code;
    c->started = false;
    if (is_again(c, code)) {
        char line[120];
        last_line(c, line);
        later(c);
        because(p, "container %s ended with %d%s", c->spec->name, code, line);
        if (c->restarts < 8 || c->restarts % 16 == 0) /* a loop need not fill the terminal */
            MZ_LOG(WARN, main, "%s/%s: container %s ended with %d%s%s", p->spec->ns, p->spec->name,
                   c->spec->name, code, code > 128 ? " (by a signal)" : "", line);
    } else {
        c->state = MZ_MESH_DONE;
    }
    advance(p);
}

static int open_log(const struct mz_mesh_container *c)
{
    char path[1024];
    return open(mz_mesh_pod_log(c->pod, c->spec->name, path, sizeof(path)),
                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void start(struct mz_mesh_container *c)
{
    struct mz_mesh_pod *p = c->pod;
    struct mz_err err = { .path = "", .msg = "" };
    const int log = open_log(c);
    const struct mz_mesh_spawn s = { .in = &p->sandbox,
                                     .argv = c->spec->argv,
                                     .env = c->spec->env,
                                     .dir = c->spec->dir,
                                     .gid = c->spec->gid,
                                     .caps = c->spec->caps,
                                     .no_gain = c->spec->role == MZ_MESH_PROXY,
                                     .fds = { p->node->null, log, log } };
    c->began_us = mz_loop_now_us(p->node->loop);
    if (c->spec->role == MZ_MESH_PROXY && !p->ready_after_us)
        p->began_us = c->began_us;
    const bool ok =
        log >= 0 && mz_mesh_process_start(&p->node->processes, &c->process, &s, on_ended, &err);
    if (log >= 0)
        (void)close(log);
    if (!ok) { /* it may be there later: somebody is building it */
        because(p, "container %s: %.150s", c->spec->name, err.msg);
        MZ_LOG(ERROR, main, "%s/%s: container %s: %s", p->spec->ns, p->spec->name, c->spec->name,
               err.msg);
        later(c);
        return;
    }
    c->state = MZ_MESH_UP;
    if (is_init(c))
        return;
    if (c->spec->startup.kind == MZ_MESH_PROBE_NONE)
        is_started(c);
    else
        mz_mesh_probe_start(&c->startup, &p->sandbox, c->spec, p->ip, false);
}

static void on_again(struct mz_timer *t)
{
    struct mz_mesh_container *c = MZ_CONTAINER(t, struct mz_mesh_container, again);
    c->restarts++;
    start(c);
    advance(c->pod);
}

/* ---- the order of things ---- */

static bool lets_follow(const struct mz_mesh_container *c)
{
    if (is_init(c))
        return c->state == MZ_MESH_DONE && c->code == 0;
    /* A proxy that dies later does not take away what runs: it comes back. */
    return !is_proxy(c) || c->ever_started;
}

static void start_next(struct mz_mesh_pod *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct mz_mesh_container *c = &p->v[i];
        if (c->state == MZ_MESH_WAITING)
            start(c);
        if (!lets_follow(c)) {
            if (c->state == MZ_MESH_UP)
                because(p, "container %s has not %s yet", c->spec->name,
                        is_init(c) ? "ended" : "started");
            return;
        }
    }
    set_phase(p, MZ_MESH_RUNNING);
}

/* All applications have ended, or an init container has for good. */
static bool work_is_done(const struct mz_mesh_pod *p, bool *out_well)
{
    size_t apps = 0, done = 0;
    *out_well = true;
    for (size_t i = 0; i < p->n; i++) {
        const struct mz_mesh_container *c = &p->v[i];
        const bool ended = c->state == MZ_MESH_DONE;
        if (ended && c->code && !is_proxy(c))
            *out_well = false;
        if (is_init(c) && ended && c->code)
            return true;
        apps += c->spec->role == MZ_MESH_APP;
        done += c->spec->role == MZ_MESH_APP && ended;
    }
    return apps && apps == done;
}

static void tell_agent(struct mz_mesh_pod *p, const char *request)
{
    const struct mz_mesh_ask_opts o = { .ns = p->sandbox.net,
                                        .back = p->node->net,
                                        .ip = LOOPBACK,
                                        .port = STATUS_PORT,
                                        .request = request,
                                        .timeout_ms = 1000 };
    if (p->sandbox.net >= 0)
        mz_mesh_ask_start(&p->tell, &o);
}

static void on_told(struct mz_mesh_ask *a, int status)
{
    (void)a;
    (void)status; /* what is not heard ends by its signal */
}

static void set_stage(struct mz_mesh_pod *p, enum mz_mesh_stage stage, uint64_t patience_ms)
{
    p->stage = stage;
    mz_timer_start_ms(&p->patience, patience_ms);
}

static void advance(struct mz_mesh_pod *p)
{
    bool well;
    if (p->stage != MZ_MESH_RUN) {
        wind_up(p);
        return;
    }
    if (work_is_done(p, &well)) {
        p->phase = well ? MZ_MESH_SUCCEEDED : MZ_MESH_FAILED;
        because(p, well ? "done" : "an application or init container failed");
        set_stage(p, MZ_MESH_END_APPS, 0);
        look_ready(p);
        p->ops->changed(p->ops->arg, p);
        return; /* the rest is the timer's: nothing goes from inside its own callback */
    }
    start_next(p);
    look_ready(p);
}

/* ---- the end ---- */

static unsigned signal_all(struct mz_mesh_pod *p, bool proxies, int signo)
{
    unsigned n = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct mz_mesh_container *c = &p->v[i];
        if (is_proxy(c) != proxies)
            continue;
        mz_timer_stop(&c->again);
        stop_probes(c);
        if (c->process.pid) {
            n++;
            if (signo)
                mz_mesh_process_signal(&c->process, signo);
        }
    }
    return n;
}

static bool runs(const struct mz_mesh_pod *p, bool proxies)
{
    for (size_t i = 0; i < p->n; i++)
        if (is_proxy(&p->v[i]) == proxies && p->v[i].process.pid)
            return true;
    return false;
}

static void over(struct mz_mesh_pod *p)
{
    mz_timer_stop(&p->nudge);
    mz_mesh_ask_stop(&p->tell);
    (void)mz_mesh_sandbox_kill(&p->sandbox, SIGKILL); /* what left its session */
    mz_mesh_network_pod_gone(p->number);
    mz_mesh_sandbox_close(&p->sandbox);
    set_stage(p, MZ_MESH_OVER, 0);
}

static void end_proxies(struct mz_mesh_pod *p)
{
    set_stage(p, MZ_MESH_END_PROXIES, p->quick ? QUICK_MS : PROXY_PATIENCE_MS);
    if (p->phase == MZ_MESH_SUCCEEDED || p->phase == MZ_MESH_FAILED)
        tell_agent(p,
                   "POST /quitquitquit HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    else
        (void)signal_all(p, true, SIGTERM);
    if (p->quick)
        mz_timer_start_ms(&p->nudge, NUDGE_MS);
}

/* Something ended while the pod ends. */
static void wind_up(struct mz_mesh_pod *p)
{
    if (p->stage == MZ_MESH_END_APPS && !runs(p, false))
        end_proxies(p);
    if (p->stage == MZ_MESH_END_PROXIES && !runs(p, true))
        over(p);
}

static void on_nudge(struct mz_timer *t)
{
    struct mz_mesh_pod *p = MZ_CONTAINER(t, struct mz_mesh_pod, nudge);
    if (signal_all(p, true, SIGTERM))
        mz_timer_start_ms(&p->nudge, NUDGE_MS);
}

static void end_apps(struct mz_mesh_pod *p)
{
    set_stage(p, MZ_MESH_END_APPS, p->quick ? QUICK_MS : p->spec->grace_ms);
    (void)signal_all(p, false, SIGTERM);
    wind_up(p);
}

static void on_patience(struct mz_timer *t)
{
    struct mz_mesh_pod *p = MZ_CONTAINER(t, struct mz_mesh_pod, patience);
    switch (p->stage) {
    case MZ_MESH_RUN:
        break;
    case MZ_MESH_LEAVING:
        end_apps(p);
        break;
    case MZ_MESH_END_APPS:
        (void)signal_all(p, false, SIGKILL);
        wind_up(p);
        break;
    case MZ_MESH_END_PROXIES:
        (void)signal_all(p, true, SIGKILL);
        wind_up(p);
        break;
    case MZ_MESH_OVER:
        p->ops->over(p->ops->arg, p);
        break;
    }
}

void mz_mesh_pod_stop(struct mz_mesh_pod *p, bool quick)
{
    const bool hurry = quick && !p->quick;
    p->quick |= quick;
    p->leaving = true;
    if (p->stage == MZ_MESH_OVER) {
        mz_timer_start_ms(&p->patience, 0);
    } else if (p->stage == MZ_MESH_RUN) {
        if (!quick) {
            for (size_t i = 0; i < p->n; i++)
                if (p->v[i].spec->role == MZ_MESH_PROXY && p->v[i].started)
                    tell_agent(
                        p, "POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        }
        set_stage(p, MZ_MESH_LEAVING, quick ? 0 : LEAVE_MS);
        look_ready(p);
        p->ops->changed(p->ops->arg, p);
    } else if (hurry && p->stage == MZ_MESH_END_PROXIES) {
        end_proxies(p);
    } else if (hurry) {
        set_stage(p, p->stage, p->stage == MZ_MESH_LEAVING ? 0 : QUICK_MS);
    }
}

/* ---- begin ---- */

struct mz_mesh_pod *mz_mesh_pod_create(struct mz_mesh_node *node, struct mz_mesh_pod_spec *spec,
                                       uint32_t ip, unsigned number,
                                       const struct mz_mesh_pod_ops *ops)
{
    struct mz_mesh_pod *p = mz_new0(MZ_MEM_MISC, struct mz_mesh_pod);
    *p = (struct mz_mesh_pod){ .node = node,
                               .spec = spec,
                               .ops = ops,
                               .ip = ip,
                               .number = number,
                               .sandbox = MZ_MESH_NO_SANDBOX,
                               .n = spec->n,
                               .created_us = mz_loop_wall_us(node->loop),
                               .began_us = mz_loop_now_us(node->loop) };
    mz_list_init(&p->link);
    mz_timer_init(node->loop, &p->patience, on_patience);
    mz_timer_init(node->loop, &p->nudge, on_nudge);
    mz_mesh_ask_init(&p->tell, node->loop, on_told);
    p->v = mz_newn0(MZ_MEM_MISC, struct mz_mesh_container, p->n);
    for (size_t i = 0; i < p->n; i++) {
        struct mz_mesh_container *c = &p->v[i];
        c->pod = p;
        c->spec = &spec->v[i];
        c->pause_ms = FIRST_PAUSE_MS;
        mz_timer_init(node->loop, &c->again, on_again);
        mz_mesh_probe_init(&c->startup, node, &c->spec->startup, on_startup);
        mz_mesh_probe_init(&c->readiness, node, &c->spec->readiness, on_readiness);
        mz_mesh_probe_init(&c->liveness, node, &c->spec->liveness, on_liveness);
    }
    return p;
}

bool mz_mesh_pod_start(struct mz_mesh_pod *p, const struct mz_mesh_mount *mounts, size_t n,
                       struct mz_err *err)
{
    const struct mz_mesh_sandbox_opts o = {
        .hostname = p->spec->name, .mounts = mounts, .mounts_n = n, .scratch = p->spec->work
    };
    if (!mz_mesh_sandbox_create(&o, &p->sandbox, err) ||
        !mz_mesh_network_pod(p->sandbox.net, p->node->net, p->ip, p->node->six, p->number, err))
        return mz_err_at(err, "pod %s/%s", p->spec->ns, p->spec->name);
    advance(p);
    return true;
}

void mz_mesh_pod_destroy(struct mz_mesh_pod *p)
{
    if (!p)
        return;
    (void)signal_all(p, true, 0); /* timers and probes */
    (void)signal_all(p, false, 0);
    for (size_t i = 0; i < p->n; i++)
        mz_mesh_process_abandon(&p->v[i].process);
    mz_timer_stop(&p->patience);
    mz_timer_stop(&p->nudge);
    mz_mesh_ask_stop(&p->tell);
    if (p->sandbox.net >= 0)
        (void)mz_mesh_sandbox_kill(&p->sandbox, SIGKILL);
    mz_mesh_sandbox_close(&p->sandbox);
    mz_list_del(&p->link);
    mz_mesh_pod_spec_destroy(p->spec);
    mz_free(MZ_MEM_MISC, p->v);
    mz_free(MZ_MEM_MISC, p);
}

/* ---- asked by others ---- */

struct mz_mesh_container *mz_mesh_pod_container(struct mz_mesh_pod *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (name ? strcmp(p->v[i].spec->name, name) == 0 : p->v[i].spec->role == MZ_MESH_APP)
            return &p->v[i];
    return !name && p->n ? &p->v[0] : NULL; /* a gateway has no application */
}

unsigned mz_mesh_pod_restarts(const struct mz_mesh_pod *p)
{
    unsigned n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->v[i].restarts;
    return n;
}

json_t *mz_mesh_pod_document(const struct mz_mesh_pod *p)
{
    char when[32];
    const time_t s = (time_t)(p->created_us / 1000000);
    struct tm tm;
    json_t *o = json_deep_copy(p->spec->object), *meta = json_object_get(o, "metadata"),
           *status = mz_json_member(o, "status");
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &tm));
    (void)json_object_set_new(meta, "creationTimestamp", json_string(when));
    if (p->leaving)
        (void)json_object_set_new(meta, "deletionTimestamp", json_string(when));
    (void)json_object_set_new(status, "phase", json_string(mz_mesh_phase_name(p->phase)));
    (void)json_object_set_new(
        status, "conditions",
        json_pack("[{s:s, s:s}]", "type", "Ready", "status", p->ready ? "True" : "False"));
    return o;
}
