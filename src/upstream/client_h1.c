/* One HTTP/1 connection of a pool (U3): connects, carries one stream at a time, rests, ends. */
#include "upstream/pool_priv.h"

static void client_end_stream(struct client *c);

void client_move(struct client *c, enum client_state to)
{
    struct pool *p = c->pool;
    mz_list_del(&c->link);
    p->n[c->state]--;
    c->state = to;
    p->n[to]++;
    if (to == CLIENT_RESTING)
        mz_list_add_tail(&p->clients[to], &c->link); /* in order of release */
    else
        mz_list_add_head(&p->clients[to], &c->link); /* the one used last is used first */
}

void client_close(struct client *c, const char *reason)
{
    if (c->conn)
        mz_conn_close(c->conn, MZ_CLOSE_NOW, reason, 0);
}

/* ---- streams: ours stand before the user's callbacks and before the codec's encoder, to see both ends ---- */
static void copy_wire(struct client *c)
{
    const struct mz_stream_enc *i = c->inner;
    c->enc.wire_in = i->wire_in;
    c->enc.wire_out = i->wire_out;
    c->enc.header_in = i->header_in;
    c->enc.header_out = i->header_out;
}

/* The answer is whole; bytes behind it belong to nothing (F02). */
static void answer_ends(struct client *c)
{
    c->answer_done = true;
    if (c->conn && mz_buf_len(mz_conn_in(c->conn)) && !c->last) {
        mz_count(pool_scope(c->pool), MZ_CS_CX_PROTOCOL_ERROR, 1);
        c->last = c->extra_bytes = true;
    }
}

/* An answer before the end of its request: no further use (A23); waits for the request's end or reset. */
static void check_end(struct client *c)
{
    if (c->answer_done && !c->request_done)
        c->last = true;
    if (c->active && c->answer_done && c->request_done)
        client_end_stream(c);
}

static void in_1xx(void *arg, struct mz_headers *h)
{
    struct client *c = arg;
    copy_wire(c);
    c->user.ops->on_1xx(c->user.arg, h);
}

static bool says_close(const struct mz_headers *h)
{
    struct mz_str v = mz_headers_value_id(h, MZ_H_CONNECTION), part;
    while (mz_str_split(&v, ',', &part))
        if (mz_str_ieq(mz_str_trim(part), MZ_STR("close")))
            return true;
    return false;
}

static void in_headers(void *arg, struct mz_headers *h, bool end)
{
    struct client *c = arg;
    copy_wire(c);
    if (says_close(h)) {
        c->last = true;
        mz_count(pool_scope(c->pool), MZ_CS_CX_CLOSE_NOTIFY, 1);
    }
    if (end)
        answer_ends(c);
    c->user.ops->on_headers(c->user.arg, h, end);
    check_end(c);
}

static void in_data(void *arg, struct mz_buf *data, bool end)
{
    struct client *c = arg;
    copy_wire(c);
    if (end)
        answer_ends(c);
    c->user.ops->on_data(c->user.arg, data, end);
    check_end(c);
}

static void in_trailers(void *arg, struct mz_headers *h)
{
    struct client *c = arg;
    copy_wire(c);
    answer_ends(c);
    c->user.ops->on_trailers(c->user.arg, h);
    check_end(c);
}

static void in_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct client *c = arg;
    if (!c->active)
        return;
    c->last = true;
    c->stream_lost = true;
    struct mz_stream_in user = c->user;
    client_end_stream(c);
    user.ops->on_reset(user.arg, r, details);
}

static void in_above_high(void *arg)
{
    struct client *c = arg;
    if (c->user.ops->on_above_high)
        c->user.ops->on_above_high(c->user.arg);
}

static void in_below_low(void *arg)
{
    struct client *c = arg;
    if (c->user.ops->on_below_low)
        c->user.ops->on_below_low(c->user.arg);
}

static const struct mz_stream_in_ops in_ops = { .on_1xx = in_1xx,
                                                .on_headers = in_headers,
                                                .on_data = in_data,
                                                .on_trailers = in_trailers,
                                                .on_reset = in_reset,
                                                .on_above_high = in_above_high,
                                                .on_below_low = in_below_low };

static struct client *client_of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct client, enc);
}

