/* envoy.filters.network.local_ratelimit: so many new connections a time (L5). */
#include <pthread.h>

#include "base/list.h"
#include "filters/network/network_filters.h"
#include "filters/runtime_flag.h"
#include "filters/token_bucket.h"
#include "observe/stream_info.h"
#include "stats/stats.h"

#define FILL_MIN_MS 50

static const struct mz_stat_def stat_defs[] = { { "rate_limited", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind stats = { "network_local_ratelimit", stat_defs,
                                           MZ_COUNT(stat_defs) };

struct shared_bucket { /* of all configurations with this key and rate, or of one without a key */
    struct mz_list link;
    unsigned refs; /* under the lock */
    struct mz_str key;
    struct bucket_rate rate;
    token_bucket bucket;
};
struct rate_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct runtime_flag enabled;
    struct shared_bucket *shared; /* reference */
};

/* Configurations are made on the main thread and may end on any: the list has a lock, buckets need none. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mz_list buckets = { &buckets, &buckets };

static struct shared_bucket *bucket_find(struct mz_str key, const struct bucket_rate *r)
{
    mz_list_foreach (it, &buckets) {
        struct shared_bucket *b = MZ_CONTAINER(it, struct shared_bucket, link);
        if (key.n && mz_str_eq(b->key, key) && b->rate.max == r->max && b->rate.per_s == r->per_s)
            return b;
    }
    return NULL;
}

static struct shared_bucket *bucket_get(struct mz_str key, const struct bucket_rate *r)
{
    (void)pthread_mutex_lock(&lock);
    struct shared_bucket *b = bucket_find(key, r);
    if (!b) {
        b = mz_new0(MZ_MEM_CONFIG, struct shared_bucket);
        b->key = (struct mz_str){ mz_strndup(MZ_MEM_CONFIG, key.p, key.n), key.n };
        b->rate = *r;
        bucket_fill(&b->bucket);
        mz_list_add_tail(&buckets, &b->link);
    }
    b->refs++;
    (void)pthread_mutex_unlock(&lock);
    return b;
}

static void bucket_put(struct shared_bucket *b)
{
    if (!b)
        return;
    (void)pthread_mutex_lock(&lock);
    bool last = --b->refs == 0;
    if (last)
        mz_list_del(&b->link);
    (void)pthread_mutex_unlock(&lock);
    if (!last)
        return;
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)b->key.p);
    mz_free(MZ_MEM_CONFIG, b);
}

static void config_destroy(void *cfg)
{
    struct rate_cfg *c = cfg;
    bucket_put(c->shared);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool rate_build(const pb_TokenBucket *m, struct bucket_rate *out, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(m->fill_interval, 0, &ms, err))
        return mz_err_at(err, "token_bucket.fill_interval");
    if (ms < FILL_MIN_MS)
        return mz_err_set(err, "must be at least 50ms, is %ums", (unsigned)ms) ||
               mz_err_at(err, "token_bucket.fill_interval");
    *out = (struct bucket_rate){ m->max_tokens,
                                 1000.0 * mz_u32_or(m->tokens_per_fill, 1) / (double)ms };
    return true;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_network_local_ratelimit_LocalRateLimit *m = msg;
    struct bucket_rate rate;
    if (!rate_build(m->token_bucket, &rate, err))
        return NULL;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct rate_cfg *c = mz_arena_new0(a, struct rate_cfg);
    c->arena = a;
    c->enabled = runtime_flag_build(m->runtime_enabled, a);
    c->shared = bucket_get(mz_str_c(m->share_key), &rate);
    c->scope =
        mz_scope_create(f->stats, &stats,
                        mz_arena_cat(a, 3,
                                     (struct mz_str[]){ MZ_STR("local_rate_limit."),
                                                        mz_str_c(m->stat_prefix), MZ_STR(".") }));
    return c;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    const struct rate_cfg *c = f->cfg;
    if (!runtime_flag_on(&c->enabled) ||
        bucket_take(&c->shared->bucket, &c->shared->rate, 1, mz_loop_now_us(f->worker->loop)))
        return MZ_NET_CONTINUE;
    mz_count(c->scope, 0, 1);
    mz_info_flag(mz_downstream_info(f->down), MZ_FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED));
    mz_conn_close(f->down->conn, MZ_CLOSE_NOW, "local_ratelimit_close_over_limit", 0);
    return MZ_NET_STOP;
}

const struct mz_net_filter_type mz_net_filter_local_ratelimit = {
    .name = "envoy.filters.network.local_ratelimit",
    .config_type = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    .size = sizeof(struct mz_net_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
};
