#include "base/test.h"

#include "filters/network/tcp_proxy.h"
#include "proto/mapper.h"

/* The TcpProxy message as configuration (L6): defaults, weights, metadata of both levels. */

struct built {
    struct mz_arena *a;
    struct mz_stats *stats;
    struct tcp_cfg *c; /* NULL: err */
    struct mz_err err;
};

static void build(struct built *b, const char *yaml)
{
    *b = (struct built){ .a = mz_arena_create(MZ_MEM_CONFIG), .stats = mz_stats_create(1) };
    struct mz_proto_ctx ctx = { .arena = b->a };
    struct mz_factory f = { .stats = b->stats, .proto = &ctx };
    ProtobufCMessage *m;
    if (mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_TcpProxy__descriptor, &m, &b->err))
        b->c = tcp_config_build(m, &f, &b->err);
}

static void drop(struct built *b)
{
    tcp_config_destroy(b->c);
    mz_stats_destroy(b->stats);
    mz_arena_destroy(b->a);
}

static void test_defaults(void **state)
{
    (void)state;
    struct built b;
    build(&b, "{stat_prefix: t, cluster: one}");
    assert_non_null(b.c);
    assert_int_equal(b.c->idle_ms, 3600000);
    assert_int_equal(b.c->max_attempts, 1);
    assert_int_equal(b.c->max_duration_ms + b.c->log_interval_ms + b.c->backoff_base_ms, 0);
    assert_false(b.c->hash_source_ip);
    assert_true(mz_str_eq(b.c->scope->prefix, MZ_STR("tcp.t.")));
    assert_true(mz_str_eq(tcp_config_choose(b.c, 12345)->name, MZ_STR("one")));
    drop(&b);
}

static void test_given(void **state)
{
    (void)state;
    struct built b;
    build(&b, "{stat_prefix: t, cluster: one, idle_timeout: 0s, max_connect_attempts: 3, "
              "backoff_options: {base_interval: 2s},"
              " hash_policy: [{source_ip: {}}], max_downstream_connection_duration: 1.5s,"
              " max_downstream_connection_duration_jitter_percentage: {value: 20},"
              " access_log_options: {access_log_flush_interval: 2s, flush_access_log_on_connected: "
              "true}}");
    assert_non_null(b.c);
    assert_int_equal(b.c->idle_ms, 0);
    assert_int_equal(b.c->max_attempts, 3);
    assert_int_equal(b.c->backoff_base_ms, 2000);
    assert_int_equal(b.c->backoff_max_ms, 20000);
    assert_int_equal(b.c->duration_jitter_ms, 300);
    assert_int_equal(b.c->max_duration_ms, 1500);
    assert_int_equal(b.c->log_interval_ms, 2000);
    assert_true(b.c->hash_source_ip && b.c->log_on_connected);
    drop(&b);
}

static void test_weights(void **state)
{
    (void)state;
    struct built b;
    build(&b, "{stat_prefix: t, weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, "
              "weight: 4294967295},"
              " {name: c, weight: 2}]}}");
    assert_non_null(b.c);
    static const struct {
        uint64_t random;
        const char *name;
    } cases[] = {
        { 0, "a" },           { 1, "b" },           { 4294967295u, "b" },
        { 4294967296u, "c" }, { 4294967297u, "c" }, { 4294967298u, "a" }, /* round again */
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        assert_true(
            mz_str_eq(tcp_config_choose(b.c, cases[i].random)->name, mz_str_c(cases[i].name)));
    drop(&b);
}

static const char *lb_key(const struct mz_meta *m, const char *key)
{
    const struct mz_str path = mz_str_c(key);
    const struct mz_value *v = mz_meta_get(m, MZ_STR("envoy.lb"), &path, 1);
    return v ? v->str.p : NULL;
}

static void test_metadata(void **state)
{
    (void)state;
    struct built b;
    build(&b,
          "{stat_prefix: t, metadata_match: {filter_metadata: {envoy.lb: {zone: z1, version: v1}}},"
          " weighted_clusters: {clusters: [{name: a, weight: 1},"
          " {name: b, weight: 1, metadata_match: {filter_metadata: {envoy.lb: {version: v2, "
          "canary: x}}}}]}}");
    assert_non_null(b.c);
    const struct mz_meta *a = b.c->clusters[0].metadata_match,
                         *own = b.c->clusters[1].metadata_match;
    assert_string_equal(lb_key(a, "version"), "v1");
    assert_null(lb_key(a, "canary"));
    assert_string_equal(lb_key(own, "zone"), "z1");    /* of all */
    assert_string_equal(lb_key(own, "version"), "v2"); /* its own wins */
    assert_string_equal(lb_key(own, "canary"), "x");
    drop(&b);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *path, *text;
    } cases[] = {
        { "{stat_prefix: t}", "", "cluster_specifier" },
        { "{stat_prefix: t, weighted_clusters: {clusters: [{name: a, weight: 0}]}}",
          "weighted_clusters.clusters[0].weight", "" },
        { "{stat_prefix: t, cluster: one, max_connect_attempts: 0}", "max_connect_attempts", "" },
        { "{stat_prefix: t, cluster: one, idle_timeout: -1s}", "idle_timeout", "" },
        { "{stat_prefix: t, cluster: one, backoff_options: {base_interval: 2s, max_interval: 1s}}",
          "backoff_options", "max_backoff_interval must be greater" },
        { "{stat_prefix: t, cluster: one, access_log_flush_interval: 1s, access_log_options: {}}",
          "", "Only one of" },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct built b;
        build(&b, cases[i].yaml);
        assert_null(b.c);
        if (!strstr(b.err.msg, cases[i].text) ||
            strncmp(b.err.path, cases[i].path, strlen(cases[i].path)) != 0)
            fail_msg("%s: %s: %s", cases[i].yaml, b.err.path, b.err.msg);
        drop(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_given),
        cmocka_unit_test(test_weights),  cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
