/* Telemetry: what wins, and what the recorded cases (tests/conformance/istio) do not show. */
#include "base/test.h"

#include "base/buf.h"
#include "control/discovery/peer_double.h"
#include "control/translate/telemetry.h"

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

/* ---- what came out, in a line ---- */

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

static ProtobufCMessage *open_any(const pb_Any *any)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    const ProtobufCMessageDescriptor *d = NULL;
    ProtobufCMessage *m = NULL;
    struct mz_err err = { .msg = "" };
    if (!mz_any_unpack(&ctx, any, &d, &m, &err)) /* what we send must be loadable */
        fail_msg("%s: %s", err.path, err.msg);
    return m;
}

/* metrics=name[-: dropped][+tag,-tag] ...  logs=path or name[?: with a condition] ...  spans=provider/sampling/tags[/random][/alone] */
static const char *say(const struct tr_telemetry *t)
{
    struct mz_str s = MZ_STR("");
    for (size_t i = 0; i < t->n_http_stats; i++) {
        const pb_PluginConfig *p = (pb_PluginConfig *)open_any(t->http_stats[i]->typed_config);
        s = mz_arena_printf(arena, "%.*smetrics", MZ_STR_ARG(s));
        for (size_t k = 0; k < p->n_metrics; k++) {
            s = mz_arena_printf(arena, "%.*s %s%s", MZ_STR_ARG(s), p->metrics[k]->name,
                                p->metrics[k]->drop ? "-" : "");
            for (size_t j = 0; j < p->metrics[k]->n_dimensions; j++)
                s = mz_arena_printf(arena, "%.*s+%s", MZ_STR_ARG(s),
                                    p->metrics[k]->dimensions[j]->key);
            for (size_t j = 0; j < p->metrics[k]->n_tags_to_remove; j++)
                s = mz_arena_printf(arena, "%.*s-%s", MZ_STR_ARG(s),
                                    p->metrics[k]->tags_to_remove[j]);
        }
        s = mz_arena_printf(arena, "%.*s;", MZ_STR_ARG(s));
    }
    for (size_t i = 0; i < t->n_http_logs; i++) {
        const ProtobufCMessage *m = open_any(t->http_logs[i]->typed_config);
        const bool file = m->descriptor == &pb_FileAccessLog__descriptor;
        s = mz_arena_printf(arena, "%.*s%s%s;", MZ_STR_ARG(s),
                            file ? ((const pb_FileAccessLog *)m)->path : t->http_logs[i]->name,
                            t->http_logs[i]->filter ? "?" : "");
    }
    if (t->tracing) {
        if (t->tracing->provider)
            (void)open_any(t->tracing->provider->typed_config);
        s = mz_arena_printf(arena, "%.*sspans %s/%g/%zu%s%s", MZ_STR_ARG(s),
                            t->tracing->provider ? t->tracing->provider->name + 14 : "-",
                            t->tracing->random_sampling->value, t->tracing->n_custom_tags,
                            t->request_id ? "/random" : "",
                            t->tracing->no_context_propagation ? "/alone" : "");
    }
    return s.p;
}

/* ---- cases ---- */

