/* Names of xDS-TP: the canonical form is a name that says the same, and its own canonical form. */
#include <stdlib.h>

#include "xds/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct mz_xds_name *x, const struct mz_xds_name *y)
{
    bool same = mz_str_eq(x->authority, y->authority) && mz_str_eq(x->type, y->type) &&
                mz_str_eq(x->id, y->id) && mz_xds_name_is_glob(x) == mz_xds_name_is_glob(y);
    return same && x->context.n == y->context.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    const struct mz_str text = { (const char *)data, size };
    struct mz_xds_name n, again;
    struct mz_xds_url url;
    struct mz_err err;
    (void)mz_xds_url_parse(a, text, &url, &err);
    if (mz_xds_name_parse(a, text, &n, &err)) {
        struct mz_str once = mz_xds_name_text(a, &n);
        if (!mz_xds_name_parse(a, once, &again, &err) || !same(&n, &again) ||
            !mz_str_eq(once, mz_xds_name_text(a, &again)))
            abort();
        mz_xds_name_complete(a, &n, &again.context);
        if (!mz_str_eq(once, mz_xds_name_text(a, &n)))
            abort();
        mz_xds_name_to_glob(a, &n);
        if (!mz_xds_name_is_glob(&n))
            abort();
    }
    mz_arena_destroy(a);
    return 0;
}
