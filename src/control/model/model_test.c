/* Documents to a model. */
#include "base/test.h"

#include <stdlib.h>

#include "control/model/model.h"

static void nothing(void *arg)
{
    (void)arg;
}

static void take(void *arg, struct mz_doc *d)
{
    mz_store_put(arg, d);
}

static void no_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                       const char *text)
{
    (void)arg;
    (void)level;
    fail_msg("line %u: %.*s: %s", line, MZ_STR_ARG(key), text);
}

static struct mz_model *build(const char *text)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), take, no_problem, s };
    mz_doc_read_text(&r, mz_str_c(text), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}

#define META(kind, name) "kind: " kind "\nmetadata: {name: " name ", namespace: ns1"
static const char mesh[] =
    "apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {topology.kubernetes.io/region: "
    "r, topology.kubernetes.io/zone: z}}\n"
    "---\napiVersion: v1\n" META(
        "Service",
        "web") ", annotations: {networking.istio.io/exportTo: \"., other\"}}\n"
               "spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http-a, port: 80, "
               "targetPort: main}, {name: db, port: 3306}]}\n"
               "---\napiVersion: v1\n" META(
                   "Service",
                   "headless") "}\nspec: {clusterIP: None, ports: [{name: grpc, port: 9}]}\n"
                               "---\napiVersion: v1\n" META(
                                   "Pod",
                                   "web-0") ", labels: {app: web, x: v1, "
                                            "security.istio.io/tlsMode: istio}}\n"
                                            "spec: {serviceAccountName: sa, nodeName: node-a, "
                                            "containers: [{ports: [{name: main, containerPort: "
                                            "8080}]}]}\n"
                                            "status: {phase: Running, podIP: 10.1.0.1}\n"
                                            "---\napiVersion: discovery.k8s.io/v1\n" META(
                                                "EndpointSlice",
                                                "web-1") ", labels: {kubernetes.io/service-name: "
                                                         "web}}\n"
                                                         "addressType: IPv4\nendpoints:\n- "
                                                         "{addresses: [10.1.0.9], conditions: "
                                                         "{ready: false}}\n"
                                                         "- {addresses: [10.1.0.1], targetRef: "
                                                         "{kind: Pod, name: web-0}}\n- {addresses: "
                                                         "[10.1.0.3], targetRef: {kind: Pod, name: "
                                                         "gone}}\n"
                                                         "ports: [{name: http-a, port: 8080}, "
                                                         "{name: none, port: 1}]\n";

static void test_service(void **state)
{
    (void)state;
    struct mz_model *m = build(mesh);
    assert_int_equal(m->services_n, 2);
    const struct mz_service *s = mz_model_service(m, MZ_STR("web.ns1.svc.cluster.local"));
    assert_non_null(s);
    assert_int_equal(s->resolution, MZ_RESOLVE_EDS);
    assert_int_equal(s->ports[0].protocol, MZ_PROTOCOL_HTTP);
    assert_int_equal(s->ports[1].protocol, MZ_PROTOCOL_TCP);     /* known for it */
    assert_int_equal(mz_model_endpoints(m, &s->ports[0])->n, 2); /* one waits for its pod */
    assert_int_equal(mz_model_endpoints(m, &s->ports[1])->n, 0);
    const struct mz_endpoint *e = mz_model_endpoints(m, &s->ports[0])->v;
    assert_true(mz_str_eq(e[0].address, MZ_STR("10.1.0.1")) && e[0].health == MZ_HEALTHY);
    assert_true(e[1].health == MZ_TERMINATING && !e[1].workload);
    assert_true(e[0].workload->mtls && mz_str_eq(e[0].workload->locality.zone, MZ_STR("z")));
    assert_int_equal(s->accounts_n, 1);
    assert_true(mz_str_eq(s->accounts[0], MZ_STR("spiffe://cluster.local/ns/ns1/sa/sa")));
    assert_true(mz_service_visible(s, MZ_STR("ns1")) && mz_service_visible(s, MZ_STR("other")));
    assert_false(mz_service_visible(s, MZ_STR("third")));
    const struct mz_service *h = mz_model_service(m, MZ_STR("headless.ns1.svc.cluster.local"));
    assert_int_equal(h->resolution, MZ_RESOLVE_PASSTHROUGH);
    assert_int_equal(h->addresses_n, 0);
    mz_model_unref(m);
}

static void test_targets(void **state)
{
    (void)state;
    struct mz_model *m = build(mesh);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_workload *w = mz_index_get(m->by_workload, MZ_STR("ns1/web-0"));
    struct mz_targets t = mz_model_targets(m, w->ns, w->labels, w, a);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.v[0].number, 8080); /* by the name of the container's port */
    assert_int_equal(t.v[1].number, 3306);
    assert_int_equal(mz_model_targets(m, MZ_STR("x"), w->labels, w, a).n, 0);
    mz_arena_destroy(a);
    mz_model_unref(m);
}

/* Same documents, same hashes; what an endpoint is changes its port's alone. */
static void test_hashes(void **state)
{
    (void)state;
    struct mz_model *x = build(mesh), *y = build(mesh);
    const struct mz_service *a = x->services[1], *b = y->services[1];
    assert_true(a->hash == b->hash && mz_model_endpoints(x, &a->ports[0])->hash ==
                                          mz_model_endpoints(y, &b->ports[0])->hash);
    assert_true(x->mesh.hash == y->mesh.hash);
    mz_model_unref(y);
    char *other = strdup(mesh), *zone = strstr(other, "zone: z");
    zone[6] = 'q';
    y = build(other);
    free(other);
    b = y->services[1];
    assert_true(a->hash == b->hash && mz_model_endpoints(x, &a->ports[0])->hash !=
                                          mz_model_endpoints(y, &b->ports[0])->hash);
    mz_model_unref(x);
    mz_model_unref(y);
}

static const struct {
    const char *name, *transport, *app;
    uint16_t port;
    enum mz_protocol protocol;
} ports[] = {
    { "http", "TCP", "", 80, MZ_PROTOCOL_HTTP },
    { "http2-x", "", "", 80, MZ_PROTOCOL_HTTP2 },
    { "grpc-web-x", "", "", 80, MZ_PROTOCOL_GRPC_WEB },
    { "GRPC", "", "", 80, MZ_PROTOCOL_GRPC },
    { "http", "UDP", "", 80, MZ_PROTOCOL_UDP },
    { "http", "", "https", 80, MZ_PROTOCOL_HTTPS },
    { "http", "", "kubernetes.io/h2c", 80, MZ_PROTOCOL_HTTP2 },
    { "http", "", "example.com/x", 80, MZ_PROTOCOL_UNKNOWN },
    { "kubernetes.io/h2c", "", "", 80, MZ_PROTOCOL_UNKNOWN },
    { "", "", "", 80, MZ_PROTOCOL_UNKNOWN },
    { "", "", "", 25, MZ_PROTOCOL_TCP },
    { "httpx", "", "", 80, MZ_PROTOCOL_UNKNOWN },
};

static void test_protocols(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(ports); i++)
        assert_int_equal(mz_protocol_of_port(ports[i].port, mz_str_c(ports[i].name),
                                             mz_str_c(ports[i].transport), mz_str_c(ports[i].app)),
                         ports[i].protocol);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_service),
                                        cmocka_unit_test(test_targets),
                                        cmocka_unit_test(test_hashes),
                                        cmocka_unit_test(test_protocols) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
