#include "listener/listener.h"

#include "base/test.h"
#include "base/vec.h"
#include "listener/listener_priv.h"
#include "proto/mapper.h"
#include "runtime/runtime.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a terminal filter that writes back, and one that stops until told ---- */

static unsigned built, destroyed, drained;
static char cfg_object;
static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)f;
    (void)err;
    built++;
    return &cfg_object;
}

static void config_end(void *cfg)
{
    assert_ptr_equal(cfg, &cfg_object);
    built--;
}

static enum mz_net_flow back(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    (void)end;
    mz_conn_write(f->down->conn, data, false);
    return MZ_NET_STOP;
}

static void drain(struct mz_net_filter *f)
{
    drained++;
    mz_conn_close(f->down->conn, MZ_CLOSE_FLUSH, "drained", 0);
}

static void destroy(struct mz_net_filter *f)
{
    (void)f;
    destroyed++;
}

static const struct mz_net_filter_type echo = {
    .name = "echo",
    .config_type = "envoy.extensions.filters.network.echo.v3.Echo",
    .terminal = true,
    .size = sizeof(struct mz_net_filter),
    .config_build = build,
    .config_destroy = config_end,
    .on_data = back,
    .drain = drain,
    .destroy = destroy,
};

static const struct mz_net_filter_type *find(struct mz_str type)
{
    return mz_str_eq(type, mz_str_c(echo.config_type)) ? &echo : NULL;
}

/* ---- the rig: one worker whose loop is this thread's ---- */

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_arena *arena;
static struct mz_proto_ctx ctx;
static struct mz_process process;
static struct mz_worker worker;
static struct mz_factory factory;
static struct mz_listener_manager *manager;
static struct mz_sys sys;
static int accept_errno;

static int faulty_accept(int fd, struct sockaddr *a, socklen_t *n)
{
    if (!accept_errno)
        return mz_sys_system.accept(fd, a, n);
    errno = accept_errno;
    return -1;
}

static int setup(void **state)
{
    (void)state;
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    arena = mz_arena_create(MZ_MEM_CONFIG);
    ctx = (struct mz_proto_ctx){ .arena = arena };
    worker = (struct mz_worker){ .loop = loop, .process = &process };
    factory = (struct mz_factory){
        .stats = stats, .process = &process, .proto = &ctx, .workers = 1, .net_filter = find
    };
    manager = mz_listener_manager_create(&factory, &worker, 1);
    sys = mz_sys_system;
    sys.accept = faulty_accept;
    accept_errno = 0;
    mz_loop_set_sys(loop, &sys);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_listener_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_arena_destroy(arena);
    assert_int_equal(built, 0);
    return 0;
}

#define FILTER                                                                                     \
    "{name: e, typed_config: {'@type': "                                                           \
    "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}"
#define ADDRESS "address: {socket_address: {address: 127.0.0.1, port_value: 0}}, "

static bool add(const char *yaml, bool bind, struct mz_err *err)
{
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Listener__descriptor, &m, err))
        fail_msg("%s: %s", err->path, err->msg);
    return mz_listener_manager_add(manager, (const pb_Listener *)m, MZ_STR("bytes"), false, bind,
                                   &factory, err);
}

static uint16_t port(void)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_listener_manager_text(manager, &b);
    struct mz_str s = mz_buf_linearize(&b, mz_buf_len(&b));
    uint64_t n = 0;
    ptrdiff_t colon = mz_str_rchr(s, ':');
    assert_true(colon > 0 &&
                mz_str_u64((struct mz_str){ s.p + colon + 1, s.n - (size_t)colon - 2 }, &n) &&
                n > 0);
    mz_buf_fini(&b);
    return (uint16_t)n;
}

static int dial(void)
{
    struct mz_addr a;
    mz_addr_parse_ip(MZ_STR("127.0.0.1"), port(), &a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, &a.sa, a.len), 0);
    return fd;
}

static void turns(int n)
{
    while (n--)
        mz_loop_turn(loop, 2);
}

