/*
 * What share of requests each host gets under each policy (U2), against the exact probability. A count of n independent choices
 * of probability p has the deviation sqrt(n p (1 - p)); bounds are 6 of them, which chance alone exceeds once in 500 million.
 * Schedules (round robin, weights) are exact: within one pick of each host in every round.
 */
#include "base/test.h"
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"
#include <math.h>
#include <string.h>

#define CHOICES   40000
#define MAX_HOSTS 5
static struct mz_stats *stats;
static struct mz_cluster cluster;

struct row {
    uint32_t weight, priority, flags, active; /* weight 0 ends a table */
};
#define SICK MZ_HOST_FAILED_ACTIVE_HC
#define SLOW MZ_HOST_DEGRADED_ACTIVE_HC
enum kind { CHANCE, SCHEDULE };
static const struct {
    const char *name;
    const struct lb_type *type;
    enum kind kind;
    struct row rows[MAX_HOSTS + 1];
    uint32_t choices; /* of least request */
    bool full_scan;
    double bias;
    uint32_t panic;
    double share[MAX_HOSTS];
} cases[] = {
    { "round robin",
      &lb_round_robin,
      SCHEDULE,
      { { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 3, 1. / 3, 1. / 3 } },
    { "round robin, weights",
      &lb_round_robin,
      SCHEDULE,
      { { 1, 0, 0, 0 }, { 2, 0, 0, 0 }, { 5, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 8, 2. / 8, 5. / 8 } },
    { "random",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 9, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { .25, .25, .25, .25 } },
    /* The busy host is taken where each of the choices hit it: (1/n)^choices. */
    { "least request of 2",
      &lb_least_request,
      CHANCE,
      { { 1, 0, 0, 7 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 16, 5. / 16, 5. / 16, 5. / 16 } },
    { "least request of 4",
      &lb_least_request,
      CHANCE,
      { { 1, 0, 0, 7 }, { 1, 0, 0, 0 } },
      4,
      false,
      1,
      50,
      { 1. / 16, 15. / 16 } },
    /* Loads 2, 1, 0: the worst where both hit it, the best where any does. */
    { "least request, three loads",
      &lb_least_request,
      CHANCE,
      { { 1, 0, 0, 2 }, { 1, 0, 0, 1 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 9, 3. / 9, 5. / 9 } },
    { "least request of all",
      &lb_least_request,
      CHANCE,
      { { 1, 0, 0, 1 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      true,
      1,
      50,
      { 0, 1. / 3, 1. / 3, 1. / 3 } },
    { "least request, weights and load",
      &lb_least_request,
      SCHEDULE,
      { { 4, 0, 0, 1 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 2. / 4, 1. / 4, 1. / 4 } },
    { "least request, bias 2",
      &lb_least_request,
      SCHEDULE,
      { { 4, 0, 0, 1 }, { 1, 0, 0, 0 } },
      2,
      false,
      2,
      50,
      { 1. / 2, 1. / 2 } },
    { "least request, bias 0",
      &lb_least_request,
      SCHEDULE,
      { { 4, 0, 0, 1 }, { 1, 0, 0, 0 } },
      2,
      false,
      0,
      50,
      { 4. / 5, 1. / 5 } },
    { "sick hosts get nothing",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SICK, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { .5, 0, .5 } },
    /* Half of priority 0 is healthy: 50 % * 1.4 of the load stays. */
    { "priorities",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SICK, 0 }, { 1, 1, 0, 0 } },
      2,
      false,
      1,
      50,
      { .7, 0, .3 } },
    /* One of three healthy: 46 %; the degraded one takes 46 % of what is left, the second priority the rest. */
    { "degraded before the next priority",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SLOW, 0 }, { 1, 0, SICK, 0 } },
      2,
      false,
      1,
      0,
      { .46 / .92, .46 / .92, 0 } },
    { "degraded only where nobody is healthy enough",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SLOW, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 3, 0, 1. / 3, 1. / 3 } },
    { "panic",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SICK, 0 }, { 1, 0, SICK, 0 } },
      2,
      false,
      1,
      50,
      { 1. / 3, 1. / 3, 1. / 3 } },
    { "panic is off",
      &lb_random,
      CHANCE,
      { { 1, 0, 0, 0 }, { 1, 0, SICK, 0 }, { 1, 0, SICK, 0 } },
      2,
      false,
      1,
      0,
      { 1, 0, 0, 0 } },
    { "all in panic: by number of hosts",
      &lb_random,
      CHANCE,
      { { 1, 0, SICK, 0 }, { 1, 0, SICK, 0 }, { 1, 0, SICK, 0 }, { 1, 1, SICK, 0 } },
      2,
      false,
      1,
      50,
      { .25, .25, .25, .25 } },
};

