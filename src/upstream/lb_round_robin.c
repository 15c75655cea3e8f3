/* Round robin (U2): in order where weights are equal, else by earliest deadline. Each worker begins at a place of its own. */
#include "upstream/upstream_priv.h"

struct weigh {
    const struct host_list *hosts;
    const struct slow_start *slow;
    uint64_t now_us; /* 0: nobody is in slow start */
    double aggression;
};

static double host_weight(const void *arg, uint32_t item)
{
    const struct weigh *w = arg;
    const struct mz_host *h = w->hosts->v[item];
    return w->now_us ? weight_of_host(h) * slow_start_factor(w->slow, h, w->now_us, w->aggression)
                     : weight_of_host(h);
}

static struct mz_host *pick(const struct lb *b, const struct host_list *hosts,
                            struct lb_source *state)
{
    uint64_t now_us = b->slow_until_us ? slow_start_now(b) : 0;
    if (hosts->weighted || MZ_UNLIKELY(now_us)) {
        struct weigh w = { hosts, b->cfg->slow, now_us, 1 };
        if (now_us)
            w.aggression = slow_start_aggression(b->cfg->slow);
        return lb_pick_weighted(hosts, state, b->rand, host_weight, &w);
    }
    if (state->next >= hosts->n) /* at first, and after the end */
        state->next = state->next == UINT64_MAX ? mz_rand_below(b->rand, hosts->n) : 0;
    return hosts->v[state->next++];
}

const struct lb_type lb_round_robin = {
    .name = "round robin",
    .pick = pick,
};
