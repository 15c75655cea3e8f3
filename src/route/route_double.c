/* Doubles of what is above or beside this folder: the least that its tests look at. */
#include "observe/decision.h"
#include "upstream/cluster.h"

void mz_decision_step(struct mz_decision *d, uint64_t now_us, enum mz_step_kind k, struct mz_str a,
                      struct mz_str b, int64_t n, int64_t m)
{
    if (d->n < MZ_DECISION_STEPS)
        d->v[d->n++] = (struct mz_step){ (uint8_t)k, (uint32_t)now_us, a, b, n, m };
}

__attribute__((weak)) bool mz_cluster_manager_has(const struct mz_cluster_manager *m,
                                                  struct mz_str name)
{
    (void)m;
    return !mz_str_eq(name, MZ_STR("ghost"));
}
