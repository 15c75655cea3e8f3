#include "net/conn.h"

#include "base/clock.h"
#include "base/test.h"
#include "net/pipe.h"
#include "net/socket.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Two joined connections between two sockets of the test (L6): what one end says reaches the other in order, by splice and by
 * the buffers, whatever the kernel does; limits and watermarks hold, and nothing is left.
 */

static struct {
    bool small;          /* a splice moves 1000 bytes at most */
    unsigned again_each; /* about each n-th gives EAGAIN; 0: never */
    unsigned fail_at;    /* the n-th gives ECONNRESET; 0: never */
    bool refuse;         /* EINVAL */
    unsigned calls, moved;
} fault;

static ssize_t faulty_splice(int from, int to, size_t n)
{
    fault.calls++;
    if (fault.refuse) {
        errno = EINVAL;
        return -1;
    }
    if (fault.fail_at && fault.calls == fault.fail_at) {
        errno = ECONNRESET;
        return -1;
    }
    if (fault.again_each && (fault.calls * 2654435761u >> 16) % fault.again_each == 0) {
        errno = EAGAIN;
        return -1;
    }
    ssize_t got = mz_sys_system.splice(from, to, fault.small && n > 1000 ? 1000 : n);
    fault.moved += got > 0;
    return got;
}

struct side {
    struct mz_conn *c, *other;
    bool closed;
    int error;
    unsigned highs, lows, datas;
    uint64_t moved;
};
static struct mz_loop *loop;
static struct mz_sys sys;
static struct side left, right;
static int client, server; /* the test's ends */

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    struct side *s = arg;
    s->datas++;
    s->moved += mz_buf_len(mz_conn_in(c));
    mz_conn_write(s->other, mz_conn_in(c), end);
}

static void on_moved(void *arg, size_t n)
{
    struct side *s = arg;
    s->moved += n;
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct side *s = arg, *o = s == &left ? &right : &left;
    assert_false(ev == MZ_CONN_CONNECTED);
    s->closed = true;
    s->error = c->error;
    s->c = NULL;
    if (!o->closed)
        mz_conn_close(o->c, c->error ? MZ_CLOSE_RESET : MZ_CLOSE_FLUSH, NULL, 0);
}

static void on_high(struct mz_conn *c, void *arg)
{
    struct side *s = arg;
    (void)c;
    s->highs++;
    mz_conn_read_disable(s->other, true);
}

static void on_low(struct mz_conn *c, void *arg)
{
    struct side *s = arg;
    (void)c;
    s->lows++;
    if (!(s == &left ? &right : &left)->closed)
        mz_conn_read_disable(s->other, false);
}

static const struct mz_conn_ops ops = {
    .data = on_data, .event = on_event, .above_high = on_high, .below_low = on_low
};

/* A connected pair of TCP sockets; the second is not blocking. */
static void tcp_pair(int out[2], struct mz_addr *at)
{
    struct mz_err err;
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, at);
    int fd = mz_socket_listen(at, &(struct mz_listen_opts){ 0 }, &err);
    assert_true(fd >= 0 && mz_socket_local(fd, at));
    out[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(out[0], &at->sa, at->len), 0);
    out[1] = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(out[1] >= 0);
    close(fd);
}

static void rig_start(uint32_t limit)
{
    memset(&fault, 0, sizeof(fault));
    memset(&left, 0, sizeof(left));
    memset(&right, 0, sizeof(right));
    loop = mz_loop_create("test");
    sys = mz_sys_system;
    sys.splice = faulty_splice;
    mz_loop_set_sys(loop, &sys);
    struct mz_addr at;
    int l[2], r[2];
    tcp_pair(l, &at);
    left.c = mz_conn_accepted(loop, l[1], &at, &at, mz_transport_raw(), &ops, &left);
    tcp_pair(r, &at);
    right.c = mz_conn_accepted(loop, r[1], &at, &at, mz_transport_raw(), &ops, &right);
    client = l[0];
    server = r[0];
    left.other = right.c;
    right.other = left.c;
    struct side *both[] = { &left, &right };
    for (int i = 0; i < 2; i++) {
        mz_conn_set_half_close(both[i]->c, true);
        mz_conn_set_buffer_limit(both[i]->c, limit);
        mz_conn_no_delay(both[i]->c, true);
        assert_true(mz_conn_join(both[i]->c, both[i]->other, on_moved, both[i]));
    }
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(server, F_SETFL, O_NONBLOCK);
}