#define BACKEND DOUBLE_SERVICE("t", "80", "10.1.0.1")
#define HOST    "t.demo.svc.cluster.local"
#define PROVIDERS                                                                                  \
    "extensionProviders:\n"                                                                        \
    "- {name: z, zipkin: {service: " HOST ", port: 80, headers: [{name: a, value: b}]}}\n"         \
    "- {name: d, datadog: {service: " HOST ", port: 80}}\n"                                        \
    "- {name: s, skywalking: {service: demo/" HOST ", port: 80}}\n"                                \
    "- {name: o, opentelemetry: {service: " HOST                                                   \
    ", port: 80, grpc: {timeout: 1s, initialMetadata: [{name: a, envName: NO_SUCH}]}, "            \
    "resourceDetectors: {dynatrace: {}}, serviceAttributeEnrichment: "                             \
    "OTEL_SEMANTIC_CONVENTIONS}}\n"                                                                \
    "- {name: lost, zipkin: {service: nobody, port: 80}}\n"                                        \
    "- {name: f, envoyFileAccessLog: {path: /f, logFormat: {labels: {a: "                          \
    "'%REQ_WITHOUT_QUERY(:PATH)%'}}, omitEmptyValues: true}}\n"                                    \
    "- {name: g, envoyFileAccessLog: {path: /g, logFormat: {text: "                                \
    "'%REQ_WITHOUT_QUERY(:PATH)%'}}}\n"                                                            \
    "- {name: h, envoyHttpAls: {service: " HOST ", port: 80, filterStateObjectsToLog: [x]}}\n"     \
    "- {name: i, envoyTcpAls: {service: " HOST ", port: 80}}\n"                                    \
    "- {name: k, envoyOtelAls: {service: " HOST                                                    \
    ", port: 80, logFormat: {labels: {b: c, a: 1}}}}\n"                                            \
    "- {name: nolog, envoyHttpAls: {service: nobody, port: 80}}\n"
#define TELEMETRY(ns, name, spec)                                                                  \
    "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {namespace: " ns           \
    ", name: " name "}\nspec: {" spec "}\n"
#define OFF "metrics: [{providers: [{name: prometheus}], overrides: [{disabled: true}]}]"

