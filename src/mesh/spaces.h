#ifndef MZ_MESH_SPACES_H
#define MZ_MESH_SPACES_H
/*
 * The namespaces of a mesh: processes, network, mounts; for a user that is not root, users as well, with ids from /etc/subuid and
 * /etc/subgid by newuidmap and newgidmap (group 1337 must exist: capture knows proxies by it).
 */
#include "base/err.h"
#include <sys/types.h>

bool mz_mesh_spaces_check(struct mz_err *err); /* can they be made by this user? Nothing is changed */
/**
 * A child that is the first in them: runs @run there and exits with its result. It gets SIGTERM when the thread that calls ends.
 * -1 and @err: it could not be made.
 */
pid_t mz_mesh_spaces_fork(int (*run)(void *arg), void *arg, struct mz_err *err);
#endif
