/* What the webhook says of policies. */
#include "base/test.h"

#include <stdio.h>

#include "control/analyze/check.h"

#define JWKS  "'{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}'"
#define AUTHZ MZ_KIND_AUTHORIZATION_POLICY
#define JWT   MZ_KIND_REQUEST_AUTHENTICATION
#define TEL   MZ_KIND_TELEMETRY
static const struct {
    enum mz_kind kind;
    const char *spec, *error; /* NULL: fine */
} cases[] = {
    { AUTHZ, "{}", NULL },
    { AUTHZ, "rules: [{}]", NULL },
    { AUTHZ, "action: DENY", "rules: without rules" },
    { AUTHZ, "action: CUSTOM, provider: {name: x}", "rules: without rules" },
    { AUTHZ, "action: CUSTOM, rules: [{}]", "provider.name: is required" },
    { AUTHZ, "provider: {name: x}", "provider: stands only" },
    { AUTHZ, "action: CUSTOM, provider: {name: x}, rules: [{from: [{source: {principals: [a]}}]}]",
      "rules[0].from[0].source: only addresses" },
    { AUTHZ,
      "action: CUSTOM, provider: {name: x}, rules: [{when: [{key: source.principal, values: "
      "[a]}]}]",
      "rules[0].when[0].key: " },
    { AUTHZ, "action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {paths: [/a]}}]}]",
      NULL },
    { AUTHZ, "selector: {matchLabels: {'': a}}", "selector.match_labels: a key" },
    { AUTHZ, "selector: {matchLabels: {a: 'b*'}}", "selector.match_labels: \"a=b*\"" },
    { AUTHZ, "selector: {}, targetRef: {kind: Service, name: a}", "only one of" },
    { AUTHZ, "targetRefs: [{kind: Service}]", "targetRefs[0].name" },
    { AUTHZ, "targetRefs: [{kind: Service, name: a, namespace: b}]", "targetRefs[0].namespace" },
    { AUTHZ, "targetRef: {kind: Pod, name: a}", "targetRef.kind: \"Pod\"" },
    { AUTHZ, "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]", NULL },
    { AUTHZ, "rules: [{from: [{}]}]", "rules[0].from[0].source: is required" },
    { AUTHZ, "rules: [{from: [{source: {}}]}]", "rules[0].from[0].source: must not be empty" },
    { AUTHZ, "rules: [{from: [{source: {principals: ['']}}]}]",
      "rules[0].from[0].source.principals[0]: must not be empty" },
    { AUTHZ, "rules: [{from: [{source: {ipBlocks: [1.2.3.4, 1.2.3.4/33]}}]}]",
      "rules[0].from[0].source.ip_blocks[1]" },
    { AUTHZ, "rules: [{from: [{source: {notIpBlocks: [web]}}]}]",
      "rules[0].from[0].source.not_ip_blocks[0]" },
    { AUTHZ, "rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]",
      "rules[0].from[0].source.service_accounts[0]" },
    { AUTHZ, "rules: [{from: [{source: {serviceAccounts: ['*']}}]}]",
      "rules[0].from[0].source.service_accounts[0]" },
    { AUTHZ, "rules: [{from: [{source: {serviceAccounts: [aa,b,c,d,e,f,g,h,i,j,k,l,m,o,p,q,r]}}]}]",
      "rules[0].from[0].source.service_accounts: may have" },
    { AUTHZ, "rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]",
      "rules[0].from[0].source: service_accounts" },
    { AUTHZ, "rules: [{from: [{source: {trustDomains: ['a*b']}}]}]",
      "rules[0].from[0].source.trust_domains[0]" },
    { AUTHZ, "rules: [{from: [{source: {trustDomains: ['a/b']}}]}]",
      "rules[0].from[0].source.trust_domains[0]" },
    { AUTHZ, "rules: [{to: [{operation: {}}]}]", "rules[0].to[0].operation: must not be empty" },
    { AUTHZ, "rules: [{to: [{operation: {ports: ['65536']}}]}]",
      "rules[0].to[0].operation.ports[0]" },
    { AUTHZ, "rules: [{to: [{operation: {paths: ['/{**}/{*}']}}]}]",
      "rules[0].to[0].operation.paths[0]: {**}" },
    { AUTHZ, "rules: [{to: [{operation: {paths: ['/{a}']}}]}]",
      "rules[0].to[0].operation.paths[0]: { and }" },
    { AUTHZ, "rules: [{to: [{operation: {paths: ['/a{*}']}}]}]",
      "rules[0].to[0].operation.paths[0]: { and }" },
    { AUTHZ, "rules: [{to: [{operation: {paths: ['/{*}/a*']}}]}]",
      "rules[0].to[0].operation.paths[0]: \"a*\"" },
    { AUTHZ, "rules: [{to: [{operation: {paths: ['/a*', '*/b', '/{*}/c/{**}/']}}]}]", NULL },
    { AUTHZ, "rules: [{when: [{key: '', values: [a]}]}]",
      "rules[0].when[0].key: must not be empty" },
    { AUTHZ, "rules: [{when: [{key: destination.user, values: [a]}]}]",
      "rules[0].when[0].key: \"destination.user\" is no attribute" },
    { AUTHZ, "rules: [{when: [{key: 'request.headers[]', values: [a]}]}]",
      "rules[0].when[0].key: \"request.headers[]\" must" },
    { AUTHZ, "rules: [{when: [{key: source.ip}]}]", "rules[0].when[0]: one of" },
    { AUTHZ, "rules: [{when: [{key: remote.ip, notValues: [a]}]}]",
      "rules[0].when[0].not_values[0]" },
    { JWT, "{}", NULL },
    { JWT, "jwtRules: [{}]", "jwt_rules[0]: one of issuer" },
    { JWT, "jwtRules: [{issuer: a, jwks: " JWKS "}]", NULL },
    { JWT, "jwtRules: [{issuer: a, jwks: nonsense}]", "jwt_rules[0].jwks: " },
    { JWT, "jwtRules: [{jwksUri: 'ftp://a'}]", "jwt_rules[0].jwks_uri" },
    { JWT, "jwtRules: [{issuer: a, audiences: ['']}]", "jwt_rules[0].audiences[0]" },
    { JWT, "jwtRules: [{issuer: a, fromHeaders: [{prefix: b}]}]",
      "jwt_rules[0].from_headers[0].name" },
    { JWT, "jwtRules: [{issuer: a, fromParams: ['']}]", "jwt_rules[0].from_params[0]" },
    { JWT, "jwtRules: [{issuer: a, fromCookies: ['']}]", "jwt_rules[0].from_cookies[0]" },
    { JWT, "jwtRules: [{issuer: a, outputClaimToHeaders: [{header: x-a}]}]",
      "jwt_rules[0].output_claim_to_headers[0].claim" },
    { JWT, "jwtRules: [{issuer: a, outputClaimToHeaders: [{header: 'x a', claim: b}]}]",
      "jwt_rules[0].output_claim_to_headers[0].header" },
    { JWT, "jwtRules: [{issuer: a, timeout: 0s}]", "jwt_rules[0].timeout" },
    { TEL, "{}", NULL },
    { TEL, "tracing: [{randomSamplingPercentage: 101}]",
      "tracing[0].random_sampling_percentage: must be in 0..100" },
    { TEL, "tracing: [{randomSamplingPercentage: .nan}]", "tracing[0].random_sampling_percentage" },
    { TEL, "tracing: [{customTags: {'': {literal: {value: a}}}}]",
      "tracing[0].custom_tags: the name" },
    { TEL, "tracing: [{customTags: {a: {literal: {}}}}]",
      "tracing[0].custom_tags[a].literal.value" },
    { TEL, "tracing: [{customTags: {a: {header: {}}}}]", "tracing[0].custom_tags[a].header.name" },
    { TEL, "tracing: [{customTags: {a: {environment: {}}}}]",
      "tracing[0].custom_tags[a].environment.name" },
    { TEL, "tracing: [{customTags: {a: {}}}]", "tracing[0].custom_tags[a].type" },
    { TEL, "tracing: [{providers: [{}]}]", "tracing[0].providers[0].name" },
    { TEL, "metrics: [{overrides: [{tagOverrides: {a: {}}}]}]",
      "metrics[0].overrides[0].tag_overrides[a].value: is required" },
    { TEL, "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]",
      "metrics[0].overrides[0].tag_overrides[a].value: stands only" },
    { TEL, "metrics: [{overrides: [{match: {customMetric: ''}}]}]",
      "metrics[0].overrides[0].match.custom_metric" },
    { TEL, "metrics: [{reportingInterval: -1s}]", "metrics[0].reporting_interval" },
    { TEL, "accessLogging: [{filter: {expression: 'response.code >= 400'}}]", NULL },
    { TEL, "accessLogging: [{filter: {expression: 'response.code >='}}]",
      "access_logging[0].filter.expression: " },
    { TEL, "accessLogging: [{filter: {expression: 'shoe.size > 4'}}]",
      "access_logging[0].filter.expression: " },
    { TEL, "selector: {}, targetRefs: [{kind: Service, name: a}]", "only one of" },
    { JWT, "selector: {}, targetRefs: [{kind: Service, name: a}]", "only one of" },
};

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
        struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
        struct mz_err err = { .path = "", .msg = "" };
        char text[sizeof(err)];
        ProtobufCMessage *m = NULL;
        struct mz_str yaml = cases[i].spec[0] == '{' ? mz_str_c(cases[i].spec)
                                                     : mz_arena_printf(a, "{%s}", cases[i].spec);
        const bool ok = mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML,
                                         mz_kind_info(cases[i].kind)->type, &m, &err) &&
                        mz_check_object(cases[i].kind, m, &err);
        const char *got = ok ? "" : mz_err_text(&err, text, sizeof(text));
        const char *want = cases[i].error ? cases[i].error : "";
        if (ok != !cases[i].error || strncmp(got, want, strlen(want)) != 0)
            fail_msg("%s: \"%s\" does not begin with \"%s\"", cases[i].spec, got, want);
        mz_arena_destroy(a);
    }
}

