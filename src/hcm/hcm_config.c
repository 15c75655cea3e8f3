#include "hcm/hcm_priv.h"

#include "http/validate.h"
#include "proto/mapper.h"
#include "upstream/http2_options.h"

/* HttpConnectionManager message to the manager's immutable configuration (H4, H5). Main thread. */

void hcm_config_destroy(void *cfg)
{
    struct mz_hcm_config *c = cfg;
    if (!c)
        return;
    struct filter_list *lists[1] = { &c->filters };
    for (size_t k = 0; k <= c->n_upgrades; k++) {
        struct filter_list *l = k ? &c->upgrades[k - 1].filters : lists[0];
        for (size_t i = 0; i < l->n; i++) {
            if (l->v[i].type && l->v[i].cfg && l->v[i].type->config_destroy)
                l->v[i].type->config_destroy(l->v[i].cfg);
            mz_ecds_place_destroy(l->v[i].place);
        }
    }
    for (size_t i = 0; i < c->n_early; i++)
        mz_header_ops_fini(&c->early[i]);
    for (size_t i = 0; i < c->n_logs; i++)
        mz_access_log_destroy(c->logs[i]);
    local_reply_config_destroy(c->local_reply);
    tracing_destroy(c->tracing);
    if (c->routes)
        mz_route_table_unref(c->routes);
    mz_init_wait_end(&c->rds_wait);
    mz_rds_unref(c->rds);
    mz_srds_unref(c->srds);
    mz_scope_unref(c->scope);
    mz_scope_unref(c->listener_scope);
    mz_scope_unref(c->http1_scope);
    mz_scope_unref(*c->http2_scope);
    mz_arena_destroy(c->arena);
}

void mz_hcm_config_destroy(struct mz_hcm_config *c)
{
    hcm_config_destroy(c);
}

const struct mz_route_table *mz_hcm_route_table(const struct mz_hcm_config *c)
{
    return hcm_routes(c);
}

/* ---- filters ---- */

static bool filter_build(const pb_HttpFilter *m, const struct mz_factory *f, struct mz_arena *a,
                         bool last, struct filter_entry *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *msg;
    out->name = mz_arena_dup(a, mz_str_c(m->name));
    out->disabled = m->disabled;
    if (m->config_type_case == pb_HttpFilter_CONFIG_TYPE_CONFIG_DISCOVERY) {
        out->place =
            mz_ecds_place_create(m->config_discovery, out->name, &extension_http, last, f, err);
        return out->place || mz_err_at(err, "config_discovery");
    }
    if (m->config_type_case != pb_HttpFilter_CONFIG_TYPE_TYPED_CONFIG || !m->typed_config)
        return mz_err_set(err, "filter \"%s\" has no typed_config", m->name);
    struct mz_str type = mz_any_type(m->typed_config);
    out->type = f->http_filter(type);
    if (!out->type) {
        if (m->is_optional)
            return true;
        mz_err_set(err,
                   "no HTTP filter has a configuration of type \"" MZ_STR_FMT "\" (filter \"%s\")",
                   MZ_STR_ARG(type), m->name);
        return mz_err_at(err, "typed_config");
    }
    if (!mz_any_unpack(f->proto, m->typed_config, &d, &msg, err))
        return mz_err_at(err, "typed_config");
    out->cfg = out->type->config_build ? out->type->config_build(msg, f, err) : NULL;
    if (out->type->config_build && !out->cfg)
        return mz_err_at(err, "typed_config");
    return true;
}

static bool filters_build(pb_HttpFilter **v, size_t n, const struct mz_factory *f,
                          struct mz_arena *a, struct filter_list *out, struct mz_err *err)
{
    if (n > 200)
        return mz_err_set(err, "at most 200 filters, there are %zu", n);
    out->v = mz_arena_alloc0(a, n * sizeof(*out->v));
    for (size_t i = 0; i < n; i++) {
        struct filter_entry *e = &out->v[out->n];
        bool ok = filter_build(v[i], f, a, i + 1 == n, e, err);
        out->n += e->type || e->place;
        if (!ok)
            return mz_err_at(err, "[%zu]", i);
        if (e->type && e->type->terminal != (i + 1 == n)) {
            mz_err_set(err,
                       e->type->terminal ? "terminal filter \"%s\" must be the last filter"
                                         : "the last filter, \"%s\", is not a terminal one",
                       v[i]->name);
            return mz_err_at(err, "[%zu]", i);
        }
    }
    chain_prepare(out);
    return true;
}

