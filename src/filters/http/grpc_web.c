#include "filters/http/grpc_names.h"
#include "filters/http/grpc_web_text.h"
#include "filters/http/http_filters.h"
#include "grpc/grpc.h"
#include "http/grpc.h"
#include "upstream/cluster.h"

/*
 * grpc_web: calls of browsers become gRPC, and its answers what browsers can read (H9): trailers stand behind the body, all of it
 * is base64 where that was asked for. An answer that is no gRPC becomes a status whose message is its body. Counted in
 * cluster.<name>.grpc-web.<service>.<method>.
 */
#define MESSAGE_MAX 16384 /* of a body that becomes grpc-message */

struct config {
    struct mz_arena *arena;
    struct grpc_names names;
};
struct state {
    struct mz_filter base;
    struct mz_scope *scope; /* borrowed of the configuration; NULL: nothing is counted */
    bool web, text_request, text_response;
    bool foreign; /* the answer is no gRPC; its head waits for its body */
    struct grpc_web_decoder decoder;
    struct grpc_web_encoder encoder;
    char *message;
    size_t message_n;
};

static void config_destroy(void *cfg)
{
    struct config *c = cfg;
    grpc_names_fini(&c->names);
    mz_arena_destroy(c->arena);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)err;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct config *c = mz_arena_new0(a, struct config);
    c->arena = a;
    grpc_names_init(&c->names, f->stats, "grpc-web.", f->workers, a);
    return c;
}

/* ---- the request ---- */

static bool is_text(struct mz_str type)
{
    return mz_str_eq(type, MZ_STR("application/grpc-web-text")) ||
           mz_str_eq(type, MZ_STR("application/grpc-web-text+proto"));
}

static bool is_binary(struct mz_str type)
{
    return mz_str_eq(type, MZ_STR("application/grpc-web")) ||
           mz_str_eq(type, MZ_STR("application/grpc-web+proto"));
}

static void scope_find(struct state *st, const struct mz_headers *h)
{
    const struct config *c = st->base.cfg;
    const struct mz_weighted_cluster *w;
    struct mz_str name, service, method;
    char names[GRPC_NAMES_BYTES];
    size_t n = 0;
    struct mz_wcluster *cluster = mz_stream_cluster(st->base.stream, &name, &w);
    if (!cluster)
        return;
    if (grpc_names_split(mz_headers_path(h), &service, &method) &&
        service.n + method.n + 2 <= sizeof(names)) {
        memcpy(names, service.p, service.n);
        memcpy(names + service.n + 1, method.p, method.n);
        n = service.n + method.n + 2;
        names[service.n] = names[n - 1] = '.';
    }
    st->scope = grpc_names_scope(&c->names, mz_wcluster_info(cluster)->scope->prefix,
                                 (struct mz_str){ names, n });
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    struct mz_str type = mz_headers_value_id(h, MZ_H_CONTENT_TYPE);
    const struct mz_header *accept = mz_headers_get(h, MZ_STR("accept"));
    st->text_request = is_text(type);
    st->web = st->text_request || is_binary(type);
    if (!st->web)
        return MZ_FLOW_CONTINUE;
    st->text_response = accept && is_text(accept->value);
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH); /* of the body in its other form */
    scope_find(st, h);
    mz_headers_set_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    mz_headers_set(h, MZ_STR("te"), MZ_STR("trailers"));
    if (!mz_headers_get(h, MZ_STR("grpc-accept-encoding")))
        mz_headers_add(h, MZ_STR("grpc-accept-encoding"), MZ_STR("identity"));
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    bool too_short, some = mz_buf_len(data) > 0;
    if (!st->text_request)
        return MZ_FLOW_CONTINUE;
    if (!grpc_web_decode(&st->decoder, data, end, &too_short)) {
        const struct mz_local_reply r = { .status = 400,
                                          .body =
                                              MZ_STR("Bad gRPC-web request, invalid base64 data."),
                                          .details = too_short
                                                         ? "grpc_base_64_decode_failed_bad_size"
                                                         : "grpc_base_64_decode_failed" };
        mz_stream_local_reply(f->stream, &r);
        return MZ_FLOW_STOP;
    }
    return some && !mz_buf_len(data) && !end ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

/* ---- the answer ---- */

