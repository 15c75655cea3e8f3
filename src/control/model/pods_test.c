/* What controllers of Kubernetes would write: endpoints of pods, addresses of services. */
#include "base/test.h"

#include <stdio.h>

#include "control/discovery/peer_double.h"
#include "control/model/service_ips.h"

#define SERVICE(name, spec)                                                                        \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: demo}\nspec: " spec \
    "\n"
#define PORTS "ports: [{name: http, port: 80, targetPort: main}, {name: tcp, port: 90}]"
#define POD(name, meta, status)                                                                    \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name                                       \
    ", namespace: demo, labels: {app: web, version: v1}" meta "}\n"                                \
    "spec: {containers: [{ports: [{name: main, containerPort: 8080}]}]}\nstatus: {" status "}\n"
#define READY(is)                                                                                  \
    "conditions: [{type: Initialized, status: 'True'}, {type: Ready, status: '" is "'}]"
#define WEB SERVICE("web", "{clusterIP: 10.0.0.1, selector: {app: web}, " PORTS "}")

static struct {
    struct mz_store *store;
    struct mz_model *model;
    struct mz_service_ips *ips;
} t;

static int up(void **state)
{
    struct mz_err err;
    (void)state;
    t.store = mz_store_create(double_nothing, NULL);
    t.model = NULL;
    t.ips = mz_service_ips_create("10.96.0.0/16,fd00::/112", &err);
    return t.ips ? 0 : -1;
}

static int down(void **state)
{
    (void)state;
    mz_model_unref(t.model);
    mz_store_destroy(t.store);
    mz_service_ips_destroy(t.ips);
    return 0;
}

static void tell(const char *text)
{
    const struct mz_model_opts o = { .domain = "cluster.local", .addresses = t.ips };
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, t.store };
    mz_doc_read_text(&r, mz_str_c(text), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(t.store, &o, t.model);
    mz_model_unref(t.model);
    t.model = m;
}

static const struct mz_service *service(const char *name)
{
    char host[128];
    (void)snprintf(host, sizeof(host), "%s.demo.svc.cluster.local", name);
    const struct mz_service *s = mz_model_service(t.model, mz_str_c(host));
    if (!s)
        fail_msg("%s is not there", name);
    return s;
}

/* "10.1.0.1:8080 10.1.0.2:8080-unready ..." of the @port-th port. */
static const char *endpoints(const char *name, size_t port)
{
    static char text[512];
    static const char *const health[] = { "", "-unready", "-ends", "-unchecked", "-drains" };
    const struct mz_endpoints *e = mz_model_endpoints(t.model, &service(name)->ports[port]);
    text[0] = 0;
    for (size_t i = 0; i < e->n; i++) {
        const size_t n = strlen(text);
        (void)snprintf(text + n, sizeof(text) - n, "%s%.*s:%u%s", i ? " " : "",
                       MZ_STR_ARG(e->v[i].address), e->v[i].port, health[e->v[i].health]);
    }
    return text;
}

static const char *addresses(const char *name)
{
    static char text[2][128];
    static unsigned turn;
    char *out = text[turn++ % 2];
    const struct mz_service *s = service(name);
    out[0] = 0;
    for (size_t i = 0; i < s->addresses_n; i++)
        (void)snprintf(out + strlen(out), 128 - strlen(out), "%s%.*s", i ? " " : "",
                       MZ_STR_ARG(s->addresses[i]));
    return out;
}

/* ---- endpoints ---- */

