#include "grpc/client_priv.h"

#include "base/err.h"
#include "base/log.h"
#include "grpc/frame.h"
#include "http/grpc.h"
#include "proto/mapper.h"

/*
 * A stream: messages in frames over an HTTP stream of the proxy's own. What the user may hear now is in @in and @end: messages
 * come out of @in as long as reading is not disabled, and the end of the stream after the last of them.
 */
struct mz_grpc_stream {
    struct mz_arena *arena; /* holds this, too */
    struct mz_loop *loop;
    struct mz_async *http; /* NULL: over */
    const struct mz_grpc_method *method;
    const struct mz_grpc_stream_ops *ops;
    void *arg;
    uint32_t max_receive, max_queue;
    bool bytes_only;
    struct mz_grpc_decoder decoder;
    struct mz_buf in, queue; /* received, to be decoded; to be sent */
    unsigned read_disabled;
    bool sent_end; /* the user half-closed */
    bool refused;  /* a send was, and writable() was not called since */
    bool draining; /* messages are being handed over */
    bool ended;    /* what end says follows the messages in @in */
    bool over;     /* no callback any more */
    struct mz_grpc_status end;
    const struct mz_headers *trailers;
    struct mz_timer deadline;
    struct mz_task drain;
};

void stream_set_arg(struct mz_grpc_stream *s, void *arg)
{
    s->arg = arg;
}

struct mz_arena *stream_arena(struct mz_grpc_stream *s)
{
    return s->arena;
}

/* ---- the end ---- */

static void stream_free(void *p)
{
    struct mz_grpc_stream *s = p;
    mz_buf_fini(&s->in);
    mz_buf_fini(&s->queue);
    mz_grpc_decoder_fini(&s->decoder);
    mz_arena_destroy(s->arena);
}

static void release(struct mz_grpc_stream *s)
{
    s->over = true;
    mz_timer_stop(&s->deadline);
    mz_task_cancel(&s->drain);
    mz_async_cancel(s->http);
    s->http = NULL;
    mz_loop_free_later(s->loop, s, stream_free);
}

static void tell_end(struct mz_grpc_stream *s)
{
    release(s);
    if (s->ops->closed)
        s->ops->closed(s->arg, &s->end, s->trailers);
}

/* Ends now: what was received and not handed over is dropped. */
static void fail(struct mz_grpc_stream *s, int code, struct mz_str message)
{
    s->end = (struct mz_grpc_status){ code, message };
    s->trailers = NULL;
    tell_end(s);
}

static void on_deadline(struct mz_timer *t)
{
    fail(MZ_CONTAINER(t, struct mz_grpc_stream, deadline), MZ_GRPC_DEADLINE_EXCEEDED,
         MZ_STR("deadline exceeded"));
}

void mz_grpc_stream_cancel(struct mz_grpc_stream *s)
{
    if (s && !s->over)
        release(s);
}

/* ---- what comes ---- */

static bool unpack(struct mz_grpc_stream *s, struct mz_grpc_message *m)
{
    struct mz_err err;
    ProtobufCMessage *msg;
    struct mz_proto_ctx ctx = { .arena = m->arena,
                                .unknown = MZ_UNKNOWN_COUNT,
                                .partial =
                                    true /* what its fields may hold is the user's matter */ };
    if (s->bytes_only)
        return true;
    if (!mz_msg_unpack(&ctx, m->bytes, s->method->response, &msg, &err)) {
        MZ_LOG(DEBUG, grpc, "%s: answer is no %s: %s: %s", s->method->path,
               s->method->response->name, err.path, err.msg);
        return false;
    }
    m->msg = msg;
    return true;
}

static void hand_over(struct mz_grpc_stream *s)
{
    size_t n = mz_buf_len(&s->decoder.message);
    struct mz_grpc_message m = { .arena = mz_arena_create(MZ_MEM_STREAM) };
    char *bytes = mz_arena_alloc(m.arena, n + 1);
    (void)mz_buf_copyout(&s->decoder.message, 0, bytes, n);
    bytes[n] = '\0';
    m.bytes = (struct mz_str){ bytes, n };
    mz_buf_fini(&s->decoder.message);
    if (!unpack(s, &m))
        fail(s, MZ_GRPC_INTERNAL, MZ_STR("the answer is not of the method's type"));
    else if (s->ops->message)
        s->ops->message(s->arg, &m);
    if (!m.take)
        mz_arena_destroy(m.arena);
}

