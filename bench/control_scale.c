/*
 * What one change costs mizzend, without sockets: control_scale SERVICES PROXIES [NAMESPACES [CHANGE]]. Every service has a port and five
 * endpoints, one in ten of them a DestinationRule and a VirtualService; every proxy asks for clusters, endpoints, listeners and routes
 * by delta, and acknowledges at once. Each change is made several times; the middle one is told; of a CHANGE
 * that is named ("a VirtualService") a hundred times, to be profiled. bench/control_curve.py runs it.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "control/discovery/peer_double.h"

struct client {
    struct mz_peer *peer;
    bool pending[MZ_XDS_TYPE__COUNT];
    char nonce[MZ_XDS_TYPE__COUNT][32];
};
static struct {
    struct mz_store *store;
    struct mz_model *model;
    struct mz_translator *translator;
    struct mz_bundles *bundles;
    struct client *clients;
    unsigned services, proxies, namespaces;
    uint64_t responses, bytes;
    char **names;
} t;
static const enum mz_xds_type order[] = { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT, MZ_XDS_LISTENER,
                                          MZ_XDS_ROUTE };

static double now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static unsigned resident_mb(void)
{
    unsigned pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*u %u", &pages) != 1)
        pages = 0;
    if (f)
        (void)fclose(f);
    return pages / 256;
}

/* One line a step: what, CPU ms, responses, bytes, resident MB; with tabs between. */
static void step(const char *what, double ms)
{
    printf("%s\t%.3f\t%llu\t%llu\t%u\n", what, ms, (unsigned long long)t.responses,
           (unsigned long long)t.bytes, resident_mb());
    (void)fflush(stdout);
    t.responses = t.bytes = 0;
}

static void put(const char *text)
{
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, t.store };
    mz_doc_read_text(&r, mz_str_c(text), MZ_TEXT_YAML);
}

static void put_service(unsigned i, unsigned port, const char *label)
{
    char text[500];
    (void)snprintf(text, sizeof(text),
                   "apiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: ns%u, labels: "
                   "{a: %s}}\nspec: "
                   "{clusterIP: 10.%u.%u.%u, selector: {app: s%u}, "
                   "ports: [{name: http, port: %u}]}\n",
                   i, i % t.namespaces, label, 100 + i / 62500, i / 250 % 250, i % 250 + 1, i,
                   port);
    put(text);
}

static void put_rule(unsigned i, unsigned limit)
{
    char text[500];
    (void)snprintf(
        text, sizeof(text),
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r%u, "
        "namespace: ns%u}\nspec: {host: s%u, trafficPolicy: {connectionPool: {tcp: "
        "{maxConnections: %u}}}}\n",
        i, i % t.namespaces, i, limit);
    put(text);
}

static void put_route(unsigned i, unsigned seconds)
{
    char text[500];
    (void)snprintf(
        text, sizeof(text),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u, "
        "namespace: ns%u}\nspec: {hosts: [s%u], http: [{timeout: %us, route: "
        "[{destination: {host: s%u}}]}]}\n",
        i, i % t.namespaces, i, seconds, i);
    put(text);
}

