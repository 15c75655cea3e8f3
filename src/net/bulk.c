#include "net/conn_priv.h"

#include "base/alloc.h"

#include <errno.h>

/*
 * Bulk between two joined connections (L6): after some large reads the kernel moves the bytes from socket to socket by way of
 * a pipe. The pipe is borrowed for one move, and stays with the receiving connection only while its peer does not take the
 * bytes; then it counts as output above the limit, so that the owner stops the source as it would by the buffer (H7).
 */
#define HOT_READS                                                                                  \
    4 /* large reads in a row before splicing begins: sessions of small messages never come so far */
#define LARGE_READ 32768
#define COLD_MOVES                                                                                 \
    8 /* small moves in a row that end it: reading and writing is as cheap there, and needs no pipe */
#define SMALL_MOVE 16384
#define TURN_BYTES 524288 /* of one connection in a turn, so that it does not starve others */

static struct mz_bulk *bulk_of(struct mz_conn *c)
{
    if (!c->bulk)
        c->bulk = mz_new0(MZ_MEM_CONN, struct mz_bulk);
    return c->bulk;
}

bool mz_conn_join(struct mz_conn *from, struct mz_conn *to, void (*moved)(void *arg, size_t n),
                  void *arg)
{
    if (!mz_transport_is_raw(from->transport) || !mz_transport_is_raw(to->transport) ||
        from->state != OPEN || to->state != OPEN || from->wire || to->wire)
        return false;
    struct mz_bulk *f = bulk_of(from);
    f->to = to;
    f->moved = moved;
    f->arg = arg;
    bulk_of(to)->from = from;
    return true;
}

void bulk_end(struct mz_conn *c)
{
    struct mz_bulk *b = c->bulk;
    if (!b)
        return;
    if (b->to)
        b->to->bulk->from = NULL;
    if (b->from)
        b->from->bulk->to = NULL;
    if (b->feed)
        mz_pipe_put(b->feed);
    mz_free(MZ_MEM_CONN, b);
    c->bulk = NULL;
}

size_t mz_conn_unsent(const struct mz_conn *c)
{
    return mz_buf_len(&c->out) + (bulk_feeding(c) ? c->bulk->feed->held : 0);
}

void bulk_seen(struct mz_conn *c, size_t got, bool filled)
{
    struct mz_bulk *b = c->bulk;
    if (!b || !b->to)
        return;
    if (!filled && got < LARGE_READ)
        b->hot = 0;
    else if (b->hot < HOT_READS)
        b->hot++;
    b->cold = 0;
}

struct mz_pipe *bulk_begin(struct mz_conn *c)
{
    const struct mz_bulk *b = c->bulk;
    if (!b || !b->to || b->hot < HOT_READS || b->refused || mz_buf_len(&c->in))
        return NULL;
    const struct mz_conn *to = b->to;
    if (to->state != OPEN || to->write_end || to->write_blocked || to->write_failed ||
        mz_conn_unsent(to))
        return NULL;
    return mz_pipe_get();
}

bool bulk_flush(struct mz_conn *c)
{
    struct mz_pipe *p = c->bulk->feed;
    size_t before = p->held;
    while (p->held) {
        ssize_t n = mz_pipe_drain(c->loop, p, c->io.fd);
        if (n > 0)
            continue;
        if (n < 0 && errno == EAGAIN) {
            c->write_blocked = true;
        } else {
            c->error = n < 0 ? errno : EIO;
            c->write_failed = true;
            mz_task_schedule(c->loop, &c->flush_task);
        }
        break;
    }
    size_t sent = before - p->held;
    if (sent) {
        c->tx_bytes += sent;
        c->last_activity_us = mz_loop_now_us(c->loop);
        conn_count(c, c->stats.tx_total, sent);
    }
    if (p->held)
        return false;
    c->bulk->feed = NULL;
    mz_pipe_put(p);
    return true;
}

static enum mz_io_status outcome(struct mz_conn *c, ssize_t n)
{
    if (n > 0)
        return MZ_IO_OK;
    if (n == 0)
        return MZ_IO_EOF;
    if (errno == EAGAIN)
        return MZ_IO_AGAIN;
    if (errno == EINVAL || errno == ENOSYS) {
        c->bulk->refused = true; /* the bytes are still there, and are read in the next turn */
        return MZ_IO_OK;
    }
    c->error = errno;
    return MZ_IO_FAIL;
}

static void account(struct mz_conn *c, size_t moved)
{
    struct mz_bulk *b = c->bulk;
    if (moved) {
        c->rx_bytes += moved;
        c->last_activity_us = mz_loop_now_us(c->loop);
        conn_count(c, c->stats.rx_total, moved);
        b->moved(b->arg, moved);
    }
    b->cold = moved < SMALL_MOVE ? b->cold + 1 : 0;
    if (b->cold >= COLD_MOVES)
        b->hot = b->cold = 0;
}

enum mz_io_status bulk_read(struct mz_conn *c, struct mz_pipe *take)
{
    struct mz_conn *to = c->bulk->to;
    size_t total = 0, max = MZ_PIPE_BYTES;
    if (to->buffer_limit && to->buffer_limit < max)
        max = to->buffer_limit;
    ssize_t n = 0;
    for (struct mz_pipe *p = take; p; p = total < TURN_BYTES ? mz_pipe_get() : NULL) {
        n = mz_pipe_fill(c->loop, p, c->io.fd, max);
        if (n <= 0) {
            int why = errno;
            mz_pipe_put(p);
            errno = why;
            break;
        }
        total += (size_t)n;
        to->bulk->feed = p;
        if (!bulk_flush(to))
            break;
    }
    enum mz_io_status st = outcome(c, n);
    c->read_ready = st == MZ_IO_OK;
    account(c, total);
    if (to->bulk->feed && !to->bulk->above) {
        to->bulk->above = true;
        if (to->ops->above_high)
            to->ops->above_high(to, to->arg);
    }
    return st;
}
