/* /stats in all its forms, and what resets them (O1, O4). */
#include "base/regex.h"
#include "server/pages_priv.h"
#include "stats/stats.h"

enum format { TEXT, JSON, PROMETHEUS, HTML, ACTIVE_HTML };

struct word {
    const char *word;
    unsigned value;
};
static const struct word formats[] = {
    { "text", TEXT },
    { "json", JSON },
    { "prometheus", PROMETHEUS },
    { "html", HTML },
    { "active-html", ACTIVE_HTML },
};
static const struct word types[] = {
    { "All", 0 },
    { "Counters", 1u << MZ_COUNTER },
    { "Gauges", 1u << MZ_GAUGE },
    { "Histograms", 1u << MZ_HISTOGRAM },
    { "TextReadouts", 1u << MZ_TEXT },
};
static const struct word buckets[] = {
    { "cumulative", MZ_BUCKETS_CUMULATIVE },
    { "disjoint", MZ_BUCKETS_DISJOINT },
    { "detailed", MZ_BUCKETS_DETAILED },
    { "summary", MZ_BUCKETS_SUMMARY },
};

/* An absent or empty parameter leaves @out as it is; false: a word that is not in the table. */
static bool choose(const struct mz_admin_request *rq, const char *name, const struct word *v,
                   size_t n, unsigned *out)
{
    struct mz_str word;
    if (!mz_admin_param(rq, name, &word) || !word.n)
        return true;
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(word, mz_str_c(v[i].word))) {
            *out = v[i].value;
            return true;
        }
    return false;
}

static bool query_parse(const struct mz_admin_request *rq, struct mz_stats_query *q,
                        unsigned *format, struct mz_regex **filter, struct mz_admin_reply *out)
{
    struct mz_str why;
    unsigned bucket = MZ_BUCKETS_DEFAULT;
    *q = (struct mz_stats_query){ .usedonly = page_has(rq, "usedonly"),
                                  .text_readouts = page_has(rq, "text_readouts"),
                                  .invert_filter = page_has(rq, "invert_filter") };
    if (!choose(rq, "format", formats, MZ_COUNT(formats), format)) {
        page_text(out, 400,
                  MZ_STR("usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"));
    } else if (!choose(rq, "type", types, MZ_COUNT(types), &q->types)) {
        page_text(out, 400, MZ_STR("invalid &type= param"));
    } else if (!choose(rq, "histogram_buckets", buckets, MZ_COUNT(buckets), &bucket)) {
        page_text(
            out, 400,
            MZ_STR("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n"));
    } else if (!page_regex(rq, "filter", filter, &why)) {
        page_text(out, 400, MZ_STR("Invalid re2 regex: "));
        mz_buf_append_str(&out->body, why);
    } else {
        q->filter = *filter;
        q->buckets = (enum mz_stats_buckets)bucket;
        return true;
    }
    return false;
}

/* ---- HTML: a form over the same text ---- */

static void html_value(struct mz_buf *b, const struct mz_admin_request *rq, const char *name)
{
    struct mz_str v;
    if (mz_admin_param(rq, name, &v))
        mz_admin_html_escape(b, v);
}

static void html_select(struct mz_buf *b, const struct mz_admin_request *rq, const char *name,
                        const struct word *v, size_t n)
{
    mz_buf_printf(b, "<label>%s <select name=\"%s\"><option></option>", name, name);
    for (size_t i = 0; i < n; i++)
        mz_buf_printf(b, "<option%s>%s</option>", page_word(rq, name, v[i].word) ? " selected" : "",
                      v[i].word);
    mz_buf_printf(b, "</select></label> ");
}

static void html_check(struct mz_buf *b, const struct mz_admin_request *rq, const char *name)
{
    mz_buf_printf(b, "<label><input type=\"checkbox\" name=\"%s\"%s> %s</label> ", name,
                  page_has(rq, name) ? " checked" : "", name);
}

static void html_page(struct mz_stats *s, const struct mz_stats_query *q, bool active,
                      const struct mz_admin_request *rq, struct mz_buf *b)
{
    struct mz_buf text;
    mz_buf_append_str(b,
                      MZ_STR("<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
                             "charset=\"utf-8\"><title>Mizzen statistics</title>"
                             "<style>body{font:14px/1.4 sans-serif;margin:1em "
                             "2em}pre{font-size:13px}</style></head><body>\n"
                             "<p><a href=\"/\">home</a></p><form method=\"get\" action=\"/stats\">"
                             "<label>filter <input name=\"filter\" size=\"40\" value=\""));
    html_value(b, rq, "filter");
    mz_buf_append_str(b, MZ_STR("\"></label> "));
    html_select(b, rq, "type", types, MZ_COUNT(types));
    html_select(b, rq, "histogram_buckets", buckets, MZ_COUNT(buckets));
    html_select(b, rq, "format", formats, MZ_COUNT(formats));
    html_check(b, rq, "usedonly");
    html_check(b, rq, "invert_filter");
    mz_buf_append_str(b, MZ_STR("<button>show</button></form>\n<pre id=\"s\">"));
    mz_buf_init(&text);
    mz_stats_text(s, q, &text);
    mz_admin_html_escape(b, mz_buf_linearize(&text, mz_buf_len(&text)));
    mz_buf_fini(&text);
    mz_buf_append_str(b, MZ_STR("</pre>\n"));
    if (active) /* the same query as text, each second; the page's own parameters but the format */
        mz_buf_append_str(
            b, MZ_STR("<script>const q=new URLSearchParams(location.search);q.set('format','text');"
                      "setInterval(()=>fetch('/stats?'+q).then(r=>r.text()).then(t=>"
                      "{document.getElementById('s').textContent=t}),1000)</script>\n"));
    mz_buf_append_str(b, MZ_STR("</body></html>\n"));
}