/* Behind the last endpoint of the first service. */
static void put_pod(unsigned version)
{
    char text[500];
    (void)snprintf(
        text, sizeof(text),
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns0, labels: {version: "
        "v%u}}\nspec: {serviceAccountName: a}\nstatus: {podIP: 11.0.0.5, phase: Running}\n",
        version);
    put(text);
}

static void put_endpoints(unsigned i, unsigned last)
{
    char text[1000];
    (void)snprintf(text, sizeof(text),
                   "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%u-1, "
                   "namespace: ns%u, labels: "
                   "{kubernetes.io/service-name: s%u}}\nendpoints: [{addresses: [11.%u.%u.1]}, "
                   "{addresses: [11.%u.%u.2]}, {addresses: [11.%u.%u.3]}, "
                   "{addresses: [11.%u.%u.4]}, {addresses: [11.%u.%u.%u]%s}]\nports: [{name: http, "
                   "port: 8080}]\n",
                   i, i % t.namespaces, i, i / 250, i % 250, i / 250, i % 250, i / 250, i % 250,
                   i / 250, i % 250, i / 250, i % 250, last,
                   i ? "" : ", targetRef: {kind: Pod, name: p}");
    put(text);
}

static bool on_send(void *arg, struct mz_buf *response)
{
    struct client *c = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    char tail[200];
    const size_t n = mz_buf_len(response), from = n > sizeof(tail) ? n - sizeof(tail) : 0;
    const size_t got = mz_buf_copyout(response, from, tail,
                                      sizeof(tail)); /* type and nonce stand behind the resources */
    t.responses++;
    t.bytes += n;
    for (size_t i = 0; i < MZ_COUNT(order); i++) {
        struct mz_str url =
            mz_arena_printf(a, "type.googleapis.com/%s", mz_translate_descriptor(order[i])->name);
        const ptrdiff_t at = mz_str_find((struct mz_str){ tail, got }, url);
        if (at < 0)
            continue;
        memcpy(c->nonce[order[i]], tail + at + url.n + 2, 16);
        c->pending[order[i]] = true;
    }
    mz_arena_destroy(a);
    return true;
}

static void request(unsigned k, enum mz_xds_type type, bool first)
{
    struct client *c = &t.clients[k];
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err = { .msg = "" };
    ProtobufCMessage *node = NULL;
    static char route[] = "80", *routes[] = { route };
    pb_DeltaDiscoveryRequest d = pb_DeltaDiscoveryRequest__INIT;
    d.type_url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                    mz_translate_descriptor(type)->name)
                     .p;
    if (first && type == MZ_XDS_CLUSTER) {
        struct mz_str text = mz_arena_printf(
            a,
            "{id: sidecar~12.0.%u.%u~p%u.ns%u~ns%u.svc.cluster.local, metadata: {LABELS: {app: "
            "s%u}}}",
            k / 250, k % 250, k, k % t.namespaces, k % t.namespaces, k % t.services);
        if (mz_msg_from_text(&ctx, text, MZ_TEXT_YAML, &pb_Node__descriptor, &node, &err))
            d.node = (pb_Node *)node;
    }
    if (first && type == MZ_XDS_ENDPOINT) {
        d.resource_names_subscribe = t.names;
        d.n_resource_names_subscribe = t.services;
    }
    if (first && type == MZ_XDS_ROUTE) {
        d.resource_names_subscribe = routes;
        d.n_resource_names_subscribe = 1;
    }
    d.response_nonce = c->nonce[type];
    c->pending[type] = false;
    if (!mz_peer_request(c->peer, &d.base, &err))
        printf("%s\n", err.msg);
    mz_arena_destroy(a);
}

static void settle(unsigned k)
{
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < MZ_COUNT(order); i++)
            if (t.clients[k].pending[order[i]]) {
                request(k, order[i], false);
                again = true;
            }
    }
}

/* CPU time until everybody was told; acknowledgements are not counted. */
static double tell(void)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    const double since = now_ms();
    struct mz_change c;
    struct mz_model *m = mz_model_build(t.store, &o, t.model);
    mz_change_init(&c, t.model, m);
    for (size_t i = 0; i < t.proxies; i++)
        mz_peer_prepare(t.clients[i].peer, m);
    mz_bundles_trim(t.bundles, false);
    mz_translator_set_model(t.translator, m);
    for (size_t i = 0; i < t.proxies; i++)
        mz_peer_renew(t.clients[i].peer);
    for (size_t i = 0; i < t.proxies; i++)
        mz_peer_push(t.clients[i].peer, &c);
    mz_change_fini(&c);
    mz_bundles_trim(t.bundles, false);
    mz_model_unref(t.model);
    t.model = m;
    return now_ms() - since;
}

static void settle_all(void)
{
    const uint64_t responses = t.responses, bytes = t.bytes;
    for (unsigned i = 0; i < t.proxies; i++)
        settle(i);
    t.responses = responses;
    t.bytes = bytes;
}

/* ---- changes: each is made again and again ---- */

static void change_endpoints(unsigned i)
{
    put_endpoints(0, 6 + i);
}

