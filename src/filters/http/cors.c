#include "filters/http/fraction.h"
#include "filters/http/http_filters.h"
#include "observe/matcher.h"

/*
 * cors: answers preflights itself and marks answers to allowed origins (H9). The policies are those of the route, its virtual
 * host and table; each part is taken from the most specific one that says something of it. Where no level has a
 * typed_per_filter_config, the deprecated cors fields of route and virtual host count.
 */

enum { ORIGIN_VALID, ORIGIN_INVALID };
static const struct mz_stat_def stat_defs[] = {
    [ORIGIN_VALID] = { "origin_valid", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [ORIGIN_INVALID] = { "origin_invalid", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "cors", stat_defs, MZ_COUNT(stat_defs) };

struct cors_cfg {
    struct mz_scope *scope;
};
struct origin_rule {
    struct mz_string_match *match;
    struct mz_str text; /* "allow_origin_string_match[1]: suffix .ok.test" */
    bool any;           /* matches "*": then it allows every origin, as in Envoy */
};
struct policy {
    struct mz_arena *arena;
    struct origin_rule *origins;
    size_t n_origins;
    struct mz_str allow_methods, allow_headers, expose_headers, max_age;
    int8_t credentials, private_network, forward_not_matching; /* -1: says nothing */
    struct mz_fraction enabled, shadow;
};
struct state {
    struct mz_filter base;
    const struct policy *levels[4]; /* the most specific first */
    unsigned n;
    struct mz_str origin; /* of a request whose answer is to be marked */
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct cors_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_CONFIG, c);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg, (void)err;
    struct cors_cfg *c = mz_new0(MZ_MEM_CONFIG, struct cors_cfg);
    struct mz_str prefix =
        mz_arena_cat(f->proto->arena, 3,
                     (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".cors.") });
    c->scope = mz_scope_create(f->stats, &stats, prefix);
    return c;
}

static void policy_destroy(void *cfg)
{
    struct policy *p = cfg;
    for (size_t i = 0; i < p->n_origins; i++)
        mz_string_match_destroy(p->origins[i].match);
    mz_arena_destroy(p->arena);
}

static int8_t said(const pb_BoolValue *v)
{
    return v ? v->value != 0 : -1;
}

static bool origins_build(const pb_cors_CorsPolicy *m, struct policy *p, struct mz_err *err)
{
    p->origins = mz_arena_alloc0(p->arena, m->n_allow_origin_string_match * sizeof(*p->origins));
    for (size_t i = 0; i < m->n_allow_origin_string_match; i++) {
        struct origin_rule *o = &p->origins[i];
        o->match = mz_string_match_build(m->allow_origin_string_match[i], err);
        if (!o->match)
            return mz_err_at(err, "allow_origin_string_match[%zu]", i);
        p->n_origins++;
        o->any = mz_string_match(o->match, MZ_STR("*"));
        o->text = mz_arena_printf(p->arena, "allow_origin_string_match[%zu]: %s", i,
                                  mz_string_match_text(o->match));
    }
    return true;
}

static void *policy_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_cors_CorsPolicy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct policy *p = mz_arena_new0(a, struct policy);
    *p = (struct policy){ .arena = a,
                          .allow_methods = mz_arena_dup(a, mz_str_c(m->allow_methods)),
                          .allow_headers = mz_arena_dup(a, mz_str_c(m->allow_headers)),
                          .expose_headers = mz_arena_dup(a, mz_str_c(m->expose_headers)),
                          .max_age = mz_arena_dup(a, mz_str_c(m->max_age)),
                          .credentials = said(m->allow_credentials),
                          .private_network = said(m->allow_private_network_access),
                          .forward_not_matching = said(m->forward_not_matching_preflights),
                          .enabled = fraction_build(m->filter_enabled, true, a),
                          .shadow = fraction_build(m->shadow_enabled, false, a) };
    if (origins_build(m, p, err))
        return p;
    policy_destroy(p);
    return NULL;
}

/* ---- what the levels say ---- */

static void gather(struct state *st, const struct mz_route *r)
{
    const void *typed[4];
    unsigned n = mz_filter_route_configs(&st->base, typed);
    while (n)
        st->levels[st->n++] = typed[--n];
    if (st->n)
        return;
    if (r->cors)
        st->levels[st->n++] = r->cors;
    if (r->vhost->cors)
        st->levels[st->n++] = r->vhost->cors;
}

static struct mz_str text_of(const struct state *st, size_t member)
{
    for (unsigned i = 0; i < st->n; i++) {
        const struct mz_str *s =
            (const struct mz_str *)(const void *)((const char *)st->levels[i] + member);
        if (s->n)
            return *s;
    }
    return MZ_STR("");
}
#define TEXT(st, field) text_of(st, offsetof(struct policy, field))

