/*
 * The server with our client as its peer, over sockets; what no client of ours says is written byte by byte. In each test every
 * call that began is gone exactly once, and no memory is left.
 */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "grpc/client.h"
#include "grpc/server.h"
#include "upstream/pool_rig.h"

#define METHOD(name)                                                                               \
    {                                                                                              \
        "/test.Service/" name, &pb_StringValue__descriptor, &pb_StringValue__descriptor            \
    }
enum { MANY = 64, LARGE = 10000 };

/* ---- the service ---- */

static struct {
    struct mz_grpc_server *s;
    struct mz_addr addr;
    struct mz_grpc_serving *last;
    unsigned begun, gone, messages, sent;
    bool inside, ended, pause, end_at_begin, refused;
} sv;

static void *on_begin(void *arg, struct mz_grpc_serving *c, const struct mz_headers *h)
{
    assert_ptr_equal(arg, &sv);
    assert_true(mz_str_starts(mz_headers_path(h), MZ_STR("/test.Service/")));
    assert_true(mz_grpc_serving_peer(c)->len > 0);
    assert_null(mz_grpc_serving_tls(c));
    sv.begun++;
    sv.last = c;
    if (sv.end_at_begin)
        mz_grpc_serving_finish(c, MZ_GRPC_PERMISSION_DENIED, MZ_STR("not you"));
    return mz_arena_alloc0(mz_grpc_serving_arena(c), 1);
}

static void echo(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    assert_non_null(object);
    assert_false(sv.inside || sv.ended);
    sv.messages++;
    if (sv.pause)
        mz_grpc_serving_read_disable(c, true);
    sv.inside = true;
    assert_true(mz_grpc_serving_send(c, m->msg));
    sv.inside = false;
}

static void half_closed(void *object, struct mz_grpc_serving *c)
{
    (void)object;
    assert_false(sv.ended);
    sv.ended = true;
    mz_grpc_serving_finish(c, MZ_GRPC_OK, MZ_STR(""));
    mz_grpc_serving_finish(c, MZ_GRPC_INTERNAL, MZ_STR("twice")); /* nothing */
}

static void hold(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    (void)object;
    (void)c;
    (void)m;
    sv.messages++;
}

static void refuse(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    (void)object;
    (void)m;
    mz_grpc_serving_finish(c, MZ_GRPC_NOT_FOUND, MZ_STR("not here: \xe2\x82\xac"));
    assert_true(mz_grpc_serving_send_bytes(c, MZ_STR(""))); /* dropped */
}

static void flood(struct mz_grpc_serving *c)
{
    static char text[LARGE + 1];
    pb_StringValue m = pb_StringValue__INIT;
    memset(text, 'q', LARGE);
    m.value = text;
    sv.inside = true;
    for (; sv.sent < MANY; sv.sent++)
        if (!mz_grpc_serving_send(c, (const ProtobufCMessage *)&m)) {
            sv.refused = true;
            sv.inside = false;
            return;
        }
    mz_grpc_serving_finish(c, MZ_GRPC_OK, MZ_STR(""));
    sv.inside = false;
}

static void on_flood(void *object, struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    (void)object;
    (void)m;
    flood(c);
}

static void on_writable(void *object, struct mz_grpc_serving *c)
{
    (void)object;
    assert_false(sv.inside);
    flood(c);
}

static void on_gone(void *object, struct mz_grpc_serving *c)
{
    assert_non_null(object);
    assert_false(sv.inside);
    (void)mz_grpc_serving_peer(c);
    assert_null(mz_grpc_serving_tls(c));
    assert_true(mz_grpc_serving_send_bytes(c, MZ_STR("x")));
    sv.gone++;
}

static const struct mz_grpc_handler handlers[] = {
    { METHOD("Echo"), false, on_begin, echo, half_closed, NULL, on_gone },
    { METHOD("Hold"), false, on_begin, hold, NULL, NULL, on_gone },
    { METHOD("Refuse"), false, on_begin, refuse, NULL, NULL, on_gone },
    { METHOD("Flood"), true, on_begin, on_flood, NULL, on_writable, on_gone },
};

static struct mz_grpc_service *service;

