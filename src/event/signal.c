#include "event/loop_priv.h"

#include "base/log.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct handler {
    void (*fn)(void *arg, int signo);
    void *arg;
};
struct mz_loop_signals {
    struct mz_io io;
    sigset_t mask;
    struct handler handlers[NSIG];
};

static void on_signals(struct mz_io *io, unsigned events)
{
    (void)events;
    struct mz_loop_signals *s = MZ_CONTAINER(io, struct mz_loop_signals, io);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        const struct handler *h = &s->handlers[info.ssi_signo % NSIG];
        if (h->fn)
            h->fn(h->arg, (int)info.ssi_signo);
    }
}

static struct mz_loop_signals *signals_create(struct mz_loop *l)
{
    struct mz_loop_signals *s = mz_new0(MZ_MEM_LOOP, struct mz_loop_signals);
    sigemptyset(&s->mask);
    int fd = signalfd(-1, &s->mask, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd >= 0 && mz_io_add(l, &s->io, fd, on_signals) == 0)
        return s;
    MZ_LOG(ERROR, main, "signalfd: %s", strerrordesc_np(errno));
    if (fd >= 0)
        (void)close(fd);
    mz_free(MZ_MEM_LOOP, s);
    return NULL;
}

bool mz_loop_on_signal(struct mz_loop *l, int signo, void (*fn)(void *arg, int signo), void *arg)
{
    if (signo <= 0 || signo >= NSIG)
        return false;
    if (!l->signals)
        l->signals = signals_create(l);
    struct mz_loop_signals *s = l->signals;
    if (!s)
        return false;
    s->handlers[signo] = (struct handler){ fn, arg };
    sigaddset(&s->mask, signo);
    return pthread_sigmask(SIG_BLOCK, &s->mask, NULL) == 0 && signalfd(s->io.fd, &s->mask, 0) >= 0;
}

void mz_loop_signals_destroy(struct mz_loop *l)
{
    if (!l->signals)
        return;
    mz_io_del(&l->signals->io);
    (void)close(l->signals->io.fd);
    mz_free(MZ_MEM_LOOP, l->signals);
    l->signals = NULL;
}
