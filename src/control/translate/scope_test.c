/* Sidecars to what a proxy sees and where it listens. */
#include "base/test.h"

#include <stdio.h>

#include "control/discovery/peer_double.h"

static struct {
    struct mz_translator *translator;
    struct mz_model *model;
    struct mz_arena *arena;
} t;

static int up(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    t.model = NULL;
    t.arena = mz_arena_create(MZ_MEM_CONFIG);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
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

#define SERVICE(name, ns, ip, ports)                                                               \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns                \
    "}\nspec: {clusterIP: " ip ", selector: {app: " name "}, ports: [" ports "]}\n"
#define SIDECAR(spec)                                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: "      \
    "demo}\nspec: " spec "\n"

static void ask(const char *documents, const char *extra, enum mz_xds_type type, const char *name,
                struct mz_outs *out)
{
    char node[500];
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *m;
    (void)snprintf(node, sizeof(node),
                   "{id: sidecar~10.1.0.9~web-0.demo~demo.svc.cluster.local, metadata: {LABELS: "
                   "{app: web}%s}}",
                   extra);
    assert_true(
        mz_msg_from_text(&ctx, mz_str_c(node), MZ_TEXT_YAML, &pb_Node__descriptor, &m, &err));
    struct mz_proxy *p = mz_proxy_create((const pb_Node *)m, &err);
    struct mz_model *before = t.model;
    t.model = double_model(mz_str_c(documents));
    mz_translator_set_model(t.translator, t.model);
    mz_model_unref(before);
    struct mz_view *v = mz_view_create(t.translator, p);
    struct mz_str one = mz_str_c(name);
    mz_translate(v, type, &one, name ? 1 : 0, out);
    mz_view_destroy(v);
    mz_proxy_destroy(p);
}

static void assert_names(struct mz_outs *o, const char *want)
{
    char text[1000] = "";
    mz_vec_foreach (it, &o->v)
        if (!mz_str_ends((*it)->name, MZ_STR("Cluster")) &&
            !mz_str_starts((*it)->name, MZ_STR("virtual"))) {
            const size_t at = strlen(text);
            (void)snprintf(text + at, sizeof(text) - at, "%s%.*s", at ? " " : "",
                           MZ_STR_ARG((*it)->name));
        }
    assert_string_equal(text, want);
    mz_outs_fini(o);
}

static const ProtobufCMessage *find(struct mz_outs *o, enum mz_xds_type type, const char *name)
{
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    mz_vec_foreach (it, &o->v)
        if (mz_str_eq((*it)->name, mz_str_c(name)))
            assert_true(mz_msg_unpack(&ctx, (*it)->bytes, mz_xds_descriptor(type), &m, &err));
    assert_non_null(m);
    return m;
}

#define SERVICES                                                                                   \
    SERVICE("web", "demo", "10.9.0.1", "{name: http, port: 80}, {name: tcp, port: 90}")            \
    SERVICE("api", "demo", "10.9.0.2", "{name: http, port: 80}, {name: tcp, port: 90}")            \
    SERVICE("far", "other", "10.9.0.3", "{name: tcp, port: 90}")

/* One port by a listener of its own, the others of the same service by another. */
static void test_ports_join(void **state)
{
    (void)state;
    static const char documents[] =
        SERVICES SIDECAR("{egress: [{port: {number: 90, protocol: TCP, name: tcp}, hosts: "
                         "['./api.demo.svc.cluster.local']}, "
                         "{hosts: ['./*']}]}");
    struct mz_outs o = { 0 };
    ask(documents, "", MZ_XDS_CLUSTER, NULL, &o);
    assert_names(&o,
                 "inbound|80|| inbound|90|| outbound|80||api.demo.svc.cluster.local "
                 "outbound|80||web.demo.svc.cluster.local outbound|90||api.demo.svc.cluster.local "
                 "outbound|90||web.demo.svc.cluster.local");
    o = (struct mz_outs){ 0 };
    ask(documents, "", MZ_XDS_LISTENER, NULL, &o);
    assert_names(&o, "0.0.0.0_80 10.9.0.1_90 10.9.0.2_90");
}

#define ROUTES(spec)                                                                               \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "          \
    "namespace: "                                                                                  \
    "demo}\nspec: {" spec "}\n"

/* Where an imported VirtualService leads is reached, though nobody imports it: its clusters, and no listener. */
static void test_destinations_are_reached(void **state)
{
    (void)state;
    static const struct {
        const char *documents, *clusters;
    } cases[] = {
        { ROUTES("hosts: [web], http: [{route: [{destination: {host: "
                 "far.other.svc.cluster.local}}]}]"),
          "outbound|80||web.demo.svc.cluster.local outbound|90||far.other.svc.cluster.local "
          "outbound|90||web.demo.svc.cluster.local" },
        { ROUTES("hosts: [web], tcp: [{route: [{destination: {host: api, port: {number: 90}}}]}]"),
          "outbound|80||web.demo.svc.cluster.local outbound|90||api.demo.svc.cluster.local "
          "outbound|90||web.demo.svc.cluster.local" },
        { ROUTES("hosts: [web], http: [{route: [{destination: {host: web, port: {number: 80}}}], "
                 "mirrors: [{destination: {host: api, port: {number: 90}}}, {destination: {host: "
                 "api, port: {number: 80}}}]}]"),
          "outbound|80||api.demo.svc.cluster.local outbound|80||web.demo.svc.cluster.local "
          "outbound|90||api.demo.svc.cluster.local outbound|90||web.demo.svc.cluster.local" },
        { ROUTES("hosts: [web], http: [{match: [{sourceNamespace: other}], route: [{destination: "
                 "{host: api}}]}]"),
          "outbound|80||web.demo.svc.cluster.local outbound|90||web.demo.svc.cluster.local" },
        { ROUTES("hosts: [web], http: [{route: [{destination: {host: api, port: {number: 7}}}]}]"),
          "outbound|80||web.demo.svc.cluster.local outbound|90||web.demo.svc.cluster.local" },
        { ROUTES("hosts: [api], http: [{route: [{destination: {host: "
                 "far.other.svc.cluster.local}}]}]"),
          "outbound|80||web.demo.svc.cluster.local outbound|90||web.demo.svc.cluster.local" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[4000];
        struct mz_outs o = { 0 };
        (void)snprintf(text, sizeof(text), "%s%s%s", SERVICES,
                       SIDECAR("{egress: [{hosts: ['./web.demo.svc.cluster.local']}]}"),
                       cases[i].documents);
        char want[1000];
        (void)snprintf(want, sizeof(want), "inbound|80|| inbound|90|| %s", cases[i].clusters);
        ask(text, "", MZ_XDS_CLUSTER, NULL, &o);
        assert_names(&o, want);
        o = (struct mz_outs){ 0 };
        ask(text, "", MZ_XDS_LISTENER, NULL, &o);
        assert_names(&o, "0.0.0.0_80 10.9.0.1_90");
    }
}

static void test_own_socket(void **state)
{
    (void)state;
    static const char documents[] =
        SERVICES SIDECAR("{egress: [{port: {number: 80, protocol: HTTP, name: http}, captureMode: "
                         "NONE, hosts: ['./*']}], ingress: "
                         "[{port: {number: 7, protocol: TCP, name: tcp}, captureMode: NONE, bind: "
                         "0.0.0.0, defaultEndpoint: '0.0.0.0:8'}], "
                         "inboundConnectionPool: {tcp: {maxConnections: 3}}}");
    struct mz_outs o = { 0 };
    ask(documents, "", MZ_XDS_LISTENER, NULL, &o);
    const pb_Listener *l = (const pb_Listener *)find(&o, MZ_XDS_LISTENER, "127.0.0.1_80");
    assert_null(l->bind_to_port); /* it does */
    l = (const pb_Listener *)find(&o, MZ_XDS_LISTENER, "0.0.0.0_7");
    assert_int_equal(l->n_filter_chains, 3);
    assert_names(&o, "0.0.0.0_7 127.0.0.1_80");
    o = (struct mz_outs){ 0 };
    ask(documents, "", MZ_XDS_CLUSTER, NULL, &o);
    const pb_Cluster *c = (const pb_Cluster *)find(&o, MZ_XDS_CLUSTER, "inbound|7||");
    assert_int_equal(c->type, pb_Cluster_DiscoveryType_STATIC);
    assert_string_equal(c->load_assignment->endpoints[0]
                            ->lb_endpoints[0]
                            ->endpoint->address->socket_address->address,
                        "10.1.0.9");
    assert_int_equal(c->circuit_breakers->thresholds[0]->max_connections->value, 3);
    mz_outs_fini(&o);
}

/* Services that nobody gave an address have one for proxies that answer DNS. */
static void test_automatic(void **state)
{
    (void)state;
    static const char documents[] = "---\napiVersion: networking.istio.io/v1\nkind: "
                                    "ServiceEntry\nmetadata: {name: e, namespace: demo}\n"
                                    "spec: {hosts: [db.example.com], resolution: DNS, ports: "
                                    "[{number: 5432, name: tcp, protocol: TCP}]}\n";
    char want[64];
    struct mz_outs o = { 0 };
    ask(documents, "", MZ_XDS_LISTENER, NULL, &o);
    assert_names(&o, "0.0.0.0_5432");
    o = (struct mz_outs){ 0 };
    ask(documents, ", DNS_CAPTURE: true", MZ_XDS_LISTENER, NULL, &o);
    (void)snprintf(want, sizeof(want), "%.*s_5432",
                   MZ_STR_ARG(mz_model_service(t.model, MZ_STR("db.example.com"))->automatic));
    assert_names(&o, want);
}

static void test_other_port(void **state)
{
    (void)state;
    static const char documents[] = "---\napiVersion: networking.istio.io/v1\nkind: "
                                    "ServiceEntry\nmetadata: {name: e, namespace: demo}\n"
                                    "spec: {hosts: ['*.example.com'], ports: [{number: 80, name: "
                                    "http, protocol: HTTP, targetPort: 8080}]}\n";
    struct mz_outs o = { 0 };
    ask(documents, "", MZ_XDS_CLUSTER, NULL, &o);
    const pb_Cluster *c =
        (const pb_Cluster *)find(&o, MZ_XDS_CLUSTER, "outbound|80||*.example.com");
    assert_int_equal(c->original_dst_lb_config->upstream_port_override->value, 8080);
    mz_outs_fini(&o);
}

static void assert_domains(const pb_VirtualHost *h, const char *want)
{
    char text[1000] = "";
    for (size_t i = 0; i < h->n_domains; i++) {
        const size_t at = strlen(text);
        (void)snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "", h->domains[i]);
    }
    assert_string_equal(text, want);
}

/* Both families, and a name that means another. */
static void test_names(void **state)
{
    (void)state;
    static const char documents[] =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: demo}\n"
        "spec: {clusterIP: 10.9.0.1, clusterIPs: [10.9.0.1, 'fd00::1'], ports: [{name: http, port: "
        "80}, {name: tcp, port: 90}]}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: also, namespace: demo}\n"
        "spec: {type: ExternalName, externalName: two.demo.svc.cluster.local}\n";
    static const char both[] = ", INSTANCE_IPS: '10.1.0.9,fd00::9', DNS_CAPTURE: 'true'";
    struct mz_outs o = { 0 };
    ask(documents, both, MZ_XDS_ROUTE, "80", &o);
    const pb_RouteConfiguration *r = (const pb_RouteConfiguration *)find(&o, MZ_XDS_ROUTE, "80");
    assert_domains(
        r->virtual_hosts[0],
        "two.demo.svc.cluster.local two.demo.svc.cluster.local. two two.demo.svc two.demo "
        "also.demo.svc.cluster.local also.demo.svc.cluster.local. also also.demo.svc also.demo "
        "10.9.0.1 [fd00::1]");
    mz_outs_fini(&o);
    o = (struct mz_outs){ 0 };
    ask(documents, both, MZ_XDS_LISTENER, NULL, &o);
    const pb_Listener *l = (const pb_Listener *)find(&o, MZ_XDS_LISTENER, "10.9.0.1_90");
    assert_string_equal(l->additional_addresses[0]->address->socket_address->address, "fd00::1");
    static const char *const wild[] = { "0.0.0.0_80", "virtualOutbound", "virtualInbound" };
    for (size_t i = 0; i < MZ_COUNT(wild); i++) {
        l = (const pb_Listener *)find(&o, MZ_XDS_LISTENER, wild[i]);
        assert_string_equal(l->additional_addresses[0]->address->socket_address->address, "::");
    }
    mz_outs_fini(&o);
    o = (struct mz_outs){ 0 };
    ask(documents, ", INSTANCE_IPS: 'fd00::9'", MZ_XDS_LISTENER, NULL, &o);
    assert_names(&o, "::_80 fd00::1_90");
    o = (struct mz_outs){ 0 };
    ask(documents, both, MZ_XDS_NAME_TABLE, NULL, &o);
    struct mz_proto_ctx ctx = { .arena = t.arena, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    assert_true(mz_msg_unpack(&ctx, o.v.v[0]->bytes, &ist_NameTable__descriptor, &m, &err));
    const ist_NameTable *names = (const ist_NameTable *)m;
    assert_int_equal(names->n_table, 1);
    assert_int_equal(names->table[0]->value->n_ips, 2);
    assert_string_equal(names->table[0]->value->shortname, "two");
    mz_outs_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ports_join, up, down),
        cmocka_unit_test_setup_teardown(test_destinations_are_reached, up, down),
        cmocka_unit_test_setup_teardown(test_own_socket, up, down),
        cmocka_unit_test_setup_teardown(test_automatic, up, down),
        cmocka_unit_test_setup_teardown(test_names, up, down),
        cmocka_unit_test_setup_teardown(test_other_port, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