/* ---- parts ---- */

static bool times_build(const pb_HttpConnectionManager *m, struct mz_hcm_config *c,
                        struct mz_err *err)
{
    const struct {
        const pb_Duration *d;
        uint64_t otherwise_ms, *out;
        const char *name;
    } times[] = {
        { m->stream_idle_timeout, 300000, &c->stream_idle_timeout_ms, "stream_idle_timeout" },
        { m->request_timeout, 0, &c->request_timeout_ms, "request_timeout" },
        { m->request_headers_timeout, 0, &c->request_headers_timeout_ms,
          "request_headers_timeout" },
        { m->drain_timeout, 5000, &c->drain_timeout_ms, "drain_timeout" },
        { m->delayed_close_timeout, 1000, &c->delayed_close_ms, "delayed_close_timeout" },
    };
    for (size_t i = 0; i < MZ_COUNT(times); i++)
        if (!mz_duration_ms(times[i].d, times[i].otherwise_ms, times[i].out, err))
            return mz_err_at(err, "%s", times[i].name);
    c->idle_timeout_ms = 3600000;
    const Envoy__Config__Core__V3__HttpProtocolOptions *o = m->common_http_protocol_options;
    if (!o)
        return true;
    c->max_requests_per_connection = mz_u32_or(o->max_requests_per_connection, 0);
    if (!mz_duration_ms(o->idle_timeout, 3600000, &c->idle_timeout_ms, err))
        return mz_err_at(err, "common_http_protocol_options.idle_timeout");
    if (!mz_duration_ms(o->max_connection_duration, 0, &c->max_connection_duration_ms, err))
        return mz_err_at(err, "common_http_protocol_options.max_connection_duration");
    if (!mz_duration_ms(o->max_stream_duration, 0, &c->max_stream_duration_ms, err))
        return mz_err_at(err, "common_http_protocol_options.max_stream_duration");
    return true;
}

static bool preserve_case_build(const pb_TypedExtensionConfig *m, const struct mz_factory *f,
                                struct mz_http1_opts *o, struct mz_err *err)
{
    ProtobufCMessage *msg;
    if (!m->typed_config ||
        !mz_any_unpack_as(f->proto, m->typed_config, &pb_PreserveCaseFormatterConfig__descriptor,
                          &msg, err))
        return mz_err_at(err,
                         "http_protocol_options.header_key_format.stateful_formatter.typed_config");
    const pb_PreserveCaseFormatterConfig *p =
        (const pb_PreserveCaseFormatterConfig *)(const void *)msg;
    o->header_case = MZ_CASE_PRESERVE;
    o->forward_reason_phrase = p->forward_reason_phrase;
    o->proper_on_unknown = p->formatter_type_on_envoy_headers ==
                           pb_PreserveCaseFormatterConfig_FormatterTypeOnEnvoyHeaders_PROPER_CASE;
    return true;
}

static bool http1_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                        struct mz_hcm_config *c, struct mz_err *err)
{
    struct mz_http1_opts *o = &c->http1;
    const Envoy__Config__Core__V3__HttpProtocolOptions *common = m->common_http_protocol_options;
    const pb_Http1ProtocolOptions *h = m->http_protocol_options;
    o->allow_absolute_url = h ? mz_bool_or(h->allow_absolute_url, true) : true;
    o->ignore_upgrade_h2c = true;
    o->enable_connect = true;
    o->max_headers_kb = mz_u32_or(m->max_request_headers_kb, 60);
    o->max_headers_count = common ? mz_u32_or(common->max_headers_count, 100) : 100;
    o->underscores = common ? (int)common->headers_with_underscores_action : 0;
    o->override_stream_error = mz_bool_or(m->stream_error_on_invalid_http_message, false);
    if (!h)
        return true;
    o->accept_http10 = h->accept_http_10;
    o->default_host_http10 = mz_arena_dup(c->arena, mz_str_c(h->default_host_for_http_10));
    o->enable_trailers = h->enable_trailers;
    o->allow_chunked_length = h->allow_chunked_length;
    o->allow_custom_methods = h->allow_custom_methods;
    o->override_stream_error =
        mz_bool_or(h->override_stream_error_on_invalid_http_message, o->override_stream_error);
    const pb_Http1ProtocolOptions_HeaderKeyFormat *k = h->header_key_format;
    if (k && k->header_format_case ==
                 pb_Http1ProtocolOptions_HeaderKeyFormat_HEADER_FORMAT_PROPER_CASE_WORDS)
        o->header_case = MZ_CASE_PROPER;
    else if (k && k->header_format_case ==
                      pb_Http1ProtocolOptions_HeaderKeyFormat_HEADER_FORMAT_STATEFUL_FORMATTER)
        return preserve_case_build(k->stateful_formatter, f, o, err);
    return true;
}

