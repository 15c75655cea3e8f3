/*
 * A mesh of some hundred services in five namespaces, edited at random, document by document, over all kinds that shape what proxies
 * of services get: after each step every client has what a start from nothing would give it.
 */
#include "control/discovery/order_double.h"

enum {
    NAMESPACES = 5,
    SERVICES = 150,
    PODS = 30,
    RULES = 30,
    ROUTES = 40,
    ENTRIES = 8,
    REST = 19,
    OBJECTS = 2 * SERVICES + PODS + RULES + ROUTES + ENTRIES + REST,
    ROOM = 2000,
};
#define DOC(kind, api, name, ns)                                                                   \
    "apiVersion: " api "\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns
#define NETWORKING "networking.istio.io/v1"

static bool tame; /* nothing for which a model is built anew: the short way is gone nearly always */

/* Each writes one of its variants: which follows from the number alone. */
typedef void write_fn(char *out, unsigned i, unsigned variant);

/* Each '#' of @text is the next number. */
static void fill_in(char *out, const char *text, const unsigned *v)
{
    for (; *text; text++)
        if (*text == '#')
            out += snprintf(out, 11, "%u", *v++);
        else
            *out++ = *text;
    *out = 0;
}

static void service(char *out, unsigned i, unsigned v)
{
    static const char *const specs[] = {
        "clusterIP: 10.0.#.#, selector: {app: s#}, ports: [{name: http, port: 80}]",
        "clusterIP: 10.0.#.#, selector: {app: s#}, ports: [{name: http, port: 80}]",
        "clusterIP: 10.0.#.#, selector: {app: x#}, ports: [{name: http, port: 80}, {name: tcp, "
        "port: 9000}]",
        "clusterIP: 10.0.#.#, selector: {app: s#}, ports: [{name: grpc, port: 81}, {name: "
        "unknown, port: 82}]",
        "clusterIP: 10.0.#.#, selector: {app: s#}, ports: [{name: http, port: 80}], "
        "internalTrafficPolicy: Local",
    };
    static const char *const rare[] = {
        "clusterIP: None, ports: [{name: tcp, port: 9000}]",
        "type: ExternalName, externalName: s3.n3.svc.cluster.local",
        "clusterIP: 10.0.0.7, ports: [{name: http, port: 80}, {name: mongo, port: 9000}]",
        "ports: [{name: https, port: 443}, {name: http, port: 80}]",
        "clusterIP: None, ports: [{name: http, port: 80}]",
        "clusterIP: None, selector: {app: s1}, ports: [{name: tcp, port: 80}]",
    };
    const bool odd = v % 8 >= MZ_COUNT(specs) && !(tame && v % MZ_COUNT(rare) == 1);
    char spec[600];
    if (odd)
        (void)snprintf(spec, sizeof(spec), "%s", rare[v % MZ_COUNT(rare)]);
    else
        fill_in(spec, specs[v % 8 % MZ_COUNT(specs)],
                (const unsigned[]){ i / 200, i % 200 + 1, i });
    (void)snprintf(out, ROOM,
                   DOC("Service", "v1", "s%u",
                       "n%u") ", creationTimestamp: "
                              "'2026-01-0%uT00:00:00Z', labels: {app: s%u}%s}\nspec: {%s}\n",
                   i, i % NAMESPACES, 1 + i % 3, i,
                   v % 11 == 5   ? ", annotations: {networking.istio.io/exportTo: .}"
                   : v % 11 == 6 ? ", annotations: {networking.istio.io/exportTo: 'n1,n2'}"
                                 : "",
                   spec);
}

