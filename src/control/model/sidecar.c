#include "control/model/sidecar.h"

#include <stdlib.h>

#include "control/model/model_priv.h"

/* ---- building ---- */

static int compare(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->name, (*y)->name);
    return c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
}

static struct mz_sidecars *of_namespace(struct model_draft *d, struct mz_str ns)
{
    struct mz_map *all =
        (struct mz_map *)(uintptr_t)d->m->sidecars; /* ours until the model stands */
    struct mz_sidecars *l = mz_map_get(all, ns);
    if (!l) {
        l = mz_arena_new0(d->m->arena, struct mz_sidecars);
        (void)mz_map_put(all, mz_arena_dup(d->m->arena, ns), l);
    }
    return l;
}

static void free_all(void *arg)
{
    mz_map_foreach (it, (struct mz_map *)arg)
        mz_vec_free(&((struct mz_sidecars *)it->value)->v, MZ_MEM_CONFIG);
    mz_map_fini(arg);
}

static void add(struct model_draft *d, const struct mz_doc *doc, bool selecting)
{
    const ist_Sidecar *spec = (const ist_Sidecar *)mz_doc_body(doc, d->m->arena);
    if ((spec->workload_selector != NULL) != selecting)
        return;
    struct mz_sidecar *s = mz_arena_new0(d->m->arena, struct mz_sidecar);
    s->ns = mz_arena_dup(d->m->arena, doc->ns);
    s->name = mz_arena_dup(d->m->arena, doc->name);
    s->spec = spec;
    s->hash = doc->version;
    s->selects = selecting;
    if (selecting)
        s->selector = model_labels(d, (const void *const *)spec->workload_selector->labels,
                                   spec->workload_selector->n_labels);
    *mz_vec_push(&of_namespace(d, s->ns)->v, MZ_MEM_CONFIG) = s;
    d->m->sidecars_hash = mz_xxh64(&doc->version, sizeof(doc->version),
                                   model_hash_str(d->m->sidecars_hash, doc->key));
}

void model_add_sidecars(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *v = model_docs(d, MZ_KIND_SIDECAR, &n);
    const struct mz_doc **sorted = mz_arena_alloc(d->scratch, n * sizeof(*sorted));
    struct mz_map *all = mz_arena_new0(d->m->arena, struct mz_map);
    mz_map_init(all, MZ_MEM_CONFIG);
    mz_arena_cleanup(d->m->arena, free_all, all);
    d->m->sidecars = all;
    if (n) {
        memcpy(sorted, v, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), compare);
    }
    for (size_t i = 0; i < n; i++)
        add(d, sorted[i], true);
    for (size_t i = 0; i < n; i++)
        add(d, sorted[i], false);
}

/* ---- choosing ---- */

const struct mz_sidecar *mz_model_sidecar(const struct mz_model *m, struct mz_str ns,
                                          struct mz_labels labels)
{
    const struct mz_sidecars *own = mz_map_get(m->sidecars, ns);
    const struct mz_sidecars *root = mz_map_get(m->sidecars, m->mesh.root_ns);
    for (size_t i = 0; own && i < own->v.n; i++) {
        const struct mz_sidecar *s = own->v.v[i];
        if (!s->selects || !s->selector.n || mz_labels_match(s->selector, labels))
            return s;
    }
    for (size_t i = 0; root && i < root->v.n; i++)
        if (!root->v.v[i]->selects)
            return root->v.v[i];
    return NULL;
}

/* ---- imports ---- */

struct import {
    struct mz_str ns, host; /* "*": any */
    bool out;               /* taken out again */
};
struct mz_imports {
    struct import *v;
    size_t n;
};

/* "." is the document's namespace, "~" nothing at all, "~ns" all but that. */
static struct import parse(struct mz_str text, struct mz_str ns)
{
    const ptrdiff_t slash = mz_str_chr(text, '/');
    struct import i = { { text.p, (size_t)slash }, mz_str_skip(text, (size_t)slash + 1), false };
    if (mz_str_starts(i.ns, MZ_STR("~"))) {
        i.out = true;
        i.ns = i.ns.n > 1 ? mz_str_skip(i.ns, 1) : MZ_STR("*");
    }
    if (mz_str_eq(i.ns, MZ_STR(".")))
        i.ns = ns;
    return i;
}

struct mz_imports *mz_imports_create(struct mz_arena *a, const ist_IstioEgressListener *l,
                                     struct mz_str ns)
{
    struct mz_imports *m = mz_arena_new0(a, struct mz_imports);
    m->v = mz_arena_alloc(a, (l ? l->n_hosts : 1) * sizeof(*m->v));
    if (!l)
        m->v[m->n++] = (struct import){ MZ_STR("*"), MZ_STR("*"), false };
    for (size_t i = 0; l && i < l->n_hosts; i++)
        if (mz_str_chr(mz_str_c(l->hosts[i]), '/') >= 0)
            m->v[m->n++] = parse(mz_str_c(l->hosts[i]), ns);
    return m;
}

static bool is_wild(struct mz_str host)
{
    return host.n && host.p[0] == '*';
}

/* Everything that @host stands for lies beneath @pattern. */
static bool is_beneath(struct mz_str host, struct mz_str pattern)
{
    if (!is_wild(pattern))
        return mz_str_eq(host, pattern);
    return mz_str_ends(is_wild(host) ? mz_str_skip(host, 1) : host, mz_str_skip(pattern, 1));
}

static bool matches(struct mz_str host, struct mz_str pattern)
{
    return is_beneath(host, pattern) || is_beneath(pattern, host);
}

static bool imported(const struct mz_imports *m, struct mz_str ns, struct mz_str host,
                     bool (*match)(struct mz_str host, struct mz_str pattern))
{
    bool in = false;
    for (size_t i = 0; i < m->n; i++) {
        const struct import *p = &m->v[i];
        if (!mz_str_eq(p->ns, MZ_STR("*")) && !mz_str_eq(p->ns, ns))
            continue;
        if (p->out && is_beneath(host, p->host))
            return false;
        in |= !p->out && match(host, p->host);
    }
    return in;
}

bool mz_imports_service(const struct mz_imports *m, struct mz_str ns, struct mz_str host)
{
    return imported(m, ns, host, is_beneath);
}

bool mz_imports_host(const struct mz_imports *m, struct mz_str ns, struct mz_str host)
{
    return imported(m, ns, host, matches);
}
