#include "base/test.h"

#include "hcm/hcm_test.h"
#include "net/transport.h"

/*
 * What the manager does to headers (H4): who the client is, what it may say, ids. Peer 10.0.0.9, listener 10.0.0.1:80, plain
 * text unless a case says otherwise. The recorded cases xff-modes, envoy-headers-trust, request-id, host-strip and
 * forwarded-proto-port say the same of whole proxies.
 */
struct rules { /* fields of the configuration */
    bool remote, skip_append, any_port, matching_port, dot, port, internal_peers, preserve_id,
        no_id, user_agent;
    uint32_t hops;
    const char *scheme, *via;
    bool secure;
    bool no_detection_skip; /* detection by XFF appends */
    bool no_peer;           /* the peer is none of the trusted proxies */
    const char *proxy;      /* the one trusted proxy's range besides the peer's, a /24 */
};
struct expect {
    struct rules r;
    const char *request; /* header lines */
    const char *want;    /* "name=value" or "name=-" lines: absent */
    const char *client;  /* NULL: the peer */
    bool internal;
};

static void configure(struct fixture *f, const struct rules *r)
{
    struct mz_hcm_config *c = &f->cfg;
    static struct mz_cidr ten; /* 10.0.0.0/8 */
    struct mz_err err;
    assert_true(mz_cidr_make(MZ_STR("10.0.0.0"), 8, &ten, &err));
    c->use_remote_address = r->remote;
    c->skip_xff_append = r->skip_append;
    c->xff_hops = c->detections->xff_hops = r->hops;
    c->detections->skip_xff_append = !r->no_detection_skip;
    static struct mz_cidr proxies[2];
    if (r->proxy) {
        proxies[0] = ten;
        assert_true(mz_cidr_make(mz_str_c(r->proxy), 24, &proxies[1], &err));
        c->detections->proxies = r->no_peer ? &proxies[1] : proxies;
        c->detections->n_proxies = r->no_peer ? 1 : 2;
    }
    c->strip_any_port = r->any_port;
    c->strip_matching_port = r->matching_port;
    c->strip_trailing_dot = r->dot;
    c->append_forwarded_port = r->port;
    c->scheme_overwrite = mz_str_c(r->scheme);
    c->via = mz_str_c(r->via);
    c->generate_request_id = !r->no_id;
    c->preserve_external_request_id = r->preserve_id;
    c->pack_trace_reason = true;
    c->add_user_agent = r->user_agent;
    c->node_cluster = MZ_STR("edge");
    f->down.secure = r->secure;
    if (r->internal_peers) {
        c->internal_cidrs = &ten;
        c->n_internal_cidrs = 1;
        c->internal_configured = true;
    }
}

static void check(struct fixture *f, const struct expect *e)
{
    struct mz_str rest = mz_str_c(e->want);
    for (struct mz_str line; mz_str_split(&rest, '\n', &line);) {
        ptrdiff_t eq = mz_str_chr(line, '=');
        const struct mz_str name =
            mz_arena_dup(f->stream->arena, (struct mz_str){ line.p, (size_t)eq });
        const struct mz_str value = mz_str_skip(line, (size_t)eq + 1);
        const char *got = fixture_header(f, name.p);
        bool absent = mz_str_eq(value, MZ_STR("-"));
        if (absent ? got != NULL : !got || !mz_str_eq(mz_str_c(got), value))
            fail_msg("request %s: %s is %s, not " MZ_STR_FMT, e->request, name.p,
                     got ? got : "absent", MZ_STR_ARG(value));
    }
    char client[MZ_ADDR_TEXT];
    size_t n = mz_addr_ip_text(&f->stream->info.remote, client);
    const char *want = e->client ? e->client : "10.0.0.9";
    if (!mz_str_eq((struct mz_str){ client, n }, mz_str_c(want)))
        fail_msg("request %s: client is %.*s, not %s", e->request, (int)n, client, want);
    assert_int_equal(f->stream->internal, e->internal);
}

static void play_all(const struct expect *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fixture f;
        fixture_init(&f);
        configure(&f, &v[i].r);
        fixture_stream(&f);
        fixture_request(&f, v[i].request, true);
        check(&f, &v[i]);
        fixture_fini(&f);
    }
}

