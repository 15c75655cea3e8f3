/* Aggregate clusters (U1, H03): the row of priorities, failover between clusters, cycles, changes of the inner ones. */
#include "base/test.h"
#include "upstream/upstream_priv.h"
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *upstream;

static void turns(void)
{
    for (unsigned i = 0; i < 4; i++)
        mz_loop_turn(loop, 0);
}

static bool add(const char *yaml, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    bool ok =
        mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               false, err);
    mz_arena_destroy(ctx.arena);
    turns();
    return ok;
}

#define AGGREGATE(name, names)                                                                     \
    "name: " name "\nlb_policy: CLUSTER_PROVIDED\ncluster_type: {name: envoy.clusters.aggregate, " \
    "typed_config: {'@type': "                                                                     \
    "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [" names  \
    "]}}\n"
#define AT(port, status)                                                                           \
    "{health_status: " status ", endpoint: {address: {socket_address: {address: 127.0.0.1, "       \
    "port_value: " #port "}}}}"
#define CLUSTER(name, endpoints)                                                                   \
    "name: " name "\ncommon_lb_config: {update_merge_window: 0s}\nload_assignment: "               \
    "{cluster_name: x, endpoints: [" endpoints "]}\n"

static void rig_start(void)
{
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    upstream = mz_upstream_create(manager, loop);
}

static void rig_stop(void)
{
    mz_upstream_destroy(upstream);
    mz_cluster_manager_destroy(manager);
    turns();
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
}

/* The ports of many choices: how often each of 1..9, [0]: none. */
static void count(unsigned out[10], struct mz_str *out_where)
{
    memset(out, 0, 10 * sizeof(*out));
    for (unsigned i = 0; i < 1000; i++) {
        struct mz_lb_ctx ctx = { 0 };
        struct mz_wcluster *w = mz_upstream_find(upstream, MZ_STR("all"));
        const struct mz_host *h = mz_wcluster_choose(w, &ctx);
        assert_non_null(ctx.why);
        out[h ? mz_addr_port(&h->addr) : 0]++;
        if (h)
            assert_true(mz_str_eq(wcluster_of(w, h)->cluster->name, h->cluster->name));
        *out_where = ctx.where;
    }
}

static void set_flags(const char *name, uint32_t flags)
{
    struct mz_cluster *c = cluster_find(manager, mz_str_c(name));
    struct host_sets *s = cluster_sets(c);
    for (uint32_t i = 0; i < s->n_hosts; i++)
        s->hosts[i]->health_flags = flags;
    host_sets_unref(s);
    cluster_refresh_health(c);
    turns();
}

static void test_row(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_str where;
    unsigned n[10];
    rig_start();
    assert_true(add(AGGREGATE("all", "one, missing, two"), &err));
    count(n, &where);
    assert_int_equal(n[0], 1000);
    assert_true(add(CLUSTER("two", "{lb_endpoints: [" AT(5, "HEALTHY") "]}"), &err));
    count(n, &where);
    assert_int_equal(n[5], 1000);
    /* Two priorities: the second serves where the first has nobody. */
    assert_true(add(
        CLUSTER("one", "{lb_endpoints: [" AT(1, "HEALTHY") "]}, {priority: 1, "
                                                           "lb_endpoints: [" AT(2, "HEALTHY") "]}"),
        &err));
    count(n, &where);
    assert_int_equal(n[1], 1000);
    assert_true(mz_str_eq(where, MZ_STR("cluster one, its priority 0")));
    set_flags("one", MZ_HOST_FAILED_ACTIVE_HC);
    count(n, &where);
    assert_int_equal(n[5], 1000); /* another cluster rather than panic */
    assert_true(mz_str_eq(where, MZ_STR("cluster two, its priority 0")));
    set_flags("two", MZ_HOST_FAILED_ACTIVE_HC);
    count(n, &where);
    assert_int_equal(n[0], 0); /* all are in panic: by number of hosts, a third each */
    assert_in_range(n[1], 334 - 90, 334 + 90); /* 6 deviations: sqrt(1000 * 1/3 * 2/3) is 14.9 */
    assert_in_range(n[2], 333 - 90, 333 + 90);
    assert_in_range(n[5], 333 - 90, 333 + 90);
    set_flags("one", MZ_HOST_DEGRADED_ACTIVE_HC);
    count(n, &where);
    assert_int_equal(n[1], 1000); /* degraded, but there */
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("one")));
    turns();
    set_flags("two", 0);
    count(n, &where);
    assert_int_equal(n[5], 1000);
    rig_stop();
}