static void *keep(void *arg, size_t n)
{
    return mz_arena_alloc0(arg, n);
}

static bool http2_build(const pb_HttpConnectionManager *m, struct mz_hcm_config *c,
                        struct mz_err *err)
{
    const pb_Http2ProtocolOptions *h = m->http2_protocol_options;
    c->codec_type = (enum codec_type)m->codec_type;
    if (!mz_http2_options_build(h, &c->http2, keep, c->arena, err))
        return mz_err_at(err, "http2_protocol_options");
    c->http2.max_headers_kb = c->http1.max_headers_kb;
    c->http2.max_headers_count = c->http1.max_headers_count;
    c->http2.underscores = (uint8_t)c->http1.underscores;
    if (m->stream_error_on_invalid_http_message &&
        !(h && h->override_stream_error_on_invalid_http_message))
        c->http2.override_stream_error = m->stream_error_on_invalid_http_message->value;
    return true;
}

static bool cidrs_build(struct mz_arena *a, pb_CidrRange **v, size_t n, struct mz_cidr **out,
                        size_t *out_n, struct mz_err *err)
{
    *out = mz_arena_alloc0(a, n * sizeof(**out));
    *out_n = n;
    for (size_t i = 0; i < n; i++)
        if (!mz_cidr_make(mz_str_c(v[i]->address_prefix), mz_u32_or(v[i]->prefix_len, 0),
                          &(*out)[i], err))
            return mz_err_at(err, "[%zu]", i);
    return true;
}

static bool internal_build(const pb_HttpConnectionManager *m, struct mz_hcm_config *c,
                           struct mz_err *err)
{
    const pb_HttpConnectionManager_InternalAddressConfig *i = m->internal_address_config;
    if (!i)
        return true; /* nobody is internal unless said so */
    c->internal_unix = i->unix_sockets;
    return cidrs_build(c->arena, i->cidr_ranges, i->n_cidr_ranges, &c->internal_cidrs,
                       &c->n_internal_cidrs, err) ||
           mz_err_at(err, "internal_address_config.cidr_ranges");
}

static bool xff_build(const pb_XffConfig *m, struct mz_arena *a, struct ip_detection *out,
                      struct mz_err *err)
{
    *out = (struct ip_detection){ .kind = DETECT_XFF,
                                  .xff_hops = m->xff_num_trusted_hops,
                                  .skip_xff_append = mz_bool_or(m->skip_xff_append, true) };
    const pb_XffTrustedCidrs *t = m->xff_trusted_cidrs;
    if (!t)
        return true;
    if (out->xff_hops)
        return mz_err_set(err, "xff_num_trusted_hops and xff_trusted_cidrs cannot both be set");
    return cidrs_build(a, t->cidrs, t->n_cidrs, &out->proxies, &out->n_proxies, err) ||
           mz_err_at(err, "xff_trusted_cidrs.cidrs");
}

