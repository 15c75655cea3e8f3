#include "base/base64.h"

static int digit(char c, bool url)
{
    return c >= 'A' && c <= 'Z'     ? c - 'A'
           : c >= 'a' && c <= 'z'   ? c - 'a' + 26
           : c >= '0' && c <= '9'   ? c - '0' + 52
           : c == (url ? '-' : '+') ? 62
           : c == (url ? '_' : '/') ? 63
                                    : -1;
}

static bool decode(struct mz_str text, bool url, struct mz_arena *a, struct mz_str *out)
{
    struct mz_str s = text;
    while (s.n && text.n - s.n < 2 && s.p[s.n - 1] == '=')
        s.n--;
    if (s.n % 4 == 1)
        return false;
    char *to = mz_arena_alloc(a, s.n * 3 / 4 + 1);
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < s.n; i++) {
        int d = digit(s.p[i], url);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4)
            to[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    unsigned spare = s.n % 4 == 2 ? 4 : s.n % 4 == 3 ? 2 : 0;
    if (bits & ((1u << spare) - 1))
        return false;
    *out = (struct mz_str){ to, n };
    return true;
}

bool mz_base64_decode(struct mz_str text, struct mz_arena *a, struct mz_str *out)
{
    return decode(text, false, a, out);
}

bool mz_base64url_decode(struct mz_str text, struct mz_arena *a, struct mz_str *out)
{
    return decode(text, true, a, out);
}

struct mz_str mz_base64_encode(struct mz_str bytes, struct mz_arena *a)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = mz_arena_alloc(a, (bytes.n + 2) / 3 * 4 + 1);
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t left = bytes.n - i;
        uint32_t v = (uint32_t)(unsigned char)bytes.p[i] << 16;
        v |= left > 1 ? (uint32_t)(unsigned char)bytes.p[i + 1] << 8 : 0;
        v |= left > 2 ? (uint32_t)(unsigned char)bytes.p[i + 2] : 0;
        for (unsigned k = 0; k < 4; k++)
            out[n++] = k <= left ? digits[v >> (18 - 6 * k) & 63] : '=';
    }
    out[n] = 0;
    return (struct mz_str){ out, n };
}
