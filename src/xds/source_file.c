/* Resources from a file: a DiscoveryResponse as YAML, JSON or bytes, read again whenever it was moved into place. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "xds/xds_priv.h"

#define FILE_MAX (256u << 20)

struct file {
    char *path;
    struct mz_file_watch *watch;
};

static bool read_file(const char *path, struct mz_arena *a, struct mz_str *out_text,
                      struct mz_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return mz_err_set(err, "unable to read file: %s: %s", path, strerrordesc_np(errno));
    struct mz_buf b;
    char chunk[16384];
    mz_buf_init(&b);
    for (size_t n; mz_buf_len(&b) < FILE_MAX && (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        mz_buf_append(&b, chunk, n);
    bool ok = !ferror(f) && mz_buf_len(&b) < FILE_MAX;
    char *text = mz_arena_alloc(a, mz_buf_len(&b) + 1);
    *out_text = (struct mz_str){ text, mz_buf_copyout(&b, 0, text, mz_buf_len(&b)) };
    mz_buf_fini(&b);
    fclose(f);
    return ok || mz_err_set(err, "unable to read file: %s", path);
}

static void refresh(void *arg)
{
    struct mz_subscription *s = arg;
    struct file *f = s->state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str text, version;
    struct mz_err err;
    subscription_count(s, MZ_SUB_STAT_ATTEMPT);
    if (read_file(f->path, a, &text, &err))
        (void)subscription_text(s, mz_str_c(f->path), text, a, &version);
    else
        subscription_failed(s, &err);
    mz_arena_destroy(a);
}

static bool file_create(struct mz_subscription *s, const pb_ConfigSource *m, struct mz_err *err)
{
    bool plain = m->config_source_specifier_case == pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_PATH;
    const pb_PathConfigSource *p = plain ? NULL : m->path_config_source; /* plain: the old field */
    const char *path = plain ? m->path : p->path;
    struct file *f = mz_new0(MZ_MEM_XDS, struct file);
    s->state = f;
    f->path = mz_strndup(MZ_MEM_XDS, path, strlen(path));
    if (access(f->path, F_OK) != 0)
        return mz_err_set(err,
                          "paths must refer to an existing path in the system: '%s' does not exist",
                          f->path) ||
               mz_err_at(err, plain ? "path" : "path_config_source.path");
    if (s->xds->env.validate)
        return true;
    char dir[4097];
    struct mz_str at = mz_str_c(f->path);
    if (p && p->watched_directory) {
        int n = snprintf(dir, sizeof(dir), "%s/", p->watched_directory->path);
        at = (struct mz_str){ dir, n > 0 && (size_t)n < sizeof(dir) ? (size_t)n : 0 };
    }
    f->watch = mz_file_watch_add(s->xds->watches, at, refresh, s, err);
    return f->watch || mz_err_at(err, plain ? "path" : "path_config_source");
}

static void file_destroy(struct mz_subscription *s)
{
    struct file *f = s->state;
    if (!f)
        return;
    mz_file_watch_end(f->watch);
    mz_free(MZ_MEM_XDS, f->path);
    mz_free(MZ_MEM_XDS, f);
}

static void file_start(struct mz_subscription *s)
{
    refresh(s);
}

const struct source_ops source_file = { file_create, file_start, file_destroy };
