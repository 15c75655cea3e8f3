#include "base/test.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/rand.h"
#include "observe/format_priv.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"
#include <stdio.h>
#include <stdlib.h>

static struct mz_str my_state_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    (void)o, (void)a;
    return MZ_STR("fs /p?x");
}

static bool my_state_field(const struct mz_filter_object *o, struct mz_str name,
                           struct mz_str *out_value)
{
    (void)o;
    *out_value = MZ_STR("of a field");
    return mz_str_eq(name, MZ_STR("f"));
}

static uint64_t fixed_mono(void)
{
    return 1000000 + 77000;
}
static uint64_t fixed_wall(void)
{
    return 1795394993000000;
}
static const struct mz_clock fixed_clock = { fixed_mono, fixed_wall };

struct fixture {
    struct mz_arena *arena;
    struct mz_stream_info info;
    struct mz_map state;
    struct mz_filter_object object;
    struct mz_attempt attempts[2];
    struct mz_format_ctx ctx;
};

static const struct mz_value *str_value(struct mz_arena *a, const char *text)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRING;
    v->str = mz_str_c(text);
    return v;
}

static const struct mz_value *number_value(struct mz_arena *a, double n)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_NUMBER;
    v->number = n;
    return v;
}

static void fill_http(struct fixture *f)
{
    struct mz_headers *h = mz_headers_create(f->arena);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/p%20q?x=1&y=a%26b&z"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("ex.test:80"));
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("agent \"q\""));
    mz_headers_add(h, MZ_STR("x-in"), MZ_STR("abcdef"));
    mz_headers_add(h, MZ_STR("x-in"), MZ_STR("second"));
    mz_headers_add(h, MZ_STR("x-esc"), MZ_STR("a\x1b[m\tb\x7f"));
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc+proto"));
    f->info.req = h;
    struct mz_headers *r = mz_headers_create(f->arena);
    mz_headers_add_id(r, MZ_H_STATUS, MZ_STR("200"));
    mz_headers_add(r, MZ_STR("x-up"), MZ_STR("up"));
    f->info.resp = r;
    struct mz_headers *t = mz_headers_create(f->arena);
    mz_headers_add_id(t, MZ_H_GRPC_STATUS, MZ_STR("5"));
    f->info.resp_trailers = t;
}

static void fill_upstream(struct fixture *f)
{
    struct mz_stream_info *i = &f->info;
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.9"), 8080, &i->up.host));
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.10"), 8081, &i->up.remote));
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), 4000, &i->up.local));
    i->up.host_name = MZ_STR("ep.test:8080");
    i->up.has_protocol = true;
    i->up.protocol = MZ_HTTP2;
    i->up.conn_id = 9;
    i->up.begin_us = 1001000;
    i->up.pool_ready_us = 1004000;
    i->up.connect_start_us = 1002000;
    i->up.connect_us = 1002056;
    i->up.first_tx_us = 1005000;
    i->up.last_tx_us = 1006500;
    i->up.first_rx_us = 1020000;
    i->up.last_rx_us = 1030000;
    i->up.wire_in = 1, i->up.wire_out = 2, i->up.header_in = 3, i->up.header_out = 4;
    i->up.transport_failure = MZ_STR("tls went wrong");
    f->attempts[0] = (struct mz_attempt){ i->up.host, MZ_STR("a.test:1"), 0 };
    f->attempts[1] = (struct mz_attempt){ i->up.host, i->up.host_name, 9 };
    i->up.hosts = f->attempts;
    i->up.hosts_n = 2;
}

static void fill_metadata(struct fixture *f)
{
    struct mz_arena *a = f->arena;
    struct mz_meta *m = f->info.dynamic_metadata = mz_meta_create(a);
    mz_meta_set(m, MZ_STR("dm"), MZ_STR("s"), str_value(a, "str"));
    mz_meta_set(m, MZ_STR("dm"), MZ_STR("n"), number_value(a, 7));
    mz_meta_set(m, MZ_STR("dm"), MZ_STR("f"), number_value(a, 2.5));
    mz_meta_set(m, MZ_STR("dm"), MZ_STR("q"), str_value(a, "x\"y"));
    struct mz_meta *r = mz_meta_create(a);
    mz_meta_set(r, MZ_STR("ns"), MZ_STR("k"), str_value(a, "meta"));
    f->info.route_metadata = f->info.vhost_metadata = f->info.listener_metadata =
        f->info.chain_metadata = r;
    f->info.up.metadata = f->info.up.cluster_metadata = r;
}

