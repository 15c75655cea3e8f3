/* envoy.filters.network.set_filter_state: texts made of a new connection become objects of its filter state (L5). */
#include "filters/network/network_filters.h"
#include "filters/state_value.h"
#include "proto/mapper.h"

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_network_set_filter_state_Config *m = msg;
    return state_values_build(m->on_new_connection, m->n_on_new_connection, "on_new_connection",
                              err);
}

static void config_destroy(void *cfg)
{
    state_values_destroy(cfg);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct mz_stream_info *info = mz_downstream_info(f->down);
    const struct mz_format_ctx ctx = { .info = info };
    state_values_set(f->cfg, info, &ctx);
    return MZ_NET_CONTINUE;
}

const struct mz_net_filter_type mz_net_filter_set_filter_state = {
    .name = "envoy.filters.network.set_filter_state",
    .config_type = "envoy.extensions.filters.network.set_filter_state.v3.Config",
    .size = sizeof(struct mz_net_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
};
