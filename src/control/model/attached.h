#ifndef MZ_CONTROL_MODEL_ATTACHED_H
#define MZ_CONTROL_MODEL_ATTACHED_H
/* Documents that attach themselves to workloads: policies and extensions, with a selector, with targetRefs, or with neither. */
#include "control/model/model.h"

struct mz_attached { /* one document */
    struct mz_str ns, name, key, created;
    struct mz_labels selector;    /* none: every workload of the namespace, or from the root namespace of the mesh */
    struct mz_labels annotations;
    const ist_PolicyTargetReference *const *targets;
    size_t targets_n;
    const ProtobufCMessage *m; /* of the kind's type */
    uint64_t version;
};

/* Whom documents are asked for. */
struct mz_attach_to {
    struct mz_str ns;
    struct mz_labels labels;
};
/* Is it for this workload? One with targetRefs is for gateways of the Gateway API that it names, and for nobody else. Its namespace
 * is not looked at where it has a selector. */
bool mz_attached_is_for(const struct mz_attached *d, const struct mz_attach_to *to);
/* Those of one namespace that are for @to, oldest first: appended to @out, whose memory is MZ_MEM_CONFIG. */
struct mz_attached_refs {
    MZ_VEC(const struct mz_attached *) v;
};
/* Keys that were fetched for a rule which only says where they are; NULL: there are none (yet). */
const char *mz_model_keys(const struct mz_model *m, const ist_JWTRule *r);
void mz_model_attached(const struct mz_model *m, enum mz_kind k, struct mz_str ns, const struct mz_attach_to *to,
                       struct mz_attached_refs *out);
/* Those of the root namespace, then those of its own; in the other order with @own_first. */
void mz_model_attached_all(const struct mz_model *m, enum mz_kind k, const struct mz_attach_to *to, bool own_first,
                           struct mz_attached_refs *out);
#endif