static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    mz_clock = &fixed_clock;
    f->arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info *i = &f->info;
    i->arena = f->arena;
    i->protocol = MZ_HTTP11;
    i->has_protocol = true;
    i->start_us = 1000000;
    i->start_wall_us = 1795394991998043;
    i->rx_end_us = 1000062;
    i->tx_first_us = 1040000;
    i->tx_last_us = 1050000;
    i->attempts = 2;
    i->status = 200;
    i->details = "via_upstream";
    i->rx_body = 3;
    i->tx_body = 10;
    i->wire_in = 11, i->wire_out = 12, i->header_in = 13, i->header_out = 14;
    i->route = (struct mz_route_view){ MZ_STR("r1"), MZ_STR("vh"), MZ_STR("vc"), MZ_STR("alt"),
                                       MZ_STR("one") };
    i->filter_chain_name = MZ_STR("fc");
    i->request_id = MZ_STR("b2edbc2c");
    i->conn_id = 1;
    i->trace_id = "abc";
    i->flags = MZ_FLAG(UPSTREAM_CONNECTION_FAILURE) | MZ_FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED);
    assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.1"), 10000, &i->local));
    assert_true(mz_addr_parse_ip(MZ_STR("2001:db8::7"), 0, &i->remote));
    assert_true(mz_addr_parse_ip(MZ_STR("10.1.2.3"), 50242, &i->direct_remote));
    fill_http(f);
    fill_upstream(f);
    fill_metadata(f);
    mz_map_init(&f->state, MZ_MEM_STREAM);
    f->object = (struct mz_filter_object){ .text = my_state_text, .field = my_state_field };
    mz_map_put(&f->state, MZ_STR("my.key"), &f->object);
    i->filter_state = &f->state;
    f->ctx = (struct mz_format_ctx){ .info = i,
                                     .local_reply_body = MZ_STR("body"),
                                     .log_type = "DownstreamEnd" };
}

static void fixture_fini(struct fixture *f)
{
    mz_map_fini(&f->state);
    mz_arena_destroy(f->arena);
    mz_clock = &mz_clock_system;
}

static const char *render(const char *text, const struct mz_format_ctx *c, bool omit)
{
    static char out[4096];
    struct mz_err err;
    struct mz_format *f = mz_format_create(mz_str_c(text), omit, &err);
    if (!f) {
        (void)snprintf(out, sizeof(out), "ERROR %s", err.msg);
        return out;
    }
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(f, c, &b);
    out[mz_buf_copyout(&b, 0, out, sizeof(out) - 1)] = 0;
    mz_buf_fini(&b);
    mz_format_destroy(f);
    return out;
}

