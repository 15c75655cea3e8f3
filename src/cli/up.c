/* up, down: a mesh on this machine. */
#include <stdio.h>

#include "cli/command.h"
#include "mesh/up.h"

#define AT(member) offsetof(struct mz_mesh_up_opts, member)
static const struct arg_flag up_flags[] = {
    { "name", 0, ARG_TEXT, AT(name), "Name of the mesh (the folder's)" },
    { "detach", 'd', ARG_SWITCH, AT(detach),
      "Return when all pods are ready; `mizzenctl down` ends it" },
    { "timeout", 0, ARG_NUMBER, AT(timeout_s), "With --detach: seconds to wait for pods (120)" },
    { "any-port", 0, ARG_SWITCH, AT(any_port),
      "Publish at free ports of this machine instead of those that documents name" },
    { "mizzend", 0, ARG_LIST, AT(mizzend_args),
      "Flag for mizzend, as --mizzend=--log-level=debug" },
    { "quiet", 'q', ARG_SWITCH, AT(quiet), "Say nothing but errors" },
};
#undef AT

static int run_up(const struct command *c, int argc, char **argv)
{
    struct mz_mesh_up_opts o = { .timeout_s = 120 };
    struct arg_result r;
    struct mz_err err;
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n != 1)
        return command_usage_error(c, "one folder of documents is needed");
    o.dir = r.others.v[0];
    const int code = mz_mesh_up(&o, &err);
    return err.msg[0] ? command_fail(&err) : code;
}

const struct command command_up = {
    .name = "up",
    .aliases = "",
    .arguments = "DIR",
    .run = run_up,
    .flags = up_flags,
    .flags_n = MZ_COUNT(up_flags),
    .help = "Run the mesh of a folder of documents on this machine, until Ctrl-C",
};

static int run_down(const struct command *c, int argc, char **argv)
{
    struct arg_result r;
    struct mz_err err;
    bool ran = false, none = false;
    const int rc = command_args(c, argc, argv, &none, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n > 1)
        return command_usage_error(c, "at most one mesh can be named");
    if (!mz_mesh_down(r.others.n ? r.others.v[0] : NULL, &ran, &err))
        return command_fail(&err);
    printf("%s\n", ran ? "ended" : "it did not run any more; what it left is removed");
    return EXIT_OK;
}

const struct command command_down = {
    .name = "down",
    .aliases = "",
    .arguments = "[NAME|DIR]",
    .run = run_down,
    .help = "End a mesh on this machine, or remove what one that was killed has left",
};
