/* logs: what a container of a mesh on this machine has written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/mesh.h"
#include "mesh/json.h"

struct logs_options {
    const char *mesh, *container;
    uint32_t tail;
    bool follow;
};
#define AT(member) offsetof(struct logs_options, member)
static const struct arg_flag logs_flags[] = {
    { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the mesh, where several run" },
    { "container", 'c', ARG_TEXT, AT(container),
      "Container; the application where it is not said" },
    { "tail", 0, ARG_NUMBER, AT(tail), "Only so many lines of the end" },
    { "follow", 'f', ARG_SWITCH, AT(follow), "Go on with what is written from now on" },
};
#undef AT

/* Where none is named, the first application; a gateway has none. */
static const char *log_of(json_t *pod, const char *container, struct mz_err *err)
{
    size_t at;
    json_t *c, *list = json_object_get(pod, "containers"), *found = NULL;
    json_array_foreach(list, at, c)
    {
        if (container ? strcmp(mz_json_text(c, "name", ""), container) == 0
                      : !found && strcmp(mz_json_text(c, "role", ""), "app") == 0)
            found = c;
    }
    if (!found && !container)
        found = json_array_get(list, 0);
    if (!found)
        mz_err_set(err, "there is no container \"%.100s\" in %s", container ? container : "",
                   mz_json_text(pod, "name", ""));
    return mz_json_text(found, "log", NULL);
}

/* Where the last @lines lines begin. */
static off_t tail_of(int fd, off_t end, uint32_t lines)
{
    char part[4096];
    off_t at = end;
    while (at > 0) {
        const off_t from = at > (off_t)sizeof(part) ? at - (off_t)sizeof(part) : 0;
        const ssize_t n = pread(fd, part, (size_t)(at - from), from);
        if (n <= 0)
            return from;
        for (ssize_t i = n; i-- > 0;)
            if (part[i] == '\n' && from + i + 1 < end && !--lines)
                return from + i + 1;
        at = from;
    }
    return 0;
}

/* What stood there before it was cut. */
static void show_before(const char *path)
{
    char before[4200], part[65536];
    (void)snprintf(before, sizeof(before), "%s.1", path);
    FILE *f = fopen(before, "re");
    for (size_t n; f && (n = fread(part, 1, sizeof(part), f)) > 0;)
        (void)fwrite(part, 1, n, stdout); /* the end is seen below */
    if (f)
        (void)fclose(f);
}

static int show(const char *path, const struct logs_options *o, struct mz_err *err)
{
    char part[65536];
    const struct timespec pause = { .tv_nsec = 100000000 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT
                   ? EXIT_OK /* it has not begun */
                   : (mz_err_set(err, "%s: %s", path, strerrordesc_np(errno)), command_fail(err));
    if (!o->tail)
        show_before(path);
    off_t end = lseek(fd, 0, SEEK_END), at = o->tail ? tail_of(fd, end, o->tail) : 0;
    for (;;) {
        const ssize_t n = pread(fd, part, sizeof(part), at);
        if (n > 0 && fwrite(part, 1, (size_t)n, stdout) != (size_t)n)
            break;
        at += n > 0 ? n : 0;
        if (n > 0)
            continue;
        if (fflush(stdout) != 0 || !o->follow || access(path, F_OK) != 0)
            break; /* the reader, or the mesh, has gone */
        end = lseek(fd, 0, SEEK_END);
        at = end < at ? 0 : at; /* it was cut */
        (void)nanosleep(&pause, NULL);
    }
    (void)close(fd);
    return EXIT_OK;
}

static int run_logs(const struct command *c, int argc, char **argv)
{
    struct logs_options o = { .mesh = NULL };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    char own[4200];
    int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n != 1)
        return command_usage_error(c, "one pod is needed, or mizzend");
    struct mz_mesh_client *m = mz_mesh_open(o.mesh, &err);
    json_t *list = m ? mz_mesh_list(m, &err) : NULL;
    const char *path = NULL;
    if (list && strcmp(r.others.v[0], "mizzend") == 0) {
        (void)snprintf(own, sizeof(own), "%s/logs/mizzend.log", mz_json_text(list, "state", ""));
        path = own;
    } else if (list) {
        json_t *pod = mesh_find_pod(list, r.others.v[0], &err);
        path = pod ? log_of(pod, o.container, &err) : NULL;
    }
    mz_mesh_close(m);
    rc = path ? show(path, &o, &err) : command_fail(&err);
    json_decref(list);
    return rc;
}

const struct command command_logs = {
    .name = "logs",
    .aliases = "",
    .arguments = "POD|mizzend",
    .run = run_logs,
    .flags = logs_flags,
    .flags_n = MZ_COUNT(logs_flags),
    .help = "Print what a container of a mesh on this machine has written",
};
