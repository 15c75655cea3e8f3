#ifndef MZ_AGENT_SETTINGS_H
#define MZ_AGENT_SETTINGS_H
/* The command line of `proxy` and `bootstrap`, with what it leaves to the environment and the machine. */
#include "agent/bootstrap/bootstrap.h"

struct mz_agent_options {
    struct mz_agent_settings settings;
    const char *log_level; /* of the agent itself: "info" */
    bool print_command; /* of `bootstrap` */
    bool help;
};
/* Borrows argv and @env. */
bool mz_agent_settings_read(int argc, char **argv, char *const *env, struct mz_arena *a, struct mz_agent_options *out,
                            struct mz_err *err);
void mz_agent_settings_help(const char *command, const char *what);
int mz_agent_bootstrap_main(int argc, char **argv); /* `bootstrap`: prints what a proxy would be started with */
#endif
