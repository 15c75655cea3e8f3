#ifndef MZ_CONTROL_TRANSLATE_PROXYLESS_H
#define MZ_CONTROL_TRANSLATE_PROXYLESS_H
/*
 * Clients and servers of gRPC without a proxy (C6; gRPC's proposals A27, A28, A29, A36, A41): what they ask for by name, of what
 * they can do. Routes are those of routes.c, under the name of a cluster.
 */
#include "control/translate/translate_priv.h"

/* "web.demo.svc.cluster.local:7070", short names too: of what is dialled; "xds.istio.io/grpc/lds/inbound/0.0.0.0:7070": of what is
 * served. NULL: nobody has this host or port. */
struct mz_out *tr_proxyless_listener(struct mz_view *v, struct mz_str name);
struct mz_out *tr_proxyless_cluster(struct mz_view *v, struct mz_str name); /* NULL: not a name of clusters, or no such subset */
#endif
