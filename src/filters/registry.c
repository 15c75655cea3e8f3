#include "filters/registry.h"

#include "filters/access_loggers/grpc_log.h"
#include "filters/http/http_filters.h"
#include "filters/istio/istio_filters.h"
#include "filters/listener/listener_filters.h"
#include "filters/network/network_filters.h"
#include "filters/tracers/tracers.h"
#include "hcm/hcm.h"
#include "router/router.h"

/* clang-format off */
static const struct mz_http_filter_type *const http_filters[] = {
    &mz_filter_buffer,
    &mz_filter_compressor,
    &mz_filter_cors,
    &mz_filter_csrf,
    &mz_filter_decompressor,
    &mz_filter_dynamic_forward_proxy,
    &mz_filter_ext_authz,
    &mz_filter_fault,
    &mz_filter_grpc_stats,
    &mz_filter_grpc_web,
    &mz_filter_header_mutation,
    &mz_filter_header_to_metadata,
    &mz_filter_health_check,
    &mz_filter_ip_tagging,
    &mz_filter_istio_alpn,
    &mz_filter_istio_stats,
    &mz_filter_jwt_authn,
    &mz_filter_local_ratelimit,
    &mz_filter_lua,
    &mz_filter_on_demand,
    &mz_filter_peer_metadata,
    &mz_filter_ratelimit,
    &mz_filter_rbac,
    &mz_filter_router,
    &mz_filter_set_filter_state,
    &mz_filter_set_metadata,
    &mz_filter_stateful_session,
};
/* clang-format on */

/* clang-format off */
static const struct mz_net_filter_type *const net_filters[] = {
    &mz_net_filter_connection_limit,
    &mz_net_filter_direct_response,
    &mz_net_filter_echo,
    &mz_net_filter_ext_authz,
    &mz_net_filter_hcm,
    &mz_net_filter_istio_stats,
    &mz_net_filter_kafka_broker,
    &mz_net_filter_local_ratelimit,
    &mz_net_filter_mongo_proxy,
    &mz_net_filter_metadata_exchange,
    &mz_net_filter_mysql_proxy,
    &mz_net_filter_postgres_proxy,
    &mz_net_filter_rbac,
    &mz_net_filter_redis_proxy,
    &mz_net_filter_set_filter_state,
    &mz_net_filter_sni_cluster,
    &mz_net_filter_sni_dynamic_forward_proxy,
    &mz_net_filter_tcp_proxy,
};
/* clang-format on */

static const struct mz_lfilter_type *const listener_filters[] = {
    &mz_lfilter_http_inspector, &mz_lfilter_local_ratelimit, &mz_lfilter_original_dst,
    &mz_lfilter_original_src,   &mz_lfilter_proxy_protocol,  &mz_lfilter_tls_inspector,
};

static const struct mz_upstream_filter_type *const upstream_filters[] = {
    &mz_upstream_filter_metadata_exchange,
};

static const struct mz_access_logger_type *const access_loggers[] = { &mz_access_logger_http_grpc,
                                                                      &mz_access_logger_tcp_grpc,
                                                                      &mz_access_logger_otel };

static const struct mz_tracer_type *const tracers[] = { &mz_tracer_opentelemetry,
                                                        &mz_tracer_zipkin };

const struct mz_tracer_type *mz_registry_tracer(struct mz_str config_type)
{
    for (size_t i = 0; i < MZ_COUNT(tracers); i++)
        if (mz_str_eq(config_type, mz_str_c(tracers[i]->config_type)))
            return tracers[i];
    return NULL;
}

const struct mz_access_logger_type *const *mz_registry_access_loggers(size_t *out_n)
{
    *out_n = MZ_COUNT(access_loggers);
    return access_loggers;
}

const struct mz_lfilter_type *mz_registry_listener_filter(struct mz_str config_type)
{
    for (size_t i = 0; i < MZ_COUNT(listener_filters); i++)
        if (mz_str_eq(config_type, mz_str_c(listener_filters[i]->config_type)))
            return listener_filters[i];
    return NULL;
}

const struct mz_net_filter_type *mz_registry_net_filter(struct mz_str config_type)
{
    for (size_t i = 0; i < MZ_COUNT(net_filters); i++)
        if (mz_str_eq(config_type, mz_str_c(net_filters[i]->config_type)))
            return net_filters[i];
    return NULL;
}

const struct mz_http_filter_type *mz_registry_http_filter(struct mz_str config_type)
{
    for (size_t i = 0; i < MZ_COUNT(http_filters); i++)
        if (mz_str_eq(config_type, mz_str_c(http_filters[i]->config_type)) ||
            mz_str_eq(config_type, mz_str_c(http_filters[i]->route_config_type)))
            return http_filters[i];
    return NULL;
}

const struct mz_upstream_filter_type *mz_registry_upstream_filter(struct mz_str config_type)
{
    for (size_t i = 0; i < MZ_COUNT(upstream_filters); i++)
        if (mz_str_eq(config_type, mz_str_c(upstream_filters[i]->config_type)))
            return upstream_filters[i];
    return NULL;
}

void mz_registry_each(void (*fn)(void *arg, const char *category, const char *name,
                                 const char *type, const char *route_type),
                      void *arg)
{
    for (size_t i = 0; i < MZ_COUNT(http_filters); i++)
        fn(arg, "envoy.filters.http", http_filters[i]->name, http_filters[i]->config_type,
           http_filters[i]->route_config_type);
    for (size_t i = 0; i < MZ_COUNT(net_filters); i++)
        fn(arg, "envoy.filters.network", net_filters[i]->name, net_filters[i]->config_type, NULL);
    for (size_t i = 0; i < MZ_COUNT(listener_filters); i++)
        fn(arg, "envoy.filters.listener", listener_filters[i]->name,
           listener_filters[i]->config_type, NULL);
    for (size_t i = 0; i < MZ_COUNT(upstream_filters); i++)
        fn(arg, "envoy.filters.upstream_network", upstream_filters[i]->name,
           upstream_filters[i]->config_type, NULL);
}

void mz_registry_worker_stop(struct mz_worker *w)
{
    for (size_t i = 0; i < MZ_COUNT(net_filters); i++)
        if (net_filters[i]->worker_stop)
            net_filters[i]->worker_stop(w);
}
