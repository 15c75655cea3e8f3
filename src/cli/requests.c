/* requests: what the recorders of all proxies kept, in one list. */
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/records.h"
#include "cli/table.h"

struct requests_options {
    struct pods_options pods;
    const char *output, *status, *flag, *since;
    uint32_t limit;
    bool follow, stories;
};
#define AT(member) offsetof(struct requests_options, member)
static const struct arg_flag requests_flags[] = {
    PODS_FLAGS(requests_options),
    { "status", 0, ARG_TEXT, AT(status), "Only these: 503, 5xx, 400-499; 0 had no answer" },
    { "flag", 0, ARG_TEXT, AT(flag), "Only those with this response flag (UF, UH, ...)" },
    { "since", 0, ARG_TEXT, AT(since), "Only those of the last 30s, 5m, 2h, 1d" },
    { "limit", 0, ARG_NUMBER, AT(limit), "At most so many, the newest (0: all)" },
    { "story", 's', ARG_SWITCH, AT(stories), "With the story of each" },
    { "follow", 'f', ARG_SWITCH, AT(follow), "Goes on with what comes, until Ctrl-C" },
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of table|json" },
};
#undef AT

static void complain(const struct pod *pod, const struct mz_err *err)
{
    char text[sizeof(*err)];
    fprintf(stderr, "%.*s: %s\n", MZ_STR_ARG(pod->id), mz_err_text(err, text, sizeof(text)));
}

static void keep(struct records *r, const struct record_filter *f, size_t limit)
{
    size_t n = 0;
    for (size_t i = 0; i < r->v.n; i++)
        if (record_fits(f, &r->v.v[i]) && (!limit || n < limit))
            r->v.v[n++] = r->v.v[i];
    r->v.n = n;
}

/* One object a request; a list of them, or a line each. */
static void print_json(const struct records *r, bool lines)
{
    if (!lines)
        fputs("[", stdout);
    for (size_t i = 0; i < r->v.n; i++) {
        if (!lines && i)
            fputs(",", stdout);
        record_json_line(&r->v.v[i], stdout);
    }
    if (!lines)
        fputs("]\n", stdout);
}

static struct mz_str plain(struct mz_arena *a, struct mz_str s)
{
    char *to = mz_arena_alloc(a, s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        to[i] = (unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i];
    return (struct mz_str){ to, s.n };
}

static void print_table(const struct records *r)
{
    struct table t;
    table_init(&t, 2);
    table_head(&t, "TIME|POD|DIRECTION|STATUS|FLAGS|MS|REQUEST|WHY");
    for (size_t i = 0; i < r->v.n; i++) {
        const struct mz_node *n = r->v.v[i].node, *ms = mz_node_get(n, "duration_ms");
        struct mz_str all = mz_arena_printf(
            t.arena, "%.*s %.*s%.*s", MZ_STR_ARG(mz_node_text(n, "method")),
            MZ_STR_ARG(mz_node_text(n, "authority")), MZ_STR_ARG(mz_node_text(n, "path")));
        table_cell(&t, mz_node_text(n, "time"));
        table_cell(&t, r->v.v[i].pod->id);
        table_cell(&t, mz_node_text(n, "direction"));
        table_cellf(&t, "%u", (unsigned)mz_node_number(n, "status"));
        table_cell(&t, mz_node_text(n, "flags"));
        table_cell(&t, ms && ms->kind == MZ_NODE_NUM ? ms->text : MZ_STR("?"));
        table_cell(&t, plain(t.arena, all.n > 80 ? (struct mz_str){ all.p, 80 } : all));
        table_cell(&t, plain(t.arena, mz_node_text(n, "details")));
        table_end_row(&t);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static void print(const struct records *r, const struct requests_options *o, bool lines)
{
    if (strcmp(o->output, "json") == 0) {
        print_json(r, lines);
        return;
    }
    if (!lines && !r->v.n)
        fprintf(stderr,
                "no such request is kept: proxies keep what failed, was refused or slow, and "
                "what is watched (mizzenctl tap)\n");
    if (!lines && !o->stories && r->v.n) {
        print_table(r);
        return;
    }
    for (size_t i = 0; i < r->v.n; i++) {
        record_line(&r->v.v[i], stdout);
        if (o->stories)
            record_story(&r->v.v[i], stdout);
    }
}

static void go_on(const struct pods *p, struct records_ask *ask, const struct record_filter *f,
                  const struct requests_options *o)
{
    for (;;) {
        struct records r;
        const struct timespec pause = { .tv_nsec = 500000000 };
        (void)nanosleep(&pause, NULL); /* a signal ends us */
        records_load(&r, p, ask, NULL);
        records_sort(&r, false);
        keep(&r, f, 0);
        print(&r, o, true);
        records_fini(&r);
        if (fflush(stdout) != 0)
            return; /* nobody reads any more */
    }
}

static bool requests(const struct requests_options *o, const struct arg_list *names, struct pods *p,
                     struct mz_err *err)
{
    struct record_filter f;
    struct records_ask ask = { .request_id = MZ_STR("") };
    const struct pod **v;
    struct records r;
    if (!record_filter_read(&f, o->status, o->flag, o->since, err) ||
        !pods_open(p, &o->pods, err) || !records_pods(p, names, &v, &ask.n, err))
        return false;
    ask.pods = v;
    if (o->follow)
        ask.since = mz_arena_alloc0(p->arena, (p->n + 1) * sizeof(*ask.since));
    records_load(&r, p, &ask, complain);
    records_sort(&r, true);
    keep(&r, &f, o->limit);
    if (o->follow)
        records_sort(&r, false);
    print(&r, o, o->follow);
    records_fini(&r);
    (void)fflush(stdout); /* looked at below */
    if (o->follow)
        go_on(p, &ask, &f, o);
    return true;
}

static int run_requests(const struct command *c, int argc, char **argv)
{
    struct requests_options o = { .output = "table" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (strcmp(o.output, "json") != 0 && strcmp(o.output, "table") != 0)
        return command_usage_error(c, "--output must be table or json");
    struct pods p = { .arena = NULL };
    const bool ok = requests(&o, &r.others, &p, &err);
    if (p.arena)
        pods_close(&p);
    return ok ? EXIT_OK : command_fail(&err);
}

const struct command command_requests = {
    .name = "requests",
    .aliases = "",
    .arguments = "[POD...]",
    .run = run_requests,
    .flags = requests_flags,
    .flags_n = MZ_COUNT(requests_flags),
    .help =
        "Lists the failed, refused, slow and watched requests that the proxies kept, newest first",
};
