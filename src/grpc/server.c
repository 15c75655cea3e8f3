#include "grpc/server_priv.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "event/loop.h"
#include "net/socket.h"

/* Listeners and connections of a gRPC server. */

struct listener {
    struct mz_list link;
    struct mz_grpc_server *server;
    struct mz_io io;
    struct mz_addr addr;
    struct mz_transport_factory *factory; /* reference */
};

/* ---- connections ---- */

#define DELAYED_CLOSE_MS 1000

static void conn_free(void *p)
{
    struct server_conn *c = p;
    c->codec->ops->destroy(c->codec);
    mz_free(MZ_MEM_CONN, c);
}

/* A connection without a call is not kept for ever. */
void server_conn_calls(struct server_conn *c, int change)
{
    c->n_calls += change;
    c->server->n_calls += change;
    mz_timer_stop(&c->idle);
    if (!c->n_calls && c->conn)
        mz_timer_start_ms(&c->idle, c->server->o.idle_ms);
}

static void on_idle(struct mz_timer *t)
{
    struct server_conn *c = MZ_CONTAINER(t, struct server_conn, idle);
    c->codec->ops->goaway(c->codec, false);
    c->codec->ops->flush(c->codec); /* into the output, before that is closed */
    mz_conn_close(c->conn, MZ_CLOSE_FLUSH_DELAY, "idle", DELAYED_CLOSE_MS);
}

static void sink_written(void *arg)
{
    struct server_conn *c = arg;
    if (c->conn)
        mz_conn_written(c->conn, false);
}

static void sink_read_disable(void *arg, bool disable)
{
    struct server_conn *c = arg;
    if (c->conn)
        mz_conn_read_disable(c->conn, disable);
}

static void new_stream(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in)
{
    serving_create(arg, enc, out_in);
}

static void goaway_received(void *arg)
{
    (void)arg; /* it opens no more; what it opened goes on */
}

static void keepalive_timeout(void *arg)
{
    struct server_conn *c = arg;
    if (c->conn)
        mz_conn_close(c->conn, MZ_CLOSE_NOW, "http2_ping_timeout", 0);
}
static const struct mz_codec_server_ops codec_ops = { .new_stream = new_stream,
                                                      .goaway_received = goaway_received,
                                                      .keepalive_timeout = keepalive_timeout };

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    struct server_conn *c = arg;
    enum mz_codec_status st = c->codec->ops->dispatch(c->codec, mz_conn_in(conn), end);
    if (c->conn && st != MZ_CODEC_OK) { /* its GOAWAY is in the output */
        c->codec->ops->conn_closed(c->codec, MZ_RESET_PROTOCOL_ERROR);
        if (c->conn)
            mz_conn_close(c->conn, MZ_CLOSE_FLUSH_DELAY, "codec_error", DELAYED_CLOSE_MS);
    }
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct server_conn *c = arg;
    (void)conn;
    if (ev == MZ_CONN_CONNECTED)
        return;
    c->conn = NULL;
    mz_timer_stop(&c->idle);
    mz_list_del(&c->link);
    c->server->n_conns--;
    c->codec->ops->conn_closed(c->codec, MZ_RESET_CONN_TERMINATED);
    mz_loop_free_later(c->server->loop, c, conn_free);
}

static void conn_above(struct mz_conn *conn, void *arg)
{
    struct server_conn *c = arg;
    (void)conn;
    c->codec->ops->conn_above_high(c->codec);
}

static void conn_below(struct mz_conn *conn, void *arg)
{
    struct server_conn *c = arg;
    (void)conn;
    c->codec->ops->conn_below_low(c->codec);
}
static const struct mz_conn_ops conn_ops = {
    .data = conn_data, .event = conn_event, .above_high = conn_above, .below_low = conn_below
};

static void conn_create(struct mz_grpc_server *s, struct listener *l, int fd,
                        const struct mz_addr *peer)
{
    static const struct mz_http2_stats no_stats = { NULL };
    struct server_conn *c = mz_new0(MZ_MEM_CONN, struct server_conn);
    struct mz_addr local = l->addr;
    (void)mz_socket_local(fd, &local); /* else the listener's */
    c->server = s;
    c->conn = mz_conn_accepted(s->loop, fd, &local, peer, l->factory->create(l->factory, NULL),
                               &conn_ops, c);
    mz_conn_set_buffer_limit(c->conn, s->o.max_queue);
    mz_conn_no_delay(c->conn, true);
    const struct mz_codec_sink sink = { .out = mz_conn_out(c->conn),
                                        .written = sink_written,
                                        .read_disable = sink_read_disable,
                                        .arg = c,
                                        .high = s->o.max_queue };
    c->codec = mz_http2_server_create(&s->http2, &no_stats, s->loop, &sink, &codec_ops, c);
    mz_list_add_tail(&s->conns, &c->link);
    s->n_conns++;
    mz_timer_init(s->loop, &c->idle, on_idle);
    server_conn_calls(c, 0);
}

