#include "observe/json_text.h"
#include "proto/tree.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void escape_byte(struct mz_buf *out, unsigned char c, bool utf8)
{
    static const char hex[] = "0123456789abcdef";
    char brief = utf8 ? short_escape(c) : 0;
    if (brief)
        mz_buf_append(out, (char[]){ '\\', brief }, 2);
    else if (utf8 && c >= 0x80)
        mz_buf_append(out, &c, 1);
    else
        mz_buf_append(out, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

void mz_json_escape(struct mz_buf *out, struct mz_str s)
{
    size_t i = 0;
    while (i < s.n && is_plain((unsigned char)s.p[i]))
        i++;
    mz_buf_append(out, s.p, i);
    if (i == s.n)
        return;
    bool utf8 = mz_utf8_valid(s);
    while (i < s.n) {
        size_t from = i;
        while (i < s.n && is_plain((unsigned char)s.p[i]))
            i++;
        mz_buf_append(out, s.p + from, i - from);
        if (i < s.n)
            escape_byte(out, (unsigned char)s.p[i++], utf8);
    }
}

void mz_json_string(struct mz_buf *out, struct mz_str s)
{
    mz_buf_append(out, "\"", 1);
    mz_json_escape(out, s);
    mz_buf_append(out, "\"", 1);
}

size_t mz_json_number(double v, char out_text[MZ_JSON_NUMBER_TEXT])
{
    if (!isfinite(v)) {
        memcpy(out_text, "null", sizeof("null"));
        return 4;
    }
    if (fabs(v) < 1e15 && floor(v) >= v && ceil(v) <= v)
        return (size_t)snprintf(out_text, MZ_JSON_NUMBER_TEXT, "%lld", (long long)v);
    for (int digits = 15;; digits++) { /* the shortest text that reads back as the same number */
        int n = snprintf(out_text, MZ_JSON_NUMBER_TEXT, "%.*g", digits, v);
        double back = digits == 17 ? v : strtod(out_text, NULL);
        if (!(back < v) && !(back > v))
            return (size_t)n;
    }
}
