/* DestinationRules: joined, found, and what holds for a port. */
#include "base/test.h"

#include <stdio.h>

#include "control/discovery/peer_double.h"
#include "control/model/rule.h"

#define RULE(name, ns, rest)                                                                       \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name       \
    ", namespace: " ns "}\nspec: {" rest "}\n"

static const char documents[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {clusterIP: "
    "10.0.0.1, ports: [{port: 80}]}\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo}\nspec: {clusterIP: "
    "10.0.0.2, ports: [{port: 80}]}\n" RULE(
        "b", "demo", "host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2}]")
        RULE("a", "demo",
             "host: web.demo.svc.cluster.local, subsets: [{name: v1, labels: {version: other}}], "
             "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}")
            RULE(
                "mine", "client",
                "host: '*.demo.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}")
                RULE("secret", "demo", "host: api, exportTo: [.]")
                    RULE("all", "istio-system", "host: '*'");

static const struct mz_rule *find(const struct mz_model *m, const char *ns, const char *service)
{
    return mz_model_rule(m, mz_str_c(ns), mz_model_service(m, mz_str_c(service)));
}

static void test_choice(void **state)
{
    (void)state;
    struct mz_model *m = double_model(mz_str_c(documents));
    const char web[] = "web.demo.svc.cluster.local", api[] = "api.demo.svc.cluster.local";
    assert_true(mz_str_eq(find(m, "client", web)->name,
                          MZ_STR("mine"))); /* the client's own first, however wide */
    const struct mz_rule *r = find(m, "third", web);
    assert_true(mz_str_eq(r->name, MZ_STR("a"))); /* of two of one age the first by name */
    assert_int_equal(r->subsets_n, 2);
    assert_string_equal(mz_rule_subset(r, MZ_STR("v1"))->labels[0]->value, "other");
    assert_null(mz_rule_subset(r, MZ_STR("v3")));
    assert_true(mz_str_eq(find(m, "third", api)->name,
                          MZ_STR("all"))); /* the service's own is not for others */
    assert_true(mz_str_eq(find(m, "demo", api)->name, MZ_STR("secret")));
    mz_model_unref(m);
}

/* Documents of one host that are for other clients stand apart; who runs in the root namespace sees services' own first. */
static void test_exported(void **state)
{
    (void)state;
    static const char text[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n" RULE("a", "demo", "host: web, exportTo: [one], subsets: [{name: a}]")
            RULE("b", "demo", "host: web, exportTo: [two], subsets: [{name: b}]")
                RULE("c", "demo", "host: web, exportTo: [two], subsets: [{name: c}]")
                    RULE("all", "istio-system", "host: '*.cluster.local'");
    const char web[] = "web.demo.svc.cluster.local", api[] = "api.demo.svc.cluster.local";
    struct mz_model *m = double_model(mz_str_c(text));
    assert_true(mz_str_eq(find(m, "one", web)->name, MZ_STR("a")));
    assert_int_equal(find(m, "one", web)->subsets_n, 1);
    assert_true(mz_str_eq(find(m, "two", web)->name, MZ_STR("b")));
    assert_int_equal(find(m, "two", web)->subsets_n, 2);
    assert_true(mz_str_eq(find(m, "three", web)->name, MZ_STR("all")));
    assert_true(mz_str_eq(find(m, "demo", web)->name, MZ_STR("all"))); /* they are not for itself */
    mz_model_unref(m);
    m = double_model(MZ_STR(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n" RULE("own", "demo", "host: web")
            RULE("all", "istio-system", "host: '*.cluster.local'")
                RULE("here", "istio-system", "host: api, exportTo: [.]")));
    assert_true(mz_str_eq(find(m, "istio-system", web)->name, MZ_STR("own")));
    assert_true(mz_str_eq(find(m, "istio-system", api)->name, MZ_STR("all")));
    mz_model_unref(m);
    m = double_model(MZ_STR(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n" RULE("own", "demo", "host: web")
            RULE("here", "istio-system", "host: web.demo.svc.cluster.local, exportTo: [.]")));
    assert_true(mz_str_eq(find(m, "istio-system", web)->name, MZ_STR("here")));
    mz_model_unref(m);
}

/* What people say goes over a policy of the Gateway API, piece by piece. */
static void test_policies_below(void **state)
{
    (void)state;
    static const char text[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: "
        "[{name: http, port: 80}]}\n" RULE(
            "own", "demo",
            "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: "
            "v1}]") "---\napiVersion: gateway.networking.k8s.io/v1\nkind: "
                    "BackendTLSPolicy\nmetadata: {name: t, "
                    "namespace: demo}\nspec: {targetRefs: [{group: '', kind: Service, name: "
                    "web}], validation: "
                    "{wellKnownCACertificates: System, hostname: a.example.com}}\n";
    struct mz_model *m = double_model(mz_str_c(text));
    const struct mz_rule *r = find(m, "demo", "web.demo.svc.cluster.local");
    const struct mz_policy p = mz_rule_policy(r, NULL, 80);
    assert_int_equal(r->subsets_n, 1);
    assert_true(p.lb && p.lb->simple == ist_LoadBalancerSettings_SimpleLB_RANDOM);
    assert_true(p.tls && strcmp(p.tls->sni, "a.example.com") == 0);
    mz_model_unref(m);
}

static void test_ports(void **state)
{
    (void)state;
    static const char text[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: "
        "[{port: 80}]}\n" RULE(
            "a", "demo",
            "host: web, trafficPolicy: {tls: {mode: DISABLE}, loadBalancer: {simple: RANDOM}, "
            "outlierDetection: {interval: 1s}, "
            "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}, "
            "subsets: [{name: s, trafficPolicy: {outlierDetection: {interval: 2s}}}]");
    struct mz_model *m = double_model(mz_str_c(text));
    const struct mz_rule *r = find(m, "demo", "web.demo.svc.cluster.local");
    struct mz_policy p = mz_rule_policy(r, NULL, 81);
    assert_true(p.outlier && p.lb->simple == ist_LoadBalancerSettings_SimpleLB_RANDOM);
    p = mz_rule_policy(r, NULL, 80); /* what is said for a port stands alone */
    assert_true(!p.outlier && p.lb->simple == ist_LoadBalancerSettings_SimpleLB_ROUND_ROBIN);
    assert_true(!p.tls && p.endpoint_tls->mode == ist_ClientTLSSettings_TLSmode_DISABLE);
    p = mz_rule_policy(r, mz_rule_subset(r, MZ_STR("s")), 80);
    assert_int_equal(p.outlier->interval->seconds, 2);
    assert_int_equal(p.lb->simple, ist_LoadBalancerSettings_SimpleLB_ROUND_ROBIN);
    p = mz_rule_policy(NULL, NULL, 80);
    assert_true(!p.lb && !p.pool && !p.outlier && !p.tls);
    mz_model_unref(m);
}

/* What a document must be like. */
static const struct {
    const char *spec, *told;
} refused[] = {
    { "subsets: [{name: a}]", "spec.host: is required" },
    { "host: a, subsets: [{name: 'a|b'}]", "spec.subsets[0].name: \"a|b\" is not a label" },
    { "host: a, subsetz: []",
      "spec: unknown field \"subsetz\"; did you mean \"subsets\"? (line 4, column 17)" },
    { "host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}",
      "spec.traffic_policy.load_balancer.simple: unknown value \"FASTEST\" (line 4, column 56)" },
    { "host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}",
      "spec.traffic_policy.connection_pool.tcp.connect_timeout: must be at least 1ms" },
    { "host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}",
      "spec.traffic_policy.outlier_detection.max_ejection_percent: must be in 0..100, is 101" },
    { "host: a, trafficPolicy: {portLevelSettings: [{port: {number: 70000}}]}",
      "spec.traffic_policy.port_level_settings[0].port: must be a number in 1..65535" },
};

static char told[512];

static void hear(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)line;
    assert_int_equal(level, MZ_LEVEL_ERROR);
    assert_true(mz_str_eq(key, MZ_STR("DestinationRule/n1/x")));
    (void)snprintf(told, sizeof(told), "%s", text);
}

static void refuse_doc(void *arg, struct mz_doc *d)
{
    (void)arg;
    fail_msg("taken: %.*s", MZ_STR_ARG(d->key));
}

static void test_refused(void **state)
{
    (void)state;
    const struct mz_doc_reader r = { MZ_STR("f"), refuse_doc, hear, NULL };
    for (size_t i = 0; i < MZ_COUNT(refused); i++) {
        char text[600];
        const int n = snprintf(text, sizeof(text),
                               "apiVersion: networking.istio.io/v1\nkind: "
                               "DestinationRule\nmetadata: {name: x, namespace: n1}\nspec: {%s}\n",
                               refused[i].spec);
        told[0] = 0;
        mz_doc_read_text(&r, (struct mz_str){ text, (size_t)n }, MZ_TEXT_YAML);
        assert_string_equal(told, refused[i].told);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_choice),
                                        cmocka_unit_test(test_exported),
                                        cmocka_unit_test(test_policies_below),
                                        cmocka_unit_test(test_ports),
                                        cmocka_unit_test(test_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
