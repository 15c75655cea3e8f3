#ifndef MZ_CONTROL_MONITOR_METRICS_H
#define MZ_CONTROL_MONITOR_METRICS_H
/* Text for Prometheus, and the distributions that mizzend keeps itself. Main thread. */
#include "base/buf.h"

#define METRIC_MAX_BOUNDS 12
struct mz_distribution { /* zeroed but for bounds: empty */
    const double *bounds; /* ascending, in the metric's unit */
    size_t bounds_n;
    uint64_t counts[METRIC_MAX_BOUNDS + 1]; /* the last: above all bounds */
    double sum;
};
void mz_distribution_add(struct mz_distribution *d, double v);

enum mz_metric_kind { MZ_METRIC_COUNTER, MZ_METRIC_GAUGE, MZ_METRIC_HISTOGRAM };
void mz_metric_head(struct mz_buf *out, const char *name, enum mz_metric_kind kind, const char *help);
/* @label NULL: none. One more sample of the metric whose head stands. */
void mz_metric_value(struct mz_buf *out, const char *name, const char *label, struct mz_str value, double v);
struct mz_metric_label {
    const char *name;
    struct mz_str value;
};
void mz_metric_labelled(struct mz_buf *out, const char *name, const struct mz_metric_label *labels, size_t n, double v);
/* One more series of the histogram whose head stands; @label NULL: the only one. */
void mz_metric_series(struct mz_buf *out, const char *name, const char *label, struct mz_str value, const struct mz_distribution *d);
void mz_metric_distribution(struct mz_buf *out, const char *name, const char *help, const struct mz_distribution *d);
#endif
