/* Doubles of what the tests steer; weak, so that a test that links the real ones gets those. */

#include "base/test.h"

#include "observe/decision.h"
#include "proto/mapper.h"
#include "route/route.h"
#include "route/route_test.h"
#include "upstream/cluster.h"

__attribute__((weak)) void mz_decision_step(struct mz_decision *d, uint64_t now_us,
                                            enum mz_step_kind k, struct mz_str a, struct mz_str b,
                                            int64_t n, int64_t m)
{
    if (d->n < MZ_DECISION_STEPS)
        d->v[d->n++] = (struct mz_step){ (uint8_t)k, (uint32_t)now_us, a, b, n, m };
}

__attribute__((weak)) const struct mz_runtime *mz_runtime_here(void)
{
    return NULL;
}
__attribute__((weak)) bool mz_runtime_fraction(const struct mz_runtime *r,
                                               const struct mz_fraction *f, uint64_t random)
{
    (void)r;
    return random % f->denominator < f->numerator;
}
__attribute__((weak)) uint64_t mz_runtime_u64(const struct mz_runtime *r, struct mz_str key,
                                              uint64_t def)
{
    (void)r;
    return mz_str_eq(key, MZ_STR("w.one")) ? 0 : def;
}

__attribute__((weak)) bool mz_cluster_manager_has(const struct mz_cluster_manager *m,
                                                  struct mz_str name)
{
    (void)m;
    return !mz_str_eq(name, MZ_STR("ghost"));
}
