#include "http/h1/h1_priv.h"

#include "base/log.h"

static void goaway(struct mz_codec *c, bool graceful_notice)
{
    struct h1 *h = h1_of(c);
    h->end_announced = true; /* HTTP/1 can only say it with its answers */
    h->going_away = h->going_away || !graceful_notice;
}

static bool wants_to_write(const struct mz_codec *c)
{
    (void)c; /* everything is in the sink's buffer already */
    return false;
}

static void conn_above_high(struct mz_codec *codec)
{
    struct h1 *c = h1_of(codec);
    h1_pause_update(c, &c->above_conn, true);
}

static void conn_below_low(struct mz_codec *codec)
{
    struct h1 *c = h1_of(codec);
    h1_pause_update(c, &c->above_conn, false);
}

static void conn_closed(struct mz_codec *codec, enum mz_reset_reason r)
{
    struct h1 *c = h1_of(codec);
    bool was = c->active;
    struct mz_stream_in in = c->in;
    c->base.must_close = c->req_close = true;
    c->read_off = 0; /* there is no connection left to read from */
    h1_stream_over(c);
    c->state = H1_DEAD;
    if (was && in.ops)
        in.ops->on_reset(in.arg, r, r == MZ_RESET_PROTOCOL_ERROR ? c->base.error.details : NULL);
}

/* Only the connections of a thread that were used last keep their codecs between two messages. */
#if defined(__SANITIZE_ADDRESS__)
enum { IDLE_MAX = 2 }; /* most tests see what comes of it */
#else
enum { IDLE_MAX = 16 };
#endif
static _Thread_local struct {
    struct mz_list first;
    unsigned n;
} idle;

static void idle_add(struct h1 *c)
{
    mz_list_add_tail(&idle.first, &c->idle);
    idle.n++;
}

void h1_idle_end(struct h1 *c)
{
    if (mz_list_empty(&c->idle))
        return;
    mz_list_del(&c->idle);
    idle.n--;
}

void h1_idle_begin(struct h1 *c)
{
    if (c->client || !c->ops->rest || !mz_list_empty(&c->idle))
        return;
    if (!idle.first.next)
        mz_list_init(&idle.first);
    idle_add(c);
    if (idle.n <= IDLE_MAX)
        return;
    struct h1 *oldest = MZ_CONTAINER(idle.first.next, struct h1, idle);
    h1_idle_end(oldest);
    if (!oldest->ops->rest(oldest->arg))
        idle_add(oldest);
}

static void destroy(struct mz_codec *codec)
{
    struct h1 *c = h1_of(codec);
    h1_idle_end(c);
    h1_held_free(c);
    mz_free(MZ_MEM_CONN, c);
}

static const struct mz_codec_ops codec_ops = {
    .dispatch = h1_dispatch,
    .goaway = goaway,
    .wants_to_write = wants_to_write,
    .conn_above_high = conn_above_high,
    .conn_below_low = conn_below_low,
    .conn_closed = conn_closed,
    .destroy = destroy,
};

static struct h1 *create(const struct mz_http1_opts *o, const struct mz_http1_stats *st,
                         const struct mz_codec_sink *sink)
{
    struct h1 *c = mz_new0(MZ_MEM_CONN, struct h1);
    mz_list_init(&c->idle);
    c->base.ops = &codec_ops;
    c->base.protocol = MZ_HTTP11;
    c->o = o;
    c->stats = *st;
    c->sink = *sink;
    return c;
}

struct mz_codec *mz_http1_server_create(const struct mz_http1_opts *o,
                                        const struct mz_http1_stats *st,
                                        const struct mz_codec_sink *sink,
                                        const struct mz_codec_server_ops *ops, void *arg)
{
    struct h1 *c = create(o, st, sink);
    c->ops = ops;
    c->arg = arg;
    return &c->base;
}

struct mz_codec *mz_http1_client_create(const struct mz_http1_opts *o,
                                        const struct mz_http1_stats *st,
                                        const struct mz_codec_sink *sink)
{
    struct h1 *c = create(o, st, sink);
    c->client = true;
    return &c->base;
}

struct mz_stream_enc *mz_http1_client_request(struct mz_codec *codec, const struct mz_stream_in *in)
{
    struct h1 *c = h1_of(codec);
    MZ_ASSERT(!c->active && !c->base.must_close);
    h1_stream_begin(c);
    c->state = H1_START;
    c->base.inside = false;
    c->in = *in;
    return &c->enc;
}
