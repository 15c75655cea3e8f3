#include "mesh/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "mesh/line.h"

/* ---- in the child that makes it ---- */

static bool write_text(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static bool make_folder(const char *path)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST;
}

static bool has_root; /* this child, and so the pod, has a root of its own */

/* The machine's root again, entry by entry, in one that can have more. */
static bool copy_root(const char *root)
{
    char from[NAME_MAX + 2], to[1400], link[PATH_MAX];
    DIR *d = opendir("/");
    bool ok = d != NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    for (const struct dirent *e; ok && (e = readdir(d)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(from, sizeof(from), "/%s", e->d_name);
        (void)snprintf(to, sizeof(to), "%s/%s", root, e->d_name);
        if (lstat(from, &st) != 0)
            continue; /* it has just gone */
        if (S_ISLNK(st.st_mode)) {
            const ssize_t n = readlink(from, link, sizeof(link) - 1);
            link[n > 0 ? n : 0] = 0;
            ok = n > 0 && symlink(link, to) == 0;
        } else if (S_ISDIR(st.st_mode)) {
            ok = make_folder(to) && mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0;
        }
    }
    if (d)
        (void)closedir(d);
    return ok;
}

static bool new_root(const struct mz_mesh_sandbox_opts *o, struct mz_err *err)
{
    char root[1100];
    (void)snprintf(root, sizeof(root), "%s/root", o->scratch);
    /* pivot_root(2): the old root lies below the new one, and is let go there. */
    if (make_folder(root) && mount("tmpfs", root, "tmpfs", 0, "mode=0755,size=1m") == 0 &&
        copy_root(root) && chdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
        umount2(".", MNT_DETACH) == 0 && chdir("/") == 0)
        return true;
    return mz_err_set(err, "cannot give a pod a root of its own: %s", strerrordesc_np(errno));
}

/* "/etc" of "/etc/shop/x.conf". */
static void top_of(const char *to, char out[256])
{
    const char *slash = strchr(to + 1, '/');
    (void)snprintf(out, 256, "%.*s", slash ? (int)(slash - to) : (int)strlen(to), to);
}

/* Of "/data/x", that there is no "/data". */
static bool lacks_top(const char *to)
{
    char top[256];
    struct stat st;
    top_of(to, top);
    return stat(top, &st) != 0;
}

/* A layer over it, once: what is there stays, and more can be made. */
static bool cover(const struct mz_mesh_sandbox_opts *o, const char *to, struct mz_err *err)
{
    static char covered[16][256]; /* of this child */
    static size_t n;
    char options[3000], upper[1100], work[1100];
    for (size_t i = 0; i < n; i++) {
        top_of(to, covered[n]);
        if (strcmp(covered[i], covered[n]) == 0)
            return true;
    }
    if (n + 1 >= MZ_COUNT(covered))
        return mz_err_set(err, "%s: volumes in too many places", to);
    top_of(to, covered[n]);
    (void)snprintf(upper, sizeof(upper), "%s/upper%zu", o->scratch, n);
    (void)snprintf(work, sizeof(work), "%s/work%zu", o->scratch, n);
    (void)snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", covered[n],
                   upper, work);
    if (!make_folder(upper) || !make_folder(work) ||
        mount("overlay", covered[n], "overlay", 0, options) != 0)
        return mz_err_set(err, "cannot lay a folder over %s for %s: %s", covered[n], to,
                          strerrordesc_np(errno));
    n++;
    return true;
}

static bool make_target(const char *to, bool folder)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s", to);
    for (char *p = path + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = 0;
        if (!make_folder(path))
            return false;
    }
    if (folder)
        return make_folder(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd >= 0 && close(fd) == 0;
}

/* Below what was made for this pod: "/data/y" behind "/data/x". */
static bool is_own(const char *to)
{
    char top[256];
    struct stat root, st;
    top_of(to, top);
    return has_root && stat("/", &root) == 0 && stat(top, &st) == 0 && root.st_dev == st.st_dev;
}

static bool mount_one(const struct mz_mesh_sandbox_opts *o, const struct mz_mesh_mount *m,
                      struct mz_err *err)
{
    struct stat from, to;
    if (stat(m->from, &from) != 0)
        return mz_err_set(err, "%s: %s", m->from, strerrordesc_np(errno));
    if (stat(m->to, &to) != 0) {
        const bool top = lacks_top(m->to);
        if (top && !has_root && !(has_root = new_root(o, err)))
            return false;
        if (!top && !is_own(m->to) && !cover(o, m->to, err))
            return false;
        if (!make_target(m->to, S_ISDIR(from.st_mode)))
            return mz_err_set(err, "cannot make %s in a pod: %s", m->to, strerrordesc_np(errno));
    }
    if (mount(m->from, m->to, NULL, MS_BIND, NULL) == 0)
        return true;
    return mz_err_set(err, "cannot mount %s in a pod: %s", m->to, strerrordesc_np(errno));
}

