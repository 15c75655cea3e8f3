#include "web/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "http/codec.h"
#include "net/conn.h"
#include "net/socket.h"

enum { ACCEPT_AT_ONCE = 16, DELAYED_CLOSE_MS = 1000, MAX_HEADERS_KB = 60, MAX_HEADERS = 100 };

struct mz_web {
    struct mz_loop *loop;
    struct mz_admin *pages;
    struct mz_web_opts o;
    struct mz_list listeners, conns;
    unsigned conns_n;
};
struct listener {
    struct mz_list link;
    struct mz_web *web;
    struct mz_io io;
    struct mz_addr addr;
    struct mz_transport_factory *factory; /* reference */
};
struct client {
    struct mz_list link;
    struct mz_web *web;
    struct mz_conn *conn; /* NULL: closed */
    struct mz_codec *codec;
    struct mz_timer timer;
    /* The request in work. */
    struct mz_arena *arena;
    struct mz_stream_enc *enc; /* NULL: none, or answered */
    struct mz_headers *headers;
    struct mz_buf body;
    struct mz_web_ask *ask; /* somebody else answers; NULL: nobody */
};
struct mz_web_ask {
    struct client *client; /* NULL: has gone, or asks for something else by now */
    bool head;
};

static const struct mz_http1_opts http1 = { .allow_absolute_url = true,
                                            .ignore_upgrade_h2c = true,
                                            .max_headers_kb = MAX_HEADERS_KB,
                                            .max_headers_count = MAX_HEADERS };
static const struct mz_http1_stats no_stats = { .scope = NULL };

/* ---- answers ---- */

static void arena_later(void *p)
{
    mz_arena_destroy(p);
}

/* Headers that were encoded are borrowed to the end of the turn. */
static void request_end(struct client *c)
{
    if (c->ask)
        c->ask->client = NULL;
    c->ask = NULL;
    if (c->arena)
        mz_loop_free_later(c->web->loop, c->arena, arena_later);
    c->arena = NULL;
    c->enc = NULL;
    c->headers = NULL;
    mz_buf_drain(&c->body, mz_buf_len(&c->body));
}

static void reply(struct client *c, struct mz_admin_reply *r, bool head)
{
    struct mz_stream_enc *enc = c->enc;
    struct mz_headers *h = r->headers ? r->headers : mz_headers_create(c->arena);
    mz_headers_set_id(h, MZ_H_STATUS, mz_arena_printf(c->arena, "%u", r->status));
    mz_headers_set_id(h, MZ_H_CONTENT_TYPE, mz_str_c(r->content_type));
    mz_headers_set_id(h, MZ_H_CONTENT_LENGTH,
                      mz_arena_printf(c->arena, "%zu", mz_buf_len(&r->body)));
    const bool bare = head || !mz_buf_len(&r->body);
    c->enc = NULL; /* the codec may tell of the end from inside */
    enc->ops->encode_headers(enc, h, bare);
    if (!bare)
        enc->ops->encode_data(enc, &r->body, true);
}

static void reply_text(struct client *c, unsigned status, const char *text)
{
    struct mz_admin_reply r = { .status = status, .content_type = "text/plain; charset=UTF-8" };
    mz_buf_init(&r.body);
    mz_buf_append_str(&r.body, mz_str_c(text));
    reply(c, &r, false);
    mz_buf_fini(&r.body);
}

static bool is_allowed(const struct client *c, struct mz_str path)
{
    const char *local = c->web->o.local_only;
    return !local || !mz_str_starts(path, mz_str_c(local)) || mz_addr_is_loopback(&c->conn->remote);
}

static bool is_taken_over(struct client *c, const struct mz_admin_request *rq)
{
    const struct mz_web_opts *o = &c->web->o;
    if (!o->later)
        return false;
    c->ask = mz_new0(MZ_MEM_ADMIN, struct mz_web_ask);
    *c->ask = (struct mz_web_ask){ c, mz_str_eq(rq->method, MZ_STR("HEAD")) };
    if (o->later(o->later_arg, rq, c->ask)) {
        if (c->ask)
            mz_timer_stop(&c->timer); /* whoever answers has his own */
        return true;
    }
    mz_free(MZ_MEM_ADMIN, c->ask);
    c->ask = NULL;
    return false;
}

void mz_web_answer(struct mz_web_ask *ask, struct mz_admin_reply *r)
{
    struct client *c = ask->client;
    if (c) {
        r->headers = NULL;
        c->ask = NULL;
        reply(c, r, ask->head);
        if (c->conn && c->codec->must_close)
            mz_conn_close(c->conn, MZ_CLOSE_FLUSH_DELAY, "done", DELAYED_CLOSE_MS);
        else
            mz_timer_start_ms(&c->timer, c->web->o.timeout_ms);
    }
    mz_free(MZ_MEM_ADMIN, ask);
}

