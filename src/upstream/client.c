/* One connection of a pool (U3): connects, carries streams, rests, ends. */
#include "upstream/pool_priv.h"

#define TUNNEL_FLUSH_MS 10000 /* that the peer may take none of a tunnel's last bytes */

/* ---- where it stands in its pool ---- */
/* How many streams more it would take; of HTTP/2 not all at once before the peer's settings came. */
static uint32_t room(const struct client *c)
{
    uint32_t now = c->limit > c->n_streams ? c->limit - c->n_streams : 0;
    return c->last ? 0 : now < c->left ? now : c->left;
}

static bool held_back(const struct client *c)
{
    return c->type->before_settings && !c->greeted && c->n_streams >= c->type->before_settings;
}

static bool takes(const struct client *c)
{
    return room(c) && !held_back(c);
}

static uint64_t *room_of(const struct client *c)
{
    struct pool *p = c->pool;
    switch (c->state) {
    case CLIENT_CONNECTING:
        return &p->room_connecting;
    case CLIENT_READY:
    case CLIENT_RESTING:
        return &p->room_ready;
    case CLIENT_BUSY: /* it will take more as soon as its peer has spoken */
        return held_back(c) ? &p->room_connecting : NULL;
    default:
        return NULL;
    }
}

/* The sums of its pool and cluster follow what it takes now. */
static void count_room(struct client *c)
{
    uint64_t *cluster_sum = &c->pool->w->room;
    if (c->counted_in)
        *c->counted_in -= c->counted;
    *cluster_sum -= c->counted;
    c->counted_in = room_of(c);
    c->counted = c->counted_in ? room(c) : 0;
    if (c->counted_in)
        *c->counted_in += c->counted;
    *cluster_sum += c->counted;
}

void client_move(struct client *c, enum client_state to)
{
    struct pool *p = c->pool;
    mz_list_del(&c->link);
    p->n[c->state]--;
    c->state = to;
    p->n[to]++;
    count_room(c);
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

void client_drain(struct client *c, const char *reason)
{
    c->last = true;
    if (!c->n_streams) {
        client_close(c, reason);
        return;
    }
    if (c->state == CLIENT_BUSY)
        return;
    client_move(c, CLIENT_BUSY);
    pool_room_lost(c->pool);
}

/* Without streams: closes or rests. */
static void idle(struct client *c)
{
    struct mz_cluster *cl = c->pool->w->cluster;
    if (c->last || c->codec->must_close || c->pool->gone) {
        if (c->tunnelled && c->conn) /* its last bytes may still wait */
            mz_conn_close(c->conn, MZ_CLOSE_FLUSH, "no_reuse", TUNNEL_FLUSH_MS);
        else
            client_close(c, "no_reuse");
        return;
    }
    if (!room(c)) { /* the peer allows none at the moment */
        client_move(c, CLIENT_BUSY);
    } else if (c->state == CLIENT_BUSY || c->state == CLIENT_READY) {
        c->released_us = mz_loop_now_us(c->pool->w->loop);
        client_move(c, CLIENT_RESTING);
        pool_client_resting(c->pool);
    } else {
        count_room(c);
    }
    if (cl->idle_timeout_ms)
        mz_timer_start_ms(&c->timer, cl->idle_timeout_ms);
}

void client_settle(struct client *c)
{
    struct pool *p = c->pool;
    if (!c->conn)
        return;
    if (c->dispatching) { /* only that nobody is sent to it */
        c->unsettled = true;
        if (!takes(c) && (c->state == CLIENT_READY || c->state == CLIENT_RESTING))
            client_move(c, CLIENT_BUSY);
        return;
    }
    c->unsettled = false;
    if (!c->n_streams) {
        idle(c);
    } else if (!takes(c)) {
        if (c->state != CLIENT_BUSY)
            client_move(c, CLIENT_BUSY);
    } else if (c->state == CLIENT_BUSY) {
        client_move(c, CLIENT_READY);
        pool_client_ready(p);
        return;
    } else {
        count_room(c);
    }
    if (p->n_waiting > p->room_ready)
        pool_room_lost(p);
}

/* ---- streams: ours stand before the user's callbacks and before the codec's encoder, to see both ends ---- */
static void copy_wire(struct client_stream *s)
{
    const struct mz_stream_enc *i = s->inner;
    s->enc.wire_in = i->wire_in;
    s->enc.wire_out = i->wire_out;
    s->enc.wire_came = i->wire_came;
    s->enc.header_in = i->header_in;
    s->enc.header_out = i->header_out;
}

/* Neither side hears of it any more. */
static void let_go(struct client_stream *s)
{
    struct client *c = s->client;
    struct pool *p = c->pool;
    s->ended = true;
    mz_list_del(&s->link);
    c->n_streams--;
    p->n_active--;
    p->w->n_active--;
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_ACTIVE, -1);
    host_add(&p->host->stats.rq_active, -1);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_RQ);
}

