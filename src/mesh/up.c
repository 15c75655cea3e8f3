/* `up` and `down`: who stays in the machine's network and keeps the mesh's folder, while the mesh itself is elsewhere. */
#include "mesh/up.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/program.h"
#include "mesh/client.h"
#include "mesh/json.h"
#include "mesh/line.h"
#include "mesh/spaces.h"
#include "mesh/state.h"
#include "mesh/supervisor_priv.h"

enum { GONE_MS = 20000, STEP_MS = 10, PATH_ROOM = PATH_MAX + 300 };

struct keeper {
    const struct mz_mesh_up_opts *o;
    char name[MZ_MESH_NAME_MAX + 1], state[PATH_MAX], bin[PATH_MAX];
    int root, lock, control, pair[2], signals,
        launcher; /* @launcher: who waits for a detached one; -1 */
    struct mz_mesh_folder *folder;
    struct mz_mesh_workloads workloads;
    struct mz_mesh_ports ports;
    int *port_fds;
    uint64_t began_us;
    pid_t pid;
    char why[1024]; /* it failed by itself */
};

/* ---- before anything is changed ---- */

static bool find_programs(struct keeper *k, struct mz_err *err)
{
    static const char *const names[] = { "mizzend", "mizzen-agent", "mizzen-proxy" };
    const ssize_t n = readlink("/proc/self/exe", k->bin, sizeof(k->bin) - 32);
    if (n <= 0)
        return mz_err_set(err, "/proc/self/exe: %s", strerrordesc_np(errno));
    k->bin[n] = 0;
    char *slash = strrchr(k->bin, '/');
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        (void)snprintf(slash, sizeof(k->bin) - (size_t)(slash - k->bin), "/%s", names[i]);
        if (access(k->bin, X_OK) != 0)
            return mz_err_set(err, "%s: %s (it belongs beside mizzenctl)", k->bin,
                              strerrordesc_np(errno));
    }
    *slash = 0;
    return true;
}

static bool read_folder(struct keeper *k, struct mz_err *err)
{
    char root[PATH_MAX];
    if (!mz_mesh_name_of(k->o->name ? k->o->name : k->o->dir, k->name, err) ||
        !mz_mesh_root(root, sizeof(root), err))
        return false;
    if (snprintf(k->state, sizeof(k->state), "%s/%s", root, k->name) >= PATH_MAX - 300)
        return mz_err_set(err, "XDG_RUNTIME_DIR is too long");
    k->folder = mz_mesh_folder_read(k->o->dir, err);
    return k->folder && mz_mesh_workloads(k->folder, &k->workloads, err) &&
           mz_mesh_ports_wanted(k->folder, k->o->any_port, &k->ports, err) &&
           rollout_check(k->folder, &k->workloads, k->bin, k->state, environ, err);
}

static bool running_already(const struct keeper *k, struct mz_err *err)
{
    return mz_err_set(err,
                      "the mesh \"%s\" is running already (mizzenctl down %s ends it; --name gives "
                      "this one another name)",
                      k->name, k->name);
}

/* A lock may be held for a moment by whoever looks (ps), or by a process that has been killed and is not gone yet. */
enum { LOCK_TRIES = 15, LOCK_PAUSE_MS = 20 };

static void lock_pause(void)
{
    const struct timespec t = { .tv_nsec = LOCK_PAUSE_MS * 1000000L };
    (void)nanosleep(&t, NULL);
}

/* Before its ports: they are taken by the same mesh, most likely. Who begins at the same moment is found by the lock. */
static bool is_free(const struct keeper *k, struct mz_err *err)
{
    const int root = mz_mesh_root_open(false, err);
    if (root < 0)
        return !err->msg[0]; /* no mesh has run yet */
    bool lives = mz_mesh_lives(root, k->name);
    for (int i = 0; lives && i < LOCK_TRIES; i++) {
        lock_pause();
        lives = mz_mesh_lives(root, k->name);
    }
    (void)close(root);
    return !lives || running_already(k, err);
}

