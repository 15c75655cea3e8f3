/* The types of resources, and how one is recognised without reading it whole. */
#include "xds/xds_priv.h"

#define OWN(service, what)                                                                         \
    "/envoy.service." service "DiscoveryService/Stream" what,                                      \
        "/envoy.service." service "DiscoveryService/Delta" what

const struct xds_type xds_types[MZ_XDS_TYPE__COUNT] = {
    [MZ_XDS_CLUSTER] = { &pb_Cluster__descriptor, NULL, "cds",
                         OWN("cluster.v3.Cluster", "Clusters"), "/v3/discovery:clusters", 0 },
    [MZ_XDS_ENDPOINT] = { &pb_ClusterLoadAssignment__descriptor, NULL, "eds",
                          OWN("endpoint.v3.Endpoint", "Endpoints"), "/v3/discovery:endpoints", 0 },
    [MZ_XDS_LISTENER] = { &pb_Listener__descriptor, &pb_ListenerCollection__descriptor, "lds",
                          OWN("listener.v3.Listener", "Listeners"), "/v3/discovery:listeners", 0 },
    [MZ_XDS_ROUTE] = { &pb_RouteConfiguration__descriptor, NULL, "rds",
                       OWN("route.v3.Route", "Routes"), "/v3/discovery:routes", 0 },
    [MZ_XDS_SCOPED_ROUTE] = { &pb_ScopedRouteConfiguration__descriptor, NULL, "srds",
                              OWN("route.v3.ScopedRoutes", "ScopedRoutes"),
                              "/v3/discovery:scoped-routes", 0 },
    [MZ_XDS_VIRTUAL_HOST] = { &pb_VirtualHost__descriptor, NULL, "vhds", NULL,
                              "/envoy.service.route.v3.VirtualHostDiscoveryService/"
                              "DeltaVirtualHosts",
                              NULL, 0 },
    [MZ_XDS_SECRET] = { &pb_Secret__descriptor, NULL, "sds", OWN("secret.v3.Secret", "Secrets"),
                        "/v3/discovery:secrets", 0 },
    [MZ_XDS_RUNTIME] = { &pb_Runtime__descriptor, NULL, "rtds",
                         OWN("runtime.v3.Runtime", "Runtime"), "/v3/discovery:runtime", 0 },
    [MZ_XDS_EXTENSION] = { &pb_TypedExtensionConfig__descriptor, NULL, "ecds",
                           OWN("extension.v3.ExtensionConfig", "ExtensionConfigs"),
                           "/v3/discovery:extension_configs", 0 },
    [MZ_XDS_WORKLOAD] = { .descriptor = &pb_Workload__descriptor,
                          .short_name = "workloads",
                          .name_field = 20 },
};

const ProtobufCMessageDescriptor *mz_xds_descriptor(enum mz_xds_type t)
{
    return xds_types[t].descriptor;
}

/* ---- the wire format, as far as the name ---- */

static bool varint(const unsigned char **at, const unsigned char *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char b = *(*at)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

bool resource_name(struct mz_str bytes, unsigned field, struct mz_str *out_name)
{
    enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
    *out_name = MZ_STR("");
    if (!bytes.n) /* p may be NULL */
        return true;
    const unsigned char *at = (const unsigned char *)bytes.p, *end = at + bytes.n;
    while (at < end) {
        uint64_t tag, n;
        if (!varint(&at, end, &tag))
            return false;
        switch (tag & 7) {
        case VARINT:
            if (!varint(&at, end, &n))
                return false;
            continue;
        case FIXED64:
            n = 8;
            break;
        case FIXED32:
            n = 4;
            break;
        case BYTES:
            if (!varint(&at, end, &n))
                return false;
            break;
        default:
            return false;
        }
        if (n > (uint64_t)(end - at))
            return false;
        if (tag == ((uint64_t)field << 3 | BYTES))
            *out_name = (struct mz_str){ (const char *)at, (size_t)n };
        at += n;
    }
    return true;
}

bool resource_of_any(const pb_Any *any, enum mz_xds_type type, struct mz_str version,
                     struct mz_resource *out, struct mz_err *err)
{
    const char *wanted = xds_types[type].descriptor->name;
    struct mz_str is = mz_any_type(any);
    if (!mz_str_eq(is, mz_str_c(wanted)))
        return mz_err_set(err, "is a \"" MZ_STR_FMT "\", expected a %s",
                          MZ_STR_ARG(((struct mz_str){ is.p, is.n > 200 ? 200 : is.n })), wanted);
    *out = (struct mz_resource){ .version = version,
                                 .bytes = { (const char *)any->value.data, any->value.len } };
    unsigned field = xds_types[type].name_field;
    return resource_name(out->bytes, field ? field : 1, &out->name) ||
           mz_err_set(err, "not the binary form of %s", wanted);
}

bool resource_of_message(const pb_Resource *m, enum mz_xds_type type, struct mz_str version,
                         struct wrapped *out, struct mz_err *err)
{
    struct mz_str own = m->version && m->version[0] ? mz_str_c(m->version) : version;
    *out = (struct wrapped){ .heartbeat = !m->resource };
    if (!mz_duration_ms(m->ttl, 0, &out->ttl_ms, err))
        return mz_err_at(err, "ttl");
    if (m->resource && !resource_of_any(m->resource, type, own, &out->r, err))
        return mz_err_at(err, "resource");
    if (m->name && m->name[0])
        out->r.name = mz_str_c(m->name);
    out->r.version = own;
    return true;
}

bool resource_unwrap(const pb_Any *any, enum mz_xds_type type, struct mz_str version,
                     struct mz_arena *a, struct wrapped *out, struct mz_err *err)
{
    *out = (struct wrapped){ .ttl_ms = 0 };
    if (!mz_str_eq(mz_any_type(any), mz_str_c(pb_Resource__descriptor.name)))
        return resource_of_any(any, type, version, &out->r, err);
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true
    };
    const struct mz_str bytes = { (const char *)any->value.data, any->value.len };
    ProtobufCMessage *m;
    return mz_msg_unpack(&ctx, bytes, &pb_Resource__descriptor, &m, err) &&
           resource_of_message((const pb_Resource *)m, type, version, out, err);
}

bool mz_resource_open(struct mz_xds *x, const struct mz_resource *r, enum mz_xds_type type,
                      struct mz_proto_ctx *ctx, ProtobufCMessage **out_msg, struct mz_err *err)
{
    struct mz_arena *a = ctx->arena;
    *ctx = (struct mz_proto_ctx){ .arena = a,
                                  .unknown = x->env.reject_unknown ? MZ_UNKNOWN_REJECT
                                                                   : MZ_UNKNOWN_COUNT };
    bool ok = mz_msg_unpack(ctx, r->bytes, xds_types[type].descriptor, out_msg, err);
    if (ctx->unknown_n)
        MZ_LOG(WARN, config, "%s '" MZ_STR_FMT "' has unknown fields: %s",
               xds_types[type].short_name, MZ_STR_ARG(r->name), ctx->unknown_path);
    x->unknown_fields += ctx->unknown_n;
    return ok;
}
