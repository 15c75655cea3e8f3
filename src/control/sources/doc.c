#include "control/sources/doc.h"

#include "base/alloc.h"
#include "base/log.h"

/* clang-format off */
static const struct mz_kind_info infos[MZ_KIND__COUNT] = {
    [MZ_KIND_MESH_CONFIG]    = { .group = "", .name = "MeshConfig", .versions = "", .type = &ist_MeshConfig__descriptor, .cluster_scoped = true },
    [MZ_KIND_NAMESPACE]      = { .group = "", .name = "Namespace", .versions = "v1", .type = &k8s_Namespace__descriptor, .cluster_scoped = true },
    [MZ_KIND_NODE]           = { .group = "", .name = "Node", .versions = "v1", .type = &k8s_Node__descriptor, .cluster_scoped = true },
    [MZ_KIND_SERVICE]        = { .group = "", .name = "Service", .versions = "v1", .type = &k8s_Service__descriptor },
    [MZ_KIND_POD]            = { .group = "", .name = "Pod", .versions = "v1", .type = &k8s_Pod__descriptor },
    [MZ_KIND_ENDPOINTS]      = { .group = "", .name = "Endpoints", .versions = "v1", .type = &k8s_Endpoints__descriptor },
    [MZ_KIND_ENDPOINT_SLICE] = { .group = "discovery.k8s.io", .name = "EndpointSlice", .versions = "v1 v1beta1", .type = &k8s_EndpointSlice__descriptor },
    [MZ_KIND_SERVICE_ENTRY] = { .group = "networking.istio.io", .name = "ServiceEntry", .versions = "v1 v1beta1 v1alpha3", .type = &ist_ServiceEntry__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_WORKLOAD_ENTRY] = { .group = "networking.istio.io", .name = "WorkloadEntry", .versions = "v1 v1beta1 v1alpha3", .type = &ist_WorkloadEntry__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_WORKLOAD_GROUP] = { .group = "networking.istio.io", .name = "WorkloadGroup", .versions = "v1 v1beta1 v1alpha3", .type = &ist_WorkloadGroup__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_PROXY_CONFIG] = { .group = "networking.istio.io", .name = "ProxyConfig", .versions = "v1 v1beta1", .type = &ist_networking_ProxyConfig__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_SIDECAR] = { .group = "networking.istio.io", .name = "Sidecar", .versions = "v1 v1beta1 v1alpha3", .type = &ist_Sidecar__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_GATEWAY] = { .group = "networking.istio.io", .name = "Gateway", .versions = "v1 v1beta1 v1alpha3", .type = &ist_Gateway__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_VIRTUAL_SERVICE] = { .group = "networking.istio.io", .name = "VirtualService", .versions = "v1 v1beta1 v1alpha3", .type = &ist_VirtualService__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_DESTINATION_RULE] = { .group = "networking.istio.io", .name = "DestinationRule", .versions = "v1 v1beta1 v1alpha3", .type = &ist_DestinationRule__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_PEER_AUTHENTICATION] = { .group = "security.istio.io", .name = "PeerAuthentication", .versions = "v1 v1beta1", .type = &ist_PeerAuthentication__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_REQUEST_AUTHENTICATION] = { .group = "security.istio.io", .name = "RequestAuthentication", .versions = "v1 v1beta1", .type = &ist_RequestAuthentication__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_KEYS]           = { .group = "", .name = "Keys", .versions = "", .type = &ist_JWTRule__descriptor, .cluster_scoped = true },
    [MZ_KIND_AUTHORIZATION_POLICY] = { .group = "security.istio.io", .name = "AuthorizationPolicy", .versions = "v1 v1beta1", .type = &ist_AuthorizationPolicy__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_ENVOY_FILTER] = { .group = "networking.istio.io", .name = "EnvoyFilter", .versions = "v1alpha3", .type = &ist_EnvoyFilter__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_WASM_PLUGIN] = { .group = "extensions.istio.io", .name = "WasmPlugin", .versions = "v1alpha1", .type = &ist_WasmPlugin__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_TRAFFIC_EXTENSION] = { .group = "extensions.istio.io", .name = "TrafficExtension", .versions = "v1alpha1", .type = &ist_TrafficExtension__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_TELEMETRY] = { .group = "telemetry.istio.io", .name = "Telemetry", .versions = "v1 v1alpha1", .type = &ist_Telemetry__descriptor, .spec_only = true, .strict = true },
    [MZ_KIND_SECRET] = { .group = "", .name = "Secret", .versions = "v1", .type = &k8s_Secret__descriptor },
    [MZ_KIND_CONFIG_MAP] = { .group = "", .name = "ConfigMap", .versions = "v1", .type = &k8s_ConfigMap__descriptor },
    [MZ_KIND_INGRESS_CLASS] = { .group = "networking.k8s.io", .name = "IngressClass", .versions = "v1", .type = &k8s_IngressClass__descriptor, .cluster_scoped = true, .spec_only = true },
    [MZ_KIND_INGRESS] = { .group = "networking.k8s.io", .name = "Ingress", .versions = "v1", .type = &k8s_Ingress__descriptor, .spec_only = true },
    [MZ_KIND_GATEWAY_CLASS] = { .group = "gateway.networking.k8s.io", .name = "GatewayClass", .versions = "v1 v1beta1", .type = &k8s_GatewayClass__descriptor, .cluster_scoped = true, .spec_only = true },
    [MZ_KIND_K8S_GATEWAY] = { .group = "gateway.networking.k8s.io", .name = "Gateway", .key = "KubernetesGateway", .versions = "v1 v1beta1", .type = &k8s_Gateway__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_LISTENER_SET] = { .group = "gateway.networking.k8s.io", .name = "ListenerSet", .versions = "v1", .type = &k8s_ListenerSet__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_HTTP_ROUTE] = { .group = "gateway.networking.k8s.io", .name = "HTTPRoute", .versions = "v1 v1beta1", .type = &k8s_HTTPRoute__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_GRPC_ROUTE] = { .group = "gateway.networking.k8s.io", .name = "GRPCRoute", .versions = "v1 v1alpha2", .type = &k8s_GRPCRoute__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_TCP_ROUTE] = { .group = "gateway.networking.k8s.io", .name = "TCPRoute", .versions = "v1 v1alpha2", .type = &k8s_L4Route__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_TLS_ROUTE] = { .group = "gateway.networking.k8s.io", .name = "TLSRoute", .versions = "v1 v1alpha3 v1alpha2", .type = &k8s_L4Route__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_REFERENCE_GRANT] = { .group = "gateway.networking.k8s.io", .name = "ReferenceGrant", .versions = "v1 v1beta1 v1alpha2", .type = &k8s_ReferenceGrant__descriptor, .spec_only = true, .told = true },
    [MZ_KIND_BACKEND_TLS_POLICY] = { .group = "gateway.networking.k8s.io", .name = "BackendTLSPolicy", .versions = "v1 v1alpha3", .type = &k8s_BackendTLSPolicy__descriptor, .spec_only = true, .told = true },
};
/* clang-format on */

