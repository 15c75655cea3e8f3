/* Endpoints: places that are near or far, those that are not ready or end, subsets. */
#include "control/translate/settings_double.h"

#include "control/translate/build.h"

#define C MZ_XDS_CLUSTER
#define E MZ_XDS_ENDPOINT

/* ---- places ---- */

#define POD(name, ip, node, labels)                                                                \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name                                       \
    ", namespace: demo, labels: {app: api" labels "}}\n"                                           \
    "spec: {nodeName: " node "}\nstatus: {phase: Running, podIP: " ip ", podIPs: [{ip: " ip        \
    "}]}\n"
#define ZONED(name, zone, region)                                                                  \
    "---\napiVersion: v1\nkind: Node\nmetadata: {name: " name                                      \
    ", labels: {topology.kubernetes.io/region: " region ", topology.kubernetes.io/zone: " zone     \
    "}}\n"
#define READY(ip, pod)                                                                             \
    "{addresses: [" ip "], conditions: {ready: true}, targetRef: {kind: Pod, name: " pod           \
    ", namespace: demo}}"
#define UNREADY(ip, pod)                                                                           \
    "{addresses: [" ip                                                                             \
    "], conditions: {ready: false, terminating: false}, targetRef: {kind: Pod, name: " pod         \
    ", namespace: demo}}"
#define API(meta, spec)                                                                            \
    ZONED("n1", "z1", "r1")                                                                        \
    ZONED("n2", "z2", "r1")                                                                        \
    ZONED("n3", "z9", "r2")                                                                        \
    POD("a", "10.2.0.1", "n1", ", tier: x")                                                        \
    POD("b", "10.2.0.2", "n2", ", tier: w")                                                        \
    POD("c", "10.2.0.3", "n3", ", tier: x")                                                        \
    POD("d", "10.2.0.4", "n1", ", tier: w")                                                        \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, "                                   \
    "namespace: demo" meta "}\n"                                                                   \
    "spec: {clusterIP: 10.9.0.2, selector: {app: api}, ports: [{name: "                            \
    "http, port: 81}]" spec "}\n"                                                                  \
    "---\napiVersion: discovery.k8s.io/v1\nkind: "                                                 \
    "EndpointSlice\nmetadata: {name: api-1, namespace: demo, labels: "                             \
    "{kubernetes.io/service-name: api}}\n"                                                         \
    "endpoints: [" READY("10.2.0.1", "a") ", " READY("10.2.0.2", "b") ", " READY(                  \
        "10.2.0.3", "c") ", " UNREADY("10.2.0.4", "d") "]\nports: [{name: http, "                  \
                                                       "port: 81}]\n"
#define APIRULE(spec)                                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api, "       \
    "namespace: demo}\nspec: {host: api, trafficPolicy: {" spec "}}\n"
#define HERE                                                                                       \
    "{id: sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local, metadata: {LABELS: {app: web, "      \
    "tier: x}, NODE_NAME: n1}, locality: {region: r1, zone: z1}}"
#define OUTLIER "outlierDetection: {interval: 1s}"

/* "priority:last byte of the address[!: not ready, ~: ends]..., " for each group, with "*weight" where it is not their number. */
static const char *groups(const char *json)
{
    struct mz_proto_ctx ctx = { .arena = arena, .unknown = MZ_UNKNOWN_REJECT };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    struct mz_str out = MZ_STR("");
    assert_true(mz_msg_from_text(&ctx, mz_str_c(json), MZ_TEXT_JSON,
                                 &pb_ClusterLoadAssignment__descriptor, &m, &err));
    const pb_ClusterLoadAssignment *c = (const pb_ClusterLoadAssignment *)m;
    for (size_t i = 0; i < c->n_endpoints; i++) {
        const pb_LocalityLbEndpoints *g = c->endpoints[i];
        out = mz_arena_printf(arena, "%.*s%s%u:", MZ_STR_ARG(out), i ? " " : "", g->priority);
        for (size_t k = 0; k < g->n_lb_endpoints; k++) {
            const char *ip = g->lb_endpoints[k]->endpoint->address->socket_address->address;
            out = mz_arena_printf(
                arena, "%.*s%s%s", MZ_STR_ARG(out), strrchr(ip, '.') + 1,
                g->lb_endpoints[k]->health_status == pb_HealthStatus_UNHEALTHY  ? "!"
                : g->lb_endpoints[k]->health_status == pb_HealthStatus_DRAINING ? "~"
                                                                                : "");
        }
        if (mz_u32_or(g->load_balancing_weight, 0) != g->n_lb_endpoints)
            out = mz_arena_printf(arena, "%.*s*%u", MZ_STR_ARG(out),
                                  mz_u32_or(g->load_balancing_weight, 0));
    }
    return out.p;
}

