/* HTTP/2 pools (U3, U4, U7, F10): the upstream's frames are written by hand. */
#include "upstream/pool_rig.h"
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define H2 "http2_protocol_options: {}\n"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { NO_ERROR = 0, REFUSED_STREAM = 7, CANCEL = 8 };

struct peer { /* the upstream's end of one connection */
    int fd;
    bool greeted;
    unsigned char buf[65536];
    size_t n;
};
struct frame {
    uint8_t type, flags;
    uint32_t stream;
    size_t len;
    unsigned char payload[16384];
};

static uint32_t u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void take(struct peer *p, size_t n)
{
    memmove(p->buf, p->buf + n, p->n - n);
    p->n -= n;
}

static bool parse(struct peer *p, struct frame *f)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if (!p->greeted && p->n >= sizeof(preface) - 1) {
        assert_memory_equal(p->buf, preface, sizeof(preface) - 1);
        take(p, sizeof(preface) - 1);
        p->greeted = true;
    }
    if (!p->greeted || p->n < 9)
        return false;
    size_t len = u32(p->buf) >> 8;
    if (p->n < 9 + len)
        return false;
    *f = (struct frame){
        .type = p->buf[3], .flags = p->buf[4], .stream = u32(p->buf + 5), .len = len
    };
    assert_true(len <= sizeof(f->payload));
    memcpy(f->payload, p->buf + 9, len);
    take(p, 9 + len);
    return true;
}

/* The next frame of @type; others are passed over. */
static void expect(struct peer *p, uint8_t type, struct frame *f)
{
    for (int i = 0; i < 500; i++) {
        while (parse(p, f))
            if (f->type == type && !(type == SETTINGS && (f->flags & ACK)))
                return;
        if (!readable(p->fd)) {
            turn();
            continue;
        }
        ssize_t got = recv(p->fd, p->buf + p->n, sizeof(p->buf) - p->n, 0);
        assert_true(got > 0);
        p->n += (size_t)got;
    }
    fail_msg("no frame of type %u came", type);
}

/* Nothing but the end comes. */
static void expect_end(struct peer *p)
{
    for (int i = 0; i < 500; i++) {
        ssize_t got = recv(p->fd, p->buf, sizeof(p->buf), 0);
        if (got == 0)
            return;
        turn();
    }
    fail_msg("the connection was not closed");
}

static void put(struct peer *p, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
                size_t len)
{
    unsigned char b[9 + 1024] = {
        0, (unsigned char)(len >> 8),    (unsigned char)len,   type, flags, 0,
        0, (unsigned char)(stream >> 8), (unsigned char)stream
    };
    assert_true(len <= 1024);
    if (len)
        memcpy(b + 9, payload, len);
    assert_int_equal(send(p->fd, b, 9 + len, MSG_NOSIGNAL), 9 + len);
}

static void settings(struct peer *p, int max_streams)
{
    const unsigned char v[] = {
        0, 3, 0, 0, (unsigned char)(max_streams >> 8), (unsigned char)max_streams
    };
    put(p, SETTINGS, 0, 0, v, max_streams < 0 ? 0 : sizeof(v));
}

static void answer(struct peer *p, uint32_t stream)
{
    put(p, HEADERS, END_HEADERS, stream, "\x88", 1); /* :status 200 */
    put(p, DATA, END_STREAM, stream, "ok", 2);
}

static void put_u32(struct peer *p, uint8_t type, uint32_t stream, uint32_t a, uint32_t b,
                    size_t len)
{
    const unsigned char v[] = { 0, 0, (unsigned char)(a >> 8), (unsigned char)a, 0,
                                0, 0, (unsigned char)b };
    put(p, type, 0, stream, v, len);
}

static void goaway(struct peer *p, uint32_t last)
{
    put_u32(p, GOAWAY, 0, last, NO_ERROR, 8);
}

