/* EnvoyFilter: what the recorded cases (tests/conformance/istio) do not show. */
#include "base/test.h"

#include "base/buf.h"
#include "control/analyze/check.h"
#include "control/discovery/peer_double.h"
#include "control/model/envoy_patch.h"
#include "control/translate/patch.h"

static struct mz_arena *arena;

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    arena = mz_arena_create(MZ_MEM_CONFIG);
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static const char *as_json(const void *m)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_msg_to_json(m, &b, 0);
    char *text = mz_arena_alloc0(arena, mz_buf_len(&b) + 1);
    (void)mz_buf_copyout(&b, 0, text, mz_buf_len(&b));
    mz_buf_fini(&b);
    return text;
}

/* ---- documents ---- */

#define T "type.googleapis.com/envoy.extensions.filters."
static const struct {
    const char *patch, *error; /* NULL: fine */
} verdicts[] = {
    { "applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 1s}}", NULL },
    { "patch: {operation: MERGE, value: {}}", "config_patches[0].apply_to: is required" },
    { "applyTo: CLUSTER", "config_patches[0].patch: is required" },
    { "applyTo: CLUSTER, patch: {value: {}}", "config_patches[0].patch.operation: is required" },
    { "applyTo: CLUSTER, patch: {operation: ADD}", "config_patches[0].patch.value: is required" },
    { "applyTo: CLUSTER, patch: {operation: REMOVE}", NULL },
    { "applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: soon}}",
      "config_patches[0].patch.value.connect_timeout: " },
    { "applyTo: CLUSTER, patch: {operation: MERGE, value: {shoe_size: 44}}",
      "config_patches[0].patch.value: unknown field \"shoe_size\"" },
    { "applyTo: CLUSTER, patch: {operation: ADD, value: {type: STATIC}}",
      "config_patches[0].patch.value.name: " }, /* every proxy would refuse it */
    { "applyTo: HTTP_FILTER, patch: {operation: ADD, value: {name: a, typed_config: {'@type': '" T
      "http.fault.v3.HTTPFault', abort: {http_status: 1}}}}",
      "config_patches[0].patch.value.typed_config" },
    { "applyTo: HTTP_FILTER, patch: {operation: ADD, value: {name: a, typed_config: {'@type': '" T
      "http.nobody.v3.Nobody', any: {thing: 1}}}}",
      NULL },
    { "applyTo: CLUSTER, match: {proxy: {proxyVersion: '(('}}, patch: {operation: REMOVE}",
      "config_patches[0].match.proxy.proxy_version: " },
    { "applyTo: CLUSTER, match: {listener: {portNumber: 1}}, patch: {operation: REMOVE}",
      "config_patches[0].match: only \"cluster\"" },
    { "applyTo: LISTENER, match: {cluster: {portNumber: 1}}, patch: {operation: REMOVE}",
      "config_patches[0].match: only \"listener\"" },
    { "applyTo: VIRTUAL_HOST, match: {cluster: {portNumber: 1}}, patch: {operation: REMOVE}",
      "config_patches[0].match: only \"route_configuration\"" },
    { "applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {}}}}, patch: {operation: "
      "REMOVE}",
      "config_patches[0].match.listener.filter_chain.filter.name: is required" },
    { "applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: "
      "{name: b}}}}}, patch: {operation: REMOVE}",
      "config_patches[0].match.listener.filter_chain.filter.sub_filter: stands only" },
    { "applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: "
      "b}}}}}, patch: {operation: REMOVE}",
      "config_patches[0].match.listener.filter_chain.filter.name: with a sub_filter" },
};

