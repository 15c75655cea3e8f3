#ifndef MZ_CONTROL_TRANSLATE_TCP_ROUTES_H
#define MZ_CONTROL_TRANSLATE_TCP_ROUTES_H
/* Where connections go that nobody looks into: `tcp` and `tls` of VirtualServices (C4). */
#include "control/translate/virtual_routes.h"

struct tr_l4_match { /* what both kinds of matches say of the client and the listener */
    uint32_t port;
    char *const *gateways;
    size_t gateways_n;
    const void *const *labels; /* a map<string, string> */
    size_t labels_n;
    const char *ns;
};
bool tr_l4_applies(const struct tr_routing *r, const struct tr_l4_match *m);
#define TR_L4_MATCH(m)                                                                                                 \
    (&(struct tr_l4_match){ (m)->port, (m)->gateways, (m)->n_gateways, (const void *const *)(m)->source_labels,        \
                            (m)->n_source_labels, (m)->source_namespace })
/* At least one target. The policy of the first one's host holds for the connection. @out_hash: of all that was looked at. */
struct tr_tcp tr_l4_route(const struct tr_routing *r, ist_RouteDestination *const *to, size_t n, uint64_t *out_hash);
#endif
