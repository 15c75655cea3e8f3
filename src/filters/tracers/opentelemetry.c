#include "filters/otel_wire.h"
#include "filters/tracers/collector.h"
#include "filters/tracers/context.h"
#include "filters/tracers/tracers.h"
#include "grpc/client.h"
#include "proto/mapper.h"
#include "proto/wire.h"

#include <stdlib.h>

/* OpenTelemetry (O3): W3C Trace Context between services, OTLP over gRPC or HTTP to the collector. */

#define MAX_SPANS 1024
#define TIMEOUT_MS                                                                                 \
    10000 /* of a call whose service names none: a collector that hangs holds one lot, not all */

enum { SENT, DROPPED, TIMER };
static const struct mz_stat_def stat_defs[] = {
    [SENT] = { "spans_sent", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DROPPED] = { "spans_dropped", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [TIMER] = { "timer_flushed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "opentelemetry tracer", stat_defs,
                                               MZ_COUNT(stat_defs) };

/* Fields of the messages that are written here. */
enum { RESOURCE_SPANS = 1, RESOURCE = 1, SCOPE_SPANS = 2, SPANS = 2, ATTRIBUTE = 1 };
enum {
    TRACE_ID = 1,
    SPAN_ID = 2,
    TRACE_STATE = 3,
    PARENT_ID = 4,
    NAME = 5,
    KIND = 6,
    START = 7,
    END = 8,
    ATTRIBUTES = 9,
    EVENTS = 11,
    STATUS = 15,
    EVENT_TIME = 1,
    EVENT_NAME = 2,
    STATUS_CODE = 3,
};
enum { KIND_SERVER = 2, KIND_CLIENT = 3, STATUS_ERROR = 2 };

static const struct mz_grpc_method export_traces = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &pb_Empty__descriptor,
    &pb_Empty__descriptor
};

struct otel {
    struct mz_tracer base;
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct mz_grpc_service *grpc;
    struct reporter_http http;
    struct mz_header_mutations add;
    struct mz_str resource; /* packed */
    struct reporter *reporter;
};

static const struct otel *of(const struct mz_span *s)
{
    return (const struct otel *)(const void *)s->tracer;
}

/* ---- context ---- */

static uint64_t not_zero(struct mz_rand *r)
{
    uint64_t v;
    while ((v = mz_rand_u64(r)) == 0)
        continue;
    return v;
}

static bool start(const struct mz_tracer *t, const struct mz_headers *req, bool traced,
                  struct mz_span *s)
{
    const struct mz_header *h = mz_headers_get(req, MZ_STR("traceparent")),
                           *state = mz_headers_get(req, MZ_STR("tracestate"));
    struct trace_context c;
    (void)t;
    s->wide = true;
    s->id = not_zero(s->rand);
    s->sampled = traced;
    if (!h) {
        s->trace_hi = not_zero(s->rand);
        s->trace_lo = not_zero(s->rand);
        return true;
    }
    if (!traceparent_parse(h->value, &c))
        return false; /* as Envoy: what it says goes on as it is */
    s->trace_hi = c.trace_hi;
    s->trace_lo = c.trace_lo;
    s->parent = c.id;
    s->sampled = traced && c.sampled;
    if (state)
        s->state = state->value;
    return true;
}

static void child(const struct mz_span *parent, struct mz_span *s)
{
    (void)parent;
    s->id = not_zero(s->rand);
}

static void inject(const struct mz_span *s, struct mz_headers *h)
{
    const struct trace_context c = {
        .trace_hi = s->trace_hi, .trace_lo = s->trace_lo, .id = s->id, .sampled = s->sampled
    };
    char *text = mz_arena_alloc(h->arena, TRACEPARENT_TEXT);
    traceparent_write(&c, text);
    mz_headers_set(h, MZ_STR("traceparent"), mz_str_c(text));
    mz_headers_set(h, MZ_STR("tracestate"), s->state);
}

/* ---- a span as bytes ---- */

static void put_number(struct mz_buf *b, unsigned field, uint64_t v)
{
    char text[2 * MZ_WIRE_VARINT_MAX];
    size_t n = mz_wire_varint((uint64_t)field << 3, text);
    n += mz_wire_varint(v, text + n);
    mz_buf_append(b, text, n);
}

static void big_endian(uint64_t v, char out[8])
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        out[i] = (char)(v & 0xff);
}

