#include "filters/http/http_filters.h"
#include "filters/state_value.h"
#include "proto/mapper.h"

/* set_filter_state: texts made of the request become objects of the stream's filter state (H9). */

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_http_set_filter_state_Config *m = msg;
    return state_values_build(m->on_request_headers, m->n_on_request_headers, "on_request_headers",
                              err);
}

static void config_destroy(void *cfg)
{
    state_values_destroy(cfg);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h, (void)end;
    struct mz_stream_info *info = mz_stream_info(f->stream);
    const struct mz_format_ctx ctx = { .info = info };
    state_values_set(f->route_cfg ? f->route_cfg : f->cfg, info, &ctx);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_set_filter_state = {
    .name = "envoy.filters.http.set_filter_state",
    .config_type = "envoy.extensions.filters.http.set_filter_state.v3.Config",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
};
