#include "hcm/hcm_priv.h"

#include "http/grpc.h"

/* Spans of requests and of their tries (O3): when they begin and end, and what they say, which is what Envoy's do. */

static struct mz_str copied(struct mz_stream *s, struct mz_str text)
{
    return mz_arena_dup(s->arena, text);
}

static struct mz_str number(struct mz_stream *s, uint64_t v)
{
    char *p = mz_arena_alloc(s->arena, 20);
    return (struct mz_str){ p, mz_u64_text(v, p) };
}

static struct mz_str or_dash(struct mz_str v)
{
    return v.n ? v : MZ_STR("-");
}

static void tag(struct mz_span *span, const char *key, struct mz_str value)
{
    mz_span_tag(span, mz_str_c(key), value);
}

static struct mz_str formatted(struct mz_stream *s, const struct mz_format *f)
{
    const struct mz_format_ctx c = { .info = &s->info, .req = s->req.headers };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(f, &c, &b);
    struct mz_str text = copied(s, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return text;
}

/* ---- begin ---- */

static struct mz_str first_name(struct mz_stream *s, const struct mz_headers *h)
{
    const struct tracing_config *t = s->conn->cfg->tracing;
    struct mz_str host = mz_headers_value_id(h, MZ_H_AUTHORITY);
    if (t->operation)
        return formatted(s, t->operation);
    if (t->tracer->names_by_host)
        return copied(s, host);
    return t->egress ? mz_arena_printf(s->arena, "egress " MZ_STR_FMT, MZ_STR_ARG(host))
                     : MZ_STR("ingress");
}

void span_begin(struct mz_stream *s, const struct mz_headers *h, bool traced)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    const struct tracing_config *t = c->tracing;
    span_end(s); /* of the request that this one was redirected from */
    if (!t->tracer)
        return;
    const struct mz_span_begin b = { .tracer = t->tracer,
                                     .worker = s->conn->base.worker,
                                     .rand = mz_loop_rand(conn_loop(s->conn)),
                                     .arena = s->arena,
                                     .kind =
                                         t->egress && !t->spawn ? MZ_SPAN_CLIENT : MZ_SPAN_SERVER,
                                     .start_us = s->info.start_us,
                                     .start_wall_us = s->info.start_wall_us };
    s->span = mz_span_start(&b, h, traced);
    if (!s->span)
        return;
    s->info.trace_id = s->span->trace_text;
    if (t->tracer->shows_ids)
        s->info.span_id = s->span->id_text;
    if (!s->span->sampled)
        return;
    s->span->name = first_name(s, h);
    tag(s->span, "node_id", c->node_id);
    tag(s->span, "zone", t->zone);
}

/* ---- what all spans say ---- */

static void event(struct mz_stream *s, struct mz_span *span, const char *name, uint64_t at_us)
{
    if (at_us)
        mz_span_event(span, name, s->info.start_wall_us + (at_us - s->info.start_us));
}

static void events(struct mz_stream *s, struct mz_span *span, bool upstream)
{
    const struct mz_stream_info *i = &s->info;
    if (!upstream)
        event(s, span, "last_downstream_rx_byte_received", i->rx_end_us);
    event(s, span, "first_upstream_tx_byte_sent", i->up.first_tx_us);
    event(s, span, "last_upstream_tx_byte_sent", i->up.last_tx_us);
    event(s, span, "first_upstream_rx_byte_received", i->up.first_rx_us);
    event(s, span, "last_upstream_rx_byte_received", i->up.last_rx_us);
    if (upstream)
        return;
    event(s, span, "first_downstream_tx_byte_sent", i->tx_first_us);
    event(s, span, "last_downstream_tx_byte_sent", i->tx_last_us);
}

static void custom(struct mz_stream *s, struct mz_span *span, const struct mz_custom_tags *tags)
{
    const struct mz_format_ctx c = { .info = &s->info,
                                     .req = s->req.headers,
                                     .resp = s->info.resp,
                                     .trailers = s->info.resp_trailers };
    struct mz_str value;
    for (size_t i = 0; i < tags->n; i++)
        if (mz_custom_tag_value(tags, i, &c, s->arena, &value))
            mz_span_tag(span, mz_custom_tag_name(tags, i), value);
}

static void common(struct mz_stream *s, struct mz_span *span, unsigned status, uint64_t flags,
                   uint64_t flag_order, bool upstream)
{
    const struct tracing_config *t = s->conn->cfg->tracing;
    const struct mz_stream_info *i = &s->info;
    char text[MZ_FLAGS_TEXT];
    tag(span, "component", MZ_STR("proxy"));
    if (i->route.cluster_raw.n) {
        tag(span, "upstream_cluster", i->route.cluster_raw);
        tag(span, "upstream_cluster.name",
            i->route.cluster_name.n ? i->route.cluster_name : i->route.cluster_raw);
    }
    tag(span, "http.status_code", number(s, status));
    span->status = status;
    tag(span, "response_flags",
        copied(s, (struct mz_str){ text, mz_flags_text(flags, flag_order, false, text) }));
    if (t->verbose)
        events(s, span, upstream);
    if (status == 0 || status >= 500)
        tag(span, "error", MZ_STR("true"));
    custom(s, span, &t->tags);
    if (s->route && s->route->tracing)
        custom(s, span, &s->route->tracing->tags);
}

/* ---- the request's span ends ---- */

