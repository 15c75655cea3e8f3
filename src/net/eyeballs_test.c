/* Happy eyeballs over loopback (U3): refused, silent, reset and cancelled attempts, of plain and of slow transports. */
#include "net/eyeballs.h"

#include "base/clock.h"
#include "base/test.h"
#include "net/socket.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define V4 "1.2.3."
#define V6 "2001:db8::"

/* ---- order ---- */

static const struct {
    int first;
    uint32_t count;
    const char *in, *out; /* 4, 6 and U: a family each; the digit says which of them */
} orders[] = {
    { AF_UNSPEC, 1, "41", "41" },
    { AF_UNSPEC, 1, "41 42 43", "41 42 43" },
    { AF_UNSPEC, 1, "61 62 41 42", "61 41 62 42" },
    { AF_UNSPEC, 1, "61 62 63 41", "61 41 62 63" },
    { AF_UNSPEC, 1, "41 61 62 63 42", "41 61 42 62 63" },
    { AF_INET, 1, "61 62 41 42", "41 61 42 62" },
    { AF_INET, 2, "61 62 63 41 42 43", "41 42 61 43 62 63" },
    { AF_INET6, 3, "41 42 61 62 63 64", "61 62 63 41 64 42" },
    { AF_INET6, 2, "41 42", "41 42" },
    { AF_UNSPEC, 4000000000, "61 41 62", "61 62 41" },
    { AF_UNIX, 1, "41 U1 61 42 U2", "U1 41 61 U2 42" },
    { AF_NETLINK, 3, "61 41 62 42", "61 41 62 42" }, /* a family that none has */
    { AF_UNSPEC, 2, "41 U1 42 43 61", "41 42 U1 61 43" },
};

static size_t parse(const char *text, struct mz_addr *v)
{
    size_t n = 0;
    struct mz_err err;
    for (; *text; text += 2 + (text[2] == ' ')) {
        char digit[2] = { text[1], 0 }, path[8] = "@x";
        struct mz_str ip = mz_str_c(text[0] == '4' ? V4 : V6);
        char full[32];
        memcpy(full, ip.p, ip.n);
        memcpy(full + ip.n, digit, 2);
        path[1] = text[1];
        if (text[0] == 'U')
            assert_true(mz_addr_unix(mz_str_c(path), &v[n++], &err));
        else
            assert_true(mz_addr_parse_ip(mz_str_c(full), 80, &v[n++]));
    }
    return n;
}

static void test_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(orders); i++) {
        struct mz_addr in[8], want[8];
        uint32_t order[8];
        size_t n = parse(orders[i].in, in);
        assert_int_equal(parse(orders[i].out, want), n);
        mz_eyeballs_order(in, n, orders[i].first, orders[i].count, order);
        for (size_t k = 0; k < n; k++)
            assert_true(mz_addr_eq(&in[order[k]], &want[k]));
    }
}

/* ---- the rig: what becomes of an attempt is said by its port; the clock is ours ---- */

enum fate {
    GOOD,    /* a listener takes it */
    REFUSED, /* nobody listens */
    AT_ONCE, /* connect() itself fails */
    SILENT,  /* the SYN gets no answer */
};
#define FIRST_PORT 10001
#define MOST       8
static struct {
    struct mz_conn *c;
    unsigned connected, closed;
    enum mz_conn_event last;
    int error;
    bool at_once, close_in_event, end;
    size_t got;
    char failure[64];
    unsigned story_attempt, story_n;
    char story[512];
} owner;
static struct mz_loop *loop;
static struct mz_sys sys;
static enum fate fates[MOST];
static size_t n_fates;
static unsigned n_tried, n_another, transports;
static int good_fd, full_fd, filler[2], taken[MOST];
static unsigned n_taken;
static struct mz_arena *arena;
static uint64_t fake_us;

