#ifndef MZ_NET_TRANSPORT_H
#define MZ_NET_TRANSPORT_H
/*
 * Transport sockets (U8): what lies between a connection's buffers and its descriptor. raw_buffer is the descriptor itself;
 * TLS and others come later at this interface. One object per connection, on the connection's loop.
 */
#include "base/arena.h"
#include "base/buf.h"
#include <stdbool.h>

struct mz_conn;
struct mz_meta;
struct mz_passed; /* net/wire.h */
/* Objects of filter state that go along with an upstream connection (observe/shared_state.h). Immutable but for the count. */
struct mz_shared_state {
    unsigned refs;  /* atomic */
    uint64_t key;   /* connections whose states have different keys are not interchangeable */
    void (*destroy)(struct mz_shared_state *s); /* last reference */
};
struct mz_shared_state *mz_shared_state_ref(struct mz_shared_state *s); /* NULL gives NULL */
void mz_shared_state_unref(struct mz_shared_state *s);                  /* NULL is fine */
struct mz_conn_state;
enum mz_io_status { MZ_IO_OK, MZ_IO_AGAIN, MZ_IO_EOF, MZ_IO_FAIL }; /* FAIL: errno or mz_transport_failure() tells why */

/* What a secure transport knows of itself and its peer. Texts live as long as the transport; empty: none. */
struct mz_tls_names {
    struct mz_str *v;
    size_t n;
};
struct mz_tls_cert_facts {
    struct mz_str subject, issuer; /* RFC 2253 */
    struct mz_str serial, sha1, sha256, spki; /* lower-case hex; spki: base64 of SHA-256 of the public key */
    struct mz_tls_names uri_sans, dns_sans, ip_sans, email_sans;
    int64_t valid_from_s, valid_until_s; /* UNIX time */
    struct mz_str pem; /* URL-encoded */
};
struct mz_tls_facts {
    struct mz_str version, cipher, group, sni, alpn, session_id; /* "TLSv1.3"; session_id in hex */
    uint16_t cipher_id; /* IANA's number of the suite */
    bool peer_presented; /* a certificate */
    bool peer_validated; /* ... that the validation context accepted */
    struct mz_tls_cert_facts peer, own;
    struct mz_str chain_pem; /* of the peer, URL-encoded */
    struct mz_tls_names chain_sha1, chain_sha256, chain_serials; /* of the peer's certificates, its own first */
};

/* What a request or connection wants of an upstream connection's transport, beyond what is configured. Borrowed by whom it
 * is given to, unless copied. A transport uses what its factory's `uses` says and ignores the rest. */
struct mz_transport_opts {
    struct mz_str sni;                       /* for the handshake; "": as configured */
    struct mz_tls_names sans;                /* one of them the peer's certificate must have, exactly; none: as configured */
    struct mz_tls_names alpn;                /* offered instead of what is configured; none: as configured */
    const struct mz_addr *source, *destination; /* the client's connection, for the PROXY protocol; NULL: there is none */
    struct mz_str tlvs;                      /* of its PROXY protocol header, as in version 2 */
    const struct mz_addr *bind;              /* of the socket: it comes from here, of whomever the address is; NULL: as configured */
    uint32_t mark;                           /* with bind: SO_MARK; 0: none */
    struct mz_shared_state *state;           /* what goes along with the connection; NULL: nothing */
    unsigned hops;                           /* connections to internal addresses that led here */
    const struct mz_meta *host_metadata, *cluster_metadata; /* of whom is connected to, as host_name; NULL: none */
    struct mz_str alpn_default;              /* "\2h2", static: offered where the configuration names none; no part of a key, the pool has its kind */
    struct mz_str host_name;                 /* of the host that is connected to; no part of a pool's key, which has the host */
};
enum {
    MZ_TRANSPORT_USES_NAMES = 1,  /* sni, sans, alpn */
    MZ_TRANSPORT_USES_CLIENT = 2, /* source, destination, tlvs */
    MZ_TRANSPORT_USES_SOCKET = 4, /* bind, mark: each connection does */
    MZ_TRANSPORT_USES_HOPS = 8,   /* hops: each connection does */
    MZ_TRANSPORT_USES_CONN = MZ_TRANSPORT_USES_SOCKET | MZ_TRANSPORT_USES_HOPS,
    MZ_TRANSPORT_USES_STATE = 16, /* state */
};

