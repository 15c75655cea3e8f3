#ifndef MZ_MESH_FOLDER_H
#define MZ_MESH_FOLDER_H
/*
 * The folder that a mesh is made of, read once: documents of what `up` runs as JSON, with where they stand; and the model of all of
 * them, which tells the injector what the mesh says of proxies. Files are those that mizzend reads. Main thread.
 */
#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"

struct mz_model;
struct mz_mesh_doc {
    json_t *object;
    const char *kind, *ns, *name; /* @ns "" for a Namespace */
    const char *file;             /* as it is opened */
    uint32_t line;                /* of its first member */
};
struct mz_mesh_folder {
    struct mz_arena *arena;
    const char *dir; /* absolute */
    MZ_VEC(struct mz_mesh_doc) docs; /* of the kinds below, in the order of files */
    const struct mz_model *model;
};
/**
 * Kinds that are kept: Namespace, Service, ConfigMap, Secret, Pod, Deployment, StatefulSet, DaemonSet, Job. NULL and @err ("web.yaml:3: ..."):
 * a file that is no YAML, two documents of one name. What mizzend reads and finds wrong is its affair.
 */
struct mz_mesh_folder *mz_mesh_folder_read(const char *dir, struct mz_err *err);
void mz_mesh_folder_destroy(struct mz_mesh_folder *f); /* NULL is fine */
const struct mz_mesh_doc *mz_mesh_folder_find(const struct mz_mesh_folder *f, const char *kind, const char *ns, const char *name);
/* False, with "FILE:LINE: KIND NS/NAME: " before what @err says. */
bool mz_mesh_doc_err(const struct mz_mesh_doc *d, struct mz_err *err);
#endif