static void end_stream(struct client_stream *s)
{
    let_go(s);
    client_settle(s->client);
}

static void answer_ends(struct client_stream *s)
{
    s->answer_done = true;
    if (s->client->type->answer_ends)
        s->client->type->answer_ends(s->client);
}

/*
 * An answer before the end of its request (A23): an HTTP/1 connection has no further use, but waits for the request's end
 * or reset; of HTTP/2 only the stream ends, since nobody will read the rest.
 */
static void check_end(struct client_stream *s)
{
    struct client *c = s->client;
    if (s->ended || !s->answer_done)
        return;
    if (!s->request_done && c->type->multiplex) {
        s->inner->ops->reset(s->inner, MZ_RESET_LOCAL);
        s->request_done = true;
    }
    if (s->request_done)
        end_stream(s);
    else
        c->last = true;
}

static void in_1xx(void *arg, struct mz_headers *h)
{
    struct client_stream *s = arg;
    copy_wire(s);
    s->user.ops->on_1xx(s->user.arg, h);
}

static void in_headers(void *arg, struct mz_headers *h, bool end)
{
    struct client_stream *s = arg;
    copy_wire(s);
    if (s->client->type->answer_headers)
        s->client->type->answer_headers(s->client, h);
    unsigned status = mz_headers_status(h);
    s->tunnel = !end && ((s->upgrade && status == 101) || (s->connect && status / 100 == 2));
    if (s->tunnel) { /* its end is not ours */
        s->client->tunnelled = true;
        mz_conn_set_half_close(s->client->conn, true);
    }
    if (end)
        answer_ends(s);
    s->user.ops->on_headers(s->user.arg, h, end);
    check_end(s);
}

static void in_data(void *arg, struct mz_buf *data, bool end)
{
    struct client_stream *s = arg;
    copy_wire(s);
    if (end)
        answer_ends(s);
    s->user.ops->on_data(s->user.arg, data, end);
    check_end(s);
}

static void in_trailers(void *arg, struct mz_headers *h)
{
    struct client_stream *s = arg;
    copy_wire(s);
    answer_ends(s);
    s->user.ops->on_trailers(s->user.arg, h);
    check_end(s);
}

static void in_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct client_stream *s = arg;
    struct client *c = s->client;
    if (s->ended)
        return;
    copy_wire(s);
    if (!c->type->multiplex)
        c->last = c->stream_lost = true;
    if (c->type->reset)
        c->type->reset(c, r);
    struct mz_stream_in user = s->user;
    end_stream(s);
    user.ops->on_reset(user.arg, r, details);
}

static void in_above_high(void *arg)
{
    struct client_stream *s = arg;
    if (s->user.ops->on_above_high)
        s->user.ops->on_above_high(s->user.arg);
}

static void in_below_low(void *arg)
{
    struct client_stream *s = arg;
    if (s->user.ops->on_below_low)
        s->user.ops->on_below_low(s->user.arg);
}

static const struct mz_stream_in_ops in_ops = { .on_1xx = in_1xx,
                                                .on_headers = in_headers,
                                                .on_data = in_data,
                                                .on_trailers = in_trailers,
                                                .on_reset = in_reset,
                                                .on_above_high = in_above_high,
                                                .on_below_low = in_below_low };

