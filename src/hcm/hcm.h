#ifndef MZ_HCM_HCM_H
#define MZ_HCM_HCM_H
/*
 * The HTTP connection manager (H4): a terminal network filter. hcm_config.c builds its configuration, conn.c serves a
 * connection (codec, drain, idle), stream.c one request, filter_chain.c iterates, local_reply.c answers, mutate.c does the
 * manager's own header work (XFF, request id, via, path), stats.c has the table.
 */
#include "listener/network_filter.h"

extern const struct mz_net_filter_type mz_net_filter_hcm;
struct mz_hcm_config;
struct mz_stream;

/* A configuration that is not from a message: the admin listener. Terminal filter given; limits are Envoy's for admin. */
struct mz_http_filter_type;
struct mz_hcm_config *mz_hcm_config_admin(const struct mz_factory *f, const struct mz_http_filter_type *terminal, const void *cfg,
                                          struct mz_err *err);
/* Access logs of the admin listener; before it serves. The error's path begins with access_log[i]. */
struct Envoy__Config__Accesslog__V3__AccessLog;
bool mz_hcm_config_add_logs(struct mz_hcm_config *c, struct Envoy__Config__Accesslog__V3__AccessLog *const *v, size_t n,
                            const struct mz_factory *f, struct mz_err *err);
void mz_hcm_config_destroy(struct mz_hcm_config *c);

/* POST /logging?header=x-debug:1&level=trace and ?connection=: see server/. Any thread; one rule at a time. */
struct mz_route_table;
const struct mz_route_table *mz_hcm_route_table(const struct mz_hcm_config *c); /* for /config_dump and explain */
/* POST /mizzen/explain, main thread: nothing is sent. @i has addresses, transport, arena and decision. */
struct mz_decision;
struct mz_headers;
struct mz_stream_info;
struct mz_route;
struct mz_imagined;
/* Runs the manager's header work and its choice of a route on @h; NULL: none. */
const struct mz_route *mz_hcm_explain(const struct mz_hcm_config *c, struct mz_headers *h, struct mz_stream_info *i);
struct mz_str mz_hcm_routes_name(const struct mz_hcm_config *c); /* of the table that this thread has now; "" */
/* Asks its filters, in their order, up to one that would answer itself (q->status). @asked is told of each that is on here,
 * and whether it could be asked. */
void mz_hcm_explain_filters(const struct mz_hcm_config *c, struct mz_imagined *q,
                            void (*asked)(void *arg, struct mz_str name, const char *type, bool known), void *arg);
#endif
