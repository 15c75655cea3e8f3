/* How changes of hosts reach the workers (U2): update_merge_window, close_connections_on_host_set_change. */
#include "base/clock.h"
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *upstream;
static struct mz_cluster *cluster;

static uint64_t now_us = 1000000000;
static uint64_t fake_now(void)
{
    return now_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static void pass_ms(uint64_t ms)
{
    now_us += ms * 1000;
    for (unsigned i = 0; i < 4; i++)
        mz_loop_turn(loop, 0);
}

static void rig_start(const char *common)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    mz_clock = &fake_clock;
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    upstream = mz_upstream_create(manager, loop);
    struct mz_str yaml = mz_arena_printf(
        ctx.arena,
        "name: x\ncommon_lb_config: {%s}\nload_assignment: {cluster_name: x, endpoints: "
        "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "
        "80}}}}]}]}\n",
        common);
    assert_true(mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err));
    assert_true(mz_cluster_manager_add(manager, (const pb_Cluster *)m,
                                       mz_msg_pack_alloc(m, ctx.arena), false, &err));
    mz_arena_destroy(ctx.arena);
    pass_ms(0);
    cluster = mz_wcluster_info(mz_upstream_find(upstream, MZ_STR("x")));
}

static void rig_stop(void)
{
    mz_upstream_destroy(upstream);
    mz_cluster_manager_destroy(manager);
    pass_ms(0);
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
    mz_clock = &mz_clock_system;
}

static uint64_t value(const char *name)
{
    uint64_t v = UINT64_MAX;
    char text[128];
    snprintf(text, sizeof(text), "cluster_manager.%s", name);
    return mz_stats_find(stats, mz_str_c(text), &v) ? v : UINT64_MAX;
}

/* Sick or not, as the worker's balancer sees it. */
static void set(bool sick)
{
    struct host_sets *s = cluster_sets(cluster);
    s->hosts[0]->health_flags = sick ? MZ_HOST_FAILED_ACTIVE_HC : 0;
    host_sets_unref(s);
    cluster_refresh_health(cluster);
    pass_ms(0);
}

static unsigned seen(void)
{
    struct mz_wcluster *w = mz_upstream_find(upstream, MZ_STR("x"));
    return w->lb.sets->v[0].lists[SOURCE_HEALTHY].n;
}

static void test_merged(void **state)
{
    (void)state;
    rig_start("");
    set(true); /* the first one for long: at once */
    assert_int_equal(seen(), 0);
    set(false); /* the next ones wait for a second, together */
    set(true);
    set(false);
    assert_int_equal(seen(), 0);
    pass_ms(999);
    assert_int_equal(seen(), 0);
    pass_ms(2);
    assert_int_equal(seen(), 1);
    assert_int_equal(value("cluster_updated"), 1);
    assert_int_equal(value("cluster_updated_via_merge"), 1);
    assert_int_equal(value("update_out_of_merge_window"), 1);
    pass_ms(1001);
    set(true);
    assert_int_equal(seen(), 0);
    assert_int_equal(value("update_out_of_merge_window"), 2);
    rig_stop();
}

static void test_not_merged(void **state)
{
    (void)state;
    rig_start("update_merge_window: 0s");
    for (unsigned i = 0; i < 4; i++) {
        set(i % 2 == 0);
        assert_int_equal(seen(), i % 2);
    }
    assert_int_equal(value("cluster_updated"), 4);
    assert_int_equal(value("update_out_of_merge_window"), 0);
    rig_stop();
}

/* Hosts that come or go cannot wait: what waited goes with them. */
static void test_cancelled(void **state)
{
    (void)state;
    rig_start("update_merge_window: 5s");
    set(true);
    set(false);
    assert_int_equal(seen(), 0);
    struct host_sets *s = cluster_sets(cluster);
    cluster_set_hosts(cluster, host_sets_again(s, s->seq + 1));
    host_sets_unref(s);
    pass_ms(0);
    assert_int_equal(seen(), 1);
    assert_int_equal(value("update_merge_cancelled"), 1);
    pass_ms(6000);
    assert_int_equal(value("cluster_updated_via_merge"), 0);
    set(true); /* waits, and the cluster goes meanwhile */
    set(false);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    pass_ms(6000);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged),
        cmocka_unit_test(test_not_merged),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
