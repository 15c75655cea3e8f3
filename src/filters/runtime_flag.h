#ifndef MZ_FILTERS_RUNTIME_FLAG_H
#define MZ_FILTERS_RUNTIME_FLAG_H
/* envoy.config.core.v3.RuntimeFeatureFlag of a filter: a switch that the runtime may turn. */
#include "proto/mapper.h"
#include "runtime/runtime.h"

struct runtime_flag { /* immutable */
    bool value;
    struct mz_str key; /* "": the runtime has no say */
};
/* @m NULL: on. The key lives in @a. */
static inline struct runtime_flag runtime_flag_build(const pb_RuntimeFeatureFlag *m, struct mz_arena *a)
{
    if (!m)
        return (struct runtime_flag){ true, MZ_STR("") };
    return (struct runtime_flag){ mz_bool_or(m->default_value, true), mz_arena_dup(a, mz_str_c(m->runtime_key)) };
}
static inline bool runtime_flag_on(const struct runtime_flag *f)
{
    return f->key.n ? mz_runtime_bool(mz_runtime_here(), f->key, f->value) : f->value;
}
/* RuntimeFractionalPercent, checked: it has its default value. NULL: @otherwise of all. */
static inline struct mz_fraction runtime_fraction_build(const pb_RuntimeFractionalPercent *m, bool otherwise, struct mz_arena *a)
{
    static const uint32_t denominators[] = { 100, 10000, 1000000 };
    if (!m || !m->default_value)
        return (struct mz_fraction){ .numerator = otherwise, .denominator = 1 };
    return (struct mz_fraction){ .numerator = m->default_value->numerator,
                                 .denominator = denominators[m->default_value->denominator],
                                 .key = mz_arena_dup(a, mz_str_c(m->runtime_key)) };
}
#endif
