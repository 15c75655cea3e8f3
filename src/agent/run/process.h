#ifndef MZ_AGENT_PROCESS_H
#define MZ_AGENT_PROCESS_H
/*
 * The proxy's process: started, watched, started again with a growing pause when it ends by itself, ended when the agent ends.
 * It dies with the agent, however that goes (PR_SET_PDEATHSIG). Main thread.
 */
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct mz_loop;
struct mz_process;
struct mz_process_opts {
    struct mz_loop *loop;
    const char *const *argv; /* NULL at the end; borrowed */
    void (*ended)(void *arg, int status); /* after mz_process_stop() or _keep_down(): it is gone */
    void *arg;
};
struct mz_process *mz_process_create(const struct mz_process_opts *o); /* does not start it */
bool mz_process_start(struct mz_process *p, struct mz_err *err);       /* false: not even tried again */
void mz_process_check(struct mz_process *p);  /* SIGCHLD came */
void mz_process_keep_down(struct mz_process *p); /* it is not started again: it may end by itself now */
void mz_process_stop(struct mz_process *p, uint64_t patience_ms); /* SIGTERM, then SIGKILL; ended() tells */
void mz_process_destroy(struct mz_process *p); /* kills it if it runs; NULL is fine */
int mz_process_pid(const struct mz_process *p); /* 0: it does not run */
unsigned mz_process_starts(const struct mz_process *p);
#endif
