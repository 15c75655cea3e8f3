/* envoy.filters.network.rbac: who may send the first byte (L5). The engine is that of the HTTP filter (../rbac). */
#include "filters/network/network_filters.h"

#include "filters/rbac/rbac.h"
#include "proto/mapper.h"
#include "stats/stats.h"

enum { STAT_ALLOWED, STAT_DENIED };
static const struct mz_stat_def rules_defs[] = { { "allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                 { "denied", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_def shadow_defs[] = { { "shadow_allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                  { "shadow_denied", MZ_COUNTER, MZ_UNIT_NONE,
                                                    0 } };
static const struct mz_stat_kind rules_stats = { "rbac", rules_defs, MZ_COUNT(rules_defs) },
                                 shadow_stats = { "rbac shadow", shadow_defs,
                                                  MZ_COUNT(shadow_defs) };

struct net_rbac_cfg {
    struct mz_arena *arena;
    struct mz_rbac *rules, *shadow; /* NULL: no opinion */
    struct mz_scope *scope, *shadow_scope;
    bool continuous;
};
struct net_rbac {
    struct mz_net_filter base;
    bool shadow_asked, allowed;
};

static void config_destroy(void *cfg)
{
    struct net_rbac_cfg *c = cfg;
    if (!c)
        return;
    mz_rbac_destroy(c->rules);
    mz_rbac_destroy(c->shadow);
    mz_scope_unref(c->scope);
    mz_scope_unref(c->shadow_scope);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_CONFIG, c);
}

static struct mz_str dot_behind(const char *s)
{
    size_t n = strlen(s);
    return n && s[n - 1] != '.' ? MZ_STR(".") : MZ_STR("");
}

static void scopes_build(const pb_network_rbac_RBAC *m, const struct mz_factory *f,
                         struct net_rbac_cfg *c)
{
    struct mz_str prefix = mz_arena_cat(
        c->arena, 3,
        (struct mz_str[]){ mz_str_c(m->stat_prefix), dot_behind(m->stat_prefix), MZ_STR("rbac.") });
    c->scope = mz_scope_create(f->stats, &rules_stats, prefix);
    c->shadow_scope = mz_scope_create(
        f->stats, &shadow_stats,
        mz_arena_cat(c->arena, 3,
                     (struct mz_str[]){ prefix, mz_str_c(m->shadow_rules_stat_prefix),
                                        dot_behind(m->shadow_rules_stat_prefix) }));
}

static bool engine_build(const pb_RBAC *rules, const char *rules_field, const pb_Matcher *matcher,
                         const char *matcher_field, const struct mz_factory *f,
                         struct mz_rbac **out, struct mz_err *err)
{
    if (!rules && !matcher)
        return true;
    *out = matcher ? mz_rbac_create_matcher(matcher, f, err) : mz_rbac_create(rules, false, f, err);
    return *out || mz_err_at(err, "%s", matcher ? matcher_field : rules_field);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_network_rbac_RBAC *m = msg;
    struct net_rbac_cfg *c = mz_new0(MZ_MEM_CONFIG, struct net_rbac_cfg);
    c->arena = mz_arena_create(MZ_MEM_CONFIG);
    c->continuous = m->enforcement_type == pb_RBAC_EnforcementType_CONTINUOUS;
    scopes_build(m, f, c);
    if (engine_build(m->rules, "rules", m->matcher, "matcher", f, &c->rules, err) &&
        engine_build(m->shadow_rules, "shadow_rules", m->shadow_matcher, "shadow_matcher", f,
                     &c->shadow, err))
        return c;
    config_destroy(c);
    return NULL;
}

/* ---- a connection ---- */

static void info_fill(struct mz_stream_info *i, const struct mz_downstream *d, struct mz_arena *a)
{
    mz_info_init(i);
    i->arena = a;
    i->start_us = d->start_us;
    i->start_wall_us = d->start_wall_us;
    i->secure = d->secure;
    i->conn_id = d->conn->id;
    i->local = d->local_restored;
    i->remote = d->conn->remote;
    i->direct_remote = d->conn->direct_remote;
    i->transport = d->conn->transport;
    i->filter_chain_name = d->chain_name;
    i->listener_name = d->listener_name;
    i->listener_metadata = d->listener_metadata;
    i->sni = d->sni;
}

static bool allowed(const struct mz_rbac *engine, struct mz_scope *scope,
                    const struct mz_downstream *d, const char **out_details)
{
    if (!engine)
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info info;
    struct mz_rbac_result res;
    info_fill(&info, d, a);
    const struct mz_rbac_input in = { .info = &info, .arena = a, .peer = &d->conn->remote };
    mz_rbac_check(engine, &in, &res);
    mz_arena_destroy(a);
    mz_count(scope, res.allowed ? STAT_ALLOWED : STAT_DENIED, 1);
    *out_details = res.details;
    return res.allowed;
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    (void)data;
    (void)end;
    struct net_rbac *r = (struct net_rbac *)(void *)f;
    const struct net_rbac_cfg *c = f->cfg;
    const char *details;
    if (!r->shadow_asked) {
        r->shadow_asked = true;
        (void)allowed(c->shadow, c->shadow_scope, f->down, &details); /* a shadow decides nothing */
    }
    if (r->allowed && !c->continuous)
        return MZ_NET_CONTINUE;
    r->allowed = allowed(c->rules, c->scope, f->down, &details);
    if (r->allowed)
        return MZ_NET_CONTINUE;
    f->down->termination = details;
    mz_conn_close(f->down->conn, MZ_CLOSE_NOW, "rbac_deny_close", 0);
    return MZ_NET_STOP;
}

const struct mz_net_filter_type mz_net_filter_rbac = {
    .name = "envoy.filters.network.rbac",
    .config_type = "envoy.extensions.filters.network.rbac.v3.RBAC",
    .size = sizeof(struct net_rbac),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_data = on_data,
};
