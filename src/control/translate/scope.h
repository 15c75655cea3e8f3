#ifndef MZ_CONTROL_TRANSLATE_SCOPE_H
#define MZ_CONTROL_TRANSLATE_SCOPE_H
#include "control/model/sidecar.h"
#include "control/translate/translate_priv.h"

/* What workloads of @ns see for which @sidecar holds (NULL: everything that is exported to them). Made once for each model. */
const struct tr_scope *tr_scope_of(struct mz_translator *t, struct mz_str ns, const struct mz_sidecar *sidecar);
/* The egress listener that routes of @port belong to: the one for this port, else the last, which is for all others. NULL: none. */
const struct tr_egress *tr_egress_for(const struct tr_scope *s, uint16_t port);
#endif
