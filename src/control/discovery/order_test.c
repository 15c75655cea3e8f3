/*
 * Whatever comes in whatever order: models that stand on each other, caches, and what clients of both variants were sent piece by
 * piece end in the same bytes as a start from nothing with the documents of the end.
 */
#include "control/discovery/order_double.h"

#define ITEM(kind, api, name, ns, rest)                                                            \
    "apiVersion: " api "\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns "}\n" rest "\n"
#define SERVICE(name, spec)     ITEM("Service", "v1", name, "demo", "spec: " spec)
#define ISTIO(kind, name, spec) ITEM(kind, "networking.istio.io/v1", name, "demo", "spec: " spec)
#define GATEWAY_API             "gateway.networking.k8s.io/v1"
#define ROUTE(name, parent, rule)                                                                  \
    ITEM("HTTPRoute", GATEWAY_API, name, "demo",                                                   \
         "spec: {parentRefs: [" parent "], rules: [" rule "]}")
#define SLICE(name, of, rest)                                                                      \
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name                 \
    ", namespace: demo, labels: {kubernetes.io/service-name: " of "}}\n" rest "\n"
#define ENDPOINTS(name, of, list)                                                                  \
    SLICE(name, of,                                                                                \
          "endpoints: [" list "]\nports: [{name: http, port: 8080}, {name: tcp, port: 9090}]")
#define POD(name, account, labels)                                                                 \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: demo, labels: {" labels      \
    "}}\nspec: {serviceAccountName: " account "}\nstatus: {podIP: 10.1.0.7, phase: Running}\n"

#define BARE(name, more)                                                                           \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name                                            \
    ", namespace: demo, labels: {app: bare}}\n"                                                    \
    "spec: {containers: [{ports: [{name: main, containerPort: 8081}]}]}\n"                         \
    "status: {phase: Running, " more "}\n"
#define EDGE_POD(app)                                                                              \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: e, namespace: demo, labels: {app: " app           \
    "}}\nspec: {serviceAccountName: e, containers: [{ports: [{name: tls, containerPort: "          \
    "443}]}]}\n"                                                                                   \
    "status: {podIP: 10.1.0.20, phase: Running}\n"
#define GATEWAY(listeners) "spec: {gatewayClassName: istio, listeners: [" listeners "]}"
#define HTTPS(secret)                                                                              \
    "{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: " secret "}]}}"

