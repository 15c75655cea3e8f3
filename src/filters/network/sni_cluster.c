/* envoy.filters.network.sni_cluster: the cluster of a tcp_proxy behind it is what the client named by SNI (L5). */
#include "filters/network/network_filters.h"
#include "filters/network/tcp_proxy.h"
#include "filters/state_value.h"

static const char sni_cluster_has_no_settings;

static void *sni_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)f;
    (void)err;
    return (void *)(uintptr_t)&sni_cluster_has_no_settings;
}

static enum mz_net_flow sni_new(struct mz_net_filter *f)
{
    if (f->down->sni.n)
        state_text_set(mz_downstream_info(f->down), MZ_STR(TCP_STATE_CLUSTER), f->down->sni);
    return MZ_NET_CONTINUE;
}

const struct mz_net_filter_type mz_net_filter_sni_cluster = {
    .name = "envoy.filters.network.sni_cluster",
    .config_type = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
    .size = sizeof(struct mz_net_filter),
    .config_build = sni_build,
    .on_new_connection = sni_new,
};