static bool flag_of(const struct state *st, size_t member, bool otherwise)
{
    for (unsigned i = 0; i < st->n; i++) {
        int8_t v = ((const int8_t *)st->levels[i])[member];
        if (v >= 0)
            return v;
    }
    return otherwise;
}
#define FLAG(st, field, otherwise) flag_of(st, offsetof(struct policy, field), otherwise)

/* The first level that lists origins decides alone. */
static const struct origin_rule *allowed_by(const struct state *st, struct mz_str origin)
{
    for (unsigned i = 0; i < st->n; i++) {
        const struct policy *p = st->levels[i];
        for (size_t k = 0; k < p->n_origins; k++)
            if (p->origins[k].any || mz_string_match(p->origins[k].match, origin))
                return &p->origins[k];
        if (p->n_origins)
            return NULL;
    }
    return NULL;
}

/* ---- at work ---- */

static void set_if(struct mz_headers *h, const char *name, struct mz_str value)
{
    if (value.n)
        mz_headers_set(h, mz_str_c(name), value);
}

/* "*" allows what was asked for; where nothing was, the header is empty, as Envoy's. */
static void set_allowed(struct mz_headers *h, const char *name, struct mz_str allowed,
                        const struct mz_headers *req, const char *asked)
{
    struct mz_str v = MZ_STR("");
    if (!mz_str_eq(allowed, MZ_STR("*")))
        set_if(h, name, allowed);
    else
        mz_headers_set(h, mz_str_c(name),
                       mz_headers_joined(req, mz_str_c(asked), &v) ? v : MZ_STR(""));
}

static void answer_preflight(struct state *st, const struct mz_headers *req)
{
    struct mz_stream *s = st->base.stream;
    struct mz_headers *h = mz_headers_create(mz_stream_arena(s));
    mz_headers_set_status(h, 200);
    set_if(h, "access-control-allow-origin", st->origin);
    if (FLAG(st, credentials, false))
        set_if(h, "access-control-allow-credentials", MZ_STR("true"));
    set_allowed(h, "access-control-allow-methods", TEXT(st, allow_methods), req,
                "access-control-request-method");
    set_allowed(h, "access-control-allow-headers", TEXT(st, allow_headers), req,
                "access-control-request-headers");
    set_if(h, "access-control-max-age", TEXT(st, max_age));
    const struct mz_header *asked =
        mz_headers_get(req, MZ_STR("access-control-request-private-network"));
    if (asked && mz_str_eq(asked->value, MZ_STR("true")) && FLAG(st, private_network, false))
        set_if(h, "access-control-allow-private-network", MZ_STR("true"));
    mz_stream_info(s)->details = "cors_response";
    mz_stream_story(s, MZ_STEP_FILTER, st->base.name, MZ_STR("cors_response"), 0, 0);
    mz_stream_respond_headers(s, h, true);
}

static bool is_preflight(const struct mz_headers *h)
{
    return mz_str_eq(mz_headers_method(h), MZ_STR("OPTIONS")) &&
           mz_headers_value_id(h, MZ_H_ACCESS_CONTROL_REQUEST_METHOD).n > 0;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    struct mz_str origin;
    if (!mz_headers_get_id(h, MZ_H_ORIGIN))
        return MZ_FLOW_CONTINUE;
    const struct mz_route *r = mz_stream_route(f->stream);
    if (!r || r->action != MZ_ACTION_CLUSTER)
        return MZ_FLOW_CONTINUE;
    gather(st, r);
    if (!st->n)
        return MZ_FLOW_CONTINUE;
    bool enabled = fraction_holds(&st->levels[0]->enabled, f);
    if (!enabled && !fraction_holds(&st->levels[0]->shadow, f))
        return MZ_FLOW_CONTINUE;
    if (!mz_headers_joined(h, MZ_STR("origin"), &origin) || !origin.n)
        return MZ_FLOW_CONTINUE;
    const struct origin_rule *rule = allowed_by(st, origin);
    mz_count(((const struct cors_cfg *)f->cfg)->scope, rule ? ORIGIN_VALID : ORIGIN_INVALID, 1);
    mz_stream_story(f->stream, MZ_STEP_RULE, f->name,
                    rule ? rule->text : MZ_STR("allow_origin_string_match: none matched"), 0, 0);
    if (!enabled)
        return MZ_FLOW_CONTINUE;
    if (rule)
        st->origin = origin;
    if (!is_preflight(h) || (!rule && FLAG(st, forward_not_matching, true)))
        return MZ_FLOW_CONTINUE;
    answer_preflight(st, h);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    if (!st->origin.n)
        return MZ_FLOW_CONTINUE;
    set_if(h, "access-control-allow-origin", st->origin);
    if (FLAG(st, credentials, false))
        set_if(h, "access-control-allow-credentials", MZ_STR("true"));
    set_if(h, "access-control-expose-headers", TEXT(st, expose_headers));
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_cors = {
    .name = "envoy.filters.http.cors",
    .config_type = "envoy.extensions.filters.http.cors.v3.Cors",
    .route_config_type = "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = policy_build,
    .route_config_destroy = policy_destroy,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
