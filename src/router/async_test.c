/*
 * Streams of the proxy's own over real sockets (U3, F11): outcomes, retries, what is counted; a cancel at every point where
 * something is awaited; clusters and threads that end meanwhile. Whatever happens there is one last callback, or none after a
 * cancel, and nothing stays behind.
 */
#include "base/test.h"

#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "route/retry_on.h"
#include "route/route.h"
#include "router/async.h"
#include "upstream/pool_rig.h"

enum when { NEVER, AT_HEADERS, AT_DATA };
struct use {
    struct mz_async *a;
    bool inside; /* a call of the user's is on the stack */
    bool answered, ended, failed, writable;
    unsigned status;
    struct mz_async_failure why;
    char text[256], body[64];
    enum when cancel;
};

static void last(struct use *u)
{
    assert_false(u->ended || u->failed);
    u->a = NULL;
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct use *u = arg;
    assert_false(u->inside || u->answered);
    u->answered = true;
    u->status = mz_headers_status(h);
    if (end)
        last(u);
    u->ended = end;
    if (u->cancel == AT_HEADERS && !end) {
        mz_async_cancel(u->a);
        u->a = NULL;
    }
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct use *u = arg;
    assert_false(u->inside);
    assert_true(u->a != NULL);
    size_t have = strlen(u->body), n = mz_buf_len(data);
    if (have + n < sizeof(u->body))
        (void)mz_buf_copyout(data, 0, u->body + have, n);
    if (end)
        last(u);
    u->ended = end;
    if (u->cancel == AT_DATA && !end) {
        mz_async_cancel(u->a);
        u->a = NULL;
    }
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct use *u = arg;
    assert_false(u->inside);
    assert_true(mz_headers_get(h, MZ_STR("x-end")) != NULL);
    last(u);
    u->ended = true;
}

static void on_failed(void *arg, const struct mz_async_failure *f)
{
    struct use *u = arg;
    assert_false(u->inside);
    last(u);
    u->failed = true;
    u->why = *f;
    (void)snprintf(u->text, sizeof(u->text), MZ_STR_FMT, MZ_STR_ARG(f->text));
}

static void on_writable(void *arg)
{
    struct use *u = arg;
    assert_false(u->inside);
    assert_false(mz_async_paused(u->a));
    u->writable = true;
}
static const struct mz_async_ops ops = { on_headers, on_data, on_trailers, on_failed, on_writable };

static void ask(struct use *u, const char *cluster_name, bool end, const struct mz_async_opts *o)
{
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_add_id(h, MZ_H_METHOD, end ? MZ_STR("GET") : MZ_STR("POST"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/x"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("one.test"));
    u->inside = true;
    u->a = mz_async_start(upstream, mz_str_c(cluster_name), h, end, o, &ops, u);
    u->inside = false;
    mz_arena_destroy(arena); /* all of it was copied */
    assert_false(u->failed || u->answered);
}

static void send_text(struct use *u, const char *text, bool end)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, mz_str_c(text));
    u->inside = true;
    mz_async_send(u->a, &b, end);
    u->inside = false;
    assert_int_equal(mz_buf_len(&b), 0);
    mz_buf_fini(&b);
}

static int take(char *out, size_t n, const char *until)
{
    int fd = upstream_accept();
    size_t have = 0;
    out[0] = '\0';
    while (!strstr(out, until)) {
        size_t got = upstream_read(fd, out + have, n - 1 - have);
        assert_true(got > 0);
        have += got;
        out[have] = '\0';
    }
    return fd;
}

static void until(const bool *flag)
{
    req_wait(flag);
    settle();
}

/* ---- outcomes ---- */

static void test_answer(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    rig_start("");
    const struct mz_async_opts o = { .timeout_ms = 5000 };
    ask(&u, "one", true, &o);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    assert_non_null(strstr(got, "GET /x HTTP/1.1\r\nhost: one.test\r\n"));
    assert_non_null(strstr(got, "x-envoy-internal: true\r\n"));
    assert_non_null(strstr(got, "x-envoy-expected-rq-timeout-ms: 5000\r\n"));
    upstream_send(fd, OK_ANSWER);
    until(&u.ended);
    assert_int_equal(u.status, 200);
    assert_string_equal(u.body, "ok");
    assert_int_equal(value("upstream_rq_200"), 1);
    assert_int_equal(value("internal.upstream_rq_200"), 1);
    assert_int_equal(value("upstream_rq_completed"), 1);
    close(fd);
    rig_stop();
}

