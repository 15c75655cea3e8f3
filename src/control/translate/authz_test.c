/* AuthorizationPolicy: single rules, and what the recorded cases (tests/conformance/istio) do not show. */
#include "base/test.h"

#include "base/buf.h"
#include "control/discovery/peer_double.h"
#include "control/translate/authz.h"

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

static const ProtobufCMessage *read_as(const ProtobufCMessageDescriptor *d, const char *yaml)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, d, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    return m;
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

/* ---- one rule ---- */

enum { HTTP_ALLOW, HTTP_DENY, TCP_ALLOW, TCP_DENY };
#define ANYBODY    "\"principals\":[{\"and_ids\":{\"ids\":[{\"any\":true}]}}]"
#define ANYTHING   "\"permissions\":[{\"and_rules\":{\"rules\":[{\"any\":true}]}}]"
#define WHO(id)    "{" ANYTHING ",\"principals\":[{\"and_ids\":{\"ids\":[" id "]}}]}"
#define WHAT(rule) "{\"permissions\":[{\"and_rules\":{\"rules\":[" rule "]}}]," ANYBODY "}"
#define NAME(how, text)                                                                            \
    "{\"or_ids\":{\"ids\":[{\"authenticated\":{\"principal_name\":{\"" how "\":" text "}}}]}}"
#define CLAIM(name, match)                                                                         \
    "{\"metadata\":{\"filter\":\"envoy.filters.http.jwt_authn\",\"path\":[{\"key\":\"payload\"},{" \
    "\"key\":\"" name "\"}],\"value\":{\"string_match\":" match "}}}"