/* scheme://host/path, of which the path is cut. */
static struct mz_str url(struct mz_stream *s, const struct mz_headers *h)
{
    struct mz_str path = mz_headers_value_id(h, MZ_H_X_ENVOY_ORIGINAL_PATH);
    size_t most = s->conn->cfg->tracing->max_path;
    if (!path.n)
        path = mz_headers_path(h);
    if (path.n > most)
        path.n = most;
    const struct mz_str parts[] = { mz_headers_value_id(h, MZ_H_SCHEME), MZ_STR("://"),
                                    mz_headers_value_id(h, MZ_H_AUTHORITY), path };
    return mz_arena_cat(s->arena, MZ_COUNT(parts), parts);
}

static void grpc_request(struct mz_span *span, const struct mz_headers *h)
{
    const struct mz_header *timeout = mz_headers_get_id(h, MZ_H_GRPC_TIMEOUT);
    tag(span, "grpc.path", mz_headers_path(h));
    tag(span, "grpc.authority", mz_headers_value_id(h, MZ_H_AUTHORITY));
    tag(span, "grpc.content_type", mz_headers_value_id(h, MZ_H_CONTENT_TYPE));
    if (timeout)
        tag(span, "grpc.timeout", timeout->value);
}

/* The outcome of a call stands in the trailers, or in the headers of an answer without a body. */
static void grpc_answer(struct mz_span *span, const struct mz_headers *h)
{
    static const uint32_t
        server_errors = /* unknown, deadline, unimplemented, internal, unavailable, data loss */
        1u << 2 | 1u << 4 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15;
    const struct mz_header *status = h ? mz_headers_get_id(h, MZ_H_GRPC_STATUS) : NULL;
    const struct mz_header *message = h ? mz_headers_get_id(h, MZ_H_GRPC_MESSAGE) : NULL;
    uint64_t code;
    if (!status)
        return;
    tag(span, "grpc.status_code", status->value);
    if (message)
        tag(span, "grpc.message", message->value);
    if (mz_str_u64(status->value, &code) && code < 32 && (server_errors >> code & 1))
        tag(span, "error", MZ_STR("true"));
}

static void request_tags(struct mz_stream *s, struct mz_span *span, const struct mz_headers *h)
{
    const struct mz_stream_info *i = &s->info;
    const struct mz_header *id = mz_headers_get_id(h, MZ_H_X_REQUEST_ID),
                           *client_id = mz_headers_get_id(h, MZ_H_X_CLIENT_TRACE_ID);
    char text[MZ_ADDR_TEXT];
    if (id)
        tag(span, "guid:x-request-id", id->value);
    tag(span, "http.url", url(s, h));
    tag(span, "http.method", mz_headers_method(h));
    tag(span, "downstream_cluster",
        or_dash(mz_headers_value_id(h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER)));
    tag(span, "user_agent", or_dash(mz_headers_value_id(h, MZ_H_USER_AGENT)));
    tag(span, "http.protocol", mz_str_c(mz_http_protocol_name(i->protocol)));
    tag(span, "peer.address",
        copied(s, (struct mz_str){ text, mz_addr_ip_text(&i->direct_remote, text) }));
    if (client_id)
        tag(span, "guid:x-client-trace-id", client_id->value);
    if (mz_is_grpc(h))
        grpc_request(span, h);
}

void span_end(struct mz_stream *s)
{
    struct mz_span *span = s->span;
    const struct mz_stream_info *i = &s->info;
    s->span = NULL;
    if (!span || !span->sampled)
        return;
    request_tags(s, span, s->req.headers);
    tag(span, "request_size", number(s, i->rx_body));
    tag(span, "response_size", number(s, i->tx_body));
    common(s, span, i->status, i->flags, i->flag_order, false);
    grpc_answer(span, i->resp);
    grpc_answer(span, i->resp_trailers);
    mz_span_finish(span, stream_now(s));
}

/* ---- tries ---- */

struct mz_span *mz_stream_span(struct mz_stream *s)
{
    return s->span;
}

struct mz_span *mz_stream_upstream_span(struct mz_stream *s, uint64_t start_us)
{
    const struct tracing_config *t = s->conn->cfg->tracing;
    const struct mz_stream_info *i = &s->info;
    if (!s->span || !t->spawn)
        return NULL;
    struct mz_str cluster = i->route.cluster_name.n ? i->route.cluster_name : i->route.cluster_raw;
    struct mz_str name =
        t->upstream_operation
            ? formatted(s, t->upstream_operation)
            : mz_arena_printf(s->arena, "router " MZ_STR_FMT " egress", MZ_STR_ARG(cluster));
    return mz_span_child(s->span, name, start_us, i->start_wall_us + (start_us - i->start_us));
}

void mz_stream_upstream_span_end(struct mz_stream *s, struct mz_span *span,
                                 const struct mz_upstream_outcome *o)
{
    char text[MZ_ADDR_TEXT];
    if (!span->sampled)
        return;
    if (o->retries)
        tag(span, "retry.count", number(s, o->retries));
    if (o->reset) {
        tag(span, "error", MZ_STR("true"));
        tag(span, "error.reason", mz_str_c(o->reset));
    }
    tag(span, "http.protocol", mz_str_c(o->connected ? mz_http_protocol_name(o->protocol) : "-"));
    if (o->address) {
        struct mz_str at = copied(s, (struct mz_str){ text, mz_addr_text(o->address, text) });
        tag(span, "upstream_address", at);
        tag(span, "peer.address", at);
    }
    common(s, span, o->status, o->flags, 0, true);
    mz_span_finish(span, o->end_us);
}