static bool detection_build(const pb_TypedExtensionConfig *m, const struct mz_factory *f,
                            struct mz_arena *a, struct ip_detection *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *msg;
    if (!m->typed_config)
        return mz_err_set(err, "typed_config is missing");
    if (!mz_any_unpack(f->proto, m->typed_config, &d, &msg, err))
        return mz_err_at(err, "typed_config");
    if (d == &pb_XffConfig__descriptor)
        return xff_build((const pb_XffConfig *)(const void *)msg, a, out, err) ||
               mz_err_at(err, "typed_config");
    if (d == &pb_CustomHeaderConfig__descriptor) {
        const pb_CustomHeaderConfig *h = (const pb_CustomHeaderConfig *)(const void *)msg;
        out->kind = DETECT_HEADER;
        char *name = mz_strndup(MZ_MEM_MISC, h->header_name, strlen(h->header_name));
        for (char *p = name; *p; p++)
            *p = mz_lower(*p);
        out->header = mz_arena_dup(a, mz_str_c(name));
        mz_free(MZ_MEM_MISC, name);
        out->trusted = h->allow_extension_to_set_address_as_trusted;
        out->reject = h->reject_with_status != NULL;
        out->reject_status = out->reject && h->reject_with_status->code >= 400
                                 ? (unsigned)h->reject_with_status->code
                                 : 403;
        return true;
    }
    return mz_err_set(err, "no original IP detection has a configuration of type \"%s\"", d->name);
}

static bool detections_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                             struct mz_hcm_config *c, struct mz_err *err)
{
    size_t n = m->n_original_ip_detection_extensions;
    if (n && (c->use_remote_address || c->xff_hops))
        return mz_err_set(err, "original_ip_detection_extensions cannot stand beside "
                               "use_remote_address or xff_num_trusted_hops");
    c->detections = mz_arena_alloc0(c->arena, (n ? n : 1) * sizeof(*c->detections));
    for (size_t i = 0; i < n; i++)
        if (!detection_build(m->original_ip_detection_extensions[i], f, c->arena,
                             &c->detections[c->n_detections++], err))
            return mz_err_at(err, "original_ip_detection_extensions[%zu]", i);
    if (n == 0) {
        c->detections[0] = (struct ip_detection){ .kind = DETECT_XFF,
                                                  .xff_hops = c->xff_hops,
                                                  .skip_xff_append = true };
        c->n_detections = 1;
    }
    return true;
}

static bool early_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                        struct mz_hcm_config *c, struct mz_err *err)
{
    size_t n = m->n_early_header_mutation_extensions;
    c->early = mz_arena_alloc0(c->arena, n * sizeof(*c->early));
    for (size_t i = 0; i < n; i++) {
        ProtobufCMessage *msg;
        const pb_TypedExtensionConfig *e = m->early_header_mutation_extensions[i];
        if (!e->typed_config ||
            !mz_any_unpack_as(f->proto, e->typed_config,
                              &pb_early_header_mutation_header_mutation_HeaderMutation__descriptor,
                              &msg, err))
            return mz_err_at(err, "early_header_mutation_extensions[%zu].typed_config", i);
        const pb_early_header_mutation_header_mutation_HeaderMutation *h =
            (const pb_early_header_mutation_header_mutation_HeaderMutation *)(const void *)msg;
        if (!mz_header_ops_build(h->mutations, h->n_mutations, &c->early[c->n_early++], err)) {
            mz_err_at(err, "mutations");
            return mz_err_at(err, "early_header_mutation_extensions[%zu].typed_config", i);
        }
    }
    return true;
}

static bool request_id_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                             struct mz_hcm_config *c, struct mz_err *err)
{
    c->generate_request_id = mz_bool_or(m->generate_request_id, true);
    c->preserve_external_request_id = m->preserve_external_request_id;
    c->always_set_request_id = m->always_set_request_id_in_response;
    c->pack_trace_reason = c->use_request_id_for_trace = true;
    if (!m->request_id_extension || !m->request_id_extension->typed_config)
        return true;
    ProtobufCMessage *msg;
    if (!mz_any_unpack_as(f->proto, m->request_id_extension->typed_config,
                          &pb_UuidRequestIdConfig__descriptor, &msg, err))
        return mz_err_at(err, "request_id_extension.typed_config");
    const pb_UuidRequestIdConfig *u = (const pb_UuidRequestIdConfig *)(const void *)msg;
    c->pack_trace_reason = mz_bool_or(u->pack_trace_reason, true);
    c->use_request_id_for_trace = mz_bool_or(u->use_request_id_for_trace_sampling, true);
    return true;
}

