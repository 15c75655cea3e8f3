/* Sessions of upstream connections (T1): the last ticket of each server address, per thread, so that no lock is needed. */
#include "tls/tls_priv.h"

#include "net/conn.h"

static struct session_slot *slot_of(struct tls_factory *f, const struct mz_addr *a, bool make)
{
    struct session_slot **v = &f->sessions[mz_stats_slot];
    if (!*v && make)
        *v = mz_newn0(MZ_MEM_TLS, struct session_slot, SESSIONS_PER_WORKER);
    return *v ? &(*v)[mz_addr_hash(a) % SESSIONS_PER_WORKER] : NULL;
}

static bool same_names(const struct session_slot *s, const struct tls_transport *t)
{
    return (!s->names && !t->names) ||
           mz_transport_opts_same(s->names, t->names, MZ_TRANSPORT_USES_NAMES);
}

int session_keep(SSL *ssl, SSL_SESSION *take)
{
    const struct tls_transport *t = SSL_get_app_data(ssl);
    struct session_slot *s = slot_of(t->f, &t->base.conn->remote, true);
    SSL_SESSION_free(s->session);
    if (!same_names(s, t)) {
        mz_transport_opts_destroy(s->names);
        s->names = mz_transport_opts_copy(t->names, MZ_TRANSPORT_USES_NAMES);
    }
    s->peer = t->base.conn->remote;
    s->session = take;
    return 1; /* the reference is ours */
}

void session_offer(const struct tls_transport *t)
{
    const struct mz_addr *to = &t->base.conn->remote;
    struct session_slot *s = t->f->max_sessions ? slot_of(t->f, to, false) : NULL;
    if (!s || !s->session || !mz_addr_eq(&s->peer, to) || !same_names(s, t))
        return;
    (void)SSL_set_session(t->ssl, s->session);
    if (SSL_SESSION_get_protocol_version(s->session) ==
        TLS1_3_VERSION) { /* a ticket is used once (RFC 8446 C.4) */
        SSL_SESSION_free(s->session);
        s->session = NULL;
    }
}

void sessions_fini(struct tls_factory *f)
{
    for (unsigned i = 0; i < MZ_STATS_SLOTS; i++) {
        for (unsigned k = 0; f->sessions[i] && k < SESSIONS_PER_WORKER; k++) {
            SSL_SESSION_free(f->sessions[i][k].session);
            mz_transport_opts_destroy(f->sessions[i][k].names);
        }
        mz_free(MZ_MEM_TLS, f->sessions[i]);
    }
}
