#include "control/model/peer_auth.h"

#include <stdlib.h>

#include "control/model/model_priv.h"

struct mz_peer_auth { /* one document */
    struct mz_str ns;
    struct mz_labels selector; /* none: the namespace, or from the root namespace the mesh */
    const ist_PeerAuthentication *m;
};

static int compare_docs(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->created, (*y)->created);
    c = c ? c : mz_str_cmp((*x)->name, (*y)->name);
    return c ? c : mz_str_cmp((*x)->ns, (*y)->ns);
}

static struct mz_labels selector_of(struct mz_arena *a, const ist_WorkloadSelector *s)
{
    const size_t n = s ? s->n_match_labels : 0;
    struct mz_label *v = mz_arena_alloc(a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (struct mz_label){ mz_str_c(s->match_labels[i]->key),
                                  mz_str_c(s->match_labels[i]->value) };
    return mz_labels_make(a, v, n);
}

void model_add_peer_auth(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *docs = mz_store_list(d->store, MZ_KIND_PEER_AUTHENTICATION, &n);
    const struct mz_doc **sorted = mz_arena_alloc(d->scratch, n * sizeof(*sorted));
    struct mz_peer_auth *v = mz_arena_alloc0(d->m->arena, n * sizeof(*v));
    if (n) {
        memcpy(sorted, docs, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), compare_docs);
    }
    for (size_t i = 0; i < n; i++) {
        v[i].ns = mz_arena_dup(d->m->arena, sorted[i]->ns);
        v[i].m = (const ist_PeerAuthentication *)mz_doc_body(sorted[i], d->m->arena);
        v[i].selector = selector_of(d->m->arena, v[i].m->selector);
        d->m->mtls_hash = mz_xxh64(&sorted[i]->version, sizeof(uint64_t),
                                   model_hash_str(d->m->mtls_hash, sorted[i]->key));
    }
    d->m->peer_auth = v;
    d->m->peer_auth_n = n;
}

static bool take(const ist_PeerAuthentication_MutualTLS *t, enum mz_mtls *mode)
{
    if (!t || t->mode == ist_PeerAuthentication_MutualTLS_Mode_UNSET)
        return false;
    *mode = t->mode == ist_PeerAuthentication_MutualTLS_Mode_STRICT    ? MZ_MTLS_STRICT
            : t->mode == ist_PeerAuthentication_MutualTLS_Mode_DISABLE ? MZ_MTLS_DISABLE
                                                                       : MZ_MTLS_PERMISSIVE;
    return true;
}

/* The oldest document of @ns, with a selector that matches @labels or without one. */
static const struct mz_peer_auth *find(const struct mz_model *m, struct mz_str ns,
                                       const struct mz_labels *labels)
{
    for (size_t i = 0; i < m->peer_auth_n; i++) {
        const struct mz_peer_auth *p = &m->peer_auth[i];
        if (mz_str_eq(p->ns, ns) &&
            (labels ? mz_labels_match(p->selector, *labels) : p->selector.n == 0))
            return p;
    }
    return NULL;
}

enum mz_mtls mz_model_mtls_of_namespace(const struct mz_model *m, struct mz_str ns)
{
    enum mz_mtls mode = MZ_MTLS_PERMISSIVE;
    const struct mz_peer_auth *mesh = find(m, m->mesh.root_ns, NULL), *own = find(m, ns, NULL);
    (void)(mesh && take(mesh->m->mtls, &mode)); /* what says nothing changes nothing */
    (void)(own && take(own->m->mtls, &mode));
    return mode;
}

enum mz_mtls mz_model_mtls(const struct mz_model *m, struct mz_str ns, struct mz_labels labels,
                           uint16_t port)
{
    enum mz_mtls mode = mz_model_mtls_of_namespace(m, ns);
    const struct mz_peer_auth *own = find(m, ns, &labels);
    if (!own)
        return mode;
    (void)take(own->m->mtls, &mode);
    for (size_t i = 0; port && i < own->m->n_port_level_mtls; i++)
        if (own->m->port_level_mtls[i]->key == port)
            (void)take(own->m->port_level_mtls[i]->value, &mode);
    return mode;
}
