/* Where the tokens of a request are, and taking them out again. */
#include "filters/http/jwt_authn.h"

#include "http/query.h"

static struct mz_str percent(struct mz_str s, struct mz_arena *a)
{
    return mz_percent_decode(a, s);
}

/* ---- finding ---- */

struct search {
    const struct mz_headers *h;
    struct mz_arena *a;
    struct jwt_found *v;
    size_t n, cap;
};

static void found(struct search *s, struct mz_str token, const struct jwt_location *at)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 4;
        struct jwt_found *wider = mz_arena_alloc(s->a, cap * sizeof(*wider));
        if (s->n)
            memcpy(wider, s->v, s->n * sizeof(*wider));
        s->v = wider;
        s->cap = cap;
    }
    s->v[s->n++] = (struct jwt_found){ token, at };
}

static bool token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '_' || c == '.';
}

/* The prefix may stand anywhere in the value; what follows begins with the first character that a token may have (Envoy). */
static void header_value(struct search *s, const struct jwt_location *l, struct mz_str value)
{
    if (l->prefix.n) {
        ptrdiff_t at = mz_str_find(value, l->prefix);
        if (at < 0)
            return;
        struct mz_str rest = mz_str_skip(value, (size_t)at + l->prefix.n);
        while (rest.n && !token_char(*rest.p))
            rest = mz_str_skip(rest, 1);
        value = rest.n ? rest : value;
    }
    found(s, value, l);
}

static void in_header(struct search *s, const struct jwt_location *l)
{
    struct mz_str joined;
    if (mz_str_eq(
            l->name,
            MZ_STR(
                "authorization"))) { /* one value for every filter, as in Envoy: two tokens are none (G06) */
        if (mz_headers_joined(s->h, l->name, &joined))
            header_value(s, l, joined);
        return;
    }
    for (const struct mz_header *e = mz_headers_get(s->h, l->name); e; e = mz_headers_next(s->h, e))
        header_value(s, l, e->value);
}

static void in_query(struct search *s, const struct jwt_location *l)
{
    struct mz_str rest = mz_query_of(mz_headers_path(s->h)), name, value;
    while (mz_query_next(&rest, &name, &value))
        if (mz_str_eq(percent(name, s->a), l->name)) {
            found(s, percent(value, s->a), l);
            return; /* the first counts */
        }
}

static void in_cookies(struct search *s, const struct jwt_location *l)
{
    for (const struct mz_header *e = mz_headers_get_id(s->h, MZ_H_COOKIE); e;
         e = mz_headers_next(s->h, e)) {
        struct mz_str rest = e->value, part;
        while (mz_str_split(&rest, ';', &part)) {
            part = mz_str_trim(part);
            ptrdiff_t eq = mz_str_chr(part, '=');
            if (eq < 0 || !mz_str_eq((struct mz_str){ part.p, (size_t)eq }, l->name))
                continue;
            struct mz_str v = mz_str_skip(part, (size_t)eq + 1);
            if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
                v = (struct mz_str){ v.p + 1, v.n - 2 };
            found(s, v, l);
            return;
        }
    }
}

size_t jwt_find(const struct jwt_places *p, const struct mz_headers *h, struct mz_arena *a,
                struct jwt_found **out)
{
    struct search s = { .h = h, .a = a };
    for (size_t i = 0; i < p->n; i++) {
        const struct jwt_location *l = &p->v[i];
        if (l->kind == JWT_HEADER)
            in_header(&s, l);
        else if (l->kind == JWT_PARAM)
            in_query(&s, l);
        else
            in_cookies(&s, l);
    }
    *out = s.v;
    return s.n;
}

/* ---- taking out ---- */

/* Every parameter of the name goes; what is left stays as it was written. */
static void query_remove(struct mz_str name, struct mz_headers *h, struct mz_arena *a)
{
    struct mz_str path = mz_headers_path(h);
    ptrdiff_t mark = mz_str_chr(path, '?');
    if (mark < 0)
        return;
    struct mz_str query = mz_str_skip(path, (size_t)mark + 1), fragment = { 0 }, part;
    ptrdiff_t hash = mz_str_chr(query, '#');
    if (hash >= 0) {
        fragment = mz_str_skip(query, (size_t)hash);
        query.n = (size_t)hash;
    }
    char *out = mz_arena_alloc(a, path.n + 1);
    size_t n = (size_t)mark;
    memcpy(out, path.p, n);
    while (mz_str_split(&query, '&', &part)) {
        ptrdiff_t eq = mz_str_chr(part, '=');
        if (mz_str_eq(percent((struct mz_str){ part.p, eq < 0 ? part.n : (size_t)eq }, a), name))
            continue;
        out[n] = n == (size_t)mark ? '?' : '&';
        n++;
        if (part.n)
            memcpy(out + n, part.p, part.n);
        n += part.n;
    }
    if (fragment.n)
        memcpy(out + n, fragment.p, fragment.n);
    mz_headers_set_id(h, MZ_H_PATH, (struct mz_str){ out, n + fragment.n });
}

void jwt_remove(const struct jwt_location *at, struct mz_headers *h, struct mz_arena *a)
{
    if (at->kind == JWT_HEADER)
        (void)mz_headers_remove(h, at->name);
    else if (at->kind == JWT_PARAM)
        query_remove(at->name, h, a);
}

void jwt_reserve(const struct jwt_places *p, struct mz_headers *h)
{
    for (size_t i = 0; i < p->reserved.n; i++)
        (void)mz_headers_remove(h, p->reserved.v[i]);
}

bool jwt_location_allows(const struct jwt_location *l, struct mz_str issuer)
{
    if (l->any_issuer)
        return true;
    for (size_t i = 0; i < l->issuers.n; i++)
        if (mz_str_eq(l->issuers.v[i], issuer))
            return true;
    return false;
}

struct mz_str jwt_location_text(const struct jwt_location *l, struct mz_arena *a)
{
    static const char *const kinds[] = {
        [JWT_HEADER] = "header ", [JWT_PARAM] = "query parameter ", [JWT_COOKIE] = "cookie "
    };
    return mz_arena_cat(a, 2, (struct mz_str[]){ mz_str_c(kinds[l->kind]), l->name });
}
