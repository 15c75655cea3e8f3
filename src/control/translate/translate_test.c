/* Models and proxies to resources: what the recorded cases (tests/conformance/istio) do not show. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/discovery/peer_double.h"

static struct {
    struct mz_translator *translator;
    struct mz_model *model;
    struct mz_arena *arena;
} t;

static void use(const char *documents)
{
    t.model = double_model(mz_str_c(documents));
    mz_translator_set_model(t.translator, t.model);
}

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    t.arena = mz_arena_create(MZ_MEM_CONFIG);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    t.model = NULL;
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_translator_destroy(t.translator);
    mz_model_unref(t.model);
    mz_arena_destroy(t.arena);
    return 0;
}

static struct mz_proxy *proxy(const char *node)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m;
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(node), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err));
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)m, &err);
    if (!p)
        fail_msg("%s", err.msg);
    return p;
}

#define SIDECAR(name) "id: sidecar~10.1.0.9~" name ".demo~demo.svc.cluster.local"
#define SERVICE(name, ns, ip, ports)                                                               \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns                \
    "}\nspec: {clusterIP: " ip ", ports: [" ports "]}\n"

static void names(struct mz_outs *o, char *out, size_t n)
{
    out[0] = 0;
    mz_vec_foreach (it, &o->v) {
        const size_t at = strlen(out);
        (void)snprintf(out + at, n - at, "%s%.*s", at ? " " : "", MZ_STR_ARG((*it)->name));
    }
}

static void ask(const char *node, enum mz_xds_type type, const char *name, struct mz_outs *out)
{
    struct mz_proxy *p = proxy(node);
    struct mz_view *v = mz_view_create(t.translator, p);
    struct mz_str one = mz_str_c(name);
    mz_translate(v, type, &one, name ? 1 : 0, out);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
}

static const ProtobufCMessage *only(struct mz_outs *o, enum mz_xds_type type)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    assert_int_equal(o->v.n, 1);
    assert_true(mz_msg_unpack(&ctx, o->v.v[0]->bytes, mz_xds_descriptor(type), &m, &err));
    return m;
}

/* Where kinds of traffic meet. */
static const struct {
    const char *documents, *listeners;
} meetings[] = {
    { SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80}")
          SERVICE("b", "demo", "10.9.0.2", "{name: http2, port: 80}"),
      "0.0.0.0_80" },
    { SERVICE("a", "demo", "10.9.0.1", "{name: tcp, port: 80}")
          SERVICE("b", "demo", "10.9.0.2", "{name: http, port: 80}"),
      "0.0.0.0_80 10.9.0.1_80" },
    { SERVICE("a", "demo", "10.9.0.1", "{name: dns, port: 53, protocol: UDP}"), "" },
    { SERVICE("a", "demo", "10.9.0.1",
              "{name: http, port: 15021}, {name: http, port: 15001}, {name: tcp, port: 15006}"),
      "10.9.0.1_15006" },
    { SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80, appProtocol: mongo}"),
      "10.9.0.1_80" },
    { SERVICE("a", "demo", "None", "{name: tcp, port: 80}"),
      "" }, /* no endpoints: nothing to dial */
};

static void test_listeners(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(meetings); i++) {
        struct mz_outs o = { 0 };
        char got[512], want[512];
        use(meetings[i].documents);
        ask(SIDECAR("web-0") "\nmetadata: {ENVOY_STATUS_PORT: 15021}", MZ_XDS_LISTENER, NULL, &o);
        names(&o, got, sizeof(got));
        (void)snprintf(want, sizeof(want), "%s%svirtualInbound virtualOutbound",
                       meetings[i].listeners, meetings[i].listeners[0] ? " " : "");
        assert_string_equal(got, want);
        mz_outs_fini(&o);
        mz_model_unref(t.model);
        t.model = NULL;
    }
}

/* TLS without an address of its own is told apart by server name. */
static void test_server_names(void **state)
{
    (void)state;
    struct mz_outs o = { 0 };
    use(SERVICE("a", "demo", "\"\"", "{name: tls, port: 443}"));
    ask(SIDECAR("web-0"), MZ_XDS_LISTENER, NULL, &o);
    assert_int_equal(o.v.n, 3);
    mz_out_unref(o.v.v[2]);
    mz_out_unref(o.v.v[1]);
    o.v.n = 1;
    const pb_Listener *l = (const pb_Listener *)only(&o, MZ_XDS_LISTENER);
    assert_string_equal(l->name, "0.0.0.0_443");
    assert_string_equal(l->filter_chains[0]->filter_chain_match->server_names[0],
                        "a.demo.svc.cluster.local");
    assert_string_equal(l->listener_filters[0]->name, "envoy.filters.listener.tls_inspector");
    assert_string_equal(l->default_filter_chain->name, "PassthroughFilterChain");
    mz_outs_fini(&o);
}

