#include "router/router_priv.h"

/*
 * CONNECT that ends here (connect_config): the request's body is a TCP connection's input and what comes from it is the
 * answer's body. Stands where a stream of an HTTP pool would: attempt.c drives it through the same encoder functions.
 */

struct tunnel {
    struct mz_stream_enc enc;
    struct mz_stream_in in;
    struct mz_wcluster *wcluster;
    struct mz_host *host; /* both referenced */
    struct mz_loop *loop;
    enum mz_priority priority;
    struct mz_tcp_pending *pending;
    struct mz_conn *conn;
    struct mz_task answer; /* the 200, once the connection stands and the request was given */
    const struct mz_pool_ops *ops;
    void *arg;
    bool in_end, out_end, over; /* over: neither side calls any more */
};

static struct tunnel *tunnel_of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct tunnel, enc);
}

static void tunnel_free(void *p)
{
    struct tunnel *t = p;
    mz_host_unref(t->host);
    mz_wcluster_unref(t->wcluster);
    mz_free(MZ_MEM_CONN, t);
}

/* ---- the connection ---- */

static void finish_when_done(struct tunnel *t)
{
    if (!t->in_end || !t->out_end || t->over)
        return;
    t->over = true;
    mz_conn_close(t->conn, MZ_CLOSE_FLUSH, NULL, 0);
}

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    struct tunnel *t = arg;
    struct mz_buf data;
    if (t->over || t->in_end) {
        mz_buf_drain(mz_conn_in(c), mz_buf_len(mz_conn_in(c)));
        return;
    }
    if (mz_buf_len(mz_conn_in(c)) == 0 && !end)
        return;
    mz_buf_init(&data);
    mz_buf_move_all(&data, mz_conn_in(c));
    t->enc.wire_in += mz_buf_len(&data);
    t->in_end = end;
    t->in.ops->on_data(t->in.arg, &data, end);
    mz_buf_fini(&data);
    finish_when_done(t);
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct tunnel *t = arg;
    if (ev == MZ_CONN_CONNECTED)
        return;
    bool tell = !t->over;
    t->over = true;
    mz_task_cancel(&t->answer);
    mz_tcp_pool_closed(t->wcluster, t->host, t->priority, c, ev == MZ_CONN_LOCAL_CLOSE);
    t->conn = NULL;
    mz_loop_free_later(t->loop, t, tunnel_free);
    if (tell)
        t->in.ops->on_reset(t->in.arg, MZ_RESET_CONN_TERMINATED, NULL);
}

static void on_above(struct mz_conn *c, void *arg)
{
    struct tunnel *t = arg;
    (void)c;
    if (!t->over)
        t->in.ops->on_above_high(t->in.arg);
}

static void on_below(struct mz_conn *c, void *arg)
{
    struct tunnel *t = arg;
    (void)c;
    if (!t->over)
        t->in.ops->on_below_low(t->in.arg);
}

static const struct mz_conn_ops conn_ops = {
    .data = on_data, .event = on_event, .above_high = on_above, .below_low = on_below
};

/* ---- the request ---- */

static void on_answer(struct mz_task *task)
{
    struct tunnel *t = MZ_CONTAINER(task, struct tunnel, answer);
    struct mz_headers *h = mz_headers_create(t->in.arena);
    mz_headers_set_status(h, 200);
    mz_conn_read_disable(t->conn, false);
    t->in.ops->on_headers(t->in.arg, h, false);
}

static void write_bytes(struct tunnel *t, struct mz_buf *data, bool end)
{
    t->enc.wire_out += mz_buf_len(data);
    t->out_end |= end;
    mz_conn_write(t->conn, data, end);
    finish_when_done(t);
}

static void encode_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    struct tunnel *t = tunnel_of(e);
    struct mz_buf none;
    (void)h; /* a TCP peer knows no headers */
    mz_task_schedule(t->loop, &t->answer);
    mz_buf_init(&none);
    if (end)
        write_bytes(t, &none, true);
}

static void encode_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct tunnel *t = tunnel_of(e);
    if (t->over || t->out_end)
        mz_buf_drain(data, mz_buf_len(data));
    else
        write_bytes(t, data, end);
}

static void encode_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct mz_buf none;
    (void)h;
    mz_buf_init(&none);
    encode_data(e, &none, true);
}

static void reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    struct tunnel *t = tunnel_of(e);
    (void)r;
    if (t->over)
        return;
    t->over = true;
    mz_task_cancel(&t->answer);
    mz_conn_close(t->conn, MZ_CLOSE_NOW, NULL, 0);
}

static void read_disable(struct mz_stream_enc *e, bool disable)
{
    struct tunnel *t = tunnel_of(e);
    if (!t->over)
        mz_conn_read_disable(t->conn, disable);
}

static bool above_high(const struct mz_stream_enc *e)
{
    const struct tunnel *t =
        (const struct tunnel *)(const void *)((const char *)e - offsetof(struct tunnel, enc));
    return t->conn && mz_conn_above_high(t->conn);
}

static const struct mz_stream_enc_ops enc_ops = {
    .encode_headers = encode_headers,
    .encode_data = encode_data,
    .encode_trailers = encode_trailers,
    .reset = reset,
    .read_disable = read_disable,
    .above_high = above_high,
};

/* ---- the connection's beginning ---- */

static void on_ready(void *arg, const struct mz_tcp_ready *r)
{
    struct tunnel *t = arg;
    t->pending = NULL;
    t->conn = r->conn;
    mz_conn_set_ops(t->conn, &conn_ops, t);
    mz_conn_set_half_close(t->conn, true);
    mz_conn_read_disable(t->conn, true); /* until the answer's head has gone out */
    const struct mz_pool_ready p = { .enc = &t->enc,
                                     .host = r->host,
                                     .local = &t->conn->local,
                                     .remote = &t->conn->remote,
                                     .conn = t->conn,
                                     .conn_id = t->conn->id,
                                     .protocol = MZ_HTTP11,
                                     .connect_start_us = r->connect_start_us,
                                     .connect_us = r->connect_us };
    t->ops->ready(t->arg, &p);
}

static void on_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure, int err,
                      struct mz_host *host)
{
    struct tunnel *t = arg;
    t->pending = NULL;
    t->over = true;
    mz_loop_free_later(t->loop, t, tunnel_free);
    t->ops->failed(t->arg, why, transport_failure, err, host);
}

static const struct mz_tcp_pool_ops tcp_ops = { on_ready, on_failed };

struct tunnel *tunnel_start(struct mz_wcluster *w, struct mz_host *host,
                            const struct mz_pool_opts *o, struct mz_loop *loop,
                            const struct mz_stream_in *in, const struct mz_pool_ops *ops, void *arg)
{
    struct tunnel *t = mz_new0(MZ_MEM_CONN, struct tunnel);
    t->enc.ops = &enc_ops;
    t->in = *in;
    mz_wcluster_ref(w);
    t->wcluster = w;
    t->host = mz_host_ref(host);
    t->loop = loop;
    t->priority = o->priority;
    t->ops = ops;
    t->arg = arg;
    mz_task_init(&t->answer, on_answer);
    t->pending = mz_tcp_pool_connect(w, host, o->priority, o->transport, &tcp_ops, t);
    return t->pending ? t : NULL;
}

void tunnel_cancel(struct tunnel *t)
{
    mz_tcp_pool_cancel(t->pending);
    t->pending = NULL;
    t->over = true;
    mz_loop_free_later(t->loop, t, tunnel_free);
}
