#include "base/test.h"
#include "http/h2/h2_trace.h"
#include "http/h2/stats.h"
#include <stdio.h>

/* A client codec against a server codec, in memory (H2). */

static struct mz_loop *loop;
static struct trace cl, sv;
static bool resting; /* both ends rest whenever they can */

static void rest(void)
{
    cl.codec->ops->rest(cl.codec);
    sv.codec->ops->rest(sv.codec);
}

static int setup(void **state)
{
    (void)state;
    loop = mz_loop_create("test");
    memset(&cl, 0, sizeof(cl));
    memset(&sv, 0, sizeof(sv));
    mz_http2_opts_init(&cl.opts);
    mz_http2_opts_init(&sv.opts);
    return 0;
}

static void start(void)
{
    trace_start(&cl, loop, true, 0);
    trace_start(&sv, loop, false, 0);
}

static int teardown(void **state)
{
    (void)state;
    trace_stop(&cl);
    trace_stop(&sv);
    mz_loop_destroy(loop);
    return 0;
}

static void give(struct trace *from, struct trace *to)
{
    if (resting)
        rest();
    mz_buf_move_all(&to->in, &from->out);
    if (mz_buf_len(&to->in) && to->status == MZ_CODEC_OK)
        to->status = to->codec->ops->dispatch(to->codec, &to->in, false);
}

/* Turns until nothing moves any more. */
static void settle(void)
{
    do {
        mz_loop_turn(loop, 0);
        give(&cl, &sv);
        mz_loop_turn(loop, 0);
        give(&sv, &cl);
        mz_loop_turn(loop, 0);
    } while (mz_buf_len(&cl.out) || mz_buf_len(&sv.out));
}

#define assert_events(s, want)                                                                     \
    do {                                                                                           \
        struct mz_str got_ = trace_text(&(s)->events);                                             \
        char *z_ = mz_strndup(MZ_MEM_MISC, got_.p ? got_.p : "", got_.n);                          \
        assert_string_equal(z_, want);                                                             \
        mz_free(MZ_MEM_MISC, z_);                                                                  \
    } while (0)

#define GET  ":method: GET\n:scheme: http\n:authority: a\n:path: /"
#define POST ":method: POST\n:scheme: http\n:authority: a\n:path: /"

static void test_request_and_answer(void **state)
{
    (void)state;
    start();
    sv.echo = true;
    struct trace_stream *a = trace_request(&cl, GET "\nx-a: 1", NULL, true);
    struct trace_stream *b =
        trace_request(&cl, POST "\ncookie: a=1\ncookie: b=2\nx: y", "hello", true);
    settle();
    assert_events(sv.s[0], "H[:method GET|:scheme http|:authority a|:path /|x-a 1]!");
    assert_events(sv.s[1],
                  "H[:method POST|:scheme http|:authority a|:path /|x y|cookie a=1; b=2]Dhello!");
    assert_events(a, "H[:status 200|content-length 2]Dok!");
    assert_events(b, "H[:status 200|content-length 2]Dok!");
    assert_int_equal(a->enc ? sv.n : 0, 2);
    assert_int_equal(cl.max_streams, 1024);
    assert_false(cl.codec->ops->wants_to_write(cl.codec));
}

static void test_trailers_both_ways(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, POST "\nte: trailers", "abc", false);
    a->enc->ops->encode_trailers(a->enc, trace_map(a->arena, "x-sum: 7"));
    settle();
    struct trace_stream *b = sv.s[0];
    assert_events(b,
                  "H[:method POST|:scheme http|:authority a|:path /|te trailers]DabcT[x-sum 7]!");
    trace_send(b, ":status: 200", "xyz", false);
    b->enc->ops->encode_trailers(b->enc, trace_map(b->arena, "grpc-status: 0"));
    settle();
    assert_events(a, "H[:status 200]DxyzT[grpc-status 0]!");
}

static void test_informational(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, GET, NULL, true);
    settle();
    struct trace_stream *b = sv.s[0];
    b->enc->ops->encode_1xx(b->enc, trace_map(b->arena, ":status: 103\nlink: x"));
    trace_send(b, ":status: 204", NULL, true);
    settle();
    assert_events(a, "I[:status 103|link x]H[:status 204]!");
}

