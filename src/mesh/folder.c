#include "mesh/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/inject/inject.h"
#include "control/model/model.h"
#include "control/sources/store.h"
#include "mesh/json.h"

enum { MAX_DEPTH = 32, MAX_FILE = 16 << 20, MAX_FILES = 10000 };

static const char *const kinds[] = { "ConfigMap", "DaemonSet", "Deployment",
                                     "Job",       "Namespace", "Pod",
                                     "Secret",    "Service",   "StatefulSet" };

bool mz_mesh_doc_err(const struct mz_mesh_doc *d, struct mz_err *err)
{
    struct mz_err was = *err;
    char text[1400];
    return mz_err_set(err, "%s:%u: %s %s%s%s: %s", d->file, d->line, d->kind, d->ns,
                      d->ns[0] ? "/" : "", d->name, mz_err_text(&was, text, sizeof(text)));
}

const struct mz_mesh_doc *mz_mesh_folder_find(const struct mz_mesh_folder *f, const char *kind,
                                              const char *ns, const char *name)
{
    for (size_t i = 0; i < f->docs.n; i++) {
        const struct mz_mesh_doc *d = &f->docs.v[i];
        if (strcmp(d->kind, kind) == 0 && strcmp(d->ns, ns) == 0 && strcmp(d->name, name) == 0)
            return d;
    }
    return NULL;
}

/* ---- one document ---- */

struct reading {
    struct mz_mesh_folder *folder;
    struct mz_store *store; /* what the model is built of */
    const char *file;
    struct mz_err *err;
    bool failed;
    size_t files;
};

static bool is_kept(const char *kind)
{
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (strcmp(kinds[i], kind) == 0)
            return true;
    return false;
}

static void add_object(struct reading *r, json_t *object, uint32_t line)
{
    const char *kind = mz_json_text(object, "kind", "");
    json_t *items = json_object_get(object, "items"), *one;
    size_t at;
    if (strcmp(kind, "List") == 0)
        json_array_foreach(items, at, one) add_object(r, one, line);
    if (!json_is_object(object) || !is_kept(kind))
        return;
    json_t *meta = json_object_get(object, "metadata");
    const bool whole = strcmp(kind, "Namespace") == 0;
    struct mz_mesh_doc d = { .object = object,
                             .kind = kind,
                             .ns = whole ? "" : mz_json_text(meta, "namespace", "default"),
                             .name = mz_json_text(meta, "name", ""),
                             .file = r->file,
                             .line = line };
    const struct mz_mesh_doc *same = mz_mesh_folder_find(r->folder, kind, d.ns, d.name);
    if (!d.name[0])
        mz_err_set(r->err, "metadata.name: is missing");
    else if (same)
        mz_err_set(r->err, "stands in %s:%u, too", same->file, same->line);
    if (!d.name[0] || same) {
        r->failed = !mz_mesh_doc_err(&d, r->err);
        return;
    }
    (void)json_incref(object);
    *mz_vec_push(&r->folder->docs, MZ_MEM_CONFIG) = d;
}

static void add_part(void *arg, struct mz_str text, uint32_t line0)
{
    struct reading *r = arg;
    if (r->failed)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const bool json = mz_str_ends(mz_str_c(r->file), MZ_STR(".json"));
    const struct mz_node *n =
        json ? mz_tree_read_json(a, text, r->err) : mz_tree_read_yaml(a, text, line0, r->err);
    json_t *object = n && n->kind == MZ_NODE_MAP ? mz_json_from_tree(n) : NULL;
    if (!n)
        r->failed = !mz_err_at(r->err, "%s", r->file);
    else if (object)
        add_object(r, object, n->n && n->pairs[0].line ? n->pairs[0].line : line0 + 1);
    json_decref(object);
    mz_arena_destroy(a);
}

/* Of one object in two places the first counts. What is wrong is told by mizzend. */
static void keep_doc(void *arg, struct mz_doc *d)
{
    struct reading *r = arg;
    if (mz_store_get(r->store, d->key))
        mz_doc_unref(d);
    else
        mz_store_put(r->store, d);
}

static void no_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                       const char *text)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)key;
    (void)text;
}

/* ---- files ---- */

