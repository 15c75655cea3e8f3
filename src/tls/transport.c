/*
 * The TLS transport of one connection (T1): records between the socket and the connection's buffers. OpenSSL reads from the
 * descriptor through a BIO of ours into its record buffer and opens records straight into slices of the input; sealed records
 * gather in @wire and leave in one writev.
 */
#include "tls/tls_priv.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "net/conn.h"

#define IOV_MAX_WRITE 64
#define RECORD_MAX    16384 /* bytes of plain text in a record */
#define WIRE_MAX      65536 /* sealed bytes that wait at most */
#define SMALL         4096  /* a fragment below is joined with its successors into one record */

static struct tls_transport *of(struct mz_transport *t)
{
    return (struct tls_transport *)(void *)t;
}

/* ---- the BIO: OpenSSL's view of the socket ---- */

static int bio_read(BIO *b, char *p, size_t n, size_t *out_n)
{
    struct tls_transport *t = BIO_get_data(b);
    struct mz_conn *c = t->base.conn;
    struct iovec v = { p, n };
    ssize_t got;
    BIO_clear_retry_flags(b);
    do
        got = mz_conn_readv(c, &v, 1);
    while (got < 0 && errno == EINTR);
    t->drained = got < (ssize_t)n;
    if (got < 0 && errno == EAGAIN)
        BIO_set_retry_read(b);
    *out_n = got > 0 ? (size_t)got : 0;
    return got > 0;
}

static int bio_write(BIO *b, const char *p, size_t n, size_t *out_n)
{
    struct tls_transport *t = BIO_get_data(b);
    mz_buf_append(&t->wire, p, n);
    *out_n = n;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long larg, void *parg)
{
    (void)b;
    (void)larg;
    (void)parg;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method;

static void bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mizzen");
    BIO_meth_set_read_ex(bio_method, bio_read);
    BIO_meth_set_write_ex(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* ---- failure ---- */

/* SSL_get_error() looks at the queue; it is empty but for what others left there. */
static void errors_clear(void)
{
    if (MZ_UNLIKELY(ERR_peek_error() != 0))
        ERR_clear_error();
}

struct tls_factory *tls_factory_of_ssl(const SSL *ssl)
{
    const struct tls_transport *t = SSL_get_app_data(ssl);
    return t->f;
}

static void replace_text(char **slot, struct mz_str text)
{
    mz_free(MZ_MEM_TLS, *slot);
    *slot = mz_strndup(MZ_MEM_TLS, text.p ? text.p : "", text.n);
    for (char *p = *slot; *p; p++)
        if (*p == ' ' || *p == '\t')
            *p = '_'; /* as logs show it */
}

void tls_set_failure(SSL *ssl, const char *detail)
{
    struct tls_transport *t = SSL_get_app_data(ssl);
    replace_text(&t->detail, mz_str_c(detail));
}

void tls_note_validated(SSL *ssl)
{
    struct tls_transport *t = SSL_get_app_data(ssl);
    t->validated = true;
}

/* Counters and text of the errors that OpenSSL has queued; none: the peer went. */
static void note_failure(struct tls_transport *t)
{
    unsigned long e = ERR_peek_error();
    t->failed = true;
    if (!e)
        return;
    int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
    if (reason == SSL_R_NO_SHARED_CIPHER && t->f->server && SSL_get_shared_group(t->ssl, -1) == 0) {
        ERR_clear_error(); /* the reason behind the reason, as Envoy has it */
        ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_CURVE);
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        mz_count(t->f->scope, MZ_TLS_FAIL_VERIFY_NO_CERT, 1);
        replace_text(&t->detail, MZ_STR("peer did not provide required client certificate"));
    } else if (reason != SSL_R_CERTIFICATE_VERIFY_FAILED) {
        mz_count(t->f->scope, MZ_TLS_CONNECTION_ERROR, 1);
    }
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, MZ_STR("TLS_error:"));
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED &&
        SSL_get_verify_result(t->ssl) == X509_V_ERR_KEYUSAGE_NO_DIGITAL_SIGNATURE) {
        mz_count(t->f->scope, MZ_TLS_CONNECTION_ERROR,
                 1); /* as Envoy, for which it is no verification */
        error_named(&b, 302, "KEY_USAGE_BIT_INCORRECT");
        ERR_clear_error();
    }
    error_text(&b);
    if (reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE && !t->f->server &&
        SSL_get_state(t->ssl) == TLS_ST_CW_CLNT_HELLO)
        error_named(&b, 154, "HANDSHAKE_FAILURE_ON_CLIENT_HELLO");
    if (t->detail)
        mz_buf_printf(&b, ":%s", t->detail);
    mz_buf_append_str(&b, MZ_STR(":TLS_error_end"));
    replace_text(&t->failure, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    MZ_LOG_IDS(DEBUG, connection, t->base.conn->id, 0, "%s", t->failure);
}

