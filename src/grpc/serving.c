#include "grpc/server_priv.h"

#include "event/loop.h"
#include "http/grpc.h"
#include "proto/mapper.h"

/*
 * A call at the server. What comes is decoded as far as the handler reads; what goes waits in a bounded queue. The handler is
 * never called from inside its own call: what follows from one is done by a task in the same turn, gone() as well, after which
 * the struct goes. The codec has let go of the stream by then: it sends the rest of an answer on its own.
 */

#define FLUSH_TIMEOUT_MS 30000 /* a client that takes nothing for so long is reset */

static void serving_free(void *p)
{
    struct mz_grpc_serving *c = p;
    mz_buf_fini(&c->in);
    mz_buf_fini(&c->queue);
    mz_grpc_decoder_fini(&c->decoder);
    mz_arena_destroy(c->arena);
}

void serving_gone(struct mz_grpc_serving *c)
{
    c->over = true;
    mz_timer_stop(&c->deadline);
    mz_task_cancel(&c->settle);
    mz_list_del(&c->link);
    server_conn_calls(c->conn, -1);
    if (c->begun && c->handler->gone)
        c->handler->gone(c->object, c);
    mz_loop_free_later(c->server->loop, c, serving_free);
}

/* ---- what goes ---- */

static void status_into(const struct mz_grpc_serving *c, struct mz_headers *h)
{
    char text[20];
    struct mz_str code = { text, mz_u64_text((uint64_t)c->code, text) };
    mz_headers_add_id(h, MZ_H_GRPC_STATUS, mz_arena_dup(c->arena, code));
    if (c->message.n)
        mz_headers_add_id(h, MZ_H_GRPC_MESSAGE, mz_grpc_message_encode(c->message, c->arena));
}

static void headers_out(struct mz_grpc_serving *c, bool end)
{
    struct mz_headers *h = mz_headers_create(c->arena);
    mz_headers_set_status(h, 200);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    if (end)
        status_into(c, h);
    c->headers_sent = true;
    c->enc->ops->encode_headers(c->enc, h, end);
}

static void trailers_out(struct mz_grpc_serving *c)
{
    struct mz_headers *h = mz_headers_create(c->arena);
    status_into(c, h);
    c->enc->ops->encode_trailers(c->enc, h);
}

/* The answer is complete. Of a request that is not the codec reads a little more, then says that it wants no more. */
static void let_go(struct mz_grpc_serving *c)
{
    struct mz_stream_enc *e = c->enc;
    c->enc = NULL;
    if (e && !c->half_closed)
        e->ops->reset(e, MZ_RESET_LOCAL);
    mz_task_schedule(c->server->loop, &c->settle);
}

/* Each step may end the stream. */
static void flush(struct mz_grpc_serving *c)
{
    if (!c->enc || (c->paused && !c->finish))
        return;
    bool only = c->finish && !c->headers_sent && !mz_buf_len(&c->queue);
    if (!c->headers_sent && (only || mz_buf_len(&c->queue)))
        headers_out(c, only);
    if (c->enc && mz_buf_len(&c->queue))
        c->enc->ops->encode_data(c->enc, &c->queue, false);
    if (c->enc && c->finish && !only)
        trailers_out(c);
    if (c->finish)
        let_go(c);
}

static void finish(struct mz_grpc_serving *c, int code, struct mz_str message)
{
    if (c->over)
        return;
    c->finish = c->over = true;
    c->code = code;
    c->message = mz_arena_dup(c->arena, message);
    flush(c);
}

static bool room_for(struct mz_grpc_serving *c, size_t n)
{
    size_t waits = mz_buf_len(&c->queue);
    if (!waits || waits + n <= c->server->o.max_queue)
        return true;
    c->refused = true;
    return false;
}

bool mz_grpc_serving_send(struct mz_grpc_serving *c, const ProtobufCMessage *m)
{
    if (c->over)
        return true;
    if (!room_for(c, protobuf_c_message_get_packed_size(m) + MZ_GRPC_PREFIX))
        return false;
    mz_grpc_frame_append(&c->queue, m);
    flush(c);
    return true;
}

bool mz_grpc_serving_send_bytes(struct mz_grpc_serving *c, struct mz_str packed)
{
    unsigned char prefix[MZ_GRPC_PREFIX];
    if (c->over)
        return true;
    if (!room_for(c, packed.n + sizeof(prefix)))
        return false;
    mz_grpc_prefix(prefix, (uint32_t)packed.n);
    mz_buf_append(&c->queue, prefix, sizeof(prefix));
    mz_buf_append_str(&c->queue, packed);
    flush(c);
    return true;
}

