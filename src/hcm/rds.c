#include "hcm/rds.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "xds/thread_slot.h"

enum { STAT_RELOAD, STAT_RELOAD_TIME, STAT_EMPTY, STAT__COUNT };
static const struct mz_stat_def stat_defs[] = {
    { "config_reload", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "config_reload_time_ms", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    { "update_empty", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "rds", stat_defs, STAT__COUNT };

struct mz_rds_manager {
    struct mz_xds *xds;
    struct mz_map by_source; /* the packed Rds message to struct mz_rds; borrowed */
    struct mz_map scoped;    /* the packed ScopedRoutes message to struct mz_srds; borrowed */
};
struct mz_rds {
    unsigned refs; /* atomic */
    struct mz_rds_manager *manager;
    struct mz_arena *arena;
    struct mz_str key, name;
    struct mz_factory factory; /* its services */
    const struct mz_route_filter_ops *filter_ops;
    struct mz_subscription *sub;
    struct mz_scope *scope;
    struct mz_thread_slot *tables;
    struct mz_init_shared init;
    char *bytes; /* of the last good one */
    size_t bytes_n;
    char *version;
    uint64_t updated_wall_us;
};

struct mz_rds_manager *mz_rds_manager_create(struct mz_xds *x)
{
    struct mz_rds_manager *m = mz_new0(MZ_MEM_XDS, struct mz_rds_manager);
    m->xds = x;
    mz_map_init(&m->by_source, MZ_MEM_XDS);
    mz_map_init(&m->scoped, MZ_MEM_XDS);
    return m;
}

void mz_rds_manager_destroy(struct mz_rds_manager *m)
{
    if (!m)
        return;
    MZ_ASSERT(m->by_source.n == 0 && m->scoped.n == 0);
    mz_map_fini(&m->by_source);
    mz_map_fini(&m->scoped);
    mz_free(MZ_MEM_XDS, m);
}

struct mz_map *mz_rds_manager_scoped(struct mz_rds_manager *m)
{
    return &m->scoped;
}

static void table_ref(const void *t)
{
    mz_route_table_ref(t);
}

static void table_unref(const void *t)
{
    mz_route_table_unref(t);
}

static const struct mz_shared_ops table_ops = { table_ref, table_unref };

/* ---- updates ---- */

static bool build(struct mz_rds *r, const struct mz_resource *res, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    struct mz_factory f = r->factory;
    struct mz_route_table *t = NULL;
    ProtobufCMessage *msg;
    f.proto = &ctx;
    const struct mz_route_env env = { &f, r->filter_ops, false };
    if (mz_resource_open(r->manager->xds, res, MZ_XDS_ROUTE, &ctx, &msg, err))
        t = mz_route_table_build((const pb_RouteConfiguration *)msg, &env, err);
    mz_arena_destroy(ctx.arena);
    if (t)
        mz_thread_slot_set(r->tables, t);
    return t != NULL;
}

static void keep(struct mz_rds *r, const struct mz_resource *res)
{
    mz_free(MZ_MEM_XDS, r->bytes);
    mz_free(MZ_MEM_XDS, r->version);
    r->bytes = mz_strndup(MZ_MEM_XDS, res->bytes.n ? res->bytes.p : "", res->bytes.n);
    r->bytes_n = res->bytes.n;
    r->version = mz_strndup(MZ_MEM_XDS, res->version.n ? res->version.p : "", res->version.n);
    r->updated_wall_us = mz_clock->wall_us();
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_rds *r = arg;
    if (u->n == 0) { /* also where it was removed: what runs goes on until no listener names it */
        mz_count(r->scope, STAT_EMPTY, 1);
        MZ_LOG(DEBUG, router, "Missing RouteConfiguration for " MZ_STR_FMT, MZ_STR_ARG(r->name));
        return true;
    }
    const struct mz_resource *res = &u->v[0];
    if (!mz_str_eq(res->name, r->name))
        return mz_err_set(err,
                          "Unexpected RDS configuration (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                          MZ_STR_ARG(r->name), MZ_STR_ARG(res->name));
    if (r->bytes && mz_str_eq(res->bytes, (struct mz_str){ r->bytes, r->bytes_n }))
        return true;
    if (!build(r, res, err))
        return false;
    keep(r, res);
    mz_count(r->scope, STAT_RELOAD, 1);
    mz_gauge_set(r->scope, STAT_RELOAD_TIME, r->updated_wall_us / 1000);
    return true;
}

static void first(void *arg)
{
    struct mz_rds *r = arg;
    mz_init_shared_ready(&r->init);
}

static bool current(void *arg, struct mz_resource *out)
{
    const struct mz_rds *r = arg;
    *out = (struct mz_resource){ r->name, mz_str_c(r->version), { r->bytes, r->bytes_n } };
    return r->bytes != NULL;
}

static void start(void *arg)
{
    struct mz_rds *r = arg;
    mz_subscription_start(r->sub);
}

/* ---- who uses it ---- */

static struct mz_rds *create(struct mz_rds_manager *m, const pb_Rds *rds, struct mz_str key,
                             struct mz_str stat_prefix, const struct mz_factory *f,
                             struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_rds *r = mz_arena_new0(a, struct mz_rds);
    r->refs = 1;
    r->manager = m;
    r->arena = a;
    r->key = mz_arena_dup(a, key);
    r->name = mz_arena_dup(a, mz_str_c(rds->route_config_name));
    mz_init_shared_init(&r->init, start, r);
    r->factory = *f;
    r->factory.listener_scope = NULL;
    r->factory.listener_name = MZ_STR("");
    r->factory.init = NULL;
    r->factory.http_stat_prefix = mz_arena_dup(a, stat_prefix);
    struct mz_str parts[] = { MZ_STR("http."), stat_prefix, MZ_STR(".rds."), r->name, MZ_STR(".") };
    struct mz_str prefix = mz_arena_cat(a, MZ_COUNT(parts), parts);
    const struct mz_subscriber who = { update, first, r, current, NULL };
    r->sub = mz_subscribe(m->xds, rds->config_source, MZ_XDS_ROUTE, r->name, prefix, &who, err);
    if (!r->sub) {
        mz_arena_destroy(a);
        return NULL;
    }
    r->scope = mz_scope_create(f->stats, &stat_kind, prefix);
    r->tables = mz_thread_slot_create(m->xds, &table_ops);
    (void)mz_map_put(&m->by_source, r->key, r);
    return r;
}

bool mz_ref_take(unsigned *refs)
{
    unsigned n = __atomic_load_n(refs, __ATOMIC_RELAXED);
    while (n)
        if (__atomic_compare_exchange_n(refs, &n, n + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return true;
    return false;
}

struct mz_rds *mz_rds_ref(struct mz_rds *r)
{
    __atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED);
    return r;
}

struct mz_rds *mz_rds_get(struct mz_rds_manager *m, const pb_Rds *rds, struct mz_str stat_prefix,
                          const struct mz_factory *f, const struct mz_route_filter_ops *ops,
                          struct mz_err *err)
{
    if (!rds->config_source) {
        mz_err_set(err, "is required");
        mz_err_at(err, "config_source");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str key = mz_msg_pack_alloc(&rds->base, a);
    struct mz_rds *r = mz_map_get(&m->by_source, key);
    if (!r || !mz_ref_take(&r->refs))
        r = create(m, rds, key, stat_prefix, f, err);
    if (r)
        r->filter_ops = ops;
    else
        mz_err_at(err, "config_source");
    mz_arena_destroy(a);
    return r;
}

static void destroy(struct mz_loop *l, void *arg)
{
    (void)l;
    struct mz_rds *r = arg;
    if (mz_map_get(&r->manager->by_source, r->key) == r)
        (void)mz_map_del(&r->manager->by_source, r->key);
    mz_subscription_end(r->sub);
    mz_scope_unref(r->scope);
    mz_thread_slot_unref(r->tables);
    mz_free(MZ_MEM_XDS, r->bytes);
    mz_free(MZ_MEM_XDS, r->version);
    mz_arena_destroy(r->arena);
}

void mz_rds_unref(struct mz_rds *r)
{
    if (!r || __atomic_fetch_sub(&r->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    struct mz_loop *main = mz_xds_env(r->manager->xds)->main;
    if (mz_loop_here(main))
        destroy(main, r);
    else
        mz_loop_post(main, destroy, r); /* a worker ended the last connection of an old listener */
}

const struct mz_route_table *mz_rds_table(const struct mz_rds *r)
{
    return mz_thread_slot_get(r->tables);
}

void mz_rds_wait(struct mz_init_wait *w, struct mz_rds *r, struct mz_init *init)
{
    mz_init_wait(w, &r->init, r->name, init);
}

void mz_rds_manager_each(struct mz_rds_manager *m,
                         void (*fn)(void *arg, const struct mz_rds_shown *r), void *arg)
{
    mz_map_foreach (it, &m->by_source) {
        const struct mz_rds *r = it->value;
        const struct mz_rds_shown shown = { .name = r->name,
                                            .version = mz_str_c(r->version),
                                            .bytes = { r->bytes, r->bytes_n },
                                            .updated_wall_us = r->updated_wall_us };
        fn(arg, &shown);
    }
}
