#include "control/status/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "control/status/status_priv.h"
#include "proto/show.h"
#include "proto/tree.h"

#define MARK "# Written by mizzend: the status of one object, made anew when it changes.\n"

/* ---- one document ---- */

void status_begin(struct status_making *m, const char *group, const char *version, const char *kind,
                  struct mz_str ns, struct mz_str name, struct mz_str key)
{
    const struct mz_doc *doc = mz_store_get(m->f->store, key);
    const k8s_ObjectMeta *meta = doc ? mz_doc_meta(doc, m->a) : NULL;
    m->since = doc ? doc->created : MZ_STR("");
    m->generation = meta ? meta->generation : 0;
    mz_buf_init(&m->b);
    m->j = (struct json_out){ .b = &m->b };
    json_open(&m->j, '{');
    json_member(&m->j, "apiVersion", mz_arena_printf(m->a, "%s/%s", group, version));
    json_member(&m->j, "kind", mz_str_c(kind));
    json_key(&m->j, "metadata");
    json_open(&m->j, '{');
    json_member(&m->j, "name", name);
    json_member(&m->j, "namespace", ns);
    json_close(&m->j, '}');
    json_key(&m->j, "status");
    json_open(&m->j, '{');
}

void status_end(struct status_making *m, const char *kind, struct mz_str ns, struct mz_str name)
{
    json_close(&m->j, '}');
    json_close(&m->j, '}');
    status_put(m, kind, ns, name);
}

void status_put(struct status_making *m, const char *kind, struct mz_str ns, struct mz_str name)
{
    struct mz_err err;
    struct mz_buf yaml;
    mz_buf_init(&yaml);
    mz_buf_append_str(&yaml, MZ_STR(MARK));
    const struct mz_node *n =
        mz_tree_read(m->a, mz_buf_linearize(&m->b, mz_buf_len(&m->b)), MZ_TEXT_JSON, &err);
    if (!MZ_BUG(!n)) {
        mz_show_yaml(&yaml, n, false);
        const struct mz_status one = {
            ns, kind, name, mz_arena_dup(m->a, mz_buf_linearize(&yaml, mz_buf_len(&yaml)))
        };
        struct mz_statuses *o = m->out;
        if (!(o->n_v & (o->n_v - 1))) { /* room is a power of two */
            struct mz_status *v = mz_arena_alloc(m->a, (o->n_v ? 2 * o->n_v : 1) * sizeof(*v));
            if (o->n_v)
                memcpy(v, o->v, o->n_v * sizeof(*v));
            o->v = v;
        }
        o->v[o->n_v++] = one;
    }
    mz_buf_fini(&yaml);
    mz_buf_fini(&m->b);
}

void status_condition(struct status_making *m, const char *type, bool is, const char *reason,
                      struct mz_str message)
{
    json_open(&m->j, '{');
    if (m->since.n)
        json_member(&m->j, "lastTransitionTime", m->since);
    json_member(&m->j, "message", message);
    if (m->generation) {
        json_key(&m->j, "observedGeneration");
        json_u64(&m->j, (uint64_t)m->generation);
    }
    json_member(&m->j, "reason", mz_str_c(reason));
    json_member(&m->j, "status", is ? MZ_STR("True") : MZ_STR("False"));
    json_member(&m->j, "type", mz_str_c(type));
    json_close(&m->j, '}');
}

void status_judge(struct status_making *m, const char *type, const struct mz_gw_error *e,
                  const char *reason, struct mz_str message)
{
    status_condition(m, type, !e->reason, e->reason ? e->reason : reason,
                     e->reason ? e->text : message);
}

void mz_status_make(const struct mz_status_from *f, struct mz_arena *a, struct mz_statuses *out)
{
    struct status_making m = { .f = f, .a = a, .out = out };
    *out = (struct mz_statuses){ 0 };
    status_gateway_api(&m);
    status_routes(&m);
    status_ingresses(&m);
    status_istio(&m);
    status_bundles(&m);
}

/* ---- files ---- */

static bool make_folders(char *path, size_t from, struct mz_err *err)
{
    for (char *p = path + from; (p = strchr(p, '/')); p++) {
        *p = 0;
        const bool ok = !path[0] || mkdir(path, 0755) == 0 || errno == EEXIST;
        if (!ok)
            (void)mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
        *p = '/';
        if (!ok)
            return false;
    }
    return true;
}