#define SHARES "locality_weighted_lb_config"
static const struct {
    const char *mesh, *documents, *want;
    const char *heeds; /* what the cluster does; NULL: neither weighs places nor knows zones */
} places[] = {
    { "", API("", ""), "0:1 0:2 0:3", NULL },
    { "", API("", "") APIRULE(OUTLIER), "0:1 1:2 2:3", NULL },
    { "localityLbSetting: {enabled: false}", API("", "") APIRULE(OUTLIER), "0:1 0:2 0:3", NULL },
    { "localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1: 30, r1/z2: 70}}]}", API("", ""),
      "0:1*30 0:2*70 0:*1", SHARES },
    { "localityLbSetting: {distribute: [{from: r7/*, to: {r1/*: 100}}]}",
      API("", "") APIRULE(OUTLIER), "0:1 0:2 0:3", SHARES },
    { "localityLbSetting: {failover: [{from: r1, to: r3}]}", API("", "") APIRULE(OUTLIER),
      "0:1 1:2 2:3", SHARES },
    { "",
      API("", "")
          APIRULE("loadBalancer: {localityLbSetting: {failoverPriority: [tier]}}, " OUTLIER),
      "0:1 1:2 0:3", SHARES },
    { "",
      API("", "")
          APIRULE("loadBalancer: {localityLbSetting: {failoverPriority: ['tier=w']}}, " OUTLIER),
      "1:1 0:2 1:3", SHARES },
    { "",
      API("", "") APIRULE("loadBalancer: {localityLbSetting: {failoverPriority: [tier], failover: "
                          "[{from: r1, to: r2}]}}, " OUTLIER),
      "0:1 2:2 1:3", SHARES },
    { "",
      API("", "") APIRULE("loadBalancer: {localityLbSetting: {failoverPriority: "
                          "[topology.kubernetes.io/region, tier]}}, " OUTLIER),
      "0:1 1:2 2:3", SHARES },
    { "", API("", "") APIRULE("loadBalancer: {localityLbSetting: {failoverPriority: [tier]}}"),
      "0:1 0:2 0:3", NULL },
    /* by zones: the proxy shares load among those of its region */
    { "", API("", "") APIRULE("loadBalancer: {zoneAwareLbSetting: {}}"), "0:1 0:2 1:3",
      "\"zone_aware_lb_config\":{}" },
    { "zoneAwareLbSetting: {minClusterSize: 3}\nlocalityLbSetting: {enabled: true}", API("", ""),
      "0:1 0:2 1:3", "\"zone_aware_lb_config\":{\"min_cluster_size\":\"3\"}" },
    { "zoneAwareLbSetting: {}",
      API("", "") APIRULE("loadBalancer: {localityLbSetting: {enabled: false}}"), "0:1 0:2 0:3",
      NULL },
    { "", API("", "") APIRULE("loadBalancer: {zoneAwareLbSetting: {enabled: false}}, " OUTLIER),
      "0:1 0:2 0:3", "\"zone_aware_lb_config\":{\"routing_enabled\":{}" },
    { "",
      API("", "") APIRULE("loadBalancer: {zoneAwareLbSetting: {failoverPriority: [tier], failover: "
                          "[{from: r1, to: r2}]}}"),
      "0:1 2:2 1:3", "\"zone_aware_lb_config\":{}" },
    /* trafficDistribution: without outlier detection, but with the endpoints that are not ready */
    { "", API("", ", trafficDistribution: PreferClose"), "0:14! 1:2 2:3", SHARES },
    { "", API("", ", trafficDistribution: PreferSameZone"), "0:14! 1:2 2:3", SHARES },
    { "", API("", ", trafficDistribution: PreferSameNode"), "0:14! 1:2 2:3", SHARES },
    { "", API(", annotations: {networking.istio.io/traffic-distribution: PreferClose}", ""),
      "0:14! 1:2 2:3", SHARES },
    { "", API(", annotations: {networking.istio.io/traffic-distribution: Any}", ""), "0:1 0:2 0:3",
      NULL },
    { "",
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: "
      "{networking.istio.io/traffic-distribution: prefersamezone}}\n" API("", ""),
      "0:14! 1:2 2:3", SHARES },
    { "",
      API("", ", trafficDistribution: PreferClose")
          APIRULE("loadBalancer: {localityLbSetting: {enabled: false}}"),
      "0:14! 0:2 0:3", NULL },
};

