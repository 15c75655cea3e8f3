#ifndef MZ_CONTROL_MODEL_WORKLOAD_ENTRY_H
#define MZ_CONTROL_MODEL_WORKLOAD_ENTRY_H
#include "control/model/model_priv.h"

/* One endpoint as an Istio document writes it, alone or in a ServiceEntry. @labels of its metadata win over its own. */
struct mz_workload *model_workload_entry(struct model_draft *d, const ist_WorkloadEntry *e, struct mz_str ns, struct mz_str name,
                                         struct mz_labels labels);
#endif
