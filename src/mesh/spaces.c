#include "mesh/spaces.h"

#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"

enum { LEAST_IDS = 1400, MOST_IDS = 65535 };

struct range {
    unsigned long first, n;
};

/* "name:100000:65536", also by number. */
static bool read_range(const char *path, const char *user, struct range *out)
{
    char line[256], id[24];
    bool found = false;
    FILE *f = fopen(path, "re");
    (void)snprintf(id, sizeof(id), "%u", (unsigned)getuid());
    while (f && !found && fgets(line, sizeof(line), f)) {
        char *first = strchr(line, ':'), *n = first ? strchr(first + 1, ':') : NULL;
        if (!n)
            continue;
        *first++ = *n++ = 0;
        found = strcmp(line, user) == 0 || strcmp(line, id) == 0;
        *out = (struct range){ strtoul(first, NULL, 10), strtoul(n, NULL, 10) };
        found = found && out->n >= LEAST_IDS;
    }
    if (f)
        (void)fclose(f);
    return found;
}

static bool ranges(struct range *out_users, struct range *out_groups, struct mz_err *err)
{
    char room[2048], id[24];
    struct passwd pw, *found = NULL;
    (void)snprintf(id, sizeof(id), "%u", (unsigned)getuid());
    const bool known = getpwuid_r(getuid(), &pw, room, sizeof(room), &found) == 0 && found;
    const char *user = known ? found->pw_name : id;
    if (read_range("/etc/subuid", user, out_users) && read_range("/etc/subgid", user, out_groups))
        return true;
    return mz_err_set(
        err,
        "/etc/subuid and /etc/subgid give the user %s no ids of its own (as root: "
        "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s); or run it "
        "as root",
        user, user);
}

static bool in_path(const char *name)
{
    static const char *const folders[] = { "/usr/bin", "/bin", "/usr/local/bin" };
    char path[64];
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

bool mz_mesh_spaces_check(struct mz_err *err)
{
    struct range users, groups;
    if (geteuid() == 0)
        return true;
    if (!in_path("newuidmap") || !in_path("newgidmap"))
        return mz_err_set(err, "a mesh of an ordinary user needs newuidmap and newgidmap (Debian's "
                               "package uidmap); or run it as root");
    return ranges(&users, &groups, err);
}

/* newuidmap PID 0 UID 1 1 FIRST N */
static bool map(const char *tool, pid_t pid, unsigned own, struct range r, struct mz_err *err)
{
    char text[4][24];
    char zero[] = "0", one[] = "1";
    (void)snprintf(text[0], sizeof(text[0]), "%d", (int)pid);
    (void)snprintf(text[1], sizeof(text[1]), "%u", own);
    (void)snprintf(text[2], sizeof(text[2]), "%lu", r.first);
    (void)snprintf(text[3], sizeof(text[3]), "%lu", r.n < MOST_IDS ? r.n : (unsigned long)MOST_IDS);
    char *argv[] = {
        (char *)(uintptr_t)tool, text[0], zero, text[1], one, one, text[2], text[3], NULL
    };
    pid_t child;
    int status = 1;
    const int rc = posix_spawnp(&child, tool, NULL, NULL, argv, environ);
    while (rc == 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return rc == 0 && status == 0 ? true
                                  : mz_err_set(err, "%s could not give the mesh its ids%s%s", tool,
                                               rc ? ": " : "", rc ? strerrordesc_np(rc) : "");
}

static bool map_both(pid_t pid, struct mz_err *err)
{
    struct range users, groups;
    return ranges(&users, &groups, err) && map("newuidmap", pid, (unsigned)getuid(), users, err) &&
           map("newgidmap", pid, (unsigned)getgid(), groups, err);
}

static _Noreturn void begin(int (*run)(void *arg), void *arg, int wait)
{
    char go = 0;
    ssize_t n;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* who was ended before this does not say "go" */
    do
        n = read(wait, &go, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(1); /* no ids, or who waits has gone */
    (void)close(wait);
    (void)setsid(); /* the terminal's keys are for who stays outside */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        fprintf(stderr, "Error: mounts cannot be made private: %s\n", strerrordesc_np(errno));
        _exit(1);
    }
    const int code = run(arg);
    (void)fflush(stdout);
    _exit(code);
}

pid_t mz_mesh_spaces_fork(int (*run)(void *arg), void *arg, struct mz_err *err)
{
    const bool root = geteuid() == 0;
    const unsigned long flags =
        CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER);
    int pair[2];
    bool ok = true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        mz_err_set(err, "socketpair: %s", strerrordesc_np(errno));
        return -1;
    }
    (void)fflush(NULL);
    /* As fork(), in namespaces of its own: this process has one thread, so nothing has to be done around it. */
    const pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        (void)close(pair[1]);
        begin(run, arg, pair[0]);
    }
    const int e = errno;
    (void)close(pair[0]);
    if (pid < 0)
        ok = mz_err_set(
            err, "namespaces cannot be made: %s%s", strerrordesc_np(e),
            e == EPERM || e == ENOSPC
                ? " (is this a container without rights, or are user namespaces switched off?)"
                : "");
    if (ok && !root)
        ok = map_both(pid, err);
    if (ok)
        ok = write(pair[1], "g", 1) == 1 || mz_err_set(err, "the mesh's process has ended");
    (void)close(pair[1]);
    if (!ok && pid > 0)
        (void)waitpid(pid, NULL, 0);
    return ok ? pid : -1;
}
