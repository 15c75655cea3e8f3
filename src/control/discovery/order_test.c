/*
 * Whatever comes in whatever order: models that stand on each other, caches, and what clients of both variants were sent piece by
 * piece end in the same bytes as a start from nothing with the documents of the end.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/discovery/peer_double.h"
#include "control/model/secret_double.h"
#include "control/model/service_ips.h"

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
enum { NAMES = 12, CLIENTS = 4 };
static const enum mz_xds_type order[] = { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT, MZ_XDS_LISTENER,
                                          MZ_XDS_ROUTE,   MZ_XDS_SECRET,   MZ_XDS_NAME_TABLE };
/* A sidecar and a gateway, and what they ask for by name. */
static const struct who {
    const char *node, *account;
    const char *names[MZ_XDS_TYPE__COUNT][NAMES];
} whos[] = {
    { "{id: sidecar~10.1.0.7~p.demo~demo.svc.cluster.local, metadata: {DNS_CAPTURE: true}}",
      "a",
      { [MZ_XDS_ENDPOINT] = { "outbound|80|v1|api.demo.svc.cluster.local",
                              "outbound|80||api.demo.svc.cluster.local",
                              "outbound|80||web.demo.svc.cluster.local",
                              "outbound|80||x.example.com",
                              "outbound|90||api.demo.svc.cluster.local",
                              "outbound|90||web.demo.svc.cluster.local",
                              "outbound|90||x.example.com" },
        [MZ_XDS_ROUTE] = { "80", "api.demo.svc.cluster.local:80" },
        [MZ_XDS_SECRET] = { "configmap://demo/m-cacert", "kubernetes-gateway://other/far",
                            "kubernetes://c-cacert", "kubernetes://other/far" } } },
    { "{id: router~10.1.0.20~e.demo~demo.svc.cluster.local, metadata: {LABELS: {app: edge}}}",
      "g-istio",
      { [MZ_XDS_ENDPOINT] = { "outbound|80||api.demo.svc.cluster.local",
                              "outbound|90||web.demo.svc.cluster.local" },
        [MZ_XDS_ROUTE] = { "http.80", "http.8080",
                           "https.443.default.g~istio-autogenerated-k8s-gateway~s.demo",
                           "https.443.default.l~istio-autogenerated-k8s-gateway~s.demo",
                           "https.443.t.old.demo" },
        [MZ_XDS_SECRET] = { "kubernetes-gateway://demo/c", "kubernetes-gateway://other/far",
                            "kubernetes://c", "kubernetes://c-cacert", "kubernetes://none" } } },
};

struct client {
    const struct who *who;
    bool delta;
    struct mz_peer *peer;
    struct mz_map
        has[MZ_XDS_TYPE__COUNT]; /* name to struct mz_out, as the client made it of what came */
    bool pending[MZ_XDS_TYPE__COUNT];
    char nonce[MZ_XDS_TYPE__COUNT][32];
};
static struct {
    struct mz_store *store;
    struct mz_service_ips *ips;
    struct mz_model *model;
    struct mz_translator *translator;
    struct mz_bundles *bundles;
    struct client clients[CLIENTS];
    struct secret_double pems;
    unsigned secrets;          /* that were to be had, over all rounds */
    int at[MZ_COUNT(objects)]; /* -1: not there */
    uint64_t seed;
} t;

static unsigned random_below(unsigned n)
{
    t.seed = t.seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(t.seed >> 33) % n;
}

/* ---- clients ---- */

static size_t asked(const struct who *w, enum mz_xds_type type, char *out[NAMES])
{
    const char *const *v = w->names[type];
    size_t n = 0;
    for (; v[n]; n++)
        out[n] = (char *)(uintptr_t)v[n];
    return n;
}

static void drop(struct mz_map *m, struct mz_str name)
{
    mz_out_unref(mz_map_del(m, name));
}

