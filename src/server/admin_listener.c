/* The admin address (O4): the connection manager with one terminal filter that answers from the page table. */
#include "base/log.h"
#include "hcm/filter.h"
#include "listener/address.h"
#include "server/server.h"

#define BODY_MAX (1024 * 1024)

struct admin_filter {
    struct mz_filter filter;
    struct mz_buf body;
    bool has_body;
};

static void answer(struct mz_filter *f)
{
    struct mz_server *s = (struct mz_server *)(uintptr_t)f->cfg;
    struct admin_filter *af = (struct admin_filter *)(void *)f;
    struct mz_stream *st = f->stream;
    struct mz_headers *h = mz_stream_request_headers(st);
    struct mz_arena *a = mz_stream_arena(st);
    struct mz_str path = mz_headers_path(h);
    ptrdiff_t q = mz_str_chr(path, '?');
    struct mz_admin_request rq = {
        .method = mz_headers_method(h), .path = path, .headers = h, .arena = a
    };
    if (q >= 0) {
        rq.path.n = (size_t)q;
        rq.query = mz_str_skip(path, (size_t)q + 1);
    }
    if (af->has_body)
        rq.body = mz_buf_linearize(&af->body, mz_buf_len(&af->body));
    struct mz_admin_reply out = { .status = 200,
                                  .content_type = "text/plain; charset=UTF-8",
                                  .headers = mz_headers_create(a) };
    mz_buf_init(&out.body);
    mz_admin_handle(s->admin, &rq, &out);
    mz_headers_set_status(out.headers, out.status);
    mz_headers_set_id(out.headers, MZ_H_CONTENT_TYPE, mz_str_c(out.content_type));
    mz_headers_set_id(out.headers, MZ_H_CACHE_CONTROL, MZ_STR("no-cache, max-age=0"));
    mz_headers_set(out.headers, MZ_STR("x-content-type-options"), MZ_STR("nosniff"));
    bool empty = mz_buf_len(&out.body) == 0 || mz_str_eq(rq.method, MZ_STR("HEAD"));
    struct mz_ticket ticket = mz_stream_ticket(st);
    mz_stream_respond_headers(st, out.headers, empty);
    if (!empty && mz_stream_by_ticket(ticket))
        mz_stream_respond_data(st, &out.body, true);
    mz_buf_fini(&out.body);
}

static enum mz_flow on_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_body(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct admin_filter *af = (struct admin_filter *)(void *)f;
    if (!af->has_body) {
        mz_buf_init(&af->body);
        af->has_body = true;
    }
    if (mz_buf_len(&af->body) + mz_buf_len(data) > BODY_MAX) {
        const struct mz_local_reply r = { .status = 413,
                                          .body = MZ_STR("Payload Too Large"),
                                          .details = "request_payload_too_large" };
        mz_stream_local_reply(f->stream, &r);
        return MZ_FLOW_STOP;
    }
    mz_buf_move_all(&af->body, data);
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static void on_destroy(struct mz_filter *f)
{
    struct admin_filter *af = (struct admin_filter *)(void *)f;
    if (af->has_body)
        mz_buf_fini(&af->body);
}

static const struct mz_http_filter_type admin_filter = {
    .name = "mizzen.admin",
    .config_type = "",
    .terminal = true,
    .size = sizeof(struct admin_filter),
    .on_request_headers = on_headers,
    .on_request_data = on_body,
    .on_destroy = on_destroy,
};

bool mz_server_admin_start(struct mz_server *s, struct mz_err *err)
{
    const pb_Admin *m = s->bootstrap->admin;
    struct mz_addr addr;
    char text[MZ_ADDR_TEXT];
    s->admin = mz_admin_create();
    mz_pages_server_add(s->admin, s);
    if (!m || !m->address)
        return true;
    if (!mz_address_build(m->address, &addr, err))
        return mz_err_at(err, "address");
    s->admin_hcm = mz_hcm_config_admin(&s->factory, &admin_filter, s, err);
    if (!s->admin_hcm)
        return false;
    if (!mz_listener_manager_add_internal(s->listeners, MZ_STR("admin"), &addr, &mz_net_filter_hcm,
                                          s->admin_hcm, &s->main_worker, err))
        return mz_err_at(err, "address");
    mz_addr_text(&addr, text);
    MZ_LOG(INFO, admin, "admin address: %s", text);
    return true;
}
