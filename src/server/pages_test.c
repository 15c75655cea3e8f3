/* The pages that need no running server, through the page table as a request finds them (O4, P9, H07). */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/test.h"
#include "hcm/trace.h"
#include "listener/listener.h"
#include "runtime/runtime.h"
#include "server/pages_priv.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

static struct {
    struct mz_loop *loop;
    struct mz_stats *stats;
    struct mz_cluster_manager *clusters;
    struct mz_listener_manager *listeners;
    struct mz_runtime_store *runtime;
    struct mz_pages *pages;
    struct mz_admin *admin;
    struct mz_arena *arena;
    unsigned state;
    bool healthy, quit;
    struct mz_drain_request drain;
    unsigned drained;
} rig;

static unsigned get_state(void *arg)
{
    (void)arg;
    return rig.state;
}

static void set_healthy(void *arg, bool ok)
{
    (void)arg;
    rig.healthy = ok;
}

static void refresh(void *arg)
{
    (void)arg;
}

static void quit(void *arg)
{
    (void)arg;
    rig.quit = true;
}

static void drain(void *arg, const struct mz_drain_request *rq)
{
    (void)arg;
    rig.drain = *rq;
    rig.drained++;
}

static void add_cluster(const char *yaml)
{
    struct mz_proto_ctx ctx = { .arena = rig.arena };
    ProtobufCMessage *m;
    struct mz_err err;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err) ||
        !mz_cluster_manager_add(rig.clusters, (pb_Cluster *)m, mz_msg_pack_alloc(m, rig.arena),
                                false, &err))
        fail_msg("%s: %s", err.path, err.msg);
}

static struct mz_runtime_store *runtime_with_admin_layer(void)
{
    struct mz_proto_ctx ctx = { .arena = rig.arena };
    ProtobufCMessage *m;
    struct mz_err err;
    if (!mz_msg_from_text(&ctx, MZ_STR("layers: [{name: admin, admin_layer: {}}]"), MZ_TEXT_YAML,
                          &pb_LayeredRuntime__descriptor, &m, &err))
        fail_msg("%s: %s", err.path, err.msg);
    return mz_runtime_store_create(rig.stats, (pb_LayeredRuntime *)m, MZ_STR(""), &err);
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    rig.healthy = true;
    rig.arena = mz_arena_create(MZ_MEM_ADMIN);
    rig.loop = mz_loop_create("test");
    rig.stats = mz_stats_create(1);
    const struct mz_upstream_env upstream = { .main = rig.loop, .stats = rig.stats };
    rig.clusters = mz_cluster_manager_create(&upstream);
    const struct mz_factory f = { .stats = rig.stats, .clusters = rig.clusters };
    rig.listeners = mz_listener_manager_create(&f, NULL, 0);
    rig.runtime = runtime_with_admin_layer();
    pb_Bootstrap *b = page_new(rig.arena, &pb_Bootstrap__descriptor);
    b->node = page_new(rig.arena, &pb_Node__descriptor);
    b->node->id = page_chars("me<b>");
    const struct mz_pages_env env = {
        .stats = rig.stats,
        .clusters = rig.clusters,
        .listeners = rig.listeners,
        .runtime = rig.runtime,
        .bootstrap = mz_msg_pack_alloc(&b->base, rig.arena),
        .options = page_new(rig.arena, &pb_CommandLineOptions__descriptor),
        .version = "r/1/<Clean>",
        .start_us = mz_clock->mono_us(),
        .state = get_state,
        .set_healthy = set_healthy,
        .refresh = refresh,
        .quit = quit,
        .drain_listeners = drain,
    };
    rig.pages = mz_pages_create(&env);
    rig.admin = mz_admin_create();
    mz_pages_add(rig.pages, rig.admin);
    add_cluster("{name: one, connect_timeout: 1s, load_assignment: {cluster_name: one, endpoints: "
                "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, "
                "port_value: 80}}}}]}]}}");
    add_cluster("{name: 'a<b>', connect_timeout: 2s}");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_admin_destroy(rig.admin);
    mz_pages_destroy(rig.pages);
    mz_listener_manager_destroy(rig.listeners);
    mz_cluster_manager_destroy(rig.clusters);
    mz_runtime_store_destroy(rig.runtime);
    mz_loop_destroy(rig.loop);
    mz_stats_destroy(rig.stats);
    mz_arena_destroy(rig.arena);
    mz_log_set_all(MZ_LOG_INFO);
    mz_slice_thread_trim();
    return 0;
}