static struct client_stream *stream_of(struct mz_stream_enc *e)
{
    return MZ_CONTAINER(e, struct client_stream, enc);
}

static void request_part(struct client_stream *s, bool end)
{
    copy_wire(s);
    s->request_done = s->request_done || end;
    check_end(s);
}

static void enc_headers(struct mz_stream_enc *e, struct mz_headers *h, bool end)
{
    struct client_stream *s = stream_of(e);
    if (s->ended)
        return;
    s->connect = s->upgrade && mz_str_eq(mz_headers_value_id(h, MZ_H_METHOD), MZ_STR("CONNECT"));
    s->inner->ops->encode_headers(s->inner, h, end);
    request_part(s, end);
}

/* A tunnel over HTTP/1 has no framing: what we have said ends with our side of the connection. */
static void end_of_tunnel(struct client_stream *s)
{
    mz_conn_written(s->client->conn, true);
}

static void enc_data(struct mz_stream_enc *e, struct mz_buf *data, bool end)
{
    struct client_stream *s = stream_of(e);
    if (s->ended ||
        (s->answer_done && !s->tunnel)) /* nobody reads the rest of a request that has its answer */
        mz_buf_drain(data, mz_buf_len(data));
    else
        s->inner->ops->encode_data(s->inner, data, end);
    if (!s->ended && end && s->tunnel && s->client->conn)
        end_of_tunnel(s);
    if (!s->ended)
        request_part(s, end);
}

static void enc_trailers(struct mz_stream_enc *e, struct mz_headers *h)
{
    struct client_stream *s = stream_of(e);
    if (s->ended)
        return;
    if (!s->answer_done)
        s->inner->ops->encode_trailers(s->inner, h);
    request_part(s, true);
}

static void enc_reset(struct mz_stream_enc *e, enum mz_reset_reason r)
{
    struct client_stream *s = stream_of(e);
    struct client *c = s->client;
    if (s->ended)
        return;
    s->inner->ops->reset(s->inner, r);
    copy_wire(s);
    if (c->type->reset)
        c->type->reset(c, r);
    if (c->type->multiplex) {
        end_stream(s);
        return;
    }
    c->last = c->stream_lost = true; /* HTTP/1 can end a message only so */
    let_go(s);
    client_close(c, "reset");
}

static void enc_read_disable(struct mz_stream_enc *e, bool disable)
{
    struct client_stream *s = stream_of(e);
    if (!s->ended)
        s->inner->ops->read_disable(s->inner, disable);
}

static bool enc_above_high(const struct mz_stream_enc *e)
{
    const struct client_stream *s =
        (const struct client_stream *)(const void *)((const char *)e -
                                                     offsetof(struct client_stream, enc));
    return !s->ended && s->inner->ops->above_high(s->inner);
}

static const struct mz_stream_enc_ops enc_ops = { .encode_headers = enc_headers,
                                                  .encode_data = enc_data,
                                                  .encode_trailers = enc_trailers,
                                                  .reset = enc_reset,
                                                  .read_disable = enc_read_disable,
                                                  .above_high = enc_above_high };

static void count_request(struct client *c)
{
    struct pool *p = c->pool;
    c->requests++;
    c->n_streams++;
    p->n_active++;
    p->w->n_active++;
    if (--c->left == 0) {
        c->last = true;
        mz_count(pool_scope(p), MZ_CS_CX_MAX_REQUESTS, 1);
    }
    mz_count(pool_scope(p), MZ_CS_RQ_TOTAL, 1);
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_ACTIVE, 1);
    host_add(&p->host->stats.rq_total, 1);
    host_add(&p->host->stats.rq_active, 1);
}

static struct client_stream *stream_create(struct client *c, const struct mz_stream_in *in)
{
    struct client_stream *s = mz_arena_new0(in->arena, struct client_stream);
    s->client = c;
    s->user = *in;
    s->in = (struct mz_stream_in){ &in_ops, s, in->arena };
    s->inner = c->type->request(c, &s->in);
    if (!s->inner)
        return NULL;
    s->enc = (struct mz_stream_enc){ .ops = &enc_ops, .id = s->inner->id };
    mz_list_add_tail(&c->streams, &s->link);
    return s;
}