bool mz_web_ask_local(const struct mz_web_ask *ask)
{
    return ask->client && ask->client->conn && mz_addr_is_loopback(&ask->client->conn->remote);
}

static void answer(struct client *c)
{
    const struct mz_str target = mz_headers_value_id(c->headers, MZ_H_PATH);
    const ptrdiff_t mark = mz_str_chr(target, '?');
    const struct mz_admin_request rq = {
        .method = mz_headers_value_id(c->headers, MZ_H_METHOD),
        .path = { target.p, mark < 0 ? target.n : (size_t)mark },
        .query = mark < 0 ? MZ_STR("") : mz_str_skip(target, (size_t)mark + 1),
        .body = mz_buf_linearize(&c->body, mz_buf_len(&c->body)),
        .headers = c->headers,
        .arena = c->arena,
    };
    struct mz_admin_reply r = { .status = 200 };
    if (!mz_headers_get_id(c->headers, MZ_H_AUTHORITY)) {
        reply_text(c, 400, "Bad Request");
        return;
    }
    if (!is_allowed(c, rq.path)) {
        reply_text(c, 401, "for clients on this machine\n");
        return;
    }
    if (is_taken_over(c, &rq))
        return;
    mz_buf_init(&r.body);
    mz_admin_handle(c->web->pages, &rq, &r);
    MZ_LOG(DEBUG, http, "%s: %.*s %.*s: %u", c->web->o.name, MZ_STR_ARG(rq.method),
           MZ_STR_ARG(rq.path), r.status);
    reply(c, &r, mz_str_eq(rq.method, MZ_STR("HEAD")));
    mz_buf_fini(&r.body);
}

/* ---- a request ---- */

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h; /* of clients only */
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct client *c = arg;
    c->headers = h;
    if (end)
        answer(c);
    else if (mz_str_ieq(mz_headers_value_id(h, MZ_H_EXPECT), MZ_STR("100-continue"))) {
        struct mz_headers *go = mz_headers_create(c->arena);
        mz_headers_add_id(go, MZ_H_STATUS, MZ_STR("100"));
        c->enc->ops->encode_1xx(c->enc, go);
    }
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct client *c = arg;
    if (!c->enc)
        return; /* was answered: too large */
    mz_buf_move_all(&c->body, data);
    if (mz_buf_len(&c->body) > c->web->o.max_body)
        reply_text(c, 413, "the body is too large\n");
    else if (end)
        answer(c);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct client *c = arg;
    (void)h; /* nobody asks for them */
    if (c->enc)
        answer(c);
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct client *c = arg;
    (void)r;
    (void)details;
    if (c->ask)
        c->ask->client = NULL;
    c->ask = NULL;
    c->enc = NULL;
}

static void on_flow(void *arg)
{
    (void)arg; /* an answer is there as a whole */
}
static const struct mz_stream_in_ops in_ops = { on_1xx,   on_headers, on_data, on_trailers,
                                                on_reset, on_flow,    on_flow };

static void new_stream(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in)
{
    struct client *c = arg;
    request_end(c);
    c->arena = mz_arena_create(MZ_MEM_ADMIN);
    c->enc = enc;
    *out_in = (struct mz_stream_in){ &in_ops, c, c->arena };
}

static void nothing(void *arg)
{
    (void)arg; /* HTTP/2 only */
}

static bool no_rest(void *arg)
{
    (void)arg;
    return false;
}
static const struct mz_codec_server_ops codec_ops = { .new_stream = new_stream,
                                                      .goaway_received = nothing,
                                                      .keepalive_timeout = nothing,
                                                      .rest = no_rest };

/* ---- connections ---- */

static void client_free(void *p)
{
    struct client *c = p;
    c->codec->ops->destroy(c->codec);
    mz_arena_destroy(c->arena);
    mz_buf_fini(&c->body);
    mz_free(MZ_MEM_CONN, c);
}

static void on_timeout(struct mz_timer *t)
{
    struct client *c = MZ_CONTAINER(t, struct client, timer);
    mz_conn_close(c->conn, MZ_CLOSE_FLUSH_DELAY, "timeout", DELAYED_CLOSE_MS);
}

static void sink_written(void *arg)
{
    struct client *c = arg;
    if (c->conn)
        mz_conn_written(c->conn, false);
}