static bool read_file(const char *path, struct mz_str *out, struct mz_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (!ok)
        mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
        ok = mz_err_set(err, "%s: no file, or larger than %d MiB", path, MAX_FILE >> 20);
    char *text = ok ? mz_alloc(MZ_MEM_CONFIG, (size_t)st.st_size + 1) : NULL;
    size_t n = 0;
    for (ssize_t one = 1; ok && one > 0 && n<(size_t)st.st_size; n += one> 0 ? (size_t)one : 0)
        one = read(fd, text + n, (size_t)st.st_size - n);
    if (fd >= 0)
        (void)close(fd);
    *out = (struct mz_str){ text, n };
    return ok;
}

static void add_file(struct reading *r, const char *path, bool mesh)
{
    struct mz_str text;
    const bool json = mz_str_ends(mz_str_c(path), MZ_STR(".json"));
    r->file = mz_arena_dup(r->folder->arena, mz_str_c(path)).p;
    const struct mz_doc_reader reader = {
        .file = mz_str_c(r->file), .doc = keep_doc, .problem = no_problem, .arg = r
    };
    if (++r->files > MAX_FILES)
        r->failed = !mz_err_set(r->err, "%s: more than %d files", r->folder->dir, MAX_FILES);
    if (r->failed || !read_file(path, &text, r->err)) {
        r->failed = true;
        return;
    }
    if (mesh)
        mz_doc_read_mesh(&reader, text);
    else
        mz_doc_read_text(&reader, text, json ? MZ_TEXT_JSON : MZ_TEXT_YAML);
    if (json && !mesh)
        add_part(r, text, 0);
    else if (!mesh)
        mz_doc_parts(text, add_part, r);
    mz_free(MZ_MEM_CONFIG, (char *)(uintptr_t)text.p);
}

static bool has_ending(struct mz_str file)
{
    return mz_str_ends(file, MZ_STR(".yaml")) || mz_str_ends(file, MZ_STR(".yml")) ||
           mz_str_ends(file, MZ_STR(".json"));
}

static void add_directory(struct reading *r, const char *path, unsigned depth)
{
    struct dirent **list = NULL;
    const int n = depth < MAX_DEPTH ? scandir(path, &list, NULL, alphasort) : 0;
    if (n < 0)
        r->failed = !mz_err_set(r->err, "%s: %s", path, strerrordesc_np(errno));
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        const char *child = mz_arena_printf(r->folder->arena, "%s/%s", path, name).p;
        struct stat st;
        const bool mesh = depth == 0 && strcmp(name, "mesh.yaml") == 0;
        if (!r->failed && name[0] != '.' && stat(child, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                add_directory(r, child, depth + 1);
            else if (has_ending(mz_str_c(name)))
                add_file(r, child, mesh);
        }
        free(list[i]);
    }
    free(list);
}

/* ---- all ---- */

static void nobody(void *arg)
{
    (void)arg; /* the folder is read once */
}

struct mz_mesh_folder *mz_mesh_folder_read(const char *dir, struct mz_err *err)
{
    struct mz_mesh_folder *f = mz_new0(MZ_MEM_CONFIG, struct mz_mesh_folder);
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct reading r = { .folder = f, .err = err, .store = mz_store_create(nobody, NULL) };
    f->arena = mz_arena_create(MZ_MEM_CONFIG);
    char *real = realpath(dir, NULL);
    if (real) {
        f->dir = mz_arena_dup(f->arena, mz_str_c(real)).p;
        add_directory(&r, f->dir, 0);
    } else {
        r.failed = !mz_err_set(err, "%s: %s", dir, strerrordesc_np(errno));
    }
    free(real);
    mz_store_commit(r.store);
    if (!r.failed)
        f->model = mz_model_build(r.store, &o, NULL);
    mz_store_destroy(r.store);
    if (f->model)
        return f;
    mz_mesh_folder_destroy(f);
    return NULL;
}

void mz_mesh_folder_destroy(struct mz_mesh_folder *f)
{
    if (!f)
        return;
    mz_vec_foreach (d, &f->docs)
        json_decref(d->object);
    mz_vec_free(&f->docs, MZ_MEM_CONFIG);
    mz_model_unref(f->model);
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_CONFIG, f);
}
