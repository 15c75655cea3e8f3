#include "filters/access_loggers/grpc_log.h"

#include "base/log.h"
#include "filters/access_loggers/otel_record.h"
#include "observe/to_proto.h"
#include "proto/mapper.h"
#include "proto/wire.h"

/*
 * Entries are packed as they come and wait in a buffer of their worker, as the repeated field of the message that will carry
 * them; a full buffer or the timer sends it. A stream that ends is opened again at the next tick, never sooner.
 */

#define FLUSH_MS     1000
#define BUFFER_BYTES 16384

enum { STAT_DROPPED, STAT_WRITTEN, STAT_FLUSHED, STAT_FLUSH_FAILED };
static const struct mz_stat_def defs[] = {
    { "logs_dropped", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "logs_written", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "grpc_entries_flushed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "grpc_entries_flush_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
const struct mz_stat_kind mz_grpc_log_stats = { "grpc access log", defs, MZ_COUNT(defs) };

static const struct mz_grpc_method stream_logs = {
    "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    &pb_StreamAccessLogsMessage__descriptor, &pb_StreamAccessLogsResponse__descriptor
};

/* OpenTelemetry: a call for each lot of records. */
static const struct mz_grpc_method export_logs = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export", &pb_Empty__descriptor,
    &pb_Empty__descriptor
};

struct sender { /* of one worker; its thread */
    struct mz_upstream_user user;
    struct slot *slot;
    struct mz_upstream *upstream;
    struct mz_loop *loop;
    struct mz_timer tick;
    struct mz_grpc_stream *stream; /* NULL: none */
    struct mz_buf entries;
    unsigned n_entries; /* in it */
    bool identified;    /* the stream knows who we are */
    bool rests;         /* the stream ended: nothing until the tick */
};
struct slot {
    struct grpc_log *log;
    struct mz_loop *loop; /* atomic: set once by its thread, read by main at the end */
    struct sender *sender;
    bool ended; /* its thread has no upstream any more */
};
struct grpc_log {
    struct mz_arena *arena;
    unsigned refs; /* atomic: the owner, and each slot that is in use */
    const struct mz_grpc_log_env *env;
    struct mz_grpc_service *service;
    struct mz_str identifier; /* the field of StreamAccessLogsMessage, packed with its tag */
    uint64_t flush_ms;
    uint32_t buffer_bytes;
    bool tcp;
    struct otel_record *otel; /* of OpenTelemetry; NULL: entries of Envoy's own service */
    struct mz_scope *scope;   /* a reference */
    struct grpc_log_extra extra;
    struct slot *slots;
};

static void log_unref(struct grpc_log *g)
{
    if (__atomic_fetch_sub(&g->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_grpc_service_destroy(g->service);
    otel_record_destroy(g->otel);
    mz_scope_unref(g->scope);
    mz_arena_destroy(g->arena);
}

/* ---- sending ---- */

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct sender *s = arg;
    (void)trailers;
    MZ_LOG(DEBUG, grpc, "access log service: stream ended with %s: " MZ_STR_FMT,
           mz_grpc_code_name(st->code), MZ_STR_ARG(st->message));
    s->stream = NULL;
    s->rests =
        !s->slot->log->otel || st->code != MZ_GRPC_OK; /* a call that went well is simply over */
}
static const struct mz_grpc_stream_ops stream_ops = { .closed = on_closed };

/* StreamAccessLogsMessage: who we are, once a stream; http_logs or tcp_logs with what was gathered. */
static bool transmit(struct sender *s)
{
    const struct grpc_log *g = s->slot->log;
    struct mz_buf m;
    mz_buf_init(&m);
    if (g->otel) {
        otel_request(g->otel, &s->entries, &m);
    } else {
        if (!s->identified)
            mz_buf_append_str(&m, g->identifier);
        mz_wire_put_head(&m, g->tcp ? 3 : 2, mz_buf_len(&s->entries));
        mz_buf_copy(&m, &s->entries);
    }
    bool taken = mz_grpc_stream_send_bytes(s->stream, mz_buf_linearize(&m, mz_buf_len(&m)));
    mz_buf_fini(&m);
    s->identified |= taken;
    mz_count(g->scope, taken ? STAT_FLUSHED : STAT_FLUSH_FAILED, s->n_entries);
    if (taken) {
        mz_buf_fini(&s->entries);
        s->n_entries = 0;
    }
    return taken;
}

static void flush(struct sender *s)
{
    static const struct mz_grpc_opts opts = { .bytes_only = true };
    const struct grpc_log *g = s->slot->log;
    if (!mz_buf_len(&s->entries) || s->rests || (g->otel && s->stream))
        return;
    if (!s->stream) {
        s->identified = false;
        s->stream = mz_grpc_stream_open(
            s->upstream, g->service, g->otel ? &export_logs : &stream_logs, &opts, &stream_ops, s);
    }
    (void)transmit(s); /* when the stream is full they stay where they are */
    if (g->otel)
        mz_grpc_stream_end(s->stream);
}

static void on_tick(struct mz_timer *t)
{
    struct sender *s = MZ_CONTAINER(t, struct sender, tick);
    s->rests = false;
    flush(s);
    mz_timer_start_ms(&s->tick, s->slot->log->flush_ms);
}

static void sender_free(void *p)
{
    struct sender *s = p;
    mz_buf_fini(&s->entries);
    mz_free(MZ_MEM_LOG, s);
}

static void sender_end(struct sender *s)
{
    if (!s)
        return;
    s->slot->sender = NULL;
    mz_timer_stop(&s->tick);
    mz_grpc_stream_cancel(s->stream);
    mz_upstream_del_user(&s->user);
    mz_loop_free_later(s->loop, s, sender_free);
}

static void gone(struct mz_upstream_user *user)
{
    struct sender *s = MZ_CONTAINER(user, struct sender, user);
    s->slot->ended = true;
    sender_end(s);
}

static struct sender *sender_of(struct slot *slot)
{
    struct grpc_log *g = slot->log;
    struct mz_upstream *u = slot->sender || slot->ended ? NULL : g->env->upstream_here(g->env->arg);
    if (!u || mz_upstream_closed(u))
        return slot->sender;
    struct sender *s = mz_new0(MZ_MEM_LOG, struct sender);
    s->slot = slot;
    s->upstream = u;
    s->loop = mz_upstream_loop(u);
    s->user.gone = gone;
    mz_list_init(&s->user.link);
    mz_upstream_add_user(u, &s->user);
    mz_buf_init(&s->entries);
    mz_timer_init(s->loop, &s->tick, on_tick);
    mz_timer_start_ms(&s->tick, g->flush_ms);
    slot->sender = s;
    if (!slot->loop) {
        __atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->loop, s->loop, __ATOMIC_RELEASE);
    }
    return s;
}

/* ---- the logger ---- */

static bool has_room(struct sender *s)
{
    uint32_t most = s->slot->log->buffer_bytes; /* 0: none is to wait */
    if (mz_buf_len(&s->entries) && mz_buf_len(&s->entries) >= most)
        flush(s);
    return !mz_buf_len(&s->entries) || mz_buf_len(&s->entries) < most;
}

static void entry_append(const struct grpc_log *g, const struct mz_format_ctx *c,
                         struct mz_buf *out)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    ProtobufCMessage *m = g->tcp ? grpc_log_tcp(c, &g->extra, a) : grpc_log_http(c, &g->extra, a);
    mz_wire_put_bytes(out, 1, mz_msg_pack_alloc(m, a)); /* log_entry */
    mz_arena_destroy(a);
}