/* The socket failed under the records; its own counters have it. */
static enum mz_io_status socket_failed(struct tls_transport *t, int error)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_printf(&b, "TLS_error:|%u:system_library:OPENSSL_internal:%s:TLS_error_end",
                  2u << 24 | (unsigned)error, strerrordesc_np(error));
    replace_text(&t->failure, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    errno = error;
    return MZ_IO_FAIL;
}

static struct mz_str failure(const struct mz_transport *base)
{
    return mz_str_c(of((struct mz_transport *)(uintptr_t)base)->failure);
}

/* ---- the wire ---- */

static enum mz_io_status flush_wire(struct tls_transport *t)
{
    struct mz_conn *c = t->base.conn;
    while (mz_buf_len(&t->wire)) {
        MZ_UNINIT struct iovec iov[IOV_MAX_WRITE];
        unsigned n = mz_buf_iov(&t->wire, iov, IOV_MAX_WRITE);
        ssize_t sent = mz_conn_writev(c, iov, n);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
        mz_buf_drain(&t->wire, (size_t)sent);
    }
    return MZ_IO_OK;
}

/* Records that OpenSSL made by itself (handshake, alerts, tickets, key updates) leave at once, or when the kernel has room. */
static void flush_own(struct tls_transport *t)
{
    if (flush_wire(t) == MZ_IO_AGAIN)
        mz_conn_write_blocked(t->base.conn);
}

static bool pending(const struct mz_transport *t)
{
    return mz_buf_len(&of((struct mz_transport *)(uintptr_t)t)->wire) != 0;
}

/* ---- handshake ---- */

static void count_sigalg(struct tls_transport *t)
{
    int type = 0, hash = 0;
    if (!SSL_get_peer_signature_type_nid(t->ssl, &type) ||
        !SSL_get_peer_signature_nid(t->ssl, &hash))
        return;
    char name[40];
    const char *bits = hash == NID_sha256   ? "256"
                       : hash == NID_sha384 ? "384"
                       : hash == NID_sha512 ? "512"
                                            : "1";
    if (type == EVP_PKEY_EC)
        (void)snprintf(name, sizeof(name), "ecdsa_secp%sr1_sha%s",
                       strcmp(bits, "512") ? bits : "521", bits);
    else if (type == EVP_PKEY_RSA_PSS)
        (void)snprintf(name, sizeof(name), "rsa_pss_rsae_sha%s", bits);
    else
        (void)snprintf(name, sizeof(name), type == EVP_PKEY_ED25519 ? "ed25519" : "rsa_pkcs1_sha%s",
                       bits);
    mz_tls_count_named(t->f->scope, MZ_TLS_GROUP_SIGALG, name);
}

static const char *group_name(SSL *ssl)
{
    long g = SSL_get_negotiated_group(ssl);
    const char *name = g > 0 ? OBJ_nid2sn((int)g) : NULL;
    if (name && strcmp(name, "prime256v1") == 0)
        return "secp256r1";
    return name && strcmp(name, "X25519") == 0 ? "x25519" : name;
}