static const struct {
    const char *format, *text;
} full[] = {
    { "", "" },
    { "plain", "plain" },
    { "%%", "%" },
    { "%%literal%%", "%literal%" },
    { "%%PROTOCOL%%", "%PROTOCOL%" },
    { "[%PROTOCOL%]%PROTOCOL%\n", "[HTTP/1.1]HTTP/1.1\n" },
    { "%PROTOCOL()%", "HTTP/1.1" },
    { "%ACCESS_LOG_TYPE%", "DownstreamEnd" },
    { "%BYTES_RECEIVED% %BYTES_SENT% %BYTES_RETRANSMITTED% %PACKETS_RETRANSMITTED%", "3 10 0 0" },
    { "%CLUSTER_METADATA(ns:k)%", "meta" },
    { "%CLUSTER_METADATA(ns)%", "{\"k\":\"meta\"}" },
    { "%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%", "50" },
    { "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)%", "50" },
    { "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%", "62" },
    { "%COMMON_DURATION(US_CX_BEG:US_CX_END:ns)%", "56000" },
    { "%COMMON_DURATION(US_HS_END:US_CX_END:us)%", "-" },
    { "%COMMON_DURATION(US_RX_END:US_RX_BEG:us)%", "-" },
    { "%COMMON_DURATION(nope:DS_TX_END:us)%", "-" },
    { "%CONNECTION_ID% %UPSTREAM_CONNECTION_ID%", "1 9" },
    { "%CONNECTION_TERMINATION_DETAILS%", "-" },
    { "%CUSTOM_FLAGS%", "" },
    { "%DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED% %DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT%",
      "13 14" },
    { "%DOWNSTREAM_DETECTED_CLOSE_TYPE% %UPSTREAM_DETECTED_CLOSE_TYPE%", "Normal Normal" },
    { "%DOWNSTREAM_LOCAL_CLOSE_REASON% %UPSTREAM_LOCAL_CLOSE_REASON%", "- -" },
    { "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%",
      "127.0.0.1:10000 127.0.0.1 10000" },
    { "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_PORT%", "127.0.0.1:10000 10000" },
    { "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "
      "%DOWNSTREAM_REMOTE_PORT%",
      "[2001:db8::7]:0 2001:db8::7 0" },
    { "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(32)%", "2001:db8::/32" },
    { "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT(20)%", "10.1.0.0/20" },
    { "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_PORT%",
      "10.1.2.3:50242 50242" },
    { "%DOWNSTREAM_HEADER_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_SENT%", "13 14" },
    { "%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT%", "11 12" },
    { "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_CIPHER%", "- - -" },
    { "%DOWNSTREAM_PEER_CERT_V_START(%Y)%", "-" },
    { "%DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%", "" },
    { "%DURATION%", "77" },
    { "%DYNAMIC_METADATA(dm)%", "{\"f\":2.5,\"n\":7,\"q\":\"x\\\"y\",\"s\":\"str\"}" },
    { "%DYNAMIC_METADATA(dm:s)% %DYNAMIC_METADATA(dm:n)% %DYNAMIC_METADATA(dm:f)%", "str 7 2.5" },
    { "%DYNAMIC_METADATA(dm:s):2% %DYNAMIC_METADATA(dm):5%", "st {\"f\":" },
    { "%DYNAMIC_METADATA(dm:none)% %DYNAMIC_METADATA(dm:s:deeper)% %DYNAMIC_METADATA(nope)%",
      "- - -" },
    { "%EMIT_TIME%", "2026-11-23T00:49:53.000Z" },
    { "%ENVIRONMENT(MZ_TEST_SET)% %ENVIRONMENT(MZ_TEST_UNSET)%", "yes -" },
    { "%FILTER_CHAIN_NAME%", "fc" },
    { "%FILTER_STATE(my.key)% %FILTER_STATE(my.key:TYPED)%", "\"fs /p?x\" \"fs /p?x\"" },
    { "%FILTER_STATE(my.key:PLAIN)%|%FILTER_STATE(my.key:PLAIN):2%", "fs /p?x|fs" },
    { "%FILTER_STATE(my.key:FIELD:f)% %FILTER_STATE(my.key:FIELD:g)% %FILTER_STATE(none)%",
      "of a field - -" },
    { "%UPSTREAM_FILTER_STATE(my.key)%", "-" },
    { "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
      "NotFound NOT_FOUND 5 5" },
    { "%LOCAL_REPLY_BODY%", "body" },
    { "%METADATA(ROUTE:ns:k)% %METADATA(VIRTUAL_HOST:ns:k)% %METADATA(DYNAMIC:dm:s)%",
      "meta meta str" },
    { "%METADATA(LISTENER:ns:k)% %METADATA(LISTENER_FILTER_CHAIN:ns:k)%", "meta meta" },
    { "%METADATA(CLUSTER:ns:k)% %METADATA(UPSTREAM_HOST:ns:k)% %METADATA(ROUTE)%", "meta meta -" },
    { "%PATH% %PATH(NQ)% %PATH(WQ:PATH)%", "/p%20q?x=1&y=a%26b&z /p%20q /p%20q?x=1&y=a%26b&z" },
    { "%PATH(NQ:ORIG)% %PATH(:ORIG_OR_PATH):3%", "- /p%" },
    { "%QUERY_PARAM(x)% %QUERY_PARAM(y)% [%QUERY_PARAM(z)%] %QUERY_PARAM(none)%", "1 a%26b [] -" },
    { "%QUERY_PARAMS% %QUERY_PARAMS(DECODED)%", "x=1&y=a%26b&z x=1&y=a&b&z" },
    { "%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)% "
      "%REQUESTED_SERVER_NAME(HOST_FIRST:HOST)%",
      "- ex.test:80 ex.test:80" },
    { "%REQUEST_DURATION% %REQUEST_TX_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%",
      "0 6 20 30" },
    { "%UPSTREAM_CONNECTION_POOL_READY_DURATION% %ROUNDTRIP_DURATION% "
      "%DOWNSTREAM_HANDSHAKE_DURATION%",
      "3 - -" },
    { "%REQ(:METHOD)% %REQ(x-in)% %REQ(X-IN):3% %REQ(none)%", "GET abcdef abc -" },
    { "%REQ(none?x-in)% %REQ(x-in?none)% %REQ(none?:path):2% %REQ(a?)%", "abcdef abcdef /p -" },
    { "%REQ(user-agent)%", "agent \"q\"" },
    { "%REQ_WITHOUT_QUERY(none?:PATH)%", "/p%20q" },
    { "%RESP(x-up)%[%RESP(x-up):0%] %TRAILER(grpc-status)%", "up[] 5" },
    { "%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%", "140 16 12" },
    { "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%",
      "200 via_upstream via_upstream" },
    { "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
      "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded" },
    { "%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%",
      "r1 vc alt one" },
    { "%START_TIME%", "2026-11-23T00:49:51.998Z" },
    { "%START_TIME()%", "2026-11-23T00:49:51.998Z" },
    { "%START_TIME(%s)% %START_TIME(%s.%3f)%", "1795394991 1795394991.998" },
    { "%START_TIME(%Y/%m/%dT%H:%M:%S%z %Z)%", "2026/11/23T00:49:51+0000 GMT" },
    { "%START_TIME(%9f|%f|%3f|%1f|%6fZ)%", "998043000|998043000|998|9|998043Z" },
    { "%START_TIME(%E4S|%E*S|%E4Y|%Ez|%Q|%%Y)%", "51.9980|51.998043|2026|+00:00|%Q|%Y" },
    { "%START_TIME_LOCAL(%s)%", "1795394991" },
    { "%STREAM_ID% %TRACE_ID% %SPAN_ID%", "b2edbc2c abc -" },
    { "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "
      "%UPSTREAM_REMOTE_PORT%",
      "10.0.0.9:8080 10.0.0.10:8081 10.0.0.10 8081" },
    { "%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%",
      "10.0.0.1:4000 10.0.0.1 4000" },
    { "%UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "ep.test:8080 ep.test" },
    { "%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%",
      "10.0.0.9:8080,10.0.0.9:8080 10.0.0.9,10.0.0.9" },
    { "%UPSTREAM_HOST_NAMES_ATTEMPTED% %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%",
      "a.test:1,ep.test:8080 a.test,ep.test" },
    { "%UPSTREAM_CONNECTION_IDS_ATTEMPTED% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_PROTOCOL%",
      "9 2 HTTP/2" },
    { "%UPSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT% %UPSTREAM_HEADER_BYTES_RECEIVED% "
      "%UPSTREAM_HEADER_BYTES_SENT%",
      "1 2 3 4" },
    { "%UPSTREAM_METADATA(ns:k)% %UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_SERVER_NAME%",
      "meta tls_went_wrong -" },
};

static void test_every_operator(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    (void)setenv("MZ_TEST_SET", "yes", 1);
    for (size_t i = 0; i < MZ_COUNT(full); i++)
        assert_string_equal(render(full[i].format, &f.ctx, false), full[i].text);
    fixture_fini(&f);
}

static const struct {
    const char *format, *text, *omitted;
} empty[] = {
    { "%REQ(a)%|%RESP(a)%|%TRAILER(a)%", "-|-|-", "||" },
    { "%PROTOCOL%|%UPSTREAM_PROTOCOL%|%RESPONSE_CODE%|%RESPONSE_FLAGS%|%RESPONSE_FLAGS_LONG%",
      "-|-|0|-|-", "||0|-|-" },
    { "%UPSTREAM_HOST%|%UPSTREAM_CLUSTER%|%ROUTE_NAME%|%UPSTREAM_REMOTE_PORT%", "-|-|-|-", "|||" },
    { "%DYNAMIC_METADATA(a)%|%FILTER_STATE(a)%|%METADATA(ROUTE:a)%", "-|-|-", "||" },
    { "%GRPC_STATUS%|%PATH%|%QUERY_PARAM(a)%|%QUERY_PARAMS%|%REQUESTED_SERVER_NAME(HOST_FIRST)%",
      "-|-|-|-|-", "||||" },
    { "%LOCAL_REPLY_BODY%|%ACCESS_LOG_TYPE%|%CONNECTION_ID%|%STREAM_ID%|%TRACE_ID%",
      "|NotSet|0|-|-", "|NotSet|0||" },
    { "%REQUEST_DURATION%|%RESPONSE_DURATION%|%RESPONSE_TX_DURATION%|%DURATION%", "-|-|-|-",
      "|||" },
    { "%UPSTREAM_HOSTS_ATTEMPTED%|%UPSTREAM_DETECTED_CLOSE_TYPE%|%DOWNSTREAM_DETECTED_CLOSE_TYPE%",
      "-|-|Normal", "||Normal" },
    { "%REQUEST_HEADERS_BYTES%|%RESPONSE_CODE_DETAILS%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "0|-|0",
      "0||0" },
};

static void test_nothing_known(void **state)
{
    (void)state;
    struct mz_stream_info info = { 0 };
    struct mz_format_ctx c = { .info = &info };
    for (size_t i = 0; i < MZ_COUNT(empty); i++) {
        assert_string_equal(render(empty[i].format, &c, false), empty[i].text);
        assert_string_equal(render(empty[i].format, &c, true), empty[i].omitted);
    }
}

static void test_random_ids(void **state)
{
    (void)state;
    struct mz_stream_info info = { 0 };
    struct mz_format_ctx c = { .info = &info };
    char first[64];
    (void)snprintf(first, sizeof(first), "%s", render("%UNIQUE_ID%", &c, false));
    assert_int_equal(strlen(first), 36);
    assert_int_equal(first[14], '4');
    assert_string_not_equal(render("%UNIQUE_ID%", &c, false), first);
    /* That of a connection stays, another one has another. */
    struct mz_stream_info conn = { .conn_id = 7, .start_wall_us = 1 };
    c.info = &conn;
    (void)snprintf(first, sizeof(first), "%s", render("%STREAM_ID%", &c, false));
    assert_int_equal(strlen(first), MZ_UUID_TEXT);
    assert_string_equal(render("%STREAM_ID%", &c, false), first);
    conn.conn_id = 8;
    assert_string_not_equal(render("%STREAM_ID%", &c, false), first);
    assert_string_not_equal(render("%HOSTNAME%", &c, false), "-");
}

static void test_http_status_as_grpc(void **state)
{
    (void)state;
    static const struct {
        unsigned http;
        const char *grpc;
    } cases[] = { { 200, "Unknown" },         { 400, "Internal" },
                  { 401, "Unauthenticated" }, { 403, "PermissionDenied" },
                  { 404, "Unimplemented" },   { 429, "Unavailable" },
                  { 503, "Unavailable" },     { 0, "-" } };
    struct fixture f;
    fixture_init(&f);
    f.info.resp_trailers = NULL;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        f.info.status = cases[i].http;
        assert_string_equal(render("%GRPC_STATUS%", &f.ctx, false), cases[i].grpc);
    }
    fixture_fini(&f);
}

