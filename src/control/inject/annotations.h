#ifndef MZ_CONTROL_INJECT_ANNOTATIONS_H
#define MZ_CONTROL_INJECT_ANNOTATIONS_H
/* Istio's annotations: where each may stand, and what it must look like. Pure functions. */
#include "base/err.h"
#include "base/str.h"

struct mz_annotation {
    const char *name, *on; /* "Pod", "Service, ServiceEntry"; "Any" */
    bool deprecated;
    bool (*check)(struct mz_str value, struct mz_err *err); /* NULL: any text will do */
};
const struct mz_annotation *mz_annotation_find(struct mz_str name); /* NULL: it is none of Istio's */
bool mz_annotation_check(struct mz_str name, struct mz_str value, struct mz_err *err); /* others are fine */
#endif
