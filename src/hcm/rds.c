#include "hcm/vhds.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "upstream/on_demand.h"
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
    struct mz_list inlined;  /* struct mz_rds that stand in the configuration */
    struct mz_map scoped;    /* the packed ScopedRoutes message to struct mz_srds; borrowed */
};
struct mz_rds {
    unsigned refs; /* atomic */
    struct mz_rds_manager *manager;
    struct mz_list inlined; /* of the manager; without sub */
    struct mz_arena *arena;
    struct mz_str key, name, init_name;
    struct mz_factory factory; /* its services */
    const struct mz_route_filter_ops *filter_ops;
    struct mz_subscription *sub; /* NULL: it stands in the configuration */
    struct mz_scope *scope;      /* with sub */
    struct mz_thread_slot *tables;
    struct mz_init_shared init;
    char *bytes; /* of the last good one */
    size_t bytes_n;
    char *whole; /* with what came by vhds; NULL: bytes */
    size_t whole_n;
    struct mz_list watches; /* struct mz_rds_watch */
    struct vhds *vhds;      /* NULL: its virtual hosts are all in it */
    char *vhds_source;      /* packed */
    size_t vhds_source_n;
    bool vhds_first, vhds_waited; /* their first came; whoever waits for us waits for that */
    char *version;
    uint64_t updated_wall_us;
};

struct mz_rds_manager *mz_rds_manager_create(struct mz_xds *x)
{
    struct mz_rds_manager *m = mz_new0(MZ_MEM_XDS, struct mz_rds_manager);
    m->xds = x;
    mz_map_init(&m->by_source, MZ_MEM_XDS);
    mz_map_init(&m->scoped, MZ_MEM_XDS);
    mz_list_init(&m->inlined);
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

/* What came, with the virtual hosts that came beside it: fields of one message, one behind the other. */
static struct mz_str with_hosts(struct mz_str bytes, const struct vhds *v, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, bytes);
    vhds_append(v, &b);
    struct mz_str whole = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return whole;
}

static const pb_RouteConfiguration *open_with(struct mz_rds *r, const struct mz_resource *res,
                                              const struct vhds *v, struct mz_proto_ctx *ctx,
                                              struct mz_str *out_whole, struct mz_err *err)
{
    struct mz_resource whole = *res;
    ProtobufCMessage *m = NULL;
    if (v)
        whole.bytes = with_hosts(res->bytes, v, ctx->arena);
    *out_whole = v ? whole.bytes : (struct mz_str){ 0 };
    return mz_resource_open(r->manager->xds, &whole, MZ_XDS_ROUTE, ctx, &m, err)
               ? (const pb_RouteConfiguration *)m
               : NULL;
}

static bool build_with(struct mz_rds *r, const pb_RouteConfiguration *m, const struct mz_factory *f,
                       bool validate_clusters, struct mz_err *err)
{
    const struct mz_route_env env = { f, r->filter_ops, validate_clusters };
    struct mz_route_table *t = mz_route_table_build(m, &env, err);
    if (t)
        mz_thread_slot_set(r->tables, t);
    return t != NULL;
}

static bool build(struct mz_rds *r, const pb_RouteConfiguration *m, struct mz_proto_ctx *ctx,
                  struct mz_err *err)
{
    struct mz_factory f = r->factory;
    f.proto = ctx;
    return build_with(r, m, &f, false, err);
}

static void keep_whole(struct mz_rds *r, struct mz_str whole)
{
    mz_free(MZ_MEM_XDS, r->whole);
    r->whole = whole.p ? mz_strndup(MZ_MEM_XDS, whole.p, whole.n) : NULL;
    r->whole_n = whole.n;
}

