#include "filters/access_loggers/grpc_log.h"

#include "base/map.h"
#include "net/transport.h"
#include "observe/stream_info.h"
#include "observe/to_proto.h"
#include "proto/mapper.h"

/* A finished request or connection as envoy.data.accesslog.v3 (O2). */

static void flags(uint64_t bits, pb_AccessLogCommon *m, struct mz_arena *a)
{
    pb_ResponseFlags *f = mz_proto_new(a, pb_ResponseFlags);
    const struct {
        uint64_t bit;
        protobuf_c_boolean *to;
    } rows[] = {
        { MZ_FLAG(FAILED_LOCAL_HEALTH_CHECK), &f->failed_local_healthcheck },
        { MZ_FLAG(NO_HEALTHY_UPSTREAM), &f->no_healthy_upstream },
        { MZ_FLAG(UPSTREAM_REQUEST_TIMEOUT), &f->upstream_request_timeout },
        { MZ_FLAG(LOCAL_RESET), &f->local_reset },
        { MZ_FLAG(UPSTREAM_REMOTE_RESET), &f->upstream_remote_reset },
        { MZ_FLAG(UPSTREAM_CONNECTION_FAILURE), &f->upstream_connection_failure },
        { MZ_FLAG(UPSTREAM_CONNECTION_TERMINATION), &f->upstream_connection_termination },
        { MZ_FLAG(UPSTREAM_OVERFLOW), &f->upstream_overflow },
        { MZ_FLAG(NO_ROUTE_FOUND), &f->no_route_found },
        { MZ_FLAG(DELAY_INJECTED), &f->delay_injected },
        { MZ_FLAG(FAULT_INJECTED), &f->fault_injected },
        { MZ_FLAG(RATE_LIMITED), &f->rate_limited },
        { MZ_FLAG(RATELIMIT_SERVICE_ERROR), &f->rate_limit_service_error },
        { MZ_FLAG(DOWNSTREAM_CONNECTION_TERMINATION), &f->downstream_connection_termination },
        { MZ_FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED), &f->upstream_retry_limit_exceeded },
        { MZ_FLAG(STREAM_IDLE_TIMEOUT), &f->stream_idle_timeout },
        { MZ_FLAG(INVALID_ENVOY_REQUEST_HEADERS), &f->invalid_envoy_request_headers },
        { MZ_FLAG(DOWNSTREAM_PROTOCOL_ERROR), &f->downstream_protocol_error },
        { MZ_FLAG(UPSTREAM_MAX_STREAM_DURATION), &f->upstream_max_stream_duration_reached },
        { MZ_FLAG(RESPONSE_FROM_CACHE), &f->response_from_cache_filter },
        { MZ_FLAG(NO_FILTER_CONFIG_FOUND), &f->no_filter_config_found },
        { MZ_FLAG(DURATION_TIMEOUT), &f->duration_timeout },
        { MZ_FLAG(UPSTREAM_PROTOCOL_ERROR), &f->upstream_protocol_error },
        { MZ_FLAG(NO_CLUSTER_FOUND), &f->no_cluster_found },
        { MZ_FLAG(OVERLOAD_MANAGER), &f->overload_manager },
        { MZ_FLAG(DNS_FAILURE), &f->dns_resolution_failure },
        { MZ_FLAG(DOWNSTREAM_REMOTE_RESET), &f->downstream_remote_reset },
    };
    for (size_t i = 0; i < MZ_COUNT(rows); i++)
        *rows[i].to = (bits & rows[i].bit) != 0;
    if (bits & MZ_FLAG(UNAUTHORIZED_EXTERNAL_SERVICE)) {
        f->unauthorized_details = mz_proto_new(a, pb_ResponseFlags_Unauthorized);
        f->unauthorized_details->reason = pb_ResponseFlags_Unauthorized_Reason_EXTERNAL_SERVICE;
    }
    m->response_flags = f;
}

/* ---- TLS ---- */

