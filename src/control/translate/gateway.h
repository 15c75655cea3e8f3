#ifndef MZ_CONTROL_TRANSLATE_GATEWAY_H
#define MZ_CONTROL_TRANSLATE_GATEWAY_H
/* Gateways of one proxy, joined: which servers there are at which port (C4). */
#include "control/model/gateway.h"
#include "control/translate/virtual_routes.h"

struct tr_server {
    const struct mz_gateway *gateway;
    const ist_Server *s;
    struct mz_str gateway_name;  /* "namespace/name" */
    const struct mz_str *hosts;  /* "host", or "namespace/host": for VirtualServices from there */
    size_t hosts_n;
    struct mz_str route;         /* "http.8080", "https.443.name.gateway.namespace"; "" none: it is no HTTP */
    uint16_t port;               /* where it listens: the target of the service's port */
    enum mz_protocol protocol;
    bool plain_http;
    bool first;              /* of those of its listener */
    size_t next;             /* of them, by index; 0: none */
    struct tr_bound **bound; /* of its Gateway; NULL until somebody asks */
};
struct tr_servers { /* in order of the documents, the oldest first; what cannot stand beside one before it is left out */
    struct tr_server *v;
    size_t n_v;
    const struct tr_server **by_route; /* those of HTTP, by the name of their routes, then in order */
    size_t n_by_route;
    uint64_t hash;
};
const struct tr_servers *tr_servers_of(struct mz_view *v); /* found once; lives as long as the view */
const struct tr_server *const *tr_servers_of_route(const struct tr_servers *all, struct mz_str route, size_t *out_n);
bool tr_has_auto_passthrough(struct mz_view *v); /* some server asks for clusters by server name */
/* Of "namespace/host" the host where it is for documents of @ns. False: it is not. */
bool tr_server_host(struct mz_str host, struct mz_str ns, struct mz_str *out);

/* The VirtualServices that are bound to its Gateway, in order of mz_model_virtuals(). Found once for each Gateway. */
struct tr_bound_list {
    const struct mz_virtual *const *v;
    size_t n;
};
struct tr_bound_list tr_bound_to(struct mz_view *v, const struct tr_server *s);
/*
 * Each host of the server that has names in common with a host of such a VirtualService: by VirtualService, then in order of the
 * server's hosts. @had: hosts of servers of the same Gateway, port and TLS that were asked for before, and now these; they are left out.
 */
struct tr_meeting {
    const struct mz_virtual *vs;
    uint32_t at; /* of the list above */
    uint32_t server_host, host;
};
const struct tr_meeting *tr_server_meets(struct mz_view *v, const struct tr_server *s, struct mz_map *had, struct mz_arena *a,
                                         size_t *out_n);

void tr_gateway_listeners(struct mz_view *v, struct mz_outs *out);
struct mz_out *tr_gateway_routes(struct mz_view *v, struct mz_str name); /* NULL: not a name of a gateway's routes */
/* TLS ends here, as @t says; @tcp: behind it is no HTTP. */
pb_TransportSocket *tr_terminate(struct mz_view *v, struct mz_arena *a, const ist_ServerTLSSettings *t, bool tcp);
pb_TransportSocket *tr_gateway_tls(struct mz_view *v, struct mz_arena *a, const struct tr_server *s);
#endif