static bool open_ports(struct keeper *k, struct mz_err *err)
{
    k->port_fds = mz_newn0(MZ_MEM_MISC, int, k->ports.v.n + 1);
    for (size_t i = 0; i < k->ports.v.n; i++) {
        k->port_fds[i] = mz_mesh_port_listen(&k->ports.v.v[i], err);
        if (k->port_fds[i] < 0)
            return false;
    }
    return true;
}

/* ---- the mesh's folder ---- */

static int lock_once(struct keeper *k, struct mz_err *err)
{
    struct stat mine, there;
    char path[MZ_MESH_NAME_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s/up.pid", k->name);
    if (mkdirat(k->root, k->name, 0700) != 0 && errno != EEXIST) {
        if (errno == ENOENT)
            return -2; /* the folder of all meshes has just been removed */
        mz_err_set(err, "cannot make %s: %s", k->state, strerrordesc_np(errno));
        return -1;
    }
    const int fd = openat(k->root, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno != ENOENT) {
        mz_err_set(err, "cannot make %s/up.pid: %s", k->state, strerrordesc_np(errno));
        return -1;
    }
    bool mine_now = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    for (int i = 0; fd >= 0 && !mine_now && i < LOCK_TRIES; i++) {
        lock_pause();
        mine_now = flock(fd, LOCK_EX | LOCK_NB) == 0;
    }
    if (fd >= 0 && !mine_now) {
        (void)running_already(k, err);
        (void)close(fd);
        return -1;
    }
    if (fd >= 0 && fstat(fd, &mine) == 0 && fstatat(k->root, path, &there, 0) == 0 &&
        mine.st_ino == there.st_ino)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -2; /* somebody was removing it */
}

static bool take_state(struct keeper *k, struct mz_err *err)
{
    static const char *const leftovers[] = { "ca",   "config", "control.sock", "keys",
                                             "logs", "pods",   "status",       "work" };
    char path[PATH_ROOM];
    k->lock = -2;
    for (int i = 0; i < 100 && k->lock == -2; i++) {
        if (k->root >= 0)
            (void)close(k->root);
        k->root = mz_mesh_root_open(true, err);
        if (k->root >= 0)
            k->lock = lock_once(k, err);
        else if (errno != ENOENT)
            k->lock = -1;
    }
    if (k->lock < 0)
        return err->msg[0] ? false : mz_err_set(err, "%s comes and goes", k->state);
    for (size_t i = 0; i < MZ_COUNT(leftovers); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", k->state, leftovers[i]);
        if (!mz_mesh_remove_all(path))
            return mz_err_set(err, "cannot remove what is left of a mesh before: %s", path);
    }
    static const char *const folders[] = { "logs", "pods", "work" };
    for (size_t i = 0; i < MZ_COUNT(folders); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", k->state, folders[i]);
        if (mkdir(path, 0700) != 0)
            return mz_err_set(err, "cannot make %s: %s", path, strerrordesc_np(errno));
    }
    return true;
}

static bool open_control(struct keeper *k, struct mz_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const int dir = openat(k->root, k->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/control.sock", dir);
    k->control = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const mode_t mask = umask(0077);
    const bool ok = k->control >= 0 &&
                    bind(k->control, (const struct sockaddr *)&a, sizeof(a)) == 0 &&
                    listen(k->control, 64) == 0;
    (void)umask(mask);
    const int e = errno;
    if (dir >= 0)
        (void)close(dir);
    return ok ||
           mz_err_set(err, "cannot listen at %s/control.sock: %s", k->state, strerrordesc_np(e));
}

/* ---- while it runs ---- */

static void tell_launcher(struct keeper *k, char what)
{
    if (k->launcher < 0)
        return;
    (void)!write(k->launcher, &what, 1); /* it may have been ended */
    (void)close(k->launcher);
    k->launcher = -1;
}

static void open_port(struct keeper *k, uint16_t host_port)
{
    const struct mz_mesh_doc nobody = { .kind = "", .ns = "", .name = "", .file = "" };
    const struct mz_mesh_port p = { .doc = &nobody, .host_port = host_port };
    struct mz_err err = { .path = "", .msg = "" };
    int fd = mz_mesh_port_listen(&p, &err);
    const char *why = strerrordesc_np(errno);
    (void)mz_mesh_line_write(
        k->pair[0], fd < 0 ? json_pack("{s:s}", "error", why) : json_pack("{s:b}", "ok", 1), &fd,
        fd >= 0); /* it has ended: that is told elsewhere */
    if (fd >= 0)
        (void)close(fd);
}

static void hear(struct keeper *k, struct mz_mesh_line *line)
{
    json_t *o = NULL;
    if (mz_mesh_line_read(k->pair[0], line, &o) != MZ_MESH_LINE)
        return;
    const char *why = mz_json_text(o, "failed", NULL);
    if (json_object_get(o, "ready"))
        tell_launcher(k, 'r');
    if (json_object_get(o, "listen"))
        open_port(k, (uint16_t)mz_json_number(o, "listen", 0));
    if (why)
        (void)snprintf(k->why, sizeof(k->why), "%s", why);
    json_decref(o);
}

/* True: it has ended, with this. */
static bool on_signal(struct keeper *k, int *out_status)
{
    struct signalfd_siginfo info;
    if (read(k->signals, &info, sizeof(info)) != sizeof(info))
        return false;
    if (info.ssi_signo != SIGCHLD) {
        (void)kill(k->pid, SIGTERM);
        return false;
    }
    return waitpid(k->pid, out_status, WNOHANG) == k->pid;
}

static int keep(struct keeper *k, struct mz_err *err)
{
    struct mz_mesh_line line = { .max = 65536 };
    int status = 0;
    bool open = true;
    for (;;) {
        struct pollfd fds[2] = { { k->signals, POLLIN, 0 }, { open ? k->pair[0] : -1, POLLIN, 0 } };
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents & POLLIN)
            hear(k, &line);
        else if (fds[1].revents)
            open = false;
        if ((fds[0].revents & POLLIN) && on_signal(k, &status))
            break;
    }
    mz_mesh_line_fini(&line);
    if (k->why[0])
        mz_err_set(err, "%s", k->why);
    else if (WIFSIGNALED(status))
        mz_err_set(err, "the mesh \"%s\" was ended by signal %d", k->name, WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* A mesh's folder, and that of all meshes where this was the last. */
static bool forget(const char *state)
{
    char root[PATH_MAX];
    const bool ok = mz_mesh_remove_all(state);
    (void)snprintf(root, sizeof(root), "%.*s", (int)(strrchr(state, '/') - state), state);
    (void)rmdir(root); /* not empty: others use it */
    return ok;
}

static int supervise(void *arg)
{
    struct keeper *k = arg;
    (void)close(k->pair[0]);
    (void)close(k->signals);
    const struct mz_mesh_supervisor_opts o = { .name = k->name,
                                               .state = k->state,
                                               .bin = k->bin,
                                               .folder = k->folder,
                                               .workloads = k->workloads,
                                               .ports = k->ports,
                                               .port_fds = k->port_fds,
                                               .control = k->control,
                                               .keeper = k->pair[1],
                                               .any_port = k->o->any_port,
                                               .quiet = k->o->quiet,
                                               .mizzend_args = &k->o->mizzend_args,
                                               .env = environ,
                                               .began_us = k->began_us };
    const int code = mz_mesh_supervise(&o);
    if (send(k->pair[1], "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        (void)forget(k->state); /* who keeps it was killed */
    return code;
}

static void write_pid(const struct keeper *k)
{
    char text[24];
    const int n = snprintf(text, sizeof(text), "%d\n", (int)k->pid);
    (void)!pwrite(k->lock, text, (size_t)n, 0); /* for people */
}

static void block_signals(struct keeper *k)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void close_inherited(struct keeper *k)
{
    (void)close(k->control);
    (void)close(k->pair[1]);
    for (size_t i = 0; i < k->ports.v.n; i++)
        (void)close(k->port_fds[i]);
    k->control = k->pair[1] = -1;
}

static int run(struct keeper *k, struct mz_err *err)
{
    int code = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, k->pair) != 0)
        mz_err_set(err, "socketpair: %s", strerrordesc_np(errno));
    else
        k->pid = mz_mesh_spaces_fork(supervise, k, err);
    if (k->pid > 0) {
        write_pid(k);
        close_inherited(k);
        code = keep(k, err);
    }
    (void)forget(k->state);
    tell_launcher(k, 'f');
    return code;
}

/* ---- detached ---- */

/* In the child: what it says goes into the mesh's log. */
static void leave_terminal(struct keeper *k)
{
    char path[PATH_ROOM];
    (void)snprintf(path, sizeof(path), "%s/logs/up.log", k->state);
    const int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
              null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)setsid();
    if (null >= 0)
        (void)dup2(null, 0);
    if (log >= 0) {
        (void)dup2(log, 1);
        (void)dup2(log, 2);
    }
}

/* Which pods are not ready, and why. */
static void tell_waiting(const struct keeper *k)
{
    struct mz_err err;
    struct mz_mesh_client *m = mz_mesh_open(k->name, &err);
    json_t *list = m ? mz_mesh_list(m, &err) : NULL, *pod;
    size_t at;
    json_array_foreach(json_object_get(list, "pods"), at,
                       pod) if (!json_is_true(json_object_get(pod, "ready")))
        fprintf(stderr, "  %s/%s: %s\n", mz_json_text(pod, "namespace", ""),
                mz_json_text(pod, "name", ""), mz_json_text(pod, "why", ""));
    json_decref(list);
    mz_mesh_close(m);
}

/* Until the mesh is ready or has ended. Who is interrupted meanwhile does not leave it behind. False: the time is over. */
static bool wait_told(const struct keeper *k, int from)
{
    const uint64_t until = mz_clock->mono_us() + (uint64_t)k->o->timeout_s * 1000000;
    for (;;) {
        struct pollfd fds[2] = { { from, POLLIN, 0 }, { k->signals, POLLIN, 0 } };
        struct signalfd_siginfo info;
        const uint64_t now = mz_clock->mono_us(), ms = now < until ? (until - now + 999) / 1000 : 0;
        const int n = poll(fds, 2, ms < INT_MAX ? (int)ms : INT_MAX);
        if (n == 0)
            return false;
        if (n > 0 && fds[0].revents)
            return true;
        if (n > 0 && read(k->signals, &info, sizeof(info)) == sizeof(info) &&
            info.ssi_signo != SIGCHLD)
            (void)kill(k->pid, SIGTERM);
    }
}

static int wait_detached(const struct keeper *k, int from, int errors)
{
    char what = 0, text[2000];
    ssize_t n;
    if (!wait_told(k, from)) {
        fprintf(stderr,
                "Error: not all pods of the mesh \"%s\" are ready after %u s; it goes on "
                "(mizzenctl ps, logs; mizzenctl down %s):\n",
                k->name, k->o->timeout_s, k->name);
        tell_waiting(k);
        return 1;
    }
    (void)!read(from, &what, 1); /* nothing: it has ended */
    while (what != 'r' && (n = read(errors, text, sizeof(text))) > 0)
        (void)!write(2, text, (size_t)n); /* why it failed */
    if (what == 'r' && !k->o->quiet)
        printf("the mesh \"%s\" is ready (mizzenctl ps, logs, exec; mizzenctl down %s ends it)\n",
               k->name, k->name);
    return what == 'r' ? 0 : 1;
}

static int detach(struct keeper *k, struct mz_err *err)
{
    int ready[2], errors[2];
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0)
        return mz_err_set(err, "pipe: %s", strerrordesc_np(errno)), 1;
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0)
        return mz_err_set(err, "fork: %s", strerrordesc_np(errno)), 1;
    if (pid > 0) {
        (void)close(ready[1]);
        (void)close(errors[1]);
        (void)close(k->lock); /* it is the child's */
        k->pid = pid;
        return wait_detached(k, ready[0], errors[0]);
    }
    (void)close(ready[0]);
    (void)close(errors[0]);
    leave_terminal(k);
    k->launcher = ready[1];
    const int code = run(k, err);
    if (err->msg[0])
        dprintf(errors[1], "Error: %s\n", err->msg);
    _exit(code);
}