static bool prepare(const struct mz_mesh_sandbox_opts *o, struct mz_err *err)
{
    if (unshare((o->node ? 0 : CLONE_NEWNET) | CLONE_NEWNS | CLONE_NEWUTS) != 0)
        return mz_err_set(err, "cannot make namespaces for a pod: %s", strerrordesc_np(errno));
    for (size_t i = 0; i < o->mounts_n; i++)
        if (!mount_one(o, &o->mounts[i], err))
            return false;
    /* Processes by the numbers that they have here. Where parts of /proc are hidden it may not be mounted, and stays. */
    (void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (o->node)
        return true;
    if (sethostname(o->hostname, strlen(o->hostname)) != 0)
        return mz_err_set(err, "cannot name a pod's host %s: %s", o->hostname,
                          strerrordesc_np(errno));
    /* As Kubernetes has it for gateways: any user may listen on 80. */
    (void)write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    return true;
}

static _Noreturn void child(const struct mz_mesh_sandbox_opts *o, int to)
{
    static const char *const paths[] = { "/proc/self/ns/net", "/proc/self/ns/mnt",
                                         "/proc/self/ns/uts" };
    struct mz_err err = { .path = "", .msg = "" };
    int fds[3];
    bool ok = prepare(o, &err);
    for (size_t i = 0; ok && i < 3; i++) {
        fds[i] = open(paths[i], O_RDONLY | O_CLOEXEC);
        ok = fds[i] >= 0 || mz_err_set(&err, "%s: %s", paths[i], strerrordesc_np(errno));
    }
    (void)mz_mesh_line_write(
        to, ok ? json_pack("{s:b}", "ok", 1) : json_pack("{s:s}", "error", err.msg), fds,
        ok ? 3 : 0); /* who waits sees the end otherwise */
    _exit(0);
}

static bool result(int from, struct mz_mesh_sandbox *out, struct mz_err *err)
{
    struct mz_mesh_line l = { .max = 4096 };
    json_t *answer = NULL;
    enum mz_mesh_read r;
    do
        r = mz_mesh_line_read(from, &l, &answer);
    while (r == MZ_MESH_MORE);
    const char *why = json_string_value(json_object_get(answer, "error"));
    const bool ok = r == MZ_MESH_LINE && !why && l.fds_n == 3;
    if (ok) /* in this order: the sides of a comma may come in any */
        *out = (struct mz_mesh_sandbox){ .net = mz_mesh_line_take(&l, 0),
                                         .mnt = mz_mesh_line_take(&l, 1),
                                         .uts = mz_mesh_line_take(&l, 2) };
    else
        mz_err_set(err, "%s", why ? why : "a pod's namespaces could not be made");
    json_decref(answer);
    mz_mesh_line_fini(&l);
    return ok;
}

bool mz_mesh_sandbox_create(const struct mz_mesh_sandbox_opts *o, struct mz_mesh_sandbox *out,
                            struct mz_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return mz_err_set(err, "socketpair: %s", strerrordesc_np(errno));
    const pid_t pid = fork();
    if (pid == 0)
        child(o, pair[1]);
    (void)close(pair[1]);
    const bool ok =
        pid < 0 ? mz_err_set(err, "fork: %s", strerrordesc_np(errno)) : result(pair[0], out, err);
    (void)close(pair[0]);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    return ok;
}

void mz_mesh_sandbox_close(struct mz_mesh_sandbox *s)
{
    const int fds[] = { s->net, s->mnt, s->uts };
    for (size_t i = 0; i < 3; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    *s = MZ_MESH_NO_SANDBOX;
}

/* ---- who is in it ---- */

static bool is_in(const char *pid, const struct stat *net)
{
    char path[64];
    struct stat st;
    (void)snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
    return stat(path, &st) == 0 && st.st_ino == net->st_ino && st.st_dev == net->st_dev;
}

static pid_t own_pid(const char *host_pid) /* NSpid's last number: in the innermost namespace */
{
    char path[64], line[256];
    long pid = 0;
    (void)snprintf(path, sizeof(path), "/proc/%.20s/status", host_pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "NSpid:", 6) == 0) {
            const char *last = strrchr(line, '\t');
            pid = last ? strtol(last + 1, NULL, 10) : 0;
        }
    if (f)
        (void)fclose(f);
    return (pid_t)pid;
}

unsigned mz_mesh_sandbox_kill(const struct mz_mesh_sandbox *s, int signo)
{
    struct stat net;
    unsigned n = 0;
    DIR *d = s->net >= 0 && fstat(s->net, &net) == 0 ? opendir("/proc") : NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || !is_in(e->d_name, &net))
            continue;
        const pid_t pid = own_pid(e->d_name);
        n += pid > 1 && kill(pid, signo) == 0;
    }
    if (d)
        (void)closedir(d);
    return n;
}

