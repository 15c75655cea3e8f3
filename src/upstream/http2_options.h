#ifndef MZ_UPSTREAM_HTTP2_OPTIONS_H
#define MZ_UPSTREAM_HTTP2_OPTIONS_H
/* Http2ProtocolOptions of a cluster or a connection manager (U7, H2) become the options of a codec. */
#include "base/err.h"
#include "http/codec.h"

struct Envoy__Config__Core__V3__Http2ProtocolOptions;
/*
 * Fills @o, defaults where @m (may be NULL) says nothing. What has to outlive the call is allocated by @keep, zeroed, and
 * belongs to @arg's owner. Size and number of headers, and underscores, are the caller's to set.
 */
bool mz_http2_options_build(const struct Envoy__Config__Core__V3__Http2ProtocolOptions *m, struct mz_http2_opts *o,
                            void *(*keep)(void *arg, size_t n), void *arg, struct mz_err *err);
#endif
