#include "router/router_priv.h"

#include "http/url.h"

/*
 * Internal redirects (H8, C18): the answer of an upstream sends the request to another route without the client seeing it.
 * Refusals pass the redirect on to the client and count why.
 */

struct saved { /* what is put back when the redirect is refused */
    struct mz_str path, authority, scheme, method, original_url;
    bool had_original;
};

static bool untried(struct router *r, const char *why)
{
    mz_stream_story(stream_of(r), MZ_STEP_NO_INTERNAL_REDIRECT, MZ_STR(""), mz_str_c(why), 0, 0);
    return false;
}

static bool refused(struct router *r, enum mz_router_stat stat, const char *why)
{
    mz_count(r->cfg->scope, stat, 1);
    return untried(r, why);
}

static bool asked_for(const struct mz_internal_redirect *p, unsigned status)
{
    for (unsigned i = 0; i < p->n_codes; i++)
        if (p->codes[i] == status)
            return true;
    return false;
}

/* previous_routes: this request has been sent from a route of this name to one of that name before. */
static bool went_there(struct router *r, const struct mz_route *to)
{
    unsigned n;
    const struct mz_route *const *seen = mz_stream_redirected_routes(stream_of(r), &n);
    n = n < 16 ? n : 16;
    for (unsigned i = 0; i < n; i++) {
        const struct mz_route *target = i + 1 < n ? seen[i + 1] : r->route;
        if (mz_str_eq(seen[i]->name, r->route->name) && mz_str_eq(target->name, to->name))
            return true;
    }
    return false;
}

/* The predicates of the policy over the route that the new address has. */
static bool predicates_ok(struct router *r, const struct mz_route *to, bool cross_scheme)
{
    const struct mz_internal_redirect *p = r->route->internal_redirect;
    if (p->previous_routes && went_there(r, to))
        return false;
    if (p->allow_listed) {
        bool found = false;
        for (size_t i = 0; i < p->n_allow_list; i++)
            found |= mz_str_eq(p->allow_list[i], to->name);
        if (!found)
            return false;
    }
    return !(p->safe_cross_scheme && cross_scheme && !info_of(r)->secure);
}

static void save(const struct mz_headers *h, struct saved *out)
{
    out->path = mz_headers_path(h);
    out->authority = mz_headers_value_id(h, MZ_H_AUTHORITY);
    out->scheme = mz_headers_value_id(h, MZ_H_SCHEME);
    out->method = mz_headers_method(h);
    out->had_original = mz_headers_get_id(h, MZ_H_X_ENVOY_ORIGINAL_URL) != NULL;
}

static void restore(struct mz_headers *h, const struct saved *s)
{
    mz_headers_set_id(h, MZ_H_PATH, s->path);
    mz_headers_set_id(h, MZ_H_AUTHORITY, s->authority);
    mz_headers_set_id(h, MZ_H_SCHEME, s->scheme);
    mz_headers_set_id(h, MZ_H_METHOD, s->method);
    if (!s->had_original)
        mz_headers_remove_id(h, MZ_H_X_ENVOY_ORIGINAL_URL);
}

static void apply(struct router *r, const struct mz_url *to, const struct saved *old)
{
    struct mz_headers *h = r->headers;
    struct mz_arena *a = mz_stream_arena(stream_of(r));
    struct mz_str path = to->path;
    ptrdiff_t hash = mz_str_chr(path, '#');
    if (hash >= 0)
        path.n = (size_t)hash;
    mz_headers_set_id(
        h, MZ_H_X_ENVOY_ORIGINAL_URL,
        mz_arena_cat(a, 4,
                     (struct mz_str[]){ old->scheme, MZ_STR("://"), old->authority, old->path }));
    mz_headers_set_id(h, MZ_H_PATH,
                      path.n && path.p[0] == '/'
                          ? mz_arena_dup(a, path)
                          : mz_arena_cat(a, 2, (struct mz_str[]){ MZ_STR("/"), path }));
    mz_headers_set_id(h, MZ_H_AUTHORITY, mz_arena_dup(a, to->authority));
    mz_headers_set_id(h, MZ_H_SCHEME, mz_arena_dup(a, to->scheme));
}