struct rig {
    struct lb_config cfg;
    struct priority_opts opts;
    struct mz_rand rand;
    struct lb lb;
    struct mz_host *hosts[MAX_HOSTS];
    uint32_t n;
};

static void rig_start(struct rig *r, const struct row *rows, uint64_t seed)
{
    static const struct locality_spec places[] = { { .priority = 0 }, { .priority = 1 } };
    struct host_spec v[MAX_HOSTS];
    struct host_text t = { MZ_STR(""), NULL };
    for (r->n = 0; r->n < MAX_HOSTS && rows[r->n].weight; r->n++) {
        const struct row *row = &rows[r->n];
        struct mz_addr a;
        assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1 + r->n), &a));
        struct mz_host *h = host_create(&cluster, &a, &t, row->weight, row->priority);
        h->health_flags = row->flags;
        h->stats.rq_active = row->active;
        r->hosts[r->n] = h;
        v[r->n] = (struct host_spec){ h, row->priority };
    }
    mz_rand_init(&r->rand, seed);
    lb_init(&r->lb, &r->cfg, &r->opts, &r->rand, cluster.scope);
    lb_set_hosts(&r->lb, host_sets_create(v, r->n, places, 2, false, 1));
}

static void check(const char *name, uint64_t seed, unsigned got, double p, enum kind kind)
{
    double want = CHOICES * p,
           bound = kind == SCHEDULE ? 2 : 6 * sqrt(CHOICES * p * (1 - p)) + 1e-6;
    if (fabs(got - want) > bound)
        fail_msg("%s, seed %llu: %u, expected %g +- %g", name, (unsigned long long)seed, got, want,
                 bound);
}

static void test_shares(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            struct rig r = { .cfg = { .type = cases[i].type,
                                      .choice_count = cases[i].choices,
                                      .full_scan = cases[i].full_scan,
                                      .active_request_bias = cases[i].bias },
                             .opts = { .overprovisioning = 140,
                                       .panic_threshold = cases[i].panic } };
            unsigned n[MAX_HOSTS] = { 0 };
            rig_start(&r, cases[i].rows, seed);
            for (unsigned k = 0; k < CHOICES; k++) {
                struct mz_lb_ctx ctx = { 0 };
                const struct mz_host *h = lb_choose(&r.lb, &ctx);
                assert_non_null(h);
                n[mz_addr_port(&h->addr) - 1]++;
            }
            for (uint32_t h = 0; h < r.n; h++)
                check(cases[i].name, seed, n[h], cases[i].share[h], cases[i].kind);
            lb_fini(&r.lb);
        }
}

/* The same seed gives the same hosts, another one others: tests can inject it. */
static void test_seed(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 1, 0, 0, 0 }, { 0, 0, 0, 0 }
    };
    unsigned char got[3][64];
    for (unsigned i = 0; i < 3; i++) {
        struct rig r = { .cfg = { .type = &lb_random }, .opts = { .overprovisioning = 140 } };
        rig_start(&r, rows, i == 2 ? 8 : 7);
        for (unsigned k = 0; k < 64; k++) {
            struct mz_lb_ctx ctx = { 0 };
            got[i][k] = (unsigned char)mz_addr_port(&lb_choose(&r.lb, &ctx)->addr);
        }
        lb_fini(&r.lb);
    }
    assert_memory_equal(got[0], got[1], 64);
    assert_memory_not_equal(got[0], got[2], 64);
}

