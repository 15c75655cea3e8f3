#include "mesh/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/near.h"

static bool name_ok(struct mz_str s)
{
    bool ok = s.n && s.n <= MZ_MESH_NAME_MAX && s.p[0] != '.' && s.p[0] != '-';
    for (size_t i = 0; ok && i < s.n; i++)
        ok = (mz_lower(s.p[i]) >= 'a' && mz_lower(s.p[i]) <= 'z') ||
             (s.p[i] >= '0' && s.p[i] <= '9') || strchr("-_.", s.p[i]) != NULL;
    return ok;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool mz_mesh_name_of(const char *name_or_dir, char out_name[MZ_MESH_NAME_MAX + 1],
                     struct mz_err *err)
{
    char real[PATH_MAX];
    struct mz_str s = mz_str_c(name_or_dir);
    if (is_folder(name_or_dir) && realpath(name_or_dir, real))
        s = mz_str_c(real);
    while (s.n > 1 && s.p[s.n - 1] == '/')
        s.n--;
    s = mz_str_skip(s, (size_t)(mz_str_rchr(s, '/') + 1));
    if (!name_ok(s))
        return mz_err_set(err,
                          "\"%.100s\" is no name for a mesh: letters, digits, '-', '_' and '.', at "
                          "most %d; --name gives another",
                          name_or_dir, MZ_MESH_NAME_MAX);
    memcpy(out_name, s.p, s.n);
    out_name[s.n] = 0;
    return true;
}

bool mz_mesh_root(char *out_path, size_t n, struct mz_err *err)
{
    const char *run = getenv("XDG_RUNTIME_DIR"); /* NOLINT(concurrency-mt-unsafe): one thread */
    int len;
    if (geteuid() == 0)
        len = snprintf(out_path, n, "/run/mizzen");
    else if (run && run[0] == '/')
        len = snprintf(out_path, n, "%s/mizzen", run);
    else
        len = snprintf(out_path, n, "/tmp/mizzen-%u", (unsigned)geteuid());
    return len > 0 && (size_t)len < n ? true : mz_err_set(err, "XDG_RUNTIME_DIR is too long");
}

int mz_mesh_root_open(bool make, struct mz_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    if (!mz_mesh_root(path, sizeof(path), err))
        return -1;
    if (make && mkdir(path, 0700) != 0 && errno != EEXIST) {
        mz_err_set(err, "cannot make the folder %s: %s", path, strerrordesc_np(errno));
        return -1;
    }
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        const int e = errno;
        if (e != ENOENT)
            mz_err_set(err, "cannot open the folder %s: %s", path, strerrordesc_np(e));
        errno = e;
        return -1;
    }
    /* In /tmp somebody else may have been there first. */
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 022))
        return fd;
    (void)close(fd);
    mz_err_set(err, "the folder %s is not this user's alone", path);
    errno = EPERM;
    return -1;
}

bool mz_mesh_lives(int root_fd, const char *name)
{
    char path[MZ_MESH_NAME_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s/up.pid", name);
    const int fd = openat(root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    (void)close(fd);
    return held;
}

static void each_mesh(int root_fd, void (*each)(void *arg, const char *name), void *arg)
{
    DIR *d = fdopendir(openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (name_ok(mz_str_c(e->d_name)) && mz_mesh_lives(root_fd, e->d_name))
            each(arg, e->d_name);
    if (d)
        (void)closedir(d);
}

struct running {
    struct mz_str wanted;
    char first[MZ_MESH_NAME_MAX + 1], best[MZ_MESH_NAME_MAX + 1], names[400];
    unsigned n, least;
};

static void hear(void *arg, const char *name)
{
    struct running *r = arg;
    const size_t used = strlen(r->names);
    struct mz_near near;
    (void)snprintf(r->names + used, sizeof(r->names) - used, "%s%s", r->n ? ", " : "", name);
    if (!r->n++)
        memcpy(r->first, name, strlen(name) + 1);
    mz_near_init(&near, r->wanted);
    mz_near_try(&near, mz_str_c(name));
    if (near.best.n && (!r->best[0] || near.least < r->least)) {
        memcpy(r->best, name, strlen(name) + 1);
        r->least = near.least;
    }
}

bool mz_mesh_only(int root_fd, char out_name[MZ_MESH_NAME_MAX + 1], struct mz_err *err)
{
    struct running r = { .n = 0 };
    each_mesh(root_fd, hear, &r);
    if (r.n > 1)
        return mz_err_set(err, "several meshes are running: %s; say which", r.names);
    memcpy(out_name, r.first, sizeof(r.first));
    return r.n == 1 || mz_err_set(err, "no mesh is running (mizzenctl up DIR starts one)");
}

bool mz_mesh_not_running(int root_fd, const char *name, struct mz_err *err)
{
    struct running r = { .wanted = mz_str_c(name) };
    each_mesh(root_fd, hear, &r);
    if (r.best[0])
        return mz_err_set(err, "the mesh \"%s\" is not running; did you mean \"%s\"?", name,
                          r.best);
    return mz_err_set(err, "the mesh \"%s\" is not running%s%s", name, r.n ? "; these are: " : "",
                      r.names);
}
