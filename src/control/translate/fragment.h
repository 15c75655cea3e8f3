#ifndef MZ_CONTROL_TRANSLATE_FRAGMENT_H
#define MZ_CONTROL_TRANSLATE_FRAGMENT_H
/* Pieces of configuration that are the same in every resource, written as text (fragment.c), read and checked once. */
#include "proto/mapper.h"

enum mz_fragment {
    MZ_FRAGMENT_CLUSTER_EXCHANGE, /* envoy.config.cluster.v3.Filter: metadata exchange of an upstream connection */
    MZ_FRAGMENT_PASSTHROUGH_HTTP, /* HttpProtocolOptions of clusters that dial where the client wanted to go */
    MZ_FRAGMENT_DOWNSTREAM_HTTP,  /* HttpProtocolOptions: as the client speaks */
    MZ_FRAGMENT_HTTP2,            /* HttpProtocolOptions: HTTP/2 */
    MZ_FRAGMENT_RAW_BUFFER,       /* TransportSocket */
    MZ_FRAGMENT_SDS,              /* ConfigSource of the agent's secrets */
    MZ_FRAGMENT__COUNT
};
struct mz_fragments;
struct mz_fragments *mz_fragments_create(void); /* a text that does not fit its type is our defect: aborts */
void mz_fragments_destroy(struct mz_fragments *f);
const ProtobufCMessage *mz_fragment(const struct mz_fragments *f, enum mz_fragment which); /* shared: never changed */
#endif
