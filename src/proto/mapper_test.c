#include "base/buf.h"
#include "base/test.h"
#include "proto/control_field.h"
#include "proto/mapper.h"
#include "proto/wire.h"
#include <stdio.h>
#include <stdlib.h>

#define HCM "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

struct fixture {
    struct mz_proto_ctx ctx;
    struct mz_err err;
    char text[2048];
};

static void setup(struct fixture *x, enum mz_unknown unknown)
{
    *x = (struct fixture){ .ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG), .unknown = unknown } };
}

static void teardown(struct fixture *x)
{
    mz_arena_destroy(x->ctx.arena);
}

static ProtobufCMessage *parse(struct fixture *x, const char *text,
                               const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = NULL;
    if (mz_msg_from_text(&x->ctx, mz_str_c(text), MZ_TEXT_YAML, d, &m, &x->err))
        return m;
    mz_err_text(&x->err, x->text, sizeof(x->text));
    return NULL;
}

static const char *print(struct fixture *x, const ProtobufCMessage *m, unsigned flags)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_msg_to_json(m, &b, flags);
    size_t n = mz_buf_copyout(&b, 0, x->text, sizeof(x->text) - 1);
    x->text[n] = 0;
    mz_buf_fini(&b);
    return x->text;
}

#define CLUSTER  &pb_Cluster__descriptor
#define BOOT     &pb_Bootstrap__descriptor
#define ROUTE    &pb_Route__descriptor
#define LISTENER &pb_Listener__descriptor
#define NODE     &pb_Node__descriptor

