/* exec: a command in a pod of a mesh on this machine. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/mesh.h"

struct exec_options {
    const char *mesh, *container;
};
#define AT(member) offsetof(struct exec_options, member)
static const struct arg_flag exec_flags[] = {
    { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the mesh, where several run" },
    { "container", 'c', ARG_TEXT, AT(container),
      "Container whose environment it gets; the application where it is not said" },
};
#undef AT

static int run_exec(const struct command *c, int argc, char **argv)
{
    struct exec_options o = { .mesh = NULL };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n < 2)
        return command_usage_error(c, "a pod and a command are needed: exec POD -- COMMAND ...");
    if (r.others.n == ARG_LIST_MAX)
        return command_usage_error(c, "too many words");
    r.others.v[r.others.n] = NULL;
    const struct mz_mesh_exec e = {
        .pod = r.others.v[0], .container = o.container, .argv = &r.others.v[1], .fds = { 0, 1, 2 }
    };
    struct mz_mesh_client *m = mz_mesh_open(o.mesh, &err);
    const int code = m ? mz_mesh_exec(m, &e, &err) : -1;
    mz_mesh_close(m);
    return code >= 0 ? code : command_fail(&err);
}

const struct command command_exec = {
    .name = "exec",
    .aliases = "",
    .arguments = "POD -- COMMAND [ARGUMENTS]",
    .run = run_exec,
    .flags = exec_flags,
    .flags_n = MZ_COUNT(exec_flags),
    .help = "Run a command in a pod of a mesh on this machine",
};