static void handshake_done(struct tls_transport *t)
{
    struct mz_scope *s = t->f->scope;
    t->done = true;
    mz_count(s, MZ_TLS_HANDSHAKE, 1);
    mz_tls_count_named(s, MZ_TLS_GROUP_VERSION, SSL_get_version(t->ssl));
    mz_tls_count_named(s, MZ_TLS_GROUP_CIPHER, SSL_get_cipher_name(t->ssl));
    if (group_name(t->ssl))
        mz_tls_count_named(s, MZ_TLS_GROUP_GROUP, group_name(t->ssl));
    count_sigalg(t);
    if (SSL_session_reused(t->ssl)) {
        mz_count(s, MZ_TLS_SESSION_REUSED, 1);
        if (t->f->server)
            pair_resumed(t->ssl);
        t->validated = t->f->verify.asks && !t->f->verify.accept_untrusted &&
                       SSL_get0_peer_certificate(t->ssl);
    }
    if (!SSL_get0_peer_certificate(t->ssl))
        mz_count(s, MZ_TLS_NO_CERTIFICATE, 1);
    MZ_LOG_IDS(DEBUG, connection, t->base.conn->id, 0, "TLS handshake complete: %s, %s",
               SSL_get_version(t->ssl), SSL_get_cipher_name(t->ssl));
}

/* OK: done. */
static enum mz_io_status handshake(struct tls_transport *t)
{
    errors_clear();
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        handshake_done(t);
        flush_own(t);
        return MZ_IO_OK;
    }
    int why = SSL_get_error(t->ssl, r);
    if (why == SSL_ERROR_WANT_READ) {
        flush_own(t);
        return MZ_IO_AGAIN;
    }
    int saved = errno;
    note_failure(t);
    (void)flush_wire(t); /* the alert */
    if (!t->failure)
        return saved && why == SSL_ERROR_SYSCALL && saved != EAGAIN ? socket_failed(t, saved)
                                                                    : MZ_IO_EOF;
    errno = EPROTO;
    return MZ_IO_FAIL;
}

const struct mz_tls_names *tls_wanted_sans(const SSL *ssl)
{
    static const struct mz_tls_names none;
    const struct tls_transport *t = SSL_get_app_data(ssl);
    return t->names ? &t->names->sans : &none;
}

static void alpn_offer(struct tls_transport *t, const struct mz_tls_names *v)
{
    unsigned char wire[1024];
    unsigned n = 0;
    for (size_t i = 0; i < v->n; i++) {
        if (v->v[i].n == 0 || v->v[i].n > 255 || n + 1 + v->v[i].n > sizeof(wire))
            continue; /* no protocol has such a name */
        wire[n++] = (unsigned char)v->v[i].n;
        memcpy(wire + n, v->v[i].p, v->v[i].n);
        n += (unsigned)v->v[i].n;
    }
    if (n)
        (void)SSL_set_alpn_protos(t->ssl, wire, n); /* 0: only memory can lack */
}

static void connected(struct mz_transport *base)
{
    struct tls_transport *t = of(base);
    const struct mz_transport_opts *o = t->names;
    if (t->f->server)
        return; /* the client speaks first */
    const char *sni = o ? o->sni.p : t->f->sni.p;
    if (sni && sni[0])
        (void)SSL_set_tlsext_host_name(t->ssl, sni);
    if (o && o->sans.n)
        SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    if (o)
        alpn_offer(t, &o->alpn);
    session_offer(t);
    (void)handshake(t);
}

static bool ready(const struct mz_transport *base)
{
    return of((struct mz_transport *)(uintptr_t)base)->done;
}

/* ---- data ---- */

static enum mz_io_status read_failed(struct tls_transport *t, int r)
{
    int saved = errno;
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        return MZ_IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return MZ_IO_EOF;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0)
            return saved && saved != EAGAIN ? socket_failed(t, saved) : MZ_IO_EOF;
        break;
    default:
        break;
    }
    note_failure(t);
    (void)flush_wire(t);
    errno = EPROTO;
    return MZ_IO_FAIL;
}

static enum mz_io_status tls_read(struct mz_transport *base, struct mz_buf *in, size_t max)
{
    struct tls_transport *t = of(base);
    enum mz_io_status st = MZ_IO_OK;
    if (t->failed) {
        errno = EPROTO;
        return t->failure ? MZ_IO_FAIL : MZ_IO_EOF;
    }
    if (!t->done && (st = handshake(t)) != MZ_IO_OK)
        return st;
    errors_clear();
    t->drained = false; /* what an earlier call saw: more may have come, and its edge is gone */
    for (size_t got = 0; st == MZ_IO_OK && got < max;) {
        size_t room, n = 0;
        char *p = mz_buf_reserve(in, 1, &room);
        errno = 0;
        int r = SSL_read_ex(t->ssl, p, room, &n);
        mz_buf_commit(in, r == 1 ? n : 0);
        got += n;
        if (r != 1)
            st = read_failed(t, r);
        else if (t->drained && !SSL_has_pending(t->ssl))
            st = MZ_IO_AGAIN;
    }
    if (mz_buf_len(&t->wire) && !t->failed)
        flush_own(t);
    return st;
}

