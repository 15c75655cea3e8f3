#include "http/grpc.h"
#include "route/route_priv.h"

static bool literal_matches(const struct route_priv *p, struct mz_str path)
{
    bool starts = p->nocase ? mz_str_istarts(path, p->path) : mz_str_starts(path, p->path);
    if (!starts || p->kind == PATH_PREFIX || path.n == p->path.n)
        return starts;
    return p->kind == PATH_SEPARATED && path.p[p->path.n] == '/';
}

static bool path_matches(const struct route_priv *p, const struct match_req *m)
{
    switch ((enum path_kind)p->kind) {
    case PATH_PREFIX:
    case PATH_EXACT:
    case PATH_SEPARATED:
        return m->full.n && literal_matches(p, m->path);
    case PATH_REGEX:
        return m->full.n && mz_regex_full(p->regex, m->path);
    case PATH_TEMPLATE:
        return m->full.n &&
               mz_uri_template_match(p->tpl, path_only(m->full)); /* parameters and all */
    case PATH_CONNECT:
        return mz_str_eq(mz_headers_method(m->q->h), MZ_STR("CONNECT"));
    }
    return false;
}

bool query_get(struct mz_str query, struct mz_str name, struct mz_str *out_value)
{
    for (struct mz_str part; mz_str_split(&query, '&', &part);) {
        ptrdiff_t eq = mz_str_chr(part, '=');
        struct mz_str key = { part.p, eq < 0 ? part.n : (size_t)eq };
        if (!mz_str_eq(key, name))
            continue;
        *out_value = eq < 0 ? MZ_STR("") : mz_str_skip(part, (size_t)eq + 1);
        return true;
    }
    return false;
}

/* Behind the '?' of @path, without a fragment. */
static struct mz_str query_of(struct mz_str path)
{
    ptrdiff_t mark = mz_str_chr(path, '?');
    struct mz_str query = mark < 0 ? MZ_STR("") : mz_str_skip(path, (size_t)mark + 1);
    ptrdiff_t hash = mz_str_chr(query, '#');
    return (struct mz_str){ query.p, hash < 0 ? query.n : (size_t)hash };
}

static bool query_matches(const struct query_match *q, struct mz_str query)
{
    struct mz_str value;
    bool present = query_get(query, q->name, &value);
    return q->value ? present && mz_string_match(q->value, value) : present != q->absent;
}

static struct mz_str unquoted(struct mz_str v)
{
    if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
        return (struct mz_str){ v.p + 1, v.n - 2 };
    return v;
}

bool cookie_get(const struct mz_headers *h, struct mz_str name, struct mz_str *out_value)
{
    for (const struct mz_header *e = mz_headers_get_id(h, MZ_H_COOKIE); e;
         e = mz_headers_next(h, e)) {
        struct mz_str rest = e->value;
        for (struct mz_str part; mz_str_split(&rest, ';', &part);) {
            part = mz_str_trim(part);
            ptrdiff_t eq = mz_str_chr(part, '=');
            if (eq < 0 || !mz_str_eq((struct mz_str){ part.p, (size_t)eq }, name))
                continue;
            *out_value = unquoted(mz_str_skip(part, (size_t)eq + 1));
            return true;
        }
    }
    return false;
}

static bool cookie_matches(const struct cookie_match *c, const struct mz_headers *h)
{
    struct mz_str value;
    return (cookie_get(h, c->name, &value) && mz_string_match(c->value, value)) != c->invert;
}

static bool certs_match(const struct match_more *x, const struct mz_route_query *q)
{
    return (x->cert_presented < 0 || x->cert_presented == (int8_t)q->cert_presented) &&
           (x->cert_validated < 0 || x->cert_validated == (int8_t)q->cert_validated);
}

/* A loop over one kind of condition that stops at the first that does not hold. */
#define FIRST_MISS(n, holds, why)                                                                  \
    for (unsigned i = 0; i < (n); i++)                                                             \
        if (!(holds)) {                                                                            \
            *out_i = i;                                                                            \
            return (why);                                                                          \
        }

static enum miss more_misses(const struct match_more *x, const struct match_req *m, unsigned *out_i)
{
    const struct mz_route_query *q = m->q;
    if (x->has_fraction && !mz_runtime_fraction(mz_runtime_here(), &x->fraction, q->random))
        return MISS_RUNTIME;
    if (x->grpc && !mz_is_grpc(q->h))
        return MISS_GRPC;
    FIRST_MISS(x->n_headers, mz_header_match(x->headers[i], q->h), MISS_HEADER)
    FIRST_MISS(x->n_queries, query_matches(&x->queries[i], query_of(m->full)), MISS_QUERY)
    FIRST_MISS(x->n_cookies, cookie_matches(&x->cookies[i], q->h), MISS_COOKIE)
    if (x->tls && !certs_match(x, q))
        return MISS_TLS;
    FIRST_MISS(x->n_metadata, mz_metadata_match(x->metadata[i], q->dynamic_metadata), MISS_METADATA)
    return MISS_NONE;
}

bool route_matches(const struct mz_route *r, const struct match_req *m, enum miss *out_why,
                   unsigned *out_i)
{
    const struct route_priv *p = r->priv;
    *out_i = 0;
    if (!path_matches(p, m))
        *out_why = MISS_PATH;
    else
        *out_why = p->more ? more_misses(p->more, m, out_i) : MISS_NONE;
    return *out_why == MISS_NONE;
}

/* ---- texts for the story ---- */

static struct mz_str cat2(struct mz_arena *a, const char *x, struct mz_str y)
{
    return mz_arena_cat(a, 2, (struct mz_str[]){ mz_str_c(x), y });
}

