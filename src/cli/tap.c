/* tap: requests as they pass. The proxies keep for a short while whatever fits; nothing outlives a tap that was killed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/records.h"
#include "http/query.h"

enum { RENEW_S = 10, WATCH_S = 30, POLL_MS = 250 };
struct tap_options {
    struct pods_options pods;
    const char *output, *header, *path, *status;
    uint32_t duration_s, max;
    bool stories, own;
};
#define AT(member) offsetof(struct tap_options, member)
static const struct arg_flag tap_flags[] = {
    PODS_FLAGS(tap_options),
    { "header", 'H', ARG_TEXT, AT(header), "Only requests with this NAME:VALUE, or this NAME" },
    { "path", 0, ARG_TEXT, AT(path), "Only requests whose path begins so" },
    { "status", 0, ARG_TEXT, AT(status), "Only answers of 503, 5xx, 400-499" },
    { "story", 's', ARG_SWITCH, AT(stories), "With the story of each" },
    { "own", 0, ARG_SWITCH, AT(own),
      "Also what the proxies' own ports are asked: probes, metrics" },
    { "duration", 0, ARG_NUMBER, AT(duration_s), "Seconds until it ends (0: Ctrl-C)" },
    { "max", 0, ARG_NUMBER, AT(max), "Requests until it ends (0: any number)" },
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of text|json; json is a line each" },
};
#undef AT

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static void catch_signals(void)
{
    const struct sigaction a = { .sa_handler = on_signal }; /* no restart: sleeps end */
    (void)sigaction(SIGINT, &a, NULL);
    (void)sigaction(SIGTERM, &a, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that goes: the watch is ended in order */
}

static uint64_t now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
    return (uint64_t)t.tv_sec;
}

static bool watch(const struct pods *p, const struct pod *pod, const struct tap_options *o,
                  unsigned seconds, struct mz_err *err)
{
    struct mz_buf answer;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_str path =
        mz_arena_printf(a, "/mizzen/watch?seconds=%u&path=%.*s&header=%.*s", seconds,
                        MZ_STR_ARG(mz_percent_encode(a, mz_str_c(o->path), "&+#=?/ ")),
                        MZ_STR_ARG(mz_percent_encode(a, mz_str_c(o->header), "&+#=?/ ")));
    mz_buf_init(&answer);
    const bool ok = pod_fetch(p, pod, "POST", path.p, &answer, err);
    mz_buf_fini(&answer);
    mz_arena_destroy(a);
    return ok;
}

struct tap {
    struct pods pods;
    const struct pod **v;
    size_t n;
    const struct tap_options *o;
    struct record_filter filter;
    struct records_ask ask;
    uint32_t shown;
};

static bool watch_all(struct tap *t, unsigned seconds, struct mz_err *err)
{
    for (size_t i = 0; i < t->n; i++)
        if (!watch(&t->pods, t->v[i], t->o, seconds, err))
            return mz_err_at(err, "%.*s", MZ_STR_ARG(t->v[i]->id));
    return true;
}

static void show(struct tap *t, const struct record *r)
{
    if (strcmp(t->o->output, "json") == 0) {
        record_json_line(r, stdout);
        return;
    }
    record_line(r, stdout);
    if (t->o->stories)
        record_story(r, stdout);
}

static bool done(const struct tap *t)
{
    return stopped || (t->o->max && t->shown >= t->o->max);
}

/* Of the listeners that every bootstrap has. */
static bool is_own(const struct record *r)
{
    const struct mz_str listener = mz_node_text(r->node, "listener");
    return mz_str_ends(listener, MZ_STR("_15021")) || mz_str_ends(listener, MZ_STR("_15090"));
}

static void look(struct tap *t)
{
    struct records r;
    records_load(&r, &t->pods, &t->ask, NULL); /* one that restarts is watched again soon */
    records_sort(&r, false);
    for (size_t i = 0; i < r.v.n && !done(t); i++)
        if (record_fits(&t->filter, &r.v.v[i]) && (t->o->own || !is_own(&r.v.v[i]))) {
            show(t, &r.v.v[i]);
            t->shown++;
        }
    records_fini(&r);
    if (fflush(stdout) != 0)
        stopped = 1; /* nobody reads any more */
}

static bool run_until_done(struct tap *t, struct mz_err *err)
{
    const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
    const uint64_t begin = now_s();
    uint64_t renewed = begin;
    while (!done(t) && (!t->o->duration_s || now_s() - begin < t->o->duration_s)) {
        if (now_s() - renewed >= RENEW_S) {
            if (!watch_all(t, WATCH_S, err))
                return false;
            renewed = now_s();
        }
        (void)nanosleep(&pause, NULL); /* a signal ends it early */
        look(t);
    }
    return true;
}

static bool tap(struct tap *t, const struct arg_list *names, struct mz_err *err)
{
    struct records old;
    struct mz_err ignored;
    if (!record_filter_read(&t->filter, t->o->status, "", NULL, err) ||
        !pods_open(&t->pods, &t->o->pods, err) || !records_pods(&t->pods, names, &t->v, &t->n, err))
        return false;
    t->filter.watched = true;
    t->ask = (struct records_ask){ .pods = t->v, .n = t->n, .request_id = MZ_STR("") };
    t->ask.since = mz_arena_alloc0(t->pods.arena, (t->pods.n + 1) * sizeof(*t->ask.since));
    records_load(&old, &t->pods, &t->ask, NULL); /* what was before is not shown */
    records_fini(&old);
    catch_signals();
    const bool ok = watch_all(t, WATCH_S, err);
    if (ok)
        fprintf(stderr, "watching %zu prox%s\n", t->n, t->n == 1 ? "y" : "ies");
    const bool ran = ok && run_until_done(t, err);
    (void)watch_all(t, 0, &ignored); /* else it ends by itself */
    return ran;
}

static int run_tap(const struct command *c, int argc, char **argv)
{
    struct tap_options o = { .output = "text", .header = "", .path = "" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (strcmp(o.output, "json") != 0 && strcmp(o.output, "text") != 0)
        return command_usage_error(c, "--output must be text or json");
    struct tap t = { .o = &o };
    const bool ok = tap(&t, &r.others, &err);
    if (t.pods.arena)
        pods_close(&t.pods);
    return ok ? EXIT_OK : command_fail(&err);
}

const struct command command_tap = {
    .name = "tap",
    .aliases = "",
    .arguments = "[POD...]",
    .run = run_tap,
    .flags = tap_flags,
    .flags_n = MZ_COUNT(tap_flags),
    .help = "Shows requests as they pass, and what became of them",
};
