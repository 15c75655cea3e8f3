/* The PROXY protocol's header, versions 1 and 2 (haproxy.org's proxy-protocol.txt), as we write it (G16). */
#include <stdio.h>
#include <string.h>

#include "net/addr.h"
#include "transports/transports.h"

#define LENGTH_MAX 65535

static const char v2_sign[12] = "\r\n\r\n\0\r\nQUIT\n";

/* Both in one family: an IPv4 address beside an IPv6 one becomes a mapped one. */
static bool family(const struct mz_proxy_emit *e, int *out_family)
{
    if (!mz_addr_is_ip(e->source) || !mz_addr_is_ip(e->destination))
        return false;
    bool four = e->source->sa.sa_family == AF_INET && e->destination->sa.sa_family == AF_INET;
    *out_family = four ? AF_INET : AF_INET6;
    return true;
}

static void bytes_of(const struct mz_addr *a, int family, char out[16])
{
    static const char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (char)0xff, (char)0xff };
    if (family == AF_INET) {
        memcpy(out, &a->in4.sin_addr, 4);
    } else if (a->sa.sa_family == AF_INET) {
        memcpy(out, mapped, 12);
        memcpy(out + 12, &a->in4.sin_addr, 4);
    } else {
        memcpy(out, &a->in6.sin6_addr, 16);
    }
}

static size_t emit_v1(const struct mz_proxy_emit *e, char *out)
{
    static const char unknown[] = "PROXY UNKNOWN\r\n";
    char ip[2][MZ_ADDR_TEXT];
    int fam = 0;
    if (!e->source || !family(e, &fam)) {
        memcpy(out, unknown, sizeof(unknown) - 1);
        return sizeof(unknown) - 1;
    }
    const struct mz_addr *a[2] = { e->source, e->destination };
    const char *mapped[2];
    size_t n[2];
    for (unsigned i = 0; i < 2; i++) {
        mapped[i] = fam == AF_INET6 && a[i]->sa.sa_family == AF_INET ? "::ffff:" : "";
        n[i] = mz_addr_ip_text(a[i], ip[i]);
    }
    int len = snprintf(out, 128, "PROXY TCP%c %s%.*s %s%.*s %u %u\r\n", fam == AF_INET ? '4' : '6',
                       mapped[0], (int)n[0], ip[0], mapped[1], (int)n[1], ip[1], mz_addr_port(a[0]),
                       mz_addr_port(a[1]));
    return (size_t)len;
}

static void put16(char *to, size_t v)
{
    to[0] = (char)(v >> 8);
    to[1] = (char)v;
}

static size_t emit_v2(const struct mz_proxy_emit *e, char *out, bool *out_cut)
{
    int fam = 0;
    memcpy(out, v2_sign, sizeof(v2_sign));
    if (!e->source || !family(e, &fam)) { /* LOCAL: who we are says the socket */
        out[12] = 0x20;
        out[13] = 0;
        put16(out + 14, 0);
        return 16;
    }
    size_t ip = fam == AF_INET ? 4 : 16, addresses = 2 * ip + 4;
    out[12] = 0x21;
    out[13] = fam == AF_INET ? 0x11 : 0x21;
    bytes_of(e->source, fam, out + 16);
    bytes_of(e->destination, fam, out + 16 + ip);
    put16(out + 16 + 2 * ip, mz_addr_port(e->source));
    put16(out + 18 + 2 * ip, mz_addr_port(e->destination));
    *out_cut = e->tlvs.n > LENGTH_MAX - addresses;
    size_t tlvs = *out_cut ? 0 : e->tlvs.n;
    if (tlvs)
        memcpy(out + 16 + addresses, e->tlvs.p, tlvs);
    put16(out + 14, addresses + tlvs);
    return 16 + addresses + tlvs;
}

size_t mz_proxy_emit(const struct mz_proxy_emit *e, char *out_head, bool *out_cut)
{
    *out_cut = false;
    return e->version == 1 ? emit_v1(e, out_head) : emit_v2(e, out_head, out_cut);
}
