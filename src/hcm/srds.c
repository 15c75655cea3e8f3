#include "hcm/srds.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"
#include "hcm/scope_key.h"
#include "xds/thread_slot.h"

enum {
    STAT_ACTIVE,
    STAT_ALL,
    STAT_RELOAD,
    STAT_RELOAD_TIME,
    STAT_ON_DEMAND,
    STAT_EMPTY,
    STAT__COUNT
};
static const struct mz_stat_def stat_defs[] = {
    [STAT_ACTIVE] = { "active_scopes", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [STAT_ALL] = { "all_scopes", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [STAT_RELOAD] = { "config_reload", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [STAT_RELOAD_TIME] = { "config_reload_time_ms", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [STAT_ON_DEMAND] = { "on_demand_scopes", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [STAT_EMPTY] = { "update_empty", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "srds", stat_defs, STAT__COUNT };

struct scope { /* main's */
    struct mz_arena *arena;
    struct mz_srds *srds;
    struct mz_str name, key, bytes, table_name;
    bool on_demand, asked; /* asked: requests wait for its table */
    struct mz_rds *rds;    /* one of the two, or none before somebody asked */
    const struct mz_route_table *table;
    struct mz_init_wait wait;
    struct mz_rds_watch watch; /* of rds */
};
struct entry {
    struct mz_str key, name;
    struct mz_rds *rds;
    const struct mz_route_table *table;
};
struct view {      /* all scopes at one moment; immutable, shared by threads */
    unsigned refs; /* atomic */
    struct mz_arena *arena;
    struct mz_map by_key; /* struct entry */
};
struct mz_srds {
    unsigned refs; /* atomic */
    struct mz_rds_manager *manager;
    struct mz_arena *arena;
    struct mz_str key;
    const pb_ScopedRoutes *msg;
    struct mz_factory factory; /* its services */
    const struct mz_route_filter_ops *filter_ops;
    struct scope_keys keys;
    struct mz_subscription *sub; /* NULL: the scopes stand in the configuration */
    struct mz_scope *stats;      /* with sub */
    struct mz_thread_slot *views;
    struct mz_init_shared init;
    struct mz_init tables; /* of the first scopes */
    struct mz_map scopes;  /* by name */
    char *version;
    uint64_t updated_wall_us;
};

/* ---- what threads see ---- */

static void view_ref(const void *v)
{
    __atomic_add_fetch(&((struct view *)(uintptr_t)v)->refs, 1, __ATOMIC_RELAXED);
}

static void view_unref(const void *borrowed)
{
    struct view *v = (struct view *)(uintptr_t)borrowed;
    if (__atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
        return;
    mz_map_foreach (it, &v->by_key) {
        const struct entry *e = it->value;
        mz_rds_unref(e->rds);
        if (e->table)
            mz_route_table_unref(e->table);
    }
    mz_map_fini(&v->by_key);
    mz_arena_destroy(v->arena);
}

static const struct mz_shared_ops view_ops = { view_ref, view_unref };

static void publish(struct mz_srds *s)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct view *v = mz_arena_new0(a, struct view);
    uint64_t on_demand = 0, active = 0;
    v->refs = 1;
    v->arena = a;
    mz_map_init(&v->by_key, MZ_MEM_XDS);
    mz_map_foreach (it, &s->scopes) {
        const struct scope *c = it->value;
        struct entry *e = mz_arena_new0(a, struct entry);
        e->key = mz_arena_dup(a, c->key);
        e->name = mz_arena_dup(a, c->name);
        e->rds = c->rds ? mz_rds_ref(c->rds) : NULL;
        e->table = c->table ? mz_route_table_ref(c->table) : NULL;
        on_demand += c->on_demand;
        active += c->rds != NULL;
        (void)mz_map_put(&v->by_key, e->key, e);
    }
    mz_thread_slot_set(s->views, v);
    if (!s->stats)
        return;
    mz_gauge_set(s->stats, STAT_ALL, s->scopes.n);
    mz_gauge_set(s->stats, STAT_ON_DEMAND, on_demand);
    mz_gauge_set(s->stats, STAT_ACTIVE, active);
}

/* The request's scope as this thread sees it; NULL: none has its key. */
static const struct entry *entry_of(const struct mz_srds *s, const struct mz_headers *h,
                                    struct mz_arena *a)
{
    const struct view *v = mz_thread_slot_get(s->views);
    struct mz_str key;
    return v && scope_key_of(&s->keys, h, a, &key) ? mz_map_get(&v->by_key, key) : NULL;
}

const struct mz_route_table *mz_srds_table(const struct mz_srds *s, const struct mz_headers *h,
                                           struct mz_arena *a)
{
    const struct entry *e = entry_of(s, h, a);
    return !e ? NULL : e->rds ? mz_rds_table(e->rds) : e->table;
}

struct mz_rds *mz_srds_rds(const struct mz_srds *s, const struct mz_headers *h, struct mz_arena *a)
{
    const struct entry *e = entry_of(s, h, a);
    return e ? e->rds : NULL;
}

/* ---- scopes ---- */

static void scope_free(struct scope *c)
{
    mz_init_wait_end(&c->wait);
    mz_rds_unwatch(&c->watch);
    mz_rds_unref(c->rds);
    if (c->table)
        mz_route_table_unref(c->table);
    mz_arena_destroy(c->arena);
}

static bool scope_rds(struct mz_srds *s, struct scope *c, struct mz_err *err)
{
    pb_Rds rds = pb_Rds__INIT;
    rds.config_source = s->msg->rds_config_source;
    rds.route_config_name = (char *)(uintptr_t)c->table_name.p;
    c->rds =
        mz_rds_get(s->manager, &rds, s->factory.http_stat_prefix, &s->factory, s->filter_ops, err);
    return c->rds || mz_err_at(err, "rds_config_source");
}

static void answer(struct scope *c)
{
    mz_discovery_answer(c->srds->factory.clusters, c->srds, c->key, MZ_DISCOVERY_AVAILABLE);
}

static void table_came(void *arg)
{
    struct scope *c = arg;
    if (!c->asked)
        return;
    c->asked = false;
    answer(c);
}

/* @init: who waits for its first table; NULL: nobody. */
static void scope_begin(struct scope *c, struct mz_init *init)
{
    mz_rds_watch(c->rds, &c->watch, table_came, c);
    mz_rds_wait(&c->wait, c->rds, init);
}

static bool scope_inline(struct mz_srds *s, const pb_ScopedRouteConfiguration *m,
                         struct mz_proto_ctx *ctx, struct scope *c, struct mz_err *err)
{
    struct mz_factory f = s->factory;
    f.proto = ctx;
    const struct mz_route_env env = { &f, s->filter_ops, false };
    if (m->route_configuration->vhds)
        c->rds = mz_rds_inline(s->manager, m->route_configuration, s->factory.http_stat_prefix,
                               &env, err);
    else
        c->table = mz_route_table_build(m->route_configuration, &env, err);
    return c->rds || c->table || mz_err_at(err, "route_configuration");
}

static struct scope *scope_create(struct mz_srds *s, const pb_ScopedRouteConfiguration *m,
                                  struct mz_str bytes, struct mz_proto_ctx *ctx, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct scope *c = mz_arena_new0(a, struct scope);
    struct mz_str *v = mz_arena_alloc(a, m->key->n_fragments * sizeof(*v));
    c->srds = s;
    c->arena = a;
    c->name = mz_arena_dup(a, mz_str_c(m->name));
    c->table_name = mz_arena_dup(a, mz_str_c(m->route_configuration_name));
    c->bytes = mz_arena_dup(a, bytes);
    c->on_demand = m->on_demand;
    for (size_t i = 0; i < m->key->n_fragments; i++)
        v[i] = mz_str_c(m->key->fragments[i]->string_key);
    c->key = scope_key_join(v, m->key->n_fragments, a);
    bool ok;
    if (m->route_configuration)
        ok = scope_inline(s, m, ctx, c, err);
    else if (!m->route_configuration_name[0])
        ok = mz_err_set(err, "route_configuration_name is empty.");
    else
        ok = m->on_demand || scope_rds(s, c, err);
    if (ok)
        return c;
    scope_free(c);
    return NULL;
}

/* ---- changes: all of an update, or nothing ---- */

struct change {
    struct mz_srds *srds;
    MZ_VEC(struct scope *) fresh;
    struct mz_map named; /* those of the update */
    struct mz_map next;  /* by name, what there is then; borrowed */
};

static void change_init(struct change *g, struct mz_srds *s)
{
    *g = (struct change){ .srds = s };
    mz_map_init(&g->named, MZ_MEM_XDS);
    mz_map_init(&g->next, MZ_MEM_XDS);
}

static bool keys_differ(const struct change *g, struct mz_err *err)
{
    struct mz_map keys;
    bool ok = true;
    mz_map_init(&keys, MZ_MEM_XDS);
    mz_map_foreach (it, &g->next) {
        struct scope *c = it->value, *other = mz_map_put(&keys, c->key, c);
        if (other && ok)
            ok = mz_err_set(err,
                            "scope key conflict found, first scope is '" MZ_STR_FMT
                            "', second scope is '" MZ_STR_FMT "'",
                            MZ_STR_ARG(other->name), MZ_STR_ARG(c->name));
    }
    mz_map_fini(&keys);
    return ok;
}

static void change_drop(struct change *g)
{
    for (size_t i = 0; i < g->fresh.n; i++)
        scope_free(g->fresh.v[i]);
    mz_vec_free(&g->fresh, MZ_MEM_XDS);
    mz_map_fini(&g->named);
    mz_map_fini(&g->next);
}

/* Main thread: requests of this key wait for its table. */
static void ask(struct mz_srds *s, struct mz_str key)
{
    const struct view *v = mz_thread_slot_get(s->views);
    const struct entry *e = v ? mz_map_get(&v->by_key, key) : NULL;
    struct scope *c = e ? mz_map_get(&s->scopes, e->name) : NULL;
    struct mz_err err;
    if (!c || (!c->rds && !c->table && !scope_rds(s, c, &err))) {
        mz_discovery_answer(s->factory.clusters, s, key, MZ_DISCOVERY_MISSING);
        return;
    }
    if (c->rds && !c->watch.changed) {
        publish(s);
        scope_begin(c, NULL);
    }
    c->asked = !c->table && !mz_rds_table(c->rds);
    if (!c->asked)
        answer(c);
}

/* Those of before that have no place any more go; their tables stay with the streams that have them. Who waits for one of them
 * waits for that which has its key now. */
static void change_commit(struct change *g)
{
    struct mz_srds *s = g->srds;
    struct mz_map old = s->scopes;
    s->scopes = g->next;
    mz_map_init(&g->next, MZ_MEM_XDS);
    s->updated_wall_us = mz_clock->wall_us();
    for (size_t i = 0; i < g->fresh.n; i++)
        if (g->fresh.v[i]->rds) /* the first ones keep listeners waiting */
            scope_begin(g->fresh.v[i], s->tables.state == MZ_INIT_IDLE ? &s->tables : NULL);
    g->fresh.n = 0;
    publish(s);
    mz_map_foreach (it, &old) {
        struct scope *c = it->value;
        if (mz_map_get(&s->scopes, it->key) == c)
            continue;
        if (c->asked)
            ask(s, c->key);
        scope_free(c);
    }
    mz_map_fini(&old);
}

static bool add(struct change *g, struct mz_str name, struct mz_str bytes,
                const pb_ScopedRouteConfiguration *m, struct mz_proto_ctx *ctx, struct mz_err *err)
{
    struct scope *c;
    if (mz_map_put(&g->named, name, g))
        return mz_err_set(err, "duplicate scoped route configuration '" MZ_STR_FMT "' found",
                          MZ_STR_ARG(name));
    c = scope_create(g->srds, m, bytes, ctx, err);
    if (!c)
        return false;
    *mz_vec_push(&g->fresh, MZ_MEM_XDS) = c;
    (void)mz_map_put(&g->next, c->name, c);
    return true;
}

static bool add_resource(struct change *g, const struct mz_resource *r, struct mz_err *err)
{
    struct scope *old = mz_map_get(&g->srds->scopes, r->name);
    if (old && mz_str_eq(old->bytes, r->bytes)) {
        if (mz_map_put(&g->named, old->name, g))
            return mz_err_set(err, "duplicate scoped route configuration '" MZ_STR_FMT "' found",
                              MZ_STR_ARG(r->name));
        (void)mz_map_put(&g->next, old->name, old);
        return true;
    }
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m;
    bool ok = mz_resource_open(g->srds->factory.xds, r, MZ_XDS_SCOPED_ROUTE, &ctx, &m, err) &&
              add(g, r->name, r->bytes, (const pb_ScopedRouteConfiguration *)m, &ctx, err);
    mz_arena_destroy(ctx.arena);
    return ok;
}

static bool is_removed(const struct mz_xds_update *u, struct mz_str name)
{
    for (size_t i = 0; i < u->n_removed; i++)
        if (mz_str_eq(u->removed[i], name))
            return true;
    return false;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_srds *s = arg;
    struct change g;
    bool ok = true;
    change_init(&g, s);
    if (!u->whole)
        mz_map_foreach (it, &s->scopes)
            if (!is_removed(u, it->key))
                (void)mz_map_put(&g.next, it->key, it->value);
    for (size_t i = 0; ok && i < u->n; i++)
        ok =
            add_resource(&g, &u->v[i], err) || mz_err_at(err, MZ_STR_FMT, MZ_STR_ARG(u->v[i].name));
    ok = ok && keys_differ(&g, err);
    if (ok) {
        change_commit(&g);
        mz_free(MZ_MEM_XDS, s->version);
        s->version = mz_strndup(MZ_MEM_XDS, u->version.n ? u->version.p : "", u->version.n);
        mz_count(s->stats, STAT_RELOAD, 1);
        mz_gauge_set(s->stats, STAT_RELOAD_TIME, s->updated_wall_us / 1000);
    }
    change_drop(&g);
    return ok;
}

/* ---- what requests ask for ---- */

struct demand {           /* to the main thread */
    struct mz_srds *srds; /* one reference */
    size_t n;
    char key[];
};

static void demand_run(struct mz_loop *l, void *arg)
{
    (void)l;
    struct demand *d = arg;
    ask(d->srds, (struct mz_str){ d->key, d->n });
    mz_srds_unref(d->srds);
    mz_free(MZ_MEM_XDS, d);
}

bool mz_srds_demand(struct mz_srds *s, const struct mz_headers *h, struct mz_arena *a,
                    struct mz_upstream *u, struct mz_discovery_wait *w,
                    void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    const struct entry *e = entry_of(s, h, a);
    if (!e)
        return false;
    struct demand *d = mz_alloc0(MZ_MEM_XDS, sizeof(*d) + e->key.n);
    __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    d->srds = s;
    d->n = e->key.n;
    memcpy(d->key, e->key.p, e->key.n);
    mz_discovery_wait(u, s, e->key, SRDS_ANSWER_MS, w, done);
    mz_loop_post(s->factory.main, demand_run, d);
    return true;
}

/* ---- coming up ---- */

static void tables_ready(void *arg)
{
    mz_init_shared_ready(&((struct mz_srds *)arg)->init);
}

static void first(void *arg)
{
    struct mz_srds *s = arg;
    if (s->tables.state == MZ_INIT_IDLE)
        mz_init_start(&s->tables, tables_ready, s);
}

static void start(void *arg)
{
    struct mz_srds *s = arg;
    if (s->sub)
        mz_subscription_start(s->sub);
    else
        first(s);
}

static bool inline_scopes(struct mz_srds *s, struct mz_proto_ctx *ctx, struct mz_err *err)
{
    const pb_ScopedRouteConfigurationsList *l = s->msg->scoped_route_configurations_list;
    struct change g;
    bool ok = true;
    change_init(&g, s);
    for (size_t i = 0; ok && i < l->n_scoped_route_configurations; i++) {
        const pb_ScopedRouteConfiguration *m = l->scoped_route_configurations[i];
        if (!m->route_configuration)
            ok = mz_err_set(err, "Fetching routes via RDS (route_configuration_name) is not "
                                 "supported with inline scoped routes.");
        struct mz_str bytes = mz_msg_pack_alloc(&m->base, s->arena);
        ok = (ok && add(&g, mz_str_c(m->name), bytes, m, ctx, err)) ||
             mz_err_at(err, "scoped_route_configurations_list.scoped_route_configurations[%zu]", i);
    }
    ok = ok && keys_differ(&g, err);
    if (ok)
        change_commit(&g);
    change_drop(&g);
    return ok;
}

static bool fill(struct mz_srds *s, struct mz_proto_ctx *ctx, struct mz_err *err)
{
    const struct mz_subscriber who = { update, first, s, NULL, NULL };
    if (!scope_keys_build(s->msg->scope_key_builder, s->arena, &s->keys, err))
        return mz_err_at(err, "scope_key_builder");
    if (s->msg->config_specifier_case != pb_ScopedRoutes_CONFIG_SPECIFIER_SCOPED_RDS)
        return inline_scopes(s, ctx, err);
    struct mz_str parts[] = { MZ_STR("http."), s->factory.http_stat_prefix, MZ_STR(".scoped_rds."),
                              mz_str_c(s->msg->name), MZ_STR(".") };
    struct mz_str prefix = mz_arena_cat(s->arena, MZ_COUNT(parts), parts);
    s->sub = mz_subscribe(s->factory.xds, s->msg->scoped_rds->scoped_rds_config_source,
                          MZ_XDS_SCOPED_ROUTE, MZ_STR(""), prefix, &who, err);
    if (!s->sub)
        return mz_err_at(err, "scoped_rds.scoped_rds_config_source");
    s->stats = mz_scope_create(s->factory.stats, &stat_kind, prefix);
    return true;
}

static void destroy(struct mz_loop *l, void *arg)
{
    (void)l;
    struct mz_srds *s = arg;
    struct mz_map *all = mz_rds_manager_scoped(s->manager);
    if (mz_map_get(all, s->key) == s)
        (void)mz_map_del(all, s->key);
    mz_subscription_end(s->sub);
    mz_init_fini(&s->tables);
    mz_map_foreach (it, &s->scopes)
        scope_free(it->value);
    mz_map_fini(&s->scopes);
    mz_thread_slot_unref(s->views);
    if (s->stats)
        mz_scope_unref(s->stats);
    mz_free(MZ_MEM_XDS, s->version);
    mz_arena_destroy(s->arena);
}

static struct mz_srds *create(struct mz_rds_manager *m, struct mz_str key, struct mz_str prefix,
                              const struct mz_factory *f, const struct mz_route_filter_ops *ops,
                              struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_srds *s = mz_arena_new0(a, struct mz_srds);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg = NULL;
    *s = (struct mz_srds){ .refs = 1, .manager = m, .arena = a, .filter_ops = ops };
    s->key = mz_arena_dup(a, key);
    s->factory = *f;
    s->factory.listener_scope = NULL;
    s->factory.listener_name = MZ_STR("");
    s->factory.init = NULL;
    s->factory.proto = NULL;
    s->factory.http_stat_prefix = mz_arena_dup(a, prefix);
    mz_map_init(&s->scopes, MZ_MEM_XDS);
    mz_init_init(&s->tables);
    mz_init_shared_init(&s->init, start, s);
    s->views = mz_thread_slot_create(f->xds, &view_ops);
    bool ok = mz_msg_unpack(&ctx, s->key, &pb_ScopedRoutes__descriptor, &msg, err);
    s->msg = (const pb_ScopedRoutes *)msg;
    if (ok && fill(s, &ctx, err)) {
        (void)mz_map_put(mz_rds_manager_scoped(m), s->key, s);
        return s;
    }
    destroy(f->main, s);
    return NULL;
}

struct mz_srds *mz_srds_get(struct mz_rds_manager *m, const pb_ScopedRoutes *msg,
                            struct mz_str stat_prefix, const struct mz_factory *f,
                            const struct mz_route_filter_ops *ops, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str key = mz_msg_pack_alloc(&msg->base, a);
    struct mz_srds *s = mz_map_get(mz_rds_manager_scoped(m), key);
    if (!s || !mz_ref_take(&s->refs))
        s = create(m, key, stat_prefix, f, ops, err);
    mz_arena_destroy(a);
    return s;
}

void mz_srds_unref(struct mz_srds *s)
{
    if (!s || __atomic_fetch_sub(&s->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    struct mz_loop *main = s->factory.main;
    if (mz_loop_here(main))
        destroy(main, s);
    else
        mz_loop_post(main, destroy, s); /* a worker ended the last connection of an old listener */
}

void mz_srds_wait(struct mz_init_wait *w, struct mz_srds *s, struct mz_init *init)
{
    mz_init_wait(w, &s->init, mz_str_c(s->msg->name), init);
}

static int by_name(const void *x, const void *y)
{
    const struct scope *const *a = x, *const *b = y;
    return mz_str_cmp((*a)->name, (*b)->name);
}

static void each_scope(const struct mz_srds_shown *shown,
                       void (*fn)(void *arg, struct mz_str bytes), void *arg)
{
    const struct mz_map *all = &shown->srds->scopes;
    const struct scope **v = mz_newn0(MZ_MEM_XDS, const struct scope *, all->n + 1);
    size_t n = 0;
    mz_map_foreach (it, all)
        v[n++] = it->value;
    qsort(v, n, sizeof(*v), by_name);
    for (size_t i = 0; i < n; i++)
        fn(arg, v[i]->bytes);
    mz_free(MZ_MEM_XDS, v);
}

void mz_srds_each(struct mz_rds_manager *m, void (*fn)(void *arg, const struct mz_srds_shown *s),
                  void *arg)
{
    mz_map_foreach (it, mz_rds_manager_scoped(m)) {
        const struct mz_srds *s = it->value;
        const struct mz_srds_shown shown = { .name = mz_str_c(s->msg->name),
                                             .version = mz_str_c(s->version),
                                             .inlined = !s->sub,
                                             .updated_wall_us = s->updated_wall_us,
                                             .scopes = each_scope,
                                             .srds = s };
        fn(arg, &shown);
    }
}
