/* Splits of random inputs, flow control, pipelining, limits, cases of names, faults. */
#include "base/rand.h"
#include "base/test.h"
#include "http/h1/scan.h"
#include "http/h1/split_fuzz.h"

#include <stdio.h>

/* Random strings of pieces that mean something: split or not, the events are the same (split_fuzz aborts otherwise). */
static void test_random_splits(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "X: y\r\n z\r\n",
        "\r\n",
        "\n",
        "\r",
        "3\r\nabc\r\n",
        "0\r\n",
        "abc",
        ";x",
        "a: b\r\n",
        " ",
        ":",
        "HTTP/1.1 101 S\r\n",
        "GET / HTTP/1.0\r\n",
        "HTTP/1.1 204 N\r\n",
    };
    struct mz_rand r;
    mz_rand_init(&r, 11);
    for (int round = 0; round < 20000; round++) {
        uint8_t text[600];
        size_t n = 2;
        text[0] = (uint8_t)(mz_rand_u64(&r) & 0x7f);
        text[1] = (uint8_t)mz_rand_u64(&r);
        for (uint64_t k = mz_rand_below(&r, 14); k; k--) {
            struct mz_str s = mz_str_c(pieces[mz_rand_below(&r, MZ_COUNT(pieces))]);
            memcpy(text + n, s.p, s.n);
            n += s.n;
        }
        (void)split_fuzz(text, n, round & 1);
    }
}

/* The vector forms give what the byte forms give. */
static void test_scan(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 5);
    static const char alphabet[] = "ab\r\n\n\r\tc\x7f";
    for (int round = 0; round < 20000; round++) {
        char text[100 + MZ_H1_PAD] = { 0 };
        size_t n = mz_rand_below(&r, 100), cut = n ? mz_rand_below(&r, n + 1) : 0;
        for (size_t i = 0; i < n; i++)
            text[i] =
                mz_rand_below(&r, 3) ? 'x' : alphabet[mz_rand_below(&r, sizeof(alphabet) - 1)];
        assert_ptr_equal(h1_value_end(text), h1_value_end_bytes(text));
        assert_ptr_equal(h1_word_end(text), h1_word_end_bytes(text));
        char name[sizeof(text)], same[sizeof(text)];
        for (size_t i = 0; i < sizeof(text); i++)
            name[i] = same[i] = text[i] && i < 90 && mz_rand_below(&r, 40)
                                    ? "aZ09-Mq_"[mz_rand_below(&r, 8)]
                                    : text[i];
        assert_int_equal(h1_name_end(name) - name, h1_name_end_bytes(same) - same);
        assert_memory_equal(name, same, sizeof(name));
        char host[sizeof(text)] = { 0 };
        for (size_t i = 0; i < n; i++)
            host[i] = mz_rand_below(&r, 40) ? "aZ.:-09"[mz_rand_below(&r, 7)] : same[i];
        assert_int_equal(h1_host_valid(host, cut), h1_host_valid_bytes(host, cut));
        enum h1_end_state a = H1_END_NONE, b = H1_END_NONE;
        size_t x = h1_head_end(text, cut, &a), y = h1_head_end_bytes(text, cut, &b);
        assert_int_equal(x, y);
        if (x)
            continue;
        assert_int_equal(a, b);
        assert_int_equal(h1_head_end(text + cut, n - cut, &a),
                         h1_head_end_bytes(text + cut, n - cut, &b));
    }
}

static void feed(struct trace *t, const char *text)
{
    (void)trace_feed(t, text, strlen(text), false);
}

static void assert_text(struct mz_buf *b, const char *want)
{
    struct mz_str got = trace_text(b);
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("got " MZ_STR_FMT " wanted %s", MZ_STR_ARG(got), want);
    mz_buf_drain(b, b->len);
}

#define GET  "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define HGET "H[:method GET|:authority a|:path /]!"

