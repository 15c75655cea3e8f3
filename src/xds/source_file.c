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

/* Only what the text is made of is checked here: constraints are the resource's own, checked when it is opened. */
static bool parse(struct mz_subscription *s, struct mz_str path, struct mz_str text,
                  struct mz_arena *a, pb_DiscoveryResponse **out, struct mz_err *err)
{
    struct mz_proto_ctx ctx = {
        .arena = a,
        .unknown = s->xds->env.reject_unknown ? MZ_UNKNOWN_REJECT : MZ_UNKNOWN_COUNT,
        .partial = true,
        .unchecked = true,
    };
    const ProtobufCMessageDescriptor *d = &pb_DiscoveryResponse__descriptor;
    ProtobufCMessage *m;
    bool ok =
        mz_str_ends(path, MZ_STR(".pb"))
            ? mz_msg_unpack(&ctx, text, d, &m, err)
            : mz_msg_from_text(&ctx, text,
                               mz_str_ends(path, MZ_STR(".json")) ? MZ_TEXT_JSON : MZ_TEXT_YAML, d,
                               &m, err);
    s->xds->unknown_fields += ctx.unknown_n;
    if (ctx.unknown_n)
        MZ_LOG(WARN, config, MZ_STR_FMT " has unknown fields: %s", MZ_STR_ARG(path),
               ctx.unknown_path);
    if (ok)
        *out = (pb_DiscoveryResponse *)m;
    return ok;
}

/* The resources that the subscription is about. */
static bool select_resources(struct mz_subscription *s, const pb_DiscoveryResponse *m,
                             struct mz_arena *a, struct mz_xds_update *out, struct mz_err *err)
{
    struct mz_resource *v = mz_arena_alloc0(a, mz_mul(m->n_resources + 1, sizeof(*v)));
    struct mz_str other = MZ_STR("");
    *out = (struct mz_xds_update){ .version = mz_str_c(m->version_info), .v = v, .whole = true };
    for (size_t i = 0; i < m->n_resources; i++) {
        struct wrapped w;
        if (!resource_unwrap(m->resources[i], s->type, out->version, a, &w, err))
            return mz_err_at(err, "resources[%zu]", i);
        if (w.heartbeat) /* of a file there is nothing to keep alive */
            continue;
        if (!s->name.n || mz_str_eq(s->name, w.r.name))
            v[out->n++] = w.r;
        else
            other = w.r.name;
    }
    if (out->n || !m->n_resources)
        return true;
    return mz_err_set(err, "Unexpected configuration (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                      MZ_STR_ARG(s->name), MZ_STR_ARG(other));
}

static void refresh(void *arg)
{
    struct mz_subscription *s = arg;
    struct file *f = s->state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str path = mz_str_c(f->path), text;
    pb_DiscoveryResponse *m;
    struct mz_xds_update u;
    struct mz_err err;
    mz_count(s->scope, MZ_SUB_STAT_ATTEMPT, 1);
    if (!read_file(f->path, a, &text, &err) || !parse(s, path, text, a, &m, &err)) {
        char why[1600];
        struct mz_err named;
        mz_err_set(&named, "%s: %s", f->path, mz_err_text(&err, why, sizeof(why)));
        subscription_failed(s, &named);
    } else if (!select_resources(s, m, a, &u, &err)) {
        subscription_refused(s, &err);
    } else {
        (void)subscription_take(s, &u, &err); /* nobody to tell but the log, which knows */
    }
    mz_arena_destroy(a);
}

static bool file_create(struct mz_subscription *s, const pb_ConfigSource *m, struct mz_err *err)
{
    const pb_PathConfigSource *p = m->path_config_source;
    struct file *f = mz_new0(MZ_MEM_XDS, struct file);
    s->state = f;
    f->path = mz_strndup(MZ_MEM_XDS, p->path, strlen(p->path));
    if (access(f->path, F_OK) != 0)
        return mz_err_set(err,
                          "paths must refer to an existing path in the system: '%s' does not exist",
                          f->path) ||
               mz_err_at(err, "path_config_source.path");
    if (s->xds->env.validate)
        return true;
    char dir[4097];
    struct mz_str at = mz_str_c(f->path);
    if (p->watched_directory) {
        int n = snprintf(dir, sizeof(dir), "%s/", p->watched_directory->path);
        at = (struct mz_str){ dir, n > 0 && (size_t)n < sizeof(dir) ? (size_t)n : 0 };
    }
    f->watch = mz_file_watch_add(s->xds->watches, at, refresh, s, err);
    return f->watch || mz_err_at(err, "path_config_source");
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