static void test_control_bytes(void **state) /* B18 */
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_string_equal(render("%REQ(x-esc)%", &f.ctx, false), "a\x1b[m\tb\x7f");
    f.ctx.escape = true;
    assert_string_equal(render("%REQ(x-esc)%\n", &f.ctx, false), "a\\x1b[m\tb\\x7f\n");
    fixture_fini(&f);
}

static void test_server_name(void **state) /* B18 */
{
    (void)state;
    static const struct {
        const char *sni, *shown;
    } names[] = { { "a-1.Ex.test", "a-1.Ex.test" },
                  { "a_b", "invalid:a_b" },
                  { "a\x1b[\n\"\xff.test", "invalid:a_____.test" } };
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        f.info.sni = mz_str_c(names[i].sni);
        assert_string_equal(render("%REQUESTED_SERVER_NAME%", &f.ctx, false), names[i].shown);
    }
    fixture_fini(&f);
}

static const struct {
    const char *format, *message;
} wrong[] = {
    { "%", "no valid format operator at position 0 of \"%\"" },
    { "a%b", "no valid format operator at position 1 of \"a%b\"" },
    { "%%%", "no valid format operator at position 2 of \"%%%\"" },
    { "%protocol%", "no valid format operator at position 0 of \"%protocol%\"" },
    { "%REQ(a)", "no valid format operator at position 0 of \"%REQ(a)\"" },
    { "%REQ(a", "no valid format operator at position 0 of \"%REQ(a\"" },
    { "%REQ(a):%", "no valid format operator at position 0 of \"%REQ(a):%\"" },
    { "%REQ(a):-1%", "no valid format operator at position 0 of \"%REQ(a):-1%\"" },
    { "%REQ(a):99999999999999999999%",
      "no valid format operator at position 0 of \"%REQ(a):99999999999999999999%\"" },
    { "%REQ(x\ny)%", "no valid format operator at position 0 of \"%REQ(x\ny)%\"" },
    { "%NOPE%", "unknown format operator %NOPE%" },
    { "%RESPONSE_CODES%",
      "unknown format operator %RESPONSE_CODES%; did you mean %RESPONSE_CODE%?" },
    { "%UPSTREAM_HOSTNAME%",
      "unknown format operator %UPSTREAM_HOSTNAME%; did you mean %UPSTREAM_HOST_NAME%?" },
    { "%REQ%", "format operator REQ requires parameters" },
    { "%REQ()%", "format operator REQ requires parameters" },
    { "%DYNAMIC_METADATA()%", "format operator DYNAMIC_METADATA requires parameters" },
    { "%ENVIRONMENT%", "format operator ENVIRONMENT requires parameters" },
    { "%PROTOCOL(x)%", "format operator PROTOCOL does not take any parameters or length" },
    { "%PROTOCOL:3%", "format operator PROTOCOL does not take any parameters or length" },
    { "%START_TIME:4%", "format operator START_TIME does not allow length to be specified" },
    { "%REQ(a?b?c)%", "more than one alternative header in \"a?b?c\"" },
    { "%REQ(a b)%", "\"a b\" is not a header name" },
    { "%FILTER_STATE%", "filter state operator needs a key" },
    { "%FILTER_STATE(a:X)%", "filter state operator: expected PLAIN, TYPED or FIELD, got \"X\"" },
    { "%FILTER_STATE(a:FIELD)%", "filter state operator: FIELD needs the field's name" },
    { "%GRPC_STATUS(X)%",
      "GRPC_STATUS: unknown option \"X\", expected one of: CAMEL_STRING SNAKE_STRING NUMBER" },
    { "%PATH(X)%", "PATH: unknown option \"X\", expected one of: WQ NQ" },
    { "%PATH(WQ:X)%", "PATH: unknown option \"X\", expected one of: ORIG PATH ORIG_OR_PATH" },
    { "%QUERY_PARAMS(X)%", "QUERY_PARAMS: unknown option \"X\", expected one of: ORIG DECODED" },
    { "%REQUESTED_SERVER_NAME(X)%", "REQUESTED_SERVER_NAME: unknown option \"X\", expected one of: "
                                    "SNI_ONLY SNI_FIRST HOST_FIRST" },
    { "%COMMON_DURATION(a)%", "COMMON_DURATION needs two time points: DS_RX_BEG:DS_TX_END" },
    { "%COMMON_DURATION(a:b:x)%", "COMMON_DURATION: expected ms, us or ns, got \"x\"" },
    { "%METADATA(X:a)%", "METADATA: \"X\" is not a supported type of metadata" },
    { "%METADATA%", "METADATA: \"\" is not a supported type of metadata" },
};

