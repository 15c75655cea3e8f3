#include "base/base64.h"

static int digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool mz_base64_decode(struct mz_str text, struct mz_arena *a, struct mz_str *out)
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
        int d = digit(s.p[i]);
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
