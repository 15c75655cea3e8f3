/*
 * Calls and streams against a peer that is played byte by byte: every way in which a status comes or does not come, messages
 * cut anywhere, limits, and a cancel at each point where something is awaited.
 */
#include "base/test.h"

#include <string.h>
#include <unistd.h>

#include "grpc/client.h"
#include "grpc/frame.h"
#include "upstream/pool_rig.h"

/* Any message with a text in it serves. */
static const struct mz_grpc_method method = { "/test.Service/Do", &pb_StringValue__descriptor,
                                              &pb_StringValue__descriptor };
static struct mz_grpc_service *service;

static void begin(const char *yaml)
{
    struct mz_err err;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m;
    char text[512];
    rig_start("http2_protocol_options: {}\n");
    (void)snprintf(text, sizeof(text), "envoy_grpc: {cluster_name: one%s}\n", yaml);
    if (!mz_msg_from_text(&ctx, mz_str_c(text), MZ_TEXT_YAML, &pb_GrpcService__descriptor, &m,
                          &err))
        fail_msg("%s: %s", err.path, err.msg);
    service = mz_grpc_service_create((const pb_GrpcService *)m, &err);
    assert_non_null(service);
    mz_arena_destroy(ctx.arena);
}

static void end_rig(void)
{
    rig_stop();
    mz_grpc_service_destroy(service);
}

/* ---- the peer ---- */

struct peer {
    int fd;
    bool greeted;
};

static void put_frame(struct peer *p, unsigned char type, unsigned char flags, unsigned char id,
                      const void *payload, size_t n)
{
    unsigned char h[9] = { 0, (unsigned char)(n >> 8), (unsigned char)n, type, flags, 0, 0, 0, id };
    assert_int_equal(write(p->fd, h, sizeof(h)), sizeof(h));
    assert_int_equal(write(p->fd, payload, n), (ssize_t)n);
}

enum { END_STREAM = 1, END_HEADERS = 4 };

static struct peer peer_accept(void)
{
    struct peer p = { .fd = upstream_accept() };
    put_frame(&p, 4, 0, 0, "", 0);
    return p;
}

