#include "net/conn.h"

#include "base/test.h"
#include "net/socket.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* ---- faults: one table of system calls that misbehaves on demand ---- */

static struct {
    bool one_byte;       /* reads and writes move one byte */
    unsigned again_each; /* about each n-th call gives EAGAIN; 0: never */
    unsigned fail_at;    /* the n-th read or write gives ECONNRESET; 0: never */
    unsigned calls;
} fault;

static bool fault_now(void)
{
    fault.calls++;
    if (fault.fail_at && fault.calls == fault.fail_at) {
        errno = ECONNRESET;
        return true;
    }
    if (fault.again_each &&
        (fault.calls * 2654435761u >> 16) % fault.again_each == 0) { /* no fixed rhythm */
        errno = EAGAIN;
        return true;
    }
    return false;
}

static ssize_t faulty_readv(int fd, const struct iovec *iov, int n)
{
    if (fault_now())
        return -1;
    return fault.one_byte ? read(fd, iov[0].iov_base, 1) : mz_sys_system.readv(fd, iov, n);
}

static ssize_t faulty_writev(int fd, const struct iovec *iov, int n)
{
    if (fault_now())
        return -1;
    const struct iovec one = { iov[0].iov_base, 1 };
    return fault.one_byte ? mz_sys_system.writev(fd, &one, 1) : mz_sys_system.writev(fd, iov, n);
}

/* ---- two connections on one loop ---- */

enum { ON_DATA = 1, ON_EVENT = 2, ON_HIGH = 4, ON_LOW = 8, ON_FLUSHED = 16 };
struct side {
    struct mz_conn *c;
    struct mz_buf got;
    bool echo, end, connected, closed, keep;
    enum mz_conn_event last;
    int error;
    unsigned close_on; /* closes from inside these callbacks */
    enum mz_close how;
    unsigned highs, lows, flushes, datas;
};
static struct mz_loop *loop;
static struct side a, b; /* a connects, b accepts */
static struct mz_sys sys;

static void maybe_close(struct side *s, unsigned where)
{
    if (s->close_on & where)
        mz_conn_close(s->c, s->how, "test", 20);
}

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    struct side *s = arg;
    assert_ptr_equal(s->c, c);
    assert_false(s->closed);
    s->datas++;
    s->end |= end;
    if (s->keep)
        return;
    if (s->echo)
        mz_conn_write(c, mz_conn_in(c), end && c->half_close);
    else
        mz_buf_move_all(&s->got, mz_conn_in(c));
    maybe_close(s, ON_DATA);
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct side *s = arg;
    assert_false(s->closed);
    s->last = ev;
    if (ev == MZ_CONN_CONNECTED) {
        s->connected = true;
        maybe_close(s, ON_EVENT);
        return;
    }
    s->closed = true;
    s->error = c->error;
    s->c = NULL;
}

static void on_high(struct mz_conn *c, void *arg)
{
    struct side *s = arg;
    (void)c;
    s->highs++;
    maybe_close(s, ON_HIGH);
}

static void on_low(struct mz_conn *c, void *arg)
{
    struct side *s = arg;
    (void)c;
    s->lows++;
    maybe_close(s, ON_LOW);
}

static void on_flushed(struct mz_conn *c, void *arg)
{
    struct side *s = arg;
    (void)c;
    s->flushes++;
    maybe_close(s, ON_FLUSHED);
}

static const struct mz_conn_ops ops = { on_data, on_event, on_high, on_low, on_flushed };

static void turn(void)
{
    bool kick = fault.one_byte ||
                fault.again_each; /* the kernel does not tell of faults that it did not make */
    if (kick && a.c && mz_conn_is_open(a.c))
        mz_io_again(&a.c->io, MZ_IO_READ | MZ_IO_WRITE);
    if (kick && b.c)
        mz_io_again(&b.c->io, MZ_IO_READ | MZ_IO_WRITE);
    mz_loop_turn(loop, 1);
}

static void turns(unsigned n)
{
    while (n--)
        turn();
}

static int listener(struct mz_addr *out_addr)
{
    struct mz_err err;
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, out_addr);
    int fd = mz_socket_listen(out_addr, &(struct mz_listen_opts){ 0 }, &err);
    assert_true(fd >= 0);
    assert_true(mz_socket_local(fd, out_addr));
    return fd;
}

static void side_reset(struct side *s)
{
    memset(s, 0, sizeof(*s));
    mz_buf_init(&s->got);
}

