#include "filters/http/http_filters.h"

#include "base/map.h"
#include "filters/rbac/rbac.h"
#include "listener/network_filter.h"
#include "proto/mapper.h"
#include "stats/stats.h"

/* rbac (H9): who may ask for what. The engine stands in ../rbac; here are its statistics, metadata, answers and stories. */

enum { STAT_ALLOWED, STAT_DENIED };
static const struct mz_stat_def rules_defs[] = { { "allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                 { "denied", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_def shadow_defs[] = { { "shadow_allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                                  { "shadow_denied", MZ_COUNTER, MZ_UNIT_NONE,
                                                    0 } };
static const struct mz_stat_def rules_policy_defs[] = {
    { "allowed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "denied", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY }
};
static const struct mz_stat_def shadow_policy_defs[] = {
    { "shadow_allowed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "shadow_denied", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY }
};
static const struct mz_stat_kind kinds[] = { { "rbac", rules_defs, MZ_COUNT(rules_defs) },
                                             { "rbac shadow", shadow_defs,
                                               MZ_COUNT(shadow_defs) } };
static const struct mz_stat_kind policy_kinds[] = {
    { "rbac policy", rules_policy_defs, MZ_COUNT(rules_policy_defs) },
    { "rbac shadow policy", shadow_policy_defs, MZ_COUNT(shadow_policy_defs) }
};

enum { RULES, SHADOW, SIDES };
struct side {                             /* rules, or shadow_rules */
    struct mz_rbac *engine;               /* NULL: everything is allowed, nothing counted */
    struct mz_str policy_key, result_key; /* of the dynamic metadata */
    bool own_keys; /* with a prefix; a route's without one are the filter's (Envoy) */
    const struct mz_value
        *told; /* the metadata of each outcome, by its number; NULL: not made before */
    /* of the filter only */
    struct mz_scope *scope;
    struct mz_str prefix; /* "http.in.rbac." and the side's own */
    struct mz_map
        *by_policy; /* a map per statistics slot, each touched by its own thread: policy -> scope */
};
struct rbac_cfg {
    struct mz_arena *arena;
    struct side sides[SIDES];
    bool per_policy;
    struct mz_stats *stats; /* of the filter only */
    unsigned n_slots;
};

/* ---- configuration ---- */

static void side_fini(struct side *s, unsigned n_slots)
{
    mz_rbac_destroy(s->engine);
    for (unsigned i = 0; i < n_slots; i++) {
        mz_map_foreach (e, &s->by_policy[i])
            mz_scope_unref(e->value);
        mz_map_fini(&s->by_policy[i]);
    }
    mz_free(MZ_MEM_CONFIG, s->by_policy);
    mz_scope_unref(s->scope);
}

static void config_destroy(void *cfg)
{
    struct rbac_cfg *c = cfg;
    if (!c)
        return;
    for (unsigned i = 0; i < SIDES; i++)
        side_fini(&c->sides[i], c->n_slots);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_CONFIG, c);
}

/* A matcher goes before rules, as in Envoy. */
static bool engine_build(const pb_RBAC *rules, const char *rules_field, const pb_Matcher *matcher,
                         const char *matcher_field, const struct mz_factory *f,
                         struct mz_rbac **out, struct mz_err *err)
{
    if (!rules && !matcher)
        return true;
    *out = matcher ? mz_rbac_create_matcher(matcher, f, err) : mz_rbac_create(rules, true, f, err);
    return *out || mz_err_at(err, "%s", matcher ? matcher_field : rules_field);
}

static void keys_fill(struct side *s, struct mz_str prefix, const char *policy, const char *result,
                      struct mz_arena *a)
{
    s->own_keys = prefix.n > 0;
    s->policy_key = mz_arena_cat(a, 2, (struct mz_str[]){ prefix, mz_str_c(policy) });
    s->result_key = mz_arena_cat(a, 2, (struct mz_str[]){ prefix, mz_str_c(result) });
}

static const struct mz_value allowed_value = { .kind = MZ_VALUE_STRING,
                                               .str = MZ_STR_INIT("allowed") },
                             denied_value = { .kind = MZ_VALUE_STRING,
                                              .str = MZ_STR_INIT("denied") };

/* What a request's metadata will say is known for each policy, and for none: requests share it. */
static void told_build(struct side *s, struct mz_arena *a)
{
    struct mz_rbac_result res;
    if (!s->engine || !mz_rbac_outcome(s->engine, 0, &res))
        return;
    size_t n = mz_rbac_policies(s->engine) + 1;
    struct mz_value *told = mz_arena_alloc(a, mz_mul(n, sizeof(*told))),
                    *names = mz_arena_alloc(a, mz_mul(n, sizeof(*names)));
    struct mz_field *fields = mz_arena_alloc(a, mz_mul(2 * n, sizeof(*fields)));
    for (size_t i = 0; i < n; i++, fields += 2) {
        (void)mz_rbac_outcome(s->engine, i, &res); /* as before: it is no matcher */
        names[i] = (struct mz_value){ .kind = MZ_VALUE_STRING, .str = res.policy };
        fields[0] = (struct mz_field){ s->policy_key, &names[i] }; /* sorted: "..._effective_..." */
        fields[1] =
            (struct mz_field){ s->result_key, res.allowed ? &allowed_value : &denied_value };
        size_t k = res.matched ? 2 : 1;
        told[i] = (struct mz_value){ .kind = MZ_VALUE_STRUCT, .fields = { fields + 2 - k, k, k } };
    }
    s->told = told;
}

static bool fill(struct rbac_cfg *c, const pb_http_rbac_RBAC *m, const struct mz_factory *f,
                 struct mz_err *err)
{
    c->per_policy = m->track_per_rule_stats != 0;
    keys_fill(&c->sides[RULES], mz_str_c(m->rules_stat_prefix), "enforced_effective_policy_id",
              "enforced_engine_result", c->arena);
    keys_fill(&c->sides[SHADOW], mz_str_c(m->shadow_rules_stat_prefix),
              "shadow_effective_policy_id", "shadow_engine_result", c->arena);
    return engine_build(m->rules, "rules", m->matcher, "matcher", f, &c->sides[RULES].engine,
                        err) &&
           engine_build(m->shadow_rules, "shadow_rules", m->shadow_matcher, "shadow_matcher", f,
                        &c->sides[SHADOW].engine, err);
}

static struct rbac_cfg *cfg_create(void)
{
    struct rbac_cfg *c = mz_new0(MZ_MEM_CONFIG, struct rbac_cfg);
    c->arena = mz_arena_create(MZ_MEM_CONFIG);
    return c;
}

/* "http.in.rbac." with the side's prefix, which may end with a dot of its own. */
static void side_count(struct rbac_cfg *c, unsigned i, const char *prefix,
                       const struct mz_factory *f)
{
    struct side *s = &c->sides[i];
    struct mz_str own = mz_str_c(prefix);
    struct mz_str dot = own.n && own.p[own.n - 1] != '.' ? MZ_STR(".") : MZ_STR("");
    s->prefix = mz_arena_cat(
        c->arena, 5,
        (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".rbac."), own, dot });
    s->scope = mz_scope_create(f->stats, &kinds[i], s->prefix);
    s->by_policy = mz_newn0(MZ_MEM_CONFIG, struct mz_map, c->n_slots);
    for (unsigned slot = 0; slot < c->n_slots; slot++)
        mz_map_init(&s->by_policy[slot], MZ_MEM_CONFIG);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_http_rbac_RBAC *m = msg;
    struct rbac_cfg *c = cfg_create();
    c->stats = f->stats;
    c->n_slots = f->workers + 1;
    side_count(c, RULES, m->rules_stat_prefix, f);
    side_count(c, SHADOW, m->shadow_rules_stat_prefix, f);
    if (fill(c, m, f, err)) {
        told_build(&c->sides[RULES], c->arena);
        told_build(&c->sides[SHADOW], c->arena);
        return c;
    }
    config_destroy(c);
    return NULL;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_RBACPerRoute *m = msg;
    struct rbac_cfg *c = cfg_create();
    if (!m->rbac || fill(c, m->rbac, f, err))
        return c;
    (void)mz_err_at(err, "rbac");
    config_destroy(c);
    return NULL;
}

/* ---- one request ---- */

/* Counters of one policy appear when it decides for the first time on a worker. */
static void count_policy(const struct rbac_cfg *own, unsigned side, struct mz_str policy,
                         unsigned stat)
{
    const struct side *s = &own->sides[side];
    if (mz_stats_slot >= own->n_slots)
        return;
    struct mz_map *map = &s->by_policy[mz_stats_slot];
    struct mz_scope *scope = mz_map_get(map, policy);
    if (!scope) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
        scope = mz_scope_create(
            own->stats, &policy_kinds[side],
            mz_arena_cat(a, 4,
                         (struct mz_str[]){ s->prefix, MZ_STR("policy."), policy, MZ_STR(".") }));
        mz_arena_destroy(a);
        (void)mz_map_put(map, policy, scope); /* there was none */
    }
    mz_count(scope, stat, 1);
}

