#ifndef MZ_CONTROL_MODEL_GATEWAY_H
#define MZ_CONTROL_MODEL_GATEWAY_H
/* Gateway documents: where proxies at the edge listen (C4). */
#include "control/model/model.h"

struct mz_gateway {
    struct mz_str ns, name, created;
    struct mz_labels selector; /* none: every gateway proxy */
    const ist_Gateway *spec;
    uint64_t hash;
    /* Of the Gateway API: it is for proxies behind one of these services, at the ports that these have, and for nobody else. */
    bool by_service;
    const struct mz_str *services; /* hosts */
    size_t services_n;
    struct mz_str services_ns;     /* where the services are */
    struct mz_str account;         /* of its proxies; "": any of the namespace */
    const struct mz_str *secrets;  /* "kubernetes-gateway://..." that its servers name and may have */
    size_t secrets_n;
};
/* A proxy with these labels listens as @g says; not for one by_service. */
bool mz_gateway_selects(const struct mz_gateway *g, struct mz_labels labels);
bool mz_gateway_serves(const struct mz_gateway *g, const struct mz_service *s); /* one by_service stands behind @s */
bool mz_server_passes_through(const ist_Server *s); /* its TLS is not ended here */
bool mz_server_is_http(const ist_Server *s);        /* plain HTTP, or HTTPS that is ended here */
/* A suite that proxies know; what is written and is none is left out, else they would refuse the listener. */
bool mz_is_cipher(struct mz_str name);
#endif
