#ifndef MZ_FILTERS_NETWORK_NETWORK_FILTERS_H
#define MZ_FILTERS_NETWORK_NETWORK_FILTERS_H
/* The network filters of this folder (L5); ../registry.c lists them with the connection manager. */
#include "listener/network_filter.h"

extern const struct mz_net_filter_type mz_net_filter_connection_limit;
extern const struct mz_net_filter_type mz_net_filter_direct_response;
extern const struct mz_net_filter_type mz_net_filter_echo;
extern const struct mz_net_filter_type mz_net_filter_ext_authz;
extern const struct mz_net_filter_type mz_net_filter_kafka_broker;
extern const struct mz_net_filter_type mz_net_filter_local_ratelimit;
extern const struct mz_net_filter_type mz_net_filter_mongo_proxy;
extern const struct mz_net_filter_type mz_net_filter_mysql_proxy;
extern const struct mz_net_filter_type mz_net_filter_postgres_proxy;
extern const struct mz_net_filter_type mz_net_filter_rbac;
extern const struct mz_net_filter_type mz_net_filter_redis_proxy;
extern const struct mz_net_filter_type mz_net_filter_set_filter_state;
extern const struct mz_net_filter_type mz_net_filter_sni_cluster;
extern const struct mz_net_filter_type mz_net_filter_sni_dynamic_forward_proxy;
extern const struct mz_net_filter_type mz_net_filter_tcp_proxy;
#endif
