/*
 * Whatever an EnvoyFilter puts into listeners, routes and clusters: a proxy that could load what there was can load what there is now
 * (H01). The text is the items of `configPatches`, as JSON or in YAML's short form; the documents hold in the mesh and in one namespace.
 */
#include "control/discovery/peer_double.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FILTER(ns)                                                                                 \
    "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f, "       \
    "namespace: " ns "}\nspec: {configPatches: ["
#define WORLD                                                                                      \
    DOUBLE_SERVICE("api", "80", "10.1.0.1")                                                        \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: demo}\n"                  \
    "spec: {clusterIP: 10.9.0.3, selector: {app: api}, ports: [{name: tcp, port: 81}]}\n"          \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: api-0, namespace: demo, labels: {app: "      \
    "api}}\nstatus: {phase: Running, podIP: 10.1.0.1}\n"                                           \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: "      \
    "istio-system}\nspec: {selector: {g: g}, servers: [{port: {number: 80, name: http, protocol: " \
    "HTTP}, hosts: ['*']}, {port: {number: 90, name: tcp, protocol: TCP}, hosts: ['*']}]}\n"       \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, "          \
    "namespace: istio-system}\nspec: {hosts: [a.com], gateways: [g], http: [{name: r, match: "     \
    "[{uri: {prefix: /a}}], route: [{destination: {host: api.demo.svc.cluster.local}}]}, "         \
    "{redirect: {uri: /b}}], tcp: [{match: [{port: 90}], route: [{destination: {host: "            \
    "db.demo.svc.cluster.local, port: {number: 81}}}]}]}\n"

static bool load(const struct mz_out *o, enum mz_xds_type type)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m;
    const bool ok = mz_msg_unpack(&ctx, mz_out_bytes(o, a), mz_xds_descriptor(type), &m, &err);
    mz_arena_destroy(a);
    return ok;
}

static struct mz_model *model_of(struct mz_str patches)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    const struct mz_str mesh[] = { MZ_STR(FILTER("istio-system")), patches, MZ_STR("]}\n") },
                        demo[] = { MZ_STR(FILTER("demo")), patches, MZ_STR("]}\n") };
    mz_doc_read_text(&r, mz_arena_cat(a, MZ_COUNT(mesh), mesh), MZ_TEXT_YAML);
    mz_doc_read_text(&r, mz_arena_cat(a, MZ_COUNT(demo), demo), MZ_TEXT_YAML);
    mz_doc_read_text(&r, MZ_STR(WORLD), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    mz_arena_destroy(a);
    return m;
}

static void play(struct mz_translator *t, const char *id, const char *const *routes, size_t n)
{
    static const enum mz_xds_type types[] = { MZ_XDS_CLUSTER, MZ_XDS_LISTENER, MZ_XDS_ROUTE };
    pb_Node node = pb_Node__INIT;
    pb_Struct metadata = pb_Struct__INIT;
    struct mz_err err;
    node.id = (char *)(uintptr_t)id;
    node.metadata = &metadata;
    struct mz_proxy *p = mz_proxy_create(&node, &err);
    struct mz_view *v = mz_view_create(t, p);
    struct mz_str names[4];
    for (size_t i = 0; i < n; i++)
        names[i] = mz_str_c(routes[i]);
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        struct mz_outs o = { 0 };
        mz_translate(v, types[i], names, mz_translate_is_named(p, types[i]) ? n : 0, &o);
        mz_vec_foreach (it, &o.v)
            if (!load(*it, types[i]))
                __builtin_trap();
        mz_outs_fini(&o);
    }
    mz_view_destroy(v);
    mz_proxy_destroy(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const sidecar[] = { "80" }, *const gateway[] = { "http.80" };
    mz_type_add_table(mz_control_types, mz_control_types_n);
    struct mz_translator *t =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    struct mz_model *m = model_of((struct mz_str){ (const char *)data, n });
    mz_translator_set_model(t, m);
    play(t, "sidecar~10.1.0.1~api-0.demo~demo.svc.cluster.local", sidecar, 1);
    play(t, "router~10.1.0.2~gate-0.istio-system~istio-system.svc.cluster.local", gateway, 1);
    mz_translator_destroy(t);
    mz_model_unref(m);
    return 0;
}
