/* HealthCheck becomes a checker (U6). */
#include "http/validate.h"
#include "observe/log_file.h"
#include "upstream/health/check.h"

#define NO_TRAFFIC_MS        60000
#define DEFAULT_ANSWER_BYTES 1024

/* ---- payloads ---- */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_build(struct mz_cluster *c, const char *text, struct mz_str *out,
                      struct mz_err *err)
{
    size_t n = strlen(text);
    char *p = cluster_keep(c, n / 2 + 1);
    bool ok = n > 0 && n % 2 == 0;
    for (size_t i = 0; ok && i < n; i += 2) {
        int hi = hex_digit(text[i]), lo = hex_digit(text[i + 1]);
        ok = hi >= 0 && lo >= 0;
        p[i / 2] = (char)(ok ? hi << 4 | lo : 0);
    }
    *out = (struct mz_str){ p, n / 2 };
    return ok || mz_err_set(err, "invalid hex string '%s'", text) || mz_err_at(err, "text");
}

static bool bytes_add(struct mz_cluster *c, const pb_HealthCheck_Payload *m, struct check_bytes *b,
                      struct mz_err *err)
{
    struct mz_str *to = &b->v[b->n++];
    if (m->payload_case == pb_HealthCheck_Payload_PAYLOAD_TEXT) {
        if (!hex_build(c, m->text, to, err))
            return false;
    } else {
        char *p = cluster_keep(c, m->binary.len + 1);
        if (m->binary.len)
            memcpy(p, m->binary.data, m->binary.len);
        *to = (struct mz_str){ p, m->binary.len };
    }
    b->total += to->n;
    return true;
}

static bool bytes_build(struct mz_cluster *c, pb_HealthCheck_Payload *const *v, size_t n,
                        struct check_bytes *out, struct mz_err *err)
{
    out->v = cluster_keep(c, mz_mul(n ? n : 1, sizeof(*out->v)));
    for (size_t i = 0; i < n; i++)
        if (!bytes_add(c, v[i], out, err))
            return mz_err_at(err, "receive[%zu]", i);
    return true;
}

static bool send_build(struct mz_cluster *c, const pb_HealthCheck_Payload *m,
                       struct check_bytes *out, struct mz_err *err)
{
    out->v = cluster_keep(c, sizeof(*out->v));
    return !m || bytes_add(c, m, out, err) || mz_err_at(err, "send");
}

/* ---- HTTP ---- */
static bool ranges_build(struct mz_cluster *c, pb_Int64Range *const *v, size_t n, const char *what,
                         struct check_ranges *out, struct mz_err *err)
{
    out->v = cluster_keep(c, mz_mul(n ? n : 1, sizeof(*out->v)));
    for (size_t i = 0; i < n; i++) {
        if (v[i]->start < 100 || v[i]->end > 600 || v[i]->start >= v[i]->end)
            return mz_err_set(err,
                              "Invalid http %s status range: must be 100 <= start < end <= 600, "
                              "is start=%lld and end=%lld",
                              what, (long long)v[i]->start, (long long)v[i]->end) ||
                   mz_err_at(err, "%s_statuses[%zu]", what, i);
        out->v[out->n++] = (struct check_range){ (uint32_t)v[i]->start, (uint32_t)v[i]->end };
    }
    return true;
}

static struct mz_str lower_name(struct mz_cluster *c, const char *s)
{
    struct mz_str out = cluster_keep_str(c, s);
    for (size_t i = 0; i < out.n; i++)
        ((char *)(uintptr_t)out.p)[i] = mz_lower(out.p[i]);
    return out;
}

static bool header_build(struct mz_cluster *c, const pb_HeaderValueOption *m,
                         struct check_header *out, struct mz_err *err)
{
    out->name = lower_name(c, m->header->key);
    out->keep_empty = m->keep_empty_value;
    out->action = (int)m->append_action;
    if (m->append)
        out->action = m->append->value
                          ? pb_HeaderValueOption_HeaderAppendAction_APPEND_IF_EXISTS_OR_ADD
                          : pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD;
    if (!mz_header_name_valid(out->name) || out->name.p[0] == ':')
        return mz_err_set(err, "'%s' is no name of a header that can be added", m->header->key) ||
               mz_err_at(err, "header.key");
    out->value = mz_format_create(mz_str_c(m->header->value), true, err);
    return out->value || mz_err_at(err, "header.value");
}

