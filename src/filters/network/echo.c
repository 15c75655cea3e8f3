/* envoy.filters.network.echo: what comes goes back (L5). */
#include "filters/network/network_filters.h"

static const char echo_has_no_settings;

static void *echo_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)f;
    (void)err;
    return (void *)(uintptr_t)&echo_has_no_settings;
}

static enum mz_net_flow echo_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    mz_conn_write(f->down->conn, data, end);
    return MZ_NET_STOP;
}

static enum mz_net_flow echo_new(struct mz_net_filter *f)
{
    mz_conn_set_half_close(f->down->conn, true);
    return MZ_NET_CONTINUE;
}

static void echo_above(struct mz_net_filter *f)
{
    mz_conn_read_disable(f->down->conn, true);
}

static void echo_below(struct mz_net_filter *f)
{
    mz_conn_read_disable(f->down->conn, false);
}

const struct mz_net_filter_type mz_net_filter_echo = {
    .name = "envoy.filters.network.echo",
    .config_type = "envoy.extensions.filters.network.echo.v3.Echo",
    .terminal = true,
    .size = sizeof(struct mz_net_filter),
    .config_build = echo_build,
    .on_new_connection = echo_new,
    .on_data = echo_data,
    .above_high = echo_above,
    .below_low = echo_below,
};
