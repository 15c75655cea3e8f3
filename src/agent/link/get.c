/* A small document by HTTP/1. */
#include "agent/link/link.h"
#include "event/loop.h"
#include "router/async.h"

struct mz_link_get {
    struct mz_async *stream;
    struct mz_arena *arena;
    struct mz_buf body;
    size_t max;
    unsigned status;
    struct mz_str type;
    mz_link_done *done;
    void *arg;
    struct mz_loop *loop;
};

static void get_free(void *p)
{
    struct mz_link_get *g = p;
    mz_buf_fini(&g->body);
    mz_arena_destroy(g->arena);
    mz_free(MZ_MEM_MISC, g);
}

/* The stream is gone; @why NULL: what came is whole. */
static void finish(struct mz_link_get *g, const char *why)
{
    const struct mz_link_got got = { .status = why ? 0 : g->status,
                                     .body = why ? (struct mz_str){ 0 }
                                                 : mz_buf_linearize(&g->body, mz_buf_len(&g->body)),
                                     .type = g->type,
                                     .why = why };
    g->stream = NULL;
    g->done(g->arg, &got);
    mz_loop_free_later(g->loop, g, get_free);
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct mz_link_get *g = arg;
    g->status = mz_headers_status(h);
    g->type = mz_arena_dup(g->arena, mz_headers_value_id(h, MZ_H_CONTENT_TYPE));
    if (end)
        finish(g, NULL);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct mz_link_get *g = arg;
    mz_buf_move_all(&g->body, data);
    if (mz_buf_len(&g->body) > g->max) {
        mz_async_cancel(g->stream);
        finish(g, "the answer is too long");
    } else if (end) {
        finish(g, NULL);
    }
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    (void)h;
    finish(arg, NULL);
}

static void on_failed(void *arg, const struct mz_async_failure *f)
{
    struct mz_link_get *g = arg;
    finish(g, mz_arena_dup(g->arena, f->text).p);
}

static const struct mz_async_ops ops = {
    .headers = on_headers, .data = on_data, .trailers = on_trailers, .failed = on_failed
};

static void more_headers(struct mz_headers *h, struct mz_str lines)
{
    struct mz_str line;
    while (mz_str_split(&lines, '\n', &line)) {
        const ptrdiff_t colon = mz_str_chr(line, ':');
        if (colon <= 0)
            continue;
        const struct mz_str name = { line.p, (size_t)colon },
                            value = mz_str_trim(mz_str_skip(line, (size_t)colon + 1));
        if (mz_str_ieq(name, MZ_STR("host")))
            mz_headers_set(h, MZ_STR(":authority"), value);
        else
            mz_headers_add(h, name, value);
    }
}

struct mz_link_get *mz_link_get(struct mz_link *k, const char *name, struct mz_str path,
                                struct mz_str headers, uint64_t timeout_ms, size_t max_bytes,
                                mz_link_done *done, void *arg)
{
    struct mz_link_get *g = mz_alloc0(MZ_MEM_MISC, sizeof(*g));
    const struct mz_async_opts o = { .timeout_ms = timeout_ms,
                                     .no_xff = true,
                                     .no_internal = true };
    struct mz_headers h;
    g->arena = mz_arena_create(MZ_MEM_MISC);
    g->max = max_bytes;
    g->done = done;
    g->arg = arg;
    g->loop = mz_upstream_loop(mz_link_upstream(k));
    mz_buf_init(&g->body);
    mz_headers_init(&h, g->arena);
    mz_headers_add(&h, MZ_STR(":method"), MZ_STR("GET"));
    mz_headers_add(&h, MZ_STR(":scheme"), MZ_STR("http"));
    mz_headers_add(&h, MZ_STR(":path"), path.n ? path : MZ_STR("/"));
    mz_headers_add(&h, MZ_STR(":authority"), MZ_STR("localhost"));
    more_headers(&h, headers);
    g->stream = mz_async_start(mz_link_upstream(k), mz_str_c(name), &h, true, &o, &ops, g);
    return g;
}

void mz_link_get_cancel(struct mz_link_get *g)
{
    if (!g)
        return;
    mz_async_cancel(g->stream);
    mz_loop_free_later(g->loop, g, get_free);
}