static bool headers_build(struct mz_cluster *c, const pb_HealthCheck_HttpHealthCheck *m,
                          struct check_http_config *h, struct mz_err *err)
{
    h->add = cluster_keep(c, mz_mul(m->n_request_headers_to_add + 1, sizeof(*h->add)));
    h->remove = cluster_keep(c, mz_mul(m->n_request_headers_to_remove + 1, sizeof(*h->remove)));
    for (size_t i = 0; i < m->n_request_headers_to_add; i++) {
        h->n_add++;
        if (!header_build(c, m->request_headers_to_add[i], &h->add[i], err))
            return mz_err_at(err, "request_headers_to_add[%zu]", i);
    }
    for (size_t i = 0; i < m->n_request_headers_to_remove; i++) {
        h->remove[h->n_remove] = lower_name(c, m->request_headers_to_remove[i]);
        if (h->remove[h->n_remove++].p[0] == ':')
            return mz_err_set(err, ":-prefixed or host headers may not be removed") ||
                   mz_err_at(err, "request_headers_to_remove[%zu]", i);
    }
    return true;
}

static bool method_build(const pb_HealthCheck_HttpHealthCheck *m, struct check_http_config *h,
                         struct mz_err *err)
{
    static const struct {
        int number;
        const char *name;
        bool body;
    } methods[] = { { pb_RequestMethod_METHOD_UNSPECIFIED, "GET", false },
                    { pb_RequestMethod_GET, "GET", false },
                    { pb_RequestMethod_HEAD, "HEAD", false },
                    { pb_RequestMethod_POST, "POST", true },
                    { pb_RequestMethod_PUT, "PUT", true },
                    { pb_RequestMethod_DELETE, "DELETE", false },
                    { pb_RequestMethod_OPTIONS, "OPTIONS", true },
                    { pb_RequestMethod_TRACE, "TRACE", false },
                    { pb_RequestMethod_PATCH, "PATCH", true } };
    for (size_t i = 0; i < MZ_COUNT(methods); i++) {
        if ((int)m->method != methods[i].number)
            continue;
        h->method = mz_str_c(methods[i].name);
        return !m->send || methods[i].body ||
               mz_err_set(err,
                          "HTTP health check cannot specify a request payload with method '%s'. "
                          "Only methods that support a request body (POST, PUT, PATCH, OPTIONS) "
                          "can be used with payload.",
                          methods[i].name) ||
               mz_err_at(err, "send");
    }
    return mz_err_set(err, "cannot check with method %d", (int)m->method) ||
           mz_err_at(err, "method");
}

static bool http_build(struct mz_cluster *c, const pb_HealthCheck_HttpHealthCheck *m,
                       struct check_http_config *h, struct mz_err *err)
{
    if (m->codec_client_type != pb_CodecClientType_HTTP1 &&
        m->codec_client_type != pb_CodecClientType_HTTP2)
        return mz_err_set(err, "HTTP/3 is not supported yet") ||
               mz_err_at(err, "codec_client_type");
    h->http2 = m->codec_client_type == pb_CodecClientType_HTTP2;
    h->host = cluster_keep_str(c, m->host);
    h->path = cluster_keep_str(c, m->path);
    h->buffer_size = mz_u64_or(m->response_buffer_size, DEFAULT_ANSWER_BYTES);
    if (!method_build(m, h, err) || !send_build(c, m->send, &h->send, err) ||
        !bytes_build(c, m->receive, m->n_receive, &h->receive, err) ||
        !headers_build(c, m, h, err) ||
        !ranges_build(c, m->expected_statuses, m->n_expected_statuses, "expected", &h->expected,
                      err) ||
        !ranges_build(c, m->retriable_statuses, m->n_retriable_statuses, "retriable", &h->retriable,
                      err))
        return false;
    if (h->buffer_size && h->receive.total > h->buffer_size)
        return mz_err_set(err,
                          "The expected response length '%zu' is over than http health response "
                          "buffer size '%llu'",
                          h->receive.total, (unsigned long long)h->buffer_size) ||
               mz_err_at(err, "receive");
    if (m->service_name_matcher) {
        h->service = mz_string_match_build(m->service_name_matcher, err);
        return h->service || mz_err_at(err, "service_name_matcher");
    }
    return true;
}

