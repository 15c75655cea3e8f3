#include "event/loop_priv.h"

#include "base/log.h"
#include <errno.h>

static int add(struct mz_loop *l, struct mz_io *io, int fd, uint32_t events,
               void (*ready)(struct mz_io *io, unsigned events))
{
    MZ_ASSERT(mz_loop_here(l));
    struct epoll_event ev = { .events = events, .data.ptr = io };
    *io = (struct mz_io){ .fd = fd, .ready = ready, .loop = l };
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        return -errno; /* again.next stays NULL: not registered */
    mz_list_init(&io->again);
    return 0;
}

int mz_io_add(struct mz_loop *l, struct mz_io *io, int fd,
              void (*ready)(struct mz_io *io, unsigned events))
{
    return add(l, io, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, ready);
}

void mz_io_add_virtual(struct mz_loop *l, struct mz_io *io,
                       void (*ready)(struct mz_io *io, unsigned events))
{
    *io = (struct mz_io){ .fd = -1, .ready = ready, .loop = l };
    mz_list_init(&io->again);
}

static uint32_t level_events(unsigned events)
{
    return (events & MZ_IO_READ ? EPOLLIN : 0U) | (events & MZ_IO_WRITE ? EPOLLOUT : 0U) |
           (events & MZ_IO_EXCLUSIVE ? (uint32_t)EPOLLEXCLUSIVE : 0U);
}

int mz_io_add_level(struct mz_loop *l, struct mz_io *io, int fd, unsigned events,
                    void (*ready)(struct mz_io *io, unsigned events))
{
    return add(l, io, fd, level_events(events), ready);
}

int mz_io_level_mod(struct mz_io *io, unsigned events)
{
    struct epoll_event ev = { .events = level_events(events), .data.ptr = io };
    return epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &ev) == 0 ? 0 : -errno;
}

void mz_io_del(struct mz_io *io)
{
    if (!io->again.next)
        return;
    struct mz_loop *l = io->loop;
    MZ_ASSERT(mz_loop_here(l));
    mz_list_del(&io->again);
    io->again.next = NULL;
    if (io->fd < 0)
        return;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL); /* fails when fd was closed before */
    for (int i = l->at_event + 1; i < l->n_events; i++)
        if (l->events[i].data.ptr == io)
            l->events[i].data.ptr = NULL;
}

void mz_io_again(struct mz_io *io, unsigned events)
{
    if (!io->again.next)
        return; /* deleted */
    if (!mz_list_empty(&io->again)) {
        io->again_events |= events;
        return;
    }
    io->again_events = events;
    mz_list_add_tail(&io->loop->again, &io->again);
}