static void slice(char *out, unsigned i, unsigned v)
{
    char pod[80] = "", second[80] = "";
    if (v % 3 == 1)
        (void)snprintf(pod, sizeof(pod), ", targetRef: {kind: Pod, name: p%u}", v % PODS);
    if (v % 2)
        (void)snprintf(second, sizeof(second), ", {addresses: [10.2.%u.%u]}", v % 7, i % 250);
    (void)snprintf(
        out, ROOM,
        DOC("EndpointSlice", "discovery.k8s.io/v1", "e%u",
            "n%u") ", labels: {kubernetes.io/service-name: s%u}}\nendpoints: [{addresses: "
                   "[10.1.0.%u]%s}%s]\nports: [{name: http, port: 8080}, {name: tcp, port: 9090}, "
                   "{name: grpc, port: 8081}]\n",
        i, i % NAMESPACES, v % 13 == 7 ? i + NAMESPACES : i, v % 40, pod, second);
}

static void pod(char *out, unsigned i, unsigned v)
{
    (void)snprintf(
        out, ROOM,
        DOC("Pod", "v1", "p%u",
            "n%u") ", labels: {app: s%u, version: v%u, security.istio.io/tlsMode: %s}}\nspec: "
                   "{serviceAccountName: a%u, nodeName: node%u}\nstatus: {podIP: %s%u, phase: "
                   "%s}\n",
        i, i % NAMESPACES, i % 10, v % 3, v % 2 ? "istio" : "disabled", v % 4, v % 3,
        v % 9 == 8 ? "10.1.0." : "10.1.1.", v % 9 == 8 ? v % 40 : i,
        v % 10 == 9 ? "Failed" : "Running");
}

static void rule(char *out, unsigned i, unsigned v)
{
    static const char *const specs[] = {
        "host: s#, subsets: [{name: v1, labels: {version: v1}}]",
        "host: s#, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
        "host: s#, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: a}}}",
        "host: s#, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7, idleTimeout: 9s}}}",
        "host: s#, exportTo: ['.'], trafficPolicy: {tls: {mode: DISABLE}}",
        "host: s#, workloadSelector: {matchLabels: {app: s0}}, trafficPolicy: {loadBalancer: "
        "{simple: RANDOM}}",
        "host: '*.n2.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        "host: s#, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}",
        "host: s#, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}",
    };
    char spec[600];
    if (tame && v % MZ_COUNT(specs) >= 5)
        v -= 5;
    fill_in(spec, specs[v % MZ_COUNT(specs)], (const unsigned[]){ i, i });
    (void)snprintf(out, ROOM, DOC("DestinationRule", NETWORKING, "r%u", "n%u") "}\nspec: {%s}\n", i,
                   i % NAMESPACES, spec);
}

static void route(char *out, unsigned i, unsigned v)
{
    static const char *const specs[] = {
        "hosts: [s#], http: [{route: [{destination: {host: s#}}]}]",
        "hosts: [s#], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: s#, "
        "subset: v1}}]}, {timeout: 3s, route: [{destination: {host: s1.n1.svc.cluster.local}}]}]",
        "hosts: [s#], http: [{route: [{destination: {host: s#}, weight: 30}, {destination: "
        "{host: s2.n2.svc.cluster.local}, weight: 70}]}]",
        "hosts: [s#, s5.n0.svc.cluster.local], http: [{fault: {abort: {httpStatus: 503, "
        "percentage: {value: 1}}}, route: [{destination: {host: s#}}]}]",
        "hosts: [s#], tcp: [{route: [{destination: {host: s#, port: {number: 9000}}}]}]",
        "hosts: [s#], http: [{match: [{sourceLabels: {app: s0}}], route: [{destination: {host: "
        "s#}}]}]",
        "hosts: ['*.n1.svc.cluster.local'], http: [{timeout: 1#s, route: [{destination: {host: "
        "s#}}]}]",
        "hosts: [x#.example.com], http: [{route: [{destination: {host: s#}}]}]",
        "hosts: [s#], exportTo: ['.'], http: [{mirror: {host: s4.n4.svc.cluster.local}, route: "
        "[{destination: {host: s#}}]}]",
        "hosts: [s#], http: [{delegate: {name: d#}}]",
    };
    char spec[600];
    if (tame && (v % MZ_COUNT(specs) == 6 || v % MZ_COUNT(specs) == 9))
        v -= 6;
    const unsigned of = i % 20 + (v % 4 ? 0 : NAMESPACES); /* of some hosts there are two */
    fill_in(spec, specs[v % MZ_COUNT(specs)], (const unsigned[]){ of, (of + NAMESPACES) % 60 });
    (void)snprintf(
        out, ROOM,
        DOC("VirtualService", NETWORKING, "v%u", "n%u") ", creationTimestamp: "
                                                        "'2026-01-0%uT00:00:00Z'}\nspec: {%s}\n",
        i, i % NAMESPACES, 1 + i % 2, spec);
}