static const struct mz_str kinds[] = {
    [PATH_PREFIX] = MZ_STR_INIT("prefix "),
    [PATH_EXACT] = MZ_STR_INIT("path "),
    [PATH_SEPARATED] = MZ_STR_INIT("path-separated prefix "),
    [PATH_REGEX] = MZ_STR_INIT("regex "),
    [PATH_TEMPLATE] = MZ_STR_INIT("template "),
    [PATH_CONNECT] = MZ_STR_INIT("CONNECT"),
};

void route_set_path(struct route_priv *p, enum path_kind kind, const char *text, struct mz_arena *a)
{
    p->kind = (uint8_t)kind;
    p->path = mz_str_skip(mz_arena_cat(a, 2, (struct mz_str[]){ kinds[kind], mz_str_c(text) }),
                          kinds[kind].n);
}

struct mz_str route_match_text(const struct mz_route *r)
{
    const struct route_priv *p = r->priv;
    return (struct mz_str){ p->path.p - kinds[p->kind].n, p->path.n + kinds[p->kind].n };
}

struct mz_str route_miss_text(const struct mz_route *r, enum miss why, unsigned i,
                              struct mz_arena *a)
{
    const struct route_priv *p = r->priv;
    switch (why) {
    case MISS_NONE:
        break;
    case MISS_PATH:
        return route_match_text(r);
    case MISS_RUNTIME:
        return cat2(a, "runtime fraction ", p->more->fraction.key);
    case MISS_GRPC:
        return MZ_STR("not gRPC");
    case MISS_HEADER:
        return mz_str_c(mz_header_match_text(p->more->headers[i]));
    case MISS_QUERY:
        return cat2(a, "query parameter ", p->more->queries[i].name);
    case MISS_COOKIE:
        return cat2(a, "cookie ", p->more->cookies[i].name);
    case MISS_TLS:
        return MZ_STR("client certificate");
    case MISS_METADATA:
        return MZ_STR("dynamic metadata");
    }
    return (struct mz_str){ 0 };
}

/* ---- first match wins ---- */

#define KEEP_MISSES 3 /* the last ones that did not match are told; the others counted */
struct misses {
    struct {
        uint32_t route;
        unsigned i;
        enum miss why;
    } last[KEEP_MISSES];
    unsigned n;
};

static void story(const struct mz_vhost *v, const struct match_req *m, const struct misses *x,
                  const struct mz_route *r)
{
    const struct mz_route_query *q = m->q;
    unsigned keep = x->n < KEEP_MISSES ? x->n : KEEP_MISSES;
    int64_t before =
        r ? (int64_t)r->index : (int64_t)v->n_routes; /* by index: some were never looked at */
    for (unsigned k = x->n - keep; k < x->n; k++) {
        const struct mz_route *miss = v->routes[x->last[k % KEEP_MISSES].route];
        struct mz_str why = route_miss_text(miss, x->last[k % KEEP_MISSES].why,
                                            x->last[k % KEEP_MISSES].i, q->arena);
        mz_note(q->decision, q->now_us, NOT_ROUTE, miss->name, why, (int64_t)miss->index, 0);
    }
    if (before > (int64_t)keep) {
        mz_note(q->decision, q->now_us, MORE_ROUTES, (struct mz_str){ 0 }, (struct mz_str){ 0 },
                before - keep, 0);
        q->decision->routes_skipped =
            (uint16_t)(before - keep > UINT16_MAX ? UINT16_MAX : before - keep);
    }
    if (r)
        mz_note(q->decision, q->now_us, ROUTE, r->name, route_match_text(r), (int64_t)r->index, 0);
    else
        mz_note(q->decision, q->now_us, NO_ROUTE, v->name, (struct mz_str){ 0 }, 0, 0);
}

static bool try_route(const struct mz_vhost *v, const struct match_req *m, uint32_t i,
                      struct misses *x)
{
    enum miss why;
    unsigned nth;
    if (route_matches(v->routes[i], m, &why, &nth))
        return true;
    x->last[x->n % KEEP_MISSES].route = i;
    x->last[x->n % KEEP_MISSES].why = why;
    x->last[x->n % KEEP_MISSES].i = nth;
    x->n++;
    return false;
}

static const struct mz_route *search_all(const struct mz_vhost *v, const struct match_req *m,
                                         struct misses *x)
{
    for (uint32_t i = 0; i < v->n_routes; i++)
        if (try_route(v, m, i, x))
            return v->routes[i];
    return NULL;
}

/* Candidates of the index in the order of the configuration. */
static const struct mz_route *search_index(const struct mz_vhost *v,
                                           const struct route_index *index,
                                           const struct match_req *m, struct misses *x)
{
    struct route_cursor c[INDEX_MAX_CURSORS] MZ_UNINIT;
    unsigned n = route_index_find(index, m->path, c);
    for (;;) {
        struct route_cursor *least = n && c[0].v != c[0].end ? &c[0] : NULL;
        for (unsigned k = 1; k < n; k++)
            if (c[k].v != c[k].end && (!least || *c[k].v < *least->v))
                least = &c[k];
        if (!least)
            return NULL;
        if (try_route(v, m, *least->v, x))
            return v->routes[*least->v];
        least->v++;
    }
}

const struct mz_route *vhost_route(const struct mz_vhost *v, const struct match_req *m)
{
    const struct vhost_priv *p = v->priv;
    struct misses x MZ_UNINIT;
    x.n = 0;
    const struct mz_route *r =
        p && p->index ? search_index(v, p->index, m, &x) : search_all(v, m, &x);
    if (m->q->decision)
        story(v, m, &x, r);
    return r;
}