static void grpc_log_write(void *logger, const struct mz_format_ctx *c)
{
    struct grpc_log *g = logger;
    if (mz_stats_slot >= g->env->n_slots)
        return;
    struct sender *s = sender_of(&g->slots[mz_stats_slot]);
    if (!s || !has_room(s)) {
        mz_count(g->scope, STAT_DROPPED, 1);
        return;
    }
    if (g->otel) {
        otel_record_append(g->otel, c, &g->extra.objects, &s->entries);
    } else {
        entry_append(g, c, &s->entries);
    }
    s->n_entries++;
    mz_count(g->scope, STAT_WRITTEN, 1);
    if (mz_buf_len(&s->entries) >= g->buffer_bytes)
        flush(s);
}

static void slot_release(struct mz_loop *loop, void *arg) /* on its worker */
{
    struct slot *slot = arg;
    (void)loop;
    slot->ended = true;
    sender_end(slot->sender);
    log_unref(slot->log);
}

static void grpc_log_destroy(void *logger)
{
    struct grpc_log *g = logger;
    for (unsigned i = 0; i < g->env->n_slots; i++) {
        struct mz_loop *l = __atomic_load_n(&g->slots[i].loop, __ATOMIC_ACQUIRE);
        if (l)
            mz_loop_post(l, slot_release, &g->slots[i]);
    }
    log_unref(g);
}

/* ---- configuration ---- */

static struct mz_str identifier(const struct grpc_log *g, const char *log_name)
{
    struct mz_buf node, b;
    mz_buf_init(&node);
    mz_buf_init(&b);
    mz_wire_put_bytes(&node, 1, g->env->node); /* Identifier: node, log_name */
    mz_wire_put_bytes(&node, 2, mz_str_c(log_name));
    mz_wire_put_head(&b, 1, mz_buf_len(&node));
    mz_buf_move_all(&b, &node);
    struct mz_str out = mz_arena_dup(g->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&node);
    mz_buf_fini(&b);
    return out;
}

