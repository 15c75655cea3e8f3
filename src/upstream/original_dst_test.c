/* ORIGINAL_DST (U1): who says where to, one host per address for all workers, cleaning, the bound on hosts. */
#include "base/clock.h"
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *workers[2]; /* both on one thread: posts arrive by turns */

static void turns(void)
{
    for (unsigned i = 0; i < 4; i++)
        mz_loop_turn(loop, 0);
}

static void rig_start(const char *options)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    struct mz_str yaml = mz_arena_printf(
        ctx.arena, "name: x\ntype: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n%s", options);
    assert_true(mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err));
    assert_true(mz_cluster_manager_add(manager, (const pb_Cluster *)m,
                                       mz_msg_pack_alloc(m, ctx.arena), false, &err));
    mz_arena_destroy(ctx.arena);
    for (unsigned i = 0; i < 2; i++)
        workers[i] = mz_upstream_create(manager, loop);
}

static void rig_stop(void)
{
    for (unsigned i = 0; i < 2; i++)
        mz_upstream_destroy(workers[i]);
    mz_cluster_manager_destroy(manager);
    turns();
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
}

static struct mz_host *choose(unsigned worker, struct mz_lb_ctx *ctx)
{
    struct mz_host *h = mz_wcluster_choose(mz_upstream_find(workers[worker], MZ_STR("x")), ctx);
    assert_non_null(ctx->why);
    return h;
}

static struct mz_host *choose_address(unsigned worker, const char *ip, uint16_t port)
{
    struct mz_addr a;
    assert_true(mz_addr_parse_ip(mz_str_c(ip), port, &a));
    struct mz_lb_ctx ctx = { .original_dst = &a };
    return choose(worker, &ctx);
}

static uint64_t value(const char *name)
{
    uint64_t v = UINT64_MAX;
    char text[128];
    snprintf(text, sizeof(text), "cluster.x.%s", name);
    return mz_stats_find(stats, mz_str_c(text), &v) ? v : UINT64_MAX;
}

static uint64_t members(void)
{
    return mz_cluster_member(mz_wcluster_info(mz_upstream_find(workers[0], MZ_STR("x"))),
                             MZ_CM_TOTAL);
}

#define HEADER "original_dst_lb_config: {use_http_header: true}\n"
#define OTHER  "original_dst_lb_config: {use_http_header: true, http_header_name: X-To}\n"
#define META                                                                                       \
    "original_dst_lb_config: {use_http_header: true, metadata_key: {key: ns, path: [{key: "        \
    "to}]}}\n"
static const struct {
    const char *name, *options, *header, *header_value, *metadata;
    bool destination; /* 10.1.1.1:99 */
    const char *host; /* NULL: none */
    unsigned invalid;
} cases[] = {
    { "the connection", "", NULL, NULL, NULL, true, "10.1.1.1:99", 0 },
    { "nobody says", "", NULL, NULL, NULL, false, NULL, 0 },
    { "header without permission", "", "x-envoy-original-dst-host", "10.0.0.1:80", NULL, true,
      "10.1.1.1:99", 0 },
    { "header", HEADER, "x-envoy-original-dst-host", "10.0.0.1:80", NULL, true, "10.0.0.1:80", 0 },
    { "header, IPv6", HEADER, "x-envoy-original-dst-host", "[::1]:80", NULL, false, "[::1]:80", 0 },
    { "header of another name", OTHER, "x-to", "10.0.0.1:80", NULL, false, "10.0.0.1:80", 0 },
    { "usual header, another was named", OTHER, "x-envoy-original-dst-host", "10.0.0.1:80", NULL,
      false, NULL, 0 },
    { "nonsense", HEADER, "x-envoy-original-dst-host", "nonsense", NULL, false, NULL, 1 },
    { "nonsense falls back to the connection", HEADER, "x-envoy-original-dst-host", "nonsense:80",
      NULL, true, "10.1.1.1:99", 1 },
    { "no port", HEADER, "x-envoy-original-dst-host", "10.0.0.1", NULL, false, NULL, 1 },
    { "port too large", HEADER, "x-envoy-original-dst-host", "10.0.0.1:65536", NULL, false, NULL,
      1 },
    { "port 0", HEADER, "x-envoy-original-dst-host", "10.0.0.1:0", NULL, false, NULL, 1 },
    { "empty", HEADER, "x-envoy-original-dst-host", "", NULL, false, NULL, 1 },
    { "IPv6 without brackets", HEADER, "x-envoy-original-dst-host", "::1:80", NULL, false, NULL,
      1 },
    { "IPv4 in brackets", HEADER, "x-envoy-original-dst-host", "[10.0.0.1]:80", NULL, false, NULL,
      1 },
    { "a blank", HEADER, "x-envoy-original-dst-host", "10.0.0.1:80 ", NULL, false, NULL, 1 },
    { "metadata wins", META, "x-envoy-original-dst-host", "10.0.0.1:80", "{to: '10.0.0.2:80'}",
      true, "10.0.0.2:80", 0 },
    { "metadata, the first of a list", META, NULL, NULL, "{to: ['10.0.0.2:80', x]}", false,
      "10.0.0.2:80", 0 },
    { "metadata of another kind", META, "x-envoy-original-dst-host", "10.0.0.1:80", "{to: 1}",
      false, "10.0.0.1:80", 0 },
    { "metadata is nonsense", META, NULL, NULL, "{to: x}", true, "10.1.1.1:99", 1 },
    { "port", "original_dst_lb_config: {upstream_port_override: 8080}\n", NULL, NULL, NULL, true,
      "10.1.1.1:8080", 0 },
};

