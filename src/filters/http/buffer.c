#include "filters/http/http_filters.h"

#include "proto/mapper.h"
#include <stdio.h>

/* buffer: a request goes on when all of it is there, with its length; a body above the limit is refused (H9). */

struct buffer_cfg {
    bool disabled; /* of a route */
    uint32_t max_bytes;
    char text[40]; /* "max_request_bytes 10": for the story */
};
struct state {
    struct mz_filter base;
    const struct buffer_cfg *cfg; /* NULL: not for this request */
    uint64_t seen;
};

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static struct buffer_cfg *build(const pb_Buffer *m)
{
    struct buffer_cfg *c = mz_new0(MZ_MEM_CONFIG, struct buffer_cfg);
    c->max_bytes = mz_u32_or(m->max_request_bytes, 0);
    (void)snprintf(c->text, sizeof(c->text), "max_request_bytes %u", c->max_bytes);
    return c;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f, (void)err;
    return build(msg);
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f, (void)err;
    const pb_BufferPerRoute *m = msg;
    if (m->override_case == pb_BufferPerRoute_OVERRIDE_BUFFER)
        return build(m->buffer);
    struct buffer_cfg *c = mz_new0(MZ_MEM_CONFIG, struct buffer_cfg);
    c->disabled = m->disabled;
    return c;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    const struct buffer_cfg *c = f->route_cfg ? f->route_cfg : f->cfg;
    if (end || c->disabled)
        return MZ_FLOW_CONTINUE;
    st->cfg = c;
    mz_stream_set_buffer_limit(f->stream, c->max_bytes);
    return MZ_FLOW_STOP;
}

static void add_length(struct state *st)
{
    struct mz_headers *h = mz_stream_request_headers(st->base.stream);
    if (mz_headers_get_id(h, MZ_H_CONTENT_LENGTH))
        return;
    char *text = mz_arena_alloc(mz_stream_arena(st->base.stream), 20);
    mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, (struct mz_str){ text, mz_u64_text(st->seen, text) });
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->cfg)
        return MZ_FLOW_CONTINUE;
    st->seen += mz_buf_len(data);
    if (st->seen > st->cfg->max_bytes) { /* the manager refuses it when it keeps it */
        mz_stream_story(f->stream, MZ_STEP_RULE, f->name, mz_str_c(st->cfg->text), 0, 0);
        mz_stream_story(f->stream, MZ_STEP_FILTER, f->name, MZ_STR("request_payload_too_large"), 0,
                        0);
        mz_stream_set_buffer_limit(f->stream, st->cfg->max_bytes);
        return MZ_FLOW_STOP_AND_BUFFER;
    }
    if (!end)
        return MZ_FLOW_STOP_AND_BUFFER;
    add_length(st);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    if (st->cfg)
        add_length(st);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_buffer = {
    .name = "envoy.filters.http.buffer",
    .config_type = "envoy.extensions.filters.http.buffer.v3.Buffer",
    .route_config_type = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
};