static void keep(struct mz_map *m, struct mz_str name, const pb_Any *any)
{
    const struct mz_str bytes = { (const char *)any->value.data, any->value.len };
    pb_Any whole = pb_Any__INIT; /* any message will do to hold the bytes */
    whole.value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    struct mz_out *o = mz_out_create(name, &whole.base);
    drop(m, name);
    (void)mz_map_put(m, o->name, o);
}

static struct mz_str name_in(enum mz_xds_type type, const pb_Any *any, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .unchecked = true, .partial = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m;
    if (type == MZ_XDS_NAME_TABLE)
        return MZ_STR("");
    assert_true(mz_msg_unpack(&ctx,
                              (struct mz_str){ (const char *)any->value.data, any->value.len },
                              mz_translate_descriptor(type), &m, &err));
    return mz_str_c(type == MZ_XDS_CLUSTER    ? ((pb_Cluster *)m)->name
                    : type == MZ_XDS_ENDPOINT ? ((pb_ClusterLoadAssignment *)m)->cluster_name
                    : type == MZ_XDS_LISTENER ? ((pb_Listener *)m)->name
                    : type == MZ_XDS_SECRET   ? ((pb_Secret *)m)->name
                                              : ((pb_RouteConfiguration *)m)->name);
}

static void clear(struct mz_map *m)
{
    mz_map_foreach (it, m)
        mz_out_unref(it->value);
    mz_map_fini(m);
    mz_map_init(m, MZ_MEM_XDS);
}

static bool is_named(enum mz_xds_type type)
{
    return type == MZ_XDS_ENDPOINT || type == MZ_XDS_ROUTE || type == MZ_XDS_SECRET;
}

static bool on_send(void *arg, struct mz_buf *response)
{
    struct client *c = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .unchecked = true };
    struct mz_err err;
    ProtobufCMessage *m;
    assert_true(mz_msg_unpack(&ctx, mz_buf_linearize(response, mz_buf_len(response)),
                              c->delta ? &pb_DeltaDiscoveryResponse__descriptor
                                       : &pb_DiscoveryResponse__descriptor,
                              &m, &err));
    const pb_DiscoveryResponse *s = (const pb_DiscoveryResponse *)m;
    const pb_DeltaDiscoveryResponse *d = (const pb_DeltaDiscoveryResponse *)m;
    const enum mz_xds_type type = mz_translate_type(mz_str_c(c->delta ? d->type_url : s->type_url));
    if (!c->delta && !is_named(type))
        clear(&c->has[type]);
    for (size_t i = 0; !c->delta && i < s->n_resources; i++)
        keep(&c->has[type], name_in(type, s->resources[i], a), s->resources[i]);
    for (size_t i = 0; c->delta && i < d->n_resources; i++)
        keep(&c->has[type], mz_str_c(d->resources[i]->name), d->resources[i]->resource);
    for (size_t i = 0; c->delta && i < d->n_removed_resources; i++)
        drop(&c->has[type], mz_str_c(d->removed_resources[i]));
    c->pending[type] = true;
    (void)snprintf(c->nonce[type], sizeof(c->nonce[type]), "%s", c->delta ? d->nonce : s->nonce);
    mz_arena_destroy(a);
    return true;
}

static void request(struct client *c, enum mz_xds_type type, bool first)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *node;
    char *url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                   mz_translate_descriptor(type)->name)
                    .p;
    pb_DiscoveryRequest s = pb_DiscoveryRequest__INIT;
    pb_DeltaDiscoveryRequest d = pb_DeltaDiscoveryRequest__INIT;
    assert_true(mz_msg_from_text(&ctx, mz_str_c(c->who->node), MZ_TEXT_YAML, &pb_Node__descriptor,
                                 &node, &err));
    s.type_url = d.type_url = url;
    s.node = d.node = first ? (pb_Node *)node : NULL;
    s.response_nonce = d.response_nonce = c->nonce[type];
    char *names[NAMES];
    s.resource_names = d.resource_names_subscribe = names;
    s.n_resource_names = asked(c->who, type, names);
    d.n_resource_names_subscribe = first ? s.n_resource_names : 0;
    c->pending[type] = false;
    if (!mz_peer_request(c->peer, c->delta ? &d.base : &s.base, &err))
        fail_msg("%s", err.msg);
    mz_arena_destroy(a);
}