static bool check(struct mz_str yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    return mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &ist_EnvoyFilter__descriptor, &m, err) &&
           mz_check_object(MZ_KIND_ENVOY_FILTER, m, err);
}

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(verdicts); i++) {
        struct mz_err err = { .path = "", .msg = "" };
        char text[sizeof(err)];
        const bool ok =
            check(mz_arena_printf(arena, "configPatches: [{%s}]", verdicts[i].patch), &err);
        const char *got = ok ? "" : mz_err_text(&err, text, sizeof(text));
        const char *want = verdicts[i].error ? verdicts[i].error : "";
        if (ok != !verdicts[i].error || strncmp(got, want, strlen(want)) != 0)
            fail_msg("%s: \"%s\" does not begin with \"%s\"", verdicts[i].patch, got, want);
    }
}

/* E12: a pattern that took another control plane down. */
static void test_e12_proxy_version_is_bounded(void **state)
{
    (void)state;
    struct mz_err err = { .path = "", .msg = "" };
    char *many = mz_arena_alloc0(arena, 200001);
    for (unsigned i = 0; i < 100000; i++)
        memcpy(many + 2 * i, "a?", 2);
    assert_false(check(mz_arena_printf(arena,
                                       "configPatches: [{applyTo: CLUSTER, match: {proxy: "
                                       "{proxyVersion: '%s'}}, patch: {operation: REMOVE}}]",
                                       many),
                       &err));
    assert_string_equal(err.msg, "may have at most 1024 characters");
    assert_true(check(MZ_STR("configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: "
                             "'(a+)+$'}}, patch: {operation: REMOVE}}]"),
                      &err));
}

/* ---- work ---- */

#define WEB DOUBLE_SERVICE("web", "80", "10.1.0.1") DOUBLE_SERVICE("api", "81", "10.1.0.2")
#define FILTER(name, more, patches)                                                                \
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {namespace: "     \
    "demo, name: " name "}\nspec: {" more "configPatches: [" patches "]}\n"
#define API "outbound|81||api.demo.svc.cluster.local"

static struct {
    struct mz_translator *t;
    struct mz_model *m;
    struct mz_proxy *p;
    struct mz_view *v;
} s;

static void begin(const char *documents, const char *node)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(node), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err));
    s.t = mz_translator_create(&(struct mz_features){ .alpn = true });
    s.m = double_model(mz_arena_printf(arena, "%s%s", WEB, documents));
    mz_translator_set_model(s.t, s.m);
    s.p = mz_proxy_create((const pb_Node *)m, &err);
    s.v = mz_view_create(s.t, s.p);
}

static void end(void)
{
    mz_view_destroy(s.v);
    mz_proxy_destroy(s.p);
    mz_translator_destroy(s.t);
    mz_model_unref(s.m);
}

static const ProtobufCMessage *get(enum mz_xds_type t, const char *name)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_outs o = { 0 };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    const struct mz_str n = mz_str_c(name);
    mz_translate(s.v, t, &n, mz_translate_is_named(s.p, t) ? 1 : 0, &o);
    mz_vec_foreach (it, &o.v)
        if (mz_str_eq((*it)->name, n) &&
            !mz_msg_unpack(&ctx, (*it)->bytes, mz_xds_descriptor(t), &m, &err))
            fail_msg("%s: %s", err.path, err.msg);
    mz_outs_fini(&o);
    return m;
}
#define NODE                                                                                       \
    "{id: sidecar~10.1.0.9~x-0.demo~demo.svc.cluster.local, metadata: {ISTIO_VERSION: 1.32.0}}"

/* What would make proxies refuse a cluster is left out; what else is said of it, and of others, counts. */
static void test_one_that_does_harm_stops_no_other(void **state)
{
    (void)state;
    begin(FILTER("a", "",
                 "{applyTo: CLUSTER, match: {cluster: {service: api.demo.svc.cluster.local}}, "
                 "patch: {operation: MERGE, value: {alt_stat_name: kept}}}")
              FILTER("b", "",
                     "{applyTo: CLUSTER, match: {cluster: {service: api.demo.svc.cluster.local}}, "
                     "patch: {operation: MERGE, value: {max_requests_per_connection: 1, "
                     "dns_refresh_rate: 0s}}}") FILTER("c", "",
                                                       "{applyTo: CLUSTER, patch: {operation: "
                                                       "MERGE, value: {connect_timeout: 0.777s}}}"),
          NODE);
    const pb_Cluster *c = (const pb_Cluster *)get(MZ_XDS_CLUSTER, API);
    assert_string_equal(c->alt_stat_name, "kept");
    assert_int_equal(c->connect_timeout->seconds, 0); /* replaced as a whole */
    assert_int_equal(c->connect_timeout->nanos, 777000000);
    assert_null(c->max_requests_per_connection);
    end();
}

