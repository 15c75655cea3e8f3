/* First line: a template; second: a path. What matches can be rewritten by its own variables; nothing else happens. */
#include "base/log.h"
#include "route/uri_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_str rest = { (const char *)data, size }, text = { 0 }, path = { 0 };
    (void)(mz_str_split(&rest, '\n', &text) &&
           mz_str_split(&rest, '\n', &path)); /* empty lines are inputs, too */
    struct mz_err err;
    struct mz_uri_template *t = mz_uri_template_create(text, &err);
    if (!t)
        return 0;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    bool match = mz_uri_template_match(t, path);
    struct mz_uri_rewrite *w = mz_uri_rewrite_create(MZ_STR("/fixed"), t, &err);
    MZ_ASSERT(w);
    MZ_ASSERT((mz_uri_rewrite_apply(w, t, path, a).n > 0) == match);
    mz_uri_rewrite_destroy(w);
    w = mz_uri_rewrite_create(path, t, &err); /* a foreign text as the rewrite itself */
    if (w)
        (void)mz_uri_rewrite_apply(w, t, path, a); /* only that it ends */
    mz_uri_rewrite_destroy(w);
    mz_arena_destroy(a);
    mz_uri_template_destroy(t);
    return 0;
}
