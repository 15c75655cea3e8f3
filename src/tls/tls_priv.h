#ifndef MZ_TLS_TLS_PRIV_H
#define MZ_TLS_TLS_PRIV_H
/* The files of this folder: context.c builds, verify.c judges certificates, transport.c moves records, facts.c reads
 * certificates, errors.c gives reasons a name. */
#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "net/addr.h"
#include "observe/matcher.h"
#include "proto/mapper.h"
#include "tls/stats.h"
#include "tls/tls.h"
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define SAN_ANY (-1)
struct verify_rules { /* CertificateValidationContext; immutable */
    X509_STORE *store; /* NULL: no trusted authority: nothing of a chain is checked */
    bool accept_untrusted, allow_expired;
    struct {
        int type; /* GEN_..., SAN_ANY */
        ASN1_OBJECT *oid; /* GEN_OTHERNAME */
        struct mz_string_match *match;
        struct mz_str exact; /* a DNS name as it must be: wildcards of a certificate may stand for it */
    } * sans;
    size_t n_sans;
    unsigned char (*hashes)[32], (*spkis)[32]; /* SHA-256 of the certificate, of its public key */
    size_t n_hashes, n_spkis;
    int max_depth;
    struct mz_tls_cert_facts *ca; /* the first authority; NULL: none */
    struct mz_str ca_path;
    struct spiffe *spiffe; /* authorities of each trust domain, instead of store; NULL: no */
    bool asks; /* does it demand anything of a certificate? */
};
enum staple_policy { STAPLE_LENIENT, STAPLE_STRICT, STAPLE_MUST };
enum staple_action { STAPLE_SEND, STAPLE_OMIT, STAPLE_FAIL };
struct staple {
    struct mz_str der; /* "": none */
    int64_t from_s, until_s; /* UNIX time; until 0: it does not say */
};
struct key_pair {
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) *chain; /* without the leaf */
    struct mz_str *names;  /* DNS names, lower case: exact or "*.x" */
    size_t n_names;
    struct mz_tls_cert_facts *facts;
    struct mz_str path;
    struct staple staple; /* servers only */
    bool must_staple;
};
struct key_log {
    struct mz_cidr *local, *remote;
    size_t n_local, n_remote;
    int fd;
};
struct ticket_key {
    unsigned char name[16], hmac[32], aes[32];
};
#define SESSIONS_PER_WORKER 64 /* upstream: addresses whose sessions are kept */
struct session_slot {
    struct mz_addr peer;
    struct mz_transport_opts *names; /* for which the session was made: another name must be verified anew; NULL: as configured */
    SSL_SESSION *session;
};
struct tls_factory {
    struct mz_transport_factory base;
    struct mz_arena *arena;
    bool server;
    SSL_CTX *ctx;
    struct key_pair *pairs;
    size_t n_pairs;
    struct verify_rules verify;
    bool require_client, require_sni, full_scan;
    bool sessions_by_id; /* servers: no tickets, by configuration */
    enum staple_policy staple_policy;
    struct mz_str sni;
    bool auto_host_sni; /* the host's name instead */
    bool sni_is_san;    /* auto_sni_san_validation */
    struct mz_str *alpn; /* in order of preference */
    size_t n_alpn;
    unsigned char *alpn_wire;
    unsigned alpn_wire_n;
    struct key_log *log; /* NULL: none */
    struct ticket_key *tickets; /* the first one seals */
    size_t n_tickets;
    uint32_t max_sessions; /* upstream, per address: 0 none */
    struct session_slot *sessions[MZ_STATS_SLOTS]; /* each of one thread */
    struct mz_scope *scope, *sds_scope;
    struct mz_scope **expiry; /* of each pair, then of the authority */
    size_t n_expiry;
    struct mz_list link; /* inventory.c */
};
static inline struct tls_factory *tls_factory_of(const struct mz_transport_factory *f)
{
    return (struct tls_factory *)(uintptr_t)f;
}

/* verify.c */
bool verify_build(const pb_CertificateValidationContext *m, struct tls_factory *f, struct mz_err *err);
void verify_fini(struct verify_rules *v);
void verify_chain_text(X509_STORE_CTX *ctx, char out_text[256]); /* of a chain that failed, as tls_set_failure() has it */
void verify_note_authority(struct tls_factory *f, X509 *x, struct mz_str path); /* the first one is shown; borrows @path */
/* spiffe.c */
bool spiffe_build(const pb_TypedExtensionConfig *m, struct tls_factory *f, struct mz_err *err);
void spiffe_fini(struct spiffe *s);
bool spiffe_judge(const struct tls_factory *f, SSL *ssl, X509_STORE_CTX *ctx, X509 *leaf); /* false: with its reason */
int verify_callback(X509_STORE_CTX *ctx, void *factory); /* SSL_CTX_set_cert_verify_callback() */

