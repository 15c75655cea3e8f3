#include "grpc/client_priv.h"

/* A unary call: a stream of one message each way. It lies in the stream's arena. */

struct mz_grpc_call {
    struct mz_grpc_stream *stream;
    mz_grpc_done *done;
    void *arg;
    struct mz_grpc_message reply;
    bool answered;
};

static void drop_reply(struct mz_grpc_call *c)
{
    if (c->answered)
        mz_arena_destroy(c->reply.arena);
    c->answered = false;
}

/* Of several the last one counts, as in Envoy. */
static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct mz_grpc_call *c = arg;
    drop_reply(c);
    c->reply = *m;
    c->answered = m->take = true;
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    struct mz_grpc_call *c = arg;
    struct mz_grpc_status status = *st;
    (void)trailers;
    if (st->code == MZ_GRPC_OK && !c->answered)
        status = (struct mz_grpc_status){ MZ_GRPC_INTERNAL, MZ_STR("the answer has no message") };
    c->reply.take = false;
    c->done(c->arg, &status, status.code == MZ_GRPC_OK ? &c->reply : NULL);
    if (!c->reply.take)
        drop_reply(c);
}
static const struct mz_grpc_stream_ops call_ops = { .message = on_message, .closed = on_closed };

struct mz_grpc_call *mz_grpc_call(struct mz_upstream *u, const struct mz_grpc_service *s,
                                  const struct mz_grpc_method *m, const ProtobufCMessage *request,
                                  const struct mz_grpc_opts *o, mz_grpc_done *done, void *arg)
{
    struct mz_grpc_stream *stream = stream_open(u, s, m, o, KIND_UNARY, &call_ops, NULL);
    struct mz_grpc_call *c = mz_arena_new0(stream_arena(stream), struct mz_grpc_call);
    *c = (struct mz_grpc_call){ .stream = stream, .done = done, .arg = arg };
    stream_set_arg(stream, c);                  /* no callback ran yet */
    (void)mz_grpc_stream_send(stream, request); /* the queue is empty */
    mz_grpc_stream_end(stream);
    return c;
}

void mz_grpc_call_cancel(struct mz_grpc_call *c)
{
    if (!c)
        return;
    drop_reply(c);
    mz_grpc_stream_cancel(c->stream);
}
