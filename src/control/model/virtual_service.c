#include "control/model/virtual_service.h"

#include <stdlib.h>

#include "control/model/gateway_api_priv.h"
#include "control/model/model_priv.h"
#include "control/model/virtual_merge.h"

/* ---- names ---- */

static bool is_wild(struct mz_str host)
{
    return host.n && host.p[0] == '*';
}

bool mz_host_is_within(struct mz_str host, struct mz_str pattern)
{
    if (!is_wild(pattern))
        return mz_str_eq(host, pattern);
    return mz_str_ends(is_wild(host) ? mz_str_skip(host, 1) : host, mz_str_skip(pattern, 1));
}

bool mz_hosts_meet(struct mz_str a, struct mz_str b)
{
    return mz_host_is_within(a, b) || mz_host_is_within(b, a);
}

static char *text(struct model_draft *d, struct mz_str s)
{
    return (char *)(uintptr_t)mz_arena_dup(d->m->arena, s).p;
}

/* "name", "./name", "namespace/name", and the older "name.namespace" with or without the domain behind it. */
static char *full_gateway(struct model_draft *d, char *written, struct mz_str ns)
{
    struct mz_str g = mz_str_c(written);
    const ptrdiff_t slash = mz_str_chr(g, '/'), dot = mz_str_chr(g, '.');
    if (mz_str_eq(g, MZ_STR(MZ_GATEWAY_MESH)) || (slash >= 0 && !mz_str_starts(g, MZ_STR("./"))))
        return written;
    if (slash >= 0)
        g = mz_str_skip(g, (size_t)slash + 1);
    else if (dot >= 0) {
        struct mz_str rest = mz_str_skip(g, (size_t)dot + 1);
        g.n = (size_t)dot;
        (void)mz_str_split(&rest, '.', &ns);
    }
    return text(d, mz_arena_printf(d->m->arena, "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(g)));
}

static void fill_gateways(struct model_draft *d, char **v, size_t n, struct mz_str ns)
{
    for (size_t i = 0; i < n; i++)
        v[i] = full_gateway(d, v[i], ns);
}

static void fill_destination(struct model_draft *d, ist_Destination *to, struct mz_str ns)
{
    if (to && to->host[0])
        to->host = text(d, model_full_host(d, mz_str_c(to->host), ns));
}

static void fill_http(struct model_draft *d, ist_HTTPRoute *r, struct mz_str ns)
{
    for (size_t i = 0; i < r->n_match; i++)
        fill_gateways(d, r->match[i]->gateways, r->match[i]->n_gateways, ns);
    for (size_t i = 0; i < r->n_route; i++)
        fill_destination(d, r->route[i]->destination, ns);
    fill_destination(d, r->mirror, ns);
    for (size_t i = 0; i < r->n_mirrors; i++)
        fill_destination(d, r->mirrors[i]->destination, ns);
}

/* The message is ours alone until the model stands. */
static void fill_names(struct model_draft *d, ist_VirtualService *m, struct mz_str ns)
{
    for (size_t i = 0; i < m->n_hosts; i++)
        m->hosts[i] = text(d, model_full_host(d, mz_str_c(m->hosts[i]), ns));
    fill_gateways(d, m->gateways, m->n_gateways, ns);
    for (size_t i = 0; i < m->n_http; i++)
        fill_http(d, m->http[i], ns);
    for (size_t i = 0; i < m->n_tcp; i++) {
        for (size_t k = 0; k < m->tcp[i]->n_match; k++)
            fill_gateways(d, m->tcp[i]->match[k]->gateways, m->tcp[i]->match[k]->n_gateways, ns);
        for (size_t k = 0; k < m->tcp[i]->n_route; k++)
            fill_destination(d, m->tcp[i]->route[k]->destination, ns);
    }
    for (size_t i = 0; i < m->n_tls; i++) {
        for (size_t k = 0; k < m->tls[i]->n_match; k++)
            fill_gateways(d, m->tls[i]->match[k]->gateways, m->tls[i]->match[k]->n_gateways, ns);
        for (size_t k = 0; k < m->tls[i]->n_route; k++)
            fill_destination(d, m->tls[i]->route[k]->destination, ns);
    }
}

/* ---- building ---- */

static bool asks_for_source(const ist_VirtualService *m)
{
    bool asks = false;
    for (size_t i = 0; i < m->n_http; i++)
        for (size_t k = 0; k < m->http[i]->n_match; k++)
            asks |=
                m->http[i]->match[k]->n_source_labels || m->http[i]->match[k]->source_namespace[0];
    return asks;
}

static void fill_export(struct model_draft *d, struct mz_virtual *v)
{
    const bool said = v->spec->n_export_to != 0;
    struct mz_str *to;
    v->export_to_n = said ? v->spec->n_export_to : d->m->mesh.virtual_export_to_n;
    v->export_to = to = mz_arena_alloc(d->m->arena, v->export_to_n * sizeof(*to));
    for (size_t i = 0; i < v->export_to_n; i++) {
        to[i] = said ? mz_str_c(v->spec->export_to[i]) : d->m->mesh.virtual_export_to[i];
        if (mz_str_eq(to[i], MZ_STR(".")))
            to[i] = v->ns;
    }
}

static struct mz_virtual *make(struct model_draft *d, const struct mz_doc *doc)
{
    struct mz_virtual *v = mz_arena_new0(d->m->arena, struct mz_virtual);
    ist_VirtualService *m = (ist_VirtualService *)(uintptr_t)mz_doc_body(doc, d->m->arena);
    v->ns = mz_arena_dup(d->m->arena, doc->ns);
    v->name = mz_arena_dup(d->m->arena, doc->name);
    v->created = mz_arena_dup(d->m->arena, doc->created);
    v->hash = model_hash_str(model_hash_str(doc->version, v->ns), v->name);
    for (size_t i = 0; i < m->n_http; i++)
        v->delegates |= m->http[i]->delegate != NULL;
    fill_names(d, m, v->ns);
    v->spec = m;
    fill_export(d, v);
    return v;
}

void gw_add_virtual(struct gw_making *g, struct mz_str ns, struct mz_str name,
                    struct mz_str created, ist_VirtualService *spec, enum mz_semantics semantics)
{
    struct model_draft *d = g->d;
    struct mz_virtual *v = mz_arena_new0(d->m->arena, struct mz_virtual);
    v->ns = mz_arena_dup(d->m->arena, ns);
    v->name = mz_arena_dup(d->m->arena, name);
    v->created = mz_arena_dup(d->m->arena, created);
    v->semantics = semantics;
    if (semantics == MZ_SEMANTICS_INGRESS)
        fill_names(d, spec, v->ns);
    const struct mz_str bytes = mz_msg_pack_alloc(&spec->base, d->scratch);
    v->hash = model_hash_str(model_hash_str(mz_xxh64(bytes.p, bytes.n, semantics), v->ns), v->name);
    v->spec = spec;
    fill_export(d, v);
    *mz_vec_push(&d->virtuals, MZ_MEM_CONFIG) = v;
}

/* Oldest first, then by name and namespace. */
static int compare(const void *a, const void *b)
{
    const struct mz_virtual *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->name, (*y)->name);
    return c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
}

static struct mz_str key_of(struct model_draft *d, struct mz_str ns, struct mz_str name)
{
    return mz_arena_printf(d->m->arena, "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(name));
}

/* Of them all, whatever their order: the documents say how old they are. */
static uint64_t part_of_hash(const struct mz_virtual *v)
{
    return mz_xxh64(&v->hash, sizeof(v->hash), 0);
}

void model_add_virtuals(struct model_draft *d)
{
    size_t n, kept = 0;
    const struct mz_doc *const *docs = model_docs(d, MZ_KIND_VIRTUAL_SERVICE, &n);
    d->m->virtuals_table = model_table(n + d->virtuals.n);
    const struct mz_virtual **v = (const struct mz_virtual **)d->m->virtuals_table->v;
    struct mz_map delegates;
    mz_map_init(&delegates, MZ_MEM_CONFIG);
    for (size_t i = 0; i < n; i++) {
        struct mz_virtual *one = make(d, docs[i]);
        const struct mz_str key = key_of(d, one->ns, one->name);
        (void)mz_index_put(&d->m->by_virtual, key, one);
        if (one->spec->n_hosts)
            v[kept++] = one;
        else
            (void)mz_map_put(&delegates, key, one);
    }
    mz_vec_foreach (made, &d->virtuals)
        v[kept++] = *made;
    if (kept)
        qsort(v, kept, sizeof(*v), compare);
    for (size_t i = 0; i < kept; i++) {
        struct mz_virtual *own = (struct mz_virtual *)(uintptr_t)v[i];
        model_merge_delegates(d, own, &delegates);
        own->by_source = asks_for_source(own->spec);
        d->m->virtuals_hash += part_of_hash(own);
    }
    mz_map_fini(&delegates);
    d->m->virtuals = (const struct mz_virtual *const *)d->m->virtuals_table->v;
    d->m->virtuals_n = kept;
}

/* ---- one document is another ---- */

/* Where it is among all, or would go. */
static size_t place(const struct mz_model *m, const struct mz_virtual *v)
{
    size_t lo = 0, hi = m->virtuals_n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (compare(&m->virtuals[mid], &v) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void exchange(struct mz_model *m, const struct mz_virtual *was, const struct mz_virtual *is)
{
    model_table_own(&m->virtuals_table, m->virtuals_n, 1);
    const void **v = m->virtuals_table->v;
    m->virtuals = (const struct mz_virtual *const *)v;
    if (was) {
        const size_t at = place(m, was);
        memmove(&v[at], &v[at + 1], (--m->virtuals_n - at) * sizeof(*v));
        m->virtuals_hash -= part_of_hash(was);
    }
    if (is) {
        const size_t at = place(m, is);
        memmove(&v[at + 1], &v[at], (m->virtuals_n++ - at) * sizeof(*v));
        v[at] = is;
        m->virtuals_hash += part_of_hash(is);
    }
}

static bool stands_alone(const struct mz_virtual *v)
{
    return !v || (v->spec->n_hosts && !v->delegates);
}

bool model_patch_virtual(struct model_patch *p, const struct mz_store_change *c)
{
    struct mz_model *m = p->d.m;
    const struct mz_str key = key_of(&p->d, c->ns, c->name);
    const struct mz_doc *doc = mz_store_get(p->d.store, c->key);
    const struct mz_virtual *was = mz_index_get(m->by_virtual, key);
    struct mz_virtual *is = doc ? make(&p->d, doc) : NULL;
    if (m->derived || !stands_alone(was) || !stands_alone(is))
        return false;
    if (was == is || (was && is && was->hash == is->hash))
        return true;
    if (is)
        is->by_source = asks_for_source(is->spec);
    (void)mz_index_put(&m->by_virtual, key, is);
    exchange(m, was, is);
    *mz_vec_push(&p->virtuals, MZ_MEM_CONFIG) = (struct mz_patched_virtual){ was, is };
    return true;
}

/* ---- choosing ---- */

bool mz_virtual_is_bound(const struct mz_virtual *v, struct mz_str gateway)
{
    for (size_t i = 0; i < v->spec->n_gateways; i++)
        if (mz_str_eq(mz_str_c(v->spec->gateways[i]), gateway))
            return true;
    return !v->spec->n_gateways && mz_str_eq(gateway, MZ_STR(MZ_GATEWAY_MESH));
}

enum reach { REACH_OWN, REACH_FEW, REACH_ALL, REACH_NONE };

static enum reach reach(const struct mz_virtual *v, struct mz_str ns)
{
    enum reach r = v->export_to_n ? REACH_NONE : REACH_ALL;
    bool hidden = false;
    for (size_t i = 0; i < v->export_to_n; i++) {
        hidden |= mz_str_eq(v->export_to[i], MZ_STR("~"));
        if (mz_str_eq(v->export_to[i], MZ_STR("*")))
            return REACH_ALL;
        if (mz_str_eq(v->export_to[i], ns))
            r = mz_str_eq(v->ns, ns) ? REACH_OWN : REACH_FEW;
    }
    return hidden ? REACH_NONE : r;
}

bool mz_virtual_visible(const struct mz_virtual *v, struct mz_str ns)
{
    return reach(v, ns) != REACH_NONE;
}

/* Of the Gateway API, what clients of a namespace say for themselves comes first. */
static bool is_for_itself(const struct mz_virtual *v, struct mz_str ns)
{
    return v->semantics == MZ_SEMANTICS_GATEWAY && mz_str_eq(v->ns, ns);
}

int mz_virtual_order(const struct mz_virtual *a, const struct mz_virtual *b, struct mz_str ns)
{
    const enum reach x = reach(a, ns), y = reach(b, ns);
    int c = (x > y) - (x < y);
    c = c ? c : is_for_itself(b, ns) - is_for_itself(a, ns);
    return c ? c : compare(&a, &b);
}

bool mz_virtual_asks_labels(const struct mz_virtual *v)
{
    const ist_VirtualService *m = v->spec;
    bool asks = false;
    for (size_t i = 0; i < m->n_http; i++)
        for (size_t k = 0; k < m->http[i]->n_match; k++)
            asks |= m->http[i]->match[k]->n_source_labels != 0;
    for (size_t i = 0; i < m->n_tcp; i++)
        for (size_t k = 0; k < m->tcp[i]->n_match; k++)
            asks |= m->tcp[i]->match[k]->n_source_labels != 0;
    for (size_t i = 0; i < m->n_tls; i++)
        for (size_t k = 0; k < m->tls[i]->n_match; k++)
            asks |= m->tls[i]->match[k]->n_source_labels != 0;
    return asks;
}

struct bound {
    const struct mz_virtual *v;
    unsigned rank; /* the lowest first */
};

const struct mz_virtual *const *mz_model_virtuals(const struct mz_model *m, struct mz_str ns,
                                                  struct mz_str gateway, struct mz_arena *a,
                                                  size_t *out_n)
{
    MZ_VEC(struct bound) all = { 0 };
    for (size_t i = 0; i < m->virtuals_n; i++) {
        const struct mz_virtual *one = m->virtuals[i];
        const enum reach r = mz_virtual_is_bound(one, gateway) ? reach(one, ns) : REACH_NONE;
        if (r != REACH_NONE)
            *mz_vec_push(&all, MZ_MEM_CONFIG) =
                (struct bound){ one, 2 * r + !is_for_itself(one, ns) };
    }
    const struct mz_virtual **v = mz_arena_alloc(a, all.n * sizeof(*v));
    size_t n = 0;
    for (unsigned rank = 0; rank < 2 * REACH_NONE; rank++)
        mz_vec_foreach (b, &all)
            if (b->rank == rank)
                v[n++] = b->v;
    mz_vec_free(&all, MZ_MEM_CONFIG);
    *out_n = n;
    return v;
}