static void rst(struct peer *p, uint32_t stream, uint32_t code)
{
    put_u32(p, RST_STREAM, stream, code, 0, 4);
}

static struct peer *peer_accept(int max_streams)
{
    struct peer *p = mz_new0(MZ_MEM_MISC, struct peer);
    const int on = 1; /* an answer is two small writes */
    p->fd = upstream_accept();
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    settings(p, max_streams);
    return p;
}

static void peer_close(struct peer *p)
{
    close(p->fd);
    mz_free(MZ_MEM_MISC, p);
}

static void start(struct req *q, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        req_start(&q[i]);
}

/* The next head that comes: the number of its stream. */
static uint32_t expect_head(struct peer *p)
{
    struct frame f;
    expect(p, HEADERS, &f);
    return f.stream;
}

/* A cluster with @extra, and @n requests of @q that came to its first connection. */
static struct peer *begin(const char *extra, struct req *q, unsigned n)
{
    rig_start(extra);
    start(q, n);
    struct peer *p = peer_accept(-1);
    for (unsigned i = 0; i < n; i++)
        expect_head(p);
    return p;
}

static void answer_to(struct peer *p, uint32_t stream, struct req *q)
{
    answer(p, stream);
    req_wait(&q->ended);
}

static void finish(struct req *q, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        req_fini(&q[i]);
    rig_stop();
}

static void end(struct peer *p, struct req *q, unsigned n)
{
    peer_close(p);
    finish(q, n);
}

/* Requests that came while it connected go out on the one connection, their answers in any order. */
static void test_multiplex(void **state)
{
    (void)state;
    rig_start(H2);
    struct req q[4] = { 0 };
    struct frame f;
    start(q, 3);
    struct peer *p = peer_accept(-1);
    for (uint32_t i = 0; i < 3; i++) {
        expect(p, HEADERS, &f);
        assert_int_equal(f.stream, 1 + 2 * i);
        assert_true(f.flags & END_STREAM);
    }
    for (int i = 2; i >= 0; i--) {
        answer_to(p, 1 + 2 * (uint32_t)i, &q[i]);
        assert_int_equal(q[i].status, 200);
        assert_int_equal(q[i].body, 2);
        assert_int_equal(q[i].conn_id, q[0].conn_id);
        assert_int_equal(q[i].conn_requests, i);
    }
    start(&q[3], 1);
    assert_int_equal(expect_head(p), 7);
    answer_to(p, 7, &q[3]);
    assert_int_equal(value("upstream_cx_total"), 1);
    assert_int_equal(value("upstream_cx_http2_total"), 1);
    assert_int_equal(value("upstream_cx_http1_total"), 0);
    assert_int_equal(value("upstream_rq_total"), 4);
    assert_int_equal(value("upstream_rq_pending_total"), 3);
    end(p, q, 4);
}

/* What the pool was told to allow, and what the peer allows: more connections beyond it. */
static void test_concurrent_streams(void **state)
{
    (void)state;
    rig_start("http2_protocol_options: {max_concurrent_streams: 2}\n");
    struct req q[6] = { 0 };
    start(q, 3); /* anticipated: two connections for three */
    struct peer *a = peer_accept(-1), *b = peer_accept(-1);
    expect_head(a);
    expect_head(a);
    expect_head(b);
    assert_int_equal(value("upstream_cx_total"), 2);
    settings(b, 1); /* full now */
    settle();
    start(&q[3], 1);
    struct peer *c = peer_accept(-1);
    expect_head(c);
    answer(a, 1); /* room again where one ended */
    req_wait(&q[0].ended);
    start(&q[4], 2);
    expect_head(c);
    assert_int_equal(expect_head(a), 5);
    assert_int_equal(value("upstream_cx_total"), 3);
    peer_close(a);
    peer_close(b);
    peer_close(c);
    for (int i = 1; i < 6; i++)
        req_wait(&q[i].reset);
    finish(q, 6);
}