static void entry(char *out, unsigned i, unsigned v)
{
    static const char *const specs[] = {
        "hosts: [x#.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: "
        "HTTP}], endpoints: [{address: 1.1.1.1}]",
        "hosts: [x#.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: "
        "HTTP}, {number: 443, name: tls, protocol: TLS}]",
        "hosts: [s#], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], "
        "endpoints: [{address: 1.1.1.3}]",
        "hosts: [s#.n1.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, "
        "protocol: HTTP}], endpoints: [{address: 1.1.1.4}]",
        "hosts: [x#.example.com], resolution: STATIC, workloadSelector: {labels: {app: s1}}, "
        "ports: [{number: 90, name: tcp, protocol: TCP}]",
        "hosts: [x#.example.com], exportTo: ['.'], resolution: NONE, addresses: [10.0.0.9], "
        "ports: [{number: 80, name: http, protocol: HTTP}]",
    };
    char spec[600];
    fill_in(spec, specs[v % MZ_COUNT(specs)], (const unsigned[]){ i, i });
    (void)snprintf(out, ROOM, DOC("ServiceEntry", NETWORKING, "x%u", "n%u") "}\nspec: {%s}\n", i,
                   i % NAMESPACES, spec);
}

static void rest(char *out, unsigned i, unsigned v)
{
    static const char *const docs[REST][2] = {
        { DOC("Sidecar", NETWORKING, "s", "n2") "}\nspec: {egress: [{hosts: ['./*', 'n1/*']}]}\n",
          DOC("Sidecar", NETWORKING, "s", "n2") "}\nspec: {egress: [{hosts: ['*/*']}]}\n" },
        { DOC("Sidecar", NETWORKING, "s",
              "n3") "}\nspec: {workloadSelector: {labels: {app: s3}}, egress: [{port: {number: 80, "
                    "name: h, "
                    "protocol: HTTP}, hosts: ['n3/*']}, {hosts: ['./*']}]}\n",
          DOC("Sidecar", NETWORKING, "s", "n3") "}\nspec: {ingress: [{port: {number: 80, name: "
                                                "http, protocol: HTTP}, defaultEndpoint: "
                                                "'127.0.0.1:80'}]}\n" },
        { DOC("PeerAuthentication", "security.istio.io/v1", "m",
              "n1") "}\nspec: {mtls: {mode: STRICT}}\n",
          DOC("PeerAuthentication", "security.istio.io/v1", "m",
              "n1") "}\nspec: {mtls: {mode: DISABLE}}\n" },
        { DOC("AuthorizationPolicy", "security.istio.io/v1", "a",
              "n1") "}\nspec: {rules: [{from: [{source: {namespaces: [n0]}}]}]}\n",
          NULL },
        { DOC("Telemetry", "telemetry.istio.io/v1", "t",
              "n0") "}\nspec: {tracing: [{disableSpanReporting: true}]}\n",
          NULL },
        { DOC("Gateway", NETWORKING, "g", "n0") "}\nspec: {selector: {app: gw}, servers: [{port: "
                                                "{number: 8080, name: http, protocol: "
                                                "HTTP}, hosts: ['*']}]}\n",
          NULL },
        { DOC("VirtualService", NETWORKING, "g",
              "n0") "}\nspec: {hosts: ['*'], gateways: [g], http: [{route: [{destination: {host: "
                    "s0}}]}]}\n",
          DOC("VirtualService", NETWORKING, "g",
              "n0") "}\nspec: {hosts: [s0], gateways: [g, mesh], http: [{route: [{destination: "
                    "{host: "
                    "s10}}]}]}\n" },
        { DOC("VirtualService", NETWORKING, "d0",
              "n0") "}\nspec: {http: [{route: [{destination: {host: s0}}]}]}\n",
          DOC("VirtualService", NETWORKING, "d0",
              "n0") "}\nspec: {http: [{timeout: 2s, route: [{destination: {host: s5}}]}]}\n" },
        { DOC("EnvoyFilter", "networking.istio.io/v1alpha3", "f",
              "n4") "}\nspec: {configPatches: [{applyTo: CLUSTER, match: {context: "
                    "SIDECAR_OUTBOUND}, patch: "
                    "{operation: MERGE, value: {connect_timeout: 7s}}}]}\n",
          NULL },
        { "apiVersion: v1\nkind: Node\nmetadata: {name: node1, labels: "
          "{topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}\n",
          "apiVersion: v1\nkind: Node\nmetadata: {name: node1, labels: "
          "{topology.kubernetes.io/region: r2}}\n" },
        { "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1, annotations: "
          "{networking.istio.io/traffic-distribution: PreferClose}}\n",
          "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1}\n" },
        { DOC("WorkloadEntry", NETWORKING, "w",
              "n1") "}\nspec: {address: 1.1.1.2, labels: {app: s1}}\n",
          NULL },
        { DOC("HTTPRoute", "gateway.networking.k8s.io/v1", "h",
              "n0") "}\nspec: {parentRefs: [{group: '', kind: Service, name: s0}], rules: "
                    "[{backendRefs: "
                    "[{name: s5, port: 80}]}]}\n",
          NULL },
        { DOC("AuthorizationPolicy", "security.istio.io/v1", "b",
              "n0") "}\nspec: {selector: {matchLabels: {app: s0}}, rules: [{to: [{operation: "
                    "{paths: "
                    "[/a]}}]}]}\n",
          DOC("AuthorizationPolicy", "security.istio.io/v1", "b",
              "n0") "}\nspec: {selector: {matchLabels: {app: s5}}, action: DENY, rules: [{to: "
                    "[{operation: "
                    "{paths: [/a]}}]}]}\n" },
        { DOC("PeerAuthentication", "security.istio.io/v1", "p",
              "n0") "}\nspec: {selector: {matchLabels: {app: s5}}, mtls: {mode: STRICT}, "
                    "portLevelMtls: {80: "
                    "{mode: DISABLE}}}\n",
          NULL },
        { DOC("Telemetry", "telemetry.istio.io/v1", "u",
              "n0") "}\nspec: {selector: {matchLabels: {app: s0}}, metrics: [{overrides: [{match: "
                    "{metric: "
                    "REQUEST_COUNT}, disabled: true}], providers: [{name: prometheus}]}]}\n",
          NULL },
        { DOC("RequestAuthentication", "security.istio.io/v1", "j",
              "n0") "}\nspec: {jwtRules: [{issuer: a, jwksUri: 'https://a.b/c'}]}\n",
          NULL },
        { DOC("WasmPlugin", "extensions.istio.io/v1alpha1", "w",
              "n0") "}\nspec: {selector: {matchLabels: {app: s0}}, url: 'file:///a.wasm'}\n",
          NULL },
        { DOC("Endpoints", "v1", "s7", "n2") "}\nsubsets: [{addresses: [{ip: 10.1.0.8}], ports: "
                                             "[{name: http, port: 8080}]}]\n",
          NULL },
    };
    const char *one = docs[i][v % 2] ? docs[i][v % 2] : docs[i][0];
    (void)snprintf(out, ROOM, "%s", one);
}

