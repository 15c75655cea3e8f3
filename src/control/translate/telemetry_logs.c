/* Access logs: who writes them by the documents, or by the MeshConfig's own settings; and each provider's part. */
#include <stdlib.h>

#include "control/translate/providers.h"
#include "control/translate/telemetry.h"
#include "control/translate/tell.h"

/* ---- formats ---- */

static const char text_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% "
    "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" "
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static const char *const json_format[][2] = {
    { "authority", "%REQ(:AUTHORITY)%" },
    { "bytes_received", "%BYTES_RECEIVED%" },
    { "bytes_sent", "%BYTES_SENT%" },
    { "connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%" },
    { "downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%" },
    { "downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%" },
    { "duration", "%DURATION%" },
    { "method", "%REQ(:METHOD)%" },
    { "path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%" },
    { "protocol", "%PROTOCOL%" },
    { "request_id", "%REQ(X-REQUEST-ID)%" },
    { "requested_server_name", "%REQUESTED_SERVER_NAME%" },
    { "response_code", "%RESPONSE_CODE%" },
    { "response_code_details", "%RESPONSE_CODE_DETAILS%" },
    { "response_flags", "%RESPONSE_FLAGS%" },
    { "route_name", "%ROUTE_NAME%" },
    { "start_time", "%START_TIME%" },
    { "upstream_cluster", "%UPSTREAM_CLUSTER_RAW%" },
    { "upstream_host", "%UPSTREAM_HOST%" },
    { "upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%" },
    { "upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%" },
    { "upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%" },
    { "user_agent", "%REQ(USER-AGENT)%" },
    { "x_forwarded_for", "%REQ(X-FORWARDED-FOR)%" },
};

static bool wants_query_removed(struct mz_str text)
{
    return mz_str_find(text, MZ_STR("%REQ_WITHOUT_QUERY")) >= 0;
}

static bool any_wants_query_removed(const pb_Struct *s)
{
    for (size_t i = 0; s && i < s->n_fields; i++)
        if (s->fields[i]->value->kind_case == pb_Value_KIND_STRING_VALUE &&
            wants_query_removed(mz_str_c(s->fields[i]->value->string_value)))
            return true;
    return false;
}

static pb_TypedExtensionConfig *query_remover(struct mz_arena *a)
{
    pb_TypedExtensionConfig *e = TR_NEW(a, TypedExtensionConfig);
    e->name = TR_CONST("envoy.formatter.req_without_query");
    e->typed_config = tr_any(a, TR_NEW(a, ReqWithoutQuery));
    return e;
}

/* A line ends with a line's end; "" is the usual one. */
static pb_SubstitutionFormatString *as_text(struct mz_arena *a, const char *text)
{
    pb_SubstitutionFormatString *s = TR_NEW(a, SubstitutionFormatString);
    const bool line = mz_str_ends(mz_str_c(text), MZ_STR("\n"));
    s->format_case = pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT_SOURCE;
    s->text_format_source = TR_NEW(a, DataSource);
    s->text_format_source->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
    s->text_format_source->inline_string =
        text[0] ? TR_PRINTF(a, "%s%s", text, line ? "" : "\n") : TR_CONST(text_format);
    if (wants_query_removed(mz_str_c(text)))
        TR_ADD(a, s, formatters) = query_remover(a);
    return s;
}

/* NULL or empty: the usual members. */
static pb_SubstitutionFormatString *as_json(struct mz_arena *a, const pb_Struct *members)
{
    pb_SubstitutionFormatString *s = TR_NEW(a, SubstitutionFormatString);
    pb_Struct *usual = members && members->n_fields ? NULL : TR_NEW(a, Struct);
    for (size_t i = 0; usual && i < MZ_COUNT(json_format); i++)
        tr_struct_text(a, usual, json_format[i][0], mz_str_c(json_format[i][1]));
    s->format_case = pb_SubstitutionFormatString_FORMAT_JSON_FORMAT;
    s->json_format = usual ? usual : (pb_Struct *)(uintptr_t)members; /* shared with the model */
    s->json_format_options = TR_NEW(a, JsonFormatOptions);
    if (any_wants_query_removed(s->json_format))
        TR_ADD(a, s, formatters) = query_remover(a);
    return s;
}

/* ---- loggers ---- */

static pb_AccessLog *logger(struct mz_arena *a, const char *name, const void *config)
{
    pb_AccessLog *l = TR_NEW(a, AccessLog);
    l->name = TR_CONST(name);
    l->config_type_case = pb_AccessLog_CONFIG_TYPE_TYPED_CONFIG;
    l->typed_config = tr_any(a, config);
    return l;
}

