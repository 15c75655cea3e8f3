#include "base/percent.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct mz_str mz_percent_decode(struct mz_arena *a, struct mz_str s)
{
    if (mz_str_chr(s, '%') < 0)
        return s;
    char *p = mz_arena_alloc(a, s.n + 1), *at = p;
    for (size_t i = 0; i < s.n; i++) {
        int hi = -1, lo = -1;
        if (s.p[i] == '%' && i + 2 < s.n) {
            hi = hex(s.p[i + 1]);
            lo = hex(s.p[i + 2]);
        }
        bool is = hi >= 0 && lo >= 0;
        *at++ = is ? (char)(hi * 16 + lo) : s.p[i];
        i += is ? 2 : 0;
    }
    *at = '\0';
    return (struct mz_str){ p, (size_t)(at - p) };
}

struct mz_str mz_percent_encode(struct mz_arena *a, struct mz_str s, const char *reserved)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = mz_arena_alloc(a, s.n * 3 + 1), *at = p;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c > 0x20 && c < 0x7f && c != '%' && !strchr(reserved, c)) {
            *at++ = (char)c;
            continue;
        }
        *at++ = '%';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 15];
    }
    *at = '\0';
    return (struct mz_str){ p, (size_t)(at - p) };
}
