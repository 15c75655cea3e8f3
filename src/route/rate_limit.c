#include "route/rate_limit.h"

#include "http/query.h"
#include "observe/stream_info.h"
#include "route/rate_limit_priv.h"

#include <math.h>
#include <stdlib.h>

/* rate_limits at work: what a request's descriptors are (H9). */

/* What an action came to: an entry, none, or that there is no descriptor at all. */
enum found { FOUND, SKIPPED, NOTHING };

static enum found absent(const struct rate_action *a)
{
    return a->skip_if_absent ? SKIPPED : NOTHING;
}

static struct mz_str address(const struct mz_rate_query *q, const struct rate_action *a)
{
    const struct mz_addr *from = &q->q.info->remote;
    char text[MZ_ADDR_TEXT];
    struct mz_addr masked = *from;
    if (!mz_addr_is_ip(from))
        return MZ_STR("");
    if (a->kind == ACTION_REMOTE_ADDRESS) {
        size_t n = mz_addr_ip_text(from, text);
        return mz_arena_dup(q->q.arena, (struct mz_str){ text, n });
    }
    bool v6 = from->sa.sa_family == AF_INET6;
    unsigned bits = v6 ? a->mask_v6 : a->mask_v4;
    uint8_t *bytes = v6 ? masked.in6.sin6_addr.s6_addr : (uint8_t *)&masked.in4.sin_addr;
    for (unsigned i = 0; i < (v6 ? 16u : 4u); i++) {
        unsigned keep = bits > i * 8 ? bits - i * 8 : 0;
        bytes[i] = (uint8_t)(bytes[i] & (keep >= 8 ? 0xff : 0xff00 >> keep));
    }
    size_t n = mz_addr_ip_text(&masked, text);
    return mz_arena_printf(q->q.arena, "%.*s/%u", (int)n, text, bits);
}

static bool parameter(const struct mz_rate_query *q, struct mz_str wanted, struct mz_str *out)
{
    struct mz_str rest = mz_query_of(mz_headers_path(q->q.h)), name, value;
    while (mz_query_next(&rest, &name, &value))
        if (mz_str_eq(mz_percent_decode(q->q.arena, name), wanted)) {
            *out = mz_percent_decode(q->q.arena, value);
            return true;
        }
    return false;
}

static bool queries_match(const struct mz_rate_query *q, const struct rate_action *a)
{
    for (uint32_t i = 0; i < a->n_queries; i++) {
        const struct query_match *m = &a->queries[i];
        struct mz_str value;
        bool there = parameter(q, m->name, &value);
        bool ok = m->value ? there && mz_string_match(m->value, value) : there != m->absent;
        if (!ok)
            return false;
    }
    return true;
}

static bool headers_match(const struct mz_rate_query *q, const struct rate_action *a)
{
    for (uint32_t i = 0; i < a->n_headers; i++)
        if (!mz_header_match(a->headers[i], q->q.h))
            return false;
    return true;
}

static struct mz_str cluster(const struct mz_rate_query *q)
{
    const struct mz_weighted_cluster *w;
    struct mz_str name;
    return q->route && q->route->action == MZ_ACTION_CLUSTER &&
                   mz_route_cluster(q->route, &q->q, &name, &w)
               ? name
               : MZ_STR("");
}

static enum found metadata(const struct mz_rate_query *q, const struct rate_action *a,
                           struct mz_str *out)
{
    const struct mz_meta *from = !a->of_route ? q->q.dynamic_metadata
                                 : q->route   ? q->route->metadata
                                              : NULL;
    const struct mz_value *v = mz_meta_get(from, a->name, a->path, a->n_path);
    *out = v && v->kind == MZ_VALUE_STRING && v->str.n ? v->str : a->value;
    return out->n ? FOUND : absent(a);
}

static enum found act(const struct mz_rate_query *q, const struct rate_action *a,
                      struct mz_str *out)
{
    *out = a->value;
    switch ((enum action_kind)a->kind) {
    case ACTION_SOURCE_CLUSTER:
        *out = q->service_cluster;
        return FOUND;
    case ACTION_DESTINATION_CLUSTER:
        *out = cluster(q);
        return out->n ? FOUND : NOTHING;
    case ACTION_HEADER: {
        const struct mz_header *h = mz_headers_get(q->q.h, a->name);
        if (!h)
            return absent(a);
        *out = h->value;
        return FOUND;
    }
    case ACTION_QUERY:
        return parameter(q, a->name, out) ? FOUND : absent(a);
    case ACTION_REMOTE_ADDRESS:
    case ACTION_MASKED_ADDRESS:
        *out = address(q, a);
        return out->n ? FOUND : NOTHING;
    case ACTION_GENERIC_KEY:
        return FOUND;
    case ACTION_HEADERS_MATCH:
        return headers_match(q, a) == a->expect_match ? FOUND : NOTHING;
    case ACTION_QUERY_MATCH:
        return queries_match(q, a) == a->expect_match ? FOUND : NOTHING;
    case ACTION_METADATA:
        return metadata(q, a, out);
    }
    return NOTHING;
}

/* hits_addend: a number that a format gives; what is none, or none of these, makes no descriptor. */
static bool hits(const struct rate_limit *l, const struct mz_rate_query *q, uint64_t *out)
{
    *out = l->hits;
    if (!l->hits_format)
        return true;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(l->hits_format, &(struct mz_format_ctx){ .info = q->q.info, .req = q->q.h },
                     &b);
    struct mz_str text = mz_arena_dup(q->q.arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    char *end;
    double v = strtod(text.p, &end);
    if (!text.n || end != text.p + text.n || !(v >= 0 && v <= HITS_MAX))
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool enabled(const struct rate_limit *l, const struct mz_rate_query *q)
{
    return !l->enabled.key.n ||
           (q->global && mz_runtime_fraction(mz_runtime_here(), &l->enabled, q->q.random));
}

static bool describe(const struct rate_limit *l, const struct mz_rate_query *q, bool of_filter,
                     struct mz_descriptor *out)
{
    *out = (struct mz_descriptor){ mz_arena_alloc(q->q.arena, l->n * sizeof(*out->v)), 0, 1 };
    for (size_t i = 0; i < l->n; i++) {
        struct mz_descriptor_entry *e = &out->v[out->n];
        enum found f = act(q, &l->v[i], &e->value);
        if (f == NOTHING)
            return false;
        e->key = l->v[i].key;
        out->n += f == FOUND;
    }
    return !of_filter || hits(l, q, &out->hits);
}

size_t mz_rate_limits_n(const struct mz_rate_limits *l)
{
    return l ? l->n : 0;
}

size_t mz_rate_limits_describe(const struct mz_rate_limits *l, unsigned stage,
                               const struct mz_rate_query *q, struct mz_descriptor *out)
{
    size_t n = 0;
    for (size_t i = 0; l && i < l->n; i++)
        if ((l->of_filter || l->v[i].stage == stage) && enabled(&l->v[i], q) &&
            describe(&l->v[i], q, l->of_filter, &out[n]))
            n++;
    return n;
}
