/* Doubles of what is above or beside this folder: the least that its tests look at. */
#include "upstream/cluster.h"

__attribute__((weak)) bool mz_cluster_manager_has(const struct mz_cluster_manager *m,
                                                  struct mz_str name)
{
    (void)m;
    return !mz_str_eq(name, MZ_STR("ghost"));
}
