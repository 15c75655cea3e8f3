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
    struct mz_str whole = mz_arena_printf(t->arena, "%.*s: %s", MZ_STR_ARG(key), text);
    if (t->told.n >= MAX_TOLD || mz_map_get(&t->told, whole))
        return;
    (void)mz_map_put(&t->told, whole, t);
    MZ_LOG(WARN, config, "%s", whole.p);
}