/* Text in, JSON out; it goes through bytes as well. */
static const struct {
    const ProtobufCMessageDescriptor *d;
    const char *text, *json;
} good[] = {
    { CLUSTER, "name: c\nconnectTimeout: 0.25s\nlb_policy: LEAST_REQUEST\n",
      "{\"name\":\"c\",\"connect_timeout\":\"0.250s\",\"lb_policy\":\"LEAST_REQUEST\"}" },
    { CLUSTER, "{name: c, lb_policy: 1, type: 0}",
      "{\"name\":\"c\",\"type\":\"STATIC\",\"lb_policy\":\"LEAST_REQUEST\"}" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: 0, alt_stat_name: null}",
      "{\"name\":\"c\",\"per_connection_buffer_limit_bytes\":0}" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: '1024'}",
      "{\"name\":\"c\",\"per_connection_buffer_limit_bytes\":1024}" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: 1e3}",
      "{\"name\":\"c\",\"per_connection_buffer_limit_bytes\":1000}" },
    { CLUSTER,
      "{name: c, lb_policy: '1', type: strict_dns}", /* as Envoy: numbers in quotes, names in any case */
      "{\"name\":\"c\",\"type\":\"STRICT_DNS\",\"lb_policy\":\"LEAST_REQUEST\"}" },
    { CLUSTER,
      "{name: c, wait_for_warm_on_init: 'False', connection_pool_per_downstream_connection: '1'}",
      "{\"name\":\"c\",\"connection_pool_per_downstream_connection\":true,\"wait_for_warm_on_"
      "init\":false}" },
    { CLUSTER,
      "{name: c, connect_timeout: {seconds: 1}, per_connection_buffer_limit_bytes: {value: 3}}",
      "{\"name\":\"c\",\"connect_timeout\":\"1s\",\"per_connection_buffer_limit_bytes\":3}" },
    { CLUSTER,
      "{name: c, lb_subset_config: {subset_selectors: {keys: a}}}", /* one value for a list */
      "{\"name\":\"c\",\"lb_subset_config\":{\"subset_selectors\":[{\"keys\":[\"a\"]}]}}" },
    { CLUSTER, "{name: c, health_checks: null, circuit_breakers: {}}",
      "{\"name\":\"c\",\"circuit_breakers\":{}}" },
    { CLUSTER, "{name: c, metadata: {filter_metadata: {b: {k: v}, a: {}}}}",
      "{\"name\":\"c\",\"metadata\":{\"filter_metadata\":{\"b\":{\"k\":\"v\"},\"a\":{}}}}" },
    { CLUSTER, "{name: c, preconnect_policy: {per_upstream_preconnect_ratio: 1.5}}",
      "{\"name\":\"c\",\"preconnect_policy\":{\"per_upstream_preconnect_ratio\":1.5}}" },
    { &pb_FaultRateLimit__descriptor, "{fixed_limit: {limit_kbps: 9000}}", /* 64 bits are quoted */
      "{\"fixed_limit\":{\"limit_kbps\":\"9000\"}}" },
    { NODE,
      "{id: 5000000000, cluster: 1.5, metadata: {a: 1, b: 1.5, c: [true, null, {}], d: 0x10, e: "
      "5000000000}}",
      "{\"id\":\"5000000000\",\"cluster\":\"1.5\",\"metadata\":"
      "{\"a\":1,\"b\":\"1.5\",\"c\":[true,null,{}],\"d\":16,\"e\":\"5000000000\"}}" },
    { NODE, "{id: \"<a>\\n\\x01\\u2028\\\"\\\\\"}",
      "{\"id\":\"\\u003ca\\u003e\\n\\u0001\\u2028\\\"\\\\\"}" },
    { &pb_Filter__descriptor,
      "{name: f, typed_config: {\"@type\": a/b/envoy.extensions.filters.http.router.v3.Router, "
      "dynamic_stats: false}}",
      "{\"name\":\"f\",\"typed_config\":{\"@type\":\"type.googleapis.com/"
      "envoy.extensions.filters.http.router.v3.Router\","
      "\"dynamic_stats\":false}}" },
    { &pb_Filter__descriptor,
      "{name: f, typed_config: {\"@type\": google.protobuf.Duration, value: 3s}}",
      "{\"name\":\"f\",\"typed_config\":{\"@type\":\"type.googleapis.com/"
      "google.protobuf.Duration\",\"value\":\"3s\"}}" },
    { &pb_Filter__descriptor, "{name: f, typed_config: {}}",
      "{\"name\":\"f\",\"typed_config\":{}}" },
    { &pb_DataSource__descriptor, "{inline_bytes: aGVsbG8}", "{\"inline_bytes\":\"aGVsbG8=\"}" },
    { &pb_DataSource__descriptor, "{inline_bytes: -_8=}", "{\"inline_bytes\":\"+/8=\"}" },
    { &pb_DoubleMatcher__descriptor, "{exact: NaN}", "{\"exact\":\"NaN\"}" },
    { &pb_DoubleMatcher__descriptor, "{exact: -Infinity}", "{\"exact\":\"-Infinity\"}" },
    { &pb_DoubleMatcher__descriptor, "{exact: 0.1}", "{\"exact\":0.1}" },
    { &pb_HistogramBucketSettings__descriptor,
      "{match: {prefix: x}, buckets: [0.000001, 1, 1000000, 1e21, 123456789.125]}",
      "{\"match\":{\"prefix\":\"x\"},\"buckets\":[1e-06,1,1000000,1e+21,123456789.125]}" },
    { &pb_Duration__descriptor, "-1.5s", "\"-1.500s\"" },
    { &pb_Duration__descriptor, "0.000000001s", "\"0.000000001s\"" },
    { &pb_Timestamp__descriptor, "\"2026-02-28T23:59:59.5+01:30\"",
      "\"2026-02-28T22:29:59.500Z\"" },
    { &pb_FieldMask__descriptor, "a.bC,d", "\"a.bC,d\"" },
    { &pb_UInt64Value__descriptor, "18446744073709551615", "\"18446744073709551615\"" },
    { &pb_Value__descriptor, "[~, {a: ~}]", "[null,{\"a\":null}]" },
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(good); i++) {
        struct fixture x;
        setup(&x, MZ_UNKNOWN_REJECT);
        ProtobufCMessage *m = parse(&x, good[i].text, good[i].d), *back = NULL;
        if (!m)
            print_error("case %zu: %s\n", i, x.text);
        assert_non_null(m);
        assert_string_equal(print(&x, m, 0), good[i].json);
        assert_true(
            mz_msg_unpack(&x.ctx, mz_msg_pack_alloc(m, x.ctx.arena), good[i].d, &back, &x.err));
        assert_string_equal(print(&x, back, 0), good[i].json);
        assert_true(mz_msg_equal(m, back));
        assert_true(mz_msg_hash(m) == mz_msg_hash(back));
        teardown(&x);
    }
}