/* 303 asks for a GET without the body (RFC 9110 15.4.4). */
static bool become_get(struct router *r, unsigned status, struct mz_str method)
{
    if (status != 303 || mz_str_eq(method, MZ_STR("GET")) || mz_str_eq(method, MZ_STR("HEAD")))
        return false;
    mz_headers_set_id(r->headers, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_remove_id(r->headers, MZ_H_CONTENT_LENGTH);
    mz_headers_remove_id(r->headers, MZ_H_TRANSFER_ENCODING);
    return true;
}

static bool convert(struct router *r, struct mz_headers *response, bool *out_drop_body)
{
    const struct mz_internal_redirect *p = r->route->internal_redirect;
    struct mz_stream *s = stream_of(r);
    struct mz_str location = mz_headers_value_id(response, MZ_H_LOCATION);
    struct mz_url to;
    struct saved old;
    unsigned n;
    if (!mz_headers_get_id(response, MZ_H_LOCATION))
        return untried(r, "no location");
    if (!mz_url_parse(location, &to))
        return refused(r, MZ_RS_REDIRECT_BAD_LOCATION, "bad location");
    bool https = mz_str_ieq(to.scheme, MZ_STR("https")),
         http = mz_str_ieq(to.scheme, MZ_STR("http"));
    if (!https && !http)
        return refused(r, MZ_RS_REDIRECT_UNSAFE_SCHEME, "neither http nor https");
    bool cross = https != info_of(r)->secure;
    if (cross && !p->allow_cross_scheme)
        return refused(r, MZ_RS_REDIRECT_UNSAFE_SCHEME, "other scheme");
    mz_stream_redirected_routes(s, &n);
    if (n >= p->max)
        return refused(r, MZ_RS_REDIRECT_TOO_MANY, "too many redirects");
    save(r->headers, &old);
    apply(r, &to, &old);
    *out_drop_body = become_get(r, mz_headers_status(response), old.method);
    mz_stream_clear_route_cache(s);
    const struct mz_route *route = mz_stream_route(s);
    if (!route || !predicates_ok(r, route, cross)) {
        restore(r->headers, &old);
        mz_stream_clear_route_cache(s);
        (void)mz_stream_route(s); /* the old one again: logs and statistics show it */
        return route ? refused(r, MZ_RS_REDIRECT_PREDICATE, "a predicate of the policy")
                     : refused(r, MZ_RS_REDIRECT_NO_ROUTE, "no route for the new address");
    }
    for (size_t i = 0; i < p->n_copy_headers; i++) {
        struct mz_header *e = mz_headers_get(response, p->copy_headers[i]);
        if (e)
            mz_headers_set(r->headers, p->copy_headers[i], e->value);
        else
            mz_headers_remove(r->headers, p->copy_headers[i]);
    }
    return true;
}

bool redirect_try(struct router *r, struct attempt *a, struct mz_headers *response)
{
    const struct mz_internal_redirect *p = r->route->internal_redirect;
    unsigned status = mz_headers_status(response);
    if (!asked_for(p, status))
        return false;
    bool drop_body = false;
    bool whole = r->request_end && (r->keep_body || info_of(r)->rx_body == 0) && !r->trailers;
    if (!whole || !convert(r, response, &drop_body)) {
        mz_count(r->cluster->scope, MZ_CS_INTERNAL_REDIRECT_FAILED, 1);
        return false;
    }
    mz_count(r->cluster->scope, MZ_CS_INTERNAL_REDIRECT_SUCCEEDED, 1);
    mz_stream_story(stream_of(r), MZ_STEP_INTERNAL_REDIRECT, MZ_STR(""),
                    mz_headers_path(r->headers), 0, 0);
    info_of(r)->details = "internal_redirect";
    attempt_drop(a);
    struct mz_buf body;
    mz_buf_init(&body);
    if (!drop_body)
        mz_buf_move_all(&body, &r->body);
    mz_stream_recreate(stream_of(r), r->route, &body, response);
    mz_buf_fini(&body);
    return true;
}
