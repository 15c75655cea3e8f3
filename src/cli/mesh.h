#ifndef MZ_CLI_MESH_H
#define MZ_CLI_MESH_H
/* What commands share that ask a mesh on this machine. */
#include "mesh/client.h"

/* "NAMESPACE/NAME", "NAME.NAMESPACE", "NAME" or a workload: the pod in @list, a ready one first; borrowed. NULL and @err. */
json_t *mesh_find_pod(json_t *list, const char *name, struct mz_err *err);
#endif
