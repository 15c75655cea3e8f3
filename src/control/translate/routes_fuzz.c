/* Whatever routing rules a tenant writes: what a sidecar and a gateway get of them can be read by a proxy (H01). The text is documents. */
#include "control/discovery/peer_double.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void load(struct mz_outs *o, enum mz_xds_type type)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_REJECT, .partial = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m;
    mz_vec_foreach (it, &o->v)
        if (!mz_msg_unpack(&ctx, (*it)->bytes, mz_xds_descriptor(type), &m, &err))
            __builtin_trap();
    mz_arena_destroy(a);
}

static void play(struct mz_translator *t, const char *id)
{
    static const struct {
        enum mz_xds_type type;
        const char *name;
    } asked[] = { { MZ_XDS_CLUSTER, NULL },
                  { MZ_XDS_LISTENER, NULL },
                  { MZ_XDS_ROUTE, "80" },
                  { MZ_XDS_ROUTE, "8080" },
                  { MZ_XDS_ROUTE, "http.80" },
                  { MZ_XDS_ROUTE, "https.443.https.g.demo" },
                  { MZ_XDS_ENDPOINT, "outbound|80|v1|web.demo.svc.cluster.local" } };
    pb_Node node = pb_Node__INIT;
    struct mz_err err;
    node.id = (char *)(uintptr_t)id;
    struct mz_proxy *p = mz_proxy_create(&node, &err);
    struct mz_view *v = mz_view_create(t, p);
    for (size_t i = 0; i < MZ_COUNT(asked); i++) {
        struct mz_outs o = { 0 };
        const struct mz_str name = mz_str_c(asked[i].name);
        mz_translate(v, asked[i].type, &name, asked[i].name ? 1 : 0, &o);
        load(&o, asked[i].type);
        mz_outs_fini(&o);
    }
    mz_view_destroy(v);
    mz_proxy_destroy(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char services[] = DOUBLE_SERVICE("web", "80", "10.1.0.1") DOUBLE_SERVICE(
        "api", "8080",
        "10.1.0.2") "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: demo}\n"
                    "spec: {clusterIP: 10.9.0.3, ports: [{name: tcp, port: 81}, {name: tls, port: "
                    "82}]}\n---\n";
    mz_type_add_table(mz_control_types, mz_control_types_n);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_translator *t =
        mz_translator_create(&(struct mz_features){ .metadata_exchange = true, .alpn = true });
    const struct mz_str parts[] = { mz_str_c(services), { (const char *)data, n } };
    struct mz_model *m = double_model(mz_arena_cat(a, MZ_COUNT(parts), parts));
    mz_translator_set_model(t, m);
    play(t, "sidecar~10.1.0.1~web-0.demo~demo.svc.cluster.local");
    play(t, "router~10.1.0.2~gate-0.demo~demo.svc.cluster.local");
    mz_translator_destroy(t);
    mz_model_unref(m);
    mz_arena_destroy(a);
    return 0;
}