static const struct {
    write_fn *write;
    unsigned n, often; /* of a hundred */
    bool seldom;       /* mostly not there */
} classes[] = {
    { service, SERVICES, 30, false }, { slice, SERVICES, 15, false }, { pod, PODS, 15, false },
    { rule, RULES, 14, false },       { route, ROUTES, 18, false },   { entry, ENTRIES, 3, true },
    { rest, REST, 5, true },
};
static int at[OBJECTS]; /* which variant; -1: not there */

static void text_of(char *out, unsigned object, unsigned variant)
{
    unsigned k = 0;
    for (; object >= classes[k].n; k++)
        object -= classes[k].n;
    classes[k].write(out, object, variant);
}

static unsigned steps; /* that were taken ahead */

static void set(unsigned object, int to)
{
    char text[ROOM];
    if (to >= 0) {
        text_of(text, object, (unsigned)to);
        put(order.store, text);
    } else if (at[object] >= 0) {
        text_of(text, object, (unsigned)at[object]);
        take_away(text);
    }
    at[object] = to;
}

static void change_one(void)
{
    unsigned dice = random_below(100), k = 0, first = 0;
    for (; dice >= classes[k].often; k++) {
        dice -= classes[k].often;
        first += classes[k].n;
    }
    if (tame && classes[k].seldom)
        k = first = 0;
    const unsigned few = classes[k].n < 40 ? classes[k].n : 40; /* these change again and again */
    const unsigned object =
        first + (random_below(4) ? random_below(few) : random_below(classes[k].n));
    const bool gone = random_below(10) < (classes[k].seldom ? 6 : 3);
    set(object, gone ? -1 : (int)random_below(1000));
}