/* Text in, the error out. Rows that end in a blank are compared up to there. */
static const struct {
    const ProtobufCMessageDescriptor *d;
    const char *text, *error;
} bad[] = {
    { BOOT, "bogus_field: 1", "unknown field \"bogus_field\" (line 1, column 1)" },
    { BOOT, "static_resources:\n  clusters:\n  - nme: x\n",
      "static_resources.clusters[0]: unknown field \"nme\"; did you mean \"name\"? (line 3, column "
      "5)" },
    { BOOT, "static_resources: {clusters: [{name: y}]}",
      "static_resources.clusters[0].name: expected a string, got boolean true (line 1, column "
      "38)" },
    { BOOT, "node: {id: 7}", "node.id: expected a string, got number 7 (line 1, column 12)" },
    { BOOT, "[1]", "expected an object, got a list (line 1, column 1)" },
    { BOOT, "", "expected an object, got null (line 1, column 1)" },
    { BOOT, "stats_flush_interval: 300s", "stats_flush_interval: must be less than 300s, is 300s" },
    { BOOT, "stats_flush_on_admin: false", "stats_flush_on_admin: must be true where it is set" },
    { CLUSTER, "{name: c, lb_policy: LEAST_REQUST}",
      "lb_policy: unknown value \"LEAST_REQUST\"; did you mean \"LEAST_REQUEST\"? (line 1, column "
      "22)" },
    { CLUSTER, "{name: c, lb_policy: 99}",
      "lb_policy: 99 is no value of envoy.config.cluster.v3.Cluster.LbPolicy" },
    { CLUSTER, "{name: c, connect_timeout: 5}",
      "connect_timeout: expected a duration such as \"1.5s\", got number 5 (line 1, column 28)" },
    { CLUSTER, "{name: c, connect_timeout: 5ms}",
      "connect_timeout: expected a duration such as \"1.5s\", got string \"5ms\" (line 1, column "
      "28)" },
    { CLUSTER, "{name: c, connect_timeout: -1s}",
      "connect_timeout: must be greater than 0s, is -1s" },
    { CLUSTER, "{name: c, circuit_breakers: many}",
      "circuit_breakers: expected an object, got string \"many\" (line 1, column 29)" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: 1.5}",
      "per_connection_buffer_limit_bytes: expected a whole number, got 1.5 (line 1, column 46)" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: -1}",
      "per_connection_buffer_limit_bytes: -1 is negative (line 1, column 46)" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: 4294967296}",
      "per_connection_buffer_limit_bytes: 4294967296 is more than 4294967295 (line 1, column 46)" },
    { CLUSTER, "{name: c, per_connection_buffer_limit_bytes: 18446744073709551616}",
      "per_connection_buffer_limit_bytes: 18446744073709551616 is out of range (line 1, column "
      "46)" },
    { CLUSTER, "{name: c, alt_stat_name: a, altStatName: b}",
      "alt_stat_name: set twice, in snake_case and in lowerCamel (line 1, column 42)" },
    { CLUSTER, "{name: \"\"}", "name: must not be empty" },
    { CLUSTER, "{name: \"a\\0b\"}", "name: a string must not have a NUL in it (line 1, column 8)" },
    { CLUSTER, "{name: c, outlier_detection: {max_ejection_percent: 101}}",
      "outlier_detection.max_ejection_percent: must be at most 100, is 101" },
    { CLUSTER, "{name: c, preconnect_policy: {per_upstream_preconnect_ratio: NaN}}",
      "preconnect_policy.per_upstream_preconnect_ratio: must be between 1 and 3, is nan" },
    { CLUSTER,
      "{name: c, health_checks: [{timeout: 1s, interval: 1s, healthy_threshold: 1, "
      "tcp_health_check: {}}]}",
      "health_checks[0].unhealthy_threshold: is required" },
    { CLUSTER, "{name: c, metadata: {filter_metadata: {\"\": {}}}}",
      "metadata.filter_metadata[0]: must not be empty" },
    { ROUTE, "{match: {prefix: /}, redirect: {}, route: {cluster: a}}",
      "route: only one may be set of this and \"redirect\" (line 1, column 43)" },
    { ROUTE, "{match: {prefix: /}}",
      "action is required: one of route, redirect, direct_response, non_forwarding_action" },
    { ROUTE, "{redirect: {}}", "match: is required" },
    { ROUTE, "{match: {path_separated_prefix: /a/}, redirect: {}}",
      "match.path_separated_prefix: \"/a/\" must have " },
    { &pb_ListenerCollection__descriptor, "{entries: [{inline_entry: {name: \"a b\"}}]}",
      "entries[0].inline_entry.name: \"a b\" must be of letters, digits and _-.~: alone" },
    { ROUTE, "{match: {prefix: /}, direct_response: {status: 99}}",
      "direct_response.status: must be between 200 and 599, is 99" },
    { LISTENER, "{address: {socket_address: {address: a, port_value: 70000}}}",
      "address.socket_address.port_value: must be at most 65535, is 70000" },
    { LISTENER, "{address: {socket_address: {address: a, port_value: eighty}}}",
      "address.socket_address.port_value: expected a whole number, got string \"eighty\" (line 1, "
      "column 53)" },
    { LISTENER, "{transparent: \"ja\"}",
      "transparent: expected true or false, got string \"ja\" (line 1, column 15)" },
    { LISTENER,
      "{filter_chains: [{filters: [{name: f, typed_config: {\"@type\": no.such.Type}}]}]}",
      "filter_chains[0].filters[0].typed_config: unknown type \"no.such.Type\" (line 1, column "
      "63)" },
    { LISTENER, "{filter_chains: [{filters: [{name: f, typed_config: {\"@type\": x/" HCM "s}}]}]}",
      "filter_chains[0].filters[0].typed_config: unknown type \"" HCM "s\"; did you mean \"" HCM
      "\"? " },
    { LISTENER, "{filter_chains: [{filters: [{name: f, typed_config: {a: b}}]}]}",
      "filter_chains[0].filters[0].typed_config: \"@type\" is missing: which message is this? "
      "(line 1, column 53)" },
    { LISTENER,
      "{filter_chains: [{filters: [{name: f, typed_config: {\"@type\": " HCM ", rds: {}}}]}]}",
      "filter_chains[0].filters[0].typed_config.stat_prefix: must not be empty" },
    { LISTENER,
      "{filter_chains: [{filters: [{name: f, typed_config: {\"@type\": " HCM ", bogus: 1}}]}]}",
      "filter_chains[0].filters[0].typed_config: unknown field \"bogus\" " },
    { LISTENER, "{filter_chains: 7}",
      "filter_chains[0]: expected an object, got number 7 (line 1, column 17)" },
    { CLUSTER, "{name: c, connect_timeout: {secnds: 1}}",
      "connect_timeout: unknown field \"secnds\"; did you mean \"seconds\"? (line 1, column 29)" },
    { CLUSTER, "{name: c, connect_timeout: {seconds: 1, nanos: -1}}",
      "connect_timeout: 1 seconds and -1 nanoseconds is not a duration" },
    { &pb_Filter__descriptor,
      "{name: f, typed_config: {\"@type\": google.protobuf.Duration, value: 3s, x: 1}}",
      "typed_config: expected a duration such as \"1.5s\", got null" },
    { &pb_DataSource__descriptor, "{inline_bytes: a}",
      "inline_bytes: expected a base64 string, got string \"a\" " },
    { &pb_DataSource__descriptor, "{inline_bytes: aa#a}",
      "inline_bytes: expected a base64 string, got " },
    { &pb_DoubleMatcher__descriptor, "{exact: 1e999}",
      "exact: 1e999 is out of range (line 1, column 9)" },
    { &pb_DoubleMatcher__descriptor, "{exact: 0x}",
      "exact: expected a number, got string \"0x\" (line 1, column 9)" },
    { &pb_HistogramBucketSettings__descriptor, "{match: {prefix: x}, buckets: [1, 0]}",
      "buckets[1]: must be more than 0, is 0" },
    { &pb_HistogramBucketSettings__descriptor, "{match: {prefix: x}, buckets: [1, 2, 1]}",
      "buckets: items 0 and 2 are the same" },
    { &pb_ResponseFlagFilter__descriptor, "{flags: [UH, XX]}",
      "flags[1]: \"XX\" is none of: LH UH " },
    { &pb_UpstreamHttpProtocolOptions__descriptor, "{override_auto_sni_header: \"a b\"}",
      "override_auto_sni_header: \"a b\" is not a header name" },
    { &pb_HeaderValue__descriptor, "{key: a, value: \"x\\r\\ny\"}",
      "value: must not have a line break in it" },
    { &pb_Duration__descriptor, "315576000001s",
      "expected a duration such as \"1.5s\", got string " },
    { &pb_Duration__descriptor, "1.0000000001s",
      "expected a duration such as \"1.5s\", got string " },
    { &pb_Timestamp__descriptor, "\"2026-06-31T00:00:00Z\"",
      "expected a time such as \"2026-01-31T12:00:00Z\", got " },
    { &pb_Timestamp__descriptor, "\"2026-06-30 00:00:00Z\"",
      "expected a time such as \"2026-01-31T12:00:00Z\", got " },
    { &pb_UInt64Value__descriptor, "18446744073709551616",
      "18446744073709551616 is out of range (line 1, column 1)" },
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        struct fixture x;
        setup(&x, MZ_UNKNOWN_REJECT);
        if (parse(&x, bad[i].text, bad[i].d))
            fail_msg("accepted: %s", bad[i].text);
        size_t n = strlen(bad[i].error);
        if (bad[i].error[n - 1] == ' ')
            x.text[n] = 0;
        assert_string_equal(x.text, bad[i].error);
        teardown(&x);
    }
}