static void put_ids(struct mz_buf *b, const struct mz_span *s)
{
    char trace[16], id[8];
    big_endian(s->trace_hi, trace);
    big_endian(s->trace_lo, trace + 8);
    mz_wire_put_bytes(b, TRACE_ID, (struct mz_str){ trace, sizeof(trace) });
    big_endian(s->id, id);
    mz_wire_put_bytes(b, SPAN_ID, (struct mz_str){ id, sizeof(id) });
    if (s->state.n && mz_utf8_valid(s->state))
        mz_wire_put_bytes(b, TRACE_STATE, s->state);
    if (!s->parent)
        return;
    big_endian(s->parent, id);
    mz_wire_put_bytes(b, PARENT_ID, (struct mz_str){ id, sizeof(id) });
}

static void put_events(struct mz_buf *b, const struct mz_span *s)
{
    for (uint32_t i = 0; i < s->n_events; i++) {
        struct mz_buf event;
        mz_buf_init(&event);
        otel_put_time(&event, EVENT_TIME, s->events[i].wall_us);
        mz_wire_put_bytes(&event, EVENT_NAME, mz_str_c(s->events[i].name));
        otel_put_message(b, EVENTS, &event);
    }
}

/* Semantic conventions: what a client did wrong is no error of the server's span. */
static bool failed(const struct mz_span *s)
{
    return s->status >= (s->kind == MZ_SPAN_SERVER ? 500 : 400);
}

static void report(const struct mz_span *s)
{
    const struct otel *o = of(s);
    struct mz_buf *out = reporter_room(o->reporter, s->worker), b;
    if (!out)
        return;
    mz_buf_init(&b);
    put_ids(&b, s);
    mz_wire_put_bytes(&b, NAME, mz_utf8_valid(s->name) ? s->name : MZ_STR("-"));
    put_number(&b, KIND, s->kind == MZ_SPAN_SERVER ? KIND_SERVER : KIND_CLIENT);
    otel_put_time(&b, START, s->start_wall_us);
    otel_put_time(&b, END, s->start_wall_us + (s->end_us - s->start_us));
    for (uint32_t i = 0; i < s->n_tags; i++)
        otel_put_pair(&b, ATTRIBUTES, s->tags[i].key, s->tags[i].value);
    put_events(&b, s);
    if (failed(s)) {
        struct mz_buf status;
        mz_buf_init(&status);
        put_number(&status, STATUS_CODE, STATUS_ERROR);
        otel_put_message(&b, STATUS, &status);
    }
    otel_put_message(out, SPANS, &b);
    reporter_added(o->reporter, s->worker);
}

static void body(void *owner, struct mz_buf *take_spans, struct mz_buf *out)
{
    const struct otel *o = owner;
    struct mz_buf spans;
    mz_buf_init(&spans);
    mz_wire_put_bytes(&spans, RESOURCE, o->resource);
    otel_put_message(&spans, SCOPE_SPANS, take_spans);
    otel_put_message(out, RESOURCE_SPANS, &spans);
}

/* ---- configuration ---- */

static void put_attribute(struct mz_buf *b, const char *key, struct mz_str value)
{
    otel_put_pair(b, ATTRIBUTE, mz_str_c(key), value);
}

/* OTEL_RESOURCE_ATTRIBUTES: "key=value,key=value". */
static bool of_environment(struct mz_buf *b, struct mz_err *err)
{
    struct mz_str rest = mz_str_c(secure_getenv("OTEL_RESOURCE_ATTRIBUTES")), pair;
    while (mz_str_split(&rest, ',', &pair)) {
        ptrdiff_t at = mz_str_chr(pair, '=');
        if (at < 1)
            return mz_err_set(
                err, "OTEL_RESOURCE_ATTRIBUTES must be key=value,..., has '" MZ_STR_FMT "'",
                MZ_STR_ARG(pair));
        otel_put_pair(b, ATTRIBUTE, (struct mz_str){ pair.p, (size_t)at },
                      mz_str_skip(pair, (size_t)at + 1));
    }
    return true;
}

