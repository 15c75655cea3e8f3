/* Ring hash and Maglev (U2): the same choices as Envoy, shares by weight, stability, bounded load, speed. */
#include "base/clock.h"
#include "base/test.h"
#include "event/loop.h"
#include "upstream/upstream_priv.h"
#include <math.h>

static struct mz_stats *stats;
static struct mz_cluster cluster;

struct rig {
    struct lb_config cfg;
    struct hash_gauges gauges;
    struct host_sets *sets;
};
struct rig_opts {
    const struct lb_type *type;
    uint32_t n, first_port;
    const uint32_t *weights;  /* NULL: 1 each */
    const uint32_t *locality; /* index of each host; NULL: all in the first */
    uint32_t locality_weights[2];
    struct hash_config hash;
};

static void rig_start(struct rig *r, const struct rig_opts *o)
{
    struct host_spec *specs = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, o->n);
    const struct locality_spec loc[2] = { { .zone = MZ_STR("a"), .weight = o->locality_weights[0] },
                                          { .zone = MZ_STR("b"),
                                            .weight = o->locality_weights[1] } };
    struct host_text text = { MZ_STR(""), NULL };
    *r = (struct rig){
        .cfg = { .type = o->type, .hash = o->hash, .locality_weighted = o->locality != NULL }
    };
    r->gauges.scope = mz_scope_create(stats, o->type->stats, MZ_STR("cluster.one.lb."));
    r->cfg.hash.gauges = &r->gauges;
    for (uint32_t i = 0; i < o->n; i++) {
        struct mz_addr a;
        assert_true(mz_addr_parse_ip(MZ_STR("127.0.0.1"), (uint16_t)(o->first_port + i), &a));
        uint32_t weight = o->weights ? o->weights[i] : 1;
        text.locality = &loc[o->locality ? o->locality[i] : 0];
        specs[i] = (struct host_spec){ host_create(&cluster, &a, &text, weight, 0),
                                       o->locality ? o->locality[i] : 0 };
    }
    r->sets = host_sets_create(specs, o->n, loc, 2, o->locality != NULL, 1);
    mz_free(MZ_MEM_UPSTREAM, specs);
}

static void rig_stop(struct rig *r)
{
    host_sets_unref(r->sets);
    mz_scope_unref(r->gauges.scope);
}

static const struct hash_table *rig_table(struct rig *r)
{
    return hash_table_of(&r->cfg, &r->sets->v[0], SOURCE_ALL);
}

static unsigned port_of(const struct mz_host *h)
{
    return mz_addr_port(&h->addr);
}

/* Six hosts and a ring of 12: the points that Envoy's own test names for these addresses. */
static void test_ring_is_envoys(void **state)
{
    (void)state;
    static const struct {
        uint64_t hash;
        unsigned port;
    } points[] = {
        { 833437586790550860u, 94 },   { 928266305478181108u, 92 },   { 1033482794131418490u, 90 },
        { 3551244743356806947u, 95 },  { 3851675632748031481u, 93 },  { 5583722120771150861u, 91 },
        { 6311230543546372928u, 91 },  { 7700377290971790572u, 93 },  { 13144177310400110813u, 95 },
        { 13444792449719432967u, 92 }, { 15516499411664133160u, 94 }, { 16117243373044804889u, 90 },
    };
    struct rig r;
    rig_start(&r, &(struct rig_opts){ .type = &lb_ring_hash,
                                      .n = 6,
                                      .first_port = 90,
                                      .hash = { .min_size = 12, .max_size = 1u << 23 } });
    const struct hash_table *t = rig_table(&r);
    assert_int_equal(t->n, MZ_COUNT(points));
    for (size_t i = 0; i < MZ_COUNT(points); i++) {
        assert_true(t->ring[i].hash == points[i].hash);
        assert_int_equal(port_of(hash_table_choose(&r.cfg, t, points[i].hash, 0)), points[i].port);
        unsigned next = points[(i + 1) % MZ_COUNT(points)].port;
        assert_int_equal(port_of(hash_table_choose(&r.cfg, t, points[i].hash + 1, 0)), next);
        assert_int_equal(port_of(hash_table_choose(&r.cfg, t, points[i].hash, 1)), next);
    }
    assert_int_equal(mz_scope_value(r.gauges.scope, 0), 12);
    assert_int_equal(mz_scope_value(r.gauges.scope, 1), 2);
    assert_int_equal(mz_scope_value(r.gauges.scope, 2), 2);
    rig_stop(&r);
}

