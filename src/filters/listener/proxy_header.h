#ifndef MZ_FILTERS_LISTENER_PROXY_HEADER_H
#define MZ_FILTERS_LISTENER_PROXY_HEADER_H
/* The PROXY protocol's header, versions 1 and 2 (haproxy.org's proxy-protocol.txt), out of the first bytes of a connection. */
#include "base/str.h"
#include "net/addr.h"

enum proxy_header_result { PROXY_MORE, PROXY_DONE, PROXY_NONE, PROXY_BAD };
struct proxy_header {
    unsigned version; /* 1 or 2; also of PROXY_BAD: 0 when unknown */
    size_t length;    /* bytes of the header with its TLVs */
    bool local;       /* LOCAL, UNKNOWN: the socket's own addresses count */
    struct mz_addr source, destination;
    struct mz_str tlvs; /* checked: type, two bytes of length, value */
};
/* NONE: these bytes are no such header. @bytes: all that came so far. */
enum proxy_header_result proxy_header_read(struct mz_str bytes, struct proxy_header *out);
/* Takes the next TLV off @rest. */
bool proxy_tlv_next(struct mz_str *rest, uint8_t *out_type, struct mz_str *out_value);
#define PROXY_V2_MAX (16 + 65535)
#endif
