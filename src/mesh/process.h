#ifndef MZ_MESH_PROCESS_H
#define MZ_MESH_PROCESS_H
/* The processes of a mesh, whose init we are: started, told when they end, by number. Main thread. */
#include "base/list.h"
#include "mesh/sandbox.h"

struct mz_mesh_process { /* embedded, begins as zeroes */
    struct mz_list link;
    pid_t pid, host_pid; /* 0: it does not run */
    void (*ended)(struct mz_mesh_process *p, int code); /* exit code, or 128 + signal; it may be started again there */
};
/* @all: head of those that run. False and @err: it is not there. */
bool mz_mesh_process_start(struct mz_list *all, struct mz_mesh_process *p, const struct mz_mesh_spawn *s,
                           void (*ended)(struct mz_mesh_process *p, int code), struct mz_err *err);
void mz_mesh_process_signal(const struct mz_mesh_process *p, int signo); /* it and its session's group */
void mz_mesh_process_abandon(struct mz_mesh_process *p); /* killed if it runs, and its end is not told */
void mz_mesh_processes_reap(struct mz_list *all); /* SIGCHLD came; orphans of others go, too */

struct mz_mesh_memory {
    uint64_t rss_kb, pss_kb;
};
/* Of one process by the machine's number; 0 where it has gone. */
struct mz_mesh_memory mz_mesh_process_memory(pid_t host_pid);
/* The process and what it has started, by the machine's numbers: at most @max. */
size_t mz_mesh_process_tree(pid_t host_pid, pid_t *out, size_t max);
void mz_mesh_process_command(pid_t host_pid, char out[32]); /* "mizzen-proxy" */
#endif
