#ifndef MZ_CONTROL_TRANSLATE_OWN_H
#define MZ_CONTROL_TRANSLATE_OWN_H
#include "control/translate/translate_priv.h"

/*
 * What a workload has of its own: listeners and clusters for what it answers on. Replicas have the same, so it is found in the cache by all
 * that any of it is made of. @make is asked where nobody had it yet. @what tells them apart; a reference.
 */
struct mz_out *tr_own(struct mz_view *v, enum mz_xds_type t, unsigned what, struct mz_out *(*make)(struct mz_view *v, unsigned what));
/* Of all that documents which attach themselves to workloads, and telemetry, look at: the same, the same policies. */
uint64_t tr_kin(const struct mz_view *v);
#endif