#define BAD "{applyTo: CLUSTER, patch: {operation: MERGE, value: {dns_refresh_rate: 0s}}}"
#define NAMED(name)                                                                                \
    "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: " name "}}}"

/* Looking for those that do harm takes time: behind the eighth nothing is looked for. */
static void test_many_that_do_harm(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { BAD "," NAMED("a") "," BAD "," BAD "," BAD "," BAD "," BAD "," BAD "," NAMED("b"), "b" },
        { BAD "," NAMED("a") "," BAD "," BAD "," BAD "," BAD "," BAD "," BAD "," BAD "," NAMED("b"),
          "a" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        begin(mz_arena_printf(arena, FILTER("a", "", "%s"), cases[i][0]).p, NODE);
        assert_string_equal(((const pb_Cluster *)get(MZ_XDS_CLUSTER, API))->alt_stat_name,
                            cases[i][1]);
        end();
    }
}

/* A merge works on a copy: what one place gets is not found again in the next. */
static void test_merges_do_not_leak(void **state)
{
    (void)state;
    begin(FILTER("a", "",
                 "{applyTo: CLUSTER, patch: {operation: MERGE, value: {circuit_breakers: "
                 "{thresholds: [{max_connections: 7}]}}}}"),
          NODE);
    const pb_Cluster *one = (const pb_Cluster *)get(MZ_XDS_CLUSTER, API);
    const char *first = as_json(one);
    const size_t n = one->circuit_breakers->n_thresholds;
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(as_json(get(MZ_XDS_CLUSTER, API)), first);
        assert_int_equal(
            ((const pb_Cluster *)get(MZ_XDS_CLUSTER, "outbound|80||web.demo.svc.cluster.local"))
                ->circuit_breakers->n_thresholds,
            n);
    }
    end();
}

static void test_order(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { FILTER("b", "",
                 "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: b}}}")
              FILTER("a", "priority: 5, ",
                     "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: a}}}"),
          "a" },
        { FILTER("b", "",
                 "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: b}}}")
              FILTER("a", "",
                     "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: a}}}"),
          "b" },
        { FILTER("a", "",
                 "{applyTo: CLUSTER, match: {proxy: {proxyVersion: '^1\\.3'}}, patch: {operation: "
                 "MERGE, value: {alt_stat_name: a}}}"),
          "a" },
        { FILTER("a", "",
                 "{applyTo: CLUSTER, match: {proxy: {proxyVersion: '^1\\.2'}}, patch: {operation: "
                 "MERGE, value: {alt_stat_name: a}}}"),
          API ";" },
        { FILTER("a", "",
                 "{applyTo: CLUSTER, match: {proxy: {metadata: {X: y}}}, patch: {operation: MERGE, "
                 "value: {alt_stat_name: a}}}"),
          API ";" },
        { FILTER("a", "workloadSelector: {labels: {app: other}}, ",
                 "{applyTo: CLUSTER, patch: {operation: MERGE, value: {alt_stat_name: a}}}"),
          API ";" },
        { FILTER("a", "",
                 "{applyTo: CLUSTER, match: {context: SIDECAR_INBOUND}, patch: {operation: MERGE, "
                 "value: {alt_stat_name: a}}}"),
          API ";" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        begin(cases[i][0], NODE);
        assert_string_equal(((const pb_Cluster *)get(MZ_XDS_CLUSTER, API))->alt_stat_name,
                            cases[i][1]);
        end();
    }
}

