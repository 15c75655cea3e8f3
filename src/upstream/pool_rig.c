/* What the tests of pools share: a cluster out of YAML, sockets that play its upstream, requests that note what came. */
#include "upstream/pool_rig.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

struct mz_loop *loop;
struct mz_stats *stats;
struct mz_cluster_manager *manager;
struct mz_upstream *upstream;
int listener = -1;
uint16_t port;

/* ---- the upstream ---- */
void listen_start(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(a);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    port = ntohs(a.sin_port);
}

void turn(void)
{
    mz_loop_turn(loop, 1);
}

int upstream_accept(void)
{
    for (int i = 0; i < 500; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        turn();
    }
    fail_msg("no connection came");
    return -1;
}

bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1;
}

size_t upstream_read(int fd, char *out, size_t n)
{
    for (int i = 0; i < 500 && !readable(fd); i++)
        turn();
    ssize_t got = recv(fd, out, n, 0);
    return got > 0 ? (size_t)got : 0;
}

void upstream_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

void upstream_reset(int fd)
{
    const struct linger l = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(fd);
}

/* ---- requests ---- */
static void ask(struct req *q);

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct req *q = arg;
    q->answered = true;
    q->status = mz_headers_status(h);
    q->ended = end;
}

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h;
}

static void on_data(void *arg, struct mz_buf *d, bool end)
{
    struct req *q = arg;
    assert_false(q->ended);
    q->body += (unsigned)mz_buf_len(d);
    q->ended = end;
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    (void)h;
    ((struct req *)arg)->ended = true;
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    (void)details;
    struct req *q = arg;
    assert_false(q->reset);
    q->reset = true;
    q->reason = r;
}

static const struct mz_stream_in_ops in_ops = { .on_1xx = on_1xx,
                                                .on_headers = on_headers,
                                                .on_data = on_data,
                                                .on_trailers = on_trailers,
                                                .on_reset = on_reset };

static void on_ready(void *arg, const struct mz_pool_ready *r)
{
    struct req *q = arg;
    assert_false(q->ready || q->failed);
    q->ready = true;
    q->pending = NULL;
    q->enc = r->enc;
    q->conn_id = r->conn_id;
    q->conn_requests = r->conn_requests;
    struct mz_headers *h = mz_headers_create(q->arena);
    mz_headers_add_id(h, MZ_H_METHOD, q->keep_open ? MZ_STR("POST") : MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("example.test"));
    r->enc->ops->encode_headers(r->enc, h, !q->keep_open);
}

static void on_failed(void *arg, enum mz_pool_failure why, struct mz_str text, int err,
                      struct mz_host *h)
{
    (void)err;
    (void)h;
    struct req *q = arg;
    assert_false(q->ready || q->failed);
    q->failed = true;
    q->pending = NULL;
    q->why = why;
    assert_true(text.n < sizeof(q->text));
    if (text.n)
        memcpy(q->text, text.p, text.n);
    q->text[text.n] = '\0';
    if (q->again) {
        q->again = q->failed = false;
        ask(q);
    }
}

static const struct mz_pool_ops pool_ops = { on_ready, on_failed };

static void ask(struct req *q)
{
    const struct mz_pool_opts o = { .priority = MZ_PRIORITY_DEFAULT,
                                    .downstream_protocol = q->downstream };
    const struct mz_stream_in in = { &in_ops, q, q->arena };
    struct mz_pool_pending *p = mz_http_pool_request(cluster(), host(), &o, &in, &pool_ops, q);
    if (p)
        q->pending = p;
}

void req_start(struct req *q)
{
    if (!q->arena)
        q->arena = mz_arena_create(MZ_MEM_STREAM);
    ask(q);
}

void req_wait(const bool *flag)
{
    for (int i = 0; i < 1000 && !*flag; i++)
        turn();
    assert_true(*flag);
}

void req_fini(struct req *q)
{
    mz_arena_destroy(q->arena);
}

/* ---- the cluster ---- */
uint64_t value(const char *name)
{
    char full[256];
    uint64_t v = 0;
    (void)snprintf(full, sizeof(full), "cluster.one.%s", name);
    (void)mz_stats_find(stats, mz_str_c(full), &v);
    return v;
}

bool add_cluster(const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    bool ok =
        mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               false, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

void rig_start(const char *extra)
{
    char yaml[4096];
    struct mz_err err;
    listen_start();
    loop = mz_loop_create("test");
    stats = mz_stats_create(1);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    (void)snprintf(
        yaml, sizeof(yaml),
        "name: one\nconnect_timeout: 0.3s\n%sload_assignment:\n  cluster_name: one\n  endpoints:\n "
        " - lb_endpoints:\n"
        "    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %u}}}\n",
        extra, port);
    if (!add_cluster(yaml, &err))
        fail_msg("%s: %s", err.path, err.msg);
    upstream = mz_upstream_create(manager, loop);
}

struct mz_wcluster *cluster(void)
{
    struct mz_wcluster *w = mz_upstream_find(upstream, MZ_STR("one"));
    assert_non_null(w);
    return w;
}

struct mz_host *host(void)
{
    struct mz_lb_ctx ctx = { 0 };
    struct mz_host *h = mz_wcluster_choose(cluster(), &ctx);
    assert_non_null(h);
    return h;
}

void rig_stop(void)
{
    mz_upstream_destroy(upstream);
    turn();
    turn();
    assert_int_equal(value("upstream_cx_active"), 0);
    assert_int_equal(value("upstream_rq_active"), 0);
    assert_int_equal(value("upstream_rq_pending_active"), 0);
    assert_int_equal(value("circuit_breakers.default.remaining_cx"), 0);
    mz_cluster_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    if (listener >= 0)
        close(listener);
    listener = -1;
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_CONN].objects, 0);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
    assert_int_equal(c[MZ_MEM_BUFFER].objects, 0);
}

void serve(int fd, const char *answer, struct req *q)
{
    char buf[1024];
    assert_true(upstream_read(fd, buf, sizeof(buf)) > 0);
    upstream_send(fd, answer);
    req_wait(&q->ended);
}

void settle(void)
{
    for (int i = 0; i < 10; i++)
        turn();
}
