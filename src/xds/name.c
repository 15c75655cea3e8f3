/* Names of xDS-TP: reading, canonical form. */
#include "xds/name.h"

#include <stdlib.h>

#include "base/percent.h"

#define NAME_SHOWN 200 /* bytes of a name in an error */

static struct mz_str shown(struct mz_str s)
{
    return (struct mz_str){ s.p, s.n > NAME_SHOWN ? NAME_SHOWN : s.n };
}

/* What stands between the scheme and the first '/' behind it, and the rest; all of it authority where there is no '/'. */
static void split_uri(struct mz_str text, struct mz_str *out_authority, struct mz_str *out_path)
{
    ptrdiff_t at = mz_str_find(text, MZ_STR("://"));
    struct mz_str rest = mz_str_skip(text, at < 0 ? 0 : (size_t)at + 3);
    ptrdiff_t slash = mz_str_chr(rest, '/');
    *out_authority = (struct mz_str){ rest.p, slash < 0 ? rest.n : (size_t)slash };
    *out_path = slash < 0 ? MZ_STR("/") : mz_str_skip(rest, (size_t)slash);
}

static const struct mz_xds_param *param_get(const struct mz_xds_params *p, struct mz_str key)
{
    for (size_t i = 0; i < p->n; i++)
        if (mz_str_eq(p->v[i].key, key))
            return &p->v[i];
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    const struct mz_xds_param *x = a, *y = b;
    int c = mz_str_cmp(x->key, y->key);
    return c ? c : x->value.p < y->value.p ? -1 : x->value.p > y->value.p;
}

/* Sorted, so that what stands twice is seen without comparing all with all. */
static void params_unique(struct mz_xds_params *p)
{
    size_t n = 0;
    if (p->n)
        qsort(p->v, p->n, sizeof(*p->v), by_key);
    for (size_t i = 0; i < p->n; i++)
        if (!n || !mz_str_eq(p->v[n - 1].key, p->v[i].key))
            p->v[n++] = p->v[i];
    p->n = n;
}

static void params_parse(struct mz_arena *a, struct mz_str query, struct mz_xds_params *out)
{
    struct mz_str rest = query, part;
    size_t max = 1;
    for (size_t i = 0; i < query.n; i++)
        max += query.p[i] == '&';
    out->v = mz_arena_alloc0(a, mz_mul(max, sizeof(*out->v)));
    out->n = 0;
    while (mz_str_split(&rest, '&', &part)) {
        ptrdiff_t eq = mz_str_chr(part, '=');
        size_t n = eq < 0 ? part.n : (size_t)eq;
        struct mz_xds_param *p = &out->v[out->n++];
        p->key = mz_percent_decode(a, (struct mz_str){ part.p, n });
        p->value = mz_str_skip(part, eq < 0 ? n : n + 1); /* its place tells the first of two */
    }
    params_unique(out);
    for (size_t i = 0; i < out->n; i++)
        out->v[i].value = mz_percent_decode(a, out->v[i].value);
}

bool mz_xds_name_parse(struct mz_arena *a, struct mz_str text, struct mz_xds_name *out,
                       struct mz_err *err)
{
    struct mz_str authority, path, query = MZ_STR("");
    if (!mz_xds_name_is(text))
        return mz_err_set(err, MZ_STR_FMT " does not have an xdstp: scheme",
                          MZ_STR_ARG(shown(text)));
    split_uri(text, &authority, &path);
    ptrdiff_t ask = mz_str_chr(path, '?');
    if (ask >= 0) {
        query = mz_str_skip(path, (size_t)ask + 1);
        path.n = (size_t)ask;
    }
    struct mz_str id = mz_str_skip(path, 1);
    struct mz_xds_name n = { .authority = mz_percent_decode(a, authority) };
    ptrdiff_t slash = mz_str_chr(id, '/');
    n.type = (struct mz_str){ id.p, slash < 0 ? id.n : (size_t)slash };
    n.id = mz_percent_decode(a, mz_str_skip(id, slash < 0 ? id.n : (size_t)slash + 1));
    if (!n.type.n)
        return mz_err_set(err, "Resource type missing from " MZ_STR_FMT, MZ_STR_ARG(shown(path)));
    params_parse(a, query, &n.context);
    *out = n;
    return true;
}

/* ---- canonical form ---- */

struct text {
    char *at;
};

static void put(struct text *t, struct mz_str s)
{
    if (s.n)
        memcpy(t->at, s.p, s.n);
    t->at += s.n;
}

