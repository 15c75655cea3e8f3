#include "net/pipe.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define KEPT 8 /* unused pipes of a thread */

static _Thread_local struct mz_pipe *unused;
static _Thread_local unsigned in_use, unused_n;

static struct mz_pipe *pipe_open(void)
{
    int fd[2];
    if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) != 0)
        return NULL;
    (void)fcntl(fd[0], F_SETPIPE_SZ,
                MZ_PIPE_BYTES); /* what the kernel does not grant stays 64 KiB */
    struct mz_pipe *p = mz_new0(MZ_MEM_CONN, struct mz_pipe);
    p->fd[0] = fd[0];
    p->fd[1] = fd[1];
    return p;
}

static void pipe_close(struct mz_pipe *p)
{
    (void)close(p->fd[0]);
    (void)close(p->fd[1]);
    mz_free(MZ_MEM_CONN, p);
}

struct mz_pipe *mz_pipe_get(void)
{
    struct mz_pipe *p = unused;
    if (p) {
        unused = p->next;
        unused_n--;
    } else if (in_use < MZ_PIPES_PER_THREAD) {
        p = pipe_open();
    }
    if (p)
        in_use++;
    return p;
}

void mz_pipe_put(struct mz_pipe *p)
{
    in_use--;
    if (p->held || unused_n == KEPT) {
        pipe_close(p);
        return;
    }
    p->next = unused;
    unused = p;
    unused_n++;
}

void mz_pipe_thread_trim(void)
{
    while (unused) {
        struct mz_pipe *p = unused;
        unused = p->next;
        unused_n--;
        pipe_close(p);
    }
}

ssize_t mz_pipe_fill(struct mz_loop *l, struct mz_pipe *p, int fd, size_t max)
{
    ssize_t n;
    do
        n = mz_loop_sys(l)->splice(fd, p->fd[1], max);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        p->held += (size_t)n;
    return n;
}

ssize_t mz_pipe_drain(struct mz_loop *l, struct mz_pipe *p, int fd)
{
    ssize_t n;
    do
        n = mz_loop_sys(l)->splice(p->fd[0], fd, p->held);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        p->held -= (size_t)n;
    return n;
}
