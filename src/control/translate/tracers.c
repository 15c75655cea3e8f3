/* Providers of spans as Envoy's tracers. */
#include <stdlib.h>

#include "control/translate/providers.h"
#include "control/translate/telemetry.h"

typedef ist_MeshConfig_ExtensionProvider provider;
typedef ist_MeshConfig_ExtensionProvider_HttpHeader provider_header;

static void use(struct mz_arena *a, pb_HttpConnectionManager_Tracing *t, const char *name,
                const void *config, uint32_t tag_length)
{
    t->provider = TR_NEW(a, Tracing_Http);
    t->provider->name = TR_CONST(name);
    t->provider->config_type_case = pb_Tracing_Http_CONFIG_TYPE_TYPED_CONFIG;
    t->provider->typed_config = tr_any(a, config);
    if (tag_length)
        t->max_path_tag_length = tr_u32(a, tag_length);
}

/* A value, or what a variable of ours says. */
static pb_HeaderValue *header(struct mz_arena *a, const provider_header *h)
{
    pb_HeaderValue *m = TR_NEW(a, HeaderValue);
    m->key = h->name;
    if (h->header_value_case == ist_MeshConfig_ExtensionProvider_HttpHeader_HEADER_VALUE_VALUE)
        m->value = h->value;
    if (h->header_value_case == ist_MeshConfig_ExtensionProvider_HttpHeader_HEADER_VALUE_ENV_NAME) {
        const char *v = getenv(h->env_name); /* nobody changes it while we run */
        m->value = tr_text(a, mz_str_c(v));
    }
    return m;
}

static pb_HttpService *http_service(struct mz_arena *a, char *uri, char *cluster,
                                    pb_Duration *timeout, provider_header *const *headers, size_t n)
{
    pb_HttpService *s = TR_NEW(a, HttpService);
    s->http_uri = TR_NEW(a, HttpUri);
    s->http_uri->uri = uri;
    s->http_uri->http_upstream_type_case = pb_HttpUri_HTTP_UPSTREAM_TYPE_CLUSTER;
    s->http_uri->cluster = cluster;
    s->http_uri->timeout = timeout;
    for (size_t i = 0; i < n; i++) {
        pb_HeaderValueOption *o = TR_NEW(a, HeaderValueOption);
        o->header = header(a, headers[i]);
        o->append_action = pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD;
        TR_ADD(a, s, request_headers_to_add) = o;
    }
    return s;
}

static bool is_at_least(const struct mz_view *v, unsigned version)
{
    return v->proxy->release >= version;
}

static bool zipkin(struct mz_view *v, const provider *p, pb_HttpConnectionManager_Tracing *t,
                   struct mz_err *why)
{
    const ist_MeshConfig_ExtensionProvider_ZipkinTracingProvider *z = p->zipkin;
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    if (!tr_provider_cluster(v, a, z->service, z->port, &to, why))
        return false;
    char *path = TR_CONST(z->path[0] ? z->path : "/api/v2/spans");
    pb_ZipkinConfig *m = TR_NEW(a, ZipkinConfig);
    m->collector_endpoint_version = pb_ZipkinConfig_CollectorEndpointVersion_HTTP_JSON;
    m->trace_id_128bit = !z->enable_64bit_trace_id;
    m->shared_span_context = tr_bool(a, false);
    if (is_at_least(v, 129)) {
        pb_Duration *five = TR_NEW(a, Duration);
        five->seconds = 5;
        m->collector_service =
            http_service(a, TR_PRINTF(a, "http://%s%s", to.host, path), to.cluster,
                         z->timeout ? z->timeout : five, z->headers, z->n_headers);
    } else { /* older proxies know these fields only */
        m->collector_cluster = to.cluster;
        m->collector_endpoint = path;
        m->collector_hostname = to.host;
    }
    if (is_at_least(v, 128) &&
        z->trace_context_option ==
            ist_MeshConfig_ExtensionProvider_ZipkinTracingProvider_TraceContextOption_USE_B3_WITH_W3C_PROPAGATION)
        m->trace_context_option = pb_ZipkinConfig_TraceContextOption_USE_B3_WITH_W3C_PROPAGATION;
    use(a, t, "envoy.tracers.zipkin", m, z->max_tag_length);
    return true;
}

static bool datadog(struct mz_view *v, const provider *p, pb_HttpConnectionManager_Tracing *t,
                    struct mz_err *why)
{
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    if (!tr_provider_cluster(v, a, p->datadog->service, p->datadog->port, &to, why))
        return false;
    pb_DatadogConfig *m = TR_NEW(a, DatadogConfig);
    m->collector_cluster = to.cluster;
    m->service_name = tr_text(a, v->proxy->service_cluster);
    m->collector_hostname = to.host;
    use(a, t, "envoy.tracers.datadog", m, p->datadog->max_tag_length);
    return true;
}