static void attach_failed(struct client *c, const struct mz_pool_ops *ops, void *arg,
                          enum mz_pool_failure why)
{
    ops->failed(arg, why, MZ_STR(""), 0, c->pool->host);
}

void client_attach(struct client *c, const struct mz_pool_opts *o, const struct mz_stream_in *in,
                   const struct mz_pool_ops *ops, void *arg)
{
    struct pool *p = c->pool;
    if (!mz_circuit_take(p->w->cluster, p->prio, MZ_CIRCUIT_RQ)) {
        mz_count(pool_scope(p), MZ_CS_RQ_ACTIVE_OVERFLOW, 1);
        attach_failed(c, ops, arg, MZ_POOL_OVERFLOW);
        return;
    }
    struct client_stream *s = stream_create(c, in);
    if (!s) { /* the codec knows what the pool does not: it is about to end */
        mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_RQ);
        client_drain(c, "no_stream");
        attach_failed(c, ops, arg, MZ_POOL_LOCAL_CONNECT_FAIL);
        return;
    }
    s->upgrade = o->upgrade && !c->type->multiplex;
    count_request(c);
    c->last = c->last || (o->upgrade && !c->type->multiplex);
    if (takes(c))
        count_room(c);
    else
        client_move(c, CLIENT_BUSY);
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "creating stream");
    uint64_t now = mz_loop_now_us(p->w->loop);
    const struct mz_pool_ready r = { .enc = &s->enc,
                                     .host = p->host,
                                     .local = &c->conn->local,
                                     .remote = &c->conn->remote,
                                     .conn = c->conn,
                                     .conn_id = c->conn->id,
                                     .protocol = c->type->protocol,
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
    if (!c->n_streams && !mz_buf_len(in))
        return; /* the end of an idle connection: its event follows */
    c->dispatching = true;
    enum mz_codec_status st = c->n_streams || c->type->multiplex
                                  ? c->codec->ops->dispatch(c->codec, in, end)
                                  : MZ_CODEC_PREMATURE;
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
    } else if (c->unsettled && !end) {
        client_settle(c);
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
    client_drain(c, "max_connection_duration");
}

static void set_type(struct client *c, const struct client_type *t)
{
    uint32_t most = c->pool->w->cluster->max_requests_per_connection;
    c->type = t;
    c->limit = t->limit(c->pool->w->cluster);
    c->left = most && most < t->requests ? most : t->requests;
}

/* ALPN has decided what this connection speaks (U7); the next ones are expected to do so, too. */
static void learn_protocol(struct client *c)
{
    const struct mz_transport *t = c->conn->transport;
    struct mz_str alpn = t->ops->protocol ? t->ops->protocol(t) : MZ_STR("");
    c->pool->expects_http2 = mz_str_eq(alpn, MZ_STR("h2"));
    set_type(c, c->pool->expects_http2 ? &client_http2 : &client_http1);
    mz_count(pool_scope(c->pool), c->type->total, 1);
}

static void client_connected(struct client *c)
{
    struct pool *p = c->pool;
    struct mz_cluster *cl = p->w->cluster;
    c->connected = true;
    c->connected_us = mz_loop_now_us(p->w->loop);
    mz_hist_record(cl->scope, MZ_CS_CX_CONNECT_MS, (c->connected_us - c->start_us) / 1000);
    const struct mz_codec_sink sink = { .out = mz_conn_out(c->conn),
                                        .written = codec_written,
                                        .read_disable = codec_read_disable,
                                        .arg = c,
                                        .high = cl->buffer_limit };
    if (p->kind == POOL_AUTO)
        learn_protocol(c);
    c->codec = c->type->codec(c, &sink);
    mz_timer_stop(&c->timer);
    if (cl->idle_timeout_ms)
        mz_timer_start_ms(&c->timer, cl->idle_timeout_ms);
    if (cl->max_connection_duration_ms)
        mz_timer_start_ms(&c->life, cl->max_connection_duration_ms);
    client_move(c, CLIENT_READY);
    pool_ref(p);
    pool_client_ready(p);
    if (p->kind == POOL_AUTO)
        pool_room_lost(p); /* it may take less than was expected */
    pool_unref(p);
}

