#ifndef MZ_UPSTREAM_HEALTH_EVENTS_H
#define MZ_UPSTREAM_HEALTH_EVENTS_H
/* What happened to hosts, as JSON lines in files and in the process log (U5, U6); the lines are Envoy's. Main thread. */
#include "upstream/health/health.h"

struct outlier_finding {
    enum outlier_rule rule;
    double measured, limit; /* failures in a row, or percent */
    double average;         /* success rates: of all hosts */
};
/* @enforced: it is out now; else it would be, but for enforcing_... */
void event_ejected(const struct outlier *o, struct mz_host *h, const struct outlier_finding *f,
                   bool enforced);
void event_unejected(const struct outlier *o, struct mz_host *h);
#endif