static const struct {
    const char *request, *details;
} invalid[] = {
    { ":scheme: http\n:authority: a\n:path: /", "http2.violation.of.messaging.rule" },
    { ":method: GET\n:authority: a\n:path: /", "http2.violation.of.messaging.rule" },
    { ":method: GET\n:scheme: http\n:path: /", "http2.violation.of.messaging.rule" },
    { ":method: GET\n:scheme: http\n:authority: a", "http2.violation.of.messaging.rule" },
    { ":method: GET\n:scheme: http\n:authority: a\n:path: x", "http2.violation.of.messaging.rule" },
    { ":method: GET\n:scheme: http\n:authority: a\n:path: *", "http2.violation.of.messaging.rule" },
    { GET "\n:path: /b", "http2.invalid.header.field" },
    { GET "\n:status: 200", "http2.invalid.header.field" },
    { GET "\n:protocol: websocket", "http2.invalid.header.field" },
    { ":method: GET\n:scheme: ht/tp\n:authority: a\n:path: /", "http2.invalid.header.field" },
    { ":method: G T\n:scheme: http\n:authority: a\n:path: /", "http2.invalid.header.field" },
    { ":method: GET\n:scheme: http\n:authority: u@a\n:path: /", "http2.invalid.header.field" },
    { ":method: GET\n:scheme: http\n:authority: a\n:path: /a b", "http2.invalid.header.field" },
    { GET "\nX-Upper: 1", "http2.invalid.header.field" },
    { GET "\nte: gzip", "http2.invalid.header.field" },
    { GET "\nx: a\x01z", "http2.invalid.header.field" },
    { GET "\na b: c", "http2.invalid.header.field" },
    { GET "\ncontent-length: 3", "http2.violation.of.messaging.rule" },
    { GET "\ncontent-length: +3", "http2.invalid.header.field" },
    { GET "\ncontent-length: 3, 3", "http2.invalid.header.field" },
    { GET "\ncontent-length: 0\ncontent-length: 0", "http2.invalid.header.field" },
    { ":method: CONNECT\nx: y", "http2.violation.of.messaging.rule" },
};

static void test_invalid_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(invalid); i++) {
        for (int stream_only = 0; stream_only < 2; stream_only++) {
            if (i || stream_only) {
                teardown(NULL);
                setup(NULL);
            }
            sv.opts.override_stream_error = stream_only;
            sv.echo = true;
            start();
            struct trace_stream *a = trace_request(&cl, invalid[i].request, NULL, true);
            struct trace_stream *good = trace_request(&cl, GET, NULL, true);
            settle();
            char want[100];
            snprintf(want, sizeof(want), "Rprotocol error(%s)", invalid[i].details);
            if (stream_only) {
                assert_events(sv.s[0], want);
                assert_true(a->reset);
                assert_events(good, "H[:status 200|content-length 2]Dok!");
            } else {
                if (sv.status != MZ_CODEC_ERROR)
                    fail_msg("taken: %s", invalid[i].request);
                assert_string_equal(sv.codec->error.details, invalid[i].details);
                assert_string_equal(sv.s[0]->enc->details, invalid[i].details);
                assert_true(sv.codec->must_close);
                sv.codec->ops->conn_closed(sv.codec, MZ_RESET_PROTOCOL_ERROR);
                assert_events(sv.s[0], want);
            }
        }
    }
}

static void test_values_are_trimmed_and_host_yields(void **state)
{
    (void)state;
    start();
    (void)trace_request(&cl, ":method: GET\n:scheme: http\n:path: /\nhost: only", NULL, true);
    (void)trace_request(&cl, GET "\nhost: other", NULL, true);
    struct trace_stream *s = trace_stream_begin(&cl);
    s->enc = mz_http2_client_request(cl.codec, &s->in);
    struct mz_headers *h = trace_map(s->arena, GET);
    mz_headers_add(h, MZ_STR("x"), MZ_STR(" v\t "));
    s->enc->ops->encode_headers(s->enc, h, true);
    settle();
    assert_events(sv.s[0], "H[:method GET|:scheme http|:path /|:authority only]!");
    assert_events(sv.s[1], "H[:method GET|:scheme http|:authority a|:path /]!");
    assert_events(sv.s[2], "H[:method GET|:scheme http|:authority a|:path /|x v]!");
}

static void test_length_must_match(void **state)
{
    (void)state;
    sv.opts.override_stream_error = true;
    start();
    (void)trace_request(&cl, POST "\ncontent-length: 3", "ab", true);
    (void)trace_request(&cl, POST "\ncontent-length: 3", "abcd", false);
    (void)trace_request(&cl, POST "\ncontent-length: 3", "abc", true);
    settle();
    assert_true(sv.s[0]->reset && sv.s[1]->reset && !sv.s[2]->reset);
    assert_events(sv.s[2],
                  "H[:method POST|:scheme http|:authority a|:path /|content-length 3]Dabc!");
}