static void rig_stop(void)
{
    if (left.c)
        mz_conn_close(left.c, MZ_CLOSE_NOW, NULL, 0);
    if (right.c)
        mz_conn_close(right.c, MZ_CLOSE_NOW, NULL, 0);
    assert_true(left.closed && right.closed);
    close(client);
    close(server);
    mz_loop_turn(loop, 0);
    mz_loop_destroy(loop);
    mz_pipe_thread_trim();
    mz_slice_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_CONN].bytes, 0);
    assert_int_equal(c[MZ_MEM_BUFFER].bytes, 0);
}

static uint64_t deadline(void) /* what takes longer is a failure */
{
    return mz_clock->mono_us() + 5000000;
}

static char byte_at(uint64_t i)
{
    return (char)(i * 2654435761u >> 13);
}

static void turn(void)
{
    if (fault.again_each) { /* the kernel does not tell of faults that it did not make */
        if (left.c)
            mz_io_again(&left.c->io, MZ_IO_READ | MZ_IO_WRITE);
        if (right.c)
            mz_io_again(&right.c->io, MZ_IO_READ | MZ_IO_WRITE);
    }
    mz_loop_turn(loop, 1);
}

/* Sends @total bytes from @from and reads them at @to, in steps of @piece; checks each. Returns what arrived. */
static uint64_t relay(int from, int to, uint64_t total, size_t piece)
{
    uint64_t sent = 0, got = 0;
    char *p = malloc(piece);
    for (uint64_t until = deadline(); got < total && mz_clock->mono_us() < until;) {
        if (left.closed && right.closed)
            until = 0;
        while (sent < total) {
            size_t n = total - sent < piece ? (size_t)(total - sent) : piece;
            for (size_t i = 0; i < n; i++)
                p[i] = byte_at(sent + i);
            ssize_t k = send(from, p, n, MSG_NOSIGNAL);
            if (k <= 0)
                break;
            sent += (uint64_t)k;
        }
        turn();
        ssize_t k;
        while ((k = recv(to, p, piece, 0)) > 0) {
            for (ssize_t i = 0; i < k; i++)
                if (p[i] != byte_at(got + (uint64_t)i))
                    fail_msg("byte %llu", (unsigned long long)got + (unsigned long long)i);
            got += (uint64_t)k;
        }
        if (k == 0)
            break;
    }
    free(p);
    return got;
}

#define MIB 1048576u

static void test_both_ways(void **state)
{
    (void)state;
    for (int faults = 0; faults < 3; faults++) {
        rig_start(faults == 2 ? 32768 : MIB);
        fault.small = faults == 1;
        fault.again_each = faults ? 7 : 0;
        assert_int_equal(relay(client, server, 4 * MIB, 65536), 4 * MIB);
        assert_int_equal(relay(server, client, 4 * MIB, 65536), 4 * MIB);
        assert_true(fault.moved > 20);
        assert_int_equal(left.moved, 4 * MIB);
        assert_int_equal(right.moved, 4 * MIB);
        assert_int_equal(left.c->rx_bytes, 4 * MIB);
        assert_int_equal(right.c->tx_bytes, 4 * MIB);
        assert_int_equal(left.highs - left.lows, 0);
        rig_stop();
    }
}

