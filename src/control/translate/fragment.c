#include "control/translate/fragment.h"

#include "base/log.h"

/* clang-format off */
static const struct {
    const char *type, *text;
} texts[MZ_FRAGMENT__COUNT] = {
    [MZ_FRAGMENT_CLUSTER_EXCHANGE] = { "envoy.config.cluster.v3.Filter",
        "name: istio.metadata_exchange\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/udpa.type.v1.TypedStruct\n"
        "  type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange\n"
        "  value: {enable_discovery: true, protocol: istio-peer-exchange}\n" },
    [MZ_FRAGMENT_PASSTHROUGH_HTTP] = { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options: {idle_timeout: 300s}\n"
        "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}\n" },
    [MZ_FRAGMENT_DOWNSTREAM_HTTP] = { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}\n" },
    [MZ_FRAGMENT_HTTP2] = { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config: {http2_protocol_options: {}}\n" },
    [MZ_FRAGMENT_RAW_BUFFER] = { "envoy.config.core.v3.TransportSocket",
        "name: envoy.transport_sockets.raw_buffer\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}\n" },
    [MZ_FRAGMENT_SDS] = { "envoy.config.core.v3.ConfigSource",
        "api_config_source:\n"
        "  api_type: GRPC\n"
        "  transport_api_version: V3\n"
        "  set_node_on_first_message_only: true\n"
        "  grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]\n"
        "initial_fetch_timeout: 0s\n"
        "resource_api_version: V3\n" },
};
/* clang-format on */

struct mz_fragments {
    struct mz_arena *arena;
    const ProtobufCMessage *v[MZ_FRAGMENT__COUNT];
};

static const ProtobufCMessage *read_one(struct mz_arena *a, unsigned i)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT, .control = true };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    ProtobufCMessage *m = NULL;
    const ProtobufCMessageDescriptor *d = mz_type_find(mz_str_c(texts[i].type));
    if (d && mz_msg_from_text(&ctx, mz_str_c(texts[i].text), MZ_TEXT_YAML, d, &m, &err))
        return m;
    MZ_LOG(CRITICAL, config, "fragment %u of %s: %s", i, texts[i].type,
           d ? mz_err_text(&err, text, sizeof(text)) : "no such type");
    mz_assert_failed("a fragment fits its type", __FILE__, __LINE__);
}

struct mz_fragments *mz_fragments_create(void)
{
    struct mz_fragments *f = mz_new0(MZ_MEM_XDS, struct mz_fragments);
    f->arena = mz_arena_create(MZ_MEM_XDS);
    for (unsigned i = 0; i < MZ_FRAGMENT__COUNT; i++)
        f->v[i] = read_one(f->arena, i);
    return f;
}

void mz_fragments_destroy(struct mz_fragments *f)
{
    if (!f)
        return;
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_XDS, f);
}

const ProtobufCMessage *mz_fragment(const struct mz_fragments *f, enum mz_fragment which)
{
    return f->v[which];
}