static void test_limits_of_heads(void **state)
{
    (void)state;
    sv.opts.max_headers_kb = 1;
    sv.opts.max_headers_count = 8;
    start();
    char big[1200];
    snprintf(big, sizeof(big), GET "\nx: %01100d", 1);
    struct trace_stream *a = trace_request(&cl, big, NULL, true);
    struct trace_stream *b = trace_request(&cl, GET "\na: 1\nb: 2\nc: 3\nd: 4\ne: 5", NULL, true);
    settle();
    assert_events(sv.s[0], "Rremote reset(http2.header_list_size_too_large)");
    assert_events(sv.s[1], "Rremote reset(http2.too_many_headers)");
    assert_events(a, "Rremote reset(http2.remote_reset)");
    assert_events(b, "Rremote reset(http2.remote_reset)");
    assert_int_equal(sv.status, MZ_CODEC_OK);
}

static void test_streams_over_the_limit_are_refused(void **state)
{
    (void)state;
    sv.opts.max_concurrent_streams = 2;
    start();
    struct trace_stream *s[4];
    for (int i = 0; i < 4; i++) /* the limit has not arrived yet */
        s[i] = trace_request(&cl, GET, NULL, true);
    settle();
    assert_int_equal(cl.max_streams, 2);
    assert_int_equal(sv.n, 2);
    assert_events(s[2], "Rremote refused stream reset(http2.remote_refuse)");
    assert_events(s[3], "Rremote refused stream reset(http2.remote_refuse)");
    trace_send(sv.s[0], ":status: 200", NULL, true);
    settle();
    (void)trace_request(&cl, GET, NULL, true);
    settle();
    assert_int_equal(sv.n, 3);
}

static void send_bytes(struct trace_stream *s, size_t n, bool end)
{
    struct mz_buf b;
    mz_buf_init(&b);
    static const char block[4096];
    for (size_t at = 0; at < n; at += sizeof(block))
        mz_buf_append(&b, block, n - at < sizeof(block) ? n - at : sizeof(block));
    s->enc->ops->encode_data(s->enc, &b, end);
    mz_buf_fini(&b);
}

/* Neither window opens; what no DATA stands before needs none. */
static void test_trailers_behind_a_closed_window(void **state)
{
    (void)state;
    cl.opts.stream_window = sv.opts.stream_window = 0;
    start();
    struct trace_stream *a = trace_request(&cl, POST, NULL, false);
    a->enc->ops->encode_trailers(a->enc, trace_map(a->arena, "x-sum: 7"));
    settle();
    struct trace_stream *b = sv.s[0];
    assert_events(b, "H[:method POST|:scheme http|:authority a|:path /]T[x-sum 7]!");
    trace_send(b, ":status: 200", NULL, false);
    settle();
    b->enc->ops->encode_trailers(b->enc, trace_map(b->arena, "grpc-status: 0"));
    settle();
    assert_events(a, "H[:status 200]T[grpc-status 0]!");
    a = trace_request(&cl, POST, NULL, false);
    settle();
    send_bytes(a, 10, false);
    a->enc->ops->encode_trailers(a->enc,
                                 trace_map(a->arena, "x-sum: 8")); /* behind DATA they wait */
    settle();
    assert_events(sv.s[1], "H[:method POST|:scheme http|:authority a|:path /]");
}

static void test_window_pauses_the_producer(void **state)
{
    (void)state;
    cl.opts.stream_window = 65535;
    cl.count_data = true;
    start();
    struct trace_stream *a = trace_request(&cl, GET, NULL, true);
    struct trace_stream *b = trace_request(&cl, GET, NULL, true);
    settle();
    a->enc->ops->read_disable(a->enc, true);
    trace_send(sv.s[0], ":status: 200", NULL, false);
    trace_send(sv.s[1], ":status: 200", NULL, false);
    send_bytes(sv.s[0], 200000, false);
    assert_true(sv.s[0]->paused);
    settle();
    assert_true(sv.s[0]->paused); /* 65535 are with the client, which does not read them */
    assert_int_equal(a->got, 0);
    for (int i = 0; i < 40; i++) { /* the other stream flows */
        send_bytes(sv.s[1], 50000, false);
        settle();
    }
    assert_int_equal(b->got, 2000000);
    a->enc->ops->read_disable(a->enc, false);
    settle();
    assert_int_equal(a->got, 200000);
    assert_false(sv.s[0]->paused);
    send_bytes(sv.s[0], 10, true);
    settle();
    assert_int_equal(a->got, 200010);
    assert_true(a->ended);
}