static bool has(const char *path, struct mz_str text)
{
    char old[4096];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool same = fd >= 0;
    ssize_t n;
    while (same && (n = read(fd, old, sizeof(old))) > 0) {
        same = (size_t)n <= text.n && memcmp(old, text.p, (size_t)n) == 0;
        text = mz_str_skip(text, same ? (size_t)n : 0);
    }
    if (fd >= 0)
        (void)close(fd); /* only read */
    return same && !text.n;
}

static bool write_all(int fd, struct mz_str text)
{
    while (text.n) {
        const ssize_t n = write(fd, text.p, text.n);
        if (n <= 0 && errno != EINTR)
            return false;
        text = mz_str_skip(text, n > 0 ? (size_t)n : 0);
    }
    return true;
}

/* Under another name first: whoever reads sees the old or the new. */
static bool put(char *path, size_t dir_n, struct mz_str text, struct mz_err *err)
{
    char other[4400];
    if (has(path, text))
        return true;
    if (!make_folders(path, dir_n, err))
        return false;
    const int n = snprintf(other, sizeof(other), "%s.new", path);
    const int fd = n > 0 && (size_t)n < sizeof(other)
                       ? open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)
                       : -1;
    const bool ok = fd >= 0 && write_all(fd, text) && close(fd) == 0 && rename(other, path) == 0;
    return ok || mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
}

static bool path_of(char *out, size_t room, const char *dir, const struct mz_status *s)
{
    const int n = snprintf(out, room, "%s/%.*s%s%s/%.*s.yaml", dir, MZ_STR_ARG(s->ns),
                           s->ns.n ? "/" : "", s->kind, MZ_STR_ARG(s->name));
    return n > 0 && (size_t)n < room;
}

static bool is_ours(const char *path)
{
    char head[sizeof(MARK)] = "";
    FILE *f = fopen(path, "re");
    const bool ours = f && fgets(head, sizeof(head), f) && strcmp(head, MARK) == 0;
    if (f)
        (void)fclose(f); /* only read */
    return ours;
}

/* Files of objects that are gone. */
static void sweep(const char *path, const struct mz_map *kept, unsigned depth)
{
    char below[4200];
    DIR *d = depth < 4 ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        const int n = snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
        const struct mz_str name = { below, n > 0 ? (size_t)n : 0 };
        if (e->d_name[0] == '.' || n <= 0 || (size_t)n >= sizeof(below) || lstat(below, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            sweep(below, kept, depth + 1);
            (void)rmdir(below); /* where nothing is left in it */
        } else if (S_ISREG(st.st_mode) && mz_str_ends(name, MZ_STR(".yaml")) &&
                   !mz_map_get(kept, name) && is_ours(below)) {
            (void)unlink(below); /* where that fails it is tried again the next time */
        }
    }
    if (d)
        (void)closedir(d);
}

bool mz_status_write(const struct mz_status_from *f, const char *dir, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_statuses all;
    struct mz_map kept;
    char path[4200];
    bool ok = true;
    mz_map_init(&kept, MZ_MEM_CONFIG);
    mz_status_make(f, a, &all);
    for (size_t i = 0; i < all.n_v; i++) {
        struct mz_err one;
        if (!path_of(path, sizeof(path), dir, &all.v[i])) {
            ok = mz_err_set(err, "%s: the path is too long", dir);
            continue;
        }
        if (!put(path, 1, all.v[i].text, &one)) {
            *err = one;
            ok = false;
        }
        (void)mz_map_put(&kept, mz_arena_dup(a, mz_str_c(path)), a);
    }
    sweep(dir, &kept, 0);
    mz_map_fini(&kept);
    mz_arena_destroy(a);
    return ok;
}

bool mz_status_dir_ok(const char *dir, const char *const *configs, size_t n, struct mz_err *err)
{
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return mz_err_set(err, "%s: %s", dir, strerrordesc_np(errno));
    for (size_t i = 0; i < n; i++)
        if (mz_directory_reads(configs[i], dir))
            return mz_err_set(err, "%s is below %s, whose documents are read", dir, configs[i]);
    return true;
}
