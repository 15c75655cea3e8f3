#include "http/url.h"

#include "http/validate.h"

static bool scheme_valid(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = mz_lower(s.p[i]);
        bool alpha = c >= 'a' && c <= 'z';
        bool later = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!alpha && (i == 0 || !later))
            return false;
    }
    return s.n > 0;
}

bool mz_url_parse(struct mz_str text, struct mz_url *out_url)
{
    if (!mz_target_valid(text))
        return false;
    ptrdiff_t at = mz_str_find(text, MZ_STR("://"));
    if (at <= 0 || !scheme_valid((struct mz_str){ text.p, (size_t)at }))
        return false;
    struct mz_str rest = mz_str_skip(text, (size_t)at + 3);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    struct mz_str authority = { rest.p, n };
    struct mz_host_port hp;
    if (!mz_authority_valid(authority) || !mz_host_port_parse(authority, &hp))
        return false;
    *out_url = (struct mz_url){ { text.p, (size_t)at }, authority, mz_str_skip(rest, n) };
    return true;
}

static bool port_parse(struct mz_str text, uint16_t *out_port)
{
    uint64_t v;
    if (text.n > 5 || !mz_str_u64(text, &v) || v == 0 || v > UINT16_MAX)
        return false;
    *out_port = (uint16_t)v;
    return true;
}

bool mz_host_port_parse(struct mz_str authority, struct mz_host_port *out)
{
    struct mz_host_port r = { .port = 0 };
    struct mz_str port;
    if (authority.n && authority.p[0] == '[') {
        ptrdiff_t close = mz_str_chr(authority, ']');
        if (close <= 1)
            return false;
        r.host = (struct mz_str){ authority.p + 1, (size_t)close - 1 };
        r.ipv6 = true;
        port = mz_str_skip(authority, (size_t)close + 1);
    } else {
        ptrdiff_t colon = mz_str_chr(authority, ':');
        size_t n = colon < 0 ? authority.n : (size_t)colon;
        r.host = (struct mz_str){ authority.p, n };
        port = mz_str_skip(authority, n);
        if (n == 0 || mz_str_chr(r.host, ']') >= 0 || mz_str_chr(r.host, '[') >= 0)
            return false;
    }
    if (port.n && (port.p[0] != ':' || !port_parse(mz_str_skip(port, 1), &r.port)))
        return false;
    *out = r;
    return true;
}

struct mz_str mz_authority_host(struct mz_str authority)
{
    ptrdiff_t colon = mz_str_rchr(authority, ':');
    if (colon < 0 || mz_str_chr(mz_str_skip(authority, (size_t)colon), ']') >= 0)
        return authority; /* a colon within brackets belongs to an IPv6 literal */
    return (struct mz_str){ authority.p, (size_t)colon };
}
