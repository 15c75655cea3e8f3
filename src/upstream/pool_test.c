/* Pools over real sockets on loopback (U3, U4, H10). Every case ends with all gauges and breakers at zero. */
#include "upstream/pool_rig.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

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
} no_reuse[] = {
    { "connection: close", CLOSE_ANSWER, "upstream_cx_close_notify" },
    { "extra bytes (F02)", OK_ANSWER "extra", "upstream_cx_protocol_error" },
    { "second answer nobody asked for", OK_ANSWER OK_ANSWER, "upstream_cx_protocol_error" },
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
        assert_int_equal(value("upstream_cx_destroy_with_active_rq"), 0);
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
    { "behind a 1xx", "HTTP/1.1 103 X\r\n\r\n", false, false, false, MZ_RESET_CONN_TERMINATED,
      true },
    { "inside the head behind a 1xx", "HTTP/1.1 103 X\r\n\r\nHTTP", false, false, false,
      MZ_RESET_PROTOCOL_ERROR, true },
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
    assert_int_equal(
        strncmp(a.text,
                "immediate connect error: Network is unreachable|remote address:127.0.0.1:", 73),
        0);
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
    __atomic_fetch_or(&host()->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
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
    assert_non_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, NULL, &ops, &a));
    int fd = upstream_accept();
    for (int i = 0; i < 500 && !a.conn; i++)
        turn();
    mz_conn_set_ops(a.conn, &lease_ops, &a);
    assert_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, NULL, &ops, &b));
    assert_true(b.failed && b.why == MZ_POOL_OVERFLOW);
    assert_int_equal(value("upstream_rq_total"), 1);
    assert_int_equal(value("upstream_rq_active"), 1);
    close(fd);
    req_wait(&a.closed);
    assert_int_equal(value("upstream_cx_destroy_remote_with_active_rq"), 1);
    struct mz_tcp_pending *p =
        mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, NULL, &ops, &c);
    assert_non_null(p);
    mz_tcp_pool_cancel(p);
    settle();
    assert_true(!c.conn && !c.failed);
    close(listener);
    listener = -1;
    assert_non_null(mz_tcp_pool_connect(cluster(), host(), MZ_PRIORITY_DEFAULT, NULL, &ops, &c));
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
