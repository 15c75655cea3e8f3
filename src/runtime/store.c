/* The layers, merging them, handing snapshots to the threads (P7). Main thread. */
#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "proto/mapper.h"
#include "runtime/runtime_priv.h"
#include "xds/init.h"
#include "xds/subscription.h"

/* X(identifier, "name", TYPE) */
/* clang-format off: its own output does not satisfy it here */
#define STATS(X)                                                                                   \
    X(ADMIN_OVERRIDES, "admin_overrides_active", GAUGE)                                            \
    X(DEPRECATED_SEEN, "deprecated_feature_seen_since_process_start", GAUGE)                       \
    X(DEPRECATED_USE, "deprecated_feature_use", COUNTER)                                           \
    X(LOAD_ERROR, "load_error", COUNTER)                                                           \
    X(LOAD_SUCCESS, "load_success", COUNTER)                                                       \
    X(NUM_KEYS, "num_keys", GAUGE)                                                                 \
    X(NUM_LAYERS, "num_layers", GAUGE)                                                             \
    X(OVERRIDE_EXISTS, "override_dir_exists", COUNTER)                                             \
    X(OVERRIDE_NOT_EXISTS, "override_dir_not_exists", COUNTER)
/* clang-format on */
enum {
#define X(id, name, type) STAT_##id,
    STATS(X)
#undef X
        STAT__COUNT
};
static const struct mz_stat_def stat_defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_NONE, 0 },
    STATS(X)
#undef X
};
static const struct mz_stat_kind stat_kind = { "runtime", stat_defs, STAT__COUNT };

enum source { STATIC, DISK, ADMIN, RTDS };
struct layer {
    struct mz_str name;
    enum source source;
    struct mz_runtime_layer keys;
    struct mz_str dir, watch_dir, watch_name; /* disk */
    bool appended; /* with append_service_cluster: counted whether it exists */
    const pb_RuntimeLayer_RtdsLayer *rtds; /* until it is subscribed to */
    struct mz_str resource;                /* of RTDS */
    struct mz_subscription *sub;
    struct mz_init_target target;
    struct mz_runtime_store *store;
    struct mz_xds *xds;
};
struct thread {
    unsigned refs; /* atomic: the store, posts on their way */
    bool gone;     /* the store was destroyed */
    struct mz_loop *loop;
    const struct mz_runtime *current; /* changed on its own thread only */
};
struct mz_runtime_store {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct layer *layers;
    size_t n_layers;
    const struct mz_runtime *current;
    MZ_VEC(struct thread *) threads;
    struct mz_io watch;
};

static _Thread_local const struct thread *here;

const struct mz_runtime *mz_runtime_here(void)
{
    static const struct mz_runtime empty = { .refs = 1 };
    return here && here->current ? here->current : &empty;
}

/* ---- snapshots ---- */

static const struct mz_runtime *runtime_ref(const struct mz_runtime *r)
{
    struct mz_runtime *w = (struct mz_runtime *)(uintptr_t)r;
    __atomic_add_fetch(&w->refs, 1, __ATOMIC_RELAXED);
    return r;
}

static void runtime_unref(const struct mz_runtime *r)
{
    struct mz_runtime *w = (struct mz_runtime *)(uintptr_t)r;
    if (!w || __atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL))
        return;
    mz_map_fini(&w->values);
    mz_arena_destroy(w->arena);
}

static struct mz_runtime *merge(const struct mz_runtime_store *s)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_runtime *r = mz_arena_new0(a, struct mz_runtime);
    r->refs = 1;
    r->arena = a;
    mz_map_init(&r->values, MZ_MEM_CONFIG);
    for (size_t i = 0; i < s->n_layers; i++)
        mz_map_foreach (e, &s->layers[i].keys.values) {
            const struct mz_runtime_value *v = e->value;
            struct mz_runtime_value *copy = mz_map_get(&r->values, v->key);
            if (!copy)
                copy = mz_arena_new0(a, struct mz_runtime_value);
            *copy = *v;
            copy->key = mz_arena_dup(a, v->key);
            copy->text = mz_arena_dup(a, v->text);
            (void)mz_map_put(&r->values, copy->key, copy); /* the same object */
        }
    return r;
}

