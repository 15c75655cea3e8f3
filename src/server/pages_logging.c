/*
 * POST /logging: the levels of the process log, all at once or one by one; and live tracing (P9): every line about one
 * connection, or about requests that carry a header, whatever the levels.
 */
#include "base/log.h"
#include "hcm/trace.h"
#include "http/query.h"
#include "http/validate.h"
#include "server/pages_priv.h"

static void list(struct mz_buf *b)
{
    char name[128], value[128];
    uint64_t conn;
    mz_buf_append_str(b, MZ_STR("active loggers:\n"));
    for (unsigned i = 0; i < MZ_LOG_C__COUNT; i++)
        mz_buf_printf(b, "  %s: %s\n", mz_log_component_name((enum mz_log_component)i),
                      mz_log_level_name(
                          (enum mz_log_level)__atomic_load_n(&mz_log_levels[i], __ATOMIC_RELAXED)));
    mz_buf_append_str(b, MZ_STR("\n"));
    mz_trace_get(name, value, &conn);
    if (name[0])
        mz_buf_printf(b, "traced header: %s:%s\n", name, value);
    if (conn)
        mz_buf_printf(b, "traced connection: %llu\n", (unsigned long long)conn);
}

static void refuse(struct mz_admin_reply *out, const char *why)
{
    page_text(out, 400, MZ_STR("error: "));
    mz_buf_append_str(&out->body, mz_str_c(why));
    mz_buf_append_str(
        &out->body,
        MZ_STR("\n\nusage: /logging?<name>=<level> (change single level)\n"
               "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
               "usage: /logging?level=<level> (change all levels)\n"
               "usage: /logging?group=<group_name>:<level> (change group of loggers)\n"
               "   or: /logging?header=<name>:<value>&level=trace (every line of requests with "
               "this header)\n"
               "   or: /logging?connection=<id>&level=trace (every line of this connection)\n"
               "   or: /logging?off (stop both)\n"
               "levels: trace debug info warning error critical off \n"));
    list(&out->body);
}

/* "name:level,name:level": all of it is checked before anything changes. NULL or what is wrong. */
static const char *set_levels(struct mz_str text, bool apply)
{
    for (struct mz_str part; mz_str_split(&text, ',', &part);) {
        enum mz_log_component c;
        enum mz_log_level l;
        ptrdiff_t colon = mz_str_rchr(part, ':');
        if (colon <= 0)
            return "empty logger name or empty logger level";
        if (!mz_log_level_parse(mz_str_skip(part, (size_t)colon + 1), &l))
            return "unknown logger level";
        if (!mz_log_component_find((struct mz_str){ part.p, (size_t)colon }, &c))
            return "unknown logger name";
        if (apply)
            mz_log_set_level(c, l);
    }
    return NULL;
}

static const char *set_all(struct mz_str level)
{
    enum mz_log_level l;
    if (!level.n)
        return NULL;
    if (!mz_log_level_parse(level, &l))
        return "unknown logger level";
    mz_log_set_all(l);
    return NULL;
}

static const char *set_one(struct mz_str name, struct mz_str level)
{
    enum mz_log_component c;
    enum mz_log_level l;
    if (!mz_log_level_parse(level, &l))
        return "unknown logger level";
    if (!mz_log_component_find(name, &c))
        return "unknown logger name";
    mz_log_set_level(c, l);
    return NULL;
}

static const char *trace_header(struct mz_str rule)
{
    ptrdiff_t colon = mz_str_chr(rule, ':');
    struct mz_str name = mz_str_trim((struct mz_str){ rule.p, colon < 0 ? rule.n : (size_t)colon });
    struct mz_str value =
        colon < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(rule, (size_t)colon + 1));
    char lower[127];
    if (!mz_header_name_valid(name))
        return "header must be <name>:<value>";
    if (name.n > sizeof(lower) || value.n > sizeof(lower))
        return "header name and value may have at most 127 bytes each";
    for (size_t i = 0; i < name.n; i++)
        lower[i] = mz_lower(name.p[i]);
    mz_trace_set_header((struct mz_str){ lower, name.n }, value);
    return NULL;
}

static const char *trace(const struct mz_admin_request *rq)
{
    struct mz_str v;
    uint64_t id;
    if (mz_admin_param(rq, "level", &v) && v.n && !mz_str_eq(v, MZ_STR("trace")))
        return "a traced header or connection is logged at level trace";
    if (mz_admin_param(rq, "header", &v) && v.n)
        return trace_header(v);
    if (!mz_admin_param(rq, "connection", &v) || !mz_str_u64(v, &id) || !id)
        return "connection must be the id of a connection, as in log lines";
    mz_trace_set_connection(id);
    return NULL;
}

/* A form sends its empty fields too: a known name without a value is as good as absent. */
static bool counts(struct mz_str name, struct mz_str value)
{
    static const struct mz_str known[] = { MZ_STR_INIT("paths"), MZ_STR_INIT("level"),
                                           MZ_STR_INIT("group"), MZ_STR_INIT("header"),
                                           MZ_STR_INIT("connection") };
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (mz_str_eq(name, known[i]))
            return value.n > 0;
    return true;
}

static unsigned count_params(struct mz_str query, struct mz_str *out_name, struct mz_str *out_value)
{
    unsigned n = 0;
    struct mz_str k, v;
    while (mz_query_next(&query, &k, &v)) {
        if (!counts(k, v))
            continue;
        *out_name = k;
        *out_value = v;
        n++;
    }
    return n;
}

static bool given(const struct mz_admin_request *rq, const char *name)
{
    struct mz_str v;
    return mz_admin_param(rq, name, &v) && v.n;
}

static const char *change(const struct mz_admin_request *rq)
{
    struct mz_str name, value;
    if (given(rq, "header") || given(rq, "connection"))
        return trace(rq);
    unsigned n = count_params(rq->query, &name, &value);
    if (!n)
        return NULL;
    if (n > 1)
        return "invalid number of parameters";
    name = mz_percent_decode(rq->arena, name);
    value = mz_percent_decode(rq->arena, value);
    if (mz_str_eq(name, MZ_STR("level")))
        return set_all(value);
    if (mz_str_eq(name, MZ_STR("group")))
        return "group parameter requires fine-grain logging, which this proxy does not have";
    if (mz_str_eq(name, MZ_STR("off")) && !value.n) {
        mz_trace_set_header(MZ_STR(""), MZ_STR(""));
        mz_trace_set_connection(0);
        return NULL;
    }
    if (!mz_str_eq(name, MZ_STR("paths")))
        return set_one(name, value);
    const char *why = set_levels(value, false);
    return why ? why : set_levels(value, true);
}

static void logging(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg;
    const char *why = change(rq);
    if (why)
        refuse(out, why);
    else
        list(&out->body);
}

static const struct mz_admin_page pages[] = {
    { .path = "/logging",
      .help = "query/change logging levels",
      .mutates = true,
      .params = { { "paths", "Change multiple logging levels by setting to "
                             "<logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>" },
                  { "level", "desired logging level, this will change all loggers's level; One of "
                             "(, trace, debug, info, "
                             "warning, error, critical, off)" },
                  { "header", "log every line of the requests that have this header, "
                              "<name>:<value>; with level=trace" },
                  { "connection",
                    "log every line of the connection with this id; with level=trace" },
                  { "off", "stop logging every line of a header or a connection" } },
      .handle = logging },
};
const struct page_list pages_logging = { pages, MZ_COUNT(pages) };
