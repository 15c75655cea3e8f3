/*
 * Pools over real sockets on loopback (U3, U4, H10): one thread plays proxy and upstream. Clusters come from YAML, as in a
 * bootstrap. Every case ends with all gauges and breakers at zero and no memory left.
 */
#include "base/test.h"
#include "upstream/pool_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *upstream;
static int listener = -1;
static uint16_t port;

/* ---- the upstream ---- */
static void listen_start(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(a);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    port = ntohs(a.sin_port);
}

static void turn(void)
{
    mz_loop_turn(loop, 1);
}

static int upstream_accept(void)
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

static bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1;
}

static size_t upstream_read(int fd, char *out, size_t n)
{
    for (int i = 0; i < 500 && !readable(fd); i++)
        turn();
    ssize_t got = recv(fd, out, n, 0);
    return got > 0 ? (size_t)got : 0;
}

static void upstream_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void upstream_reset(int fd)
{
    const struct linger l = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(fd);
}

#define OK_ANSWER    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define CLOSE_ANSWER "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"

/* ---- requests ---- */
struct req {
    struct mz_arena *arena;
    struct mz_pool_pending *pending;
    struct mz_stream_enc *enc;
    bool ready, failed, reset, answered, ended,
        keep_open; /* keep_open: the request has a body to come */
    bool again;    /* ask once more from inside failed() */
    unsigned status, body;
    enum mz_pool_failure why;
    enum mz_reset_reason reason;
    char text[128];
    uint64_t conn_id;
    uint32_t conn_requests;
};
static struct mz_wcluster *cluster(void);
static struct mz_host *host(void);
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
    const struct mz_pool_opts o = { .priority = MZ_PRIORITY_DEFAULT };
    const struct mz_stream_in in = { &in_ops, q, q->arena };
    struct mz_pool_pending *p = mz_http_pool_request(cluster(), host(), &o, &in, &pool_ops, q);
    if (p)
        q->pending = p;
}

static void req_start(struct req *q)
{
    if (!q->arena)
        q->arena = mz_arena_create(MZ_MEM_STREAM);
    ask(q);
}

static void req_wait(const bool *flag)
{
    for (int i = 0; i < 1000 && !*flag; i++)
        turn();
    assert_true(*flag);
}

static void req_fini(struct req *q)
{
    mz_arena_destroy(q->arena);
}

/* ---- the cluster ---- */
static uint64_t value(const char *name)
{
    char full[256];
    uint64_t v = 0;
    (void)snprintf(full, sizeof(full), "cluster.one.%s", name);
    (void)mz_stats_find(stats, mz_str_c(full), &v);
    return v;
}

static bool add_cluster(const char *yaml, struct mz_err *err)
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

static void rig_start(const char *extra)
{
    char yaml[2048];
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

static struct mz_wcluster *cluster(void)
{
    struct mz_wcluster *w = mz_upstream_find(upstream, MZ_STR("one"));
    assert_non_null(w);
    return w;
}

static struct mz_host *host(void)
{
    struct mz_lb_ctx ctx = { 0 };
    struct mz_host *h = mz_wcluster_choose(cluster(), &ctx);
    assert_non_null(h);
    return h;
}

static void rig_stop(void)
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

static void serve(int fd, const char *answer, struct req *q)
{
    char buf[1024];
    assert_true(upstream_read(fd, buf, sizeof(buf)) > 0);
    upstream_send(fd, answer);
    req_wait(&q->ended);
}

static void settle(void)
{
    for (int i = 0; i < 10; i++)
        turn();
}

static void test_keep_alive(void **state)
{
    (void)state;
    rig_start("");
    struct req q[3] = { 0 };
    req_start(&q[0]);
    assert_non_null(q[0].pending);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &q[0]);
    for (int i = 1; i < 3; i++) {
        req_start(&q[i]); /* in the turn after the release, or the same: waits, does not connect */
        req_wait(&q[i].ready);
        serve(fd, OK_ANSWER, &q[i]);
        assert_int_equal(q[i].conn_id, q[0].conn_id);
        assert_int_equal(q[i].conn_requests, i);
        assert_int_equal(q[i].status, 200);
        assert_int_equal(q[i].body, 2);
    }
    assert_int_equal(value("upstream_cx_total"), 1);
    assert_int_equal(value("upstream_cx_http1_total"), 1);
    assert_int_equal(value("upstream_rq_total"), 3);
    assert_int_equal(value("upstream_rq_pending_total"), 1);
    assert_int_equal(host()->stats.rq_total, 3);
    close(fd);
    for (int i = 0; i < 3; i++)
        req_fini(&q[i]);
    rig_stop();
}

