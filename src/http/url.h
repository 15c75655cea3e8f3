#ifndef MZ_HTTP_URL_H
#define MZ_HTTP_URL_H
/* Parts of absolute URLs, authorities and host:port texts (RFC 3986 3.2, RFC 9112 3.2). Views into the text given. */
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct mz_url {
    struct mz_str scheme; /* as written */
    struct mz_str
        authority;      /* host and port, without user information (which makes the URL invalid) */
    struct mz_str path; /* path, query and fragment; empty when the URL ends behind the authority */
};
/* "scheme://authority[/path][?query]". False: no scheme, no or invalid authority, an invalid character. */
bool mz_url_parse(struct mz_str text, struct mz_url *out_url);

struct mz_host_port {
    struct mz_str host; /* brackets of an IPv6 literal stripped */
    uint16_t port;      /* 0: none given */
    bool ipv6;          /* was in brackets */
};
/* "host", "host:port", "[v6]", "[v6]:port". False: empty host, bad port (0, above 65535, not a number), unbalanced bracket. */
bool mz_host_port_parse(struct mz_str authority, struct mz_host_port *out);
/* The authority without its ":port", brackets kept; the same text when there is no port. Never fails. */
struct mz_str mz_authority_host(struct mz_str authority);
#endif
