#include "filters/http/http_filters.h"
#include "proto/names.h"
#include "upstream/dns_cache.h"

/*
 * dynamic_forward_proxy (U1): a request for a cluster of that kind waits until the name that it asks for is resolved. A stream that
 * ends waits no longer.
 */

struct config {
    struct mz_dns_cache *cache;
};
struct route_config {
    struct mz_arena *arena;
    struct mz_str host,
        header; /* the request's host becomes this; what this header says. "": it stays */
};
struct state {
    struct mz_filter base;
    struct mz_discovery_wait wait;
    bool waiting;
    uint16_t default_port;
};

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_dynamic_forward_proxy_FilterConfig *m = msg;
    if (m->implementation_specifier_case !=
        pb_dynamic_forward_proxy_FilterConfig_IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG) {
        (void)(mz_err_set(err, "is required") || mz_err_at(err, "dns_cache_config"));
        return NULL;
    }
    struct mz_dns_cache *cache = mz_dns_cache_get(f->clusters, m->dns_cache_config, err);
    if (!cache) {
        (void)mz_err_at(err, "dns_cache_config");
        return NULL;
    }
    struct config *c = mz_new0(MZ_MEM_CONFIG, struct config);
    c->cache = cache;
    return c;
}

static void route_config_destroy(void *cfg)
{
    mz_arena_destroy(((struct route_config *)cfg)->arena);
}

static struct mz_str lower(const char *name, struct mz_arena *a)
{
    struct mz_str own = mz_arena_dup(a, mz_str_c(name));
    for (size_t i = 0; i < own.n; i++)
        ((char *)(uintptr_t)own.p)[i] = mz_lower(own.p[i]);
    return own;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    (void)err;
    const pb_dynamic_forward_proxy_PerRouteConfig *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct route_config *c = mz_arena_new0(a, struct route_config);
    c->arena = a;
    if (m->host_rewrite_specifier_case ==
        pb_dynamic_forward_proxy_PerRouteConfig_HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL)
        c->host = mz_arena_dup(a, mz_str_c(m->host_rewrite_literal));
    else if (m->host_rewrite_specifier_case ==
             pb_dynamic_forward_proxy_PerRouteConfig_HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER)
        c->header = lower(m->host_rewrite_header, a);
    return c;
}

/* ---- a request ---- */

static void refuse(struct state *st, const char *body, const char *details, uint64_t flags)
{
    const struct mz_local_reply r = {
        .status = 503, .body = mz_str_c(body), .details = details, .flags = flags
    };
    mz_stream_local_reply(st->base.stream, &r);
}

static void not_resolved(struct state *st, struct mz_str why)
{
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    mz_stream_story(st->base.stream, MZ_STEP_FILTER, st->base.name, why, 0, 0);
    refuse(st, "DNS resolution failure",
           mz_arena_printf(a, "dns_resolution_failure{" MZ_STR_FMT "}", MZ_STR_ARG(why)).p,
           MZ_FLAG(DNS_FAILURE));
}

static void on_resolved(struct mz_discovery_wait *w, enum mz_discovery how);

static enum mz_flow load(struct state *st)
{
    const struct config *c = st->base.cfg;
    struct mz_stream *s = st->base.stream;
    const struct mz_dns_answer *a;
    struct mz_str authority = mz_headers_value_id(mz_stream_request_headers(s), MZ_H_AUTHORITY);
    switch (mz_dns_cache_load(c->cache, mz_stream_worker(s)->upstream, authority, st->default_port,
                              &st->wait, on_resolved, &a)) {
    case MZ_DNS_LOADED:
        if (a->addr.len)
            return MZ_FLOW_CONTINUE;
        not_resolved(st, a->why);
        break;
    case MZ_DNS_LOADING:
        st->waiting = true;
        return MZ_FLOW_STOP_AND_WATERMARK;
    case MZ_DNS_BAD:
        not_resolved(st, MZ_STR("no_host"));
        break;
    case MZ_DNS_FULL:
        refuse(st, "DNS cache overflow", "dns_cache_overflow", 0);
        break;
    case MZ_DNS_BUSY:
        refuse(st, "Dynamic forward proxy pending request overflow",
               "dynamic_forward_proxy_pending_request_overflow", 0);
        break;
    }
    return MZ_FLOW_STOP;
}

static void wait_over(struct state *st)
{
    if (st->waiting)
        mz_dns_cache_waited(((const struct config *)st->base.cfg)->cache);
    st->waiting = false;
}

static void on_resolved(struct mz_discovery_wait *w, enum mz_discovery how)
{
    (void)how;
    struct state *st = MZ_CONTAINER(w, struct state, wait);
    wait_over(st);
    if (load(st) == MZ_FLOW_CONTINUE)
        mz_filter_continue_request(&st->base);
}

static void rewrite(const struct route_config *r, struct mz_headers *h)
{
    const struct mz_header *e = r->header.n ? mz_headers_get(h, r->header) : NULL;
    if (r->host.n)
        mz_headers_set_id(h, MZ_H_AUTHORITY, r->host);
    else if (e)
        mz_headers_set_id(h, MZ_H_AUTHORITY, e->value);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct mz_weighted_cluster *w;
    struct mz_str name;
    struct mz_wcluster *cluster = mz_stream_cluster(f->stream, &name, &w);
    if (!cluster || !mz_cluster_forwards(mz_wcluster_info(cluster), &st->default_port))
        return MZ_FLOW_CONTINUE;
    if (f->route_cfg)
        rewrite(f->route_cfg, h);
    return load(st);
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = (struct state *)(void *)f;
    mz_discover_cancel(&st->wait);
    wait_over(st);
}

const struct mz_http_filter_type mz_filter_dynamic_forward_proxy = {
    .name = "envoy.filters.http.dynamic_forward_proxy",
    .config_type = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    .route_config_type = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_destroy = on_destroy,
};
