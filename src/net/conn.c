#include "net/conn_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/log.h"
#include "net/socket.h"
#include "net/wire.h"

#define READ_LIMIT (4 * MZ_SLICE_BYTES)

#define CONN_LOG(level, c, ...)                                                                    \
    MZ_LOG_FORCED((c)->trace, level, connection, (c)->id, 0, __VA_ARGS__)

static void conn_ready(struct mz_io *io, unsigned events);
static void conn_flush_task(struct mz_task *t);
static void close_timeout(struct mz_timer *t);

uint64_t mz_conn_next_id(void)
{
    static uint64_t last;
    return __atomic_fetch_add(&last, 1, __ATOMIC_RELAXED);
}

/* ---- making and ending ---- */

struct mz_conn *conn_new(struct mz_loop *l, struct mz_transport *transport,
                         const struct mz_conn_ops *ops, void *arg)
{
    struct mz_conn *c = mz_new0(MZ_MEM_CONN, struct mz_conn);
    c->io.fd = -1;
    c->loop = l;
    c->transport = transport;
    transport->conn = c;
    c->ops = ops;
    c->arg = arg;
    mz_buf_init(&c->in);
    mz_buf_init(&c->out);
    c->id = mz_conn_next_id();
    c->created_us = c->last_activity_us = mz_loop_now_us(l);
    c->read_limit = READ_LIMIT;
    mz_task_init(&c->flush_task, conn_flush_task);
    return c;
}

struct mz_conn_closing { /* apart, as most connections do not need it for most of their time */
    struct mz_timer timer;
    struct mz_conn *conn;
};

static void close_within(struct mz_conn *c, uint64_t ms)
{
    if (!c->closing) {
        c->closing = mz_new0(MZ_MEM_CONN, struct mz_conn_closing);
        c->closing->conn = c;
        mz_timer_init(c->loop, &c->closing->timer, close_timeout);
    }
    mz_timer_start_ms(&c->closing->timer, ms);
}

static void conn_free(void *p)
{
    struct mz_conn *c = p;
    if (c->race)
        race_conn_freed(c);
    c->transport->ops->destroy(c->transport);
    mz_free(MZ_MEM_CONN, c->closing);
    mz_buf_fini(&c->in);
    mz_buf_fini(&c->out);
    mz_free(MZ_MEM_CONN, c);
}

/* The gauges follow what lies in the buffers when a turn's work is done: a request that is served in one turn touches none. */
static void gauge_follow(struct mz_conn *c, uint32_t *shown, unsigned index, size_t len)
{
    if (MZ_LIKELY(*shown == len))
        return;
    if (c->stats.scope && index != MZ_STAT_NONE)
        mz_gauge_add(c->stats.scope, index, (int64_t)len - (int64_t)*shown);
    *shown = (uint32_t)len;
}

static void gauges_follow(struct mz_conn *c)
{
    gauge_follow(c, &c->in_gauge, c->stats.rx_buffered, mz_buf_len(&c->in));
    gauge_follow(c, &c->out_gauge, c->stats.tx_buffered, mz_conn_unsent(c));
}

/* The one end of every connection. The owner hears of it last and may not use the connection after this turn. */
static void finish(struct mz_conn *c, enum mz_conn_event ev, bool reset)
{
    if (c->state == CLOSED)
        return;
    CONN_LOG(DEBUG, c, "closing socket: %d", ev == MZ_CONN_LOCAL_CLOSE);
    if (c->transport->ops->close && c->state != CONNECTING)
        c->transport->ops->close(c->transport, reset);
    c->state = CLOSED;
    if (c->closing)
        mz_timer_stop(&c->closing->timer);
    mz_task_cancel(&c->flush_task);
    if (c->race)
        race_conn_closed(c);
    if (c->io.fd >= 0) {
        const struct linger hard = { .l_onoff = 1, .l_linger = 0 };
        if (reset)
            (void)setsockopt(c->io.fd, SOL_SOCKET, SO_LINGER, &hard,
                             sizeof(hard)); /* else an ordinary close */
        mz_io_del(&c->io);
        (void)mz_loop_sys(c->loop)->close(c->io.fd);
        c->io.fd = -1;
    }
    if (c->wire) {
        mz_io_del(&c->io);
        mz_wire_close(c->wire, reset);
        c->wire = NULL;
    }
    mz_buf_fini(&c->in);
    mz_buf_fini(&c->out);
    bulk_end(c);
    gauges_follow(c);
    c->ops->event(c, c->arg, ev);
    mz_loop_free_later(c->loop, c, conn_free);
}

