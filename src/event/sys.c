#include "event/sys.h"

#include <fcntl.h>
#include <unistd.h>

static ssize_t sys_readv(int fd, const struct iovec *iov, int n)
{
    return n == 1 ? read(fd, iov->iov_base, iov->iov_len) : readv(fd, iov, n);
}

static ssize_t sys_writev(int fd, const struct iovec *iov, int n)
{
    if (n == 1)
        return send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
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
