/* Text that grows. Zeroed is empty; text_fini() frees it. */
#pragma once
#include <stddef.h>

struct text {
    char *p; /* ends with a 0 that `n` does not count; NULL while empty */
    size_t n, cap;
};

void text_raw(struct text *t, const char *p, size_t n);
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** With what HTML gives a meaning to (& < > " ') replaced. */
void text_html(struct text *t, const char *s);
/** As a JSON string, with its quotes. @s is UTF-8. */
void text_json(struct text *t, const char *s);
void text_fini(struct text *t);

/** @p, or the end of the program where there is no memory. */
void *must(void *p);
