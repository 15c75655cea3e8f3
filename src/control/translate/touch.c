#include "control/translate/touch.h"

#include <stdio.h>

#include "control/model/virtual_service.h"

enum { MAX_TOUCHES = 512 };

/* ---- who is called what ---- */

/* Counts of texts, by hash: another text with the same one only makes us do more. */
enum kind {
    NAME,        /* of a service, for all clients */
    SHORT,       /* for clients in its namespace */
    ROUTED,      /* a host that a VirtualService speaks for */
    DESTINATION, /* of one */
    ROUTED4,     /* either, of one that says something of connections */
};
struct count {
    uint64_t hash; /* 0: free */
    uint32_t n;
};
struct tr_names {
    struct count *v;
    size_t n, cap;        /* cap is a power of two */
    unsigned wild;        /* VirtualServices of the mesh that speak for a wildcard */
    unsigned wild4;       /* ... and say something of connections */
    struct mz_str suffix; /* ".svc.cluster.local" */
    char room[300];
};

static uint64_t hash_of(enum kind k, struct mz_str s)
{
    return mz_xxh64(s.p, s.n, (uint64_t)k + 1) | 1;
}

static struct count *place(const struct tr_names *t, uint64_t hash)
{
    size_t i = hash & (t->cap - 1);
    while (t->v[i].hash && t->v[i].hash != hash)
        i = (i + 1) & (t->cap - 1);
    return &t->v[i];
}

static void grow(struct tr_names *t)
{
    const struct tr_names old = *t;
    t->cap = old.cap ? 2 * old.cap : 1024;
    t->v = mz_newn0(MZ_MEM_XDS, struct count, t->cap);
    t->n = 0;
    for (size_t i = 0; i < old.cap; i++)
        if (old.v[i].n) {
            *place(t, old.v[i].hash) = old.v[i];
            t->n++;
        }
    mz_free(MZ_MEM_XDS, old.v);
}

static void count(struct tr_names *t, enum kind k, struct mz_str s, int by)
{
    const uint64_t hash = hash_of(k, s);
    if (t->n * 4 >= t->cap * 3)
        grow(t);
    struct count *c = place(t, hash);
    t->n += c->hash == 0;
    c->hash = hash;
    c->n += (uint32_t)by;
}

static uint32_t how_many(const struct tr_names *t, enum kind k, struct mz_str s)
{
    return t->cap ? place(t, hash_of(k, s))->n : 0;
}

/* ---- names of one service, as routes.c gives them ---- */

struct naming {
    struct tr_names *t;
    struct mz_str host; /* VirtualServices may speak for it by this name */
    int by;             /* 0: only asked */
    bool shared;        /* somebody else has one of them */
};

static void one_name(struct naming *n, enum kind k, struct mz_str s)
{
    struct tr_names *t = n->t;
    if (n->by)
        count(t, k, s, n->by);
    else if (k == NAME)
        n->shared |= how_many(t, NAME, s) != 1 || how_many(t, SHORT, s) ||
                     (!mz_str_eq(s, n->host) && how_many(t, ROUTED, s));
    else
        n->shared |= how_many(t, NAME, s) || how_many(t, ROUTED, s);
}

static void names_of_host(struct naming *n, struct mz_str host, const char *prefix)
{
    char room[700];
    const struct mz_str suffix = n->t->suffix;
    int k = snprintf(room, sizeof(room), "%s%.*s.", prefix, MZ_STR_ARG(host));
    if (k < 0 || (size_t)k >= sizeof(room)) {
        n->shared = true; /* longer than any name may be */
        return;
    }
    const size_t whole = (size_t)k;
    one_name(n, NAME, (struct mz_str){ room, whole });
    one_name(n, NAME, (struct mz_str){ room, whole - 1 });
    if (!mz_str_ends(host, suffix))
        return;
    const size_t cut = whole - 1 - suffix.n; /* "name.namespace" */
    one_name(n, NAME, (struct mz_str){ room, cut });
    one_name(n, NAME, (struct mz_str){ room, cut + 4 }); /* ".svc" */
    const ptrdiff_t dot = mz_str_rchr((struct mz_str){ room, cut }, '.');
    one_name(n, SHORT, (struct mz_str){ room, dot < 0 ? cut : (size_t)dot });
}

static void each_name(struct naming *n, const struct mz_service *s)
{
    const bool each = s->resolution == MZ_RESOLVE_PASSTHROUGH && !s->entry;
    for (unsigned i = 0; i <= each; i++) {
        names_of_host(n, s->host, i ? "*." : "");
        for (size_t k = 0; k < s->aliases_n; k++)
            names_of_host(n, s->aliases[k], i ? "*." : "");
    }
    for (size_t i = 0; i < s->addresses_n; i++)
        one_name(n, NAME, s->addresses[i]);
    if (s->automatic.n)
        one_name(n, NAME, s->automatic);
}

