/* Node.extensions: what this program can be configured with, for control planes that ask (X1) and for /server_info. */
#include "filters/registry.h"
#include "server/pages_priv.h"
#include "server/server.h"

/* Those that no registry holds. */
static const struct {
    const char *category, *name, *type;
} others[] = {
    { "envoy.access_loggers", "envoy.access_loggers.file",
      "envoy.extensions.access_loggers.file.v3.FileAccessLog" },
    { "envoy.access_loggers", "envoy.access_loggers.http_grpc",
      "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig" },
    { "envoy.access_loggers", "envoy.access_loggers.open_telemetry",
      "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig" },
    { "envoy.access_loggers", "envoy.access_loggers.stderr",
      "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" },
    { "envoy.access_loggers", "envoy.access_loggers.stdout",
      "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" },
    { "envoy.access_loggers", "envoy.access_loggers.tcp_grpc",
      "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig" },
    { "envoy.access_loggers.extension_filters", "envoy.access_loggers.extension_filters.cel",
      "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter" },
    { "envoy.bootstrap", "envoy.bootstrap.internal_listener",
      "envoy.extensions.bootstrap.internal_listener.v3.InternalListener" },
    { "envoy.path.match", "envoy.path.match.uri_template.uri_template_matcher",
      "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig" },
    { "envoy.path.rewrite", "envoy.path.rewrite.uri_template.uri_template_rewriter",
      "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig" },
    { "envoy.request_id", "envoy.request_id.uuid",
      "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" },
    { "envoy.resource_monitors", "envoy.resource_monitors.global_downstream_max_connections",
      "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig" },
    { "envoy.retry_host_predicates", "envoy.retry_host_predicates.previous_hosts",
      "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" },
    { "envoy.retry_priorities", "envoy.retry_priorities.previous_priorities",
      "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" },
    { "envoy.transport_sockets.downstream", "envoy.transport_sockets.raw_buffer",
      "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" },
    { "envoy.transport_sockets.downstream", "envoy.transport_sockets.tcp_stats",
      "envoy.extensions.transport_sockets.tcp_stats.v3.Config" },
    { "envoy.transport_sockets.downstream", "envoy.transport_sockets.tls",
      "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" },
    { "envoy.transport_sockets.upstream", "envoy.transport_sockets.internal_upstream",
      "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport" },
    { "envoy.transport_sockets.upstream", "envoy.transport_sockets.raw_buffer",
      "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" },
    { "envoy.transport_sockets.upstream", "envoy.transport_sockets.tcp_stats",
      "envoy.extensions.transport_sockets.tcp_stats.v3.Config" },
    { "envoy.transport_sockets.upstream", "envoy.transport_sockets.tls",
      "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" },
    { "envoy.transport_sockets.upstream", "envoy.transport_sockets.upstream_proxy_protocol",
      "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" },
};

struct list {
    struct mz_arena *arena;
    pb_Extension **v; /* NULL: they are only counted */
    size_t n;
};

static void add(void *arg, const char *category, const char *name, const char *type,
                const char *route_type)
{
    struct list *l = arg;
    if (!l->v) {
        l->n++;
        return;
    }
    pb_Extension *e = page_new(l->arena, &pb_Extension__descriptor);
    e->name = page_chars(name);
    e->category = page_chars(category);
    e->type_urls = mz_arena_alloc(l->arena, 2 * sizeof(*e->type_urls));
    e->type_urls[e->n_type_urls++] = page_chars(type);
    if (route_type)
        e->type_urls[e->n_type_urls++] = page_chars(route_type);
    l->v[l->n++] = e;
}

static void each(struct list *l)
{
    l->n = 0;
    mz_registry_each(add, l);
    for (size_t i = 0; i < MZ_COUNT(others); i++)
        add(l, others[i].category, others[i].name, others[i].type, NULL);
}

void mz_server_abilities(struct mz_arena *a, pb_Node *node)
{
    struct list l = { .arena = a };
    each(&l);
    l.v = mz_arena_alloc0(a, l.n * sizeof(struct Envoy__Config__Core__V3__Extension *));
    each(&l);
    node->extensions = l.v;
    node->n_extensions = l.n;
}