/* Reads until @text is there: of the request's head names and values are plain only where they are literals. */
static void peer_read(struct peer *p, const char *text, size_t n)
{
    static char got[1 << 16];
    size_t have = 0;
    while (!memmem(got, have, text, n)) {
        assert_true(have < sizeof(got));
        size_t k = upstream_read(p->fd, got + have, sizeof(got) - have);
        assert_true(k > 0);
        have += k;
    }
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

static void peer_head(struct peer *p, const char *status, bool end)
{
    unsigned char b[64];
    size_t n = literal(b, ":status", status);
    put_frame(p, 1, (unsigned char)(END_HEADERS | (end ? END_STREAM : 0)), 1, b, n);
}

static void peer_status(struct peer *p, const char *code, const char *message)
{
    unsigned char b[256];
    size_t n = literal(b, "grpc-status", code);
    if (message)
        n += literal(b + n, "grpc-message", message);
    put_frame(p, 1, END_HEADERS | END_STREAM, 1, b, n);
}

static void peer_data(struct peer *p, const void *bytes, size_t n)
{
    put_frame(p, 0, 0, 1, bytes, n);
}
#define HELLO       "\0\0\0\0\7\n\5hello" /* StringValue{"hello"} */
#define BYTES(text) (text), sizeof(text) - 1

/* ---- unary ---- */

struct outcome {
    bool inside, done;
    int code;
    char text[128], reply[32];
};

static void on_done(void *arg, const struct mz_grpc_status *st, struct mz_grpc_message *reply)
{
    struct outcome *o = arg;
    assert_false(o->inside || o->done);
    o->done = true;
    o->code = st->code;
    (void)snprintf(o->text, sizeof(o->text), MZ_STR_FMT, MZ_STR_ARG(st->message));
    assert_int_equal(reply != NULL, st->code == 0);
    if (reply)
        (void)snprintf(o->reply, sizeof(o->reply), "%s",
                       ((const pb_StringValue *)reply->msg)->value);
}

static struct mz_grpc_call *call(struct outcome *o, const struct mz_grpc_opts *opts)
{
    pb_StringValue m = pb_StringValue__INIT;
    char text[] = "question";
    m.value = text;
    o->inside = true;
    struct mz_grpc_call *c =
        mz_grpc_call(upstream, service, &method, (const ProtobufCMessage *)&m, opts, on_done, o);
    o->inside = false;
    return c;
}

static void wait_done(struct outcome *o)
{
    req_wait(&o->done);
    settle();
}

static void expect(struct outcome *o, int code, const char *text)
{
    wait_done(o);
    assert_int_equal(o->code, code);
    assert_string_equal(o->text, text);
    end_rig();
}

static struct peer asked(struct outcome *o, const struct mz_grpc_opts *opts)
{
    begin("");
    (void)call(o, opts);
    struct peer p = peer_accept();
    peer_read(&p, BYTES("\n\10question"));
    return p;
}

static void test_answer(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    struct peer p = asked(&o, NULL);
    peer_head(&p, "200", false);
    peer_data(&p, BYTES(HELLO));
    peer_status(&p, "0", NULL);
    expect(&o, MZ_GRPC_OK, "");
    assert_string_equal(o.reply, "hello");
    close(p.fd);
}

static void test_answer_in_bytes(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    struct peer p = asked(&o, NULL);
    peer_head(&p, "200", false);
    for (size_t i = 0; i < sizeof(HELLO) - 1; i++) {
        peer_data(&p, &HELLO[i], 1);
        settle();
    }
    peer_status(&p, "0", NULL);
    expect(&o, MZ_GRPC_OK, "");
    assert_string_equal(o.reply, "hello");
    close(p.fd);
}

/* One answer each, and what the caller is told of it. */
static const struct {
    const char *status;
    bool end;
    const char *data;
    size_t n;
    const char *grpc_status, *message;
    int code;
    const char *text;
} answers[] = {
    { "200", false, BYTES(HELLO), "5", "not%20here: %e2%82%ac", MZ_GRPC_NOT_FOUND,
      "not here: \xe2\x82\xac" },
    { "200", false, "", 0, "7", NULL, MZ_GRPC_PERMISSION_DENIED, "" },
    { "200", false, "", 0, "0", NULL, MZ_GRPC_INTERNAL, "the answer has no message" },
    { "200", false, "", 0, "99", NULL, -1, "" },
    { "200", false, BYTES(HELLO), "x", NULL, -1, "" },
    { "200", true, "", 0, NULL, NULL, MZ_GRPC_UNKNOWN, "the answer has no grpc-status" },
    { "503", true, "", 0, NULL, NULL, MZ_GRPC_UNAVAILABLE, "HTTP status 503" },
    { "404", false, BYTES("not found"), NULL, NULL, MZ_GRPC_UNIMPLEMENTED, "HTTP status 404" },
    { "200", false, BYTES("\1\0\0\0\1x"), "0", NULL, MZ_GRPC_INTERNAL,
      "a message has an unknown encoding" },
    { "200", false, BYTES("\0\0\0\0\2\n\x7f"), "0", NULL, MZ_GRPC_INTERNAL,
      "the answer is not of the method's type" },
    { "200", false, BYTES("\0\0\0\0\3\n\1\xff"), "0", NULL, MZ_GRPC_INTERNAL,
      "the answer is not of the method's type" },
    { "200", false, BYTES("\0\7\0\0\0"), NULL, NULL, MZ_GRPC_RESOURCE_EXHAUSTED,
      "a message exceeds the limit" },
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(answers); i++) {
        struct outcome o = { 0 };
        struct peer p = asked(&o, NULL);
        peer_head(&p, answers[i].status, answers[i].end);
        if (answers[i].n)
            peer_data(&p, answers[i].data, answers[i].n);
        if (answers[i].grpc_status)
            peer_status(&p, answers[i].grpc_status, answers[i].message);
        expect(&o, answers[i].code, answers[i].text);
        close(p.fd);
    }
}

static void test_headers_only(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    unsigned char b[128];
    struct peer p = asked(&o, NULL);
    size_t n = literal(b, ":status", "200");
    n += literal(b + n, "grpc-status", "16");
    n += literal(b + n, "grpc-message", "who%3F");
    put_frame(&p, 1, END_HEADERS | END_STREAM, 1, b, n);
    expect(&o, MZ_GRPC_UNAUTHENTICATED, "who?");
    close(p.fd);
}

static void test_reset(void **state)
{
    (void)state;
    struct outcome before = { 0 }, after = { 0 }, lost = { 0 };
    struct peer p = asked(&before, NULL);
    put_frame(&p, 3, 0, 1, BYTES("\0\0\0\7")); /* REFUSED_STREAM */
    expect(&before, MZ_GRPC_UNAVAILABLE,
           "upstream connect error or disconnect/reset before headers. reset reason: remote "
           "refused stream reset");
    close(p.fd);
    p = asked(&after, NULL);
    peer_head(&p, "200", false);
    put_frame(&p, 3, 0, 1, BYTES("\0\0\0\2"));
    wait_done(&after);
    assert_int_equal(after.code, MZ_GRPC_INTERNAL);
    end_rig();
    close(p.fd);
    p = asked(&lost, NULL);
    upstream_reset(p.fd);
    wait_done(&lost);
    assert_int_equal(lost.code, MZ_GRPC_UNAVAILABLE);
    end_rig();
}

