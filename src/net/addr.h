#ifndef MZ_NET_ADDR_H
#define MZ_NET_ADDR_H
/* Socket addresses and CIDR ranges: values, copied freely. Texts as Envoy writes them: 1.2.3.4:80, [::1]:80, a path. */
#include "base/err.h"
#include "base/str.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Many lie in every connection, so the path of a UNIX socket stands elsewhere: one copy of each, until the end. Only paths of
 * configuration are kept so; a peer that named its own end of a UNIX socket counts as unnamed. */
struct mz_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct __attribute__((packed)) { /* packed: a pointer's alignment would cost 8 bytes */
            sa_family_t family;
            const char *path; /* "@name" is abstract; NULL: unnamed. Equal paths are equal pointers */
        } un;
        struct __attribute__((packed)) { /* a listener within this process */
            sa_family_t family;  /* MZ_AF_INTERNAL */
            const char *text;    /* "envoy://listener/endpoint"; as path above */
            const char *listener; /* "envoy://listener/" */
        } internal;
    };
    socklen_t len; /* 0: no address; with sa it is what IP sockets take, UNIX ones need mz_addr_sockaddr() */
};
_Static_assert(sizeof(struct mz_addr) == 32, "an address is small");
#define MZ_ADDR_TEXT 128 /* room for any text below; UNIX paths are at most 108 bytes */
bool mz_addr_parse_ip(struct mz_str ip, uint16_t port, struct mz_addr *out_addr); /* "1.2.3.4", "::1"; no names */
bool mz_addr_parse(struct mz_str text, struct mz_addr *out_addr); /* "1.2.3.4:80", "[::1]:80" */
/* "@name" is abstract. Of configuration only: the path is kept until the process ends, and there are at most
 * MZ_ADDR_PATHS_MAX different ones. Any thread; takes a lock. */
bool mz_addr_unix(struct mz_str path, struct mz_addr *out_addr, struct mz_err *err);
#define MZ_ADDR_PATHS_MAX 65536
/* A listener of this process by name, and who is meant behind it ("" is fine). Of configuration only, as a path; of these there
 * are MZ_ADDR_PATHS_MAX, too. */
bool mz_addr_internal(struct mz_str listener, struct mz_str endpoint, struct mz_addr *out_addr, struct mz_err *err);
#define MZ_AF_INTERNAL ((sa_family_t)0xff01) /* no family of the kernel's */
bool mz_addr_is_internal(const struct mz_addr *a);
void mz_addr_internal_parts(const struct mz_addr *a, struct mz_str *out_listener, struct mz_str *out_endpoint);
struct mz_addr mz_addr_internal_listener(const struct mz_addr *a); /* without the endpoint */
const struct mz_addr *mz_addr_internal_client(void); /* whence a connection to an internal address comes */
void mz_addr_paths_free(void); /* at the very end: no address of a UNIX socket is used any more, no other thread runs */
const char *mz_addr_file(const struct mz_addr *a); /* of a UNIX socket that has a file, else NULL */
/* What accept(), getsockname() and the like wrote; a family that is neither IP nor UNIX is no address. */
struct mz_addr mz_addr_from_sockaddr(const struct sockaddr_storage *from, socklen_t len);
void mz_addr_unmap(struct mz_addr *a); /* ::ffff:1.2.3.4, as sockets that take both families show it, becomes 1.2.3.4 */
socklen_t mz_addr_sockaddr(const struct mz_addr *a, struct sockaddr_storage *out_sockaddr); /* for bind(), connect() */
size_t mz_addr_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT]);         /* with port; "-"-less: "" when none */
size_t mz_addr_ip_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT]);      /* without port and brackets */
uint16_t mz_addr_port(const struct mz_addr *a); /* 0 for UNIX */
void mz_addr_set_port(struct mz_addr *a, uint16_t port);
bool mz_addr_eq(const struct mz_addr *a, const struct mz_addr *b);    /* with port */
bool mz_addr_ip_eq(const struct mz_addr *a, const struct mz_addr *b); /* without port */
bool mz_addr_is_ip(const struct mz_addr *a);
bool mz_addr_is_loopback(const struct mz_addr *a); /* 127.0.0.1 (of 127/8 no other, as Envoy), ::1, UNIX sockets */
bool mz_addr_is_any(const struct mz_addr *a);
uint64_t mz_addr_hash(const struct mz_addr *a);

struct mz_cidr {
    struct mz_addr addr;
    unsigned bits;
};
bool mz_cidr_make(struct mz_str prefix, unsigned bits, struct mz_cidr *out_cidr, struct mz_err *err);
bool mz_cidr_match(const struct mz_cidr *c, const struct mz_addr *a);
/* The machine's first address that is not loopback (IPv4), found once; Envoy writes it into x-forwarded-for for clients on
 * loopback. len 0 where the machine has none. */
const struct mz_addr *mz_addr_local_machine(void);
#endif
