#ifndef MZ_BASE_PROGRAM_H
#define MZ_BASE_PROGRAM_H
/* What every long-running program of ours does first and last. */
#include "base/err.h"

bool mz_program_called(const char *argv0, const char *name); /* argv0, which may be NULL, is @name in whatever folder */

struct mz_log_options { /* as on the command line; NULL: not given */
    const char *level, *component_levels, *format, *path;
};
bool mz_log_start(const struct mz_log_options *o, struct mz_err *err); /* a level that is none is ignored: check it before */
/* SIGTERM, SIGINT, SIGUSR1 and SIGHUP wait for the main loop, in every thread to come; SIGPIPE is ignored. */
void mz_signals_block(void);
/* Commands of the system (ip, iptables) are found: an ordinary user's PATH need not have their folders. Before there are threads. */
void mz_program_path(void);
/*
 * Everything is destroyed: what is still counted was forgotten. Builds with assertions say so and return an exit code; a
 * release need not look, its memory goes with the process. 0: nothing.
 */
int mz_mem_forgotten(void);
#endif