static const struct {
    const char *node, *domains;
} callers[] = {
    { SIDECAR("x"),
      "a.demo.svc.cluster.local a.demo.svc.cluster.local. a a.demo.svc a.demo 10.9.0.1" },
    { "id: sidecar~10.1.0.9~x.other~other.svc.cluster.local",
      "a.demo.svc.cluster.local a.demo.svc.cluster.local. a.demo a.demo.svc 10.9.0.1" },
    { "id: sidecar~10.1.0.9~x.demo~demo.svc.other",
      "a.demo.svc.cluster.local a.demo.svc.cluster.local. 10.9.0.1" },
    { "id: sidecar~10.1.0.9~x.demo~example.com",
      "a.demo.svc.cluster.local a.demo.svc.cluster.local. 10.9.0.1" },
};

static void test_domains(void **state)
{
    (void)state;
    use(SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80}"));
    for (size_t i = 0; i < MZ_COUNT(callers); i++) {
        struct mz_outs o = { 0 };
        char got[512] = "";
        ask(callers[i].node, MZ_XDS_ROUTE, "80", &o);
        const pb_RouteConfiguration *r = (const pb_RouteConfiguration *)only(&o, MZ_XDS_ROUTE);
        assert_int_equal(r->n_virtual_hosts, 2);
        for (size_t k = 0; k < r->virtual_hosts[0]->n_domains; k++) {
            const size_t at = strlen(got);
            (void)snprintf(got + at, sizeof(got) - at, "%s%s", at ? " " : "",
                           r->virtual_hosts[0]->domains[k]);
        }
        assert_string_equal(got, callers[i].domains);
        mz_outs_fini(&o);
    }
}

/* Names that are asked for may be anything. */
static void test_names(void **state)
{
    (void)state;
    static const char *const routes[] = { "", "x", "0", "65536", "a:b", ":", "80:", "-1" };
    static const char *const clusters[] = { "", "|", "outbound|x||h", "outbound|80||h|more",
                                            "outbound|70000||h" };
    use(SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80}"));
    struct mz_outs o = { 0 };
    for (size_t i = 0; i < MZ_COUNT(routes); i++)
        ask(SIDECAR("x"), MZ_XDS_ROUTE, routes[i], &o);
    for (size_t i = 0; i < MZ_COUNT(clusters); i++)
        ask(SIDECAR("x"), MZ_XDS_ENDPOINT, clusters[i], &o);
    assert_int_equal(o.v.n, 0);
    ask(SIDECAR("x"), MZ_XDS_ENDPOINT, "outbound|80||no.such.host",
        &o); /* known to nobody: without endpoints */
    assert_int_equal(o.v.n, 1);
    mz_outs_fini(&o);
}

/* Proxies of one shape share the bytes; with the documents read again nothing is built again; a fresh start says the same. */
static void test_sharing(void **state)
{
    (void)state;
    static const char *const two = SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80}")
        SERVICE("b", "demo", "10.9.0.2", "{name: tcp, port: 81}");
    struct mz_outs x = { 0 }, y = { 0 }, z = { 0 };
    use(two);
    ask(SIDECAR("one"), MZ_XDS_CLUSTER, NULL, &x);
    ask(SIDECAR("two"), MZ_XDS_CLUSTER, NULL, &y);
    assert_int_equal(x.v.n, 5);
    assert_ptr_equal(x.v.v[3], y.v.v[3]); /* outbound|80 */
    struct mz_model *before = t.model;
    use(two);
    const uint64_t misses = mz_translator_counts(t.translator).misses;
    ask(SIDECAR("one"), MZ_XDS_CLUSTER, NULL, &z);
    assert_int_equal(mz_translator_counts(t.translator).misses, misses);
    assert_ptr_equal(x.v.v[4], z.v.v[4]);
    mz_model_unref(before);
    mz_outs_fini(&z);
    mz_translator_destroy(t.translator);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    mz_translator_set_model(t.translator, t.model);
    ask(SIDECAR("one"), MZ_XDS_CLUSTER, NULL, &z);
    for (size_t i = 0; i < x.v.n; i++)
        assert_true(mz_str_eq(x.v.v[i]->bytes, z.v.v[i]->bytes) &&
                    x.v.v[i]->version == z.v.v[i]->version);
    mz_outs_fini(&x);
    mz_outs_fini(&y);
    mz_outs_fini(&z);
}

