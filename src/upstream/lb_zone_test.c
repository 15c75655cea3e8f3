/*
 * Zone aware routing and slow start (U2). Shares are checked against their exact probabilities: a count of n choices with
 * probability p may be 6 deviations away from n * p, which happens by chance once in 500 million.
 */
#include "base/clock.h"
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <math.h>
#include <string.h>

#define CHOICES 20000
#define ZONES   3
static struct mz_stats *stats;
static struct mz_cluster cluster;

static void check_share(const char *name, unsigned got, double p)
{
    double off = fabs(got - CHOICES * p), bound = 6 * sqrt(CHOICES * p * (1 - p)) + 1e-9;
    if (off > bound)
        fail_msg("%s: %u of %d, expected %g +- %g", name, got, CHOICES, CHOICES * p, bound);
}

/* Hosts per zone: those that are healthy, and those that are not. */
static struct host_sets *sets_of(const unsigned healthy[ZONES], const unsigned sick[ZONES],
                                 uint32_t weight_of_first, uint64_t seq)
{
    static const struct locality_spec places[ZONES] = { { .zone = MZ_STR_INIT("a") },
                                                        { .zone = MZ_STR_INIT("b") },
                                                        { .zone = MZ_STR_INIT("c") } };
    struct host_spec v[64];
    uint32_t n = 0;
    for (uint32_t z = 0; z < ZONES; z++)
        for (unsigned i = 0; i < healthy[z] + (sick ? sick[z] : 0); i++, n++) {
            struct mz_addr a;
            struct host_text t = { MZ_STR(""), &places[z] };
            assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1000 + n), &a));
            struct mz_host *h = host_create(&cluster, &a, &t, z == 0 ? weight_of_first : 1, 0);
            h->health_flags = i < healthy[z] ? 0 : MZ_HOST_FAILED_ACTIVE_HC;
            v[n] = (struct host_spec){ h, z };
        }
    return host_sets_create(v, n, places, ZONES, true, seq);
}

struct rig {
    struct lb_config cfg;
    struct priority_opts opts;
    struct mz_rand rand;
    struct lb lb, local;
    struct lb_site site;
};

static void rig_start(struct rig *r, struct host_sets *hosts, struct host_sets *local)
{
    *r = (struct rig){ .cfg = { .type = &lb_round_robin,
                                .choice_count = 2,
                                .zone = { .routing_enabled = 100, .min_cluster_size = 1 } },
                       .opts = { .overprovisioning = 140, .panic_threshold = 50 },
                       .site = { .here = { .zone = MZ_STR("a") } } };
    cluster.scope = mz_scope_create(stats, &mz_cluster_stats, MZ_STR("cluster.x."));
    mz_rand_init(&r->rand, 11);
    lb_init(&r->lb, &r->cfg, &r->opts, &r->rand, cluster.scope);
    lb_init(&r->local, &r->cfg, &r->opts, &r->rand, cluster.scope);
    r->lb.site = &r->site;
    r->site.local = &r->local;
    lb_set_hosts(&r->lb, hosts);
    lb_set_hosts(&r->local, local);
}

static void rig_stop(struct rig *r)
{
    lb_fini(&r->lb);
    lb_fini(&r->local);
    mz_scope_unref(cluster.scope);
}

static uint64_t value(enum mz_cluster_stat s)
{
    return mz_scope_value(cluster.scope, s);
}

static void count(struct rig *r, unsigned out[ZONES], unsigned *out_none, struct mz_str *out_where)
{
    memset(out, 0, ZONES * sizeof(*out));
    *out_none = 0;
    for (unsigned i = 0; i < CHOICES; i++) {
        struct mz_lb_ctx ctx = { 0 };
        const struct mz_host *h = lb_choose(&r->lb, &ctx);
        assert_non_null(ctx.why);
        if (h)
            out[h->zone.p[0] - 'a']++;
        else
            ++*out_none;
        *out_where = ctx.where;
    }
}

