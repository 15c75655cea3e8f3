#include "mesh/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

enum { PART = 65536, TURN = 1 << 20 /* bytes that one may move before others */ };

struct side {
    struct mz_io io;
    int pipe[2]; /* what came from it and is for the other */
    size_t held;
    bool ended, shut; /* nothing more comes; the other was told */
};
struct relay {
    struct mz_list link;
    struct mz_mesh_relays *of;
    struct side a, b;
};

void mz_mesh_relays_init(struct mz_mesh_relays *r, struct mz_loop *l)
{
    *r = (struct mz_mesh_relays){ .loop = l };
    mz_list_init(&r->all);
}

static void relay_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

static void side_close(struct side *s)
{
    if (s->io.loop)
        mz_io_del(&s->io);
    if (s->io.fd >= 0)
        (void)close(s->io.fd);
    for (int i = 0; i < 2; i++)
        if (s->pipe[i] >= 0)
            (void)close(s->pipe[i]);
}

static void relay_close(struct relay *r)
{
    side_close(&r->a);
    side_close(&r->b);
    mz_list_del(&r->link);
    r->of->n--;
    mz_loop_free_later(r->of->loop, r, relay_free);
}

enum moved { STUCK, MORE, BROKEN };

/* What @from has, to @to. */
static enum moved move(struct side *from, struct side *to)
{
    const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    for (size_t total = 0; total < TURN;) {
        bool idle = true;
        if (!from->ended && !from->held) {
            const ssize_t n = splice(from->io.fd, NULL, from->pipe[1], NULL, PART, flags);
            if (n < 0 && errno != EAGAIN)
                return BROKEN;
            from->ended = n == 0;
            from->held += n > 0 ? (size_t)n : 0;
        }
        if (from->held) {
            const ssize_t n = splice(from->pipe[0], NULL, to->io.fd, NULL, from->held, flags);
            if (n < 0 && errno != EAGAIN && errno != ENOTCONN)
                return BROKEN;
            from->held -= n > 0 ? (size_t)n : 0;
            total += n > 0 ? (size_t)n : 0;
            idle = n <= 0;
        }
        if (from->ended && !from->held && !from->shut) {
            from->shut = true;
            (void)shutdown(to->io.fd, SHUT_WR); /* it may have gone */
        }
        if (idle)
            return STUCK;
    }
    return MORE;
}

static void go_on(struct relay *r, struct side *asked)
{
    const enum moved there = move(&r->a, &r->b), back = move(&r->b, &r->a);
    if (there == BROKEN || back == BROKEN || (r->a.shut && r->b.shut))
        relay_close(r);
    else if (there == MORE || back == MORE)
        mz_io_again(&asked->io, MZ_IO_READ);
}

static void on_a(struct mz_io *io, unsigned events)
{
    (void)events;
    struct relay *r = MZ_CONTAINER(io, struct relay, a.io);
    go_on(r, &r->a);
}

static void on_b(struct mz_io *io, unsigned events)
{
    struct relay *r = MZ_CONTAINER(io, struct relay, b.io);
    int e = 0;
    socklen_t n = sizeof(e);
    if ((events & MZ_IO_HUP) && getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e)
        relay_close(r);
    else
        go_on(r, &r->b);
}

void mz_mesh_relay_add(struct mz_mesh_relays *s, int a, int b)
{
    struct relay *r = mz_new0(MZ_MEM_CONN, struct relay);
    r->of = s;
    r->a = (struct side){ .io.fd = a, .pipe = { -1, -1 } };
    r->b = (struct side){ .io.fd = b, .pipe = { -1, -1 } };
    mz_list_add_tail(&s->all, &r->link);
    s->n++;
    if (s->n > MZ_MESH_RELAYS_MAX || pipe2(r->a.pipe, O_CLOEXEC | O_NONBLOCK) != 0 ||
        pipe2(r->b.pipe, O_CLOEXEC | O_NONBLOCK) != 0 ||
        mz_io_add(s->loop, &r->a.io, a, on_a) != 0 || mz_io_add(s->loop, &r->b.io, b, on_b) != 0)
        relay_close(r);
}

void mz_mesh_relays_fini(struct mz_mesh_relays *s)
{
    mz_list_foreach (it, &s->all)
        relay_close(MZ_CONTAINER(it, struct relay, link));
}