void conn_finish(struct mz_conn *c, enum mz_conn_event ev)
{
    finish(c, ev, false);
}

static void watch(struct mz_conn *c)
{
    if (c->wire) {
        mz_io_add_virtual(c->loop, &c->io, conn_ready);
        mz_wire_watch(c->wire, &c->io);
        return;
    }
    int rc = mz_io_add(c->loop, &c->io, c->io.fd, conn_ready);
    if (rc == 0)
        return;
    c->error = -rc;
    c->write_failed = true;
    mz_task_schedule(c->loop, &c->flush_task);
}

static struct mz_conn *accepted(struct mz_conn *c, const struct mz_addr *local,
                                const struct mz_addr *remote)
{
    c->local = *local;
    c->remote = c->direct_remote = *remote;
    c->early_close = true;
    c->state = OPEN;
    watch(c);
    if (c->transport->ops->connected)
        c->transport->ops->connected(c->transport);
    return c;
}

struct mz_conn *mz_conn_accepted(struct mz_loop *l, int fd, const struct mz_addr *local,
                                 const struct mz_addr *remote, struct mz_transport *take_transport,
                                 const struct mz_conn_ops *ops, void *arg)
{
    struct mz_conn *c = conn_new(l, take_transport, ops, arg);
    c->io.fd = fd;
    return accepted(c, local, remote);
}

struct mz_conn *mz_conn_accepted_wire(struct mz_loop *l, struct mz_wire *take,
                                      const struct mz_addr *local, const struct mz_addr *remote,
                                      struct mz_transport *take_transport,
                                      const struct mz_conn_ops *ops, void *arg)
{
    struct mz_conn *c = conn_new(l, take_transport, ops, arg);
    c->wire = take;
    return accepted(c, local, remote);
}

/* ---- connecting ---- */

static bool bind_source(struct mz_conn *c, const struct mz_addr *from)
{
#ifdef IP_BIND_ADDRESS_NO_PORT
    /* The port is chosen at connect(), so that one port serves many destinations (D2). */
    if (mz_addr_is_ip(from) && mz_addr_port(from) == 0)
        (void)setsockopt(c->io.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 },
                         sizeof(int)); /* older kernels: no */
#endif
    struct sockaddr_storage at;
    socklen_t len = mz_addr_sockaddr(from, &at);
    if (bind(c->io.fd, (struct sockaddr *)&at, len) == 0)
        return true;
    c->bind_failed = true;
    c->local = *from;
    return false;
}

const struct mz_conn_source *mz_conn_source_for(const struct mz_conn_source v[2],
                                                const struct mz_addr *to)
{
    return &v[v[1].addr && v[1].addr->sa.sa_family == to->sa.sa_family];
}

static bool socket_prepare(struct mz_conn *c, const struct mz_conn_connect_opts *o)
{
    const struct mz_sys *sys = mz_loop_sys(c->loop);
    struct mz_err err;
    c->io.fd = sys->socket(o->to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->io.fd < 0)
        return false;
    if (!mz_socket_opts_apply(c->io.fd, o->opts, MZ_SOCK_PREBIND, &err))
        return false;
    if ((o->foreign || o->mark) && !mz_socket_impersonate(c->io.fd, o->foreign, o->mark))
        return false;
    if (o->bind && o->bind->len && !bind_source(c, o->bind))
        return false;
    return mz_socket_opts_apply(c->io.fd, o->opts, MZ_SOCK_BOUND, &err);
}

static bool call_wire(struct mz_conn *c, const struct mz_conn_connect_opts *o)
{
    const struct mz_transport_ops *t = c->transport->ops;
    const struct mz_wire_call call = { .to = o->to,
                                       .take_passed = t->pass ? t->pass(c->transport) : NULL,
                                       .from = c->id,
                                       .hops = o->hops };
    c->wire = mz_wire_call(c->loop, &call);
    return c->wire != NULL;
}