/* ---- listeners ---- */

#define ACCEPT_AT_ONCE 16

static void accept_ready(struct mz_io *io, unsigned events)
{
    struct listener *l = MZ_CONTAINER(io, struct listener, io);
    struct mz_grpc_server *s = l->server;
    (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof(from);
        int fd = accept4(io->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        const struct mz_addr peer = mz_addr_from_sockaddr(&from, n);
        if (s->n_conns >= s->o.max_connections || (s->o.admit && !s->o.admit(fd)))
            close(fd);
        else
            conn_create(s, l, fd, &peer);
    }
}

bool mz_grpc_server_listen(struct mz_grpc_server *s, const struct mz_addr *a,
                           const struct mz_transport_factory *f, struct mz_addr *out_addr,
                           struct mz_err *err)
{
    const struct mz_listen_opts opts = { .backlog = 0 };
    int fd = mz_socket_listen(a, &opts, err);
    if (fd < 0)
        return false;
    struct listener *l = mz_new0(MZ_MEM_CONN, struct listener);
    l->server = s;
    l->addr = *a;
    (void)mz_socket_local(fd, &l->addr); /* else as asked for */
    l->factory = mz_transport_factory_ref(f ? f : mz_transport_factory_raw());
    int rc = mz_io_add_level(s->loop, &l->io, fd, MZ_IO_READ, accept_ready);
    mz_list_add_tail(&s->listeners, &l->link);
    if (out_addr)
        *out_addr = l->addr;
    return rc == 0 || mz_err_set(err, "cannot watch a listening socket: error %d", -rc);
}

static void listener_close(struct listener *l)
{
    mz_list_del(&l->link);
    mz_io_del(&l->io);
    close(l->io.fd);
    mz_transport_factory_unref(l->factory);
    mz_free(MZ_MEM_CONN, l);
}

/* ---- the server ---- */

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v ? v : otherwise;
}

void mz_grpc_server_add(struct mz_grpc_server *s, const struct mz_grpc_handler *v, size_t n,
                        void *arg)
{
    MZ_ASSERT(s->n_methods < SERVER_TABLES);
    s->methods[s->n_methods++] = (struct server_methods){ v, n, arg };
}

struct mz_grpc_server *mz_grpc_server_create(struct mz_loop *l, const struct mz_grpc_handler *v,
                                             size_t n, void *arg,
                                             const struct mz_grpc_server_opts *o)
{
    struct mz_grpc_server *s = mz_new0(MZ_MEM_CONN, struct mz_grpc_server);
    *s = (struct mz_grpc_server){ .loop = l };
    mz_grpc_server_add(s, v, n, arg);
    if (o)
        s->o = *o;
    s->o.max_receive = or_default(s->o.max_receive, 4u << 20);
    s->o.max_queue = or_default(s->o.max_queue, 1u << 20);
    s->o.max_calls = or_default(s->o.max_calls, 100);
    s->o.max_connections = or_default(s->o.max_connections, 1024);
    s->o.idle_ms = s->o.idle_ms ? s->o.idle_ms : 300000;
    mz_http2_opts_init(&s->http2);
    s->http2.max_concurrent_streams = s->o.max_calls;
    s->http2.keepalive_interval_ms = s->o.keepalive_ms;
    s->http2.keepalive_timeout_ms = s->o.keepalive_ms ? 20000 : 0;
    mz_list_init(&s->listeners);
    mz_list_init(&s->conns);
    mz_list_init(&s->calls);
    return s;
}

void mz_grpc_server_drain(struct mz_grpc_server *s)
{
    s->draining = true;
    while (!mz_list_empty(&s->listeners))
        listener_close(MZ_CONTAINER(s->listeners.next, struct listener, link));
    mz_list_foreach (it, &s->conns) {
        struct server_conn *c = MZ_CONTAINER(it, struct server_conn, link);
        c->codec->ops->goaway(c->codec, false);
    }
}

unsigned mz_grpc_server_calls(const struct mz_grpc_server *s)
{
    return s->n_calls;
}

static void server_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

void mz_grpc_server_destroy(struct mz_grpc_server *s)
{
    if (!s)
        return;
    while (!mz_list_empty(&s->listeners))
        listener_close(MZ_CONTAINER(s->listeners.next, struct listener, link));
    while (!mz_list_empty(&s->conns))
        mz_conn_close(MZ_CONTAINER(s->conns.next, struct server_conn, link)->conn, MZ_CLOSE_NOW,
                      "server_gone", 0);
    while (!mz_list_empty(&s->calls))
        serving_gone(MZ_CONTAINER(s->calls.next, struct mz_grpc_serving, link));
    mz_loop_free_later(s->loop, s, server_free);
}
