#ifndef MZ_CONTROL_TRANSLATE_LOCALITY_H
#define MZ_CONTROL_TRANSLATE_LOCALITY_H
/* Which endpoints are nearer, and what shares places have (C4): DestinationRule, else the service's trafficDistribution, else the mesh. */
#include "control/translate/translate_priv.h"

struct tr_places { /* what holds for a service */
    const ist_LocalityLoadBalancerSetting *said; /* NULL: nothing but the defaults */
    const ist_ZoneAwareLoadBalancerSetting *zones; /* proxies share load among the zones of a region themselves; NULL: they do not */
    bool off;   /* nothing is nearer than anything else */
    bool force; /* also where nobody notices failing endpoints: those that are not ready are told as such */
};
struct tr_places tr_places_of(const struct mz_view *v, const struct mz_service *s, const struct mz_policy *p);
bool tr_places_weigh(const struct tr_places *p, bool outlier); /* proxies weigh places by their shares */
/* What of the proxy decides, for the key of what is made. */
void tr_places_key(const struct mz_view *v, const struct tr_places *p, struct mz_key *k);
/* @v: the endpoints that the assignment's are made of, by group in the same order. */
void tr_places_apply(const struct mz_view *v, struct mz_arena *a, const struct tr_places *p, bool outlier, pb_ClusterLoadAssignment *m,
                     const struct mz_endpoint *const *const *of);
#endif
