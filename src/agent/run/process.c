#include "agent/run/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "event/loop.h"

#define FIRST_PAUSE_MS 100
#define MAX_PAUSE_MS   10000
#define LASTED_MS      60000 /* so long it ran: the next end is no repetition */
#define CANNOT_RUN     127

struct mz_process {
    struct mz_process_opts o;
    pid_t pid;
    bool stopping, told; /* told: of its end */
    unsigned starts;
    uint64_t began_us, pause_ms;
    struct mz_timer again, patience;
};

/* In the child: only what is safe between fork and exec. */
static _Noreturn void become(const struct mz_process *p, pid_t parent)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CANNOT_RUN); /* the agent has gone meanwhile */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the child has one thread */
    (void)execvp(p->o.argv[0], (char *const *)(uintptr_t)p->o.argv);
    _exit(CANNOT_RUN);
}

static bool start(struct mz_process *p)
{
    const pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        MZ_LOG(ERROR, main, "cannot start %s: %s", p->o.argv[0], strerrordesc_np(errno));
        return false;
    }
    if (pid == 0)
        become(p, parent);
    p->pid = pid;
    p->starts++;
    p->began_us = mz_loop_now_us(p->o.loop);
    return true;
}

static void later(struct mz_process *p)
{
    MZ_LOG(WARN, main, "the proxy is started again in %llu ms", (unsigned long long)p->pause_ms);
    mz_timer_start_ms(&p->again, p->pause_ms);
    p->pause_ms = p->pause_ms * 2 > MAX_PAUSE_MS ? MAX_PAUSE_MS : p->pause_ms * 2;
}

static void on_again(struct mz_timer *t)
{
    struct mz_process *p = MZ_CONTAINER(t, struct mz_process, again);
    if (!start(p))
        later(p);
}

static void on_patience(struct mz_timer *t)
{
    struct mz_process *p = MZ_CONTAINER(t, struct mz_process, patience);
    MZ_LOG(WARN, main, "the proxy does not end: it is killed");
    if (p->pid)
        (void)kill(p->pid, SIGKILL);
}

struct mz_process *mz_process_create(const struct mz_process_opts *o)
{
    struct mz_process *p = mz_alloc0(MZ_MEM_MISC, sizeof(*p));
    p->o = *o;
    p->pause_ms = FIRST_PAUSE_MS;
    mz_timer_init(o->loop, &p->again, on_again);
    mz_timer_init(o->loop, &p->patience, on_patience);
    return p;
}

/* What can be found out beforehand is an error at once: a program that is not there will not come. */
bool mz_process_start(struct mz_process *p, struct mz_err *err)
{
    const char *name = p->o.argv[0];
    if (strchr(name, '/') && access(name, X_OK) != 0)
        return mz_err_set(err, "cannot run %s: %s", name, strerrordesc_np(errno));
    return start(p) ? true : mz_err_set(err, "cannot start %s", name);
}

static void tell(struct mz_process *p, int status)
{
    if (!p->told)
        p->o.ended(p->o.arg, status);
    p->told = true;
}

static void gone(struct mz_process *p, int status)
{
    const bool lasted = mz_loop_now_us(p->o.loop) - p->began_us > LASTED_MS * 1000ull;
    p->pid = 0;
    if (p->stopping) {
        mz_timer_stop(&p->patience);
        tell(p, status);
        return;
    }
    if (WIFSIGNALED(status))
        MZ_LOG(ERROR, main, "the proxy was ended by signal %d", WTERMSIG(status));
    else
        MZ_LOG(ERROR, main, "the proxy ended with exit code %d", WEXITSTATUS(status));
    if (lasted)
        p->pause_ms = FIRST_PAUSE_MS;
    later(p);
}

void mz_process_check(struct mz_process *p)
{
    int status;
    if (p->pid && waitpid(p->pid, &status, WNOHANG) == p->pid)
        gone(p, status);
}

void mz_process_keep_down(struct mz_process *p)
{
    p->stopping = true;
    mz_timer_stop(&p->again);
    if (!p->pid)
        tell(p, 0);
}

void mz_process_stop(struct mz_process *p, uint64_t patience_ms)
{
    mz_process_keep_down(p);
    if (!p->pid)
        return;
    (void)kill(p->pid, SIGTERM);
    mz_timer_start_ms(&p->patience, patience_ms);
}

void mz_process_destroy(struct mz_process *p)
{
    if (!p)
        return;
    mz_timer_stop(&p->again);
    mz_timer_stop(&p->patience);
    if (p->pid) {
        (void)kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, NULL, 0);
    }
    mz_free(MZ_MEM_MISC, p);
}

int mz_process_pid(const struct mz_process *p)
{
    return (int)p->pid;
}

unsigned mz_process_starts(const struct mz_process *p)
{
    return p->starts;
}