static void test_connection_above_high_holds_data_only(void **state)
{
    (void)state;
    cl.count_data = true;
    start();
    struct trace_stream *a = trace_request(&cl, GET, NULL, true);
    settle();
    sv.codec->ops->conn_above_high(sv.codec);
    assert_true(sv.s[0]->paused);
    trace_send(sv.s[0], ":status: 200", NULL, false);
    send_bytes(sv.s[0], 1000, false);
    settle();
    assert_events(a, "H[:status 200]");
    struct trace_stream *b = trace_request(&cl, GET, NULL, true);
    settle();
    assert_true(sv.s[1]->paused);
    sv.codec->ops->conn_below_low(sv.codec);
    settle();
    assert_int_equal(a->got, 1000);
    assert_false(sv.s[0]->paused || sv.s[1]->paused);
    assert_false(b->reset);
}

static void test_resets(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, POST, "abc", false);
    struct trace_stream *b = trace_request(&cl, POST, "abc", false);
    settle();
    a->enc->ops->reset(a->enc, MZ_RESET_LOCAL);
    sv.s[1]->enc->ops->reset(sv.s[1]->enc, MZ_RESET_LOCAL_REFUSED);
    settle();
    assert_true(sv.s[0]->reset);
    assert_events(b, "Rremote refused stream reset(http2.remote_refuse)");
}

/* An answer before the end of the request: all of it, later RST_STREAM NO_ERROR (RFC 9113 8.1). */
static void test_early_answer(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, POST, "abc", false);
    settle();
    struct trace_stream *b = sv.s[0];
    trace_send(b, ":status: 413", "too large", true);
    b->enc->ops->reset(b->enc, MZ_RESET_LOCAL);
    settle();
    assert_events(a, "H[:status 413]Dtoo large!"); /* a short rest would be read */
    send_bytes(a, 70000, false);
    settle();
    assert_events(a, "H[:status 413]Dtoo large!Rremote reset(http2.remote_reset)");
}

static void test_goaway_in_two_steps(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, GET, NULL, true);
    settle();
    sv.codec->ops->goaway(sv.codec, true);
    settle();
    assert_int_equal(cl.goaways, 1);
    assert_null(mz_http2_client_request(cl.codec, &a->in));
    sv.codec->ops->goaway(sv.codec, false);
    settle();
    trace_send(sv.s[0], ":status: 200", "ok", true);
    settle();
    assert_events(a, "H[:status 200]Dok!");
    assert_int_equal(cl.goaways, 1);
}

static void test_extended_connect_is_an_upgrade(void **state)
{
    (void)state;
    sv.opts.allow_connect = cl.opts.allow_connect = true;
    start();
    struct trace_stream *a =
        trace_request(&cl, GET "\nconnection: upgrade\nupgrade: websocket", "ping", false);
    settle();
    assert_events(sv.s[0], "H[:method GET|:scheme http|:authority a|:path /|upgrade websocket|"
                           "connection upgrade]Dping");
    trace_send(sv.s[0], ":status: 101\nupgrade: websocket\nconnection: upgrade", "pong", false);
    settle();
    assert_events(a, "H[:status 101|upgrade websocket|connection upgrade]Dpong");
}

static void test_connection_gone(void **state)
{
    (void)state;
    start();
    struct trace_stream *a = trace_request(&cl, GET, NULL, true);
    struct trace_stream *b = trace_request(&cl, POST, "x", false);
    settle();
    cl.codec->ops->conn_closed(cl.codec, MZ_RESET_CONN_TERMINATED);
    assert_events(a, "Rconnection termination");
    assert_events(b, "Rconnection termination");
    assert_null(mz_http2_client_request(cl.codec, &a->in));
}

static void test_reset_within_callbacks(void **state)
{
    (void)state;
    for (unsigned at = 1; at < 12; at++) {
        if (at > 1) {
            teardown(NULL);
            setup(NULL);
        }
        start();
        sv.echo = true;
        sv.reset_at = at;
        cl.reset_at = at / 2;
        for (int i = 0; i < 3; i++) {
            struct trace_stream *a = trace_request(&cl, POST, "abc", false);
            a->enc->ops->encode_trailers(a->enc, trace_map(a->arena, "x: y"));
        }
        settle();
        assert_int_equal(sv.status, MZ_CODEC_OK);
        assert_int_equal(cl.status, MZ_CODEC_OK);
    }
}