#define XFF "x-forwarded-for"
#define EXT "x-envoy-external-address"
#define INT "x-envoy-internal"
#define XFP "x-forwarded-proto"

/* clang-format off */
static const struct expect clients[] = {
    /* we are the edge: the peer is the client, what it says of others is only handed on */
    { { .remote = true }, "", XFF "=10.0.0.9\n" EXT "=10.0.0.9\n" INT "=-\n" XFP "=http", NULL, false },
    { { .remote = true }, "x-forwarded-for: 1.2.3.4\n", XFF "=1.2.3.4,10.0.0.9\n" EXT "=10.0.0.9", NULL, false },
    { { .remote = true }, "x-forwarded-for: 1.2.3.4\nx-forwarded-for: 5.6.7.8\n", EXT "=10.0.0.9", NULL, false },
    { { .remote = true, .skip_append = true }, "x-forwarded-for: 1.2.3.4\n", XFF "=1.2.3.4\n" EXT "=10.0.0.9", NULL, false },
    { { .remote = true, .skip_append = true }, "", XFF "=-\n" EXT "=10.0.0.9", NULL, false },
    /* trusted hops in front of us: count from the right */
    { { .remote = true, .hops = 1 }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", XFF "=1.2.3.4, 5.6.7.8,10.0.0.9\n" EXT "=5.6.7.8", "5.6.7.8", false },
    { { .remote = true, .hops = 2 }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", EXT "=1.2.3.4", "1.2.3.4", false },
    { { .remote = true, .hops = 3 }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", EXT "=10.0.0.9", NULL, false },
    { { .remote = true, .hops = 1 }, "", XFF "=10.0.0.9\n" EXT "=10.0.0.9", NULL, false },
    { { .remote = true, .hops = 1 }, "x-forwarded-for: nonsense\n", EXT "=10.0.0.9", NULL, false },
    /* somebody before us is the edge */
    { { .remote = false }, "", XFF "=-\n" EXT "=-\n" XFP "=http", NULL, false },
    { { .remote = false }, "x-forwarded-for: 1.2.3.4\n", XFF "=1.2.3.4\n" EXT "=-", "1.2.3.4", false },
    { { .remote = false }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", EXT "=-", "5.6.7.8", false },
    { { .remote = false, .hops = 1 }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", EXT "=-", "1.2.3.4", false },
    { { .remote = false, .hops = 2 }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", EXT "=-", NULL, false },
    { { .remote = false }, "x-forwarded-for: 1.2.3.4, nonsense\n", EXT "=-", NULL, false },
    { { .remote = false }, "x-forwarded-for: 9.9.9.9,8.8.8.8 , 7.7.7.7\n", EXT "=-", "7.7.7.7", false },
    { { .remote = false }, "x-forwarded-for: 2001:db8::1\n", EXT "=-", "2001:db8::1", false },
    { { .no_detection_skip = true }, "x-forwarded-for: 1.2.3.4\n", XFF "=1.2.3.4,10.0.0.9", "1.2.3.4", false },
    /* known proxies: the first from the right that is none */
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: 9.9.9.9, 1.2.3.4, 5.6.7.8,5.6.7.9\n", XFF "=9.9.9.9, 1.2.3.4, 5.6.7.8,5.6.7.9", "1.2.3.4", false },
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: 5.6.7.1, 5.6.7.8\n", "", "5.6.7.1", false },
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: 1.2.3.4\n", "", "1.2.3.4", false },
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: 1.2.3.4, nonsense, 5.6.7.8\n", "", "5.6.7.8", false },
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: 1.2.3.4, nonsense\n", "", NULL, false },
    { { .proxy = "5.6.7.0" }, "x-forwarded-for: ,\n", "", NULL, false },
    { { .proxy = "5.6.7.0" }, "", "", NULL, false },
    { { .proxy = "5.6.7.0", .no_peer = true }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", "", NULL, false },
    { { .proxy = "5.6.7.0", .no_detection_skip = true }, "x-forwarded-for: 1.2.3.4, 5.6.7.8\n", XFF "=1.2.3.4, 5.6.7.8,10.0.0.9", "1.2.3.4", false },
};
static const struct expect internals[] = {
    /* nobody is internal unless the configuration says so */
    { { .remote = true }, "x-envoy-internal: true\n", INT "=-", NULL, false },
    { { .remote = true, .internal_peers = true }, "", INT "=true\n" EXT "=-", NULL, true },
    /* an internal peer that speaks for another is not internal itself */
    { { .remote = true, .internal_peers = true }, "x-forwarded-for: 10.1.1.1\n", INT "=-\n" EXT "=10.0.0.9", NULL, false },
    { { .internal_peers = true }, "x-forwarded-for: 10.1.1.1\n", INT "=true", "10.1.1.1", true },
    { { .internal_peers = true }, "x-forwarded-for: 1.2.3.4, 10.1.1.1\n", INT "=-", "10.1.1.1", false },
    { { .internal_peers = true }, "x-forwarded-for: 1.2.3.4\n", INT "=-", "1.2.3.4", false },
    /* what outsiders may not say; at the edge even less */
    { { .remote = true }, "x-envoy-retry-on: 5xx\nx-envoy-upstream-rq-timeout-ms: 1\nx-envoy-force-trace: 1\nx-envoy-original-path: /x\n",
      "x-envoy-retry-on=-\nx-envoy-upstream-rq-timeout-ms=-\nx-envoy-force-trace=-\nx-envoy-original-path=-", NULL, false },
    { { .remote = false }, "x-envoy-retry-on: 5xx\nx-envoy-max-retries: 9\nx-envoy-original-path: /x\n",
      "x-envoy-retry-on=-\nx-envoy-max-retries=-\nx-envoy-original-path=/x", NULL, false },
    { { .remote = true, .internal_peers = true }, "x-envoy-retry-on: 5xx\nx-envoy-original-path: /x\n",
      "x-envoy-retry-on=5xx\nx-envoy-original-path=/x", NULL, true },
    /* no certificate was seen on plain text */
    { { .remote = true }, "x-forwarded-client-cert: By=me\n", "x-forwarded-client-cert=-", NULL, false },
    { { .remote = true, .user_agent = true }, "", "user-agent=edge\nx-envoy-downstream-service-cluster=edge", NULL, false },
    { { .remote = true, .user_agent = true }, "user-agent: curl\n", "user-agent=curl\nx-envoy-downstream-service-cluster=edge", NULL, false },
};
static const struct expect protos[] = {
    { { .remote = true }, "x-forwarded-proto: https\n", XFP "=http\nx-forwarded-port=-", NULL, false },
    { { .remote = true, .secure = true }, "", XFP "=https", NULL, false },
    { { .remote = true, .hops = 1 }, "x-forwarded-proto: https\n", XFP "=https", NULL, false },
    { { .remote = false }, "x-forwarded-proto: https\n", XFP "=https", NULL, false },
    { { .remote = true, .port = true }, "x-forwarded-port: 1\n", "x-forwarded-port=80", NULL, false },
    { { .remote = true, .port = true, .hops = 1 }, "x-forwarded-port: 1\n", "x-forwarded-port=1", NULL, false },
    { { .scheme = "https" }, "", ":scheme=https", NULL, false },
    { { .via = "mizzen" }, "", "via=mizzen", NULL, false },
    { { .via = "mizzen" }, "via: 1.1 old\n", "via=1.1 old, mizzen", NULL, false },
};
static const struct expect hosts[] = {
    { { .any_port = true }, ":authority: h.test:80\n", ":authority=h.test", NULL, false },
    { { .any_port = true }, ":authority: h.test:1\n", ":authority=h.test", NULL, false },
    { { .any_port = true }, ":authority: [::1]:8080\n", ":authority=[::1]", NULL, false },
    { { .any_port = true }, ":authority: h.test.\n", ":authority=h.test.", NULL, false },
    { { .matching_port = true }, ":authority: h.test:80\n", ":authority=h.test", NULL, false },
    { { .matching_port = true }, ":authority: h.test:1\n", ":authority=h.test:1", NULL, false },
    { { .matching_port = true }, ":authority: h.test:080x\n", ":authority=h.test:080x", NULL, false },
    { { .matching_port = true }, ":authority: [::1]:80\n", ":authority=[::1]", NULL, false },
    { { .dot = true }, ":authority: h.test.\n", ":authority=h.test", NULL, false },
    { { .dot = true }, ":authority: h.test.:80\n", ":authority=h.test:80", NULL, false },
    { { .dot = true }, ":authority: h.test\n", ":authority=h.test", NULL, false },
    { { .any_port = true, .dot = true }, ":authority: h.test.:80\n", ":authority=h.test", NULL, false },
};
static const struct expect hops[] = {
    { { .remote = true }, "connection: close, x-a\nkeep-alive: 1\nproxy-connection: x\ntransfer-encoding: chunked\nx-a: 1\n",
      "connection=-\nkeep-alive=-\nproxy-connection=-\ntransfer-encoding=-\nx-a=1", NULL, false },
    { { .remote = true }, "te: trailers, gzip\n", "te=trailers", NULL, false },
    { { .remote = true }, "te: gzip\n", "te=-", NULL, false },
};
/* clang-format on */

static void test_client(void **state)
{
    (void)state;
    play_all(clients, MZ_COUNT(clients));
}
static void test_internal(void **state)
{
    (void)state;
    play_all(internals, MZ_COUNT(internals));
}
static void test_proto_port_via(void **state)
{
    (void)state;
    play_all(protos, MZ_COUNT(protos));
}
static void test_host(void **state)
{
    (void)state;
    play_all(hosts, MZ_COUNT(hosts));
}
static void test_hop_by_hop(void **state)
{
    (void)state;
    play_all(hops, MZ_COUNT(hops));
}

/* ---- request id ---- */

#define UUID(version) "12345678-1234-" version "234-8234-123456789012"

static void test_request_id(void **state)
{
    (void)state;
    enum { NEW, KEPT, ABSENT, NOT_TRACED };
    static const struct {
        struct rules r;
        const char *id;
        int want;
    } cases[] = {
        { { .remote = false }, NULL, NEW },
        { { .remote = false }, "my-own-id", KEPT },
        { { .remote = false }, UUID("d"), KEPT },
        { { .no_id = true }, NULL, ABSENT },
        { { .no_id = true }, "my-own-id", KEPT },
        { { .remote = true }, NULL, NEW },
        { { .remote = true }, "my-own-id", NEW },
        { { .remote = true }, UUID("d"), NEW },
        { { .remote = true, .preserve_id = true }, "my-own-id", KEPT },
        { { .remote = true, .preserve_id = true }, UUID("d"), NOT_TRACED },
        { { .remote = true, .internal_peers = true }, "my-own-id", KEPT },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        configure(&f, &cases[i].r);
        fixture_stream(&f);
        struct mz_str line = MZ_STR("");
        if (cases[i].id)
            line = mz_arena_printf(f.stream->arena, "x-request-id: %s\n", cases[i].id);
        fixture_request(&f, line.p ? line.p : "", true);
        const char *got = fixture_header(&f, "x-request-id");
        switch (cases[i].want) {
        case NEW:
            assert_int_equal(strlen(got), 36);
            assert_int_equal(got[14], '4');
            assert_true(!cases[i].id || strcmp(got, cases[i].id) != 0);
            break;
        case KEPT:
            assert_string_equal(got, cases[i].id);
            break;
        case NOT_TRACED:
            assert_string_equal(got, UUID("4"));
            break;
        default:
            assert_null(got);
        }
        struct mz_str noted = mz_stream_info(f.stream)->request_id;
        assert_true(mz_str_eq(noted, mz_str_c(got)));
        fixture_fini(&f);
    }
}

/* ---- requests that are answered at once ---- */

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *extra, *trace, *details;
    } cases[] = {
        { ":authority: \n", "", NULL }, /* empty is served, as Envoy does */
        { ":path: *\n", "=H404$", "absolute_path_rejected" },
        { ":path: /a%00b\n", "=H400$", "path_normalization_failed" },
        { ":path: /a#b\n", "=H400$", "path_normalization_failed" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        f.cfg.path_rules.normalize = true;
        fixture_stream(&f);
        struct mz_stream_info *info = mz_stream_info(f.stream);
        fixture_request(&f, cases[i].extra, true);
        if (cases[i].details)
            assert_string_equal(info->details, cases[i].details);
        assert_string_equal(fixture_trace(&f), cases[i].trace);
        fixture_fini(&f);
    }
}

static void test_no_host(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_stream(&f);
    struct mz_headers *h = fixture_headers(&f, "");
    mz_headers_remove_id(h, MZ_H_AUTHORITY);
    f.in.ops->on_headers(f.in.arg, h, true);
    assert_string_equal(fixture_trace(&f), "=H400$");
    fixture_fini(&f);
}

/* ---- the answer ---- */

static void test_answer(void **state)
{
    (void)state;
    static const struct {
        enum server_transform how;
        const char *given, *want;
    } cases[] = {
        { SERVER_OVERWRITE, "theirs", "mizzen" },
        { SERVER_OVERWRITE, NULL, "mizzen" },
        { SERVER_APPEND_IF_ABSENT, "theirs", "theirs" },
        { SERVER_APPEND_IF_ABSENT, NULL, "mizzen" },
        { SERVER_PASS_THROUGH, "theirs", "theirs" },
        { SERVER_PASS_THROUGH, NULL, NULL },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        f.cfg.server_transform = cases[i].how;
        f.cfg.via = MZ_STR("mizzen");
        fixture_stream(&f);
        struct mz_headers *h = mz_headers_create(f.stream->arena);
        mz_headers_set_status(h, 200);
        mz_headers_add(h, MZ_STR("connection"), MZ_STR("close"));
        mz_headers_add(h, MZ_STR("transfer-encoding"), MZ_STR("chunked"));
        if (cases[i].given)
            mz_headers_add(h, MZ_STR("server"), mz_str_c(cases[i].given));
        mutate_response(f.stream, h);
        assert_true(mz_str_eq(mz_headers_value_id(h, MZ_H_SERVER), mz_str_c(cases[i].want)));
        assert_true(mz_str_eq(mz_headers_value_id(h, MZ_H_VIA), MZ_STR("mizzen")));
        assert_null(mz_headers_get_id(h, MZ_H_CONNECTION));
        assert_null(mz_headers_get_id(h, MZ_H_TRANSFER_ENCODING));
        assert_int_equal(mz_headers_value_id(h, MZ_H_DATE).n, 29);
        fixture_fini(&f);
    }
}

static struct mz_str hostile_uri[] = { MZ_STR_INIT("spiffe://a/b\r\nx-admin: 1;By=c,Hash=d\"") };
static const struct mz_tls_facts hostile = {
    .peer_presented = true,
    .peer = { .subject = MZ_STR_INIT("CN=a\"\r\n\x7f,O=b"), .uri_sans = { hostile_uri, 1 } },
};
static const struct mz_tls_facts *hostile_facts(struct mz_transport *t)
{
    (void)t;
    return &hostile;
}

/* Whatever a certificate says, it ends neither its element nor the header (C16, G11). */
static void test_hostile_certificate(void **state)
{
    (void)state;
    static const struct mz_transport_ops ops = { .name = "tls", .tls = hostile_facts };
    struct mz_transport transport = { .ops = &ops };
    struct fixture f;
    fixture_init(&f);
    f.cfg.xfcc = XFCC_SANITIZE_SET;
    f.cfg.xfcc_details = XFCC_SUBJECT | XFCC_URI;
    f.conn.transport = &transport;
    fixture_stream(&f);
    fixture_request(&f, "x-forwarded-client-cert: By=forged\n", true);
    assert_string_equal(fixture_header(&f, "x-forwarded-client-cert"),
                        "Subject=\"CN=a\\\",O=b\";URI=spiffe://a/bx-admin: 1By=cHash=d");
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client),         cmocka_unit_test(test_internal),
        cmocka_unit_test(test_proto_port_via), cmocka_unit_test(test_host),
        cmocka_unit_test(test_hop_by_hop),     cmocka_unit_test(test_request_id),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_no_host),
        cmocka_unit_test(test_answer),         cmocka_unit_test(test_hostile_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