static void rig_start(void)
{
    memset(&fault, 0, sizeof(fault));
    loop = mz_loop_create("test");
    sys = mz_sys_system;
    sys.readv = faulty_readv;
    sys.writev = faulty_writev;
    mz_loop_set_sys(loop, &sys);
    side_reset(&a);
    side_reset(&b);
    struct mz_addr at, from = { .len = sizeof(from.in6) };
    int lfd = listener(&at);
    a.c = mz_conn_connect(loop, &(struct mz_conn_connect_opts){ .to = &at }, mz_transport_raw(),
                          &ops, &a);
    assert_false(a.connected);
    int fd = accept4(lfd, &from.sa, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    b.c = mz_conn_accepted(loop, fd, &at, &from, mz_transport_raw(), &ops, &b);
    b.echo = true;
    mz_conn_no_delay(
        a.c, true); /* the next byte would wait for an acknowledgement, the test for turns */
    mz_conn_no_delay(b.c, true);
    close(lfd);
}

static void rig_stop(void)
{
    if (a.c)
        mz_conn_close(a.c, MZ_CLOSE_NOW, NULL, 0);
    if (b.c)
        mz_conn_close(b.c, MZ_CLOSE_NOW, NULL, 0);
    assert_true(a.closed && b.closed);
    mz_buf_fini(&a.got);
    mz_buf_fini(&b.got);
    mz_loop_destroy(loop);
    mz_slice_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_CONN].objects, 0);
    assert_int_equal(c[MZ_MEM_BUFFER].objects, 0);
}

static void send_pattern(struct mz_conn *c, size_t n)
{
    struct mz_buf out;
    mz_buf_init(&out);
    for (size_t i = 0; i < n; i++) {
        char x = (char)(i * 7 + i / 251);
        mz_buf_append(&out, &x, 1);
    }
    mz_conn_write(c, &out, false);
}

static bool pattern_ok(struct mz_buf *got, size_t n)
{
    if (mz_buf_len(got) != n)
        return false;
    struct mz_str s = mz_buf_linearize(got, n);
    for (size_t i = 0; i < n; i++)
        if (s.p[i] != (char)(i * 7 + i / 251))
            return false;
    return true;
}

static const struct {
    bool one_byte;
    unsigned again_each;
    size_t bytes;
} echo_cases[] = {
    { false, 0, 1 },      { false, 0, MZ_SLICE_BYTES }, { false, 0, 1000000 }, { true, 0, 300 },
    { false, 2, 100000 }, { false, 3, 100000 },         { true, 2, 200 },      { true, 5, 200 },
};

static void test_echo(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(echo_cases); i++) {
        rig_start();
        fault.one_byte = echo_cases[i].one_byte;
        fault.again_each = echo_cases[i].again_each;
        send_pattern(a.c, echo_cases[i].bytes);
        for (int t = 0; t < 20000 && mz_buf_len(&a.got) < echo_cases[i].bytes; t++)
            turn();
        assert_true(pattern_ok(&a.got, echo_cases[i].bytes));
        assert_int_equal(a.c->tx_bytes, echo_cases[i].bytes);
        assert_int_equal(b.c->rx_bytes, echo_cases[i].bytes);
        assert_int_equal(mz_buf_len(&b.c->in) + mz_buf_len(&b.c->out), 0);
        rig_stop();
    }
}

/* A small exchange is one read and one write on each side: what the request budget of design.md counts on. */
static void test_calls_per_exchange(void **state)
{
    (void)state;
    rig_start();
    turns(3);
    for (int i = 0; i < 3; i++) {
        fault.calls = 0;
        mz_buf_fini(&a.got);
        send_pattern(a.c, 500);
        for (int t = 0; t < 100 && mz_buf_len(&a.got) < 500; t++)
            turn();
        turns(2);
        assert_int_equal(fault.calls, 4);
    }
    rig_stop();
}

/* A reset at each read or write in turn: both sides end, nothing is touched afterwards. */
static void test_reset_anywhere(void **state)
{
    (void)state;
    for (unsigned k = 1; k < 12; k++) {
        rig_start();
        fault.fail_at = k;
        fault.again_each = k % 3 ? 0 : 2;
        send_pattern(a.c, 50000);
        for (int t = 0; t < 60 && !(a.closed && b.closed); t++)
            turn();
        assert_true(fault.calls < k || a.closed || b.closed);
        rig_stop();
    }
}

static void test_close_in_callback(void **state)
{
    (void)state;
    static const enum mz_close hows[] = { MZ_CLOSE_FLUSH, MZ_CLOSE_NOW, MZ_CLOSE_RESET,
                                          MZ_CLOSE_FLUSH_DELAY };
    for (unsigned where = ON_DATA; where <= ON_FLUSHED; where <<= 1) {
        for (size_t i = 0; i < MZ_COUNT(hows) * 2; i++) {
            rig_start();
            struct side *s = i & 1 ? &a : &b;
            s->close_on = where;
            s->how = hows[i / 2];
            mz_conn_set_buffer_limit(s->c, 1000);
            send_pattern(a.c, 300000);
            for (int t = 0; t < 400 && !(a.closed && b.closed); t++)
                turn();
            bool server_connected =
                s == &b && where == ON_EVENT; /* raw downstream connections have no such event */
            assert_true(server_connected || (a.closed && b.closed));
            rig_stop();
        }
    }
}

