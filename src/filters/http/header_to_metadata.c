#include "filters/http/header_to_metadata.h"
#include "filters/http/http_filters.h"

/* header_to_metadata: values of headers and cookies become dynamic metadata of the stream (H9). */

struct state {
    struct mz_filter base;
    const struct h2m_cfg
        *cfg; /* the route's, else the filter's: as it was when the first headers came */
};

static void config_destroy(void *cfg)
{
    h2m_destroy(cfg);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    return h2m_build(msg, f->stats, err);
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_header_to_metadata_Config *m = msg;
    if (!m->n_request_rules && !m->n_response_rules) {
        (void)mz_err_set(err, "one of request_rules, response_rules is required per route");
        return NULL;
    }
    return h2m_build(m, f->stats, err);
}

static enum mz_flow apply(struct mz_filter *f, struct mz_headers *h, bool response)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->cfg)
        st->cfg = f->route_cfg ? f->route_cfg : f->cfg;
    h2m_apply(st->cfg, response, h, &mz_stream_info(f->stream)->dynamic_metadata,
              mz_stream_arena(f->stream));
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    return apply(f, h, false);
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    return apply(f, h, true);
}

const struct mz_http_filter_type mz_filter_header_to_metadata = {
    .name = "envoy.filters.http.header_to_metadata",
    .config_type = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
