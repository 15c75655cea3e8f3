/* How xDS reaches its servers: streams of gRPC, and requests, on the main thread, through our clusters. */
#include "grpc/client.h"
#include "router/async.h"
#include "server/server.h"
#include "xds/mux.h"

#define RESPONSE_MAX (128u << 20) /* a mesh of ten thousand services is some 20 MB */
#define REQUEST_MAX  (8u << 20)   /* bytes that may wait to be sent */

struct target { /* a server */
    struct mz_server *server;
    struct mz_grpc_service *service;
};
struct stream {
    struct mz_xds_mux *mux;
    struct mz_grpc_stream *grpc;
    struct mz_grpc_method method;
};

static void on_message(void *arg, struct mz_grpc_message *m)
{
    struct stream *s = arg;
    mz_xds_mux_received(s->mux, m->bytes);
}

static void on_writable(void *arg)
{
    struct stream *s = arg;
    mz_xds_mux_writable(s->mux);
}

static void on_closed(void *arg, const struct mz_grpc_status *st, const struct mz_headers *trailers)
{
    (void)trailers;
    struct stream *s = arg;
    struct mz_xds_mux *mux = s->mux;
    mz_free(MZ_MEM_XDS, s);
    mz_xds_mux_closed(mux, st->code, st->message);
}

static void *stream_open(void *arg, struct mz_xds_mux *m, const char *method)
{
    static const struct mz_grpc_stream_ops ops = { .message = on_message,
                                                   .writable = on_writable,
                                                   .closed = on_closed };
    const struct target *t = arg;
    struct stream *s = mz_new0(MZ_MEM_XDS, struct stream);
    const struct mz_grpc_opts o = { .max_receive = RESPONSE_MAX,
                                    .max_queue = REQUEST_MAX,
                                    .bytes_only = true };
    s->mux = m;
    s->method = (struct mz_grpc_method){ method, &pb_DiscoveryRequest__descriptor,
                                         &pb_DiscoveryResponse__descriptor };
    s->grpc =
        mz_grpc_stream_open(t->server->main_worker.upstream, t->service, &s->method, &o, &ops, s);
    return s;
}

static bool stream_send(void *stream, struct mz_str request)
{
    struct stream *s = stream;
    return mz_grpc_stream_send_bytes(s->grpc, request);
}

static void stream_close(void *stream)
{
    struct stream *s = stream;
    mz_grpc_stream_cancel(s->grpc);
    mz_free(MZ_MEM_XDS, s);
}

static void target_destroy(void *arg)
{
    struct target *t = arg;
    mz_grpc_service_destroy(t->service);
    mz_free(MZ_MEM_XDS, t);
}

bool mz_server_xds_grpc(void *arg, const struct Envoy__Config__Core__V3__GrpcService *m,
                        struct mz_xds_transport *out, void (**out_destroy)(void *arg),
                        struct mz_err *err)
{
    struct mz_server *s = arg;
    struct mz_grpc_service *service = mz_grpc_service_create(m, err);
    if (!service)
        return false;
    struct target *t = mz_new0(MZ_MEM_XDS, struct target);
    *t = (struct target){ s, service };
    *out = (struct mz_xds_transport){ stream_open, stream_send, stream_close, t };
    *out_destroy = target_destroy;
    return true;
}

/* ---- REST ---- */

struct post {
    struct mz_async *async;
    void (*done)(void *done_arg, unsigned status, struct mz_str body);
    void *done_arg;
};

static void post_done(void *arg, const struct mz_fetch_reply *r)
{
    struct post p = *(struct post *)arg;
    bool whole = !r->failure && !r->too_large;
    struct mz_str body = whole ? mz_buf_linearize(r->body, mz_buf_len(r->body)) : MZ_STR("");
    mz_free(MZ_MEM_XDS, arg);
    p.done(p.done_arg, whole ? r->status : 0, body);
}

void *mz_server_xds_post(void *arg, struct mz_str cluster, const char *path, struct mz_str body,
                         uint64_t timeout_ms,
                         void (*done)(void *done_arg, unsigned status, struct mz_str body),
                         void *done_arg)
{
    struct mz_server *s = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_headers *h = mz_headers_create(a);
    const struct mz_async_opts o = { .timeout_ms = timeout_ms };
    struct post *p = mz_new0(MZ_MEM_XDS, struct post);
    struct mz_buf b;
    *p = (struct post){ .done = done, .done_arg = done_arg };
    mz_headers_add(h, MZ_STR(":method"), MZ_STR("POST"));
    mz_headers_add(h, MZ_STR(":path"), mz_str_c(path));
    mz_headers_add(h, MZ_STR(":authority"), cluster);
    mz_headers_add(h, MZ_STR(":scheme"), MZ_STR("http"));
    mz_headers_add(h, MZ_STR("content-type"), MZ_STR("application/json"));
    mz_headers_add(h, MZ_STR("content-length"), mz_arena_printf(a, "%zu", body.n));
    mz_buf_init(&b);
    mz_buf_append_str(&b, body);
    p->async = mz_fetch(s->main_worker.upstream, cluster, h, &b, RESPONSE_MAX, &o, post_done, p);
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    return p;
}

void mz_server_xds_post_cancel(void *post)
{
    struct post *p = post;
    mz_async_cancel(p->async);
    mz_free(MZ_MEM_XDS, p);
}