/* Expected shares of zones; -1 in the first: no host at all. */
static const struct {
    const char *name;
    unsigned hosts[ZONES], sick[ZONES], local[ZONES], local_sick[ZONES];
    uint32_t first_weight, enabled, force;
    uint64_t min;
    bool by_weight, fail;
    double share[ZONES];
    const char *where;
    enum mz_cluster_stat
        counted; /* as often as there are choices, or once where it is of a calculation */
    bool each;
} cases[] = {
    { "as many here as proxies",
      { 4, 4, 4 },
      { 0 },
      { 2, 2, 2 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 1, 0, 0 },
      "zone aware: all within this zone",
      MZ_CS_LB_ZONE_ROUTING_ALL_DIRECTLY,
      true },
    /* Proxies: 50 % here. Hosts: 20 % here, so 40 % stay; the rest goes by spare capacity: b 50 - 25, c 30 - 25. */
    { "too few here",
      { 2, 5, 3 },
      { 0 },
      { 2, 1, 1 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.4, 0.6 * 25 / 30, 0.6 * 5 / 30 },
      "zone aware: 60 % cross zone",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "nobody here",
      { 0, 6, 4 },
      { 0 },
      { 2, 1, 1 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0, 35.0 / 50, 15.0 / 50 },
      "zone aware: 100 % cross zone",
      MZ_CS_LB_ZONE_ROUTING_CROSS_ZONE,
      true },
    { "only healthy hosts count",
      { 2, 5, 3 },
      { 2, 0, 0 },
      { 2, 1, 1 },
      { 1, 0, 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.4, 0.6 * 25 / 30, 0.6 * 5 / 30 },
      "zone aware: 60 % cross zone",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "half of the requests by zone",
      { 5, 5, 0 },
      { 0 },
      { 1, 1, 0 },
      { 0 },
      1,
      50,
      0,
      1,
      false,
      false,
      { 0.75, 0.25, 0 },
      NULL,
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "switched off",
      { 5, 5, 0 },
      { 0 },
      { 1, 1, 0 },
      { 0 },
      1,
      0,
      0,
      1,
      false,
      false,
      { 0.5, 0.5, 0 },
      "",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "too small a cluster",
      { 2, 2, 1 },
      { 0 },
      { 1, 1, 1 },
      { 0 },
      1,
      100,
      0,
      6,
      false,
      false,
      { 0.4, 0.4, 0.2 },
      "",
      MZ_CS_LB_ZONE_CLUSTER_TOO_SMALL,
      false },
    { "one locality",
      { 4, 0, 0 },
      { 0 },
      { 1, 1, 1 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 1, 0, 0 },
      "",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "proxies in one locality",
      { 1, 3, 0 },
      { 0 },
      { 3, 0, 0 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.25, 0.75, 0 },
      "",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "proxies in one locality, forced",
      { 1, 3, 0 },
      { 0 },
      { 3, 0, 0 },
      { 0 },
      1,
      100,
      1,
      1,
      false,
      false,
      { 1, 0, 0 },
      "zone aware: all within this zone",
      MZ_CS_LB_ZONE_ROUTING_ALL_DIRECTLY,
      true },
    { "forced, but too few here",
      { 1, 3, 0 },
      { 0 },
      { 2, 2, 0 },
      { 0 },
      1,
      100,
      2,
      1,
      false,
      false,
      { 0.5, 0.5, 0 },
      "zone aware: 50 % cross zone",
      MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES,
      false },
    { "no proxy here",
      { 1, 3, 0 },
      { 0 },
      { 0, 2, 2 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.25, 0.75, 0 },
      "",
      MZ_CS_LB_LOCAL_CLUSTER_NOT_OK,
      false },
    { "proxies in panic",
      { 1, 3, 0 },
      { 0 },
      { 1, 1, 0 },
      { 2, 2, 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.25, 0.75, 0 },
      "",
      MZ_CS_LB_LOCAL_CLUSTER_NOT_OK,
      true },
    { "proxies in panic, fail",
      { 1, 3, 0 },
      { 0 },
      { 1, 1, 0 },
      { 2, 2, 0 },
      1,
      100,
      0,
      1,
      false,
      true,
      { -1, 0, 0 },
      "",
      MZ_CS_LB_LOCAL_CLUSTER_NOT_OK,
      true },
    { "hosts in panic",
      { 1, 1, 0 },
      { 3, 3, 0 },
      { 1, 1, 0 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      false,
      { 0.5, 0.5, 0 },
      "",
      MZ_CS_LB_HEALTHY_PANIC,
      true },
    { "hosts in panic, fail",
      { 1, 1, 0 },
      { 3, 3, 0 },
      { 1, 1, 0 },
      { 0 },
      1,
      100,
      0,
      1,
      false,
      true,
      { -1, 0, 0 },
      "",
      MZ_CS_LB_HEALTHY_PANIC,
      true },
    /* By number 1 of 4 is here; the weight of 3 makes it one half. */
    { "shares by weight",
      { 1, 3, 0 },
      { 0 },
      { 2, 6, 0 },
      { 0 },
      3,
      100,
      0,
      1,
      true,
      false,
      { 1, 0, 0 },
      "zone aware: all within this zone",
      MZ_CS_LB_ZONE_ROUTING_ALL_DIRECTLY,
      true },
};

static void test_zones(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct rig r;
        unsigned n[ZONES], none;
        struct mz_str where;
        rig_start(&r, sets_of(cases[i].hosts, cases[i].sick, cases[i].first_weight, 1),
                  sets_of(cases[i].local, cases[i].local_sick, 1, 1));
        r.cfg.zone = (struct zone_config){ cases[i].enabled, cases[i].force, cases[i].min,
                                           cases[i].fail, cases[i].by_weight };
        count(&r, n, &none, &where);
        bool nobody = cases[i].share[0] < 0;
        assert_int_equal(none, nobody ? CHOICES : 0);
        for (unsigned z = 0; z < ZONES && !nobody; z++)
            check_share(cases[i].name, n[z], cases[i].share[z]);
        if (cases[i].where && !mz_str_eq(where, mz_str_c(cases[i].where)))
            fail_msg("%s: where '" MZ_STR_FMT "'", cases[i].name, MZ_STR_ARG(where));
        if (value(cases[i].counted) != (cases[i].each ? CHOICES : 1))
            fail_msg("%s: counted %llu", cases[i].name,
                     (unsigned long long)value(cases[i].counted));
        rig_stop(&r);
    }
}

