/*
 * Pools under faults of the system calls (H10, E10, F10): one byte at a time, EAGAIN now and then, and a reset at each read and
 * each write there is, for HTTP/1 and HTTP/2. Whatever happens, each request has one outcome and nothing stays behind.
 */
#include "upstream/pool_rig.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool one_byte, again;
    unsigned reads, writes;
    unsigned reset_read, reset_write; /* the n-th one; 0: none */
} fault;

static bool again_now(unsigned n)
{
    if (!fault.again || (n * 2654435761u >> 16) % 3)
        return false;
    errno = EAGAIN;
    return true;
}

static ssize_t faulty_readv(int fd, const struct iovec *iov, int n)
{
    if (++fault.reads == fault.reset_read) {
        errno = ECONNRESET;
        return -1;
    }
    if (again_now(fault.reads))
        return -1;
    return fault.one_byte ? read(fd, iov[0].iov_base, 1) : mz_sys_system.readv(fd, iov, n);
}

static ssize_t faulty_writev(int fd, const struct iovec *iov, int n)
{
    if (++fault.writes == fault.reset_write) {
        errno = EPIPE;
        return -1;
    }
    if (again_now(fault.writes))
        return -1;
    const struct iovec one = { iov[0].iov_base, 1 };
    return fault.one_byte ? mz_sys_system.writev(fd, &one, 1) : mz_sys_system.writev(fd, iov, n);
}

/* ---- an upstream that answers whatever comes, on as many connections as come ---- */
struct end {
    int fd;
    bool greeted;
    unsigned char buf[8192];
    size_t n;
};
static struct end ends[16];
static unsigned n_ends;

static void say(struct end *e, const void *p, size_t n)
{
    (void)!send(e->fd, p, n, MSG_NOSIGNAL); /* it may be gone: that is the test */
}

static void take(struct end *e, size_t n)
{
    memmove(e->buf, e->buf + n, e->n - n);
    e->n -= n;
}

static bool serve_http1(struct end *e)
{
    unsigned char *head = memmem(e->buf, e->n, "\r\n\r\n", 4);
    if (!head)
        return false;
    size_t n = (size_t)(head - e->buf) + 4;
    if (memmem(e->buf, n, "transfer-encoding", 17)) {
        unsigned char *last = memmem(head, e->n - (n - 4), "\r\n0\r\n\r\n", 7);
        if (!last)
            return false;
        n = (size_t)(last - e->buf) + 7;
    }
    take(e, n);
    say(e, OK_ANSWER, strlen(OK_ANSWER));
    return true;
}

static bool serve_http2(struct end *e)
{
    static const unsigned char settings[9] = { 0, 0, 0, 4 };
    if (!e->greeted) {
        if (e->n < 24)
            return false;
        take(e, 24);
        e->greeted = true;
        say(e, settings, sizeof(settings));
    }
    size_t len = e->n < 9 ? 0 : (size_t)e->buf[0] << 16 | (size_t)e->buf[1] << 8 | e->buf[2];
    if (e->n < 9 + len)
        return false;
    unsigned char type = e->buf[3], flags = e->buf[4], id = e->buf[8];
    take(e, 9 + len);
    if (type <= 1 && (flags & 1)) { /* END_STREAM */
        const unsigned char answer[] = { 0, 0, 1, 1, 4, 0, 0, 0,  id,  0x88, 0,
                                         0, 2, 0, 1, 0, 0, 0, id, 'o', 'k' };
        say(e, answer, sizeof(answer));
    }
    return true;
}

static void upstream_turn(bool http2)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        const int on = 1;
        assert_true(n_ends < MZ_COUNT(ends));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        ends[n_ends++] = (struct end){ .fd = fd };
    }
    for (unsigned i = 0; i < n_ends; i++) {
        struct end *e = &ends[i];
        ssize_t got = recv(e->fd, e->buf + e->n, sizeof(e->buf) - e->n, 0);
        e->n += got > 0 ? (size_t)got : 0;
        while (e->n && (http2 ? serve_http2(e) : serve_http1(e))) {
        }
    }
}

/* The kernel does not tell of faults that it did not make. */
static void kick(void)
{
    struct mz_wcluster *w = cluster();
    for (uint32_t i = 0; i < w->pools.cap; i++)
        for (unsigned s = 0; w->pools.v[i] && s < CLIENT_CLOSED; s++)
            mz_list_foreach (it, &w->pools.v[i]->clients[s]) {
                struct client *c = MZ_CONTAINER(it, struct client, link);
                if (c->connected)
                    mz_io_again(&c->conn->io, MZ_IO_READ | MZ_IO_WRITE);
            }
}

static bool over(const struct req *q)
{
    return q->ended || q->reset || q->failed;
}

/* A body in two parts while it is open. */
static void send_body(struct req *q)
{
    struct mz_buf b;
    if (!q->enc || over(q) || !q->keep_open)
        return;
    q->keep_open = false;
    mz_buf_init(&b);
    mz_buf_append(&b, "first", 5);
    q->enc->ops->encode_data(q->enc, &b, false);
    if (!over(q)) {
        mz_buf_append(&b, "last", 4);
        q->enc->ops->encode_data(q->enc, &b, true);
    }
    mz_buf_fini(&b);
}

