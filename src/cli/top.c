/* top: what each proxy is doing now. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/numbers.h"
#include "cli/print.h"
#include "cli/table.h"
#include "control/debug/json.h"

struct top_options {
    struct pods_options pods;
    const char *output;
    uint32_t interval_s;
    bool once;
};
#define AT(member) offsetof(struct top_options, member)
static const struct arg_flag top_flags[] = {
    PODS_FLAGS(top_options),
    { "interval", 'i', ARG_NUMBER, AT(interval_s), "Seconds between two looks (1)" },
    { "once", '1', ARG_SWITCH, AT(once), "One table, and no more; also where no terminal is" },
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of table|json; json is once" },
};
#undef AT

struct moment {
    struct mz_arena *arena;
    struct numbers *v; /* one a pod */
    double at_s;
};

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void moment_take(struct moment *m, const struct pods *p)
{
    m->arena = mz_arena_create(MZ_MEM_MISC);
    m->v = mz_newn0(MZ_MEM_MISC, struct numbers, p->n + 1);
    m->at_s = now_s();
    for (size_t i = 0; i < p->n; i++)
        numbers_load(&m->v[i], p, &p->v[i], m->arena);
}

static void moment_fini(struct moment *m, size_t n)
{
    for (size_t i = 0; m->v && i < n; i++)
        numbers_fini(&m->v[i]);
    mz_free(MZ_MEM_MISC, m->v);
    mz_arena_destroy(m->arena);
    *m = (struct moment){ .v = NULL };
}

/* ---- one pod's row ---- */

struct rates {
    bool ok;
    double in, out, errors_percent, p50, p99, connections, memory_bytes;
};

/* Proxies add to their histograms every few seconds: where nothing new is in them, that of all requests. */
static double latency(const struct buckets *before, const struct buckets *after, double q)
{
    static const struct buckets none = { .n = 0 };
    const double now = numbers_quantile(before, after, q);
    return now >= 0 ? now : numbers_quantile(&none, after, q);
}

static struct rates rates_of(const struct numbers *a, const struct numbers *b, double seconds)
{
    struct rates r = { .ok = a->ok && b->ok,
                       .connections = b->connections,
                       .memory_bytes = b->memory_bytes };
    const double in = numbers_gain(a->requests[SIDE_IN], b->requests[SIDE_IN]),
                 out = numbers_gain(a->requests[SIDE_OUT], b->requests[SIDE_OUT]),
                 errors = numbers_gain(a->errors[SIDE_IN], b->errors[SIDE_IN]) +
                          numbers_gain(a->errors[SIDE_OUT], b->errors[SIDE_OUT]);
    const enum side side = in > 0 || !b->time[SIDE_OUT].n ? SIDE_IN : SIDE_OUT;
    r.in = seconds > 0 ? in / seconds : 0;
    r.out = seconds > 0 ? out / seconds : 0;
    r.errors_percent = in + out > 0 ? 100 * errors / (in + out) : 0;
    r.p50 = latency(&a->time[side], &b->time[side], 0.5);
    r.p99 = latency(&a->time[side], &b->time[side], 0.99);
    return r;
}

static void ms_cell(struct table *t, double ms)
{
    if (ms < 0)
        table_cell(t, MZ_STR("-"));
    else
        table_cellf(t, "%.3g ms", ms);
}

static void memory_cell(struct table *t, uint64_t kb)
{
    if (kb)
        table_cellf(t, "%.1f MB", (double)kb / 1024);
    else
        table_cell(t, MZ_STR("-"));
}

static void row(struct table *t, const struct pod *p, const struct rates *r)
{
    table_cell(t, p->id);
    if (!r->ok) {
        for (unsigned i = 0; i < 6; i++)
            table_cell(t, MZ_STR("-"));
    } else {
        table_cellf(t, "%.1f", r->in);
        table_cellf(t, "%.1f", r->out);
        table_cellf(t, "%.1f", r->errors_percent);
        ms_cell(t, r->p50);
        ms_cell(t, r->p99);
        table_cellf(t, "%.0f", r->connections);
    }
    memory_cell(t, p->proxy_pss_kb ? p->proxy_pss_kb : (uint64_t)(r->memory_bytes / 1024));
    memory_cell(t, p->pss_kb);
    table_cell(t, !p->has_proxy ? MZ_STR("no proxy")
                  : !r->ok      ? MZ_STR("no answer")
                  : p->ready    ? MZ_STR("ready")
                                : MZ_STR("not ready"));
    table_end_row(t);
}

