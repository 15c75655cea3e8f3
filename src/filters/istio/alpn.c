/* envoy.filters.http.alpn (S3): what a request's upstream connection offers by ALPN, chosen by the protocol that it will speak. */
#include "filters/istio/istio_filters.h"
#include "filters/state_value.h"
#include "proto/mapper.h"
#include "upstream/cluster.h"

enum speaks { SPEAKS_HTTP10, SPEAKS_HTTP11, SPEAKS_HTTP2, SPEAKS__COUNT };
struct config {
    struct mz_arena *arena;
    struct mz_str offer[SPEAKS__COUNT]; /* joined by commas; "": as configured */
};

static void config_destroy(void *cfg)
{
    mz_arena_destroy(((struct config *)cfg)->arena);
}

static struct mz_str joined(char *const *v, size_t n, struct mz_arena *a)
{
    struct mz_str all = { "", 0 };
    for (size_t i = 0; i < n; i++)
        all = mz_arena_cat(a, 3,
                           (struct mz_str[]){ all, i ? MZ_STR(",") : MZ_STR(""), mz_str_c(v[i]) });
    return all;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_alpn_FilterConfig *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct config *c = mz_arena_new0(a, struct config);
    c->arena = a;
    for (size_t i = 0; i < m->n_alpn_override; i++) {
        const pb_FilterConfig_AlpnOverride *o = m->alpn_override[i];
        if ((unsigned)o->upstream_protocol >= SPEAKS__COUNT) {
            mz_err_set(err, "unknown protocol %d", (int)o->upstream_protocol);
            mz_err_at(err, "alpn_override[%zu].upstream_protocol", i);
            mz_arena_destroy(a);
            return NULL;
        }
        if (!c->offer[o->upstream_protocol].n) /* the first one of a protocol counts */
            c->offer[o->upstream_protocol] = joined(o->alpn_override, o->n_alpn_override, a);
    }
    return c;
}

static enum speaks speaks(const struct mz_cluster *c, const struct mz_stream_info *i)
{
    if (c->use_downstream_protocol && i->has_protocol)
        return i->protocol == MZ_HTTP2 ? SPEAKS_HTTP2 : SPEAKS_HTTP11;
    return c->http2 || c->auto_protocol ? SPEAKS_HTTP2 : SPEAKS_HTTP11;
}

static bool is_off(const struct mz_cluster *c)
{
    const struct mz_str key = MZ_STR("alpn_override");
    const struct mz_value *v = mz_meta_get(c->metadata, MZ_STR("istio"), &key, 1);
    return v && v->kind == MZ_VALUE_STRING && mz_str_eq(v->str, MZ_STR("false"));
}

static void imagine(struct mz_imagined *q)
{
    const struct config *c = q->cfg;
    if (!q->cluster || is_off(q->cluster))
        return;
    struct mz_str offer = c->offer[speaks(q->cluster, q->info)];
    if (offer.n)
        state_text_set(q->info, MZ_STR(MZ_STATE_ALPN), offer);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    (void)end;
    const struct config *c = f->cfg;
    const struct mz_weighted_cluster *w;
    struct mz_str name;
    struct mz_wcluster *wc = mz_stream_cluster(f->stream, &name, &w);
    if (!wc || is_off(mz_wcluster_info(wc)))
        return MZ_FLOW_CONTINUE;
    struct mz_stream_info *i = mz_stream_info(f->stream);
    struct mz_str offer = c->offer[speaks(mz_wcluster_info(wc), i)];
    if (offer.n)
        state_text_set(i, MZ_STR(MZ_STATE_ALPN), offer);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_istio_alpn = {
    .name = "envoy.filters.http.alpn",
    .config_type = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .imagine = imagine,
};