enum { VARIANTS = 4 };
/* One object a line: it is one of these at a time, or not there (NULL, and what is left out). */
static const char *const objects[][VARIANTS] = {
    { SERVICE("api", "{clusterIP: 10.9.0.1, ports: [{name: http, port: 80}]}"),
      SERVICE("api",
              "{clusterIP: 10.9.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}") },
    { SERVICE("web",
              "{clusterIP: 10.9.0.2, selector: {app: web}, ports: [{name: http, port: 80}]}"),
      SERVICE("web", "{clusterIP: None, ports: [{name: tcp, port: 90}]}"),
      SERVICE("web", "{type: ExternalName, externalName: api.demo.svc.cluster.local}") },
    { ENDPOINTS("api-1", "api", "{addresses: [10.1.0.1]}"),
      ENDPOINTS("api-1", "api", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}"),
      ENDPOINTS("api-1", "api",
                "{addresses: [10.1.0.2], conditions: {ready: false, terminating: false}}"),
      ENDPOINTS("api-1", "web", "{addresses: [10.1.0.3]}") },
    { ENDPOINTS("api-2", "api", "{addresses: [10.1.0.4]}"),
      ENDPOINTS("api-2", "api", "{addresses: [10.1.0.7], targetRef: {kind: Pod, name: p}}") },
    { ENDPOINTS("web-1", "web", "{addresses: [10.1.0.5]}"),
      ENDPOINTS("web-1", "web", "{addresses: [10.1.0.6]}") },
    { POD("p", "a", "app: web"), POD("p", "b", "app: web, security.istio.io/tlsMode: istio") },
    /* endpoints of pods, an address of ours */
    { SERVICE("bare", "{selector: {app: bare}, ports: [{name: http, port: 80, targetPort: main}]}"),
      SERVICE("bare",
              "{clusterIP: 10.9.0.3, publishNotReadyAddresses: true, selector: {app: bare}, "
              "ports: [{name: http, port: 80, targetPort: main}]}"),
      SERVICE("bare", "{clusterIP: None, selector: {app: bare}, ports: [{name: tcp, port: 90}]}") },
    { BARE("q", "podIP: 10.1.0.20, conditions: [{type: Ready, status: 'True'}]"),
      BARE("q", "podIP: 10.1.0.20, conditions: [{type: Ready, status: 'False'}]"),
      BARE("q", "podIP: 10.1.0.21, conditions: [{type: Ready, status: 'True'}]") },
    { BARE("r", "podIP: 10.1.0.22, conditions: [{type: Ready, status: 'True'}]"),
      BARE("r", "podIP: 10.1.0.22, conditions: [{type: Ready, status: 'False'}]") },
    { ENDPOINTS("bare-1", "bare", "{addresses: [10.1.0.23]}") },
    { ITEM("Endpoints", "v1", "api", "demo",
           "subsets: [{addresses: [{ip: 10.1.0.8}], ports: [{name: http, port: 8080}]}]") },
    { ISTIO(
          "ServiceEntry", "e",
          "{hosts: [x.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: "
          "HTTP}], endpoints: [{address: 1.1.1.1}]}"),
      ISTIO(
          "ServiceEntry", "e",
          "{hosts: [api.demo.svc.cluster.local], resolution: DNS, ports: [{number: 80, name: http, "
          "protocol: HTTP}]}"),
      ISTIO("ServiceEntry", "e",
            "{hosts: [x.example.com], resolution: STATIC, workloadSelector: {labels: {app: web}}, "
            "ports: [{number: 90, name: tcp, protocol: TCP}]}") },
    { ISTIO("WorkloadEntry", "w", "{address: 1.1.1.2, labels: {app: web}}") },
    { ISTIO("DestinationRule", "r", "{host: api, subsets: [{name: v1}]}"),
      ISTIO("DestinationRule", "r",
            "{host: api, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}") },
    { ISTIO("Sidecar", "s", "{egress: [{hosts: ['./api.demo.svc.cluster.local']}]}"),
      ISTIO("Sidecar", "s", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}") },
    { ROUTE("h", "{group: '', kind: Service, name: api}", "{backendRefs: [{name: web, port: 80}]}"),
      ROUTE("h", "{group: '', kind: Service, name: api, port: 80}",
            "{matches: [{path: {value: /a}}], backendRefs: [{name: api, port: 80}]}") },
    { ROUTE("i", "{group: '', kind: Service, name: api}",
            "{matches: [{path: {value: /a/b}}], filters: [{type: RequestMirror, requestMirror: "
            "{backendRef: {name: web, port: 80}}}], backendRefs: [{name: api, port: 80}]}"),
      ROUTE("i", "{group: networking.istio.io, kind: ServiceEntry, name: e}",
            "{backendRefs: [{name: api, namespace: other, port: 80}]}") },
    { ITEM(
        "BackendTLSPolicy", GATEWAY_API, "b", "demo",
        "spec: {targetRefs: [{group: '', kind: Service, name: api}], validation: {hostname: a.b, "
        "wellKnownCACertificates: System}}") },
    { ITEM("Gateway", GATEWAY_API, "g", "demo", GATEWAY("{name: a, port: 80, protocol: HTTP}")),
      ITEM("Gateway", GATEWAY_API, "g", "demo",
           GATEWAY("{name: a, port: 80, protocol: HTTP, hostname: x.com}, " HTTPS("c"))),
      ITEM("Gateway", GATEWAY_API, "g", "demo", GATEWAY(HTTPS("far, namespace: other"))) },
    { SERVICE("g-istio", "{clusterIP: 10.9.0.4, selector: {app: edge}, ports: [{name: http, port: "
                         "80}, {name: tls, port: 443}]}"),
      SERVICE("g-istio", "{clusterIP: 10.9.0.4, selector: {app: edge}, ports: [{name: http, port: "
                         "80, targetPort: 8080}]}") },
    { ITEM("ReferenceGrant", GATEWAY_API, "r", "other",
           "spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: demo}], to: "
           "[{group: '', kind: Secret}]}") },
    { ITEM("ListenerSet", GATEWAY_API, "l", "demo",
           "spec: {parentRef: {name: g}, listeners: [" HTTPS("c") "]}") },
    { ROUTE("j", "{name: g}", "{backendRefs: [{name: api, port: 80}]}"),
      ROUTE("j", "{name: g, sectionName: s}", "{backendRefs: [{name: web, port: 80}]}") },
    { ISTIO("Gateway", "old",
            "{selector: {app: edge}, servers: [{port: {number: 443, name: t, protocol: HTTPS}, "
            "hosts: ['*'], tls: {mode: MUTUAL, credentialName: c}}]}"),
      ISTIO("Gateway", "old",
            "{selector: {app: edge}, servers: [{port: {number: 443, name: t, protocol: HTTPS}, "
            "hosts: ['*'], tls: {mode: SIMPLE, credentialName: "
            "'kubernetes-gateway://other/far'}}]}") },
    { ISTIO("VirtualService", "v",
            "{hosts: ['*'], gateways: [old], http: [{route: [{destination: {host: api}}]}]}"),
      ISTIO("VirtualService", "v",
            "{hosts: [api], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: "
            "web}}]}, {route: [{destination: {host: api}}]}]}") },
    { ITEM("Ingress", "networking.k8s.io/v1", "n", "demo",
           "spec: {ingressClassName: istio, rules: [{host: n.com, http: {paths: [{path: /, "
           "pathType: "
           "Prefix, backend: {service: {name: api, port: {number: 80}}}}]}}]}"),
      ITEM("Ingress", "networking.k8s.io/v1", "n", "demo",
           "spec: {ingressClassName: istio, tls: [{hosts: [n.com], secretName: c}], rules: [{http: "
           "{paths: [{path: /a, pathType: Exact, backend: {service: {name: web, port: {number: "
           "90}}}}]}}]}") },
    { ITEM("Secret", "v1", "c", "demo", "data: {tls.crt: $CERT, tls.key: $KEY}"),
      ITEM("Secret", "v1", "c", "demo", "data: {cert: $CERT, key: $KEY, cacert: $CERT}"),
      ITEM("Secret", "v1", "c", "demo", "data: {tls.crt: $CERT, tls.key: $OTHER}"),
      ITEM("Secret", "v1", "c", "demo", "data: {}") },
    { ITEM("Secret", "v1", "c-cacert", "demo", "data: {ca.crt: $CERT}") },
    { ITEM("Secret", "v1", "far", "other", "data: {tls.crt: $CERT, tls.key: $KEY}"),
      ITEM("Secret", "v1", "far", "other",
           "data: {tls.crt: $CERT, tls.key: $KEY, tls.ocsp-staple: $JUNK}") },
    { ITEM("ConfigMap", "v1", "m", "demo", "data: {ca.crt: $JUNK}"),
      ITEM("ConfigMap", "v1", "m", "demo", "data: {other: x}") },
    { ISTIO("WorkloadGroup", "wg",
            "{metadata: {labels: {app: web}}, template: {serviceAccount: a, ports: {http: 1}}}"),
      ISTIO("WorkloadGroup", "wg",
            "{metadata: {labels: {app: edge}}, template: {serviceAccount: b}}") },
    { EDGE_POD("edge"), EDGE_POD("other") },
    { ITEM("PeerAuthentication", "security.istio.io/v1", "m", "demo",
           "spec: {mtls: {mode: DISABLE}}") },
};
#define NAMES(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
static int at[MZ_COUNT(objects)]; /* which variant; -1: not there */

static void change_one(void)
{
    const unsigned i = random_below(MZ_COUNT(objects));
    const int to = (int)random_below(VARIANTS + 1) - 1;
    const char *now = at[i] < 0 ? NULL : objects[i][at[i]], *next = to < 0 ? NULL : objects[i][to];
    if (now && !next) /* its key is that of any variant */
        take_away(now);
    if (next)
        put(order.store, next);
    at[i] = next ? to : -1;
}

static struct mz_store *documents(void)
{
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    for (size_t i = MZ_COUNT(objects); i--;) /* another order */
        if (at[i] >= 0)
            put(s, objects[i][at[i]]);
    return s;
}

static const struct order_who sidecar = {
    .node = "{id: sidecar~10.1.0.7~p.demo~demo.svc.cluster.local, metadata: {DNS_CAPTURE: true}}",
    .account = "a",
    .clusters =
        NAMES("outbound|80|v1|api.demo.svc.cluster.local",
              "outbound|80||api.demo.svc.cluster.local", "outbound|80||web.demo.svc.cluster.local",
              "outbound|80||x.example.com", "outbound|80||bare.demo.svc.cluster.local",
              "outbound|90||bare.demo.svc.cluster.local", "outbound|90||api.demo.svc.cluster.local",
              "outbound|90||web.demo.svc.cluster.local", "outbound|90||x.example.com"),
    .routes = NAMES("80", "api.demo.svc.cluster.local:80"),
    .secrets = NAMES("configmap://demo/m-cacert", "kubernetes-gateway://other/far",
                     "kubernetes://c-cacert", "kubernetes://other/far")
};
static const struct order_who gateway = {
    .node = "{id: router~10.1.0.20~e.demo~demo.svc.cluster.local, metadata: {LABELS: {app: edge}}}",
    .account = "g-istio",
    .clusters =
        NAMES("outbound|80||api.demo.svc.cluster.local", "outbound|90||web.demo.svc.cluster.local"),
    .routes =
        NAMES("http.80", "http.8080", "https.443.default.g~istio-autogenerated-k8s-gateway~s.demo",
              "https.443.default.l~istio-autogenerated-k8s-gateway~s.demo", "https.443.t.old.demo"),
    .secrets = NAMES("kubernetes-gateway://demo/c", "kubernetes-gateway://other/far",
                     "kubernetes://c", "kubernetes://c-cacert", "kubernetes://none")
};
static void test_any_order(void **state)
{
    (void)state;
    unsigned patched = 0, secrets = 0;
    struct mz_err err;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        memset(at, -1, sizeof(at));
        begin(seed);
        order.ips = mz_service_ips_create(ORDER_RANGE, &err);
        for (unsigned delta = 0; delta < 2; delta++) {
            join_client(delta, sidecar);
            join_client(delta, gateway);
        }
        for (unsigned round = 0; round < 60; round++) {
            for (unsigned i = 0; i <= random_below(3); i++)
                change_one();
            tell();
            patched += order.model->on != 0;
            check(documents(), (unsigned)seed * 1000 + round);
        }
        secrets += order.secrets;
        end();
    }
    assert_true(secrets > 200);
    assert_true(patched > 20); /* the short way was gone, too */
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_any_order) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
