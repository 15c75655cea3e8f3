/*
 * Active checks (U6): what results make of a host and when it is asked again, against a fake clock and a probe that only
 * records; then real probes against a socket, given up at each point at which they wait.
 */
#include "base/clock.h"
#include "base/test.h"
#include "upstream/health/check.h"
#include "upstream/stats.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t fake_us = 1000000;
static uint64_t fake_now(void)
{
    return fake_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_cluster *cluster; /* reference */
static bool ready;
static unsigned started, dropped;

static void fake_start(struct check_session *s)
{
    (void)s;
    started++;
}

static void fake_drop(struct check_session *s)
{
    (void)s;
    dropped++;
}
static const struct check_probe_type fake_probe = { 1, "TCP", fake_start, fake_drop };

static void is_ready(void *arg)
{
    (void)arg;
    ready = true;
}

static bool add(const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m = NULL;
    bool ok =
        mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               false, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void rig_start(void)
{
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    ready = false;
    started = dropped = 0;
}

#define CHECK                                                                                      \
    "timeout: 1s, interval: 10s, unhealthy_interval: 20s, unhealthy_edge_interval: 2s, "           \
    "healthy_edge_interval: 3s, no_traffic_interval: 40s, no_traffic_healthy_interval: 50s, "

static struct mz_cluster *begin(const char *check, unsigned port, const char *more)
{
    char yaml[2048], text[512];
    struct mz_err err;
    (void)snprintf(yaml, sizeof(yaml),
                   "name: x\nhealth_checks: [{%s}]\n%sload_assignment: {cluster_name: x, "
                   "endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
                   "127.0.0.1, port_value: %u}}}}]}]}\n",
                   check, more, port);
    if (!add(yaml, &err))
        fail_msg("%s", mz_err_text(&err, text, sizeof(text)));
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    cluster = mz_cluster_ref(mz_wcluster_info(mz_upstream_find(u, MZ_STR("x"))));
    mz_upstream_destroy(u);
    mz_cluster_manager_when_ready(manager, is_ready, NULL);
    return cluster;
}

static void rig_stop(void)
{
    mz_cluster_unref(cluster);
    cluster = NULL;
    mz_cluster_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
    assert_int_equal(c[MZ_MEM_CONN].objects, 0);
}

static bool has_session(void)
{
    return !mz_list_empty(&cluster_priv(cluster)->checker->sessions);
}

/* There is one. */
static struct check_session *session(void)
{
    struct mz_list *first = cluster_priv(cluster)->checker->sessions.next;
    return MZ_CONTAINER(first, struct check_session, link);
}

static void pass_ms(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100) {
        fake_us += 100000;
        mz_loop_turn(loop, 0);
    }
}

/* ---- the state machine ---- */
#define F MZ_HOST_FAILED_ACTIVE_HC
#define T MZ_HOST_ACTIVE_HC_TIMEOUT
#define D MZ_HOST_DEGRADED_ACTIVE_HC
#define P MZ_HOST_PENDING_ACTIVE_HC
struct step {
    char
        what; /* p passes, d passes degraded, a bad status, r retriable one, n network, t time runs out, w told */
    uint32_t flags;    /* of the host then */
    uint64_t after_ms; /* the next check comes then */
};
static const struct {
    const char *name, *check, *more;
    bool traffic;
    struct step steps[10];
} cases[] = {
    { "the first check decides at once",
      CHECK "unhealthy_threshold: 3, healthy_threshold: 3",
      "",
      true,
      { { 'p', 0, 10000 }, { 'p', 0, 10000 } } },
    { "a first check that fails",
      CHECK "unhealthy_threshold: 3, healthy_threshold: 2",
      "",
      true,
      { { 'a', F, 20000 }, { 'p', F, 3000 }, { 'p', 0, 10000 } } },
    { "network failures in a row",
      CHECK "unhealthy_threshold: 3, healthy_threshold: 1",
      "",
      true,
      { { 'p', 0, 10000 },
        { 'n', 0, 2000 },
        { 'n', 0, 2000 },
        { 'n', F, 20000 },
        { 'n', F, 20000 } } },
    { "a row that is broken",
      CHECK "unhealthy_threshold: 2, healthy_threshold: 2",
      "",
      true,
      { { 'p', 0, 10000 },
        { 'n', 0, 2000 },
        { 'p', 0, 10000 },
        { 'n', 0, 2000 },
        { 'n', F, 20000 },
        { 'p', F, 3000 },
        { 'n', F, 20000 },
        { 'p', F, 3000 },
        { 'p', 0, 10000 } } },
    { "a bad status counts at once",
      CHECK "unhealthy_threshold: 3, healthy_threshold: 1",
      "",
      true,
      { { 'p', 0, 10000 }, { 'a', F, 20000 }, { 'p', 0, 10000 } } },
    { "a retriable one does not",
      CHECK "unhealthy_threshold: 2, healthy_threshold: 1",
      "",
      true,
      { { 'p', 0, 10000 }, { 'r', 0, 2000 }, { 'r', F, 20000 } } },
    { "a timeout has a flag of its own",
      CHECK "unhealthy_threshold: 1, healthy_threshold: 1",
      "",
      true,
      { { 'p', 0, 10000 },
        { 't', F | T, 20000 },
        { 'n', F, 20000 },
        { 't', F | T, 20000 },
        { 'p', 0, 10000 } } },
    { "degraded",
      CHECK "unhealthy_threshold: 1, healthy_threshold: 1",
      "",
      true,
      { { 'd', D, 10000 }, { 'd', D, 10000 }, { 'p', 0, 10000 } } },
    { "nobody uses the cluster",
      CHECK "unhealthy_threshold: 2, healthy_threshold: 2",
      "",
      false,
      { { 'p', 0, 50000 },
        { 'n', 0, 40000 },
        { 'n', F, 40000 },
        { 'p', F, 40000 },
        { 'p', 0, 50000 } } },
    { "new hosts do not count before their first check",
      CHECK "unhealthy_threshold: 1, healthy_threshold: 1",
      "common_lb_config: {ignore_new_hosts_until_first_hc: true}\n",
      true,
      { { 'n', F, 20000 } } },
    { "defaults of the intervals",
      "timeout: 1s, interval: 10s, unhealthy_threshold: 2, healthy_threshold: 2",
      "",
      true,
      { { 'p', 0, 10000 }, { 'n', 0, 10000 }, { 'n', F, 10000 }, { 'p', F, 10000 } } },
    { "told by traffic: at once, and the row of passes begins anew",
      CHECK "unhealthy_threshold: 3, healthy_threshold: 1",
      "",
      true,
      { { 'p', 0, 10000 }, { 'w', F | MZ_HOST_EXCLUDED_IMMEDIATE_HC, 0 }, { 'p', 0, 10000 } } },
};

static void do_step(const struct step *st)
{
    struct check_session *s = session();
    struct check_outcome o = { .type = FAILURE_ACTIVE, .result = CHECK_STATUS, .value = 500 };
    switch (st->what) {
    case 'p':
    case 'd':
        check_passed(s, st->what == 'd');
        return;
    case 't':
        pass_ms(1100);
        return;
    case 'w':
        mz_host_says_unhealthy(s->host);
        mz_loop_turn(loop, 0);
        mz_loop_turn(loop, 0);
        return;
    case 'n':
        o.type = FAILURE_NETWORK;
        break;
    case 'r':
        o.retriable = true;
        break;
    default:
        break;
    }
    check_failed(s, &o);
}

static void play(size_t i)
{
    for (const struct step *st = cases[i].steps; st->what; st++) {
        struct check_session *s = session();
        assert_true(mz_timer_armed(&s->timeout)); /* a check is under way */
        uint64_t since = s->host->healthy_since_us;
        bool was_failed = s->host->health_flags & F;
        do_step(st);
        if (was_failed && !(s->host->health_flags & F))
            since = mz_loop_now_us(loop); /* slow start begins with it */
        assert_int_equal(s->host->healthy_since_us, since);
        mz_loop_turn(loop, 0);
        if (s->host->health_flags != st->flags)
            fail_msg("%s, step %td: flags %x, not %x", cases[i].name, st - cases[i].steps,
                     s->host->health_flags, st->flags);
        if (st->what == 'w') /* the check goes on */
            continue;
        unsigned before = started;
        pass_ms(st->after_ms - (st->what == 't' ? 600 : 200)); /* it began up to 400 ms before */
        if (started != before)
            fail_msg("%s, step %td: checked too early", cases[i].name, st - cases[i].steps);
        pass_ms(st->what == 't' ? 800 : 400);
        if (started != before + 1)
            fail_msg("%s, step %td: not checked in time", cases[i].name, st - cases[i].steps);
    }
}

static void test_states(void **state)
{
    (void)state;
    mz_clock = &fake_clock;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char check[1024];
        rig_start();
        (void)snprintf(check, sizeof(check), "%s, tcp_health_check: {}", cases[i].check);
        (void)begin(check, 1, cases[i].more);
        cluster_priv(cluster)->checker->cfg.type = &fake_probe;
        uint32_t begins = session()->host->health_flags;
        assert_int_equal(begins, cases[i].more[0] ? F | P : F);
        assert_int_equal(mz_cluster_member(cluster, MZ_CM_HEALTHY), 0);
        if (cases[i].traffic)
            mz_count(cluster->scope, MZ_CS_CX_TOTAL, 1);
        pass_ms(200);
        assert_int_equal(started, 1);
        assert_false(ready);
        play(i);
        assert_true(ready);
        rig_stop();
    }
    mz_clock = &mz_clock_system;
}
#undef F
#undef T
#undef D
#undef P

