/* ServiceEntries, WorkloadEntries and Sidecars to a model. */
#include <stdio.h>

#include "base/test.h"
#include "control/discovery/peer_double.h"
#include "control/model/sidecar.h"

#define ENTRY(name, ns, spec)                                                                      \
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name          \
    ", namespace: " ns "}\nspec: " spec "\n"
#define MACHINE(name, ns, spec)                                                                    \
    "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: " name         \
    ", namespace: " ns ", labels: {from: meta}}\nspec: " spec "\n"
#define SIDECAR(name, ns, spec)                                                                    \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: " name               \
    ", namespace: " ns "}\nspec: " spec "\n"

static struct mz_model *build(const char *text)
{
    return double_model(mz_str_c(text));
}

static void assert_str(struct mz_str s, const char *text)
{
    if (!mz_str_eq(s, mz_str_c(text)))
        fail_msg("\"%.*s\" is not \"%s\"", MZ_STR_ARG(s), text);
}

static const struct mz_service *service(const struct mz_model *m, const char *host)
{
    const struct mz_service *s = mz_model_service(m, mz_str_c(host));
    if (!s)
        fail_msg("no %s", host);
    return s;
}

static void test_endpoints(void **state)
{
    (void)state;
    struct mz_model *m = build(
        ENTRY(
            "s", "demo",
            "{hosts: [a.example.com], addresses: [10.0.0.7/32, 10.0.0.0/8], resolution: STATIC, "
            "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 81}, {number: 90, name: "
            "t, protocol: TCP}], endpoints: [{address: 1.1.1.2, weight: 3, locality: r/z, "
            "serviceAccount: x}, {address: 1.1.1.1, ports: {http: 82}}]}")
            ENTRY(
                "u", "demo",
                "{hosts: [unix.example.com], resolution: STATIC, ports: [{number: 80, name: http, "
                "protocol: HTTP}], endpoints: [{address: 'unix:///run/x'}]}"));
    const struct mz_service *s = service(m, "a.example.com");
    assert_true(s->external && s->entry);
    assert_str(s->addresses[0], "10.0.0.7");
    assert_str(s->addresses[1], "10.0.0.0/8");
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2);
    const struct mz_endpoint *e = &mz_model_endpoints(m, &s->ports[0])->v[0];
    assert_str(e->address, "1.1.1.2"); /* as written */
    assert_int_equal(e->port, 81);
    assert_int_equal(e->workload->weight, 3);
    assert_true(e->workload->mtls); /* it has an account */
    assert_str(e->workload->name, "s-0");
    assert_str(e->workload->locality.zone, "z");
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[1].port, 82);
    assert_int_equal(mz_model_endpoints(m, &s->ports[1])->v[1].port, 90);
    assert_int_equal(s->accounts_n, 1);
    e = &mz_model_endpoints(m, &service(m, "unix.example.com")->ports[0])->v[0];
    assert_str(e->address, "/run/x");
    assert_int_equal(e->port, 0);
    mz_model_unref(m);
}

static void test_selected(void **state)
{
    (void)state;
    struct mz_model *m = build(
        ENTRY(
            "s", "demo",
            "{hosts: [vm.demo], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: "
            "{labels: {app: vm}}, subjectAltNames: [b], ports: [{number: 80, name: http, protocol: "
            "HTTP}]}")
            MACHINE("one", "demo",
                    "{address: 1.1.1.1, labels: {app: vm, from: spec}, ports: {http: 8080}}")
                MACHINE("named", "demo", "{address: vm.example.com, labels: {app: vm}}") MACHINE(
                    "far", "other",
                    "{address: 1.1.1.3, labels: {app: vm}}") "---\napiVersion: v1\nkind: "
                                                             "Service\nmetadata: {name: k, "
                                                             "namespace: demo}\nspec: {clusterIP: "
                                                             "10.0.0.1, selector: {app: vm}, "
                                                             "ports: [{name: p, port: 7}]}\n"
                                                             "---\napiVersion: v1\nkind: "
                                                             "Pod\nmetadata: {name: pod, "
                                                             "namespace: demo, labels: {app: vm}}\n"
                                                             "status: {podIP: 1.1.1.4, phase: "
                                                             "Running}\n");
    const struct mz_service *s = service(m, "vm.demo");
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2); /* no name, no other namespace */
    assert_str(mz_model_endpoints(m, &s->ports[0])->v[0].address, "1.1.1.4");
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[0].health, MZ_HEALTHY);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[1].port, 8080);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[1].health, MZ_UNCHECKED);
    assert_str(mz_label_get(mz_model_endpoints(m, &s->ports[0])->v[1].workload->labels, "from"),
               "meta");
    assert_str(s->accounts[0], "b");
    s = service(m, "k.demo.svc.cluster.local"); /* Kubernetes' services select machines, too */
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2);
    assert_str(mz_model_endpoints(m, &s->ports[0])->v[0].address, "1.1.1.1");
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[0].port, 7);
    mz_model_unref(m);
}