static void test_added_and_removed(void **state)
{
    (void)state;
    begin(FILTER("a", "",
                 "{applyTo: CLUSTER, match: {cluster: {name: '" API
                 "'}}, patch: {operation: REMOVE}},"
                 "{applyTo: CLUSTER, patch: {operation: ADD, value: {name: mine, type: STATIC, "
                 "connect_timeout: 1s}}},"
                 "{applyTo: CLUSTER, patch: {operation: ADD, value: {name: mine, type: STATIC, "
                 "connect_timeout: 2s}}},"
                 "{applyTo: EXTENSION_CONFIG, patch: {operation: ADD, value: {name: e, "
                 "typed_config: {'@type': '" T "http.buffer.v3.Buffer', max_request_bytes: 1}}}}"),
          NODE);
    assert_null(get(MZ_XDS_CLUSTER, API));
    assert_int_equal(((const pb_Cluster *)get(MZ_XDS_CLUSTER, "mine"))->connect_timeout->seconds,
                     1); /* the first of a name */
    assert_non_null(get(MZ_XDS_EXTENSION, "e"));
    assert_null(get(MZ_XDS_EXTENSION, "nobody"));
    end();
}

/* Types and fields that are not ours go as TypedStructs; a merge of such a field keeps what was there. */
static void test_types_of_others(void **state)
{
    (void)state;
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *p = NULL, *m = NULL;
    assert_true(mz_msg_from_text(
                    &ctx,
                    MZ_STR("applyTo: HTTP_FILTER, patch: {operation: MERGE, value: {typed_config: "
                           "{'@type': '" T
                           "http.fault.v3.HTTPFault', not_ours: 3, delay: {fixed_delay: 1s}}}}"),
                    MZ_TEXT_YAML, &ist_EnvoyFilter_EnvoyConfigObjectPatch__descriptor, &p, &err) ||
                mz_msg_from_text(
                    &ctx,
                    MZ_STR("{applyTo: HTTP_FILTER, patch: {operation: MERGE, value: {typed_config: "
                           "{'@type': '" T
                           "http.fault.v3.HTTPFault', not_ours: 3, delay: {fixed_delay: 1s}}}}}"),
                    MZ_TEXT_YAML, &ist_EnvoyFilter_EnvoyConfigObjectPatch__descriptor, &p, &err));
    assert_true(
        mz_envoy_patch_value((const ist_EnvoyFilter_EnvoyConfigObjectPatch *)p, arena, &m, &err));
    const pb_HttpFilter *f = (const pb_HttpFilter *)m;
    assert_string_equal(f->typed_config->type_url, "type.googleapis.com/udpa.type.v1.TypedStruct");
    pb_HTTPFault fault = pb_HTTPFault__INIT;
    fault.upstream_cluster = TR_CONST("there");
    pb_Any *into = mz_any_pack(&fault.base, arena);
    assert_true(mz_envoy_merge_any(into, f->typed_config, arena, &err));
    assert_string_equal(
        as_json(into),
        "{\"@type\":\"type.googleapis.com/udpa.type.v1.TypedStruct\",\"type_url\":\"" T
        "http.fault.v3.HTTPFault\",\"value\":"
        "{\"upstream_cluster\":\"there\",\"not_ours\":3,\"delay\":{\"fixed_delay\":\"1s\"}}}");
    pb_Buffer other = pb_Buffer__INIT;
    assert_false(mz_envoy_merge_any(mz_any_pack(&other.base, arena), f->typed_config, arena, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, up, down),
        cmocka_unit_test_setup_teardown(test_e12_proxy_version_is_bounded, up, down),
        cmocka_unit_test_setup_teardown(test_one_that_does_harm_stops_no_other, up, down),
        cmocka_unit_test_setup_teardown(test_many_that_do_harm, up, down),
        cmocka_unit_test_setup_teardown(test_merges_do_not_leak, up, down),
        cmocka_unit_test_setup_teardown(test_order, up, down),
        cmocka_unit_test_setup_teardown(test_added_and_removed, up, down),
        cmocka_unit_test_setup_teardown(test_types_of_others, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