static uint64_t fake_now(void)
{
    return fake_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static int to_listener(int fd, int listener)
{
    struct mz_addr a;
    struct sockaddr_storage at;
    assert_true(mz_socket_local(listener, &a));
    socklen_t len = mz_addr_sockaddr(&a, &at);
    return mz_sys_system.connect(fd, (struct sockaddr *)&at, len);
}

static int fate_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    size_t i = ntohs(((const struct sockaddr_in *)(const void *)to)->sin_port) - FIRST_PORT;
    (void)len;
    assert_true(i == n_tried && i < n_fates);
    n_tried++;
    switch (fates[i]) {
    case GOOD:
        return to_listener(fd, good_fd);
    case SILENT:
        return to_listener(fd, full_fd);
    case AT_ONCE:
        errno = ENETUNREACH;
        return -1;
    default: { /* a port that was free a moment ago */
        struct sockaddr_in none = { .sin_family = AF_INET, .sin_port = htons(1) };
        none.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return mz_sys_system.connect(fd, (struct sockaddr *)&none, sizeof(none));
    }
    }
}

static int listen_here(int backlog)
{
    struct mz_addr a;
    struct mz_err err;
    assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &a));
    int fd = mz_socket_listen(&a, &(struct mz_listen_opts){ .backlog = backlog }, &err);
    assert_true(fd >= 0);
    return fd;
}

/* A listener that nobody empties takes one more than its backlog; the kernel then drops SYNs. */
static void fill(void)
{
    full_fd = listen_here(1);
    for (size_t i = 0; i < MZ_COUNT(filler); i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(to_listener(filler[i], full_fd), 0);
    }
}

/* ---- a transport with a handshake: the server's first byte; '!' is a failed one ---- */

struct shaken {
    struct mz_transport base;
    bool ready, failed;
};

static enum mz_io_status shaken_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    struct shaken *s = (struct shaken *)(void *)t;
    char bytes[64];
    (void)max;
    ssize_t n = read(t->conn->io.fd, bytes, s->ready ? sizeof(bytes) : 1);
    if (n <= 0)
        return n == 0 ? MZ_IO_EOF : errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
    if (s->ready) {
        mz_buf_append(in, bytes, (size_t)n);
        return MZ_IO_OK;
    }
    s->failed = bytes[0] == '!';
    s->ready = !s->failed;
    errno = EPROTO;
    return s->failed ? MZ_IO_FAIL : MZ_IO_OK;
}

static enum mz_io_status shaken_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    (void)end;
    struct mz_str all = mz_buf_linearize(out, mz_buf_len(out));
    if (!((struct shaken *)(void *)t)->ready)
        return MZ_IO_AGAIN;
    assert_int_equal(write(t->conn->io.fd, all.p, all.n), all.n);
    mz_buf_drain(out, all.n);
    return MZ_IO_OK;
}

static bool shaken_ready(const struct mz_transport *t)
{
    return ((const struct shaken *)(const void *)t)->ready;
}

static struct mz_str shaken_failure(const struct mz_transport *t)
{
    return ((const struct shaken *)(const void *)t)->failed ? MZ_STR("bad handshake") : MZ_STR("");
}

static void shaken_destroy(struct mz_transport *t)
{
    transports--;
    mz_free(MZ_MEM_CONN, t);
}

static const struct mz_transport_ops shaken_ops = { .name = "shaken",
                                                    .read = shaken_read,
                                                    .write = shaken_write,
                                                    .ready = shaken_ready,
                                                    .failure = shaken_failure,
                                                    .destroy = shaken_destroy };

static struct mz_transport *shaken_create(const struct mz_transport_factory *f,
                                          const struct mz_transport_opts *o)
{
    (void)f;
    (void)o;
    struct shaken *s = mz_new0(MZ_MEM_CONN, struct shaken);
    s->base.ops = &shaken_ops;
    transports++;
    return &s->base;
}

static void no_destroy(struct mz_transport_factory *f)
{
    (void)f;
}
static struct mz_transport_factory shaken = {
    .name = "shaken", .create = shaken_create, .destroy = no_destroy, .refs = 1
};

/* ---- the owner ---- */

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    (void)arg;
    assert_ptr_equal(c, owner.c);
    assert_int_equal(owner.connected, 1);
    owner.got += mz_buf_len(mz_conn_in(c));
    owner.end |= end;
    mz_buf_drain(mz_conn_in(c), mz_buf_len(mz_conn_in(c)));
}