static pb_AccessLog *to_file(struct mz_arena *a, const char *path, pb_SubstitutionFormatString *s)
{
    pb_FileAccessLog *f = TR_NEW(a, FileAccessLog);
    f->path = TR_CONST(path[0] ? path : "/dev/stdout");
    f->access_log_format_case = pb_FileAccessLog_ACCESS_LOG_FORMAT_LOG_FORMAT;
    f->log_format = s;
    return logger(a, "envoy.access_loggers.file", f);
}

/* As `accessLogEncoding` and `accessLogFormat` say. */
static pb_AccessLog *to_file_of_mesh(struct mz_view *v, const char *path)
{
    struct mz_arena *a = v->arena;
    const ist_MeshConfig *c = v->model->mesh.config;
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    ProtobufCMessage *members = NULL;
    if (c->access_log_encoding != ist_MeshConfig_AccessLogEncoding_JSON)
        return to_file(a, path, as_text(a, c->access_log_format));
    if (c->access_log_format[0] &&
        !mz_msg_from_text(&ctx, mz_str_c(c->access_log_format), MZ_TEXT_JSON,
                          &pb_Struct__descriptor, &members, &err)) {
        members = NULL;
        tr_tell(v, MZ_STR("MeshConfig/mesh"), "access_log_format: %s; the usual one is used",
                mz_err_text(&err, text, sizeof(text)));
    }
    return to_file(a, path, as_json(a, (const pb_Struct *)members));
}

static pb_AccessLog *to_file_of_provider(struct mz_view *v,
                                         const ist_MeshConfig_ExtensionProvider *p)
{
    struct mz_arena *a = v->arena;
    const ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider *f = p->envoy_file_access_log;
    const ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider_LogFormat *l = f->log_format;
    if (strcmp(p->name, "envoy") == 0 && !l && !f->omit_empty_values)
        return to_file_of_mesh(v, f->path);
    const bool json =
        l &&
        l->log_format_case ==
            ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider_LogFormat_LOG_FORMAT_LABELS;
    const bool text =
        l &&
        l->log_format_case ==
            ist_MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider_LogFormat_LOG_FORMAT_TEXT;
    pb_SubstitutionFormatString *s = json ? as_json(a, l->labels) : as_text(a, text ? l->text : "");
    s->omit_empty_values = f->omit_empty_values;
    return to_file(a, f->path, s);
}

static const char *const peers[] = {
    "upstream_peer",         "downstream_peer",      "wasm.upstream_peer",
    "wasm.upstream_peer_id", "wasm.downstream_peer", "wasm.downstream_peer_id"
}; /* the first two, and older names */

static pb_CommonGrpcAccessLogConfig *common(struct mz_arena *a, const char *name,
                                            pb_GrpcService *to, size_t peers_n)
{
    pb_CommonGrpcAccessLogConfig *c = TR_NEW(a, CommonGrpcAccessLogConfig);
    c->log_name = TR_CONST(name);
    c->grpc_service = to;
    c->transport_api_version = pb_ApiVersion_V3;
    for (size_t i = 0; i < peers_n; i++)
        TR_ADD(a, c, filter_state_objects_to_log) = TR_CONST(peers[i]);
    return c;
}

static void own_objects(pb_CommonGrpcAccessLogConfig *c, char **objects, size_t n)
{
    if (n) {
        c->filter_state_objects_to_log = objects;
        c->n_filter_state_objects_to_log = n;
    }
}

static pb_AccessLog *to_http_server(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p,
                                    struct mz_err *err)
{
    const ist_MeshConfig_ExtensionProvider_EnvoyHttpGrpcV3LogProvider *g = p->envoy_http_als;
    struct tr_provider_cluster to;
    struct mz_arena *a = v->arena;
    if (!tr_provider_cluster(v, a, g->service, g->port, &to, err))
        return NULL;
    pb_HttpGrpcAccessLogConfig *m = TR_NEW(a, HttpGrpcAccessLogConfig);
    m->common_config = common(a, g->log_name[0] ? g->log_name : "http_envoy_accesslog",
                              tr_provider_grpc(a, &to), 2);
    own_objects(m->common_config, g->filter_state_objects_to_log, g->n_filter_state_objects_to_log);
    m->additional_request_headers_to_log = g->additional_request_headers_to_log;
    m->n_additional_request_headers_to_log = g->n_additional_request_headers_to_log;
    m->additional_response_headers_to_log = g->additional_response_headers_to_log;
    m->n_additional_response_headers_to_log = g->n_additional_response_headers_to_log;
    m->additional_response_trailers_to_log = g->additional_response_trailers_to_log;
    m->n_additional_response_trailers_to_log = g->n_additional_response_trailers_to_log;
    return logger(a, "envoy.access_loggers.http_grpc", m);
}