static void change_port(unsigned i)
{
    put_service(1, i % 2 ? 80 : 81, "x");
}

static void change_label(unsigned i)
{
    put_service(2, 80, i % 2 ? "x" : "y");
}

static void come_and_go(unsigned i)
{
    char key[100];
    (void)snprintf(key, sizeof(key), "Service/ns%u/s%u", t.services % t.namespaces, t.services);
    if (i % 2)
        mz_store_remove(t.store, mz_str_c(key));
    else
        put_service(t.services, 80, "x");
}

static void change_pod(unsigned i)
{
    put_pod(i);
}

static void change_rule(unsigned i)
{
    put_rule(0, 7 + i);
}

static void change_route(unsigned i)
{
    put_route(0, 7 + i);
}

static const struct {
    const char *what;
    void (*change)(unsigned i);
} changes[] = {
    { "endpoints of one service", change_endpoints },
    { "a pod", change_pod },
    { "a label of one service", change_label },
    { "a port of one service", change_port },
    { "a service comes or goes", come_and_go },
    { "a DestinationRule", change_rule },
    { "a VirtualService", change_route },
};
enum { TIMES = 6, TIMES_ALONE = 100 };

static int compare_ms(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void measure(size_t k, unsigned times)
{
    double ms[TIMES_ALONE];
    t.responses = t.bytes = 0;
    for (unsigned i = 0; i < times; i++) {
        changes[k].change(i);
        ms[i] = tell();
        settle_all();
    }
    qsort(ms, times, sizeof(*ms), compare_ms);
    t.responses /= times;
    t.bytes /= times;
    step(changes[k].what, ms[times / 2 - 1]);
}

static unsigned number(int argc, char **argv, int i, unsigned otherwise)
{
    uint64_t v = 0;
    return i < argc && mz_str_u64(mz_str_c(argv[i]), &v) && v && v < 1000000 ? (unsigned)v
                                                                             : otherwise;
}

int main(int argc, char **argv)
{
    t.services = number(argc, argv, 1, 1000);
    t.proxies = number(argc, argv, 2, 1000);
    t.namespaces = number(argc, argv, 3, 10);
    mz_type_add_table(mz_control_types, mz_control_types_n);
    t.store = mz_store_create(double_nothing, NULL);
    t.translator =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    t.bundles = mz_bundles_create(mz_translator_sets(t.translator));
    t.clients = calloc(t.proxies, sizeof(*t.clients));
    t.names = calloc(t.services, sizeof(*t.names));
    for (unsigned i = 0; i < t.services; i++) {
        put_service(i, 80, "x");
        if (i % 10 == 0) {
            put_rule(i, 5);
            put_route(i, 5);
        }
        put_endpoints(i, 5);
        t.names[i] = malloc(100);
        (void)snprintf(t.names[i], 100, "outbound|80||s%u.ns%u.svc.cluster.local", i,
                       i % t.namespaces);
    }
    put_pod(0);
    for (unsigned i = 0; i < t.proxies; i++) {
        const struct mz_peer_env env = { .translator = t.translator,
                                         .bundles = t.bundles,
                                         .delta = true,
                                         .only = MZ_XDS_TYPE__COUNT,
                                         .send = on_send,
                                         .arg = &t.clients[i] };
        t.clients[i].peer = mz_peer_create(&env);
    }
    step("model", tell());
    const double since = now_ms();
    for (unsigned i = 0; i < t.proxies; i++) {
        for (size_t k = 0; k < MZ_COUNT(order); k++)
            request(i, order[k], true);
        settle(i);
    }
    step("first configuration of all", now_ms() - since);
    for (size_t i = 0; i < MZ_COUNT(changes); i++)
        if (argc < 5 || strcmp(argv[4], changes[i].what) == 0)
            measure(i, argc < 5 ? TIMES : TIMES_ALONE);
    const double rest = now_ms();
    mz_bundles_trim(t.bundles, true);
    mz_slice_thread_trim();
    (void)malloc_trim(0);
    step("at rest", now_ms() - rest);
    return 0;
}
