#ifndef MZ_FILTERS_REGISTRY_H
#define MZ_FILTERS_REGISTRY_H
/* Every filter there is: registry.c is two arrays. Found by the type of their configuration, not by name. */
#include "hcm/filter.h"
#include "listener/network_filter.h"
const struct mz_lfilter_type *mz_registry_listener_filter(struct mz_str config_type);
const struct mz_net_filter_type *mz_registry_net_filter(struct mz_str config_type);
const struct mz_http_filter_type *mz_registry_http_filter(struct mz_str config_type);
struct mz_tracer_type;
const struct mz_tracer_type *mz_registry_tracer(struct mz_str config_type);
/* A filter of connections to a cluster (cluster.filters): stands around their transport, so that HTTP and TCP pools have it alike. */
struct mz_upstream_filter_type {
    const char *name, *config_type;
    /* Main thread; takes @take_inner's reference in any case, returns one. NULL and err: the path within the message. */
    struct mz_transport_factory *(*around)(const void *msg, const struct mz_factory *f,
                                           const struct mz_transport_factory *take_inner, struct mz_err *err);
};
const struct mz_upstream_filter_type *mz_registry_upstream_filter(struct mz_str config_type);
/* All there are, for who asks a proxy what it can do (Node.extensions). @route_type NULL: as @type. */
void mz_registry_each(void (*fn)(void *arg, const char *category, const char *name, const char *type, const char *route_type),
                      void *arg);
/* Access loggers of this folder, for mz_log_files_set_loggers(). */
struct mz_access_logger_type;
const struct mz_access_logger_type *const *mz_registry_access_loggers(size_t *out_n);
/* On the worker's thread, after its connections were closed and before its upstream goes. */
void mz_registry_worker_stop(struct mz_worker *w);
#endif
