/* Choice of hosts (U2): distribution by policy and weight, priorities, panic, localities, retries of the choice. */
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <string.h>

#define MAX_HOSTS 8
static struct mz_stats *stats;
static struct mz_cluster cluster;

struct rig {
    struct lb_config cfg;
    struct priority_opts opts;
    struct mz_rand rand;
    struct lb lb;
    struct mz_host *hosts[MAX_HOSTS]; /* borrowed */
    unsigned n;
};
struct host_row { /* weight 0 ends a table */
    uint32_t weight, priority, locality, flags;
};

static void rig_start(struct rig *r, const struct lb_type *type, const struct host_row *rows,
                      const struct locality_spec *loc, uint32_t n_loc)
{
    static const struct locality_spec plain[] = { { .priority = 0 },
                                                  { .priority = 1 },
                                                  { .priority = 2 } };
    struct host_spec specs[MAX_HOSTS];
    uint32_t priorities = 1;
    struct host_text text = { MZ_STR(""), NULL };
    r->cfg.type = type;
    r->cfg.choice_count = r->cfg.choice_count ? r->cfg.choice_count : 2;
    r->cfg.active_request_bias = 1;
    r->opts.overprovisioning = r->opts.overprovisioning ? r->opts.overprovisioning : 140;
    mz_rand_init(&r->rand, 7);
    for (r->n = 0; rows[r->n].weight; r->n++) {
        struct mz_addr a;
        assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1000 + r->n), &a));
        const struct host_row *row = &rows[r->n];
        if (loc)
            text.locality = &loc[row->locality];
        r->hosts[r->n] = host_create(&cluster, &a, &text, row->weight, row->priority);
        r->hosts[r->n]->health_flags = row->flags;
        specs[r->n] = (struct host_spec){ r->hosts[r->n], loc ? row->locality : row->priority };
        priorities = row->priority >= priorities ? row->priority + 1 : priorities;
    }
    lb_init(&r->lb, &r->cfg, &r->opts, &r->rand, cluster.scope);
    lb_set_hosts(&r->lb, host_sets_create(specs, r->n, loc ? loc : plain, loc ? n_loc : priorities,
                                          loc != NULL, 1));
}

static int rig_index(const struct rig *r, const struct mz_host *h)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->hosts[i] == h)
            return (int)i;
    return -1;
}

static void rig_count(struct rig *r, unsigned picks, unsigned out_counts[MAX_HOSTS])
{
    memset(out_counts, 0, MAX_HOSTS * sizeof(*out_counts));
    for (unsigned i = 0; i < picks; i++) {
        struct mz_lb_ctx ctx = { 0 };
        int at = rig_index(r, lb_choose(&r->lb, &ctx));
        assert_non_null(ctx.why);
        if (at >= 0)
            out_counts[at]++;
    }
}