static void test_wrong_formats(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(wrong); i++) {
        struct mz_err err = { "", "" };
        assert_null(mz_format_create(mz_str_c(wrong[i].format), false, &err));
        assert_string_equal(err.msg, wrong[i].message);
    }
}

static void test_literal(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_str text;
    struct mz_format *f = mz_format_create(MZ_STR("a%%b"), false, &err);
    assert_true(mz_format_is_literal(f, &text));
    assert_int_equal(text.n, 3);
    assert_memory_equal(text.p, "a%b", 3);
    mz_format_destroy(f);
    f = mz_format_create(MZ_STR("%PROTOCOL%"), false, &err);
    assert_false(mz_format_is_literal(f, &text));
    mz_format_destroy(f);
    mz_format_destroy(NULL);
}

static void
test_long_line(void **state) /* longer than what the writer reserves at once, and than a slice */
{
    (void)state;
    enum { LONG = 40000 };
    struct fixture f;
    fixture_init(&f);
    char *value = mz_arena_alloc(f.arena, LONG);
    memset(value, 'v', LONG);
    struct mz_headers *h = mz_headers_create(f.arena);
    mz_headers_add(h, MZ_STR("x-long"), (struct mz_str){ value, LONG });
    f.info.req = h;
    struct mz_err err;
    struct mz_format *fmt =
        mz_format_create(MZ_STR("<%REQ(x-long)%%REQ(x-long):20000%>"), false, &err);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(fmt, &f.ctx, &b);
    assert_int_equal(mz_buf_len(&b), LONG + 20000 + 2);
    struct mz_str all = mz_buf_linearize(&b, mz_buf_len(&b));
    assert_int_equal(all.p[0], '<');
    assert_int_equal(all.p[all.n - 1], '>');
    for (size_t i = 1; i + 1 < all.n; i++)
        assert_int_equal(all.p[i], 'v');
    mz_buf_fini(&b);
    mz_format_destroy(fmt);
    fixture_fini(&f);
}