struct swap {
    struct thread *thread;
    const struct mz_runtime *next; /* reference */
};

static void thread_unref(struct thread *t)
{
    if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) == 0)
        mz_free(MZ_MEM_CONFIG, t);
}

static void swap_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    struct swap *w = arg;
    struct thread *t = w->thread;
    if (t->gone) {
        runtime_unref(w->next);
    } else {
        here = t;
        runtime_unref(t->current);
        t->current = w->next;
    }
    thread_unref(t);
    mz_free(MZ_MEM_CONFIG, w);
}

static void post_snapshot(struct thread *t, const struct mz_runtime *r)
{
    struct swap *w = mz_new0(MZ_MEM_CONFIG, struct swap);
    __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
    *w = (struct swap){ t, runtime_ref(r) };
    mz_loop_post(t->loop, swap_posted, w);
}

static void publish(struct mz_runtime_store *s)
{
    runtime_unref(s->current);
    s->current = merge(s);
    mz_gauge_set(s->scope, STAT_NUM_KEYS, s->current->values.n);
    mz_count(s->scope, STAT_LOAD_SUCCESS, 1);
    for (size_t i = 0; i < s->threads.n; i++)
        post_snapshot(s->threads.v[i], s->current);
}

/* ---- disk layers ---- */

static bool load_disk(struct mz_runtime_store *s, struct layer *l, struct mz_err *err)
{
    struct mz_runtime_layer fresh;
    mz_runtime_layer_init(&fresh);
    if (!mz_runtime_layer_disk(&fresh, l->dir, err)) {
        mz_runtime_layer_fini(&fresh);
        mz_count(s->scope, STAT_LOAD_ERROR, 1);
        return false;
    }
    if (l->appended)
        mz_count(s->scope,
                 access(l->dir.p, F_OK) == 0 ? STAT_OVERRIDE_EXISTS : STAT_OVERRIDE_NOT_EXISTS, 1);
    mz_runtime_layer_fini(&l->keys);
    l->keys = fresh;
    return true;
}

static bool watched(const struct mz_runtime_store *s, const struct inotify_event *e)
{
    for (size_t i = 0; i < s->n_layers; i++)
        if (e->len && mz_str_eq(mz_str_c(e->name), s->layers[i].watch_name))
            return true;
    return false;
}

static void watch_ready(struct mz_io *io, unsigned events)
{
    (void)events;
    struct mz_runtime_store *s = MZ_CONTAINER(io, struct mz_runtime_store, watch);
    _Alignas(struct inotify_event) char raw[4096];
    bool changed = false;
    ssize_t n = read(io->fd, raw, sizeof(raw));
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
        const struct inotify_event *e = (const struct inotify_event *)(const void *)(raw + at);
        changed |= watched(s, e);
        at += (ssize_t)(sizeof(*e) + e->len);
    }
    if (!changed)
        return;
    struct mz_err err;
    for (size_t i = 0; i < s->n_layers; i++)
        if (s->layers[i].source == DISK && !load_disk(s, &s->layers[i], &err))
            MZ_LOG(WARN, runtime, "error loading runtime values: %s", err.msg);
    publish(s);
}

static void watch_start(struct mz_runtime_store *s, struct mz_loop *l)
{
    for (size_t i = 0; i < s->n_layers; i++) {
        const struct layer *y = &s->layers[i];
        if (y->source != DISK)
            continue;
        if (s->watch.fd < 0) {
            int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
            if (fd < 0 || mz_io_add_level(l, &s->watch, fd, MZ_IO_READ, watch_ready) != 0) {
                MZ_LOG(WARN, runtime, "cannot watch runtime directories: %s",
                       strerrordesc_np(errno));
                return;
            }
        }
        if (inotify_add_watch(s->watch.fd, y->watch_dir.p, IN_MOVED_TO) < 0)
            MZ_LOG(WARN, runtime, "cannot watch '%s': %s", y->watch_dir.p, strerrordesc_np(errno));
    }
}

