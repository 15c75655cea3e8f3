/* Clusters that sleep (design.md 3.6): who does, what is shown of them, and first uses from several threads at once. */
#include "base/test.h"
#include "upstream/cluster_names.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;

static void rig_start(unsigned workers)
{
    loop = mz_loop_create("main");
    stats = mz_stats_create(1 + workers);
    const struct mz_upstream_env env = { .main = loop,
                                         .stats = stats,
                                         .local_cluster = MZ_STR("here") };
    manager = mz_cluster_manager_create(&env);
}

static void turn(void)
{
    for (unsigned i = 0; i < 4; i++)
        mz_loop_turn(loop, 0);
}

static void rig_stop(void)
{
    mz_cluster_manager_destroy(manager);
    turn();
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
}

#define ONE_HOST                                                                                   \
    "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: "         \
    "{socket_address: {address: 127.0.0.1, port_value: 80}}}}]}]}\n"

static enum mz_cluster_change set(const char *yaml)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err))
        fail_msg("%s: %s", yaml, err.msg);
    enum mz_cluster_change change = mz_cluster_manager_set(
        manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena), MZ_STR("v1"), &err);
    mz_arena_destroy(ctx.arena);
    return change;
}

static bool sleeps(const char *name)
{
    assert_true(mz_cluster_manager_has(manager, mz_str_c(name)));
    return !cluster_look(manager, mz_str_c(name));
}

static struct mz_str page(struct mz_buf *b, bool clusters)
{
    const struct mz_stats_query q = { 0 };
    mz_buf_init(b);
    if (clusters)
        mz_cluster_manager_text(manager, b);
    else
        mz_stats_text(stats, &q, b);
    return mz_buf_linearize(b, mz_buf_len(b));
}

static const struct {
    const char *what, *yaml;
    bool sleeps;
} cases[] = {
    { "plain", ONE_HOST, true },
    { "without hosts", "type: STATIC\n", true },
    { "consistent hashing", "lb_policy: MAGLEV\n" ONE_HOST, true },
    { "checks",
      "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, "
      "tcp_health_check: {}}]\n" ONE_HOST,
      false },
    { "outlier detection", "outlier_detection: {}\n" ONE_HOST, false },
    { "subsets", "lb_subset_config: {subset_selectors: [{keys: [a]}]}\n" ONE_HOST, false },
    { "breakers that tell what remains",
      "circuit_breakers: {thresholds: [{track_remaining: true}]}\n" ONE_HOST, false },
    { "another name for statistics", "alt_stat_name: other\n" ONE_HOST, true },
    { "matches", "transport_socket_matches: [{name: m, match: {a: b}}]\n" ONE_HOST, true },
    { "the destination", "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n", false },
};

/* What pages tell of a cluster does not depend on whether it sleeps; a look does not wake it. */
static void test_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_buf before[2], after[2];
        char yaml[512];
        rig_start(0);
        snprintf(yaml, sizeof(yaml), "name: x\n%s", cases[i].yaml);
        assert_int_equal(set(yaml), MZ_CLUSTER_CHANGED);
        turn();
        if (sleeps("x") != cases[i].sleeps)
            fail_msg("%s", cases[i].what);
        for (unsigned k = 0; k < 2; k++)
            (void)page(&before[k], k);
        if (sleeps("x") != cases[i].sleeps)
            fail_msg("%s: woken by a page", cases[i].what);
        const struct mz_cluster *c = cluster_find(manager, MZ_STR("x"));
        assert_non_null(c);
        assert_false(sleeps("x"));
        turn();
        for (unsigned k = 0; k < 2; k++) {
            (void)page(&after[k], k);
            struct mz_str a = mz_buf_linearize(&before[k], mz_buf_len(&before[k])),
                          b = mz_buf_linearize(&after[k], mz_buf_len(&after[k]));
            if (cases[i].sleeps && !mz_str_eq(a, b)) /* others have their checks meanwhile */
                fail_msg("%s:\n" MZ_STR_FMT "\nis now\n" MZ_STR_FMT, cases[i].what, MZ_STR_ARG(a),
                         MZ_STR_ARG(b));
            assert_true(a.n > 300);
            mz_buf_fini(&before[k]);
            mz_buf_fini(&after[k]);
        }
        rig_stop();
    }
}