static void sink_read_disable(void *arg, bool disable)
{
    struct client *c = arg;
    if (c->conn)
        mz_conn_read_disable(c->conn, disable);
}

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    struct client *c = arg;
    const enum mz_codec_status st = c->codec->ops->dispatch(c->codec, mz_conn_in(conn), end);
    if (!c->conn)
        return;
    if (st != MZ_CODEC_OK && c->enc)
        reply_text(c, c->codec->error.status ? c->codec->error.status : 400,
                   c->codec->error.body ? c->codec->error.body : "Bad Request");
    if (st != MZ_CODEC_OK || (c->codec->must_close && !c->enc))
        mz_conn_close(c->conn, MZ_CLOSE_FLUSH_DELAY, "done", DELAYED_CLOSE_MS);
    else if (!c->ask)
        mz_timer_start_ms(&c->timer, c->web->o.timeout_ms);
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct client *c = arg;
    (void)conn;
    if (ev == MZ_CONN_CONNECTED)
        return;
    c->conn = NULL;
    if (c->ask)
        c->ask->client = NULL;
    c->ask = NULL;
    mz_timer_stop(&c->timer);
    mz_list_del(&c->link);
    c->web->conns_n--;
    c->codec->ops->conn_closed(c->codec, MZ_RESET_CONN_TERMINATED);
    mz_loop_free_later(c->web->loop, c, client_free);
}

static void conn_flow(struct mz_conn *conn, void *arg)
{
    (void)conn;
    (void)arg; /* one answer at a time is bounded by itself */
}
static const struct mz_conn_ops conn_ops = {
    .data = conn_data, .event = conn_event, .above_high = conn_flow, .below_low = conn_flow
};

static void client_create(struct listener *l, int fd, const struct mz_addr *peer)
{
    struct mz_web *w = l->web;
    struct client *c = mz_new0(MZ_MEM_CONN, struct client);
    struct mz_addr local = l->addr;
    (void)mz_socket_local(fd, &local); /* else the listener's */
    c->web = w;
    mz_buf_init(&c->body);
    c->conn = mz_conn_accepted(w->loop, fd, &local, peer, l->factory->create(l->factory, NULL),
                               &conn_ops, c);
    const struct mz_codec_sink sink = { .out = mz_conn_out(c->conn),
                                        .written = sink_written,
                                        .read_disable = sink_read_disable,
                                        .arg = c };
    c->codec = mz_http1_server_create(&http1, &no_stats, &sink, &codec_ops, c);
    mz_list_add_tail(&w->conns, &c->link);
    w->conns_n++;
    mz_timer_init(w->loop, &c->timer, on_timeout);
    mz_timer_start_ms(&c->timer, w->o.timeout_ms);
}

/* ---- listeners ---- */

static void accept_ready(struct mz_io *io, unsigned events)
{
    struct listener *l = MZ_CONTAINER(io, struct listener, io);
    (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof(from);
        const int fd = accept4(io->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct mz_addr peer = mz_addr_from_sockaddr(&from, n);
        mz_addr_unmap(&peer);
        if (l->web->conns_n >= l->web->o.max_connections)
            close(fd);
        else
            client_create(l, fd, &peer);
    }
}

bool mz_web_listen(struct mz_web *w, const struct mz_addr *a, const struct mz_transport_factory *f,
                   struct mz_addr *out_addr, struct mz_err *err)
{
    const struct mz_listen_opts opts = { .v4_compat = true };
    const int fd = mz_socket_listen(a, &opts, err);
    if (fd < 0)
        return false;
    struct listener *l = mz_new0(MZ_MEM_CONN, struct listener);
    l->web = w;
    l->addr = *a;
    (void)mz_socket_local(fd, &l->addr); /* else as asked for */
    l->factory = mz_transport_factory_ref(f ? f : mz_transport_factory_raw());
    const int rc = mz_io_add_level(w->loop, &l->io, fd, MZ_IO_READ, accept_ready);
    mz_list_add_tail(&w->listeners, &l->link);
    if (out_addr)
        *out_addr = l->addr;
    return rc == 0 || mz_err_set(err, "cannot watch a listening socket: error %d", -rc);
}

struct mz_web *mz_web_create(struct mz_loop *l, struct mz_admin *pages, const struct mz_web_opts *o)
{
    struct mz_web *w = mz_new0(MZ_MEM_CONN, struct mz_web);
    *w = (struct mz_web){ .loop = l, .pages = pages, .o = *o };
    mz_list_init(&w->listeners);
    mz_list_init(&w->conns);
    return w;
}

static void web_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

void mz_web_destroy(struct mz_web *w)
{
    if (!w)
        return;
    while (!mz_list_empty(&w->listeners)) {
        struct listener *l = MZ_CONTAINER(w->listeners.next, struct listener, link);
        mz_list_del(&l->link);
        mz_io_del(&l->io);
        close(l->io.fd);
        mz_transport_factory_unref(l->factory);
        mz_free(MZ_MEM_CONN, l);
    }
    while (!mz_list_empty(&w->conns))
        mz_conn_close(MZ_CONTAINER(w->conns.next, struct client, link)->conn, MZ_CLOSE_NOW,
                      "server_gone", 0);
    mz_loop_free_later(w->loop, w, web_free);
}