static void disk_paths(struct mz_runtime_store *s, struct layer *l,
                       const pb_RuntimeLayer_DiskLayer *d, struct mz_str cluster)
{
    struct mz_str root = mz_arena_dup(s->arena, mz_str_c(d->symlink_root));
    while (root.n > 1 && root.p[root.n - 1] == '/')
        root.n--;
    struct mz_str sub = mz_str_c(d->subdirectory);
    struct mz_str parts[] = { root, sub.n ? MZ_STR("/") : MZ_STR(""), sub,
                              d->append_service_cluster ? MZ_STR("/") : MZ_STR(""),
                              d->append_service_cluster ? cluster : MZ_STR("") };
    l->dir = mz_arena_cat(s->arena, MZ_COUNT(parts), parts);
    l->appended = d->append_service_cluster;
    ptrdiff_t slash = mz_str_rchr(root, '/');
    struct mz_str parent = slash < 0    ? MZ_STR(".")
                           : slash == 0 ? MZ_STR("/")
                                        : (struct mz_str){ root.p, (size_t)slash };
    l->watch_dir = mz_arena_dup(s->arena, parent);
    l->watch_name = mz_str_skip(root, (size_t)(slash + 1));
}

/* ---- the store ---- */

static bool layer_build(struct mz_runtime_store *s, struct layer *l, const pb_RuntimeLayer *m,
                        struct mz_str cluster, struct mz_err *err)
{
    l->name = mz_arena_dup(s->arena, mz_str_c(m->name));
    switch (m->layer_specifier_case) {
    case pb_RuntimeLayer_LAYER_SPECIFIER_STATIC_LAYER:
        l->source = STATIC;
        mz_runtime_layer_struct(&l->keys, m->static_layer);
        return true;
    case pb_RuntimeLayer_LAYER_SPECIFIER_DISK_LAYER:
        l->source = DISK;
        disk_paths(s, l, m->disk_layer, cluster);
        return load_disk(s, l, err) || mz_err_at(err, "disk_layer");
    case pb_RuntimeLayer_LAYER_SPECIFIER_RTDS_LAYER:
        l->source = RTDS;
        l->rtds = m->rtds_layer;
        return m->rtds_layer->rtds_config || mz_err_set(err, "is required") ||
               mz_err_at(err, "rtds_layer.rtds_config");
    case pb_RuntimeLayer_LAYER_SPECIFIER_ADMIN_LAYER:
        l->source = ADMIN;
        return true;
    default:
        return mz_err_set(err, "a layer needs static_layer, disk_layer, admin_layer or rtds_layer");
    }
}

static bool layers_build(struct mz_runtime_store *s, const pb_LayeredRuntime *m,
                         struct mz_str cluster, struct mz_err *err)
{
    unsigned admins = 0;
    size_t n = m ? m->n_layers : 0;
    s->layers = mz_arena_alloc0(s->arena, mz_mul(n ? n : 1, sizeof(*s->layers)));
    for (size_t i = 0; i < n; i++) {
        struct layer *l = &s->layers[i];
        mz_runtime_layer_init(&l->keys);
        s->n_layers = i + 1;
        if (!layer_build(s, l, m->layers[i], cluster, err))
            return mz_err_at(err, "layers[%zu]", i);
        admins += l->source == ADMIN;
        for (size_t k = 0; k < i; k++)
            if (mz_str_eq(s->layers[k].name, l->name))
                return mz_err_set(err, "Duplicate layer name: " MZ_STR_FMT, MZ_STR_ARG(l->name));
    }
    return admins < 2 ||
           mz_err_set(
               err,
               "Too many admin layers specified in LayeredRuntime, at most one may be specified");
}