static const struct mz_meta *meta(const char *fields, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    if (!fields)
        return NULL;
    struct mz_str yaml = mz_arena_printf(a, "filter_metadata: {ns: %s}", fields);
    assert_true(mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &pb_Metadata__descriptor, &m, &err));
    return mz_meta_build((const pb_Metadata *)m, a);
}

static void test_destination(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        rig_start(cases[i].options);
        struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
        struct mz_headers *h = mz_headers_create(a);
        struct mz_addr to;
        assert_true(mz_addr_parse_ip(MZ_STR("10.1.1.1"), 99, &to));
        if (cases[i].header)
            mz_headers_add(h, mz_str_c(cases[i].header), mz_str_c(cases[i].header_value));
        struct mz_lb_ctx ctx = { .headers = h,
                                 .request_metadata = meta(cases[i].metadata, a),
                                 .original_dst = cases[i].destination ? &to : NULL };
        const struct mz_host *host = choose(0, &ctx);
        struct mz_str got =
            host ? (struct mz_str){ host->addr_text, host->addr_text_n } : MZ_STR("-");
        if (!mz_str_eq(got, mz_str_c(cases[i].host ? cases[i].host : "-")))
            fail_msg("%s: host " MZ_STR_FMT, cases[i].name, MZ_STR_ARG(got));
        if (value("original_dst_host_invalid") != cases[i].invalid)
            fail_msg("%s: original_dst_host_invalid", cases[i].name);
        mz_arena_destroy(a);
        turns();
        rig_stop();
    }
}

static void test_one_host_for_all(void **state)
{
    (void)state;
    rig_start("");
    struct mz_host *h = choose_address(0, "10.0.0.1", 80), *other;
    assert_ptr_equal(choose_address(0, "10.0.0.1", 80), h); /* before main knew */
    other = choose_address(1, "10.0.0.1", 80);              /* made by both at once */
    assert_ptr_not_equal(other, h);
    assert_ptr_not_equal(choose_address(0, "10.0.0.1", 81), h);
    turns();
    assert_int_equal(members(), 3);
    assert_ptr_equal(choose_address(0, "10.0.0.1", 80), h);
    assert_ptr_equal(choose_address(1, "10.0.0.1", 80), h); /* the first one counts */
    assert_true(mz_str_eq(h->hostname, MZ_STR("x10.0.0.1:80")));
    rig_stop();
}

static uint64_t now_us = 1000000;
static uint64_t fake_now(void)
{
    return now_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static void wait_ms(uint64_t ms)
{
    now_us += ms * 1000;
    turns();
}

/* Chosen within the interval, or connected: stays. */
static void test_cleanup(void **state)
{
    (void)state;
    mz_clock = &fake_clock;
    rig_start("cleanup_interval: 2s\n");
    struct mz_host *a = choose_address(0, "10.0.0.1", 1), *b = choose_address(0, "10.0.0.2", 1);
    turns();
    assert_int_equal(members(), 2);
    wait_ms(2001); /* both were chosen since the start */
    assert_int_equal(members(), 2);
    __atomic_store_n(&a->stats.cx_active, 1, __ATOMIC_RELAXED);
    wait_ms(2001);
    assert_int_equal(members(), 1);
    assert_ptr_equal(choose_address(0, "10.0.0.1", 1), a);
    mz_host_ref(a);
    __atomic_store_n(&a->stats.cx_active, 0, __ATOMIC_RELAXED);
    wait_ms(2001);
    assert_int_equal(members(), 1);
    wait_ms(2001);
    assert_int_equal(members(), 0);
    assert_ptr_not_equal(choose_address(0, "10.0.0.1", 1), a);
    mz_host_unref(a);
    (void)b; /* gone */
    turns();
    rig_stop();
    mz_clock = &mz_clock_system;
}

/* Clients name the addresses: 65,536 of them at a time, and not more. */
static void test_bound(void **state)
{
    (void)state;
    mz_clock = &fake_clock;
    rig_start("cleanup_interval: 2s\n");
    for (unsigned i = 0; i < 65536; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "10.0.%u.%u", i >> 8, i & 255);
        assert_non_null(choose_address(i % 2, ip, 80));
    }
    assert_null(choose_address(0, "10.1.0.0", 80));
    assert_non_null(choose_address(0, "10.0.0.0", 80)); /* is known */
    turns();
    assert_int_equal(members(), 65536);
    wait_ms(2001);
    wait_ms(2001);
    assert_int_equal(members(), 0);
    assert_non_null(choose_address(0, "10.1.0.0", 80));
    turns();
    rig_stop();
    mz_clock = &mz_clock_system;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_destination),
        cmocka_unit_test(test_one_host_for_all),
        cmocka_unit_test(test_cleanup),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
