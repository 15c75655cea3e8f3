#ifndef MZ_FILTERS_LISTENER_LISTENER_FILTERS_H
#define MZ_FILTERS_LISTENER_LISTENER_FILTERS_H
#include "listener/listener_filter.h"

extern const struct mz_lfilter_type mz_lfilter_http_inspector, mz_lfilter_local_ratelimit, mz_lfilter_original_dst,
    mz_lfilter_original_src, mz_lfilter_proxy_protocol, mz_lfilter_tls_inspector;
#endif