static void note(struct tr_names *t, const struct mz_service *s, int by)
{
    struct naming n = { .t = t, .by = by };
    if (s && s->resolution != MZ_RESOLVE_ALIAS)
        each_name(&n, s);
}

static bool is_alone(struct tr_names *t, const struct mz_service *s)
{
    struct naming n = { .t = t, .host = s ? s->host : MZ_STR("") };
    if (!s)
        return true;
    if (t->wild || mz_str_starts(s->host, MZ_STR("*")) || s->resolution == MZ_RESOLVE_ALIAS)
        return false;
    each_name(&n, s);
    return !n.shared;
}

/* ---- what VirtualServices say ---- */

static void each_of(ist_RouteDestination *const *v, size_t n,
                    void (*each)(void *arg, const ist_Destination *d), void *arg)
{
    for (size_t i = 0; i < n; i++)
        if (v[i]->destination)
            each(arg, v[i]->destination);
}

static void each_destination4(const ist_VirtualService *m,
                              void (*each)(void *arg, const ist_Destination *d), void *arg)
{
    for (size_t i = 0; i < m->n_tcp; i++)
        each_of(m->tcp[i]->route, m->tcp[i]->n_route, each, arg);
    for (size_t i = 0; i < m->n_tls; i++)
        each_of(m->tls[i]->route, m->tls[i]->n_route, each, arg);
}

static void each_destination(const ist_VirtualService *m,
                             void (*each)(void *arg, const ist_Destination *d), void *arg)
{
    for (size_t i = 0; i < m->n_http; i++) {
        const ist_HTTPRoute *r = m->http[i];
        for (size_t k = 0; k < r->n_route; k++)
            if (r->route[k]->destination)
                each(arg, r->route[k]->destination);
        if (r->mirror)
            each(arg, r->mirror);
        for (size_t k = 0; k < r->n_mirrors; k++)
            if (r->mirrors[k]->destination)
                each(arg, r->mirrors[k]->destination);
    }
    each_destination4(m, each, arg);
}

struct leading {
    struct tr_names *t;
    enum kind kind;
    int by;
};

static void lead(void *arg, const ist_Destination *d)
{
    const struct leading *l = arg;
    count(l->t, l->kind, mz_str_c(d->host), l->by);
}

static void note_host(struct tr_names *t, const struct mz_virtual *vs, struct mz_str h, int by)
{
    char lower[300];
    const size_t n = h.n < sizeof(lower) ? h.n : sizeof(lower);
    for (size_t k = 0; k < n; k++)
        lower[k] = mz_lower(h.p[k]);
    count(t, ROUTED, h, by);
    count(t, ROUTED, (struct mz_str){ lower, n }, by);
    if (vs->spec->n_tcp || vs->spec->n_tls)
        count(t, ROUTED4, h, by);
    if (!h.n || h.p[0] != '*' || !mz_virtual_is_bound(vs, MZ_STR(MZ_GATEWAY_MESH)))
        return;
    t->wild += (unsigned)by;
    t->wild4 += (unsigned)(vs->spec->n_tcp || vs->spec->n_tls ? by : 0);
}

static void note_virtual(struct tr_names *t, const struct mz_virtual *vs, int by)
{
    struct leading l = { t, DESTINATION, by };
    if (!vs)
        return;
    for (size_t i = 0; i < vs->spec->n_hosts; i++)
        note_host(t, vs, mz_str_c(vs->spec->hosts[i]), by);
    each_destination(vs->spec, lead, &l);
    l.kind = ROUTED4;
    each_destination4(vs->spec, lead, &l);
}

struct looking {
    struct mz_str host;
    bool found;
};

static void look(void *arg, const ist_Destination *d)
{
    struct looking *l = arg;
    l->found |= mz_str_eq(mz_str_c(d->host), l->host);
}

bool tr_leads_to(const struct mz_virtual *v, struct mz_str host)
{
    struct looking l = { host, false };
    each_destination(v->spec, look, &l);
    return l.found;
}