/* A check of its own kind by HTTP/2; the answer is judged by check_grpc.c. */
static bool grpc_build(struct mz_cluster *c, const pb_HealthCheck_GrpcHealthCheck *m,
                       struct check_http_config *h, struct mz_err *err)
{
    struct mz_str service = mz_str_c(m->service_name);
    size_t n = check_grpc_request_size(service.n);
    char *request = cluster_keep(c, n);
    if (!c->http2 && !c->use_downstream_protocol)
        return mz_err_set(err, "%.*s cluster must support HTTP/2 for gRPC healthchecking",
                          MZ_STR_ARG(c->name));
    check_grpc_request(service, request);
    h->send.v = cluster_keep(c, sizeof(*h->send.v));
    h->send.v[0] = (struct mz_str){ request, n };
    h->send.n = 1;
    h->http2 = h->grpc = true;
    h->method = MZ_STR("POST");
    h->path = MZ_STR("/grpc.health.v1.Health/Check");
    h->host = cluster_keep_str(c, m->authority);
    h->add = cluster_keep(c, mz_mul(m->n_initial_metadata + 1, sizeof(*h->add)));
    for (size_t i = 0; i < m->n_initial_metadata; i++) {
        h->n_add++;
        if (!header_build(c, m->initial_metadata[i], &h->add[i], err))
            return mz_err_at(err, "initial_metadata[%zu]", i);
    }
    return true;
}

static bool tcp_build(struct mz_cluster *c, const pb_HealthCheck_TcpHealthCheck *m,
                      struct check_config *k, struct mz_err *err)
{
    return send_build(c, m->send, &k->tcp_send, err) &&
           bytes_build(c, m->receive, m->n_receive, &k->tcp_receive, err);
}

/* ---- what all kinds have ---- */
static bool times_build(const pb_HealthCheck *m, struct check_config *k, struct mz_err *err)
{
    const struct {
        const char *name;
        const pb_Duration *value;
        const uint64_t *otherwise; /* NULL: 0 */
        uint64_t *to;
    } rows[] = {
        { "timeout", m->timeout, NULL, &k->timeout_ms },
        { "interval", m->interval, NULL, &k->interval_ms },
        { "initial_jitter", m->initial_jitter, NULL, &k->initial_jitter_ms },
        { "interval_jitter", m->interval_jitter, NULL, &k->interval_jitter_ms },
        { "no_traffic_interval", m->no_traffic_interval, &k->no_traffic_ms, &k->no_traffic_ms },
        { "no_traffic_healthy_interval", m->no_traffic_healthy_interval, &k->no_traffic_ms,
          &k->no_traffic_healthy_ms },
        { "unhealthy_interval", m->unhealthy_interval, &k->interval_ms, &k->unhealthy_ms },
        { "unhealthy_edge_interval", m->unhealthy_edge_interval, &k->unhealthy_ms,
          &k->unhealthy_edge_ms },
        { "healthy_edge_interval", m->healthy_edge_interval, &k->interval_ms, &k->healthy_edge_ms },
    };
    k->no_traffic_ms = NO_TRAFFIC_MS;
    for (size_t i = 0; i < MZ_COUNT(rows); i++)
        if (!mz_duration_ms(rows[i].value, rows[i].otherwise ? *rows[i].otherwise : 0, rows[i].to,
                            err))
            return mz_err_at(err, "%s", rows[i].name);
    return true;
}

static bool log_add(struct mz_cluster *c, struct check_config *k, const char *path,
                    struct mz_err *err)
{
    struct mz_log_files *files = cluster_log_files(c);
    if (!path || !path[0] || !files)
        return true;
    k->logs[k->n_logs] = mz_log_file_open(files, mz_str_c(path), err);
    return k->logs[k->n_logs] && ++k->n_logs;
}