static const struct {
    const char *spec, *pods, *http, *tcp;
} cases[] = {
    { "selector: {app: web}, " PORTS,
      POD("a", "", "phase: Running, podIP: 10.1.0.1, " READY("True"))
          POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("False"))
              POD("c", ", deletionTimestamp: '2026-01-01T00:00:00Z'",
                  "phase: Running, podIP: 10.1.0.3, " READY("True"))
                  POD("d", "", "phase: Succeeded, podIP: 10.1.0.4, " READY("False"))
                      POD("e", "", "phase: Failed, podIP: 10.1.0.5")
                          POD("f", "", "phase: Pending, conditions: []"),
      "10.1.0.1:8080 10.1.0.2:8080-unready 10.1.0.3:8080-ends",
      "10.1.0.1:90 10.1.0.2:90-unready 10.1.0.3:90-ends" },
    { "publishNotReadyAddresses: true, selector: {app: web}, " PORTS,
      POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("False")), "10.1.0.2:8080",
      "10.1.0.2:90" },
    { "clusterIP: None, selector: {app: web}, " PORTS,
      POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("True")), "10.1.0.2:8080",
      "10.1.0.2:90" },
    /* nobody has said anything of readiness */
    { "selector: {app: web}, " PORTS,
      POD("a", "", "phase: Running, podIP: 10.1.0.1")
          POD("b", "", "phase: Pending, podIP: 10.1.0.2") POD("c", "", "podIP: 10.1.0.3"),
      "10.1.0.1:8080 10.1.0.2:8080-unready 10.1.0.3:8080",
      "10.1.0.1:90 10.1.0.2:90-unready 10.1.0.3:90" },
    /* a port that the pod does not have; no selector; another selector */
    { "selector: {app: web}, ports: [{name: http, port: 80, targetPort: other}, {name: tcp, port: "
      "90, targetPort: 91}]",
      POD("a", "", "phase: Running, podIP: 10.1.0.1"), "", "10.1.0.1:91" },
    { PORTS, POD("a", "", "phase: Running, podIP: 10.1.0.1"), "", "" },
    { "selector: {app: web, version: v2}, " PORTS, POD("a", "", "phase: Running, podIP: 10.1.0.1"),
      "", "" },
    /* families */
    { "ipFamilies: [IPv6], selector: {app: web}, " PORTS,
      POD("a", "", "phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]")
          POD("b", "", "phase: Running, podIP: 10.1.0.2"),
      "fd00::1:8080", "fd00::1:90" },
    { "clusterIP: 10.0.0.2, clusterIPs: [10.0.0.2, 'fd00:1::2'], selector: {app: web}, " PORTS,
      POD("a", "", "phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]"),
      "10.1.0.1:8080 fd00::1:8080", "10.1.0.1:90 fd00::1:90" },
    /* documents count, though they have none */
    { "selector: {app: web}, " PORTS,
      POD("a", "",
          "phase: Running, podIP: 10.1.0.1") "---\napiVersion: discovery.k8s.io/v1\nkind: "
                                             "EndpointSlice\naddressType: IPv4\n"
                                             "metadata: {name: x, namespace: demo, labels: "
                                             "{kubernetes.io/service-name: web}}\n",
      "", "" },
    { "selector: {app: web}, " PORTS,
      POD("a", "",
          "phase: Running, podIP: 10.1.0.1") "---\napiVersion: v1\nkind: Endpoints\nmetadata: "
                                             "{name: web, namespace: demo}\n",
      "", "" },
};

static void test_pods(void **state)
{
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[4096];
        (void)snprintf(text, sizeof(text), SERVICE("web", "{%s}") "%s", cases[i].spec,
                       cases[i].pods);
        up(state);
        tell(text);
        if (strcmp(endpoints("web", 0), cases[i].http) != 0)
            fail_msg("case %zu: http: %s", i, endpoints("web", 0));
        if (strcmp(endpoints("web", 1), cases[i].tcp) != 0)
            fail_msg("case %zu: tcp: %s", i, endpoints("web", 1));
        down(state);
    }
}

#define SLICE(name, conditions)                                                                    \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: "     \
    "{name: " name ", namespace: demo, labels: {kubernetes.io/service-name: web}}\n"               \
    "ports: [{name: http, port: 80}]\nendpoints: [{addresses: [10.1.0.1], conditions: "            \
    "{" conditions "}}]\n"
#define DRAINS "ready: false, serving: true, terminating: true"

/* An endpoint that moves from slice to slice is in both for a while: it is as good as the better one says. */
static void test_two_slices(void **state)
{
    static const struct {
        const char *one, *other, *endpoint;
    } both[] = {
        { SLICE("a", "ready: true"), SLICE("b", DRAINS), "10.1.0.1:80" },
        { SLICE("a", DRAINS), SLICE("b", "ready: true"), "10.1.0.1:80" },
        { SLICE("a", DRAINS), SLICE("b", "ready: false, terminating: false"),
          "10.1.0.1:80-drains" },
        { SLICE("a", "ready: false, terminating: false"), SLICE("b", DRAINS),
          "10.1.0.1:80-drains" },
        { SLICE("a", "ready: false, serving: false, terminating: true"),
          SLICE("b", "ready: false, terminating: false"), "10.1.0.1:80-unready" },
    };
    for (size_t i = 0; i < MZ_COUNT(both); i++) {
        char text[4096];
        (void)snprintf(text, sizeof(text),
                       "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo, "
                       "labels: {istio.io/persistent-session: c}}\n"
                       "spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}\n%s%s",
                       both[i].one, both[i].other);
        up(state);
        tell(text);
        if (strcmp(endpoints("web", 0), both[i].endpoint) != 0)
            fail_msg("case %zu: %s", i, endpoints("web", 0));
        down(state);
    }
}