/* ---- operators that are read in place, beside the same ones as one called for its value: %COALESCE% is ---- */

static const char *const in_place[] = {
    "START_TIME",
    "REQ(:METHOD)",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "REQ(USER-AGENT):7",
    "REQ(none?:PATH)",
    "RESP(SERVER)",
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "BYTES_SENT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "DURATION",
    "REQUEST_DURATION",
    "UPSTREAM_HOST",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "UPSTREAM_CLUSTER",
    "REQUESTED_SERVER_NAME",
};

/* {"command": "REQ", "param": "...", "max_length": N} or "NAME" */
static void coalesced(const char *operator, char out[256])
{
    char name[64], param[64];
    unsigned limit = 99999;
    const char *limited = strrchr(operator, ')');
    if (sscanf(operator, "%63[A-Z_](%63[^)])", name, param) == 1) {
        (void)snprintf(out, 256, "%%COALESCE({\"operators\": [\"%s\"]})%%", name);
        return;
    }
    if (limited && limited[1] == ':')
        limit = (unsigned)strtoul(limited + 2, NULL, 10);
    (void)snprintf(out, 256,
                   "%%COALESCE({\"operators\": [{\"command\": \"%s\", \"param\": \"%s\", "
                   "\"max_length\": %u}]})%%",
                   name, param, limit);
}