static void begin(const struct mz_grpc_server_opts *o)
{
    struct mz_err err;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m;
    char yaml[512];
    memset(&sv, 0, sizeof(sv));
    rig_start("http2_protocol_options: {}\n");
    sv.s = mz_grpc_server_create(loop, handlers, MZ_COUNT(handlers), &sv, o);
    assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &sv.addr));
    const struct mz_addr any = sv.addr;
    if (!mz_grpc_server_listen(sv.s, &any, NULL, &sv.addr, &err))
        fail_msg("%s", err.msg);
    (void)snprintf(yaml, sizeof(yaml),
                   "name: two\nconnect_timeout: 0.3s\nhttp2_protocol_options: {}\n"
                   "load_assignment:\n  cluster_name: two\n  endpoints:\n  - lb_endpoints:\n"
                   "    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "
                   "%u}}}\n",
                   mz_addr_port(&sv.addr));
    if (!add_cluster(yaml, &err))
        fail_msg("%s: %s", err.path, err.msg);
    settle();
    if (!mz_msg_from_text(&ctx, MZ_STR("envoy_grpc: {cluster_name: two}\n"), MZ_TEXT_YAML,
                          &pb_GrpcService__descriptor, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    service = mz_grpc_service_create((const pb_GrpcService *)m, &err);
    assert_non_null(service);
    mz_arena_destroy(ctx.arena);
}

static void end(void)
{
    settle();
    mz_grpc_server_destroy(sv.s);
    assert_int_equal(sv.begun, sv.gone);
    rig_stop();
    mz_grpc_service_destroy(service);
}

/* ---- our client ---- */

struct talk {
    struct mz_grpc_stream *s;
    struct mz_grpc_method method;
    bool closed, pause;
    unsigned messages;
    size_t bytes;
    int code;
    char text[160];
};

static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct talk *t = arg;
    t->bytes += m->bytes.n;
    if (++t->messages == 1 && t->pause)
        mz_grpc_stream_read_disable(t->s, true);
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct talk *t = arg;
    (void)trailers;
    t->closed = true;
    t->code = st->code;
    (void)snprintf(t->text, sizeof(t->text), MZ_STR_FMT, MZ_STR_ARG(st->message));
    t->s = NULL;
}
static const struct mz_grpc_stream_ops talk_ops = { .message = on_message, .closed = on_closed };

static void say(struct talk *t, const char *text)
{
    pb_StringValue m = pb_StringValue__INIT;
    char copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", text);
    m.value = copy;
    assert_true(mz_grpc_stream_send(t->s, (const ProtobufCMessage *)&m));
}

static void talk_start(struct talk *t, const char *path, const struct mz_grpc_opts *o)
{
    t->method = (struct mz_grpc_method)METHOD("");
    t->method.path = path;
    t->s = mz_grpc_stream_open(upstream, service, &t->method, o, &talk_ops, t);
    say(t, "hello");
}

static void wait_for(const unsigned *n, unsigned want)
{
    for (int i = 0; i < 2000 && *n < want; i++)
        turn();
    settle();
    assert_int_equal(*n, want);
}

static void expect(struct talk *t, int code, const char *text)
{
    req_wait(&t->closed);
    settle();
    assert_int_equal(t->code, code);
    assert_string_equal(t->text, text);
}

static void test_echo(void **state)
{
    (void)state;
    struct talk t = { 0 };
    begin(NULL);
    talk_start(&t, "/test.Service/Echo", NULL);
    wait_for(&t.messages, 1);
    say(&t, "again");
    say(&t, "");
    wait_for(&t.messages, 3);
    assert_int_equal(mz_grpc_server_calls(sv.s), 1);
    assert_int_equal(mz_grpc_serving_queued(sv.last), 0);
    mz_grpc_stream_end(t.s);
    expect(&t, MZ_GRPC_OK, "");
    assert_int_equal(mz_grpc_server_calls(sv.s), 0);
    assert_int_equal(sv.gone, 1);
    end();
}

static void test_status(void **state)
{
    (void)state;
    struct talk t = { 0 }, none = { 0 };
    begin(NULL);
    talk_start(&t, "/test.Service/Refuse", NULL); /* before the client has ended */
    expect(&t, MZ_GRPC_NOT_FOUND, "not here: \xe2\x82\xac");
    talk_start(&none, "/test.Service/None", NULL);
    expect(&none, MZ_GRPC_UNIMPLEMENTED, "there is no such method");
    assert_int_equal(sv.begun, 1);
    sv.end_at_begin = true;
    struct talk early = { 0 };
    talk_start(&early, "/test.Service/Echo", NULL);
    expect(&early, MZ_GRPC_PERMISSION_DENIED, "not you");
    assert_int_equal(sv.messages, 0);
    end();
}

static void test_much(void **state)
{
    (void)state;
    const struct mz_grpc_opts o = { .bytes_only = true };
    struct talk t = { .pause = true };
    begin(NULL);
    talk_start(&t, "/test.Service/Flood", &o);
    wait_for(&t.messages, 1);
    mz_grpc_stream_read_disable(t.s, false);
    expect(&t, MZ_GRPC_OK, "");
    assert_int_equal(t.messages, MANY);
    assert_true(t.bytes > (size_t)MANY * LARGE);
    end();
}