#define SERVICE(name, created, spec)                                                               \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name                                   \
    ", namespace: demo, creationTimestamp: '2026-01-0" created                                     \
    "T00:00:00Z'}\nspec: {selector: {app: vm}, " spec "}\n"

static const char machines[] = MACHINE("one", "demo",
                                       "{address: 1.1.1.1, labels: {app: vm}, ports: {p: 71, adm: "
                                       "9090}}") MACHINE("two", "demo",
                                                         "{address: 1.1.1.2, labels: {app: vm}}")
    SERVICE("k", "2", "clusterIP: 10.0.0.1, ports: [{name: p, port: 7}]")
        SERVICE("k-named", "2", "clusterIP: 10.0.0.2, ports: [{name: p, port: 8, targetPort: adm}]")
            SERVICE("old", "1", "clusterIP: 10.0.0.3, ports: [{name: q, port: 9, targetPort: 91}]")
                SERVICE("none", "1", "clusterIP: None, ports: [{name: p, port: 7}]");

/* A Service's named port is where a machine says that it is, or nowhere; a headless one has pods alone. */
static void test_machines(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        size_t n;
        uint16_t ports[2];
    } cases[] = { { "k.demo.svc.cluster.local", 2, { 71, 7 } },
                  { "k-named.demo.svc.cluster.local", 1, { 9090 } },
                  { "old.demo.svc.cluster.local", 2, { 91, 91 } },
                  { "none.demo.svc.cluster.local", 0, { 0 } } };
    struct mz_model *m = build(machines);
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_endpoints *e = mz_model_endpoints(m, &service(m, cases[i].host)->ports[0]);
        assert_int_equal(e->n, cases[i].n);
        for (size_t k = 0; k < e->n; k++)
            assert_int_equal(e->v[k].port, cases[i].ports[k]);
    }
    mz_model_unref(m);
}

/* What a machine answers for: the older first, then by the whole host, in which "k-named." is before "k.". */
static void test_targets_of_machines(void **state)
{
    (void)state;
    struct mz_model *m = build(machines);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_workload *w = mz_index_get(m->by_workload, MZ_STR("demo/one"));
    struct mz_targets t = mz_model_targets(m, w->ns, w->labels, w, a);
    assert_int_equal(t.n, 3);
    assert_str(t.v[0].service->name, "old");
    assert_str(t.v[1].service->name, "k-named");
    assert_int_equal(t.v[1].number, 9090);
    assert_str(t.v[2].service->name, "k");
    w = mz_index_get(m->by_workload, MZ_STR("demo/two"));
    assert_int_equal(mz_model_targets(m, w->ns, w->labels, w, a).n, 2);
    assert_int_equal(mz_model_targets(m, w->ns, w->labels, NULL, a).n,
                     3); /* a pod may be headless */
    mz_arena_destroy(a);
    mz_model_unref(m);
}

static void test_one_host(void **state)
{
    (void)state;
#define OF(name, port, ip)                                                                         \
    ENTRY(name, "demo",                                                                            \
          "{hosts: [h.example.com], resolution: STATIC, ports: [{number: " port ", name: p" port   \
          ", protocol: HTTP}], endpoints: [{address: " ip "}]}")
    struct mz_model *m =
        build(OF("a", "80", "1.1.1.1") OF("b", "80", "1.1.1.2") OF("c", "90", "1.1.1.3") ENTRY(
            "k", "demo",
            "{hosts: [web.demo.svc.cluster.local], ports: [{number: "
            "80, name: p, protocol: HTTP}]}") "---\napiVersion: v1\nkind: Service\nmetadata: "
                                              "{name: web, namespace: demo, "
                                              "creationTimestamp: '2030-01-01T00:00:00Z'}\nspec: "
                                              "{clusterIP: 10.0.0.1, ports: [{name: p, "
                                              "port: 7}]}\n");
    const struct mz_service *s = service(m, "h.example.com");
    assert_int_equal(s->ports_n, 2);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2);
    assert_str(mz_model_endpoints(m, &s->ports[1])->v[0].address, "1.1.1.3");
    assert_false(service(m, "web.demo.svc.cluster.local")->entry); /* nobody takes its name */
    mz_model_unref(m);