/* Acknowledges until nothing comes any more. */
static void settle(struct client *c)
{
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < MZ_COUNT(order); i++)
            if (c->pending[order[i]]) {
                request(c, order[i], false);
                again = true;
            }
    }
}

/* ---- documents ---- */

static void put(struct mz_store *s, const char *text)
{
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    mz_doc_read_text(&r, secret_double_fill(&t.pems, text), MZ_TEXT_YAML);
}

static void change_one(void)
{
    const unsigned i = random_below(MZ_COUNT(objects));
    const int to = (int)random_below(VARIANTS + 1) - 1;
    const char *now = t.at[i] < 0 ? NULL : objects[i][t.at[i]],
               *next = to < 0 ? NULL : objects[i][to];
    if (now && !next) { /* its key is that of any variant */
        struct mz_store *s = mz_store_create(double_nothing, NULL);
        put(s, now);
        for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
            size_t n;
            const struct mz_doc *const *v = mz_store_list(s, (enum mz_kind)k, &n);
            if (n)
                mz_store_remove(t.store, v[0]->key);
        }
        mz_store_destroy(s);
    }
    if (next)
        put(t.store, next);
    t.at[i] = next ? to : -1;
}

static void tell(void)
{
    const struct mz_model_opts o = { .domain = "cluster.local", .addresses = t.ips };
    struct mz_change c;
    struct mz_model *m = mz_model_build(t.store, &o, t.model);
    mz_change_init(&c, t.model, m);
    for (size_t i = 0; i < CLIENTS; i++)
        mz_peer_prepare(t.clients[i].peer, m);
    mz_translator_set_model(t.translator, m);
    for (size_t i = 0; i < CLIENTS; i++)
        mz_peer_push(t.clients[i].peer, &c);
    mz_change_fini(&c);
    mz_model_unref(t.model);
    t.model = m;
    for (size_t i = 0; i < CLIENTS; i++)
        settle(&t.clients[i]);
}

/* ---- a start from nothing ---- */

static void compare(const struct client *c, enum mz_xds_type type, const struct mz_outs *want,
                    unsigned round)
{
    struct mz_map *has = (struct mz_map *)(uintptr_t)&c->has[type];
    for (size_t i = 0; i < want->v.n; i++) {
        const struct mz_out *o = want->v.v[i];
        pb_Any whole = pb_Any__INIT;
        whole.value = (ProtobufCBinaryData){ o->bytes.n, (uint8_t *)(uintptr_t)o->bytes.p };
        struct mz_out *w = mz_out_create(o->name, &whole.base);
        const struct mz_out *h = mz_map_get(has, o->name);
        if (!h || !mz_str_eq(h->bytes, w->bytes))
            fail_msg("round %u, %s client %.7s: %s %.*s is %s", round, c->delta ? "delta" : "state",
                     c->who->node + 5, mz_translate_short(type), MZ_STR_ARG(o->name),
                     h ? "another" : "missing");
        mz_out_unref(w);
    }
    /* State of the world cannot take a named one back; a Secret that goes stays with who has it. */
    t.secrets += type == MZ_XDS_SECRET ? (unsigned)want->v.n : 0;
    if (type != MZ_XDS_SECRET && (c->delta || !is_named(type)))
        assert_int_equal(has->n, want->v.n);
}

static void check_type(const struct client *c, struct mz_view *v, enum mz_xds_type type,
                       unsigned round)
{
    struct mz_outs want = { 0 };
    struct mz_str names[NAMES];
    char *texts[NAMES];
    const size_t n = asked(c->who, type, texts);
    for (size_t k = 0; k < n; k++)
        names[k] = mz_str_c(texts[k]);
    mz_translate(v, type, names, n, &want);
    compare(c, type, &want, round);
    mz_outs_fini(&want);
}