static const struct {
    int form;
    const char *rule, *want; /* NULL: dropped */
} rules[] = {
    { HTTP_ALLOW, "{}", "{" ANYTHING "," ANYBODY "}" },
    /* identities */
    { HTTP_ALLOW, "from: [{source: {principals: ['*']}}]",
      WHO(NAME("safe_regex", "{\"regex\":\".+\"}")) },
    { HTTP_ALLOW, "from: [{source: {principals: ['*/sa/a.b']}}]",
      WHO(NAME("safe_regex", "{\"regex\":\"spiffe://.*/sa/a\\\\.b\"}")) },
    { HTTP_ALLOW, "from: [{source: {principals: ['x/ns/*']}}]",
      WHO(NAME("prefix", "\"spiffe://x/ns/\"")) },
    { HTTP_ALLOW, "from: [{source: {trustDomains: ['*']}}]", WHO(NAME("prefix", "\"spiffe://\"")) },
    { HTTP_ALLOW, "from: [{source: {trustDomains: ['a.*']}}]",
      WHO(NAME("safe_regex", "{\"regex\":\"spiffe://a\\\\.[^/]*/.*\"}")) },
    { TCP_ALLOW, "from: [{source: {serviceAccounts: ['web']}}]",
      WHO(NAME("safe_regex", "{\"regex\":\"spiffe://.+/ns/demo/(.+/|)sa/web(/.+)?\"}")) },
    /* the mesh was called otherwise before */
    { HTTP_ALLOW, "from: [{source: {principals: ['cluster.local/ns/a/sa/b']}}]",
      WHO("{\"or_ids\":{\"ids\":[{\"authenticated\":{\"principal_name\":{\"exact\":\"spiffe://new/"
          "ns/a/sa/b\"}}},"
          "{\"authenticated\":{\"principal_name\":{\"exact\":\"spiffe://old/ns/a/sa/b\"}}}]}}") },
    { HTTP_ALLOW, "from: [{source: {principals: ['other/ns/a/sa/b']}}]",
      WHO(NAME("exact", "\"spiffe://other/ns/a/sa/b\"")) },
    { HTTP_ALLOW, "from: [{source: {trustDomains: ['old']}}]",
      WHO("{\"or_ids\":{\"ids\":[{\"authenticated\":{\"principal_name\":{\"prefix\":\"spiffe://new/"
          "\"}}},"
          "{\"authenticated\":{\"principal_name\":{\"prefix\":\"spiffe://old/\"}}}]}}") },
    /* tokens */
    { HTTP_ALLOW, "from: [{source: {requestPrincipals: ['*@x']}}]",
      WHO("{\"and_ids\":{\"ids\":[" CLAIM("iss", "{\"safe_regex\":{\"regex\":\".+\"}}") "," CLAIM(
          "sub", "{\"suffix\":\"@x\"}") "]}}") },
    { HTTP_ALLOW, "from: [{source: {requestPrincipals: ['https://a/b/*']}}]",
      WHO("{\"and_ids\":{\"ids\":[" CLAIM("iss", "{\"exact\":\"https://a/b\"}") "," CLAIM(
          "sub", "{\"safe_regex\":{\"regex\":\".+\"}}") "]}}") },
    { HTTP_ALLOW, "from: [{source: {requestPrincipals: ['iss*']}}]",
      WHO("{\"and_ids\":{\"ids\":[" CLAIM("iss", "{\"prefix\":\"iss\"}") "," CLAIM(
          "sub", "{\"safe_regex\":{\"regex\":\".+\"}}") "]}}") },
    /* what needs a request cannot be said of a connection: nothing is allowed by it, everything is denied by it */
    { TCP_ALLOW, "to: [{operation: {methods: [GET]}}]", NULL },
    { TCP_DENY, "to: [{operation: {methods: [GET]}}]", "{" ANYTHING "," ANYBODY "}" },
    { TCP_ALLOW, "to: [{operation: {ports: ['80']}}, {operation: {paths: [/]}}]", NULL },
    { TCP_DENY,
      "when: [{key: 'request.auth.claims[a]', notValues: [b]}, {key: destination.port, values: "
      "['1']}]",
      WHAT("{\"or_rules\":{\"rules\":[{\"destination_port\":1}]}}") },
    /* operations */
    { HTTP_ALLOW, "to: [{operation: {notHosts: ['*']}}]",
      WHAT("{\"not_rule\":{\"or_rules\":{\"rules\":[{\"header\":{\"name\":\":authority\",\"present_"
           "match\":true}}]}}}") },
    { HTTP_ALLOW, "to: [{operation: {paths: ['/a/{*}/b/{**}']}}]",
      WHAT("{\"or_rules\":{\"rules\":[{\"uri_template\":{\"name\":\"uri-template\",\"typed_"
           "config\":{\"@type\":\"type.googleapis.com/"
           "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig\",\"path_template\":"
           "\"/a/*/b/**\"}}}]}}") },
    /* metadata of filters */
    { HTTP_ALLOW, "when: [{key: 'experimental.envoy.filters.a.b[c]', values: ['[x]', 'y*']}]",
      WHAT("{\"metadata\":{\"filter\":\"envoy.filters.a.b\",\"path\":[{\"key\":\"c\"}],\"value\":{"
           "\"or_match\":{\"value_matchers\":["
           "{\"list_match\":{\"one_of\":{\"string_match\":{\"exact\":\"x\"}}}},{\"string_match\":{"
           "\"prefix\":\"y\"}}]}}}}") },
    /* what nobody knows drops the rule in any case; validation refuses it before */
    { HTTP_DENY, "when: [{key: source.shoe, values: [x]}]", NULL },
    { HTTP_ALLOW, "when: [{key: source.ip, values: [x]}]", NULL },
    { HTTP_DENY, "when: [{key: source.ip, values: [x, '::1']}]",
      WHO("{\"or_ids\":{\"ids\":[{\"direct_remote_ip\":{\"address_prefix\":\"::1\",\"prefix_len\":"
          "128}}]}}") },
};

static void test_rules(void **state)
{
    (void)state;
    const struct mz_mesh mesh = {
        .trust_domain = MZ_STR("new"),
        .config = (const ist_MeshConfig *)read_as(&ist_MeshConfig__descriptor,
                                                  "trustDomainAliases: [old]"),
    };
    for (size_t i = 0; i < MZ_COUNT(rules); i++) {
        const struct tr_authz x = { .a = arena,
                                    .mesh = &mesh,
                                    .ns = MZ_STR("demo"),
                                    .tcp = rules[i].form == TCP_ALLOW || rules[i].form == TCP_DENY,
                                    .allow =
                                        rules[i].form == HTTP_ALLOW || rules[i].form == TCP_ALLOW };
        const pb_Policy *p =
            tr_authz_rule(&x, (const ist_Rule *)read_as(&ist_Rule__descriptor, rules[i].rule));
        if (!p || !rules[i].want)
            assert_true(!p && !rules[i].want);
        else
            assert_string_equal(as_json(p), rules[i].want);
    }
}

