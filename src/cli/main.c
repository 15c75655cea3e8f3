/* mizzenctl: what a person asks of the mesh; called mizzend it is the control plane: it reads the same documents the same way. */
#include <stdio.h>

#include "base/near.h"
#include "base/program.h"
#include "cli/command.h"
#include "control/names.h"
#include "control/program.h"
#include "proto/mapper.h"

extern const ProtobufCMessageDescriptor *const mz_control_types[];
extern const size_t mz_control_types_n;

/* clang-format off */
const struct command *const commands[] = {
    &command_analyze,
    &command_completion,
    &command_dashboard,
    &command_down,
    &command_exec,
    &command_explain,
    &command_kube_inject,
    &command_logs,
    &command_proxy_config,
    &command_proxy_status,
    &command_ps,
    &command_requests,
    &command_tap,
    &command_top,
    &command_up,
    &command_validate,
    &command_version,
    &command_workload,
};
/* clang-format on */
const size_t commands_n = MZ_COUNT(commands);

static void usage(void)
{
    printf("Inspects, checks and prepares a Mizzen service mesh.\n\nUsage:\n  mizzenctl COMMAND "
           "[flags]\n\nCommands:\n");
    for (size_t i = 0; i < commands_n; i++)
        printf("  %-14s %s\n", commands[i]->name, commands[i]->help);
    printf("\nUse \"mizzenctl COMMAND --help\" for more information about a command.\n");
}

static int unknown(const char *word, const char *of, const struct command *const *v, size_t n)
{
    struct mz_near near;
    mz_near_init(&near, mz_str_c(word));
    for (size_t i = 0; i < n; i++)
        mz_near_try(&near, mz_str_c(v[i]->name));
    fprintf(stderr, "Error: unknown command \"%s\" for \"%s\"%s\nRun '%s --help' for usage.\n",
            word, of, mz_near_text(&near), of);
    return EXIT_USAGE;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int main(int argc, char **argv)
{
    if (!mz_program_called(argv[0], "mizzenctl"))
        return mz_control_main(argc, argv);
    if (argc < 2 || is_help(argv[1])) {
        usage();
        return EXIT_OK;
    }
    const struct command *c = command_find(commands, commands_n, argv[1]);
    int at = 2;
    if (!c)
        return unknown(argv[1], "mizzenctl", commands, commands_n);
    if (c->sub) {
        if (argc == 2 || is_help(argv[2])) {
            command_usage(c, "mizzenctl");
            return EXIT_OK;
        }
        const struct command *parent = c;
        c = command_find(c->sub, c->sub_n, argv[at++]);
        if (!c)
            return unknown(argv[2], parent->name, parent->sub, parent->sub_n);
    }
    mz_type_add_table(mz_control_types, mz_control_types_n);
    return c->run(c, argc - at, argv + at);
}