/* Whatever is whole, then the end. Each message may cancel the stream or disable reading. */
static void drain(struct mz_grpc_stream *s)
{
    if (s->draining)
        return;
    s->draining = true;
    while (!s->over && !s->read_disabled) {
        enum mz_grpc_frame f = mz_grpc_decode(&s->decoder, &s->in, s->max_receive);
        if (f == MZ_GRPC_FRAME_MORE)
            break;
        if (f == MZ_GRPC_FRAME_MESSAGE)
            hand_over(s);
        else if (f == MZ_GRPC_FRAME_TOO_LARGE)
            fail(s, MZ_GRPC_RESOURCE_EXHAUSTED, MZ_STR("a message exceeds the limit"));
        else
            fail(s, MZ_GRPC_INTERNAL, MZ_STR("a message has an unknown encoding"));
    }
    s->draining = false;
    if (s->ended && !s->over && !s->read_disabled)
        tell_end(s);
}

static void drain_task(struct mz_task *t)
{
    drain(MZ_CONTAINER(t, struct mz_grpc_stream, drain));
}

static void end_with(struct mz_grpc_stream *s, int code, struct mz_str message,
                     const struct mz_headers *trailers)
{
    s->ended = true;
    s->end = (struct mz_grpc_status){ code, message };
    s->trailers = trailers;
    s->http = NULL;
    drain(s);
}

static void end_of(struct mz_grpc_stream *s, struct mz_headers *h)
{
    int code;
    if (mz_grpc_status(h, &code))
        end_with(s, code,
                 mz_grpc_message_decode(mz_headers_value_id(h, MZ_H_GRPC_MESSAGE), s->arena), h);
    else
        end_with(s, MZ_GRPC_UNKNOWN, MZ_STR("the answer has no grpc-status"), h);
}

static struct mz_headers *keep(struct mz_grpc_stream *s, const struct mz_headers *h)
{
    return mz_headers_clone(h, s->arena); /* theirs go with the HTTP stream */
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct mz_grpc_stream *s = arg;
    unsigned status = mz_headers_status(h);
    int code;
    if (end)
        s->http = NULL;
    if (status != 200 && !(end && mz_grpc_status(h, &code))) {
        fail(s, (int)mz_grpc_status_of_http(status),
             mz_arena_printf(s->arena, "HTTP status %u", status));
        return;
    }
    if (end)
        end_of(s, keep(s, h));
    else if (s->ops->headers)
        s->ops->headers(s->arg, h);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct mz_grpc_stream *s = arg;
    mz_buf_move_all(&s->in, data);
    if (end)
        end_with(s, MZ_GRPC_UNKNOWN, MZ_STR("the answer has no trailers"), NULL);
    else
        drain(s);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct mz_grpc_stream *s = arg;
    end_of(s, keep(s, h));
}

static void on_failed(void *arg, const struct mz_async_failure *f)
{
    struct mz_grpc_stream *s = arg;
    struct mz_str text = mz_arena_dup(s->arena, f->text);
    int code = f->timeout    ? MZ_GRPC_DEADLINE_EXCEEDED
               : f->answered ? MZ_GRPC_INTERNAL
                             : (int)mz_grpc_status_of_http(f->status);
    end_with(s, code, text, NULL);
}

/* ---- what goes ---- */

static void flush(struct mz_grpc_stream *s)
{
    if (!s->http || mz_async_paused(s->http) || (!mz_buf_len(&s->queue) && !s->sent_end))
        return;
    mz_async_send(s->http, &s->queue, s->sent_end);
}

static void on_writable(void *arg)
{
    struct mz_grpc_stream *s = arg;
    flush(s);
    if (!s->refused || s->over || mz_buf_len(&s->queue) > s->max_queue / 2)
        return;
    s->refused = false;
    if (s->ops->writable)
        s->ops->writable(s->arg);
}

static const struct mz_async_ops http_ops = { .headers = on_headers,
                                              .data = on_data,
                                              .trailers = on_trailers,
                                              .failed = on_failed,
                                              .writable = on_writable };

