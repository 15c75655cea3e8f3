#include "event/sys.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * glibc's functions are points where a thread may be cancelled, which costs as much again as their call; no thread of ours ever
 * is. Sanitizers look into what the functions are given.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
#define DIRECT(by_number, by_name) (by_name)
#else
#define DIRECT(by_number, by_name) (by_number)
#endif

static ssize_t sys_readv(int fd, const struct iovec *iov, int n)
{
    if (n == 1)
        return DIRECT(syscall(SYS_read, fd, iov->iov_base, iov->iov_len),
                      read(fd, iov->iov_base, iov->iov_len));
    return readv(fd, iov, n);
}

static ssize_t sys_writev(int fd, const struct iovec *iov, int n)
{
    if (n == 1)
        return DIRECT(syscall(SYS_sendto, fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL, NULL, 0),
                      send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL));
    union { /* msghdr takes a pointer that is not const, sendmsg does not write through it */
        const struct iovec *in;
        struct iovec *out;
    } u = { .in = iov };
    struct msghdr m = { .msg_iov = u.out, .msg_iovlen = (size_t)n };
    return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int sys_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return accept4(fd, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static ssize_t sys_splice(int from, int to, size_t n)
{
    return splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

int mz_sys_epoll_wait(int fd, struct epoll_event *events, int max, int wait_ms)
{
    return DIRECT((int)syscall(SYS_epoll_pwait, fd, events, max, wait_ms, NULL, 0),
                  epoll_wait(fd, events, max, wait_ms));
}

const struct mz_sys mz_sys_system = {
    .readv = sys_readv,
    .writev = sys_writev,
    .accept = sys_accept,
    .connect = connect,
    .socket = socket,
    .shutdown = shutdown,
    .close = close,
    .splice = sys_splice,
};
