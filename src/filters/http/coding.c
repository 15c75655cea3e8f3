#include "filters/http/coding.h"

bool coding_has_token(struct mz_str list, struct mz_str token)
{
    for (struct mz_str part; mz_str_split(&list, ',', &part);)
        if (mz_str_ieq(mz_str_trim(part), token))
            return true;
    return false;
}

bool coding_no_transform(const struct mz_headers *h)
{
    struct mz_str v;
    return mz_headers_joined(h, MZ_STR("cache-control"), &v) &&
           coding_has_token(v, MZ_STR("no-transform"));
}