/* One message alone may be larger than the queue. */
static bool room_for(struct mz_grpc_stream *s, size_t n)
{
    size_t waits = mz_buf_len(&s->queue);
    if (!waits || waits + n <= s->max_queue)
        return true;
    s->refused = true;
    return false;
}

bool mz_grpc_stream_send(struct mz_grpc_stream *s, const ProtobufCMessage *msg)
{
    if (s->over || s->sent_end)
        return true; /* closed() tells, or told, that nobody listens */
    if (!room_for(s, protobuf_c_message_get_packed_size(msg) + MZ_GRPC_PREFIX))
        return false;
    mz_grpc_frame_append(&s->queue, msg);
    flush(s);
    return true;
}

bool mz_grpc_stream_send_bytes(struct mz_grpc_stream *s, struct mz_str packed)
{
    unsigned char prefix[MZ_GRPC_PREFIX];
    if (s->over || s->sent_end)
        return true;
    if (!room_for(s, packed.n + sizeof(prefix)))
        return false;
    mz_grpc_prefix(prefix, (uint32_t)packed.n);
    mz_buf_append(&s->queue, prefix, sizeof(prefix));
    mz_buf_append_str(&s->queue, packed);
    flush(s);
    return true;
}

void mz_grpc_stream_end(struct mz_grpc_stream *s)
{
    if (s->over || s->sent_end)
        return;
    s->sent_end = true;
    flush(s);
}

size_t mz_grpc_stream_queued(const struct mz_grpc_stream *s)
{
    return mz_buf_len(&s->queue);
}

void mz_grpc_stream_read_disable(struct mz_grpc_stream *s, bool disable)
{
    if (s->over)
        return;
    s->read_disabled += disable ? 1 : -1;
    if (s->http)
        mz_async_read_disable(s->http, disable);
    if (!s->read_disabled && !s->draining)
        mz_task_schedule(s->loop, &s->drain);
}

struct mz_str mz_grpc_stream_host(const struct mz_grpc_stream *s)
{
    return s->http ? mz_async_host(s->http) : MZ_STR("");
}

/* ---- the begin ---- */

struct mz_grpc_stream *stream_open(struct mz_upstream *u, const struct mz_grpc_service *service,
                                   const struct mz_grpc_method *m, const struct mz_grpc_opts *o,
                                   enum stream_kind kind, const struct mz_grpc_stream_ops *ops,
                                   void *arg)
{
    static const struct mz_grpc_opts defaults = { .timeout_ms = 0 };
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_grpc_stream *s = mz_arena_new0(a, struct mz_grpc_stream);
    if (!o)
        o = &defaults;
    *s = (struct mz_grpc_stream){ .arena = a,
                                  .loop = mz_upstream_loop(u),
                                  .method = m,
                                  .ops = ops,
                                  .arg = arg,
                                  .bytes_only = o->bytes_only,
                                  .max_queue = o->max_queue ? o->max_queue : MZ_GRPC_MAX_QUEUE };
    s->max_receive = service->has_max_receive ? service->max_receive
                     : o->max_receive         ? o->max_receive
                                              : MZ_GRPC_MAX_RECEIVE;
    mz_grpc_decoder_init(&s->decoder);
    mz_buf_init(&s->in);
    mz_buf_init(&s->queue);
    mz_timer_init(s->loop, &s->deadline, on_deadline);
    mz_task_init(&s->drain, drain_task);
    const struct mz_async_opts http = { .timeout_ms = kind == KIND_UNARY ? o->timeout_ms : 0,
                                        .retry = kind == KIND_UNARY ? service->retry : NULL,
                                        .no_internal =
                                            service->skip_envoy_headers || o->no_internal,
                                        .no_xff = service->skip_envoy_headers || o->no_xff };
    struct mz_headers *h = service_request(service, m, o, a);
    s->http = mz_async_start(u, service->cluster, h, false, &http, &http_ops, s);
    if (kind == KIND_STREAM && o->timeout_ms)
        mz_timer_start_ms(&s->deadline, o->timeout_ms);
    return s;
}

struct mz_grpc_stream *mz_grpc_stream_open(struct mz_upstream *u, const struct mz_grpc_service *s,
                                           const struct mz_grpc_method *m,
                                           const struct mz_grpc_opts *o,
                                           const struct mz_grpc_stream_ops *ops, void *arg)
{
    return stream_open(u, s, m, o, KIND_STREAM, ops, arg);
}