static bool start_connect(struct mz_conn *c, const struct mz_conn_connect_opts *o)
{
    const struct mz_sys *sys = mz_loop_sys(c->loop);
    struct sockaddr_storage to;
    if (mz_addr_is_internal(o->to))
        return call_wire(c, o);
    c->failed_here = !socket_prepare(c, o);
    if (c->failed_here)
        return false;
    mz_conn_no_delay(c, true);
    socklen_t len = mz_addr_sockaddr(o->to, &to);
    return sys->connect(c->io.fd, (struct sockaddr *)&to, len) == 0 || errno == EINPROGRESS;
}

struct mz_conn *mz_conn_connect(struct mz_loop *l, const struct mz_conn_connect_opts *o,
                                struct mz_transport *take_transport, const struct mz_conn_ops *ops,
                                void *arg)
{
    struct mz_conn *c = conn_new(l, take_transport, ops, arg);
    c->remote = c->direct_remote = *o->to;
    c->state = CONNECTING;
    errno = 0;
    if (start_connect(c, o)) {
        watch(c);
        c->failed_at_once = c->error != 0;
        return c;
    }
    c->error = errno ? errno : EINVAL;
    c->write_failed = c->failed_at_once = true;
    mz_task_schedule(l, &c->flush_task); /* the owner hears of it at the end of the turn */
    return c;
}

static bool has_output(const struct mz_conn *c)
{
    const struct mz_transport_ops *t = c->transport->ops;
    return mz_conn_unsent(c) || (c->write_end && !c->fin_sent) ||
           (t->pending && t->pending(c->transport));
}

void mz_conn_write_blocked(struct mz_conn *c)
{
    c->write_blocked = true;
}

static void announce(struct mz_conn *c)
{
    const struct mz_transport_ops *t = c->transport->ops;
    if (c->announced || (t->ready && !t->ready(c->transport)))
        return;
    c->announced = true;
    if (t->ready && has_output(c)) { /* what waited for the handshake */
        c->write_blocked = false;
        mz_task_schedule(c->loop, &c->flush_task);
    }
    c->ops->event(c, c->arg, MZ_CONN_CONNECTED);
}

static int socket_error(const struct mz_conn *c)
{
    int e = 0;
    socklen_t n = sizeof(e);
    if (c->wire)
        return mz_wire_error(c->wire);
    return getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 ? e : errno;
}

static void learn_local(struct mz_conn *c)
{
    if (c->wire)
        c->local = *mz_addr_internal_client();
    else if (!mz_socket_local(c->io.fd, &c->local))
        c->local.len = 0;
}

static void connect_done(struct mz_conn *c)
{
    c->error = socket_error(c);
    if (!c->error && c->wire &&
        mz_wire_refused(c->wire)) { /* no chain took it: as if nobody listened (Envoy) */
        c->error = EINVAL;
        c->failed_at_once = true;
    }
    if (c->error) {
        CONN_LOG(DEBUG, c, "delayed connect error: %s", strerrordesc_np(c->error));
        finish(c, MZ_CONN_REMOTE_CLOSE, false);
        return;
    }
    CONN_LOG(DEBUG, c, "connected");
    c->state = OPEN;
    learn_local(c);
    if (c->transport->ops->connected)
        c->transport->ops->connected(c->transport);
    announce(c);
    if (c->state == OPEN && (mz_buf_len(&c->out) || c->write_end))
        mz_task_schedule(c->loop, &c->flush_task);
}

/* ---- an attempt's insides become those of the connection that its race is for (eyeballs.c) ---- */

static void transports_swap(struct mz_conn *c, struct mz_conn *from)
{
    struct mz_transport *t = c->transport;
    c->transport = from->transport;
    c->transport->conn = c;
    from->transport = t;
    t->conn = from;
}

void conn_take_failure(struct mz_conn *c, struct mz_conn *from)
{
    transports_swap(c, from); /* it knows why */
    c->error = from->error;
    c->failed_at_once = from->failed_at_once;
    c->failed_here = from->failed_here;
    c->bind_failed = from->bind_failed;
    c->local = from->local;
}