static void test_unknown_counted(void **state)
{
    (void)state;
    struct fixture x;
    setup(&x, MZ_UNKNOWN_COUNT);
    ProtobufCMessage *m =
        parse(&x, "{name: c, a: 1, circuit_breakers: {b: 2}, lb_policy: FASTEST}", CLUSTER);
    assert_non_null(m);
    assert_int_equal(x.ctx.unknown_n, 3);
    assert_string_equal(x.ctx.unknown_path, "a");
    assert_string_equal(print(&x, m, 0), "{\"name\":\"c\",\"circuit_breakers\":{}}");
    teardown(&x);
}

/* Fields of the control plane alone (control_field.h) do not exist for anybody else. */
static void test_control_fields(void **state)
{
    (void)state;
    for (const struct mz_control_field *c = mz_proto_control_fields; c->message; c++) {
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(c->message, c->number);
        bool number = f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES &&
                      f->type != PROTOBUF_C_TYPE_MESSAGE;
        struct fixture x;
        struct mz_err err;
        ProtobufCMessage *m;
        char bytes[MZ_WIRE_VARINT_MAX + 1]; /* the field, as a 0 or without content */
        size_t n = mz_wire_varint((uint64_t)c->number << 3 | (number ? 0 : 2), bytes);
        bytes[n++] = 0;
        struct mz_str wire = { bytes, n };
        setup(&x, MZ_UNKNOWN_COUNT);
        x.ctx.partial = true;
        assert_true(mz_msg_unpack(&x.ctx, wire, c->message, &m, &err));
        assert_int_equal(x.ctx.unknown_n, 1);
        assert_int_equal(strtoul(x.ctx.unknown_path, NULL, 10), c->number); /* wire has no names */
        x.ctx.control = true;
        (void)mz_msg_unpack(&x.ctx, wire, c->message, &m, &err); /* what is in it may be missing */
        assert_int_equal(x.ctx.unknown_n, 1);
        x.ctx.control = false;
        x.ctx.unknown = MZ_UNKNOWN_REJECT;
        assert_false(mz_msg_unpack(&x.ctx, wire, c->message, &m, &err));
        teardown(&x);
    }
}