/* ---- policies ---- */

#define MESH                                                                                       \
    "extensionProviders:\n"                                                                        \
    "- {name: ask, envoyExtAuthzHttp: {service: auth.demo.svc.cluster.local, port: 80, "           \
    "pathPrefix: /check, statusOnError: '403', "                                                   \
    "includeRequestHeadersInCheck: [x-*], includeAdditionalHeadersInCheck: {k: v}, "               \
    "headersToUpstreamOnAllow: [x-user]}}\n"                                                       \
    "- {name: call, envoyExtAuthzGrpc: {service: demo/auth.demo.svc.cluster.local, port: 80, "     \
    "failOpen: true, timeout: 1s, includeRequestBodyInCheck: {maxRequestBytes: 9}}}\n"             \
    "- {name: lost, envoyExtAuthzGrpc: {service: nobody.example.com, port: 80}}\n"                 \
    "- {name: star, envoyExtAuthzHttp: {service: auth.demo.svc.cluster.local, port: 80, "          \
    "headersToDownstreamOnDeny: ['*']}}\n"                                                         \
    "- {name: odd, envoyExtAuthzHttp: {service: auth.demo.svc.cluster.local, port: 80, "           \
    "statusOnError: '299'}}\n"
#define WEB                                                                                        \
    DOUBLE_SERVICE("auth", "80", "10.1.0.1")                                                       \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: demo, labels: {app: "      \
    "web}}\nstatus: {phase: Running, podIP: 10.1.0.9}\n"
#define POLICY(ns, name, meta, spec)                                                               \
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: " ns  \
    ", name: " name meta "}\nspec: {" spec "}\n"
#define GET "rules: [{to: [{operation: {methods: [GET]}}]}]"
#define CUSTOM(name, provider)                                                                     \
    POLICY("demo", name, "", "action: CUSTOM, provider: {name: " provider "}, rules: [{}]")

static const struct {
    const char *documents;
    const char *http, *tcp; /* names of filters and of their policies */
} policies[] = {
    { "", "", "" },
    { POLICY("demo", "a", "", GET), "rbac ALLOW ns[demo]-policy[a]-rule[0];", "rbac ALLOW;" },
    { POLICY("other", "a", "", GET), "", "" },
    { POLICY("istio-system", "a", "", GET) POLICY("demo", "b", "", "action: DENY, " GET),
      "rbac DENY ns[demo]-policy[b]-rule[0];rbac ALLOW ns[istio-system]-policy[a]-rule[0];",
      "rbac DENY ns[demo]-policy[b]-rule[0];rbac ALLOW;" },
    { POLICY("demo", "a", "", "selector: {matchLabels: {app: other}}, " GET), "", "" },
    { POLICY("demo", "a", "",
             "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}], " GET),
      "", "" },
    { POLICY("demo", "a", ", annotations: {istio.io/dry-run: 'true'}", GET),
      "rbac shadow ALLOW ns[demo]-policy[a]-rule[0];", "rbac shadow ALLOW;" },
    { POLICY("demo", "a", ", annotations: {istio.io/dry-run: 'yes'}", GET),
      "rbac ALLOW ns[demo]-policy[a]-rule[0];", "rbac ALLOW;" },
    /* servers that are asked */
    { CUSTOM("c", "ask"),
      "rbac shadow DENY istio-ext-authz-ask-ns[demo]-policy[c]-rule[0];ext_authz;", "" },
    { CUSTOM("c", "call"),
      "rbac shadow DENY istio-ext-authz-call-ns[demo]-policy[c]-rule[0];ext_authz;",
      "rbac shadow DENY istio-ext-authz-call-ns[demo]-policy[c]-rule[0];ext_authz;" },
    { CUSTOM("c", "lost"),
      "rbac DENY istio-ext-authz-lost-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;",
      "rbac DENY istio-ext-authz-lost-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;" },
    { CUSTOM("c", "star"),
      "rbac DENY istio-ext-authz-star-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;",
      "rbac DENY istio-ext-authz-star-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;" },
    { CUSTOM("c", "odd"),
      "rbac DENY istio-ext-authz-odd-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;",
      "rbac DENY istio-ext-authz-odd-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;" },
    { CUSTOM("c", "ask") CUSTOM(
          "d",
          "call"), /* two want a variable of the environment: nobody could say which would be asked */
      "rbac DENY istio-ext-authz-ask-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;"
      "rbac DENY istio-ext-authz-call-ns[demo]-policy[d]-rule[0]-deny-due-to-bad-CUSTOM-action;",
      "rbac DENY istio-ext-authz-ask-ns[demo]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action;"
      "rbac DENY istio-ext-authz-call-ns[demo]-policy[d]-rule[0]-deny-due-to-bad-CUSTOM-action;" },
};

