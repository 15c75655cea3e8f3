#ifndef MZ_MESH_UP_H
#define MZ_MESH_UP_H
/* A mesh's begin and end, as mizzenctl's commands have them. Blocking. */
#include "base/args.h"
#include "base/err.h"
#include <stdint.h>

struct mz_mesh_up_opts {
    const char *dir, *name; /* @name NULL: the folder's */
    bool detach;            /* returns when all pods are ready; else stays until SIGINT or SIGTERM */
    bool any_port, quiet;
    uint32_t timeout_s; /* of @detach: so long it waits for pods; the mesh goes on */
    struct arg_list mizzend_args;
};
int mz_mesh_up(const struct mz_mesh_up_opts *o, struct mz_err *err); /* 0; 1 and @err, or what there was to say is printed (@err empty) */
/* Ends one that runs, removes what is left of one that does not. @out_ran tells which. False and @err: there was nothing. */
bool mz_mesh_down(const char *name_or_dir, bool *out_ran, struct mz_err *err);
#endif