#define HEADLESS                                                                                   \
    SERVICE("h", "demo", "None", "{name: tcp, port: 90}")                                          \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: h-1, namespace: " \
    "demo, labels: {kubernetes.io/service-name: h}}\nendpoints: [{addresses: [10.1.0.8]}, "        \
    "{addresses: [10.1.0.9]}]\nports: [{name: tcp, port: 90}]\n"
#define AT(ip, name) "id: sidecar~" ip "~" name ".demo~demo.svc.cluster.local"

/* Endpoints of a headless service have listeners, but not at the endpoint itself, in whatever order they ask for what they share. */
static void test_headless(void **state)
{
    (void)state;
    static const struct {
        const char *documents, *at8, *at9, *elsewhere;
    } cases[] = {
        { HEADLESS, "10.1.0.9_90 virtualInbound virtualOutbound",
          "10.1.0.8_90 virtualInbound virtualOutbound",
          "10.1.0.8_90 10.1.0.9_90 virtualInbound virtualOutbound" },
        /* a service that has the address of one keeps its listener there */
        { HEADLESS SERVICE("i", "demo", "10.1.0.8", "{name: tcp, port: 90}"),
          "10.1.0.8_90 10.1.0.9_90 virtualInbound virtualOutbound",
          "10.1.0.8_90 virtualInbound virtualOutbound",
          "10.1.0.8_90 10.1.0.9_90 virtualInbound virtualOutbound" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const struct mz_model *before = t.model;
        use(cases[i].documents);
        mz_model_unref(before);
        const char *const nodes[] = { AT("10.1.0.8", "a"), AT("10.1.0.9", "b"), AT("10.1.0.7", "c"),
                                      AT("10.1.0.8", "d") };
        const char *const want[] = { cases[i].at8, cases[i].at9, cases[i].elsewhere, cases[i].at8 };
        for (size_t k = 0; k < MZ_COUNT(nodes); k++) {
            struct mz_outs x = { 0 };
            char all[300];
            ask(nodes[k], MZ_XDS_LISTENER, NULL, &x);
            names(&x, all, sizeof(all));
            assert_string_equal(all, want[k]);
            mz_outs_fini(&x);
        }
    }
}

static bool has_text(struct mz_outs *o, const char *name, const char *text)
{
    mz_vec_foreach (it, &o->v)
        if (mz_str_eq((*it)->name, mz_str_c(name)))
            return memmem((*it)->bytes.p, (*it)->bytes.n, text, strlen(text)) != NULL;
    fail_msg("no %s", name);
    return false;
}

/* Whether a headless service takes mutual TLS follows from who is there, for gateways, too. */
static void test_headless_tls(void **state)
{
    (void)state;
    static const char pod[] =
        SERVICE("h", "demo", "None",
                "{name: tcp, port: 90}") "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, "
                                         "namespace: demo, labels: "
                                         "{security.istio.io/tlsMode: istio}}\nspec: "
                                         "{serviceAccountName: a}\nstatus: {podIP: "
                                         "10.1.0.8, conditions: [{type: Ready, status: 'True'}]}\n"
                                         "---\napiVersion: discovery.k8s.io/v1\nkind: "
                                         "EndpointSlice\nmetadata: {name: h-1, "
                                         "namespace: demo, labels: {kubernetes.io/service-name: "
                                         "h}}\nendpoints: [{addresses: "
                                         "[10.1.0.8], targetRef: {kind: Pod, name: p, namespace: "
                                         "demo}}]\nports: [{name: tcp, port: "
                                         "90}]\n";
    const char *const documents[] = { SERVICE("h", "demo", "None", "{name: tcp, port: 90}"), pod };
    for (size_t i = 0; i < MZ_COUNT(documents); i++) {
        const struct mz_model *before = t.model;
        struct mz_outs o = { 0 };
        use(documents[i]);
        mz_model_unref(before);
        ask("id: router~10.1.0.1~gw.demo~demo.svc.cluster.local", MZ_XDS_CLUSTER, NULL, &o);
        assert_int_equal(has_text(&o, "outbound|90||h.demo.svc.cluster.local", "tlsMode-istio"), i);
        mz_outs_fini(&o);
    }
}

static void remember(struct mz_cache *c, unsigned first, unsigned n, struct mz_out *o)
{
    for (unsigned i = 0; i < n; i++) {
        struct mz_key k;
        struct mz_out *own = o ? mz_out_ref(o) : mz_out_of_bytes(MZ_STR("x"), MZ_STR("y"));
        mz_key_init(&k, 't');
        mz_key_u64(&k, first + i);
        mz_cache_put(c, &k, own);
        mz_out_unref(own);
    }
}

/* What nobody holds or asks for any more leaves the cache when much has come. */
static void test_aging(void **state)
{
    (void)state;
    struct mz_cache *c = mz_cache_create();
    struct mz_out *held = mz_out_of_bytes(MZ_STR("held"), MZ_STR("y"));
    remember(c, 0, 2000, NULL);
    remember(c, 2000, 1, held);
    for (unsigned i = 0; i < 5; i++)
        mz_cache_age(c);
    assert_int_equal(mz_cache_counts(c).entries, 2001); /* looked through while they were young */
    remember(c, 3000, 1600, NULL);
    mz_cache_age(c);
    assert_int_equal(mz_cache_counts(c).entries, 1601);
    mz_out_unref(held);
    mz_cache_destroy(c);
}

/* Who tells what it has is not sent what it lacks. */
static void test_stock(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        size_t filters;
    } nodes[] = {
        { SIDECAR("x"), 1 },
        { SIDECAR("x") "\nextensions: [{name: envoy.filters.http.router, category: "
                       "envoy.filters.http}]",
          0 },
        { SIDECAR("x") "\nextensions: [{name: envoy.filters.http.router}, {name: istio.alpn}]", 1 },
    };
    use(SERVICE("a", "demo", "10.9.0.1", "{name: http, port: 80}"));
    for (size_t i = 0; i < MZ_COUNT(nodes); i++) {
        struct mz_outs o = { 0 };
        ask(nodes[i].node, MZ_XDS_CLUSTER, NULL, &o);
        struct mz_outs one = { 0 };
        *mz_vec_push(&one.v, MZ_MEM_XDS) = mz_out_ref(o.v.v[o.v.n - 1]);
        assert_int_equal(((const pb_Cluster *)only(&one, MZ_XDS_CLUSTER))->n_filters,
                         nodes[i].filters);
        mz_outs_fini(&one);
        mz_outs_fini(&o);
    }
}