/* The proxies' cluster changes: shares follow, nothing is calculated otherwise. */
static void test_local_cluster_changes(void **state)
{
    (void)state;
    static const unsigned even[ZONES] = { 2, 2, 0 }, here[ZONES] = { 3, 1, 0 };
    struct rig r;
    unsigned n[ZONES], none;
    struct mz_str where;
    rig_start(&r, sets_of(even, NULL, 1, 1), sets_of(even, NULL, 1, 1));
    count(&r, n, &none, &where);
    assert_int_equal(n[0], CHOICES);
    lb_set_hosts(&r.local, sets_of(here, NULL, 1, 2));
    count(&r, n, &none, &where); /* 75 % of the proxies, 50 % of the hosts: two of three stay */
    check_share("stays", n[0], 0.6666);
    assert_int_equal(value(MZ_CS_LB_RECALCULATE_ZONE_STRUCTURES), 2);
    assert_int_equal(value(MZ_CS_LB_ZONE_ROUTING_SAMPLED) + value(MZ_CS_LB_ZONE_ROUTING_CROSS_ZONE),
                     CHOICES);
    r.site.local = NULL; /* removed */
    count(&r, n, &none, &where);
    check_share("all alike", n[0], 0.5);
    rig_stop(&r);
}

/* ---- slow start ---- */

static uint64_t now_us = 1000000000;
static uint64_t fake_now(void)
{
    return now_us;
}
static const struct mz_clock fake_clock = { fake_now, fake_now };

static const struct {
    const char *name;
    const struct lb_type *type;
    uint32_t old_weight, new_weight;
    unsigned age_ms; /* of a window of 10 s */
    double aggression, least;
    double factor;
} slow_cases[] = {
    { "at first the least", &lb_round_robin, 1, 1, 0, 1, 0.1, 0.1 },
    { "half of the window", &lb_round_robin, 1, 1, 5000, 1, 0.1, 0.5 },
    { "quick at first", &lb_round_robin, 1, 1, 2500, 2, 0.1, 0.5 },
    { "slow at first", &lb_round_robin, 1, 1, 5000, 0.5, 0.1, 0.25 },
    { "weights count too", &lb_round_robin, 1, 4, 2500, 1, 0.1, 0.25 },
    { "least request", &lb_least_request, 1, 1, 5000, 1, 0.1, 0.5 },
    { "no aggression is one", &lb_round_robin, 1, 1, 5000, 0, 0.1, 0.5 },
    { "nothing at least", &lb_round_robin, 1, 1, 0, 1, 0, 0.0001 },
    { "the window is over", &lb_round_robin, 1, 1, 10000, 1, 0.1, 1 },
};

static void test_slow_start(void **state)
{
    (void)state;
    static const unsigned one[ZONES] = { 1, 1, 0 };
    mz_clock = &fake_clock;
    for (size_t i = 0; i < MZ_COUNT(slow_cases); i++) {
        const struct slow_start slow = { .window_us = 10000000,
                                         .aggression = slow_cases[i].aggression,
                                         .min_weight = slow_cases[i].least };
        struct rig r;
        unsigned n[ZONES], none;
        struct mz_str where;
        rig_start(&r, sets_of(one, NULL, 1, 1), sets_of(one, NULL, 1, 1));
        r.lb.site = NULL;
        r.cfg.type = slow_cases[i].type;
        r.cfg.slow = &slow;
        struct host_sets *s = sets_of(one, NULL, slow_cases[i].old_weight, 2);
        s->hosts[0]->healthy_since_us = 1;
        s->hosts[1]->weight = slow_cases[i].new_weight;
        now_us += 1000ull * slow_cases[i].age_ms;
        struct host_sets *again = host_sets_again(s, 3); /* the weights are other ones now */
        host_sets_unref(s);
        lb_set_hosts(&r.lb, again);
        count(&r, n, &none, &where);
        double w = slow_cases[i].new_weight * slow_cases[i].factor;
        double want = CHOICES * w / (w + slow_cases[i].old_weight);
        if (fabs(n[1] - want) > 2) /* a schedule, no chance */
            fail_msg("%s: %u, expected %g", slow_cases[i].name, n[1], want);
        rig_stop(&r);
    }
    mz_clock = &mz_clock_system;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_local_cluster_changes),
        cmocka_unit_test(test_slow_start),
    };
    stats = mz_stats_create(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mz_stats_destroy(stats);
    return failed;
}