static bool fill(struct grpc_log *g, const pb_CommonGrpcAccessLogConfig *m, struct mz_err *err)
{
    if (m->transport_api_version != pb_ApiVersion_V3)
        return mz_err_set(err, "must be V3: other versions of the protocol are no longer served") ||
               mz_err_at(err, "transport_api_version");
    g->service = mz_grpc_service_create(m->grpc_service, err);
    if (!g->service)
        return mz_err_at(err, "grpc_service");
    g->identifier = identifier(g, m->log_name);
    g->extra.objects.v =
        mz_arena_alloc0(g->arena, mz_mul(m->n_filter_state_objects_to_log, sizeof(struct mz_str)));
    for (size_t i = 0; i < m->n_filter_state_objects_to_log; i++)
        g->extra.objects.v[g->extra.objects.n++] =
            mz_arena_dup(g->arena, mz_str_c(m->filter_state_objects_to_log[i]));
    g->buffer_bytes = mz_u32_or(m->buffer_size_bytes, BUFFER_BYTES);
    return mz_duration_ms(m->buffer_flush_interval, FLUSH_MS, &g->flush_ms, err) ||
           mz_err_at(err, "buffer_flush_interval");
}

static struct grpc_log *create(const struct mz_grpc_log_env *env,
                               const pb_CommonGrpcAccessLogConfig *m, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct grpc_log *g = mz_arena_new0(a, struct grpc_log);
    *g = (struct grpc_log){ .arena = a, .refs = 1, .env = env, .scope = mz_scope_ref(env->scope) };
    g->slots = mz_arena_alloc0(a, mz_mul(env->n_slots, sizeof(*g->slots)));
    for (unsigned i = 0; i < env->n_slots; i++)
        g->slots[i].log = g;
    if (fill(g, m, err))
        return g;
    (void)mz_err_at(err, "common_config");
    log_unref(g);
    return NULL;
}

static struct grpc_log_headers names(char *const *v, size_t n, struct mz_arena *a)
{
    struct grpc_log_headers h = { mz_arena_alloc0(a, mz_mul(n, sizeof(*h.v))), n };
    for (size_t i = 0; i < n; i++) {
        h.v[i] = mz_arena_dup(a, mz_str_c(v[i]));
        for (size_t k = 0; k < h.v[i].n; k++)
            ((char *)(uintptr_t)h.v[i].p)[k] = mz_lower(h.v[i].p[k]);
    }
    return h;
}

static void *http_create(void *env, const ProtobufCMessage *msg, struct mz_err *err)
{
    const pb_HttpGrpcAccessLogConfig *m = (const void *)msg;
    struct grpc_log *g = create(env, m->common_config, err);
    if (!g)
        return NULL;
    g->extra.request = names(m->additional_request_headers_to_log,
                             m->n_additional_request_headers_to_log, g->arena);
    g->extra.response = names(m->additional_response_headers_to_log,
                              m->n_additional_response_headers_to_log, g->arena);
    g->extra.trailers = names(m->additional_response_trailers_to_log,
                              m->n_additional_response_trailers_to_log, g->arena);
    return g;
}

static void *tcp_create(void *env, const ProtobufCMessage *msg, struct mz_err *err)
{
    struct grpc_log *g =
        create(env, ((const pb_TcpGrpcAccessLogConfig *)(const void *)msg)->common_config, err);
    if (g)
        g->tcp = true;
    return g;
}

static void *otel_create(void *env_, const ProtobufCMessage *msg, struct mz_err *err)
{
    const struct mz_grpc_log_env *env = env_;
    const pb_OpenTelemetryAccessLogConfig *m = (const void *)msg;
    struct mz_arena *a;
    struct grpc_log *g = create(env, m->common_config, err);
    if (!g)
        return NULL;
    a = g->arena;
    g->otel = otel_record_create(m, env->node, err);
    mz_scope_unref(g->scope);
    g->scope = mz_scope_create(
        env->scope->store, &mz_grpc_log_stats,
        mz_arena_cat(a, 3,
                     (struct mz_str[]){ MZ_STR("access_logs.open_telemetry_access_log."),
                                        mz_str_c(m->stat_prefix),
                                        m->stat_prefix[0] ? MZ_STR(".") : MZ_STR("") }));
    if (g->otel)
        return g;
    log_unref(g);
    return NULL;
}

const struct mz_access_logger_type mz_access_logger_otel = {
    &pb_OpenTelemetryAccessLogConfig__descriptor, otel_create, grpc_log_write, grpc_log_destroy
};
const struct mz_access_logger_type mz_access_logger_http_grpc = {
    &pb_HttpGrpcAccessLogConfig__descriptor, http_create, grpc_log_write, grpc_log_destroy
};
const struct mz_access_logger_type mz_access_logger_tcp_grpc = {
    &pb_TcpGrpcAccessLogConfig__descriptor, tcp_create, grpc_log_write, grpc_log_destroy
};