static pb_TLSProperties_CertificateProperties *certificate(const struct mz_tls_cert_facts *c,
                                                           bool peer, struct mz_arena *a)
{
    pb_TLSProperties_CertificateProperties *m =
        mz_proto_new(a, pb_TLSProperties_CertificateProperties);
    m->subject_alt_name = mz_arena_alloc0(a, mz_mul(c->uri_sans.n, sizeof(*m->subject_alt_name)));
    for (size_t i = 0; i < c->uri_sans.n; i++) {
        pb_TLSProperties_CertificateProperties_SubjectAltName *s =
            mz_proto_new(a, pb_TLSProperties_CertificateProperties_SubjectAltName);
        s->san_case = pb_TLSProperties_CertificateProperties_SubjectAltName_SAN_URI;
        s->uri = mz_proto_text(c->uri_sans.v[i], a);
        m->subject_alt_name[m->n_subject_alt_name++] = s;
    }
    m->subject = mz_proto_text(c->subject, a);
    if (peer)
        m->issuer = mz_proto_text(c->issuer, a);
    return m;
}

static pb_TLSProperties_TLSVersion version(struct mz_str s)
{
    static const struct mz_str names[] = { MZ_STR_INIT(""), MZ_STR_INIT("TLSv1"),
                                           MZ_STR_INIT("TLSv1.1"), MZ_STR_INIT("TLSv1.2"),
                                           MZ_STR_INIT("TLSv1.3") };
    for (size_t i = 1; i < MZ_COUNT(names); i++)
        if (mz_str_eq(s, names[i]))
            return (pb_TLSProperties_TLSVersion)i;
    return pb_TLSProperties_TLSVersion_VERSION_UNSPECIFIED;
}

static pb_TLSProperties *tls(const struct mz_stream_info *i, struct mz_arena *a)
{
    struct mz_transport *t = i->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    if (!f && !i->sni.n && !i->ja3.n)
        return NULL;
    pb_TLSProperties *m = mz_proto_new(a, pb_TLSProperties);
    m->tls_sni_hostname = mz_proto_text(i->sni, a);
    m->ja3_fingerprint = mz_proto_text(i->ja3, a);
    if (!f)
        return m;
    m->local_certificate_properties = certificate(&f->own, false, a);
    m->peer_certificate_properties = certificate(&f->peer, true, a);
    m->tls_cipher_suite = mz_proto_new(a, pb_UInt32Value);
    m->tls_cipher_suite->value = f->cipher_id;
    m->tls_session_id = mz_proto_text(f->session_id, a);
    m->tls_version = version(f->version);
    return m;
}

/* ---- what both kinds have ---- */

static void times(const struct mz_stream_info *i, pb_AccessLogCommon *m, struct mz_arena *a)
{
    const struct {
        uint64_t at_us;
        pb_Duration **to;
    } rows[] = {
        { i->rx_end_us, &m->time_to_last_rx_byte },
        { i->up.first_tx_us, &m->time_to_first_upstream_tx_byte },
        { i->up.last_tx_us, &m->time_to_last_upstream_tx_byte },
        { i->up.first_rx_us, &m->time_to_first_upstream_rx_byte },
        { i->up.last_rx_us, &m->time_to_last_upstream_rx_byte },
        { i->tx_first_us, &m->time_to_first_downstream_tx_byte },
        { i->tx_last_us, &m->time_to_last_downstream_tx_byte },
        { i->end_us, &m->duration },
    };
    m->start_time = mz_proto_timestamp(i->start_wall_us, a);
    for (size_t k = 0; k < MZ_COUNT(rows); k++)
        if (rows[k].at_us >= i->start_us && rows[k].at_us)
            *rows[k].to = mz_proto_duration(rows[k].at_us - i->start_us, a);
}

static pb_AccessLogType type_of(const char *name)
{
    const ProtobufCEnumValue *v =
        name ? protobuf_c_enum_descriptor_get_value_by_name(&pb_AccessLogType__descriptor, name)
             : NULL;
    return v ? (pb_AccessLogType)v->value : pb_AccessLogType_NotSet;
}

/* A map is a Struct, anything else its text. */
static pb_Any *object(const struct mz_filter_object *o, struct mz_arena *a)
{
    if (o->is_map)
        return mz_any_pack(&mz_proto_struct(o->tree(o, a), a)->base, a);
    if (!o->text)
        return NULL;
    pb_StringValue *text = mz_proto_new(a, pb_StringValue);
    text->value = mz_proto_text(o->text(o, a), a);
    return mz_any_pack(&text->base, a);
}

