#ifndef MZ_CONTROL_MODEL_GATEWAY_H
#define MZ_CONTROL_MODEL_GATEWAY_H
/* Gateway documents: where proxies at the edge listen (C4). */
#include "control/model/model.h"

struct mz_gateway {
    struct mz_str ns, name, created;
    struct mz_labels selector; /* none: every gateway proxy */
    const ist_Gateway *spec;
    uint64_t hash;
};
/* A proxy with these labels listens as @g says. */
bool mz_gateway_selects(const struct mz_gateway *g, struct mz_labels labels);
bool mz_server_passes_through(const ist_Server *s); /* its TLS is not ended here */
bool mz_server_is_http(const ist_Server *s);        /* plain HTTP, or HTTPS that is ended here */
#endif