static void test_trailers_and_quiet_headers(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    rig_start("http2_protocol_options: {}\n");
    const struct mz_async_opts o = { .no_internal = true, .no_xff = true };
    ask(&u, "one", false, &o);
    send_text(&u, "body", false);
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *t = mz_headers_create(arena);
    mz_headers_add(t, MZ_STR("x-last"), MZ_STR("1"));
    mz_async_send_trailers(u.a, t);
    mz_arena_destroy(arena);
    int fd = upstream_accept();
    static const unsigned char answer[] = {
        0, 0, 0, 4, 0, 0, 0, 0, 0,                                            /* SETTINGS */
        0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88,                                      /* :status 200 */
        0, 0, 2, 0, 0, 0, 0, 0, 1, 'o',  'k',                                 /* DATA */
        0, 0, 9, 1, 5, 0, 0, 0, 1, 0,    5,   'x', '-', 'e', 'n', 'd', 1, '1' /* trailers */
    };
    (void)upstream_read(fd, got, sizeof(got));
    assert_int_equal(write(fd, answer, sizeof(answer)), sizeof(answer));
    until(&u.ended);
    assert_string_equal(u.body, "ok");
    assert_int_equal(value("external.upstream_rq_200"), 1);
    close(fd);
    rig_stop();
}

static void test_no_cluster(void **state)
{
    (void)state;
    struct use u = { 0 };
    rig_start("");
    ask(&u, "none", false, NULL);
    send_text(&u, "ignored", true);
    until(&u.failed);
    assert_true(u.why.no_cluster);
    assert_int_equal(u.why.status, 503);
    rig_stop();
}

static void test_refused(void **state)
{
    (void)state;
    struct use u = { 0 };
    rig_start("");
    close(listener);
    listener = -1;
    ask(&u, "one", true, NULL);
    until(&u.failed);
    assert_int_equal(u.why.reason, MZ_RESET_REMOTE_CONNECT_FAIL);
    assert_string_equal(u.text,
                        "upstream connect error or disconnect/reset before headers. reset reason: "
                        "remote connection failure");
    assert_int_equal(value("upstream_rq_503"), 1);
    rig_stop();
}

static void test_broken_off(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    rig_start("");
    ask(&u, "one", true, NULL);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    upstream_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    until(&u.answered);
    upstream_reset(fd);
    until(&u.failed);
    assert_true(u.why.answered);
    assert_int_equal(value("upstream_rq_200"), 1);
    assert_int_equal(value("upstream_rq_503"), 0);
    rig_stop();
}

static void test_timeout(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    rig_start("");
    const struct mz_async_opts o = { .timeout_ms = 20 };
    ask(&u, "one", true, &o);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    until(&u.failed);
    assert_true(u.why.timeout);
    assert_int_equal(u.why.status, 504);
    assert_int_equal(value("upstream_rq_timeout"), 1);
    assert_int_equal(value("upstream_rq_504"), 1);
    close(fd);
    rig_stop();
}

static void test_overflow(void **state)
{
    (void)state;
    struct use u = { 0 };
    rig_start("circuit_breakers: {thresholds: [{max_pending_requests: 0}]}\n");
    ask(&u, "one", true, NULL);
    until(&u.failed);
    assert_int_equal(u.why.reason, MZ_RESET_OVERFLOW);
    rig_stop();
}

/* ---- retries ---- */

static const struct mz_retry_policy twice = {
    .retry_on = 1u, .num_retries = 2, .backoff_base_ms = 1, .backoff_max_ms = 2
};

static struct mz_retry_policy retry_5xx(void)
{
    unsigned unknown;
    struct mz_retry_policy p = twice;
    p.retry_on = mz_retry_on_parse(MZ_STR("5xx"), MZ_RETRY_FAMILY_HTTP, &unknown);
    return p;
}