static void print_table(const struct pods *p, const struct moment *a, const struct moment *b)
{
    struct table t;
    uint64_t sum = p->plane_pss_kb;
    table_init(&t, 2);
    table_head(&t, "POD|IN/S|OUT/S|ERRORS %|P50|P99|CONNECTIONS|PROXY|POD MEMORY|STATE");
    for (size_t i = 0; i < p->n; i++) {
        const struct rates r = rates_of(&a->v[i], &b->v[i], b->at_s - a->at_s);
        row(&t, &p->v[i], &r);
        sum += p->v[i].proxy_pss_kb;
    }
    table_print(&t, stdout);
    table_fini(&t);
    if (p->plane_pss_kb)
        printf("\nmizzend %.1f MB, with all agents and proxies %.1f MB (PSS)\n",
               (double)p->plane_pss_kb / 1024, (double)sum / 1024);
}

/* As a number with three digits behind the point. */
static void json_double(struct json_out *j, const char *key, double v)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%.3f", v);
    json_key(j, key);
    json_raw(j, mz_str_c(text));
}

static void print_json(const struct pods *p, const struct moment *a, const struct moment *b)
{
    struct mz_buf out;
    mz_buf_init(&out);
    struct json_out j = { .b = &out };
    json_open(&j, '[');
    for (size_t i = 0; i < p->n; i++) {
        const struct pod *pod = &p->v[i];
        const struct rates r = rates_of(&a->v[i], &b->v[i], b->at_s - a->at_s);
        json_open(&j, '{');
        json_member(&j, "pod", pod->id);
        json_key(&j, "answers");
        json_bool(&j, r.ok);
        json_key(&j, "ready");
        json_bool(&j, pod->ready);
        json_double(&j, "inPerSecond", r.in);
        json_double(&j, "outPerSecond", r.out);
        json_double(&j, "errorsPercent", r.errors_percent);
        if (r.p50 >= 0) {
            json_double(&j, "p50Ms", r.p50);
            json_double(&j, "p99Ms", r.p99);
        }
        json_key(&j, "connections");
        json_u64(&j, (uint64_t)r.connections);
        json_key(&j, "proxyPssKb");
        json_u64(&j, pod->proxy_pss_kb);
        json_key(&j, "podPssKb");
        json_u64(&j, pod->pss_kb);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    mz_buf_append(&out, "\n", 1);
    show_write(&out, stdout);
    mz_buf_fini(&out);
}

static void pause_s(uint32_t s)
{
    const struct timespec t = { .tv_sec = s };
    (void)nanosleep(&t, NULL); /* a signal ends us */
}

static bool same_pods(const struct pods *a, const struct pods *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = mz_str_eq(a->v[i].id, b->v[i].id);
    return same;
}

/* Pods come and go: each look asks again who there is; rates are those of pods that were there before. */
static bool top(const struct top_options *o, struct mz_err *err)
{
    const bool screen = isatty(STDOUT_FILENO) && !o->once && strcmp(o->output, "json") != 0;
    struct pods before, now;
    struct moment a, b;
    bool ok = pods_open(&before, &o->pods, err), more = ok;
    if (!ok) {
        pods_close(&before);
        return false;
    }
    moment_take(&a, &before);
    while (more) {
        pause_s(o->interval_s);
        ok = pods_open(&now, &o->pods, err);
        if (!ok) {
            pods_close(&now);
            break;
        }
        moment_take(&b, &now);
        const bool same = same_pods(&before, &now);
        if (screen)
            printf("\033[H\033[J");
        if (strcmp(o->output, "json") == 0)
            print_json(&now, same ? &a : &b, &b);
        else
            print_table(&now, same ? &a : &b, &b);
        more = screen && fflush(stdout) == 0;
        moment_fini(&a, before.n);
        pods_close(&before);
        before = now;
        a = b;
    }
    moment_fini(&a, before.n);
    pods_close(&before);
    return ok;
}

static int run_top(const struct command *c, int argc, char **argv)
{
    struct top_options o = { .output = "table", .interval_s = 1 };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n)
        return command_usage_error(c, "top takes no arguments");
    if (strcmp(o.output, "json") != 0 && strcmp(o.output, "table") != 0)
        return command_usage_error(c, "--output must be table or json");
    if (o.interval_s == 0 || o.interval_s > 3600)
        return command_usage_error(c, "--interval is not in 1..3600");
    return top(&o, &err) ? EXIT_OK : command_fail(&err);
}

const struct command command_top = {
    .name = "top",
    .aliases = "",
    .arguments = "",
    .run = run_top,
    .flags = top_flags,
    .flags_n = MZ_COUNT(top_flags),
    .help = "Shows rates, errors, latencies, connections and memory of each proxy, live",
};