static bool read_telemetry(struct mz_str text)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .path = "", .msg = "" };
    ProtobufCMessage *m = NULL;
    const bool ok =
        mz_msg_from_text(&ctx, text, MZ_TEXT_JSON, &ist_Telemetry__descriptor, &m, &err) &&
        mz_check_object(TEL, m, &err);
    mz_arena_destroy(a);
    return ok;
}

/* E12, H01: what every listener of every proxy would repeat or compile has a bound. */
static void test_e12_h01_expressions_and_lists_are_bounded(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    char *deep = mz_arena_alloc(a, 100001), *list = mz_arena_alloc(a, 1000 * 16);
    memset(deep, '(', 100000);
    deep[100000] = 0;
    assert_false(read_telemetry(
        mz_arena_printf(a, "{\"accessLogging\":[{\"filter\":{\"expression\":\"%s\"}}]}", deep)));
    deep[4000] = 0;
    assert_false(read_telemetry(
        mz_arena_printf(a, "{\"accessLogging\":[{\"filter\":{\"expression\":\"%s\"}}]}", deep)));
    size_t n = 0;
    for (unsigned i = 0; i < 1000; i++)
        n += (size_t)snprintf(list + n, 16, "%s{\"name\":\"a\"}", i ? "," : "");
    assert_false(read_telemetry(mz_arena_printf(a, "{\"tracing\":[{\"providers\":[%s]}]}", list)));
    mz_arena_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_e12_h01_expressions_and_lists_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