/* Readiness is endpoints and nothing else: no other model for it, and only the services that select the pod are looked at. */
static void test_readiness_is_cheap(void **state)
{
    (void)state;
    tell(WEB SERVICE("other", "{clusterIP: 10.0.0.2, selector: {app: other}, " PORTS "}")
             POD("a", "", "phase: Running, podIP: 10.1.0.1, " READY("True"))
                 POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("False")));
    const struct mz_model *first = t.model;
    const uint64_t serial = first->serial;
    assert_true(first->on == 0);
    assert_string_equal(endpoints("web", 0), "10.1.0.1:8080 10.1.0.2:8080-unready");
    tell(POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("True")));
    assert_true(t.model->on == serial);
    assert_string_equal(endpoints("web", 0), "10.1.0.1:8080 10.1.0.2:8080");
    assert_int_equal(t.model->patched_n, 1);
    tell(POD("b", "",
             "phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: 'True'}]"));
    assert_int_equal(t.model->patched_n, 0);
    tell(POD("b", "",
             "phase: Running, podIP: 10.1.0.9, " READY("True"))); /* another place is no more */
    assert_int_equal(t.model->patched_n, 1);
    assert_string_equal(endpoints("web", 0), "10.1.0.1:8080 10.1.0.9:8080");
}

/* What ServiceEntries select are pods that are ready. */
static void test_entry(void **state)
{
    (void)state;
    tell("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: "
         "demo}\nspec: {hosts: [web.demo.svc.cluster.local], resolution: STATIC, location: "
         "MESH_INTERNAL, workloadSelector: {labels: {app: web}}, ports: [{number: 80, name: main, "
         "protocol: HTTP}]}\n" POD("a", "", "phase: Running, podIP: 10.1.0.1, " READY("True"))
             POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("False")));
    assert_string_equal(endpoints("web", 0), "10.1.0.1:8080");
    tell(POD("b", "", "phase: Running, podIP: 10.1.0.2, " READY("True")));
    assert_string_equal(endpoints("web", 0), "10.1.0.1:8080 10.1.0.2:8080");
}

static const struct {
    const char *meta, *owner;
} owners[] = {
    { "name: x", "x" },
    { "name: x-1, labels: {service.istio.io/workload-name: shop}", "shop" },
    { "name: x-1, ownerReferences: [{kind: StatefulSet, name: x, controller: true}]", "x-1" },
    { "name: x-1, generateName: x-, ownerReferences: [{kind: StatefulSet, name: x, controller: "
      "true}]",
      "x" },
    { "name: x-1, generateName: x-, ownerReferences: [{kind: StatefulSet, name: x}]", "x-1" },
    { "name: x-7f-1, generateName: x-7f-, labels: {pod-template-hash: 7f}, ownerReferences: "
      "[{kind: "
      "ReplicaSet, name: x-7f, controller: true}]",
      "x" },
    { "name: x-7f-1, generateName: x-7f-, ownerReferences: [{kind: ReplicaSet, name: x-7f, "
      "controller: true}]",
      "x-7f" },
    { "name: x-1, generateName: x-, ownerReferences: [{kind: Job, name: x-28000001, controller: "
      "true}]",
      "x" },
    { "name: x-1, generateName: x-, ownerReferences: [{kind: Job, name: x-2800, controller: true}]",
      "x-2800" },
};