struct mz_runtime_store *mz_runtime_store_create(struct mz_stats *st, const pb_LayeredRuntime *m,
                                                 struct mz_str service_cluster, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_runtime_store *s = mz_arena_new0(a, struct mz_runtime_store);
    s->arena = a;
    s->watch.fd = -1;
    s->scope = mz_scope_create(st, &stat_kind, MZ_STR("runtime."));
    if (!layers_build(s, m, service_cluster, err)) {
        mz_runtime_store_destroy(s);
        return NULL;
    }
    mz_gauge_set(s->scope, STAT_NUM_LAYERS, s->n_layers);
    publish(s);
    return s;
}

/* ---- layers by subscription ---- */

static bool rtds_update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct layer *l = arg;
    struct mz_runtime_store *s = l->store;
    struct mz_runtime_layer fresh;
    mz_runtime_layer_init(&fresh);
    if (u->n != 1 && !u->n_removed)
        return mz_err_set(err, "Unexpected RTDS resource length, number of added resources %zu",
                          u->n);
    if (u->n) {
        const struct mz_resource *r = &u->v[0];
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
        ProtobufCMessage *m;
        bool ok = mz_str_eq(r->name, l->resource) ||
                  mz_err_set(err, "Unexpected RTDS runtime (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                             MZ_STR_ARG(l->resource), MZ_STR_ARG(r->name));
        ok = ok && mz_resource_open(l->xds, r, MZ_XDS_RUNTIME, &ctx, &m, err);
        if (ok)
            mz_runtime_layer_struct(&fresh, ((const pb_Runtime *)m)->layer);
        mz_arena_destroy(ctx.arena);
        if (!ok) {
            mz_runtime_layer_fini(&fresh);
            return false;
        }
    }
    mz_runtime_layer_fini(&l->keys); /* removed: its keys are gone */
    l->keys = fresh;
    publish(s);
    return true;
}

static void rtds_first(void *arg)
{
    struct layer *l = arg;
    mz_init_ready(&l->target);
}

static void rtds_start(void *arg)
{
    struct layer *l = arg;
    mz_subscription_start(l->sub);
}

bool mz_runtime_store_subscribe(struct mz_runtime_store *s, struct mz_xds *x, struct mz_init *init,
                                struct mz_err *err)
{
    for (size_t i = 0; i < s->n_layers; i++) {
        struct layer *l = &s->layers[i];
        if (l->source != RTDS)
            continue;
        const struct mz_subscriber who = { rtds_update, rtds_first, l, NULL, NULL };
        l->store = s;
        l->xds = x;
        l->resource = mz_arena_dup(s->arena, mz_str_c(l->rtds->name));
        l->sub = mz_subscribe(x, l->rtds->rtds_config, MZ_XDS_RUNTIME, l->resource,
                              MZ_STR("runtime."), &who, err);
        l->rtds = NULL;
        if (!l->sub)
            return mz_err_at(err, "layers[%zu].rtds_layer.rtds_config", i);
        l->target =
            (struct mz_init_target){ .name = MZ_STR("target RTDS"), .start = rtds_start, .arg = l };
        mz_init_add(init, &l->target);
    }
    return true;
}

void mz_runtime_store_unsubscribe(struct mz_runtime_store *s)
{
    for (size_t i = 0; s && i < s->n_layers; i++) {
        mz_init_remove(&s->layers[i].target);
        mz_subscription_end(s->layers[i].sub);
        s->layers[i].sub = NULL;
    }
}

void mz_runtime_store_destroy(struct mz_runtime_store *s)
{
    if (!s)
        return;
    if (s->watch.fd >= 0) {
        mz_io_del(&s->watch);
        (void)close(s->watch.fd);
    }
    for (size_t i = 0; i < s->threads.n; i++) {
        struct thread *t = s->threads.v[i];
        MZ_ASSERT(t);
        if (here == t)
            here = NULL;
        runtime_unref(t->current);
        t->gone = true;
        thread_unref(t);
    }
    mz_vec_free(&s->threads, MZ_MEM_CONFIG);
    runtime_unref(s->current);
    for (size_t i = 0; i < s->n_layers; i++)
        mz_runtime_layer_fini(&s->layers[i].keys);
    mz_scope_unref(s->scope);
    mz_arena_destroy(s->arena);
}

