#ifndef MZ_MESH_NODE_H
#define MZ_MESH_NODE_H
/* What everything in the supervisor stands on. */
#include "event/loop.h"
#include "mesh/process.h"

struct mz_mesh_node {
    struct mz_loop *loop;
    struct mz_list processes; /* struct mz_mesh_process */
    int net;                  /* the node's network namespace, in which this thread is */
    int null;                 /* /dev/null */
    bool six;                 /* pods have IPv6, too */
    const char *state;        /* the mesh's own folder */
    const char *bin;          /* our programs */
    char *const *env;         /* of `up` */
};
#endif
