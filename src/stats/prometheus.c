#include "stats/stats_priv.h"

#include <inttypes.h>
#include <stdlib.h>

/* /stats/prometheus, in the form of Envoy 1.40: counters, gauges, texts, histograms, each grouped by the name without its
 * tags; within a group by full name. Names compare word by word, as a dot were the smallest byte. */

struct line {
    const struct item *item;
    struct mz_str rest, labels;
    const char *front; /* of its name */
};
typedef MZ_VEC(struct line) lines;

static int words_cmp(struct mz_str a, struct mz_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    for (size_t i = 0; i < n; i++) {
        unsigned char x = (unsigned char)a.p[i], y = (unsigned char)b.p[i];
        if (x != y)
            return x == '.' ? -1 : y == '.' ? 1 : x < y ? -1 : 1;
    }
    return (a.n > b.n) - (a.n < b.n);
}

static int line_cmp(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int c = words_cmp(x->rest, y->rest);
    return c ? c : words_cmp(x->item->name, y->item->name);
}

static void name_char(struct mz_buf *out, char c)
{
    bool ok =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    mz_buf_append(out, ok ? &c : "_", 1);
}

static void plain_name(struct mz_buf *out, struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        name_char(out, s.p[i]);
}

static void label_value(struct mz_buf *out, struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '\n')
            mz_buf_append(out, "\\n", 2);
        else if (c == '"' || c == '\\')
            mz_buf_printf(out, "\\%c", c);
        else
            mz_buf_append(out, &c, 1);
    }
}

static void label(struct mz_buf *out, struct mz_str name, struct mz_str value, bool first)
{
    if (!first)
        mz_buf_append(out, ",", 1);
    plain_name(out, name);
    mz_buf_append(out, "=\"", 2);
    label_value(out, value);
    mz_buf_append(out, "\"", 1);
}

static struct mz_str labels_text(const struct tag *tags, unsigned n, const char *text_value,
                                 struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (unsigned i = 0; i < n; i++)
        label(&b, tags[i].name, tags[i].value, i == 0);
    if (text_value)
        label(&b, MZ_STR("text_value"), mz_str_c(text_value), n == 0);
    size_t len = mz_buf_len(&b);
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, len));
    mz_buf_fini(&b);
    return s;
}

/* Of a tagged scope. */
static unsigned tags_of(struct mz_str rest, struct tag out_tags[TAGS_MAX])
{
    unsigned n = 0;
    while (rest.n > 1 && n < TAGS_MAX) {
        struct tag *t = &out_tags[n++];
        struct mz_str at = mz_str_skip(rest, 1);
        ptrdiff_t value = mz_str_chr(at, TAG_VALUE), next = mz_str_chr(at, TAG_NAME);
        size_t end = next < 0 ? at.n : (size_t)next;
        t->name = (struct mz_str){ at.p, (size_t)value };
        t->value = (struct mz_str){ at.p + value + 1, end - (size_t)value - 1 };
        rest = mz_str_skip(at, end);
    }
    return n;
}

static void add_line(lines *v, const struct mz_stats_config *c, const struct item *it,
                     struct mz_arena *a)
{
    struct tag tags[TAGS_MAX];
    struct line *l = mz_vec_push(v, MZ_MEM_ADMIN);
    unsigned n = it->tags.n ? tags_of(it->tags, tags) : config_tags(c, it->name, a, tags, &l->rest);
    if (it->tags.n)
        l->rest = it->rest;
    l->front = it->tags.n ? "" : "envoy_";
    l->item = it;
    l->labels = labels_text(tags, n, it->type == MZ_TEXT ? it->text : NULL, a);
}

/* "<front><name><suffix>{<labels>" and more labels to come. */
static void begin(struct mz_buf *out, const struct line *l, const char *suffix)
{
    mz_buf_append_str(out, mz_str_c(l->front));
    plain_name(out, l->rest);
    mz_buf_printf(out, "%s{", suffix);
    mz_buf_append_str(out, l->labels);
}

