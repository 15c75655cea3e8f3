/* Connections within the thread: what sockets do, they do (U8). */
#include "net/wire.h"

#include "base/test.h"
#include "net/conn.h"
#include <errno.h>
#include <string.h>

static int64_t conns_held(void)
{
    struct mz_mem_count n[MZ_MEM__COUNT];
    mz_mem_counts(n);
    return (int64_t)n[MZ_MEM_CONN].objects;
}

struct told {
    struct mz_io io;
    unsigned events, n;
};

static void on_io(struct mz_io *io, unsigned events)
{
    struct told *t = MZ_CONTAINER(io, struct told, io);
    t->events |= events;
    t->n++;
}

static struct mz_loop *loop;
static struct mz_wire *end[2];
static struct told told[2];

static void pair(size_t limit)
{
    loop = mz_loop_create("test");
    mz_wire_pair(limit, end);
    for (int i = 0; i < 2; i++) {
        told[i] = (struct told){ 0 };
        mz_io_add_virtual(loop, &told[i].io, on_io);
        mz_wire_watch(end[i], &told[i].io);
    }
    mz_loop_turn(loop, 0);
    assert_int_equal(told[0].events, MZ_IO_WRITE); /* as a fresh socket */
    told[0].events = told[1].events = 0;
}

static unsigned events_of(int i)
{
    mz_loop_turn(loop, 0);
    unsigned e = told[i].events;
    told[i].events = 0;
    return e;
}

static void unpair(void)
{
    for (int i = 0; i < 2; i++) {
        mz_io_del(&told[i].io);
        if (end[i])
            mz_wire_close(end[i], false);
    }
    mz_loop_destroy(loop);
    mz_slice_thread_trim();
    assert_int_equal(conns_held(), 0);
}

static ssize_t write_text(int i, const char *s)
{
    return mz_wire_writev(end[i], &(struct iovec){ (char *)(uintptr_t)s, strlen(s) }, 1);
}

static const char *read_text(int i)
{
    static char text[64];
    ssize_t n = mz_wire_readv(end[i], &(struct iovec){ text, sizeof(text) - 1 }, 1);
    text[n > 0 ? n : 0] = '\0';
    return n < 0 ? strerrorname_np(errno) : n == 0 ? "end" : text;
}

