#ifndef MZ_NET_ADDR_H
#define MZ_NET_ADDR_H
/* Socket addresses and CIDR ranges: values, copied freely. Texts as Envoy writes them: 1.2.3.4:80, [::1]:80, a path. */
#include "base/err.h"
#include "base/str.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct mz_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage ss;
    };
    socklen_t len; /* 0: no address */
};
#define MZ_ADDR_TEXT 128 /* room for any text below; UNIX paths are at most 108 bytes */
bool mz_addr_parse_ip(struct mz_str ip, uint16_t port, struct mz_addr *out_addr); /* "1.2.3.4", "::1"; no names */
bool mz_addr_unix(struct mz_str path, struct mz_addr *out_addr);                   /* "@name" is abstract */
size_t mz_addr_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT]);         /* with port; "-"-less: "" when none */
size_t mz_addr_ip_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT]);      /* without port and brackets */
uint16_t mz_addr_port(const struct mz_addr *a); /* 0 for UNIX */
void mz_addr_set_port(struct mz_addr *a, uint16_t port);
bool mz_addr_eq(const struct mz_addr *a, const struct mz_addr *b);    /* with port */
bool mz_addr_ip_eq(const struct mz_addr *a, const struct mz_addr *b); /* without port */
bool mz_addr_is_ip(const struct mz_addr *a);
bool mz_addr_is_loopback(const struct mz_addr *a); /* 127/8, ::1, UNIX sockets */
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
