#include "xds/file_watch.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"

struct mz_file_watches {
    struct mz_io io;
    struct mz_loop *loop;
    struct mz_list list;
};
struct mz_file_watch {
    struct mz_list link;
    struct mz_file_watches *all;
    int wd;             /* shared by watches of one directory */
    struct mz_str name; /* "" any; behind the struct */
    void (*moved)(void *arg);
    void *arg;
    bool hit;
};

struct mz_file_watches *mz_file_watches_create(struct mz_loop *l)
{
    struct mz_file_watches *w = mz_new0(MZ_MEM_XDS, struct mz_file_watches);
    w->loop = l;
    w->io.fd = -1;
    mz_list_init(&w->list);
    return w;
}

void mz_file_watches_destroy(struct mz_file_watches *w)
{
    if (!w)
        return;
    if (w->io.fd >= 0) {
        mz_io_del(&w->io);
        (void)close(w->io.fd);
    }
    mz_free(MZ_MEM_XDS, w);
}

static struct mz_file_watch *watch_of(struct mz_list *l)
{
    return MZ_CONTAINER(l, struct mz_file_watch, link);
}

static void note(struct mz_file_watches *w, const struct inotify_event *e)
{
    mz_list_foreach (it, &w->list) {
        struct mz_file_watch *f = watch_of(it);
        bool overflow = e->mask & IN_Q_OVERFLOW; /* events were lost: it may have been this one */
        if (overflow ||
            (f->wd == e->wd && e->len && (!f->name.n || mz_str_eq(f->name, mz_str_c(e->name)))))
            f->hit = true;
    }
}

/* A callback may end watches and add some. */
static struct mz_file_watch *next_hit(struct mz_file_watches *w)
{
    mz_list_foreach (it, &w->list)
        if (watch_of(it)->hit)
            return watch_of(it);
    return NULL;
}

static void ready(struct mz_io *io, unsigned events)
{
    (void)events;
    struct mz_file_watches *w = MZ_CONTAINER(io, struct mz_file_watches, io);
    _Alignas(struct inotify_event) char raw[8192];
    ssize_t n = read(io->fd, raw, sizeof(raw));
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
        const struct inotify_event *e = (const struct inotify_event *)(const void *)(raw + at);
        note(w, e);
        at += (ssize_t)(sizeof(*e) + e->len);
    }
    for (struct mz_file_watch *f; (f = next_hit(w)) != NULL;) {
        f->hit = false;
        f->moved(f->arg);
    }
}

static bool open_inotify(struct mz_file_watches *w, struct mz_err *err)
{
    if (w->io.fd >= 0)
        return true;
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return mz_err_set(err, "unable to watch files: %s", strerrordesc_np(errno));
    int rc = mz_io_add_level(w->loop, &w->io, fd, MZ_IO_READ, ready);
    if (rc == 0)
        return true;
    w->io.fd = -1;
    (void)close(fd);
    return mz_err_set(err, "unable to watch files: %s", strerrordesc_np(-rc));
}

struct mz_file_watch *mz_file_watch_add(struct mz_file_watches *w, struct mz_str path,
                                        void (*moved)(void *arg), void *arg, struct mz_err *err)
{
    ptrdiff_t slash = mz_str_rchr(path, '/');
    struct mz_str name = mz_str_skip(path, (size_t)(slash + 1));
    char *dir = slash < 0 ? mz_strndup(MZ_MEM_XDS, ".", 1)
                          : mz_strndup(MZ_MEM_XDS, path.p, slash ? (size_t)slash : 1);
    int wd = -1;
    if (open_inotify(w, err)) {
        wd = inotify_add_watch(w->io.fd, dir, IN_MOVED_TO);
        if (wd < 0)
            mz_err_set(err, "unable to add filesystem watch for file %.*s: %s", MZ_STR_ARG(path),
                       strerrordesc_np(errno));
    }
    mz_free(MZ_MEM_XDS, dir);
    if (wd < 0)
        return NULL;
    struct mz_file_watch *f = mz_alloc0(MZ_MEM_XDS, sizeof(*f) + name.n);
    *f = (struct mz_file_watch){ .all = w, .wd = wd, .moved = moved, .arg = arg };
    f->name = (struct mz_str){ (char *)(f + 1), name.n };
    if (name.n)
        memcpy(f + 1, name.p, name.n);
    mz_list_add_tail(&w->list, &f->link);
    return f;
}

void mz_file_watch_end(struct mz_file_watch *f)
{
    if (!f)
        return;
    bool shared = false;
    mz_list_del(&f->link);
    mz_list_foreach (it, &f->all->list)
        shared |= watch_of(it)->wd == f->wd;
    if (!shared)
        (void)inotify_rm_watch(f->all->io.fd, f->wd);
    mz_free(MZ_MEM_XDS, f);
}
