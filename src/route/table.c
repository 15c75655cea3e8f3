#include "base/log.h"
#include "route/route_priv.h"

/* ---- finding the virtual host ---- */

#define HOST_STACK 256

/* "a.b:80" -> "a.b", "[::1]:80" -> "[::1]"; anything else as it is. */
static struct mz_str without_port(struct mz_str host)
{
    ptrdiff_t colon = mz_str_rchr(host, ':');
    ptrdiff_t bracket = mz_str_rchr(host, ']');
    uint64_t port;
    if (colon < 0 || colon < bracket || !mz_str_u64(mz_str_skip(host, (size_t)colon + 1), &port) ||
        port > 65535)
        return host;
    return (struct mz_str){ host.p, (size_t)colon };
}

/* Eight letters at once: the bit 0x20 is set where a byte is 'A' to 'Z'. */
static uint64_t lower8(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t low = w & (0x7f * ones);
    uint64_t from_a = low + (0x80 - 'A') * ones, past_z = low + (0x7f - 'Z') * ones;
    return w | (((from_a ^ past_z) & ~w & (0x80 * ones)) >> 2);
}

static void lower_copy(char *out, struct mz_str s)
{
    size_t i = 0;
    for (uint64_t w; i + sizeof(w) <= s.n; i += sizeof(w)) {
        memcpy(&w, s.p + i, sizeof(w));
        w = lower8(w);
        memcpy(out + i, &w, sizeof(w));
    }
    for (; i < s.n; i++)
        out[i] = mz_lower(s.p[i]);
}

static struct mz_vhost *wildcard_find(const struct wildcards *w, struct mz_str host, bool suffix)
{
    for (size_t i = 0; i < w->n; i++) {
        size_t n = w->lens[i];
        if (n >= host.n) /* the "*" stands for one character at least */
            continue;
        struct mz_str part = { suffix ? host.p + host.n - n : host.p, n };
        struct mz_vhost *v = mz_map_get(&w->map, part);
        if (v)
            return v;
    }
    return NULL;
}

static struct mz_vhost *vhost_find(const struct mz_route_table *t, struct mz_str host,
                                   struct mz_arena *a)
{
    if (!t->exact.n && !t->suffix.n && !t->prefix.n)
        return t->any;
    if (t->ignore_port)
        host = without_port(host);
    MZ_UNINIT char stack[HOST_STACK];
    char *low = host.n <= sizeof(stack) ? stack : mz_arena_alloc(a, host.n);
    lower_copy(low, host);
    struct mz_str key = { low, host.n };
    struct mz_vhost *v = mz_map_get(&t->exact, key);
    if (!v)
        v = wildcard_find(&t->suffix, key, true);
    if (!v)
        v = wildcard_find(&t->prefix, key, false);
    return v ? v : t->any;
}

bool mz_route_table_on_demand(const struct mz_route_table *t)
{
    return t->on_demand;
}

bool mz_route_table_serves(const struct mz_route_table *t, struct mz_str host, struct mz_arena *a)
{
    return vhost_find(t, host, a) != NULL;
}

static bool needs_tls(const struct mz_vhost *v, const struct mz_route_query *q)
{
    if (!v->require_tls_all && !v->require_tls_external)
        return false;
    /* The manager's verdict on how the client came, which a trusted proxy in front may have set. */
    struct mz_str proto = mz_headers_value_id(q->h, MZ_H_X_FORWARDED_PROTO);
    if (proto.n ? mz_str_ieq(proto, MZ_STR("https")) : q->secure)
        return false;
    return v->require_tls_all ||
           !(q->internal ||
             mz_str_eq(mz_headers_value_id(q->h, MZ_H_X_ENVOY_INTERNAL), MZ_STR("true")));
}

/* "/a;x/b;y" -> "/a/b" */
static struct mz_str without_params(struct mz_str path, struct mz_arena *a)
{
    char *out = mz_arena_alloc(a, path.n), *at = out;
    bool inside = false;
    for (size_t i = 0; i < path.n; i++) {
        inside = path.p[i] == ';' || (inside && path.p[i] != '/');
        if (!inside)
            *at++ = path.p[i];
    }
    return (struct mz_str){ out, (size_t)(at - out) };
}

const struct mz_route *mz_route_table_match(const struct mz_route_table *t,
                                            const struct mz_route_query *q)
{
    const struct mz_header *names_it = t->vhost_header.n ? mz_headers_get(q->h, t->vhost_header)
                                                         : mz_headers_get_id(q->h, MZ_H_AUTHORITY);
    struct mz_str host = names_it ? names_it->value : MZ_STR("");
    bool none = t->vhost_header.n && !names_it; /* then not even "*" serves it */
    const struct mz_vhost *v = none ? NULL : vhost_find(t, host, q->arena);
    if (!v) {
        mz_note(q->decision, q->now_us, NO_VHOST, t->name, host, 0, 0);
        return NULL;
    }
    mz_note(q->decision, q->now_us, VHOST, v->name, host, 0, 0);
    if (needs_tls(v, q))
        return ((const struct vhost_priv *)v->priv)->tls_redirect;
    struct match_req m = { .q = q, .full = mz_headers_path(q->h) };
    m.path = path_only(m.full);
    if (t->ignore_path_params && mz_str_chr(m.path, ';') >= 0)
        m.path = without_params(m.path, q->arena);
    return vhost_route(v, &m);
}

struct mz_scope *mz_vhost_vcluster(const struct mz_vhost *v, const struct mz_headers *h,
                                   struct mz_str *out_name)
{
    const struct vhost_priv *p = v->priv;
    *out_name = (struct mz_str){ 0 };
    if (!p || !p->n_vclusters)
        return NULL;
    for (size_t i = 0; i < p->n_vclusters; i++) {
        const struct vcluster *c = &p->vclusters[i];
        size_t k = 0;
        while (k < c->n_headers && mz_header_match(c->headers[k], h))
            k++;
        if (k == c->n_headers) {
            *out_name = c->name;
            return c->scope;
        }
    }
    return p->other; /* which has no name in logs */
}

/* ---- the table as an object ---- */

const struct mz_route_table *mz_route_table_ref(const struct mz_route_table *t)
{
    struct mz_route_table *own = (struct mz_route_table *)(uintptr_t)t;
    __atomic_fetch_add(&own->refs, 1, __ATOMIC_RELAXED);
    return t;
}

void mz_route_table_unref(const struct mz_route_table *t)
{
    struct mz_route_table *own = (struct mz_route_table *)(uintptr_t)t;
    if (own && __atomic_sub_fetch(&own->refs, 1, __ATOMIC_ACQ_REL) == 0)
        mz_arena_destroy(own->arena);
}

struct mz_str mz_route_table_name(const struct mz_route_table *t)
{
    return t->name;
}

const struct mz_filter_overrides *mz_route_table_overrides(const struct mz_route_table *t)
{
    return &t->overrides;
}

const struct mz_meta *mz_route_table_metadata(const struct mz_route_table *t)
{
    return t->metadata;
}

const struct mz_str *mz_route_table_internal_only(const struct mz_route_table *t, size_t *out_n)
{
    *out_n = t->n_internal_only;
    return t->internal_only;
}