/* The end of an idle connection and the next request arrive in one turn: the request must not meet the dead socket (H10). */
static void test_not_reused_before_polled(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 }, b = { 0 };
    char buf[512];
    req_start(&a);
    int fd = upstream_accept();
    (void)upstream_read(fd, buf, sizeof(buf));
    upstream_send(fd, OK_ANSWER);
    for (int i = 0; i < 500 && !a.ended; i++)
        turn();
    close(fd); /* after the answer was read, before the next poll */
    req_start(&b);
    assert_false(b.ready);
    fd = upstream_accept();
    serve(fd, OK_ANSWER, &b);
    assert_false(b.reset || b.failed);
    assert_int_equal(value("upstream_cx_total"), 2);
    assert_int_equal(value("upstream_cx_destroy_remote"), 1);
    assert_int_equal(value("upstream_cx_destroy_with_active_rq"), 0);
    close(fd);
    req_fini(&a);
    req_fini(&b);
    rig_stop();
}

static const struct {
    const char *name, *answer, *stat;
    uint64_t active; /* upstream_cx_destroy_local_with_active_rq, as Envoy counts */
} no_reuse[] = {
    { "connection: close", CLOSE_ANSWER, "upstream_cx_close_notify", 1 },
    { "extra bytes (F02)", OK_ANSWER "extra", "upstream_cx_protocol_error", 0 },
    { "second answer nobody asked for", OK_ANSWER OK_ANSWER, "upstream_cx_protocol_error", 0 },
};

static void test_no_reuse(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(no_reuse); i++) {
        rig_start("");
        struct req a = { 0 }, b = { 0 };
        req_start(&a);
        int fd = upstream_accept();
        serve(fd, no_reuse[i].answer, &a);
        assert_int_equal(a.body, 2);
        req_start(&b);
        int fd2 = upstream_accept();
        serve(fd2, OK_ANSWER, &b);
        if (value(no_reuse[i].stat) != 1)
            fail_msg("%s: not counted", no_reuse[i].name);
        assert_int_equal(value("upstream_cx_destroy_local"), 1);
        assert_int_equal(value("upstream_cx_destroy_local_with_active_rq"), no_reuse[i].active);
        close(fd);
        close(fd2);
        req_fini(&a);
        req_fini(&b);
        rig_stop();
    }
}

static void test_premature_bytes_close_idle(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 };
    req_start(&a);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &a);
    settle();
    upstream_send(fd, OK_ANSWER);
    settle();
    assert_int_equal(value("upstream_cx_protocol_error"), 1);
    assert_int_equal(value("upstream_cx_active"), 0);
    close(fd);
    req_fini(&a);
    rig_stop();
}

/* The peer dies at each step. */
static const struct {
    const char *name, *sent; /* before it dies */
    bool reset, answered, ended;
    enum mz_reset_reason reason;
    bool remote;
} deaths[] = {
    { "before any byte", "", false, false, false, MZ_RESET_CONN_TERMINATED, true },
    { "reset before any byte", "", true, false, false, MZ_RESET_CONN_TERMINATED, true },
    { "inside the head", "HTTP/1.1 200 O", false, false, false, MZ_RESET_PROTOCOL_ERROR, true },
    { "after the head", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false, true, false,
      MZ_RESET_PROTOCOL_ERROR, true },
    { "inside the body", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", false, true, false,
      MZ_RESET_PROTOCOL_ERROR, true },
    { "inside a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", false, true,
      false, MZ_RESET_PROTOCOL_ERROR, true },
    { "body until the end", "HTTP/1.1 200 OK\r\n\r\nab", false, true, true, 0, true },
    { "garbage", "GARBAGE\r\n\r\n", false, false, false, MZ_RESET_PROTOCOL_ERROR, false },
    { "reset inside the body", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", true, true, false,
      MZ_RESET_PROTOCOL_ERROR, true },
};

