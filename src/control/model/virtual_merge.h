#ifndef MZ_CONTROL_MODEL_VIRTUAL_MERGE_H
#define MZ_CONTROL_MODEL_VIRTUAL_MERGE_H
#include "control/model/model_priv.h"
#include "control/model/virtual_service.h"

/* Puts what @v delegates in its place. @delegates: "namespace/name" to struct mz_virtual without hosts. Routes whose delegate is
 * not there, is not exported to @v's namespace or asks for what the root excludes are left out. */
void model_merge_delegates(struct model_draft *d, struct mz_virtual *v, const struct mz_map *delegates);
#endif
