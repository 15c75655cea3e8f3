#include "hcm/hcm_priv.h"

#include "http/grpc.h"
#include "observe/log_filter.h"
#include "observe/substitution.h"
#include "proto/data_source.h"
#include "proto/mapper.h"

/* Answers of the proxy itself (H6), local_reply_config (H4), gRPC mapping. */

struct mapper {
    struct mz_log_filter *filter;
    unsigned status; /* 0: as it was */
    struct mz_str body;
    bool has_body;
    struct mz_log_format *format; /* NULL: the default one */
    struct mz_header_mutations headers;
};
struct local_reply_config {
    struct mz_arena *arena;
    struct mapper *mappers;
    size_t n_mappers;
    struct mz_log_format *format; /* NULL: the body as it is */
};

static bool mapper_build(const pb_ResponseMapper *m, const struct mz_factory *f, struct mapper *out,
                         struct mz_err *err)
{
    out->filter = mz_log_filter_create(m->filter, err);
    if (!out->filter)
        return mz_err_at(err, "filter");
    out->status = mz_u32_or(m->status_code, 0);
    if (m->body) {
        if (!mz_data_source_read(m->body, 1 << 20, f->proto->arena, &out->body, err))
            return mz_err_at(err, "body");
        out->has_body = true;
    }
    if (m->body_format_override) {
        out->format = mz_log_format_create(m->body_format_override, err);
        if (!out->format)
            return mz_err_at(err, "body_format_override");
    }
    if (!mz_header_mutations_build(m->headers_to_add, m->n_headers_to_add, NULL, 0, true,
                                   &out->headers, err))
        return mz_err_at(err, "headers_to_add");
    return true;
}

struct local_reply_config *local_reply_config_build(const void *msg, const struct mz_factory *f,
                                                    struct mz_arena *a, struct mz_err *err)
{
    const pb_LocalReplyConfig *m = msg;
    struct local_reply_config *c = mz_arena_new0(a, struct local_reply_config);
    c->arena = a;
    c->mappers = mz_arena_alloc0(a, m->n_mappers * sizeof(*c->mappers));
    for (size_t i = 0; i < m->n_mappers; i++) {
        c->n_mappers++;
        if (!mapper_build(m->mappers[i], f, &c->mappers[i], err)) {
            mz_err_at(err, "mappers[%zu]", i);
            goto fail;
        }
        if (c->mappers[i].has_body)
            c->mappers[i].body = mz_arena_dup(a, c->mappers[i].body);
    }
    if (m->body_format) {
        c->format = mz_log_format_create(m->body_format, err);
        if (!c->format) {
            mz_err_at(err, "body_format");
            goto fail;
        }
    }
    return c;
fail:
    local_reply_config_destroy(c);
    return NULL;
}

void local_reply_config_destroy(struct local_reply_config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_mappers; i++) {
        mz_log_filter_destroy(c->mappers[i].filter);
        mz_log_format_destroy(c->mappers[i].format);
        mz_header_mutations_fini(&c->mappers[i].headers);
    }
    mz_log_format_destroy(c->format);
}

struct reply { /* being made */
    unsigned status;
    struct mz_str body, content_type;
    bool direct; /* past the filters: they have an answer in their hands already */
};

