#include "control/model/peer_auth.h"

#include "control/model/model_priv.h"

struct mz_peer_auth { /* one document */
    struct mz_str ns;
    struct mz_labels selector; /* none: the namespace, or from the root namespace the mesh */
    const ist_PeerAuthentication *m;
};

void model_add_peer_auth(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *docs = model_oldest_first(d, MZ_KIND_PEER_AUTHENTICATION, &n);
    struct mz_peer_auth *v = mz_arena_alloc0(d->m->arena, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        v[i].ns = mz_arena_dup(d->m->arena, docs[i]->ns);
        v[i].m = (const ist_PeerAuthentication *)mz_doc_body(docs[i], d->m->arena);
        v[i].selector = model_selector(d->m->arena, v[i].m->selector);
        d->m->mtls_hash = mz_xxh64(&docs[i]->version, sizeof(uint64_t),
                                   model_hash_str(d->m->mtls_hash, docs[i]->key));
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
