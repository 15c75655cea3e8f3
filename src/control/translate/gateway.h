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
};
struct tr_servers { /* in order of the documents, the oldest first; what cannot stand beside one before it is left out */
    struct tr_server *v;
    size_t n_v;
    uint64_t hash;
};
const struct tr_servers *tr_servers_of(struct mz_view *v); /* found once; lives as long as the view */
bool tr_has_auto_passthrough(struct mz_view *v); /* some server asks for clusters by server name */
/* Of "namespace/host" the host where it is for documents of @ns. False: it is not. */
bool tr_server_host(struct mz_str host, struct mz_str ns, struct mz_str *out);

void tr_gateway_listeners(struct mz_view *v, struct mz_outs *out);
struct mz_out *tr_gateway_routes(struct mz_view *v, struct mz_str name); /* NULL: not a name of a gateway's routes */
/* TLS ends here, as @t says; @tcp: behind it is no HTTP. */
pb_TransportSocket *tr_terminate(struct mz_view *v, struct mz_arena *a, const ist_ServerTLSSettings *t, bool tcp);
pb_TransportSocket *tr_gateway_tls(struct mz_view *v, struct mz_arena *a, const struct tr_server *s);
#endif
