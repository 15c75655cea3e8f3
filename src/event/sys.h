#ifndef MZ_EVENT_SYS_H
#define MZ_EVENT_SYS_H
/*
 * The one place for the system calls of the data path, one table per loop. Tests replace it to inject faults (reads of one
 * byte, EAGAIN, ECONNRESET, EMFILE, ...). Semantics are those of the system call: -1 and errno.
 */
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct mz_sys {
    ssize_t (*readv)(int fd, const struct iovec *iov, int n);
    ssize_t (*writev)(int fd, const struct iovec *iov, int n); /* with MSG_NOSIGNAL */
    int (*accept)(int fd, struct sockaddr *addr, socklen_t *len); /* non-blocking, close-on-exec */
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*socket)(int domain, int type, int protocol);
    int (*shutdown)(int fd, int how);
    int (*close)(int fd);
    ssize_t (*splice)(int from, int to, size_t n); /* one of them a pipe; never blocks */
};
extern const struct mz_sys mz_sys_system;
struct epoll_event;
int mz_sys_epoll_wait(int fd, struct epoll_event *events, int max, int wait_ms); /* as epoll_wait() */
#endif
