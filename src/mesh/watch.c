#include "mesh/watch.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 32, QUIET_MS = 50 };

struct mz_mesh_watch {
    struct mz_io io;
    struct mz_timer quiet;
    char *dir;
    void (*changed)(void *arg);
    void *arg;
};

static void add(struct mz_mesh_watch *w, const char *path, unsigned depth)
{
    const uint32_t what = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                          IN_ONLYDIR | IN_EXCL_UNLINK;
    DIR *d = depth < MAX_DEPTH ? opendir(path) : NULL;
    if (!d)
        return;
    (void)inotify_add_watch(w->io.fd, path, what); /* one that is watched stays so */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char child[PATH_MAX];
        struct stat st;
        const int n = snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.' && n < PATH_MAX && stat(child, &st) == 0 && S_ISDIR(st.st_mode))
            add(w, child, depth + 1);
    }
    (void)closedir(d);
}

static void on_events(struct mz_io *io, unsigned events)
{
    struct mz_mesh_watch *w = MZ_CONTAINER(io, struct mz_mesh_watch, io);
    char room[4096] __attribute__((aligned(8)));
    (void)events;
    while (read(io->fd, room, sizeof(room)) > 0) {
    }
    mz_timer_start_ms(&w->quiet, QUIET_MS);
}

static void on_quiet(struct mz_timer *t)
{
    struct mz_mesh_watch *w = MZ_CONTAINER(t, struct mz_mesh_watch, quiet);
    add(w, w->dir, 0); /* new folders */
    w->changed(w->arg);
}

struct mz_mesh_watch *mz_mesh_watch_create(struct mz_loop *l, const char *dir,
                                           void (*changed)(void *arg), void *arg)
{
    const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct mz_mesh_watch *w = mz_new0(MZ_MEM_MISC, struct mz_mesh_watch);
    w->dir = mz_strndup(MZ_MEM_MISC, dir, strlen(dir));
    w->changed = changed;
    w->arg = arg;
    mz_timer_init(l, &w->quiet, on_quiet);
    if (mz_io_add(l, &w->io, fd, on_events) != 0) {
        (void)close(fd);
        mz_free(MZ_MEM_MISC, w->dir);
        mz_free(MZ_MEM_MISC, w);
        return NULL;
    }
    add(w, dir, 0);
    return w;
}

void mz_mesh_watch_destroy(struct mz_mesh_watch *w)
{
    if (!w)
        return;
    mz_timer_stop(&w->quiet);
    mz_io_del(&w->io);
    (void)close(w->io.fd);
    mz_free(MZ_MEM_MISC, w->dir);
    mz_free(MZ_MEM_MISC, w);
}