static void scheme_build(const pb_SchemeHeaderTransformation *m, struct mz_hcm_config *c)
{
    if (!m)
        return;
    if (m->transformation_case == pb_SchemeHeaderTransformation_TRANSFORMATION_SCHEME_TO_OVERWRITE)
        c->scheme_overwrite = mz_arena_dup(c->arena, mz_str_c(m->scheme_to_overwrite));
    c->scheme_match_upstream = m->match_upstream;
}

static bool header_work_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                              struct mz_hcm_config *c, struct mz_err *err)
{
    static const uint8_t slashes[] = { MZ_SLASHES_KEEP, MZ_SLASHES_KEEP, MZ_SLASHES_REJECT,
                                       MZ_SLASHES_REDIRECT, MZ_SLASHES_FORWARD };
    c->use_remote_address = mz_bool_or(m->use_remote_address, false);
    c->xff_hops = m->xff_num_trusted_hops;
    /* The scheme is the connection's where nobody before us may say another (Envoy). */
    c->http1.refuse_https_on_plain = c->use_remote_address && !c->xff_hops;
    c->skip_xff_append = m->skip_xff_append;
    c->via = mz_arena_dup(c->arena, mz_str_c(m->via));
    c->server_name =
        mz_arena_dup(c->arena, m->server_name[0] ? mz_str_c(m->server_name) : MZ_STR("mizzen"));
    c->server_transform = (enum server_transform)m->server_header_transformation;
    c->xfcc = (enum xfcc)m->forward_client_cert_details;
    const pb_HttpConnectionManager_SetCurrentClientCertDetails *d =
        m->set_current_client_cert_details;
    if (d)
        c->xfcc_details = (uint8_t)((mz_bool_or(d->subject, false) ? XFCC_SUBJECT : 0) |
                                    (d->cert ? XFCC_CERT : 0) | (d->chain ? XFCC_CHAIN : 0) |
                                    (d->dns ? XFCC_DNS : 0) | (d->uri ? XFCC_URI : 0));
    c->proxy_100_continue = m->proxy_100_continue;
    c->path_rules = (struct mz_path_rules){ mz_bool_or(m->normalize_path, false), m->merge_slashes,
                                            slashes[m->path_with_escaped_slashes_action] };
    c->strip_matching_port = m->strip_matching_host_port;
    c->strip_any_port =
        m->strip_port_mode_case == pb_HttpConnectionManager_STRIP_PORT_MODE_STRIP_ANY_HOST_PORT &&
        m->strip_any_host_port;
    c->strip_trailing_dot = m->strip_trailing_host_dot;
    c->append_forwarded_port = m->append_x_forwarded_port;
    c->add_user_agent = mz_bool_or(m->add_user_agent, false);
    c->node_cluster = mz_arena_dup(c->arena, f->node_cluster);
    c->node_id = mz_arena_dup(c->arena, f->node_id);
    scheme_build(m->scheme_header_transformation, c);
    if (c->strip_matching_port && c->strip_any_port)
        return mz_err_set(err,
                          "strip_matching_host_port and strip_any_host_port cannot both be set");
    return internal_build(m, c, err) && detections_build(m, f, c, err) &&
           early_build(m, f, c, err) && request_id_build(m, f, c, err) &&
           (tracing_build(m->tracing, f, c, err) || mz_err_at(err, "tracing"));
}

static bool upgrades_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                           struct mz_hcm_config *c, struct mz_err *err)
{
    c->upgrades = mz_arena_alloc0(c->arena, m->n_upgrade_configs * sizeof(*c->upgrades));
    for (size_t i = 0; i < m->n_upgrade_configs; i++) {
        const pb_HttpConnectionManager_UpgradeConfig *u = m->upgrade_configs[i];
        for (size_t k = 0; k < i; k++)
            if (mz_str_ieq(c->upgrades[k].type, mz_str_c(u->upgrade_type)))
                return mz_err_set(err,
                                  "upgrade_configs: multiple upgrade configurations for \"%s\"",
                                  u->upgrade_type);
        struct upgrade_entry *e = &c->upgrades[c->n_upgrades++];
        e->type = mz_arena_dup(c->arena, mz_str_c(u->upgrade_type));
        e->enabled = mz_bool_or(u->enabled, true);
        e->own_filters = u->n_filters > 0;
        if (!filters_build(u->filters, u->n_filters, f, c->arena, &e->filters, err))
            return mz_err_at(err, "upgrade_configs[%zu].filters", i);
    }
    return true;
}

