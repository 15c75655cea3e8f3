/* The directory source: files to documents, watched (C1). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"
#include "control/sources/reading.h"
#include "control/sources/source.h"

enum { MAX_DEPTH = 32, MAX_FILES = 100000, DEBOUNCE_MS = 100, PATIENCE = 10 };
enum { BATCH_FILES = 256, BATCH_BYTES = 1 << 20 };

struct stamp { /* what tells that a file was not written since */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
struct file {
    size_t dir; /* of the source's, in whose order the first counts */
    char *path;
    struct stamp stamp;
    bool mesh;            /* the MeshConfig */
    bool seen;            /* in this scan */
    bool stale;           /* it is to be read */
    struct mz_content is; /* and last good versions behind its own documents */
};
struct directory {
    struct mz_source base;
    struct mz_loop *loop;
    struct mz_store *store;
    struct mz_directory_opts o;
    char *dirs[MZ_DIRECTORY_MAX], *mesh_file;
    size_t dirs_n, at;           /* at: the one that is being read */
    MZ_VEC(struct file *) files; /* by directory and path */
    MZ_VEC(struct mz_note) conflicts;
    struct mz_map live; /* key to the document that counts; a reference each */
    struct mz_io watch; /* inotify */
    struct mz_timer quiet;
    uint64_t first_us; /* of the events that wait; 0: none do */
    bool synced, crowded;
    bool news; /* of problems, in this scan */
};

static struct directory *self(const struct mz_source *s)
{
    return MZ_CONTAINER((uintptr_t)s, struct directory, base);
}

/* ---- files ---- */

static void file_destroy(struct file *f)
{
    mz_content_fini(&f->is);
    mz_free(MZ_MEM_CONFIG, f->path);
    mz_free(MZ_MEM_CONFIG, f);
}

/* @f against the one of @path in the directory that is being read. */
static int compare_file(const struct directory *s, const char *path, const struct file *f)
{
    return s->at != f->dir ? (s->at > f->dir) - (s->at < f->dir) : strcmp(path, f->path);
}