struct mz_transport;
struct mz_transport_ops {
    const char *name;
    /* Appends at most about max bytes to in. OK: there may be more at once; AGAIN: the kernel has no more now (also after
     * some bytes were appended); EOF: the peer ended its direction (bytes may have been appended before). */
    enum mz_io_status (*read)(struct mz_transport *t, struct mz_buf *in, size_t max);
    /* Takes bytes off the front of out. OK: all written; AGAIN: the kernel is full. end: shut the direction down when empty. */
    enum mz_io_status (*write)(struct mz_transport *t, struct mz_buf *out, bool end);
    void (*connected)(struct mz_transport *t);  /* the TCP connection stands: may start a handshake; NULL: ready at once */
    bool (*ready)(const struct mz_transport *t); /* handshake done? NULL: always */
    struct mz_str (*failure)(const struct mz_transport *t); /* text for %..TRANSPORT_FAILURE_REASON%; NULL: none */
    struct mz_str (*protocol)(const struct mz_transport *t); /* negotiated ALPN; NULL: none */
    /* Facts of the finished handshake, made at the first call; NULL: none, or not secure. */
    const struct mz_tls_facts *(*tls)(struct mz_transport *t);
    /* What filters around an upstream connection found out (observe/stream_info.h); made at the first call. NULL: there are none. */
    struct mz_conn_state *(*state)(struct mz_transport *t);
    bool (*pending)(const struct mz_transport *t); /* bytes taken off out that the kernel has not got yet; NULL: never */
    bool (*raw)(const struct mz_transport *t); /* from now on bytes pass as they are; NULL: never */
    /* What the listener at an internal address gets along with the connection, once, before it stands; NULL: nothing. */
    struct mz_passed *(*pass)(struct mz_transport *t);
    /* What is written from now on, behind output that waits, is encrypted; NULL or false: not possible. mz_conn_start_secure() */
    bool (*secure)(struct mz_transport *t);
    void (*close)(struct mz_transport *t, bool reset); /* before the descriptor is closed (close_notify) */
    void (*destroy)(struct mz_transport *t);
};
struct mz_transport {
    const struct mz_transport_ops *ops;
    struct mz_conn *conn; /* set by the connection; another one takes it over when it won a race (eyeballs.h) */
};
bool mz_transport_is_raw(const struct mz_transport *t); /* bytes pass as they are: the kernel may move them */
struct mz_transport *mz_transport_raw(void); /* a shared static object is not possible: it knows its conn */

/* Makes transports for the connections of a filter chain or a cluster; immutable, shared by threads. */
struct mz_transport_factory {
    const char *name; /* "raw_buffer", "tls" */
    bool secure;      /* ssl: scheme https, %DOWNSTREAM_TLS_..% */
    uint8_t uses;     /* MZ_TRANSPORT_USES_...: connections with other options are not interchangeable */
    const struct mz_transport_factory *inner; /* that this one wraps (a reference); NULL: none */
    /* @o NULL: nothing wanted. Borrowed during the call. */
    struct mz_transport *(*create)(const struct mz_transport_factory *f, const struct mz_transport_opts *o);
    void (*destroy)(struct mz_transport_factory *f); /* last reference */
    unsigned refs;                                   /* atomic */
};
struct mz_transport_factory *mz_transport_factory_raw(void);
struct mz_transport_factory *mz_transport_factory_ref(const struct mz_transport_factory *f);
void mz_transport_factory_unref(const struct mz_transport_factory *f);

/* transport_opts.c: those that a transport with @uses looks at. One allocation each; NULL in, NULL out, where nothing is left. */
struct mz_transport_opts *mz_transport_opts_copy(const struct mz_transport_opts *o, unsigned uses);
void mz_transport_opts_destroy(struct mz_transport_opts *copy); /* NULL is fine */
uint64_t mz_transport_opts_hash(const struct mz_transport_opts *o, unsigned uses);
bool mz_transport_opts_same(const struct mz_transport_opts *a, const struct mz_transport_opts *b, unsigned uses);
#endif
