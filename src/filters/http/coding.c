#include "filters/http/coding.h"

#include "proto/mapper.h"
#include "runtime/runtime.h"

struct coding_flag coding_flag_build(const pb_RuntimeFeatureFlag *m, struct mz_arena *a)
{
    if (!m)
        return (struct coding_flag){ true, MZ_STR("") };
    return (struct coding_flag){ mz_bool_or(m->default_value, true),
                                 mz_arena_dup(a, mz_str_c(m->runtime_key)) };
}

bool coding_flag_on(const struct coding_flag *f)
{
    return f->key.n ? mz_runtime_bool(mz_runtime_here(), f->key, f->value) : f->value;
}

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