/* Of the stream, else of the upstream connection. */
static void objects(const struct mz_stream_info *i, const struct grpc_log_headers *wanted,
                    pb_AccessLogCommon *m, struct mz_arena *a)
{
    m->filter_state_objects =
        mz_arena_alloc0(a, mz_mul(wanted->n, sizeof(*m->filter_state_objects)));
    for (size_t k = 0; k < wanted->n; k++) {
        const struct mz_filter_object *o = mz_info_state(i, wanted->v[k]);
        if (!o && i->up.filter_state)
            o = mz_map_get(i->up.filter_state, wanted->v[k]);
        pb_Any *any = o ? object(o, a) : NULL;
        if (!any)
            continue;
        pb_AccessLogCommon_FilterStateObjectsEntry *e =
            mz_proto_new(a, pb_AccessLogCommon_FilterStateObjectsEntry);
        e->key = mz_proto_text(wanted->v[k], a);
        e->value = any;
        m->filter_state_objects[m->n_filter_state_objects++] = e;
    }
}

static pb_AccessLogCommon *common(const struct mz_format_ctx *c, const struct grpc_log_extra *x,
                                  struct mz_arena *a)
{
    const struct mz_stream_info *i = c->info;
    pb_AccessLogCommon *m = mz_proto_new(a, pb_AccessLogCommon);
    m->downstream_remote_address = mz_proto_address(&i->remote, a);
    m->downstream_direct_remote_address = mz_proto_address(&i->direct_remote, a);
    m->downstream_local_address = mz_proto_address(&i->local, a);
    m->tls_properties = tls(i, a);
    times(i, m, a);
    if (i->up.host.len) {
        m->upstream_remote_address = mz_proto_address(&i->up.host, a);
        m->upstream_cluster = mz_proto_text(i->route.cluster_raw, a);
    }
    m->upstream_local_address = mz_proto_address(&i->up.local, a);
    m->upstream_transport_failure_reason = mz_proto_text(i->up.transport_failure, a);
    if (i->transport && i->transport->ops->failure)
        m->downstream_transport_failure_reason =
            mz_proto_text(i->transport->ops->failure(i->transport), a);
    m->route_name = mz_proto_text(i->route.route_name, a);
    m->upstream_request_attempt_count = i->attempts;
    if (i->conn_termination)
        m->connection_termination_details = mz_proto_text(mz_str_c(i->conn_termination), a);
    if (i->flags)
        flags(i->flags, m, a);
    if (i->dynamic_metadata)
        m->metadata = mz_proto_metadata(i->dynamic_metadata, a);
    char id[MZ_UUID_TEXT];
    m->stream_id = mz_proto_text(mz_info_stream_id(i, id), a);
    m->intermediate_log_entry = !m->duration;
    m->downstream_wire_bytes_sent = i->wire_out;
    m->downstream_wire_bytes_received = i->wire_in;
    m->upstream_wire_bytes_sent = i->up.wire_out;
    m->upstream_wire_bytes_received = i->up.wire_in;
    m->access_log_type = type_of(c->log_type);
    if (x->objects.n)
        objects(i, &x->objects, m, a);
    return m;
}

/* ---- HTTP ---- */

static char *field(const struct mz_headers *h, enum mz_header_id id, struct mz_arena *a)
{
    return mz_proto_text(h ? mz_headers_value_id(h, id) : MZ_STR(""), a);
}

static pb_RequestMethod method_of(const struct mz_headers *h, struct mz_arena *a)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value_by_name(
        &pb_RequestMethod__descriptor, field(h, MZ_H_METHOD, a));
    return v ? (pb_RequestMethod)v->value : pb_RequestMethod_METHOD_UNSPECIFIED;
}

/* Protobuf's entries of a map have one shape; each map its own type. */
#define EXTRA_HEADERS(entry, headers, wanted, to, n_to, a)                                         \
    do {                                                                                           \
        (to) = mz_arena_alloc0((a), mz_mul((wanted)->n, sizeof(*(to))));                           \
        for (size_t i_ = 0; (headers) && i_ < (wanted)->n; i_++) {                                 \
            struct mz_str value_;                                                                  \
            if (!mz_headers_joined((headers), (wanted)->v[i_], &value_))                           \
                continue;                                                                          \
            pb_##entry *e_ = mz_proto_new((a), pb_##entry);                                        \
            e_->key = mz_proto_text((wanted)->v[i_], (a));                                         \
            e_->value = mz_proto_text(value_, (a));                                                \
            (to)[(n_to)++] = e_;                                                                   \
        }                                                                                          \
    } while (0)

