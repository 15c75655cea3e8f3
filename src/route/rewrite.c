#include "route/route_priv.h"

struct mz_str path_only(struct mz_str path)
{
    const char *mark = path.n ? memchr(path.p, '?', path.n) : NULL;
    if (mark)
        path.n = (size_t)(mark - path.p);
    mark = path.n ? memchr(path.p, '#', path.n) : NULL;
    if (mark)
        path.n = (size_t)(mark - path.p);
    return path;
}

static struct mz_str formatted(const struct mz_format *f, const struct mz_format_ctx *c,
                               struct mz_arena *a)
{
    struct mz_buf buf;
    mz_buf_init(&buf);
    mz_format_append(f, c, &buf);
    struct mz_str out = mz_arena_dup(a, mz_buf_linearize(&buf, mz_buf_len(&buf)));
    mz_buf_fini(&buf);
    return out;
}

/* How much of the path the route's own match covers, and so a prefix rewrite replaces. False: its text is not what the path
 * begins with, as parameters that the match ignored stand in between. */
static bool matched_bytes(const struct route_priv *p, struct mz_str only, size_t *out_n)
{
    bool literal = p->kind == PATH_PREFIX || p->kind == PATH_SEPARATED || p->kind == PATH_EXACT;
    *out_n = literal ? p->path.n : only.n;
    return !literal || (p->nocase ? mz_str_istarts(only, p->path) : mz_str_starts(only, p->path));
}

struct mz_str path_rewritten(const struct path_rewrite *w, const struct mz_route *r,
                             struct mz_str path, const struct mz_format_ctx *c, struct mz_arena *a)
{
    const struct route_priv *p = r->priv;
    struct mz_str only = path_only(path), parts[2] = { { 0 }, mz_str_skip(path, only.n) };
    size_t n;
    switch (w->kind) {
    case REWRITE_PREFIX:
        if (!matched_bytes(p, only, &n))
            break;
        parts[0] = w->with;
        parts[1] = mz_str_skip(path, n);
        break;
    case REWRITE_REGEX:
        parts[0] = mz_regex_replace(w->regex, only, w->with, a);
        break;
    case REWRITE_TEMPLATE:
        parts[0] = mz_uri_rewrite_apply(w->tpl, p->tpl, only, a);
        break;
    case REWRITE_FORMAT:
        parts[0] = formatted(w->format, c, a);
        break;
    }
    return parts[0].n ? mz_arena_cat(a, 2, parts) : (struct mz_str){ 0 };
}

void mz_route_set_host(struct mz_headers *h, struct mz_str host, bool append_forwarded_host,
                       bool insert_original)
{
    struct mz_str old = mz_headers_value_id(h, MZ_H_AUTHORITY);
    if (insert_original && old.n)
        mz_headers_set_id(h, MZ_H_X_ENVOY_ORIGINAL_HOST, old);
    if (append_forwarded_host && old.n)
        mz_headers_append_id(h, MZ_H_X_FORWARDED_HOST, old, ",");
    mz_headers_set_id(h, MZ_H_AUTHORITY, mz_arena_dup(h->arena, host));
}

static struct mz_str new_host(const struct mz_route *r, const struct mz_headers *h,
                              const struct mz_format_ctx *c, struct mz_arena *a)
{
    const struct route_priv *p = r->priv;
    if (r->host_rewrite.n)
        return r->host_rewrite;
    if (r->host_rewrite_header.n) {
        const struct mz_header *e = mz_headers_get(h, r->host_rewrite_header);
        return e ? e->value : (struct mz_str){ 0 };
    }
    if (r->host_rewrite_path_regex)
        return mz_regex_replace(r->host_rewrite_path_regex, path_only(mz_headers_path(h)),
                                r->host_rewrite_path_with, a);
    return p->host_format ? formatted(p->host_format, c, a) : (struct mz_str){ 0 };
}

/* The levels of a route from the one whose mutations come first to the one whose come last. */
struct levels {
    const struct mz_header_mutations *v[4];
    unsigned n;
};
static struct levels levels_of(const struct mz_route *r, const struct mz_weighted_cluster *w,
                               bool request)
{
    const struct mz_vhost *v = r->vhost;
    const struct mz_route_table *t = v->table;
    const struct mz_header_mutations *route = request ? &r->req : &r->resp,
                                     *vhost = request ? &v->req : &v->resp,
                                     *table = request ? &t->req : &t->resp;
    struct levels l = { .n = 0 };
    if (w)
        l.v[l.n++] = request ? &w->req : &w->resp;
    l.v[l.n++] = t->most_specific_wins ? table : route;
    l.v[l.n++] = vhost;
    l.v[l.n++] = t->most_specific_wins ? route : table;
    return l;
}

static inline bool does_something(const struct mz_header_mutations *m)
{
    return m->n_remove | m->n_add;
}

/* Most routes change nothing at any level. */
static inline bool none_do(const struct mz_route *r, const struct mz_weighted_cluster *w,
                           bool request)
{
    const struct mz_vhost *v = r->vhost;
    return request ? !w && !does_something(&r->req) && !does_something(&v->req) &&
                         !does_something(&v->table->req)
                   : !w && !does_something(&r->resp) && !does_something(&v->resp) &&
                         !does_something(&v->table->resp);
}

