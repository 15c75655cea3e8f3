#include "filters/http/fraction.h"

#include "base/rand.h"

struct mz_fraction fraction_build(const pb_RuntimeFractionalPercent *m, bool otherwise,
                                  struct mz_arena *a)
{
    static const uint32_t denominators[] = { 100, 10000, 1000000 };
    struct mz_fraction f = { .numerator = otherwise, .denominator = 1 };
    if (!m || !m->default_value)
        return f;
    f.numerator = m->default_value->numerator;
    f.denominator = denominators[m->default_value->denominator];
    f.key = mz_arena_dup(a, mz_str_c(m->runtime_key));
    return f;
}

bool fraction_holds(const struct mz_fraction *f, const struct mz_filter *filter)
{
    if (!f->key.n && (f->numerator == 0 || f->numerator >= f->denominator))
        return f->numerator != 0;
    struct mz_rand *r = mz_loop_rand(mz_stream_worker(filter->stream)->loop);
    return mz_runtime_fraction(mz_runtime_here(), f, mz_rand_u64(r));
}
