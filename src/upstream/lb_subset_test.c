/* Subsets (U2): which hosts a request's metadata leads to, under each fallback; what stays over updates; limits. */
#include "base/test.h"
#include "upstream/lb_subset.h"
#include <string.h>

static struct mz_loop *loop;
static struct mz_stats *stats;
static struct mz_cluster_manager *manager;
static struct mz_upstream *upstream;

#define HOST(port, metadata)                                                                       \
    "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " #port "}}}, "        \
    "metadata: {filter_metadata: {envoy.lb: " metadata "}}}"
/* 1: v1 prod; 2: v2 prod; 3: v2 dev; 4: both versions, dev; 5: nothing. */
#define HOSTS                                                                                                                                     \
    "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [" HOST(                                                                       \
        1,                                                                                                                                        \
        "{version: v1, stage: prod}") ", " HOST(2,                                                                                                \
                                                "{version: v2, stage: prod}") ", " HOST(3,                                                        \
                                                                                        "{version"                                                \
                                                                                        ": v2, "                                                  \
                                                                                        "stage: "                                                 \
                                                                                        "dev}") ", " HOST(4,                                      \
                                                                                                          "{version: [v1, v2], stage: dev}") ", " \
                                                                                                                                             "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 5}}}}]}]}\n"

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
    mz_stats_destroy(stats);
    mz_loop_destroy(loop);
}

static void add(const char *subset_config, const char *hosts)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    struct mz_str yaml =
        mz_arena_printf(ctx.arena, "name: x\nlb_subset_config: {%s}\n%s", subset_config, hosts);
    assert_true(mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, &err));
    assert_true(mz_cluster_manager_add(manager, (const pb_Cluster *)m,
                                       mz_msg_pack_alloc(m, ctx.arena), false, &err));
    mz_arena_destroy(ctx.arena);
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
}

static void drop(void)
{
    assert_true(mz_cluster_manager_remove(manager, MZ_STR("x")));
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
}

static const struct mz_meta *meta(const char *fields, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_REJECT };
    ProtobufCMessage *m = NULL;
    struct mz_err err;
    if (!fields)
        return NULL;
    struct mz_str yaml = mz_arena_printf(a, "filter_metadata: {envoy.lb: {%s}}", fields);
    assert_true(mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, &pb_Metadata__descriptor, &m, &err));
    return mz_meta_build((const pb_Metadata *)m, a);
}

static uint64_t value(const char *name)
{
    uint64_t v = UINT64_MAX;
    char text[128];
    snprintf(text, sizeof(text), "cluster.x.lb_subsets_%s", name);
    return mz_stats_find(stats, mz_str_c(text), &v) ? v : UINT64_MAX;
}

/* The ports that many choices gave, as bits. */
static unsigned ports(const char *route, const char *request, struct mz_str *out_where)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_lb_ctx ctx = { .metadata_match = meta(route, a),
                             .request_metadata = meta(request, a) };
    unsigned bits = 0;
    for (unsigned i = 0; i < 20; i++) {
        const struct mz_host *h = mz_wcluster_choose(mz_upstream_find(upstream, MZ_STR("x")), &ctx);
        assert_non_null(ctx.why);
        bits |= h ? 1u << mz_addr_port(&h->addr) : 0;
    }
    *out_where = ctx.where;
    mz_arena_destroy(a);
    return bits;
}

