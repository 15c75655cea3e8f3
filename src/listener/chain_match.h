#ifndef MZ_LISTENER_CHAIN_MATCH_H
#define MZ_LISTENER_CHAIN_MATCH_H
/*
 * Which filter chain serves a connection (L4). Criteria in Envoy's order: destination port, destination prefix, server
 * names, transport protocol, application protocols, directly connected source prefix, source type, source prefix, source
 * port. Each step takes the most specific entry that fits and never comes back to a less specific one.
 * Built on the main thread into the arena, then immutable.
 */
#include "base/arena.h"
#include "base/err.h"
#include "net/addr.h"

struct Envoy__Config__Listener__V3__FilterChainMatch;
struct mz_chain_match;
struct mz_chain_match *mz_chain_match_create(struct mz_arena *a);
/* Adds the rules of @m (NULL: matches everything); @chain is borrowed. Where another chain has one of its rules already:
 * false and @out_other is that chain. Otherwise false means an error in the rules (err, @out_other NULL). */
bool mz_chain_match_add(struct mz_chain_match *c, const struct Envoy__Config__Listener__V3__FilterChainMatch *m,
                        void *chain, void **out_other, struct mz_err *err);

struct mz_chain_query {
    const struct mz_addr *local;         /* destination, original when restored */
    const struct mz_addr *remote;        /* source, as restored by listener filters */
    const struct mz_addr *direct_remote; /* the socket's peer */
    struct mz_str server_name;           /* lower case; "" when there is none */
    struct mz_str transport;             /* "raw_buffer", "tls" */
    const struct mz_str *protocols;      /* ALPN */
    size_t n_protocols;
};
void *mz_chain_match_find(const struct mz_chain_match *c, const struct mz_chain_query *q); /* NULL: none */
#endif