#define HAS(name, address)                                                                         \
    ENTRY(name, "demo",                                                                            \
          "{hosts: [h.example.com], resolution: STATIC, addresses: [" address                      \
          "], subjectAltNames: [" name "], ports: [{number: 80, name: p, protocol: TCP}]}")
    m = build(HAS("a", "9.9.9.1") HAS("b", "9.9.9.2, 9.9.9.1"));
    s = service(m, "h.example.com");
    assert_int_equal(s->addresses_n, 2);
    assert_str(s->addresses[1], "9.9.9.2");
    assert_int_equal(s->accounts_n, 2);
    mz_model_unref(m);
}

static void test_automatic(void **state)
{
    (void)state;
#define PLAIN(name, more)                                                                          \
    ENTRY(name, "demo",                                                                            \
          "{hosts: [" name ".example.com], resolution: DNS, ports: [{number: 80, name: p, "        \
          "protocol: TCP}]" more "}")
    struct mz_model *m = build(PLAIN("a", "") PLAIN("b", "") PLAIN("c", ", addresses: [9.9.9.9]"));
    struct mz_model *n = build(PLAIN("b", ""));
    const struct mz_str a = service(m, "a.example.com")->automatic,
                        b = service(m, "b.example.com")->automatic;
    assert_true(mz_str_starts(a, MZ_STR("240.240.")));
    assert_false(mz_str_eq(a, b));
    assert_int_equal(service(m, "c.example.com")->automatic.n, 0);
    assert_true(mz_str_eq(b, service(n, "b.example.com")->automatic)); /* whoever else there is */
    mz_model_unref(n);
    mz_model_unref(m);
}

static struct mz_model *of_mesh(const char *mesh, const char *documents)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *store = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, store };
    mz_doc_read_mesh(&r, mz_str_c(mesh));
    mz_doc_read_text(&r, mz_str_c(documents), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(store, &o, NULL);
    mz_store_destroy(store);
    return m;
}

static void test_default_export(void **state)
{
    (void)state;
    struct mz_model *m =
        of_mesh("defaultServiceExportTo: ['.']\n", PLAIN("a", "") PLAIN("b", ", exportTo: ['*']"));
    assert_false(mz_service_visible(service(m, "a.example.com"), MZ_STR("other")));
    assert_true(mz_service_visible(service(m, "a.example.com"), MZ_STR("demo")));
    assert_true(mz_service_is_public(service(m, "b.example.com")));
    mz_model_unref(m);
}

/* What exportTo says is narrowed, never widened. */
static void test_visibility(void **state)
{
    (void)state;
#define RULES(apply)                                                                               \
    "serviceEntryVisibility: {applyToSidecars: " apply                                             \
    ", defaultVisibility: NAMESPACE, policies: "                                                   \
    "[{visibility: NONE, matchingRules: [{}]}, {visibility: NONE, matchingRules: "                 \
    "[{namespaceSelector: {matchLabels: {team: b}}}]}, {visibility: PUBLIC, matchingRules: "       \
    "[{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}, "                  \
    "{namespaceSelector: {}}]}]}\n"
#define TEAM(name, team)                                                                           \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {team: " team "}}\n"
    static const struct {
        const char *mesh, *ns, *more;
        bool at_home, elsewhere;
    } cases[] = {
        { RULES("true"), "plain", "", true, false },
        { RULES("true"), "plain", ", exportTo: [plain]", true, false },
        { RULES("true"), "plain", ", exportTo: [demo]", false, false },
        { RULES("true"), "plain", ", exportTo: ['~']", false, false },
        { RULES("true"), "one", "", true, true },
        { RULES("true"), "one", ", exportTo: [.]", true, false },
        { RULES("true"), "two", "", false, false },
        { RULES("true") "defaultServiceExportTo: [demo]\n", "plain", "", false, false },
        { RULES("false"), "two", "", true, true },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[1024];
        (void)snprintf(text, sizeof(text),
                       TEAM("one", "a") TEAM("two", "b") ENTRY(
                           "a", "%s",
                           "{hosts: [a.example.com], resolution: DNS, ports: [{number: 80, name: "
                           "p, protocol: TCP}]%s}"),
                       cases[i].ns, cases[i].more);
        struct mz_model *m = of_mesh(cases[i].mesh, text);
        const struct mz_service *s = service(m, "a.example.com");
        assert_int_equal(mz_service_visible(s, mz_str_c(cases[i].ns)), cases[i].at_home);
        assert_int_equal(mz_service_visible(s, MZ_STR("demo")), cases[i].elsewhere);
        mz_model_unref(m);
    }
}