/* A burst before the peer's settings: as many as a peer should allow; the rest waits for them, not for more connections. */
static void test_burst_before_settings(void **state)
{
    (void)state;
    rig_start(H2);
    struct req q[130] = { 0 };
    start(q, 130);
    struct peer *p = mz_new0(MZ_MEM_MISC, struct peer);
    p->fd = upstream_accept();
    for (int i = 0; i < 100; i++)
        expect_head(p);
    settle();
    assert_non_null(q[100].pending);
    assert_int_equal(value("upstream_rq_pending_active"), 30);
    put(p, SETTINGS, 0, 0, NULL, 0);
    for (int i = 0; i < 30; i++)
        expect_head(p);
    assert_int_equal(value("upstream_cx_total"), 1);
    peer_close(p);
    for (int i = 0; i < 130; i++)
        req_wait(&q[i].reset);
    finish(q, 130);
}

/* A peer that allows none for a while: who asks waits for it or for another connection, and is served when it may. */
static void test_no_stream_allowed(void **state)
{
    (void)state;
    struct req q[2] = { 0 };
    struct peer *p = begin(H2 "circuit_breakers: {thresholds: [{max_connections: 1}]}\n", q, 1);
    settings(p, 0);
    answer_to(p, 1, &q[0]);
    settle();
    start(&q[1], 1);
    settle();
    assert_non_null(q[1].pending);
    settings(p, 5);
    req_wait(&q[1].ready);
    expect_head(p);
    answer_to(p, 3, &q[1]);
    end(p, q, 2);
}

/* GOAWAY: streams above its last one were not looked at, older ones go on, new ones go elsewhere. */
static void test_goaway(void **state)
{
    (void)state;
    struct req q[4] = { 0 };
    struct peer *p = begin(H2, q, 3);
    goaway(p, 1);
    req_wait(&q[1].reset);
    req_wait(&q[2].reset);
    assert_int_equal(q[1].reason, MZ_RESET_REMOTE_REFUSED);
    assert_false(q[0].reset);
    start(&q[3], 1);
    struct peer *second = peer_accept(-1);
    expect_head(second);
    answer_to(p, 1, &q[0]);
    expect_end(p);
    goaway(second, 1); /* with its last stream open */
    answer_to(second, 1, &q[3]);
    expect_end(second);
    assert_int_equal(value("upstream_cx_close_notify"), 2);
    assert_int_equal(value("upstream_cx_total"), 2);
    assert_int_equal(value("upstream_cx_destroy_local"), 2);
    assert_int_equal(value("upstream_cx_destroy_with_active_rq"), 0);
    peer_close(p);
    end(second, q, 4);
}

/* An idle connection that gets one ends at once, and nobody waits for it. */
static void test_goaway_idle(void **state)
{
    (void)state;
    struct req q[2] = { 0 };
    struct peer *p = begin(H2, q, 1);
    answer_to(p, 1, &q[0]);
    start(&q[1], 1); /* it rests: this one waits for the end of the turn */
    goaway(p, 1);
    expect_end(p);
    struct peer *second = peer_accept(-1);
    expect_head(second);
    answer_to(second, 1, &q[1]);
    peer_close(p);
    end(second, q, 2);
}

/* A reset of either side ends its stream only. */
static void test_resets(void **state)
{
    (void)state;
    struct req q[4] = { 0 };
    struct frame f;
    struct peer *p = begin(H2, q, 4);
    rst(p, 1, CANCEL);
    rst(p, 3, REFUSED_STREAM);
    req_wait(&q[0].reset);
    req_wait(&q[1].reset);
    assert_int_equal(q[0].reason, MZ_RESET_REMOTE);
    assert_int_equal(q[1].reason, MZ_RESET_REMOTE_REFUSED);
    q[2].enc->ops->reset(q[2].enc, MZ_RESET_LOCAL);
    expect(p, RST_STREAM, &f);
    assert_int_equal(f.stream, 5);
    answer(p, 5); /* too late: nobody hears of it */
    answer_to(p, 7, &q[3]);
    assert_false(q[2].answered || q[2].reset);
    settle();
    assert_int_equal(value("upstream_rq_rx_reset"), 1);
    assert_int_equal(value("upstream_rq_tx_reset"), 1);
    assert_int_equal(value("http2.rx_reset"), 2);
    assert_int_equal(value("upstream_cx_destroy"), 0);
    end(p, q, 4);
}