static void test_no_cluster(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    begin("");
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("one")));
    settle();
    (void)call(&o, NULL);
    expect(&o, MZ_GRPC_UNAVAILABLE, "Cluster not available");
}

static void test_deadline(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    const struct mz_grpc_opts opts = { .timeout_ms = 30 };
    struct peer p = asked(&o, &opts);
    expect(&o, MZ_GRPC_DEADLINE_EXCEEDED, "upstream request timeout");
    close(p.fd);
}

static void test_limit_of_the_service(void **state)
{
    (void)state;
    struct outcome o = { 0 };
    begin(", max_receive_message_length: 6");
    (void)call(&o, NULL);
    struct peer p = peer_accept();
    peer_read(&p, BYTES("\n\10question"));
    peer_head(&p, "200", false);
    peer_data(&p, BYTES(HELLO));
    expect(&o, MZ_GRPC_RESOURCE_EXHAUSTED, "a message exceeds the limit");
    close(p.fd);
}

static void test_cancel(void **state)
{
    (void)state;
    for (int at = 0; at < 4; at++) {
        struct outcome o = { 0 };
        begin("");
        struct mz_grpc_call *c = call(&o, NULL);
        struct peer p = { .fd = -1 };
        if (at > 0) {
            p = peer_accept();
            peer_read(&p, BYTES("\n\10question"));
        }
        if (at > 1)
            peer_head(&p, "200", false);
        if (at > 2)
            peer_data(&p, BYTES(HELLO));
        settle();
        mz_grpc_call_cancel(c);
        settle();
        assert_false(o.done);
        end_rig();
        if (p.fd >= 0)
            close(p.fd);
    }
}

/* ---- streams ---- */

struct talk {
    struct mz_grpc_stream *s;
    bool inside, closed, writable, headers, pause_at_first, cancel_at_first, keep;
    unsigned messages;
    int code;
    struct mz_arena *kept;
    const ProtobufCMessage *kept_msg;
};

static void on_stream_headers(void *arg, const struct mz_headers *h)
{
    struct talk *t = arg;
    assert_true(mz_headers_status(h) == 200 && !t->messages);
    t->headers = true;
}

static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct talk *t = arg;
    assert_false(t->inside || t->closed);
    assert_string_equal(((const pb_StringValue *)m->msg)->value, "hello");
    if (t->keep && !t->kept) {
        m->take = true;
        t->kept = m->arena;
        t->kept_msg = m->msg;
    }
    if (++t->messages == 1 && t->pause_at_first)
        mz_grpc_stream_read_disable(t->s, true);
    if (t->messages == 1 && t->cancel_at_first) {
        mz_grpc_stream_cancel(t->s);
        t->s = NULL;
    }
}

static void on_stream_writable(void *arg)
{
    struct talk *t = arg;
    assert_false(t->inside);
    t->writable = true;
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct talk *t = arg;
    assert_false(t->inside || t->closed);
    assert_true(trailers != NULL || st->code != 0);
    t->closed = true;
    t->code = st->code;
    t->s = NULL;
}
static const struct mz_grpc_stream_ops ops = { on_stream_headers, on_message, on_stream_writable,
                                               on_closed };

static bool say(struct talk *t, size_t n)
{
    static char text[1 << 20];
    pb_StringValue m = pb_StringValue__INIT;
    memset(text, 'q', n);
    text[n] = '\0';
    m.value = text;
    t->inside = true;
    bool ok = mz_grpc_stream_send(t->s, (const ProtobufCMessage *)&m);
    t->inside = false;
    return ok;
}

static struct peer talk_start(struct talk *t, const struct mz_grpc_opts *o)
{
    begin("");
    t->s = mz_grpc_stream_open(upstream, service, &method, o, &ops, t);
    assert_true(say(t, 8));
    struct peer p = peer_accept();
    peer_read(&p, BYTES("\n\10qqqqqqqq"));
    return p;
}

static void talk_stop(struct talk *t, struct peer *p)
{
    settle();
    mz_grpc_stream_cancel(t->s);
    end_rig();
    close(p->fd);
}

static void wait_messages(const struct talk *t, unsigned n)
{
    for (int i = 0; i < 1000 && t->messages < n; i++)
        turn();
    settle();
    assert_int_equal(t->messages, n);
}

