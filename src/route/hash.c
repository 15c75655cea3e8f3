#include "observe/stream_info.h"
#include "route/route_priv.h"
#include <stdlib.h>

/* ---- building ---- */

static bool cookie_build(struct builder *b, const pb_RouteAction_HashPolicy_Cookie *m,
                         struct mz_hash_policy *out)
{
    out->kind = MZ_HASH_COOKIE;
    out->name = build_str(b, m->name);
    out->cookie_path = build_str(b, m->path);
    out->cookie_ttl_set = m->ttl != NULL;
    uint64_t ms;
    if (!mz_duration_ms(m->ttl, 0, &ms, b->err))
        return mz_err_at(b->err, "ttl");
    out->cookie_ttl_s = ms / 1000;
    out->cookie_attributes = build_newn0(b, struct mz_cookie_attribute, m->n_attributes);
    for (size_t i = 0; i < m->n_attributes; i++)
        out->cookie_attributes[out->n_cookie_attributes++] =
            (struct mz_cookie_attribute){ build_str(b, m->attributes[i]->name),
                                          build_str(b, m->attributes[i]->value) };
    return true;
}

static bool policy_build(struct builder *b, const pb_RouteAction_HashPolicy *m,
                         struct mz_hash_policy *out)
{
    out->terminal = m->terminal;
    switch (m->policy_specifier_case) {
    case pb_RouteAction_HashPolicy_POLICY_SPECIFIER_HEADER:
        out->kind = MZ_HASH_HEADER;
        out->name = build_lower(b, m->header->header_name);
        return !m->header->regex_rewrite ||
               build_substitution(b, m->header->regex_rewrite, &out->rewrite, &out->rewrite_with) ||
               mz_err_at(b->err, "header.regex_rewrite");
    case pb_RouteAction_HashPolicy_POLICY_SPECIFIER_COOKIE:
        return cookie_build(b, m->cookie, out) || mz_err_at(b->err, "cookie");
    case pb_RouteAction_HashPolicy_POLICY_SPECIFIER_CONNECTION_PROPERTIES:
        out->kind = m->connection_properties->source_ip ? MZ_HASH_SOURCE_IP : MZ_HASH_NONE;
        return true;
    case pb_RouteAction_HashPolicy_POLICY_SPECIFIER_QUERY_PARAMETER:
        out->kind = MZ_HASH_QUERY;
        out->name = build_str(b, m->query_parameter->name);
        return true;
    case pb_RouteAction_HashPolicy_POLICY_SPECIFIER_FILTER_STATE:
        out->kind = MZ_HASH_STATE;
        out->name = build_str(b, m->filter_state->key);
        return true;
    default:
        return mz_err_set(b->err, "one of header, cookie, connection_properties, query_parameter, "
                                  "filter_state is required");
    }
}

bool build_hash(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    r->hash = build_newn0(b, struct mz_hash_policy, m->n_hash_policy);
    for (size_t i = 0; i < m->n_hash_policy; i++) {
        if (!policy_build(b, m->hash_policy[i], &r->hash[i]))
            return mz_err_at(b->err, "hash_policy[%zu]", i);
        r->n_hash++;
    }
    return true;
}

/* ---- at work ---- */

struct hash_req {
    const struct mz_headers *h;
    const struct mz_hash_from *from;
    struct mz_arena *a;
    struct mz_str set_cookie; /* out */
};

static uint64_t hash_str(struct mz_str s)
{
    return mz_xxh64(s.p, s.n, 0);
}

static int str_cmp(const void *x, const void *y)
{
    return mz_str_cmp(*(const struct mz_str *)x, *(const struct mz_str *)y);
}

/* Several values: sorted, so that their order does not matter; each hash is the seed of the next (Envoy). */
static bool hash_header(const struct mz_hash_policy *p, struct hash_req *q, uint64_t *out)
{
    const struct mz_header *first = mz_headers_get(q->h, p->name);
    if (!first)
        return false;
    size_t n = 0;
    for (const struct mz_header *e = first; e; e = mz_headers_next(q->h, e))
        n++;
    struct mz_str *values = mz_arena_alloc(q->a, mz_mul(n, sizeof(*values)));
    n = 0;
    for (const struct mz_header *e = first; e; e = mz_headers_next(q->h, e))
        values[n++] =
            p->rewrite ? mz_regex_replace(p->rewrite, e->value, p->rewrite_with, q->a) : e->value;
    qsort(values, n, sizeof(*values), str_cmp);
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out = mz_xxh64(values[i].p, values[i].n, *out);
    return true;
}