#define SICK     MZ_HOST_FAILED_EDS
#define DEGRADED MZ_HOST_DEGRADED_EDS
#define DRAINING MZ_HOST_DRAINING_EDS
static const struct {
    const char *name;
    const struct lb_type *type;
    struct host_row rows[MAX_HOSTS];
    uint32_t overprovisioning, panic;
    unsigned picks, want[MAX_HOSTS], slack; /* slack: allowed difference from want */
} share_cases[] = {
    { "round robin, equal",
      &lb_round_robin,
      { { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      0,
      50,
      9,
      { 3, 3, 3 },
      0 },
    { "round robin, weights",
      &lb_round_robin,
      { { 1, 0, 0, 0 }, { 2, 0, 0, 0 }, { 3, 0, 0, 0 } },
      0,
      50,
      12,
      { 2, 4, 6 },
      0 },
    { "one host", &lb_round_robin, { { 5, 0, 0, 0 } }, 0, 50, 4, { 4 }, 0 },
    { "random", &lb_random, { { 1, 0, 0, 0 }, { 9, 0, 0, 0 } }, 0, 50, 10000, { 5000, 5000 }, 300 },
    { "least request, idle",
      &lb_least_request,
      { { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      0,
      50,
      10000,
      { 5000, 5000 },
      300 },
    { "least request, weights",
      &lb_least_request,
      { { 1, 0, 0, 0 }, { 4, 0, 0, 0 } },
      0,
      50,
      1000,
      { 200, 800 },
      1 },
    { "sick hosts are left out",
      &lb_round_robin,
      { { 1, 0, 0, SICK }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      0,
      50,
      10,
      { 0, 5, 5 },
      0 },
    { "degraded waits for need",
      &lb_round_robin,
      { { 1, 0, 0, DEGRADED }, { 1, 0, 0, DRAINING }, { 1, 0, 0, 0 } },
      300,
      50,
      5,
      { 0, 0, 5 },
      0 },
    { "degraded takes what is left",
      &lb_round_robin,
      { { 1, 0, 0, DEGRADED }, { 1, 0, 0, 0 } },
      100,
      50,
      10000,
      { 5000, 5000 },
      300 },
    { "panic uses all",
      &lb_round_robin,
      { { 1, 0, 0, SICK }, { 1, 0, 0, SICK } },
      0,
      50,
      4,
      { 2, 2 },
      0 },
    { "no panic at threshold 0", &lb_round_robin, { { 1, 0, 0, SICK } }, 0, 0, 4, { 0 }, 0 },
    { "fail over to priority 1",
      &lb_round_robin,
      { { 1, 0, 0, SICK }, { 1, 1, 0, 0 } },
      0,
      50,
      4,
      { 0, 4 },
      0 },
    { "priority 0 alone when healthy",
      &lb_round_robin,
      { { 1, 0, 0, 0 }, { 1, 1, 0, 0 } },
      0,
      50,
      8,
      { 8, 0 },
      0 },
    { "half of priority 0: 70 percent stay",
      &lb_round_robin,
      { { 1, 0, 0, 0 }, { 1, 0, 0, SICK }, { 1, 1, 0, 0 } },
      0,
      50,
      10000,
      { 7000, 0, 3000 },
      300 },
    { "total panic: by number of hosts",
      &lb_round_robin,
      { { 1, 0, 0, SICK }, { 1, 1, 0, SICK }, { 1, 1, 0, SICK }, { 1, 1, 0, SICK } },
      0,
      50,
      10000,
      { 2500, 2500, 2500, 2500 },
      300 },
    { "no hosts", &lb_round_robin, { { 0, 0, 0, 0 } }, 0, 50, 3, { 0 }, 0 },
};

static void test_shares(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(share_cases); i++) {
        struct rig r = { .opts = { .overprovisioning = share_cases[i].overprovisioning,
                                   .panic_threshold = share_cases[i].panic } };
        unsigned got[MAX_HOSTS];
        rig_start(&r, share_cases[i].type, share_cases[i].rows, NULL, 0);
        rig_count(&r, share_cases[i].picks, got);
        for (unsigned h = 0; h < MAX_HOSTS; h++)
            if (got[h] + share_cases[i].slack < share_cases[i].want[h] ||
                got[h] > share_cases[i].want[h] + share_cases[i].slack)
                fail_msg("%s: host %u got %u, expected %u", share_cases[i].name, h, got[h],
                         share_cases[i].want[h]);
        lb_fini(&r.lb);
    }
}

static void test_loads(void **state)
{
    (void)state;
    static const struct {
        struct host_row rows[MAX_HOSTS];
        uint32_t healthy[3], degraded[3];
    } cases[] = {
        { { { 1, 0, 0, 0 }, { 1, 1, 0, 0 } }, { 100, 0 }, { 0 } },
        { { { 1, 0, 0, 0 }, { 1, 0, 0, SICK }, { 1, 1, 0, 0 } }, { 70, 30 }, { 0 } },
        { { { 1, 0, 0, 0 }, { 1, 0, 0, DEGRADED }, { 1, 1, 0, SICK } }, { 70, 0 }, { 30, 0 } },
        { { { 1, 0, 0, SICK },
            { 1, 1, 0, SICK },
            { 1, 1, 0, 0 },
            { 1, 1, 0, SICK },
            { 1, 2, 0, SICK },
            { 1, 2, 0, SICK },
            { 1, 2, 0, 0 } },
          { 0, 51, 49 },
          { 0 } }, /* 46 % each; 100*46/92 = 50, one percent of rounding to the first */
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct rig r = { .opts = { .panic_threshold = 0 } };
        rig_start(&r, &lb_round_robin, cases[i].rows, NULL, 0);
        for (uint32_t p = 0; p < r.lb.sets->n; p++) {
            if (i == 3) { /* rounding differs by at most one */
                assert_true(r.lb.loads[p].healthy + 1 >= cases[i].healthy[p] &&
                            r.lb.loads[p].healthy <= cases[i].healthy[p] + 1);
                continue;
            }
            assert_int_equal(r.lb.loads[p].healthy, cases[i].healthy[p]);
            assert_int_equal(r.lb.loads[p].degraded, cases[i].degraded[p]);
        }
        lb_fini(&r.lb);
    }
}

static void test_least_request_takes_the_idle_one(void **state)
{
    (void)state;
    static const struct host_row rows[] = { { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 0, 0, 0, 0 } };
    struct rig r = { .cfg = { .choice_count = 30 } };
    unsigned got[MAX_HOSTS];
    rig_start(&r, &lb_least_request, rows, NULL, 0);
    r.hosts[0]->stats.rq_active = 1;
    rig_count(&r, 50, got);
    assert_int_equal(got[1], 50);
    lb_fini(&r.lb);
}

static void test_localities(void **state)
{
    (void)state;
    static const struct locality_spec loc[] = { { .zone = MZ_STR_INIT("a"), .weight = 1 },
                                                { .zone = MZ_STR_INIT("b"), .weight = 3 },
                                                { .zone = MZ_STR_INIT("c"), .weight = 0 } };
    static const struct host_row rows[] = {
        { 1, 0, 0, 0 }, { 1, 0, 1, 0 }, { 1, 0, 1, 0 }, { 1, 0, 2, 0 }, { 0, 0, 0, 0 }
    };
    struct rig r = { .cfg = { .locality_weighted = true } };
    unsigned got[MAX_HOSTS];
    rig_start(&r, &lb_round_robin, rows, loc, 3);
    rig_count(&r, 800, got);
    assert_in_range(got[0], 199, 201);
    assert_in_range(got[1], 299, 301);
    assert_in_range(got[2], 299, 301);
    assert_int_equal(got[3], 0);
    lb_fini(&r.lb);
}

static bool avoid_first(void *arg, const struct mz_host *h)
{
    struct rig *r = arg;
    return h == r->hosts[0];
}

static void test_avoid(void **state)
{
    (void)state;
    static const struct host_row rows[] = { { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 0, 0, 0, 0 } };
    struct rig r = { .opts = { .panic_threshold = 50 } };
    rig_start(&r, &lb_round_robin, rows, NULL, 0);
    for (int i = 0; i < 6; i++) {
        struct mz_lb_ctx ctx = { .avoid = avoid_first, .avoid_arg = &r, .avoid_attempts = 3 };
        assert_ptr_equal(lb_choose(&r.lb, &ctx), r.hosts[1]);
    }
    struct mz_lb_ctx once = { .avoid = avoid_first, .avoid_arg = &r, .avoid_attempts = 0 };
    assert_non_null(lb_choose(&r.lb, &once));
    lb_fini(&r.lb);
}

static void test_update_keeps_the_round(void **state)
{
    (void)state;
    static const struct host_row rows[] = {
        { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 0, 0, 0, 0 }
    };
    struct rig r = { .opts = { .panic_threshold = 50 } };
    static const struct locality_spec loc = { .priority = 0 };
    struct mz_lb_ctx ctx = { 0 };
    rig_start(&r, &lb_round_robin, rows, NULL, 0);
    int first = rig_index(&r, lb_choose(&r.lb, &ctx));
    struct host_spec specs[3];
    for (unsigned i = 0; i < 3; i++)
        specs[i] = (struct host_spec){ mz_host_ref(r.hosts[i]), 0 };
    lb_set_hosts(&r.lb, host_sets_create(specs, 3, &loc, 1, false, 2));
    assert_int_equal(rig_index(&r, lb_choose(&r.lb, &ctx)), (first + 1) % 3);
    lb_fini(&r.lb);
}

static void test_host_flags(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        const char *text;
        enum mz_host_health health;
    } cases[] = {
        { 0, "healthy", MZ_HOST_HEALTHY },
        { DEGRADED, "/degraded_eds_health", MZ_HOST_DEGRADED },
        { DRAINING, "/eds_status_draining", MZ_HOST_UNHEALTHY },
        { MZ_HOST_FAILED_OUTLIER, "/failed_outlier_check", MZ_HOST_UNHEALTHY },
        { MZ_HOST_FAILED_ACTIVE_HC | SICK, "/failed_active_hc/failed_eds_health",
          MZ_HOST_UNHEALTHY },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_buf b;
        mz_buf_init(&b);
        host_flags_text(cases[i].flags, &b);
        struct mz_str got = mz_buf_linearize(&b, mz_buf_len(&b));
        assert_true(mz_str_eq(got, mz_str_c(cases[i].text)));
        const struct mz_host h = { .health_flags = cases[i].flags };
        assert_int_equal(mz_host_health(&h), cases[i].health);
        mz_buf_fini(&b);
    }
}

static int start(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    stats = mz_stats_create(1);
    cluster.scope = mz_scope_create(stats, &mz_cluster_stats, MZ_STR("cluster.one."));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mz_scope_unref(cluster.scope);
    mz_stats_destroy(stats);
    mz_slice_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    return c[MZ_MEM_UPSTREAM].objects != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_least_request_takes_the_idle_one),
        cmocka_unit_test(test_localities),
        cmocka_unit_test(test_avoid),
        cmocka_unit_test(test_update_keeps_the_round),
        cmocka_unit_test(test_host_flags),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
