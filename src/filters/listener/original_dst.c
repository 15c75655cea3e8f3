/*
 * original_dst (L2): where the client wanted to go before REDIRECT or TPROXY sent it here, IPv4 and IPv6. A client that
 * dials this listener itself wanted to go nowhere else: its connection must not be sent on to where it already is (G17).
 */
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
    if (!mz_addr_is_ip(&in->local) || !mz_socket_original_dst(in->fd, &to))
        return MZ_LF_CONTINUE;
    bool here = mz_addr_eq(&to, &in->socket_local) && mz_addr_port(&to) == in->listening_port;
    in->local = to;
    in->local_asked = true;
    in->local_restored = !here;
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
