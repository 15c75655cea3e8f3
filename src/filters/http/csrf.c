#include "filters/http/fraction.h"
#include "filters/http/http_filters.h"
#include "http/url.h"
#include "observe/matcher.h"

/* csrf: requests that change something must come from a page of their own target, or of an additional origin (H9). */

enum { MISSING_SOURCE_ORIGIN, REQUEST_INVALID, REQUEST_VALID };
static const struct mz_stat_def stat_defs[] = {
    [MISSING_SOURCE_ORIGIN] = { "missing_source_origin", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REQUEST_INVALID] = { "request_invalid", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REQUEST_VALID] = { "request_valid", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "csrf", stat_defs, MZ_COUNT(stat_defs) };

struct csrf_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope; /* of the filter; a route's policy has none */
    struct mz_fraction enabled, shadow;
    struct mz_string_match **origins;
    struct mz_str *origin_texts; /* "additional_origins[0]: exact friend.test" */
    size_t n_origins;
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct csrf_cfg *c = cfg;
    for (size_t i = 0; i < c->n_origins; i++)
        mz_string_match_destroy(c->origins[i]);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool origins_build(const pb_CsrfPolicy *m, struct csrf_cfg *c, struct mz_err *err)
{
    c->origins =
        mz_arena_alloc0(c->arena, m->n_additional_origins * sizeof(struct mz_string_match *));
    c->origin_texts = mz_arena_alloc0(c->arena, m->n_additional_origins * sizeof(*c->origin_texts));
    for (size_t i = 0; i < m->n_additional_origins; i++) {
        c->origins[i] = mz_string_match_build(m->additional_origins[i], err);
        if (!c->origins[i])
            return mz_err_at(err, "additional_origins[%zu]", i);
        c->n_origins++;
        c->origin_texts[i] = mz_arena_printf(c->arena, "additional_origins[%zu]: %s", i,
                                             mz_string_match_text(c->origins[i]));
    }
    return true;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_CsrfPolicy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct csrf_cfg *c = mz_arena_new0(a, struct csrf_cfg);
    c->arena = a;
    c->enabled = fraction_build(m->filter_enabled, true, a);
    c->shadow = fraction_build(m->shadow_enabled, false, a);
    if (origins_build(m, c, err))
        return c;
    config_destroy(c);
    return NULL;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    struct csrf_cfg *c = route_config_build(msg, f, err);
    if (!c)
        return NULL;
    struct mz_str prefix = mz_arena_cat(
        c->arena, 3, (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".csrf.") });
    c->scope = mz_scope_create(f->stats, &stats, prefix);
    return c;
}

/* ---- at work ---- */

static bool changes_something(struct mz_str method)
{
    static const struct mz_str methods[] = { MZ_STR_INIT("POST"), MZ_STR_INIT("PUT"),
                                             MZ_STR_INIT("DELETE"), MZ_STR_INIT("PATCH") };
    for (size_t i = 0; i < MZ_COUNT(methods); i++)
        if (mz_str_eq(method, methods[i]))
            return true;
    return false;
}

/* Host and port of a URL; a text that is none stands for itself. */
static struct mz_str host_and_port(struct mz_str text)
{
    struct mz_url u;
    return mz_url_parse(text, &u) ? u.authority : text;
}

static struct mz_str source_origin(const struct mz_headers *h)
{
    struct mz_str v;
    if (mz_headers_joined(h, MZ_STR("origin"), &v) && v.n)
        return mz_str_eq(v, MZ_STR("null")) ? MZ_STR("") : host_and_port(v);
    return mz_headers_joined(h, MZ_STR("referer"), &v) ? host_and_port(v) : MZ_STR("");
}

/* The rule that lets the request pass; empty: none does. */
static struct mz_str allowed_by(const struct csrf_cfg *c, struct mz_str source,
                                struct mz_str target)
{
    if (mz_str_eq(source, target))
        return MZ_STR("source origin is the target");
    for (size_t i = 0; i < c->n_origins; i++)
        if (mz_string_match(c->origins[i], source))
            return c->origin_texts[i];
    return MZ_STR("");
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    const struct csrf_cfg *own = f->cfg, *c = f->route_cfg ? f->route_cfg : f->cfg;
    if (!changes_something(mz_headers_method(h)))
        return MZ_FLOW_CONTINUE;
    bool enabled = fraction_holds(&c->enabled, f);
    if (!enabled && !fraction_holds(&c->shadow, f))
        return MZ_FLOW_CONTINUE;
    struct mz_str source = source_origin(h);
    struct mz_str target = mz_headers_value_id(h, MZ_H_AUTHORITY);
    struct mz_str rule = allowed_by(c, source, target);
    if (!source.n)
        mz_count(own->scope, MISSING_SOURCE_ORIGIN, 1);
    else if (!rule.n)
        mz_count(own->scope, REQUEST_INVALID, 1);
    if (source.n && rule.n) {
        mz_count(own->scope, REQUEST_VALID, 1);
        mz_stream_story(f->stream, MZ_STEP_RULE, f->name, rule, 0, 0);
        return MZ_FLOW_CONTINUE;
    }
    struct mz_str why = mz_arena_cat(
        mz_stream_arena(f->stream), 4,
        (struct mz_str[]){ MZ_STR("source origin '"), source, MZ_STR("' is not target "), target });
    mz_stream_story(f->stream, MZ_STEP_RULE, f->name, why, 0, 0);
    if (!enabled)
        return MZ_FLOW_CONTINUE;
    mz_stream_story(f->stream, MZ_STEP_FILTER, f->name, MZ_STR("csrf_origin_mismatch"), 0, 0);
    mz_stream_local_reply(f->stream, &(struct mz_local_reply){ .status = 403,
                                                               .body = MZ_STR("Invalid origin"),
                                                               .details = "csrf_origin_mismatch" });
    return MZ_FLOW_STOP;
}

const struct mz_http_filter_type mz_filter_csrf = {
    .name = "envoy.filters.http.csrf",
    .config_type = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
};
