#ifndef MZ_CONTROL_MODEL_CHANGE_H
#define MZ_CONTROL_MODEL_CHANGE_H
/* What is different between two models: whom it concerns follows from it. Main thread. */
#include "control/model/model.h"

struct mz_change_host {
    MZ_VEC(const struct mz_service *) as; /* as it was, as it is; in whichever namespaces. Of either model */
    MZ_VEC(const struct mz_rule *) ruled; /* what else held for it before (rule.h) */
};
struct mz_change {
    bool all;      /* settings or rules: everything may be different */
    bool services; /* some service came, went or is another (its endpoints not counted) */
    bool secrets;  /* some Secret or ConfigMap with certificates is another */
    struct mz_map workloads; /* that are different, by "ns/name" and by address: what their own proxies answer on may be */
    struct mz_map hosts; /* to struct mz_change_host: services whose endpoints, or that themselves, are different; keys of either model */
};
void mz_change_init(struct mz_change *c, const struct mz_model *before, const struct mz_model *after); /* before NULL: all */
void mz_change_fini(struct mz_change *c);
/* The proxy of a workload may have to be told, whatever else it sees. */
bool mz_change_is_own(const struct mz_change *c, struct mz_str ns, struct mz_str name, struct mz_str address);
bool mz_change_none(const struct mz_change *c);
#endif
