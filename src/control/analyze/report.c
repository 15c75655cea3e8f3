#include "control/analyze/report.h"

#include "base/log.h"

struct report {
    struct mz_report_counts counts;
    FILE *to; /* NULL: the log */
};

static const char *word(enum mz_level l)
{
    return l == MZ_LEVEL_ERROR ? "error" : l == MZ_LEVEL_WARNING ? "warning" : "info";
}

static void one(void *arg, const struct mz_problem *p)
{
    struct report *r = arg;
    char where[4096] = "", object[600] = "";
    if (p->file.n && p->line)
        (void)snprintf(where, sizeof(where), "%.*s:%u: ", MZ_STR_ARG(p->file), p->line);
    else if (p->file.n)
        (void)snprintf(where, sizeof(where), "%.*s: ", MZ_STR_ARG(p->file));
    if (p->key.n)
        (void)snprintf(object, sizeof(object), "%.*s: ", MZ_STR_ARG(p->key));
    r->counts.errors += p->level == MZ_LEVEL_ERROR;
    r->counts.warnings += p->level == MZ_LEVEL_WARNING;
    if (r->to)
        fprintf(r->to, "%s%s: %s%.*s\n", where, word(p->level), object, MZ_STR_ARG(p->text));
    else if (p->level == MZ_LEVEL_ERROR)
        MZ_LOG(ERROR, config, "%s%s%.*s", where, object, MZ_STR_ARG(p->text));
    else
        MZ_LOG(WARN, config, "%s%s%.*s", where, object, MZ_STR_ARG(p->text));
}

struct mz_report_counts mz_report_print(const struct mz_source *s, FILE *to)
{
    struct report r = { .to = to };
    s->ops->problems(s, one, &r);
    return r.counts;
}

struct mz_report_counts mz_report_log(const struct mz_source *s)
{
    struct report r = { .to = NULL };
    s->ops->problems(s, one, &r);
    return r.counts;
}