/* The answer's text, NUL behind it, in the rig's arena. */
static const char *ask(const char *method, const char *path, unsigned *out_status,
                       const char **out_type)
{
    struct mz_str whole = mz_str_c(path);
    ptrdiff_t q = mz_str_chr(whole, '?');
    struct mz_admin_request rq = { .method = mz_str_c(method), .path = whole, .arena = rig.arena };
    struct mz_admin_reply out = { .status = 200, .content_type = PAGE_TEXT };
    if (q >= 0) {
        rq.path.n = (size_t)q;
        rq.query = mz_str_skip(whole, (size_t)q + 1);
    }
    mz_buf_init(&out.body);
    mz_admin_handle(rig.admin, &rq, &out);
    struct mz_str text =
        mz_arena_dup(rig.arena, mz_buf_linearize(&out.body, mz_buf_len(&out.body)));
    mz_buf_fini(&out.body);
    *out_status = out.status;
    *out_type = out.content_type;
    return text.p;
}

/* One row: @has must be in the answer; a text that begins with '=' is the whole answer. */
static const struct row {
    const char *method, *path;
    unsigned status;
    const char *type, *has;
} rows[] = {
    { "GET", "/ready", 200, PAGE_TEXT, "=LIVE\n" },
    { "GET", "/hot_restart_version", 200, PAGE_TEXT, "=disabled" },
    { "GET", "/init_dump", 200, PAGE_JSON, "={}\n" },
    { "GET", "/certs", 200, PAGE_JSON, "={\n \"certificates\": []\n}\n" },
    { "GET", "/memory", 200, PAGE_JSON, "\"total_physical_bytes\": \"" },
    { "GET", "/mizzen/memory", 200, PAGE_JSON, "\"stats\": { \"bytes\": " },
    { "GET", "/server_info", 200, PAGE_JSON, "\"hot_restart_initializing\": false\n}\n" },
    { "GET", "/server_info", 200, PAGE_JSON, "\"hot_restart_version\": \"disabled\"" },
    { "GET", "/listeners", 200, PAGE_TEXT, "=" },
    { "GET", "/listeners?format=json", 200, PAGE_JSON, "={}\n" },
    { "GET", "/stats?format=bogus", 400, PAGE_TEXT, "usage: /stats?format=" },
    { "GET", "/stats?type=bogus", 400, PAGE_TEXT, "=invalid &type= param" },
    { "GET", "/stats?histogram_buckets=bogus", 400, PAGE_TEXT, "usage: " },
    { "GET", "/stats?filter=[", 400, PAGE_TEXT, "=Invalid re2 regex: missing ]: [" },
    { "GET", "/stats?filter=^cluster_manager.active_clusters$", 200, PAGE_TEXT,
      "=cluster_manager.active_clusters: 2\n" },
    { "GET", "/stats?filter=active_clusters&format=html", 200, PAGE_HTML,
      "cluster_manager.active_clusters: 2\n" },
    { "GET", "/stats?format=html&filter=%22%3E%3Cscript%3E", 200, PAGE_HTML,
      "value=\"&quot;&gt;&lt;script&gt;\"" },
    { "GET", "/stats/recentlookups", 200, PAGE_TEXT, "Lookup tracking is not enabled." },
    { "POST", "/reset_counters", 200, PAGE_TEXT, "=OK\n" },
    { "GET", "/clusters?filter=[", 400, PAGE_TEXT, "=Invalid re2 regex: missing ]: [" },
    { "GET", "/clusters?filter=zzz", 200, PAGE_TEXT, "=" },
    { "GET", "/clusters?filter=^one$", 200, PAGE_TEXT, "one::127.0.0.1:80::cx_active::0\n" },
    { "GET", "/clusters?format=json&filter=zzz", 200, PAGE_JSON, "={}\n" },
    { "GET", "/clusters?format=json&filter=one", 200, PAGE_JSON, "\"port_value\": 80\n" },
    { "POST", "/cpuprofiler", 400, PAGE_TEXT, "=?enable=<y|n>\n" },
    { "POST", "/cpuprofiler?enable=y", 501, PAGE_TEXT, "does not support" },
    { "POST", "/heapprofiler?enable=n", 200, PAGE_TEXT, "=OK\n" },
    { "POST", "/runtime_modify", 400, PAGE_TEXT, "usage: /runtime_modify" },
    { "POST", "/runtime_modify?a.b=7&c=%20", 200, PAGE_TEXT, "=OK\n" },
    { "GET", "/config_dump?resource=bogus", 404, "text/plain", "=bogus not found in config dump" },
    { "GET", "/config_dump?resource=bootstrap", 400, "text/plain",
      "=bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field" },
    { "GET", "/config_dump?name_regex=[", 400, "text/plain",
      "=INVALID_ARGUMENT: Error while parsing name_regex from [: missing ]: [" },
    { "GET", "/config_dump?mask=nope", 400, "text/plain",
      "=FieldMask nope could not be successfully applied to any configs." },
    { "GET", "/config_dump?resource=static_clusters&mask=cluster.nope", 400, "text/plain",
      "could not be successfully used." },
    { "GET", "/config_dump?resource=static_clusters&name_regex=on", 200, PAGE_JSON, "={}\n" },
    { "GET", "/config_dump?resource=static_endpoint_configs", 404, "text/plain", "not found" },
    { "GET", "/config_dump?resource=static_endpoint_configs&include_eds&name_regex=one", 200,
      PAGE_JSON, "\"health_status\": \"HEALTHY\"" },
    { "GET", "/config_dump?mask=bootstrap.node.id", 200, PAGE_JSON,
      "={\n \"configs\": [\n  {\n   \"@type\": "
      "\"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump\",\n   \"bootstrap\": {\n    "
      "\"node\": {\n     \"id\": \"me\\u003cb\\u003e\"\n    }\n   }\n  }\n ]\n}\n" },
    { "GET", "/config_dump?resource=static_clusters&mask=cluster.name&name_regex=one", 200,
      PAGE_JSON,
      "={\n \"configs\": [\n  {\n   \"@type\": "
      "\"type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster\",\n   \"cluster\": "
      "{\n    \"@type\": \"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\n    \"name\": "
      "\"one\"\n   }\n  }\n ]\n}\n" },
    { "POST", "/mizzen/explain?path=/", 400, PAGE_TEXT, "=no listener has this name or port\n" },
    { "POST", "/mizzen/explain?path=a%20b", 400, PAGE_TEXT, "cannot be :path" },
    { "POST", "/mizzen/explain?nope=1", 400, PAGE_TEXT, "=unknown parameter \"nope\"\n" },
    { "POST", "/mizzen/explain?port=70000", 400, PAGE_TEXT, "=port must be 1 to 65535\n" },
    { "POST", "/mizzen/explain?source=here", 400, PAGE_TEXT, "=source must be an IP address\n" },
    { "POST", "/mizzen/explain?header=a%0ab:c", 400, PAGE_TEXT, "=a header is <name>:<value>\n" },
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(rows); i++) {
        unsigned status;
        const char *type, *text = ask(rows[i].method, rows[i].path, &status, &type);
        bool whole = rows[i].has[0] == '=';
        if (status != rows[i].status || strcmp(type, rows[i].type) != 0 ||
            (whole ? strcmp(text, rows[i].has + 1) != 0 : !strstr(text, rows[i].has)))
            fail_msg("%s %s: %u %s\n%s", rows[i].method, rows[i].path, status, type, text);
    }
}