static uint64_t value(const char *name)
{
    uint64_t v = 0;
    (void)mz_stats_find(stats, mz_str_c(name), &v);
    return v;
}

static void test_serve_drain_stop(void **state)
{
    (void)state;
    struct mz_err err;
    assert_true(add("{name: one, stat_prefix: s, " ADDRESS "filter_chains: [{filters: [" FILTER
                    "]}]}",
                    true, &err));
    mz_listener_manager_start(manager);
    turns(1);
    destroyed = drained = 0;
    int fd = dial();
    char text[8];
    assert_int_equal(write(fd, "abc", 3), 3);
    turns(5);
    assert_int_equal(read(fd, text, sizeof(text)), 3);
    assert_int_equal(value("listener.s.downstream_cx_active"), 1);
    assert_int_equal(value("listener.s.worker_0.downstream_cx_total"), 1);
    assert_int_equal(mz_listener_manager_connections(manager), 1);
    mz_listener_manager_drain(manager, MZ_DRAIN_INBOUND); /* not inbound */
    turns(2);
    assert_int_equal(drained, 0);
    mz_listener_manager_drain(manager, MZ_DRAIN_ALL);
    turns(3);
    assert_int_equal(drained, 1);
    assert_int_equal(destroyed, 1);
    assert_int_equal(read(fd, text, sizeof(text)), 0);
    assert_int_equal(value("listener.s.downstream_cx_active"), 0);

    int waiting = dial(); /* in the backlog when the listener stops: still taken */
    mz_listener_manager_stop(manager, MZ_DRAIN_ALL);
    turns(3);
    assert_int_equal(value("listener.s.downstream_cx_total"), 2);
    assert_int_equal(value("listener_manager.listener_stopped"), 1);
    mz_listener_manager_drain(manager, MZ_DRAIN_ALL);
    turns(3);
    close(fd);
    close(waiting);
}

/* No descriptor left: a pause, not a spin; then it goes on (E09). */
static void test_emfile(void **state)
{
    (void)state;
    struct mz_err err;
    assert_true(add("{name: one, stat_prefix: s, " ADDRESS "filter_chains: [{filters: [" FILTER
                    "]}]}",
                    true, &err));
    mz_listener_manager_start(manager);
    turns(1);
    accept_errno = EMFILE;
    int fd = dial();
    turns(10);
    assert_int_equal(value("listener.s.accept_paused"), 1);
    accept_errno = 0;
    for (int i = 0; i < 100 && value("listener.s.downstream_cx_total") == 0; i++)
        mz_loop_turn(loop, 20);
    assert_int_equal(value("listener.s.downstream_cx_total"), 1);
    mz_listener_manager_drain(manager, MZ_DRAIN_ALL);
    turns(3);
    close(fd);
}

static void test_no_chain(void **state)
{
    (void)state;
    struct mz_err err;
    char c;
    assert_true(add("{name: one, stat_prefix: s, " ADDRESS
                    "filter_chains: [{filter_chain_match: {destination_port: 1}, filters: [" FILTER
                    "]}]}",
                    true, &err));
    mz_listener_manager_start(manager);
    turns(1);
    int fd = dial();
    turns(5);
    assert_true(read(fd, &c, 1) <= 0);
    assert_int_equal(value("listener.s.no_filter_chain_match"), 1);
    assert_int_equal(mz_listener_manager_connections(manager), 0);
    close(fd);
}