/* context.c */
struct mz_scope *sds_scope(const struct mz_tls_env *env, bool server); /* mz_tls_sds_stats */
void tls_factory_destroy(struct mz_transport_factory *base);
bool params_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err);
/* pair.c: certificates and keys */
bool pairs_build(const pb_CommonTlsContext *m, struct tls_factory *f, struct mz_err *err);
void pairs_fini(struct tls_factory *f);
int pair_choose(SSL *ssl, void *factory); /* SSL_CTX_set_cert_cb() */
int pair_hello(SSL *ssl, int *alert, void *factory); /* SSL_CTX_set_client_hello_cb() */
void pair_resumed(SSL *ssl); /* counts what a full handshake would have sent (Envoy) */

/* ocsp.c */
bool staple_build(const pb_TlsCertificate *m, struct tls_factory *f, struct key_pair *k, struct mz_err *err);
enum staple_action staple_action(const struct tls_factory *f, const struct key_pair *k); /* for a client that asks for one */
int staple_send(SSL *ssl, void *factory);

/* inventory.c: from when a factory is whole until it goes */
void inventory_add(struct tls_factory *f);
void inventory_remove(struct tls_factory *f);

/* facts.c */
void facts_of_cert(X509 *x, struct mz_arena *a, struct mz_tls_cert_facts *out);
struct mz_str facts_chain_pem(STACK_OF(X509) *chain, X509 *leaf, struct mz_arena *a);
void facts_of_chain(STACK_OF(X509) *chain, X509 *leaf, struct mz_arena *a, struct mz_tls_facts *out);
struct mz_str facts_san_text(const GENERAL_NAME *n, struct mz_arena *a); /* p NULL: of another type, or not safe to show (G11) */

/* transport.c */
struct tls_transport {
    struct mz_transport base;
    struct tls_factory *f; /* reference */
    SSL *ssl;
    struct mz_transport_opts *names; /* sni, sans, alpn where they are not as configured; NULL: they are */
    struct mz_buf wire; /* sealed records that the kernel did not take yet */
    bool done;          /* handshake */
    bool failed, validated, counted;
    bool wants_staple; /* the client asked for an OCSP response */
    const struct staple *staple; /* that it gets; NULL: none */
    bool drained; /* the kernel's last read was short: it has no more */
    char *detail; /* why a certificate was refused; NULL */
    char *failure;
    struct mz_arena *arena; /* of facts; NULL before anybody asked */
    struct mz_tls_facts *facts;
};
struct mz_transport *tls_transport_create(const struct mz_transport_factory *f,
                                          const struct mz_transport_opts *o);
void tls_set_failure(SSL *ssl, const char *detail); /* why verification failed; copied */
struct tls_factory *tls_factory_of_ssl(const SSL *ssl);
void tls_note_validated(SSL *ssl);
const struct mz_tls_names *tls_wanted_sans(const SSL *ssl); /* one of them the certificate must have; none: any */
/* session.c, upstream: what servers gave is kept for their address, on this thread */
int session_keep(SSL *ssl, SSL_SESSION *take); /* SSL_CTX_sess_set_new_cb() */
void session_offer(const struct tls_transport *t);
/* The session lasts no longer than these certificates of the peer, where it is judged by them: nothing looks at them again when it is resumed. */
void session_limit(SSL *ssl, const X509 *leaf, const STACK_OF(X509) *chain);
int session_ticket(SSL *ssl, void *arg); /* SSL_CTX_set_session_ticket_cb(): TLS 1.3 makes a session's time anew with each ticket */
void sessions_fini(struct tls_factory *f);

/* kdf.c: the property query with which a context finds the key schedule there. Static text. */
const char *kdf_properties(void);

void error_named(struct mz_buf *out, unsigned number, const char *name); /* "|<code>:SSL_routines:OPENSSL_internal:<name>" */
/* errors.c: "|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED" for the thread's oldest error; empties the queue */
void error_text(struct mz_buf *out);
const char *verify_text(int x509_v_err); /* of a certificate that was refused */
/* Text of what OpenSSL said last, for configuration errors. */
const char *error_reason(char out_text[160]);
/* Writes one line of a key log (T2). */
void key_log_line(const SSL *ssl, const char *line);
#endif
