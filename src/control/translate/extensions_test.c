/* WasmPlugin and TrafficExtension: what the recorded case (tests/conformance/istio, wasmplugin) does not show. */
#include "base/test.h"

#include "base/buf.h"
#include "control/analyze/check.h"
#include "control/discovery/peer_double.h"
#include "control/translate/translate.h"

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

static struct mz_str as_json(const void *m)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_msg_to_json(m, &b, 0);
    char *text = mz_arena_alloc0(arena, mz_buf_len(&b) + 1);
    (void)mz_buf_copyout(&b, 0, text, mz_buf_len(&b));
    mz_buf_fini(&b);
    return mz_str_c(text);
}

/* ---- documents ---- */

#define WASM   MZ_KIND_WASM_PLUGIN
#define EXT    MZ_KIND_TRAFFIC_EXTENSION
#define DIGEST "00000000000000000000000000000000000000000000000000000000000000af"
static const struct {
    enum mz_kind kind;
    const char *spec, *error; /* NULL: fine */
} verdicts[] = {
    { WASM, "{}", "url: is required" },
    { WASM, "url: a/b:v1, sha256: " DIGEST, NULL },
    { WASM, "url: ftp://a/b", "url: \"ftp://a/b\": the scheme" },
    { WASM, "url: 'oci://'", "url: names nothing" },
    { WASM, "url: \"oci://a b\"", "url: must have no blanks" },
    { WASM, "url: a, sha256: abc", "sha256: must be 64" },
    { WASM, "url: a, sha256: 00000000000000000000000000000000000000000000000000000000000000AF",
      "sha256: must be 64" },
    { WASM, "url: a, vmConfig: {env: [{value: b}]}", "vm_config.env[0].name: is required" },
    { WASM, "url: a, vmConfig: {env: [{name: b}, {name: b}]}",
      "vm_config.env[1].name: \"b\" is there" },
    { WASM, "url: a, vmConfig: {env: [{name: b, value: c, valueFrom: HOST}]}",
      "vm_config.env[0].value: can only" },
    { WASM, "url: a, match: [{}, {ports: [{number: 1}, {number: 0}]}]",
      "match[1].ports[1].number: 0 is no port" },
    { WASM, "url: a, match: [{ports: [{number: 65536}]}]", "match[0].ports[0].number: 65536" },
    { WASM, "url: a, selector: {}, targetRef: {kind: Service, name: a}", "only one of" },
    { WASM, "url: a, targetRefs: [{kind: Pod, name: a}]", "targetRefs[0].kind" },
    { WASM, "url: a, shoeSize: 44", "unknown field \"shoeSize\"" },
    { EXT, "{}", "exactly one of wasm and lua" },
    { EXT, "lua: {}", "lua.inline_code: is required" },
    { EXT, "lua: {inlineCode: x}", NULL },
    { EXT, "wasm: {url: a}, match: [{ports: [{number: 65536}]}]", "match[0].ports[0].number" },
    { EXT, "wasm: {}", "wasm.url: is required" },
};

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(verdicts); i++) {
        struct mz_proto_ctx ctx = { .arena = arena,
                                    .unknown = MZ_UNKNOWN_REJECT,
                                    .fractions = true };
        struct mz_err err = { .path = "", .msg = "" };
        char text[sizeof(err)];
        ProtobufCMessage *m = NULL;
        const char *spec = verdicts[i].spec;
        const struct mz_str yaml =
            spec[0] == '{' ? mz_str_c(spec) : mz_arena_printf(arena, "{%s}", spec);
        const bool ok = mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML,
                                         mz_kind_info(verdicts[i].kind)->type, &m, &err) &&
                        mz_check_object(verdicts[i].kind, m, &err);
        const char *got = ok ? "" : mz_err_text(&err, text, sizeof(text));
        const char *want = verdicts[i].error ? verdicts[i].error : "";
        if (ok != !verdicts[i].error || strncmp(got, want, strlen(want)) != 0)
            fail_msg("%s: \"%s\" does not begin with \"%s\"", spec, got, want);
    }
    struct mz_err err = { .msg = "" };
    char *code = mz_arena_alloc0(arena, 65538);
    memset(code, 'x', 65537);
    ist_LuaConfig lua = ist_LuaConfig__INIT;
    ist_TrafficExtension long_one = ist_TrafficExtension__INIT;
    lua.inline_code = code;
    long_one.filter_config_case = ist_TrafficExtension_FILTER_CONFIG_LUA;
    long_one.lua = &lua;
    assert_false(mz_check_object(EXT, &long_one.base, &err));
    code[65536] = 0;
    assert_true(mz_check_object(EXT, &long_one.base, &err));
}

/* ---- filters ---- */

#define PLUGIN(ns, name, created, spec)                                                            \
    "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {namespace: " ns   \
    ", name: " name ", creationTimestamp: '" created "'}\nspec: {url: x/" name ", " spec "}\n"
#define EXTENSION(ns, name, spec)                                                                  \
    "---\napiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: "            \
    "{namespace: " ns ", name: " name "}\nspec: {" spec "}\n"
