#include "http/query.h"

struct mz_str mz_query_of(struct mz_str path)
{
    ptrdiff_t hash = mz_str_chr(path, '#');
    if (hash >= 0)
        path.n = (size_t)hash;
    ptrdiff_t at = mz_str_chr(path, '?');
    return at < 0 ? (struct mz_str){ NULL, 0 } : mz_str_skip(path, (size_t)at + 1);
}

bool mz_query_next(struct mz_str *rest, struct mz_str *out_name, struct mz_str *out_value)
{
    struct mz_str part;
    do {
        if (!mz_str_split(rest, '&', &part))
            return false;
    } while (part.n == 0);
    ptrdiff_t eq = mz_str_chr(part, '=');
    size_t n = eq < 0 ? part.n : (size_t)eq;
    *out_name = (struct mz_str){ part.p, n };
    *out_value = mz_str_skip(part, eq < 0 ? n : n + 1);
    return true;
}

bool mz_query_get(struct mz_str path, struct mz_str name, struct mz_str *out_value)
{
    struct mz_str rest = mz_query_of(path), k, v;
    while (mz_query_next(&rest, &k, &v)) {
        if (mz_str_eq(k, name)) {
            *out_value = v;
            return true;
        }
    }
    return false;
}