int mz_mesh_up(const struct mz_mesh_up_opts *o, struct mz_err *err)
{
    struct keeper k = { .o = o,
                        .root = -1,
                        .lock = -1,
                        .control = -1,
                        .pair = { -1, -1 },
                        .signals = -1,
                        .launcher = -1 };
    int code = 1;
    *err = (struct mz_err){ 0 };
    k.began_us = mz_clock->mono_us();
    mz_program_path();
    if (mz_mesh_spaces_check(err) && find_programs(&k, err) && read_folder(&k, err) &&
        is_free(&k, err) && open_ports(&k, err)) {
        block_signals(&k); /* from here on there is something to tidy up */
        if (take_state(&k, err) && open_control(&k, err))
            code = o->detach ? detach(&k, err) : run(&k, err);
        else if (k.lock >= 0)
            (void)forget(k.state);
    }
    mz_mesh_folder_destroy(k.folder);
    mz_vec_free(&k.ports.v, MZ_MEM_CONFIG);
    mz_free(MZ_MEM_MISC, k.port_fds);
    return code;
}

/* ---- down ---- */

static bool is_gone(int root, const char *name)
{
    struct stat st;
    return fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) != 0;
}

static bool wait_gone(int root, const char *name)
{
    const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
    for (int i = 0; i < GONE_MS / STEP_MS && (mz_mesh_lives(root, name) || !is_gone(root, name));
         i++) {
        if (!mz_mesh_lives(root, name) && i > 20)
            break; /* nobody is there who would remove it */
        (void)nanosleep(&step, NULL);
    }
    return !mz_mesh_lives(root, name);
}

