#include "net/wire.h"

#include <errno.h>
#include <string.h>

struct mz_wire {
    struct mz_wire *peer; /* NULL: it has closed */
    struct mz_io *io;     /* NULL: nobody is told */
    struct mz_buf in;     /* what the peer wrote */
    size_t limit;
    int error;   /* ECONNRESET, EPIPE */
    bool in_end; /* the peer writes no more */
    bool shut;   /* nor do we */
    bool waits;  /* the peer's buffer was full */
    bool closed;
    bool refused;         /* by the peer */
    struct mz_wire *both; /* the first of the pair, which is the allocation */
};

void mz_wire_pair(size_t limit, struct mz_wire *out_ends[2])
{
    struct mz_wire *w = mz_newn0(MZ_MEM_CONN, struct mz_wire, 2);
    for (unsigned i = 0; i < 2; i++) {
        w[i].peer = &w[!i];
        w[i].limit = limit;
        w[i].both = w;
        mz_buf_init(&w[i].in);
        out_ends[i] = &w[i];
    }
}

static void tell(struct mz_wire *w, unsigned events)
{
    if (w && w->io)
        mz_io_again(w->io, events);
}

static unsigned readable(const struct mz_wire *w)
{
    return (w->in_end            ? MZ_IO_READ | MZ_IO_END
            : mz_buf_len(&w->in) ? (unsigned)MZ_IO_READ
                                 : 0) |
           (w->error || (w->in_end && w->shut) ? MZ_IO_HUP : 0);
}

void mz_wire_watch(struct mz_wire *w, struct mz_io *io)
{
    w->io = io;
    tell(w, MZ_IO_WRITE | readable(w));
}

int mz_wire_error(const struct mz_wire *w)
{
    return w->error;
}

bool mz_wire_refused(const struct mz_wire *w)
{
    return w->refused;
}

/* ---- reading ---- */

/* Nothing is there: 0 at the end, else -1 and errno. */
static ssize_t empty(const struct mz_wire *w)
{
    if (!w->error && w->in_end)
        return 0;
    errno = w->error ? w->error : EAGAIN;
    return -1;
}

static void room_made(struct mz_wire *w)
{
    struct mz_wire *p = w->peer;
    if (!p || !p->waits || mz_buf_len(&w->in) > w->limit / 2)
        return;
    p->waits = false;
    tell(p, MZ_IO_WRITE);
}

ssize_t mz_wire_readv(struct mz_wire *w, const struct iovec *iov, unsigned n)
{
    size_t done = 0;
    if (mz_buf_len(&w->in) == 0)
        return empty(w);
    for (unsigned i = 0; i < n && mz_buf_len(&w->in); i++) {
        size_t got = mz_buf_copyout(&w->in, 0, iov[i].iov_base, iov[i].iov_len);
        mz_buf_drain(&w->in, got);
        done += got;
    }
    room_made(w);
    return (ssize_t)done;
}

ssize_t mz_wire_peek(const struct mz_wire *w, void *out, size_t max)
{
    return mz_buf_len(&w->in) ? (ssize_t)mz_buf_copyout(&w->in, 0, out, max) : empty(w);
}

enum mz_io_status mz_wire_take(struct mz_wire *w, struct mz_buf *in, size_t max)
{
    size_t n = mz_buf_len(&w->in);
    if (n == 0)
        return empty(w) == 0 ? MZ_IO_EOF : errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
    mz_buf_move(in, &w->in, n < max ? n : max);
    room_made(w);
    return n > max || w->in_end ? MZ_IO_OK : MZ_IO_AGAIN;
}

/* ---- writing ---- */

/* Bytes that the peer takes now; 0: errno says why none. */
static size_t room(struct mz_wire *w)
{
    struct mz_wire *p = w->peer;
    errno = w->error ? w->error : EPIPE;
    if (w->error || w->shut || !p)
        return 0;
    size_t held = mz_buf_len(&p->in);
    if (held < p->limit)
        return p->limit - held;
    w->waits = true;
    errno = EAGAIN;
    return 0;
}

ssize_t mz_wire_writev(struct mz_wire *w, const struct iovec *iov, unsigned n)
{
    size_t left = room(w), done = 0;
    if (left == 0)
        return -1;
    for (unsigned i = 0; i < n && left; i++) {
        size_t k = iov[i].iov_len < left ? iov[i].iov_len : left;
        mz_buf_append(&w->peer->in, iov[i].iov_base, k);
        done += k;
        left -= k;
    }
    tell(w->peer, MZ_IO_READ);
    return (ssize_t)done;
}

enum mz_io_status mz_wire_give(struct mz_wire *w, struct mz_buf *out)
{
    while (mz_buf_len(out)) {
        size_t left = room(w), n = mz_buf_len(out);
        if (left == 0)
            return errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
        mz_buf_move(&w->peer->in, out, n < left ? n : left);
        tell(w->peer, MZ_IO_READ);
    }
    return MZ_IO_OK;
}

int mz_wire_shutdown(struct mz_wire *w)
{
    struct mz_wire *p = w->peer;
    if (!p || w->error) {
        errno = ENOTCONN;
        return -1;
    }
    w->shut = true;
    p->in_end = true;
    tell(p, readable(p));
    return 0;
}

/* ---- the end ---- */

void mz_wire_close(struct mz_wire *w, bool reset)
{
    struct mz_wire *p = w->peer, *both = w->both;
    reset |= mz_buf_len(&w->in) > 0;
    mz_buf_fini(&w->in);
    w->io = NULL;
    w->closed = true;
    if (p) {
        p->peer = NULL;
        w->peer = NULL;
        p->in_end = true;
        if (reset)
            p->error = ECONNRESET; /* read after what waits there, as Linux does */
        tell(p, readable(p));
    }
    if (both[0].closed && both[1].closed)
        mz_free(MZ_MEM_CONN, both);
}

void mz_wire_refuse(struct mz_wire *w)
{
    if (w->peer)
        w->peer->refused = true;
    mz_wire_close(w, false);
}

/* ---- connecting ---- */

struct mz_wire *mz_wire_call(struct mz_loop *l, const struct mz_wire_call *call)
{
    struct mz_wire_host *h = mz_loop_wires(l);
    if (h && call->hops < MZ_WIRE_HOPS_MAX)
        return h->answer(h, call);
    if (call->take_passed)
        mz_arena_destroy(call->take_passed->arena);
    errno = h ? ELOOP : EINVAL;
    return NULL;
}