static pb_HTTPRequestProperties *request(const struct mz_stream_info *i, const struct mz_headers *h,
                                         const struct grpc_log_headers *wanted, struct mz_arena *a)
{
    pb_HTTPRequestProperties *m = mz_proto_new(a, pb_HTTPRequestProperties);
    m->scheme = field(h, MZ_H_SCHEME, a);
    m->authority = field(h, MZ_H_AUTHORITY, a);
    m->path = field(h, MZ_H_PATH, a);
    m->user_agent = field(h, MZ_H_USER_AGENT, a);
    m->referer = field(h, MZ_H_REFERER, a);
    m->forwarded_for = field(h, MZ_H_X_FORWARDED_FOR, a);
    m->request_id = field(h, MZ_H_X_REQUEST_ID, a);
    m->original_path = field(h, MZ_H_X_ENVOY_ORIGINAL_PATH, a);
    m->request_method = method_of(h, a);
    m->request_headers_bytes = h ? mz_headers_bytes(h) : 0;
    m->request_body_bytes = i->rx_body;
    m->downstream_header_bytes_received = i->header_in;
    m->upstream_header_bytes_sent = i->up.header_out;
    EXTRA_HEADERS(HTTPRequestProperties_RequestHeadersEntry, h, wanted, m->request_headers,
                  m->n_request_headers, a);
    return m;
}

static pb_HTTPResponseProperties *response(const struct mz_stream_info *i,
                                           const struct mz_headers *h,
                                           const struct mz_headers *trailers,
                                           const struct grpc_log_extra *x, struct mz_arena *a)
{
    pb_HTTPResponseProperties *m = mz_proto_new(a, pb_HTTPResponseProperties);
    if (i->status) {
        m->response_code = mz_proto_new(a, pb_UInt32Value);
        m->response_code->value = i->status;
    }
    if (i->details)
        m->response_code_details = mz_proto_text(mz_str_c(i->details), a);
    m->response_headers_bytes = h ? mz_headers_bytes(h) : 0;
    m->response_body_bytes = i->tx_body;
    m->downstream_header_bytes_sent = i->header_out;
    m->upstream_header_bytes_received = i->up.header_in;
    EXTRA_HEADERS(HTTPResponseProperties_ResponseHeadersEntry, h, &x->response, m->response_headers,
                  m->n_response_headers, a);
    EXTRA_HEADERS(HTTPResponseProperties_ResponseTrailersEntry, trailers, &x->trailers,
                  m->response_trailers, m->n_response_trailers, a);
    return m;
}

ProtobufCMessage *grpc_log_http(const struct mz_format_ctx *c, const struct grpc_log_extra *x,
                                struct mz_arena *a)
{
    const struct mz_stream_info *i = c->info;
    const struct mz_headers *req = c->req ? c->req : i->req, *resp = c->resp ? c->resp : i->resp;
    pb_HTTPAccessLogEntry *m = mz_proto_new(a, pb_HTTPAccessLogEntry);
    m->common_properties = common(c, x, a);
    if (i->has_protocol) /* the same order, behind "unspecified" */
        m->protocol_version = (pb_HTTPAccessLogEntry_HTTPVersion)(i->protocol + 1);
    m->request = request(i, req, &x->request, a);
    m->response = response(i, resp, c->trailers ? c->trailers : i->resp_trailers, x, a);
    return (ProtobufCMessage *)m;
}

ProtobufCMessage *grpc_log_tcp(const struct mz_format_ctx *c, const struct grpc_log_extra *x,
                               struct mz_arena *a)
{
    pb_TCPAccessLogEntry *m = mz_proto_new(a, pb_TCPAccessLogEntry);
    m->common_properties = common(c, x, a);
    m->connection_properties = mz_proto_new(a, pb_ConnectionProperties);
    m->connection_properties->received_bytes = c->info->rx_body;
    m->connection_properties->sent_bytes = c->info->tx_body;
    return (ProtobufCMessage *)m;
}