static void test_retry_sends_the_body_again(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    const struct mz_retry_policy p = retry_5xx();
    rig_start("");
    const struct mz_async_opts o = { .retry = &p };
    ask(&u, "one", false, &o);
    send_text(&u, "all of ", false);
    send_text(&u, "it", true);
    for (int i = 0; i < 2; i++) {
        int fd = take(got, sizeof(got), "\r\n0\r\n\r\n");
        assert_non_null(strstr(got, "all of "));
        assert_non_null(strstr(got, "it"));
        upstream_send(fd, i ? OK_ANSWER
                            : "HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        if (i)
            until(&u.ended);
        close(fd);
    }
    assert_int_equal(u.status, 200);
    assert_int_equal(value("upstream_rq_retry"), 1);
    assert_int_equal(value("upstream_rq_retry_success"), 1);
    assert_int_equal(value("retry.upstream_rq_503"), 1);
    rig_stop();
}

static void test_retries_end(void **state)
{
    (void)state;
    struct use u = { 0 };
    const struct mz_retry_policy p = retry_5xx();
    rig_start("");
    close(listener);
    listener = -1;
    const struct mz_async_opts o = { .retry = &p };
    ask(&u, "one", true, &o);
    until(&u.failed);
    assert_int_equal(value("upstream_rq_retry"), 2);
    assert_int_equal(value("upstream_rq_retry_limit_exceeded"), 1);
    rig_stop();
}

static void test_body_above_the_limit_is_not_sent_again(void **state)
{
    (void)state;
    char got[4096];
    struct use u = { 0 };
    const struct mz_retry_policy p = retry_5xx();
    rig_start("");
    const struct mz_async_opts o = { .retry = &p, .buffer_limit = 4 };
    ask(&u, "one", false, &o);
    send_text(&u, "longer than that", true);
    int fd = take(got, sizeof(got), "\r\n0\r\n\r\n");
    assert_non_null(strstr(got, "longer than that"));
    upstream_send(fd, "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    until(&u.ended);
    assert_int_equal(u.status, 503);
    assert_int_equal(value("upstream_rq_retry"), 0);
    assert_int_equal(value("retry_or_shadow_abandoned"), 1);
    close(fd);
    rig_stop();
}

/* ---- flow control ---- */

static void test_paused_and_writable(void **state)
{
    (void)state;
    static char big[65536], sink[65536];
    struct use u = { 0 };
    rig_start("per_connection_buffer_limit_bytes: 32768\n");
    memset(big, 'x', sizeof(big) - 1);
    ask(&u, "one", false, NULL);
    int fd = upstream_accept();
    settle();
    for (int i = 0; i < 1000 && !mz_async_paused(u.a); i++) {
        send_text(&u, big, false);
        turn();
    }
    assert_true(mz_async_paused(u.a));
    u.writable = false; /* the socket took the first ones */
    for (int i = 0; i < 100000 && !u.writable; i++)
        (void)upstream_read(fd, sink, sizeof(sink));
    assert_true(u.writable);
    mz_async_cancel(u.a);
    close(fd);
    rig_stop();
}

/* An answer before the end of the request ends both (A23). */
static void test_early_answer(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 };
    rig_start("");
    ask(&u, "one", false, NULL);
    send_text(&u, "more to come", false);
    int fd = take(got, sizeof(got), "more to come");
    upstream_send(fd, OK_ANSWER);
    until(&u.ended);
    assert_int_equal(upstream_read(fd, got, sizeof(got)),
                     0); /* closed: the request was not whole */
    close(fd);
    rig_stop();
}

/* ---- cancel wherever something is awaited ---- */

enum point {
    WHILE_CONNECTING,
    BEFORE_ANSWER,
    IN_HEADERS,
    IN_DATA,
    IN_BACKOFF,
    BEFORE_TOLD,
    POINTS
};

static void cancel_at(enum point at, const char *options)
{
    char got[2048];
    int fd = -1;
    struct use u = { .cancel = at == IN_HEADERS ? AT_HEADERS : at == IN_DATA ? AT_DATA : NEVER };
    struct mz_retry_policy p = retry_5xx();
    p.backoff_base_ms = p.backoff_max_ms = 60000;
    rig_start(options);
    const struct mz_async_opts o = { .timeout_ms = 60000, .retry = &p };
    ask(&u, at == BEFORE_TOLD ? "none" : "one", true, &o);
    if (at > WHILE_CONNECTING && at < BEFORE_TOLD)
        fd = take(got, sizeof(got), "\r\n\r\n");
    if (at == IN_HEADERS || at == IN_DATA)
        upstream_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    if (at == IN_BACKOFF)
        upstream_send(fd, "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    if (at == IN_HEADERS || at == IN_DATA)
        until(&u.answered);
    if (at != BEFORE_TOLD)
        settle();
    mz_async_cancel(u.a);
    settle();
    assert_false(u.ended || u.failed);
    if (fd >= 0)
        close(fd);
    rig_stop();
}

static void test_cancel(void **state)
{
    (void)state;
    for (int at = 0; at < POINTS; at++)
        cancel_at((enum point)at, "");
}

/* ---- what goes meanwhile ---- */

static void test_cluster_removed(void **state)
{
    (void)state;
    char got[2048];
    struct use u = { 0 }, later = { 0 };
    rig_start("");
    ask(&u, "one", true, NULL);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("one")));
    settle();
    ask(&later, "one", true, NULL);
    until(&later.failed);
    assert_true(later.why.no_cluster);
    upstream_send(fd, OK_ANSWER);
    until(&u.ended);
    assert_int_equal(u.status, 200);
    close(fd);
    rig_stop();
}