/* ---- configuration ---- */
static const struct {
    const char *check, *error;
} configs[] = {
    { "http_health_check: {path: /}", NULL },
    { "http_health_check: {path: /, codec_client_type: HTTP2}", NULL },
    { "http_health_check: {path: /, codec_client_type: HTTP3}",
      "http_health_check.codec_client_type: HTTP/3 is not supported yet" },
    { "http_health_check: {path: ''}", "path" },
    { "http_health_check: {path: /, send: {text: '00'}}",
      "HTTP health check cannot specify a request payload with method 'GET'" },
    { "http_health_check: {path: /, method: CONNECT}", "method" },
    { "http_health_check: {path: /, receive: [{text: 'zz'}]}",
      "http_health_check.receive[0].text: invalid hex string 'zz'" },
    { "http_health_check: {path: /, receive: [{text: 'abc'}]}", "invalid hex string 'abc'" },
    { "http_health_check: {path: /, response_buffer_size: 1, receive: [{text: '0000'}]}",
      "The expected response length '2' is over than http health response buffer size '1'" },
    { "http_health_check: {path: /, expected_statuses: [{start: 200, end: 200}]}",
      "Invalid http expected status range" },
    { "http_health_check: {path: /, retriable_statuses: [{start: 99, end: 200}]}",
      "retriable_statuses[0]: Invalid http retriable status range" },
    { "http_health_check: {path: /, request_headers_to_add: [{header: {key: ':path', value: x}}]}",
      "request_headers_to_add[0].header.key" },
    { "grpc_health_check: {}",
      "health_checks[0].grpc_health_check: x cluster must support HTTP/2 for gRPC healthchecking" },
    { "alt_port: 65536, tcp_health_check: {}", "alt_port: must be at most 65535, is 65536" },
    { "", "health_checker" },
};

