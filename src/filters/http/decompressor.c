#include "filters/http/decompressor.h"
#include "filters/http/http_filters.h"

/*
 * decompressor: decodes requests and answers, and tells upstreams that it can (H9). A step makes at most STEP_BYTES: where the
 * way out is full the rest of the coded bytes waits here, until a turn after it is free again (E08).
 */

#define STEP_BYTES 65536

struct way { /* of the request or the answer */
    struct mz_decompressor coder;
    struct mz_buf in; /* coded bytes that wait */
    struct mz_timer resume;
    bool held; /* the way out was full: resume goes on */
    bool end;  /* no more comes in; trailers may have */
    bool over; /* failed: what still comes is dropped */
};
struct state {
    struct mz_filter base;
    struct way request, response;
    bool ready, gone; /* timers and buffers are set up; the stream is over */
};

static const struct decompressor_cfg *cfg_of(const struct state *st)
{
    return st->base.cfg;
}

static const struct decompressor_direction *direction_of(const struct state *st,
                                                         const struct way *w)
{
    return w == &st->request ? &cfg_of(st)->request : &cfg_of(st)->response;
}

static struct mz_str arena_number(struct state *st, uint64_t n)
{
    return mz_arena_printf(mz_stream_arena(st->base.stream), "%llu", (unsigned long long)n);
}

static void report(struct state *st, const struct way *w, struct mz_headers *trailers)
{
    mz_headers_add(trailers, cfg_of(st)->in_trailer, arena_number(st, w->coder.in_bytes));
    mz_headers_add(trailers, cfg_of(st)->out_trailer, arena_number(st, w->coder.out_bytes));
}

/* ---- the coded message cannot be decoded ---- */

static void fail(struct state *st, struct way *w, enum mz_decompress why)
{
    static const char *const details[] = { [MZ_DECOMPRESS_BAD] = "decompressor_bad_data",
                                           [MZ_DECOMPRESS_RATIO] = "decompressor_ratio_exceeded",
                                           [MZ_DECOMPRESS_CUT] = "decompressor_cut_short" };
    bool request = w == &st->request;
    struct mz_local_reply r = { .status = 502,
                                .body = MZ_STR("Bad Gateway"),
                                .details = details[why],
                                .flags = MZ_FLAG(UPSTREAM_PROTOCOL_ERROR) };
    if (request)
        r = (struct mz_local_reply){ .status = why == MZ_DECOMPRESS_RATIO ? 413 : 400,
                                     .body = why == MZ_DECOMPRESS_RATIO
                                                 ? MZ_STR("Payload Too Large")
                                                 : MZ_STR("Bad Request"),
                                     .details = details[why] };
    w->over = true;
    mz_timer_stop(&w->resume);
    mz_buf_fini(&w->in);
    mz_decompressor_close(&w->coder);
    mz_stream_local_reply(st->base.stream, &r);
}

/* ---- decoding ---- */

static bool paused(const struct state *st, const struct way *w)
{
    return w == &st->request ? mz_stream_request_paused(st->base.stream)
                             : mz_stream_response_paused(st->base.stream);
}

static void inject(struct state *st, const struct way *w, struct mz_buf *out)
{
    if (w == &st->request)
        mz_filter_inject_request_data(&st->base, out, false);
    else
        mz_filter_inject_response_data(&st->base, out, false);
}

static enum mz_decompress step(struct state *st, struct way *w, struct mz_buf *out)
{
    const struct decompressor_direction *d = direction_of(st, w);
    uint64_t in = w->coder.in_bytes, made = w->coder.out_bytes;
    enum mz_decompress r = mz_decompressor_run(&w->coder, &w->in, out, STEP_BYTES, w->end);
    mz_count(d->scope, DECOMPRESSOR_COMPRESSED_BYTES, w->coder.in_bytes - in);
    mz_count(d->scope, DECOMPRESSOR_UNCOMPRESSED_BYTES, w->coder.out_bytes - made);
    return r;
}