/* Three requests at once, then one more; returns how many were answered. */
static unsigned scenario(bool http2)
{
    struct mz_sys sys = mz_sys_system;
    struct req q[4] = { { 0 }, { .keep_open = true } };
    unsigned answered = 0;
    fault.reads = fault.writes = n_ends = 0;
    rig_start(http2 ? "http2_protocol_options: {}\n" : "");
    sys.readv = faulty_readv;
    sys.writev = faulty_writev;
    mz_loop_set_sys(loop, &sys);
    for (int i = 0; i < 3; i++)
        req_start(&q[i]);
    for (int t = 0, n = 3; t < 4000 && !(n == 4 && over(&q[3])); t++) {
        if (n == 3 && over(&q[0]) && over(&q[1]) && over(&q[2]))
            req_start(&q[n++]);
        send_body(&q[1]);
        upstream_turn(http2);
        if (fault.one_byte || fault.again)
            kick();
        turn();
    }
    for (int i = 0; i < 4; i++) {
        if (!over(&q[i]))
            fail_msg("request %d has no outcome (read %u, write %u)", i, fault.reset_read,
                     fault.reset_write);
        assert_false(q[i].ended && (q[i].reset || q[i].failed));
        assert_true(!q[i].ended || (q[i].status == 200 && q[i].body == 2));
        answered += q[i].ended;
        req_fini(&q[i]);
    }
    for (unsigned i = 0; i < n_ends; i++)
        close(ends[i].fd);
    rig_stop();
    return answered;
}

static void test_one_byte(void **state)
{
    (void)state;
    for (int http2 = 0; http2 < 2; http2++)
        for (int again = 0; again < 2; again++) {
            memset(&fault, 0, sizeof(fault));
            fault.one_byte = true;
            fault.again = again;
            assert_int_equal(scenario(http2), 4);
        }
}

static void test_again(void **state)
{
    (void)state;
    for (int http2 = 0; http2 < 2; http2++) {
        memset(&fault, 0, sizeof(fault));
        fault.again = true;
        assert_int_equal(scenario(http2), 4);
    }
}

/* Once no read (write) is left to fail, all are answered; before, at least the one that came afterwards or those on others. */
static void reset_at_each(bool http2, unsigned *at, const unsigned *done)
{
    memset(&fault, 0, sizeof(fault));
    for (*at = 1; *at < 200; (*at)++) {
        unsigned answered = scenario(http2);
        if (*done < *at) {
            assert_int_equal(answered, 4);
            assert_true(*at > 3); /* there were some */
            return;
        }
        assert_true(answered < 4 || *done > *at);
    }
    fail_msg("no end of faults");
}

static void test_reset_at_each_read(void **state)
{
    (void)state;
    reset_at_each(false, &fault.reset_read, &fault.reads);
    reset_at_each(true, &fault.reset_read, &fault.reads);
}

static void test_reset_at_each_write(void **state)
{
    (void)state;
    reset_at_each(false, &fault.reset_write, &fault.writes);
    reset_at_each(true, &fault.reset_write, &fault.writes);
}

/* Every request is dropped by its owner after so many turns, while bytes trickle. */
static void test_cancel_at_each_turn(void **state)
{
    (void)state;
    for (int http2 = 0; http2 < 2; http2++)
        for (int when = 0; when < 60; when++) {
            struct mz_sys sys = mz_sys_system;
            struct req q[2] = { { 0 }, { .keep_open = true } };
            memset(&fault, 0, sizeof(fault));
            fault.one_byte = true;
            n_ends = 0;
            rig_start(http2 ? "http2_protocol_options: {}\n" : "");
            sys.readv = faulty_readv;
            sys.writev = faulty_writev;
            mz_loop_set_sys(loop, &sys);
            req_start(&q[0]);
            req_start(&q[1]);
            for (int t = 0; t < when; t++) {
                upstream_turn(http2);
                for (int k = 0; k < 8; k++) {
                    kick();
                    mz_loop_turn(loop, 0);
                }
            }
            for (int i = 0; i < 2; i++) {
                if (q[i].pending)
                    mz_pool_cancel(q[i].pending, true);
                else if (q[i].enc && !over(&q[i]))
                    q[i].enc->ops->reset(q[i].enc, MZ_RESET_LOCAL);
            }
            settle();
            assert_int_equal(value("upstream_rq_active"), 0);
            for (unsigned i = 0; i < n_ends; i++)
                close(ends[i].fd);
            req_fini(&q[0]);
            req_fini(&q[1]);
            rig_stop();
        }
}

int main(void)
{
    mz_stats_thread_slot(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_byte),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_reset_at_each_read),
        cmocka_unit_test(test_reset_at_each_write),
        cmocka_unit_test(test_cancel_at_each_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
