#include "filters/http/compressor.h"
#include "filters/http/http_filters.h"

/* compressor: encodes answers as the client accepts them, and requests where that is configured (H9). */

struct state {
    struct mz_filter base;
    struct mz_compressor request, response;
    struct mz_str accept; /* the client's accept-encoding, before anything was removed */
    bool has_accept;
    bool decided; /* of the first compressor in the chain: what was decided for all of them */
    struct compressor_decision decision;
};

static const struct compressor_cfg *cfg_of(const struct state *st)
{
    return st->base.cfg;
}

static const struct compressor_route_cfg *route_of(const struct state *st)
{
    return st->base.route_cfg;
}

static const struct mz_compressor_lib *lib_of(const struct state *st)
{
    return route_of(st) && route_of(st)->lib ? route_of(st)->lib : cfg_of(st)->lib;
}

static bool answers_enabled(const struct state *st)
{
    const struct compressor_route_cfg *r = route_of(st);
    if (r && (r->disabled || r->response))
        return !r->disabled;
    return runtime_flag_on(&cfg_of(st)->response.enabled);
}

/* ---- what a message looks like ---- */

static bool long_enough(const struct compressor_direction *d, const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_CONTENT_LENGTH);
    uint64_t n;
    if (!e || (mz_str_u64(e->value, &n) && n >= d->min_length))
        return true;
    mz_count(d->scope, COMPRESSOR_TOO_SMALL, 1);
    return false;
}

static struct mz_str content_type(const struct mz_headers *h)
{
    struct mz_str v = mz_headers_value_id(h, MZ_H_CONTENT_TYPE);
    ptrdiff_t semicolon = mz_str_chr(v, ';');
    return mz_str_trim(semicolon < 0 ? v : (struct mz_str){ v.p, (size_t)semicolon });
}

static bool type_listed(const struct compressor_direction *d, struct mz_str type)
{
    for (size_t i = 0; i < d->n_types; i++)
        if (mz_str_ieq(d->types[i], type))
            return true;
    return false;
}

static bool type_allowed(const struct compressor_direction *d, const struct mz_headers *h)
{
    return !mz_headers_get_id(h, MZ_H_CONTENT_TYPE) || type_listed(d, content_type(h));
}

/* A tunnel's bytes are nobody's content. */
static bool is_tunnel(struct state *st, const struct mz_headers *h)
{
    const struct mz_headers *q = mz_stream_request_headers(st->base.stream);
    return mz_headers_get_id(h, MZ_H_UPGRADE) ||
           (q && mz_str_eq(mz_headers_method(q), MZ_STR("CONNECT")));
}

static bool transfer_encoded(const struct state *st, const struct mz_headers *h)
{
    static const struct mz_str known[] = { MZ_STR_INIT("gzip"), MZ_STR_INIT("br"),
                                           MZ_STR_INIT("deflate"), MZ_STR_INIT("compress"),
                                           MZ_STR_INIT("zstd") };
    struct mz_str v = mz_headers_value_id(h, MZ_H_TRANSFER_ENCODING);
    if (!v.n)
        return false;
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (coding_has_token(v, known[i]))
            return true;
    return coding_has_token(v, lib_of(st)->encoding);
}

static bool etag_allowed(const struct state *st, const struct mz_headers *h)
{
    if (!cfg_of(st)->not_with_etag || !mz_headers_get_id(h, MZ_H_ETAG))
        return true;
    mz_count(cfg_of(st)->headers, COMPRESSOR_ETAG, 1);
    return false;
}

static bool code_allowed(const struct state *st, const struct mz_headers *h)
{
    uint64_t code = 0;
    (void)mz_str_u64(mz_headers_value_id(h, MZ_H_STATUS), &code); /* codecs checked it */
    for (size_t i = 0; i < cfg_of(st)->n_no_codes; i++)
        if (cfg_of(st)->no_codes[i] == code)
            return false;
    return true;
}

/* ---- which compressor of the chain it is ---- */

static struct state *next_of(struct state *st, const struct state *after)
{
    return (struct state *)(void *)mz_stream_next_filter(st->base.stream, st->base.type,
                                                         after ? &after->base : NULL);
}

#define OFFERS_MAX 16 /* encodings; there are three */