/* Envoy's set of bytes, which is not mz_percent_encode()'s: servers compare names. */
static void put_escaped(struct text *t, struct mz_str s, const char *reserved)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c < '~' && !strchr(reserved, c)) {
            *t->at++ = (char)c;
            continue;
        }
        *t->at++ = '%';
        *t->at++ = digits[c >> 4];
        *t->at++ = digits[c & 15];
    }
}

static int by_text(const void *a, const void *b)
{
    return mz_str_cmp(*(const struct mz_str *)a, *(const struct mz_str *)b);
}

static struct mz_str param_text(struct mz_arena *a, const struct mz_xds_param *p)
{
    char *mem = mz_arena_alloc(a, mz_mul(p->key.n + p->value.n, 3) + 1);
    struct text t = { mem };
    put_escaped(&t, p->key, "%#[]&=");
    put(&t, MZ_STR("="));
    put_escaped(&t, p->value, "%#[]&=");
    return (struct mz_str){ mem, (size_t)(t.at - mem) };
}

struct mz_str mz_xds_name_text(struct mz_arena *a, const struct mz_xds_name *n)
{
    struct mz_str *params = mz_arena_alloc0(a, mz_mul(n->context.n + 1, sizeof(*params)));
    size_t room = sizeof("xdstp:////") + n->type.n + mz_mul(n->authority.n + n->id.n, 3);
    for (size_t i = 0; i < n->context.n; i++) {
        params[i] = param_text(a, &n->context.v[i]);
        room += params[i].n + 1;
    }
    if (n->context.n)
        qsort(params, n->context.n, sizeof(*params), by_text);
    char *mem = mz_arena_alloc(a, room);
    struct text t = { mem };
    put(&t, MZ_STR("xdstp://"));
    put_escaped(&t, n->authority, "%/?#");
    put(&t, MZ_STR("/"));
    put(&t, n->type);
    if (n->id.n)
        put(&t, MZ_STR("/"));
    put_escaped(&t, n->id, "%:?#[]");
    for (size_t i = 0; i < n->context.n; i++) {
        put(&t, i ? MZ_STR("&") : MZ_STR("?"));
        put(&t, params[i]);
    }
    *t.at = '\0';
    return (struct mz_str){ mem, (size_t)(t.at - mem) };
}

/* ---- collections ---- */

bool mz_xds_name_is_glob(const struct mz_xds_name *n)
{
    return mz_str_eq(n->id, MZ_STR("*")) || mz_str_ends(n->id, MZ_STR("/*"));
}

void mz_xds_name_to_glob(struct mz_arena *a, struct mz_xds_name *n)
{
    ptrdiff_t slash = mz_str_rchr(n->id, '/');
    struct mz_str parts[] = { { n->id.p, slash < 0 ? 0 : (size_t)slash + 1 }, MZ_STR("*") };
    n->id = mz_arena_cat(a, 2, parts);
}

void mz_xds_name_complete(struct mz_arena *a, struct mz_xds_name *n,
                          const struct mz_xds_params *with)
{
    struct mz_xds_params all = {
        mz_arena_alloc0(a, mz_mul(n->context.n + with->n + 1, sizeof(*all.v))), 0
    };
    for (size_t i = 0; i < n->context.n; i++)
        all.v[all.n++] = n->context.v[i];
    for (size_t i = 0; i < with->n; i++)
        if (!param_get(&n->context, with->v[i].key))
            all.v[all.n++] = with->v[i];
    n->context = all;
}

bool mz_xds_url_parse(struct mz_arena *a, struct mz_str text, struct mz_xds_url *out,
                      struct mz_err *err)
{
    struct mz_str authority, path;
    if (mz_str_chr(text, '#') >= 0)
        return mz_err_set(err, MZ_STR_FMT ": directives (#) are not supported",
                          MZ_STR_ARG(shown(text)));
    *out = (struct mz_xds_url){ .file = MZ_STR("") };
    if (mz_xds_name_is(text))
        return mz_xds_name_parse(a, text, &out->name, err);
    if (!mz_str_starts(text, MZ_STR("file:")))
        return mz_err_set(err, MZ_STR_FMT " does not have a xdstp: or file: scheme",
                          MZ_STR_ARG(shown(text)));
    split_uri(text, &authority, &path);
    if (authority.n || path.n < 2)
        return mz_err_set(err, MZ_STR_FMT " is not file:///path", MZ_STR_ARG(shown(text)));
    out->file = mz_arena_dup(a, mz_percent_decode(a, path));
    if (mz_str_chr(out->file, '\0') >= 0)
        return mz_err_set(err, "a path has no NUL");
    return true;
}
