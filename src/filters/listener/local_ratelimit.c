/* local_ratelimit (L2): so many connections a time, before anything else is done for them. */
#include "event/loop.h"
#include "filters/listener/listener_filters.h"
#include "filters/runtime_flag.h"
#include "filters/token_bucket.h"
#include "stats/stats.h"

#define FILL_MIN_MS 50

static const struct mz_stat_def stat_defs[] = { { "rate_limited", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind stats = { "listener_local_ratelimit", stat_defs,
                                           MZ_COUNT(stat_defs) };

struct limit_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct runtime_flag enabled;
    struct bucket_rate rate;
    token_bucket bucket; /* of all workers */
};

static void destroy(void *cfg)
{
    struct limit_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool rate_build(const pb_TokenBucket *m, struct bucket_rate *out, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(m->fill_interval, 0, &ms, err))
        return mz_err_at(err, "fill_interval");
    if (ms < FILL_MIN_MS)
        return mz_err_set(err, "must be at least 50ms, is %ums", (unsigned)ms) ||
               mz_err_at(err, "fill_interval");
    *out = (struct bucket_rate){ m->max_tokens,
                                 1000.0 * mz_u32_or(m->tokens_per_fill, 1) / (double)ms };
    return true;
}

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_listener_local_ratelimit_LocalRateLimit *m = msg;
    struct bucket_rate rate;
    if (!rate_build(m->token_bucket, &rate, err)) {
        (void)mz_err_at(err, "token_bucket");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct limit_cfg *c = mz_arena_new0(a, struct limit_cfg);
    c->arena = a;
    c->rate = rate;
    c->enabled = runtime_flag_build(m->runtime_enabled, a);
    c->scope = mz_scope_create(f->stats, &stats,
                               mz_arena_printf(a, "listener_local_ratelimit.%s.", m->stat_prefix));
    bucket_fill(&c->bucket);
    return c;
}

static enum mz_lfilter_flow on_accept(struct mz_lfilter *f)
{
    struct limit_cfg *c = (struct limit_cfg *)(uintptr_t)f->cfg; /* the bucket is atomic */
    if (!runtime_flag_on(&c->enabled) ||
        bucket_take(&c->bucket, &c->rate, 1, mz_loop_now_us(f->in->worker->loop)))
        return MZ_LF_CONTINUE;
    mz_count(c->scope, 0, 1);
    return MZ_LF_CLOSE;
}

const struct mz_lfilter_type mz_lfilter_local_ratelimit = {
    .name = "envoy.filters.listener.local_ratelimit",
    .config_type = "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_accept = on_accept,
};
