#ifndef MZ_CLI_PROMETHEUS_H
#define MZ_CLI_PROMETHEUS_H
/* The text form of Prometheus (0.0.4), as proxies answer /stats/prometheus: one sample after the other. Nothing is copied. */
#include "base/str.h"

struct prom_sample {
    struct mz_str name, labels; /* labels: what stands between the braces */
    double value;
};
/* The next sample off the front of @rest; comments and lines that are none are skipped. False: there are no more. */
bool prom_next(struct mz_str *rest, struct prom_sample *out);
struct mz_str prom_label(const struct prom_sample *s, const char *name); /* as written, escapes and all; "" absent */
#endif
