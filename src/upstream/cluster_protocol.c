/* Protocol options of a cluster (U7): typed_extension_protocol_options, or the older fields beside it. */
#include "upstream/auto_sni.h"
#include "upstream/http2_options.h"
#include "upstream/upstream_priv.h"

#define DEFAULT_IDLE_TIMEOUT_MS 3600000
#define DEFAULT_HEADERS_KB      60
#define DEFAULT_HEADERS_COUNT   100
#define OPTIONS_TYPE            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
#define PRESERVE_CASE_TYPE                                                                         \
    "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"

static bool not_yet(struct mz_err *err, const char *field, const char *why)
{
    return mz_err_set(err, "%s", why) || mz_err_at(err, "%s", field);
}

static bool case_build(const pb_Http1ProtocolOptions_HeaderKeyFormat *m, struct mz_http1_opts *o,
                       struct mz_proto_ctx *ctx, struct mz_err *err)
{
    if (!m)
        return true;
    switch (m->header_format_case) {
    case pb_Http1ProtocolOptions_HeaderKeyFormat_HEADER_FORMAT_PROPER_CASE_WORDS:
        o->header_case = MZ_CASE_PROPER;
        return true;
    case pb_Http1ProtocolOptions_HeaderKeyFormat_HEADER_FORMAT_STATEFUL_FORMATTER: {
        ProtobufCMessage *msg;
        if (!mz_any_unpack_as(ctx, m->stateful_formatter->typed_config,
                              mz_type_find(MZ_STR(PRESERVE_CASE_TYPE)), &msg, err))
            return mz_err_at(err, "stateful_formatter.typed_config");
        const pb_PreserveCaseFormatterConfig *f = (const pb_PreserveCaseFormatterConfig *)msg;
        o->header_case = MZ_CASE_PRESERVE;
        o->forward_reason_phrase = f->forward_reason_phrase;
        o->proper_on_unknown =
            f->formatter_type_on_envoy_headers ==
            pb_PreserveCaseFormatterConfig_FormatterTypeOnEnvoyHeaders_PROPER_CASE;
        return true;
    }
    default:
        return mz_err_set(err, "one of proper_case_words, stateful_formatter is required");
    }
}

static bool http1_build(const pb_Http1ProtocolOptions *m, struct mz_cluster *c,
                        struct mz_proto_ctx *ctx, struct mz_err *err)
{
    struct mz_http1_opts *o = &c->http1;
    if (!m)
        return true;
    if (m->n_ignore_http_11_upgrade)
        return not_yet(err, "ignore_http_11_upgrade", "has no meaning towards an upstream");
    o->allow_absolute_url = mz_bool_or(m->allow_absolute_url, true);
    o->accept_http10 = m->accept_http_10;
    if (m->default_host_for_http_10 && m->default_host_for_http_10[0])
        o->default_host_http10 = cluster_keep_str(c, m->default_host_for_http_10);
    o->enable_trailers = m->enable_trailers;
    o->allow_chunked_length = m->allow_chunked_length;
    o->allow_custom_methods = m->allow_custom_methods;
    o->override_stream_error = mz_bool_or(m->override_stream_error_on_invalid_http_message, false);
    o->send_fully_qualified_url = m->send_fully_qualified_url;
    return case_build(m->header_key_format, o, ctx, err) || mz_err_at(err, "header_key_format");
}

static void *keep(void *cluster, size_t n)
{
    return cluster_keep(cluster, n);
}

static bool http2_build(const pb_Http2ProtocolOptions *m, struct mz_cluster *c, struct mz_err *err)
{
    return mz_http2_options_build(m, &c->http2_opts, keep, c, err) ||
           mz_err_at(err, "http2_protocol_options");
}

static bool duration32(const pb_Duration *d, const char *field, uint32_t *io_ms, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(d, *io_ms, &ms, err))
        return mz_err_at(err, "%s", field);
    *io_ms = ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    return true;
}

static bool common_build(const pb_HttpProtocolOptions *m, struct mz_cluster *c, struct mz_err *err)
{
    if (!m)
        return true;
    if (m->max_requests_per_connection)
        c->max_requests_per_connection = m->max_requests_per_connection->value;
    c->max_response_headers_kb = mz_u32_or(m->max_response_headers_kb, c->max_response_headers_kb);
    c->max_response_headers_count = mz_u32_or(m->max_headers_count, c->max_response_headers_count);
    switch (m->headers_with_underscores_action) {
    case pb_HttpProtocolOptions_HeadersWithUnderscoresAction_REJECT_REQUEST:
        c->http1.underscores = MZ_UNDERSCORE_REJECT;
        break;
    case pb_HttpProtocolOptions_HeadersWithUnderscoresAction_DROP_HEADER:
        c->http1.underscores = MZ_UNDERSCORE_DROP;
        break;
    default:
        break;
    }
    return duration32(m->idle_timeout, "idle_timeout", &c->idle_timeout_ms, err) &&
           duration32(m->max_connection_duration, "max_connection_duration",
                      &c->max_connection_duration_ms, err) &&
           duration32(m->max_stream_duration, "max_stream_duration", &c->max_stream_duration_ms,
                      err);
}

