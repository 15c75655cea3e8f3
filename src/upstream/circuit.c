/*
 * Circuit breakers (U4): numbers of the whole process, taken and given with relaxed atomics. The gauges are set by
 * whoever crosses the limit: as sums over threads they come out right whichever thread crosses back.
 */
#include "upstream/upstream_priv.h"

static int64_t *circuit_number(struct mz_circuit *b, enum mz_circuit_kind k)
{
    int64_t *const numbers[] = { &b->connections, &b->pending, &b->requests, &b->retries,
                                 &b->pools };
    return numbers[k];
}

/* Retries have a budget instead of a number where one is configured. */
static uint64_t retry_limit(struct mz_circuit *b)
{
    if (!b->has_budget)
        return b->max_retries;
    int64_t busy = __atomic_load_n(&b->requests, __ATOMIC_RELAXED) +
                   __atomic_load_n(&b->pending, __ATOMIC_RELAXED);
    uint64_t share = (uint64_t)((double)(busy > 0 ? busy : 0) * b->budget_percent / 100.0);
    return share > b->min_retry_concurrency ? share : b->min_retry_concurrency;
}

static uint64_t circuit_limit(struct mz_circuit *b, enum mz_circuit_kind k)
{
    switch (k) {
    case MZ_CIRCUIT_CX:
        return b->max_connections;
    case MZ_CIRCUIT_PENDING:
        return b->max_pending;
    case MZ_CIRCUIT_RQ:
        return b->max_requests;
    case MZ_CIRCUIT_RETRY:
        return retry_limit(b);
    case MZ_CIRCUIT_POOL:
        return b->max_pools;
    }
    return 0;
}

/* @before and @after: the number around the change. */
static void circuit_gauges(struct mz_circuit *b, enum mz_circuit_kind k, uint64_t limit,
                           int64_t before, int64_t after)
{
    if (b->track_remaining)
        mz_gauge_add(b->scope, b->remaining_at + k, before - after);
    bool was = (uint64_t)before >= limit, is = (uint64_t)after >= limit;
    if (MZ_UNLIKELY(was != is) &&
        !(k == MZ_CIRCUIT_RETRY && b->has_budget)) /* a budget's limit moves by itself */
        mz_gauge_add(b->scope, b->open_at + k, is ? 1 : -1);
}

bool mz_circuit_can(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    struct mz_circuit *b = &c->circuit[p];
    return (uint64_t)__atomic_load_n(circuit_number(b, k), __ATOMIC_RELAXED) < circuit_limit(b, k);
}

void mz_circuit_force(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    struct mz_circuit *b = &c->circuit[p];
    int64_t before = __atomic_fetch_add(circuit_number(b, k), 1, __ATOMIC_RELAXED);
    circuit_gauges(b, k, circuit_limit(b, k), before, before + 1);
}

bool mz_circuit_take(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    struct mz_circuit *b = &c->circuit[p];
    int64_t *n = circuit_number(b, k), before = __atomic_load_n(n, __ATOMIC_RELAXED);
    uint64_t limit = circuit_limit(b, k);
    do {
        if ((uint64_t)before >= limit)
            return false;
    } while (!__atomic_compare_exchange_n(n, &before, before + 1, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    circuit_gauges(b, k, limit, before, before + 1);
    return true;
}

void mz_circuit_give(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    struct mz_circuit *b = &c->circuit[p];
    int64_t before = __atomic_fetch_sub(circuit_number(b, k), 1, __ATOMIC_RELAXED);
    MZ_ASSERT(before > 0);
    circuit_gauges(b, k, circuit_limit(b, k), before, before - 1);
}

void circuit_scopes(struct mz_cluster *c, struct mz_stats *st, struct mz_str prefix)
{
    struct mz_circuit *v = c->circuit;
    unsigned tracks = (unsigned)v[MZ_PRIORITY_DEFAULT].track_remaining |
                      (unsigned)v[MZ_PRIORITY_HIGH].track_remaining << 1;
    uint16_t remaining_at = MZ_CM__COUNT + MZ_PRIORITY__COUNT * MZ_CIRCUIT_GAUGES;
    for (unsigned i = 0; i < MZ_PRIORITY__COUNT; i++) {
        struct mz_circuit *b = &v[i];
        b->scope = mz_scope_create(st, &mz_cluster_member_stats[tracks], prefix);
        b->open_at = (uint16_t)(MZ_CM__COUNT + i * MZ_CIRCUIT_GAUGES);
        if (!b->track_remaining)
            continue;
        b->remaining_at = remaining_at;
        remaining_at = (uint16_t)(remaining_at + MZ_CIRCUIT_GAUGES);
        for (enum mz_circuit_kind k = MZ_CIRCUIT_CX; k <= MZ_CIRCUIT_POOL; k++)
            mz_gauge_add(b->scope, b->remaining_at + k, (int64_t)circuit_limit(b, k));
    }
}
