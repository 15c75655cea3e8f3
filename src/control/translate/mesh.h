#ifndef MZ_CONTROL_TRANSLATE_MESH_H
#define MZ_CONTROL_TRANSLATE_MESH_H
/* What the MeshConfig, and the settings of one proxy, say of everything: connection managers, TLS, names of statistics. */
#include "control/translate/translate_priv.h"

const ist_mesh_ProxyConfig *tr_proxy_config(const struct mz_view *v); /* the proxy's own, else the mesh's; NULL: none */
/* pathNormalization, proxyHeaders, gatewayTopology; @m is not shared. */
void tr_mesh_manager(const struct mz_view *v, struct mz_arena *a, enum tr_class class, pb_HttpConnectionManager *m);
/* connectionSettings: after all else, which they override. */
void tr_mesh_connections(const struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m);
pb_UInt32Value *tr_mesh_buffer_limit(const struct mz_view *v, struct mz_arena *a); /* of a gateway's listeners; NULL: the proxy's */
pb_UInt32Value *tr_mesh_accepts(const struct mz_view *v, struct mz_arena *a); /* connections at once of what listens itself; NULL: any number */
pb_Duration *tr_mesh_handshake(const struct mz_view *v, struct mz_arena *a); /* the longest; NULL: as long as it takes */
pb_Listener_ConnectionBalanceConfig *tr_mesh_balance(struct mz_arena *a); /* over workers, exactly */
const pb_Http1ProtocolOptions *tr_mesh_http1(const struct mz_view *v); /* names of headers keep their case; NULL: they need not */
#define TR_SESSIONS "envoy.filters.http.stateful_session"
bool tr_mesh_hides_debug_headers(const struct mz_view *v);
bool tr_mesh_appends_host(const struct mz_view *v); /* x-forwarded-host, where the authority is another */
bool tr_mesh_exchanges_within(const struct mz_view *v); /* peers outside of the mesh are told nothing of the workload */
bool tr_mesh_counts_attempts(const struct mz_view *v); /* x-envoy-attempt-count to upstreams */
bool tr_mesh_takes_proxy_protocol(const struct mz_view *v); /* gateways behind a balancer that speaks it */
/* tlsDefaults: of TLS that is not the mesh's own. @p is not shared, or NULL and made when there is something to say. */
void tr_mesh_tls(const struct mz_view *v, struct mz_arena *a, pb_TlsParameters **p);
/* What defaultTrafficPolicy says where a rule says nothing. */
struct mz_policy tr_mesh_policy(const struct mz_view *v, struct mz_policy p);
bool tr_mesh_dials_loopback(const struct mz_view *v); /* inboundTrafficPolicy LOCALHOST */
/* A pattern of inboundClusterStatName and outboundClusterStatName filled in; @s may be NULL. */
char *tr_mesh_stat_name(struct mz_arena *a, const char *pattern, const struct mz_service *s, struct mz_str subset, const struct mz_port *p,
                        unsigned target);
/* Where a sidecar catches what comes (@in), or leaves. */
uint16_t tr_mesh_port(const struct mz_view *v, bool in);
#endif
