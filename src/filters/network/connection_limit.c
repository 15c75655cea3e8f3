/* envoy.filters.network.connection_limit: at most so many connections of a filter chain at a time (L5). */
#include "filters/network/network_filters.h"
#include "filters/runtime_flag.h"
#include "stats/stats.h"

enum { STAT_ACTIVE, STAT_LIMITED };
static const struct mz_stat_def stat_defs[] = {
    [STAT_ACTIVE] = { "active_connections", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [STAT_LIMITED] = { "limited_connections", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "connection_limit", stat_defs, MZ_COUNT(stat_defs) };

struct limit_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct runtime_flag enabled;
    uint64_t max, delay_ms;
    uint64_t
        connections; /* atomic, of all workers: those within the limit, and those refused but still open */
};
struct limit {
    struct mz_net_filter base;
    struct mz_timer delay;
    bool counted;
};

static void config_destroy(void *cfg)
{
    struct limit_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_ConnectionLimit *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct limit_cfg *c = mz_arena_new0(a, struct limit_cfg);
    c->arena = a;
    c->enabled = runtime_flag_build(m->runtime_enabled, a);
    c->max = m->max_connections ? m->max_connections->value : 0;
    c->scope =
        mz_scope_create(f->stats, &stats,
                        mz_arena_cat(a, 3,
                                     (struct mz_str[]){ MZ_STR("connection_limit."),
                                                        mz_str_c(m->stat_prefix), MZ_STR(".") }));
    if (!m->max_connections) {
        mz_err_set(err, "is required");
        mz_err_at(err, "max_connections");
    } else if (mz_duration_ms(m->delay, 0, &c->delay_ms, err)) {
        return c;
    } else {
        mz_err_at(err, "delay");
    }
    config_destroy(c);
    return NULL;
}

static struct limit_cfg *cfg_of(const struct mz_net_filter *f)
{
    return (struct limit_cfg *)(uintptr_t)f->cfg; /* its count is an atomic of all connections */
}

/* Those that were refused count until they are closed, as in Envoy: a flood of them lets nobody in. */
static bool within(struct limit_cfg *c)
{
    uint64_t before = __atomic_fetch_add(&c->connections, 1, __ATOMIC_RELAXED);
    return before < c->max;
}

static void refuse(struct limit *l)
{
    mz_conn_close(l->base.down->conn, MZ_CLOSE_NOW, "over_connection_limit", 0);
}

static void on_delay(struct mz_timer *t)
{
    refuse(MZ_CONTAINER(t, struct limit, delay));
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct limit *l = (struct limit *)(void *)f;
    struct limit_cfg *c = cfg_of(f);
    if (!runtime_flag_on(&c->enabled))
        return MZ_NET_CONTINUE;
    l->counted = true;
    mz_timer_init(f->worker->loop, &l->delay, on_delay);
    mz_gauge_add(c->scope, STAT_ACTIVE, 1);
    if (within(c))
        return MZ_NET_CONTINUE;
    mz_count(c->scope, STAT_LIMITED, 1);
    mz_conn_read_disable(f->down->conn, true); /* the filters behind never begin */
    if (c->delay_ms)
        mz_timer_start_ms(&l->delay, c->delay_ms);
    else
        refuse(l);
    return MZ_NET_STOP;
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct limit *l = (struct limit *)(void *)f;
    if (ev == MZ_CONN_CONNECTED || !l->counted)
        return;
    l->counted = false;
    mz_timer_stop(&l->delay);
    mz_gauge_add(cfg_of(f)->scope, STAT_ACTIVE, -1);
    __atomic_fetch_sub(&cfg_of(f)->connections, 1, __ATOMIC_RELAXED);
}

const struct mz_net_filter_type mz_net_filter_connection_limit = {
    .name = "envoy.filters.network.connection_limit",
    .config_type = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    .size = sizeof(struct limit),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_event = on_event,
};
