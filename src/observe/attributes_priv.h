#ifndef MZ_OBSERVE_ATTRIBUTES_PRIV_H
#define MZ_OBSERVE_ATTRIBUTES_PRIV_H
/*
 * What attributes.c (the groups; request, response, connection, peers), attributes_upstream.c (upstream, xds) and attributes_value.c
 * (metadata and messages as values) share.
 */
#include "net/addr.h"
#include "net/transport.h"
#include "observe/attributes.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"

typedef bool (*field_fn)(const struct mz_format_ctx *c, struct mz_arena *a,
                         struct mz_cel_value *out);
struct field {
    struct mz_str name;
    field_fn value; /* false: not known */
};
struct field_table {
    const struct field *v;
    size_t n;
};
#define FIELD(name)                                                                                \
    static bool name(const struct mz_format_ctx *c, struct mz_arena *a, struct mz_cel_value *out)

enum { ATTRIBUTES_UPSTREAM = 17, ATTRIBUTES_XDS = 12 };
extern const struct field attributes_upstream[ATTRIBUTES_UPSTREAM];
extern const struct field attributes_xds[ATTRIBUTES_XDS];

/* What both ends tell of their TLS. X(name) */
#define ATTRIBUTES_TLS(X)                                                                          \
    X(tls_version)                                                                                 \
    X(subject_local_certificate)                                                                   \
    X(subject_peer_certificate)                                                                    \
    X(uri_san_local_certificate)                                                                   \
    X(uri_san_peer_certificate)                                                                    \
    X(dns_san_local_certificate)                                                                   \
    X(dns_san_peer_certificate)                                                                    \
    X(sha256_peer_certificate_digest)                                                              \
    X(peer_certificate)
#define X(name) bool attributes_tls_##name(const struct mz_tls_facts *f, struct mz_cel_value *out);
ATTRIBUTES_TLS(X)
#undef X

/* ---- values ---- */
struct message_field {
    struct mz_str name;
    struct mz_cel_value value; /* the default where it is not set */
    bool set;
};
struct message { /* of a type whose fields are these */
    const struct message_field *v;
    size_t n;
};
struct mz_cel_value attributes_message(const struct message *m); /* borrows @m */
void attributes_value(const struct mz_value *v, struct mz_arena *a, struct mz_cel_value *out);
struct mz_cel_value attributes_none(void); /* a map without anything */
size_t attributes_none_size(const void *obj);
void attributes_none_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out);
bool give_meta(struct mz_cel_value *out, const struct mz_meta *m); /* NULL: one without namespaces */
bool give_node(struct mz_cel_value *out);
void give_locality(struct mz_cel_value *out, const struct mz_place *p, struct mz_arena *a);

static inline bool give_str(struct mz_cel_value *out, struct mz_str s)
{
    *out = mz_cel_string(s);
    return s.p != NULL;
}

static inline bool give_text(struct mz_cel_value *out, const char *s)
{
    return s && give_str(out, mz_str_c(s));
}

static inline bool give_int(struct mz_cel_value *out, uint64_t n)
{
    *out = mz_cel_int((int64_t)n);
    return true;
}

static inline bool give_span(struct mz_cel_value *out, uint64_t from_us, uint64_t to_us)
{
    *out = mz_cel_duration_us((int64_t)(to_us - from_us));
    return from_us && to_us >= from_us;
}

static inline bool give_addr(struct mz_cel_value *out, const struct mz_addr *addr,
                             struct mz_arena *a)
{
    char text[MZ_ADDR_TEXT];
    if (!addr->len)
        return false;
    size_t n = mz_addr_text(addr, text);
    return give_str(out, mz_arena_dup(a, (struct mz_str){ text, n }));
}

static inline bool give_port(struct mz_cel_value *out, const struct mz_addr *addr)
{
    return mz_addr_is_ip(addr) && give_int(out, mz_addr_port(addr));
}
#endif
