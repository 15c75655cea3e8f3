#ifndef MZ_OBSERVE_LOG_FILTER_H
#define MZ_OBSERVE_LOG_FILTER_H
/* envoy.config.accesslog.v3.AccessLogFilter: which requests are logged (O2); local_reply_config asks the same questions of
 * its answers. Immutable, any thread. */
#include "base/err.h"
#include "observe/format.h"

struct mz_log_filter;
struct Envoy__Config__Accesslog__V3__AccessLogFilter;
struct mz_log_filter *mz_log_filter_create(const struct Envoy__Config__Accesslog__V3__AccessLogFilter *m, struct mz_err *err);
void mz_log_filter_destroy(struct mz_log_filter *f); /* NULL is fine */
bool mz_log_filter_match(const struct mz_log_filter *f, const struct mz_format_ctx *c);
#endif
