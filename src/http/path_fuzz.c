/* A cleaned path is clean: no dot segment is left, nothing grows without bound, a second pass changes nothing. */
#include "http/path.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static bool has_dot_segment(struct mz_str path)
{
    ptrdiff_t query = mz_str_chr(path, '?');
    if (query >= 0)
        path.n = (size_t)query;
    for (struct mz_str s; mz_str_split(&path, '/', &s);) {
        ptrdiff_t semi = mz_str_chr(s, ';');
        if (semi >= 0)
            s.n = (size_t)semi;
        if (mz_str_eq(s, MZ_STR(".")) || mz_str_eq(s, MZ_STR("..")))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1)
        return 0;
    struct mz_path_rules rules = { p[0] & 1, p[0] & 2, p[0] >> 2 & 3 };
    char *copy = malloc(n);
    memcpy(copy, p + 1, n - 1);
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str out, again, path = { copy, n - 1 };
    enum mz_path_verdict v = mz_path_clean(a, path, &rules, &out);
    if (out.n > 3 * path.n)
        abort();
    if (v != MZ_PATH_REJECT && rules.normalize && path.n && path.p[0] == '/') {
        if (has_dot_segment(out) || out.n == 0 || out.p[0] != '/')
            abort();
        rules.escaped_slashes = MZ_SLASHES_KEEP;
        if (mz_path_clean(a, out, &rules, &again) != MZ_PATH_OK || !mz_str_eq(out, again))
            abort();
    }
    mz_arena_destroy(a);
    free(copy);
    return 0;
}