static pb_AccessLog *to_tcp_server(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p,
                                   struct mz_err *err)
{
    const ist_MeshConfig_ExtensionProvider_EnvoyTcpGrpcV3LogProvider *g = p->envoy_tcp_als;
    struct tr_provider_cluster to;
    struct mz_arena *a = v->arena;
    if (!tr_provider_cluster(v, a, g->service, g->port, &to, err))
        return NULL;
    pb_TcpGrpcAccessLogConfig *m = TR_NEW(a, TcpGrpcAccessLogConfig);
    m->common_config = common(a, g->log_name[0] ? g->log_name : "tcp_envoy_accesslog",
                              tr_provider_grpc(a, &to), 2);
    own_objects(m->common_config, g->filter_state_objects_to_log, g->n_filter_state_objects_to_log);
    return logger(a, "envoy.tcp_grpc_access_log", m);
}

static pb_AnyValue *any_text(struct mz_arena *a, const char *text)
{
    pb_AnyValue *m = TR_NEW(a, AnyValue);
    m->value_case = pb_AnyValue_VALUE_STRING_VALUE;
    m->string_value = TR_CONST(text);
    return m;
}

static int compare_attributes(const void *x, const void *y)
{
    return strcmp((*(pb_KeyValue *const *)x)->key, (*(pb_KeyValue *const *)y)->key);
}

static pb_KeyValueList *attributes(struct mz_arena *a, const pb_Struct *labels)
{
    pb_KeyValueList *l = labels && labels->n_fields ? TR_NEW(a, KeyValueList) : NULL;
    for (size_t i = 0; l && i < labels->n_fields; i++) {
        const pb_Value *v = labels->fields[i]->value;
        pb_KeyValue *k = TR_NEW(a, KeyValue);
        k->key = labels->fields[i]->key;
        k->value = any_text(a, v->kind_case == pb_Value_KIND_STRING_VALUE ? v->string_value : "");
        TR_ADD(a, l, values) = k;
    }
    if (l)
        qsort(l->values, l->n_values, sizeof(*l->values), compare_attributes);
    return l;
}

static pb_AccessLog *to_otel(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p,
                             struct mz_err *err)
{
    const ist_MeshConfig_ExtensionProvider_EnvoyOpenTelemetryLogProvider *o = p->envoy_otel_als;
    const ist_MeshConfig_ExtensionProvider_EnvoyOpenTelemetryLogProvider_LogFormat *f =
        o->log_format;
    struct tr_provider_cluster to;
    struct mz_arena *a = v->arena;
    if (!tr_provider_cluster(v, a, o->service, o->port, &to, err))
        return NULL;
    const char *text = f && f->text[0] ? f->text : text_format;
    pb_OpenTelemetryAccessLogConfig *m = TR_NEW(a, OpenTelemetryAccessLogConfig);
    m->common_config = common(a, o->log_name[0] ? o->log_name : "otel_envoy_accesslog",
                              tr_provider_grpc(a, &to), MZ_COUNT(peers));
    m->disable_builtin_labels = true;
    m->body = any_text(a, text);
    m->attributes = attributes(a, f ? f->labels : NULL);
    if (wants_query_removed(mz_str_c(text)) || any_wants_query_removed(f ? f->labels : NULL))
        TR_ADD(a, m, formatters) = query_remover(a);
    return logger(a, "envoy.access_loggers.open_telemetry", m);
}

/* NULL: it logs nothing. */
static pb_AccessLog *to_provider(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p)
{
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    pb_AccessLog *l = NULL;
    switch (p->provider_case) {
    case ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_FILE_ACCESS_LOG:
        return to_file_of_provider(v, p);
    case ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_HTTP_ALS:
        l = to_http_server(v, p, &err);
        break;
    case ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_TCP_ALS:
        l = to_tcp_server(v, p, &err);
        break;
    case ist_MeshConfig_ExtensionProvider_PROVIDER_ENVOY_OTEL_ALS:
        l = to_otel(v, p, &err);
        break;
    default:
        return NULL;
    }
    if (!l)
        tr_tell(v, MZ_STR("MeshConfig/mesh"), "provider %s gets no access log: %s", p->name,
                mz_err_text(&err, text, sizeof(text)));
    return l;
}

