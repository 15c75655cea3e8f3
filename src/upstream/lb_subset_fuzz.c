/*
 * Bytes become selectors, hosts with metadata and a request's metadata. The host that is chosen must be one that a plain
 * search of all hosts finds, and there must be one wherever such a search finds any and the answer does not need a fallback.
 */
#include "base/log.h"
#include "upstream/lb_subset.h"
#include "upstream/stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t n;
    struct mz_arena *a;
};
#define NAMES 4
static const struct mz_str names[NAMES] = { MZ_STR_INIT("a"), MZ_STR_INIT("b"), MZ_STR_INIT("c"),
                                            MZ_STR_INIT("d") };

static unsigned take(struct input *in, unsigned below)
{
    unsigned v = in->n ? in->p[0] : 0;
    in->p += in->n ? 1 : 0;
    in->n -= in->n ? 1 : 0;
    return v % below;
}

static const struct mz_value *value(struct input *in, unsigned depth)
{
    static const char *const words[] = { "", "x", "y", "zz" };
    struct mz_value *v = mz_arena_new0(in->a, struct mz_value);
    v->kind = (enum mz_value_kind)take(in, depth ? 6 : 4);
    switch (v->kind) {
    case MZ_VALUE_BOOL:
        v->b = take(in, 2);
        break;
    case MZ_VALUE_NUMBER:
        v->number = take(in, 3) - 1.0;
        break;
    case MZ_VALUE_STRING:
        v->str = mz_str_c(words[take(in, 4)]);
        break;
    case MZ_VALUE_LIST: {
        size_t n = take(in, 4);
        struct mz_value *list = mz_arena_alloc0(in->a, (n + 1) * sizeof(*list));
        for (size_t i = 0; i < n; i++)
            list[i] = *value(in, depth - 1);
        v->list.v = list;
        v->list.n = n;
        break;
    }
    case MZ_VALUE_STRUCT:
        v->fields.n = v->fields.cap = 1;
        v->fields.v = mz_arena_new0(in->a, struct mz_field);
        v->fields.v[0] = (struct mz_field){ names[take(in, NAMES)], value(in, depth - 1) };
        break;
    default:
        break;
    }
    return v;
}

static struct mz_meta *meta(struct input *in)
{
    struct mz_meta *m = mz_meta_create(in->a);
    unsigned bits = take(in, 1u << NAMES);
    for (unsigned i = 0; i < NAMES; i++)
        if (bits >> i & 1)
            mz_meta_set(m, MZ_STR("envoy.lb"), names[i], value(in, 2));
    if (take(in, 8) == 0) {
        struct mz_value *list = mz_arena_new0(in->a, struct mz_value);
        size_t n = take(in, 3);
        struct mz_value *v = mz_arena_alloc0(in->a, (n + 1) * sizeof(*v));
        for (size_t i = 0; i < n; i++)
            v[i] = *value(in, 2);
        *list = (struct mz_value){ .kind = MZ_VALUE_LIST, .list = { v, n } };
        mz_meta_set(m, MZ_STR("envoy.lb"), MZ_STR("fallback_list"), list);
    }
    return m;
}

static void config(struct input *in, struct subset_config *c, struct subset_selector *v)
{
    static uint32_t room[4][2][NAMES];
    unsigned flags = take(in, 256);
    *c = (struct subset_config){ .names = (struct mz_str *)(uintptr_t)names,
                                 .n_names = NAMES,
                                 .v = v,
                                 .fallback = SUBSET_NO_FALLBACK + (enum subset_policy)(flags % 3),
                                 .needs_any = true,
                                 .needs_default = true,
                                 .list_as_any = flags >> 2 & 1,
                                 .fallback_list = flags >> 3 & 1,
                                 .allow_redundant_keys = flags >> 4 & 1,
                                 .panic_mode_any = flags >> 5 & 1 };
    if (flags >> 6 & 1)
        c->default_subset = mz_meta_get(meta(in), MZ_STR("envoy.lb"), NULL, 0);
    uint32_t seen = 0;
    for (unsigned n = take(in, 5); n && c->n < 4; n--) {
        unsigned keys = take(in, (1u << NAMES) - 1) + 1;
        if (seen >> keys & 1)
            continue;
        seen |= 1u << keys;
        struct subset_selector *s = &v[c->n];
        *s = (struct subset_selector){ .keys = room[c->n][0], .kept = room[c->n][1] };
        for (uint32_t i = 0; i < NAMES; i++)
            if (keys >> i & 1)
                s->keys[s->n_keys++] = i;
        s->single_host = take(in, 4) == 0;
        s->fallback = (enum subset_policy)take(in, 5);
        if (s->fallback == SUBSET_KEYS && s->n_keys == 1)
            s->fallback = SUBSET_NOT_DEFINED;
        for (uint32_t i = 0; s->fallback == SUBSET_KEYS && i < s->n_keys - 1; i++)
            s->kept[s->n_kept++] = s->keys[i];
        c->n++;
    }
}