static void test_maglev_is_envoys(void **state)
{
    (void)state;
    static const unsigned ports[] = { 92, 94, 90, 91, 95, 90, 93 };
    struct rig r;
    rig_start(&r, &(struct rig_opts){
                      .type = &lb_maglev, .n = 6, .first_port = 90, .hash = { .table_size = 7 } });
    for (size_t i = 0; i < MZ_COUNT(ports); i++)
        assert_int_equal(port_of(hash_table_choose(&r.cfg, rig_table(&r), i + 7 * i, 0)), ports[i]);
    assert_int_equal(mz_scope_value(r.gauges.scope, 0), 1);
    assert_int_equal(mz_scope_value(r.gauges.scope, 1), 2);
    rig_stop(&r);
}

static void test_murmur2(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t hash;
    } cases[] = { /* as libstdc++ 12 hashes strings */
                  { "", 6142509188972423790u },
                  { "a", 4993892634952068459u },
                  { "10.0.0.1:80_0", 13659246566588789388u },
                  { "10.0.0.1:80_12", 14295024824828376086u },
                  { "12345678", 10113836418918046885u }
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        assert_true(mz_murmur2(cases[i].text, strlen(cases[i].text), 0xc70f6907u) == cases[i].hash);
}

static const struct hash_config big = { .min_size = 100000,
                                        .max_size = 1u << 23,
                                        .table_size = 65537 };

/*
 * A share off by more than the deviation of 20,000 choices, 6 * sqrt(.25 / 20,000) = 0.021, comes by chance once in 500 million;
 * a ring of 100,000 points, of which the least share has 10,000, adds one of 6 * .1 / sqrt(10,000) = 0.006.
 */
static void test_shares_follow_weights(void **state)
{
    (void)state;
    static const uint32_t weights[] = { 1, 2, 3, 4 };
    static const uint32_t places[] = { 0, 0, 1, 1 };
    static const struct {
        const uint32_t *locality;
        double want[4];
    } cases[] = {
        { NULL, { .1, .2, .3, .4 } },
        { places, { .75 / 3, .75 * 2 / 3, .25 * 3 / 7, .25 * 4 / 7 } },
    };
    const struct lb_type *const types[] = { &lb_ring_hash, &lb_maglev };
    for (size_t i = 0; i < MZ_COUNT(types) * MZ_COUNT(cases); i++) {
        struct rig r;
        struct mz_rand rand;
        unsigned got[4] = { 0 };
        rig_start(&r, &(struct rig_opts){ .type = types[i % 2],
                                          .n = 4,
                                          .first_port = 1000,
                                          .weights = weights,
                                          .locality = cases[i / 2].locality,
                                          .locality_weights = { 3, 1 },
                                          .hash = big });
        mz_rand_init(&rand, 3);
        for (unsigned k = 0; k < 20000; k++)
            got[port_of(hash_table_choose(&r.cfg, rig_table(&r), mz_rand_u64(&rand), 0)) - 1000]++;
        for (unsigned h = 0; h < 4; h++)
            assert_true(fabs(got[h] / 20000.0 - cases[i / 2].want[h]) < 0.027);
        rig_stop(&r);
    }
}

/*
 * One host less of 20: nearly all keys of the others stay. The ring keeps its size of 100,000, so each of 19 gets 264 new points and
 * these take 5 % of the keys; Maglev moves less (lb_share_test.c). Of 5,000 keys 250, and 6 * sqrt(5,000 * .05 * .95) = 93 by chance.
 */
static void test_few_keys_move(void **state)
{
    (void)state;
    const struct lb_type *const types[] = { &lb_ring_hash, &lb_maglev };
    for (size_t i = 0; i < MZ_COUNT(types); i++) {
        struct rig before, after;
        struct mz_rand rand;
        unsigned moved = 0;
        struct rig_opts o = { .type = types[i], .n = 20, .first_port = 2000, .hash = big };
        rig_start(&before, &o);
        o.n = 19;
        rig_start(&after, &o);
        mz_rand_init(&rand, 5);
        for (unsigned k = 0; k < 5000; k++) {
            uint64_t hash = mz_rand_u64(&rand);
            unsigned was = port_of(hash_table_choose(&before.cfg, rig_table(&before), hash, 0));
            moved += was != 2019 &&
                     was != port_of(hash_table_choose(&after.cfg, rig_table(&after), hash, 0));
        }
        assert_in_range(moved, 0, 343);
        rig_stop(&before);
        rig_stop(&after);
    }
}

