#ifndef MZ_MESH_SANDBOX_H
#define MZ_MESH_SANDBOX_H
/*
 * What a pod's processes see as their own: network, mounts (resolv.conf, hosts, volumes), host name. Held by descriptors: it is
 * there as long as they are open or a process is in it.
 */
#include "base/err.h"
#include <stdint.h>
#include <sys/types.h>

struct mz_mesh_sandbox {
    int net, mnt, uts; /* -1: none */
};
struct mz_mesh_mount {
    const char *from, *to; /* @to is made where it is not there, in a layer over the folder that shall have it */
};
struct mz_mesh_sandbox_opts {
    const char *hostname;
    const struct mz_mesh_mount *mounts;
    size_t mounts_n;
    const char *scratch; /* a folder of the pod's own, for layers */
    bool node;           /* the node's network, not one of its own */
};
#define MZ_MESH_NO_SANDBOX ((struct mz_mesh_sandbox){ -1, -1, -1 })
bool mz_mesh_sandbox_create(const struct mz_mesh_sandbox_opts *o, struct mz_mesh_sandbox *out, struct mz_err *err);
void mz_mesh_sandbox_close(struct mz_mesh_sandbox *s);
unsigned mz_mesh_sandbox_kill(const struct mz_mesh_sandbox *s, int signo); /* whatever is in its network; how many those were */

struct mz_mesh_spawn {
    const struct mz_mesh_sandbox *in; /* NULL: the supervisor's own */
    const char *const *argv, *const *env;
    const char *dir;
    uint32_t gid;
    uint64_t caps; /* that it and what it starts may have */
    bool no_gain;  /* programs do not give it more (no_new_privs) */
    int fds[3];
};
/* A process, the first of its session. -1 and @err: the program cannot be run. */
pid_t mz_mesh_spawn(const struct mz_mesh_spawn *s, struct mz_err *err);
pid_t mz_mesh_host_pid(pid_t pid); /* as the machine numbers it: by the /proc that is mounted. 0: it is not known */
#endif