static void test_keepalive(void **state)
{
    (void)state;
    cl.opts.keepalive_interval_ms = 5;
    cl.opts.keepalive_timeout_ms = 20;
    start();
    settle();
    for (int i = 0; i < 4; i++) { /* answered */
        mz_loop_turn(loop, 10);
        settle();
    }
    assert_int_equal(cl.keepalives, 0);
    for (int i = 0; i < 100 && !cl.keepalives; i++)
        mz_loop_turn(loop, 10); /* nobody carries the bytes any more */
    assert_int_equal(cl.keepalives, 1);
}

static int64_t conn_bytes(void)
{
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    return c[MZ_MEM_CONN].bytes;
}

/* At rest a connection is small; what it then knows is what it knew, the HPACK tables above all. */
static void test_rest(void **state)
{
    (void)state;
    start();
    sv.echo = true;
    trace_request(&cl, GET "\nx-a: 1", NULL, true);
    rest(); /* a stream is open at one end, and output waits at the other */
    settle();
    int64_t awake = conn_bytes();
    rest();
    assert_true(resting || awake - conn_bytes() > 2 * 8000);
    assert_false(cl.codec->ops->wants_to_write(cl.codec));
    int64_t at_rest = conn_bytes();
    rest(); /* twice is once */
    assert_int_equal(conn_bytes(), at_rest);
    size_t first = cl.out.len;
    for (int i = 0; i < 100; i++) {
        char lines[128];
        (void)snprintf(lines, sizeof(lines), GET "\nx-a: 1\nx-b: %d", i / 3);
        struct trace_stream *a = trace_request(&cl, lines, NULL, true);
        settle();
        assert_events(a, "H[:status 200|content-length 2]Dok!");
        (void)snprintf(lines, sizeof(lines),
                       "H[:method GET|:scheme http|:authority a|:path /|x-a 1|x-b %d]!", i / 3);
        assert_events(sv.s[i + 1], lines);
        rest();
    }
    assert_int_equal(first, 0);
    assert_int_equal(sv.status, MZ_CODEC_OK);
}

/* Between any two bytes of the input. */
static void test_rest_within_frames(void **state)
{
    (void)state;
    start();
    trace_request(&cl, GET "\nx-a: 1", NULL, true);
    mz_loop_turn(loop, 0);
    while (mz_buf_len(&cl.out)) {
        rest();
        mz_buf_move(&sv.in, &cl.out, 1);
        assert_int_equal(sv.codec->ops->dispatch(sv.codec, &sv.in, false), MZ_CODEC_OK);
        mz_loop_turn(loop, 0);
    }
    assert_events(sv.s[0], "H[:method GET|:scheme http|:authority a|:path /|x-a 1]!");
}

/* Whatever comes first afterwards wakes it: GOAWAY of either kind, PING, the end. */
static void test_rest_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        if (i) {
            teardown(NULL);
            setup(NULL);
        }
        cl.opts.keepalive_interval_ms = i == 2 ? 1 : 0;
        cl.opts.keepalive_timeout_ms = 60000;
        start();
        settle();
        rest();
        if (i == 0)
            sv.codec->ops->goaway(sv.codec, true);
        else if (i == 1)
            sv.codec->ops->goaway(sv.codec, false);
        else if (i == 2)
            for (int k = 0; k < 1000 && mz_buf_len(&cl.out) == 0; k++)
                mz_loop_turn(loop, 5);
        if (i == 2)
            assert_true(mz_buf_len(&cl.out) > 0);
        settle();
        assert_int_equal(cl.goaways, i < 2);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_request_and_answer),
        T(test_trailers_both_ways),
        T(test_trailers_behind_a_closed_window),
        T(test_informational),
        T(test_invalid_requests),
        T(test_values_are_trimmed_and_host_yields),
        T(test_length_must_match),
        T(test_limits_of_heads),
        T(test_streams_over_the_limit_are_refused),
        T(test_window_pauses_the_producer),
        T(test_connection_above_high_holds_data_only),
        T(test_resets),
        T(test_early_answer),
        T(test_goaway_in_two_steps),
        T(test_extended_connect_is_an_upgrade),
        T(test_connection_gone),
        T(test_reset_within_callbacks),
        T(test_keepalive),
        T(test_rest),
        T(test_rest_within_frames),
        T(test_rest_ends),
    };
    int failed = cmocka_run_group_tests_name("http/2", tests, NULL, NULL);
    resting = true;
    return failed + cmocka_run_group_tests_name("http/2, resting", tests, NULL, NULL);
}