/* A session of small messages never sees a pipe; after bulk it comes back to the buffers. */
static void test_small_messages(void **state)
{
    (void)state;
    rig_start(MIB);
    for (int i = 0; i < 50; i++)
        assert_int_equal(relay(client, server, 100, 100), 100);
    assert_int_equal(fault.calls, 0);
    assert_int_equal(relay(client, server, 4 * MIB, 65536), 4 * MIB);
    assert_true(fault.calls > 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(relay(client, server, 100, 100), 100);
    unsigned calls = fault.calls, datas = left.datas;
    for (int i = 0; i < 20; i++)
        assert_int_equal(relay(client, server, 100, 100), 100);
    assert_int_equal(fault.calls, calls);
    assert_int_equal(left.datas, datas + 20);
    rig_stop();
}

static void test_refused_by_the_kernel(void **state)
{
    (void)state;
    rig_start(MIB);
    fault.refuse = true;
    assert_int_equal(relay(client, server, 4 * MIB, 65536), 4 * MIB);
    assert_int_equal(fault.calls, 1);
    rig_stop();
}

/* The client says what it can and the server reads nothing, until bytes wait in the pipe. */
static void flood(void)
{
    static char block[65536];
    uint64_t until = deadline();
    do {
        while (send(client, block, sizeof(block), MSG_NOSIGNAL) > 0)
            continue;
        turn();
    } while (!mz_conn_unsent(right.c) && mz_clock->mono_us() < until);
    assert_true(mz_conn_unsent(right.c) > 0);
}

/* Reads at the server until @done, or the end; returns the bytes. */
static uint64_t drain(bool (*done)(uint64_t got))
{
    static char sink[65536];
    uint64_t got = 0, until = deadline();
    while (!done(got) && mz_clock->mono_us() < until) {
        ssize_t n = recv(server, sink, sizeof(sink), 0);
        got += n > 0 ? (uint64_t)n : 0;
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        turn();
    }
    return got;
}

static bool never(uint64_t got)
{
    (void)got;
    return false;
}

static bool all_read(uint64_t got)
{
    return got == left.c->rx_bytes && !mz_conn_unsent(right.c) && right.highs == right.lows;
}

static void test_slow_reader(void **state)
{
    (void)state;
    rig_start(65536);
    flood();
    assert_true(fault.moved > 0);
    assert_int_equal(right.highs, right.lows + 1);
    assert_in_range(mz_conn_unsent(right.c), 1, 65536 + 65536);
    uint64_t got = drain(all_read);
    assert_int_equal(got, left.c->rx_bytes);
    assert_int_equal(mz_conn_unsent(right.c), 0);
    assert_int_equal(right.highs, right.lows);
    rig_stop();
}

/* What waits in the pipe still reaches the server when the client has gone, then the end does. */
static void test_end_behind_the_pipe(void **state)
{
    (void)state;
    rig_start(65536);
    flood();
    shutdown(client, SHUT_WR);
    uint64_t got = drain(never);
    assert_int_equal(got, left.c->rx_bytes);
    assert_true(right.c && right.c->fin_sent && left.c->read_end);
    rig_stop();
}

/* The owner closes an end with bytes in its pipe: a flush lets them out, else they go with it. */
static void test_close_with_bytes_in_the_pipe(void **state)
{
    (void)state;
    for (int how = MZ_CLOSE_FLUSH; how <= MZ_CLOSE_RESET; how++) {
        rig_start(65536);
        flood();
        uint64_t all = left.c->rx_bytes;
        mz_conn_close(right.c, (enum mz_close)how, NULL, 0);
        uint64_t got = drain(never);
        assert_true(right.closed && left.closed);
        if (how == MZ_CLOSE_FLUSH)
            assert_int_equal(got, all);
        rig_stop();
    }
}

/* A reset at each call: both connections end, once, and nothing is left. */
static void test_resets(void **state)
{
    (void)state;
    for (unsigned at = 1; at < 40; at++) {
        rig_start(65536);
        fault.fail_at = at;
        (void)relay(client, server, 2 * MIB, 65536);
        if (fault.calls >= at)
            assert_true(left.closed && right.closed && (left.error || right.error));
        rig_stop();
    }
}

static void test_peer_resets(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        rig_start(65536);
        flood();
        const struct linger hard = { .l_onoff = 1 };
        int *fd = which ? &server : &client;
        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(*fd);
        *fd = dup(which ? client : server);
        for (uint64_t until = deadline(); !(left.closed && right.closed);) {
            assert_true(mz_clock->mono_us() < until);
            turn();
        }
        assert_true(left.closed && right.closed);
        rig_stop();
    }
}

/* More connections blocked than pipes: the others take the buffers. */
static void test_pipes_are_bounded(void **state)
{
    (void)state;
    struct mz_pipe *p[MZ_PIPES_PER_THREAD];
    for (size_t i = 0; i < MZ_COUNT(p); i++)
        assert_non_null(p[i] = mz_pipe_get());
    assert_null(mz_pipe_get());
    rig_start(MIB);
    assert_int_equal(relay(client, server, 4 * MIB, 65536), 4 * MIB);
    assert_int_equal(fault.calls, 0);
    for (size_t i = 0; i < MZ_COUNT(p); i++)
        mz_pipe_put(p[i]);
    assert_int_equal(relay(client, server, 4 * MIB, 65536), 4 * MIB);
    assert_true(fault.calls > 0);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_small_messages),
        cmocka_unit_test(test_refused_by_the_kernel),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_end_behind_the_pipe),
        cmocka_unit_test(test_close_with_bytes_in_the_pipe),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_pipes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
