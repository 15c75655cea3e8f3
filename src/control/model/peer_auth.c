#include "control/model/peer_auth.h"

#include <stdlib.h>

#include "control/model/model_priv.h"

struct mz_peer_auth { /* one document */
    struct mz_str ns, key;
    struct mz_labels selector;       /* none: the namespace, or from the root namespace the mesh */
    const ist_PeerAuthentication *m; /* its ports are sorted */
    size_t age;
};

static int compare_ports(const void *a, const void *b)
{
    const ist_PeerAuthentication_PortLevelMtlsEntry *const *x = a, *const *y = b;
    return ((*x)->key > (*y)->key) - ((*x)->key < (*y)->key);
}

static int compare_namespaces(const void *a, const void *b)
{
    const struct mz_peer_auth *x = a, *y = b;
    const int c = mz_str_cmp(x->ns, y->ns);
    return c ? c : (x->age > y->age) - (x->age < y->age);
}

void model_add_peer_auth(struct model_draft *d)
{
    size_t n;
    const struct mz_doc *const *docs = model_oldest_first(d, MZ_KIND_PEER_AUTHENTICATION, &n);
    struct mz_peer_auth *v = mz_arena_alloc0(d->m->arena, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        v[i].ns = mz_arena_dup(d->m->arena, docs[i]->ns);
        v[i].key = mz_arena_dup(d->m->arena, docs[i]->key);
        v[i].m = (const ist_PeerAuthentication *)mz_doc_body(docs[i], d->m->arena);
        v[i].age = i;
        if (v[i].m->n_port_level_mtls)
            qsort(v[i].m->port_level_mtls, v[i].m->n_port_level_mtls, sizeof(void *),
                  compare_ports);
        v[i].selector = model_selector(d->m->arena, v[i].m->selector);
        d->m->mtls_hash = mz_xxh64(&docs[i]->version, sizeof(uint64_t),
                                   model_hash_str(d->m->mtls_hash, docs[i]->key));
    }
    if (n)
        qsort(v, n, sizeof(*v), compare_namespaces);
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
    size_t from = 0, to = m->peer_auth_n;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (mz_str_cmp(m->peer_auth[mid].ns, ns) < 0)
            from = mid + 1;
        else
            to = mid;
    }
    for (; to < m->peer_auth_n && mz_str_eq(m->peer_auth[to].ns, ns); to++) {
        const struct mz_peer_auth *p = &m->peer_auth[to];
        if (labels ? mz_labels_match(p->selector, *labels) : p->selector.n == 0)
            return p;
    }
    return NULL;
}

static const ist_PeerAuthentication_MutualTLS *at_port(const ist_PeerAuthentication *m,
                                                       uint16_t port)
{
    size_t from = 0, to = m->n_port_level_mtls;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (m->port_level_mtls[mid]->key < port)
            from = mid + 1;
        else
            to = mid;
    }
    return from < m->n_port_level_mtls && m->port_level_mtls[from]->key == port
               ? m->port_level_mtls[from]->value
               : NULL;
}

struct choice {
    enum mz_mtls mode;
    struct mz_str key; /* of the document that said so */
};

/* What says nothing changes nothing. */
static void consider(const struct mz_peer_auth *p, const ist_PeerAuthentication_MutualTLS *t,
                     struct choice *c)
{
    if (take(t, &c->mode))
        c->key = p->key;
}

static struct choice of_namespace(const struct mz_model *m, struct mz_str ns)
{
    struct choice c = { MZ_MTLS_PERMISSIVE, MZ_STR("") };
    const struct mz_peer_auth *mesh = find(m, m->mesh.root_ns, NULL), *own = find(m, ns, NULL);
    if (mesh)
        consider(mesh, mesh->m->mtls, &c);
    if (own)
        consider(own, own->m->mtls, &c);
    return c;
}

enum mz_mtls mz_model_mtls_of_namespace(const struct mz_model *m, struct mz_str ns)
{
    return of_namespace(m, ns).mode;
}

enum mz_mtls mz_model_mtls_by(const struct mz_model *m, struct mz_str ns, struct mz_labels labels,
                              uint16_t port, struct mz_str *out_key)
{
    struct choice c = of_namespace(m, ns);
    const struct mz_peer_auth *own = find(m, ns, &labels);
    if (own)
        consider(own, own->m->mtls, &c);
    if (own && port)
        consider(own, at_port(own->m, port), &c);
    *out_key = c.key;
    return c.mode;
}

enum mz_mtls mz_model_mtls(const struct mz_model *m, struct mz_str ns, struct mz_labels labels,
                           uint16_t port)
{
    struct mz_str key;
    return mz_model_mtls_by(m, ns, labels, port, &key);
}

uint16_t mz_model_mtls_port(const struct mz_model *m, struct mz_str ns, struct mz_labels labels,
                            size_t i)
{
    const struct mz_peer_auth *own = find(m, ns, &labels);
    return own && i < own->m->n_port_level_mtls ? (uint16_t)own->m->port_level_mtls[i]->key : 0;
}
