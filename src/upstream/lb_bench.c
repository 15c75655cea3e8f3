/* What choices and tables cost (U2): ninja -C build src/upstream/lb_bench && build/src/upstream/lb_bench */
#include "base/clock.h"
#include "upstream/lb_subset.h"
#include "upstream/stats.h"
#include <stdlib.h>

static struct mz_stats *stats;
static struct mz_cluster cluster;

static struct host_sets *hosts(uint32_t n, const struct subset_config *subsets, struct mz_arena *a)
{
    static const struct locality_spec place = { .priority = 0 };
    struct host_spec *v = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, n);
    struct host_text t = { MZ_STR(""), NULL };
    for (uint32_t i = 0; i < n; i++) {
        struct mz_addr at;
        char ip[32];
        snprintf(ip, sizeof(ip), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        (void)mz_addr_parse_ip(mz_str_c(ip), 80, &at); /* is one */
        v[i].host = host_create(&cluster, &at, &t, 1, 0);
        if (!subsets)
            continue;
        struct mz_meta *m = mz_meta_create(a);
        struct mz_value *value = mz_arena_new0(a, struct mz_value);
        *value = (struct mz_value){ .kind = MZ_VALUE_STRING,
                                    .str = mz_arena_printf(a, "v%u", i % (n / 10)) };
        mz_meta_set(m, MZ_STR("envoy.lb"), MZ_STR("version"), value);
        v[i].host->metadata = m;
    }
    struct host_sets *s = host_sets_create(v, n, &place, 1, false, 1);
    mz_free(MZ_MEM_UPSTREAM, v);
    return s;
}

static void bench_table(const char *name, const struct lb_type *type, struct hash_config hash)
{
    const struct lb_config cfg = { .type = type, .hash = hash };
    struct host_sets *s = hosts(1000, NULL, NULL);
    uint64_t from = mz_clock->mono_us();
    (void)hash_table_of(&cfg, &s->v[0], SOURCE_ALL); /* what is measured is its making */
    printf("%s of 1,000 hosts: %.1f ms\n", name, (double)(mz_clock->mono_us() - from) / 1000);
    host_sets_unref(s);
}

#define CHOICES 1000000
static void bench_choice(const char *name, const struct lb_type *type, uint32_t n,
                         struct subset_config *subsets)
{
    const struct lb_config cfg = {
        .type = type,
        .choice_count = 2,
        .active_request_bias = 1,
        .hash = { .table_size = 65537, .min_size = 1024, .max_size = 8u << 20 },
        .subsets = subsets
    };
    const struct priority_opts opts = { .overprovisioning = 140 };
    struct mz_arena *a = mz_arena_create(MZ_MEM_UPSTREAM);
    struct mz_rand rand;
    struct lb lb;
    struct host_sets *s = hosts(n, subsets, a);
    mz_rand_init(&rand, 1);
    uint64_t from = mz_clock->mono_us();
    if (subsets)
        subsets_build(subsets, s);
    uint64_t build = mz_clock->mono_us() - from;
    lb_init(&lb, &cfg, &opts, &rand, cluster.scope);
    lb_set_hosts(&lb, s);
    struct mz_value value = { .kind = MZ_VALUE_STRING, .str = MZ_STR("v3") };
    struct mz_meta *want = mz_meta_create(a);
    mz_meta_set(want, MZ_STR("envoy.lb"), MZ_STR("version"), &value);
    for (unsigned k = 0; k < CHOICES + 1000; k++) {
        struct mz_lb_ctx ctx = { .has_hash = true, .hash = k * 0x9e3779b97f4a7c15u };
        ctx.metadata_match = subsets ? want : NULL;
        if (k == 1000)
            from = mz_clock->mono_us();
        if (!lb_choose(&lb, &ctx))
            abort();
    }
    double ns = (double)(mz_clock->mono_us() - from) * 1000 / CHOICES;
    printf("%s of %u hosts: %.0f ns a choice", name, n, ns);
    if (subsets)
        printf(", index made in %.1f ms", (double)build / 1000);
    printf("\n");
    lb_fini(&lb);
    mz_arena_destroy(a);
}

int main(void)
{
    static struct mz_str names[] = { MZ_STR_INIT("version") };
    static uint32_t keys[] = { 0 };
    struct subset_selector selector = { .keys = keys, .n_keys = 1 };
    struct subset_config subsets = {
        .names = names, .n_names = 1, .v = &selector, .n = 1, .fallback = SUBSET_NO_FALLBACK
    };
    stats = mz_stats_create(1);
    cluster.scope = mz_scope_create(stats, &mz_cluster_stats, MZ_STR("cluster.x."));
    bench_table("maglev (65,537)", &lb_maglev, (struct hash_config){ .table_size = 65537 });
    bench_table("ring hash (1,024)", &lb_ring_hash,
                (struct hash_config){ .min_size = 1024, .max_size = 8u << 20 });
    bench_choice("round robin", &lb_round_robin, 1000, NULL);
    bench_choice("least request", &lb_least_request, 1000, NULL);
    bench_choice("ring hash", &lb_ring_hash, 1000, NULL);
    bench_choice("maglev", &lb_maglev, 1000, NULL);
    bench_choice("subset", &lb_round_robin, 100, &subsets);
    bench_choice("subset", &lb_round_robin, 1000, &subsets);
    bench_choice("subset", &lb_round_robin, 10000, &subsets);
    mz_scope_unref(cluster.scope);
    mz_stats_destroy(stats);
    return 0;
}
