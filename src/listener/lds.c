/* Listeners by subscription (LDS, X1): each resource by itself, so that a bad one leaves the good ones of its update alone. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"
#include "listener/listener.h"
#include "xds/init.h"
#include "xds/subscription.h"

struct failure {
    struct mz_str name, bytes, details, version; /* in the arena */
    uint64_t wall_us;
};
struct mz_lds {
    struct mz_listener_manager *manager;
    struct mz_factory factory;
    struct mz_subscription *sub;
    struct mz_init_target target;
    char *version;
    struct mz_arena *failures; /* of the last update; NULL: none */
    MZ_VEC(struct failure) failed;
};

static void failures_clear(struct mz_lds *l)
{
    mz_arena_destroy(l->failures);
    l->failures = NULL;
    l->failed.n = 0;
}

static void failure_add(struct mz_lds *l, const struct mz_resource *r, const char *details)
{
    if (!l->failures)
        l->failures = mz_arena_create(MZ_MEM_XDS);
    *mz_vec_push(&l->failed, MZ_MEM_XDS) =
        (struct failure){ mz_arena_dup(l->failures, r->name), mz_arena_dup(l->failures, r->bytes),
                          mz_arena_dup(l->failures, mz_str_c(details)),
                          mz_arena_dup(l->failures, r->version), mz_clock->wall_us() };
}

/* ---- removing ---- */

struct gone {
    struct mz_map kept;
    struct mz_arena *arena;
    MZ_VEC(struct mz_str) names;
};

static void note_gone(void *arg, struct mz_str name)
{
    struct gone *g = arg;
    if (!mz_map_get(&g->kept, name))
        *mz_vec_push(&g->names, MZ_MEM_XDS) = mz_arena_dup(g->arena, name);
}

static void remove_one(struct mz_lds *l, struct mz_str name)
{
    if (mz_listener_manager_remove(l->manager, name))
        MZ_LOG(INFO, config, "lds: remove listener '" MZ_STR_FMT "'", MZ_STR_ARG(name));
}

static void remove_missing(struct mz_lds *l, const struct mz_xds_update *u)
{
    struct gone g = { .arena = mz_arena_create(MZ_MEM_XDS) };
    mz_map_init(&g.kept, MZ_MEM_XDS);
    for (size_t i = 0; i < u->n; i++)
        (void)mz_map_put(&g.kept, u->v[i].name, l);
    mz_listener_manager_names(l->manager, note_gone, &g);
    mz_vec_foreach (name, &g.names)
        remove_one(l, *name);
    mz_vec_free(&g.names, MZ_MEM_XDS);
    mz_map_fini(&g.kept);
    mz_arena_destroy(g.arena);
}

/* ---- updates ---- */

static bool add_one(struct mz_lds *l, const struct mz_resource *r, struct mz_map *seen,
                    struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    struct mz_factory f = l->factory;
    ProtobufCMessage *msg;
    f.proto = &ctx;
    bool ok = false;
    if (mz_map_put(seen, r->name, l))
        mz_err_set(err, "duplicate listener " MZ_STR_FMT " found", MZ_STR_ARG(r->name));
    else if (mz_listener_manager_keeps(l->manager, r->name, r->bytes))
        ok = true;
    else if (mz_resource_open(f.xds, r, MZ_XDS_LISTENER, &ctx, &msg, err)) {
        enum mz_listener_change c = mz_listener_manager_set(l->manager, (const pb_Listener *)msg,
                                                            r->bytes, r->version, &f, err);
        ok = c != MZ_LISTENER_REFUSED;
        if (c == MZ_LISTENER_CHANGED)
            MZ_LOG(INFO, config, "lds: add/update listener '" MZ_STR_FMT "'", MZ_STR_ARG(r->name));
    }
    mz_arena_destroy(ctx.arena);
    return ok;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_lds *l = arg;
    struct mz_buf text;
    struct mz_map seen;
    mz_buf_init(&text);
    mz_map_init(&seen, MZ_MEM_XDS);
    failures_clear(l);
    if (u->whole)
        remove_missing(l, u);
    for (size_t i = 0; i < u->n_removed; i++)
        remove_one(l, u->removed[i]);
    for (size_t i = 0; i < u->n; i++) {
        struct mz_err one;
        char why[1600];
        if (add_one(l, &u->v[i], &seen, &one))
            continue;
        failure_add(l, &u->v[i], mz_err_text(&one, why, sizeof(why)));
        mz_buf_printf(&text, MZ_STR_FMT ": %s\n", MZ_STR_ARG(u->v[i].name), why);
    }
    mz_map_fini(&seen);
    bool ok = l->failed.n == 0;
    if (ok) {
        mz_free(MZ_MEM_XDS, l->version);
        l->version = mz_strndup(MZ_MEM_XDS, u->version.n ? u->version.p : "", u->version.n);
    } else {
        struct mz_str all = mz_buf_linearize(&text, mz_buf_len(&text));
        mz_err_set(err, "Error adding/updating listener(s) " MZ_STR_FMT, MZ_STR_ARG(all));
    }
    mz_buf_fini(&text);
    return ok;
}

static void first(void *arg)
{
    struct mz_lds *l = arg;
    mz_init_ready(&l->target);
}

static void start(void *arg)
{
    struct mz_lds *l = arg;
    mz_subscription_start(l->sub);
}

struct mz_lds *mz_lds_create(struct mz_listener_manager *m, const struct mz_factory *f,
                             const pb_ConfigSource *source, const char *locator, struct mz_err *err)
{
    struct mz_lds *l = mz_new0(MZ_MEM_XDS, struct mz_lds);
    const struct mz_subscriber who = { update, first, l, NULL, NULL };
    l->manager = m;
    l->factory = *f;
    l->factory.via_api = true;
    l->sub = mz_subscribe_all(f->xds, source, locator, MZ_XDS_LISTENER,
                              MZ_STR("listener_manager.lds."), &who, err);
    if (!l->sub) {
        mz_free(MZ_MEM_XDS, l);
        return NULL;
    }
    l->target = (struct mz_init_target){ .name = MZ_STR("target LDS"), .start = start, .arg = l };
    mz_init_add(f->init, &l->target);
    return l;
}

void mz_lds_destroy(struct mz_lds *l)
{
    if (!l)
        return;
    mz_init_remove(&l->target);
    mz_subscription_end(l->sub);
    failures_clear(l);
    mz_vec_free(&l->failed, MZ_MEM_XDS);
    mz_free(MZ_MEM_XDS, l->version);
    mz_free(MZ_MEM_XDS, l);
}

struct mz_str mz_lds_version(const struct mz_lds *l)
{
    return mz_str_c(l->version);
}

void mz_lds_errors(const struct mz_lds *l, void (*fn)(void *arg, const struct mz_lds_error *e),
                   void *arg)
{
    for (size_t i = 0; i < l->failed.n; i++) {
        const struct failure *f = &l->failed.v[i];
        const struct mz_lds_error e = { f->name, f->bytes, f->details, f->version, f->wall_us };
        fn(arg, &e);
    }
}