/* The connection's end is the end of all its streams. */
static void test_connection_lost(void **state)
{
    (void)state;
    struct req q[2] = { 0 };
    struct peer *p = begin(H2, q, 2);
    upstream_reset(p->fd);
    for (int i = 0; i < 2; i++) {
        req_wait(&q[i].reset);
        assert_int_equal(q[i].reason, MZ_RESET_CONN_TERMINATED);
    }
    settle();
    assert_int_equal(value("upstream_cx_destroy_remote_with_active_rq"), 1);
    assert_int_equal(value("upstream_rq_pending_failure_eject"), 2);
    mz_free(MZ_MEM_MISC, p);
    finish(q, 2);
}

static void test_protocol_error(void **state)
{
    (void)state;
    struct req q[2] = { 0 };
    struct peer *p = begin(H2, q, 2);
    put(p, DATA, 0, 0, "x", 1); /* DATA belongs to a stream */
    for (int i = 0; i < 2; i++) {
        req_wait(&q[i].reset);
        assert_int_equal(q[i].reason, MZ_RESET_PROTOCOL_ERROR);
    }
    settle();
    assert_int_equal(value("upstream_cx_protocol_error"), 1);
    assert_int_equal(value("upstream_cx_destroy_local"), 1);
    end(p, q, 2);
}

/* An answer before the end of its request: the stream ends, the connection goes on. */
static void test_early_answer(void **state)
{
    (void)state;
    struct req q[2] = { { .keep_open = true } };
    struct frame f;
    rig_start(H2);
    start(q, 1);
    struct peer *p = peer_accept(-1);
    expect(p, HEADERS, &f);
    assert_false(f.flags & END_STREAM);
    answer_to(p, 1, &q[0]);
    expect(p, RST_STREAM, &f);
    assert_int_equal(f.stream, 1);
    struct mz_buf rest;
    mz_buf_init(&rest);
    mz_buf_append(&rest, "late", 4);
    q[0].enc->ops->encode_data(q[0].enc, &rest, true); /* goes nowhere */
    assert_int_equal(mz_buf_len(&rest), 0);
    start(&q[1], 1);
    expect_head(p);
    answer_to(p, 3, &q[1]);
    assert_int_equal(value("upstream_cx_total"), 1);
    end(p, q, 2);
}

/* A connection that has carried what it may serves to the end and closes. */
static void test_max_requests(void **state)
{
    (void)state;
    rig_start(
        "typed_extension_protocol_options: "
        "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
        "common_http_protocol_options: "
        "{max_requests_per_connection: 2}, explicit_http_config: {http2_protocol_options: {}}}}\n");
    struct req q[3] = { 0 };
    start(q, 3);
    struct peer *p = peer_accept(-1), *second = peer_accept(-1);
    expect_head(p);
    expect_head(p);
    expect_head(second);
    answer_to(p, 3, &q[1]);
    answer_to(p, 1, &q[0]);
    expect_end(p);
    answer_to(second, 1, &q[2]);
    assert_int_equal(value("upstream_cx_max_requests"), 1);
    peer_close(p);
    end(second, q, 3);
}