static void test_places(void **state)
{
    (void)state;
    features.no_unhealthy = true;
    for (size_t i = 0; i < MZ_COUNT(places); i++) {
        const char *name = "outbound|81||api.demo.svc.cluster.local";
        const char *got = ask(places[i].mesh, places[i].documents, HERE, E, name);
        const char *cluster = ask(places[i].mesh, places[i].documents, HERE, C, name);
        if (strcmp(groups(got), places[i].want) != 0)
            fail_msg("case %zu: \"%s\" is not \"%s\"", i, groups(got), places[i].want);
        if (places[i].heeds ? !strstr(cluster, places[i].heeds)
                            : strstr(cluster, SHARES) || strstr(cluster, "zone_aware"))
            fail_msg("case %zu: %s", i, cluster);
    }
    features.no_unhealthy = false;
}

/* ---- endpoints that are not ready, or end ---- */

#define DRAINING(conditions)                                                                       \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: demo, labels: {app: api}}\n"   \
    "status: {phase: Running, podIP: 10.2.0.1, podIPs: [{ip: 10.2.0.1}]}\n"                        \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: api-1, "          \
    "namespace: "                                                                                  \
    "demo, labels: {kubernetes.io/service-name: api}}\n"                                           \
    "endpoints: [{addresses: [10.2.0.1], conditions: {" conditions                                 \
    "}, targetRef: {kind: Pod, name: a, namespace: demo}}]\nports: [{name: http, port: 81}]\n"
#define BACKEND(meta)                                                                              \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo" meta               \
    "}\nspec: {clusterIP: 10.9.0.2, selector: {app: api}, ports: [{name: http, port: 81}]}\n"
#define STICKY BACKEND(", labels: {istio.io/persistent-session: c}")
#define ENDS   "ready: false, serving: true, terminating: true"
static const struct {
    struct mz_features f;
    const char *documents, *want;
} unready[] = {
    { { 0 }, API("", ""), "0:14! 0:2 0:3" },
    { { 0 }, API("", "") APIRULE("outlierDetection: {minHealthPercent: 0}"), "0:14! 1:2 2:3" },
    { { 0 }, API("", "") APIRULE("outlierDetection: {minHealthPercent: 50}"), "0:1 1:2 2:3" },
    { { .always_unhealthy = true },
      API("", "") APIRULE("outlierDetection: {minHealthPercent: 50}"),
      "0:14! 1:2 2:3" },
    { { .no_unhealthy = true }, API("", ""), "0:1 0:2 0:3" },
    { { 0 }, BACKEND("") DRAINING(ENDS), "" },
    { { 0 }, STICKY DRAINING(ENDS), "0:1~" },
    { { 0 }, STICKY DRAINING("ready: false, serving: false, terminating: true"), "" },
    { { 0 }, STICKY DRAINING("ready: true"), "0:1" },
    { { 0 },
      BACKEND("") POD("a", "10.2.0.1", "n1", ", istio.io/draining: x")
          POD("b", "10.2.0.2", "n1", ""),
      "0:2" },
    { { 0 }, STICKY POD("a", "10.2.0.1", "n1", ", istio.io/draining: x"), "0:1~" },
};