static void test_typed_struct(void **state)
{
    (void)state;
    static const char *const packages[] = { "xds.type.v3", "udpa.type.v1" };
    for (size_t i = 0; i < MZ_COUNT(packages); i++) {
        struct fixture x;
        char text[512];
        setup(&x, MZ_UNKNOWN_REJECT);
        snprintf(text, sizeof(text),
                 "{\"@type\": %s.TypedStruct, type_url: "
                 "p/envoy.extensions.filters.http.router.v3.Router, value: "
                 "{suppressEnvoyHeaders: true, upstream_log: [{name: a}]}}",
                 packages[i]);
        pb_Any *any = (pb_Any *)parse(&x, text, &pb_Any__descriptor);
        const ProtobufCMessageDescriptor *type = NULL;
        ProtobufCMessage *m = NULL;
        assert_non_null(any);
        struct mz_str name = mz_any_type(any);
        assert_true(mz_str_eq(name, MZ_STR("envoy.extensions.filters.http.router.v3.Router")));
        assert_true(mz_any_unpack(&x.ctx, any, &type, &m, &x.err));
        assert_ptr_equal(type, &pb_Router__descriptor);
        assert_string_equal(
            print(&x, m, 0),
            "{\"upstream_log\":[{\"name\":\"a\"}],\"suppress_envoy_headers\":true}");
        assert_false(mz_any_unpack_as(&x.ctx, any, CLUSTER, &m, &x.err));
        assert_string_equal(x.err.msg, "expected a envoy.config.cluster.v3.Cluster, got a "
                                       "envoy.extensions.filters.http.router.v3.Router");
        teardown(&x);
    }
}

