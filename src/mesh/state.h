#ifndef MZ_MESH_STATE_H
#define MZ_MESH_STATE_H
/*
 * Where a mesh keeps what it is running with: a folder of its own, 0700, below /run/mizzen for root, $XDG_RUNTIME_DIR/mizzen or
 * /tmp/mizzen-UID for others. In it: control.sock, up.pid (locked while the mesh lives), pods/, ca/, logs/, work/.
 */
#include "base/err.h"
#include <stddef.h>

#define MZ_MESH_NAME_MAX 63
/**
 * The name of a mesh: @name_or_dir as it is, or its last part where it is a path or names a folder ("samples/bookinfo/", ".").
 * Letters, digits, '-', '_' and '.', not first.
 */
bool mz_mesh_name_of(const char *name_or_dir, char out_name[MZ_MESH_NAME_MAX + 1], struct mz_err *err);
bool mz_mesh_root(char *out_path, size_t n, struct mz_err *err); /* the folder of all meshes of this user; need not be there */
int mz_mesh_root_open(bool make, struct mz_err *err); /* a descriptor of it; refuses one that is not this user's. -1, ENOENT in errno without @err */

/* A folder of a mesh below @root_fd: does somebody hold its lock? */
bool mz_mesh_lives(int root_fd, const char *name);
/* The only one that lives. False: none or several; @err names them. */
bool mz_mesh_only(int root_fd, char out_name[MZ_MESH_NAME_MAX + 1], struct mz_err *err);
/* Always false; @err says so, and which one may have been meant. */
bool mz_mesh_not_running(int root_fd, const char *name, struct mz_err *err);
#endif
