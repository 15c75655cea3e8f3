/*
 * original_src (L2): connections to upstreams that are made for this one come from the client's address, as if the proxy were
 * not there. It needs the right to do so (CAP_NET_ADMIN) and routes that bring the answers back.
 */
#include "filters/listener/listener_filters.h"
#include "proto/mapper.h"

struct source_cfg {
    uint32_t mark;
};

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_OriginalSrc *m = msg;
    (void)f;
    (void)err;
    struct source_cfg *c = mz_new0(MZ_MEM_CONFIG, struct source_cfg);
    *c = (struct source_cfg){ .mark = m->mark };
    return c;
}

static void destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static enum mz_lfilter_flow on_accept(struct mz_lfilter *f)
{
    const struct source_cfg *c = f->cfg;
    struct mz_incoming *in = f->in;
    if (!mz_addr_is_ip(&in->remote))
        return MZ_LF_CONTINUE;
    in->upstream_source = in->remote;
    in->upstream_mark = c->mark;
    mz_addr_set_port(&in->upstream_source, 0);
    return MZ_LF_CONTINUE;
}

const struct mz_lfilter_type mz_lfilter_original_src = {
    .name = "envoy.filters.listener.original_src",
    .config_type = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_accept = on_accept,
};
