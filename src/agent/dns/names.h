#ifndef MZ_AGENT_DNS_NAMES_H
#define MZ_AGENT_DNS_NAMES_H
/*
 * The name table of the control plane (istio.networking.nds.v1.NameTable): which addresses a host of the mesh has. It is kept as
 * the bytes that came, with an index; the ways in which a pod may write a name are worked out when it asks. Immutable; one thread.
 *
 * A Kubernetes service "reviews.shop.svc.cluster.local" is found by that, by "reviews.shop.svc", "reviews.shop" and, from its own
 * namespace, "reviews"; other hosts by their name alone, "*.example.com" by what ends so. What resolvers make of a name with the
 * first search domain ("example.com.shop.svc.cluster.local") is an alias of the name.
 */
#include "agent/dns/message.h"

struct mz_names;
struct mz_names_pod { /* who asks */
    struct mz_str namespace_, domain; /* "shop", "svc.cluster.local" */
    struct mz_str search;             /* the first search domain; "" none */
};
/* @pod is copied. NULL: the bytes are no such message. */
struct mz_names *mz_names_create(struct mz_str packed, const struct mz_names_pod *pod);
void mz_names_destroy(struct mz_names *t); /* NULL is fine */
size_t mz_names_count(const struct mz_names *t); /* hosts that have an address */

struct mz_names_found {
    struct mz_str info;  /* for mz_names_next() */
    struct mz_str alias; /* the name is an alias of this one, as text; "" it is none */
    char room[MZ_DNS_NAME_MAX + 1];
};
bool mz_names_find(const struct mz_names *t, struct mz_str name, struct mz_names_found *out); /* @name: lower-case, no dot at its end */
/* The next address of the type, of mz_names_found.info, which goes on; false: no more. */
bool mz_names_next(struct mz_str *info, enum mz_dns_type t, char out_bytes[16]);
#endif