#define P(n) (1u << (n))
#define ALL  (P(1) | P(2) | P(3) | P(4) | P(5))
#define BOTH "subset_selectors: [{keys: [version]}, {keys: [stage, version]}]"
static const struct {
    const char *name, *config, *route, *request;
    unsigned ports;
    const char *where;
    unsigned selected, fallback, panic; /* of 20 choices */
} cases[] = {
    { "one key", BOTH, "version: v1", NULL, P(1), "subset {version=v1} has 1 host", 20, 0, 0 },
    { "two keys, in any order", BOTH, "version: v2, stage: dev", NULL, P(3),
      "subset {stage=dev, version=v2} has 1 host", 20, 0, 0 },
    { "the list itself is a value", BOTH, "version: [v1, v2]", NULL, P(4), NULL, 20, 0, 0 },
    { "no such value", BOTH, "version: v9", NULL, 0, "", 0, 0, 0 },
    { "keys of no selector", BOTH, "stage: dev", NULL, 0, "", 0, 0, 0 },
    { "a key too many", BOTH, "version: v1, other: 1", NULL, 0, "", 0, 0, 0 },
    { "another kind of value", BOTH, "version: 1", NULL, 0, "", 0, 0, 0 },
    { "nothing wanted, no fallback", BOTH, NULL, NULL, 0, "", 0, 0, 0 },
    { "the request adds a key", BOTH, "version: v2", "stage: prod", P(2), NULL, 20, 0, 0 },
    { "the request wins", BOTH, "version: v2", "version: v1", P(1), NULL, 20, 0, 0 },
    { "the request alone", BOTH, NULL, "version: v1", P(1), NULL, 20, 0, 0 },
    { "any endpoint", BOTH ", fallback_policy: ANY_ENDPOINT", "version: v9", NULL, ALL,
      "no subset has these values: any endpoint", 0, 20, 0 },
    { "any endpoint, nothing wanted", BOTH ", fallback_policy: ANY_ENDPOINT", NULL, NULL, ALL, NULL,
      0, 20, 0 },
    { "default subset", BOTH ", fallback_policy: DEFAULT_SUBSET, default_subset: {stage: dev}",
      "version: v9", NULL, P(3) | P(4), "no subset has these values: the default subset", 0, 20,
      0 },
    { "default subset without keys", BOTH ", fallback_policy: DEFAULT_SUBSET", NULL, NULL, ALL,
      NULL, 0, 20, 0 },
    { "default subset is empty", BOTH ", fallback_policy: DEFAULT_SUBSET, default_subset: {a: b}",
      NULL, NULL, 0, NULL, 0, 0, 0 },
    { "default subset is empty, panic",
      BOTH ", fallback_policy: DEFAULT_SUBSET, default_subset: {a: b}, panic_mode_any: true", NULL,
      NULL, ALL, "subsets in panic: no host in the fallback, any endpoint", 0, 0, 20 },
    { "panic needs a fallback", BOTH ", panic_mode_any: true", NULL, NULL, 0, "", 0, 0, 0 },
    { "lists count as any of theirs", BOTH ", list_as_any: true", "version: v1", NULL, P(1) | P(4),
      "subset {version=v1} has 2 hosts", 20, 0, 0 },
    { "lists in the default subset",
      BOTH ", list_as_any: true, fallback_policy: DEFAULT_SUBSET, default_subset: {version: v1}",
      NULL, NULL, P(1) | P(4), NULL, 0, 20, 0 },
    { "selector: none",
      "subset_selectors: [{keys: [version], fallback_policy: NO_FALLBACK}], "
      "fallback_policy: ANY_ENDPOINT",
      "version: v9", NULL, 0, "", 0, 0, 0 },
    { "selector: any", "subset_selectors: [{keys: [version], fallback_policy: ANY_ENDPOINT}]",
      "version: v9", NULL, ALL, NULL, 0, 0, 0 },
    { "selector: default",
      "subset_selectors: [{keys: [version], fallback_policy: DEFAULT_SUBSET}], "
      "default_subset: {stage: prod}",
      "version: v9", NULL, P(1) | P(2), NULL, 0, 0, 0 },
    { "selector: fewer keys",
      "subset_selectors: [{keys: [stage, version], fallback_policy: KEYS_SUBSET, "
      "fallback_keys_subset: [version]}, {keys: [version]}]",
      "version: v1, stage: x", NULL, P(1), "subset {version=v1} has 1 host", 20, 0, 0 },
    { "selector: fewer keys, then its own fallback",
      "subset_selectors: [{keys: [stage, version], fallback_policy: KEYS_SUBSET, "
      "fallback_keys_subset: [version]}, {keys: [version], fallback_policy: ANY_ENDPOINT}]",
      "version: v9, stage: x", NULL, ALL, NULL, 0, 0, 0 },
    { "selector: fewer keys of no selector",
      "subset_selectors: [{keys: [stage, version], fallback_policy: KEYS_SUBSET, "
      "fallback_keys_subset: [version]}], fallback_policy: ANY_ENDPOINT",
      "version: v9, stage: x", NULL, ALL, NULL, 0, 20, 0 },
    { "selector: its own, behind a longer one",
      "subset_selectors: [{keys: [stage, version]}, {keys: [stage], fallback_policy: "
      "ANY_ENDPOINT}]",
      "stage: x", NULL, ALL, NULL, 0, 0, 0 },
    { "a single host", "subset_selectors: [{keys: [version], single_host_per_subset: true}]",
      "version: v2", NULL, P(2), "subset {version=v2} has 1 host", 20, 0, 0 },
    { "list of fallbacks", BOTH ", metadata_fallback_policy: FALLBACK_LIST",
      "version: v9, fallback_list: [{version: v8}, {stage: prod, version: v2}, {version: v1}]",
      NULL, P(2), NULL, 20, 0, 0 },
    { "list of fallbacks of the request", BOTH ", metadata_fallback_policy: FALLBACK_LIST",
      "version: v2", "fallback_list: [{stage: dev}]", P(3), NULL, 20, 0, 0 },
    { "list without entries", BOTH ", metadata_fallback_policy: FALLBACK_LIST",
      "version: v1, fallback_list: []", NULL, P(1), NULL, 20, 0, 0 },
    { "the list is a key where nobody asked for it", BOTH, "version: v1, fallback_list: [{}]", NULL,
      0, "", 0, 0, 0 },
    { "none of the list", BOTH ", metadata_fallback_policy: FALLBACK_LIST",
      "fallback_list: [{version: v8}, {version: v7}]", NULL, 0, "", 0, 0, 0 },
};