static void test_deaths(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(deaths); i++) {
        rig_start("");
        struct req a = { 0 };
        char buf[512];
        req_start(&a);
        int fd = upstream_accept();
        (void)upstream_read(fd, buf, sizeof(buf));
        if (deaths[i].sent[0]) {
            upstream_send(fd, deaths[i].sent);
            settle();
        }
        if (deaths[i].reset)
            upstream_reset(fd);
        else
            close(fd);
        settle();
        if (a.answered != deaths[i].answered || a.ended != deaths[i].ended ||
            a.reset == deaths[i].ended)
            fail_msg("%s: answered %d ended %d reset %d", deaths[i].name, a.answered, a.ended,
                     a.reset);
        if (a.reset && a.reason != deaths[i].reason)
            fail_msg("%s: reason %d", deaths[i].name, (int)a.reason);
        assert_int_equal(value("upstream_cx_destroy"), 1);
        if (value("upstream_cx_destroy_remote") != deaths[i].remote)
            fail_msg("%s: counted for the wrong side", deaths[i].name);
        if (!deaths[i].ended)
            assert_int_equal(value("upstream_cx_destroy_with_active_rq"), 1);
        req_fini(&a);
        rig_stop();
    }
}

static void test_connect_failures(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { .again = true }, b = { 0 };
    close(listener);
    listener = -1;
    req_start(&a); /* asks again from inside failed() */
    req_wait(&a.failed);
    assert_int_equal(a.why, MZ_POOL_REMOTE_CONNECT_FAIL);
    assert_string_equal(a.text, "delayed connect error: Connection refused");
    assert_int_equal(value("upstream_cx_connect_fail"), 2);
    assert_int_equal(value("upstream_rq_pending_failure_eject"), 2);
    assert_int_equal(value("upstream_cx_destroy_remote"), 2);
    assert_int_equal(value("upstream_rq_total"), 0);
    req_start(&b);
    assert_non_null(b.pending);
    mz_pool_cancel(b.pending, true); /* the excess connection closes with it */
    settle();
    assert_false(b.failed || b.ready);
    req_fini(&a);
    req_fini(&b);
    rig_stop();
}

static int refuse_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)fd;
    (void)addr;
    (void)len;
    errno = ENETUNREACH;
    return -1;
}

static int hang_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    const struct sockaddr_in black_hole = { .sin_family = AF_INET,
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                            .sin_port = htons(port) };
    (void)addr;
    (void)len;
    for (int i = 0; i < 80; i++) { /* nobody accepts: the backlog is full */
        int other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(other, (const struct sockaddr *)&black_hole, sizeof(black_hole));
        close(other);
    }
    return connect(fd, (const struct sockaddr *)&black_hole, sizeof(black_hole));
}

static void test_immediate_error(void **state)
{
    (void)state;
    rig_start("");
    struct mz_sys sys = mz_sys_system;
    sys.connect = refuse_connect;
    mz_loop_set_sys(loop, &sys);
    struct req a = { 0 };
    req_start(&a);
    assert_false(a.failed); /* never from inside */
    req_wait(&a.failed);
    assert_string_equal(a.text, "immediate connect error: Network is unreachable");
    req_fini(&a);
    rig_stop();
}