static void test_owner(void **state)
{
    for (size_t i = 0; i < MZ_COUNT(owners); i++) {
        char text[1024];
        (void)snprintf(text, sizeof(text),
                       "apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, %s}\n",
                       owners[i].meta);
        up(state);
        tell(text);
        mz_index_foreach (it, t.model->by_workload) {
            const struct mz_workload *w = it.value;
            if (!mz_str_eq(w->owner, mz_str_c(owners[i].owner)))
                fail_msg("%s: %.*s", owners[i].meta, MZ_STR_ARG(w->owner));
        }
        down(state);
    }
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
    (void)state;
    char first[64];
    tell(SERVICE("a", "{" PORTS "}") SERVICE("h", "{clusterIP: None, " PORTS "}")
             SERVICE("x", "{type: ExternalName, externalName: example.com}")
                 SERVICE("six", "{ipFamilies: [IPv6], " PORTS "}")
                     SERVICE("both", "{ipFamilyPolicy: PreferDualStack, " PORTS "}"));
    (void)snprintf(first, sizeof(first), "%s", addresses("a"));
    assert_memory_equal(first, "10.96.", 6);
    assert_string_equal(addresses("h"), "");
    assert_string_equal(addresses("x"), "");
    assert_memory_equal(addresses("six"), "fd00::", 6);
    assert_non_null(strstr(addresses("both"), " fd00::"));
    const uint64_t hash = service("a")->hash;
    tell(SERVICE("b", "{" PORTS "}")); /* whoever else comes */
    assert_string_equal(addresses("a"), first);
    assert_true(service("a")->hash == hash);
    char claim[256];
    (void)snprintf(claim, sizeof(claim), SERVICE("c", "{clusterIP: %s, " PORTS "}"), first);
    tell(claim); /* the document has it, and the other takes the next */
    assert_string_equal(addresses("c"), first);
    assert_string_not_equal(addresses("a"), first);
    assert_memory_equal(addresses("a"), "10.96.", 6);
    assert_true(service("a")->hash != hash);
    (void)snprintf(first, sizeof(first), "%s", addresses("a"));
    mz_store_remove(t.store, MZ_STR("Service/demo/c"));
    tell("");
    assert_string_equal(addresses("a"), first); /* it stays where it is */
}

/* Whole ranges and other kinds' addresses are claims, too; a range that is full gives what it has. */
static void test_full(void **state)
{
    (void)state;
    struct mz_err err;
    mz_service_ips_destroy(t.ips);
    t.ips = mz_service_ips_create("10.7.0.0/29", &err);
    tell("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: "
         "demo}\nspec: {hosts: [x.example.com], addresses: [10.7.0.4/30], ports: [{number: 80, "
         "name: "
         "http, protocol: HTTP}]}\n" POD("p", "", "phase: Running, podIP: 10.7.0.2")
             SERVICE("a", "{" PORTS "}") SERVICE("b", "{" PORTS "}") SERVICE("c", "{" PORTS "}"));
    unsigned seen = 0, n = 0;
    const char *const names[] = { "a", "b", "c" };
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        const char *at = addresses(names[i]);
        if (at[0]) { /* of 1..6 the pod has 2 and the entry 4..7 */
            assert_true(strcmp(at, "10.7.0.1") == 0 || strcmp(at, "10.7.0.3") == 0);
            seen |= 1u << (at[7] - '0');
            n++;
        }
    }
    assert_int_equal(n, 2);
    assert_int_equal(seen, (1 << 1) | (1 << 3));
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } bad[] = {
        { "10.0.0.0", "\"10.0.0.0\" is not a range of addresses" },
        { "10.0.0.0/33", "\"10.0.0.0/33\" is not a range of addresses" },
        { "x/8", "\"x/8\" is not a range of addresses" },
        { "10.0.0.0/31", "\"10.0.0.0/31\" is too small" },
        { "fd00::/32", "\"fd00::/32\" is too large" },
        { "10.0.0.0/16,10.1.0.0/16", "\"10.1.0.0/16\" is the second range of its family" },
    };
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        struct mz_err err = { .msg = "" };
        assert_null(mz_service_ips_create(bad[i].text, &err));
        assert_string_equal(err.msg, bad[i].error);
    }
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pods),
        cmocka_unit_test(test_two_slices),
        cmocka_unit_test_setup_teardown(test_readiness_is_cheap, up, down),
        cmocka_unit_test_setup_teardown(test_entry, up, down),
        cmocka_unit_test(test_owner),
        cmocka_unit_test_setup_teardown(test_addresses, up, down),
        cmocka_unit_test_setup_teardown(test_full, up, down),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