static const struct {
    const char *mesh, *documents, *in, *out; /* of inbound and outbound listeners */
} cases[] = {
    { "", "", "spans -/1/9", "spans -/1/9" },
    { "enableTracing: false\n", "", "", "" },
    { "defaultConfig: {tracing: {sampling: 20, maxPathTagLength: 9, customTags: {a: {literal: "
      "{value: b}}}, enableIstioTags: false}}\n",
      "", "spans -/20/1", "spans -/20/1" },
    { "defaultConfig: {tracing: {sampling: 200}}\n", "", "spans -/1/9", "spans -/1/9" },
    { "accessLogFile: /a\nenableEnvoyAccessLogService: true\n", "",
      "/a;envoy.access_loggers.http_grpc;spans -/1/9",
      "/a;envoy.access_loggers.http_grpc;spans -/1/9" },
    { "accessLogFile: /a\naccessLogEncoding: JSON\naccessLogFormat: '{broken'\n", "",
      "/a;spans -/1/9", "/a;spans -/1/9" },
    { "defaultProviders: {metrics: [prometheus], accessLogging: [envoy], tracing: [z]}\n", "",
      "metrics;/dev/stdout;spans zipkin/1/9", "metrics;/dev/stdout;spans zipkin/1/9" },
    { "defaultProviders: {metrics: [PROMETHEUS, nobody], tracing: [nobody]}\n", "", "metrics;",
      "metrics;" },
    /* metrics */
    { "", TELEMETRY("demo", "a", "metrics: [{providers: [{name: prometheus}]}]"),
      "metrics;spans -/1/9", "metrics;spans -/1/9" },
    { "",
      TELEMETRY("istio-system", "a", OFF)
          TELEMETRY("demo", "b",
                    "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, "
                    "disabled: false}]}]"),
      "metrics requests_total;spans -/1/9", /* without providers it has those of the one before */
      "spans -/1/9" },
    { "defaultProviders: {metrics: [prometheus]}\n",
      TELEMETRY("istio-system", "a", OFF)
          TELEMETRY("demo", "b",
                    "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, "
                    "disabled: false, tagOverrides: {b: {value: c}, a: {operation: REMOVE}}}]}]"),
      "metrics requests_total+b-a;spans -/1/9", "spans -/1/9" },
    { "defaultProviders: {metrics: [prometheus]}\n",
      TELEMETRY("demo", "a",
                "metrics: [{overrides: [{match: {metric: TCP_SENT_BYTES}, disabled: true}, {match: "
                "{customMetric: mine}, tagOverrides: {x: {value: z}}}, "
                "{match: {metric: TCP_SENT_BYTES}, disabled: false}]}]"),
      "metrics tcp_sent_bytes_total mine+x;spans -/1/9",
      "metrics tcp_sent_bytes_total mine+x;spans -/1/9" },
    /* of two documents for a whole namespace the older counts; with equal age the first by name */
    { "",
      TELEMETRY("demo", "b", "metrics: [{providers: [{name: prometheus}]}]")
          TELEMETRY("demo", "a", ""),
      "spans -/1/9", "spans -/1/9" },
    { "",
      TELEMETRY("demo", "b",
                "selector: {matchLabels: {app: x}}, metrics: [{providers: [{name: prometheus}]}]"),
      "spans -/1/9", "spans -/1/9" },
    /* logs */
    { "accessLogFile: /a\n",
      TELEMETRY("demo", "a",
                "accessLogging: [{providers: [{name: g}, {name: f}, {name: h}, {name: i}, {name: "
                "k}, {name: nolog}, {name: nobody}, {name: z}]}]"),
      "/f;/"
      "g;envoy.access_loggers.http_grpc;envoy.tcp_grpc_access_log;envoy.access_loggers.open_"
      "telemetry;spans -/1/9",
      "/f;/"
      "g;envoy.access_loggers.http_grpc;envoy.tcp_grpc_access_log;envoy.access_loggers.open_"
      "telemetry;spans -/1/9" },
    { "accessLogFile: /a\n",
      TELEMETRY("demo", "a", "accessLogging: [{providers: [{name: nobody}]}]"), "/a;spans -/1/9",
      "/a;spans -/1/9" },
    { "accessLogFile: /a\n",
      TELEMETRY(
          "demo", "a",
          "accessLogging: [{providers: [{name: f}], match: {mode: CLIENT}, filter: {expression: "
          "'response.code > 1'}}, {providers: [{name: g}], match: {mode: SERVER}}]"),
      "/g;spans -/1/9", "/f?;spans -/1/9" },
    { "accessLogFile: /a\n",
      TELEMETRY("istio-system", "a", "accessLogging: [{providers: [{name: f}]}]")
          TELEMETRY("demo", "b", "accessLogging: [{disabled: true, match: {mode: SERVER}}]"),
      "spans -/1/9", "/f;spans -/1/9" },
    { "accessLogFile: /a\n",
      TELEMETRY("istio-system", "a", "accessLogging: [{providers: [{name: f}]}]")
          TELEMETRY("demo", "b", "accessLogging: [{providers: [{name: g}]}]"),
      "/g;spans -/1/9", "/g;spans -/1/9" },
    { "defaultProviders: {accessLogging: [f]}\n",
      TELEMETRY("demo", "b", "accessLogging: [{filter: {expression: 'true'}}]"), "/f;spans -/1/9",
      "/f;spans -/1/9" },
    /* spans */
    { "", TELEMETRY("demo", "a", "tracing: [{randomSamplingPercentage: 5}]"), "",
      "" }, /* by whom? */
    { "defaultProviders: {tracing: [d]}\n",
      TELEMETRY("demo", "a",
                "tracing: [{match: {mode: CLIENT}, providers: [{name: s}], "
                "randomSamplingPercentage: 5, enableIstioTags: false}, "
                "{match: {mode: SERVER}, useRequestIdForTraceSampling: false, customTags: {a: "
                "{formatter: {value: '%PROTOCOL%'}}}}]"),
      "spans datadog/1/10/random", "spans skywalking/5/0" },
    { "",
      TELEMETRY("istio-system", "a",
                "tracing: [{providers: [{name: o}], disableSpanReporting: true}]")
          TELEMETRY("demo", "b", "tracing: [{disableSpanReporting: false, match: {mode: SERVER}}]"),
      "spans opentelemetry/1/9", "" },
    { "defaultProviders: {tracing: [d]}\n",
      TELEMETRY("demo", "a", "tracing: [{match: {mode: CLIENT}, disableContextPropagation: true}]"),
      "spans datadog/1/9", "spans datadog/1/9/alone" },
    { "", TELEMETRY("demo", "a", "tracing: [{providers: [{name: lost}]}]"), "", "" },
    { "", TELEMETRY("demo", "a", "tracing: [{providers: [{name: f}]}]"), "", "" },
};