void conn_take(struct mz_conn *c, struct mz_conn *from)
{
    transports_swap(c, from);
    c->id = from->id;
    c->local = from->local;
    c->remote = from->remote;
    c->direct_remote = from->direct_remote;
    c->rx_bytes = from->rx_bytes;
    c->last_activity_us = from->last_activity_us;
    mz_buf_move_all(&c->in, &from->in);
    mz_buf_fini(&from->in);
    c->in_gauge = from->in_gauge;
    c->offer = mz_buf_len(&c->in) > 0;
    c->read_ready =
        c->transport->ops->ready != NULL; /* it may hold more than the kernel tells of */
    c->io.fd = from->io.fd;
    mz_io_del(&from->io);
    from->io.fd = -1;
    from->state = CLOSED;
    mz_task_cancel(&from->flush_task);
    mz_loop_free_later(from->loop, from, conn_free);
    watch(c);
    c->state = OPEN;
    c->announced = true;
    if (has_output(c))
        mz_task_schedule(c->loop, &c->flush_task);
    c->ops->event(c, c->arg, MZ_CONN_CONNECTED);
    mz_conn_read_resume(c);
}

/* ---- reading ---- */

static bool both_ended(const struct mz_conn *c)
{
    return c->read_end && c->fin_sent;
}

/* Takes what the kernel has, up to the budget. Clears read_ready when the kernel is empty. */
static enum mz_io_status read_some(struct mz_conn *c)
{
    size_t budget = c->read_limit, start = mz_buf_len(&c->in);
    if (c->buffer_limit && c->state == OPEN) {
        if (start >= c->buffer_limit)
            return MZ_IO_OK;
        if (c->buffer_limit - start < budget)
            budget = c->buffer_limit - start;
    }
    enum mz_io_status st;
    size_t got;
    do {
        size_t before = mz_buf_len(&c->in);
        st = c->transport->ops->read(c->transport, &c->in, c->big_reads ? budget : 1);
        got = mz_buf_len(&c->in) - start;
        c->big_reads = st == MZ_IO_OK;
        if (st == MZ_IO_AGAIN && c->peer_end && mz_buf_len(&c->in) > before)
            st = MZ_IO_OK; /* the end waits behind these bytes, and no new edge will tell */
    } while (st == MZ_IO_OK && got < budget);
    if (st == MZ_IO_FAIL)
        c->error = errno;
    c->read_ready = st == MZ_IO_OK;
    bulk_seen(c, got, got >= budget);
    if (got) {
        c->rx_bytes += got;
        c->last_activity_us = mz_loop_now_us(c->loop);
        conn_count(c, c->stats.rx_total, got);
    }
    return st;
}

static void write_out(struct mz_conn *c);

static void peer_ended(struct mz_conn *c)
{
    if (c->half_close) {
        if (both_ended(c))
            finish(c, MZ_CONN_REMOTE_CLOSE, false);
        return;
    }
    if (c->state != OPEN)
        return; /* the answer of data() is still being flushed: the peer may read it */
    write_out(c);
    finish(c, MZ_CONN_REMOTE_CLOSE, false);
}

static void deliver(struct mz_conn *c, size_t before, enum mz_io_status st)
{
    bool end = st == MZ_IO_EOF && !c->read_end;
    if (end)
        c->read_end = true;
    if (end || c->offer || mz_buf_len(&c->in) != before) {
        c->offer = false;
        c->ops->data(c, c->arg, end);
    }
    if (c->state == CLOSED)
        return;
    if (end) {
        peer_ended(c);
    } else if (st == MZ_IO_FAIL) {
        CONN_LOG(DEBUG, c, "read error: %s", strerrordesc_np(c->error));
        finish(c, MZ_CONN_REMOTE_CLOSE, false);
    }
}

/* While closing, input is read and dropped: unread bytes would turn our close into a reset that destroys the answer. */
static void discard_input(struct mz_conn *c)
{
    if (c->read_end)
        return;
    enum mz_io_status st = read_some(c);
    mz_buf_fini(&c->in);
    if (st == MZ_IO_OK)
        mz_io_again(&c->io, MZ_IO_READ);
    if (st != MZ_IO_EOF && st != MZ_IO_FAIL)
        return;
    c->read_end = true;
    if (st == MZ_IO_FAIL || c->state == DELAYED)
        finish(c, MZ_CONN_REMOTE_CLOSE, false);
}