static void request_part(struct client *c, bool end)
{
    copy_wire(c);
    c->request_done = c->request_done || end;
    check_end(c);
}

static void enc_1xx(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct client *c = client_of(e);
    if (c->active)
        c->inner->ops->encode_1xx(c->inner, h);
}

static void enc_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    struct client *c = client_of(e);
    if (!c->active)
        return;
    c->inner->ops->encode_headers(c->inner, h, end);
    request_part(c, end);
}

static void enc_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct client *c = client_of(e);
    if (!c->active || c->answer_done) { /* nobody reads the rest of a request that has its answer */
        mz_buf_drain(data, mz_buf_len(data));
        if (c->active)
            request_part(c, end);
        return;
    }
    c->inner->ops->encode_data(c->inner, data, end);
    request_part(c, end);
}

static void enc_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct client *c = client_of(e);
    if (!c->active)
        return;
    if (!c->answer_done)
        c->inner->ops->encode_trailers(c->inner, h);
    request_part(c, true);
}

static void enc_reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    struct client *c = client_of(e);
    if (!c->active)
        return;
    c->inner->ops->reset(c->inner, r);
    c->last = true;
    c->user.ops = NULL; /* silent from here; still active for the counters of its end */
    client_close(c, "reset");
}

static void enc_read_disable(struct mz_stream_enc *e, bool disable)
{
    struct client *c = client_of(e);
    if (c->active)
        c->inner->ops->read_disable(c->inner, disable);
}

static bool enc_above_high(const struct mz_stream_enc *e)
{
    const struct client *c =
        (const struct client *)(const void *)((const char *)e - offsetof(struct client, enc));
    return c->active && c->inner->ops->above_high(c->inner);
}

static const struct mz_stream_enc_ops enc_ops = { .encode_1xx = enc_1xx,
                                                  .encode_headers = enc_headers,
                                                  .encode_data = enc_data,
                                                  .encode_trailers = enc_trailers,
                                                  .reset = enc_reset,
                                                  .read_disable = enc_read_disable,
                                                  .above_high = enc_above_high };

static void release(struct client *c)
{
    struct mz_cluster *cl = c->pool->w->cluster;
    if (!c->conn)
        return;
    /* Envoy counts a connection that its answer ends as closed with the request active, one at its limit not. */
    c->stream_lost = c->stream_lost || (c->codec->must_close && !c->extra_bytes);
    if (c->last || c->codec->must_close || c->pool->gone) {
        client_close(c, "no_reuse");
    } else {
        c->released_us = mz_loop_now_us(c->pool->w->loop);
        client_move(c, CLIENT_RESTING);
        if (cl->idle_timeout_ms)
            mz_timer_start_ms(&c->timer, cl->idle_timeout_ms);
        pool_client_resting(c->pool);
    }
}

static void client_end_stream(struct client *c)
{
    struct pool *p = c->pool;
    c->active = false;
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_ACTIVE, -1);
    host_add(&p->host->stats.rq_active, -1);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_RQ);
    if (!c->dispatching)
        release(c);
}

static void count_request(struct client *c)
{
    struct pool *p = c->pool;
    uint32_t max = p->w->cluster->max_requests_per_connection;
    c->requests++;
    if (max && c->requests >= max) {
        c->last = true;
        mz_count(pool_scope(p), MZ_CS_CX_MAX_REQUESTS, 1);
    }
    mz_count(pool_scope(p), MZ_CS_RQ_TOTAL, 1);
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_ACTIVE, 1);
    host_add(&p->host->stats.rq_total, 1);
    host_add(&p->host->stats.rq_active, 1);
}

