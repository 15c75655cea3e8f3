#ifndef MZ_FILTERS_LISTENER_CLIENT_HELLO_H
#define MZ_FILTERS_LISTENER_CLIENT_HELLO_H
/*
 * What a TLS ClientHello says (RFC 8446 4.1.2, RFC 6066 3, RFC 7301), read out of the first bytes of a connection. Strict
 * about lengths, tolerant about everything that does not concern the answer.
 */
#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>

enum client_hello_result { HELLO_MORE, HELLO_DONE, HELLO_NOT_TLS };
struct client_hello { /* views into the message; lists are of two-byte numbers, big endian */
    uint16_t version;
    struct mz_str ciphers, extensions; /* extensions: as they stand: type, length, body */
    bool has_sni, has_alpn;
    struct mz_str sni;         /* as sent; empty: none, or not a host name */
    struct mz_str alpn;        /* the list: length byte, name, ... ; checked */
    struct mz_str groups, point_formats, signature_algorithms, versions;
};
/* @bytes: all that came so far. DONE: *out is filled (a handshake in several records is joined in @a), *out_used: bytes of
 * the records that held it. */
enum client_hello_result client_hello_read(struct mz_str bytes, struct mz_arena *a, struct client_hello *out, size_t *out_used);

struct mz_str client_hello_ja3(const struct client_hello *h, struct mz_arena *a); /* MD5 in hex */
struct mz_str client_hello_ja4(const struct client_hello *h, struct mz_arena *a); /* "t13d1516h2_8daaf6152771_e5627efa2ab1" */
#endif