bool mz_grpc_serving_send_buf(struct mz_grpc_serving *c, struct mz_buf *packed)
{
    unsigned char prefix[MZ_GRPC_PREFIX];
    if (c->over)
        return true;
    if (!room_for(c, mz_buf_len(packed) + sizeof(prefix)))
        return false;
    mz_grpc_prefix(prefix, (uint32_t)mz_buf_len(packed));
    mz_buf_append(&c->queue, prefix, sizeof(prefix));
    mz_buf_move_all(&c->queue, packed);
    flush(c);
    return true;
}

void mz_grpc_serving_finish(struct mz_grpc_serving *c, int code, struct mz_str message)
{
    finish(c, code, message);
}

/* ---- what comes ---- */

static bool unpack(struct mz_grpc_serving *c, struct mz_grpc_message *m)
{
    struct mz_err err;
    ProtobufCMessage *msg;
    struct mz_proto_ctx ctx = { .arena = m->arena, .unknown = MZ_UNKNOWN_COUNT, .partial = true };
    if (c->handler->bytes_only)
        return true;
    if (!mz_msg_unpack(&ctx, m->bytes, c->handler->method.request, &msg, &err))
        return false;
    m->msg = msg;
    return true;
}

static void hand_over(struct mz_grpc_serving *c)
{
    size_t n = mz_buf_len(&c->decoder.message);
    struct mz_grpc_message m = { .arena = mz_arena_create(MZ_MEM_STREAM) };
    char *bytes = mz_arena_alloc(m.arena, n + 1);
    (void)mz_buf_copyout(&c->decoder.message, 0, bytes, n);
    bytes[n] = '\0';
    m.bytes = (struct mz_str){ bytes, n };
    mz_buf_fini(&c->decoder.message);
    if (unpack(c, &m))
        c->handler->message(c->object, c, &m);
    else
        finish(c, MZ_GRPC_INTERNAL, MZ_STR("the message is not of the method's type"));
    if (!m.take)
        mz_arena_destroy(m.arena);
}

static void drain(struct mz_grpc_serving *c)
{
    if (c->draining)
        return;
    c->draining = true;
    while (!c->over && !c->read_disabled) {
        enum mz_grpc_frame f = mz_grpc_decode(&c->decoder, &c->in, c->server->o.max_receive);
        if (f == MZ_GRPC_FRAME_MORE)
            break;
        if (f == MZ_GRPC_FRAME_MESSAGE)
            hand_over(c);
        else if (f == MZ_GRPC_FRAME_TOO_LARGE)
            finish(c, MZ_GRPC_RESOURCE_EXHAUSTED, MZ_STR("a message exceeds the limit"));
        else
            finish(c, MZ_GRPC_UNIMPLEMENTED, MZ_STR("compressed messages are not taken"));
    }
    c->draining = false;
    if (c->half_closed && !c->half_close_told && !c->over && !c->read_disabled) {
        c->half_close_told = true;
        if (c->handler->half_closed)
            c->handler->half_closed(c->object, c);
    }
}

static void settle_task(struct mz_task *t)
{
    struct mz_grpc_serving *c = MZ_CONTAINER(t, struct mz_grpc_serving, settle);
    if (c->over) {
        serving_gone(c);
        return;
    }
    flush(c);
    if (c->refused && mz_buf_len(&c->queue) <= c->server->o.max_queue / 2) {
        c->refused = false;
        if (c->handler->writable)
            c->handler->writable(c->object, c);
    }
    drain(c);
}

static void on_deadline(struct mz_timer *t)
{
    finish(MZ_CONTAINER(t, struct mz_grpc_serving, deadline), MZ_GRPC_DEADLINE_EXCEEDED,
           MZ_STR("deadline exceeded"));
}

/* NULL: no such method. */
static const struct mz_grpc_handler *handler_of(const struct mz_grpc_server *s, struct mz_str path,
                                                void **out_arg)
{
    for (size_t t = 0; t < s->n_methods; t++)
        for (size_t i = 0; i < s->methods[t].n; i++)
            if (mz_str_eq(path, mz_str_c(s->methods[t].v[i].method.path))) {
                *out_arg = s->methods[t].arg;
                return &s->methods[t].v[i];
            }
    return NULL;
}

