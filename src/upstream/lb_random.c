/* Random (U2): weights are ignored, as Envoy does. */
#include "upstream/upstream_priv.h"

static struct mz_host *pick(const struct lb_config *cfg, const struct host_list *hosts,
                            struct lb_source *state, struct mz_rand *r)
{
    (void)cfg;
    (void)state;
    return hosts->v[hosts->n == 1 ? 0 : mz_rand_below(r, hosts->n)];
}

const struct lb_type lb_random = {
    .name = "random",
    .config = "envoy.extensions.load_balancing_policies.random.v3.Random",
    .pick = pick,
};
