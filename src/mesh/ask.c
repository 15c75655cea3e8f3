#include "mesh/ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mesh/network.h"

int mz_mesh_status_of(const char *head, size_t n)
{
    static const char begin[] = "HTTP/1.";
    const size_t known = n < sizeof(begin) - 1 ? n : sizeof(begin) - 1;
    int status = 0;
    if (memcmp(head, begin, known) != 0)
        return -1;
    if (n < 12)
        return 0;
    for (size_t i = 9; i < 12; i++) {
        if (head[i] < '0' || head[i] > '9')
            return -1;
        status = status * 10 + (head[i] - '0');
    }
    return head[8] == ' ' && status >= 100 ? status : -1;
}

void mz_mesh_ask_stop(struct mz_mesh_ask *a)
{
    mz_timer_stop(&a->limit);
    if (a->fd >= 0) {
        mz_io_del(&a->io);
        (void)close(a->fd);
    }
    a->fd = -1;
}

static void finish(struct mz_mesh_ask *a, int status)
{
    mz_mesh_ask_stop(a);
    a->done(a, status);
}

static void on_limit(struct mz_timer *t)
{
    struct mz_mesh_ask *a = MZ_CONTAINER(t, struct mz_mesh_ask, limit);
    finish(a, a->error ? -a->error : -ETIMEDOUT);
}

void mz_mesh_ask_init(struct mz_mesh_ask *a, struct mz_loop *l,
                      void (*done)(struct mz_mesh_ask *a, int status))
{
    *a = (struct mz_mesh_ask){ .loop = l, .fd = -1, .done = done };
    mz_timer_init(l, &a->limit, on_limit);
}

bool mz_mesh_ask_running(const struct mz_mesh_ask *a)
{
    return mz_timer_armed(&a->limit);
}

/* True: it is over. */
static bool send_rest(struct mz_mesh_ask *a)
{
    while (a->left) {
        const ssize_t n = send(a->fd, a->request, a->left, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            finish(a, -errno);
            return true;
        }
        a->request += n;
        a->left -= (size_t)n;
    }
    return false;
}

static void read_status(struct mz_mesh_ask *a)
{
    for (;;) {
        const ssize_t n = recv(a->fd, a->head + a->got, sizeof(a->head) - a->got, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            finish(a, n < 0 ? -errno : -ECONNRESET);
            return;
        }
        a->got += (size_t)n;
        const int status = mz_mesh_status_of(a->head, a->got);
        if (status) {
            finish(a, status > 0 ? status : -EPROTO);
            return;
        }
    }
}

static void on_ready(struct mz_io *io, unsigned events)
{
    struct mz_mesh_ask *a = MZ_CONTAINER(io, struct mz_mesh_ask, io);
    int e = 0;
    socklen_t n = sizeof(e);
    (void)events;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e)
        finish(a, -e);
    else if (!a->request)
        finish(a, 200);
    else if (!send_rest(a) && !a->left)
        read_status(a);
}

void mz_mesh_ask_start(struct mz_mesh_ask *a, const struct mz_mesh_ask_opts *o)
{
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons(o->port),
                                    .sin_addr.s_addr = htonl(o->ip) };
    mz_mesh_ask_stop(a);
    a->request = o->request;
    a->left = o->request ? strlen(o->request) : 0;
    a->got = 0;
    a->error = 0;
    a->fd = mz_mesh_socket_in(o->ns, o->back);
    if (a->fd < 0 ||
        (connect(a->fd, (const struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS))
        a->error = errno;
    if (a->error && a->fd >= 0)
        (void)close(a->fd);
    if (a->error)
        a->fd = -1;
    else if (mz_io_add(a->loop, &a->io, a->fd, on_ready) != 0) {
        (void)close(a->fd);
        a->fd = -1;
        a->error = ENOMEM;
    }
    mz_timer_start_ms(&a->limit, a->error ? 0 : o->timeout_ms);
}
