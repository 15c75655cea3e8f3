/* Whatever policies a tenant writes: what a workload and a gateway get of them can be loaded by a proxy (H01). The text is documents. */
#include "control/discovery/peer_double.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MESH                                                                                       \
    "extensionProviders:\n"                                                                        \
    "- {name: ask, envoyExtAuthzHttp: {service: api.demo.svc.cluster.local, port: 80}}\n"          \
    "- {name: call, envoyExtAuthzGrpc: {service: api.demo.svc.cluster.local, port: 80}}\n"         \
    "trustDomainAliases: [old]\n"
#define PODS                                                                                       \
    DOUBLE_SERVICE("api", "80", "10.1.0.1")                                                        \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: demo}\n"                  \
    "spec: {selector: {app: api}, ports: [{name: tcp, port: 81}]}\n"                               \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: api-0, namespace: demo, labels: {app: "      \
    "api}}\n"                                                                                      \
    "status: {phase: Running, podIP: 10.1.0.1}\n"

static void load(struct mz_outs *o, enum mz_xds_type type)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err;
    ProtobufCMessage *m;
    mz_vec_foreach (it, &o->v)
        if (!mz_msg_unpack(&ctx, (*it)->bytes, mz_xds_descriptor(type), &m, &err))
            __builtin_trap();
    mz_arena_destroy(a);
}

static struct mz_model *model_of(struct mz_str text)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    mz_doc_read_mesh(&r, MZ_STR(MESH));
    mz_doc_read_text(&r, text, MZ_TEXT_YAML);
    mz_doc_read_text(&r, MZ_STR(PODS), MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}

static void play(struct mz_translator *t, const char *id)
{
    static const enum mz_xds_type types[] = { MZ_XDS_CLUSTER, MZ_XDS_LISTENER, MZ_XDS_ROUTE };
    const struct mz_str name = MZ_STR("80");
    pb_Node node = pb_Node__INIT;
    struct mz_err err;
    node.id = (char *)(uintptr_t)id;
    struct mz_proxy *p = mz_proxy_create(&node, &err);
    struct mz_view *v = mz_view_create(t, p);
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        struct mz_outs o = { 0 };
        mz_translate(v, types[i], &name, mz_translate_is_named(p, types[i]) ? 1 : 0, &o);
        load(&o, types[i]);
        mz_outs_fini(&o);
    }
    mz_view_destroy(v);
    mz_proxy_destroy(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    struct mz_translator *t = mz_translator_create(
        &(struct mz_features){ .metadata_exchange = true, .alpn = true, .many_custom = true });
    struct mz_model *m = model_of((struct mz_str){ (const char *)data, n });
    mz_translator_set_model(t, m);
    play(t, "sidecar~10.1.0.1~api-0.demo~demo.svc.cluster.local");
    play(t, "router~10.1.0.2~gate-0.istio-system~istio-system.svc.cluster.local");
    mz_translator_destroy(t);
    mz_model_unref(m);
    return 0;
}
