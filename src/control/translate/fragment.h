#ifndef MZ_CONTROL_TRANSLATE_FRAGMENT_H
#define MZ_CONTROL_TRANSLATE_FRAGMENT_H
/* Pieces of configuration that are the same in every resource, written as text (fragment.c), read and checked once. */
#include "proto/mapper.h"
#include "proto/pack.h"

enum mz_fragment {
    MZ_FRAGMENT_CLUSTER_EXCHANGE, /* envoy.config.cluster.v3.Filter: metadata exchange of an upstream connection */
    MZ_FRAGMENT_CLUSTER_UNLIMITED, /* CircuitBreakers without limits */
    MZ_FRAGMENT_CLUSTER_PLAIN, /* TransportSocketMatch of endpoints that do not take mutual TLS */
    MZ_FRAGMENT_CLUSTER_BY_ADS, /* ConfigSource of endpoints */
    MZ_FRAGMENT_TAKES_MTLS, /* Struct: by what endpoints that do are found */
    MZ_FRAGMENT_PASSTHROUGH_HTTP, /* HttpProtocolOptions of clusters that dial where the client wanted to go */
    MZ_FRAGMENT_DOWNSTREAM_HTTP,  /* HttpProtocolOptions: as the client speaks */
    MZ_FRAGMENT_RESOLVER, /* TypedExtensionConfig: how names are looked up */
    MZ_FRAGMENT_RAW_BUFFER,       /* TransportSocket */
    MZ_FRAGMENT_SDS,              /* ConfigSource of the agent's secrets */
    MZ_FRAGMENT_HTTP_EXCHANGE_IN, /* HttpFilter, each by direction where there are two */
    MZ_FRAGMENT_HTTP_EXCHANGE_OUT,
    MZ_FRAGMENT_HTTP_EXCHANGE_MESH, /* out, but nothing said of the workload to services that are not of the mesh */
    MZ_FRAGMENT_PRESERVE_CASE, /* Http1ProtocolOptions: names of headers as they came */
    MZ_FRAGMENT_GRPC_STATS,
    MZ_FRAGMENT_ALPN,
    MZ_FRAGMENT_FAULT,
    MZ_FRAGMENT_CORS,
    MZ_FRAGMENT_ROUTER,
    MZ_FRAGMENT_MANAGER_IN, /* HttpConnectionManager without what differs */
    MZ_FRAGMENT_MANAGER_OUT,
    MZ_FRAGMENT_MANAGER_GATEWAY,
    MZ_FRAGMENT_TCP_EXCHANGE, /* Filter */
    MZ_FRAGMENT_HTTP_INSPECTOR, /* ListenerFilter */
    MZ_FRAGMENT_TLS_INSPECTOR,
    MZ_FRAGMENT_ORIGINAL_DST,
    MZ_FRAGMENT_ORIGINAL_SRC,
    MZ_FRAGMENT_ANY_PATH, /* RouteMatch */
    MZ_FRAGMENT_RETRY, /* RetryPolicy of routes to others */
    MZ_FRAGMENT_RETRY_PRIORITY, /* RetryPriority: places that were tried come last */
    MZ_FRAGMENT_RETRY_IN, /* of those to the application itself */
    MZ_FRAGMENT__COUNT
};
struct mz_fragments;
struct mz_fragments *mz_fragments_create(void); /* a text that does not fit its type is our defect: aborts */
void mz_fragments_destroy(struct mz_fragments *f);
const ProtobufCMessage *mz_fragment(const struct mz_fragments *f, enum mz_fragment which); /* shared: never changed */
const struct mz_packed *mz_fragment_packed(const struct mz_fragments *f, enum mz_fragment which); /* ... and only packed (proto/pack.h) */
#endif