static void test_bounded_load(void **state)
{
    (void)state;
    struct rig r;
    struct rig_opts o = { .type = &lb_maglev, .n = 4, .first_port = 3000, .hash = big };
    o.hash.balance_factor = 150;
    rig_start(&r, &o);
    struct mz_host *first = hash_table_choose(&r.cfg, rig_table(&r), 77, 0);
    cluster.circuit[MZ_PRIORITY_DEFAULT].requests = 10;
    first->stats.rq_active = 10; /* 11 * 1.5 / 4: five are allowed */
    struct mz_host *second = hash_table_choose(&r.cfg, rig_table(&r), 77, 0);
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(hash_table_choose(&r.cfg, rig_table(&r), 77, 0), second); /* always the same */
    first->stats.rq_active = 4;
    assert_ptr_equal(hash_table_choose(&r.cfg, rig_table(&r), 77, 0), first);
    cluster.circuit[MZ_PRIORITY_DEFAULT].requests = 0;
    rig_stop(&r);
}

static void test_no_hosts(void **state)
{
    (void)state;
    struct rig r;
    rig_start(&r, &(struct rig_opts){ .type = &lb_ring_hash, .n = 0, .hash = big });
    assert_null(hash_table_choose(&r.cfg, rig_table(&r), 1, 0));
    rig_stop(&r);
}

/* The new hosts' table is made by the thread that brings them, where the old one was in use; gauges show the new one. */
static void test_tables_follow(void **state)
{
    (void)state;
    struct rig used, unused, next;
    struct rig_opts o = {
        .type = &lb_maglev, .n = 2, .first_port = 90, .hash = { .table_size = 7 }
    };
    rig_start(&used, &o);
    rig_start(&unused, &o);
    rig_start(&next, &o);
    hash_tables_follow(&used.cfg, unused.sets, next.sets);
    assert_null(next.sets->v[0].tables[SOURCE_ALL]);
    (void)rig_table(&used);
    hash_tables_follow(&used.cfg, used.sets, next.sets);
    assert_non_null(next.sets->v[0].tables[SOURCE_ALL]);
    assert_int_equal(mz_scope_value(used.gauges.scope, 0), 3);
    assert_int_equal(mz_scope_value(used.gauges.scope, 1), 4);
    rig_stop(&used);
    rig_stop(&unused);
    rig_stop(&next);
}

/* 20 ms for a thousand hosts; ten times that before the test fails, for slow machines and sanitizers. */
static void test_maglev_of_1000_is_quick(void **state)
{
    (void)state;
    struct rig r;
    rig_start(&r,
              &(struct rig_opts){ .type = &lb_maglev, .n = 1000, .first_port = 4000, .hash = big });
    uint64_t from = mz_clock->mono_us();
    assert_int_equal(rig_table(&r)->n, 65537);
    uint64_t took = mz_clock->mono_us() - from;
    print_message("a table of 1000 hosts: %u us\n", (unsigned)took);
    assert_in_range(took, 0, 200000);
    rig_stop(&r);
}

static int start(void **state)
{
    (void)state;
    mz_stats_thread_slot(0);
    stats = mz_stats_create(1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mz_stats_destroy(stats);
    mz_slice_thread_trim();
    struct mz_mem_count c[MZ_MEM__COUNT];
    mz_mem_counts(c);
    return c[MZ_MEM_UPSTREAM].objects != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_is_envoys),
        cmocka_unit_test(test_maglev_is_envoys),
        cmocka_unit_test(test_murmur2),
        cmocka_unit_test(test_shares_follow_weights),
        cmocka_unit_test(test_few_keys_move),
        cmocka_unit_test(test_bounded_load),
        cmocka_unit_test(test_no_hosts),
        cmocka_unit_test(test_tables_follow),
        cmocka_unit_test(test_maglev_of_1000_is_quick),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