static void test_local_cluster(void **state)
{
    (void)state;
    rig_start(0);
    assert_int_equal(set("name: here\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    assert_false(sleeps("here"));
    rig_stop();
}

/* A cluster that was used stays awake over updates; one that was not does not. What ends is used to its end. */
static void test_replaced(void **state)
{
    (void)state;
    rig_start(0);
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    assert_int_equal(set("name: a\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    assert_int_equal(set("name: b\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    turn();
    struct mz_wcluster *w = mz_wcluster_ref(mz_upstream_find(u, MZ_STR("a")));
    assert_int_equal(set("name: a\nconnect_timeout: 7s\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    assert_int_equal(set("name: b\nconnect_timeout: 7s\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    assert_false(sleeps("a"));
    assert_true(sleeps("b"));
    assert_int_equal(mz_wcluster_info(w)->connect_timeout_ms, 5000);
    turn();
    assert_int_equal(mz_wcluster_info(mz_upstream_find(u, MZ_STR("a")))->connect_timeout_ms, 7000);
    assert_int_equal(mz_wcluster_info(mz_upstream_find(u, MZ_STR("b")))->connect_timeout_ms, 7000);
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("a")));
    turn();
    assert_null(mz_upstream_find(u, MZ_STR("a")));
    /* One of its name comes while the first still serves: they share statistics, so it does not sleep. */
    assert_int_equal(set("name: a\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    assert_false(sleeps("a"));
    mz_wcluster_unref(w);
    mz_upstream_destroy(u);
    rig_stop();
}

/* A worker that did not hear yet that a cluster has gone makes an object for itself alone. */
static void test_gone(void **state)
{
    (void)state;
    rig_start(0);
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    assert_int_equal(set("name: a\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    turn();
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("a")));
    struct mz_wcluster *w = mz_upstream_find(u, MZ_STR("a"));
    struct mz_lb_ctx ctx = { 0 };
    assert_non_null(w);
    assert_non_null(mz_wcluster_choose(w, &ctx));
    turn();
    assert_null(mz_upstream_find(u, MZ_STR("a")));
    mz_upstream_destroy(u);
    rig_stop();
}

static void test_reset(void **state)
{
    (void)state;
    struct mz_buf b;
    rig_start(0);
    assert_int_equal(set("name: a\n" ONE_HOST), MZ_CLUSTER_CHANGED);
    struct mz_str text = page(&b, false);
    assert_non_null(memmem(text.p, text.n, "cluster.a.membership_change: 1\n", 31));
    mz_buf_fini(&b);
    mz_stats_reset_counters(stats);
    for (unsigned i = 0; i < 2; i++) { /* asleep, awake */
        text = page(&b, false);
        assert_non_null(memmem(text.p, text.n, "cluster.a.membership_change: 0\n", 31));
        assert_non_null(memmem(text.p, text.n, "cluster.a.membership_total: 1\n", 30));
        mz_buf_fini(&b);
        (void)cluster_find(manager, MZ_STR("a"));
        turn();
    }
    rig_stop();
}

/* ---- first uses on several threads, while main replaces, removes and shows ---- */
enum { WORKERS = 3, CLUSTERS = 150 };
struct worker {
    pthread_t thread;
    struct mz_loop *loop;
    struct mz_upstream *upstream;
    const struct mz_cluster *found[CLUSTERS];
};

static void find_all(struct mz_loop *l, void *arg)
{
    (void)l;
    struct worker *w = arg;
    for (unsigned i = 0; i < CLUSTERS; i++) {
        char name[16];
        struct mz_lb_ctx ctx = { 0 };
        snprintf(name, sizeof(name), "c%u", i);
        struct mz_wcluster *c = mz_upstream_find(w->upstream, mz_str_c(name));
        if (c && mz_wcluster_choose(c, &ctx))
            w->found[i] = mz_wcluster_info(c);
    }
}

static void stop_worker(struct mz_loop *l, void *arg)
{
    mz_upstream_destroy(((struct worker *)arg)->upstream);
    mz_loop_stop(l);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    mz_stats_thread_slot(mz_loop_worker(w->loop));
    mz_loop_run(w->loop);
    return NULL;
}

static void set_all(unsigned seconds)
{
    for (unsigned i = 0; i < CLUSTERS; i++) {
        char yaml[512];
        snprintf(yaml, sizeof(yaml), "name: c%u\nconnect_timeout: %us\n" ONE_HOST, i, seconds);
        assert_int_equal(set(yaml), MZ_CLUSTER_CHANGED);
    }
    turn();
}

static void test_threads(void **state)
{
    (void)state;
    struct worker v[WORKERS] = { 0 };
    rig_start(WORKERS);
    set_all(1);
    for (unsigned i = 0; i < WORKERS; i++) {
        v[i].loop = mz_loop_create("worker");
        mz_loop_set_worker(v[i].loop, i + 1);
        v[i].upstream = mz_upstream_create(manager, v[i].loop);
        assert_int_equal(pthread_create(&v[i].thread, NULL, work, &v[i]), 0);
    }
    for (unsigned round = 0; round < 4; round++) {
        struct mz_buf b;
        for (unsigned i = 0; i < WORKERS; i++)
            mz_loop_post(v[i].loop, find_all, &v[i]);
        (void)page(&b, round % 2);
        mz_buf_fini(&b);
        if (round < 3)
            set_all(round + 2);
        assert_int_equal(mz_cluster_manager_remove(manager, MZ_STR("c7")), round < 3);
        turn();
    }
    for (unsigned i = 0; i < WORKERS; i++)
        mz_loop_post(v[i].loop, find_all, &v[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        mz_loop_post(v[i].loop, stop_worker, &v[i]);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(v[i].thread, NULL);
        mz_loop_destroy(v[i].loop);
    }
    turn();
    for (unsigned i = 0; i < CLUSTERS; i++)
        for (unsigned k = 1; k < WORKERS && i != 7; k++) {
            assert_non_null(v[0].found[i]);
            assert_ptr_equal(v[0].found[i], v[k].found[i]); /* one object for all of them */
        }
    uint64_t members = 0;
    assert_true(mz_stats_find(stats, MZ_STR("cluster.c9.membership_total"), &members));
    assert_int_equal(members, 1);
    rig_stop();
}

int main(void)
{
    mz_stats_thread_slot(0);
    mz_log_set_all(MZ_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shown),    cmocka_unit_test(test_local_cluster),
        cmocka_unit_test(test_replaced), cmocka_unit_test(test_gone),
        cmocka_unit_test(test_reset),    cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