static void test_registry_only(void **state)
{
    (void)state;
    struct mz_outs o = { 0 };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_model_opts mo = { .domain = "cluster.local" };
    const struct mz_doc_reader r = { MZ_STR("mesh.yaml"), double_take, double_hear, s };
    mz_doc_read_mesh(&r, MZ_STR("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"));
    t.model = mz_model_build(s, &mo, NULL);
    mz_store_destroy(s);
    mz_translator_set_model(t.translator, t.model);
    ask(SIDECAR("x"), MZ_XDS_ROUTE, "80", &o);
    const pb_RouteConfiguration *c = (const pb_RouteConfiguration *)only(&o, MZ_XDS_ROUTE);
    assert_string_equal(c->virtual_hosts[0]->name, "block_all");
    assert_int_equal(c->virtual_hosts[0]->routes[0]->direct_response->status, 502);
    mz_outs_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_listeners, up, down),
        cmocka_unit_test_setup_teardown(test_server_names, up, down),
        cmocka_unit_test_setup_teardown(test_domains, up, down),
        cmocka_unit_test_setup_teardown(test_names, up, down),
        cmocka_unit_test_setup_teardown(test_sharing, up, down),
        cmocka_unit_test_setup_teardown(test_headless, up, down),
        cmocka_unit_test_setup_teardown(test_headless_tls, up, down),
        cmocka_unit_test_setup_teardown(test_aging, up, down),
        cmocka_unit_test_setup_teardown(test_registry_only, up, down),
        cmocka_unit_test_setup_teardown(test_stock, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