/* ---- who logs ---- */

struct choice {
    const char *provider;
    bool off;
    const ist_AccessLogging_Filter *filter;
};
struct choices { /* each provider once */
    size_t n_v;
    struct choice *v;
};

static struct choice *choice_of(struct choices *c, const char *provider)
{
    for (size_t i = 0; i < c->n_v; i++)
        if (strcmp(c->v[i].provider, provider) == 0)
            return &c->v[i];
    return NULL;
}

static void choose(struct mz_arena *a, struct choices *c, struct choice one)
{
    struct choice *had = choice_of(c, one.provider);
    if (had)
        *had = one;
    else
        TR_ADD(a, c, v) = one;
}

static void choose_defaults(struct mz_view *v, struct choices *c)
{
    const ist_MeshConfig_DefaultProviders *d = v->model->mesh.config->default_providers;
    for (size_t i = 0; d && i < d->n_access_logging; i++)
        choose(v->arena, c, (struct choice){ .provider = d->access_logging[i] });
}

static bool is_of(const ist_AccessLogging *m, enum tr_class class)
{
    return !m->match || tr_mode_is_of(m->match->mode, class);
}

/* Providers that the last document with any names, with the filters that were said of each so far; none: the mesh's own. */
static void choose_scope(struct mz_view *v, enum tr_class class, const struct tr_said *s,
                         struct choices *scope, struct choices *filters)
{
    choose_defaults(v, scope);
    for (size_t i = 0; i < s->n_levels; i++) {
        struct choices names = { 0 };
        for (size_t k = 0; k < s->levels[i].n; k++) {
            const ist_AccessLogging *m = s->levels[i].v[k];
            for (size_t p = 0; is_of(m, class) && p < m->n_providers; p++) {
                const struct choice one = { m->providers[p]->name, false, m->filter };
                choose(v->arena, &names, one);
                choose(v->arena, filters, one);
            }
        }
        if (names.n_v)
            *scope = names;
    }
}

static void choose_one(struct mz_view *v, const ist_AccessLogging *m, const char *provider,
                       struct choices *scope, struct choices *filters, struct choices *out)
{
    const struct choice *said = choice_of(filters, provider);
    const bool off = mz_bool_or(m->disabled, false);
    if (choice_of(scope, provider))
        choose(v->arena, out, (struct choice){ provider, off, said && !off ? said->filter : NULL });
}

static void choose_all(struct mz_view *v, enum tr_class class, const struct tr_said *s,
                       struct choices *out)
{
    struct choices scope = { 0 }, filters = { 0 }, inherited = { 0 };
    if (!s->n_levels) {
        choose_defaults(v, out);
        return;
    }
    choose_scope(v, class, s, &scope, &filters);
    choose_defaults(v, &inherited);
    for (size_t i = 0; i < s->n_levels; i++)
        for (size_t k = 0; k < s->levels[i].n; k++) {
            const ist_AccessLogging *m = s->levels[i].v[k];
            if (m->n_providers)
                inherited = (struct choices){ 0 };
            for (size_t p = 0; p < m->n_providers; p++)
                choose(v->arena, &inherited, (struct choice){ .provider = m->providers[p]->name });
            for (size_t p = 0; is_of(m, class) && p < inherited.n_v; p++)
                choose_one(v, m, inherited.v[p].provider, &scope, &filters, out);
        }
}

/* ---- conditions ---- */

static pb_AccessLogFilter *no_route(struct mz_arena *a)
{
    pb_AccessLogFilter *f = TR_NEW(a, AccessLogFilter);
    f->filter_specifier_case = pb_AccessLogFilter_FILTER_SPECIFIER_RESPONSE_FLAG_FILTER;
    f->response_flag_filter = TR_NEW(a, ResponseFlagFilter);
    TR_ADD(a, f->response_flag_filter, flags) = TR_CONST("NR");
    return f;
}

static pb_AccessLogFilter *expression(struct mz_arena *a, const ist_AccessLogging_Filter *said)
{
    pb_ExpressionFilter *m = TR_NEW(a, ExpressionFilter);
    pb_AccessLogFilter *f = TR_NEW(a, AccessLogFilter);
    m->expression = said->expression;
    f->filter_specifier_case = pb_AccessLogFilter_FILTER_SPECIFIER_EXTENSION_FILTER;
    f->extension_filter = TR_NEW(a, ExtensionFilter);
    f->extension_filter->name = TR_CONST("envoy.access_loggers.extension_filters.cel");
    f->extension_filter->config_type_case = pb_ExtensionFilter_CONFIG_TYPE_TYPED_CONFIG;
    f->extension_filter->typed_config = tr_any(a, m);
    return f;
}