static void test_connect_timeout(void **state)
{
    (void)state;
    rig_start("");
    struct mz_sys sys = mz_sys_system;
    sys.connect = hang_connect;
    mz_loop_set_sys(loop, &sys);
    struct req a = { 0 };
    assert_int_equal(listen(listener, 0), 0);
    req_start(&a);
    req_wait(&a.failed);
    assert_int_equal(a.why, MZ_POOL_CONNECT_TIMEOUT);
    assert_string_equal(a.text, "");
    assert_int_equal(value("upstream_cx_connect_timeout"), 1);
    assert_int_equal(value("upstream_cx_connect_fail"), 1);
    assert_int_equal(value("upstream_rq_pending_failure_eject"), 1);
    req_fini(&a);
    rig_stop();
}

/* golden circuit-breaker-queue: one connection, one queued request, the third overflows; the queued one is served later. */
static void test_queue_and_overflow(void **state)
{
    (void)state;
    rig_start("circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}\n");
    struct req a = { 0 }, b = { 0 }, c = { 0 };
    char buf[512];
    req_start(&a);
    int fd = upstream_accept();
    req_wait(&a.ready);
    (void)upstream_read(fd, buf, sizeof(buf));
    req_start(&b);
    req_start(&c);
    assert_true(c.failed);
    assert_int_equal(c.why, MZ_POOL_OVERFLOW);
    assert_int_equal(value("circuit_breakers.default.cx_open"), 1);
    assert_int_equal(value("circuit_breakers.default.rq_pending_open"), 1);
    upstream_send(fd, OK_ANSWER);
    req_wait(&a.ended);
    req_wait(&b.ready);
    serve(fd, OK_ANSWER, &b);
    assert_int_equal(value("upstream_rq_pending_overflow"), 1);
    assert_int_equal(value("upstream_rq_pending_total"), 2);
    assert_int_equal(value("upstream_cx_overflow"), 1);
    assert_int_equal(value("upstream_cx_total"), 1);
    close(fd);
    req_fini(&a);
    req_fini(&b);
    req_fini(&c);
    rig_stop();
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *extra, *stat;
        bool failed;
        uint64_t connections;
    } cases[] = {
        { "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}\n",
          "upstream_rq_pending_overflow", true, 0 },
        { "circuit_breakers: {thresholds: [{max_requests: 0}]}\n", "upstream_rq_active_overflow",
          true, 1 },
        { "circuit_breakers: {thresholds: [{max_connection_pools: 0}]}\n",
          "upstream_cx_pool_overflow", true, 0 },
        { "circuit_breakers: {thresholds: [{max_connections: 0}]}\n", "upstream_cx_overflow", false,
          1 }, /* a first one always */
        { "circuit_breakers: {per_host_thresholds: [{max_connections: 0}]}\n",
          "upstream_cx_overflow", false, 1 },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        rig_start(cases[i].extra);
        struct req a = { 0 };
        req_start(&a);
        int fd = cases[i].connections ? upstream_accept() : -1;
        req_wait(cases[i].failed ? &a.failed : &a.ready);
        assert_int_equal(value(cases[i].stat), 1);
        assert_int_equal(value("upstream_cx_total"), cases[i].connections);
        if (a.ready)
            a.enc->ops->reset(a.enc, MZ_RESET_LOCAL);
        if (fd >= 0)
            close(fd);
        req_fini(&a);
        rig_stop();
    }
}

static void test_max_requests_per_connection(void **state)
{
    (void)state;
    rig_start("common_http_protocol_options: {max_requests_per_connection: 2}\n");
    struct req q[3] = { 0 };
    int fd = -1;
    for (int i = 0; i < 3; i++) {
        req_start(&q[i]);
        if (i != 1) {
            if (fd >= 0)
                close(fd);
            fd = upstream_accept();
        }
        req_wait(&q[i].ready);
        serve(fd, OK_ANSWER, &q[i]);
    }
    assert_int_equal(value("upstream_cx_max_requests"), 1);
    assert_int_equal(value("upstream_cx_total"), 2);
    close(fd);
    for (int i = 0; i < 3; i++)
        req_fini(&q[i]);
    rig_stop();
}

