#include "control/sources/doc.h"

#include "base/alloc.h"
#include "base/log.h"
#include "proto/pack.h"

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
    const struct mz_str part[] = { mz_str_c(meta->namespace_), MZ_STR("/"), mz_str_c(name) };
    return name[0] ? mz_arena_cat(a, MZ_COUNT(part), part) : MZ_STR("");
}

struct mz_str mz_doc_key(enum mz_kind k, struct mz_str ns, struct mz_str name, struct mz_arena *a)
{
    const struct mz_str slash = MZ_STR("/"), part[] = { mz_str_c(mz_kind_key(k)), slash, ns,
                                                        ns.n ? slash : MZ_STR(""), name };
    return mz_arena_cat(a, MZ_COUNT(part), part);
}

struct mz_doc *mz_doc_create_packed(enum mz_kind k, const k8s_ObjectMeta *meta, struct mz_str body,
                                    struct mz_str file, uint32_t line)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str ns = mz_str_c(meta->namespace_), name = mz_str_c(meta->name),
                  created = mz_str_c(meta->creationtimestamp);
    struct mz_str m = mz_msg_pack_alloc(&meta->base, a);
    struct mz_str key = mz_doc_key(k, ns, name, a), of = service_of(k, meta, a);
    const size_t n = ns.n + name.n + file.n + key.n + created.n + m.n + body.n + of.n + 8;
    struct mz_doc *d = mz_alloc(MZ_MEM_CONFIG, sizeof(*d) + n);
    char *at = (char *)(d + 1);
    *d = (struct mz_doc){ .refs = 1, .kind = k, .line = line };
    d->ns = put(&at, ns);
    d->name = put(&at, name);
    d->file = put(&at, file);
    d->key = put(&at, key);
    d->created = put(&at, created);
    d->meta = put(&at, m);
    d->body = put(&at, body);
    d->of = put(&at, of);
    d->version = mz_xxh64(body.p, body.n, mz_xxh64(m.p, m.n, 0));
    mz_arena_destroy(a);
    return d;
}

struct mz_doc *mz_doc_create(enum mz_kind k, const k8s_ObjectMeta *meta,
                             const ProtobufCMessage *body, struct mz_str file, uint32_t line)
{
    struct mz_packer p MZ_UNINIT;
    struct mz_doc *d = mz_doc_create_packed(k, meta, mz_packer_pack(&p, body), file, line);
    mz_packer_fini(&p);
    return d;
}

static struct mz_str moved(struct mz_str s, const struct mz_doc *from, const struct mz_doc *to)
{
    return (struct mz_str){ (const char *)to + (s.p - (const char *)from), s.n };
}

struct mz_doc *mz_doc_at_line(const struct mz_doc *d, uint32_t line)
{
    if (d->line == line)
        return mz_doc_ref(d);
    const size_t n = (size_t)(d->of.p + d->of.n + 1 - (const char *)d); /* the last that was put */
    struct mz_doc *own = mz_alloc(MZ_MEM_CONFIG, n);
    memcpy(own, d, n);
    own->refs = 1;
    own->line = line;
    own->ns = moved(d->ns, d, own);
    own->name = moved(d->name, d, own);
    own->file = moved(d->file, d, own);
    own->key = moved(d->key, d, own);
    own->created = moved(d->created, d, own);
    own->meta = moved(d->meta, d, own);
    own->body = moved(d->body, d, own);
    own->of = moved(d->of, d, own);
    return own;
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

/* We packed it: there is nothing to check. */
static const ProtobufCMessage *open_packed(struct mz_str bytes, const ProtobufCMessageDescriptor *d,
                                           struct mz_arena *a)
{
    ProtobufCMessage *m = mz_msg_reopen(bytes, d, a);
    if (MZ_BUG(!m)) {
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