/* It does not answer, but somebody holds its lock. */
static void kill_it(int root, const char *name)
{
    char path[MZ_MESH_NAME_MAX + 16], text[24] = "";
    (void)snprintf(path, sizeof(path), "%s/up.pid", name);
    const int fd = openat(root, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    const long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (fd >= 0)
        (void)close(fd);
    if (pid > 1)
        (void)kill((pid_t)pid, SIGKILL);
}

bool mz_mesh_down(const char *name_or_dir, bool *out_ran, struct mz_err *err)
{
    char name[MZ_MESH_NAME_MAX + 1], path[PATH_ROOM], root_path[PATH_MAX];
    *err = (struct mz_err){ 0 };
    const int root = mz_mesh_root_open(false, err);
    if (root < 0)
        return err->msg[0] ? false : mz_err_set(err, "no mesh is running");
    bool ok =
        (name_or_dir ? mz_mesh_name_of(name_or_dir, name, err) : mz_mesh_only(root, name, err)) &&
        mz_mesh_root(root_path, sizeof(root_path), err);
    if (ok && is_gone(root, name)) {
        ok = mz_mesh_not_running(root, name, err);
        (void)rmdir(root_path); /* of one that was killed in its first moments */
    }
    if (ok) {
        *out_ran = mz_mesh_lives(root, name);
        struct mz_mesh_client *m = *out_ran ? mz_mesh_open(name, err) : NULL;
        if (*out_ran && (!m || !mz_mesh_stop(m, err)))
            kill_it(root, name);
        mz_mesh_close(m);
        *err = (struct mz_err){ 0 };
        ok = wait_gone(root, name) || mz_err_set(err, "the mesh \"%s\" does not end", name);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", root_path, name);
    if (ok && !forget(path))
        ok = mz_err_set(err, "cannot remove %s", path);
    (void)close(root);
    return ok;
}