static void test_config(void **state)
{
    (void)state;
    rig_start();
    for (size_t i = 0; i < MZ_COUNT(configs); i++) {
        struct mz_err err;
        char yaml[1024], text[512];
        (void)snprintf(yaml, sizeof(yaml),
                       "name: x\nhealth_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: "
                       "1, healthy_threshold: 1, %s}]\n",
                       configs[i].check);
        bool ok = add(yaml, &err);
        if (ok != !configs[i].error)
            fail_msg("%s: %s", configs[i].check,
                     ok ? "was taken" : mz_err_text(&err, text, sizeof(text)));
        if (!ok && !strstr(mz_err_text(&err, text, sizeof(text)), configs[i].error))
            fail_msg("%s: the error is '%s'", configs[i].check, text);
        if (ok)
            assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    }
    rig_stop();
}

/* ---- given up at each await point ---- */
enum stop { STOP_CLUSTER, STOP_MANAGER, STOP_TIMEOUT };
static const struct {
    const char *name, *check;
    const char *answers[4]; /* what the host sends, a turn after the other; NULL ends */
} probes[] = {
    { "HTTP/1",
      "http_health_check: {path: /}",
      { "HTTP/1.1 200 OK\r\n", "content-length: 4\r\n\r\n", "ab", "cd" } },
    { "HTTP/2",
      "http_health_check: {path: /, codec_client_type: HTTP2}",
      { "\0\0\0\4\0\0\0\0", "\0\0\1\1\4\0\0\0\1\x88", "\0\0\2\0\1\0\0\0\1ok", NULL } },
    { "TCP",
      "tcp_health_check: {send: {text: '50'}, receive: [{text: '6162'}]}",
      { "xx", "a", "b", NULL } },
};
static const size_t h2_bytes[] = { 9, 10, 11 };