static struct mz_str cookie_value(const struct hash_req *q)
{
    char text[2 * MZ_ADDR_TEXT];
    size_t n = mz_addr_text(q->from->remote, text);
    n += mz_addr_text(q->from->local, text + n);
    return mz_arena_printf(q->a, "%016llx", (unsigned long long)mz_xxh64(text, n, 0));
}

static struct mz_str cookie_text(const struct mz_hash_policy *p, struct mz_str value,
                                 struct mz_arena *a)
{
    struct mz_str s = mz_arena_printf(a, MZ_STR_FMT "=\"" MZ_STR_FMT "\"", MZ_STR_ARG(p->name),
                                      MZ_STR_ARG(value));
    if (p->cookie_ttl_s)
        s = mz_arena_printf(a, MZ_STR_FMT "; Max-Age=%llu", MZ_STR_ARG(s),
                            (unsigned long long)p->cookie_ttl_s);
    if (p->cookie_path.n)
        s = mz_arena_printf(a, MZ_STR_FMT "; Path=" MZ_STR_FMT, MZ_STR_ARG(s),
                            MZ_STR_ARG(p->cookie_path));
    for (size_t i = 0; i < p->n_cookie_attributes; i++) {
        const struct mz_cookie_attribute *x = &p->cookie_attributes[i];
        s = mz_arena_printf(a, MZ_STR_FMT "; " MZ_STR_FMT "%s" MZ_STR_FMT, MZ_STR_ARG(s),
                            MZ_STR_ARG(x->name), x->value.n ? "=" : "", MZ_STR_ARG(x->value));
    }
    return mz_arena_cat(a, 2, (struct mz_str[]){ s, MZ_STR("; HttpOnly") });
}

static bool hash_cookie(const struct mz_hash_policy *p, struct hash_req *q, uint64_t *out)
{
    struct mz_str value = { 0 };
    (void)cookie_get(q->h, p->name, &value);
    if (!value.n && !p->cookie_ttl_set)
        return false;
    if (!value.n) {
        value = cookie_value(q);
        q->set_cookie = cookie_text(p, value, q->a);
    }
    *out = hash_str(value);
    return true;
}

static bool hash_source_ip(struct hash_req *q, uint64_t *out)
{
    char text[MZ_ADDR_TEXT];
    if (!q->from->client || !mz_addr_is_ip(q->from->client))
        return false;
    *out = mz_xxh64(text, mz_addr_ip_text(q->from->client, text), 0);
    return true;
}

static bool hash_query(const struct mz_hash_policy *p, struct hash_req *q, uint64_t *out)
{
    struct mz_str path = mz_headers_path(q->h), value;
    ptrdiff_t mark = mz_str_chr(path, '?');
    if (mark < 0 || !query_get(mz_str_skip(path, (size_t)mark + 1), p->name, &value))
        return false;
    *out = hash_str(value);
    return true;
}

static bool hash_state(const struct mz_hash_policy *p, struct hash_req *q, uint64_t *out)
{
    const struct mz_filter_object *o = q->from->state ? mz_map_get(q->from->state, p->name) : NULL;
    if (!o || !o->hash)
        return false;
    *out = o->hash(o);
    return true;
}

static bool hash_one(const struct mz_hash_policy *p, struct hash_req *q, uint64_t *out)
{
    switch (p->kind) {
    case MZ_HASH_HEADER:
        return hash_header(p, q, out);
    case MZ_HASH_COOKIE:
        return hash_cookie(p, q, out);
    case MZ_HASH_SOURCE_IP:
        return hash_source_ip(q, out);
    case MZ_HASH_QUERY:
        return hash_query(p, q, out);
    case MZ_HASH_STATE:
        return hash_state(p, q, out);
    case MZ_HASH_NONE:
        break;
    }
    return false;
}

bool mz_route_hash(const struct mz_route *r, const struct mz_headers *h,
                   const struct mz_hash_from *from, struct mz_arena *a, uint64_t *out_hash,
                   struct mz_str *out_set_cookie)
{
    struct hash_req q = { .h = h, .from = from, .a = a };
    bool have = false;
    uint64_t hash = 0;
    for (uint32_t i = 0; i < r->n_hash; i++) {
        uint64_t one;
        if (hash_one(&r->hash[i], &q, &one)) {
            /* Rotating keeps two equal rules from cancelling each other. */
            hash = (have ? (hash << 1) | (hash >> 63) : 0) ^ one;
            have = true;
        }
        if (have && r->hash[i].terminal)
            break;
    }
    if (have)
        *out_hash = hash;
    *out_set_cookie = q.set_cookie;
    return have;
}