static void mutations_apply(const struct mz_route *r, const struct mz_weighted_cluster *w,
                            bool request, struct mz_headers *h, const struct mz_format_ctx *c)
{
    if (none_do(r, w, request))
        return;
    struct levels l = levels_of(r, w, request);
    for (unsigned i = 0; i < l.n; i++)
        if (does_something(l.v[i]))
            mz_header_mutations_apply(l.v[i], h, c);
}

static void set_path(struct mz_headers *h, struct mz_str path, bool insert_original)
{
    if (!path.n)
        return;
    if (insert_original)
        mz_headers_set_id(h, MZ_H_X_ENVOY_ORIGINAL_PATH, mz_headers_path(h));
    mz_headers_set_id(h, MZ_H_PATH, path);
}

void mz_route_finalize_request(const struct mz_route *r, const struct mz_weighted_cluster *w,
                               struct mz_headers *h, const struct mz_format_ctx *c,
                               struct mz_arena *a, bool insert_original)
{
    const struct route_priv *p = r->priv;
    mutations_apply(r, w, true, h, c);
    if (w && w->host_rewrite.n)
        mz_headers_set_id(h, MZ_H_AUTHORITY, mz_arena_dup(a, w->host_rewrite));
    struct mz_str host = new_host(r, h, c, a);
    if (host.n)
        mz_route_set_host(h, host, r->append_x_forwarded_host, insert_original);
    if (p->rewrite)
        set_path(h, path_rewritten(p->rewrite, r, mz_headers_path(h), c, a), insert_original);
}

void mz_route_finalize_response(const struct mz_route *r, const struct mz_weighted_cluster *w,
                                struct mz_headers *h, const struct mz_format_ctx *c)
{
    mutations_apply(r, w, false, h, c);
}

/* ---- redirects ---- */

static size_t port_at(struct mz_str host) /* of the ':'; host.n when there is none */
{
    ptrdiff_t colon = mz_str_rchr(host, ':');
    bool inside = host.n && host.p[0] == '[' && mz_str_rchr(host, ']') > colon;
    return colon < 0 || inside ? host.n : (size_t)colon;
}

/* The request's host as it goes with the new scheme: ":80" leaves when http becomes something else, ":443" likewise. */
static struct mz_str redirect_host(const struct redirect *d, struct mz_str scheme,
                                   const struct mz_headers *h)
{
    struct mz_str host = mz_headers_value_id(h, MZ_H_AUTHORITY);
    size_t at = port_at(host);
    struct mz_str port = mz_str_skip(host, at),
                  proto = mz_headers_value_id(h, MZ_H_X_FORWARDED_PROTO);
    bool drop = d->port.n > 0;
    if (!mz_str_eq(scheme, proto))
        drop |= (mz_str_eq(proto, MZ_STR("https")) && mz_str_eq(port, MZ_STR(":443"))) ||
                (mz_str_eq(proto, MZ_STR("http")) && mz_str_eq(port, MZ_STR(":80")));
    return drop && !d->keep_port ? (struct mz_str){ host.p, at } : host;
}

static struct mz_str redirect_path(const struct redirect *d, const struct mz_headers *h,
                                   struct mz_arena *a)
{
    struct mz_str path = mz_headers_path(h);
    ptrdiff_t mark = mz_str_chr(path, '?');
    struct mz_str query = mark < 0 ? MZ_STR("") : mz_str_skip(path, (size_t)mark);
    if (d->path.n)
        path =
            d->path_has_query ? d->path : mz_arena_cat(a, 2, (struct mz_str[]){ d->path, query });
    mark = d->strip_query && !d->path_has_query ? mz_str_chr(path, '?') : -1;
    return mark < 0 ? path : (struct mz_str){ path.p, (size_t)mark };
}

void mz_route_rewrite_redirected(const struct mz_route *r, struct mz_headers *h, struct mz_arena *a,
                                 bool insert_original)
{
    const struct redirect *d = ((const struct route_priv *)r->priv)->redirect;
    if (d && d->rewrite)
        set_path(h, path_rewritten(d->rewrite, r, mz_headers_path(h), NULL, a), insert_original);
}

struct mz_str mz_route_redirect_location(const struct mz_route *r, const struct mz_headers *h,
                                         struct mz_arena *a)
{
    static const struct redirect unchanged = {
        0
    }; /* a direct response of 201 names the URL itself */
    const struct route_priv *p = r->priv;
    const struct redirect *d = p->redirect ? p->redirect : &unchanged;
    struct mz_str scheme = d->scheme.n ? d->scheme : mz_headers_value_id(h, MZ_H_SCHEME);
    if (!scheme.n)
        scheme = mz_headers_value_id(h, MZ_H_X_FORWARDED_PROTO);
    struct mz_str host = d->host.n ? d->host : redirect_host(d, scheme, h);
    struct mz_str path = redirect_path(d, h, a);
    struct mz_str slash = path.n && path.p[0] == '/' ? MZ_STR("") : MZ_STR("/");
    return mz_arena_cat(a, 6,
                        (struct mz_str[]){ scheme, MZ_STR("://"), host, d->port, slash, path });
}