/* Newest first on /clusters, by name in the dump: the same at each request. */
static void test_order_of_clusters(void **state)
{
    (void)state;
    unsigned status;
    const char *type, *text = ask("GET", "/clusters", &status, &type);
    assert_true(strstr(text, "a<b>::obs") < strstr(text, "one::obs"));
    add_cluster("{name: b, connect_timeout: 1s}");
    text = ask("GET", "/config_dump?resource=static_clusters&mask=cluster.name", &status, &type);
    const char *a = strstr(text, "\"a\\u003c"), *b = strstr(text, "\"b\""),
               *one = strstr(text, "\"one\"");
    assert_true(a && b && one && a < b && b < one);
}

static void test_actions(void **state)
{
    (void)state;
    unsigned status;
    const char *type;
    (void)ask("POST", "/healthcheck/fail", &status, &type);
    assert_false(rig.healthy);
    (void)ask("POST", "/healthcheck/ok", &status, &type);
    assert_true(rig.healthy);
    (void)ask("POST", "/drain_listeners?bogus", &status, &type);
    assert_true(rig.drained == 1 && !rig.drain.graceful && !rig.drain.inbound_only);
    (void)ask("POST", "/drain_listeners?graceful&inboundonly&skip_exit", &status, &type);
    assert_true(rig.drain.graceful && rig.drain.inbound_only && rig.drain.skip_exit);
    rig.state = pb_ServerInfo_State_DRAINING;
    assert_string_equal(ask("GET", "/ready", &status, &type), "DRAINING\n");
    assert_int_equal(status, 503);
    assert_false(rig.quit);
    assert_string_equal(ask("POST", "/quitquitquit", &status, &type), "OK\n");
    assert_true(rig.quit);
    (void)ask("POST", "/runtime_modify?k.x=v%26w", &status, &type);
    assert_non_null(strstr(ask("GET", "/runtime", &status, &type), "\"k.x\""));
    (void)ask("POST", "/stats/recentlookups/enable", &status, &type);
    assert_string_equal(ask("GET", "/stats/recentlookups", &status, &type),
                        "   Count Lookup\n\ntotal: 0\n");
}