static void test_unready(void **state)
{
    (void)state;
    unsigned bad = 0;
    for (size_t i = 0; i < MZ_COUNT(unready); i++) {
        features = unready[i].f;
        const char *got = groups(
            ask("", unready[i].documents, HERE, E, "outbound|81||api.demo.svc.cluster.local"));
        if (strcmp(got, unready[i].want) == 0)
            continue;
        print_error("case %zu: \"%s\" is not \"%s\"\n", i, got, unready[i].want);
        bad++;
    }
    features = (struct mz_features){ 0 };
    assert_int_equal(bad, 0);
}

#define SLICE(number)                                                                              \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: api-" number      \
    ", namespace: demo, labels: {kubernetes.io/service-name: api}}\n"                              \
    "endpoints: [{addresses: [10.2.0.1], targetRef: {kind: Pod, name: a, namespace: demo}}]\n"     \
    "ports: [{name: http, port: 81}]\n"
/* Where a rule says how TLS is spoken, endpoints do not offer the mesh's; one that is in two slices is one. */
static void test_endpoints_of_rules(void **state)
{
    (void)state;
    static const struct {
        const char *tls;
        bool offered;
    } rows[] = { { "loadBalancer: {simple: RANDOM}", true },
                 { "tls: {mode: ISTIO_MUTUAL}", true },
                 { "tls: {mode: DISABLE}", false },
                 { "tls: {mode: SIMPLE}", false } };
    for (size_t i = 0; i < MZ_COUNT(rows); i++) {
        const char *text =
            mz_arena_printf(
                arena, "%s%s}}\n",
                BACKEND("") POD("a", "10.2.0.1", "n1", ", security.istio.io/tlsMode: istio")
                    SLICE("1") SLICE("2") "---\napiVersion: networking.istio.io/v1\nkind: "
                                          "DestinationRule\nmetadata: {name: api, namespace: "
                                          "demo}\nspec: {host: api, trafficPolicy: {",
                rows[i].tls)
                .p;
        const char *got = ask("", text, HERE, E, "outbound|81||api.demo.svc.cluster.local");
        if (!strstr(got, "\"tlsMode\":\"istio\"") == rows[i].offered)
            fail_msg("%s: %s", rows[i].tls, got);
        const char *first = strstr(got, "10.2.0.1");
        assert_non_null(first);
        assert_null(strstr(first + 1, "10.2.0.1"));
    }
}

/* Written at once, and as a tree of messages: the same. */
static void test_service_metadata(void **state)
{
    (void)state;
    char ns[200] = { 0 };
    memset(ns, 'n', sizeof(ns) - 1);
    const char *const names[][3] = { { "web.demo.svc.cluster.local", "web", "demo" },
                                     { "", "", "" },
                                     { "a.example.com", "a.example.com", ns } };
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        const struct mz_str host = mz_str_c(names[i][0]), name = mz_str_c(names[i][1]),
                            in = mz_str_c(names[i][2]);
        pb_Metadata *m = NULL;
        pb_Struct *istio = tr_metadata(arena, &m, "istio");
        pb_Struct *one = tr_list_add_struct(arena, tr_struct_list(arena, istio, "services"));
        tr_struct_text(arena, one, "host", host);
        tr_struct_text(arena, one, "name", name);
        tr_struct_text(arena, one, "namespace", in);
        const struct mz_str tree = mz_msg_pack_alloc(&m->base, arena),
                            whole = mz_msg_pack_alloc(
                                &tr_service_metadata(arena, host, name, in)->base, arena);
        assert_int_equal(whole.n, tree.n);
        assert_memory_equal(whole.p, tree.p, tree.n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_places, up, down),
        cmocka_unit_test_setup_teardown(test_unready, up, down),
        cmocka_unit_test_setup_teardown(test_endpoints_of_rules, up, down),
        cmocka_unit_test_setup_teardown(test_service_metadata, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