/* A plain look at one host: has it what the request wants, key by key? */
static bool fits(const struct subset_config *c, const struct mz_host *h,
                 const struct mz_value *want)
{
    for (size_t i = 0; i < want->fields.n; i++) {
        const struct mz_value *v =
            mz_meta_get(h->metadata, MZ_STR("envoy.lb"), &want->fields.v[i].key, 1);
        bool same = v && !(c->list_as_any && v->kind == MZ_VALUE_LIST) &&
                    mz_value_eq(v, want->fields.v[i].value);
        for (size_t k = 0; v && c->list_as_any && v->kind == MZ_VALUE_LIST && k < v->list.n; k++)
            same = same || mz_value_eq(&v->list.v[k], want->fields.v[i].value);
        if (!same)
            return false;
    }
    return true;
}

static bool is_selector(const struct subset_config *c, const struct mz_value *want)
{
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t same = 0;
        for (size_t k = 0; k < want->fields.n; k++)
            for (uint32_t e = 0; e < c->v[i].n_keys; e++)
                same += mz_str_eq(want->fields.v[k].key, names[c->v[i].keys[e]]);
        if (same == c->v[i].n_keys && same == want->fields.n)
            return true;
    }
    return false;
}

static void check(const struct lb *b, const struct mz_meta *route, const struct mz_host *h,
                  uint64_t selected)
{
    const struct subset_config *c = b->sets->subsets->cfg;
    const struct mz_value *want = mz_meta_get(route, MZ_STR("envoy.lb"), NULL, 0);
    if (!want || !is_selector(c, want))
        return;
    bool any = false;
    for (uint32_t i = 0; i < b->sets->n_hosts; i++)
        any = any || fits(c, b->sets->hosts[i], want);
    MZ_ASSERT(any == (selected > 0) || c->allow_redundant_keys ||
              selected > 0); /* by fewer keys, perhaps */
    MZ_ASSERT(!any || (h && fits(c, h, want)) || c->allow_redundant_keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mz_stats *stats;
    static struct mz_cluster cluster;
    static const struct locality_spec place = { .priority = 0 };
    if (!stats) {
        stats = mz_stats_create(1);
        cluster.scope = mz_scope_create(stats, &mz_cluster_stats, MZ_STR("cluster.x."));
    }
    struct input in = { data, size, mz_arena_create(MZ_MEM_UPSTREAM) };
    struct subset_config c;
    struct subset_selector v[4];
    struct host_spec hosts[8];
    config(&in, &c, v);
    uint32_t n = take(&in, 8);
    struct host_text t = { MZ_STR(""), NULL };
    for (uint32_t i = 0; i < n; i++) {
        struct mz_addr a;
        MZ_ASSERT(mz_addr_parse_ip(MZ_STR("10.0.0.1"), (uint16_t)(1 + i), &a));
        hosts[i] = (struct host_spec){ host_create(&cluster, &a, &t, 1, 0), 0 };
        hosts[i].host->metadata = meta(&in);
    }
    struct lb_config cfg = { .type = &lb_round_robin, .subsets = &c };
    const struct priority_opts opts = { .overprovisioning = 140 };
    struct mz_rand rand;
    struct lb b;
    struct host_sets *s = host_sets_create(hosts, n, &place, 1, false, 1);
    subsets_build(&c, s);
    mz_rand_init(&rand, 1);
    lb_init(&b, &cfg, &opts, &rand, cluster.scope);
    lb_set_hosts(&b, s);
    for (unsigned i = 0; i < 4; i++) {
        struct mz_lb_ctx ctx = { .metadata_match = meta(&in) };
        uint64_t before = mz_scope_value(cluster.scope, MZ_CS_LB_SUBSETS_SELECTED);
        const struct mz_host *h = lb_choose(&b, &ctx);
        check(&b, ctx.metadata_match, h,
              mz_scope_value(cluster.scope, MZ_CS_LB_SUBSETS_SELECTED) - before);
        if (i == 1) /* the same hosts again: every subset follows */
            lb_set_hosts(&b, host_sets_again(s, 2));
        ctx.request_metadata = meta(&in);
        (void)lb_choose(&b, &ctx); /* only that it ends well */
    }
    lb_fini(&b);
    mz_arena_destroy(in.a);
    return 0;
}
