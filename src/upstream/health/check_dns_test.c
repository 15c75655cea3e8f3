/* Hosts of DNS clusters that are checked (U1, U6): one that is no longer named stays while its checks pass. */
#include "upstream/dns_cluster.c"

#include "base/test.h"

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;

static struct mz_cluster *begin(const char *more)
{
    char yaml[1024], text[512];
    struct mz_err err;
    loop = mz_loop_create("test");
    stats = mz_stats_create(2);
    const struct mz_upstream_env env = { .main = loop, .stats = stats };
    manager = mz_cluster_manager_create(&env);
    (void)snprintf(yaml, sizeof(yaml),
                   "name: x\n%shealth_checks: [{timeout: 60s, interval: 60s, unhealthy_threshold: "
                   "1, healthy_threshold: 1, initial_jitter: 600s, tcp_health_check: {}}]\n"
                   "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: "
                   "{address: {socket_address: {address: no.invalid, port_value: 1}}}}]}]}\n",
                   more);
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err) ||
        !mz_cluster_manager_add(manager, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                                false, &err))
        fail_msg("%s", mz_err_text(&err, text, sizeof(text)));
    mz_arena_destroy(ctx.arena);
    struct mz_upstream *u = mz_upstream_create(manager, loop);
    struct mz_cluster *c = mz_wcluster_info(mz_upstream_find(u, MZ_STR("x")));
    mz_upstream_destroy(u);
    return c;
}

static void end(void)
{
    mz_cluster_manager_destroy(manager);
    mz_loop_destroy(loop);
    mz_stats_destroy(stats);
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    assert_int_equal(c[MZ_MEM_UPSTREAM].objects, 0);
}

/* The name's answer: 127.0.0.<each character of @hosts>. */
static bool answer(struct target *t, const char *hosts)
{
    struct mz_dns_result v[8] = { 0 };
    size_t n = strlen(hosts);
    uint32_t added;
    for (size_t i = 0; i < n; i++) {
        char text[] = "127.0.0.x";
        text[8] = hosts[i];
        assert_true(mz_addr_parse_ip(mz_str_c(text), 0, &v[i].addr));
    }
    bool changed = take_answer(t, v, n, &added);
    if (changed)
        publish(t->d, added, true);
    return changed;
}

static uint32_t place(const struct target *t, char last) /* n_hosts: nowhere */
{
    uint32_t i = 0;
    while (i < t->n_hosts && t->hosts[i]->addr_text[8] != last)
        i++;
    return i;
}

static bool has(const struct target *t, char last)
{
    return place(t, last) < t->n_hosts;
}

static struct mz_host *host(const struct target *t, char last)
{
    assert_true(has(t, last));
    return t->hosts[place(t, last)];
}

#define WELL(t, last)    (host(t, last)->health_flags &= ~(uint32_t)MZ_HOST_FAILED_ACTIVE_HC)
#define UNWELL(t, last)  (host(t, last)->health_flags |= MZ_HOST_FAILED_ACTIVE_HC)
#define LEAVING(t, last) ((host(t, last)->health_flags & MZ_HOST_PENDING_REMOVAL) != 0)

static void test_stays_while_well(void **state)
{
    (void)state;
    struct mz_cluster *c = begin("type: STRICT_DNS\n");
    struct target *t = &cluster_priv(c)->dns->targets[0];
    assert_true(answer(t, "12"));
    assert_int_equal(host(t, '1')->health_flags, MZ_HOST_FAILED_ACTIVE_HC);
    WELL(t, '1');
    assert_false(answer(t, "2")); /* 1 stays: the same hosts */
    assert_true(LEAVING(t, '1'));
    assert_false(LEAVING(t, '2'));
    assert_false(answer(t, "12"));
    assert_false(LEAVING(t, '1'));
    (void)answer(t, "2");
    UNWELL(t, '1');
    assert_true(answer(t, "2"));
    assert_false(has(t, '1'));
    assert_int_equal(t->n_hosts, 1);
    end();
}

static void test_goes_at_once(void **state)
{
    (void)state;
    struct mz_cluster *c = begin("type: STRICT_DNS\nignore_health_on_host_removal: true\n");
    struct target *t = &cluster_priv(c)->dns->targets[0];
    assert_true(answer(t, "12"));
    WELL(t, '1');
    assert_true(answer(t, "2"));
    assert_false(has(t, '1'));
    end();
}

/* LOGICAL_DNS: the same host at another address is as well as before. */
static void test_moves(void **state)
{
    (void)state;
    struct mz_cluster *c = begin("type: LOGICAL_DNS\n");
    struct target *t = &cluster_priv(c)->dns->targets[0];
    assert_true(answer(t, "1"));
    WELL(t, '1');
    assert_true(answer(t, "2"));
    assert_false(has(t, '1'));
    assert_int_equal(host(t, '2')->health_flags, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stays_while_well),
        cmocka_unit_test(test_goes_at_once),
        cmocka_unit_test(test_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