/* Decodes what waits. True: all of it, the last part is in @out; false: held, failed, or the stream is over. */
static bool decode(struct state *st, struct way *w, struct mz_buf *out)
{
    enum mz_decompress r;
    while ((r = step(st, w, out)) == MZ_DECOMPRESS_MORE) {
        inject(st, w, out);
        if (st->gone || w->over)
            return false;
        if (paused(st, w)) {
            w->held = true;
            return false;
        }
    }
    if (r == MZ_DECOMPRESS_DONE)
        return true;
    fail(st, w, r);
    return false;
}

static void resume(struct state *st, struct way *w)
{
    if (!w->held || w->over || paused(st, w))
        return;
    w->held = false;
    bool request = w == &st->request;
    struct mz_buf out;
    mz_buf_init(&out);
    bool whole = decode(st, w, &out);
    if (whole && mz_buf_len(&out))
        inject(st, w, &out);
    mz_buf_fini(&out);
    if (!whole || st->gone || w->over || !w->end)
        return;
    report(st, w,
           request ? mz_filter_add_request_trailers(&st->base)
                   : mz_filter_add_response_trailers(&st->base));
    mz_decompressor_close(&w->coder);
    if (request)
        mz_filter_continue_request(&st->base);
    else
        mz_filter_continue_response(&st->base);
}

static void resume_request(struct mz_timer *t)
{
    struct state *st = MZ_CONTAINER(t, struct state, request.resume);
    resume(st, &st->request);
}

static void resume_response(struct mz_timer *t)
{
    struct state *st = MZ_CONTAINER(t, struct state, response.resume);
    resume(st, &st->response);
}

/* The other filters hear of it first, in their turn. */
static void way_free(struct way *w)
{
    if (w->held)
        mz_timer_start_ms(&w->resume, 0);
}

static enum mz_flow on_data(struct state *st, struct way *w, struct mz_buf *data, bool end)
{
    if (w->over) {
        mz_buf_fini(data);
        return MZ_FLOW_STOP;
    }
    if (!mz_decompressor_is_open(&w->coder))
        return MZ_FLOW_CONTINUE;
    mz_buf_move_all(&w->in, data);
    w->end |= end;
    if (w->held || !decode(st, w, data))
        return MZ_FLOW_STOP;
    if (end) {
        report(st, w,
               w == &st->request ? mz_filter_add_request_trailers(&st->base)
                                 : mz_filter_add_response_trailers(&st->base));
        mz_decompressor_close(&w->coder);
    }
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_trailers(struct state *st, struct way *w, struct mz_headers *h)
{
    if (w->over)
        return MZ_FLOW_STOP;
    if (!mz_decompressor_is_open(&w->coder))
        return MZ_FLOW_CONTINUE;
    w->end = true;
    if (w->held)
        return MZ_FLOW_STOP;
    struct mz_buf out;
    mz_buf_init(&out);
    enum mz_decompress r =
        step(st, w, &out); /* empty-handed: the end of what was said to be whole */
    mz_buf_fini(&out);
    if (r != MZ_DECOMPRESS_DONE) {
        fail(st, w, r);
        return MZ_FLOW_STOP;
    }
    report(st, w, h);
    mz_decompressor_close(&w->coder);
    return MZ_FLOW_CONTINUE;
}

/* ---- headers ---- */

static void set_up(struct state *st)
{
    if (st->ready)
        return;
    struct mz_loop *loop = mz_stream_worker(st->base.stream)->loop;
    mz_timer_init(loop, &st->request.resume, resume_request);
    mz_timer_init(loop, &st->response.resume, resume_response);
    mz_buf_init(&st->request.in);
    mz_buf_init(&st->response.in);
    st->ready = true;
}

static struct mz_str first_of(struct mz_str list, struct mz_str *out_rest)
{
    ptrdiff_t comma = mz_str_chr(list, ',');
    *out_rest = comma < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(list, (size_t)comma + 1));
    return mz_str_trim(comma < 0 ? list : (struct mz_str){ list.p, (size_t)comma });
}