#define NODE "id: sidecar~10.1.0.1~x-0.demo~demo.svc.cluster.local"
#define POD  "metadata: {LABELS: {app: web}}"

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
    assert_true(mz_msg_from_text(&ctx, mz_arena_printf(arena, "{%s}", node), MZ_TEXT_YAML,
                                 &pb_Node__descriptor, &m, &err));
    s.t = mz_translator_create(&(struct mz_features){ .alpn = true });
    s.m = double_model(
        mz_arena_printf(arena, "%s%s", DOUBLE_SERVICE("web", "80", "10.1.0.1"), documents));
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
    struct mz_proto_ctx ctx = {
        .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .unchecked = true, .control = true
    };
    struct mz_outs o = { 0 };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    const struct mz_str n = mz_str_c(name);
    mz_translate(s.v, t, &n, mz_translate_is_named(s.p, t) ? 1 : 0, &o);
    mz_vec_foreach (it, &o.v)
        if (mz_str_eq((*it)->name, n) &&
            !mz_msg_unpack(&ctx, (*it)->bytes, mz_translate_descriptor(t), &m, &err))
            fail_msg("%s: %s", err.path, err.msg);
    mz_outs_fini(&o);
    return m;
}

/* Own filters of a chain, and of its manager behind '|', by what follows the prefix of their names. */
static const char *own_filters(const pb_FilterChain *c)
{
    struct mz_str out = MZ_STR("");
    const struct mz_str prefix = MZ_STR("extensions.istio.io/trafficextension/");
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    for (size_t i = 0; i < c->n_filters; i++) {
        ProtobufCMessage *m = NULL;
        if (mz_str_starts(mz_str_c(c->filters[i]->name), prefix))
            out =
                mz_arena_printf(arena, "%.*s%s ", MZ_STR_ARG(out), c->filters[i]->name + prefix.n);
        if (c->filters[i]->config_type_case != pb_Filter_CONFIG_TYPE_TYPED_CONFIG ||
            !mz_any_unpack_as(&ctx, c->filters[i]->typed_config,
                              &pb_HttpConnectionManager__descriptor, &m, &err))
            continue;
        const pb_HttpConnectionManager *h = (const pb_HttpConnectionManager *)m;
        out = mz_arena_printf(arena, "%.*s|", MZ_STR_ARG(out));
        for (size_t k = 0; k < h->n_http_filters; k++)
            if (mz_str_starts(mz_str_c(h->http_filters[k]->name), prefix))
                out = mz_arena_printf(arena, "%.*s%s ", MZ_STR_ARG(out),
                                      h->http_filters[k]->name + prefix.n);
    }
    struct mz_str text = MZ_STR("");
    for (struct mz_str one;
         mz_str_split(&out, '~', &one);) { /* the marker is the same everywhere */
        if (mz_str_starts(one, MZ_STR("istio-translated-wasmplugin")))
            one = mz_str_skip(one, 27);
        text = mz_arena_printf(arena, "%.*s%.*s", MZ_STR_ARG(text), MZ_STR_ARG(one));
    }
    return text.p;
}

static const pb_FilterChain *chain(const char *listener, uint16_t port)
{
    const pb_Listener *l = (const pb_Listener *)get(MZ_XDS_LISTENER, listener);
    for (size_t i = 0; i < l->n_filter_chains; i++) {
        const pb_FilterChain *c = l->filter_chains[i];
        if (!port || (c->filter_chain_match &&
                      mz_u32_or(c->filter_chain_match->destination_port, 0) == port))
            return c;
    }
    fail();
    return NULL;
}

/* The highest priority first; of one priority the proxy's namespace before the root, the oldest first; none is the lowest. */
static void test_order(void **state)
{
    (void)state;
    begin(PLUGIN("istio-system", "root", "2020-01-01T00:00:00Z",
                 "phase: AUTHN") PLUGIN("demo", "young", "2022-01-01T00:00:00Z", "phase: AUTHN")
              PLUGIN("demo", "old", "2021-01-01T00:00:00Z", "phase: AUTHN") PLUGIN(
                  "istio-system", "high", "2023-01-01T00:00:00Z", "phase: AUTHN, priority: 5")
                  PLUGIN("demo", "low", "2020-01-01T00:00:00Z", "phase: AUTHN, priority: -5")
                      PLUGIN("demo", "any", "2020-01-01T00:00:00Z", "priority: 9")
                          PLUGIN("demo", "stats", "2020-01-01T00:00:00Z", "phase: STATS")
                              PLUGIN("demo", "authz", "2020-01-01T00:00:00Z", "phase: AUTHZ")
                                  PLUGIN("other", "foreign", "2020-01-01T00:00:00Z", "phase: AUTHN")
                                      PLUGIN("demo", "elsewhere", "2020-01-01T00:00:00Z",
                                             "phase: AUTHN, selector: {matchLabels: {app: api}}"),
          NODE ", " POD);
    assert_string_equal(own_filters(chain("0.0.0.0_80", 0)),
                        "|istio-system.high demo.low demo.old demo.young istio-system.root "
                        "demo.authz demo.stats demo.any ");
    end();
}