static void test_idle_and_duration(void **state)
{
    (void)state;
    static const struct {
        const char *extra, *stat;
    } cases[] = {
        { "common_http_protocol_options: {idle_timeout: 0.02s}\n", "upstream_cx_idle_timeout" },
        { "common_http_protocol_options: {max_connection_duration: 0.02s}\n",
          "upstream_cx_max_duration_reached" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        rig_start(cases[i].extra);
        struct req a = { 0 };
        req_start(&a);
        int fd = upstream_accept();
        serve(fd, OK_ANSWER, &a);
        for (int n = 0; n < 1000 && value("upstream_cx_active"); n++)
            turn();
        assert_int_equal(value(cases[i].stat), 1);
        assert_int_equal(value("upstream_cx_destroy_local"), 1);
        close(fd);
        req_fini(&a);
        rig_stop();
    }
}

/* An answer before the request is complete: that connection carries nothing more (A23). */
static void test_early_answer(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { .keep_open = true }, b = { 0 };
    req_start(&a);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &a);
    assert_true(a.ended);
    settle();
    assert_int_equal(value("upstream_rq_active"), 1);
    struct mz_buf rest;
    mz_buf_init(&rest);
    mz_buf_append(&rest, "body", 4);
    a.enc->ops->encode_data(a.enc, &rest, true);
    mz_buf_fini(&rest);
    assert_int_equal(value("upstream_cx_active"), 0);
    req_start(&b);
    int fd2 = upstream_accept();
    serve(fd2, OK_ANSWER, &b);
    close(fd);
    close(fd2);
    req_fini(&a);
    req_fini(&b);
    rig_stop();
}

static void test_local_reset(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 };
    char buf[512];
    req_start(&a);
    int fd = upstream_accept();
    req_wait(&a.ready);
    (void)upstream_read(fd, buf, sizeof(buf));
    a.enc->ops->reset(a.enc, MZ_RESET_LOCAL);
    a.enc->ops->reset(a.enc, MZ_RESET_LOCAL); /* harmless */
    assert_false(a.reset);
    assert_int_equal(value("upstream_cx_destroy_local_with_active_rq"), 1);
    assert_int_equal(value("upstream_rq_active"), 0);
    close(fd);
    req_fini(&a);
    rig_stop();
}

static void test_cancel_while_waiting(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 }, b = { 0 }, c = { 0 };
    req_start(&a);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &a);
    req_start(&b);
    assert_non_null(b.pending);
    mz_pool_cancel(b.pending, true);
    req_start(&c);
    req_wait(&c.ready);
    serve(fd, OK_ANSWER, &c);
    assert_false(b.ready || b.failed);
    assert_int_equal(value("upstream_cx_total"), 1);
    close(fd);
    req_fini(&a);
    req_fini(&b);
    req_fini(&c);
    rig_stop();
}

static void test_preconnect(void **state)
{
    (void)state;
    rig_start("preconnect_policy: {per_upstream_preconnect_ratio: 2}\n");
    struct req a = { 0 };
    req_start(&a);
    int fd = upstream_accept(), fd2 = upstream_accept();
    req_wait(&a.ready);
    assert_int_equal(value("upstream_cx_total"), 2);
    a.enc->ops->reset(a.enc, MZ_RESET_LOCAL);
    close(fd);
    close(fd2);
    req_fini(&a);
    rig_stop();
}

/* A removed cluster: the stream in flight ends as usual, its connection goes afterwards, nobody finds the cluster. */
static void test_remove(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 };
    char buf[512];
    req_start(&a);
    int fd = upstream_accept();
    req_wait(&a.ready);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("one")));
    assert_false(mz_cluster_manager_remove(manager, MZ_STR("one")));
    settle();
    assert_null(mz_upstream_find(upstream, MZ_STR("one")));
    (void)upstream_read(fd, buf, sizeof(buf));
    upstream_send(fd, OK_ANSWER);
    req_wait(&a.ended);
    settle();
    assert_int_equal(recv(fd, buf, sizeof(buf), 0), 0);
    close(fd);
    req_fini(&a);
    rig_stop();
}

