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
};

static double host_weight(const void *arg, uint32_t item)
{
    const struct weigh *w = arg;
    const struct mz_host *h = w->hosts->v[item];
    double busy = (double)active(h) + 1;
    bool plain = !(w->bias < 1.0) && !(w->bias > 1.0); /* the default: spares pow() */
    return h->weight / (plain ? busy : pow(busy, w->bias > 0 ? w->bias : 0));
}

static struct mz_host *pick(const struct lb_config *cfg, const struct host_list *hosts,
                            struct lb_source *state, struct mz_rand *r)
{
    if (hosts->weighted) {
        double bias = cfg->active_request_bias;
        if (cfg->bias_key.n)
            bias = mz_runtime_double(mz_runtime_here(), cfg->bias_key, bias);
        struct weigh w = { hosts, bias };
        return lb_pick_weighted(hosts, state, r, host_weight, &w);
    }
    struct mz_host *best = NULL;
    uint64_t best_active = 0;
    for (uint32_t i = 0; i < cfg->choice_count; i++) {
        struct mz_host *h = hosts->v[hosts->n == 1 ? 0 : mz_rand_below(r, hosts->n)];
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
    .config = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    .pick = pick,
};