static void client_free(void *arg)
{
    struct client *c = arg;
    if (c->codec)
        c->codec->ops->destroy(c->codec);
    mz_free(MZ_MEM_CONN, c);
}

static void tell_failure(struct client *c, const struct mz_conn *conn, bool remote)
{
    struct pool *p = c->pool;
    char text[CX_ERROR_TEXT];
    const struct mz_transport *t = conn->transport;
    int err = conn->error;
    struct mz_str why_text = t->ops->failure ? t->ops->failure(t) : MZ_STR("");
    mz_count(pool_scope(p), MZ_CS_CX_CONNECT_FAIL, 1);
    host_add(&p->host->stats.cx_connect_fail, 1);
    enum mz_pool_failure why = c->timed_out ? MZ_POOL_CONNECT_TIMEOUT
                               : remote     ? MZ_POOL_REMOTE_CONNECT_FAIL
                                            : MZ_POOL_LOCAL_CONNECT_FAIL;
    if (!why_text.n)
        why_text = mz_str_c(c->timed_out ? "" : cx_error_text(conn, text));
    pool_connect_failed(p, why, why_text, err);
}

static void client_closed(struct client *c, bool remote)
{
    struct pool *p = c->pool;
    const struct mz_conn *conn = c->conn;
    int err = conn->error;
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "client disconnected, %s, reason: %s",
               remote ? "remote" : "local",
               err                     ? strerrordesc_np(err)
               : c->conn->close_reason ? c->conn->close_reason
                                       : "");
    const struct cx_end e = { c->start_us, remote, c->n_streams || c->stream_lost };
    pool_ref(p);
    if (remote && c->n_streams && !c->type->multiplex && c->codec->inside) { /* the answer */
        mz_count(pool_scope(p), MZ_CS_CX_PROTOCOL_ERROR, 1);
        c->protocol_error = true;
    }
    c->conn = NULL;
    mz_timer_stop(&c->timer);
    mz_timer_stop(&c->life);
    client_move(c, CLIENT_CLOSED);
    cx_ended(p, &e);
    if (c->requests)
        mz_hist_record(pool_scope(p), MZ_CS_RQ_PER_CX, c->requests);
    if (c->n_streams)
        c->codec->ops->conn_closed(c->codec, c->protocol_error ? MZ_RESET_PROTOCOL_ERROR
                                                               : MZ_RESET_CONN_TERMINATED);
    if (!c->connected)
        tell_failure(c, conn, remote);
    pool_client_gone(p);
    mz_list_del(&c->link);
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
    } else if (!c->n_streams) {
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
    set_type(c, p->kind == POOL_HTTP2 || p->expects_http2 ? &client_http2 : &client_http1);
    mz_list_init(&c->streams);
    c->state = CLIENT_CONNECTING;
    p->n[CLIENT_CONNECTING]++;
    mz_list_add_head(&p->clients[CLIENT_CONNECTING], &c->link);
    count_room(c);
    mz_timer_init(l, &c->timer, timer_fired);
    mz_timer_init(l, &c->life, life_over);
    c->start_us = mz_loop_now_us(l);
    cx_begin(p);
    if (p->kind != POOL_AUTO) {
        mz_count(pool_scope(p), c->type->total, 1);
        c->type->begin(p->w);
    }
    c->conn = cx_connect(p, p->transport, &conn_ops, c);
    MZ_LOG_IDS(DEBUG, pool, c->conn->id, 0, "creating a new connection to %.*s (connecting=%u)",
               p->host->addr_text_n, p->host->addr_text, p->n[CLIENT_CONNECTING]);
    mz_timer_start_ms(&c->timer, p->w->cluster->connect_timeout_ms);
}
