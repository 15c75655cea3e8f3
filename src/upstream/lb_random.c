/* Random (U2): weights are ignored, as Envoy does. */
#include "upstream/upstream_priv.h"

static struct mz_host *pick(const struct lb *b, const struct host_list *hosts,
                            struct lb_source *state)
{
    (void)state;
    return hosts->v[hosts->n == 1 ? 0 : mz_rand_below(b->rand, hosts->n)];
}

const struct lb_type lb_random = {
    .name = "random",
    .pick = pick,
};
