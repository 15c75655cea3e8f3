#include "control/translate/tell.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

enum { MAX_TOLD = 1000 };

void tr_tell(struct mz_view *v, struct mz_str key, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct mz_translator *t = v->t;
    char whole[1000];
    const int n = snprintf(whole, sizeof(whole), "%.*s: %s", MZ_STR_ARG(key), text);
    const size_t max = sizeof(whole) - 1;
    const struct mz_str line = { whole, n < 0 ? 0 : (size_t)n > max ? max : (size_t)n };
    if (t->told.n >= MAX_TOLD || mz_map_get(&t->told, line))
        return; /* and nothing is kept of it: clients can make this happen */
    (void)mz_map_put(&t->told, mz_arena_dup(t->arena, line), t);
    MZ_LOG(WARN, config, "%s", whole);
}
