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

pb_AttributeContext *authz_attributes(const struct authz_peers *p, struct mz_arena *a)
{
    const struct mz_downstream *d = p->down;
    const struct mz_tls_facts *tls = facts_of(d);
    pb_AttributeContext *m = mz_proto_new(a, pb_AttributeContext);
    m->source = peer(&d->conn->remote, p->service, tls ? &tls->peer : NULL, a);
    if (tls && p->certificate)
        m->source->certificate = mz_proto_text(tls->peer.pem, a);
    m->destination = peer(&d->local_restored, p->destination, tls ? &tls->own : NULL, a);
    if (p->tls_session) {
        m->tls_session = mz_proto_new(a, pb_AttributeContext_TLSSession);
        m->tls_session->sni = mz_proto_text(tls && tls->sni.n ? tls->sni : d->sni, a);
    }
    return m;
}
