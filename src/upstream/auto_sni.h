#ifndef MZ_UPSTREAM_AUTO_SNI_H
#define MZ_UPSTREAM_AUTO_SNI_H
/* upstream_http_protocol_options: the server name of a cluster's TLS connections comes from each request (T1). */
#include "upstream/cluster.h"

struct mz_auto_sni { /* immutable, of the cluster */
    bool sni, san;        /* for the handshake; as a name that the peer's certificate must have */
    struct mz_str header; /* lower case, instead of the host; "" none */
};
const struct mz_auto_sni *mz_cluster_auto_sni(const struct mz_cluster *c); /* NULL: neither; any thread */
#endif