static void test_reset_is_seen(void **state)
{
    (void)state;
    for (int disabled = 0; disabled < 2; disabled++) {
        rig_start();
        turns(2);
        if (disabled)
            mz_conn_read_disable(b.c, true);
        mz_conn_close(a.c, MZ_CLOSE_RESET, NULL, 0);
        assert_true(a.closed);
        for (int t = 0; t < 100 && !b.closed; t++)
            turn();
        assert_true(b.closed);
        assert_int_equal(b.last, MZ_CONN_REMOTE_CLOSE);
        assert_int_equal(b.error, ECONNRESET);
        rig_stop();
    }
}

/* Data and FIN that arrive together: both are seen though one edge told of them. */
static void test_data_with_fin(void **state)
{
    (void)state;
    rig_start();
    b.echo = false;
    turns(2);
    assert_int_equal(write(a.c->io.fd, "hello", 5), 5);
    assert_int_equal(shutdown(a.c->io.fd, SHUT_WR), 0);
    for (int t = 0; t < 100 && !b.closed; t++)
        turn();
    assert_true(b.closed && b.end);
    assert_int_equal(b.error, 0);
    assert_int_equal(mz_buf_len(&b.got), 5);
    rig_stop();
}

/* A client that half-closes after its request still gets what was answered in that turn. */
static void test_answer_after_fin(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    a.keep = false;
    mz_conn_set_half_close(a.c, true);
    send_pattern(a.c, 100);
    mz_conn_flush_now(a.c);
    assert_int_equal(shutdown(a.c->io.fd, SHUT_WR), 0);
    for (int t = 0; t < 100 && !(b.closed && a.end); t++)
        turn();
    assert_true(b.closed && a.end);
    assert_true(pattern_ok(&a.got, 100));
    rig_stop();
}

static void test_half_close(void **state)
{
    (void)state;
    rig_start();
    mz_conn_set_half_close(a.c, true);
    mz_conn_set_half_close(b.c, true);
    send_pattern(a.c, 70000);
    struct mz_buf none;
    mz_buf_init(&none);
    mz_conn_write(a.c, &none, true);
    for (int t = 0; t < 200 && !(a.closed && b.closed); t++)
        turn();
    assert_true(a.closed && b.closed);
    assert_true(a.end && b.end);
    assert_true(pattern_ok(&a.got, 70000));
    rig_stop();
}

static void test_read_disable(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    b.echo = false;
    mz_conn_read_disable(b.c, true);
    mz_conn_read_disable(b.c, true);
    send_pattern(a.c, 500000);
    turns(20);
    assert_int_equal(b.datas, 0);
    mz_conn_read_disable(b.c, false);
    turns(5);
    assert_int_equal(b.datas, 0);
    mz_conn_read_disable(b.c, false);
    for (int t = 0; t < 500 && mz_buf_len(&b.got) < 500000; t++)
        turn();
    assert_true(pattern_ok(&b.got, 500000));

    /* Input that the owner left in the buffer is offered again on the last enable. */
    b.keep = true;
    send_pattern(a.c, 10);
    turns(5);
    unsigned seen = b.datas;
    mz_conn_read_disable(b.c, true);
    turns(2);
    mz_conn_read_disable(b.c, false);
    turns(2);
    assert_int_equal(b.datas, seen + 1);
    assert_int_equal(mz_buf_len(mz_conn_in(b.c)), 10);
    rig_stop();
}

static void test_early_close(void **state)
{
    (void)state;
    for (int early = 0; early < 2; early++) {
        rig_start();
        turns(2);
        b.c->early_close = early;
        b.echo = false;
        mz_conn_read_disable(b.c, true);
        send_pattern(a.c, 100);
        turns(2);
        mz_conn_close(a.c, MZ_CLOSE_FLUSH, NULL, 0);
        turns(10);
        assert_int_equal(b.closed, early);
        if (!early) {
            mz_conn_read_disable(b.c, false);
            turns(3);
            assert_true(b.closed);
            assert_true(pattern_ok(&b.got, 100)); /* nothing was lost */
        }
        rig_stop();
    }
}

static void test_watermarks(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    mz_conn_set_buffer_limit(a.c, 100000);
    mz_conn_read_disable(b.c, true);
    unsigned writes = 0;
    while (!mz_conn_above_high(a.c) && writes++ < 2000) {
        send_pattern(a.c, 20000);
        turn();
    }
    assert_int_equal(a.highs, 1);
    assert_int_equal(a.lows, 0);
    b.echo = false;
    a.flushes = 0;
    mz_conn_read_disable(b.c, false);
    for (int t = 0; t < 1000 && !a.flushes; t++)
        turn();
    turns(10);
    assert_int_equal(a.highs, 1);
    assert_int_equal(a.lows, 1);
    rig_stop();
}