static int listen_here(unsigned *out_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof(a);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *out_port = ntohs(a.sin_port);
    return fd;
}

static void turns(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        mz_loop_turn(loop, 2);
}

/* Goes to the point: 0 nothing happened, 1 the connect is under way, 2 it stands and the request is sent, 3.. the answer has
 * so many parts. Returns false when the check has no such point. */
static bool go_to(size_t p, unsigned point, int listener, int *out_fd)
{
    if (point == 0)
        return true;
    turns(1);
    for (unsigned i = 0; i < 100 && !session()->probe; i++)
        turns(1);
    if (point == 1)
        return true;
    *out_fd = accept(listener, NULL, NULL);
    turns(5);
    for (unsigned k = 0; k + 3 <= point; k++) {
        const char *part = k < 4 ? probes[p].answers[k] : NULL;
        if (!part)
            return false;
        size_t n = strcmp(probes[p].name, "HTTP/2") == 0 ? h2_bytes[k] : strlen(part);
        assert_int_equal(send(*out_fd, part, n, 0), (ssize_t)n);
        turns(3);
    }
    return true;
}

static void give_up(enum stop how)
{
    if (how == STOP_CLUSTER)
        assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    else if (how == STOP_TIMEOUT && has_session() && mz_timer_armed(&session()->timeout))
        mz_timer_start_ms(&session()->timeout, 0);
    if (how != STOP_MANAGER)
        turns(5);
}

static void test_given_up(void **state)
{
    (void)state;
    for (size_t p = 0; p < MZ_COUNT(probes); p++)
        for (unsigned point = 0; point < 8; point++)
            for (int how = STOP_CLUSTER; how <= STOP_TIMEOUT; how++) {
                unsigned port;
                int fd = -1, listener = listen_here(&port);
                char check[512];
                rig_start();
                (void)snprintf(check, sizeof(check),
                               "timeout: 60s, interval: 60s, unhealthy_threshold: 1, "
                               "healthy_threshold: 1, %s",
                               probes[p].check);
                (void)begin(check, port, "");
                bool there = go_to(p, point, listener, &fd);
                give_up(how);
                if (!there && point > 3)
                    assert_true(ready); /* the whole answer was there: the first check ended */
                if (fd >= 0) {          /* what comes late finds nobody */
                    (void)send(fd, "late", 4, MSG_NOSIGNAL);
                    close(fd);
                }
                if (how != STOP_MANAGER)
                    turns(5);
                close(listener);
                rig_stop();
                if (!there)
                    how = STOP_TIMEOUT;
            }
}

/* An answer tells of its host after the checker ended, after the host went, after all is over. */
static void test_told_too_late(void **state)
{
    (void)state;
    for (int how = STOP_CLUSTER; how <= STOP_MANAGER; how++) {
        rig_start();
        (void)begin("timeout: 60s, interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1, "
                    "tcp_health_check: {}",
                    1, "");
        struct mz_host *h = mz_host_ref(session()->host);
        mz_host_says_unhealthy(h);
        if (how == STOP_CLUSTER)
            assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
        mz_host_says_unhealthy(h);
        turns(how == STOP_CLUSTER ? 3 : 0);
        mz_host_unref(h);
        rig_stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_told_too_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