static struct mz_store *documents(void)
{
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    char text[ROOM];
    for (unsigned i = OBJECTS; i--;) /* another order */
        if (at[i] >= 0) {
            text_of(text, i, (unsigned)at[i]);
            put(s, text);
        }
    return s;
}

static void fill(void)
{
    memset(at, -1, sizeof(at));
    for (unsigned i = 0; i < SERVICES; i++) {
        set(i, i % 7 ? 0 : (int)i);
        set(SERVICES + i, 0);
    }
    for (unsigned i = 0; i < PODS; i++)
        set(2 * SERVICES + i, 1);
    tell();
}

static const char *const clusters[] = {
    "outbound|80||s0.n0.svc.cluster.local",
    "outbound|80|v1|s0.n0.svc.cluster.local",
    "outbound|80||s1.n1.svc.cluster.local",
    "outbound|80|v1|s1.n1.svc.cluster.local",
    "outbound|80||s2.n2.svc.cluster.local",
    "outbound|80|v2|s2.n2.svc.cluster.local",
    "outbound|9000||s3.n3.svc.cluster.local",
    "outbound|80||s3.n3.svc.cluster.local",
    "outbound|81||s4.n4.svc.cluster.local",
    "outbound|80||s7.n2.svc.cluster.local",
    "outbound|80||x1.example.com",
    "outbound|90||x2.example.com",
    "outbound|80||s5.n0.svc.cluster.local",
    "outbound|80||s6.n1.svc.cluster.local",
    "outbound|80||s149.n4.svc.cluster.local",
    NULL,
};
static const char *const routes[] = {
    "80", "81", "82", "9000", "s3.n3.svc.cluster.local:82", "s8.n3.svc.cluster.local:82", NULL
};
static const char *const gateway_routes[] = { "http.8080", NULL };
#define SIDECAR(ip, ns, more)                                                                      \
    "{id: sidecar~" ip "~p0." ns "~" ns ".svc.cluster.local, metadata: {" more "}}"

