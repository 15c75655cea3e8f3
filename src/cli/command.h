#ifndef MZ_CLI_COMMAND_H
#define MZ_CLI_COMMAND_H
/* The commands of mizzenctl: a table (main.c), a file each. Output goes to standard output, what went wrong to standard error. */
#include "base/args.h"
#include "base/err.h"

enum { /* exit codes, those of the field's tool */
    EXIT_OK = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 64,
    EXIT_DATA = 65,   /* a file could not be read as documents */
    EXIT_FOUND = 79,  /* analyze found something */
};
struct command {
    const char *name, *aliases; /* aliases separated by blanks; "" none */
    const char *arguments;      /* "[ADDRESS]" */
    const char *help;
    const struct arg_flag *flags;
    size_t flags_n;
    const struct command *const *sub; /* instead of run */
    size_t sub_n;
    int (*run)(const struct command *c, int argc, char **argv); /* argv: what follows the command's name */
};
extern const struct command command_analyze, command_completion, command_dashboard, command_down, command_exec, command_explain, command_kube_inject, command_logs;
extern const struct command command_proxy_config, command_proxy_status, command_ps, command_requests, command_tap, command_top, command_up, command_validate;
extern const struct command command_version;
extern const struct command command_workload;
extern const struct command *const commands[]; /* all of them, by name */
extern const size_t commands_n;

const struct command *command_find(const struct command *const *v, size_t n, const char *name); /* NULL */
/* Reads the command's line. -1: go on; otherwise the process shall end with this code, what there was to say is printed. */
int command_args(const struct command *c, int argc, char **argv, void *options, struct arg_result *out);
void command_usage(const struct command *c, const char *program);
int command_usage_error(const struct command *c, const char *why); /* prints usage and reason; EXIT_ERROR as there */
int command_fail(const struct mz_err *err);                        /* prints "Error: path: reason"; EXIT_ERROR */
#endif