/* ---- processes ---- */

static bool drop(uint64_t keep)
{
    struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct d[2] = { { 0 } };
    for (int i = 0; i <= 63; i++)
        if (!(keep >> i & 1) && prctl(PR_CAPBSET_READ, i) == 1 && prctl(PR_CAPBSET_DROP, i) != 0)
            return false;
    /* Of what it has now all stays until the program begins: it must find it. What programs inherit is nothing. */
    if (syscall(SYS_capget, &h, d) != 0)
        return false;
    d[0].inheritable = d[1].inheritable = 0;
    return syscall(SYS_capset, &h, d) == 0;
}

static bool become(const struct mz_mesh_spawn *s)
{
    const struct mz_mesh_sandbox *in = s->in;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)setsid();
    if (in && (setns(in->uts, CLONE_NEWUTS) != 0 || setns(in->net, CLONE_NEWNET) != 0 ||
               setns(in->mnt, CLONE_NEWNS) != 0))
        return false;
    if (chdir(s->dir) != 0 || setgroups(0, NULL) != 0 || setgid(s->gid) != 0 || !drop(s->caps))
        return false;
    if (s->no_gain && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return false;
    for (int i = 0; i < 3; i++)
        if (s->fds[i] == i ? fcntl(i, F_SETFD, 0) != 0 : dup2(s->fds[i], i) < 0)
            return false;
    return true;
}

/* A name without a slash is looked for in the PATH that the program will have. */
static void begin(const struct mz_mesh_spawn *s)
{
    char *const *argv = (char *const *)(uintptr_t)s->argv, *const *env =
                                                               (char *const *)(uintptr_t)s->env;
    struct mz_str rest = { 0 }, one;
    char path[PATH_MAX];
    if (strchr(argv[0], '/')) {
        (void)execve(argv[0], argv, env);
        return;
    }
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            rest = mz_str_c(*env + 5);
    errno = ENOENT;
    while (mz_str_split(&rest, ':', &one)) {
        (void)snprintf(path, sizeof(path), "%.*s/%s", MZ_STR_ARG(one), argv[0]);
        if (access(path, X_OK) == 0)
            (void)execve(path, argv, (char *const *)(uintptr_t)s->env);
    }
}

static _Noreturn void run(const struct mz_mesh_spawn *s, int tell)
{
    if (become(s))
        begin(s);
    const int e = errno;
    (void)!write(tell, &e, sizeof(e));
    _exit(127);
}

pid_t mz_mesh_spawn(const struct mz_mesh_spawn *s, struct mz_err *err)
{
    int tell[2], e = 0;
    if (pipe2(tell, O_CLOEXEC) != 0) {
        mz_err_set(err, "pipe: %s", strerrordesc_np(errno));
        return -1;
    }
    const pid_t pid = fork();
    if (pid == 0)
        run(s, tell[1]);
    (void)close(tell[1]);
    ssize_t n;
    do
        n = pid < 0 ? 0 : read(tell[0], &e, sizeof(e)); /* the end: the program has begun */
    while (n < 0 && errno == EINTR);
    (void)close(tell[0]);
    if (pid > 0 && n != sizeof(e))
        return pid;
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    mz_err_set(err, "cannot run %s: %s", s->argv[0], strerrordesc_np(pid < 0 ? errno : e));
    return -1;
}

pid_t mz_mesh_host_pid(pid_t pid)
{
    char path[64], line[128];
    long found = 0;
    const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    FILE *f = fd >= 0 ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "Pid:", 4) == 0)
            found = strtol(line + 4, NULL, 10);
    if (f)
        (void)fclose(f);
    if (fd >= 0)
        (void)close(fd);
    return (pid_t)found;
}
