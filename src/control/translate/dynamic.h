#ifndef MZ_CONTROL_TRANSLATE_DYNAMIC_H
#define MZ_CONTROL_TRANSLATE_DYNAMIC_H
/*
 * ServiceEntries of resolution DYNAMIC_DNS, and a mesh whose outboundTrafficPolicy is ALLOW_ANY_DYNAMIC_DNS: hosts are wildcards, and sidecars resolve the name that a request or a TLS client asks
 * for. Each host has a DNS cache, which its clusters share with the filters in front of them.
 */
#include "control/translate/translate_priv.h"

#define TR_DYNAMIC_CLUSTER "AllowAnyDynamicDNSCluster" /* of names that no service has (outboundTrafficPolicy) */

bool tr_dynamic_speaks(enum mz_protocol p); /* names are in requests or in TLS: of other protocols there is no cluster */
/* The last step of a cluster: it is one of a dynamic forward proxy. */
void tr_dynamic_cluster(struct tr_cluster *c);
/* The same for what no service stands for; @t NULL: without TLS. */
void tr_dynamic_cluster_of_mesh(struct tr_cluster *c, const ist_ClientTLSSettings *t);
/* @host "": whatever no service stands for. */
pb_HttpFilter *tr_dynamic_http_filter(struct mz_view *v, struct mz_arena *a, struct mz_str host);
pb_Filter *tr_dynamic_sni_filter(struct mz_view *v, struct mz_arena *a, struct mz_str host, uint16_t port);
#endif
