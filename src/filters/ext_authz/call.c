#include "filters/ext_authz/ext_authz.h"

/* One question to a service, by gRPC or as an HTTP request. */

#define ANSWER_MAX (1u << 20) /* bytes of an HTTP answer's body */

static const struct mz_grpc_method check_method = { "/envoy.service.auth.v3.Authorization/Check",
                                                    &pb_CheckRequest__descriptor,
                                                    &pb_CheckResponse__descriptor };
struct authz_call {
    const struct authz_service *service;
    struct mz_arena *arena;
    authz_done *done;
    void *arg;
    struct mz_grpc_call *grpc; /* one of both, until done or cancelled */
    struct mz_async *http;
};

static void error(struct authz_call *c, struct mz_str why)
{
    const struct authz_reply r = { .verdict = AUTHZ_ERROR, .why = why };
    c->done(c->arg, &r);
}

static void on_grpc(void *arg, const struct mz_grpc_status *st, struct mz_grpc_message *m)
{
    struct authz_call *c = arg;
    struct authz_reply r;
    c->grpc = NULL;
    if (!m) {
        error(c, mz_arena_printf(c->arena, "the service failed with %s%s" MZ_STR_FMT,
                                 mz_grpc_code_name(st->code), st->message.n ? ": " : "",
                                 MZ_STR_ARG(st->message)));
        return;
    }
    authz_reply_grpc((const pb_CheckResponse *)m->msg, c->arena, &r);
    c->done(c->arg, &r);
}

static void on_http(void *arg, const struct mz_fetch_reply *f)
{
    struct authz_call *c = arg;
    struct authz_reply r;
    c->http = NULL;
    if (f->failure) {
        error(c, mz_arena_printf(c->arena, "the service failed: " MZ_STR_FMT,
                                 MZ_STR_ARG(f->failure->text)));
        return;
    }
    if (f->too_large) {
        error(c, MZ_STR("the service's answer is too large"));
        return;
    }
    authz_reply_http(c->service, f->headers, mz_buf_linearize(f->body, mz_buf_len(f->body)),
                     c->arena, &r);
    c->done(c->arg, &r);
}

/* ---- the HTTP form of a CheckRequest ---- */

static struct mz_headers *http_headers(const struct authz_service *s, const struct authz_ask *ask,
                                       size_t body)
{
    const pb_AttributeContext_HttpRequest *r = ask->request->attributes->request->http;
    struct mz_headers *h = mz_headers_create(ask->arena);
    mz_headers_add_id(h, MZ_H_CONTENT_LENGTH, mz_arena_printf(ask->arena, "%zu", body));
    for (size_t i = 0; i < r->n_headers; i++) {
        struct mz_str name = mz_str_c(r->headers[i]->key), value = mz_str_c(r->headers[i]->value);
        if (mz_str_eq(name, MZ_STR("content-length")))
            continue;
        if (mz_str_eq(name, MZ_STR(":path")) && s->path_prefix.n)
            value = mz_arena_cat(ask->arena, 2, (struct mz_str[]){ s->path_prefix, value });
        mz_headers_add(h, name, value);
    }
    mz_header_mutations_apply(&s->add, h, ask->format);
    return h;
}

static void start_http(struct authz_call *c, const struct authz_ask *ask)
{
    const struct authz_service *s = c->service;
    const pb_AttributeContext_HttpRequest *r = ask->request->attributes->request->http;
    const struct mz_async_opts o = { .timeout_ms = s->timeout_ms,
                                     .retry = s->retry,
                                     .no_xff = true };
    struct mz_buf body;
    mz_buf_init(&body);
    if (r->raw_body.len)
        mz_buf_append(&body, r->raw_body.data, r->raw_body.len);
    struct mz_headers *h = http_headers(s, ask, mz_buf_len(&body));
    c->http = mz_fetch(ask->upstream, s->cluster, h, &body, ANSWER_MAX, &o, on_http, c);
    mz_buf_fini(&body);
}

struct authz_call *authz_call(const struct authz_service *s, const struct authz_ask *ask,
                              authz_done *done, void *arg)
{
    struct authz_call *c = mz_arena_new0(ask->arena, struct authz_call);
    *c = (struct authz_call){ .service = s, .arena = ask->arena, .done = done, .arg = arg };
    const struct mz_grpc_opts o = { .timeout_ms = s->timeout_ms, .format = ask->format };
    if (s->grpc)
        c->grpc = mz_grpc_call(ask->upstream, s->grpc, &check_method,
                               (const ProtobufCMessage *)ask->request, &o, on_grpc, c);
    else
        start_http(c, ask);
    return c;
}

void authz_cancel(struct authz_call *c)
{
    if (!c)
        return;
    mz_grpc_call_cancel(c->grpc);
    mz_async_cancel(c->http);
    c->grpc = NULL;
    c->http = NULL;
}
