#ifndef MZ_FILTERS_ISTIO_ISTIO_FILTERS_H
#define MZ_FILTERS_ISTIO_ISTIO_FILTERS_H
/* The filters of this folder (S1-S3); ../registry.c lists them. */
#include "hcm/filter.h"
#include "listener/network_filter.h"

extern const struct mz_http_filter_type mz_filter_istio_alpn;
extern const struct mz_http_filter_type mz_filter_istio_stats;
extern const struct mz_http_filter_type mz_filter_peer_metadata;
extern const struct mz_net_filter_type mz_net_filter_istio_stats;
extern const struct mz_net_filter_type mz_net_filter_metadata_exchange;
struct mz_upstream_filter_type;
extern const struct mz_upstream_filter_type mz_upstream_filter_metadata_exchange;
#endif
