#include "stats/stats_priv.h"

#include <inttypes.h>
#include <string.h>

/* /stats?format=json, in the form of Envoy 1.40: numbers first, then one object with all histograms. */

static void string(struct mz_buf *out, struct mz_str s)
{
    mz_buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            mz_buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            mz_buf_printf(out, "\\u%04x", c);
        else
            mz_buf_append(out, s.p + i, 1);
    }
    mz_buf_append(out, "\"", 1);
}

static void number(struct mz_buf *out, double v)
{
    char text[DOUBLE_TEXT];
    const char *p = double_json(v, text);
    mz_buf_append(out, p, strlen(p));
}

static void percentiles(const struct mz_hist_view *v, struct mz_buf *out)
{
    double total[MZ_HIST_QUANTILES], interval[MZ_HIST_QUANTILES];
    mz_hist_view_quantiles(v, false, total);
    mz_hist_view_quantiles(v, true, interval);
    mz_buf_append(out, "[", 1);
    for (unsigned i = 0; i < MZ_HIST_QUANTILES; i++) {
        mz_buf_printf(out, "%s{\"cumulative\":", i ? "," : "");
        number(out, total[i]);
        mz_buf_append_str(out, MZ_STR(",\"interval\":"));
        number(out, interval[i]);
        mz_buf_append(out, "}", 1);
    }
    mz_buf_append(out, "]", 1);
}

static void buckets(const struct mz_stats_config *c, struct mz_str name,
                    const struct mz_hist_view *v, bool disjoint, struct mz_buf *out)
{
    const double *bounds;
    size_t n;
    uint64_t last_interval = 0, last_total = 0;
    config_buckets(c, name, &bounds, &n);
    for (size_t i = 0; i < n; i++) {
        uint64_t interval = mz_hist_view_below(v, true, bounds[i]),
                 total = mz_hist_view_below(v, false, bounds[i]);
        mz_buf_printf(out, "%s{\"upper_bound\":", i ? "," : "");
        number(out, bounds[i]);
        mz_buf_printf(out, ",\"interval\":%" PRIu64 ",\"cumulative\":%" PRIu64 "}",
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
        uint64_t n = interval ? v->bars[i].interval : v->bars[i].total;
        if (!n)
            continue;
        mz_buf_printf(out, "%s{\"lower_bound\":", comma);
        number(out, mz_hist_bin_low(v->bars[i].bin) / scale);
        mz_buf_append_str(out, MZ_STR(",\"width\":"));
        number(out, mz_hist_bin_width(v->bars[i].bin) / scale);
        mz_buf_printf(out, ",\"count\":%" PRIu64 "}", n);
        comma = ",";
    }
}

static void histogram(const struct mz_stats_config *c, const struct item *it,
                      enum mz_stats_buckets how, struct mz_buf *out)
{
    static const struct mz_hist_view none;
    const struct mz_hist_view *v = it->view ? it->view : &none;
    mz_buf_append_str(out, MZ_STR("{\"name\":"));
    string(out, it->name);
    switch (how) {
    case MZ_BUCKETS_CUMULATIVE:
    case MZ_BUCKETS_DISJOINT:
        mz_buf_append_str(out, MZ_STR(",\"buckets\":["));
        buckets(c, it->name, v, how == MZ_BUCKETS_DISJOINT, out);
        mz_buf_append(out, "]", 1);
        break;
    case MZ_BUCKETS_DETAILED:
        mz_buf_append_str(out, MZ_STR(",\"totals\":["));
        bars(v, false, out);
        mz_buf_append_str(out, MZ_STR("],\"intervals\":["));
        bars(v, true, out);
        mz_buf_append_str(out, MZ_STR("],\"percentiles\":"));
        percentiles(v, out);
        break;
    case MZ_BUCKETS_DEFAULT:
    case MZ_BUCKETS_SUMMARY:
        mz_buf_append_str(out, MZ_STR(",\"values\":"));
        percentiles(v, out);
        break;
    }
    mz_buf_append(out, "}", 1);
}

static void supported(struct mz_buf *out)
{
    for (unsigned i = 0; i < MZ_HIST_QUANTILES; i++)
        mz_buf_printf(out, "%s%g", i ? "," : "[", 100 * mz_hist_quantiles[i]);
    mz_buf_append(out, "]", 1);
}

static void histograms(const struct mz_stats_config *c, const items *v, enum mz_stats_buckets how,
                       struct mz_buf *out)
{
    bool plain = how == MZ_BUCKETS_CUMULATIVE || how == MZ_BUCKETS_DISJOINT;
    mz_buf_append_str(out, MZ_STR("{\"histograms\":"));
    if (!plain) {
        bool detailed = how == MZ_BUCKETS_DETAILED;
        mz_buf_printf(out, "{\"%s\":", detailed ? "supported_percentiles" : "supported_quantiles");
        supported(out);
        mz_buf_printf(out, ",\"%s\":", detailed ? "details" : "computed_quantiles");
    }
    mz_buf_append(out, "[", 1);
    for (size_t i = 0; i < v->n; i++) {
        if (i)
            mz_buf_append(out, ",", 1);
        histogram(c, &v->v[i], how, out);
    }
    mz_buf_append_str(out, plain ? MZ_STR("]}") : MZ_STR("]}}"));
}

void mz_stats_json(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out)
{
    struct shown w;
    bool more = false;
    shown_init(&w, s, q);
    mz_buf_append_str(out, MZ_STR("{\"stats\":["));
    const items *lists[] = { &w.texts, &w.numbers };
    for (size_t l = 0; l < MZ_COUNT(lists); l++) {
        for (size_t i = 0; i < lists[l]->n; i++) {
            const struct item *it = &lists[l]->v[i];
            mz_buf_append_str(out, more ? MZ_STR(",{\"name\":") : MZ_STR("{\"name\":"));
            more = true;
            string(out, it->name);
            mz_buf_append_str(out, MZ_STR(",\"value\":"));
            if (it->type == MZ_TEXT)
                string(out, mz_str_c(it->text));
            else
                mz_buf_printf(out, "%" PRIu64, it->value);
            mz_buf_append(out, "}", 1);
        }
    }
    if (w.histograms.n) {
        if (more)
            mz_buf_append(out, ",", 1);
        histograms(store_config(s), &w.histograms, q->buckets, out);
    }
    mz_buf_append_str(out, MZ_STR("]}"));
    shown_fini(&w);
}