static void keep(char *to, size_t room, struct mz_str from)
{
    assert_true(from.n < room);
    if (from.n)
        memcpy(to, from.p, from.n);
    to[from.n] = 0;
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    (void)arg;
    assert_int_equal(owner.closed, 0);
    owner.last = ev;
    if (ev == MZ_CONN_CONNECTED) {
        struct mz_eyeballs_story s = mz_eyeballs_story(c, arena);
        owner.connected++;
        owner.story_attempt = s.attempt;
        owner.story_n = s.n;
        keep(owner.story, sizeof(owner.story), s.others);
        if (owner.close_in_event)
            mz_conn_close(c, MZ_CLOSE_NOW, "test", 0);
        return;
    }
    owner.closed++;
    owner.error = c->error;
    owner.at_once = c->failed_at_once;
    if (c->transport->ops->failure)
        keep(owner.failure, sizeof(owner.failure), c->transport->ops->failure(c->transport));
    owner.c = NULL;
}

static const struct mz_conn_ops ops = { .data = on_data, .event = on_event };

static void another(void *arg)
{
    assert_ptr_equal(arg, &owner);
    n_another++;
}

static void rig_start(const enum fate *v, size_t n, struct mz_transport_factory *f)
{
    struct mz_addr addrs[MOST];
    memset(&owner, 0, sizeof(owner));
    n_tried = n_another = n_taken = 0;
    memcpy(fates, v, n * sizeof(*v));
    n_fates = n;
    fake_us = 1000000;
    mz_clock = &fake_clock;
    loop = mz_loop_create("test");
    sys = mz_sys_system;
    sys.connect = fate_connect;
    mz_loop_set_sys(loop, &sys);
    arena = mz_arena_create(MZ_MEM_MISC);
    good_fd = listen_here(MOST);
    fill();
    for (size_t i = 0; i < n; i++)
        assert_true(mz_addr_parse_ip(MZ_STR("192.0.2.1"), (uint16_t)(FIRST_PORT + i), &addrs[i]));
    const struct mz_eyeballs_opts o = { .v = addrs,
                                        .n = n,
                                        .first_count = 1,
                                        .transport = f,
                                        .another = another,
                                        .another_arg = &owner };
    owner.c = mz_eyeballs_connect(loop, &o, &ops, NULL);
    assert_int_equal(owner.connected + owner.closed, 0); /* nothing from inside the call */
    assert_int_equal(n_tried, 1);
}

static void turns(unsigned n)
{
    while (n--)
        mz_loop_turn(loop, 1);
}

static void wait_ms(unsigned ms)
{
    fake_us += (uint64_t)ms * 1000;
    turns(5);
}

static int take(void) /* the server's end of the next connection */
{
    int fd = accept(good_fd, NULL, NULL);
    assert_true(fd >= 0);
    return taken[n_taken++] = fd;
}

static void rig_stop(void)
{
    if (owner.c)
        mz_conn_close(owner.c, MZ_CLOSE_NOW, NULL, 0);
    turns(2);
    assert_int_equal(owner.closed, 1);
    assert_int_equal(n_another, n_tried ? n_tried - 1 : 0);
    assert_int_equal(transports, 0);
    assert_int_equal(shaken.refs, 1);
    for (unsigned i = 0; i < n_taken; i++)
        close(taken[i]);
    close(good_fd);
    close(full_fd);
    for (size_t i = 0; i < MZ_COUNT(filler); i++)
        close(filler[i]);
    mz_arena_destroy(arena);
    mz_loop_destroy(loop);
    mz_slice_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_CONN].objects, 0);
    mz_clock = &mz_clock_system;
}

#define START(factory, ...)                                                                        \
    rig_start((const enum fate[]){ __VA_ARGS__ },                                                  \
              sizeof((const enum fate[]){ __VA_ARGS__ }) / sizeof(enum fate), (factory))