static void rewrite(const struct local_reply_config *c, struct mz_stream *s, struct mz_headers *h,
                    struct reply *r)
{
    struct mz_format_ctx ctx = {
        .info = &s->info, .req = s->req.headers, .resp = h, .local_reply_body = r->body
    };
    const struct mz_log_format *format = c->format;
    for (size_t i = 0; i < c->n_mappers; i++) {
        const struct mapper *m = &c->mappers[i];
        if (!mz_log_filter_match(m->filter, &ctx))
            continue;
        if (m->has_body)
            r->body = m->body;
        if (m->status) {
            r->status = m->status;
            s->info.status = m->status;
            mz_headers_set_status(h, m->status);
        }
        ctx.local_reply_body = r->body;
        mz_header_mutations_apply(&m->headers, h, &ctx);
        if (m->format)
            format = m->format;
        break;
    }
    if (!format)
        return;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_log_format_append(format, &ctx, &b);
    r->body = mz_arena_dup(s->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    r->content_type = mz_log_format_content_type(format);
    mz_buf_fini(&b);
}

/* grpc-message: bytes outside 0x20..0x7e and '%' are percent-encoded (gRPC over HTTP/2, Status-Message). */
static struct mz_str grpc_message(struct mz_stream *s, struct mz_str text)
{
    char *p = mz_arena_alloc(s->arena, text.n * 3 + 1), *at = p;
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    return (struct mz_str){ p, (size_t)(at - p) };
}

static struct mz_str number(struct mz_stream *s, uint64_t v)
{
    char *p = mz_arena_alloc(s->arena, 20);
    return (struct mz_str){ p, mz_u64_text(v, p) };
}

static void reply_headers(struct mz_stream *s, const struct reply *made, struct mz_headers *h,
                          bool end)
{
    if (!made->direct) {
        chain_response_headers(s, h, end);
        return;
    }
    s->resp.headers = h;
    s->resp.ended = end;
    respond_headers(s, h, end);
}

static void send_grpc(struct mz_stream *s, const struct mz_local_reply *r, struct mz_headers *h,
                      struct reply *made)
{
    unsigned code = r->has_grpc_status ? r->grpc_status : mz_grpc_status_of_http(made->status);
    mz_headers_set_status(h, 200);
    mz_headers_set_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    mz_headers_set_id(h, MZ_H_GRPC_STATUS, number(s, code));
    struct mz_str text = made->body;
    if (text.n && text.p[text.n - 1] == '\n' &&
        mz_str_eq(made->content_type, MZ_STR("application/json")))
        text.n--; /* a line of JSON */
    if (text.n && !s->is_head)
        mz_headers_set_id(h, MZ_H_GRPC_MESSAGE, grpc_message(s, text));
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
    reply_headers(s, made, h, true);
}

static void send_plain(struct mz_stream *s, struct mz_headers *h, struct reply *made)
{
    if (made->body.n) {
        mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, number(s, made->body.n));
        if (made->content_type.n)
            mz_headers_set_id(h, MZ_H_CONTENT_TYPE, made->content_type);
        else if (!mz_headers_get_id(h, MZ_H_CONTENT_TYPE))
            mz_headers_set_id(h, MZ_H_CONTENT_TYPE, MZ_STR("text/plain"));
    } else {
        mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
        mz_headers_remove_id(h, MZ_H_CONTENT_TYPE);
    }
    bool body = made->body.n && !s->is_head;
    uint32_t epoch = s->epoch;
    reply_headers(s, made, h, !body);
    if (!body || s->dead || s->epoch != epoch)
        return;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, made->body);
    if (made->direct)
        respond_data(s, &b, true);
    else
        chain_response_data(s, &b, true);
    mz_buf_fini(&b);
}

/* Envoy lets a route that forwards have its way with answers that filters give in its place, too; what answers by itself does
 * that on its own. Before there are filters no route is looked for. */
static void route_headers(struct mz_stream *s, struct mz_headers *h, bool filters_run)
{
    const struct mz_route *r = filters_run ? mz_stream_route(s) : s->route;
    if (!r || (r->action != MZ_ACTION_CLUSTER && r->action != MZ_ACTION_NON_FORWARDING))
        return;
    struct mz_format_ctx ctx = { .info = &s->info, .req = s->req.headers, .resp = h };
    mz_route_finalize_response(r, s->weighted, h, &ctx);
}

void mz_stream_local_reply(struct mz_stream *s, const struct mz_local_reply *r)
{
    if (s->dead || s->local_replying)
        return;
    mz_info_flag(&s->info, r->flags);
    mz_stream_story(s, MZ_STEP_LOCAL_REPLY, MZ_STR(""), mz_str_c(r->details), r->status, 0);
    if (s->responding) {
        mz_stream_reset(s, r->details);
        return;
    }
    s->local_replying = true;
    if (r->status == 400 && s->conn->codec->protocol < MZ_HTTP2 &&
        !s->conn->cfg->http1.override_stream_error)
        s->needs_close = true; /* a messaging error: as Envoy, nothing more is read */
    if (r->details)
        s->info.details = r->details;
    bool filters_run = s->chain_made && s->req.headers;
    struct mz_str body = r->body.n ? mz_arena_dup(s->arena, r->body) : MZ_STR("");
    if (!s->chain_made)
        chain_make(s, &s->conn->cfg->filters);
    /* An answer that the filters were still holding is dropped; they do not see another. */
    bool direct = s->resp.headers != NULL;
    mz_buf_fini(&s->resp.kept);
    s->resp = (struct pass){ .above = s->resp.above };
    mz_buf_init(&s->resp.kept);
    for (int i = 0; i < s->n_filters; i++)
        if (s->filters[i])
            s->filters[i]->resp_state = 0;
    struct mz_headers *h = mz_headers_create(s->arena);
    mz_headers_set_status(h, r->status);
    route_headers(s, h, filters_run);
    if (r->modify)
        r->modify(h, r->modify_arg);
    s->info.status = r->status; /* what was added just now does not know it (Envoy) */
    struct reply made = { r->status, body, MZ_STR(""), direct };
    if (s->conn->cfg->local_reply)
        rewrite(s->conn->cfg->local_reply, s, h, &made);
    if (s->is_grpc)
        send_grpc(s, r, h, &made);
    else
        send_plain(s, h, &made);
    stream_maybe_finish(s);
}
