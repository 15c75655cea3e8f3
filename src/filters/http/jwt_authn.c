#include "filters/http/jwt_authn.h"

#include "filters/http/http_filters.h"

/* jwt_authn (H9): requests need the tokens that rules ask for. The check stands in jwt_authn_check.c; here is which rule counts,
 * and what a client is told. */

struct state {
    struct mz_filter base;
    struct jwt_check check;
    enum { CALLING, RESPONDED, COMPLETE } at;
    struct mz_str uri; /* of the request as it came, for www-authenticate */
    bool stopped;
};

/* ---- answers ---- */

static const struct jwt_cfg *cfg_of(const struct state *st)
{
    return st->base.cfg;
}

/* "jwt_authn_access_denied{Jwt_is_missing}" */
static const char *details_of(struct mz_str reason, struct mz_arena *a)
{
    struct mz_str s = mz_arena_cat(
        a, 3, (struct mz_str[]){ MZ_STR("jwt_authn_access_denied{"), reason, MZ_STR("}") });
    for (char *p = (char *)(uintptr_t)s.p; p < s.p + s.n; p++)
        if (*p == ' ')
            *p = '_';
    return s.p;
}

#define URI_MAX 256 /* bytes of the path that a realm shows */

/* Quotes and backslashes are escaped: the text goes between quotes. */
static struct mz_str original_uri(const struct mz_headers *h, struct mz_arena *a)
{
    struct mz_str path = mz_headers_value_id(h, MZ_H_X_ENVOY_ORIGINAL_PATH);
    if (!path.n)
        path = mz_headers_path(h);
    if (path.n > URI_MAX)
        path.n = URI_MAX;
    struct mz_str whole =
        mz_arena_cat(a, 4,
                     (struct mz_str[]){ mz_headers_value_id(h, MZ_H_SCHEME), MZ_STR("://"),
                                        mz_headers_value_id(h, MZ_H_AUTHORITY), path });
    char *out = mz_arena_alloc(a, 3 * whole.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < whole.n; i++) {
        char c = whole.p[i];
        bool plain = c != '"' && c != '\\';
        if (plain)
            out[n++] = c;
        else
            n += (size_t)(stpcpy(out + n, c == '"' ? "%22" : "%5C") - (out + n));
    }
    return (struct mz_str){ out, n };
}

struct challenge {
    const struct state *st;
    bool invalid;
};

static void add_challenge(struct mz_headers *h, void *arg)
{
    const struct challenge *c = arg;
    struct mz_str tail = c->invalid ? MZ_STR("\", error=\"invalid_token\"") : MZ_STR("\"");
    mz_headers_set(h, MZ_STR("www-authenticate"),
                   mz_arena_cat(mz_stream_arena(c->st->base.stream), 3,
                                (struct mz_str[]){ MZ_STR("Bearer realm=\""), c->st->uri, tail }));
}

static void deny(struct state *st, unsigned status, struct mz_str reason, struct mz_str body,
                 struct challenge *challenge)
{
    struct mz_stream *s = st->base.stream;
    const char *details = details_of(reason, mz_stream_arena(s));
    mz_count(cfg_of(st)->scope, JWT_DENIED, 1);
    st->at = RESPONDED;
    mz_stream_story(s, MZ_STEP_FILTER, st->base.name, mz_str_c(details), 0, 0);
    struct mz_local_reply r = { .status = status, .details = details };
    if (!cfg_of(st)->strip) {
        r.body = body;
        r.modify = challenge ? add_challenge : NULL;
        r.modify_arg = challenge;
    }
    mz_stream_local_reply(s, &r);
}

static void allow(struct state *st)
{
    mz_count(cfg_of(st)->scope, JWT_ALLOWED, 1);
    st->at = COMPLETE;
}

static void check_done(struct jwt_check *c, enum mz_jwt_status s)
{
    struct state *st = MZ_CONTAINER(c, struct state, check);
    if (c->clear_route)
        mz_stream_clear_route_cache(st->base.stream);
    if (s == MZ_JWT_OK) {
        allow(st);
        if (st->stopped)
            mz_filter_continue_request(&st->base);
        return;
    }
    struct mz_str text = mz_str_c(mz_jwt_status_text(s));
    struct challenge ch = { st, s != MZ_JWT_MISSING };
    deny(st, s == MZ_JWT_AUDIENCE ? 403 : 401, text, text, &ch);
}