bool mz_hcm_config_add_logs(struct mz_hcm_config *c, pb_AccessLog *const *v, size_t n,
                            const struct mz_factory *f, struct mz_err *err)
{
    struct mz_access_log **logs = mz_arena_alloc0(c->arena, (c->n_logs + n) * sizeof(*logs));
    for (size_t i = 0; i < c->n_logs; i++)
        logs[i] = c->logs[i];
    c->logs = logs;
    for (size_t i = 0; i < n; i++) {
        c->logs[c->n_logs] = mz_access_log_create(v[i], f->log_files, err);
        if (!c->logs[c->n_logs])
            return mz_err_at(err, "access_log[%zu]", i);
        c->n_logs++;
    }
    return true;
}

/* The manager's own fields are the older form of access_log_options. */
static bool log_times_build(const pb_HttpConnectionManager *m, struct mz_hcm_config *c,
                            struct mz_err *err)
{
    const pb_HttpConnectionManager_HcmAccessLogOptions *o = m->access_log_options;
    const pb_Duration *interval = m->access_log_flush_interval;
    c->log_on_new_request = m->flush_access_log_on_new_request;
    if (o && (interval || c->log_on_new_request))
        return mz_err_set(err, "Only one of %s or access_log_options can be specified.",
                          interval ? "access_log_flush_interval"
                                   : "flush_access_log_on_new_request");
    if (o) {
        interval = o->access_log_flush_interval;
        c->log_on_new_request = o->flush_access_log_on_new_request;
        c->log_on_tunnel = o->flush_log_on_tunnel_successfully_established;
    }
    return mz_duration_ms(interval, 0, &c->log_interval_ms, err) ||
           mz_err_at(err, "%saccess_log_flush_interval", o ? "access_log_options." : "");
}

/* typed_per_filter_config: the table asks the filter types through these. */
static const char *override_type(const struct mz_http_filter_type *t)
{
    return t->route_config_type ? t->route_config_type : t->config_type;
}

static void *override_build(const struct mz_http_filter_type *t, const void *msg,
                            const struct mz_factory *f, struct mz_err *err)
{
    return t->route_config_build ? t->route_config_build(msg, f, err)
                                 : t->config_build(msg, f, err);
}

static void override_destroy(const struct mz_http_filter_type *t, void *cfg)
{
    if (t->route_config_build ? t->route_config_destroy != NULL : t->config_destroy != NULL)
        (t->route_config_build ? t->route_config_destroy : t->config_destroy)(cfg);
}

static bool routes_build(const pb_HttpConnectionManager *m, const struct mz_factory *f,
                         struct mz_hcm_config *c, struct mz_err *err)
{
    static const struct mz_route_filter_ops filter_ops = { override_type, override_build,
                                                           override_destroy };
    if (m->route_specifier_case == pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS) {
        c->rds = mz_rds_get(f->rds, m->rds, c->stat_prefix, f, &filter_ops, err);
        if (!c->rds)
            return mz_err_at(err, "rds");
        mz_rds_wait(&c->rds_wait, c->rds, f->init);
        return true;
    }
    if (m->route_specifier_case == pb_HttpConnectionManager_ROUTE_SPECIFIER_SCOPED_ROUTES) {
        c->srds = mz_srds_get(f->rds, m->scoped_routes, c->stat_prefix, f, &filter_ops, err);
        if (!c->srds)
            return mz_err_at(err, "scoped_routes");
        mz_srds_wait(&c->rds_wait, c->srds, f->init);
        return true;
    }
    struct mz_route_env env = { f, &filter_ops, true };
    if (m->route_config->vhds) {
        c->rds = mz_rds_inline(f->rds, m->route_config, c->stat_prefix, &env, err);
        if (c->rds)
            mz_rds_wait(&c->rds_wait, c->rds, f->init);
    } else {
        c->routes = mz_route_table_build(m->route_config, &env, err);
    }
    return c->rds || c->routes || mz_err_at(err, "route_config");
}

