#include "filters/listener/proxy_header.h"

#include <string.h>

#define V1_MAX     107 /* bytes of a line with its CRLF */
#define V2_HEAD    16
#define V2_TLV_MIN 3

static const char v1_sign[] = "PROXY ";
static const char v2_sign[] = "\r\n\r\n\0\r\nQUIT\n";

static enum proxy_header_result begins(struct mz_str b, const char *sign, size_t n)
{
    size_t k = b.n < n ? b.n : n;
    if (memcmp(b.p, sign, k) != 0)
        return PROXY_NONE;
    return k == n ? PROXY_DONE : PROXY_MORE;
}

/* ---- version 1 ---- */

static bool port_read(struct mz_str s, uint16_t *out)
{
    uint64_t v;
    if (s.n == 0 || s.n > 5 || (s.n > 1 && s.p[0] == '0') || !mz_str_u64(s, &v) || v > 65535)
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool v1_addresses(struct mz_str line, sa_family_t family, struct proxy_header *out)
{
    struct mz_str part[4];
    uint16_t from, to;
    for (unsigned i = 0; i < 4; i++) {
        const char *sp = i < 3 ? memchr(line.p, ' ', line.n) : NULL;
        if (i < 3 && !sp)
            return false;
        part[i] = (struct mz_str){ line.p, sp ? (size_t)(sp - line.p) : line.n };
        line = mz_str_skip(line, part[i].n + (sp ? 1 : 0));
    }
    return port_read(part[2], &from) && port_read(part[3], &to) &&
           mz_addr_parse_ip(part[0], from, &out->source) &&
           mz_addr_parse_ip(part[1], to, &out->destination) && out->source.sa.sa_family == family &&
           out->destination.sa.sa_family == family;
}

static enum proxy_header_result read_v1(struct mz_str b, struct proxy_header *out)
{
    const char *lf = memchr(b.p, '\n', b.n < V1_MAX ? b.n : V1_MAX);
    out->version = 1;
    if (!lf)
        return b.n >= V1_MAX ? PROXY_BAD : PROXY_MORE;
    size_t n = (size_t)(lf - b.p);
    if (n == 0 || b.p[n - 1] != '\r')
        return PROXY_BAD;
    out->length = n + 1;
    struct mz_str line = mz_str_skip((struct mz_str){ b.p, n - 1 }, sizeof(v1_sign) - 1);
    if (mz_str_starts(line, MZ_STR("UNKNOWN")) && (line.n == 7 || line.p[7] == ' ')) {
        out->local = true;
        return PROXY_DONE;
    }
    bool four = mz_str_starts(line, MZ_STR("TCP4 ")), six = mz_str_starts(line, MZ_STR("TCP6 "));
    if (!four && !six)
        return PROXY_BAD;
    return v1_addresses(mz_str_skip(line, 5), four ? AF_INET : AF_INET6, out) ? PROXY_DONE
                                                                              : PROXY_BAD;
}

/* ---- version 2 ---- */

static struct mz_addr v2_address(const char *ip, size_t n, const char *port)
{
    struct mz_addr a;
    memset(&a, 0, sizeof(a));
    if (n == 4) {
        a.in4.sin_family = AF_INET;
        memcpy(&a.in4.sin_addr, ip, 4);
        memcpy(&a.in4.sin_port, port, 2);
        a.len = sizeof(a.in4);
    } else {
        a.in6.sin6_family = AF_INET6;
        memcpy(&a.in6.sin6_addr, ip, 16);
        memcpy(&a.in6.sin6_port, port, 2);
        a.len = sizeof(a.in6);
    }
    return a;
}

static bool tlvs_sound(struct mz_str rest)
{
    uint8_t type;
    struct mz_str value;
    while (rest.n)
        if (!proxy_tlv_next(&rest, &type, &value))
            return false;
    return true;
}

static enum proxy_header_result read_v2(struct mz_str b, struct proxy_header *out)
{
    out->version = 2;
    if (b.n < V2_HEAD)
        return PROXY_MORE;
    unsigned command = (unsigned char)b.p[12], family = (unsigned char)b.p[13];
    size_t len = (size_t)(unsigned char)b.p[14] << 8 | (unsigned char)b.p[15];
    if (command >> 4 != 2 || (command & 15) > 1)
        return PROXY_BAD;
    out->length = V2_HEAD + len;
    out->local = (command & 15) == 0;                        /* LOCAL */
    bool carries = (family & 15) == 1 || (family & 15) == 2; /* STREAM, DGRAM */
    size_t ip = !carries ? 0 : family >> 4 == 1 ? 4 : family >> 4 == 2 ? 16 : 0;
    if (!out->local && (ip == 0 || len < 2 * ip + 4))
        return PROXY_BAD;
    if (b.n < out->length)
        return PROXY_MORE;
    const char *p = b.p + V2_HEAD;
    if (out->local)
        return PROXY_DONE;
    out->source = v2_address(p, ip, p + 2 * ip);
    out->destination = v2_address(p + ip, ip, p + 2 * ip + 2);
    out->tlvs = (struct mz_str){ p + 2 * ip + 4, len - 2 * ip - 4 };
    return tlvs_sound(out->tlvs) ? PROXY_DONE : PROXY_BAD;
}

bool proxy_tlv_next(struct mz_str *rest, uint8_t *out_type, struct mz_str *out_value)
{
    if (rest->n < V2_TLV_MIN)
        return false;
    size_t n = (size_t)(unsigned char)rest->p[1] << 8 | (unsigned char)rest->p[2];
    if (rest->n - V2_TLV_MIN < n)
        return false;
    *out_type = (uint8_t)rest->p[0];
    *out_value = (struct mz_str){ rest->p + V2_TLV_MIN, n };
    *rest = mz_str_skip(*rest, V2_TLV_MIN + n);
    return true;
}

enum proxy_header_result proxy_header_read(struct mz_str bytes, struct proxy_header *out)
{
    *out = (struct proxy_header){ 0 };
    if (bytes.n == 0)
        return PROXY_MORE;
    enum proxy_header_result one = begins(bytes, v1_sign, sizeof(v1_sign) - 1);
    enum proxy_header_result two = begins(bytes, v2_sign, 12);
    if (one == PROXY_DONE)
        return read_v1(bytes, out);
    if (two == PROXY_DONE)
        return read_v2(bytes, out);
    return one == PROXY_MORE || two == PROXY_MORE ? PROXY_MORE : PROXY_NONE;
}
