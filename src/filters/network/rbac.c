/* envoy.filters.network.rbac: who may send the first byte (L5). The engine is that of the HTTP filter (../rbac). */
#include "filters/network/network_filters.h"

#include "filters/rbac/rbac.h"
#include "listener/listener_filter.h"
#include "observe/metadata.h"
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
    struct mz_str policy_key, result_key; /* of the shadow's dynamic metadata */
    uint64_t delay_ms;                    /* from a denial to the close */
    bool continuous;
};
struct net_rbac {
    struct mz_net_filter base;
    bool shadow_asked, allowed, denied;
    struct mz_timer delay; /* initialized once denied */
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
    struct mz_str own = mz_str_c(m->shadow_rules_stat_prefix);
    c->policy_key =
        mz_arena_cat(c->arena, 2, (struct mz_str[]){ own, MZ_STR("shadow_effective_policy_id") });
    c->result_key =
        mz_arena_cat(c->arena, 2, (struct mz_str[]){ own, MZ_STR("shadow_engine_result") });
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
    if ((mz_duration_ms(m->delay_deny, 0, &c->delay_ms, err) || mz_err_at(err, "delay_deny")) &&
        engine_build(m->rules, "rules", m->matcher, "matcher", f, &c->rules, err) &&
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
    i->listener_direction = d->direction;
    i->sni = d->sni;
    if (d->info) { /* earlier filters' */
        i->filter_state = d->info->filter_state;
        i->dynamic_metadata = d->info->dynamic_metadata;
    } else if (d->found) {
        i->dynamic_metadata = d->found->metadata;
    }
}

static void note_string(struct mz_downstream *d, struct mz_str key, struct mz_str text)
{
    struct mz_stream_info *info = mz_downstream_info(d);
    struct mz_value *v = mz_arena_new0(info->arena, struct mz_value);
    *v = (struct mz_value){ .kind = MZ_VALUE_STRING, .str = mz_arena_dup(info->arena, text) };
    if (!info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    mz_meta_set(info->dynamic_metadata, MZ_STR("envoy.filters.network.rbac"), key, v);
}

/* What is enforced leaves no metadata on a connection, as in Envoy. */
static void note_shadow(const struct net_rbac_cfg *c, struct mz_downstream *d,
                        const struct mz_rbac_result *res)
{
    if (res->matched)
        note_string(d, c->policy_key, res->policy);
    note_string(d, c->result_key, res->allowed ? MZ_STR("allowed") : MZ_STR("denied"));
}

static void ask(const struct mz_rbac *engine, struct mz_scope *scope, const struct mz_downstream *d,
                struct mz_rbac_result *res)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info info;
    info_fill(&info, d, a);
    const struct mz_rbac_input in = { .info = &info, .arena = a, .peer = &d->conn->remote };
    mz_rbac_check(engine, &in, res);
    mz_arena_destroy(a);
    mz_count(scope, res->allowed ? STAT_ALLOWED : STAT_DENIED, 1);
}

static void refuse(struct net_rbac *r)
{
    mz_conn_close(r->base.down->conn, MZ_CLOSE_NOW, "rbac_deny_close", 0);
}

static void on_delay(struct mz_timer *t)
{
    refuse(MZ_CONTAINER(t, struct net_rbac, delay));
}

static void deny(struct net_rbac *r, const char *details)
{
    const struct net_rbac_cfg *c = r->base.cfg;
    r->denied = true;
    r->base.down->termination = details;
    mz_timer_init(r->base.worker->loop, &r->delay, on_delay);
    if (!c->delay_ms) {
        refuse(r);
        return;
    }
    mz_conn_read_disable(r->base.down->conn, true); /* nobody will want it */
    mz_timer_start_ms(&r->delay, c->delay_ms);
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    (void)data;
    (void)end;
    struct net_rbac *r = (struct net_rbac *)(void *)f;
    const struct net_rbac_cfg *c = f->cfg;
    struct mz_rbac_result res = { .allowed = true };
    if (r->denied)
        return MZ_NET_STOP;
    if (c->shadow && !r->shadow_asked) { /* a shadow decides nothing */
        r->shadow_asked = true;
        ask(c->shadow, c->shadow_scope, f->down, &res);
        note_shadow(c, f->down, &res);
    }
    if (!c->rules || (r->allowed && !c->continuous))
        return MZ_NET_CONTINUE;
    ask(c->rules, c->scope, f->down, &res);
    r->allowed = res.allowed;
    if (r->allowed)
        return MZ_NET_CONTINUE;
    deny(r, res.details);
    return MZ_NET_STOP;
}

static void imagine(struct mz_imagined_session *s)
{
    const struct net_rbac_cfg *c = s->cfg;
    struct mz_stream_info *i = s->info;
    const struct mz_rbac_input in = { .info = i, .arena = i->arena, .peer = &i->remote };
    s->refused = c->rules && mz_rbac_imagine(c->rules, &in, s->name);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct net_rbac *r = (struct net_rbac *)(void *)f;
    if (ev != MZ_CONN_CONNECTED && r->denied)
        mz_timer_stop(&r->delay);
}

const struct mz_net_filter_type mz_net_filter_rbac = {
    .name = "envoy.filters.network.rbac",
    .config_type = "envoy.extensions.filters.network.rbac.v3.RBAC",
    .size = sizeof(struct net_rbac),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_data = on_data,
    .on_event = on_event,
    .imagine = imagine,
};