static void read_ready(struct mz_conn *c)
{
    if (c->state == FLUSHING || c->state == DELAYED) {
        discard_input(c);
        return;
    }
    if (c->read_disabled)
        return;
    size_t before = mz_buf_len(&c->in);
    enum mz_io_status st = MZ_IO_AGAIN;
    if (c->read_ready && !c->read_end) {
        struct mz_pipe *p = bulk_begin(c);
        st = p ? bulk_read(c, p) : read_some(c);
    }
    if (c->state == OPEN && !c->announced && c->transport->ops->ready)
        announce(c);
    if (c->state == CLOSED)
        return;
    deliver(c, before, st);
    if (c->state == CLOSED)
        return;
    if (mz_buf_len(&c->in))
        mz_buf_compact(&c->in);
    gauges_follow(c);
    bool full = c->buffer_limit && mz_buf_len(&c->in) >= c->buffer_limit;
    if (c->read_ready && !c->read_disabled && !full)
        mz_io_again(&c->io, MZ_IO_READ);
}

/* Reading is disabled and the peer went: a reset ends the connection, a FIN too unless what it sent before may matter. */
static bool gone_unread(struct mz_conn *c, unsigned events)
{
    if (!c->read_disabled || c->state != OPEN)
        return false;
    if (events & MZ_IO_HUP)
        c->error = socket_error(c);
    if (!c->error && !(c->early_close && !c->half_close && (events & MZ_IO_END)))
        return false;
    if (!c->error)
        c->read_end = true;
    CONN_LOG(DEBUG, c, "remote early close");
    finish(c, MZ_CONN_REMOTE_CLOSE, false);
    return true;
}

static void conn_ready(struct mz_io *io, unsigned events)
{
    struct mz_conn *c = MZ_CONTAINER(io, struct mz_conn, io);
    if (c->state == CONNECTING) {
        if (!(events & (MZ_IO_WRITE | MZ_IO_HUP)))
            return;
        connect_done(c);
        if (c->state == CLOSED)
            return;
    }
    if (events & (MZ_IO_END | MZ_IO_HUP))
        c->peer_end = true;
    if (MZ_UNLIKELY(events & (MZ_IO_END | MZ_IO_HUP)) && gone_unread(c, events))
        return;
    if (events & (MZ_IO_READ | MZ_IO_END | MZ_IO_HUP)) {
        c->read_ready = true;
        read_ready(c);
    }
    if ((events & (MZ_IO_WRITE | MZ_IO_HUP)) && c->write_blocked && c->state != CLOSED) {
        c->write_blocked = false;
        mz_task_schedule(c->loop, &c->flush_task);
    }
}

/* ---- writing ---- */

/* Bytes to the kernel; nothing is called back. */
static void write_out(struct mz_conn *c)
{
    if (c->state == CONNECTING || c->state == CLOSED || c->write_blocked || c->write_failed ||
        !has_output(c))
        return;
    if (bulk_feeding(c)) {
        size_t held = c->bulk->feed->held;
        bool all = bulk_flush(c);
        c->wrote |= mz_conn_unsent(c) < held + mz_buf_len(&c->out);
        if (!all || !has_output(c))
            return;
    }
    size_t before = mz_buf_len(&c->out);
    enum mz_io_status st =
        c->transport->ops->write(c->transport, &c->out, c->write_end && !c->fin_sent);
    size_t sent = before - mz_buf_len(&c->out);
    if (sent) {
        c->wrote = true;
        c->tx_bytes += sent;
        c->last_activity_us = mz_loop_now_us(c->loop);
        conn_count(c, c->stats.tx_total, sent);
    }
    if (st == MZ_IO_OK) {
        c->fin_sent = c->write_end;
    } else if (st == MZ_IO_AGAIN) {
        c->write_blocked = true;
    } else {
        c->error = errno;
        c->write_failed = true;
        mz_task_schedule(c->loop, &c->flush_task);
    }
}