/* Half of the first cluster's hosts are gone: it takes 50 % * 1.4 = 70 % of the load. */
static void test_partial(void **state)
{
    (void)state;
    struct mz_err err;
    struct mz_str where;
    unsigned n[10];
    rig_start();
    assert_true(add(
        CLUSTER("one", "{lb_endpoints: [" AT(1, "HEALTHY") ", " AT(2, "UNHEALTHY") "]}"), &err));
    assert_true(add(CLUSTER("two", "{lb_endpoints: [" AT(5, "HEALTHY") "]}"), &err));
    assert_true(add(AGGREGATE("all", "one, two"), &err));
    count(n, &where);
    assert_in_range(n[1], 700 - 87, 700 + 87); /* 6 deviations: sqrt(1000 * 0.7 * 0.3) is 14.5 */
    assert_int_equal(n[1] + n[5], 1000);
    rig_stop();
}

static void test_cycles(void **state)
{
    (void)state;
    struct mz_err err;
    rig_start();
    assert_false(add(AGGREGATE("self", "self"), &err));
    assert_string_equal(err.msg, "aggregate clusters form a cycle: self -> self");
    assert_string_equal(err.path, "cluster_type.typed_config.clusters");
    assert_true(add(AGGREGATE("a", "b, c"), &err));
    assert_true(add(AGGREGATE("c", "d"), &err));
    assert_false(add(AGGREGATE("d", "x, a"), &err));
    assert_string_equal(err.msg, "aggregate clusters form a cycle: d -> a -> c -> d");
    assert_true(add(AGGREGATE("d", "x"), &err));
    /* A deep lattice has many ways and no cycle: each cluster is looked at once. */
    for (unsigned i = 0; i < 60; i++) {
        char yaml[512];
        snprintf(yaml, sizeof(yaml), AGGREGATE("l%u", "l%u, l%u, l%u"), i, i + 1, i + 2, i + 3);
        assert_true(add(yaml, &err));
    }
    assert_false(add(AGGREGATE("l60", "l0"), &err));
    rig_stop();
}

static void test_config(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *error;
    } cases[] = {
        { AGGREGATE("a", ""), "clusters" },
        { "name: a\ncluster_type: {name: envoy.clusters.foo}\n",
          "Didn't find a registered cluster factory implementation for name: "
          "'envoy.clusters.foo'" },
        { "name: a\nlb_policy: CLUSTER_PROVIDED\ncluster_type: {name: envoy.clusters.aggregate}\n",
          "cluster_type.typed_config: is required" },
        { AGGREGATE("a", "b") "load_assignment: {cluster_name: x}\n",
          "load_assignment: an aggregate cluster has the hosts of its inner clusters only" },
    };
    struct mz_err err;
    char text[1600];
    rig_start();
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        assert_false(add(cases[i].yaml, &err));
        if (!strstr(mz_err_text(&err, text, sizeof(text)), cases[i].error))
            fail_msg("case %zu: %s", i, text);
    }
    assert_false(
        add("name: a\ncluster_type: {name: envoy.clusters.aggregate, typed_config: {'@type': "
            "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, "
            "clusters: [b]}}\n",
            &err));
    assert_non_null(
        strstr(err.msg, "cluster provided LB not specified but cluster 'a' provided one"));
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