static void test_read_disable(void **state)
{
    (void)state;
    struct talk t = { 0 };
    begin(NULL);
    sv.pause = true;
    talk_start(&t, "/test.Service/Echo", NULL);
    say(&t, "two");
    mz_grpc_stream_end(t.s);
    wait_for(&sv.messages, 1);
    assert_false(sv.ended);
    sv.pause = false;
    mz_grpc_serving_read_disable(sv.last, false);
    assert_int_equal(sv.messages, 1); /* not from inside */
    expect(&t, MZ_GRPC_OK, "");
    assert_int_equal(t.messages, 2);
    end();
}

static void test_client_leaves(void **state)
{
    (void)state;
    for (int at = 0; at < 4; at++) {
        struct talk t = { .pause = at == 3 };
        const struct mz_grpc_server_opts o = { .max_queue = 1000 };
        begin(at == 3 ? &o : NULL);
        sv.pause = at == 2;
        const char *path = at == 3   ? "/test.Service/Flood"
                           : at == 1 ? "/test.Service/Hold"
                                     : "/test.Service/Echo";
        talk_start(&t, path, NULL);
        if (at)
            wait_for(at == 3 ? &sv.begun : &sv.messages, 1);
        mz_grpc_stream_cancel(t.s);
        settle();
        assert_int_equal(mz_grpc_server_calls(sv.s), 0);
        assert_int_equal(sv.begun, sv.gone);
        end();
    }
}

static void test_server_leaves(void **state)
{
    (void)state;
    struct talk t = { 0 };
    begin(NULL);
    talk_start(&t, "/test.Service/Hold", NULL);
    wait_for(&sv.messages, 1);
    mz_grpc_server_destroy(sv.s);
    sv.s = NULL;
    assert_int_equal(sv.gone, 1);
    req_wait(&t.closed);
    assert_int_equal(t.code, MZ_GRPC_UNAVAILABLE);
    end();
}

static void test_drain(void **state)
{
    (void)state;
    struct talk t = { 0 }, late = { 0 };
    begin(NULL);
    talk_start(&t, "/test.Service/Echo", NULL);
    wait_for(&t.messages, 1);
    mz_grpc_server_drain(sv.s);
    settle();
    say(&t, "still");
    wait_for(&t.messages, 2);
    talk_start(&late, "/test.Service/Echo", NULL);
    req_wait(&late.closed);
    assert_int_equal(late.code, MZ_GRPC_UNAVAILABLE);
    mz_grpc_stream_end(t.s);
    expect(&t, MZ_GRPC_OK, "");
    assert_int_equal(sv.begun, 1);
    end();
}

/* ---- a client byte by byte ---- */

static int raw_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(mz_addr_port(&sv.addr)) };
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void raw_frame(int fd, unsigned type, unsigned flags, unsigned id, const void *p, size_t n)
{
    unsigned char h[9] = { 0,
                           (unsigned char)(n >> 8),
                           (unsigned char)n,
                           (unsigned char)type,
                           (unsigned char)flags,
                           0,
                           0,
                           0,
                           (unsigned char)id };
    assert_int_equal(write(fd, h, sizeof(h)), sizeof(h));
    assert_int_equal(write(fd, p, n), (ssize_t)n);
}

static size_t literal(unsigned char *out, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value), at = 0;
    out[at++] = 0;
    out[at++] = (unsigned char)n;
    memcpy(out + at, name, n);
    at += n;
    out[at++] = (unsigned char)v;
    memcpy(out + at, value, v);
    return at + v;
}

static int raw_request(const char *verb, const char *path, const char *type, const char *timeout)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    unsigned char b[512];
    int fd = raw_connect();
    assert_int_equal(write(fd, hello, sizeof(hello) - 1), sizeof(hello) - 1);
    raw_frame(fd, 4, 0, 0, "", 0);
    size_t n = literal(b, ":method", verb);
    n += literal(b + n, ":scheme", "http");
    n += literal(b + n, ":authority", "x");
    n += literal(b + n, ":path", path);
    n += literal(b + n, "content-type", type);
    if (timeout)
        n += literal(b + n, "grpc-timeout", timeout);
    raw_frame(fd, 1, 4, 1, b, n);
    return fd;
}

/* The answer's bytes until @text is there. HPACK: short values are plain. */
static void raw_expect(int fd, const void *text, size_t n)
{
    static char got[1 << 16];
    size_t have = 0;
    while (!memmem(got, have, text, n)) {
        size_t k = upstream_read(fd, got + have, sizeof(got) - have);
        if (!k)
            fail_msg("did not come, of %zu bytes", have);
        have += k;
    }
    close(fd);
    settle();
}

static void raw_end(int fd)
{
    char rest[4096];
    bool over = false;
    for (int i = 0; i < 5000 && !over; i++) {
        turn();
        ssize_t k = recv(fd, rest, sizeof(rest), 0);
        over = k == 0 || (k < 0 && errno != EAGAIN);
    }
    assert_true(over);
    close(fd);
}
#define BYTES(text) (text), sizeof(text) - 1