static void test_stream(void **state)
{
    (void)state;
    struct talk t = { .keep = true };
    struct peer p = talk_start(&t, NULL);
    peer_head(&p, "200", false);
    req_wait(&t.headers);
    peer_data(&p, BYTES(HELLO HELLO HELLO));
    wait_messages(&t, 3);
    assert_true(say(&t, 9));
    mz_grpc_stream_end(t.s);
    peer_read(&p, BYTES("\n\11qqqqqqqqq"));
    peer_status(&p, "0", NULL);
    req_wait(&t.closed);
    assert_int_equal(t.code, MZ_GRPC_OK);
    talk_stop(&t, &p);
    assert_string_equal(((const pb_StringValue *)t.kept_msg)->value, "hello");
    mz_arena_destroy(t.kept);
}

/* What follows a message after which the user takes no more waits, the end as well. */
static void test_stream_read_disable(void **state)
{
    (void)state;
    struct talk t = { .pause_at_first = true };
    struct peer p = talk_start(&t, NULL);
    peer_head(&p, "200", false);
    peer_data(&p, BYTES(HELLO HELLO HELLO));
    peer_status(&p, "0", NULL);
    wait_messages(&t, 1);
    assert_false(t.closed);
    mz_grpc_stream_read_disable(t.s, false);
    assert_int_equal(t.messages, 1);
    req_wait(&t.closed);
    assert_int_equal(t.messages, 3);
    talk_stop(&t, &p);
}

static void test_stream_cancel_in_message(void **state)
{
    (void)state;
    struct talk t = { .cancel_at_first = true };
    struct peer p = talk_start(&t, NULL);
    peer_head(&p, "200", false);
    peer_data(&p, BYTES(HELLO HELLO));
    wait_messages(&t, 1);
    assert_false(t.closed);
    talk_stop(&t, &p);
}

static void test_stream_deadline(void **state)
{
    (void)state;
    struct talk t = { 0 };
    const struct mz_grpc_opts o = { .timeout_ms = 60 };
    struct peer p = talk_start(&t, &o);
    req_wait(&t.closed);
    assert_int_equal(t.code, MZ_GRPC_DEADLINE_EXCEEDED);
    talk_stop(&t, &p);
}

/* A peer that grants no window: what waits is bounded, and goes on when it does. */
static void test_stream_queue(void **state)
{
    (void)state;
    struct talk t = { 0 };
    const struct mz_grpc_opts o = { .max_queue = 100000 };
    struct peer p = talk_start(&t, &o);
    unsigned sent = 0;
    while (sent < 1000 && say(&t, 10000))
        sent++;
    assert_true(sent < 30); /* the peer's window, the codec's 64 KiB, the queue */
    assert_true(mz_grpc_stream_queued(t.s) <= 100000);
    assert_false(t.writable);
    static char sink[65536];
    for (int i = 0; i < 1000 && !t.writable; i++) {
        if (readable(p.fd))
            (void)upstream_read(p.fd, sink, sizeof(sink));
        put_frame(&p, 8, 0, 0, BYTES("\0\1\0\0"));
        put_frame(&p, 8, 0, 1, BYTES("\0\1\0\0"));
        turn();
    }
    assert_true(t.writable);
    assert_true(say(&t, 10000));
    talk_stop(&t, &p);
}

static void test_message_text(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    static const struct {
        const char *plain, *coded;
    } texts[] = {
        { "", "" }, { "a b", "a b" }, { "100%", "100%25" }, { "\n\xc3\xa9\x7f", "%0A%C3%A9%7F" }
    };
    for (size_t i = 0; i < MZ_COUNT(texts); i++) {
        assert_string_equal(mz_grpc_message_encode(mz_str_c(texts[i].plain), a).p, texts[i].coded);
        assert_string_equal(mz_grpc_message_decode(mz_str_c(texts[i].coded), a).p, texts[i].plain);
    }
    assert_string_equal(mz_grpc_message_decode(MZ_STR("%4 %zz %"), a).p, "%4 %zz %");
    assert_string_equal(mz_grpc_message_decode(MZ_STR("%41%4"), a).p, "A%4");
    assert_string_equal(mz_grpc_code_name(14), "Unavailable");
    assert_string_equal(mz_grpc_code_name(17), "InvalidCode");
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_answer_in_bytes),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_headers_only),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_no_cluster),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_limit_of_the_service),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_read_disable),
        cmocka_unit_test(test_stream_cancel_in_message),
        cmocka_unit_test(test_stream_deadline),
        cmocka_unit_test(test_stream_queue),
        cmocka_unit_test(test_message_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
