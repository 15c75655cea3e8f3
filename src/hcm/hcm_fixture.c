#include "base/test.h"

#include "hcm/hcm_test.h"
#include "proto/mapper.h"

#define CONN_CLOSED 4 /* the last state of net/conn.c */

static struct fixture *of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct fixture, enc);
}

/* ---- the codec ---- */

static void enc_1xx(struct mz_stream_enc *e, struct mz_headers *h)
{
    mz_buf_printf(&of(e)->trace, "=1xx(%u) ", mz_headers_status(h));
}

static void enc_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    mz_buf_printf(&of(e)->trace, "=H%u%s ", mz_headers_status(h), end ? "$" : "");
}

static void enc_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct mz_str s = mz_buf_linearize(data, mz_buf_len(data));
    mz_buf_printf(&of(e)->trace, "=D(" MZ_STR_FMT ")%s ", MZ_STR_ARG(s), end ? "$" : "");
    mz_buf_drain(data, s.n);
}

static void enc_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    (void)h;
    mz_buf_printf(&of(e)->trace, "=T$ ");
}

static void enc_reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    (void)r;
    mz_buf_printf(&of(e)->trace, "=reset ");
}

static void enc_read_disable(struct mz_stream_enc *e, bool disable)
{
    mz_buf_printf(&of(e)->trace, disable ? "=pause " : "=resume ");
}

static const struct mz_stream_enc_ops enc_ops = {
    .encode_1xx = enc_1xx,
    .encode_headers = enc_headers,
    .encode_data = enc_data,
    .encode_trailers = enc_trailers,
    .reset = enc_reset,
    .read_disable = enc_read_disable,
};

static void goaway(struct mz_codec *c, bool notice)
{
    (void)c;
    (void)notice;
}
static const struct mz_codec_ops codec_ops = { .goaway = goaway };

/* ---- the manager ---- */

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->stats = mz_stats_create(1);
    f->loop = mz_loop_create("test");
    f->worker = (struct mz_worker){ .loop = f->loop, .process = &f->process };
    f->conn.state = CONN_CLOSED;
    f->conn.id = 7;
    mz_watermark_init(&f->conn.out_wm, 100);
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.9"), 4711, &f->conn.remote));
    f->conn.direct_remote = f->conn.remote;
    f->down = (struct mz_downstream){ .conn = &f->conn, .worker = &f->worker };
    assert_true(mz_addr_parse_ip(MZ_STR("10.0.0.1"), 80, &f->down.local_restored));
    f->cfg.arena = mz_arena_create(MZ_MEM_CONFIG);
    f->cfg.scope = mz_scope_create(f->stats, &mz_hcm_stats, MZ_STR("http.t."));
    f->cfg.server_name = MZ_STR("mizzen");
    f->cfg.detections = mz_arena_new0(f->cfg.arena, struct ip_detection);
    f->cfg.detections->skip_xff_append = true;
    f->cfg.n_detections = 1;
    f->codec = (struct mz_codec){ .ops = &codec_ops, .protocol = MZ_HTTP2 };
    f->hcm = (struct hcm_conn){ .base = { .worker = &f->worker, .down = &f->down },
                                .cfg = &f->cfg,
                                .codec = &f->codec };
    mz_list_init(&f->hcm.streams);
    f->enc.ops = &enc_ops;
    mz_buf_init(&f->trace);
}

void fixture_stream(struct fixture *f)
{
    f->stream = stream_create(&f->hcm, &f->enc, &f->in);
    mz_list_add_tail(&f->hcm.streams, &f->stream->link);
    f->hcm.n_streams++;
}

bool fixture_over(const struct fixture *f)
{
    return mz_list_empty(&f->hcm.streams);
}

void fixture_fini(struct fixture *f)
{
    if (f->stream && !fixture_over(f))
        stream_abort(f->stream, 0, NULL, NULL);
    mz_loop_turn(f->loop, 0);
    mz_buf_fini(&f->trace);
    mz_route_table_unref(f->cfg.routes);
    mz_scope_unref(f->cfg.scope);
    mz_arena_destroy(f->cfg.arena);
    mz_loop_destroy(f->loop);
    mz_stats_destroy(f->stats);
}

/* ---- requests ---- */

static void add_line(struct mz_headers *h, struct mz_arena *a, struct mz_str line)
{
    ptrdiff_t colon =
        mz_str_chr(mz_str_skip(line, 1), ':') + 1; /* a pseudo-header begins with one */
    struct mz_str name = mz_arena_dup(a, (struct mz_str){ line.p, (size_t)colon });
    struct mz_str value = mz_arena_dup(a, mz_str_trim(mz_str_skip(line, (size_t)colon + 1)));
    if (name.p[0] == ':')
        mz_headers_set(h, name, value);
    else
        mz_headers_add(h, name, value);
}

struct mz_headers *fixture_headers(struct fixture *f, const char *extra)
{
    struct mz_arena *a = f->stream->arena;
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("a.test"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/"));
    struct mz_str rest = mz_str_c(extra);
    for (struct mz_str line; mz_str_split(&rest, '\n', &line);)
        if (line.n)
            add_line(h, a, line);
    return h;
}

void fixture_request(struct fixture *f, const char *extra, bool end)
{
    f->in.ops->on_headers(f->in.arg, fixture_headers(f, extra), end);
}

const char *fixture_header(const struct fixture *f, const char *name)
{
    struct mz_str out = { 0 };
    const struct mz_headers *h = f->stream->req.headers;
    for (const struct mz_header *e = mz_headers_get(h, mz_str_c(name)); e;
         e = mz_headers_next(h, e)) {
        const struct mz_str parts[] = { out, out.p ? MZ_STR("|") : MZ_STR(""), e->value };
        out = mz_arena_cat(f->stream->arena, 3, parts);
    }
    return out.p;
}

const char *fixture_trace(struct fixture *f)
{
    mz_buf_append(&f->trace, "", 1);
    const char *text = mz_buf_linearize(&f->trace, mz_buf_len(&f->trace)).p;
    size_t n = strlen(text);
    if (n)
        ((char *)(uintptr_t)text)[n - 1] = 0; /* the last blank */
    return text;
}

/* ---- routes ---- */

static _Thread_local const struct mz_http_filter_type *the_type;

static const struct mz_http_filter_type *find_type(struct mz_str config_type)
{
    return mz_str_eq(config_type, mz_str_c(the_type->config_type)) ? the_type : NULL;
}
static const char *type_message(const struct mz_http_filter_type *t)
{
    return t->config_type;
}
static void *type_build(const struct mz_http_filter_type *t, const void *msg,
                        const struct mz_factory *factory, struct mz_err *err)
{
    return t->config_build(msg, factory, err);
}
static void type_destroy(const struct mz_http_filter_type *t, void *cfg)
{
    t->config_destroy(cfg);
}

bool fixture_routes(struct fixture *f, const char *yaml, const struct mz_http_filter_type *type)
{
    static const struct mz_route_filter_ops ops = { type_message, type_build, type_destroy };
    the_type = type;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_factory factory = { .proto = &ctx, .stats = f->stats, .http_filter = find_type };
    struct mz_route_env env = { .factory = &factory, .filter_ops = &ops };
    ProtobufCMessage *m;
    struct mz_err err = { 0 };
    if (mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_RouteConfiguration__descriptor, &m,
                         &err))
        f->cfg.routes = mz_route_table_build((pb_RouteConfiguration *)m, &env, &err);
    if (!f->cfg.routes)
        print_error("%s: %s\n", err.path, err.msg);
    mz_arena_destroy(a);
    return f->cfg.routes != NULL;
}
