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
    [MZ_FRAGMENT_CLUSTER_UNLIMITED] = { "envoy.config.cluster.v3.CircuitBreakers",
        "thresholds:\n"
        "- {max_connections: 4294967295, max_pending_requests: 4294967295, max_requests: 4294967295, max_retries: 4294967295, track_remaining: true}\n" },
    [MZ_FRAGMENT_CLUSTER_PLAIN] = { "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
        "name: tlsMode-disabled\n"
        "match: {}\n"
        "transport_socket:\n"
        "  name: envoy.transport_sockets.raw_buffer\n"
        "  typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}\n" },
    [MZ_FRAGMENT_CLUSTER_BY_ADS] = { "envoy.config.core.v3.ConfigSource",
        "ads: {}\n"
        "initial_fetch_timeout: 0s\n"
        "resource_api_version: V3\n" },
    [MZ_FRAGMENT_TAKES_MTLS] = { "google.protobuf.Struct", "tlsMode: istio\n" },
    [MZ_FRAGMENT_PASSTHROUGH_HTTP] = { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options: {idle_timeout: 300s}\n"
        "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}\n" },
    [MZ_FRAGMENT_DOWNSTREAM_HTTP] = { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}\n" },
    [MZ_FRAGMENT_RESOLVER] = { "envoy.config.core.v3.TypedExtensionConfig",
        "name: envoy.network.dns_resolver.cares\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig\n"
        "  udp_max_queries: 100\n" },
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
    [MZ_FRAGMENT_HTTP_EXCHANGE_IN] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: istio.metadata_exchange\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/udpa.type.v1.TypedStruct\n"
        "  type_url: type.googleapis.com/io.istio.http.peer_metadata.Config\n"
        "  value: {downstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}], downstream_propagation: [{istio_headers: {}}]}\n" },
    [MZ_FRAGMENT_HTTP_EXCHANGE_OUT] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: istio.metadata_exchange\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/udpa.type.v1.TypedStruct\n"
        "  type_url: type.googleapis.com/io.istio.http.peer_metadata.Config\n"
        "  value: {upstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}], upstream_propagation: [{istio_headers: {}}]}\n" },
    [MZ_FRAGMENT_HTTP_EXCHANGE_MESH] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: istio.metadata_exchange\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/udpa.type.v1.TypedStruct\n"
        "  type_url: type.googleapis.com/io.istio.http.peer_metadata.Config\n"
        "  value: {upstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}], upstream_propagation: [{istio_headers: {skip_external_clusters: true}}]}\n" },
    [MZ_FRAGMENT_PRESERVE_CASE] = { "envoy.config.core.v3.Http1ProtocolOptions",
        "header_key_format:\n"
        "  stateful_formatter:\n"
        "    name: preserve_case\n"
        "    typed_config: {'@type': type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig}\n" },
    [MZ_FRAGMENT_GRPC_STATS] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: envoy.filters.http.grpc_stats\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, emit_filter_state: true, stats_for_all_methods: false}\n" },
    [MZ_FRAGMENT_ALPN] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: istio.alpn\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig\n"
        "  alpn_override:\n"
        "  - {upstream_protocol: HTTP10, alpn_override: [istio-http/1.0, istio, http/1.0]}\n"
        "  - {upstream_protocol: HTTP11, alpn_override: [istio-http/1.1, istio, http/1.1]}\n"
        "  - {upstream_protocol: HTTP2, alpn_override: [istio-h2, istio, h2]}\n" },
    [MZ_FRAGMENT_FAULT] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: envoy.filters.http.fault\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}\n" },
    [MZ_FRAGMENT_CORS] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: envoy.filters.http.cors\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}\n" },
    [MZ_FRAGMENT_ROUTER] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name: envoy.filters.http.router\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n" },
    [MZ_FRAGMENT_MANAGER_IN] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "normalize_path: true\n"
        "path_with_escaped_slashes_action: KEEP_UNCHANGED\n"
        "proxy_100_continue: true\n"
        "request_id_extension: {typed_config: {'@type': type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, use_request_id_for_trace_sampling: true}}\n"
        "stream_idle_timeout: 0s\n"
        "upgrade_configs: [{upgrade_type: websocket}]\n"
        "use_remote_address: false\n"
        "forward_client_cert_details: APPEND_FORWARD\n"
        "set_current_client_cert_details: {subject: true, dns: true, uri: true}\n"
        "server_name: istio-envoy\n" },
    [MZ_FRAGMENT_MANAGER_OUT] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "normalize_path: true\n"
        "path_with_escaped_slashes_action: KEEP_UNCHANGED\n"
        "proxy_100_continue: true\n"
        "request_id_extension: {typed_config: {'@type': type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, use_request_id_for_trace_sampling: true}}\n"
        "stream_idle_timeout: 0s\n"
        "upgrade_configs: [{upgrade_type: websocket}]\n"
        "use_remote_address: false\n" },
    [MZ_FRAGMENT_MANAGER_GATEWAY] = { "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "normalize_path: true\n"
        "path_with_escaped_slashes_action: KEEP_UNCHANGED\n"
        "proxy_100_continue: true\n"
        "http_protocol_options: {}\n"
        "request_id_extension: {typed_config: {'@type': type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, use_request_id_for_trace_sampling: true}}\n"
        "stream_idle_timeout: 0s\n"
        "upgrade_configs: [{upgrade_type: websocket}]\n"
        "use_remote_address: true\n"
        "forward_client_cert_details: SANITIZE_SET\n"
        "set_current_client_cert_details: {subject: true, cert: true, dns: true, uri: true}\n"
        "server_name: istio-envoy\n" },
    [MZ_FRAGMENT_TCP_EXCHANGE] = { "envoy.config.listener.v3.Filter",
        "name: istio.metadata_exchange\n"
        "typed_config:\n"
        "  '@type': type.googleapis.com/udpa.type.v1.TypedStruct\n"
        "  type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange\n"
        "  value: {enable_discovery: true, protocol: istio-peer-exchange}\n" },
    [MZ_FRAGMENT_HTTP_INSPECTOR] = { "envoy.config.listener.v3.ListenerFilter",
        "name: envoy.filters.listener.http_inspector\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}\n" },
    [MZ_FRAGMENT_TLS_INSPECTOR] = { "envoy.config.listener.v3.ListenerFilter",
        "name: envoy.filters.listener.tls_inspector\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector, initial_read_buffer_size: 512}\n" },
    [MZ_FRAGMENT_ORIGINAL_DST] = { "envoy.config.listener.v3.ListenerFilter",
        "name: envoy.filters.listener.original_dst\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}\n" },
    [MZ_FRAGMENT_ORIGINAL_SRC] = { "envoy.config.listener.v3.ListenerFilter",
        "name: envoy.filters.listener.original_src\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc, mark: 1337}\n" },
    [MZ_FRAGMENT_ANY_PATH] = { "envoy.config.route.v3.RouteMatch", "prefix: /\n" },
    [MZ_FRAGMENT_RETRY] = { "envoy.config.route.v3.RetryPolicy",
        "retry_on: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes\n"
        "num_retries: 2\n"
        "host_selection_retry_max_attempts: 5\n"
        "retry_host_predicate:\n"
        "- name: envoy.retry_host_predicates.previous_hosts\n"
        "  typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}\n" },
    [MZ_FRAGMENT_RETRY_PRIORITY] = { "envoy.config.route.v3.RetryPolicy.RetryPriority",
        "name: envoy.retry_priorities.previous_priorities\n"
        "typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 2}\n" },
    [MZ_FRAGMENT_RETRY_IN] = { "envoy.config.route.v3.RetryPolicy",
        "retry_on: reset-before-request\n"
        "num_retries: 2\n" },
};
/* clang-format on */

struct mz_fragments {
    struct mz_arena *arena;
    const ProtobufCMessage *v[MZ_FRAGMENT__COUNT];
    struct mz_packed packed[MZ_FRAGMENT__COUNT];
};

static const ProtobufCMessage *read_one(struct mz_arena *a, unsigned i)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_REJECT, .partial = true, .control = true
    };
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
    for (unsigned i = 0; i < MZ_FRAGMENT__COUNT; i++) {
        f->v[i] = read_one(f->arena, i);
        f->packed[i] = (struct mz_packed){ { .descriptor = &mz_packed__descriptor },
                                           mz_msg_pack_alloc(f->v[i], f->arena) };
    }
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

const struct mz_packed *mz_fragment_packed(const struct mz_fragments *f, enum mz_fragment which)
{
    return &f->packed[which];
}