void client_attach(struct client *c, const struct mz_pool_opts *o, const struct mz_stream_in *in,
                   const struct mz_pool_ops *ops, void *arg)
{
    struct pool *p = c->pool;
    if (!mz_circuit_take(p->w->cluster, p->prio, MZ_CIRCUIT_RQ)) {
        mz_count(pool_scope(p), MZ_CS_RQ_ACTIVE_OVERFLOW, 1);
        ops->failed(arg, MZ_POOL_OVERFLOW, MZ_STR(""), 0, p->host);
        return;
    }
    client_move(c, CLIENT_BUSY);
    count_request(c);
    c->last = c->last || o->upgrade;
    c->active = true;
    c->request_done = c->answer_done = c->got_bytes = false;
    c->user = *in;
    c->in = (struct mz_stream_in){ &in_ops, c, in->arena };
    c->inner = mz_http1_client_request(c->codec, &c->in);
    c->enc = (struct mz_stream_enc){ .ops = &enc_ops, .id = c->inner->id };
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "creating stream");
    uint64_t now = mz_loop_now_us(p->w->loop);
    const struct mz_pool_ready r = { .enc = &c->enc,
                                     .host = p->host,
                                     .local = &c->conn->local,
                                     .conn_id = c->conn->id,
                                     .protocol = MZ_HTTP11,
                                     .reused = c->requests > 1,
                                     .conn_age_us = now - c->connected_us,
                                     .conn_requests = c->requests - 1,
                                     .connect_start_us = c->start_us,
                                     .connect_us = c->connected_us };
    ops->ready(arg, &r);
}

/* ---- the connection ---- */
static void client_data(struct mz_conn *conn, void *arg, bool end)
{
    struct client *c = arg;
    struct mz_buf *in = mz_conn_in(conn);
    bool was_active = c->active;
    if (!was_active && !mz_buf_len(in))
        return; /* the end of an idle connection: its event follows */
    c->got_bytes = c->got_bytes || mz_buf_len(in);
    c->dispatching = true;
    enum mz_codec_status st =
        was_active ? c->codec->ops->dispatch(c->codec, in, end) : MZ_CODEC_PREMATURE;
    c->dispatching = false;
    if (!c->conn)
        return;
    if (st != MZ_CODEC_OK) {
        mz_count(pool_scope(c->pool), MZ_CS_CX_PROTOCOL_ERROR, 1);
        c->protocol_error = true;
        c->dispatching = true;
        c->codec->ops->conn_closed(c->codec, MZ_RESET_PROTOCOL_ERROR);
        c->dispatching = false;
        if (c->conn && !end) /* the peer's own end follows by itself, and counts as its */
            client_close(c, st == MZ_CODEC_PREMATURE ? "premature_answer" : "codec_error");
    } else if (was_active && !c->active && !end) {
        release(c);
    }
}

static void codec_written(void *arg)
{
    struct client *c = arg;
    if (c->conn)
        mz_conn_written(c->conn, false);
}

static void codec_read_disable(void *arg, bool disable)
{
    struct client *c = arg;
    if (c->conn)
        mz_conn_read_disable(c->conn, disable);
}

static void life_over(struct mz_timer *t)
{
    struct client *c = MZ_CONTAINER(t, struct client, life);
    mz_count(pool_scope(c->pool), MZ_CS_CX_MAX_DURATION_REACHED, 1);
    c->last = true;
    if (!c->active)
        client_close(c, "max_connection_duration");
}

static void client_connected(struct client *c)
{
    struct pool *p = c->pool;
    struct mz_cluster *cl = p->w->cluster;
    c->connected = true;
    c->connected_us = mz_loop_now_us(p->w->loop);
    mz_hist_record(cl->scope, MZ_CS_CX_CONNECT_MS, (c->connected_us - c->start_us) / 1000);
    const struct mz_codec_sink sink = { mz_conn_out(c->conn), codec_written, codec_read_disable,
                                        c };
    c->codec = mz_http1_client_create(&cl->http1, wcluster_http1_stats(p->w), &sink);
    mz_timer_stop(&c->timer);
    if (cl->idle_timeout_ms)
        mz_timer_start_ms(&c->timer, cl->idle_timeout_ms);
    if (cl->max_connection_duration_ms)
        mz_timer_start_ms(&c->life, cl->max_connection_duration_ms);
    client_move(c, CLIENT_READY);
    pool_client_ready(p);
}

static void client_free(void *arg)
{
    struct client *c = arg;
    if (c->codec)
        c->codec->ops->destroy(c->codec);
    mz_free(MZ_MEM_CONN, c);
}

static void tell_failure(struct client *c, bool remote, int err)
{
    struct pool *p = c->pool;
    char text[128];
    mz_count(pool_scope(p), MZ_CS_CX_CONNECT_FAIL, 1);
    host_add(&p->host->stats.cx_connect_fail, 1);
    enum mz_pool_failure why = c->timed_out ? MZ_POOL_CONNECT_TIMEOUT
                               : remote     ? MZ_POOL_REMOTE_CONNECT_FAIL
                                            : MZ_POOL_LOCAL_CONNECT_FAIL;
    pool_connect_failed(
        p, why, mz_str_c(c->timed_out ? "" : cx_error_text(err, c->immediate_error, text)), err);
}