static pb_AccessLogFilter *both(struct mz_arena *a, pb_AccessLogFilter *x, pb_AccessLogFilter *y)
{
    if (!x || !y)
        return x ? x : y;
    pb_AccessLogFilter *f = TR_NEW(a, AccessLogFilter);
    f->filter_specifier_case = pb_AccessLogFilter_FILTER_SPECIFIER_AND_FILTER;
    f->and_filter = TR_NEW(a, AndFilter);
    TR_ADD(a, f->and_filter, filters) = x;
    TR_ADD(a, f->and_filter, filters) = y;
    return f;
}

static pb_AccessLog *with_filter(struct mz_arena *a, const pb_AccessLog *l, pb_AccessLogFilter *f)
{
    pb_AccessLog *own = TR_NEW(a, AccessLog);
    *own = *l; /* shares its configuration */
    own->filter = f;
    return own;
}

/* ---- all of it ---- */

/* What the bootstrap knows as "envoy_accesslog_service". */
static pb_GrpcService *bootstrap_server(struct mz_arena *a)
{
    return tr_provider_grpc(
        a, &(struct tr_provider_cluster){ TR_CONST(""), TR_CONST("envoy_accesslog_service") });
}

static pb_AccessLog *service_tcp(struct mz_arena *a, const char *name)
{
    pb_TcpGrpcAccessLogConfig *m = TR_NEW(a, TcpGrpcAccessLogConfig);
    m->common_config = common(a, name, bootstrap_server(a), MZ_COUNT(peers));
    return logger(a, "envoy.tcp_grpc_access_log", m);
}

static pb_AccessLog *service_http(struct mz_arena *a)
{
    pb_HttpGrpcAccessLogConfig *m = TR_NEW(a, HttpGrpcAccessLogConfig);
    m->common_config = common(a, "http_envoy_accesslog", bootstrap_server(a), MZ_COUNT(peers));
    return logger(a, "envoy.access_loggers.http_grpc", m);
}

/* Nobody said anything by Telemetry. */
static void add_of_mesh(struct mz_view *v, struct tr_telemetry *t)
{
    struct mz_arena *a = v->arena;
    const ist_MeshConfig *c = v->model->mesh.config;
    if (c->access_log_file[0]) {
        pb_AccessLog *l = to_file_of_mesh(v, c->access_log_file);
        TR_ADD(a, t, http_logs) = l;
        TR_ADD(a, t, tcp_logs) = l;
        TR_ADD(a, t, listener_logs) = with_filter(a, l, no_route(a));
    }
    if (c->enable_envoy_access_log_service) {
        TR_ADD(a, t, http_logs) = service_http(a);
        TR_ADD(a, t, tcp_logs) = service_tcp(a, "tcp_envoy_accesslog");
        TR_ADD(a, t, listener_logs) =
            with_filter(a, service_tcp(a, "listener_envoy_accesslog"), no_route(a));
    }
}

static int compare_choices(const void *x, const void *y)
{
    return strcmp(((const struct choice *)x)->provider, ((const struct choice *)y)->provider);
}

void tr_logs_add(struct mz_view *v, enum tr_class class, const struct tr_said *s,
                 struct tr_telemetry *t)
{
    struct mz_arena *a = v->arena;
    struct choices all = { 0 };
    bool any = false;
    choose_all(v, class, s, &all);
    if (all.n_v)
        qsort(all.v, all.n_v, sizeof(*all.v), compare_choices);
    for (size_t i = 0; i < all.n_v; i++) {
        const ist_MeshConfig_ExtensionProvider *p =
            tr_provider_by_any_case(v->model, mz_str_c(all.v[i].provider));
        const pb_AccessLog *l = p ? to_provider(v, p) : NULL;
        any |= l != NULL; /* one that is off counts: it says that nobody logs */
        if (!l || all.v[i].off)
            continue;
        pb_AccessLogFilter *f = all.v[i].filter ? expression(a, all.v[i].filter) : NULL;
        pb_AccessLog *own = with_filter(a, l, f);
        TR_ADD(a, t, http_logs) = own;
        TR_ADD(a, t, tcp_logs) = own;
        TR_ADD(a, t, listener_logs) = with_filter(a, l, both(a, no_route(a), f));
    }
    if (!any)
        add_of_mesh(v, t);
    if (v->model->mesh.config->disable_envoy_listener_log)
        t->n_listener_logs = 0;
}
