#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool message_field(const char *head, size_t len, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    const char *end = head + len;
    for (const char *p = memchr(head, '\n', len); p && p + 1 < end;
         p = memchr(p + 1, '\n', (size_t)(end - p - 1))) {
        const char *line = p + 1;
        if ((size_t)(end - line) <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *v = line + n + 1;
        while (*v == ' ')
            v++;
        snprintf(out, cap, "%.*s", (int)strcspn(v, "\r\n"), v);
        return true;
    }
    return false;
}

int64_t message_dechunk(char *p, size_t n, size_t *out_len)
{
    size_t at = 0, len = 0;
    for (;;) {
        char *eol = memchr(p + at, '\n', n - at);
        if (!eol)
            return 0;
        char *stop;
        unsigned long long size = strtoull(p + at, &stop, 16);
        if (stop == p + at || size > BODY_MAX)
            return -1;
        at = (size_t)(eol - p) + 1;
        if (size == 0)
            break;
        if (n - at < size + 2)
            return 0;
        at += size + 2;
    }
    char *end = p + at;
    for (;;) { /* trailers, up to the blank line */
        char *eol = memchr(end, '\n', n - (size_t)(end - p));
        if (!eol)
            return 0;
        bool blank = eol - end <= 1;
        end = eol + 1;
        if (blank)
            break;
    }
    for (size_t from = 0;;) {
        char *eol = memchr(p + from, '\n', n - from);
        size_t size = eol ? (size_t)strtoull(p + from, NULL, 16) : 0;
        if (size == 0)
            break;
        from = (size_t)(eol - p) + 1;
        memmove(p + len, p + from, size);
        len += size;
        from += size + 2;
    }
    *out_len = len;
    return end - p;
}