static void test_choice(void **state)
{
    (void)state;
    rig_start();
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_str where;
        add(cases[i].config, HOSTS);
        uint64_t before[] = { value("selected"), value("fallback"), value("fallback_panic") };
        unsigned got = ports(cases[i].route, cases[i].request, &where);
        if (got != cases[i].ports)
            fail_msg("%s: ports %x, expected %x", cases[i].name, got, cases[i].ports);
        if (cases[i].where && !mz_str_eq(where, mz_str_c(cases[i].where)))
            fail_msg("%s: where '" MZ_STR_FMT "'", cases[i].name, MZ_STR_ARG(where));
        if (value("selected") - before[0] != cases[i].selected ||
            value("fallback") - before[1] != cases[i].fallback ||
            value("fallback_panic") - before[2] != cases[i].panic)
            fail_msg("%s: counters", cases[i].name);
        drop();
    }
    rig_stop();
}

/* Threads count subsets each for itself, as Envoy's do: main and one worker. */
static void test_update(void **state)
{
    (void)state;
    rig_start();
    struct mz_str where;
    add(BOTH, HOSTS);
    assert_int_equal(value("active"), 7);
    assert_int_equal(ports("version: v2", NULL, &where), P(2) | P(3));
    assert_int_equal(value("active"), 14);
    struct mz_wcluster *w = mz_upstream_find(upstream, MZ_STR("x"));
    struct mz_cluster *c = mz_wcluster_info(w);
    struct host_sets *s = cluster_sets(c);
    s->hosts[1]->health_flags = MZ_HOST_FAILED_ACTIVE_HC;
    host_sets_unref(s);
    cluster_refresh_health(c);
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
    assert_int_equal(ports("version: v2", NULL, &where), P(3)); /* half is enough: no panic */
    assert_int_equal(value("active"), 14);
    assert_int_equal(value("created"), 14);
    s = cluster_sets(c);
    struct host_spec first = { mz_host_ref(s->hosts[0]), 0 };
    const struct locality_spec place = { .priority = 0 };
    struct host_sets *few = host_sets_create(&first, 1, &place, 1, false, s->seq + 1);
    subsets_build(s->subsets->cfg, few);
    host_sets_unref(s);
    cluster_set_hosts(c, few);
    mz_loop_turn(loop, 0);
    mz_loop_turn(loop, 0);
    assert_int_equal(ports("version: v2", NULL, &where), 0);
    assert_int_equal(ports("version: v1", NULL, &where), P(1));
    assert_int_equal(value("active"), 4);
    assert_int_equal(value("removed"), 10);
    drop();
    rig_stop();
}

static void test_single_host_duplicates(void **state)
{
    (void)state;
    rig_start();
    add("subset_selectors: [{keys: [version], single_host_per_subset: true}]", HOSTS);
    assert_int_equal(value("single_host_per_subset_duplicate"), 1);
    drop();
    rig_stop();
}

/* Lists under several keys multiply: 100 * 100 * 100 combinations of one host are cut. */
static void test_many_combinations(void **state)
{
    (void)state;
    struct mz_buf yaml;
    mz_buf_init(&yaml);
    mz_buf_append_str(&yaml, MZ_STR("load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: "
                                    "[{endpoint: {address: {socket_address: {address: 127.0.0.1, "
                                    "port_value: 1}}}, metadata: {filter_metadata: {envoy.lb: {"));
    for (unsigned k = 0; k < 3; k++) {
        mz_buf_printf(&yaml, "%sk%u: [0", k ? ", " : "", k);
        for (unsigned i = 1; i < 100; i++)
            mz_buf_printf(&yaml, ", %u", i);
        mz_buf_append_str(&yaml, MZ_STR("]"));
    }
    mz_buf_append_str(&yaml, MZ_STR("}}}}]}]}\n"));
    mz_buf_append(&yaml, "", 1);
    rig_start();
    add("list_as_any: true, subset_selectors: [{keys: [k0, k1, k2]}]",
        mz_buf_linearize(&yaml, mz_buf_len(&yaml)).p);
    assert_int_equal(value("active"), SUBSETS_HOST_MAX);
    struct mz_str where;
    assert_int_equal(ports("k0: 0, k1: 7, k2: 99", NULL, &where), P(1));
    assert_int_equal(ports("k0: 99, k1: 7, k2: 99", NULL, &where), 0);
    drop();
    rig_stop();
    mz_buf_fini(&yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_single_host_duplicates),
        cmocka_unit_test(test_many_combinations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
