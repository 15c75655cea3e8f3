/* The terminal filter of the admin listener (O4): a whole request in, the page table's answer out. */
#include "hcm/filter.h"
#include "http/path.h"
#include "http/validate.h"
#include "server/pages.h"

#define BODY_MAX ((size_t)1 << 20)

struct admin_filter {
    struct mz_filter filter;
    struct mz_buf body;
    bool has_body;
    bool begun; /* the answer's head has left */
};

static struct admin_filter *self(struct mz_filter *f)
{
    return (struct admin_filter *)(void *)f;
}

static void refuse(struct mz_filter *f, unsigned status, struct mz_str body, const char *details)
{
    const struct mz_local_reply r = { .status = status, .body = body, .details = details };
    mz_stream_local_reply(f->stream, &r);
}

/* H07: a page of another site can make a browser send a POST here, but not without an Origin that tells. */
static bool foreign_origin(const struct mz_headers *h)
{
    const struct mz_header *origin = mz_headers_get_id(h, MZ_H_ORIGIN);
    if (!origin)
        return false;
    ptrdiff_t at = mz_str_find(origin->value, MZ_STR("://"));
    return at < 0 || !mz_str_ieq(mz_str_skip(origin->value, (size_t)at + 3),
                                 mz_headers_value_id(h, MZ_H_AUTHORITY));
}

/* Parameters may also come as a form (Envoy's rule: only where the path has none). */
static bool is_form(const struct mz_headers *h)
{
    return mz_str_istarts(mz_headers_value_id(h, MZ_H_CONTENT_TYPE),
                          MZ_STR("application/x-www-form-urlencoded"));
}

static bool request_read(struct mz_filter *f, struct mz_admin_request *rq)
{
    static const struct mz_path_rules rules = { .normalize = true, .merge_slashes = true };
    struct admin_filter *me = self(f);
    rq->headers = mz_stream_request_headers(f->stream);
    rq->arena = mz_stream_arena(f->stream);
    rq->method = mz_headers_method(rq->headers);
    if (mz_path_clean(rq->arena, mz_headers_path(rq->headers), &rules, &rq->path) != MZ_PATH_OK)
        return false;
    ptrdiff_t q = mz_str_chr(rq->path, '?');
    if (q >= 0) {
        rq->query = mz_str_skip(rq->path, (size_t)q + 1);
        rq->path.n = (size_t)q;
    }
    if (me->has_body)
        rq->body = mz_buf_linearize(&me->body, mz_buf_len(&me->body));
    if (!rq->query.n && is_form(rq->headers))
        rq->query = rq->body;
    return true;
}

static struct mz_headers *reply_headers(const struct mz_admin_reply *out, struct mz_arena *a)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_set_status(h, out->status);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, mz_str_c(out->content_type));
    mz_headers_add_id(h, MZ_H_CACHE_CONTROL, MZ_STR("no-cache, max-age=0"));
    mz_headers_add(h, MZ_STR("x-content-type-options"), MZ_STR("nosniff"));
    if (out->headers)
        mz_headers_foreach(it, out->headers) mz_headers_add_raw(h, it->name, it->value, it->id);
    return h;
}

static void begin(void *arg, struct mz_admin_reply *out)
{
    struct admin_filter *me = arg;
    struct mz_stream *s = me->filter.stream;
    me->begun = true;
    mz_stream_respond_headers(s, reply_headers(out, mz_stream_arena(s)), false);
}

static void answer(struct mz_filter *f)
{
    struct mz_admin_request rq = { .begin = begin, .begin_arg = f };
    struct mz_admin_reply out = { .status = 200, .content_type = "text/plain; charset=UTF-8" };
    if (!request_read(f, &rq)) {
        refuse(f, 400, MZ_STR(""), "path_normalization_failed");
        return;
    }
    if (mz_str_eq(rq.method, MZ_STR("POST")) && foreign_origin(rq.headers)) {
        refuse(f, 403, MZ_STR("Refused: this POST comes from a page of another site."),
               "admin_foreign_origin");
        return;
    }
    mz_buf_init(&out.body);
    struct mz_stream *s = f->stream;
    struct mz_ticket ticket = mz_stream_ticket(s); /* sending can end the stream */
    mz_admin_handle((struct mz_admin *)(uintptr_t)f->cfg, &rq, &out);
    if (!self(f)->begun)
        begin(f, &out);
    if (mz_stream_by_ticket(ticket))
        mz_stream_respond_data(s, &out.body, true);
    mz_buf_fini(&out.body);
}

static enum mz_flow on_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct admin_filter *me = self(f);
    if (!me->has_body)
        mz_buf_init(&me->body);
    me->has_body = true;
    if (mz_buf_len(&me->body) + mz_buf_len(data) > BODY_MAX) {
        refuse(f, 413, MZ_STR("Payload Too Large"), "request_payload_too_large");
        return MZ_FLOW_STOP;
    }
    mz_buf_move_all(&me->body, data);
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    answer(f);
    return MZ_FLOW_STOP;
}

static void on_destroy(struct mz_filter *f)
{
    struct admin_filter *me = self(f);
    if (me->has_body)
        mz_buf_fini(&me->body);
}

const struct mz_http_filter_type mz_http_filter_admin = {
    .name = "mizzen.admin",
    .config_type = "",
    .terminal = true,
    .size = sizeof(struct admin_filter),
    .on_request_headers = on_headers,
    .on_request_data = on_data,
    .on_request_trailers = on_trailers,
    .on_destroy = on_destroy,
};