void mz_runtime_store_add_thread(struct mz_runtime_store *s, struct mz_loop *l)
{
    struct thread *t = mz_new0(MZ_MEM_CONFIG, struct thread);
    t->refs = 1;
    t->loop = l;
    *mz_vec_push(&s->threads, MZ_MEM_CONFIG) = t;
    if (s->threads.n == 1)
        watch_start(s, l);
    post_snapshot(t, s->current);
}

static struct layer *admin_layer(struct mz_runtime_store *s)
{
    for (size_t i = 0; i < s->n_layers; i++)
        if (s->layers[i].source == ADMIN)
            return &s->layers[i];
    return NULL;
}

bool mz_runtime_store_modify(struct mz_runtime_store *s, const struct mz_str *keys,
                             const struct mz_str *values, size_t n, struct mz_err *err)
{
    struct layer *l = admin_layer(s);
    if (!l)
        return mz_err_set(err, "No admin layer specified");
    for (size_t i = 0; i < n; i++) {
        if (values[i].n)
            mz_runtime_layer_set(&l->keys, keys[i], values[i]);
        else
            (void)mz_map_del(&l->keys.values, keys[i]); /* an unknown key is no error */
    }
    mz_gauge_set(s->scope, STAT_ADMIN_OVERRIDES, l->keys.values.n > 0);
    publish(s);
    return true;
}

/* ---- /runtime ---- */

static int by_key(const void *a, const void *b)
{
    const struct mz_runtime_value *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->key, (*y)->key);
}

static void json_text(struct mz_buf *out, struct mz_str s)
{
    mz_buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            mz_buf_append(out, "\\", 1);
        if (c < 0x20)
            mz_buf_printf(out, "\\u%04x", c);
        else
            mz_buf_append(out, &s.p[i], 1);
    }
    mz_buf_append(out, "\"", 1);
}

static void dump_entry(const struct mz_runtime_store *s, const struct mz_runtime_value *v,
                       struct mz_buf *out)
{
    mz_buf_printf(out, "  ");
    json_text(out, v->key);
    mz_buf_printf(out, ": {\n   \"layer_values\": [");
    for (size_t i = 0; i < s->n_layers; i++) {
        const struct mz_runtime_value *own = mz_map_get(&s->layers[i].keys.values, v->key);
        mz_buf_printf(out, i ? ",\n    " : "\n    ");
        json_text(out, own ? own->text : MZ_STR(""));
    }
    mz_buf_printf(out, "\n   ],\n   \"final_value\": ");
    json_text(out, v->text);
    mz_buf_printf(out, "\n  }");
}

void mz_runtime_store_dump(const struct mz_runtime_store *s, struct mz_buf *out)
{
    size_t n = 0, total = s->current->values.n;
    const struct mz_runtime_value **v =
        mz_newn0(MZ_MEM_ADMIN, const struct mz_runtime_value *, total ? total : 1);
    mz_map_foreach (e, &s->current->values)
        v[n++] = e->value;
    qsort(v, n, sizeof(*v), by_key);
    mz_buf_printf(out, "{\n \"entries\": {");
    for (size_t i = 0; i < n; i++) {
        mz_buf_printf(out, i ? ",\n" : "\n");
        dump_entry(s, v[i], out);
    }
    mz_buf_printf(out, n ? "\n },\n \"layers\": [" : "},\n \"layers\": [");
    for (size_t i = 0; i < s->n_layers; i++) {
        mz_buf_printf(out, i ? ",\n  " : "\n  ");
        json_text(out, s->layers[i].name);
    }
    mz_buf_printf(out, s->n_layers ? "\n ]\n}\n" : "]\n}\n");
    mz_free(MZ_MEM_ADMIN, v);
}
