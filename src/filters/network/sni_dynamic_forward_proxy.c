/*
 * envoy.filters.network.sni_dynamic_forward_proxy: a connection waits until the name that its client asked for in TLS is resolved;
 * a tcp_proxy behind it goes to a cluster of that DNS cache (L5, U1). Without a name it goes on, and the cluster knows no host.
 */
#include <stdio.h>

#include "filters/network/network_filters.h"
#include "filters/state_value.h"
#include "proto/names.h"
#include "upstream/dns_cache.h"

struct sni_forward_cfg {
    struct mz_dns_cache *cache;
    uint16_t port;
    char text[8]; /* the port's */
};
struct sni_forward {
    struct mz_net_filter base;
    struct mz_discovery_wait wait;
    bool waiting;
};

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_sni_dynamic_forward_proxy_FilterConfig *m = msg;
    struct mz_dns_cache *cache = mz_dns_cache_get(f->clusters, m->dns_cache_config, err);
    if (!cache) {
        (void)mz_err_at(err, "dns_cache_config");
        return NULL;
    }
    struct sni_forward_cfg *c = mz_new0(MZ_MEM_CONFIG, struct sni_forward_cfg);
    c->cache = cache;
    c->port = (uint16_t)m->port_value;
    (void)snprintf(c->text, sizeof(c->text), "%u", (unsigned)c->port);
    return c;
}

static void wait_over(struct sni_forward *s)
{
    if (s->waiting)
        mz_dns_cache_waited(((const struct sni_forward_cfg *)s->base.cfg)->cache);
    s->waiting = false;
}

/* What has no address goes on, too: the cluster has no host for it then. */
static void on_resolved(struct mz_discovery_wait *w, enum mz_discovery how)
{
    (void)how;
    struct sni_forward *s = MZ_CONTAINER(w, struct sni_forward, wait);
    wait_over(s);
    mz_conn_read_disable(s->base.down->conn, false);
    mz_net_filter_continue(&s->base);
}

static enum mz_net_flow load(struct sni_forward *s)
{
    const struct sni_forward_cfg *c = s->base.cfg;
    const struct mz_dns_answer *a;
    switch (mz_dns_cache_load(c->cache, s->base.worker->upstream, s->base.down->sni, c->port,
                              &s->wait, on_resolved, &a)) {
    case MZ_DNS_LOADED:
    case MZ_DNS_BAD: /* nor has the cluster one of that name */
        return MZ_NET_CONTINUE;
    case MZ_DNS_LOADING:
        s->waiting = true;
        mz_conn_read_disable(s->base.down->conn, true); /* so nobody behind sees bytes too early */
        return MZ_NET_STOP;
    case MZ_DNS_FULL:
    case MZ_DNS_BUSY:
        break;
    }
    mz_conn_close(s->base.down->conn, MZ_CLOSE_NOW, "", 0);
    return MZ_NET_STOP;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    const struct sni_forward_cfg *c = f->cfg;
    if (!f->down->sni.n)
        return MZ_NET_CONTINUE;
    state_text_set(mz_downstream_info(f->down), MZ_STR(MZ_STATE_DYNAMIC_PORT), mz_str_c(c->text));
    return load((struct sni_forward *)(void *)f);
}

static void give_up(struct mz_net_filter *f)
{
    struct sni_forward *s = (struct sni_forward *)(void *)f;
    mz_discover_cancel(&s->wait);
    wait_over(s);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    if (ev != MZ_CONN_CONNECTED)
        give_up(f);
}

const struct mz_net_filter_type mz_net_filter_sni_dynamic_forward_proxy = {
    .name = "envoy.filters.network.sni_dynamic_forward_proxy",
    .config_type = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
    .size = sizeof(struct sni_forward),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_event = on_event,
    .destroy = give_up,
};