static void failed(struct mz_conn *c)
{
    if (c->bind_failed)
        conn_count(c, c->stats.bind_errors, 1);
    int why = c->error;
    CONN_LOG(DEBUG, c, "write error: %s", strerrordesc_np(why));
    /* What the peer sent before it went (an answer to half a request, D5) is still to be read. */
    if (c->state == OPEN && !c->read_disabled && !c->read_end) {
        mz_buf_fini(&c->out);
        c->peer_end = c->read_ready = true;
        read_ready(c);
        if (c->state == CLOSED)
            return;
        c->error = why;
    }
    finish(c, c->failed_here ? MZ_CONN_LOCAL_CLOSE : MZ_CONN_REMOTE_CLOSE, false);
}

/* FLUSHING and everything is written. */
static void flushed_for_close(struct mz_conn *c)
{
    if (!c->delay || c->read_end) {
        if (c->read_ready && !c->read_end) {
            (void)read_some(c); /* see discard_input() */
            mz_buf_fini(&c->in);
        }
        finish(c, MZ_CONN_LOCAL_CLOSE, false);
        return;
    }
    c->state = DELAYED; /* as Envoy: no FIN before the peer's or the end of the time */
    close_within(c, c->delayed_close_ms);
    if (c->read_ready)
        mz_io_again(&c->io, MZ_IO_READ);
}

static void after_write(struct mz_conn *c)
{
    if (c->wrote && c->state == FLUSHING && c->delayed_close_ms)
        close_within(c, c->delayed_close_ms); /* the peer reads: it has its time again */
    bool emptied = c->wrote && mz_conn_unsent(c) == 0;
    c->wrote = false;
    if (mz_watermark_update(&c->out_wm, mz_buf_len(&c->out)) == MZ_WM_BELOW && c->state == OPEN &&
        c->ops->below_low)
        c->ops->below_low(c, c->arg);
    if (c->bulk && c->bulk->above && !c->bulk->feed) {
        c->bulk->above = false;
        if (c->state == OPEN && c->ops->below_low)
            c->ops->below_low(c, c->arg);
    }
    if (emptied && c->state == OPEN && c->ops->flushed)
        c->ops->flushed(c, c->arg);
}

static void conn_flush_task(struct mz_task *t)
{
    struct mz_conn *c = MZ_CONTAINER(t, struct mz_conn, flush_task);
    write_out(c);
    if (c->write_failed) {
        failed(c);
        return;
    }
    gauge_follow(c, &c->out_gauge, c->stats.tx_buffered, mz_conn_unsent(c));
    if (c->state == OPEN && !c->announced && c->transport->ops->ready)
        announce(c); /* what a transport had to write first is written */
    after_write(c);
    if (c->state == FLUSHING && mz_conn_unsent(c) == 0 && !c->write_blocked && !c->write_failed)
        flushed_for_close(c);
    else if (c->state == OPEN && both_ended(c))
        finish(c, MZ_CONN_LOCAL_CLOSE, false);
}

bool mz_conn_start_secure(struct mz_conn *c)
{
    const struct mz_transport_ops *t = c->transport->ops;
    return c->state == OPEN && t->secure && t->secure(c->transport);
}

void mz_conn_handshakes(struct mz_conn *c)
{
    c->announced = false;
}

ssize_t mz_conn_readv(struct mz_conn *c, const struct iovec *iov, unsigned n)
{
    return c->wire ? mz_wire_readv(c->wire, iov, n)
                   : mz_loop_sys(c->loop)->readv(c->io.fd, iov, (int)n);
}

ssize_t mz_conn_writev(struct mz_conn *c, const struct iovec *iov, unsigned n)
{
    return c->wire ? mz_wire_writev(c->wire, iov, n)
                   : mz_loop_sys(c->loop)->writev(c->io.fd, iov, (int)n);
}

int mz_conn_shutdown(struct mz_conn *c)
{
    return c->wire ? mz_wire_shutdown(c->wire) : mz_loop_sys(c->loop)->shutdown(c->io.fd, SHUT_WR);
}

struct mz_buf *mz_conn_out(struct mz_conn *c)
{
    return &c->out;
}