static void tell_watches(struct mz_rds *r)
{
    mz_list_foreach (it, &r->watches) {
        struct mz_rds_watch *w = MZ_CONTAINER(it, struct mz_rds_watch, link);
        w->changed(w->arg);
    }
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

/* ---- virtual hosts by subscription ---- */

static bool hosts_changed(void *arg, struct mz_err *err)
{
    struct mz_rds *r = arg;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    const struct mz_resource res = { r->name, mz_str_c(r->version), { r->bytes, r->bytes_n } };
    struct mz_str whole;
    const pb_RouteConfiguration *m = open_with(r, &res, r->vhds, &ctx, &whole, err);
    bool ok = m && build(r, m, &ctx, err);
    if (ok) {
        keep_whole(r, whole);
        r->updated_wall_us = mz_clock->wall_us();
    }
    mz_arena_destroy(ctx.arena);
    return ok;
}

static void hosts_first(void *arg)
{
    struct mz_rds *r = arg;
    r->vhds_first = true;
    if (r->vhds_waited)
        mz_init_shared_ready(&r->init);
}

static void host_answered(void *arg, struct mz_str host, bool known)
{
    struct mz_rds *r = arg;
    mz_discovery_answer(r->factory.clusters, r, host,
                        known ? MZ_DISCOVERY_AVAILABLE : MZ_DISCOVERY_MISSING);
}

/* The subscription that @m wants: the one that there is, another, none. */
static bool vhds_choose(struct mz_rds *r, const pb_RouteConfiguration *m, bool inlined,
                        struct mz_arena *a, struct vhds **out, struct mz_str *out_source,
                        struct mz_err *err)
{
    const struct vhds_owner owner = { hosts_changed, hosts_first, host_answered, r };
    *out_source = m->vhds ? mz_msg_pack_alloc(&m->vhds->base, a) : MZ_STR("");
    *out = r->vhds;
    if (!m->vhds)
        *out = NULL;
    if (!m->vhds ||
        (r->vhds && mz_str_eq(*out_source, (struct mz_str){ r->vhds_source, r->vhds_source_n })))
        return true;
    struct mz_str parts[] = { MZ_STR("http."), r->factory.http_stat_prefix,
                              MZ_STR(".rds."), MZ_STR("vhds."),
                              r->name,         MZ_STR(".") };
    size_t skip = inlined ? 3 : 0;
    struct mz_str prefix = mz_arena_cat(a, MZ_COUNT(parts) - skip, parts + skip);
    *out = vhds_create(r->manager->xds, m->vhds, r->name, prefix, &owner, err);
    return *out || mz_err_at(err, "vhds");
}

static void vhds_swap(struct mz_rds *r, struct vhds *take, struct mz_str source)
{
    struct vhds *old = r->vhds;
    r->vhds = take;
    r->vhds_first = false;
    mz_free(MZ_MEM_XDS, r->vhds_source);
    r->vhds_source = mz_strndup(MZ_MEM_XDS, source.n ? source.p : "", source.n);
    r->vhds_source_n = source.n;
    vhds_destroy(old);
    if (take)
        vhds_start(take);
    else if (r->vhds_waited)
        mz_init_shared_ready(&r->init);
}

static bool take(struct mz_rds *r, const struct mz_resource *res, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    struct vhds *next = r->vhds;
    struct mz_str source, whole;
    const pb_RouteConfiguration *m = open_with(r, res, r->vhds, &ctx, &whole, err);
    bool ok = m && vhds_choose(r, m, false, ctx.arena, &next, &source, err);
    if (ok && r->vhds && next != r->vhds) /* without the hosts of the other one */
        ok = (m = open_with(r, res, NULL, &ctx, &whole, err)) != NULL;
    ok = ok && build(r, m, &ctx, err);
    if (ok) {
        keep(r, res);
        keep_whole(r, whole);
    }
    if (ok && next != r->vhds)
        vhds_swap(r, next, source);
    else if (next != r->vhds)
        vhds_destroy(next);
    mz_arena_destroy(ctx.arena);
    return ok;
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
    if (!take(r, res, err))
        return false;
    mz_count(r->scope, STAT_RELOAD, 1);
    mz_gauge_set(r->scope, STAT_RELOAD_TIME, r->updated_wall_us / 1000);
    tell_watches(r);
    return true;
}

static void first(void *arg)
{
    struct mz_rds *r = arg;
    r->vhds_waited = true;
    if (!r->vhds || r->vhds_first)
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
    r->vhds_waited = !r->sub;
    if (r->sub)
        mz_subscription_start(r->sub);
    else
        vhds_start(r->vhds);
}

/* ---- who uses it ---- */

/* In its own arena; nothing subscribed to. */
static struct mz_rds *create(struct mz_rds_manager *m, struct mz_str name, struct mz_str init_name,
                             struct mz_str stat_prefix, const struct mz_factory *f,
                             const struct mz_route_filter_ops *ops)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_rds *r = mz_arena_new0(a, struct mz_rds);
    r->refs = 1;
    r->manager = m;
    r->arena = a;
    r->name = mz_arena_dup(a, name);
    r->init_name = mz_arena_cat(a, 2, (struct mz_str[]){ init_name, r->name });
    mz_init_shared_init(&r->init, start, r);
    mz_list_init(&r->watches);
    mz_list_init(&r->inlined);
    r->filter_ops = ops;
    r->factory = *f;
    r->factory.listener_scope = NULL;
    r->factory.listener_name = MZ_STR("");
    r->factory.init = NULL;
    r->factory.proto = NULL;
    r->factory.http_stat_prefix = mz_arena_dup(a, stat_prefix);
    r->tables = mz_thread_slot_create(m->xds, &table_ops);
    return r;
}

