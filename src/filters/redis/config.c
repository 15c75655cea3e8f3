/* RedisProxy to a configuration. Main thread. */
#include "filters/redis/redis.h"

#include "filters/runtime_flag.h"
#include "proto/data_source.h"
#include <stdlib.h>

#define PASSWORD_MAX     4096
#define BATCH_DEFAULT_MS 3

static const struct mz_stat_def defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    REDIS_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "redis", defs, REDIS_STAT__COUNT };
#define COMMAND_DEFS(unit)                                                                         \
    {                                                                                              \
        { "error", MZ_COUNTER, MZ_UNIT_NONE, 0 }, { "success", MZ_COUNTER, MZ_UNIT_NONE, 0 },      \
            { "total", MZ_COUNTER, MZ_UNIT_NONE, 0 }, { "latency", MZ_HISTOGRAM, unit, 0 },        \
    }
static const struct mz_stat_def command_ms[] = COMMAND_DEFS(MZ_UNIT_MS);
static const struct mz_stat_def command_us[] = COMMAND_DEFS(MZ_UNIT_US);
static const struct mz_stat_kind command_stats_ms = { "redis command", command_ms,
                                                      MZ_COUNT(command_ms) };
static const struct mz_stat_kind command_stats_us = { "redis command, us", command_us,
                                                      MZ_COUNT(command_us) };

void redis_config_destroy(void *cfg)
{
    struct redis_cfg *c = cfg;
    for (size_t i = 0; i < redis_n_commands; i++)
        mz_scope_unref(c->commands[i]);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static void route_build(const pb_RedisProxy_PrefixRoutes_Route *m, struct redis_cfg *c,
                        struct redis_route *r)
{
    struct mz_arena *a = c->arena;
    r->prefix = mz_arena_dup(a, mz_str_c(m->prefix));
    r->cluster = mz_arena_dup(a, mz_str_c(m->cluster));
    r->remove_prefix = m->remove_prefix;
    if (m->read_command_policy)
        r->read_cluster = mz_arena_dup(a, mz_str_c(m->read_command_policy->cluster));
    r->n_mirrors = m->n_request_mirror_policy;
    r->mirrors = mz_arena_alloc0(a, r->n_mirrors * sizeof(*r->mirrors));
    for (size_t i = 0; i < r->n_mirrors; i++) {
        const pb_RedisProxy_PrefixRoutes_Route_RequestMirrorPolicy *p = m->request_mirror_policy[i];
        r->mirrors[i] = (struct redis_mirror){ mz_arena_dup(a, mz_str_c(p->cluster)),
                                               runtime_fraction_build(p->runtime_fraction, true, a),
                                               p->exclude_read_commands };
    }
}

static int longest_first(const void *a, const void *b)
{
    size_t x = ((const struct redis_route *)a)->prefix.n,
           y = ((const struct redis_route *)b)->prefix.n;
    return x == y ? 0 : x > y ? -1 : 1;
}

static bool routes_build(const pb_RedisProxy_PrefixRoutes *m, struct redis_cfg *c,
                         struct mz_err *err)
{
    if (!m)
        return true;
    c->any_case = m->case_insensitive;
    c->n_routes = m->n_routes;
    c->routes = mz_arena_alloc0(c->arena, (m->n_routes + 1) * sizeof(*c->routes));
    for (size_t i = 0; i < m->n_routes; i++) {
        struct mz_str p = mz_str_c(m->routes[i]->prefix);
        for (size_t k = 0; k < i; k++)
            if (c->any_case ? mz_str_ieq(c->routes[k].prefix, p)
                            : mz_str_eq(c->routes[k].prefix, p))
                return mz_err_set(err, "prefix `" MZ_STR_FMT "` already exists.", MZ_STR_ARG(p)) ||
                       mz_err_at(err, "prefix_routes.routes[%zu].prefix", i);
        route_build(m->routes[i], c, &c->routes[i]);
    }
    if (m->n_routes)
        qsort(c->routes, c->n_routes, sizeof(*c->routes), longest_first);
    if (m->catch_all_route) {
        c->otherwise = mz_arena_new0(c->arena, struct redis_route);
        route_build(m->catch_all_route, c, c->otherwise);
    }
    return true;
}

static bool settings_build(const pb_RedisProxy_ConnPoolSettings *m, struct redis_settings *s,
                           struct mz_err *err)
{
    s->batch_bytes = m->max_buffer_size_before_flush;
    s->command_stats = m->enable_command_stats;
    s->hash_tags = m->enable_hashtagging;
    if (!mz_duration_ms(m->op_timeout, 0, &s->op_timeout_ms, err))
        return mz_err_at(err, "settings.op_timeout");
    return mz_duration_ms(m->buffer_flush_timeout, BATCH_DEFAULT_MS, &s->batch_ms, err) ||
           mz_err_at(err, "settings.buffer_flush_timeout");
}

static bool auth_build(const pb_RedisProxy *m, struct redis_cfg *c, struct mz_err *err)
{
    if (m->downstream_auth_username &&
        !mz_data_source_read(m->downstream_auth_username, PASSWORD_MAX, c->arena, &c->user, err))
        return mz_err_at(err, "downstream_auth_username");
    c->passwords =
        mz_arena_alloc0(c->arena, m->n_downstream_auth_passwords * sizeof(*c->passwords));
    for (size_t i = 0; i < m->n_downstream_auth_passwords; i++) {
        struct mz_str *p = &c->passwords[c->n_passwords];
        if (!mz_data_source_read(m->downstream_auth_passwords[i], PASSWORD_MAX, c->arena, p, err))
            return mz_err_at(err, "downstream_auth_passwords[%zu]", i);
        c->n_passwords += p->n != 0;
    }
    return true;
}

void *redis_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    static uint64_t ids;
    const pb_RedisProxy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct redis_cfg *c = mz_arena_new0(a, struct redis_cfg);
    c->arena = a;
    c->id = ++ids;
    c->stats = f->stats;
    c->micros = m->latency_in_micros;
    struct mz_str prefix = mz_arena_printf(a, "redis.%s.", m->stat_prefix);
    c->scope = mz_scope_create(f->stats, &stats, prefix);
    c->commands = mz_arena_alloc0(a, redis_n_commands * sizeof(struct mz_scope *));
    for (size_t i = 0; i < redis_n_commands; i++) {
        const struct mz_str name[] = { prefix, MZ_STR("command."), redis_commands[i].name,
                                       MZ_STR(".") };
        c->commands[i] =
            mz_scope_create(f->stats, c->micros ? &command_stats_us : &command_stats_ms,
                            mz_arena_cat(a, MZ_COUNT(name), name));
    }
    if (settings_build(m->settings, &c->settings, err) && routes_build(m->prefix_routes, c, err) &&
        auth_build(m, c, err))
        return c;
    redis_config_destroy(c);
    return NULL;
}