static struct mz_str media_type(struct mz_str type)
{
    ptrdiff_t at = mz_str_chr(type, ';');
    return mz_str_trim(at < 0 ? type : (struct mz_str){ type.p, (size_t)at });
}

/* Is it what a client of gRPC-Web or gRPC could read? */
static bool is_answer(const struct mz_headers *h, bool end)
{
    struct mz_str type = media_type(mz_headers_value_id(h, MZ_H_CONTENT_TYPE));
    if (end)
        return mz_headers_get_id(h, MZ_H_GRPC_STATUS) != NULL;
    return mz_headers_status(h) == 200 &&
           (mz_is_grpc(h) || mz_str_ieq(type, MZ_STR("application/grpc-web")) ||
            mz_str_ieq(type, MZ_STR("application/grpc-web+proto")));
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->web)
        return MZ_FLOW_CONTINUE;
    grpc_names_outcome(st->scope, h);
    st->foreign = !end && !is_answer(h, end);
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
    mz_headers_set_id(h, MZ_H_CONTENT_TYPE,
                      st->text_response ? MZ_STR("application/grpc-web-text+proto")
                                        : MZ_STR("application/grpc-web+proto"));
    return st->foreign ? MZ_FLOW_STOP : MZ_FLOW_CONTINUE;
}

static void message_add(struct state *st, struct mz_buf *data)
{
    size_t n = mz_buf_len(data);
    if (!st->message)
        st->message = mz_arena_alloc(mz_stream_arena(st->base.stream), MESSAGE_MAX);
    if (n > MESSAGE_MAX - st->message_n)
        n = MESSAGE_MAX - st->message_n;
    (void)mz_buf_copyout(data, 0, st->message + st->message_n, n);
    st->message_n += n;
    mz_buf_drain(data, mz_buf_len(data));
}

static void message_set(struct state *st)
{
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    struct mz_headers *h = mz_stream_response_headers(st->base.stream);
    struct mz_str text = { st->message ? st->message : "", st->message_n };
    char *number = mz_arena_alloc(a, 20);
    st->foreign = false;
    mz_headers_set_id(h, MZ_H_GRPC_MESSAGE, mz_grpc_message_encode(text, a));
    size_t n = mz_u64_text(mz_grpc_status_of_http(mz_headers_status(h)), number);
    mz_headers_set_id(h, MZ_H_GRPC_STATUS, (struct mz_str){ number, n });
    mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, MZ_STR("0"));
}

static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (st->foreign) {
        message_add(st, data);
        if (!end)
            return MZ_FLOW_STOP;
        message_set(st);
        return MZ_FLOW_CONTINUE;
    }
    if (st->text_response)
        grpc_web_encode(&st->encoder, data);
    return MZ_FLOW_CONTINUE;
}

/* They stand behind the body, as a frame of their own. */
static void trailers_put(const struct state *st, const struct mz_headers *h, struct mz_buf *out)
{
    struct mz_buf lines;
    mz_buf_init(&lines);
    mz_headers_foreach(e, h)
    {
        mz_buf_append_str(&lines, e->name);
        mz_buf_append(&lines, ":", 1);
        mz_buf_append_str(&lines, e->value);
        mz_buf_append(&lines, "\r\n", 2);
    }
    uint32_t n = (uint32_t)mz_buf_len(&lines);
    const unsigned char head[5] = { 0x80, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                    (unsigned char)(n >> 8), (unsigned char)n };
    mz_buf_append(out, head, sizeof(head));
    mz_buf_move_all(out, &lines);
    mz_buf_fini(&lines);
    if (st->text_response)
        grpc_web_encode_all(out);
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    struct state *st = (struct state *)(void *)f;
    struct mz_buf frame;
    if (!st->web)
        return MZ_FLOW_CONTINUE;
    grpc_names_outcome(st->scope, h);
    if (st->foreign) {
        message_set(st);
        return MZ_FLOW_CONTINUE;
    }
    mz_buf_init(&frame);
    trailers_put(st, h, &frame);
    mz_headers_init(h, h->arena);
    mz_filter_inject_response_data(f, &frame, false);
    mz_buf_fini(&frame);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_grpc_web = {
    .name = "envoy.filters.http.grpc_web",
    .config_type = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
};