/* What is not taken changes nothing: each variant is a document. */
static void test_documents(void **state)
{
    (void)state;
    char text[ROOM];
    for (unsigned i = 0; i < OBJECTS; i += i % SERVICES < 10 || i >= 2 * SERVICES ? 1 : 10)
        for (unsigned variant = 0; variant < 20; variant++) {
            struct mz_store *s = mz_store_create(double_nothing, NULL);
            size_t all = 0, n;
            text_of(text, i, variant);
            put(s, text);
            for (unsigned k = 0; k < MZ_KIND__COUNT; k++, all += n)
                (void)mz_store_list(s, (enum mz_kind)k, &n);
            if (all != 1)
                fail_msg("%zu documents: %s", all, text);
            mz_store_destroy(s);
        }
}

static void go_ahead(struct order_client *c)
{
    for (unsigned i = random_below(random_below(3) ? 4 : 12); i > 0; i--)
        steps += mz_peer_ahead(c->peer);
}

/* Somebody new, for whom routes and endpoints are made ahead, more or less of them, while documents change or not. */
static void visit(void)
{
    static const char *const nodes[] = {
        SIDECAR("10.9.1.0", "n0", ""), SIDECAR("10.9.1.1", "n1", ""), SIDECAR("10.9.1.2", "n2", ""),
        SIDECAR("10.9.1.3", "n3", ""), SIDECAR("10.9.1.4", "n5", "LABELS: {app: s2}")
    };
    struct order_client *c =
        come(random_below(2), (struct order_who){ nodes[random_below(MZ_COUNT(nodes))], clusters,
                                                  routes, NULL, NULL });
    subscribe(c, 0, 1);
    go_ahead(c);
    for (unsigned i = random_below(3); i > 0; i--) {
        change_one();
        tell();
        if (random_below(2))
            go_ahead(c);
    }
    subscribe(c, 1, MZ_COUNT(order_types));
}

static void test_edits(void **state)
{
    (void)state;
    unsigned patched = 0;
    const char *more = getenv("EDITS_SEEDS"); /* of one thread */
    const uint64_t seeds = more ? strtoull(more, NULL, 10) : 2;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        begin(seed);
        tame = seed % 2;
        fill();
        join_client(true, (struct order_who){ SIDECAR("10.1.1.0", "n0", "LABELS: {app: s0}"),
                                              clusters, routes, NULL, NULL });
        join_client(false, (struct order_who){ SIDECAR("10.1.0.3", "n0", "LABELS: {app: s5}"),
                                               clusters, routes, NULL, NULL });
        join_client(true, (struct order_who){
                              SIDECAR("10.9.0.2", "n1", "DNS_CAPTURE: true, NODE_NAME: node1"),
                              clusters, routes, NULL, NULL });
        join_client(false, (struct order_who){ SIDECAR("10.9.0.3", "n2", "LABELS: {app: s2}"),
                                               clusters, routes, NULL, NULL });
        join_client(true, (struct order_who){ SIDECAR("10.9.0.4", "n3", "LABELS: {app: s3}"),
                                              clusters, routes, NULL, NULL });
        join_client(true, (struct order_who){ SIDECAR("10.1.0.0", "n4", ""), clusters, routes, NULL,
                                              NULL });
        join_client(
            true,
            (struct order_who){
                "{id: router~10.9.0.6~g.n0~n0.svc.cluster.local, metadata: {LABELS: {app: gw}}}",
                clusters, gateway_routes, NULL, NULL });
        for (unsigned round = 0; round < 50; round++) {
            for (unsigned i = 0; i <= random_below(3); i++)
                change_one();
            tell();
            patched += order.model->on != 0;
            visit();
            check(documents(), (unsigned)seed * 1000 + round);
            leave();
        }
        end();
    }
    assert_true(patched > 20 * seeds); /* the short way was gone, too */
    assert_true(steps > 100 * seeds);
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_documents),
                                        cmocka_unit_test(test_edits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
