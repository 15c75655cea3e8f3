#ifndef MZ_MESH_WORKLOAD_H
#define MZ_MESH_WORKLOAD_H
/* What makes pods: a Deployment, StatefulSet, DaemonSet (one pod: there is one node), Job, or a Pod by itself. Pure. */
#include "mesh/folder.h"

enum mz_mesh_workload_kind { MZ_MESH_DEPLOYMENT, MZ_MESH_STATEFUL_SET, MZ_MESH_DAEMON_SET, MZ_MESH_JOB, MZ_MESH_POD };
struct mz_mesh_workload {
    enum mz_mesh_workload_kind kind;
    const char *ns, *name, *api, *kind_name;
    const struct mz_mesh_doc *doc;
    const json_t *template; /* metadata and spec of its pods */
    unsigned replicas;      /* of a Job: completions */
    unsigned parallelism, backoff_limit; /* of a Job */
    bool inject;            /* by the labels of namespace and pod, as the webhook's selectors have it */
    uint64_t hash;          /* of all that its pods are made of */
};
struct mz_mesh_workloads {
    struct mz_mesh_workload *v; /* in the order of documents */
    size_t n;
};
#define MZ_MESH_MAX_PODS 1000
/* Borrows @f, in whose arena they lie. False and @err: numbers that cannot be, names of Kubernetes that are none. */
bool mz_mesh_workloads(const struct mz_mesh_folder *f, struct mz_mesh_workloads *out, struct mz_err *err);
#endif