/* ---- which requirement counts ---- */

static bool is_preflight(const struct mz_headers *h)
{
    return mz_str_eq(mz_headers_method(h), MZ_STR("OPTIONS")) &&
           mz_headers_value_id(h, MZ_H_ORIGIN).n &&
           mz_headers_value_id(h, MZ_H_ACCESS_CONTROL_REQUEST_METHOD).n;
}

static const struct jwt_tree *tree_by_state(struct mz_filter *f)
{
    const struct jwt_cfg *cfg = f->cfg;
    struct mz_stream_info *info = mz_stream_info(f->stream);
    const struct mz_filter_object *o = cfg->state_name.n && info->filter_state
                                           ? mz_map_get(info->filter_state, cfg->state_name)
                                           : NULL;
    if (!o || !o->text)
        return NULL;
    return mz_map_get(&cfg->by_state, o->text(o, info->arena));
}

static const struct jwt_tree *tree_by_rule(struct mz_filter *f, const struct mz_headers *h)
{
    const struct jwt_cfg *cfg = f->cfg;
    for (size_t i = 0; i < cfg->n_rules; i++)
        if (mz_route_match(cfg->rules[i].match, h)) {
            mz_stream_story(f->stream, MZ_STEP_RULE, f->name, cfg->rules[i].text, 0, 0);
            return cfg->rules[i].tree;
        }
    return tree_by_state(f);
}

/* False: the route names a requirement that there is not. */
static bool tree_by_route(const struct state *st, const struct jwt_tree **out)
{
    const struct jwt_route_cfg *r = st->base.route_cfg;
    *out = NULL;
    if (r->disabled)
        return true;
    *out = mz_map_get(&cfg_of(st)->named, r->requirement);
    return *out != NULL;
}

static void deny_wrong_name(struct state *st)
{
    const struct jwt_route_cfg *r = st->base.route_cfg;
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    struct mz_str reason = mz_arena_cat(
        a, 5,
        (struct mz_str[]){ MZ_STR("Wrong requirement_name: "), r->requirement,
                           MZ_STR(". It should be one of ["), cfg_of(st)->names, MZ_STR("]") });
    struct mz_str body =
        mz_arena_cat(a, 2, (struct mz_str[]){ MZ_STR("Failed JWT authentication: "), reason });
    deny(st, 403, reason, body, NULL);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct jwt_tree *tree = NULL;
    jwt_reserve(&cfg_of(st)->everywhere,
                h); /* also where nothing is asked: nobody vouches for them */
    if (cfg_of(st)->bypass_cors && is_preflight(h)) {
        mz_count(cfg_of(st)->scope, JWT_CORS_BYPASSED, 1);
    } else if (f->route_cfg) {
        if (!tree_by_route(st, &tree)) {
            deny_wrong_name(st);
            return MZ_FLOW_STOP;
        }
    } else {
        tree = tree_by_rule(f, h);
    }
    if (!tree) {
        allow(st);
        return MZ_FLOW_CONTINUE;
    }
    st->uri = original_uri(h, mz_stream_arena(f->stream));
    st->check = (struct jwt_check){ .cfg = f->cfg, .filter = f, .tree = tree, .done = check_done };
    jwt_check_start(&st->check);
    if (st->at == COMPLETE)
        return MZ_FLOW_CONTINUE;
    st->stopped = true;
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    (void)data, (void)end;
    const struct state *st = (const struct state *)(const void *)f;
    return st->at == CALLING ? MZ_FLOW_STOP_AND_WATERMARK : MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    const struct state *st = (const struct state *)(const void *)f;
    return st->at == CALLING ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    jwt_check_cancel(&((struct state *)(void *)f)->check);
}

const struct mz_http_filter_type mz_filter_jwt_authn = {
    .name = "envoy.filters.http.jwt_authn",
    .config_type = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
    .route_config_type = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
    .size = sizeof(struct state),
    .config_build = jwt_config_build,
    .config_destroy = jwt_config_destroy,
    .route_config_build = jwt_route_config_build,
    .route_config_destroy = jwt_route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_destroy = on_destroy,
};
