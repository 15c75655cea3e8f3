/* What the server is and does: readiness, drain, exit, identity; and the profilers of Envoy that this one does not have. */
#include "base/clock.h"
#include "base/log.h"
#include "http/query.h"
#include "listener/listener.h"
#include "observe/access_log.h"
#include "runtime/runtime.h"
#include "server/pages_priv.h"
#include "stats/stats.h"

static void ready(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    int s = (int)p->env.state(p->env.arg);
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&pb_ServerInfo_State__descriptor, s);
    page_text(out, s == pb_ServerInfo_State_LIVE ? 200 : 503, mz_str_c(v->name));
    mz_buf_append(&out->body, "\n", 1);
}

static void ok(struct mz_admin_reply *out)
{
    page_text(out, 200, MZ_STR("OK\n"));
}

static void health_fail(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    p->env.set_healthy(p->env.arg, false);
    ok(out);
}

static void health_ok(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    p->env.set_healthy(p->env.arg, true);
    ok(out);
}

static void drain_listeners(void *arg, const struct mz_admin_request *rq,
                            struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    struct mz_drain_request d = { .graceful = page_has(rq, "graceful"),
                                  .skip_exit = page_has(rq, "skip_exit"),
                                  .inbound_only = page_has(rq, "inboundonly") };
    p->env.drain_listeners(p->env.arg, &d);
    ok(out);
}

static void quit(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    p->env.quit(p->env.arg);
    ok(out);
}

static void reopen_logs(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    mz_log_files_reopen(p->env.log_files);
    if (mz_log_reopen())
        ok(out);
    else
        page_text(out, 500,
                  MZ_STR("the process log could not be opened again; it goes on as it was\n"));
}

/* ---- /server_info ---- */

static pb_Node *node(const struct mz_pages *p, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true };
    ProtobufCMessage *m;
    struct mz_err err;
    if (!mz_msg_unpack(&ctx, p->env.bootstrap, &pb_Bootstrap__descriptor, &m, &err))
        return NULL;
    return ((pb_Bootstrap *)m)->node;
}

static pb_Duration *seconds(struct mz_arena *a, uint64_t us)
{
    pb_Duration *d = page_new(a, &pb_Duration__descriptor);
    d->seconds = (int64_t)(us / 1000000);
    return d;
}

static void server_info(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    const struct mz_pages_env *e = &p->env;
    uint64_t wall = mz_clock->wall_us(), first = e->first_epoch_wall_us;
    uint64_t up = mz_clock->mono_us() - e->start_us;
    pb_ServerInfo m;
    protobuf_c_message_init(&pb_ServerInfo__descriptor, &m);
    m.version = page_chars(e->version);
    m.state = (pb_ServerInfo_State)e->state(e->arg);
    m.uptime_current_epoch = seconds(rq->arena, up);
    m.uptime_all_epochs = seconds(rq->arena, first && wall > first ? wall - first : up);
    m.hot_restart_version = page_chars("disabled");
    m.command_line_options = (pb_CommandLineOptions *)(uintptr_t)e->options;
    m.node = node(p, rq->arena);
    struct mz_buf json;
    mz_buf_init(&json);
    mz_msg_to_json(&m.base, &json, MZ_JSON_PRETTY | MZ_JSON_DEFAULTS);
    /* Envoy 1.40 has one more field, which the published schemas do not know yet. */
    size_t end = strlen("\n}");
    if (mz_buf_len(&json) > end)
        mz_buf_move(&out->body, &json, mz_buf_len(&json) - end);
    mz_buf_append_str(&out->body, MZ_STR(",\n \"hot_restart_initializing\": false\n}\n"));
    mz_buf_fini(&json);
    out->content_type = PAGE_JSON;
}

static void hot_restart_version(void *arg, const struct mz_admin_request *rq,
                                struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    page_text(out, 200, MZ_STR("disabled"));
}