static void histogram_tail(struct mz_buf *out, const struct line *l, const struct mz_hist_view *v,
                           bool interval)
{
    begin(out, l, "_sum");
    mz_buf_printf(out, "} %.32g\n", mz_hist_view_sum(v, interval));
    begin(out, l, "_count");
    mz_buf_printf(out, "} %" PRIu64 "\n", mz_hist_view_count(v, interval));
}

static const struct mz_hist_view no_values;

static void histogram(const struct mz_stats_config *c, const struct line *l, struct mz_buf *out)
{
    const struct mz_hist_view *v = l->item->view ? l->item->view : &no_values;
    const char *comma = l->labels.n ? "," : "";
    const double *bounds;
    size_t n;
    config_buckets(c, l->item->name, &bounds, &n);
    for (size_t i = 0; i < n; i++) {
        begin(out, l, "_bucket");
        mz_buf_printf(out, "%sle=\"%.32g\"} %" PRIu64 "\n", comma, bounds[i],
                      mz_hist_view_below(v, false, bounds[i]));
    }
    begin(out, l, "_bucket");
    mz_buf_printf(out, "%sle=\"+Inf\"} %" PRIu64 "\n", comma, mz_hist_view_count(v, false));
    histogram_tail(out, l, v, false);
}

/* All of it is the last interval's. */
static void summary(const struct line *l, struct mz_buf *out)
{
    const struct mz_hist_view *v = l->item->view ? l->item->view : &no_values;
    double values[MZ_HIST_QUANTILES];
    char text[DOUBLE_TEXT];
    mz_hist_view_quantiles(v, true, values);
    for (unsigned i = 0; i < MZ_HIST_QUANTILES; i++) {
        begin(out, l, "");
        mz_buf_printf(out, "%squantile=\"%s\"} %.32g\n", l->labels.n ? "," : "",
                      double_text(mz_hist_quantiles[i], text), values[i]);
    }
    histogram_tail(out, l, v, true);
}

static void write_group(const struct mz_stats_config *c, const struct mz_stats_query *q,
                        const lines *v, const char *type, struct mz_buf *out)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct line *l = &v->v[i];
        if (i == 0 || !mz_str_eq(l->rest, v->v[i - 1].rest)) {
            mz_buf_append_str(out, MZ_STR("# TYPE "));
            mz_buf_append_str(out, mz_str_c(l->front));
            plain_name(out, l->rest);
            mz_buf_printf(out, " %s\n", type);
        }
        if (l->item->type == MZ_HISTOGRAM) {
            if (q->buckets == MZ_BUCKETS_SUMMARY)
                summary(l, out);
            else
                histogram(c, l, out);
            continue;
        }
        begin(out, l, "");
        mz_buf_printf(out, "} %" PRIu64 "\n", l->item->type == MZ_TEXT ? 1 : l->item->value);
    }
}

static void write_type(struct mz_stats *s, const struct mz_stats_query *q, struct mz_arena *a,
                       const items *from, unsigned type, struct mz_buf *out)
{
    const char *word = type == MZ_COUNTER                 ? "counter"
                       : type != MZ_HISTOGRAM             ? "gauge"
                       : q->buckets == MZ_BUCKETS_SUMMARY ? "summary"
                                                          : "histogram";
    lines v = { 0 };
    for (size_t i = 0; i < from->n; i++)
        if (from->v[i].type == type)
            add_line(&v, store_config(s), &from->v[i], a);
    if (v.n)
        qsort(v.v, v.n, sizeof(struct line), line_cmp);
    write_group(store_config(s), q, &v, word, out);
    mz_vec_free(&v, MZ_MEM_ADMIN);
}

void mz_stats_prometheus(struct mz_stats *s, const struct mz_stats_query *q, struct mz_buf *out)
{
    struct shown w;
    struct mz_stats_query all = *q;
    all.types = 0; /* Envoy does not look at ?type= here */
    shown_init(&w, s, &all);
    write_type(s, q, w.arena, &w.numbers, MZ_COUNTER, out);
    write_type(s, q, w.arena, &w.numbers, MZ_GAUGE, out);
    if (q->text_readouts)
        write_type(s, q, w.arena, &w.texts, MZ_TEXT, out);
    write_type(s, q, w.arena, &w.histograms, MZ_HISTOGRAM, out);
    shown_fini(&w);
}
