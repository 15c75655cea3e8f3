/* What the old side messages of a policy and its typed configuration have in common (U2). */
#include "upstream/cluster_lb.h"
#include <inttypes.h>
#include <math.h>

#define DEFAULT_RING_MIN    1024
#define DEFAULT_RING_MAX    (8u << 20)
#define DEFAULT_MAGLEV_SIZE 65537
#define MAX_MAGLEV_SIZE     5000011

bool lb_bias_build(const pb_RuntimeDouble *m, struct mz_cluster *c, struct mz_err *err)
{
    struct lb_config *lb = &cluster_priv(c)->lb;
    if (!m)
        return true;
    lb->active_request_bias = m->default_value;
    if (!(m->default_value >= 0))
        return mz_err_set(err, "must not be negative, is %g", m->default_value) ||
               mz_err_at(err, "active_request_bias");
    if (m->runtime_key && m->runtime_key[0])
        lb->bias_key = cluster_keep_str(c, m->runtime_key);
    return true;
}

bool lb_choice_build(const pb_UInt32Value *m, struct lb_config *lb, struct mz_err *err)
{
    lb->choice_count = mz_u32_or(m, 2);
    if (lb->choice_count < 2)
        return mz_err_set(err, "must be at least 2, is %u", lb->choice_count) ||
               mz_err_at(err, "choice_count");
    return true;
}

bool lb_slow_build(const pb_Duration *window, const pb_RuntimeDouble *aggression,
                   const pb_Percent *least, struct mz_cluster *c, struct mz_err *err)
{
    uint64_t us;
    double percent;
    if (!mz_duration_us(window, 0, &us, err))
        return mz_err_at(err, "slow_start_window");
    if (!percent_build(least, 10, &percent, err))
        return mz_err_at(err, "min_weight_percent");
    if (!us)
        return true;
    struct slow_start *s = cluster_keep(c, sizeof(*s));
    s->window_us = us;
    s->aggression = aggression ? aggression->default_value : 1;
    s->min_weight = percent / 100;
    if (aggression && aggression->runtime_key && aggression->runtime_key[0])
        s->key = cluster_keep_str(c, aggression->runtime_key);
    cluster_priv(c)->lb.slow = s;
    return true;
}

bool lb_zone_build(const pb_Percent *enabled, const pb_UInt64Value *least, struct lb_config *lb,
                   struct mz_err *err)
{
    double percent;
    if (!percent_build(enabled, 100, &percent, err))
        return mz_err_at(err, "routing_enabled");
    lb->zone.routing_enabled = (uint32_t)lround(percent);
    lb->zone.min_cluster_size = mz_u64_or(least, 6);
    return true;
}

bool lb_ring_build(const pb_UInt64Value *least, const pb_UInt64Value *most, bool murmur,
                   struct lb_config *lb, struct mz_err *err)
{
    struct hash_config *h = &lb->hash;
    h->min_size = mz_u64_or(least, DEFAULT_RING_MIN);
    h->max_size = mz_u64_or(most, DEFAULT_RING_MAX);
    h->function = murmur ? HASH_MURMUR2 : HASH_XX;
    if (!h->min_size || h->min_size > DEFAULT_RING_MAX || h->max_size > DEFAULT_RING_MAX)
        return mz_err_set(err, "must be 1 to %u", DEFAULT_RING_MAX) ||
               mz_err_at(err, "minimum_ring_size");
    return h->min_size <= h->max_size || mz_err_set(err,
                                                    "ring hash: minimum_ring_size (%" PRIu64
                                                    ") > maximum_ring_size (%" PRIu64 ")",
                                                    h->min_size, h->max_size);
}

static bool is_prime(uint64_t n)
{
    for (uint64_t i = 2; i * i <= n; i++)
        if (n % i == 0)
            return false;
    return n > 1;
}

bool lb_maglev_build(const pb_UInt64Value *size, struct lb_config *lb, struct mz_err *err)
{
    lb->hash.table_size = mz_u64_or(size, DEFAULT_MAGLEV_SIZE);
    return (lb->hash.table_size <= MAX_MAGLEV_SIZE && is_prime(lb->hash.table_size)) ||
           mz_err_set(err, "The table size of maglev must be prime number") ||
           mz_err_at(err, "table_size");
}

bool lb_balance_build(const pb_UInt32Value *factor, struct lb_config *lb, struct mz_err *err)
{
    lb->hash.balance_factor = mz_u32_or(factor, 0);
    return !factor || factor->value >= 100 ||
           mz_err_set(err, "must be at least 100, is %u", factor->value) ||
           mz_err_at(err, "hash_balance_factor");
}

bool lb_consistent_build(const pb_ConsistentHashingLbConfig *m, struct lb_config *lb,
                         struct mz_err *err)
{
    if (!m)
        return true;
    lb->hash.use_hostname = m->use_hostname_for_hashing;
    return lb_balance_build(m->hash_balance_factor, lb, err) ||
           mz_err_at(err, "consistent_hashing_lb_config");
}
