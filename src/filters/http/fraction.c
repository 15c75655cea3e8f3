#include "filters/http/fraction.h"

#include "base/rand.h"
#include "filters/runtime_flag.h"

struct mz_fraction fraction_build(const pb_RuntimeFractionalPercent *m, bool otherwise,
                                  struct mz_arena *a)
{
    return runtime_fraction_build(m, otherwise, a);
}

bool fraction_holds(const struct mz_fraction *f, const struct mz_filter *filter)
{
    if (!f->key.n && (f->numerator == 0 || f->numerator >= f->denominator))
        return f->numerator != 0;
    struct mz_rand *r = mz_loop_rand(mz_stream_worker(filter->stream)->loop);
    return mz_runtime_fraction(mz_runtime_here(), f, mz_rand_u64(r));
}
