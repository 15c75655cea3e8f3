#include "control/monitor/metrics.h"

#include <stdio.h>

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

static void put_label(struct mz_buf *out, const char *label, struct mz_str value)
{
    mz_buf_printf(out, "%s=\"", label);
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] == '\n')
            mz_buf_append(out, "\\n", 2);
        else if (value.p[i] == '"' || value.p[i] == '\\')
            mz_buf_printf(out, "\\%c", value.p[i]);
        else
            mz_buf_append(out, value.p + i, 1);
    mz_buf_append(out, "\"", 1);
}

void mz_metric_labelled(struct mz_buf *out, const char *name, const struct mz_metric_label *labels,
                        size_t n, double v)
{
    mz_buf_append_str(out, mz_str_c(name));
    for (size_t i = 0; i < n; i++) {
        mz_buf_append(out, i ? "," : "{", 1);
        put_label(out, labels[i].name, labels[i].value);
    }
    mz_buf_printf(out, "%s %.17g\n", n ? "}" : "", v);
}

void mz_metric_value(struct mz_buf *out, const char *name, const char *label, struct mz_str value,
                     double v)
{
    const struct mz_metric_label one = { label, value };
    mz_metric_labelled(out, name, &one, label != NULL, v);
}

void mz_metric_series(struct mz_buf *out, const char *name, const char *label, struct mz_str value,
                      const struct mz_distribution *d)
{
    char part[128], bound[32];
    struct mz_metric_label labels[2] = { { label, value } };
    const size_t n = label != NULL;
    uint64_t count = 0;
    (void)snprintf(part, sizeof(part), "%s_bucket", name);
    for (size_t i = 0; i <= d->bounds_n; i++) {
        count += d->counts[i];
        if (i < d->bounds_n)
            (void)snprintf(bound, sizeof(bound), "%g", d->bounds[i]);
        labels[n] = (struct mz_metric_label){ "le", mz_str_c(i < d->bounds_n ? bound : "+Inf") };
        mz_metric_labelled(out, part, labels, n + 1, (double)count);
    }
    (void)snprintf(part, sizeof(part), "%s_sum", name);
    mz_metric_labelled(out, part, labels, n, d->sum);
    (void)snprintf(part, sizeof(part), "%s_count", name);
    mz_metric_labelled(out, part, labels, n, (double)count);
}

void mz_metric_distribution(struct mz_buf *out, const char *name, const char *help,
                            const struct mz_distribution *d)
{
    mz_metric_head(out, name, MZ_METRIC_HISTOGRAM, help);
    mz_metric_series(out, name, NULL, MZ_STR(""), d);
}