/* Decodes the message if its outermost coding (the first that is named, as Envoy) is ours. */
static void maybe_start(struct state *st, struct way *w, struct mz_headers *h)
{
    const struct decompressor_direction *d = direction_of(st, w);
    struct mz_str codings, rest;
    if (!runtime_flag_on(&d->enabled) || (!d->ignore_no_transform && coding_no_transform(h)) ||
        !mz_headers_joined(h, MZ_STR("content-encoding"), &codings) ||
        !mz_str_ieq(first_of(codings, &rest), cfg_of(st)->lib->encoding)) {
        mz_count(d->scope, DECOMPRESSOR_NOT_DECOMPRESSED, 1);
        return;
    }
    mz_count(d->scope, DECOMPRESSOR_DECOMPRESSED, 1);
    mz_headers_remove_id(h, MZ_H_CONTENT_LENGTH);
    if (rest.n)
        mz_headers_set_id(h, MZ_H_CONTENT_ENCODING, rest);
    else
        mz_headers_remove_id(h, MZ_H_CONTENT_ENCODING);
    set_up(st);
    mz_decompressor_open(&w->coder, cfg_of(st)->lib, cfg_of(st)->errors);
}

/* Our coding once, at the end of what the client accepts. */
static void advertise(struct state *st, struct mz_headers *h)
{
    struct mz_str old = MZ_STR(""), mine = cfg_of(st)->lib->encoding;
    (void)mz_headers_joined(h, MZ_STR("accept-encoding"), &old); /* absent: empty */
    char *text = mz_arena_alloc(mz_stream_arena(st->base.stream), old.n + mine.n + 1);
    size_t n = 0;
    for (struct mz_str rest = old, part; mz_str_split(&rest, ',', &part);) {
        ptrdiff_t semicolon = mz_str_chr(part, ';');
        struct mz_str name = semicolon < 0 ? part : (struct mz_str){ part.p, (size_t)semicolon };
        part = mz_str_trim(part);
        if (!part.n || mz_str_eq(mz_str_trim(name), mine))
            continue;
        memcpy(text + n, part.p, part.n);
        n += part.n;
        text[n++] = ',';
    }
    memcpy(text + n, mine.p, mine.n);
    mz_headers_set_id(h, MZ_H_ACCEPT_ENCODING, (struct mz_str){ text, n + mine.n });
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    const struct decompressor_cfg *c = cfg_of(st);
    if (c->advertise && runtime_flag_on(&c->response.enabled))
        advertise(st, h);
    if (!end)
        maybe_start(st, &st->request, h);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    return on_data(st, &st->request, data, end);
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    struct state *st = (struct state *)(void *)f;
    return on_trailers(st, &st->request, h);
}

/* Another answer may take the place of one that was held. */
static void start_anew(struct state *st)
{
    struct way *w = &st->response;
    if (st->ready) {
        mz_timer_stop(&w->resume);
        mz_buf_fini(&w->in);
    }
    mz_decompressor_close(&w->coder);
    w->held = w->end = w->over = false;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    start_anew(st);
    if (!end)
        maybe_start(st, &st->response, h);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    return on_data(st, &st->response, data, end);
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    struct state *st = (struct state *)(void *)f;
    return on_trailers(st, &st->response, h);
}

static void on_request_resumed(struct mz_filter *f)
{
    way_free(&((struct state *)(void *)f)->request);
}

static void on_below_low(struct mz_filter *f)
{
    way_free(&((struct state *)(void *)f)->response);
}

static void on_destroy(struct mz_filter *f)
{
    struct state *st = (struct state *)(void *)f;
    st->gone = true;
    if (!st->ready)
        return;
    struct way *ways[] = { &st->request, &st->response };
    for (size_t i = 0; i < MZ_COUNT(ways); i++) {
        mz_timer_stop(&ways[i]->resume);
        mz_buf_fini(&ways[i]->in);
        mz_decompressor_close(&ways[i]->coder);
    }
}

const struct mz_http_filter_type mz_filter_decompressor = {
    .name = "envoy.filters.http.decompressor",
    .config_type = "envoy.extensions.filters.http.decompressor.v3.Decompressor",
    .size = sizeof(struct state),
    .config_build = decompressor_config_build,
    .config_destroy = decompressor_config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_downstream_below_low = on_below_low,
    .on_request_resumed = on_request_resumed,
    .on_destroy = on_destroy,
};
