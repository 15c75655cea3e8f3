#ifndef MZ_MESH_PODFILES_H
#define MZ_MESH_PODFILES_H
/* The files of a pod: what the injected volumes hold, name server and hosts, volumes of its containers. */
#include "mesh/podspec.h"
#include "mesh/sandbox.h"

struct mz_buf;
struct mz_tokens;
struct mz_mesh_files {
    const char *ca; /* folder of the mesh's authority */
    struct mz_tokens *tokens;
    const struct mz_mesh_folder *folder;
};
struct mz_mesh_mounts {
    MZ_VEC(struct mz_mesh_mount) v; /* texts are of the spec's arena */
};
/* Writes them below the pod's folder, which is made, and tells what is to be mounted. */
bool mz_mesh_files_write(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s, struct mz_mesh_mounts *out, struct mz_err *err);
bool mz_mesh_files_token(const struct mz_mesh_files *f, const struct mz_mesh_pod_spec *s, struct mz_err *err); /* a new one */
/* The pod's hosts: itself and the control plane. */
void mz_mesh_files_hosts(const struct mz_mesh_files *f, const struct mz_mesh_pod_spec *s, struct mz_buf *out);
/* "key=\"value\"" a line, sorted, as the downward API writes maps. Free it. */
char *mz_mesh_downward(json_t *map);
/* Whole or not at all. Folders before the name are made. */
bool mz_mesh_write_file(const char *path, struct mz_str text, struct mz_err *err);
/* Cuts a log that is larger than MZ_MESH_LOG_MAX: what it held is in PATH.1. Who writes to it appends. */
#define MZ_MESH_LOG_MAX (4 << 20)
void mz_mesh_log_cut(const char *path);
bool mz_mesh_remove_all(const char *path); /* a folder with all that is in it; links are not followed */
#endif