static bool sink_build(struct mz_cluster *c, struct check_config *k,
                       const pb_TypedExtensionConfig *m, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *msg = NULL;
    bool ok = false;
    if (!m->typed_config)
        (void)mz_err_set(err, "is required");
    else if (mz_any_unpack_as(&ctx, m->typed_config, &pb_HealthCheckEventFileSink__descriptor, &msg,
                              err))
        ok = log_add(c, k, ((const pb_HealthCheckEventFileSink *)msg)->event_log_path, err) ||
             mz_err_at(err, "event_log_path");
    mz_arena_destroy(ctx.arena);
    return ok || mz_err_at(err, "typed_config");
}

static bool logs_build(struct mz_cluster *c, const pb_HealthCheck *m, struct check_config *k,
                       struct mz_err *err)
{
    k->logs = cluster_keep(c, mz_mul(m->n_event_logger + 1, sizeof(struct mz_log_file *)));
    if (!log_add(c, k, m->event_log_path, err))
        return mz_err_at(err, "event_log_path");
    for (size_t i = 0; i < m->n_event_logger; i++)
        if (!sink_build(c, k, m->event_logger[i], err))
            return mz_err_at(err, "event_logger[%zu]", i);
    k->log_failures = m->always_log_health_check_failures;
    k->log_success = m->always_log_health_check_success;
    return true;
}

static bool kind_build(struct mz_cluster *c, const pb_HealthCheck *m, struct check_config *k,
                       struct mz_err *err)
{
    switch (m->health_checker_case) {
    case pb_HealthCheck_HEALTH_CHECKER_HTTP_HEALTH_CHECK:
        k->type = &check_http;
        return http_build(c, m->http_health_check, &k->http, err) ||
               mz_err_at(err, "http_health_check");
    case pb_HealthCheck_HEALTH_CHECKER_TCP_HEALTH_CHECK:
        k->type = &check_tcp;
        return tcp_build(c, m->tcp_health_check, k, err) || mz_err_at(err, "tcp_health_check");
    case pb_HealthCheck_HEALTH_CHECKER_GRPC_HEALTH_CHECK:
        k->type = &check_grpc;
        return grpc_build(c, m->grpc_health_check, &k->http, err) ||
               mz_err_at(err, "grpc_health_check");
    default:
        return mz_err_set(err, "one of http_health_check, tcp_health_check, grpc_health_check is "
                               "required");
    }
}

static bool check_build(struct mz_cluster *c, const pb_HealthCheck *m, struct check_config *k,
                        struct mz_err *err)
{
    uint32_t port = mz_u32_or(m->alt_port, 0);
    k->jitter_percent = m->interval_jitter_percent;
    k->unhealthy_threshold = mz_u32_or(m->unhealthy_threshold, 1);
    k->healthy_threshold = mz_u32_or(m->healthy_threshold, 1);
    k->reuse = mz_bool_or(m->reuse_connection, true);
    k->alt_port = (uint16_t)port;
    if (port > UINT16_MAX)
        return mz_err_set(err, "must be at most 65535, is %u", port) || mz_err_at(err, "alt_port");
    return times_build(m, k, err) && logs_build(c, m, k, err) && kind_build(c, m, k, err);
}

bool checker_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    if (!m->n_health_checks)
        return true;
    if (m->n_health_checks > 1)
        return mz_err_set(err, "Multiple health checks not supported") ||
               mz_err_at(err, "health_checks");
    if (c->type != CLUSTER_STATIC && c->type != CLUSTER_STRICT_DNS &&
        c->type != CLUSTER_LOGICAL_DNS && c->type != CLUSTER_EDS)
        return mz_err_set(err, "hosts of this type of cluster cannot be checked yet") ||
               mz_err_at(err, "health_checks");
    struct checker *k = checker_create(c);
    cluster_priv(c)->checker = k;
    k->cfg.forget_removed = m->ignore_health_on_host_removal;
    k->cfg.exclude_new =
        m->common_lb_config && m->common_lb_config->ignore_new_hosts_until_first_hc;
    return check_build(c, m->health_checks[0], &k->cfg, err) || mz_err_at(err, "health_checks[0]");
}

void check_config_fini(struct check_config *c)
{
    for (size_t i = 0; i < c->http.n_add; i++)
        mz_format_destroy(c->http.add[i].value);
    mz_string_match_destroy(c->http.service);
    for (size_t i = 0; i < c->n_logs; i++)
        mz_log_file_close(c->logs[i]);
}
