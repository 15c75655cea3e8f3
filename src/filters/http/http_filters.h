#ifndef MZ_FILTERS_HTTP_HTTP_FILTERS_H
#define MZ_FILTERS_HTTP_HTTP_FILTERS_H
/* One line a filter; each in a file of its name. */
#include "hcm/filter.h"
extern const struct mz_http_filter_type mz_filter_buffer;
extern const struct mz_http_filter_type mz_filter_compressor;
extern const struct mz_http_filter_type mz_filter_cors;
extern const struct mz_http_filter_type mz_filter_csrf;
extern const struct mz_http_filter_type mz_filter_decompressor;
extern const struct mz_http_filter_type mz_filter_dynamic_forward_proxy;
extern const struct mz_http_filter_type mz_filter_ext_authz;
extern const struct mz_http_filter_type mz_filter_fault;
extern const struct mz_http_filter_type mz_filter_grpc_stats;
extern const struct mz_http_filter_type mz_filter_grpc_web;
extern const struct mz_http_filter_type mz_filter_header_mutation;
extern const struct mz_http_filter_type mz_filter_header_to_metadata;
extern const struct mz_http_filter_type mz_filter_health_check;
extern const struct mz_http_filter_type mz_filter_ip_tagging;
extern const struct mz_http_filter_type mz_filter_jwt_authn;
extern const struct mz_http_filter_type mz_filter_local_ratelimit;
extern const struct mz_http_filter_type mz_filter_lua; /* in lua/ */
extern const struct mz_http_filter_type mz_filter_on_demand;
extern const struct mz_http_filter_type mz_filter_ratelimit;
extern const struct mz_http_filter_type mz_filter_rbac;
extern const struct mz_http_filter_type mz_filter_set_filter_state;
extern const struct mz_http_filter_type mz_filter_set_metadata;
extern const struct mz_http_filter_type mz_filter_stateful_session;
/* What grpc_stats leaves in the filter state with emit_filter_state: messages so far. */
#define MZ_STATE_GRPC_COUNTS "envoy.filters.http.grpc_stats"
struct mz_grpc_counts {
    struct mz_filter_object base;
    uint64_t request, response;
};
#endif
