#include "net/transport.h"

#include <errno.h>

#include "event/loop.h"
#include "net/conn.h"
#include "net/wire.h"

#define IOV_MAX_READ  8
#define IOV_MAX_WRITE 256

static ssize_t read_vector(struct mz_conn *c, const struct iovec *iov, unsigned n)
{
    ssize_t got;
    do
        got = mz_conn_readv(c, iov, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static enum mz_io_status read_result(ssize_t got, size_t room)
{
    if (got < 0)
        return errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
    if (got == 0)
        return MZ_IO_EOF;
    /* A short read means drained: epoll tells of what comes later, so no second call is needed to see EAGAIN. */
    return (size_t)got < room ? MZ_IO_AGAIN : MZ_IO_OK;
}

/* Nothing waits and little is expected: the most frequent read by far. */
static enum mz_io_status read_first(struct mz_conn *c, struct mz_buf *in)
{
    struct mz_slice *s = mz_slice_create(MZ_SLICE_BYTES);
    ssize_t got = read_vector(c, &(struct iovec){ s->mem, MZ_SLICE_BYTES }, 1);
    if (got > 0)
        mz_buf_take_slice(in, s, s->mem, (size_t)got);
    else
        mz_slice_unref(s); /* free() keeps errno */
    return read_result(got, MZ_SLICE_BYTES);
}

static enum mz_io_status raw_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    struct mz_conn *c = t->conn;
    if (MZ_UNLIKELY(c->wire != NULL))
        return mz_wire_take(c->wire, in, max < MZ_SLICE_BYTES ? MZ_SLICE_BYTES : max);
    if (in->n == 0 && max <= MZ_SLICE_BYTES)
        return read_first(c, in);
    MZ_UNINIT struct iovec iov[IOV_MAX_READ];
    unsigned n = mz_buf_reserve_iov(in, iov, IOV_MAX_READ, max);
    size_t room = 0;
    for (unsigned i = 0; i < n; i++)
        room += iov[i].iov_len;
    ssize_t got = read_vector(c, iov, n);
    mz_buf_commit_iov(in, got > 0 ? (size_t)got : 0);
    return read_result(got, room);
}

static enum mz_io_status raw_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    struct mz_conn *c = t->conn;
    enum mz_io_status st = c->wire ? mz_wire_give(c->wire, out) : MZ_IO_OK;
    if (st != MZ_IO_OK)
        return st;
    while (mz_buf_len(out)) {
        MZ_UNINIT struct iovec iov[IOV_MAX_WRITE];
        unsigned n = mz_buf_iov(out, iov, IOV_MAX_WRITE);
        ssize_t sent = mz_conn_writev(c, iov, n);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
        }
        mz_buf_drain(out, (size_t)sent);
    }
    if (end && mz_conn_shutdown(c) != 0)
        return MZ_IO_FAIL;
    return MZ_IO_OK;
}

static void raw_destroy(struct mz_transport *t)
{
    mz_free(MZ_MEM_CONN, t);
}

static const struct mz_transport_ops raw_ops = {
    .name = "raw_buffer",
    .read = raw_read,
    .write = raw_write,
    .destroy = raw_destroy,
};

bool mz_transport_is_raw(const struct mz_transport *t)
{
    return t->ops == &raw_ops || (t->ops->raw && t->ops->raw(t));
}

struct mz_transport *mz_transport_raw(void)
{
    struct mz_transport *t = mz_new0(MZ_MEM_CONN, struct mz_transport);
    t->ops = &raw_ops;
    return t;
}

static struct mz_transport *raw_create(const struct mz_transport_factory *f,
                                       const struct mz_transport_opts *o)
{
    (void)f;
    (void)o;
    return mz_transport_raw();
}

static void raw_factory_destroy(struct mz_transport_factory *f)
{
    (void)f; /* there is one, for always */
}

struct mz_transport_factory *mz_transport_factory_raw(void)
{
    static struct mz_transport_factory raw = { .name = "raw_buffer",
                                               .create = raw_create,
                                               .destroy = raw_factory_destroy };
    return mz_transport_factory_ref(&raw); /* nothing in it but the count ever changes */
}

struct mz_transport_factory *mz_transport_factory_ref(const struct mz_transport_factory *f)
{
    struct mz_transport_factory *w = (struct mz_transport_factory *)(uintptr_t)f;
    __atomic_add_fetch(&w->refs, 1, __ATOMIC_RELAXED);
    return w;
}

void mz_transport_factory_unref(const struct mz_transport_factory *f)
{
    struct mz_transport_factory *w = (struct mz_transport_factory *)(uintptr_t)f;
    if (w && __atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL) == 0)
        w->destroy(w);
}

struct mz_shared_state *mz_shared_state_ref(struct mz_shared_state *s)
{
    if (s)
        __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void mz_shared_state_unref(struct mz_shared_state *s)
{
    if (s && __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) == 0)
        s->destroy(s);
}