static bool detect(const pb_TypedExtensionConfig *m, struct mz_proto_ctx *ctx, struct mz_buf *b,
                   struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!mz_any_unpack(ctx, m->typed_config, &type, &msg, err))
        return false;
    if (type == &pb_EnvironmentResourceDetectorConfig__descriptor)
        return of_environment(b, err);
    if (type != &pb_StaticConfigResourceDetectorConfig__descriptor)
        return mz_err_set(err, "no resource detector: %s", type->name);
    const pb_StaticConfigResourceDetectorConfig *c = (const void *)msg;
    for (size_t i = 0; i < c->n_attributes; i++)
        put_attribute(b, c->attributes[i]->key, mz_str_c(c->attributes[i]->value));
    return true;
}

static bool resource_build(const pb_OpenTelemetryConfig *m, const struct mz_factory *f,
                           struct otel *o, struct mz_err *err)
{
    struct mz_buf b;
    bool ok = true;
    mz_buf_init(&b);
    put_attribute(&b, "telemetry.sdk.language",
                  MZ_STR("cpp")); /* the nearest that the conventions know */
    put_attribute(&b, "telemetry.sdk.name", MZ_STR("mizzen"));
    put_attribute(&b, "telemetry.sdk.version", f->version);
    put_attribute(&b, "service.name",
                  m->service_name[0] ? mz_str_c(m->service_name) : MZ_STR("unknown_service:envoy"));
    for (size_t i = 0; ok && i < m->n_resource_detectors; i++)
        ok = detect(m->resource_detectors[i], f->proto, &b, err) ||
             mz_err_at(err, "resource_detectors[%zu]", i);
    o->resource = mz_arena_dup(o->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return ok;
}

static void otel_free(void *owner)
{
    struct otel *o = owner;
    mz_grpc_service_destroy(o->grpc);
    mz_header_mutations_fini(&o->add);
    mz_scope_unref(o->scope);
    mz_arena_destroy(o->arena);
}

static void destroy(struct mz_tracer *t)
{
    reporter_release(((struct otel *)(void *)t)->reporter);
}

static bool exporter_build(const pb_OpenTelemetryConfig *m, const struct mz_factory *f,
                           struct otel *o, uint64_t *out_timeout_ms, struct mz_err *err)
{
    if ((m->grpc_service != NULL) == (m->http_service != NULL))
        return mz_err_set(err,
                          "OpenTelemetry Tracer must have exactly one of gRPC, HTTP, or custom "
                          "exporter configured.");
    if (m->http_service) {
        o->http.content_type = MZ_STR("application/x-protobuf");
        o->http.user_agent = mz_arena_printf(o->arena, "OTel-OTLP-Exporter-Mizzen/" MZ_STR_FMT,
                                             MZ_STR_ARG(f->version));
        return collector_build(m->http_service, TIMEOUT_MS, o->arena, &o->http, &o->add,
                               out_timeout_ms, err) ||
               mz_err_at(err, "http_service");
    }
    o->grpc = mz_grpc_service_create(m->grpc_service, err);
    if (!o->grpc)
        return mz_err_at(err, "grpc_service");
    *out_timeout_ms = mz_grpc_service_timeout_ms(o->grpc, TIMEOUT_MS);
    return true;
}

static const struct mz_tracer_ops ops = { start, child, inject, report, destroy };

static struct mz_tracer *create(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_OpenTelemetryConfig *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct otel *o = mz_arena_new0(a, struct otel);
    uint64_t timeout_ms;
    o->base = (struct mz_tracer){ .ops = &ops, .shows_ids = true };
    o->arena = a;
    o->scope = mz_scope_create(f->stats, &stat_kind, MZ_STR("tracing.opentelemetry."));
    if (!exporter_build(m, f, o, &timeout_ms, err) || !resource_build(m, f, o, err)) {
        otel_free(o);
        return NULL;
    }
    o->reporter = reporter_create(
        &(struct reporter_opts){
            .owner = o,
            .max_spans = MAX_SPANS,
            .scope = o->scope,
            .stat_sent = SENT,
            .stat_dropped = DROPPED,
            .stat_timer = TIMER,
            .key_min_spans = MZ_STR("tracing.opentelemetry.min_flush_spans"),
            .key_interval_ms = MZ_STR("tracing.opentelemetry.flush_interval_ms"),
            .grpc = o->grpc,
            .method = &export_traces,
            .http = &o->http,
            .timeout_ms = timeout_ms,
            .body = body,
            .destroy = otel_free,
        },
        f->workers);
    return &o->base;
}

const struct mz_tracer_type mz_tracer_opentelemetry = { "envoy.config.trace.v3.OpenTelemetryConfig",
                                                        create };