static const struct mz_value *string_value(struct mz_arena *a, struct mz_str s)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRING;
    v->str = s;
    return v;
}

static struct mz_meta *metadata(struct mz_stream_info *info)
{
    if (!info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    return info->dynamic_metadata;
}

/* @told NULL: a route's rules under the filter's keys. */
static void note_metadata(struct mz_filter *f, const struct side *s, const struct mz_value *told,
                          const struct mz_rbac_result *res)
{
    struct mz_stream_info *info = mz_stream_info(f->stream);
    struct mz_meta *m = metadata(info);
    const struct mz_str ns = MZ_STR("envoy.filters.http.rbac");
    if (told && mz_meta_set_space(m, ns, &told[res->number]))
        return;
    if (res->matched)
        mz_meta_set(m, ns, s->policy_key, string_value(info->arena, res->policy));
    mz_meta_set(m, ns, s->result_key, res->allowed ? &allowed_value : &denied_value);
}

static void note_log(struct mz_filter *f, bool log)
{
    struct mz_stream_info *info = mz_stream_info(f->stream);
    struct mz_value *v = mz_arena_new0(info->arena, struct mz_value);
    v->kind = MZ_VALUE_BOOL;
    v->b = log;
    mz_meta_set(metadata(info), MZ_STR("envoy.common"), MZ_STR("access_log_hint"), v);
}

/* Why a request is denied (pain 16): the policy that matched, or the first conditions that did not hold. */
#define REASONS 4
static void tell_why(struct mz_filter *f, const struct mz_rbac *engine,
                     const struct mz_rbac_input *in, const struct mz_rbac_result *res)
{
    if (res->matched) {
        mz_stream_story(f->stream, MZ_STEP_RULE, f->name, mz_rbac_why(engine, in, res), 0, 0);
        return;
    }
    size_t n = mz_rbac_policies(engine);
    for (size_t i = 0; i < n && i < REASONS; i++)
        mz_stream_story(f->stream, MZ_STEP_NOT_RULE, f->name, mz_rbac_why_not(engine, in, i), 0, 0);
    if (n > REASONS)
        mz_stream_story(f->stream, MZ_STEP_MORE_RULES, f->name, MZ_STR(""), (int64_t)(n - REASONS),
                        0);
}

static bool check(struct mz_filter *f, const struct rbac_cfg *c, unsigned side,
                  const struct mz_rbac_input *in, struct mz_rbac_result *res)
{
    const struct rbac_cfg *own = f->cfg;
    const struct side *s = &c->sides[side];
    if (!s->engine)
        return true;
    mz_rbac_check(s->engine, in, res);
    unsigned stat = res->allowed ? STAT_ALLOWED : STAT_DENIED;
    mz_count(own->sides[side].scope, stat, 1);
    if (c->per_policy && res->matched)
        count_policy(own, side, res->policy, stat);
    note_metadata(f, s->own_keys ? s : &own->sides[side], s->own_keys || c == own ? s->told : NULL,
                  res);
    return res->allowed;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    const struct rbac_cfg *c = f->route_cfg ? f->route_cfg : f->cfg;
    struct mz_rbac_input in = { .info = mz_stream_info(f->stream),
                                .h = h,
                                .arena = mz_stream_arena(f->stream),
                                .peer = &mz_stream_downstream(f->stream)->conn->remote,
                                .has_route = mz_stream_route(f->stream) != NULL };
    struct mz_rbac_result res = { 0 };
    if (c->sides[SHADOW].engine) { /* a shadow decides nothing */
        (void)check(f, c, SHADOW, &in, &res);
        res = (struct mz_rbac_result){ 0 };
    }
    bool allowed = check(f, c, RULES, &in, &res);
    if (c->sides[RULES].engine && mz_rbac_logs(c->sides[RULES].engine))
        note_log(f, res.matched && res.action == MZ_RBAC_LOG);
    if (allowed) {
        if (res.matched)
            mz_note(in.info->decision, mz_loop_now_us(mz_stream_worker(f->stream)->loop), RULE,
                    f->name, res.policy, 0, 0);
        return MZ_FLOW_CONTINUE;
    }
    tell_why(f, c->sides[RULES].engine, &in, &res);
    mz_stream_story(f->stream, MZ_STEP_FILTER, f->name, mz_str_c(res.details), 0, 0);
    struct mz_local_reply r = { .status = 403,
                                .body = MZ_STR("RBAC: access denied"),
                                .details = res.details };
    mz_stream_local_reply(f->stream, &r);
    return MZ_FLOW_STOP;
}

static void imagine(struct mz_imagined *q)
{
    const struct rbac_cfg *c = q->route_cfg ? q->route_cfg : q->cfg;
    const struct mz_rbac_input in = { .info = q->info,
                                      .h = q->h,
                                      .arena = q->info->arena,
                                      .peer = &q->info->direct_remote,
                                      .has_route = q->route != NULL };
    if (c->sides[RULES].engine && mz_rbac_imagine(c->sides[RULES].engine, &in, q->name))
        q->status = 403;
}

const struct mz_http_filter_type mz_filter_rbac = {
    .name = "envoy.filters.http.rbac",
    .config_type = "envoy.extensions.filters.http.rbac.v3.RBAC",
    .route_config_type = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .imagine = imagine,
};