static void test_no_grpc(void **state)
{
    (void)state;
    begin(NULL);
    raw_expect(raw_request("GET", "/test.Service/Echo", "application/grpc", NULL), BYTES("405"));
    raw_expect(raw_request("POST", "/test.Service/Echo", "text/plain", NULL), BYTES("415"));
    int fd = raw_connect();
    assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n plus some text", 34), 34);
    raw_end(fd);
    assert_int_equal(sv.begun, 0);
    assert_int_equal(mz_grpc_server_calls(sv.s), 0);
    end();
}

/* Each ends the call that it is said in, with a status: trailers have END_STREAM. */
static void test_wrong_messages(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } wrong[] = { { BYTES("\1\0\0\0\1x") },
                  { BYTES("\0\0\0\0\2\n\x7f") },
                  { BYTES("\0\0\0\0\3\n\1\xff") },
                  { BYTES("\0\xff\xff\xff\xff") } };
    for (size_t i = 0; i < MZ_COUNT(wrong); i++) {
        begin(NULL);
        int fd = raw_request("POST", "/test.Service/Echo", "application/grpc", NULL);
        raw_frame(fd, 0, 0, 1, wrong[i].p, wrong[i].n);
        raw_expect(fd, BYTES("\x01\x05\0\0\0\1")); /* HEADERS with END_STREAM */
        assert_int_equal(sv.messages, 0);
        assert_int_equal(sv.gone, 1);
        end();
    }
}

static void test_deadline(void **state)
{
    (void)state;
    begin(NULL);
    int fd = raw_request("POST", "/test.Service/Hold", "application/grpc", "30m");
    raw_expect(fd, BYTES("\x01\x05\0\0\0\1"));
    assert_int_equal(sv.gone, 1);
    end();
}

static void test_connection_lost(void **state)
{
    (void)state;
    begin(NULL);
    int fd = raw_request("POST", "/test.Service/Echo", "application/grpc", NULL);
    raw_frame(fd, 0, 0, 1, BYTES("\0\0\0\0\7\n\5hello\0\0\0"));
    wait_for(&sv.messages, 1);
    upstream_reset(fd);
    wait_for(&sv.gone, 1);
    end();
}

/* A client that grants no window: what waits is bounded, and all of it goes once it does. */
static void test_queue(void **state)
{
    (void)state;
    static char rest[65536];
    const struct mz_grpc_server_opts o = { .max_queue = 100000 };
    begin(&o);
    int fd = raw_request("POST", "/test.Service/Flood", "application/grpc", NULL);
    raw_frame(fd, 0, 0, 1, BYTES("\0\0\0\0\7\n\5hello"));
    wait_for(&sv.begun, 1);
    for (int i = 0; i < 1000 && !sv.refused; i++)
        turn();
    settle();
    assert_true(sv.refused && sv.sent < 40); /* the window, the codec's buffer, the queue */
    assert_true(mz_grpc_serving_queued(sv.last) <= 100000);
    for (int i = 0; i < 2000 && !sv.gone; i++) {
        turn();
        if (recv(fd, rest, sizeof(rest), 0) <= 0)
            continue; /* updates that answer no data are a flood */
        raw_frame(fd, 8, 0, 0, BYTES("\0\0\xff\xff"));
        raw_frame(fd, 8, 0, 1, BYTES("\0\0\xff\xff"));
    }
    assert_true(sv.gone == 1 && sv.sent == MANY);
    close(fd);
    end();
}

static void test_too_many(void **state)
{
    (void)state;
    const struct mz_grpc_server_opts o = { .max_connections = 1, .max_calls = 1 };
    begin(&o);
    int fd = raw_request("POST", "/test.Service/Hold", "application/grpc", NULL);
    wait_for(&sv.begun, 1);
    raw_end(raw_connect());
    close(fd);
    wait_for(&sv.gone, 1);
    end();
}

static void test_idle(void **state)
{
    (void)state;
    const struct mz_grpc_server_opts o = { .idle_ms = 40 };
    struct talk t = { 0 };
    begin(&o);
    talk_start(&t, "/test.Service/Echo", NULL);
    wait_for(&t.messages, 1);
    raw_end(raw_connect());
    assert_false(t.closed); /* it has a call */
    mz_grpc_stream_end(t.s);
    expect(&t, MZ_GRPC_OK, "");
    raw_end(raw_connect()); /* the one of the call has been idle for longer */
    struct talk again = { 0 };
    talk_start(&again, "/test.Service/Refuse", NULL); /* over another connection */
    expect(&again, MZ_GRPC_NOT_FOUND, "not here: \xe2\x82\xac");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_much),
        cmocka_unit_test(test_read_disable),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_server_leaves),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_no_grpc),
        cmocka_unit_test(test_wrong_messages),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_connection_lost),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