static void assert_won(unsigned attempt)
{
    assert_int_equal(owner.connected, 1);
    assert_int_equal(owner.closed, 0);
    assert_int_equal(owner.story_attempt, attempt);
    assert_int_equal(owner.story_n, n_fates);
    assert_int_equal(mz_addr_port(&owner.c->remote), FIRST_PORT + attempt - 1);
    assert_int_not_equal(owner.c->local.len, 0);
    assert_null(owner.c->race);
}

/* Bytes go both ways over what was won, and its end is seen. */
static void assert_carries(int peer)
{
    char got[8] = "";
    struct mz_buf b;
    size_t before = owner.got;
    mz_buf_init(&b);
    mz_buf_append(&b, "ping", 4);
    mz_conn_write(owner.c, &b, false);
    turns(2);
    assert_int_equal(read(peer, got, sizeof(got)), 4);
    assert_int_equal(write(peer, "pong!", 5), 5);
    turns(3);
    assert_int_equal(owner.got - before, 5);
    shutdown(peer, SHUT_WR);
    turns(3);
    assert_true(owner.end);
    assert_int_equal(owner.last, MZ_CONN_REMOTE_CLOSE);
}

static bool ended(int peer) /* the proxy's end of it is closed */
{
    char c;
    return recv(peer, &c, 1, MSG_DONTWAIT) == 0;
}

/* ---- cases ---- */

static void test_first_answers(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), GOOD, GOOD);
    int peer = take();
    turns(3);
    assert_won(1);
    assert_string_equal(owner.story, "it was tried first");
    wait_ms(1000);
    assert_int_equal(n_tried, 1);
    assert_carries(peer);
    rig_stop();
}

static void test_failures_are_passed_at_once(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), REFUSED, AT_ONCE, REFUSED, GOOD, GOOD);
    turns(10); /* the clock stands still */
    assert_int_equal(n_tried, 4);
    assert_won(4);
    assert_string_equal(owner.story, "192.0.2.1:10001 failed: Connection refused, "
                                     "192.0.2.1:10002 failed: Network is unreachable, "
                                     "192.0.2.1:10003 failed: Connection refused");
    assert_carries(take());
    rig_stop();
}

static void test_silence_costs_300_ms_each(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), SILENT, SILENT, GOOD);
    wait_ms(299);
    assert_int_equal(n_tried, 1);
    wait_ms(1);
    assert_int_equal(n_tried, 2);
    wait_ms(299);
    assert_int_equal(n_tried, 2);
    wait_ms(1);
    assert_int_equal(n_tried, 3);
    assert_won(3);
    assert_string_equal(owner.story, "192.0.2.1:10001 had not answered after 600 ms, "
                                     "192.0.2.1:10002 had not answered after 300 ms");
    assert_carries(take());
    rig_stop();
}

/* A failure starts the next attempt and the 300 ms anew. */
static void test_failure_after_silence(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), SILENT, REFUSED, SILENT, GOOD);
    wait_ms(300);
    assert_int_equal(n_tried, 3);
    wait_ms(299);
    assert_int_equal(n_tried, 3);
    wait_ms(1);
    assert_won(4);
    rig_stop();
}

static void test_all_fail(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), AT_ONCE, REFUSED, REFUSED);
    turns(10);
    assert_int_equal(n_tried, 3);
    assert_int_equal(owner.last, MZ_CONN_REMOTE_CLOSE);
    assert_int_equal(owner.error, ECONNREFUSED);
    assert_false(owner.at_once);
    rig_stop();
    START(mz_transport_factory_raw(), REFUSED, AT_ONCE);
    turns(10);
    assert_int_equal(owner.error, ENETUNREACH); /* of the last */
    assert_true(owner.at_once);
    rig_stop();
}

/* The last attempt to fail decides, not the last to begin. */
static void test_silent_ones_may_still_win(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), SILENT, REFUSED);
    wait_ms(300);
    assert_int_equal(n_tried, 2);
    wait_ms(5000);
    assert_int_equal(owner.connected + owner.closed, 0);
    rig_stop(); /* the owner's connect timeout */
    assert_int_equal(owner.last, MZ_CONN_LOCAL_CLOSE);
}