static void render(struct mz_pages *p, const struct mz_admin_request *rq, unsigned format,
                   struct mz_admin_reply *out)
{
    struct mz_stats_query q;
    struct mz_regex *filter = NULL;
    if (!query_parse(rq, &q, &format, &filter, out))
        return;
    p->env.refresh(p->env.arg);
    if (format == JSON)
        out->content_type = PAGE_JSON;
    else if (format == HTML || format == ACTIVE_HTML)
        page_html(rq, out);
    if (rq->begin)
        rq->begin(rq->begin_arg, out); /* Envoy counts this answer before it renders it */
    switch ((enum format)format) {
    case TEXT:
        mz_stats_text(p->env.stats, &q, &out->body);
        break;
    case JSON:
        mz_stats_json(p->env.stats, &q, &out->body);
        break;
    case PROMETHEUS:
        mz_stats_prometheus(p->env.stats, &q, &out->body);
        break;
    case HTML:
    case ACTIVE_HTML:
        html_page(p->env.stats, &q, format == ACTIVE_HTML, rq, &out->body);
        break;
    }
    mz_regex_destroy(filter);
}

static void stats(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    render(arg, rq, TEXT, out);
}

static void prometheus(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    render(arg, rq, PROMETHEUS, out);
}

static void reset_counters(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    mz_stats_reset_counters(p->env.stats);
    page_text(out, 200, MZ_STR("OK\n"));
}

/* ---- recent look-ups: names are tables here, nothing is looked up by name while requests run, so the list stays empty ---- */

static void lookups(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    const struct mz_pages *p = arg;
    page_text(out, 200,
              p->lookups ? MZ_STR("   Count Lookup\n\ntotal: 0\n")
                         : MZ_STR("Lookup tracking is not enabled. Use /stats/recentlookups/enable "
                                  "to enable.\n\ntotal: 0\n"));
}

static void lookups_enable(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    p->lookups = mz_str_ends(rq->path, MZ_STR("/enable"));
    page_text(out, 200, MZ_STR("OK\n"));
}

static void lookups_clear(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    page_text(out, 200, MZ_STR("OK\n"));
}

static const struct mz_admin_page pages[] = {
    { .path = "/reset_counters",
      .help = "reset all counters to zero",
      .mutates = true,
      .handle = reset_counters },
    { .path = "/stats",
      .help = "print server stats",
      .params = { { "usedonly",
                    "Only include stats that have been written by system since restart" },
                  { "filter", "Regular expression (Google re2) for filtering stats" },
                  { "invert_filter", "Invert the filter regex" },
                  { "format", "Format to use; One of (html, active-html, text, json, prometheus)" },
                  { "type", "Stat types to include.; One of (All, Counters, Histograms, Gauges, "
                            "TextReadouts)" },
                  { "histogram_buckets", "Histogram bucket display mode; One of (cumulative, "
                                         "disjoint, detailed, summary)" } },
      .handle = stats },
    { .path = "/stats/prometheus",
      .help = "print server stats in prometheus format",
      .params = { { "usedonly",
                    "Only include stats that have been written by system since restart" },
                  { "text_readouts", "Render text_readouts as new gauges with value 0 (increases "
                                     "Prometheus data size)" },
                  { "filter", "Regular expression (Google re2) for filtering stats" },
                  { "invert_filter", "Invert the filter regex" },
                  { "histogram_buckets",
                    "Histogram bucket display mode; One of (cumulative, summary)" } },
      .handle = prometheus },
    { .path = "/stats/recentlookups", .help = "Show recent stat-name lookups", .handle = lookups },
    { .path = "/stats/recentlookups/clear",
      .help = "clear list of stat-name lookups and counter",
      .mutates = true,
      .handle = lookups_clear },
    { .path = "/stats/recentlookups/disable",
      .help = "disable recording of reset stat-name lookup names",
      .mutates = true,
      .handle = lookups_enable },
    { .path = "/stats/recentlookups/enable",
      .help = "enable recording of reset stat-name lookup names",
      .mutates = true,
      .handle = lookups_enable },
};
const struct page_list pages_stats = { pages, MZ_COUNT(pages) };
