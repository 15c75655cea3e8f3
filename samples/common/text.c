#include "text.h"

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must(void *p)
{
    if (!p)
        errx(1, "out of memory");
    return p;
}

static void reserve(struct text *t, size_t more)
{
    if (t->cap - t->n > more)
        return;
    t->cap = (t->n + more + 1) * 2;
    t->p = must(realloc(t->p, t->cap));
}

void text_raw(struct text *t, const char *p, size_t n)
{
    reserve(t, n);
    memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = 0;
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n > 0) {
        reserve(t, (size_t)n);
        (void)vsnprintf(t->p + t->n, (size_t)n + 1, fmt, again); /* as long as counted */
        t->n += (size_t)n;
    }
    va_end(again);
}

void text_html(struct text *t, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '&':
            text_add(t, "&amp;");
            break;
        case '<':
            text_add(t, "&lt;");
            break;
        case '>':
            text_add(t, "&gt;");
            break;
        case '"':
            text_add(t, "&quot;");
            break;
        case '\'':
            text_add(t, "&#39;");
            break;
        default:
            text_raw(t, s, 1);
        }
    }
}

void text_json(struct text *t, const char *s)
{
    text_raw(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            text_add(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            text_add(t, "\\u%04x", (unsigned)*s);
        else
            text_raw(t, s, 1);
    }
    text_raw(t, "\"", 1);
}

void text_fini(struct text *t)
{
    free(t->p);
    *t = (struct text){ 0 };
}
