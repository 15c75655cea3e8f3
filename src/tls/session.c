/*
 * Sessions of upstream connections (T1): the last ticket of each server address, per thread, so that no lock is needed. And how long
 * sessions last: a resumed handshake verifies no certificate, so they end with those that the peer has shown.
 */
#include "tls/tls_priv.h"

#include "net/conn.h"

static bool is_judged(const struct tls_factory *f)
{
    return f->verify.asks && !f->verify.allow_expired && !f->verify.accept_untrusted;
}

static long shorter(long most_s, const X509 *x)
{
    int days, seconds;
    if (!x || !ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)))
        return most_s;
    const long long left = (long long)days * 86400 + seconds;
    return left < 0 ? 0 : left < most_s ? (long)left : most_s;
}

void session_limit(SSL *ssl, const X509 *leaf, const STACK_OF(X509) * chain)
{
    SSL_SESSION *s = SSL_get_session(ssl);
    if (!s || !leaf || !is_judged(tls_factory_of_ssl(ssl)))
        return;
    long left = shorter(SSL_SESSION_get_timeout(s), leaf);
    for (int i = 0; chain && i < sk_X509_num(chain); i++)
        left = shorter(left, sk_X509_value(chain, i));
    (void)SSL_SESSION_set_timeout(s, left);
}

int session_ticket(SSL *ssl, void *arg)
{
    (void)arg;
    session_limit(ssl, SSL_get0_peer_certificate(ssl), SSL_get_peer_cert_chain(ssl));
    return 1;
}

/* Slots are made when the first session comes. */
static struct session_slot *slot_made(struct tls_factory *f, const struct mz_addr *a)
{
    struct session_slot **v = &f->sessions[mz_stats_slot];
    if (!*v)
        *v = mz_newn0(MZ_MEM_TLS, struct session_slot, SESSIONS_PER_WORKER);
    return &(*v)[mz_addr_hash(a) % SESSIONS_PER_WORKER];
}

static bool same_names(const struct session_slot *s, const struct tls_transport *t)
{
    return (!s->names && !t->names) ||
           mz_transport_opts_same(s->names, t->names, MZ_TRANSPORT_USES_NAMES);
}

int session_keep(SSL *ssl, SSL_SESSION *take)
{
    const struct tls_transport *t = SSL_get_app_data(ssl);
    struct session_slot *s = slot_made(t->f, &t->base.conn->remote);
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
    if (!t->f->max_sessions || !t->f->sessions[mz_stats_slot])
        return;
    struct session_slot *s = slot_made(t->f, to);
    if (!s->session || !mz_addr_eq(&s->peer, to) || !same_names(s, t))
        return;
    if (is_judged(t->f) && shorter(1, SSL_SESSION_get0_peer(s->session)) == 0)
        return; /* the next full handshake takes its place */
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