static void test_cancelled(void **state)
{
    (void)state;
    for (unsigned waits = 0; waits < 4; waits++) {
        START(mz_transport_factory_raw(), SILENT, SILENT, SILENT, GOOD, GOOD);
        for (unsigned i = 0; i < waits && i < 2; i++)
            wait_ms(300);
        if (waits == 3) { /* the fourth's connect stands, nobody was told yet */
            fake_us += 300000;
            mz_loop_turn(loop, 0);
        }
        unsigned before = n_tried;
        if (owner.c)
            mz_conn_close(owner.c, MZ_CLOSE_NOW, "cancelled", 0);
        assert_int_equal(owner.last, MZ_CONN_LOCAL_CLOSE);
        wait_ms(2000);
        assert_int_equal(n_tried, before);
        rig_stop();
    }
}

static void test_closed_in_connected(void **state)
{
    (void)state;
    START(mz_transport_factory_raw(), REFUSED, GOOD);
    owner.close_in_event = true;
    int peer;
    turns(10);
    peer = take();
    assert_int_equal(owner.last, MZ_CONN_LOCAL_CLOSE);
    assert_int_equal(owner.connected, 1);
    assert_true(ended(peer));
    rig_stop();
}

/* The handshake belongs to the race: who stands but does not shake hands has not won. */
static void test_handshakes_race(void **state)
{
    (void)state;
    START(&shaken, GOOD, GOOD);
    int first = take();
    wait_ms(299);
    assert_int_equal(owner.connected, 0);
    wait_ms(1);
    int second = take();
    turns(3);
    assert_int_equal(owner.connected, 0);
    assert_int_equal(write(second, "Hhello", 6), 6); /* more behind the handshake */
    turns(5);
    assert_won(2);
    assert_int_equal(owner.got, 5);
    assert_true(ended(first));
    assert_carries(second);
    rig_stop();
}

static void test_failed_handshake_is_passed_at_once(void **state)
{
    (void)state;
    START(&shaken, GOOD, GOOD);
    int first = take();
    turns(2);
    assert_int_equal(write(first, "!", 1), 1);
    turns(3);
    assert_int_equal(n_tried, 2);
    int second = take();
    assert_int_equal(write(second, "H", 1), 1);
    turns(3);
    assert_won(2);
    assert_carries(second);
    rig_stop();
}

static void test_all_handshakes_fail(void **state)
{
    (void)state;
    START(&shaken, GOOD, GOOD);
    int first = take();
    turns(2);
    shutdown(first, SHUT_WR); /* an end within the handshake */
    turns(3);
    int second = take();
    assert_int_equal(write(second, "!", 1), 1);
    turns(3);
    assert_int_equal(owner.last, MZ_CONN_REMOTE_CLOSE);
    assert_string_equal(owner.failure, "bad handshake");
    assert_int_equal(owner.connected, 0);
    rig_stop();
}

/* What was written and asked for before it was clear which attempt wins holds for the winner. */
static void test_early_owner(void **state)
{
    (void)state;
    char got[8] = "";
    struct mz_buf b;
    START(&shaken, REFUSED, GOOD);
    mz_buf_init(&b);
    mz_buf_append(&b, "early", 5);
    mz_conn_write(owner.c, &b, false);
    mz_conn_read_disable(owner.c, true);
    turns(5);
    int peer = take();
    assert_int_equal(write(peer, "Hhello", 6), 6);
    turns(5);
    assert_won(2);
    assert_int_equal(read(peer, got, sizeof(got)), 5);
    assert_int_equal(owner.got, 0);
    mz_conn_read_disable(owner.c, false);
    turns(3);
    assert_int_equal(owner.got, 5);
    assert_carries(peer);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_first_answers),
        cmocka_unit_test(test_failures_are_passed_at_once),
        cmocka_unit_test(test_silence_costs_300_ms_each),
        cmocka_unit_test(test_failure_after_silence),
        cmocka_unit_test(test_all_fail),
        cmocka_unit_test(test_silent_ones_may_still_win),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_closed_in_connected),
        cmocka_unit_test(test_handshakes_race),
        cmocka_unit_test(test_failed_handshake_is_passed_at_once),
        cmocka_unit_test(test_all_handshakes_fail),
        cmocka_unit_test(test_early_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
