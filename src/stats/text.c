#include "stats/stats_priv.h"

#include <inttypes.h>

/* /stats as text, in the form of Envoy 1.40. Both numbers of a pair: the last interval's, then since the start. */

static void add_name(struct mz_buf *out, struct mz_str name)
{
    mz_buf_append_str(out, name);
    mz_buf_append(out, ": ", 2);
}

static void quantiles(const struct mz_hist_view *v, struct mz_buf *out)
{
    double interval[MZ_HIST_QUANTILES], total[MZ_HIST_QUANTILES];
    char a[DOUBLE_TEXT], b[DOUBLE_TEXT];
    mz_hist_view_quantiles(v, true, interval);
    mz_hist_view_quantiles(v, false, total);
    for (unsigned i = 0; i < MZ_HIST_QUANTILES; i++)
        mz_buf_printf(out, "%sP%g(%s,%s)", i ? " " : "", 100 * mz_hist_quantiles[i],
                      double_text(interval[i], a), double_text(total[i], b));
}

static void buckets(const struct mz_stats_config *c, const struct item *it, bool disjoint,
                    struct mz_buf *out)
{
    const double *bounds;
    size_t n;
    uint64_t last_interval = 0, last_total = 0;
    config_buckets(c, it->name, &bounds, &n);
    for (size_t i = 0; i < n; i++) {
        uint64_t interval = mz_hist_view_below(it->view, true, bounds[i]);
        uint64_t total = mz_hist_view_below(it->view, false, bounds[i]);
        mz_buf_printf(out, "%sB%g(%" PRIu64 ",%" PRIu64 ")", i ? " " : "", bounds[i],
                      interval - last_interval, total - last_total);
        if (disjoint) {
            last_interval = interval;
            last_total = total;
        }
    }
}

static void bars(const struct mz_hist_view *v, bool interval, struct mz_buf *out)
{
    const char *comma = "";
    double scale = v->percent ? MZ_HIST_PERCENT_SCALE : 1;
    for (uint32_t i = 0; i < v->n; i++) {
        const struct mz_hist_bar *b = &v->bars[i];
        uint64_t n = interval ? b->interval : b->total;
        if (!n)
            continue;
        mz_buf_printf(out, "%s%g,%g:%" PRIu64, comma, mz_hist_bin_low(b->bin) / scale,
                      mz_hist_bin_width(b->bin) / scale, n);
        comma = ", ";
    }
}

static void histogram(const struct mz_stats_config *c, const struct item *it,
                      enum mz_stats_buckets how, struct mz_buf *out)
{
    if (how == MZ_BUCKETS_DETAILED && it->view) {
        mz_buf_append_str(out, it->name);
        mz_buf_append_str(out, MZ_STR(":\n  totals="));
        bars(it->view, false, out);
        mz_buf_append_str(out, MZ_STR("\n  intervals="));
        bars(it->view, true, out);
        mz_buf_append_str(out, MZ_STR("\n  summary="));
        quantiles(it->view, out);
    } else {
        add_name(out, it->name);
        if (!it->view)
            mz_buf_append_str(out, MZ_STR("No recorded values"));
        else if (how == MZ_BUCKETS_CUMULATIVE || how == MZ_BUCKETS_DISJOINT)
            buckets(c, it, how == MZ_BUCKETS_DISJOINT, out);
        else
            quantiles(it->view, out);
    }
    mz_buf_append(out, "\n", 1);
}

void mz_stats_text(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out)
{
    struct shown w;
    shown_init(&w, s, q);
    mz_vec_foreach (it, &w.texts)
        mz_buf_printf(out, MZ_STR_FMT ": \"%s\"\n", MZ_STR_ARG(it->name), it->text);
    mz_vec_foreach (it, &w.numbers) {
        char digits[20];
        add_name(out, it->name);
        mz_buf_append(out, digits, mz_u64_text(it->value, digits));
        mz_buf_append(out, "\n", 1);
    }
    mz_vec_foreach (it, &w.histograms)
        histogram(store_config(s), it, q->buckets, out);
    shown_fini(&w);
}