/* H07: every page that changes something, without a list here that could miss one. */
static void test_mutations_need_post(void **state)
{
    (void)state;
    static const char *const methods[] = { "GET", "HEAD", "PUT", "DELETE" };
    size_t mutating = 0;
    for (size_t i = 0; i < rig.pages->n; i++) {
        for (size_t k = 0; rig.pages->v[i].mutates && k < MZ_COUNT(methods); k++) {
            unsigned status;
            const char *type;
            (void)ask(methods[k], rig.pages->v[i].path, &status, &type);
            assert_int_equal(status, 405);
            mutating++;
        }
    }
    assert_true(mutating >= 40);
    assert_true(!rig.quit && !rig.drained && rig.healthy);
}

static enum mz_log_level level_of(enum mz_log_component c)
{
    return (enum mz_log_level)mz_log_levels[c];
}

static void test_logging(void **state)
{
    (void)state;
    unsigned status;
    const char *type;
    (void)ask("POST", "/logging?level=warning", &status, &type);
    assert_int_equal(level_of(MZ_LOG_C_router), MZ_LOG_WARN);
    (void)ask("POST", "/logging?http=trace", &status, &type);
    assert_true(level_of(MZ_LOG_C_http) == MZ_LOG_TRACE &&
                level_of(MZ_LOG_C_router) == MZ_LOG_WARN);
    (void)ask("POST", "/logging?paths=http:debug,router:error", &status, &type);
    assert_true(level_of(MZ_LOG_C_http) == MZ_LOG_DEBUG &&
                level_of(MZ_LOG_C_router) == MZ_LOG_ERROR);
    static const struct {
        const char *path, *why;
    } bad[] = {
        { "/logging?level=bogus", "error: unknown logger level\n" },
        { "/logging?nosuch=debug", "error: unknown logger name\n" },
        { "/logging?paths=http:info,nosuch:info", "error: unknown logger name\n" },
        { "/logging?paths=http", "error: empty logger name or empty logger level\n" },
        { "/logging?level=info&http=trace", "error: invalid number of parameters\n" },
        { "/logging?group=http:info", "error: group parameter requires" },
        { "/logging?header=x&level=debug", "error: a traced header or connection" },
        { "/logging?header=%3a&level=trace", "error: header must be" },
        { "/logging?connection=x", "error: connection must be the id" },
        { "/logging?connection=0", "error: connection must be the id" },
    };
    for (size_t i = 0; i < MZ_COUNT(bad); i++) {
        const char *text = ask("POST", bad[i].path, &status, &type);
        assert_int_equal(status, 400);
        assert_non_null(strstr(text, bad[i].why));
    }
    assert_int_equal(level_of(MZ_LOG_C_http), MZ_LOG_DEBUG); /* nothing of a bad list was done */
}

