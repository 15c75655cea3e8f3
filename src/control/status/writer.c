#include "control/status/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

enum { LATER_MS = 200, CPU_S = 120, NICER = 5 };

struct mz_status_writer {
    struct mz_loop *loop;
    const char *dir;
    bool (*from)(void *arg, struct mz_status_from *out);
    void *arg;
    struct mz_timer timer;
    struct mz_io io; /* the child's end */
    int fd;          /* -1: no child */
    pid_t pid;
    bool again; /* something changed since it began */
};

static void failed(const char *text)
{
    MZ_LOG(ERROR, config, "status: %s", text);
}

/* Descriptors are the parent's: what it closes must not stay open here. */
_Noreturn static void child(const struct mz_status_from *f, const char *dir, pid_t parent, int out)
{
    const struct rlimit cpu = { CPU_S, CPU_S };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)] = "";
    (void)close_range(3, (unsigned)out - 1, 0); /* nothing is there where it fails */
    (void)close_range((unsigned)out + 1, ~0u, 0);
    (void)setrlimit(RLIMIT_CPU, &cpu); /* without it: a document may make it long */
    (void)setpriority(PRIO_PROCESS, 0, NICER);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && !mz_status_write(f, dir, &err)) {
        (void)mz_err_text(&err, text, sizeof(text));
        _exit(write(out, text, strlen(text)) < 0);
    }
    _exit(0);
}

static void ended(struct mz_status_writer *w)
{
    int status = 0;
    mz_io_del(&w->io);
    (void)close(w->fd); /* only read */
    w->fd = -1;
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        MZ_LOG(ERROR, config, "status: not written: the analysis was ended by signal %d%s",
               WTERMSIG(status),
               WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL
                   ? " (more than 120 s of CPU time)"
                   : "");
    if (w->again)
        mz_status_writer_later(w);
    w->again = false;
}

static void on_child(struct mz_io *io, unsigned events)
{
    struct mz_status_writer *w =
        (struct mz_status_writer *)((char *)io - offsetof(struct mz_status_writer, io));
    char text[sizeof(struct mz_err)];
    (void)events;
    const ssize_t n = read(w->fd, text, sizeof(text) - 1);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        text[n] = '\0';
        failed(text);
        return;
    }
    ended(w);
}

static void stop(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static bool begin(struct mz_status_writer *w, const struct mz_status_from *f)
{
    int fds[2];
    const pid_t parent = getpid();
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    w->pid = fork();
    if (w->pid == 0)
        child(f, w->dir, parent, fds[1]);
    (void)close(fds[1]); /* the child's */
    if (w->pid > 0 && mz_io_add_level(w->loop, &w->io, fds[0], MZ_IO_READ, on_child) == 0) {
        w->fd = fds[0];
        return true;
    }
    (void)close(fds[0]);
    if (w->pid > 0)
        stop(w->pid);
    return false;
}

static void on_timer(struct mz_timer *t)
{
    struct mz_status_writer *w =
        (struct mz_status_writer *)((char *)t - offsetof(struct mz_status_writer, timer));
    struct mz_status_from f;
    if (w->fd >= 0) {
        w->again = true;
        return;
    }
    if (w->from(w->arg, &f) && !begin(w, &f))
        failed("no process to write it");
}

struct mz_status_writer *
mz_status_writer_create(struct mz_loop *loop, const char *dir,
                        bool (*from)(void *arg, struct mz_status_from *out), void *arg)
{
    struct mz_status_writer *w = mz_new0(MZ_MEM_CONFIG, struct mz_status_writer);
    *w = (struct mz_status_writer){ .loop = loop, .dir = dir, .from = from, .arg = arg, .fd = -1 };
    mz_timer_init(loop, &w->timer, on_timer);
    return w;
}

void mz_status_writer_later(struct mz_status_writer *w)
{
    if (w && !mz_timer_armed(&w->timer))
        mz_timer_start_ms(&w->timer, LATER_MS);
}

void mz_status_writer_destroy(struct mz_status_writer *w)
{
    if (!w)
        return;
    mz_timer_stop(&w->timer);
    if (w->fd >= 0) {
        mz_io_del(&w->io);
        (void)close(w->fd); /* only read */
        stop(w->pid);
    }
    mz_free(MZ_MEM_CONFIG, w);
}