static void client_closed(struct client *c, bool remote)
{
    struct pool *p = c->pool;
    int err = c->conn->error;
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "client disconnected, %s, reason: %s",
               remote ? "remote" : "local",
               err                     ? strerrordesc_np(err)
               : c->conn->close_reason ? c->conn->close_reason
                                       : "");
    const struct cx_end e = { c->start_us, remote, c->active || c->stream_lost };
    pool_ref(p);
    if (remote && c->active && c->user.ops && c->got_bytes) { /* a reset inside the answer */
        mz_count(pool_scope(p), MZ_CS_CX_PROTOCOL_ERROR, 1);
        c->protocol_error = true;
    }
    c->conn = NULL;
    mz_timer_stop(&c->timer);
    mz_timer_stop(&c->life);
    mz_list_del(&c->link);
    mz_list_init(&c->link);
    p->n[c->state]--;
    c->state = CLIENT_CLOSED;
    p->n[CLIENT_CLOSED]++;
    cx_ended(p, &e);
    if (c->requests)
        mz_hist_record(pool_scope(p), MZ_CS_RQ_PER_CX, c->requests);
    if (c->active && !c->user.ops)
        client_end_stream(c);
    else if (c->active)
        c->codec->ops->conn_closed(c->codec, c->protocol_error ? MZ_RESET_PROTOCOL_ERROR
                                                               : MZ_RESET_CONN_TERMINATED);
    if (!c->connected)
        tell_failure(c, remote, err);
    pool_client_gone(p);
    p->n[CLIENT_CLOSED]--;
    mz_loop_free_later(p->w->loop, c, client_free);
    pool_unref(p); /* the client's */
    pool_unref(p);
}

static void client_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    (void)conn;
    struct client *c = arg;
    if (ev == MZ_CONN_CONNECTED)
        client_connected(c);
    else
        client_closed(c, ev == MZ_CONN_REMOTE_CLOSE);
}

static void client_above_high(struct mz_conn *conn, void *arg)
{
    (void)conn;
    struct client *c = arg;
    if (c->codec)
        c->codec->ops->conn_above_high(c->codec);
}

static void client_below_low(struct mz_conn *conn, void *arg)
{
    (void)conn;
    struct client *c = arg;
    if (c->codec)
        c->codec->ops->conn_below_low(c->codec);
}

static const struct mz_conn_ops conn_ops = { .data = client_data,
                                             .event = client_event,
                                             .above_high = client_above_high,
                                             .below_low = client_below_low };

static void timer_fired(struct mz_timer *t)
{
    struct client *c = MZ_CONTAINER(t, struct client, timer);
    if (!c->connected) {
        c->timed_out = true;
        mz_count(pool_scope(c->pool), MZ_CS_CX_CONNECT_TIMEOUT, 1);
        client_close(c, "connect_timeout");
    } else if (!c->active) {
        mz_count(pool_scope(c->pool), MZ_CS_CX_IDLE_TIMEOUT, 1);
        client_close(c, "idle_timeout");
    }
}

void client_create(struct pool *p)
{
    struct mz_loop *l = p->w->loop;
    struct client *c = mz_new0(MZ_MEM_CONN, struct client);
    c->pool = p;
    pool_ref(p);
    c->state = CLIENT_CONNECTING;
    p->n[CLIENT_CONNECTING]++;
    mz_list_add_head(&p->clients[CLIENT_CONNECTING], &c->link);
    mz_timer_init(l, &c->timer, timer_fired);
    mz_timer_init(l, &c->life, life_over);
    c->start_us = mz_loop_now_us(l);
    cx_begin(p, true);
    c->conn = cx_connect(p, &conn_ops, c);
    c->immediate_error = c->conn->error != 0;
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "creating a new connection to %.*s (connecting=%u)",
               p->host->addr_text_n, p->host->addr_text, p->n[CLIENT_CONNECTING]);
    mz_timer_start_ms(&c->timer, p->w->cluster->connect_timeout_ms);
}