static void test_tracing(void **state)
{
    (void)state;
    unsigned status;
    char name[128], value[128];
    uint64_t conn;
    const char *type, *text = ask("POST", "/logging?header=X-Debug:1&level=trace", &status, &type);
    mz_trace_get(name, value, &conn);
    assert_string_equal(name, "x-debug");
    assert_string_equal(value, "1");
    assert_non_null(strstr(text, "traced header: x-debug:1\n"));
    (void)ask("POST", "/logging?paths=&level=trace&header=&connection=77", &status, &type);
    mz_trace_get(name, value, &conn);
    assert_int_equal(conn, 77);
    (void)ask("POST", "/logging?off", &status, &type);
    mz_trace_get(name, value, &conn);
    assert_true(!name[0] && !conn && status == 200);
}

/* One page for a person: each page is on it, what changes something is a form that POSTs, nothing comes from elsewhere. */
static void test_home(void **state)
{
    (void)state;
    unsigned status;
    char link[256];
    const char *type, *text = ask("GET", "/", &status, &type);
    assert_string_equal(type, PAGE_HTML);
    for (size_t i = 0; i < rig.pages->n; i++) {
        const struct mz_admin_page *p = &rig.pages->v[i];
        (void)snprintf(link, sizeof(link),
                       p->mutates ? "<form method=\"post\" action=\"%s\"" : "<a href=\"%s\">",
                       p->path);
        if (strcmp(p->path, "/") != 0 && !strstr(text, link))
            fail_msg("%s is not on the home page", p->path);
    }
    assert_null(strstr(text, "http://"));
    assert_null(strstr(text, "https://"));
    assert_null(strstr(text, "src="));
    assert_null(strstr(text, "<Clean>"));
    assert_non_null(strstr(text, "&lt;Clean&gt;"));
}

/* ---- masks on a message ---- */

static void test_masks(void **state)
{
    (void)state;
    static const struct {
        const char *paths, *json; /* NULL: refused */
    } cases[] = {
        { "name", "{\"name\":\"one\"}" },
        { "name,connect_timeout", "{\"name\":\"one\",\"connect_timeout\":\"1s\"}" },
        { "load_assignment.endpoints.priority",
          "{\"load_assignment\":{\"endpoints\":[{},{\"priority\":1}]}}" },
        { "connect_timeout.seconds", "{\"connect_timeout\":\"1s\"}" },
        { "type", "{\"type\":\"STRICT_DNS\"}" },
        { "circuit_breakers.thresholds", "{}" },
        { "nope", NULL },
        { "name.x", NULL },
        { "load_assignment.nope", NULL },
        { "load_assignment.endpoints.", NULL },
        { "", "{}" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_proto_ctx ctx = { .arena = rig.arena };
        ProtobufCMessage *m;
        struct mz_err err;
        struct mz_buf out;
        assert_true(mz_msg_from_text(
            &ctx,
            MZ_STR("{name: one, type: STRICT_DNS, connect_timeout: 1s, load_assignment: "
                   "{cluster_name: one, endpoints: [{}, {priority: 1}]}}"),
            MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err));
        bool ok = mask_apply(m, mz_str_c(cases[i].paths), rig.arena);
        assert_int_equal(ok, cases[i].json != NULL);
        mz_buf_init(&out);
        mz_msg_to_json(m, &out, 0);
        if (ok) {
            struct mz_str text = mz_buf_linearize(&out, mz_buf_len(&out));
            assert_string_equal(mz_arena_dup(rig.arena, text).p, cases[i].json);
        }
        mz_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_of_clusters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_actions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations_need_post, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logging, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tracing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_home, setup, teardown),
        cmocka_unit_test_setup_teardown(test_masks, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