static struct file *file_find(const struct directory *s, const char *path)
{
    for (size_t lo = 0, hi = s->files.n; lo < hi;) {
        const size_t mid = (lo + hi) / 2;
        const int c = compare_file(s, path, s->files.v[mid]);
        if (c == 0)
            return s->files.v[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static bool read_all(const char *path, char **out_text, size_t *out_n, struct mz_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0, got = 0;
    if (fd < 0)
        return mz_err_set(err, "cannot be read: %s", strerrordesc_np(errno));
    bool ok = fstat(fd, &st) == 0 && st.st_size >= 0 && st.st_size <= (off_t)MZ_TREE_MAX_BYTES;
    if (ok)
        n = (size_t)st.st_size;
    char *text = mz_alloc(MZ_MEM_CONFIG, n + 1);
    while (ok && got < n) {
        const ssize_t one = read(fd, text + got, n - got);
        ok = one >= 0;
        if (one <= 0)
            break; /* it became shorter: there will be another event */
        got += (size_t)one;
    }
    (void)close(fd); /* only read */
    *out_text = text;
    *out_n = got;
    return ok || mz_err_set(err, "cannot be read, or has more than %u bytes", MZ_TREE_MAX_BYTES);
}

/* Keys of what is there now, and of what is broken now. */
static void keys_of(const struct mz_content *now, struct mz_map *there, struct mz_map *broken)
{
    for (size_t i = 0; i < now->notes.n; i++)
        if (now->notes.v[i].level == MZ_LEVEL_ERROR)
            (void)mz_map_put(broken, now->notes.v[i].key, &now->notes.v[i]);
    for (size_t i = 0; broken->n && i < now->docs.n; i++)
        (void)mz_map_put(there, now->docs.v[i]->key, now->docs.v[i]);
}

/* Last good versions: of what is broken now and of what cannot be told apart from it. */
static void keep_old(struct mz_content *now, const struct mz_content *before)
{
    struct mz_map there, broken;
    mz_map_init(&there, MZ_MEM_CONFIG);
    mz_map_init(&broken, MZ_MEM_CONFIG);
    keys_of(now, &there, &broken);
    for (size_t i = 0; broken.n && i < before->docs.n; i++) {
        struct mz_doc *d = before->docs.v[i];
        if (!mz_map_get(&there, d->key) && (now->broken || mz_map_get(&broken, d->key))) {
            *mz_vec_push(&now->docs, MZ_MEM_CONFIG) = mz_doc_ref(d);
            (void)mz_map_put(&there, d->key, d);
        }
    }
    mz_map_fini(&there);
    mz_map_fini(&broken);
}

/* ---- reading ---- */

struct batch { /* files whose texts are in memory at once */
    struct mz_reading *reading;
    size_t bytes;
};
struct opened {
    struct file *f;
    char *text;
    struct mz_content now;
};

static void take_doc(void *arg, struct mz_doc *d)
{
    struct mz_content *c = arg;
    *mz_vec_push(&c->docs, MZ_MEM_CONFIG) = d;
}

static void take_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                         const char *text)
{
    mz_content_tell(arg, level, line, key, text);
}

static void open_file(struct batch *b, struct opened *o)
{
    const struct mz_str path = mz_str_c(o->f->path);
    const struct mz_doc_reader r = { path, take_doc, take_problem, &o->now };
    struct mz_err err = { .path = "", .msg = "" };
    size_t n = 0;
    if (!read_all(o->f->path, &o->text, &n, &err))
        mz_content_tell(&o->now, MZ_LEVEL_ERROR, 0, MZ_STR(""), err.msg);
    else if (o->f->mesh)
        mz_doc_read_mesh(&r, (struct mz_str){ o->text, n });
    else
        mz_reading_add(b->reading, path, (struct mz_str){ o->text, n },
                       mz_str_ends(path, MZ_STR(".json")) ? MZ_TEXT_JSON : MZ_TEXT_YAML, &o->f->is,
                       &o->now);
    b->bytes += n;
}

static void close_file(struct directory *s, struct opened *o)
{
    struct file *f = o->f;
    const bool had = f->is.notes.n != 0;
    mz_free(MZ_MEM_CONFIG, o->text);
    keep_old(&o->now, &f->is);
    mz_content_fini(&f->is);
    f->is = o->now;
    f->stale = false;
    s->news |= had || f->is.notes.n;
}

static bool next_stale(const struct directory *s, size_t *at)
{
    while (*at < s->files.n && !s->files.v[*at]->stale)
        ++*at;
    return *at < s->files.n;
}

static void read_stale(struct directory *s)
{
    for (size_t at = 0; next_stale(s, &at);) {
        struct batch b = { .reading = mz_reading_create() };
        struct opened *first = mz_newn0(MZ_MEM_CONFIG, struct opened, BATCH_FILES);
        size_t n = 0;
        for (; n < BATCH_FILES && b.bytes < BATCH_BYTES && next_stale(s, &at); at++) {
            first[n].f = s->files.v[at];
            open_file(&b, &first[n++]); /* what is found stays where it is */
        }
        mz_reading_end(b.reading);
        for (size_t i = 0; i < n; i++)
            close_file(s, &first[i]);
        mz_free(MZ_MEM_CONFIG, first);
    }
}

/* ---- a scan ---- */

static bool is_ours(struct mz_str name)
{
    return mz_str_ends(name, MZ_STR(".yaml")) || mz_str_ends(name, MZ_STR(".yml")) ||
           mz_str_ends(name, MZ_STR(".json"));
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static void file_insert(struct directory *s, struct file *f)
{
    size_t at = s->files.n;
    *mz_vec_push(&s->files, MZ_MEM_CONFIG) = f;
    for (; at && compare_file(s, f->path, s->files.v[at - 1]) < 0; at--)
        s->files.v[at] = s->files.v[at - 1];
    s->files.v[at] = f;
}

static void visit_file(struct directory *s, const char *path, const struct stat *st, bool mesh)
{
    const struct stamp now = { st->st_dev, st->st_ino, st->st_size, st->st_mtim };
    struct file *f = file_find(s, path);
    const bool fresh = !f;
    if (fresh && s->files.n == MAX_FILES) {
        s->crowded = true;
        return;
    }
    if (fresh) {
        f = mz_new0(MZ_MEM_CONFIG, struct file);
        f->path = mz_strndup(MZ_MEM_CONFIG, path, strlen(path));
        f->mesh = mesh;
        f->dir = s->at;
        file_insert(s, f);
    }
    f->seen = true;
    if (!fresh && same_stamp(&f->stamp, &now))
        return;
    f->stamp = now;
    f->stale = true;
}

static void watch_dir(struct directory *s, const char *path)
{
    const uint32_t events = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE |
                            IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    if (s->watch.fd >= 0 && inotify_add_watch(s->watch.fd, path, events) < 0)
        MZ_LOG(WARN, config, "changes in %s will not be seen: %s", path, strerrordesc_np(errno));
}

static void visit(struct directory *s, const char *path, unsigned depth);

static void visit_entry(struct directory *s, const char *dir, const char *name, unsigned depth)
{
    struct stat st;
    char path[4096];
    const int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(path) || stat(path, &st) != 0)
        return; /* it went between readdir and here */
    const bool mesh = !s->mesh_file && depth == 0 && strcmp(name, "mesh.yaml") == 0;
    if (S_ISDIR(st.st_mode))
        visit(s, path, depth + 1);
    else if (S_ISREG(st.st_mode) && is_ours(mz_str_c(name)) &&
             !(s->mesh_file && strcmp(path, s->mesh_file) == 0))
        visit_file(s, path, &st, mesh);
}

static void visit(struct directory *s, const char *path, unsigned depth)
{
    DIR *d = depth < MAX_DEPTH ? opendir(path) : NULL;
    if (!d)
        return;
    watch_dir(s, path); /* before it is read: nothing falls between */
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            visit_entry(s, path, e->d_name, depth);
    (void)closedir(d); /* only read */
}

static void visit_mesh_file(struct directory *s)
{
    struct stat st;
    char dir[4096];
    const struct mz_str path = mz_str_c(s->mesh_file);
    const ptrdiff_t slash = mz_str_rchr(path, '/');
    if (slash > 0 && (size_t)slash < sizeof(dir)) {
        memcpy(dir, path.p, (size_t)slash);
        dir[slash] = 0;
        watch_dir(s, dir);
    } else {
        watch_dir(s, slash < 0 ? "." : "/");
    }
    if (stat(s->mesh_file, &st) == 0)
        visit_file(s, s->mesh_file, &st, true);
}

static void drop_unseen(struct directory *s)
{
    size_t n = 0;
    mz_vec_foreach (f, &s->files) {
        if ((*f)->seen) {
            s->files.v[n++] = *f;
            continue;
        }
        s->news |= (*f)->is.notes.n != 0;
        file_destroy(*f);
    }
    s->files.n = n;
}

static void conflict(struct directory *s, const struct mz_doc *loser, const struct mz_doc *winner)
{
    char text[600];
    snprintf(text, sizeof(text), "has no effect: %.*s:%u has the same object, and stands before",
             (int)(winner->file.n > 400 ? 400 : winner->file.n), winner->file.p, winner->line);
    *mz_vec_push(&s->conflicts, MZ_MEM_CONFIG) =
        mz_note_make(MZ_LEVEL_ERROR, loser->line, loser->file, text);
}

static void live_clear(struct directory *s)
{
    mz_map_foreach (it, &s->live)
        mz_doc_unref(it->value);
    mz_map_fini(&s->live);
}

/* A pod that runs, as whoever runs it tells, rather than what somebody wanted to run. */
static bool runs(const struct mz_doc *d)
{
    if (d->kind != MZ_KIND_POD)
        return false;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const bool yes = ((const k8s_Pod *)mz_doc_body(d, a))->status;
    mz_arena_destroy(a);
    return yes;
}

/* Of @d and one that stands before it. */
static void take_one(struct directory *s, struct mz_map *live, const struct mz_doc *d,
                     const struct mz_doc *before)
{
    if (d->kind == MZ_KIND_POD && runs(d) != runs(before)) {
        if (runs(before))
            return;
        (void)mz_map_put(live, d->key, mz_doc_ref(d));
        mz_doc_unref(before);
    } else {
        conflict(s, d, before);
    }
}

/* Which documents count, and what that changes in the store. */
static void publish(struct directory *s)
{
    struct mz_map live;
    mz_map_init(&live, MZ_MEM_CONFIG);
    s->news |= s->conflicts.n != 0;
    mz_notes_clear(s->conflicts.v, s->conflicts.n);
    s->conflicts.n = 0;
    mz_vec_foreach (f, &s->files)
        mz_vec_foreach (d, &(*f)->is.docs) {
            const struct mz_doc *winner = mz_map_get(&live, (*d)->key);
            if (winner)
                take_one(s, &live, *d, winner);
            else
                (void)mz_map_put(&live, (*d)->key, mz_doc_ref(*d));
        }
    mz_map_foreach (it, &s->live)
        if (!mz_map_get(&live, it->key))
            mz_store_remove(s->store, it->key);
    mz_map_foreach (it, &live)
        mz_store_put(s->store, mz_doc_ref(it->value));
    live_clear(s);
    s->live = live;
    s->news |= s->conflicts.n != 0;
    mz_store_commit(s->store);
}

static void scan(struct directory *s)
{
    mz_vec_foreach (f, &s->files)
        (*f)->seen = false;
    s->crowded = false;
    for (s->at = 0; s->at < s->dirs_n; s->at++)
        visit(s, s->dirs[s->at], 0);
    if (s->mesh_file)
        visit_mesh_file(s);
    drop_unseen(s);
    read_stale(s);
    publish(s);
}

/* ---- changes ---- */

static void read_changes(struct directory *s)
{
    s->base.since_us = s->first_us;
    s->first_us = 0;
    s->news = false;
    scan(s);
    s->base.since_us = 0;
    if (s->news && s->o.told)
        s->o.told(s->o.arg);
}

static void quiet(struct mz_timer *t)
{
    read_changes(MZ_CONTAINER(t, struct directory, quiet));
}

static void on_events(struct mz_io *io, unsigned events)
{
    (void)events;
    struct directory *s = MZ_CONTAINER(io, struct directory, watch);
    char raw[16384];
    while (read(io->fd, raw, sizeof(raw)) > 0) { /* which files they are: the scan finds out */
    }
    const uint64_t now = mz_loop_now_us(s->loop), wait = s->o.debounce_ms;
    if (!s->first_us)
        s->first_us = now;
    if (now - s->first_us < PATIENCE * wait * 1000)
        mz_timer_start_ms(&s->quiet, wait);
}

static bool watch_start(struct directory *s, struct mz_err *err)
{
    const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return mz_err_set(err, "unable to watch files: %s", strerrordesc_np(errno));
    if (mz_io_add_level(s->loop, &s->watch, fd, MZ_IO_READ, on_events) != 0) {
        (void)close(fd);
        s->watch.fd = -1;
        return mz_err_set(err, "unable to watch files");
    }
    return true;
}

/* ---- the source ---- */

bool mz_directory_reads(const char *dir, const char *path)
{
    char *in = realpath(dir, NULL), *is = realpath(path, NULL);
    size_t n = in ? strlen(in) : 0;
    n -= n == 1; /* "/" is in front of everything */
    const bool reads =
        in && is && strncmp(is, in, n) == 0 && (is[n] == '/' || !is[n]) && !strstr(is + n, "/.");
    free(in);
    free(is);
    return reads;
}

static bool check_dir(const struct directory *s, size_t i, struct mz_err *err)
{
    DIR *d = opendir(s->dirs[i]);
    if (!d)
        return mz_err_set(err, "%s: %s", s->dirs[i], strerrordesc_np(errno));
    (void)closedir(d); /* only tried */
    for (size_t k = 0; k < s->dirs_n; k++)
        if (k != i && mz_directory_reads(s->dirs[k], s->dirs[i]))
            return mz_err_set(err, "%s: is read already, as part of %s", s->dirs[i], s->dirs[k]);
    return true;
}

static bool start(struct mz_source *base, struct mz_err *err)
{
    struct directory *s = self(base);
    for (size_t i = 0; i < s->dirs_n; i++)
        if (!check_dir(s, i, err))
            return false;
    if (s->mesh_file && access(s->mesh_file, R_OK) != 0)
        return mz_err_set(err, "%s: %s", s->mesh_file, strerrordesc_np(errno));
    if (s->o.watch && !watch_start(s, err))
        return false;
    scan(s);
    s->synced = true;
    return true;
}

static bool synced(const struct mz_source *base)
{
    return self(base)->synced;
}

static void refresh(struct mz_source *base)
{
    struct directory *s = self(base);
    if (s->loop)
        mz_timer_stop(&s->quiet);
    read_changes(s);
}

static void problems(const struct mz_source *base,
                     void (*each)(void *arg, const struct mz_problem *p), void *arg)
{
    struct directory *s = self(base);
    mz_vec_foreach (f, &s->files)
        mz_vec_foreach (n, &(*f)->is.notes)
            each(arg, &(struct mz_problem){ n->level, mz_str_c((*f)->path), n->line, n->key,
                                            mz_str_c(n->text) });
    mz_vec_foreach (n, &s->conflicts) /* their "key" is the loser's file */
        each(arg, &(struct mz_problem){ n->level, n->key, n->line, MZ_STR(""), mz_str_c(n->text) });
    if (s->crowded)
        each(arg,
             &(struct mz_problem){ MZ_LEVEL_ERROR, mz_str_c(s->dirs[s->dirs_n - 1]), 0, MZ_STR(""),
                                   MZ_STR("there are too many files: the rest is not read") });
}

static void destroy(struct mz_source *base)
{
    struct directory *s = self(base);
    if (s->watch.fd >= 0) {
        mz_io_del(&s->watch);
        (void)close(s->watch.fd);
    }
    if (s->loop)
        mz_timer_stop(&s->quiet);
    live_clear(s);
    mz_vec_foreach (f, &s->files)
        file_destroy(*f);
    mz_notes_clear(s->conflicts.v, s->conflicts.n);
    mz_vec_free(&s->files, MZ_MEM_CONFIG);
    mz_vec_free(&s->conflicts, MZ_MEM_CONFIG);
    for (size_t i = 0; i < s->dirs_n; i++)
        mz_free(MZ_MEM_CONFIG, s->dirs[i]);
    mz_free(MZ_MEM_CONFIG, s->mesh_file);
    mz_free(MZ_MEM_CONFIG, s);
}

static char *dup_dir(const char *dir)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    return mz_strndup(MZ_MEM_CONFIG, dir, n);
}

struct mz_source *mz_directory_create(struct mz_loop *l, struct mz_store *store,
                                      const struct mz_directory_opts *o)
{
    static const struct mz_source_ops ops = {
        "directory", start, synced, refresh, problems, destroy
    };
    struct directory *s = mz_new0(MZ_MEM_CONFIG, struct directory);
    s->base.ops = &ops;
    s->loop = l;
    s->store = store;
    s->o = *o;
    s->o.debounce_ms = o->debounce_ms ? o->debounce_ms : DEBOUNCE_MS;
    MZ_ASSERT(o->dirs_n && o->dirs_n <= MZ_DIRECTORY_MAX);
    for (size_t i = 0; i < o->dirs_n; i++)
        s->dirs[s->dirs_n++] = dup_dir(o->dirs[i]);
    s->mesh_file =
        o->mesh_file ? mz_strndup(MZ_MEM_CONFIG, o->mesh_file, strlen(o->mesh_file)) : NULL;
    s->watch.fd = -1;
    mz_map_init(&s->live, MZ_MEM_CONFIG);
    if (l)
        mz_timer_init(l, &s->quiet, quiet);
    return &s->base;
}