/* Seals from the front of @out up to WIRE_MAX. */
static bool seal(struct tls_transport *t, struct mz_buf *out)
{
    errors_clear();
    while (mz_buf_len(out) && mz_buf_len(&t->wire) < WIRE_MAX) {
        struct mz_str s = mz_buf_first(out);
        if (s.n < SMALL && s.n < mz_buf_len(out))
            s = mz_buf_linearize(out, mz_buf_len(out) < RECORD_MAX ? mz_buf_len(out) : RECORD_MAX);
        size_t n = 0;
        if (SSL_write_ex(t->ssl, s.p, s.n < RECORD_MAX ? s.n : RECORD_MAX, &n) != 1) {
            note_failure(t);
            errno = EPROTO;
            return false;
        }
        mz_buf_drain(out, n);
    }
    return true;
}

static enum mz_io_status tls_write(struct mz_transport *base, struct mz_buf *out, bool end)
{
    struct tls_transport *t = of(base);
    if (t->failed) {
        errno = EPIPE;
        return MZ_IO_FAIL;
    }
    for (;;) {
        enum mz_io_status st = flush_wire(t);
        if (st != MZ_IO_OK)
            return st;
        if (!t->done)
            return mz_buf_len(out) || end
                       ? MZ_IO_AGAIN
                       : MZ_IO_OK; /* the end of the handshake wakes the connection */
        if (!mz_buf_len(out))
            break;
        if (!seal(t, out))
            return MZ_IO_FAIL;
    }
    if (!end)
        return MZ_IO_OK;
    errors_clear();
    (void)SSL_shutdown(t->ssl); /* close_notify; the descriptor's own end follows with the close */
    return flush_wire(t);
}

static void tls_close(struct mz_transport *base, bool reset)
{
    struct tls_transport *t = of(base);
    if (reset || !t->done || t->failed)
        return;
    errors_clear();
    if (!(SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN))
        (void)SSL_shutdown(t->ssl);
    (void)flush_wire(t); /* what the kernel takes */
}

/* ---- facts ---- */

static struct mz_str alpn(const struct mz_transport *base)
{
    const unsigned char *p;
    unsigned n;
    SSL_get0_alpn_selected(of((struct mz_transport *)(uintptr_t)base)->ssl, &p, &n);
    return (struct mz_str){ (const char *)p, n };
}

/* As Envoy shows it: TLS 1.3 has none, nor has who is about to get a ticket instead. */
static struct mz_str session_id(struct tls_transport *t, struct mz_arena *a)
{
    unsigned n = 0;
    bool ticket = SSL_is_server(t->ssl) && !SSL_session_reused(t->ssl) && !t->f->sessions_by_id;
    bool has = SSL_version(t->ssl) < TLS1_3_VERSION && !ticket;
    const SSL_SESSION *s = has ? SSL_get_session(t->ssl) : NULL;
    const unsigned char *id = s ? SSL_SESSION_get_id(s, &n) : NULL;
    char *out = mz_arena_alloc(a, (size_t)n * 2 + 1);
    for (unsigned i = 0; i < n; i++)
        (void)snprintf(out + (size_t)i * 2, 3, "%02x", id[i]);
    return (struct mz_str){ out, (size_t)n * 2 };
}