static void test_buffer_limit_bounds_reads(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    mz_conn_set_buffer_limit(b.c, 4096);
    b.keep = true;
    send_pattern(a.c, 300000);
    turns(30);
    assert_true(mz_buf_len(mz_conn_in(b.c)) < 4096 + 2 * MZ_SLICE_BYTES);
    b.keep = false;
    b.echo = false;
    mz_buf_move_all(&b.got, mz_conn_in(b.c));
    mz_conn_read_resume(b.c);
    for (int t = 0; t < 1000 && mz_buf_len(&b.got) < 300000; t++)
        turn();
    assert_true(pattern_ok(&b.got, 300000));
    rig_stop();
}

/* Rule 5: the answer stays readable although the client sends on; the end comes by the peer or by time. */
static void test_delayed_close(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    b.echo = false;
    send_pattern(b.c, 5000);
    mz_conn_close(b.c, MZ_CLOSE_FLUSH_DELAY, "answered", 10000);
    mz_conn_set_half_close(a.c, true);
    for (int t = 0; t < 100 && !a.end; t++) {
        send_pattern(a.c, 1000);
        turn();
    }
    assert_true(pattern_ok(&a.got, 5000) && !a.end); /* as Envoy: no FIN before the time is over */
    assert_false(b.closed);
    mz_conn_close(a.c, MZ_CLOSE_FLUSH, NULL, 0);
    for (int t = 0; t < 100 && !b.closed; t++)
        turn();
    assert_true(b.closed);
    rig_stop();

    rig_start();
    turns(2);
    mz_conn_set_half_close(a.c, true);
    mz_conn_close(b.c, MZ_CLOSE_FLUSH_DELAY, "answered", 20);
    for (int t = 0; t < 100 && !b.closed; t++)
        turn();
    assert_true(b.closed && !a.closed);
    assert_int_equal(b.last, MZ_CONN_LOCAL_CLOSE);
    rig_stop();
}

static void test_connect_refused(void **state)
{
    (void)state;
    memset(&fault, 0, sizeof(fault));
    loop = mz_loop_create("test");
    side_reset(&a);
    struct mz_addr at;
    close(listener(&at));
    a.c = mz_conn_connect(loop, &(struct mz_conn_connect_opts){ .to = &at }, mz_transport_raw(),
                          &ops, &a);
    assert_false(a.closed);
    for (int t = 0; t < 100 && !a.closed; t++)
        mz_loop_turn(loop, 10);
    assert_true(a.closed && !a.connected);
    assert_int_equal(a.error, ECONNREFUSED);

    side_reset(&a);
    struct mz_addr far_away;
    mz_addr_parse_ip(MZ_STR("192.0.2.1"), 0, &far_away); /* not ours: bind fails */
    a.c = mz_conn_connect(loop, &(struct mz_conn_connect_opts){ .to = &at, .bind = &far_away },
                          mz_transport_raw(), &ops, &a);
    assert_false(a.closed);
    mz_loop_turn(loop, 0);
    assert_true(a.closed);
    assert_int_equal(a.error, EADDRNOTAVAIL);
    mz_loop_destroy(loop);
}

/* The answer that came before the peer's reset is read although our write fails first (D5, H10). */
static void test_answer_before_write_error(void **state)
{
    (void)state;
    rig_start();
    turns(2);
    a.keep = false;
    assert_int_equal(write(b.c->io.fd, "413", 3), 3);
    mz_conn_close(b.c, MZ_CLOSE_RESET, NULL, 0);
    fault.fail_at = fault.calls + 1; /* our write fails before the loop told of the answer */
    send_pattern(a.c, 10);
    mz_conn_flush_now(a.c);
    for (int t = 0; t < 100 && !a.closed; t++)
        turn();
    assert_true(a.closed);
    assert_int_equal(a.error, ECONNRESET);
    assert_int_equal(mz_buf_len(&a.got), 3);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_calls_per_exchange),
        cmocka_unit_test(test_reset_anywhere),
        cmocka_unit_test(test_close_in_callback),
        cmocka_unit_test(test_reset_is_seen),
        cmocka_unit_test(test_data_with_fin),
        cmocka_unit_test(test_answer_after_fin),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_read_disable),
        cmocka_unit_test(test_early_close),
        cmocka_unit_test(test_watermarks),
        cmocka_unit_test(test_buffer_limit_bounds_reads),
        cmocka_unit_test(test_delayed_close),
        cmocka_unit_test(test_connect_refused),
        cmocka_unit_test(test_answer_before_write_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
