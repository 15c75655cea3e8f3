/* Round robin (U2): in order where weights are equal, else by earliest deadline. Each worker begins at a place of its own. */
#include "upstream/upstream_priv.h"

static double host_weight(const void *arg, uint32_t item)
{
    const struct host_list *hosts = arg;
    return hosts->v[item]->weight;
}

static struct mz_host *pick(const struct lb_config *cfg, const struct host_list *hosts,
                            struct lb_source *state, struct mz_rand *r)
{
    (void)cfg;
    if (hosts->weighted)
        return lb_pick_weighted(hosts, state, r, host_weight, hosts);
    if (state->next >= hosts->n) /* at first, and after the end */
        state->next = state->next == UINT64_MAX ? mz_rand_below(r, hosts->n) : 0;
    return hosts->v[state->next++];
}

const struct lb_type lb_round_robin = {
    .name = "round robin",
    .config = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    .pick = pick,
};
