#include "control/monitor/metrics.h"

void mz_distribution_add(struct mz_distribution *d, double v)
{
    size_t i = 0;
    while (i < d->bounds_n && v > d->bounds[i])
        i++;
    d->counts[i]++;
    d->sum += v;
}

void mz_metric_head(struct mz_buf *out, const char *name, enum mz_metric_kind kind,
                    const char *help)
{
    static const char *const kinds[] = { "counter", "gauge", "histogram" };
    mz_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

void mz_metric_value(struct mz_buf *out, const char *name, const char *label, struct mz_str value,
                     double v)
{
    mz_buf_append_str(out, mz_str_c(name));
    if (label) {
        mz_buf_printf(out, "{%s=\"", label);
        for (size_t i = 0; i < value.n; i++)
            if (value.p[i] == '\n')
                mz_buf_append(out, "\\n", 2);
            else if (value.p[i] == '"' || value.p[i] == '\\')
                mz_buf_printf(out, "\\%c", value.p[i]);
            else
                mz_buf_append(out, value.p + i, 1);
        mz_buf_append(out, "\"}", 2);
    }
    mz_buf_printf(out, " %.17g\n", v);
}

void mz_metric_distribution(struct mz_buf *out, const char *name, const char *help,
                            const struct mz_distribution *d)
{
    uint64_t n = 0;
    mz_metric_head(out, name, MZ_METRIC_HISTOGRAM, help);
    for (size_t i = 0; i < d->bounds_n; i++) {
        n += d->counts[i];
        mz_buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, d->bounds[i],
                      (unsigned long long)n);
    }
    n += d->counts[d->bounds_n];
    mz_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.17g\n%s_count %llu\n", name,
                  (unsigned long long)n, name, d->sum, name, (unsigned long long)n);
}