static void contention(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    page_text(out, 200, MZ_STR("Mutex contention tracing is not enabled."));
}

/* ---- profilers: perf looks from outside, nothing is built in ---- */

static void profiler(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg;
    if (page_word(rq, "enable", "n"))
        ok(out);
    else if (page_word(rq, "enable", "y"))
        page_text(out, 501, MZ_STR("The current build does not support this profiler\n"));
    else
        page_text(out, 400, MZ_STR("?enable=<y|n>\n"));
}

/* ---- runtime ---- */

static void runtime(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    struct mz_pages *p = arg;
    out->content_type = PAGE_JSON;
    mz_runtime_store_dump(p->env.runtime, &out->body);
}

static void runtime_modify(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    enum { MAX = 256 };
    struct mz_pages *p = arg;
    struct mz_str keys[MAX], values[MAX], rest = rq->query, k, v;
    struct mz_err err;
    size_t n = 0;
    for (; mz_query_next(&rest, &k, &v); n++) {
        if (n == MAX) {
            page_text(out, 400, MZ_STR("too many values in one request\n"));
            return;
        }
        keys[n] = mz_percent_decode(rq->arena, k);
        values[n] = mz_percent_decode(rq->arena, v);
    }
    if (!n) {
        page_text(out, 400,
                  MZ_STR("usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"
                         "       or send the parameters as form values\n"
                         "use an empty value to remove a previously added override"));
        return;
    }
    if (mz_runtime_store_modify(p->env.runtime, keys, values, n, &err))
        ok(out);
    else
        page_text(out, 503, mz_arena_dup(rq->arena, mz_str_c(err.msg)));
}

static const struct mz_admin_page pages[] = {
    { .path = "/contention",
      .help = "dump current mutex contention stats (if enabled)",
      .handle = contention },
    { .path = "/cpuprofiler",
      .help = "enable/disable the CPU profiler (if supported)",
      .mutates = true,
      .params = { { "enable", "enables the CPU profiler; One of (y, n)" } },
      .handle = profiler },
    { .path = "/drain_listeners",
      .help = "drain listeners",
      .mutates = true,
      .params = { { "graceful", "wait for the drain time (--drain-time-s) before the listeners are "
                                "closed; connections are "
                                "told to go meanwhile" },
                  { "skip_exit", "drain connections, but never close the listeners; graceful has "
                                 "no effect then" },
                  { "inboundonly", "only listeners whose traffic_direction is INBOUND" } },
      .handle = drain_listeners },
    { .path = "/healthcheck/fail",
      .help = "cause the server to fail health checks",
      .mutates = true,
      .handle = health_fail },
    { .path = "/healthcheck/ok",
      .help = "cause the server to pass health checks",
      .mutates = true,
      .handle = health_ok },
    { .path = "/heapprofiler",
      .help = "enable/disable the heap profiler (if supported)",
      .mutates = true,
      .params = { { "enable", "enable/disable the heap profiler; One of (y, n)" } },
      .handle = profiler },
    { .path = "/hot_restart_version",
      .help = "print the hot restart compatibility version",
      .handle = hot_restart_version },
    { .path = "/quitquitquit", .help = "exit the server", .mutates = true, .handle = quit },
    { .path = "/ready",
      .help = "print server state, return 200 if LIVE, otherwise return 503",
      .handle = ready },
    { .path = "/reopen_logs",
      .help = "reopen access logs and the process log",
      .mutates = true,
      .handle = reopen_logs },
    { .path = "/runtime", .help = "print runtime values", .handle = runtime },
    { .path = "/runtime_modify",
      .help = "add or change runtime values as passed in query parameters; an empty value removes "
              "what was added here",
      .mutates = true,
      .handle = runtime_modify },
    { .path = "/server_info",
      .help = "print server version/status information",
      .handle = server_info },
};
const struct page_list pages_state = { pages, MZ_COUNT(pages) };