static const struct mz_tls_facts *facts(struct mz_transport *base)
{
    struct tls_transport *t = of(base);
    if (t->facts || !t->done)
        return t->facts;
    struct mz_arena *a = t->arena = mz_arena_create(MZ_MEM_TLS);
    struct mz_tls_facts *f = t->facts = mz_arena_new0(a, struct mz_tls_facts);
    const char *sni = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
    f->version = mz_str_c(SSL_get_version(t->ssl));
    f->cipher = mz_str_c(SSL_get_cipher_name(t->ssl));
    f->cipher_id = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(t->ssl));
    f->group = mz_arena_dup(a, mz_str_c(group_name(t->ssl)));
    f->sni = mz_arena_dup(a, mz_str_c(sni));
    f->alpn = mz_arena_dup(a, alpn(base));
    f->session_id = session_id(t, a);
    X509 *x = SSL_get0_peer_certificate(t->ssl), *own = SSL_get_certificate(t->ssl);
    if (x) {
        f->peer_presented = true;
        f->peer_validated = t->validated;
        facts_of_cert(x, a, &f->peer);
        f->chain_pem = facts_chain_pem(SSL_get_peer_cert_chain(t->ssl), x, a);
        facts_of_chain(SSL_get_peer_cert_chain(t->ssl), x, a, f);
    }
    if (own)
        facts_of_cert(own, a, &f->own);
    return f;
}

static void destroy(struct mz_transport *base)
{
    struct tls_transport *t = of(base);
    SSL_free(t->ssl);
    mz_buf_fini(&t->wire);
    mz_free(MZ_MEM_TLS, t->detail);
    mz_free(MZ_MEM_TLS, t->failure);
    mz_arena_destroy(t->arena);
    mz_transport_opts_destroy(t->names);
    mz_transport_factory_unref(&t->f->base);
    mz_free(MZ_MEM_TLS, t);
}

static const struct mz_transport_ops ops = {
    .name = "tls",
    .read = tls_read,
    .write = tls_write,
    .connected = connected,
    .ready = ready,
    .failure = failure,
    .protocol = alpn,
    .tls = facts,
    .pending = pending,
    .close = tls_close,
    .destroy = destroy,
};

/* What differs from the configuration: the request's wishes first, then the host's name (Envoy's order). NULL: nothing. */
static struct mz_transport_opts *names_of(const struct tls_factory *f,
                                          const struct mz_transport_opts *o)
{
    struct mz_transport_opts n = { .sni = f->sni };
    struct mz_str san;
    if (o) {
        n.sans = o->sans;
        n.alpn = o->alpn;
        if (o->sni.n)
            n.sni = o->sni;
        else if (f->auto_host_sni && o->host_name.n)
            n.sni = o->host_name;
    }
    san = n.sni;
    if (f->sni_is_san && n.sni.n && !n.sans.n)
        n.sans = (struct mz_tls_names){ &san, 1 };
    if (mz_str_eq(n.sni, f->sni) && !n.sans.n && !n.alpn.n)
        return NULL;
    return mz_transport_opts_copy(&n, MZ_TRANSPORT_USES_NAMES);
}

struct mz_transport *tls_transport_create(const struct mz_transport_factory *base,
                                          const struct mz_transport_opts *o)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, bio_method_make);
    struct tls_transport *t = mz_new0(MZ_MEM_TLS, struct tls_transport);
    t->base.ops = &ops;
    t->f = tls_factory_of(mz_transport_factory_ref(base));
    t->names = t->f->server ? NULL : names_of(t->f, o);
    mz_buf_init(&t->wire);
    t->ssl = SSL_new(t->f->ctx);
    SSL_set_app_data(t->ssl, t);
    BIO *b = BIO_new(bio_method);
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    SSL_set_bio(t->ssl, b, b);
    if (o && o->alpn_default.n && !t->f->n_alpn)
        (void)SSL_set_alpn_protos(t->ssl, (const unsigned char *)o->alpn_default.p,
                                  (unsigned)o->alpn_default.n);
    if (t->f->server)
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);
    return &t->base;
}

/* ---- key log ---- */

static bool in_ranges(const struct mz_cidr *v, size_t n, const struct mz_addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (mz_cidr_match(&v[i], a))
            return true;
    return n == 0;
}

void key_log_line(const SSL *ssl, const char *line)
{
    const struct tls_transport *t = SSL_get_app_data(ssl);
    const struct key_log *k = t->f->log;
    const struct mz_conn *c = t->base.conn;
    if (!in_ranges(k->local, k->n_local, &c->local) ||
        !in_ranges(k->remote, k->n_remote, &c->remote))
        return;
    struct iovec v[2] = { { (void *)(uintptr_t)line, strlen(line) },
                          { (void *)(uintptr_t) "\n", 1 } };
    (void)!writev(k->fd, v, 2); /* for debugging: a full disk does not end connections */
}