static struct tr_names *names_create(const struct mz_model *m)
{
    struct tr_names *t = mz_new0(MZ_MEM_XDS, struct tr_names);
    const int n = snprintf(t->room, sizeof(t->room), ".svc.%.*s", MZ_STR_ARG(m->mesh.domain));
    t->suffix = (struct mz_str){ t->room, n > 0 && (size_t)n < sizeof(t->room) ? (size_t)n : 0 };
    for (size_t i = 0; i < m->services_n; i++)
        note(t, m->services[i], 1);
    for (size_t i = 0; i < m->virtuals_n; i++)
        note_virtual(t, m->virtuals[i], 1);
    return t;
}

static struct tr_names *names_of(struct tr_touches *t, const struct mz_model *m)
{
    if (!t->names)
        t->names = names_create(m);
    return t->names;
}

/* ---- touches ---- */

void tr_touches_clear(struct tr_touches *t)
{
    if (t->names)
        mz_free(MZ_MEM_XDS, t->names->v);
    mz_free(MZ_MEM_XDS, t->names);
    t->names = NULL;
    mz_vec_free(&t->v, MZ_MEM_XDS);
    t->forgotten = ++t->now;
}

bool tr_touches_since(const struct tr_touches *t, uint64_t at, const struct tr_touch **out,
                      size_t *out_n)
{
    size_t first = t->v.n;
    while (first && t->v.v[first - 1].at > at)
        first--;
    *out = t->v.n ? t->v.v + first : NULL;
    *out_n = t->v.n - first;
    return at >= t->forgotten;
}

static void forget_half(struct tr_touches *t)
{
    const size_t half = t->v.n / 2;
    t->forgotten = t->v.v[half - 1].at;
    t->v.n -= half;
    memmove(t->v.v, t->v.v + half, t->v.n * sizeof(*t->v.v));
}

static bool follows_from_endpoints(const struct mz_model *m, const struct mz_service *s)
{
    return s->resolution != MZ_RESOLVE_EDS || m->dialled;
}

static void add(struct tr_touches *t, struct tr_touch one)
{
    one.at = t->now;
    one.alone = !one.was || is_alone(t->names, one.was);
    *mz_vec_push(&t->v, MZ_MEM_XDS) = one;
}

static void add_all(struct tr_touches *t, const struct mz_model *next)
{
    for (size_t i = 0; i < next->patched_n; i++) {
        const struct mz_patched *p = &next->patched[i];
        if (p->was != p->is || follows_from_endpoints(next, p->is))
            add(t, (struct tr_touch){ .was = p->was, .is = p->is });
    }
    for (size_t i = 0; i < next->rules_patched_n; i++) {
        const struct mz_patched_rule *r = &next->rules_patched[i];
        const struct mz_service *s = mz_model_service(next, r->host);
        add(t, (struct tr_touch){ .was = s, .is = s, .rule = r });
    }
    for (size_t i = 0; i < next->virtuals_patched_n; i++)
        add(t, (struct tr_touch){ .routed = &next->virtuals_patched[i] });
}

/* By what is said now, and was before. */
static void find_routes(struct tr_names *names, struct tr_touch *t)
{
    const struct mz_str host = tr_touch_host(t);
    t->spoken |= how_many(names, ROUTED, host) != 0;
    t->led_to |= how_many(names, DESTINATION, host) != 0;
    t->routed4 |= names->wild4 || how_many(names, ROUTED4, host);
}

void tr_touches_add(struct tr_touches *t, const struct mz_model *m, const struct mz_model *next)
{
    struct tr_names *names = names_of(t, m);
    const size_t first = t->v.n;
    t->now++;
    add_all(t, next);
    for (size_t i = first; i < t->v.n; i++)
        find_routes(names, &t->v.v[i]);
    for (size_t i = first; i < t->v.n; i++) {
        note(names, t->v.v[i].was, -1);
        if (t->v.v[i].routed)
            note_virtual(names, t->v.v[i].routed->was, -1);
    }
    for (size_t i = first; i < t->v.n; i++) {
        note(names, t->v.v[i].is, 1);
        if (t->v.v[i].routed)
            note_virtual(names, t->v.v[i].routed->is, 1);
    }
    for (size_t i = first; i < t->v.n; i++) {
        find_routes(names, &t->v.v[i]);
        t->v.v[i].alone &= is_alone(names, t->v.v[i].is);
    }
    while (t->v.n > MAX_TOUCHES)
        forget_half(t);
}

bool tr_is_alone(struct tr_touches *t, const struct mz_model *m, const struct mz_service *s)
{
    return is_alone(names_of(t, m), s);
}

bool tr_has_wildcards(const struct tr_touches *t)
{
    return t->names->wild != 0;
}

bool tr_is_led_to(struct tr_touches *t, const struct mz_model *m, struct mz_str host)
{
    return how_many(names_of(t, m), DESTINATION, host) != 0;
}