static bool skywalking(struct mz_view *v, const provider *p, pb_HttpConnectionManager_Tracing *t,
                       struct mz_err *why)
{
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    if (!tr_provider_cluster(v, a, p->skywalking->service, p->skywalking->port, &to, why))
        return false;
    pb_SkyWalkingConfig *m = TR_NEW(a, SkyWalkingConfig);
    m->grpc_service = tr_provider_grpc(a, &to);
    use(a, t, "envoy.tracers.skywalking", m, 0);
    t->spawn_upstream_span = tr_bool(a, true);
    return true;
}

/* ---- OpenTelemetry ---- */

static pb_TypedExtensionConfig *detector(struct mz_arena *a, const char *name, const void *config)
{
    pb_TypedExtensionConfig *e = TR_NEW(a, TypedExtensionConfig);
    e->name = TR_CONST(name);
    e->typed_config = tr_any(a, config);
    return e;
}

static void detectors(struct mz_arena *a,
                      const ist_MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider *o,
                      bool semantic, pb_OpenTelemetryConfig *m)
{
    const ist_MeshConfig_ExtensionProvider_ResourceDetectors *d = o->resource_detectors;
    if (d && d->environment)
        TR_ADD(a, m, resource_detectors) =
            detector(a, "envoy.tracers.opentelemetry.resource_detectors.environment",
                     TR_NEW(a, EnvironmentResourceDetectorConfig));
    if (d && d->dynatrace)
        TR_ADD(a, m, resource_detectors) =
            detector(a, "envoy.tracers.opentelemetry.resource_detectors.dynatrace",
                     TR_NEW(a, DynatraceResourceDetectorConfig));
    if (semantic && !(d && d->environment)) /* OTEL_RESOURCE_ATTRIBUTES of the proxy counts, too */
        TR_ADD(a, m, resource_detectors) =
            detector(a, "envoy.tracers.opentelemetry.resource_detectors.environment",
                     TR_NEW(a, EnvironmentResourceDetectorConfig));
}

/* "host/path", with one slash between. */
static char *joined(struct mz_arena *a, const char *host, const char *path)
{
    while (*path == '/')
        path++;
    return *path ? TR_PRINTF(a, "%s/%s", host, path) : TR_CONST(host);
}

static bool otel(struct mz_view *v, const provider *p, pb_HttpConnectionManager_Tracing *t,
                 struct mz_err *why)
{
    const ist_MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider *o = p->opentelemetry;
    const ist_MeshConfig_ExtensionProvider_HttpService *h = o->http;
    const ist_MeshConfig_ExtensionProvider_GrpcService *g = o->grpc;
    const bool semantic =
        o->service_attribute_enrichment ==
        ist_MeshConfig_ExtensionProvider_ServiceAttributeEnrichment_OTEL_SEMANTIC_CONVENTIONS;
    struct mz_arena *a = v->arena;
    struct tr_provider_cluster to;
    if (!tr_provider_cluster(v, a, o->service, o->port, &to, why))
        return false;
    pb_OpenTelemetryConfig *m = TR_NEW(a, OpenTelemetryConfig);
    m->service_name = tr_text(a, semantic ? v->proxy->otel_name : v->proxy->service_cluster);
    if (h) {
        m->http_service = http_service(a, joined(a, to.host, h->path), to.cluster, h->timeout,
                                       h->headers, h->n_headers);
    } else {
        m->grpc_service = tr_provider_grpc(a, &to);
        m->grpc_service->timeout = g ? g->timeout : NULL;
        for (size_t i = 0; g && i < g->n_initial_metadata; i++)
            TR_ADD(a, m->grpc_service, initial_metadata) = header(a, g->initial_metadata[i]);
    }
    detectors(a, o, semantic, m);
    use(a, t, "envoy.tracers.opentelemetry", m, o->max_tag_length);
    return true;
}

bool tr_tracer(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p,
               pb_HttpConnectionManager_Tracing *t, struct mz_err *why)
{
    if (v->proxy->type == MZ_PROXY_ROUTER)
        t->spawn_upstream_span = tr_bool(v->arena, true);
    switch (p->provider_case) {
    case ist_MeshConfig_ExtensionProvider_PROVIDER_ZIPKIN:
        return zipkin(v, p, t, why);
    case ist_MeshConfig_ExtensionProvider_PROVIDER_DATADOG:
        return datadog(v, p, t, why);
    case ist_MeshConfig_ExtensionProvider_PROVIDER_SKYWALKING:
        return skywalking(v, p, t, why);
    case ist_MeshConfig_ExtensionProvider_PROVIDER_OPENTELEMETRY:
        return otel(v, p, t, why);
    default:
        return mz_err_set(why, "it is no provider of spans");
    }
}