static struct mz_model *model_of(const char *documents)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    mz_doc_read_mesh(&r, MZ_STR(MESH));
    mz_doc_read_text(&r, MZ_STR(WEB), MZ_TEXT_YAML);
    mz_doc_read_text(&r, mz_str_c(documents), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}

static struct mz_str say_rules(struct mz_str so_far, const char *how, const pb_RBAC *r)
{
    static const char *const actions[] = { "ALLOW", "DENY", "LOG" };
    if (!r)
        return so_far;
    so_far = mz_arena_printf(arena, "%.*s%s %s", MZ_STR_ARG(so_far), how, actions[r->action]);
    for (size_t i = 0; i < r->n_policies; i++)
        so_far = mz_arena_printf(arena, "%.*s %s", MZ_STR_ARG(so_far), r->policies[i]->key);
    return so_far;
}

static struct mz_str say(struct mz_str so_far, const pb_Any *config)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    const ProtobufCMessageDescriptor *d = NULL;
    ProtobufCMessage *m = NULL;
    struct mz_err err = { .msg = "" };
    if (!mz_any_unpack(&ctx, config, &d, &m, &err)) /* what we send must be loadable */
        fail_msg("%s: %s", err.path, err.msg);
    const pb_http_rbac_RBAC *h = d == &pb_http_rbac_RBAC__descriptor ? (void *)m : NULL;
    const pb_network_rbac_RBAC *n = d == &pb_network_rbac_RBAC__descriptor ? (void *)m : NULL;
    so_far = mz_arena_printf(arena, "%.*s%s", MZ_STR_ARG(so_far), h || n ? "rbac" : "ext_authz");
    so_far = say_rules(so_far, "", h ? h->rules : n ? n->rules : NULL);
    so_far = say_rules(so_far, " shadow", h ? h->shadow_rules : n ? n->shadow_rules : NULL);
    return mz_arena_printf(arena, "%.*s;", MZ_STR_ARG(so_far));
}

static struct mz_proxy *web(void)
{
    struct mz_err err = { .msg = "" };
    struct mz_proxy *p = mz_proxy_create(
        (const pb_Node *)read_as(&pb_Node__descriptor,
                                 "id: sidecar~10.1.0.9~web-0.demo~demo.svc.cluster.local"),
        &err);
    assert_non_null(p);
    return p;
}

static void test_policies(void **state)
{
    (void)state;
    struct mz_proxy *p = web();
    for (size_t i = 0; i < MZ_COUNT(policies); i++) {
        struct mz_translator *t = mz_translator_create(&(struct mz_features){ .alpn = true });
        struct mz_model *m = model_of(policies[i].documents);
        mz_translator_set_model(t, m);
        struct mz_view *v = mz_view_create(t, p);
        const struct tr_guards *g = tr_guards(v);
        struct mz_str http = MZ_STR(""), tcp = MZ_STR("");
        for (size_t k = 0; k < g->n_custom_http; k++)
            http = say(http, g->custom_http[k]->typed_config);
        for (size_t k = 0; k < g->n_http; k++)
            http = say(http, g->http[k]->typed_config);
        for (size_t k = 0; k < g->n_custom_tcp; k++)
            tcp = say(tcp, g->custom_tcp[k]->typed_config);
        for (size_t k = 0; k < g->n_tcp; k++)
            tcp = say(tcp, g->tcp[k]->typed_config);
        assert_string_equal(http.p, policies[i].http);
        assert_string_equal(tcp.p, policies[i].tcp);
        mz_view_destroy(v);
        mz_translator_destroy(t);
        mz_model_unref(m);
    }
    mz_proxy_destroy(p);
}