/* A host that DNS no longer names: its idle connections go, the cluster has no host. */
static void test_host_gone(void **state)
{
    (void)state;
    rig_start("");
    struct req a = { 0 };
    char buf[64];
    req_start(&a);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &a);
    settle();
    struct mz_cluster *c = mz_wcluster_info(cluster());
    __atomic_fetch_or(&host()->health_flags, MZ_HOST_PENDING_REMOVAL, __ATOMIC_RELAXED);
    cluster_set_hosts(c, host_sets_create(NULL, 0, NULL, 0, false, 2));
    settle();
    assert_int_equal(recv(fd, buf, sizeof(buf), 0), 0);
    struct mz_lb_ctx ctx = { 0 };
    assert_null(mz_wcluster_choose(cluster(), &ctx));
    assert_string_equal(ctx.why, "the cluster has no hosts");
    close(fd);
    req_fini(&a);
    rig_stop();
}

/* ---- TCP ---- */
struct lease {
    struct mz_conn *conn;
    bool failed, closed;
    enum mz_pool_failure why;
};

static void tcp_ready(void *arg, const struct mz_tcp_ready *r)
{
    ((struct lease *)arg)->conn = r->conn;
}

static void tcp_failed(void *arg, enum mz_pool_failure why, struct mz_str text, int err,
                       struct mz_host *h)
{
    (void)text;
    (void)err;
    (void)h;
    struct lease *l = arg;
    l->failed = true;
    l->why = why;
}

static void lease_data(struct mz_conn *c, void *arg, bool end)
{
    (void)c;
    (void)arg;
    (void)end;
}

static void lease_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct lease *l = arg;
    l->closed = true;
    mz_tcp_pool_closed(cluster(), host(), MZ_PRIORITY_DEFAULT, c, ev == MZ_CONN_LOCAL_CLOSE);
}

static void test_tcp(void **state)
{
    (void)state;
    static const struct mz_tcp_pool_ops ops = { tcp_ready, tcp_failed };
    static const struct mz_conn_ops lease_ops = { .data = lease_data, .event = lease_event };
    rig_start("circuit_breakers: {thresholds: [{max_connections: 1}]}\n");
    struct lease a = { 0 }, b = { 0 }, c = { 0 };
    assert_non_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, &ops, &a));
    int fd = upstream_accept();
    for (int i = 0; i < 500 && !a.conn; i++)
        turn();
    mz_conn_set_ops(a.conn, &lease_ops, &a);
    assert_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, &ops, &b));
    assert_true(b.failed && b.why == MZ_POOL_OVERFLOW);
    assert_int_equal(value("upstream_rq_total"), 1);
    assert_int_equal(value("upstream_rq_active"), 1);
    close(fd);
    req_wait(&a.closed);
    assert_int_equal(value("upstream_cx_destroy_remote_with_active_rq"), 1);
    struct mz_tcp_pending *p =
        mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, &ops, &c);
    assert_non_null(p);
    mz_tcp_pool_cancel(p);
    settle();
    assert_true(!c.conn && !c.failed);
    close(listener);
    listener = -1;
    assert_non_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, &ops, &c));
    req_wait(&c.failed);
    assert_int_equal(c.why, MZ_POOL_REMOTE_CONNECT_FAIL);
    assert_int_equal(value("upstream_cx_connect_fail"), 2); /* the cancelled one as well */
    rig_stop();
}

int main(void)
{
    mz_stats_thread_slot(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_not_reused_before_polled),
        cmocka_unit_test(test_no_reuse),
        cmocka_unit_test(test_premature_bytes_close_idle),
        cmocka_unit_test(test_deaths),
        cmocka_unit_test(test_connect_failures),
        cmocka_unit_test(test_immediate_error),
        cmocka_unit_test(test_connect_timeout),
        cmocka_unit_test(test_queue_and_overflow),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_max_requests_per_connection),
        cmocka_unit_test(test_idle_and_duration),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_local_reset),
        cmocka_unit_test(test_cancel_while_waiting),
        cmocka_unit_test(test_preconnect),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_host_gone),
        cmocka_unit_test(test_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
