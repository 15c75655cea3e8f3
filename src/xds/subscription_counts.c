/*
 * What a subscription counts: into a scope, or, where there are thousands of its kind that nobody cares for, into a few numbers of its
 * own, of which a scope is made when somebody looks.
 */
#include "stats/histogram.h"
#include "xds/xds_priv.h"

struct version_text { /* thousands of subscriptions have the same: the last one of each process */
    unsigned refs;
    struct mz_str text; /* behind the struct */
};

static struct version_text *version_get(struct mz_xds *x, struct mz_str text)
{
    struct version_text *v = x->last_version;
    if (!v || !mz_str_eq(v->text, text)) {
        version_text_unref(v);
        v = mz_alloc0(MZ_MEM_XDS, sizeof(*v) + text.n);
        v->refs = 1; /* last_version's */
        v->text = (struct mz_str){ (char *)(v + 1), text.n };
        if (text.n)
            memcpy(v + 1, text.p, text.n);
        x->last_version = v;
    }
    v->refs++;
    return v;
}

void version_text_unref(struct version_text *v)
{
    if (v && --v->refs == 0)
        mz_free(MZ_MEM_XDS, v);
}

void subscription_count(struct mz_subscription *s, unsigned which)
{
    if (s->scope)
        mz_count(s->scope, which, 1);
    else
        s->counts.n[which]++;
}

static void scope_success(struct mz_scope *to, struct mz_str version, uint64_t wall_ms)
{
    mz_gauge_set(to, MZ_SUB_STAT_TIME, wall_ms);
    mz_gauge_set(to, MZ_SUB_STAT_VERSION, mz_xxh64(version.p, version.n, 0));
    mz_text_set(to, MZ_SUB_STAT_VERSION_TEXT, version);
}

void subscription_count_success(struct mz_subscription *s, struct mz_str version, uint64_t wall_ms,
                                uint64_t took_ms)
{
    struct subscription_counts *c = &s->counts;
    subscription_count(s, MZ_SUB_STAT_SUCCESS);
    if (s->scope) {
        scope_success(s->scope, version, wall_ms);
        mz_hist_record(s->scope, MZ_SUB_STAT_DURATION, took_ms);
        return;
    }
    struct version_text *old = c->version;
    c->version = version_get(s->xds, version);
    version_text_unref(old);
    c->wall_ms = wall_ms;
    if (took_ms && !c->durations)
        c->durations = mz_hist_create();
    if (took_ms)
        mz_hist_add(c->durations, took_ms);
    else
        c->at_once++;
}

static void durations_put(const struct subscription_counts *c, struct mz_scope *to)
{
    for (uint32_t k = 0; k < c->at_once; k++)
        mz_hist_record(to, MZ_SUB_STAT_DURATION, 0);
    if (!c->durations)
        return;
    uint64_t *sums = mz_newn0(MZ_MEM_XDS, uint64_t, MZ_HIST_BINS);
    mz_hist_sum(c->durations, sums);
    for (uint16_t bin = 0; bin < MZ_HIST_BINS; bin++)
        for (; sums[bin]; sums[bin]--)
            mz_hist_record(to, MZ_SUB_STAT_DURATION, (uint64_t)mz_hist_bin_low(bin));
    mz_free(MZ_MEM_XDS, sums);
}

static void put(const struct subscription_counts *c, struct mz_scope *to)
{
    for (unsigned i = 0; i < MZ_COUNT(c->n); i++)
        if (c->n[i])
            mz_count(to, i, c->n[i]);
    if (c->version)
        scope_success(to, c->version->text, c->wall_ms);
    durations_put(c, to);
}

void subscription_counts_fini(struct subscription_counts *c)
{
    version_text_unref(c->version);
    if (c->durations)
        mz_hist_destroy(c->durations);
    *c = (struct subscription_counts){ 0 };
}

/* ---- small ones ---- */

void mz_subscription_shrink(struct mz_subscription *s)
{
    mz_scope_unref(s->scope);
    s->scope = NULL;
}

void mz_subscription_grow(struct mz_subscription *s, struct mz_str prefix)
{
    if (s->scope)
        return;
    s->scope = mz_scope_create(s->xds->env.stats, &mz_subscription_stats, prefix);
    put(&s->counts, s->scope);
    subscription_counts_fini(&s->counts);
}

struct mz_scope *mz_subscription_show(const struct mz_subscription *s, struct mz_str prefix,
                                      bool add)
{
    struct mz_scope *scope = mz_scope_create(s->xds->env.stats, &mz_subscription_stats, prefix);
    if (s->scope || !add)
        return scope;
    put(&s->counts, scope);
    mz_scope_latch(scope);
    return scope;
}

void mz_subscription_reset(struct mz_subscription *s)
{
    memset(s->counts.n, 0, sizeof(s->counts.n));
}