static struct mz_str random_text(struct mz_rand *r, struct mz_arena *a)
{
    static const char odd[] = "\x01\t\n\x1f\x7f\"\\\x80\xc3\xa9\xff /%";
    size_t n = (size_t)mz_rand_below(r, mz_rand_below(r, 8) ? 40 : 300);
    char *p = mz_arena_alloc(a, n + 1);
    bool plain = mz_rand_below(r, 2);
    for (size_t i = 0; i < n; i++)
        p[i] = plain || mz_rand_below(r, 10) ? (char)(' ' + mz_rand_below(r, 95))
                                             : odd[mz_rand_below(r, sizeof(odd) - 1)];
    p[n] = 0;
    return (struct mz_str){ p, n };
}

static uint64_t random_number(struct mz_rand *r)
{
    return mz_rand_u64(r) >> mz_rand_below(r, 64);
}

static void random_addr(struct mz_rand *r, struct mz_addr *out)
{
    static const char *const ips[] = { "1.2.3.4", "255.255.255.255", "0.0.0.0", "::1",
                                       "2001:db8::7" };
    *out = (struct mz_addr){ .len = 0 };
    unsigned which = (unsigned)mz_rand_below(r, MZ_COUNT(ips) + 1);
    if (which < MZ_COUNT(ips))
        assert_true(mz_addr_parse_ip(mz_str_c(ips[which]), (uint16_t)random_number(r), out));
}

static void random_info(struct mz_rand *r, struct mz_arena *a, struct mz_stream_info *i)
{
    static const enum mz_header_id ids[] = { MZ_H_METHOD, MZ_H_X_ENVOY_ORIGINAL_PATH, MZ_H_PATH,
                                             MZ_H_USER_AGENT };
    struct mz_headers *h = mz_headers_create(a), *resp = mz_headers_create(a);
    for (size_t k = 0; k < MZ_COUNT(ids); k++)
        for (uint64_t n = mz_rand_below(r, 3); n; n--)
            mz_headers_add_id(h, ids[k], random_text(r, a));
    mz_headers_add_id(resp, MZ_H_SERVER, random_text(r, a));
    *i = (struct mz_stream_info){ .arena = a,
                                  .req = mz_rand_below(r, 8) ? h : NULL,
                                  .resp = mz_rand_below(r, 8) ? resp : NULL,
                                  .has_protocol = mz_rand_below(r, 4) != 0,
                                  .protocol = (enum mz_http_protocol)mz_rand_below(r, 4),
                                  .start_us = mz_rand_below(r, 4) * 1000,
                                  .end_us = mz_rand_below(r, 4) * 100000,
                                  .rx_end_us = mz_rand_below(r, 4) * 1100,
                                  .start_wall_us = mz_rand_below(r, UINT64_C(4102444800000000)),
                                  .status = (unsigned)mz_rand_below(r, 1200),
                                  .attempts = (uint32_t)random_number(r),
                                  .tx_body = random_number(r),
                                  .flags = mz_rand_below(r, 3) ? 0 : random_number(r),
                                  .sni = mz_rand_below(r, 2) ? MZ_STR("a_b.test") : MZ_STR("") };
    i->flags &= (UINT64_C(1) << MZ_FLAG__COUNT) - 1;
    i->details = mz_rand_below(r, 3) ? random_text(r, a).p : NULL;
    i->route.cluster_name = random_text(r, a);
    random_addr(r, &i->up.host);
    random_addr(r, &i->local);
    random_addr(r, &i->direct_local);
}

