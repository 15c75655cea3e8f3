/*
 * original_dst (L2): where the client wanted to go before REDIRECT or TPROXY sent it here, IPv4 and IPv6. A client that
 * dials this listener itself wanted to go nowhere else: its connection must not be sent on to where it already is (G17).
 */
#include "base/log.h"
#include "filters/listener/listener_filters.h"
#include "net/socket.h"
#include "observe/metadata.h"
#include "observe/shared_state.h"

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

/* An internal listener's: who made the connection says whose it is, by filter state or else by metadata. */
static bool said(const struct mz_incoming *in, struct mz_str state, struct mz_str key,
                 struct mz_addr *out)
{
    const struct mz_filter_object *o = mz_shared_state_get(in->state, state);
    if (o && o->text)
        return mz_addr_parse(o->text(o, in->arena), out);
    const struct mz_value *v =
        in->metadata
            ? mz_meta_get(in->metadata, MZ_STR("envoy.filters.listener.original_dst"), &key, 1)
            : NULL;
    return v && v->kind == MZ_VALUE_STRING && mz_addr_parse(v->str, out);
}

static void of_internal(struct mz_incoming *in)
{
    struct mz_addr a;
    if (said(in, MZ_STR("envoy.filters.listener.original_dst.local_ip"), MZ_STR("local"), &a)) {
        in->local = a;
        in->local_restored = true;
    }
    if (said(in, MZ_STR("envoy.filters.listener.original_dst.remote_ip"), MZ_STR("remote"), &a))
        in->remote = a;
}

static enum mz_lfilter_flow on_accept(struct mz_lfilter *f)
{
    struct mz_addr to;
    struct mz_incoming *in = f->in;
    if (in->wire)
        of_internal(in);
    if (in->wire || !mz_addr_is_ip(&in->local) || !mz_socket_original_dst(in->fd, &to))
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