void mz_conn_written(struct mz_conn *c, bool end)
{
    if (!mz_conn_is_open(c) || c->write_failed) {
        mz_buf_fini(&c->out);
        return;
    }
    c->write_end |= end;
    if (c->state == OPEN && !c->write_blocked)
        mz_task_schedule(c->loop, &c->flush_task);
    else /* no task will */
        gauge_follow(c, &c->out_gauge, c->stats.tx_buffered, mz_conn_unsent(c));
    if (mz_watermark_update(&c->out_wm, mz_buf_len(&c->out)) == MZ_WM_ABOVE && c->ops->above_high)
        c->ops->above_high(c, c->arg);
}

void mz_conn_write(struct mz_conn *c, struct mz_buf *take, bool end)
{
    if (!mz_conn_is_open(c) || c->write_end) {
        mz_buf_fini(take);
        return;
    }
    mz_buf_move_all(&c->out, take);
    if (take->heap)
        mz_buf_fini(take); /* the emptied ring */
    mz_conn_written(c, end);
}

void mz_conn_flush_now(struct mz_conn *c)
{
    write_out(c);
    if (c->wrote)
        mz_task_schedule(c->loop, &c->flush_task); /* watermarks are told at the end of the turn */
}

/* ---- control ---- */

void mz_conn_read_resume(struct mz_conn *c)
{
    if (c->state == OPEN && !c->read_disabled && (c->read_ready || c->offer))
        mz_io_again(&c->io, MZ_IO_READ);
}

void mz_conn_read_disable(struct mz_conn *c, bool disable)
{
    if (disable) {
        c->read_disabled++;
        return;
    }
    if (MZ_BUG(c->read_disabled == 0))
        return;
    if (--c->read_disabled)
        return;
    c->offer |= mz_buf_len(&c->in) > 0;
    mz_conn_read_resume(c);
}

void mz_conn_set_half_close(struct mz_conn *c, bool on)
{
    c->half_close = on;
}

void mz_conn_set_buffer_limit(struct mz_conn *c, uint32_t bytes)
{
    c->buffer_limit = bytes;
    mz_watermark_init(&c->out_wm, bytes);
}

void mz_conn_set_ops(struct mz_conn *c, const struct mz_conn_ops *ops, void *arg)
{
    c->ops = ops;
    c->arg = arg;
}

bool mz_conn_above_high(const struct mz_conn *c)
{
    return c->out_wm.above;
}

bool mz_conn_is_open(const struct mz_conn *c)
{
    return c->state == OPEN || c->state == CONNECTING;
}

void mz_conn_no_delay(struct mz_conn *c, bool on)
{
    if (c->io.fd >= 0 && c->remote.sa.sa_family != AF_UNIX)
        (void)setsockopt(c->io.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ on },
                         sizeof(int)); /* fails when the peer went */
}

static void close_timeout(struct mz_timer *t)
{
    struct mz_conn *c = MZ_CONTAINER(t, struct mz_conn_closing, timer)->conn;
    CONN_LOG(DEBUG, c, "triggered delayed close");
    conn_count(c, c->stats.delayed_close_timeout, 1);
    finish(c, MZ_CONN_LOCAL_CLOSE, false);
}

void mz_conn_close(struct mz_conn *c, enum mz_close how, const char *reason,
                   uint32_t delayed_close_ms)
{
    if (c->state == CLOSED)
        return;
    if (!c->close_reason)
        c->close_reason = reason;
    bool hard = how == MZ_CLOSE_NOW || how == MZ_CLOSE_RESET;
    if (!hard && c->state != OPEN && c->state != CONNECTING)
        return; /* on its way */
    CONN_LOG(DEBUG, c, "closing data_to_write=%zu type=%d", mz_conn_unsent(c), (int)how);
    if (hard || c->state == CONNECTING) {
        finish(c, MZ_CONN_LOCAL_CLOSE, how == MZ_CLOSE_RESET);
        return;
    }
    c->state = FLUSHING;
    c->delay = how == MZ_CLOSE_FLUSH_DELAY && delayed_close_ms;
    c->delayed_close_ms = delayed_close_ms;
    if (delayed_close_ms)
        close_within(c, delayed_close_ms);
    if (!c->write_blocked)
        mz_task_schedule(c->loop, &c->flush_task);
    if (c->read_ready)
        mz_io_again(&c->io, MZ_IO_READ);
}
