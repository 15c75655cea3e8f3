#ifndef MZ_NET_PIPE_H
#define MZ_NET_PIPE_H
/*
 * Pipes through which splice(2) moves bytes from one socket to another without their coming to user space (L6). Each thread
 * keeps a few; one in use belongs to the connection that its bytes are for, and goes back when it is empty.
 */
#include "event/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MZ_PIPE_BYTES    262144 /* asked of the kernel; it may give less */
#define MZ_PIPES_PER_THREAD 64  /* in use at once: further connections copy */

struct mz_pipe {
    int fd[2]; /* read, write */
    size_t held;
    struct mz_pipe *next;
};
struct mz_pipe *mz_pipe_get(void);       /* empty; NULL: none is to be had now */
void mz_pipe_put(struct mz_pipe *p);     /* one that holds bytes is closed with them */
void mz_pipe_thread_trim(void);          /* closes the thread's unused pipes */
/* As splice(2), never blocking: bytes moved, 0 at the end of the input, -1 and errno. */
ssize_t mz_pipe_fill(struct mz_loop *l, struct mz_pipe *p, int fd, size_t max);
ssize_t mz_pipe_drain(struct mz_loop *l, struct mz_pipe *p, int fd);
#endif