static void test_any_errors(void **state)
{
    (void)state;
    static uint8_t junk[] = { 0xff };
    static const struct {
        const char *url;
        size_t len;
        const char *error;
    } cases[] = {
        { "", 0, "\"@type\" is missing: which message is this?" },
        { "x/no.Type", 0, "unknown type \"no.Type\"" },
        { "envoy.config.cluster.v3.Cluster", 1,
          "not the binary form of envoy.config.cluster.v3.Cluster" },
        { "envoy.config.cluster.v3.Cluster", 0, "must not be empty" },
        { "xds.type.v3.TypedStruct", 0, "unknown type \"\"" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture x;
        setup(&x, MZ_UNKNOWN_REJECT);
        pb_Any any = pb_Any__INIT;
        any.type_url = mz_strndup(MZ_MEM_CONFIG, cases[i].url, strlen(cases[i].url));
        any.value = (ProtobufCBinaryData){ cases[i].len, junk };
        const ProtobufCMessageDescriptor *type;
        ProtobufCMessage *m;
        assert_false(mz_any_unpack(&x.ctx, &any, &type, &m, &x.err));
        assert_string_equal(x.err.msg, cases[i].error);
        mz_free(MZ_MEM_CONFIG, any.type_url);
        teardown(&x);
    }
}

/* Cluster.name, Cluster.metadata.filter_metadata and so on, by hand. */
static void test_unpack_checks(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *path, *error;
    } cases[] = {
        { "\x0a\x01\xff", 3, "name", "not a text in UTF-8 without NUL" },
        { "\x0a\x02"
          "a\0",
          4, "name", "not a text in UTF-8 without NUL" },
        { "\x0a\x05"
          "a",
          3, "", "not the binary form of envoy.config.cluster.v3.Cluster" },
        { "\xfa\xff\x03\x00", 4, "", "unknown field number \"8191\"" },
        { "\x08\x01", 2, "name", "not a text in UTF-8 without NUL" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture x;
        ProtobufCMessage *m;
        setup(&x, MZ_UNKNOWN_REJECT);
        assert_false(mz_msg_unpack(&x.ctx, (struct mz_str){ cases[i].bytes, cases[i].n }, CLUSTER,
                                   &m, &x.err));
        assert_string_equal(x.err.path, cases[i].path);
        assert_string_equal(x.err.msg, cases[i].error);
        teardown(&x);
    }
}

/* H01: an Any in an Any in an Any; the stack is bounded whatever comes. */
static void test_any_nesting(void **state)
{
    (void)state;
    struct fixture x;
    setup(&x, MZ_UNKNOWN_REJECT);
    pb_Any empty = pb_Any__INIT;
    pb_Any *any = &empty;
    for (int i = 0; i < 300; i++)
        any = mz_any_pack(&any->base, x.ctx.arena);
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *m;
    assert_false(mz_any_unpack(&x.ctx, any, &type, &m, &x.err));
    assert_string_equal(x.err.msg, "nested too deeply");
    struct mz_str bytes = mz_msg_pack_alloc(&any->base, x.ctx.arena);
    assert_false(mz_msg_unpack(&x.ctx, bytes, &pb_Any__descriptor, &m, &x.err));
    assert_string_equal(x.err.msg, "nested too deeply");
    teardown(&x);
}

/* What text may hold, an Any can carry. */
static void test_deepest_struct(void **state)
{
    (void)state;
    struct fixture x;
    char text[1024] = "{\"@type\": google.protobuf.Struct, value: ";
    setup(&x, MZ_UNKNOWN_REJECT);
    size_t at = strlen(text);
    for (int i = 0; i < 48; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "{a: ");
    for (int i = 0; i < 49; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "}");
    pb_Any *any = (pb_Any *)parse(&x, text, &pb_Any__descriptor);
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *m;
    assert_non_null(any);
    assert_true(mz_any_unpack(&x.ctx, any, &type, &m, &x.err));
    teardown(&x);
}

/* Aliases make a tree deeper than its text. */
static void test_alias_depth(void **state)
{
    (void)state;
    struct fixture x;
    char text[8192] = "a0: &a0 []\n";
    setup(&x, MZ_UNKNOWN_REJECT);
    for (int i = 1; i < 150; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "a%d: &a%d [*a%d]\n", i, i,
                 i - 1);
    assert_null(parse(&x, text, &pb_Struct__descriptor));
    assert_non_null(strstr(x.text, "nested too deeply"));
    teardown(&x);
}

static void test_unknown_in_any(void **state)
{
    (void)state;
    static uint8_t field_4000[] = { 0x80, 0xfa, 0x01, 0x01 };
    struct fixture x;
    setup(&x, MZ_UNKNOWN_COUNT);
    pb_Any inner = pb_Any__INIT;
    inner.type_url = (char[]){ "envoy.extensions.filters.http.router.v3.Router" };
    inner.value = (ProtobufCBinaryData){ sizeof(field_4000), field_4000 };
    pb_Filter f = pb_Filter__INIT;
    f.name = (char[]){ "f" };
    f.config_type_case = pb_Filter_CONFIG_TYPE_TYPED_CONFIG;
    f.typed_config = &inner;
    struct mz_str bytes = mz_msg_pack_alloc(&f.base, x.ctx.arena);
    ProtobufCMessage *m;
    assert_true(mz_msg_unpack(&x.ctx, bytes, &pb_Filter__descriptor, &m, &x.err));
    assert_int_equal(x.ctx.unknown_n, 1);
    assert_string_equal(x.ctx.unknown_path, "typed_config.4000");
    x.ctx.unknown = MZ_UNKNOWN_REJECT;
    assert_false(mz_msg_unpack(&x.ctx, bytes, &pb_Filter__descriptor, &m, &x.err));
    assert_string_equal(mz_err_text(&x.err, x.text, sizeof(x.text)),
                        "typed_config: unknown field number \"4000\"");
    teardown(&x);
}

/* Metadata.filter_metadata {"a"}: the entry has a key only. */
static void test_entry_without_value(void **state)
{
    (void)state;
    struct fixture x;
    ProtobufCMessage *m = NULL;
    setup(&x, MZ_UNKNOWN_REJECT);
    assert_true(mz_msg_unpack(&x.ctx,
                              MZ_STR("\x0a\x03\x0a\x01"
                                     "a"),
                              &pb_Metadata__descriptor, &m, &x.err));
    assert_non_null(((pb_Metadata *)m)->filter_metadata[0]->value);
    assert_string_equal(print(&x, m, 0), "{\"filter_metadata\":{\"a\":{}}}");
    teardown(&x);
}

static const struct {
    const char *into, *from, *want;
} merges[] = {
    { "{name: a, alt_stat_name: x}", "{name: b}", "{\"name\":\"b\",\"alt_stat_name\":\"x\"}" },
    { "{circuit_breakers: {thresholds: [{max_requests: 1}]}}",
      "{circuit_breakers: {thresholds: [{max_requests: 2}]}}",
      "{\"circuit_breakers\":{\"thresholds\":[{\"max_requests\":1},{\"max_requests\":2}]}}" },
    { "{connect_timeout: 1.5s}", "{connect_timeout: 2s}",
      "{\"connect_timeout\":\"2.500s\"}" }, /* as protobuf does */
    { "{least_request_lb_config: {choice_count: 5}}", "{round_robin_lb_config: {}}",
      "{\"round_robin_lb_config\":{}}" },
    { "{common_lb_config: {locality_weighted_lb_config: {}}}",
      "{common_lb_config: {healthy_panic_threshold: {value: 1}}}",
      "{\"common_lb_config\":{\"healthy_panic_threshold\":{\"value\":1},"
      "\"locality_weighted_lb_config\":{}}}" },
    { "{metadata: {filter_metadata: {a: {k: 1}, b: {}}}}",
      "{metadata: {filter_metadata: {c: {}, a: {l: 2}}}}",
      "{\"metadata\":{\"filter_metadata\":{\"a\":{\"l\":2},\"b\":{},\"c\":{}}}}" },
};

static void test_merge(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(merges); i++) {
        struct fixture x;
        setup(&x, MZ_UNKNOWN_REJECT);
        x.ctx.partial = true; /* no name yet */
        ProtobufCMessage *into = parse(&x, merges[i].into, CLUSTER),
                         *from = parse(&x, merges[i].from, CLUSTER);
        assert_non_null(into);
        assert_non_null(from);
        mz_msg_merge(into, from, x.ctx.arena);
        assert_string_equal(print(&x, into, 0), merges[i].want);
        assert_int_equal(mz_msg_validate(into, &x.err), i == 0);
        teardown(&x);
    }
}

