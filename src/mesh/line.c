#include "mesh/line.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

enum { PART = 65536, WRITE_MS = 5000 };

static bool keep_fds(struct mz_mesh_line *l, const struct cmsghdr *c)
{
    const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
        if (l->fds_n < MZ_MESH_FDS) {
            l->fds[l->fds_n++] = fd;
        } else {
            (void)close(fd);
            ok = false;
        }
    }
    return ok;
}

/* Bytes read, 0 at the end, -1 and errno. */
static ssize_t fill(int fd, struct mz_mesh_line *l)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * (MZ_MESH_FDS + 1))];
    } control;
    l->text = mz_realloc(MZ_MEM_MISC, l->text, l->n + PART);
    struct iovec part = { l->text + l->n, PART };
    struct msghdr m = { .msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control) };
    const ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    bool ok = n < 0 || !(m.msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            ok = keep_fds(l, c) && ok;
    if (n > 0)
        l->n += (size_t)n;
    errno = ok ? errno : EPROTO;
    return ok ? n : -1;
}

/* Of the first line; what follows it stays. */
static enum mz_mesh_read take_line(struct mz_mesh_line *l, json_t **out_object)
{
    const char *end = l->n ? memchr(l->text, '\n', l->n) : NULL;
    if (!end && l->n <= l->max)
        return MZ_MESH_MORE;
    const size_t len = end ? (size_t)(end - l->text) : l->n;
    json_t *o = len <= l->max ? json_loadb(l->text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    errno = EPROTO;
    if (!json_is_object(o)) {
        json_decref(o);
        return MZ_MESH_BAD;
    }
    l->n -= len + 1;
    memmove(l->text, l->text + len + 1, l->n);
    *out_object = o;
    return MZ_MESH_LINE;
}

enum mz_mesh_read mz_mesh_line_read(int fd, struct mz_mesh_line *l, json_t **out_object)
{
    enum mz_mesh_read r = take_line(l, out_object);
    if (r != MZ_MESH_MORE)
        return r;
    ssize_t n;
    do
        n = fill(fd, l);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return take_line(l, out_object);
    if (n == 0)
        return MZ_MESH_END;
    return errno == EAGAIN ? MZ_MESH_MORE : MZ_MESH_BAD;
}

int mz_mesh_line_take(struct mz_mesh_line *l, unsigned i)
{
    if (i >= l->fds_n)
        return -1;
    const int fd = l->fds[i];
    l->fds[i] = -1;
    return fd;
}

void mz_mesh_line_fini(struct mz_mesh_line *l)
{
    for (unsigned i = 0; i < l->fds_n; i++)
        if (l->fds[i] >= 0)
            (void)close(l->fds[i]);
    mz_free(MZ_MEM_MISC, l->text);
    *l = (struct mz_mesh_line){ .max = l->max };
}

static ssize_t send_part(int fd, const char *p, size_t n, const int *fds, unsigned fds_n)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * MZ_MESH_FDS)];
    } control = { .room = { 0 } };
    struct iovec part = { (char *)(uintptr_t)p, n };
    struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
    if (fds_n) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * fds_n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fds_n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fds_n);
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static bool send_all(int fd, const char *p, size_t n, const int *fds, unsigned fds_n)
{
    while (n) {
        const ssize_t sent = send_part(fd, p, n, fds, fds_n);
        struct pollfd wait = { .fd = fd, .events = POLLOUT };
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
            fds_n = 0; /* they went with the first byte */
        } else if (errno == EAGAIN) {
            if (poll(&wait, 1, WRITE_MS) <= 0)
                return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool mz_mesh_line_write(int fd, json_t *object, const int *fds, unsigned fds_n)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text)
        return false;
    const size_t n = strlen(text);
    text[n] = '\n'; /* the end's place: n + 1 bytes are sent */
    const bool ok = send_all(fd, text, n + 1, fds, fds_n);
    free(text);
    return ok;
}