static void test_parts_of_the_traffic(void **state)
{
    (void)state;
    begin(
        PLUGIN("demo", "server", "", "match: [{mode: SERVER}]")
            PLUGIN("demo", "client", "", "match: [{mode: CLIENT, ports: [{number: 80}]}]") PLUGIN(
                "demo", "both", "", "match: [{ports: [{number: 1}]}, {mode: CLIENT_AND_SERVER}]")
                PLUGIN("demo", "nowhere", "", "match: [{ports: [{number: 1}]}]")
                    PLUGIN("demo", "tcp", "", "type: NETWORK, match: [{mode: CLIENT}]") EXTENSION(
                        "demo", "lua",
                        "match: [{mode: SERVER, ports: [{number: 80}]}], lua: {inlineCode: '--'}"),
        NODE ", " POD);
    assert_string_equal(own_filters(chain("0.0.0.0_80", 0)), "demo.tcp |demo.both demo.client ");
    assert_string_equal(own_filters(chain("virtualInbound", 80)),
                        "|demo.both demo.lua demo.server ");
    assert_string_equal(own_filters(chain("virtualInbound", 15006)), "");
    assert_string_equal(own_filters(chain("virtualOutbound", 0)), "");
    end();
}

/* A proxy that tells what it has goes without what it lacks. */
static void test_what_a_proxy_lacks(void **state)
{
    (void)state;
    static const char *const documents =
        PLUGIN("demo", "a", "", "phase: AUTHN") EXTENSION("demo", "b", "lua: {inlineCode: '--'}");
    static const char *const cases[][2] = {
        { "", "|demo.a demo.b " },
        { ", extensions: [{name: envoy.filters.http.wasm}, {name: envoy.filters.http.lua}]",
          "|demo.a demo.b " },
        { ", extensions: [{name: istio.stats}, {name: envoy.filters.http.lua}]", "|demo.b " },
        { ", extensions: [{name: istio.stats}]", "|" },
        { ", extensions: [{name: envoy.filters.http.istio_stats}]", "|" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        begin(documents, mz_arena_printf(arena, NODE ", " POD "%s", cases[i][0]).p);
        assert_string_equal(own_filters(chain("0.0.0.0_80", 0)), cases[i][1]);
        assert_int_equal(
            get(MZ_XDS_EXTENSION,
                "extensions.istio.io/trafficextension/demo.a~istio-translated-wasmplugin") != NULL,
            i < 2);
        assert_null(get(MZ_XDS_EXTENSION, "extensions.istio.io/trafficextension/demo.b"));
        end();
    }
}

static void test_modules(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "url: registry:5000/a:v1", "\"http_uri\":{\"uri\":\"oci://registry:5000/"
                                     "a:v1\",\"cluster\":\"_\",\"timeout\":\"30s\"}" },
        { "url: 'file:///opt/a.wasm'", "\"code\":{\"local\":{\"filename\":\"/opt/a.wasm\"}}" },
        { "url: x, failStrategy: FAIL_RELOAD", "\"failure_policy\":\"FAIL_RELOAD\"" },
        { "url: x, pluginName: root", "\"root_id\":\"root\"" },
        { "url: x, pluginConfig: {b: 1.5, a: [true, null, 'x\"']}",
          "\"value\":\"{\\\"a\\\":[true,null,\\\"x\\\\\\\"\\\"],\\\"b\\\":1.5}\"" },
        { "url: x, imagePullPolicy: IfNotPresent",
          "\"ISTIO_META_WASM_IMAGE_PULL_POLICY\":\"IfNotPresent\"" },
        { "url: x, imagePullSecret: s", "\"ISTIO_META_WASM_IMAGE_PULL_SECRET\":\"\"" },
        { "url: x, vmConfig: {env: [{name: A, value: b}, {name: H, valueFrom: HOST}]}",
          "\"host_env_keys\":[\"H\"]" },
        { "url: x, vmConfig: {env: [{name: ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION, value: b}]}",
          "{\"ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION\":\"b\"}" },
        { "url: x, type: NETWORK",
          "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        begin(mz_arena_printf(arena, EXTENSION("demo", "e", "wasm: {%s}"), cases[i][0]).p,
              NODE ", " POD);
        const struct mz_str json =
            as_json(get(MZ_XDS_EXTENSION, "extensions.istio.io/trafficextension/demo.e"));
        if (mz_str_find(json, mz_str_c(cases[i][1])) < 0)
            fail_msg("%s: %s is not in %s", cases[i][0], cases[i][1], json.p);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, up, down),
        cmocka_unit_test_setup_teardown(test_order, up, down),
        cmocka_unit_test_setup_teardown(test_parts_of_the_traffic, up, down),
        cmocka_unit_test_setup_teardown(test_what_a_proxy_lacks, up, down),
        cmocka_unit_test_setup_teardown(test_modules, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