/* The next request is not looked at before the answer to the first is complete (H1). */
static void test_pipelining(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, false, trace_opts());
    t.echo = false;
    feed(&t, GET GET);
    assert_text(&t.events, HGET);
    assert_int_equal(t.opened, 1);
    assert_int_equal(t.in.len, strlen(GET));
    feed(&t, "");
    assert_int_equal(t.opened, 1);
    trace_answer(&t, 200, "ok");
    feed(&t, "");
    assert_int_equal(t.opened, 2);
    assert_int_equal(t.enc->id, 2);
    assert_text(&t.events, HGET);
    trace_fini(&t);
}

static void test_read_disable(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, false, trace_opts());
    feed(&t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab");
    t.enc->ops->read_disable(t.enc, true);
    t.enc->ops->read_disable(t.enc, true);
    assert_true(t.read_off);
    feed(&t, "cd");
    t.enc->ops->read_disable(t.enc, false);
    feed(&t, "e");
    assert_int_equal(t.in.len, 3);
    assert_true(t.read_off);
    t.enc->ops->read_disable(t.enc, false);
    assert_false(t.read_off);
    feed(&t, "f");
    assert_text(&t.events, "H[:method POST|:authority a|:path /|content-length 6]Dabcdef!");
    trace_fini(&t);
    trace_init(&t, false,
               trace_opts()); /* a stream that ends while disabled gives the connection back */
    feed(&t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab");
    t.enc->ops->read_disable(t.enc, true);
    t.enc->ops->reset(t.enc, MZ_RESET_LOCAL);
    assert_false(t.read_off);
    trace_fini(&t);
}

static void test_watermarks(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, false, trace_opts());
    t.echo = false;
    feed(&t, GET);
    t.codec->ops->conn_above_high(t.codec);
    t.codec->ops->conn_above_high(t.codec);
    assert_true(t.enc->ops->above_high(t.enc));
    t.codec->ops->conn_below_low(t.codec);
    assert_text(&t.events, HGET "^v");
    t.codec->ops->conn_above_high(t.codec);
    trace_answer(&t, 200, "ok");
    t.codec->ops->conn_below_low(t.codec); /* nobody is there to be told */
    assert_text(&t.events, "^");
    trace_fini(&t);
}

/* An upgrade's early bytes wait for the 101, and are dropped without one (A21). */
static void test_held(void **state)
{
    (void)state;
    for (int accepted = 0; accepted < 2; accepted++) {
        struct trace t;
        struct mz_buf data;
        trace_init(&t, true, trace_opts());
        trace_request(&t, "GET", true);
        mz_buf_drain(&t.out, t.out.len);
        mz_buf_init(&data);
        for (int i = 0; i < 70; i++)
            mz_buf_append(&data, "0123456789abcdef0123456789abcdef", 32);
        for (int i = 0; i < 31; i++) {
            struct mz_buf part;
            mz_buf_init(&part);
            mz_buf_copy(&part, &data);
            t.enc->ops->encode_data(t.enc, &part, false);
            mz_buf_fini(&part);
        }
        assert_int_equal(t.out.len, 0);
        assert_text(&t.events, "^");
        feed(&t, accepted ? "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                          : "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n");
        assert_int_equal(t.out.len, accepted ? 31 * data.len : 0);
        assert_true(t.codec->must_close);
        assert_text(&t.events, accepted ? "H[:status 101|connection upgrade|upgrade websocket]v"
                                        : "H[:status 200|content-length 1]v");
        mz_buf_fini(&data);
        trace_fini(&t);
    }
}

static void test_premature(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, true, trace_opts());
    assert_int_equal(trace_feed(&t, "HTTP/1.1 200 OK\r\n", 17, false), MZ_CODEC_PREMATURE);
    trace_fini(&t);
    trace_init(&t, true,
               trace_opts()); /* bytes behind an answer: it counts, the connection does not (F02) */
    trace_request(&t, "GET", false);
    feed(&t, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200");
    assert_text(&t.events, "H[:status 200|content-length 1]Da!");
    assert_true(t.codec->must_close);
    trace_fini(&t);
    trace_init(&t, true, trace_opts()); /* and a clean one is used again */
    for (int i = 0; i < 3; i++) {
        trace_request(&t, "GET", false);
        feed(&t, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
        assert_false(t.codec->must_close);
        assert_text(&t.events, "H[:status 200|content-length 1]Da!");
    }
    trace_fini(&t);
}

static void test_closed(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, true, trace_opts());
    trace_request(&t, "GET", false);
    t.codec->ops->conn_closed(t.codec, MZ_RESET_CONN_TERMINATED);
    t.codec->ops->conn_closed(t.codec, MZ_RESET_CONN_TERMINATED);
    assert_text(&t.events, "Rconnection termination");
    t.enc->ops->reset(t.enc, MZ_RESET_LOCAL); /* late calls are harmless */
    trace_fini(&t);
}

static void fill(struct trace *t, char c, size_t n)
{
    char block[1000];
    memset(block, c, sizeof(block));
    for (; n; n -= n < sizeof(block) ? n : sizeof(block))
        (void)trace_feed(t, block, n < sizeof(block) ? n : sizeof(block), false);
}

/* B15: 59,000 bytes pass, 61,500 do not; nothing grows while a head never ends. */
static void test_limits(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, false, trace_opts());
    feed(&t, "GET / HTTP/1.1\r\nx: ");
    fill(&t, 'a', 59000);
    feed(&t, "\r\n\r\n");
    assert_true(t.answered);
    assert_int_equal(t.codec->error.status, 0);
    trace_fini(&t);
    for (int path = 0; path < 2; path++) {
        trace_init(&t, false, trace_opts());
        feed(&t, path ? "GET /" : "GET / HTTP/1.1\r\nx: ");
        fill(&t, 'a', 61500);
        assert_int_equal(t.codec->error.status, 431);
        assert_string_equal(t.codec->error.details, "http1.headers_too_large");
        assert_string_equal(t.codec->error.body, "Request Header Fields Too Large");
        trace_fini(&t);
    }
    trace_init(&t, false, trace_opts()); /* B14 */
    fill(&t, '\n', 900);
    assert_int_equal(t.opened, 0);
    fill(&t, '\n', 900);
    assert_int_equal(t.codec->error.status, 400);
    trace_fini(&t);
}

