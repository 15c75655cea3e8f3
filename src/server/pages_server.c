/* Admin pages about the process (O4, P5): state, health, drain, end. */
#include "base/clock.h"
#include "base/regex.h"
#include "observe/access_log.h"
#include "server/server.h"

static const char *state_name(enum mz_server_state s)
{
    static const char *const names[] = { "LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING" };
    return names[s];
}

static void ok(struct mz_admin_reply *out)
{
    mz_buf_append(&out->body, "OK\n", 3);
}

static void page_ready(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    enum mz_server_state st = mz_server_state(arg);
    if (st != MZ_SERVER_LIVE)
        out->status = 503;
    mz_buf_printf(&out->body, "%s\n", state_name(st));
}

static void page_quit(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    ok(out);
    mz_server_exit(arg, "/quitquitquit");
}

static void page_fail(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_server *s = arg;
    __atomic_store_n(&s->process.health_failed, 1u, __ATOMIC_RELAXED);
    mz_server_stats_update(s);
    ok(out);
}

static void page_heal(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_server *s = arg;
    __atomic_store_n(&s->process.health_failed, 0u, __ATOMIC_RELAXED);
    mz_server_stats_update(s);
    ok(out);
}

static void page_drain(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_str v;
    enum mz_drain_scope scope =
        mz_admin_param(rq, "inboundonly", &v) ? MZ_DRAIN_INBOUND : MZ_DRAIN_ALL;
    mz_server_drain(arg, scope, mz_admin_param(rq, "graceful", &v),
                    mz_admin_param(rq, "skip_exit", &v));
    ok(out);
}

static void page_reopen(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_server *s = arg;
    mz_log_files_reopen(s->logs);
    ok(out);
}

static void page_listeners(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_server *s = arg;
    struct mz_str format;
    if (mz_admin_param(rq, "format", &format) && mz_str_eq(format, MZ_STR("json"))) {
        out->content_type = "application/json";
        mz_listener_manager_json(s->listeners, &out->body);
    } else {
        mz_listener_manager_text(s->listeners, &out->body);
    }
}

static void page_runtime(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_server *s = arg;
    out->content_type = "application/json";
    mz_runtime_store_dump(s->runtime, &out->body);
}

static void page_server_info(void *arg, const struct mz_admin_request *rq,
                             struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_server *s = arg;
    unsigned long long up = (mz_clock->mono_us() - s->start_us) / 1000000;
    out->content_type = "application/json";
    mz_buf_printf(
        &out->body,
        "{\n \"version\": \"%s\",\n \"state\": \"%s\",\n \"uptime_current_epoch\": \"%llus\",\n"
        " \"uptime_all_epochs\": \"%llus\",\n \"hot_restart_version\": \"disabled\",\n"
        " \"command_line_options\": {\n  \"concurrency\": %u,\n  \"mode\": \"Serve\",\n  "
        "\"restart_epoch\": 0,\n"
        "  \"drain_time\": \"%us\",\n  \"drain_strategy\": \"%s\"\n }\n}\n",
        mz_server_version(), state_name(mz_server_state(s)), up, up, s->n_workers,
        s->opts.drain_time_s, s->opts.drain_strategy[0] == 'i' ? "Immediate" : "Gradual");
}

static void page_stats(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_server *s = arg;
    struct mz_stats_query q = { 0 };
    struct mz_str v;
    struct mz_err err;
    q.usedonly = mz_admin_param(rq, "usedonly", &v);
    q.invert_filter = mz_admin_param(rq, "invert_filter", &v);
    struct mz_regex *filter = mz_admin_param(rq, "filter", &v) ? mz_regex_create(v, &err) : NULL;
    if (v.n && !filter && mz_admin_param(rq, "filter", &v)) {
        out->status = 400;
        mz_buf_printf(&out->body, "Invalid re2 regex\n");
        return;
    }
    q.filter = filter;
    mz_server_stats_update(s);
    struct mz_str format = MZ_STR("");
    (void)mz_admin_param(rq, "format", &format);
    if (mz_str_eq(format, MZ_STR("json"))) {
        out->content_type = "application/json";
        mz_stats_json(s->stats, &q, &out->body);
    } else if (mz_str_eq(format, MZ_STR("prometheus")) ||
               mz_str_ends(rq->path, MZ_STR("/prometheus"))) {
        mz_stats_prometheus(s->stats, &q, &out->body);
    } else {
        mz_stats_text(s->stats, &q, &out->body);
    }
    mz_regex_destroy(filter);
}

static const struct mz_admin_page pages[] = {
    { .path = "/drain_listeners",
      .help = "drain listeners",
      .mutates = true,
      .handle = page_drain,
      .params = { { "graceful", "When draining listeners, enter a graceful drain period prior to "
                                "closing listeners. This behaviour and duration is configurable "
                                "via server options or CLI" },
                  { "skip_exit", "When draining listeners, drain the connections but never stop "
                                 "the listeners." },
                  { "inboundonly", "Drains all inbound listeners, by traffic_direction." } } },
    { .path = "/healthcheck/fail",
      .help = "cause the server to fail health checks",
      .mutates = true,
      .handle = page_fail },
    { .path = "/healthcheck/ok",
      .help = "cause the server to pass health checks",
      .mutates = true,
      .handle = page_heal },
    { .path = "/listeners",
      .help = "print listener info",
      .handle = page_listeners,
      .params = { { "format", "File format to use; One of (text, json)" } } },
    { .path = "/quitquitquit", .help = "exit the server", .mutates = true, .handle = page_quit },
    { .path = "/ready",
      .help = "print server state, return 200 if LIVE, otherwise return 503",
      .handle = page_ready },
    { .path = "/reopen_logs",
      .help = "reopen access logs",
      .mutates = true,
      .handle = page_reopen },
    { .path = "/runtime", .help = "print runtime values", .handle = page_runtime },
    { .path = "/server_info",
      .help = "print server version/status information",
      .handle = page_server_info },
    { .path = "/stats",
      .help = "print server stats",
      .handle = page_stats,
      .params = { { "usedonly",
                    "Only include stats that have been written by system since restart" },
                  { "filter", "Regular expression (Google re2) for filtering stats" },
                  { "invert_filter", "Invert the filter regex" },
                  { "format", "Format to use; One of (text, json, prometheus)" } } },
    { .path = "/stats/prometheus",
      .help = "print server stats in prometheus format",
      .handle = page_stats,
      .params = { { "usedonly",
                    "Only include stats that have been written by system since restart" },
                  { "filter", "Regular expression (Google re2) for filtering stats" } } },
};

void mz_pages_server_add(struct mz_admin *a, struct mz_server *s)
{
    for (size_t i = 0; i < MZ_COUNT(pages); i++) {
        struct mz_admin_page *p = mz_arena_alloc(s->arena, sizeof(*p));
        *p = pages[i];
        p->arg = s;
        mz_admin_add(a, p);
    }
}
