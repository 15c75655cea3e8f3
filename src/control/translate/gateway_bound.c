/* VirtualServices bound to Gateways, and which of them have names in common with a server: sorted, as either may have thousands. */
#include <stdlib.h>

#include "base/map.h"
#include "control/translate/gateway.h"

struct entry {              /* one host of one VirtualService */
    struct mz_str ns, tail; /* without the "*" in front */
    bool wild;
    uint32_t vs, host;
};
struct tr_bound {
    struct tr_bound_list list;
    struct entry *all, *by_ns; /* by the end of their names; the second by namespace first */
    size_t n_all;
};

static bool is_wild(struct mz_str host)
{
    return host.n && host.p[0] == '*';
}

/* From the last byte on: those that end alike are neighbours, the shortest first. */
static int compare_tails(struct mz_str x, struct mz_str y)
{
    for (size_t i = 1; i <= x.n && i <= y.n; i++)
        if (x.p[x.n - i] != y.p[y.n - i])
            return (unsigned char)x.p[x.n - i] - (unsigned char)y.p[y.n - i];
    return (x.n > y.n) - (x.n < y.n);
}

static int by_tail(const void *a, const void *b)
{
    return compare_tails(((const struct entry *)a)->tail, ((const struct entry *)b)->tail);
}

static int by_ns(const void *a, const void *b)
{
    const int c = mz_str_cmp(((const struct entry *)a)->ns, ((const struct entry *)b)->ns);
    return c ? c : by_tail(a, b);
}

static struct entry *sorted(struct mz_arena *a, const struct entry *v, size_t n,
                            int (*compare)(const void *, const void *))
{
    struct entry *own = mz_arena_alloc(a, (n + 1) * sizeof(*own));
    if (!n)
        return own;
    memcpy(own, v, n * sizeof(*own));
    qsort(own, n, sizeof(*own), compare);
    return own;
}

static const struct tr_bound *bound(struct mz_view *v, const struct tr_server *s)
{
    struct tr_bound *b = *s->bound;
    if (b)
        return b;
    b = *s->bound = mz_arena_new0(v->arena, struct tr_bound);
    b->list.v = mz_model_virtuals(v->model, v->proxy->ns, s->gateway_name, v->arena, &b->list.n);
    MZ_VEC(struct entry) all = { 0 };
    for (size_t i = 0; i < b->list.n; i++)
        for (size_t k = 0; k < b->list.v[i]->spec->n_hosts; k++) {
            const struct mz_str host = mz_str_c(b->list.v[i]->spec->hosts[k]);
            const bool wild = is_wild(host);
            *mz_vec_push(&all, MZ_MEM_XDS) =
                (struct entry){ b->list.v[i]->ns, wild ? mz_str_skip(host, 1) : host, wild,
                                (uint32_t)i, (uint32_t)k };
        }
    b->n_all = all.n;
    b->all = sorted(v->arena, all.v, all.n, by_tail);
    b->by_ns = sorted(v->arena, all.v, all.n, by_ns);
    mz_vec_free(&all, MZ_MEM_XDS);
    return b;
}

struct tr_bound_list tr_bound_to(struct mz_view *v, const struct tr_server *s)
{
    return bound(v, s)->list;
}

/* ---- what meets a server ---- */

struct meeting {
    const struct tr_bound *b;
    const struct entry *v; /* those of @ns, or all */
    struct mz_str ns;      /* empty: of any */
    uint32_t host;         /* of the server */
    MZ_VEC(struct tr_meeting) out;
};

static size_t first_of(const struct meeting *m, struct mz_str tail)
{
    const struct entry key = { .ns = m->ns, .tail = tail };
    size_t from = 0, to = m->b->n_all;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        const int c = m->ns.n ? by_ns(&m->v[mid], &key) : by_tail(&m->v[mid], &key);
        if (c < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static bool is_at(const struct meeting *m, size_t i)
{
    return i < m->b->n_all && (!m->ns.n || mz_str_eq(m->v[i].ns, m->ns));
}

static void found(struct meeting *m, const struct entry *e)
{
    *mz_vec_push(&m->out, MZ_MEM_XDS) =
        (struct tr_meeting){ m->b->list.v[e->vs], e->vs, m->host, e->host };
}

/* Of the same end, wildcards or names. */
static void add_same(struct meeting *m, struct mz_str tail, bool wild)
{
    for (size_t i = first_of(m, tail); is_at(m, i) && mz_str_eq(m->v[i].tail, tail); i++)
        if (m->v[i].wild == wild)
            found(m, &m->v[i]);
}

static void add_within(struct meeting *m, struct mz_str tail)
{
    for (size_t i = first_of(m, tail); is_at(m, i) && mz_str_ends(m->v[i].tail, tail); i++)
        found(m, &m->v[i]);
}

/* As mz_hosts_meet() of @host and each of them. */
static void add_meeting(struct meeting *m, struct mz_str host)
{
    const bool wild = is_wild(host);
    const struct mz_str tail = wild ? mz_str_skip(host, 1) : host;
    if (wild)
        add_within(m, tail);
    else
        add_same(m, tail, false);
    for (size_t i = wild; i < tail.n; i++) /* the wildcards that it is within */
        if (tail.p[i] == '.')
            add_same(m, mz_str_skip(tail, i), true);
    if (tail.n)
        add_same(m, MZ_STR(""), true);
}

static int compare_meetings(const void *a, const void *b)
{
    const struct tr_meeting *x = a, *y = b;
    int c = (x->at > y->at) - (x->at < y->at);
    c = c ? c : (x->server_host > y->server_host) - (x->server_host < y->server_host);
    return c ? c : (x->host > y->host) - (x->host < y->host);
}

const struct tr_meeting *tr_server_meets(struct mz_view *v, const struct tr_server *s,
                                         struct mz_map *had, struct mz_arena *a, size_t *out_n)
{
    struct meeting m = { .b = bound(v, s) };
    for (size_t i = 0; i < s->hosts_n && m.b->n_all; i++) {
        const ptrdiff_t slash = mz_str_chr(s->hosts[i], '/');
        const struct mz_str key =
            mz_arena_printf(a, "%p %u %d %.*s", (const void *)s->gateway, s->s->port->number,
                            s->s->tls ? 1 + s->s->tls->https_redirect : 0, MZ_STR_ARG(s->hosts[i]));
        if (mz_map_put(had, key, had))
            continue;
        m.ns = slash < 0 ? MZ_STR("") : (struct mz_str){ s->hosts[i].p, (size_t)slash };
        m.v = m.ns.n ? m.b->by_ns : m.b->all;
        m.host = (uint32_t)i;
        add_meeting(&m, slash < 0 ? s->hosts[i] : mz_str_skip(s->hosts[i], (size_t)slash + 1));
    }
    if (m.out.n)
        qsort(m.out.v, m.out.n, sizeof(*m.out.v), compare_meetings);
    struct tr_meeting *own = mz_arena_alloc(a, (m.out.n + 1) * sizeof(*own));
    if (m.out.n)
        memcpy(own, m.out.v, m.out.n * sizeof(*own));
    *out_n = m.out.n;
    mz_vec_free(&m.out, MZ_MEM_XDS);
    return own;
}