static struct compressor_decision decide(struct state *st, const struct mz_headers *h)
{
    struct compressor_offer offers[OFFERS_MAX];
    size_t n = 0;
    struct mz_str type = content_type(h);
    for (struct state *it = NULL; n < OFFERS_MAX && (it = next_of(st, it));) {
        struct compressor_offer o = { .encoding = lib_of(it)->encoding,
                                      .choose_first = cfg_of(it)->choose_first };
        bool again = type.n && !type_listed(&cfg_of(it)->response, type);
        for (size_t i = 0; i < n && !again; i++)
            again = mz_str_eq(offers[i].encoding, o.encoding);
        if (!again)
            offers[n++] = o;
    }
    return compressor_choose(st->accept, offers, n);
}

/* The first compressor that an answer meets decides for all; each counts what became of it. */
static bool accepted(struct state *st, const struct mz_headers *h)
{
    struct mz_scope *headers = cfg_of(st)->headers;
    if (!st->has_accept) {
        mz_count(headers, COMPRESSOR_NO_ACCEPT, 1);
        return false;
    }
    struct state *first = next_of(st, NULL);
    if (!first->decided) {
        first->decision = decide(st, h);
        first->decided = true;
    }
    const struct compressor_decision *d = &first->decision;
    bool mine = d->encoding.n && mz_str_eq(d->encoding, lib_of(st)->encoding);
    mz_count(headers, d->why == COMPRESSOR_USED && !mine ? COMPRESSOR_OVERSHADOWED : d->why, 1);
    return mine;
}

/* ---- the request ---- */

static bool request_wanted(struct state *st, const struct mz_headers *h)
{
    const struct compressor_direction *d = &cfg_of(st)->request;
    return cfg_of(st)->requests && runtime_flag_on(&d->enabled) && !is_tunnel(st, h) &&
           long_enough(d, h) && type_allowed(d, h) &&
           !mz_headers_get_id(h, MZ_H_CONTENT_ENCODING) && !transfer_encoded(st, h);
}

static void start(struct state *st, struct mz_compressor *c, const struct compressor_direction *d,
                  struct mz_headers *h)
{
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
    mz_headers_set_id(h, MZ_H_CONTENT_ENCODING, lib_of(st)->encoding);
    mz_count(d->scope, COMPRESSOR_COMPRESSED, 1);
    mz_compressor_open(c, lib_of(st));
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    const struct compressor_cfg *c = cfg_of(st);
    const struct compressor_route_cfg *r = route_of(st);
    st->has_accept = mz_headers_joined(h, MZ_STR("accept-encoding"), &st->accept);
    if (st->has_accept && (r && r->has_remove ? r->remove_accept : c->remove_accept) &&
        answers_enabled(st))
        mz_headers_remove_id(h, MZ_H_ACCEPT_ENCODING);
    if (!end && request_wanted(st, h))
        start(st, &st->request, &c->request, h);
    else
        mz_count(c->request.scope, COMPRESSOR_NOT_COMPRESSED, 1);
    return MZ_FLOW_CONTINUE;
}

static void run(struct mz_compressor *c, const struct compressor_direction *d, struct mz_buf *data,
                bool end)
{
    if (!mz_buf_len(data) && !end)
        return;
    mz_count(d->scope, COMPRESSOR_UNCOMPRESSED_BYTES, mz_buf_len(data));
    mz_compressor_run(c, data, end);
    mz_count(d->scope, COMPRESSOR_COMPRESSED_BYTES, mz_buf_len(data));
    if (end)
        mz_compressor_close(c);
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (mz_compressor_is_open(&st->request))
        run(&st->request, &cfg_of(st)->request, data, end);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    if (mz_compressor_is_open(&st->request)) {
        struct mz_buf last;
        mz_buf_init(&last);
        run(&st->request, &cfg_of(st)->request, &last, true);
        mz_filter_add_request_data(f, &last, true);
        mz_buf_fini(&last);
    }
    return MZ_FLOW_CONTINUE;
}

/* ---- the answer ---- */

