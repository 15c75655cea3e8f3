#ifndef MZ_UPSTREAM_DNS_CACHE_H
#define MZ_UPSTREAM_DNS_CACHE_H
/*
 * Names that requests want to go to, resolved when the first asks and again as long as somebody asks (dynamic forward proxy, U1).
 * Filters load names and let requests wait; the clusters of a cache have a host for each name that has an address.
 *
 * Names come from clients: max_hosts bounds them, each goes host_ttl after it was last asked for (E13).
 */
#include "upstream/cluster.h"
#include "upstream/on_demand.h"

struct Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheConfig;
struct mz_dns_cache;
/* Main thread: the cache of that name, which lives until the manager goes; the same for the same message, an error for another of
 * its name. NULL: @err, its path is within the message. */
struct mz_dns_cache *mz_dns_cache_get(struct mz_cluster_manager *m,
                                      const struct Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheConfig *c, struct mz_err *err);

struct mz_dns_answer { /* immutable but for used_us; counted by atomics */
    unsigned refs;
    struct mz_str key;   /* "name:port", lower case, IPv6 without brackets */
    struct mz_str host;  /* the name alone */
    struct mz_addr addr; /* len 0: it has none */
    struct mz_str why;   /* then; no blanks */
    uint64_t used_us;    /* atomic, monotonic */
};
enum mz_dns_load {
    MZ_DNS_LOADED,  /* out_answer: valid until the end of the caller's callback */
    MZ_DNS_LOADING, /* the wait's done runs, unless cancelled (mz_discover_cancel()): ask again then */
    MZ_DNS_BAD,     /* no name of a host */
    MZ_DNS_FULL,    /* max_hosts */
    MZ_DNS_BUSY,    /* max_pending_requests */
};
/* A worker: @authority "name", "name:port", "[::1]:port". */
enum mz_dns_load mz_dns_cache_load(struct mz_dns_cache *c, struct mz_upstream *u, struct mz_str authority, uint16_t default_port,
                                   struct mz_discovery_wait *w, void (*done)(struct mz_discovery_wait *w, enum mz_discovery how),
                                   const struct mz_dns_answer **out_answer);
void mz_dns_cache_waited(struct mz_dns_cache *c); /* once for each LOADING: it waits no longer */
/* Does a cluster take its hosts from a cache? Then @out_default_port is of names without one. */
bool mz_cluster_forwards(const struct mz_cluster *c, uint16_t *out_default_port);
#endif
