#include "filters/ext_authz/ext_authz.h"

#include "listener/network_filter.h"

/* Who talks to whom, of a connection: CheckRequest's attributes that need no request. */

static const struct mz_tls_facts *facts_of(const struct mz_downstream *d)
{
    struct mz_transport *t = d->conn->transport;
    return t && t->ops->tls ? t->ops->tls(t) : NULL;
}

/* The first URI, else the first DNS name, else the subject. */
static struct mz_str principal(const struct mz_tls_cert_facts *c)
{
    if (c->uri_sans.n)
        return c->uri_sans.v[0];
    return c->dns_sans.n ? c->dns_sans.v[0] : c->subject;
}

static pb_AttributeContext_Peer *peer(const struct mz_addr *addr, struct mz_str service,
                                      const struct mz_tls_cert_facts *cert, struct mz_arena *a)
{
    pb_AttributeContext_Peer *m = mz_proto_new(a, pb_AttributeContext_Peer);
    m->address = mz_proto_address(addr, a);
    m->service = mz_proto_text(service, a);
    if (cert)
        m->principal = mz_proto_text(principal(cert), a);
    return m;
}

struct authz_labels authz_labels_of_node(const struct mz_factory *f, const char *key,
                                         struct mz_arena *a)
{
    const struct mz_value *node = f->node_metadata, *of = NULL;
    struct authz_labels out = { NULL, 0 };
    for (size_t i = 0; key[0] && node && i < node->fields.n; i++)
        if (mz_str_eq(node->fields.v[i].key, mz_str_c(key)))
            of = node->fields.v[i].value;
    if (!of || of->kind != MZ_VALUE_STRUCT)
        return out;
    out.v = mz_arena_alloc0(a, mz_mul(of->fields.n, sizeof(*out.v)) + 1);
    for (size_t i = 0; i < of->fields.n; i++) {
        const struct mz_field *e = &of->fields.v[i];
        struct mz_str text = e->value->kind == MZ_VALUE_STRING ? e->value->str : MZ_STR("");
        out.v[out.n++] = (struct authz_label){ mz_proto_text(e->key, a), mz_proto_text(text, a) };
    }
    return out;
}

static void labels_put(pb_AttributeContext_Peer *m, const struct authz_labels *l,
                       struct mz_arena *a)
{
    if (!l || !l->n)
        return;
    m->labels = mz_arena_alloc0(a, l->n * sizeof(*m->labels));
    m->n_labels = l->n;
    for (size_t i = 0; i < l->n; i++) {
        m->labels[i] = mz_proto_new(a, pb_AttributeContext_Peer_LabelsEntry);
        m->labels[i]->key = l->v[i].key;
        m->labels[i]->value = l->v[i].value;
    }
}

pb_AttributeContext *authz_attributes(const struct authz_peers *p, struct mz_arena *a)
{
    const struct mz_downstream *d = p->down;
    const struct mz_tls_facts *tls = facts_of(d);
    pb_AttributeContext *m = mz_proto_new(a, pb_AttributeContext);
    m->source = peer(&d->conn->remote, p->service, tls ? &tls->peer : NULL, a);
    if (tls && p->certificate)
        m->source->certificate = mz_proto_text(tls->peer.pem, a);
    m->destination = peer(&d->local_restored, p->destination, tls ? &tls->own : NULL, a);
    labels_put(m->destination, p->labels, a);
    if (p->tls_session) {
        m->tls_session = mz_proto_new(a, pb_AttributeContext_TLSSession);
        m->tls_session->sni = mz_proto_text(tls && tls->sni.n ? tls->sni : d->sni, a);
    }
    return m;
}