static bool subscribe(struct mz_rds *r, const pb_Rds *rds, struct mz_str key, struct mz_err *err)
{
    struct mz_str parts[] = { MZ_STR("http."), r->factory.http_stat_prefix, MZ_STR(".rds."),
                              r->name, MZ_STR(".") };
    struct mz_str prefix = mz_arena_cat(r->arena, MZ_COUNT(parts), parts);
    const struct mz_subscriber who = { update, first, r, current, NULL };
    r->sub =
        mz_subscribe(r->manager->xds, rds->config_source, MZ_XDS_ROUTE, r->name, prefix, &who, err);
    if (!r->sub)
        return false;
    r->scope = mz_scope_create(r->factory.stats, &stat_kind, prefix);
    r->key = mz_arena_dup(r->arena, key);
    (void)mz_map_put(&r->manager->by_source, r->key, r);
    return true;
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
    if (!r || !mz_ref_take(&r->refs)) {
        r = create(m, mz_str_c(rds->route_config_name),
                   MZ_STR("shared target RdsRouteConfigSubscription RDS init "), stat_prefix, f,
                   ops);
        if (!subscribe(r, rds, key, err)) {
            mz_err_at(err, "config_source");
            mz_rds_unref(r);
            r = NULL;
        }
    }
    mz_arena_destroy(a);
    return r;
}

struct mz_rds *mz_rds_inline(struct mz_rds_manager *m, const pb_RouteConfiguration *msg,
                             struct mz_str stat_prefix, const struct mz_route_env *env,
                             struct mz_err *err)
{
    struct mz_rds *r = create(m, mz_str_c(msg->name),
                              MZ_STR("target StaticRouteConfigProvider local-init-target "),
                              stat_prefix, env->factory, env->filter_ops);
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str source, bytes = mz_msg_pack_alloc(&msg->base, a);
    if (vhds_choose(r, msg, true, a, &r->vhds, &source, err) &&
        build_with(r, msg, env->factory, env->validate_clusters, err)) {
        keep(r, &(struct mz_resource){ r->name, MZ_STR(""), bytes });
        mz_list_add_tail(&m->inlined, &r->inlined);
    } else {
        mz_rds_unref(r);
        r = NULL;
    }
    mz_arena_destroy(a);
    return r;
}

static void destroy(struct mz_loop *l, void *arg)
{
    (void)l;
    struct mz_rds *r = arg;
    if (r->key.n && mz_map_get(&r->manager->by_source, r->key) == r)
        (void)mz_map_del(&r->manager->by_source, r->key);
    mz_list_del(&r->inlined);
    mz_subscription_end(r->sub);
    vhds_destroy(r->vhds);
    mz_free(MZ_MEM_XDS, r->vhds_source);
    mz_free(MZ_MEM_XDS, r->whole);
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

void mz_rds_watch(struct mz_rds *r, struct mz_rds_watch *w, void (*changed)(void *arg), void *arg)
{
    *w = (struct mz_rds_watch){ .changed = changed, .arg = arg };
    mz_list_add_tail(&r->watches, &w->link);
}

void mz_rds_unwatch(struct mz_rds_watch *w)
{
    if (w->changed)
        mz_list_del(&w->link);
    w->changed = NULL;
}

/* ---- what requests ask for ---- */

struct demand {         /* to the main thread */
    struct mz_rds *rds; /* one reference */
    size_t n;
    char host[];
};

static void demand_run(struct mz_loop *l, void *arg)
{
    (void)l;
    struct demand *d = arg;
    struct mz_rds *r = d->rds;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str host = { d->host, d->n };
    const struct mz_route_table *t = mz_rds_table(r);
    if (t && mz_route_table_serves(t, host, a)) /* it came meanwhile */
        host_answered(r, host, true);
    else if (r->vhds)
        vhds_ask(r->vhds, host);
    else
        host_answered(r, host, false);
    mz_arena_destroy(a);
    mz_rds_unref(r);
    mz_free(MZ_MEM_XDS, d);
}

void mz_rds_demand(struct mz_rds *r, struct mz_upstream *u, struct mz_str host,
                   struct mz_discovery_wait *w,
                   void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    struct demand *d = mz_alloc0(MZ_MEM_XDS, sizeof(*d) + host.n);
    d->rds = mz_rds_ref(r);
    d->n = host.n;
    memcpy(d->host, host.p, host.n);
    mz_discovery_wait(u, r, host, 0, w, done);
    mz_loop_post(mz_xds_env(r->manager->xds)->main, demand_run, d);
}

void mz_rds_wait(struct mz_init_wait *w, struct mz_rds *r, struct mz_init *init)
{
    mz_init_wait(w, &r->init, r->init_name, init);
}

static void show(const struct mz_rds *r, void (*fn)(void *arg, const struct mz_rds_shown *r),
                 void *arg)
{
    const struct mz_rds_shown shown = { .name = r->name,
                                        .version = mz_str_c(r->version),
                                        .bytes = { r->whole ? r->whole : r->bytes,
                                                   r->whole ? r->whole_n : r->bytes_n },
                                        .inlined = !r->sub,
                                        .updated_wall_us = r->updated_wall_us };
    fn(arg, &shown);
}

void mz_rds_manager_each(struct mz_rds_manager *m,
                         void (*fn)(void *arg, const struct mz_rds_shown *r), void *arg)
{
    mz_map_foreach (it, &m->by_source)
        show(it->value, fn, arg);
    mz_list_foreach (it, &m->inlined)
        show(MZ_CONTAINER(it, struct mz_rds, inlined), fn, arg);
}