static void test_in_place(void **state)
{
    (void)state;
    struct mz_rand r;
    mz_rand_init(&r, 7);
    for (unsigned round = 0; round < 300; round++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        struct mz_stream_info info;
        random_info(&r, a, &info);
        struct mz_format_ctx c = { .info = &info, .now_us = 99000, .escape = round % 2 };
        for (size_t i = 0; i < MZ_COUNT(in_place); i++) {
            char operator[256], as_is[320], called[320], text[4096];
            (void)snprintf(as_is, sizeof(as_is), "%.*s%%%s%%%.*s", (int)(round % 20),
                           "0123456789abcdefghij", in_place[i], (int)(round % 19),
                           "ABCDEFGHIJKLMNOPQRS");
            coalesced(in_place[i], operator);
            (void)snprintf(called, sizeof(called), "%.*s%s%.*s", (int)(round % 20),
                           "0123456789abcdefghij", operator, (int)(round % 19),
                           "ABCDEFGHIJKLMNOPQRS");
            (void)snprintf(text, sizeof(text), "%s", render(as_is, &c, round % 3 == 0));
            assert_string_equal(text, render(called, &c, round % 3 == 0));
        }
        mz_arena_destroy(a);
    }
}

/* However much room there is, the bytes are the same: in it, or all of them in the buffer. */
static void test_room(void **state)
{
    (void)state;
    enum { ROOM_MAX = 700 };
    struct fixture f;
    struct mz_err err;
    fixture_init(&f);
    struct mz_format *fmt = mz_format_create(
        MZ_STR("a literal of more than sixteen bytes %REQ(x-in)% %REQ(:PATH)% %REQ(x-esc)% "
               "%DURATION%%UPSTREAM_HOST%%FILTER_STATE(my.key)%%DYNAMIC_METADATA(dm)%\n"),
        false, &err);
    struct mz_buf b;
    mz_buf_init(&b);
    f.ctx.escape = true;
    mz_format_append(fmt, &f.ctx, &b);
    size_t all = mz_buf_len(&b);
    struct mz_str want = mz_arena_dup(f.arena, mz_buf_linearize(&b, all));
    bool fitted = false, spilled = false;
    for (size_t room = 0; room < ROOM_MAX; room++) {
        char *mem = mz_alloc(MZ_MEM_LOG, room + 1); /* of this size: a byte too much is seen */
        struct mz_buf over;
        mz_buf_init(&over);
        size_t n = format_write(fmt, &f.ctx, TEXT_LOG, mem, room, &over);
        struct mz_str got =
            n ? (struct mz_str){ mem, n } : mz_buf_linearize(&over, mz_buf_len(&over));
        assert_true(n == 0 || mz_buf_len(&over) == 0);
        assert_int_equal(got.n, all);
        assert_memory_equal(got.p, want.p, all);
        fitted |= n > 0;
        spilled |= n == 0;
        mz_buf_fini(&over);
        mz_free(MZ_MEM_LOG, mem);
    }
    assert_true(fitted && spilled);
    mz_buf_fini(&b);
    mz_format_destroy(fmt);
    fixture_fini(&f);
}

static bool is_odd(unsigned char c, enum text_rule rule)
{
    return rule != TEXT_RAW &&
           (c < 0x20 || c == 0x7f || (rule == TEXT_JSON && (c >= 0x80 || c == '"' || c == '\\')));
}

/* Each byte at each place of texts of each length that is copied in its own way. */
static void test_text_copy(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 50; n++)
        for (unsigned c = 0; c < (n ? 256u : 1u); c++) {
            char *from = mz_alloc(MZ_MEM_LOG, n + 1), *to = mz_alloc(MZ_MEM_LOG, n + 1);
            for (size_t at = 0; at < (n ? n : 1); at++) {
                memset(from, 'x', n);
                if (n)
                    from[at] = (char)c;
                memset(to, 0, n);
                assert_false(text_copy(to, from, n, TEXT_RAW));
                assert_memory_equal(to, from, n);
                assert_int_equal(text_copy(to, from, n, TEXT_LOG),
                                 n && is_odd((unsigned char)c, TEXT_LOG));
                assert_int_equal(text_copy(to, from, n, TEXT_JSON),
                                 n && is_odd((unsigned char)c, TEXT_JSON));
            }
            mz_free(MZ_MEM_LOG, from);
            mz_free(MZ_MEM_LOG, to);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operator), cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_random_ids),     cmocka_unit_test(test_http_status_as_grpc),
        cmocka_unit_test(test_control_bytes),  cmocka_unit_test(test_server_name),
        cmocka_unit_test(test_wrong_formats),  cmocka_unit_test(test_literal),
        cmocka_unit_test(test_long_line),      cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_room),           cmocka_unit_test(test_text_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