static void test_duration_and_idle(void **state)
{
    (void)state;
    struct req q[2] = { 0 };
    struct peer *p = begin(
        H2 "common_http_protocol_options: {max_connection_duration: 0.1s, idle_timeout: 0.03s}\n",
        q, 1);
    for (int i = 0; i < 500 && !value("upstream_cx_max_duration_reached"); i++)
        turn();
    assert_int_equal(value("upstream_cx_idle_timeout"), 0); /* a stream runs */
    start(&q[1], 1);
    struct peer *second = peer_accept(-1);
    expect_head(second);
    answer_to(p, 1, &q[0]);
    expect_end(p);
    answer_to(second, 1, &q[1]);
    expect_end(second);
    assert_int_equal(value("upstream_cx_idle_timeout"), 1);
    peer_close(p);
    end(second, q, 2);
}

/* The host went: the stream that runs is served, then the connection closes. */
static void test_host_gone(void **state)
{
    (void)state;
    struct req q = { 0 };
    struct peer *p = begin(H2, &q, 1);
    struct mz_cluster *c = mz_wcluster_info(cluster());
    __atomic_fetch_or(&host()->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
    cluster_set_hosts(c, host_sets_create(NULL, 0, NULL, 0, false, 2));
    settle();
    answer_to(p, 1, &q);
    expect_end(p);
    end(p, &q, 1);
}

static void test_keepalive(void **state)
{
    (void)state;
    struct req q = { 0 };
    struct frame f;
    struct peer *p =
        begin("http2_protocol_options: {connection_keepalive: {interval: 0.02s, timeout: 0.05s}}\n",
              &q, 1);
    expect(p, PING, &f);
    put(p, PING, ACK, 0, f.payload, 8);
    expect(p, PING, &f); /* and this one is not answered */
    req_wait(&q.reset);
    assert_int_equal(q.reason, MZ_RESET_CONN_TERMINATED);
    settle();
    assert_int_equal(value("http2.keepalive_timeout"), 1);
    assert_int_equal(value("upstream_cx_destroy_local_with_active_rq"), 1);
    end(p, &q, 1);
}

/* max_requests counts streams; who is refused takes no stream. */
static void test_max_requests_breaker(void **state)
{
    (void)state;
    struct req q[3] = { 0 };
    struct peer *p = begin(H2 "circuit_breakers: {thresholds: [{max_requests: 1}]}\n", q, 1);
    start(&q[1], 1);
    req_wait(&q[1].failed);
    assert_int_equal(q[1].why, MZ_POOL_OVERFLOW);
    assert_int_equal(value("upstream_rq_active_overflow"), 1);
    answer_to(p, 1, &q[0]);
    start(&q[2], 1);
    assert_int_equal(expect_head(p), 3);
    answer_to(p, 3, &q[2]);
    end(p, q, 3);
}

/* The kind of the pool follows the client's protocol. */
static void test_downstream_protocol(void **state)
{
    (void)state;
    rig_start("protocol_selection: USE_DOWNSTREAM_PROTOCOL\nhttp2_protocol_options: {}\n");
    struct req q[2] = { 0 };
    q[1].downstream = MZ_HTTP2;
    start(q, 1);
    int fd = upstream_accept();
    serve(fd, OK_ANSWER, &q[0]);
    start(&q[1], 1);
    struct peer *p = peer_accept(-1);
    expect_head(p);
    answer_to(p, 1, &q[1]);
    assert_int_equal(value("upstream_cx_http1_total"), 1);
    assert_int_equal(value("upstream_cx_http2_total"), 1);
    close(fd);
    end(p, q, 2);
}

int main(void)
{
    mz_stats_thread_slot(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiplex),
        cmocka_unit_test(test_concurrent_streams),
        cmocka_unit_test(test_burst_before_settings),
        cmocka_unit_test(test_no_stream_allowed),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_goaway_idle),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_connection_lost),
        cmocka_unit_test(test_protocol_error),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_max_requests),
        cmocka_unit_test(test_duration_and_idle),
        cmocka_unit_test(test_host_gone),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_max_requests_breaker),
        cmocka_unit_test(test_downstream_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
