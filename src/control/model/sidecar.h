#ifndef MZ_CONTROL_MODEL_SIDECAR_H
#define MZ_CONTROL_MODEL_SIDECAR_H
/* Sidecar documents: what workloads see of the mesh, and where they listen (C3, C6). */
#include "control/model/model.h"

struct mz_sidecar {
    struct mz_str ns, name;
    struct mz_labels selector; /* none: the whole namespace */
    bool selects;
    const ist_Sidecar *spec;
    uint64_t hash;
};
struct mz_sidecars { /* of one namespace: those with a selector first, then the oldest */
    MZ_VEC(struct mz_sidecar *) v;
};
/* Which holds for a workload: its namespace's, else that of the root namespace for everybody. NULL: none, everything is seen. */
const struct mz_sidecar *mz_model_sidecar(const struct mz_model *m, struct mz_str ns, struct mz_labels labels);

/* ---- what an egress listener imports ---- */
struct mz_imports; /* "ns/host" patterns, "~ns/host" are taken out again */
struct mz_imports *mz_imports_create(struct mz_arena *a, const ist_IstioEgressListener *l, struct mz_str ns); /* NULL l: everything */
/* A service's host: the same, or beneath a wildcard that is imported. */
bool mz_imports_service(const struct mz_imports *i, struct mz_str ns, struct mz_str host);
/* A host of a VirtualService in @ns: either may be the wildcard. */
bool mz_imports_host(const struct mz_imports *i, struct mz_str ns, struct mz_str host);
#endif