static void test_which_sidecar(void **state)
{
    (void)state;
    struct mz_model *m = build(
        SIDECAR("root", "istio-system", "{egress: [{hosts: ['./*']}]}")
            SIDECAR("a", "demo", "{egress: [{hosts: ['./*']}]}") SIDECAR(
                "z", "demo", "{workloadSelector: {labels: {app: z}}, egress: [{hosts: ['~/*']}]}"));
    const struct mz_label app = { MZ_STR("app"), MZ_STR("z") };
    assert_str(mz_model_sidecar(m, MZ_STR("demo"), (struct mz_labels){ &app, 1 })->name, "z");
    assert_str(mz_model_sidecar(m, MZ_STR("demo"), (struct mz_labels){ 0 })->name, "a");
    assert_str(mz_model_sidecar(m, MZ_STR("x"), (struct mz_labels){ 0 })->name, "root");
    mz_model_unref(m);
}

static void test_imports(void **state)
{
    (void)state;
    static const struct {
        const char *hosts[3];
        const char *ns, *host;
        bool service, route;
    } cases[] = {
        { { "./*" }, "demo", "a.b", true, true },
        { { "./*" }, "other", "a.b", false, false },
        { { "*/a.b" }, "other", "a.b", true, true },
        { { "*/*.b" }, "other", "a.b", true, true },
        { { "*/a.b" }, "other", "*.b", false, true }, /* a route for more than was asked for */
        { { "*/*.b" }, "other", "*.a.b", true, true },
        { { "~/*" }, "demo", "a.b", false, false },
        { { "*/*", "~x/*" }, "x", "a.b", false, false },
        { { "*/*", "~x/*" }, "y", "a.b", true, true },
        { { "~./a.b", "./*" }, "demo", "a.b", false, false },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
        ist_IstioEgressListener l = ist_IstioEgressListener__INIT;
        l.hosts = (char **)(uintptr_t)cases[i].hosts;
        while (l.n_hosts < 3 && l.hosts[l.n_hosts])
            l.n_hosts++;
        const struct mz_imports *m = mz_imports_create(a, &l, MZ_STR("demo"));
        const struct mz_str ns = mz_str_c(cases[i].ns), host = mz_str_c(cases[i].host);
        if (mz_imports_service(m, ns, host) != cases[i].service ||
            mz_imports_host(m, ns, host) != cases[i].route)
            fail_msg("case %zu: %s", i, cases[i].hosts[0]);
        mz_arena_destroy(a);
    }
}

static void test_kubernetes(void **state)
{
    (void)state;
#define EXTERNAL(name, to)                                                                         \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name                                   \
    ", namespace: demo}\nspec: {type: ExternalName, externalName: " to "}\n"
    struct mz_model *m = build(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\n"
        "spec: {clusterIP: 10.0.0.1, internalTrafficPolicy: Local, ports: [{name: p, port: 7}]}\n"
        "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: demo}\n"
        "subsets: [{addresses: [{ip: 1.1.1.1}], notReadyAddresses: [{ip: 1.1.1.2}], ports: [{name: "
        "p, port: 70}]}]\n" EXTERNAL("a", "web.demo.svc.cluster.local")
            EXTERNAL("b", "a.demo.svc.cluster.local") EXTERNAL("x", "y.demo.svc.cluster.local")
                EXTERNAL("y", "x.demo.svc.cluster.local") EXTERNAL("z", "www.example.com"));
    const struct mz_service *s = service(m, "web.demo.svc.cluster.local");
    assert_true(mz_model_endpoints(m, &s->ports[0])->node_local);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[0].port, 70);
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->v[1].health, MZ_UNHEALTHY);
    assert_int_equal(s->aliases_n, 2); /* over the other one, too; a loop means nothing */
    assert_str(s->aliases[0], "a.demo.svc.cluster.local");
    assert_str(s->aliases[1], "b.demo.svc.cluster.local");
    mz_model_unref(m);
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints),      cmocka_unit_test(test_selected),
        cmocka_unit_test(test_machines),       cmocka_unit_test(test_targets_of_machines),
        cmocka_unit_test(test_one_host),       cmocka_unit_test(test_automatic),
        cmocka_unit_test(test_default_export), cmocka_unit_test(test_visibility),
        cmocka_unit_test(test_which_sidecar),  cmocka_unit_test(test_imports),
        cmocka_unit_test(test_kubernetes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