static void test_pretty(void **state)
{
    (void)state;
    struct fixture x;
    setup(&x, MZ_UNKNOWN_REJECT);
    ProtobufCMessage *m = parse(&x, "{priority: HIGH, retry_budget: {}, max_requests: 1}",
                                &pb_CircuitBreakers_Thresholds__descriptor);
    assert_non_null(m);
    assert_string_equal(
        print(&x, m, MZ_JSON_PRETTY),
        "{\n \"priority\": \"HIGH\",\n \"max_requests\": 1,\n \"retry_budget\": {}\n}");
    m = parse(&x, "{}", &pb_CircuitBreakers_Thresholds__descriptor);
    assert_string_equal(print(&x, m, MZ_JSON_DEFAULTS),
                        "{\"priority\":\"DEFAULT\",\"track_remaining\":false}");
    m = parse(&x, "{}", &pb_CircuitBreakers__descriptor);
    assert_string_equal(print(&x, m, MZ_JSON_DEFAULTS),
                        "{\"thresholds\":[],\"per_host_thresholds\":[]}");
    teardown(&x);
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        int64_t s;
        int32_t ns;
        bool ok;
        uint64_t ms, us;
    } cases[] = { { 0, 0, true, 0, 0 },
                  { 0, 1, true, 1, 1 },
                  { 1, 500000000, true, 1500, 1500000 },
                  { 0, 1000001, true, 2, 1001 },
                  { -1, 0, false, 0, 0 },
                  { 0, -1, false, 0, 0 },
                  { INT64_MAX, 0, false, 0, 0 },
                  { 1, 1000000000, false, 0, 0 } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        pb_Duration d = pb_Duration__INIT;
        struct mz_err err;
        uint64_t ms, us;
        d.seconds = cases[i].s;
        d.nanos = cases[i].ns;
        assert_int_equal(mz_duration_ms(&d, 7, &ms, &err), cases[i].ok);
        assert_int_equal(mz_duration_us(&d, 7, &us, &err), cases[i].ok);
        if (cases[i].ok)
            assert_true(ms == cases[i].ms && us == cases[i].us);
        assert_true(mz_duration_ms(NULL, 7, &ms, &err) && ms == 7);
    }
}