static void check(unsigned round)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err;
    const struct mz_model_opts o = { .domain = "cluster.local",
                                     .addresses = mz_service_ips_create("10.96.0.0/16", &err) };
    ProtobufCMessage *node;
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    for (size_t i = MZ_COUNT(objects); i--;) /* another order */
        if (t.at[i] >= 0)
            put(s, objects[i][t.at[i]]);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    struct mz_translator *fresh =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    mz_translator_set_model(fresh, m);
    for (size_t i = 0; i < CLIENTS; i++) {
        const struct client *c = &t.clients[i];
        assert_true(mz_msg_from_text(&ctx, mz_str_c(c->who->node), MZ_TEXT_YAML,
                                     &pb_Node__descriptor, &node, &err));
        struct mz_proxy *p = mz_proxy_create((const pb_Node *)node, &err);
        mz_proxy_verify(p, MZ_STR("demo"), mz_str_c(c->who->account));
        struct mz_view *v = mz_view_create(fresh, p);
        for (size_t k = 0; k < MZ_COUNT(order); k++)
            check_type(c, v, order[k], round);
        mz_view_destroy(v);
        mz_proxy_destroy(p);
    }
    mz_translator_destroy(fresh);
    mz_model_unref(m);
    mz_store_destroy(s);
    mz_service_ips_destroy(o.addresses);
    mz_arena_destroy(a);
}

/* ---- the property ---- */

static void begin(uint64_t seed)
{
    memset(&t, 0, sizeof(t));
    secret_double_init(&t.pems);
    t.seed = seed;
    memset(t.at, -1, sizeof(t.at));
    struct mz_err err;
    t.store = mz_store_create(double_nothing, NULL);
    t.ips = mz_service_ips_create("10.96.0.0/16", &err);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    t.bundles = mz_bundles_create(mz_translator_sets(t.translator));
    for (size_t i = 0; i < CLIENTS; i++) {
        struct client *c = &t.clients[i];
        c->delta = i % 2;
        c->who = &whos[i / 2];
        const struct mz_peer_env env = { .translator = t.translator,
                                         .bundles = t.bundles,
                                         .delta = c->delta,
                                         .only = MZ_XDS_TYPE__COUNT,
                                         .send = on_send,
                                         .arg = c,
                                         .ns = MZ_STR("demo"),
                                         .account = mz_str_c(c->who->account) };
        c->peer = mz_peer_create(&env);
        for (unsigned k = 0; k < MZ_XDS_TYPE__COUNT; k++)
            mz_map_init(&c->has[k], MZ_MEM_XDS);
    }
    tell();
    for (size_t i = 0; i < CLIENTS; i++)
        for (size_t k = 0; k < MZ_COUNT(order); k++) {
            request(&t.clients[i], order[k], true);
            settle(&t.clients[i]);
        }
}

static void end(void)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        mz_peer_destroy(t.clients[i].peer);
        for (unsigned k = 0; k < MZ_XDS_TYPE__COUNT; k++) {
            clear(&t.clients[i].has[k]);
            mz_map_fini(&t.clients[i].has[k]);
        }
    }
    mz_bundles_destroy(t.bundles);
    mz_translator_destroy(t.translator);
    mz_model_unref(t.model);
    mz_service_ips_destroy(t.ips);
    mz_store_destroy(t.store);
    secret_double_fini(&t.pems);
}

static void test_any_order(void **state)
{
    (void)state;
    unsigned patched = 0, secrets = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        begin(seed);
        for (unsigned round = 0; round < 60; round++) {
            for (unsigned i = 0; i <= random_below(3); i++)
                change_one();
            tell();
            patched += t.model->on != 0;
            check((unsigned)seed * 1000 + round);
        }
        secrets += t.secrets;
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