static void upstream_build(const pb_UpstreamHttpProtocolOptions *m, struct mz_cluster *c)
{
    bool header = m && m->override_auto_sni_header && m->override_auto_sni_header[0];
    if (!m || (!m->auto_sni && !m->auto_san_validation))
        return;
    struct mz_auto_sni *a = cluster_keep(c, sizeof(*a));
    *a = (struct mz_auto_sni){ .sni = m->auto_sni, .san = m->auto_san_validation };
    if (header) {
        a->header = cluster_keep_str(c, m->override_auto_sni_header);
        for (size_t i = 0; i < a->header.n; i++)
            ((char *)(uintptr_t)a->header.p)[i] = mz_lower(a->header.p[i]);
    }
    cluster_priv(c)->auto_sni = a;
}

const struct mz_auto_sni *mz_cluster_auto_sni(const struct mz_cluster *c)
{
    return cluster_priv(c)->auto_sni;
}

static bool explicit_build(const pb_HttpProtocolOptions_ExplicitHttpConfig *e, struct mz_cluster *c,
                           struct mz_proto_ctx *ctx, struct mz_err *err)
{
    switch (e->protocol_config_case) {
    case pb_HttpProtocolOptions_ExplicitHttpConfig_PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS:
        c->http2 = true;
        return http2_build(e->http2_protocol_options, c, err);
    case pb_HttpProtocolOptions_ExplicitHttpConfig_PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS:
        return http1_build(e->http_protocol_options, c, ctx, err) ||
               mz_err_at(err, "http_protocol_options");
    default:
        return mz_err_set(err, "one of http_protocol_options, http2_protocol_options is required");
    }
}

static bool typed_build(const pb_http_HttpProtocolOptions *m, struct mz_cluster *c,
                        struct mz_proto_ctx *ctx, struct mz_err *err)
{
    if (!common_build(m->common_http_protocol_options, c, err))
        return mz_err_at(err, "common_http_protocol_options");
    upstream_build(m->upstream_http_protocol_options, c);
    c->http2 = c->use_downstream_protocol = c->auto_protocol =
        false; /* the older fields say nothing then */
    switch (m->upstream_protocol_options_case) {
    case pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG:
        return explicit_build(m->explicit_http_config, c, ctx, err) ||
               mz_err_at(err, "explicit_http_config");
    case pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG: {
        const pb_HttpProtocolOptions_UseDownstreamHttpConfig *d = m->use_downstream_protocol_config;
        c->use_downstream_protocol = true;
        return (http1_build(d->http_protocol_options, c, ctx, err) ||
                mz_err_at(err, "use_downstream_protocol_config.http_protocol_options")) &&
               (http2_build(d->http2_protocol_options, c, err) ||
                mz_err_at(err, "use_downstream_protocol_config"));
    }
    case pb_http_HttpProtocolOptions_UPSTREAM_PROTOCOL_OPTIONS_AUTO_CONFIG:
        c->auto_protocol = true;
        return (http1_build(m->auto_config->http_protocol_options, c, ctx, err) ||
                mz_err_at(err, "auto_config.http_protocol_options")) &&
               (http2_build(m->auto_config->http2_protocol_options, c, err) ||
                mz_err_at(err, "auto_config"));
    default:
        return mz_err_set(
            err,
            "one of explicit_http_config, use_downstream_protocol_config, auto_config is required");
    }
}

static bool older_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_proto_ctx *ctx,
                        struct mz_err *err)
{
    c->http2 = m->http2_protocol_options != NULL;
    c->use_downstream_protocol =
        m->protocol_selection == pb_Cluster_ClusterProtocolSelection_USE_DOWNSTREAM_PROTOCOL;
    c->max_requests_per_connection = mz_u32_or(m->max_requests_per_connection, 0);
    if (!common_build(m->common_http_protocol_options, c, err))
        return mz_err_at(err, "common_http_protocol_options");
    upstream_build(m->upstream_http_protocol_options, c);
    return (http1_build(m->http_protocol_options, c, ctx, err) ||
            mz_err_at(err, "http_protocol_options")) &&
           http2_build(m->http2_protocol_options, c, err);
}

static bool extensions_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_proto_ctx *ctx,
                             struct mz_err *err)
{
    for (size_t i = 0; i < m->n_typed_extension_protocol_options; i++) {
        const pb_Cluster_TypedExtensionProtocolOptionsEntry *e =
            m->typed_extension_protocol_options[i];
        ProtobufCMessage *msg;
        if (!mz_any_unpack_as(ctx, e->value, &pb_http_HttpProtocolOptions__descriptor, &msg, err) ||
            !typed_build((const pb_http_HttpProtocolOptions *)msg, c, ctx, err))
            return mz_err_at(err, "typed_extension_protocol_options[\"%s\"]", e->key);
    }
    return true;
}

bool cluster_protocol_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    c->idle_timeout_ms = DEFAULT_IDLE_TIMEOUT_MS;
    c->max_response_headers_kb = DEFAULT_HEADERS_KB;
    c->max_response_headers_count = DEFAULT_HEADERS_COUNT;
    c->http1 = (struct mz_http1_opts){ .allow_absolute_url = true, .ignore_upgrade_h2c = true };
    mz_http2_opts_init(&c->http2_opts);
    bool ok = older_build(m, c, &ctx, err) && extensions_build(m, c, &ctx, err);
    c->http1.max_headers_kb = c->max_response_headers_kb;
    c->http1.max_headers_count = c->max_response_headers_count;
    c->http2_opts.max_headers_kb = c->max_response_headers_kb;
    c->http2_opts.max_headers_count = c->max_response_headers_count;
    c->http2_opts.underscores = (uint8_t)c->http1.underscores;
    mz_arena_destroy(ctx.arena);
    return ok;
}
