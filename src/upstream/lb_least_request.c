/*
 * Least request (U2): the least busy of choice_count hosts taken at random, the first one where equal. With unequal weights:
 * earliest deadline with weight / (active + 1)^bias.
 */
#include "runtime/runtime.h"
#include "upstream/upstream_priv.h"
#include <math.h>

static uint64_t active(const struct mz_host *h)
{
    return __atomic_load_n(&h->stats.rq_active, __ATOMIC_RELAXED);
}

struct weigh {
    const struct host_list *hosts;
    double bias;
    const struct slow_start *slow;
    uint64_t now_us; /* 0: nobody is in slow start */
    double aggression;
};

static double host_weight(const void *arg, uint32_t item)
{
    const struct weigh *w = arg;
    const struct mz_host *h = w->hosts->v[item];
    double busy = (double)active(h) + 1;
    bool plain = !(w->bias < 1.0) && !(w->bias > 1.0); /* the default: spares pow() */
    double weight = weight_of_host(h) / (plain ? busy : pow(busy, w->bias));
    return w->now_us ? weight * slow_start_factor(w->slow, h, w->now_us, w->aggression) : weight;
}

static struct mz_host *pick_weighted(const struct lb *b, const struct host_list *hosts,
                                     struct lb_source *state, uint64_t now_us)
{
    const struct lb_config *cfg = b->cfg;
    struct weigh w = { hosts, cfg->active_request_bias, cfg->slow, now_us, 1 };
    if (cfg->bias_key.n)
        w.bias = mz_runtime_double(mz_runtime_here(), cfg->bias_key, w.bias);
    if (!(w.bias >= 0)) /* the runtime says nonsense */
        w.bias = 1;
    if (now_us)
        w.aggression = slow_start_aggression(cfg->slow);
    return lb_pick_weighted(hosts, state, b->rand, host_weight, &w);
}

/* Of all hosts; among equals by chance. */
static struct mz_host *scan(const struct host_list *hosts, struct mz_rand *r)
{
    struct mz_host *best = hosts->v[0];
    uint64_t best_active = active(best), equal = 1;
    for (uint32_t i = 1; i < hosts->n; i++) {
        uint64_t a = active(hosts->v[i]);
        if (a > best_active)
            continue;
        equal = a < best_active ? 1 : equal + 1;
        best_active = a;
        if (equal == 1 || mz_rand_below(r, equal) == 0)
            best = hosts->v[i];
    }
    return best;
}

static struct mz_host *pick(const struct lb *b, const struct host_list *hosts,
                            struct lb_source *state)
{
    uint64_t now_us = b->slow_until_us ? slow_start_now(b) : 0;
    if (hosts->weighted || MZ_UNLIKELY(now_us))
        return pick_weighted(b, hosts, state, now_us);
    if (b->cfg->full_scan)
        return scan(hosts, b->rand);
    struct mz_host *best = NULL;
    uint64_t best_active = 0;
    for (uint32_t i = 0; i < b->cfg->choice_count; i++) {
        struct mz_host *h = hosts->v[hosts->n == 1 ? 0 : mz_rand_below(b->rand, hosts->n)];
        uint64_t a = active(h);
        if (!best || a < best_active) {
            best = h;
            best_active = a;
        }
    }
    return best;
}

const struct lb_type lb_least_request = {
    .name = "least request",
    .pick = pick,
};
