#ifndef MZ_CLI_NUMBERS_H
#define MZ_CLI_NUMBERS_H
/* What a proxy's statistics say at one moment, in the few numbers that people look at. */
#include "base/vec.h"
#include "cli/pods.h"

#define NUMBERS_BUCKETS 40
struct buckets { /* cumulative, by their upper ends in ms */
    double le[NUMBERS_BUCKETS], count[NUMBERS_BUCKETS];
    size_t n;
};
enum side { SIDE_IN, SIDE_OUT, SIDES }; /* requests to the pod's application, and its own */
struct call { /* who asked whom, as the asked one's proxy tells it; where that has none, as the asking one's does */
    struct mz_str from, to, security; /* "workload.namespace", a host; "mutual_tls" ... */
    double requests, errors, connections;
};
struct numbers {
    bool ok; /* the proxy answered */
    double requests[SIDES], errors[SIDES]; /* since it began; errors: 5xx and those without an answer */
    struct buckets time[SIDES];
    double connections, memory_bytes, uptime_s;
    MZ_VEC(struct call) calls; /* texts in the arena */
};
/* @a: texts of calls. What the proxy does not answer is 0. */
void numbers_load(struct numbers *n, const struct pods *p, const struct pod *pod, struct mz_arena *a);
void numbers_fini(struct numbers *n);
void numbers_read(struct numbers *n, struct mz_str text, struct mz_arena *a); /* of /stats/prometheus */
/* Of what came between two moments: ms; negative: nothing came. @q: 0.5, 0.99. */
double numbers_quantile(const struct buckets *before, const struct buckets *after, double q);
/* What a counter gained; one that began anew (a proxy restarted) counts from 0. */
double numbers_gain(double before, double after);
#endif