/* A16: chunk extensions are bounded, one by one and in sum; F06: so are informational answers. */
static void test_waste(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, false, trace_opts());
    feed(&t, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n1;");
    fill(&t, 'e', 10000);
    assert_int_equal(t.codec->error.status, 400);
    trace_fini(&t);
    trace_init(&t, false, trace_opts());
    feed(&t, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for (int i = 0; i < 10 && !t.codec->error.status; i++) {
        feed(&t, "1;");
        fill(&t, 'e', 4000);
        feed(&t, "\r\na\r\n");
    }
    assert_int_equal(t.codec->error.status, 400);
    trace_fini(&t);
    trace_init(&t, true, trace_opts());
    trace_request(&t, "GET", false);
    size_t before = mz_arena_size(t.arena);
    for (int i = 0; i < 1000; i++)
        feed(&t, "HTTP/1.1 100 Continue\r\n\r\n");
    feed(&t, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_true(mz_arena_size(t.arena) < before + 40000);
    struct mz_str got = trace_text(&t.events);
    assert_true(mz_str_ends(got, MZ_STR("]H[:status 200|content-length 0]!")));
    trace_fini(&t);
}

/* Found by fuzzing: what is read over is still an answer's head. */
static void test_waste_judged(void **state)
{
    (void)state;
    struct trace t;
    trace_init(&t, true, trace_opts());
    trace_request(&t, "GET", false);
    for (int i = 0; i < 9; i++)
        feed(&t, "HTTP/1.1 103 Early Hints\r\n\r\n");
    assert_int_equal(t.codec->error.status, 0);
    feed(&t, "XXXX/1.1 103 Early Hints\r\n\r\n");
    assert_int_equal(t.codec->error.status, 502);
    trace_fini(&t);
}

/* Names go out as configured: proper case, or as they came in. */
static void test_case(void **state)
{
    (void)state;
    for (int preserve = 0; preserve < 2; preserve++) {
        struct trace up, down;
        struct mz_http1_opts o = trace_opts();
        o.header_case = preserve ? MZ_CASE_PRESERVE : MZ_CASE_PROPER;
        o.forward_reason_phrase = true;
        trace_init(&up, true, o);
        trace_init(&down, false, o);
        down.echo = false;
        trace_request(&up, "GET", false);
        assert_text(&up.out, preserve ? "GET / HTTP/1.1\r\nhost: a:1\r\n\r\n"
                                      : "GET / HTTP/1.1\r\nHost: a:1\r\n\r\n");
        feed(&down, "GET / HTTP/1.1\r\nHOST: a\r\nX-mIxEd: 1\r\n\r\n");
        struct mz_headers h;
        mz_headers_init(&h, down.arena);
        h.reason = MZ_STR("Fine");
        mz_headers_set_status(&h, 200);
        struct mz_header *e = mz_headers_add_raw(&h, MZ_STR("x-mixed"), MZ_STR("1"), MZ_H_NONE);
        e->raw = preserve ? "X-mIxEd" : NULL;
        mz_headers_add_id(&h, MZ_H_ETAG, MZ_STR("e"));
        down.enc->ops->encode_headers(down.enc, &h, true);
        assert_text(
            &down.out,
            preserve ? "HTTP/1.1 200 Fine\r\nX-mIxEd: 1\r\netag: e\r\ncontent-length: 0\r\n\r\n"
                     : "HTTP/1.1 200 Fine\r\nX-Mixed: 1\r\nEtag: e\r\nContent-Length: 0\r\n\r\n");
        assert_int_equal(down.enc->wire_in,
                         strlen("GET / HTTP/1.1\r\nHOST: a\r\nX-mIxEd: 1\r\n\r\n"));
        assert_int_equal(down.enc->header_in, strlen("HOST: a\r\nX-mIxEd: 1\r\n") - 2);
        assert_int_equal(down.enc->header_out,
                         down.enc->wire_out - strlen("HTTP/1.1 200 Fine\r\n\r\n"));
        trace_fini(&up);
        trace_fini(&down);
    }
}

static void test_1xx_trailers_goaway(void **state)
{
    (void)state;
    struct trace t;
    struct mz_http1_opts o = trace_opts();
    o.enable_trailers = true;
    trace_init(&t, false, o);
    t.echo = false;
    feed(&t, GET);
    struct mz_headers c, h, tr;
    mz_headers_init(&c, t.arena);
    mz_headers_set_status(&c, 100);
    t.enc->ops->encode_1xx(t.enc, &c);
    t.codec->ops->goaway(t.codec, false);
    mz_headers_init(&h, t.arena);
    mz_headers_set_status(&h, 200);
    t.enc->ops->encode_headers(t.enc, &h, false);
    mz_headers_init(&tr, t.arena);
    mz_headers_add(&tr, MZ_STR("x-tr"), MZ_STR("2"));
    t.enc->ops->encode_trailers(t.enc, &tr);
    assert_text(&t.out, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: "
                        "chunked\r\nconnection: close\r\n\r\n"
                        "0\r\nx-tr: 2\r\n\r\n");
    assert_true(t.codec->must_close);
    assert_false(t.codec->ops->wants_to_write(t.codec));
    trace_fini(&t);
}

/* After the notice an answer that says close leaves the connection open; without it, and after the final word, it ends. */
static void test_announced_end(void **state)
{
    (void)state;
    static const struct {
        bool notice, final, closes;
    } cases[] = { { false, false, true }, { true, false, false }, { true, true, true } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct trace t;
        trace_init(&t, false, trace_opts());
        t.echo = false;
        if (cases[i].notice)
            t.codec->ops->goaway(t.codec, true);
        feed(&t, GET);
        if (cases[i].final)
            t.codec->ops->goaway(t.codec, false);
        struct mz_headers h;
        mz_headers_init(&h, t.arena);
        mz_headers_set_status(&h, 204);
        mz_headers_set_id(&h, MZ_H_CONNECTION, MZ_STR("close"));
        t.enc->ops->encode_headers(t.enc, &h, true);
        assert_text(&t.out, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        assert_int_equal(t.codec->must_close, cases[i].closes);
        trace_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_splits),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_read_disable),
        cmocka_unit_test(test_watermarks),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_premature),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_waste),
        cmocka_unit_test(test_waste_judged),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_1xx_trailers_goaway),
        cmocka_unit_test(test_announced_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