static struct mz_model *model_of(const char *mesh, const char *documents)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    mz_doc_read_mesh(&r, mz_arena_printf(arena, "%s%s", mesh, PROVIDERS));
    assert_non_null(mz_store_get(s, MZ_STR("MeshConfig/mesh")));
    mz_doc_read_text(&r, MZ_STR(BACKEND), MZ_TEXT_YAML);
    mz_doc_read_text(&r, mz_str_c(documents), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}

static struct mz_proxy *proxy_of(const char *yaml)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)m, &err);
    assert_non_null(p);
    return p;
}
#define WEB "id: sidecar~10.1.0.9~web-0.demo~demo.svc.cluster.local, cluster: web.demo"

static void test_what_wins(void **state)
{
    (void)state;
    bool bad = false;
    struct mz_proxy *p = proxy_of("{" WEB ", metadata: {ISTIO_VERSION: 1.32.0}}");
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_translator *t =
            mz_translator_create(&(struct mz_features){ .trace_sampling = 1 });
        struct mz_model *m = model_of(cases[i].mesh, cases[i].documents);
        mz_translator_set_model(t, m);
        struct mz_view *v = mz_view_create(t, p);
        const char *in = say(tr_telemetry(v, TR_INBOUND)), *out = say(tr_telemetry(v, TR_OUTBOUND));
        if (strcmp(in, cases[i].in) != 0 || strcmp(out, cases[i].out) != 0)
            print_message("case %zu: %s %s\n", i, in, out), bad = true;
        mz_view_destroy(v);
        mz_translator_destroy(t);
        mz_model_unref(m);
    }
    mz_proxy_destroy(p);
    assert_false(bad);
}

/* Older proxies know older fields; a workload's own ProxyConfig counts before the mesh's. */
static void test_of_the_proxy(void **state)
{
    (void)state;
    static const struct {
        const char *node, *sampling, *zipkin;
    } nodes[] = {
        { "{" WEB
          ", metadata: {ISTIO_VERSION: 1.27.3, PROXY_CONFIG: {tracing: {sampling: 7}, other: 1}}}",
          "7",
          "\"collector_cluster\":\"outbound|80||" HOST
          "\",\"collector_endpoint\":\"/api/v2/spans\"" },
        { "{" WEB ", metadata: {ISTIO_VERSION: 1.32-dev}}", "3", "\"collector_service\":" },
        { "{" WEB "}", "3", "\"collector_cluster\":" },
    };
    for (size_t i = 0; i < MZ_COUNT(nodes); i++) {
        struct mz_proxy *p = proxy_of(nodes[i].node);
        struct mz_translator *t =
            mz_translator_create(&(struct mz_features){ .trace_sampling = 1 });
        struct mz_model *m = model_of(
            "defaultProviders: {tracing: [z]}\ndefaultConfig: {tracing: {sampling: 3}}\n", "");
        mz_translator_set_model(t, m);
        struct mz_view *v = mz_view_create(t, p);
        const pb_HttpConnectionManager_Tracing *got = tr_telemetry(v, TR_INBOUND)->tracing;
        const struct mz_str json = as_json(open_any(got->provider->typed_config));
        assert_string_equal(mz_arena_printf(arena, "%g", got->random_sampling->value).p,
                            nodes[i].sampling);
        if (mz_str_find(json, mz_str_c(nodes[i].zipkin)) < 0)
            fail_msg("%s", json.p);
        mz_view_destroy(v);
        mz_translator_destroy(t);
        mz_model_unref(m);
        mz_proxy_destroy(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_wins, up, down),
        cmocka_unit_test_setup_teardown(test_of_the_proxy, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