static void test_thread_ends(void **state)
{
    (void)state;
    char got[2048];
    struct use waiting = { 0 }, asked = { 0 };
    rig_start("");
    ask(&asked, "one", true, NULL);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    ask(&waiting, "one", true, NULL);
    struct mz_upstream *second = mz_upstream_create(manager, loop);
    mz_upstream_destroy(upstream);
    upstream = second;
    assert_true(asked.failed && asked.why.no_cluster);
    assert_true(waiting.failed && waiting.why.no_cluster);
    close(fd);
    rig_stop();
}

/* ---- whole answers ---- */

struct whole {
    bool done, too_large, failed;
    unsigned status;
    char body[32];
};

static void on_whole(void *arg, const struct mz_fetch_reply *r)
{
    struct whole *w = arg;
    assert_false(w->done);
    w->done = true;
    w->too_large = r->too_large;
    w->failed = r->failure != NULL;
    w->status = r->status;
    size_t n = mz_buf_len(r->body);
    if (n < sizeof(w->body))
        (void)mz_buf_copyout(r->body, 0, w->body, n);
}

static void fetch(struct whole *w, const char *answer, size_t max)
{
    char got[2048];
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/keys"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("one.test"));
    rig_start("");
    (void)mz_fetch(upstream, MZ_STR("one"), h, NULL, max, NULL, on_whole, w);
    mz_arena_destroy(arena);
    int fd = take(got, sizeof(got), "\r\n\r\n");
    upstream_send(fd, answer);
    if (!strstr(answer, "\r\n\r\n"))
        upstream_reset(fd);
    until(&w->done);
    if (strstr(answer, "\r\n\r\n"))
        close(fd);
    rig_stop();
}

static void test_fetch(void **state)
{
    (void)state;
    struct whole small = { 0 }, large = { 0 }, broken = { 0 };
    fetch(&small, OK_ANSWER, 2);
    assert_int_equal(small.status, 200);
    assert_string_equal(small.body, "ok");
    fetch(&large, OK_ANSWER, 1);
    assert_true(large.too_large);
    fetch(&broken, "HTTP/1.1 200 OK\r\n", 100);
    assert_true(broken.failed);
    assert_int_equal(broken.status, 502);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_trailers_and_quiet_headers),
        cmocka_unit_test(test_no_cluster),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_broken_off),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_retry_sends_the_body_again),
        cmocka_unit_test(test_retries_end),
        cmocka_unit_test(test_body_above_the_limit_is_not_sent_again),
        cmocka_unit_test(test_paused_and_writable),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cluster_removed),
        cmocka_unit_test(test_thread_ends),
        cmocka_unit_test(test_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