const struct mz_kind_info *mz_kind_info(enum mz_kind k)
{
    return &infos[k];
}

const char *mz_kind_key(enum mz_kind k)
{
    return infos[k].key ? infos[k].key : infos[k].name;
}

static struct mz_str put(char **at, struct mz_str s)
{
    char *p = *at;
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    *at += s.n + 1;
    return (struct mz_str){ p, s.n };
}

/* Which service's endpoints these are. */
static struct mz_str service_of(enum mz_kind k, const k8s_ObjectMeta *meta, struct mz_arena *a)
{
    const char *name = k == MZ_KIND_ENDPOINTS ? meta->name : "";
    for (size_t i = 0; k == MZ_KIND_ENDPOINT_SLICE && i < meta->n_labels; i++)
        if (strcmp(meta->labels[i]->key, "kubernetes.io/service-name") == 0)
            name = meta->labels[i]->value;
    return name[0] ? mz_arena_printf(a, "%s/%s", meta->namespace_, name) : MZ_STR("");
}

struct mz_doc *mz_doc_create(enum mz_kind k, const k8s_ObjectMeta *meta,
                             const ProtobufCMessage *body, struct mz_str file, uint32_t line)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str ns = mz_str_c(meta->namespace_), name = mz_str_c(meta->name),
                  created = mz_str_c(meta->creationtimestamp);
    struct mz_str m = mz_msg_pack_alloc(&meta->base, a), b = mz_msg_pack_alloc(body, a);
    struct mz_str key = mz_arena_printf(a, "%s/%s%s%s", mz_kind_key(k), meta->namespace_,
                                        ns.n ? "/" : "", meta->name);
    struct mz_str of = service_of(k, meta, a);
    const size_t n = ns.n + name.n + file.n + key.n + created.n + m.n + b.n + of.n + 8;
    struct mz_doc *d = mz_alloc(MZ_MEM_CONFIG, sizeof(*d) + n);
    char *at = (char *)(d + 1);
    *d = (struct mz_doc){ .refs = 1, .kind = k, .line = line };
    d->ns = put(&at, ns);
    d->name = put(&at, name);
    d->file = put(&at, file);
    d->key = put(&at, key);
    d->created = put(&at, created);
    d->meta = put(&at, m);
    d->body = put(&at, b);
    d->of = put(&at, of);
    d->version = mz_xxh64(b.p, b.n, mz_xxh64(m.p, m.n, 0));
    mz_arena_destroy(a);
    return d;
}

struct mz_doc *mz_doc_ref(const struct mz_doc *d)
{
    struct mz_doc *own = (struct mz_doc *)(uintptr_t)d; /* only the count changes */
    own->refs++;
    return own;
}

void mz_doc_unref(const struct mz_doc *d)
{
    struct mz_doc *own = (struct mz_doc *)(uintptr_t)d;
    if (own && --own->refs == 0)
        mz_free(MZ_MEM_CONFIG, own);
}

static const ProtobufCMessage *open_packed(struct mz_str bytes, const ProtobufCMessageDescriptor *d,
                                           struct mz_arena *a)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (MZ_BUG(!mz_msg_unpack(&ctx, bytes, d, &m, &err))) { /* we packed it */
        m = mz_arena_alloc0(a, d->sizeof_message);
        protobuf_c_message_init(d, m);
    }
    return m;
}

const k8s_ObjectMeta *mz_doc_meta(const struct mz_doc *d, struct mz_arena *a)
{
    return (const k8s_ObjectMeta *)open_packed(d->meta, &k8s_ObjectMeta__descriptor, a);
}

const ProtobufCMessage *mz_doc_body(const struct mz_doc *d, struct mz_arena *a)
{
    return open_packed(d->body, infos[d->kind].type, a);
}