static void test_limits(void **state)
{
    (void)state;
    char peeked[4];
    pair(8);
    assert_int_equal(write_text(0, "hello world"), 8);
    assert_int_equal(write_text(0, "!"), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(events_of(1), MZ_IO_READ);
    assert_int_equal(mz_wire_peek(end[1], peeked, 4), 4);
    assert_memory_equal(peeked, "hell", 4);
    char two[2];
    assert_int_equal(mz_wire_readv(end[1], &(struct iovec){ two, 2 }, 1), 2);
    assert_int_equal(events_of(0), 0); /* not for a little room */
    assert_string_equal(read_text(1), "llo wo");
    assert_int_equal(events_of(0), MZ_IO_WRITE);
    assert_string_equal(read_text(1), "EAGAIN");
    assert_int_equal(write_text(1, "up"), 2);
    assert_string_equal(read_text(0), "up");
    unpair();
}

static void test_buffers_move(void **state)
{
    (void)state;
    struct mz_buf a, b;
    mz_buf_init(&a);
    mz_buf_init(&b);
    pair(10);
    mz_buf_append(&a, "0123456789abcdef", 16);
    assert_int_equal(mz_wire_give(end[0], &a), MZ_IO_AGAIN);
    assert_int_equal(mz_buf_len(&a), 6);
    assert_int_equal(mz_wire_take(end[1], &b, 4), MZ_IO_OK); /* there is more */
    assert_int_equal(mz_wire_take(end[1], &b, 100), MZ_IO_AGAIN);
    assert_int_equal(mz_wire_give(end[0], &a), MZ_IO_OK);
    assert_int_equal(mz_wire_shutdown(end[0]), 0);
    assert_int_equal(mz_wire_take(end[1], &b, 100), MZ_IO_OK);
    assert_int_equal(mz_wire_take(end[1], &b, 100), MZ_IO_EOF);
    assert_memory_equal(mz_buf_linearize(&b, 16).p, "0123456789abcdef", 16);
    mz_buf_fini(&b);
    unpair();
}

static void test_half_close(void **state)
{
    (void)state;
    pair(100);
    assert_int_equal(write_text(0, "last"), 4);
    assert_int_equal(mz_wire_shutdown(end[0]), 0);
    assert_int_equal(write_text(0, "no"), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(events_of(1), MZ_IO_READ | MZ_IO_END);
    assert_string_equal(read_text(1), "last");
    assert_string_equal(read_text(1), "end");
    assert_int_equal(write_text(1, "answer"), 6); /* the other direction stands */
    assert_string_equal(read_text(0), "answer");
    assert_int_equal(mz_wire_shutdown(end[1]), 0);
    assert_true(events_of(0) & MZ_IO_HUP);
    assert_string_equal(read_text(0), "end");
    unpair();
}

/* How one end goes, and what the other sees. */
static void test_close(void **state)
{
    (void)state;
    static const struct {
        bool reset, unread;
        const char *then;
        int error;
    } ways[] = { { false, false, "end", 0 },
                 { true, false, "ECONNRESET", ECONNRESET },
                 { false, true, "ECONNRESET", ECONNRESET } };
    for (size_t i = 0; i < MZ_COUNT(ways); i++) {
        pair(100);
        assert_int_equal(write_text(0, "said"), 4);
        if (ways[i].unread)
            assert_int_equal(write_text(1, "not heard"), 9);
        mz_wire_close(end[0], ways[i].reset);
        end[0] = NULL;
        assert_true(events_of(1) & MZ_IO_END);
        assert_int_equal(mz_wire_error(end[1]), ways[i].error);
        assert_string_equal(read_text(1), "said");
        assert_string_equal(read_text(1), ways[i].then);
        assert_int_equal(write_text(1, "anybody"), -1);
        assert_int_equal(errno, ways[i].error ? ECONNRESET : EPIPE);
        unpair();
    }
}

static void test_watched_late(void **state)
{
    (void)state;
    pair(100);
    mz_wire_watch(end[1], NULL);
    write_text(0, "early");
    mz_wire_shutdown(end[0]);
    assert_int_equal(events_of(1), 0);
    mz_wire_watch(end[1], &told[1].io);
    assert_int_equal(events_of(1), MZ_IO_READ | MZ_IO_WRITE | MZ_IO_END);
    unpair();
}

/* ---- connections on it ---- */

struct side {
    struct mz_conn *c;
    struct mz_buf got;
    bool connected, closed, end;
    int error;
};

static void side_data(struct mz_conn *c, void *arg, bool last)
{
    struct side *s = arg;
    mz_buf_move_all(&s->got, mz_conn_in(c));
    s->end |= last;
}

static void side_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct side *s = arg;
    s->connected |= ev == MZ_CONN_CONNECTED;
    s->closed |= ev != MZ_CONN_CONNECTED;
    s->error = c->error;
}

static const struct mz_conn_ops side_ops = { .data = side_data, .event = side_event };
static struct side server;
static bool refuse;

static struct mz_wire *host_answer(struct mz_wire_host *h, const struct mz_wire_call *call)
{
    (void)h;
    struct mz_wire *v[2];
    mz_wire_pair(4096, v);
    if (refuse) {
        mz_wire_refuse(v[1]);
        return v[0];
    }
    server.c = mz_conn_accepted_wire(loop, v[1], call->to, mz_addr_internal_client(),
                                     mz_transport_raw(), &side_ops, &server);
    mz_conn_set_half_close(server.c, true);
    return v[0];
}

static void turns(const bool *until)
{
    for (int i = 0; i < 1000 && !*until; i++)
        mz_loop_turn(loop, 0);
    assert_true(*until);
}

static void test_connections(void **state)
{
    (void)state;
    static struct mz_wire_host host = { host_answer };
    struct side client = { 0 };
    struct mz_addr to;
    struct mz_err err;
    char block[3000];
    loop = mz_loop_create("test");
    server = (struct side){ 0 };
    mz_buf_init(&client.got);
    mz_buf_init(&server.got);
    assert_true(mz_addr_internal(MZ_STR("here"), MZ_STR("1.2.3.4:5"), &to, &err));
    struct mz_conn_connect_opts o = { .to = &to };
    client.c = mz_conn_connect(loop, &o, mz_transport_raw(), &side_ops, &client);
    turns(&client.closed); /* nobody answers */
    assert_int_equal(client.error, EINVAL);
    mz_loop_set_wires(loop, &host);
    o.hops = MZ_WIRE_HOPS_MAX;
    client.closed = false;
    client.c = mz_conn_connect(loop, &o, mz_transport_raw(), &side_ops, &client);
    turns(&client.closed);
    assert_int_equal(client.error, ELOOP);
    o.hops = 0;
    refuse = true;
    client.closed = false;
    client.c = mz_conn_connect(loop, &o, mz_transport_raw(), &side_ops, &client);
    turns(&client.closed);
    assert_true(client.error == EINVAL && !client.connected);
    refuse = false;
    client = (struct side){ .got = client.got };
    client.c = mz_conn_connect(loop, &o, mz_transport_raw(), &side_ops, &client);
    mz_conn_set_half_close(client.c, true);
    memset(block, 'x', sizeof(block));
    for (int i = 0; i < 100; i++) {
        mz_buf_append(mz_conn_out(client.c), block, sizeof(block));
        mz_conn_written(client.c, i == 99);
    }
    turns(&server.end);
    assert_true(client.connected);
    assert_int_equal(mz_buf_len(&server.got), 300000);
    assert_int_equal(client.c->tx_bytes, 300000);
    mz_buf_append(mz_conn_out(server.c), "bye", 3);
    mz_conn_written(server.c, true);
    turns(&client.closed);
    assert_int_equal(mz_buf_len(&client.got), 3);
    turns(&server.closed);
    mz_buf_fini(&client.got);
    mz_buf_fini(&server.got);
    mz_loop_destroy(loop);
    mz_slice_thread_trim();
    assert_int_equal(conns_held(), 0);
    mz_addr_paths_free();
}

static void test_names(void **state)
{
    (void)state;
    struct mz_addr a, b, c;
    struct mz_err err;
    struct mz_str listener, endpoint;
    char text[MZ_ADDR_TEXT], name[MZ_ADDR_TEXT];
    assert_true(mz_addr_internal(MZ_STR("a/b"), MZ_STR("c"), &a, &err));
    assert_true(mz_addr_internal(MZ_STR("a/b"), MZ_STR("c"), &b, &err));
    assert_true(mz_addr_internal(MZ_STR("a"), MZ_STR("b/c"), &c, &err));
    mz_addr_text(&a, text);
    assert_string_equal(text, "envoy://a/b/c");
    assert_true(mz_addr_eq(&a, &b) && !mz_addr_eq(&a, &c)); /* though they read alike */
    mz_addr_internal_parts(&a, &listener, &endpoint);
    assert_true(mz_str_eq(listener, MZ_STR("a/b")) && mz_str_eq(endpoint, MZ_STR("c")));
    b = mz_addr_internal_listener(&a);
    assert_true(mz_addr_internal(MZ_STR("a/b"), MZ_STR(""), &c, &err) && mz_addr_eq(&b, &c));
    assert_false(mz_addr_is_ip(&a) || mz_addr_is_loopback(&a) || mz_addr_is_any(&a));
    memset(name, 'n', sizeof(name));
    assert_false(mz_addr_internal((struct mz_str){ name, sizeof(name) }, MZ_STR(""), &a, &err));
    assert_false(mz_addr_internal(MZ_STR(""), MZ_STR("x"), &a, &err));
    mz_addr_paths_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_buffers_move),
        cmocka_unit_test(test_half_close),   cmocka_unit_test(test_close),
        cmocka_unit_test(test_watched_late), cmocka_unit_test(test_connections),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