static void scopes_build(const struct mz_factory *f, struct mz_hcm_config *c)
{
    struct mz_str prefix = mz_arena_cat(
        c->arena, 3, (struct mz_str[]){ MZ_STR("http."), c->stat_prefix, MZ_STR(".") });
    c->scope = mz_scope_create(f->stats, &mz_hcm_stats, prefix);
    c->http1_scope = mz_scope_create(f->stats, &mz_http1_codec_stats, MZ_STR("http1."));
    c->http2_scope = mz_arena_new0(c->arena, struct mz_scope *);
    if (f->listener_scope) {
        struct mz_str own =
            mz_arena_cat(c->arena, 2, (struct mz_str[]){ f->listener_scope->prefix, prefix });
        c->listener_scope = mz_scope_create(f->stats, &mz_hcm_listener_stats, own);
    }
}

static struct mz_hcm_config *config_create(const struct mz_factory *f, struct mz_str stat_prefix)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_hcm_config *c = mz_arena_new0(a, struct mz_hcm_config);
    c->arena = a;
    c->stat_prefix = mz_arena_dup(a, stat_prefix);
    c->recorder = f->recorder;
    c->process = f->process;
    scopes_build(f, c);
    return c;
}

void *hcm_config_build(const void *msg, const struct mz_factory *outer, struct mz_err *err)
{
    const pb_HttpConnectionManager *m = msg;
    struct mz_factory own = *outer, *f = &own;
    own.http_stat_prefix = mz_str_c(m->stat_prefix);
    struct mz_hcm_config *c = config_create(f, mz_str_c(m->stat_prefix));
    if (m->codec_type > pb_HttpConnectionManager_CodecType_HTTP2)
        mz_err_set(err, "codec_type: AUTO, HTTP1 and HTTP2 are supported");
    else if (times_build(m, c, err) && http1_build(m, f, c, err) && http2_build(m, c, err) &&
             header_work_build(m, f, c, err) && routes_build(m, f, c, err) &&
             mz_hcm_config_add_logs(c, m->access_log, m->n_access_log, f, err) &&
             log_times_build(m, c, err) && upgrades_build(m, f, c, err)) {
        if (!filters_build(m->http_filters, m->n_http_filters, f, c->arena, &c->filters, err))
            mz_err_at(err, "http_filters");
        else if (!m->local_reply_config || (c->local_reply = local_reply_config_build(
                                                m->local_reply_config, f, c->arena, err)))
            return c;
        else
            mz_err_at(err, "local_reply_config");
    }
    hcm_config_destroy(c);
    return NULL;
}

struct mz_hcm_config *mz_hcm_config_admin(const struct mz_factory *f,
                                          const struct mz_http_filter_type *terminal,
                                          const void *cfg, struct mz_err *err)
{
    (void)err;
    struct mz_hcm_config *c = config_create(f, MZ_STR("admin"));
    c->admin = true;
    c->listener_scope =
        mz_scope_create(f->stats, &mz_hcm_listener_stats, MZ_STR("listener.admin.http.admin."));
    c->filters.v = mz_arena_alloc0(c->arena, sizeof(*c->filters.v));
    c->filters.n = 1;
    c->filters.v[0] = (struct filter_entry){ .type = terminal,
                                             .cfg = (void *)(uintptr_t)cfg,
                                             .name = MZ_STR("admin") };
    chain_prepare(&c->filters);
    c->http1 = (struct mz_http1_opts){ .allow_absolute_url = true,
                                       .ignore_upgrade_h2c = true,
                                       .accept_http10 = true,
                                       .default_host_http10 = MZ_STR("admin"),
                                       .max_headers_kb = 60,
                                       .max_headers_count = 100 };
    mz_http2_opts_init(&c->http2);
    c->server_name = MZ_STR("mizzen");
    c->idle_timeout_ms = 3600000;
    c->stream_idle_timeout_ms = 300000;
    c->drain_timeout_ms = 100;
    c->delayed_close_ms = 1000;
    c->detections = mz_arena_alloc0(c->arena, sizeof(*c->detections));
    return c;
}
