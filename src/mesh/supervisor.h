#ifndef MZ_MESH_SUPERVISOR_H
#define MZ_MESH_SUPERVISOR_H
/* The mesh's init: runs in its own namespaces until it is told to stop; with it everything ends. */
#include "base/args.h"
#include "mesh/publish.h"
#include "mesh/workload.h"

struct mz_mesh_supervisor_opts {
    const char *name, *state, *bin; /* @state: the mesh's own folder, as it is seen from anywhere */
    struct mz_mesh_folder *folder;  /* owned from here on */
    struct mz_mesh_workloads workloads;
    struct mz_mesh_ports ports; /* of @folder; owned */
    const int *port_fds;        /* as many; taken */
    int control;                /* listening; taken */
    int keeper;                 /* who stays in the machine's network: {"ready":true}, {"failed":"..."} go there, and ports are asked for; taken */
    bool any_port, quiet;
    const struct arg_list *mizzend_args;
    char *const *env;
    uint64_t began_us; /* when `up` was called, monotonic */
};
int mz_mesh_supervise(const struct mz_mesh_supervisor_opts *o); /* the exit code */
#endif