/* Locality weights 1 and 3: exact, and less for the locality whose hosts are half sick (1.4 * 1/2 of its weight). */
static void test_localities(void **state)
{
    (void)state;
    static const struct locality_spec places[] = { { .zone = MZ_STR_INIT("a"), .weight = 1 },
                                                   { .zone = MZ_STR_INIT("b"), .weight = 3 } };
    for (unsigned sick = 0; sick < 2; sick++) {
        struct rig r = { .cfg = { .type = &lb_round_robin, .locality_weighted = true },
                         .opts = { .overprovisioning = 140, .panic_threshold = 50 } };
        struct host_spec v[4];
        unsigned in_b = 0;
        for (uint32_t i = 0; i < 4; i++) {
            struct mz_addr a;
            struct host_text t = { MZ_STR(""), &places[i / 2] };
            assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1 + i), &a));
            v[i] = (struct host_spec){ host_create(&cluster, &a, &t, 1, 0), i / 2 };
        }
        v[3].host->health_flags = sick ? SICK : 0;
        mz_rand_init(&r.rand, 3);
        lb_init(&r.lb, &r.cfg, &r.opts, &r.rand, cluster.scope);
        lb_set_hosts(&r.lb, host_sets_create(v, 4, places, 2, true, 1));
        for (unsigned k = 0; k < CHOICES; k++) {
            struct mz_lb_ctx ctx = { 0 };
            in_b += lb_choose(&r.lb, &ctx)->zone.p[0] == 'b';
        }
        check("locality b", 3, in_b, sick ? 2.1 / 3.1 : 3. / 4, SCHEDULE);
        lb_fini(&r.lb);
    }
}

/*
 * One of n hosts leaves. Of its keys all move, of the others few: Maglev's share of slots that change without need is about
 * 1 % at 20 hosts and 65,537 slots (less than 2 % here); a ring keeps every point that it had, and only the points that the
 * others gain, because the ring is filled up to its size again, take keys from them.
 */
static void test_who_moves(void **state)
{
    (void)state;
    enum { HOSTS = 20, KEYS = 20000 };
    static const struct {
        const struct lb_type *type;
        struct hash_config hash;
        double most; /* share of the others' keys that may move */
    } policies[] = {
        /* 20 hosts of 52 points (1,040), then 19 of 54 (1,026): 2 of 54 points are new. */
        { &lb_ring_hash, { .min_size = 1024, .max_size = 8u << 20 }, 2. / 54 },
        { &lb_maglev, { .table_size = 65537 }, 0.02 },
    };
    static const struct locality_spec place = { .priority = 0 };
    for (size_t i = 0; i < MZ_COUNT(policies); i++) {
        const struct lb_config cfg = { .type = policies[i].type, .hash = policies[i].hash };
        struct host_sets *sets[2];
        struct host_spec v[HOSTS];
        struct host_text t = { MZ_STR(""), NULL };
        for (uint32_t h = 0; h < HOSTS; h++) {
            struct mz_addr a;
            assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1 + h), &a));
            v[h] = (struct host_spec){ host_create(&cluster, &a, &t, 1, 0), 0 };
        }
        sets[0] = host_sets_create(v, HOSTS, &place, 1, false, 1);
        for (uint32_t h = 0; h < HOSTS - 1; h++)
            mz_host_ref(v[h].host);
        sets[1] = host_sets_create(v, HOSTS - 1, &place, 1, false, 2);
        unsigned gone = 0, moved = 0;
        struct mz_rand rand;
        mz_rand_init(&rand, 17);
        for (unsigned k = 0; k < KEYS; k++) {
            uint64_t hash = mz_rand_u64(&rand);
            const struct mz_host *was =
                hash_table_choose(&cfg, hash_table_of(&cfg, &sets[0]->v[0], SOURCE_ALL), hash, 0);
            const struct mz_host *is =
                hash_table_choose(&cfg, hash_table_of(&cfg, &sets[1]->v[0], SOURCE_ALL), hash, 0);
            gone += was == v[HOSTS - 1].host;
            moved += was != v[HOSTS - 1].host && was != is;
        }
        double p = policies[i].most, bound = KEYS * p + 6 * sqrt(KEYS * p * (1 - p));
        print_message("%s: %u keys of the host that left, %u others of %d moved\n",
                      policies[i].type->name, gone, moved, KEYS);
        assert_true(moved <= bound);
        /* A ring of 52 points a host is uneven: its share has the deviation 1/sqrt(52) of itself. */
        double uneven = policies[i].type == &lb_ring_hash ? 1. / 20 / sqrt(52) : 0;
        double off = 6 * (KEYS * uneven + sqrt(KEYS * (1. / 20) * (19. / 20)));
        assert_true(fabs(gone - KEYS / 20.) <= off);
        host_sets_unref(sets[0]);
        host_sets_unref(sets[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_localities),
        cmocka_unit_test(test_who_moves),
    };
    stats = mz_stats_create(1);
    cluster.scope = mz_scope_create(stats, &mz_cluster_stats, MZ_STR("cluster.x."));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mz_scope_unref(cluster.scope);
    mz_stats_destroy(stats);
    return failed;
}