static const struct {
    const char *yaml, *path, *msg;
} bad[] = {
    { "{name: x, filter_chains: [{filters: []}]}", "",
      "error adding listener named 'x': address is necessary" },
    { "{name: x, " ADDRESS "}", "", "no filter chains specified" },
    { "{name: x, address: {socket_address: {address: nope, port_value: 1}}, filter_chains: "
      "[{filters: []}]}",
      "address.socket_address", "malformed IP address: nope" },
    { "{name: x, " ADDRESS "filter_chains: [{filters: [" FILTER ", " FILTER "]}]}",
      "filter_chains[0].filters[0]",
      "terminal filter named e of type echo must be the last filter in a network filter chain." },
    { "{name: x, " ADDRESS "filter_chains: [{filters: []}, {filters: []}]}",
      "filter_chains[1].filter_chain_match",
      "filter chain '' has the same matching rules defined as ''" },
    { "{name: x, " ADDRESS "filter_chains: [{filters: [{name: f}]}]}",
      "filter_chains[0].filters[0]",
      "Didn't find a registered implementation for 'f' with type URL: ''" },
    { "{name: x, " ADDRESS "listener_filters: [{name: f}], filter_chains: [{filters: []}]}",
      "listener_filters[0]", "Didn't find a registered implementation for 'f'" },
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        struct mz_err err = { .path = "" };
        assert_false(add(bad[i].yaml, false, &err));
        assert_string_equal(err.msg, bad[i].msg);
        assert_string_equal(err.path, bad[i].path);
    }
}

static void test_same_address(void **state)
{
    (void)state;
    struct mz_err err;
#define AT                                                                                         \
    "address: {socket_address: {address: 127.0.0.1, port_value: 81}}, filter_chains: [{filters: "  \
    "[]}]}"
    assert_true(add("{name: a, " AT, false, &err));
    assert_true(add("{name: a, " AT, false, &err)); /* replaces the first */
    assert_false(add("{name: c, bind_to_port: false, " AT, false, &err));
    assert_false(add("{name: b, " AT, false, &err));
    assert_string_equal(
        err.msg,
        "error adding listener: 'b' has duplicate address '127.0.0.1:81' as existing listener 'a'");
}

/* Acceptors by address against a plain list. */
static void test_by_address(void **state)
{
    (void)state;
    enum { N = 300 };
    static struct mz_acceptor v[N];
    struct mz_worker w = { .loop = loop };
    struct mz_rand *r = mz_loop_rand(loop);
    struct mz_addr a;
    memset(v, 0, sizeof(v));
    for (unsigned i = 0; i < N; i++) {
        char ip[32];
        (void)snprintf(ip, sizeof(ip), i % 2 ? "10.0.0.%u" : "fd00::%u", i / 2 % 100);
        v[i].worker = &w;
        assert_true(mz_addr_parse_ip(mz_str_c(ip), (uint16_t)(1 + i / 200), &v[i].local));
    }
    for (unsigned step = 0; step < 20000; step++) {
        struct mz_acceptor *x = &v[mz_rand_below(r, N)], *y = &v[mz_rand_below(r, N)];
        if (mz_rand_below(r, 2))
            mz_acceptors_put(x);
        else
            mz_acceptors_del(x);
        assert_ptr_equal(mz_acceptors_find(&w, &y->local), y->started ? y : NULL);
    }
    for (unsigned i = 0; i < N; i++)
        mz_acceptors_del(&v[i]);
    assert_null(w.acceptors);
    assert_true(mz_addr_parse_ip(MZ_STR("::"), 7, &v[0].local));
    mz_acceptors_put(&v[0]);
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), 7, &a));
    assert_null(mz_acceptors_find(&w, &a));
    v[0].v4_compat = true;
    assert_ptr_equal(mz_acceptors_find(&w, &a), &v[0]);
    assert_true(mz_addr_parse_ip(MZ_STR("0.0.0.0"), 7, &v[1].local));
    mz_acceptors_put(&v[1]);
    assert_ptr_equal(mz_acceptors_find(&w, &a), &v[1]);
    v[2].local = v[1].local; /* an update replaces */
    mz_acceptors_put(&v[2]);
    assert_ptr_equal(mz_acceptors_find(&w, &a), &v[2]);
    mz_acceptors_del(&v[1]);
    assert_ptr_equal(mz_acceptors_find(&w, &a), &v[2]);
    mz_acceptors_del(&v[2]);
    mz_acceptors_del(&v[0]);
    assert_null(w.acceptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_serve_drain_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_emfile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_by_address, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