/* What is no gRPC is refused as HTTP (PROTOCOL-HTTP2.md). */
static void refuse(struct mz_grpc_serving *c, unsigned status)
{
    struct mz_headers *h = mz_headers_create(c->arena);
    mz_headers_set_status(h, status);
    c->over = true;
    c->enc->ops->encode_headers(c->enc, h, true);
    let_go(c);
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct mz_grpc_serving *c = arg;
    uint64_t ms;
    c->half_closed = end;
    if (!mz_str_eq(mz_headers_method(h), MZ_STR("POST"))) {
        refuse(c, 405);
        return;
    }
    if (!mz_is_grpc(h)) {
        refuse(c, 415);
        return;
    }
    c->handler = handler_of(c->server, mz_headers_path(h), &c->handler_arg);
    if (!c->handler || c->server->draining) {
        finish(c, c->handler ? MZ_GRPC_UNAVAILABLE : MZ_GRPC_UNIMPLEMENTED,
               c->handler ? MZ_STR("the server is draining") : MZ_STR("there is no such method"));
        return;
    }
    if (mz_grpc_timeout_ms(h, &ms))
        mz_timer_start_ms(&c->deadline, ms);
    c->begun = true;
    c->object = c->handler->begin ? c->handler->begin(c->handler_arg, c, h) : NULL;
    drain(c);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct mz_grpc_serving *c = arg;
    mz_buf_move_all(&c->in, data);
    c->half_closed = end;
    drain(c);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct mz_grpc_serving *c = arg;
    (void)h;
    c->half_closed = true;
    drain(c);
}

static void on_reset(void *arg, enum mz_reset_reason why, const char *details)
{
    struct mz_grpc_serving *c = arg;
    (void)why;
    (void)details;
    c->enc = NULL;
    c->over = true;
    mz_task_schedule(c->server->loop, &c->settle); /* a call of the handler's may be on the stack */
}

static void on_above_high(void *arg)
{
    ((struct mz_grpc_serving *)arg)->paused = true;
}

static void on_below_low(void *arg)
{
    struct mz_grpc_serving *c = arg;
    c->paused = false;
    mz_task_schedule(c->server->loop, &c->settle);
}

static const struct mz_stream_in_ops in_ops = { .on_headers = on_headers,
                                                .on_data = on_data,
                                                .on_trailers = on_trailers,
                                                .on_reset = on_reset,
                                                .on_above_high = on_above_high,
                                                .on_below_low = on_below_low };

void serving_create(struct server_conn *conn, struct mz_stream_enc *enc,
                    struct mz_stream_in *out_in)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_grpc_serving *c = mz_arena_new0(a, struct mz_grpc_serving);
    *c = (struct mz_grpc_serving){ .server = conn->server, .conn = conn, .arena = a, .enc = enc };
    c->peer = conn->conn->remote;
    c->paused = enc->ops->above_high(enc);
    enc->flush_timeout_ms = FLUSH_TIMEOUT_MS;
    mz_grpc_decoder_init(&c->decoder);
    mz_buf_init(&c->in);
    mz_buf_init(&c->queue);
    mz_timer_init(c->server->loop, &c->deadline, on_deadline);
    mz_task_init(&c->settle, settle_task);
    mz_list_add_tail(&c->server->calls, &c->link);
    server_conn_calls(conn, 1);
    *out_in = (struct mz_stream_in){ &in_ops, c, a };
}

/* ---- for handlers ---- */

void mz_grpc_serving_read_disable(struct mz_grpc_serving *c, bool disable)
{
    if (c->over)
        return;
    c->read_disabled += disable ? 1 : -1;
    if (c->enc && !c->half_closed)
        c->enc->ops->read_disable(c->enc, disable);
    if (!c->read_disabled && !c->draining)
        mz_task_schedule(c->server->loop, &c->settle);
}

size_t mz_grpc_serving_queued(const struct mz_grpc_serving *c)
{
    return mz_buf_len(&c->queue);
}

const struct mz_addr *mz_grpc_serving_peer(const struct mz_grpc_serving *c)
{
    return &c->peer;
}

const struct mz_tls_facts *mz_grpc_serving_tls(const struct mz_grpc_serving *c)
{
    struct mz_transport *t = c->enc && c->conn->conn ? c->conn->conn->transport : NULL;
    return t && t->ops->tls ? t->ops->tls(t) : NULL;
}

struct mz_arena *mz_grpc_serving_arena(const struct mz_grpc_serving *c)
{
    return c->arena;
}
