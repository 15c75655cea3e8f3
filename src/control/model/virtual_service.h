#ifndef MZ_CONTROL_MODEL_VIRTUAL_SERVICE_H
#define MZ_CONTROL_MODEL_VIRTUAL_SERVICE_H
/* VirtualServices: where requests and connections for a host go (C4). */
#include "control/model/model.h"

enum mz_semantics { /* how paths and missing targets are understood: by the kind of document that said so */
    MZ_SEMANTICS_ISTIO,
    MZ_SEMANTICS_INGRESS, /* prefixes end at a slash */
    MZ_SEMANTICS_GATEWAY, /* the same; what leads nowhere is 500 */
};
struct mz_virtual {
    struct mz_str ns, name, created;
    /* Every host, destination and gateway ("namespace/name") in full; what was delegated stands in its place. */
    const ist_VirtualService *spec;
    const struct mz_str *export_to; /* namespaces; none: everywhere; "~": nowhere */
    size_t export_to_n;
    enum mz_semantics semantics;
    bool by_source; /* some match asks for the client's labels or namespace */
    bool delegates; /* other documents are a part of it */
    uint64_t hash;  /* with that of what was delegated */
};
#define MZ_GATEWAY_MESH "mesh" /* the gateway that is every sidecar */

/* Those bound to @gateway that workloads of @ns may use: what is exported to few first, then the oldest. */
const struct mz_virtual *const *mz_model_virtuals(const struct mz_model *m, struct mz_str ns, struct mz_str gateway, struct mz_arena *a,
                                                  size_t *out_n);
/* In the order of mz_model_virtuals() for workloads of @ns. */
int mz_virtual_order(const struct mz_virtual *a, const struct mz_virtual *b, struct mz_str ns);
bool mz_virtual_asks_labels(const struct mz_virtual *v); /* some match asks for labels of the client */
bool mz_virtual_is_bound(const struct mz_virtual *v, struct mz_str gateway);
bool mz_virtual_visible(const struct mz_virtual *v, struct mz_str ns);
/* Both names may be wildcards ("*.x", "*"): they have a name in common. */
bool mz_hosts_meet(struct mz_str a, struct mz_str b);
/* All that @host stands for, @pattern stands for as well. */
bool mz_host_is_within(struct mz_str host, struct mz_str pattern);
#endif