#define PAIR "certificate_chain: {inline_string: PUBLIC}, private_key: {inline_string: SECRET}"
#define TLS  "envoy.extensions.transport_sockets.tls.v3."

/* What is sensitive is shown nowhere: in messages, in Any, in TypedStruct, in a TypedStruct in one. */
static void test_redacted(void **state)
{
    (void)state;
    static const struct {
        const ProtobufCMessageDescriptor *type;
        const char *text;
        unsigned secrets;
    } cases[] = {
        { &pb_TlsCertificate__descriptor, "{" PAIR ", password: {inline_bytes: U0VDUkVU}}", 2 },
        { &pb_TlsCertificate__descriptor, "{private_key: {filename: SECRET}}", 1 },
        { &pb_Secret__descriptor,
          "{name: PUBLIC, session_ticket_keys: {keys: [{inline_string: SECRET}, {inline_string: "
          "SECRET}]}}",
          2 },
        { &pb_TransportSocket__descriptor,
          "{name: PUBLIC, typed_config: {\"@type\": x/" TLS "DownstreamTlsContext, "
          "common_tls_context: {tls_certificates: [{" PAIR "}]}}}",
          1 },
        { &pb_TransportSocket__descriptor,
          "{name: PUBLIC, typed_config: {\"@type\": x/xds.type.v3.TypedStruct, type_url: x/" TLS
          "DownstreamTlsContext, value: {common_tls_context: {tlsCertificates: [{" PAIR "}]}}}}",
          1 },
        { &pb_TransportSocket__descriptor,
          "{name: PUBLIC, typed_config: {\"@type\": x/udpa.type.v1.TypedStruct, type_url: "
          "x/envoy.config.core.v3.TransportSocket, value: {typed_config: {\"@type\": "
          "x/xds.type.v3.TypedStruct, type_url: x/" TLS "TlsCertificate, value: {" PAIR "}}}}}",
          1 },
        { &pb_CheckSettings__descriptor, "{context_extensions: {PUBLIC: SECRET}}", 1 },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG), .unchecked = true };
        ProtobufCMessage *m;
        struct mz_err err;
        struct mz_buf b;
        if (!mz_msg_from_text(&ctx, mz_str_c(cases[i].text), MZ_TEXT_YAML, cases[i].type, &m, &err))
            fail_msg("%zu: %s: %s", i, err.path, err.msg);
        for (unsigned flags = 0; flags <= MZ_JSON_REDACT; flags += MZ_JSON_REDACT) {
            unsigned shown = 0, hidden = 0;
            mz_buf_init(&b);
            mz_msg_to_json(m, &b, flags);
            mz_buf_append(&b, "", 1);
            const char *text = mz_buf_linearize(&b, mz_buf_len(&b)).p;
            for (const char *at = text; (at = strstr(at, "SECRET")) != NULL; at++)
                shown++;
            shown += strstr(text, "U0VDUkVU") != NULL;
            for (const char *at = text; (at = strstr(at, "[redacted]")) != NULL; at++)
                hidden++;
            hidden += strstr(text, "W3JlZGFjdGVkXQ==") != NULL; /* the same in base64 */
            assert_int_equal(shown, flags ? 0 : cases[i].secrets);
            assert_int_equal(hidden, flags ? cases[i].secrets : 0);
            assert_true(strstr(text, "PUBLIC") || !strstr(cases[i].text, "PUBLIC"));
            mz_buf_fini(&b);
        }
        mz_arena_destroy(ctx.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_redacted),       cmocka_unit_test(test_unknown_counted),
        cmocka_unit_test(test_control_fields), cmocka_unit_test(test_typed_struct),
        cmocka_unit_test(test_any_errors),     cmocka_unit_test(test_unpack_checks),
        cmocka_unit_test(test_any_nesting),    cmocka_unit_test(test_alias_depth),
        cmocka_unit_test(test_unknown_in_any), cmocka_unit_test(test_entry_without_value),
        cmocka_unit_test(test_deepest_struct), cmocka_unit_test(test_merge),
        cmocka_unit_test(test_pretty),         cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
