/* original_dst (L2): where the client wanted to go before iptables sent it here (SO_ORIGINAL_DST), IPv4 and IPv6. */
#include "base/log.h"
#include "filters/listener/listener_filters.h"
#include "net/socket.h"

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)f;
    (void)err;
    return mz_alloc0(MZ_MEM_CONFIG, 1);
}

static void destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static enum mz_lfilter_flow on_accept(struct mz_lfilter *f)
{
    struct mz_addr to;
    struct mz_incoming *in = f->in;
    if (mz_socket_original_dst(in->fd, &to) && !mz_addr_eq(&to, &in->local)) {
        in->local = to;
        in->local_restored = true;
    }
    return MZ_LF_CONTINUE;
}

const struct mz_lfilter_type mz_lfilter_original_dst = {
    .name = "envoy.filters.listener.original_dst",
    .config_type = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_accept = on_accept,
};