static void add_vary(struct state *st, struct mz_headers *h)
{
    struct mz_str v;
    if (!mz_headers_joined(h, MZ_STR("vary"), &v))
        mz_headers_add_id(h, MZ_H_VARY, MZ_STR("Accept-Encoding"));
    else if (!coding_has_token(v, MZ_STR("accept-encoding")))
        mz_headers_set_id(h, MZ_H_VARY,
                          mz_arena_cat(mz_stream_arena(st->base.stream), 2,
                                       (struct mz_str[]){ v, MZ_STR(", Accept-Encoding") }));
}

/* A strong etag names the bytes of the plain form. */
static void drop_strong_etag(struct mz_headers *h)
{
    struct mz_str v = mz_headers_value_id(h, MZ_H_ETAG);
    if (v.n > 2 && !mz_str_istarts(v, MZ_STR("W/")))
        mz_headers_remove_id(h, MZ_H_ETAG);
}

static void add_status(struct state *st, struct mz_headers *h, struct mz_str status)
{
    const struct mz_str parts[] = { lib_of(st)->encoding, MZ_STR(";"), status };
    mz_headers_add(h, cfg_of(st)->status_name,
                   mz_arena_cat(mz_stream_arena(st->base.stream), MZ_COUNT(parts), parts));
}

/* Why an answer of enough bytes is not compressed whatever the client accepts; "": it may be. */
static struct mz_str obstacle(struct state *st, const struct mz_headers *h)
{
    if (!type_allowed(&cfg_of(st)->response, h))
        return MZ_STR("ContentTypeNotAllowed");
    if (!etag_allowed(st, h))
        return MZ_STR("EtagNotAllowed");
    return code_allowed(st, h) ? MZ_STR("") : MZ_STR("StatusCodeNotAllowed");
}

static void compress_answer(struct state *st, struct mz_headers *h)
{
    struct mz_str length = mz_headers_value_id(h, MZ_H_CONTENT_LENGTH);
    drop_strong_etag(h);
    start(st, &st->response, &cfg_of(st)->response, h);
    if (!cfg_of(st)->status_name.n)
        return;
    const struct mz_str parts[] = { MZ_STR("Compressed;OriginalLength="), length };
    add_status(st, h, mz_arena_cat(mz_stream_arena(st->base.stream), 2, parts)); /* "": unknown */
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    const struct compressor_cfg *c = cfg_of(st);
    mz_compressor_close(&st->response); /* another answer took the place of one that was held */
    bool told =
        c->status_name.n && !end; /* the first reason against it is told, and ends the inquiry */
    bool taboo =
        is_tunnel(st, h) || coding_no_transform(h) || mz_headers_get_id(h, MZ_H_CONTENT_ENCODING);
    bool look = answers_enabled(st) && !(told && taboo);
    bool big = look && long_enough(&c->response, h);
    struct mz_str why = !look || taboo ? MZ_STR("") : MZ_STR("ContentLengthTooSmall");
    if (big && !taboo)
        why = obstacle(st, h);
    bool can = big && !taboo && !why.n;
    bool asked = !end && big && (!told || can) && accepted(st, h);
    if (asked && can && !transfer_encoded(st, h))
        compress_answer(st, h);
    else
        mz_count(c->response.scope, COMPRESSOR_NOT_COMPRESSED, 1);
    if (told && why.n)
        add_status(st, h, why);
    if (can)
        add_vary(st, h);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (mz_compressor_is_open(&st->response))
        run(&st->response, &cfg_of(st)->response, data, end);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    if (mz_compressor_is_open(&st->response)) {
        struct mz_buf last;
        mz_buf_init(&last);
        run(&st->response, &cfg_of(st)->response, &last, true);
        mz_filter_add_response_data(f, &last, true);
        mz_buf_fini(&last);
    }
    return MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = (struct state *)(void *)f;
    mz_compressor_close(&st->request);
    mz_compressor_close(&st->response);
}

const struct mz_http_filter_type mz_filter_compressor = {
    .name = "envoy.filters.http.compressor",
    .config_type = "envoy.extensions.filters.http.compressor.v3.Compressor",
    .route_config_type = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
    .size = sizeof(struct state),
    .config_build = compressor_config_build,
    .config_destroy = compressor_config_destroy,
    .route_config_build = compressor_route_config_build,
    .route_config_destroy = compressor_route_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_destroy = on_destroy,
};
