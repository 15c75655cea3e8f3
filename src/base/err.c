#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mz_err_note(struct mz_err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    e->path[0] = '\0';
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
}

void mz_err_prefix(struct mz_err *e, const char *fmt, ...)
{
    char head[sizeof(e->path)], tail[sizeof(e->path)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head), fmt, ap);
    va_end(ap);
    memcpy(tail, e->path, sizeof(tail));
    size_t n = strlen(head);
    bool dot = tail[0] && tail[0] != '[' && n + 1 < sizeof(e->path);
    memcpy(e->path, head, n + 1);
    if (dot)
        e->path[n++] = '.';
    size_t room = sizeof(e->path) - n - 1, k = strnlen(tail, room);
    memcpy(e->path + n, tail, k); /* a path that is too long loses its end */
    e->path[n + k] = '\0';
}

const char *mz_err_text(const struct mz_err *e, char *out, unsigned long n)
{
    snprintf(out, n, "%s%s%s", e->path, e->path[0] ? ": " : "", e->msg);
    return out;
}