static void test_providers(void **state)
{
    (void)state;
    static const char *const http =
        "{\"filter_enabled_metadata\":{\"filter\":\"envoy.filters.http.rbac\",\"path\":[{\"key\":"
        "\"istio_ext_authz_shadow_effective_policy_id\"}],\"value\":{\"string_match\":{\"prefix\":"
        "\"istio-ext-authz-ask\"}}},"
        "\"allowed_headers\":{\"patterns\":[{\"ignore_case\":true,\"prefix\":\"x-\"}]},"
        "\"http_service\":{\"authorization_request\":{\"headers_to_add\":[{\"key\":\"k\",\"value\":"
        "\"v\"}]},"
        "\"authorization_response\":{\"allowed_upstream_headers\":{\"patterns\":[{\"exact\":\"x-"
        "user\",\"ignore_case\":true}]}},"
        "\"path_prefix\":\"/"
        "check\",\"server_uri\":{\"cluster\":\"outbound|80||auth.demo.svc.cluster.local\","
        "\"timeout\":\"600s\","
        "\"uri\":\"http://"
        "auth.demo.svc.cluster.local\"}},\"status_on_error\":{\"code\":\"Forbidden\"},\"transport_"
        "api_version\":\"V3\"}";
    static const char *const grpc =
        "{\"filter_enabled_metadata\":{\"filter\":\"envoy.filters.http.rbac\",\"path\":[{\"key\":"
        "\"istio_ext_authz_shadow_effective_policy_id\"}],\"value\":{\"string_match\":{\"prefix\":"
        "\"istio-ext-authz-call\"}}},"
        "\"failure_mode_allow\":true,\"grpc_service\":{\"envoy_grpc\":"
        "{\"authority\":\"auth.demo.svc.cluster.local\","
        "\"cluster_name\":\"outbound|80||auth.demo.svc.cluster.local\"}"
        ",\"timeout\":\"1s\"},\"transport_api_version\":\"V3\","
        "\"with_request_body\":{\"max_request_bytes\":9}}";
    struct mz_translator *t = mz_translator_create(&(struct mz_features){ .alpn = true });
    struct mz_model *m = model_of("");
    struct mz_proxy *p = web();
    struct tr_ext_authz out;
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    mz_translator_set_model(t, m);
    struct mz_view *v = mz_view_create(t, p);
    assert_true(tr_ext_authz(v, MZ_STR("ask"), &out, &err));
    assert_null(out.tcp);
    assert_string_equal(as_json(out.http),
                        as_json(read_as(&pb_http_ext_authz_ExtAuthz__descriptor, http)));
    assert_true(tr_ext_authz(v, MZ_STR("call"), &out, &err));
    assert_string_equal(as_json(out.http),
                        as_json(read_as(&pb_http_ext_authz_ExtAuthz__descriptor, grpc)));
    assert_string_equal(out.tcp->stat_prefix, "tcp.");
    assert_false(tr_ext_authz(v, MZ_STR("lost"), &out, &err));
    assert_string_equal(mz_err_text(&err, text, sizeof(text)),
                        "service: there is no service \"nobody.example.com\"");
    assert_false(tr_ext_authz(v, MZ_STR("none"), &out, &err));
    mz_view_destroy(v);
    mz_translator_destroy(t);
    mz_model_unref(m);
    mz_proxy_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rules, up, down),
        cmocka_unit_test_setup_teardown(test_policies, up, down),
        cmocka_unit_test_setup_teardown(test_providers, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
