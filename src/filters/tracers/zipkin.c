#include "filters/tracers/collector.h"
#include "filters/tracers/context.h"
#include "filters/tracers/tracers.h"
#include "net/addr.h"
#include "observe/json_text.h"
#include "proto/mapper.h"
#include "router/async.h"

/* Zipkin (O3): B3 between services, JSON of version 2 to the collector. */

#define MAX_SPANS  1024
#define TIMEOUT_MS 5000

enum { SENT, TIMER, NO_CLUSTER, REPORTS_SENT, REPORTS_DROPPED, REPORTS_FAILED };
static const struct mz_stat_def stat_defs[] = {
    [SENT] = { "spans_sent", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [TIMER] = { "timer_flushed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [NO_CLUSTER] = { "reports_skipped_no_cluster", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REPORTS_SENT] = { "reports_sent", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REPORTS_DROPPED] = { "reports_dropped", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [REPORTS_FAILED] = { "reports_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "zipkin tracer", stat_defs, MZ_COUNT(stat_defs) };

enum form {
    FORM_HEADERS,
    FORM_SINGLE
}; /* of the context: a service that says it in one header hears it in one */

struct zipkin {
    struct mz_tracer base;
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct reporter_http http;
    struct mz_header_mutations add;
    struct mz_str service, ip; /* of the spans' endpoint */
    bool ipv6, wide, shared, w3c;
    struct reporter *reporter;
};

static const struct zipkin *of(const struct mz_tracer *t)
{
    return (const struct zipkin *)(const void *)t;
}

/* ---- context ---- */

static struct mz_str value_of(const struct mz_headers *h, struct mz_str name)
{
    const struct mz_header *e = mz_headers_get(h, name);
    return e ? e->value : (struct mz_str){ 0 };
}

static bool extract(const struct zipkin *z, const struct mz_headers *req, struct trace_context *c,
                    struct mz_span *s)
{
    const struct mz_header *single = mz_headers_get(req, MZ_STR("b3"));
    *c = (struct trace_context){ 0 };
    if (single) {
        s->form = FORM_SINGLE;
        return b3_single_parse(single->value, c);
    }
    const struct b3_headers h = { value_of(req, MZ_STR("x-b3-traceid")),
                                  value_of(req, MZ_STR("x-b3-spanid")),
                                  value_of(req, MZ_STR("x-b3-parentspanid")),
                                  value_of(req, MZ_STR("x-b3-sampled")),
                                  value_of(req, MZ_STR("x-b3-flags")) };
    if (!b3_parse(&h, c))
        return false;
    struct mz_str parent = value_of(req, MZ_STR("traceparent"));
    return c->has_ids || !z->w3c || !parent.n || traceparent_parse(parent, c);
}

static bool start(const struct mz_tracer *t, const struct mz_headers *req, bool traced,
                  struct mz_span *s)
{
    const struct zipkin *z = of(t);
    struct trace_context c;
    if (!extract(z, req, &c, s))
        return false;
    s->sampled = c.has_sampled ? c.sampled : traced;
    if (!c.has_ids) { /* the trace begins here */
        s->id = s->trace_lo = mz_rand_u64(s->rand);
        s->wide = z->wide;
        s->trace_hi = z->wide ? mz_rand_u64(s->rand) : 0;
        return true;
    }
    s->trace_hi = c.trace_hi;
    s->trace_lo = c.trace_lo;
    s->wide = c.wide;
    if (s->kind == MZ_SPAN_SERVER && z->shared) { /* both ends of a call are one span */
        s->id = c.id;
        s->parent = c.parent;
    } else {
        s->id = mz_rand_u64(s->rand);
        s->parent = c.id;
    }
    return true;
}

static void child(const struct mz_span *parent, struct mz_span *s)
{
    (void)parent;
    s->id = mz_rand_u64(s->rand);
}

static struct mz_str hex(const struct mz_headers *h, uint64_t v)
{
    char *text = mz_arena_alloc(h->arena, 17);
    mz_hex64(v, text);
    return (struct mz_str){ text, 16 };
}

static void inject(const struct mz_span *s, struct mz_headers *h)
{
    struct mz_str trace = mz_arena_dup(h->arena, mz_str_c(s->trace_text)), id = hex(h, s->id),
                  parent = s->parent ? hex(h, s->parent) : MZ_STR(""),
                  sampled = s->sampled ? MZ_STR("1") : MZ_STR("0");
    if (s->form == FORM_SINGLE) {
        const struct mz_str parts[] = { trace,   MZ_STR("-"), id,    MZ_STR("-"),
                                        sampled, MZ_STR("-"), parent };
        mz_headers_set(h, MZ_STR("b3"), mz_arena_cat(h->arena, parent.n ? 7 : 5, parts));
    } else {
        mz_headers_set(h, MZ_STR("x-b3-traceid"), trace);
        mz_headers_set(h, MZ_STR("x-b3-spanid"), id);
        (void)mz_headers_remove(h, MZ_STR("x-b3-parentspanid"));
        if (parent.n)
            mz_headers_add(h, MZ_STR("x-b3-parentspanid"), parent);
        mz_headers_set(h, MZ_STR("x-b3-sampled"), sampled);
    }
    if (!of(s->tracer)->w3c)
        return;
    const struct trace_context c = {
        .trace_hi = s->trace_hi, .trace_lo = s->trace_lo, .id = s->id, .sampled = s->sampled
    };
    char *text = mz_arena_alloc(h->arena, TRACEPARENT_TEXT);
    traceparent_write(&c, text);
    mz_headers_set(h, MZ_STR("traceparent"), mz_str_c(text));
}

/* ---- a span as JSON ---- */

static void put_endpoint(struct mz_buf *b, const struct zipkin *z)
{
    mz_buf_append_str(b, MZ_STR(",\"localEndpoint\":{\"serviceName\":"));
    mz_json_string(b, z->service);
    if (z->ip.n)
        mz_buf_printf(b, ",\"%s\":\"" MZ_STR_FMT "\"", z->ipv6 ? "ipv6" : "ipv4",
                      MZ_STR_ARG(z->ip));
    mz_buf_append_str(b, MZ_STR(",\"port\":0}"));
}

static void put_annotations(struct mz_buf *b, const struct mz_span *s, uint64_t end_wall_us)
{
    mz_buf_append_str(b, MZ_STR(",\"annotations\":["));
    for (uint32_t i = 0; i < s->n_events; i++)
        mz_buf_printf(b, "{\"timestamp\":%llu,\"value\":\"%s\"},",
                      (unsigned long long)s->events[i].wall_us, s->events[i].name);
    mz_buf_printf(b, "{\"timestamp\":%llu,\"value\":\"%s\"}]", (unsigned long long)end_wall_us,
                  s->kind == MZ_SPAN_SERVER ? "ss" : "cr");
}

static void put_tags(struct mz_buf *b, const struct mz_span *s)
{
    bool first = true;
    mz_buf_append_str(b, MZ_STR(",\"tags\":{"));
    for (uint32_t i = 0; i < s->n_tags; i++) {
        if (!s->tags[i].value.n)
            continue;
        if (!first)
            mz_buf_append(b, ",", 1);
        first = false;
        mz_json_string(b, s->tags[i].key);
        mz_buf_append(b, ":", 1);
        mz_json_string(b, s->tags[i].value);
    }
    mz_buf_append_str(b, MZ_STR("}"));
}

static void report(const struct mz_span *s)
{
    const struct zipkin *z = of(s->tracer);
    struct mz_buf *b = reporter_room(z->reporter, s->worker);
    uint64_t took = s->end_us - s->start_us;
    char parent[17];
    if (!b)
        return;
    if (mz_buf_len(b))
        mz_buf_append(b, ",", 1);
    mz_buf_printf(b, "{\"traceId\":\"%s\",\"id\":\"%s\"", s->trace_text, s->id_text);
    if (s->parent) {
        mz_hex64(s->parent, parent);
        mz_buf_printf(b, ",\"parentId\":\"%s\"", parent);
    }
    mz_buf_append_str(b, MZ_STR(",\"name\":"));
    mz_json_string(b, s->name);
    mz_buf_printf(b, ",\"kind\":\"%s\",\"timestamp\":%llu,\"duration\":%llu",
                  s->kind == MZ_SPAN_SERVER ? "SERVER" : "CLIENT",
                  (unsigned long long)s->start_wall_us, (unsigned long long)took);
    put_endpoint(b, z);
    put_annotations(b, s, s->start_wall_us + took);
    put_tags(b, s);
    if (s->kind == MZ_SPAN_SERVER && z->shared)
        mz_buf_append_str(b, MZ_STR(",\"shared\":true"));
    mz_buf_append(b, "}", 1);
    reporter_added(z->reporter, s->worker);
}

static void body(void *owner, struct mz_buf *take_spans, struct mz_buf *out)
{
    (void)owner;
    mz_buf_append(out, "[", 1);
    mz_buf_move_all(out, take_spans);
    mz_buf_append(out, "]", 1);
}

static void outcome(void *owner, const struct mz_fetch_reply *reply)
{
    const struct zipkin *z = owner;
    const struct mz_async_failure *f = reply->failure;
    mz_count(z->scope,
             f                      ? (f->no_cluster ? NO_CLUSTER : REPORTS_FAILED)
             : reply->status == 202 ? REPORTS_SENT
                                    : REPORTS_DROPPED,
             1);
}

/* ---- configuration ---- */

static void zipkin_free(void *owner)
{
    struct zipkin *z = owner;
    mz_header_mutations_fini(&z->add);
    mz_scope_unref(z->scope);
    mz_arena_destroy(z->arena);
}

static void destroy(struct mz_tracer *t)
{
    reporter_release(((struct zipkin *)(void *)t)->reporter);
}

static bool check(const pb_ZipkinConfig *m, struct mz_err *err)
{
    if (!m->collector_service && (!m->collector_cluster[0] || !m->collector_endpoint[0]))
        return mz_err_set(err, "collector_cluster and collector_endpoint must be specified");
    if (m->collector_endpoint_version == pb_ZipkinConfig_CollectorEndpointVersion_HTTP_JSON)
        return true;
    mz_err_set(err, "must be HTTP_JSON: no other form of spans is written");
    return mz_err_at(err, "collector_endpoint_version");
}

static void endpoint(struct zipkin *z, const struct mz_factory *f)
{
    const struct mz_addr *own = mz_addr_local_machine();
    char text[MZ_ADDR_TEXT];
    z->service = mz_arena_dup(z->arena, f->node_cluster);
    if (!own->len)
        return;
    z->ip = mz_arena_dup(z->arena, (struct mz_str){ text, mz_addr_ip_text(own, text) });
    z->ipv6 = mz_str_chr(z->ip, ':') >= 0;
}

static bool where_build(const pb_ZipkinConfig *m, struct zipkin *z, uint64_t *out_timeout_ms,
                        struct mz_err *err)
{
    z->http.content_type = MZ_STR("application/json");
    if (m->collector_service)
        return collector_build(m->collector_service, TIMEOUT_MS, z->arena, &z->http, &z->add,
                               out_timeout_ms, err) ||
               mz_err_at(err, "collector_service");
    z->http.cluster = mz_arena_dup(z->arena, mz_str_c(m->collector_cluster));
    z->http.path = mz_arena_dup(z->arena, mz_str_c(m->collector_endpoint));
    z->http.host = m->collector_hostname[0]
                       ? mz_arena_dup(z->arena, mz_str_c(m->collector_hostname))
                       : z->http.cluster;
    *out_timeout_ms = TIMEOUT_MS;
    return true;
}

static const struct mz_tracer_ops ops = { start, child, inject, report, destroy };

static struct mz_tracer *create(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_ZipkinConfig *m = msg;
    if (!check(m, err))
        return NULL;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct zipkin *z = mz_arena_new0(a, struct zipkin);
    uint64_t timeout_ms;
    z->base = (struct mz_tracer){ .ops = &ops, .names_by_host = true };
    z->arena = a;
    z->scope = mz_scope_create(f->stats, &stat_kind, MZ_STR("tracing.zipkin."));
    z->wide = m->trace_id_128bit;
    z->shared = mz_bool_or(m->shared_span_context, true);
    z->w3c =
        m->trace_context_option == pb_ZipkinConfig_TraceContextOption_USE_B3_WITH_W3C_PROPAGATION;
    endpoint(z, f);
    if (!where_build(m, z, &timeout_ms, err)) {
        zipkin_free(z);
        return NULL;
    }
    z->reporter = reporter_create(
        &(struct reporter_opts){
            .owner = z,
            .max_spans = MAX_SPANS,
            .scope = z->scope,
            .stat_sent = SENT,
            .stat_dropped = REPORTS_DROPPED,
            .stat_timer = TIMER,
            .key_min_spans = MZ_STR("tracing.zipkin.min_flush_spans"),
            .key_interval_ms = MZ_STR("tracing.zipkin.flush_interval_ms"),
            .http = &z->http,
            .timeout_ms = timeout_ms,
            .key_timeout_ms =
                m->collector_service ? MZ_STR("") : MZ_STR("tracing.zipkin.request_timeout"),
            .body = body,
            .outcome = outcome,
            .destroy = zipkin_free,
        },
        f->workers);
    return &z->base;
}

const struct mz_tracer_type mz_tracer_zipkin = { "envoy.config.trace.v3.ZipkinConfig", create };
