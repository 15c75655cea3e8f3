#include "hcm/hcm_priv.h"

/* The answer's last steps, behind the response filters: the manager's own headers, drain, statistics, the codec. */

void mz_stream_respond_1xx(struct mz_stream *s, struct mz_headers *h)
{
    if (!s->dead && !s->responding)
        chain_response_1xx(s, h);
}

void mz_stream_respond_headers(struct mz_stream *s, struct mz_headers *h, bool end)
{
    if (s->dead || s->local_replying)
        return;
    stream_touch(s);
    chain_response_headers(s, h, end);
    stream_maybe_finish(s);
}

void mz_stream_respond_data(struct mz_stream *s, struct mz_buf *data, bool end)
{
    if (s->dead || s->local_replying)
        return;
    stream_touch(s);
    chain_response_data(s, data, end);
    stream_maybe_finish(s);
}

void mz_stream_respond_trailers(struct mz_stream *s, struct mz_headers *h)
{
    if (s->dead || s->local_replying)
        return;
    stream_touch(s);
    chain_response_trailers(s, h);
    stream_maybe_finish(s);
}

static void count_status(struct mz_stream *s, unsigned status)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    if (s->info.health_check)
        return;
    mz_count(c->scope, MZ_HS_RQ_COMPLETED, 1);
    if (c->listener_scope)
        mz_count(c->listener_scope, MZ_HL_COMPLETED, 1);
    if (status < 100 || status > 599)
        return;
    unsigned k = status / 100 - 1;
    mz_count(c->scope, MZ_HS_RQ_1XX + k, 1);
    if (c->listener_scope)
        mz_count(c->listener_scope, MZ_HL_1XX + k, 1);
}

/* Envoy counts an interim answer like one that completes. */
static void send_1xx(struct mz_stream *s, struct mz_headers *h)
{
    count_status(s, mz_headers_status(h));
    s->enc->ops->encode_1xx(s->enc, h);
}

void respond_1xx(struct mz_stream *s, struct mz_headers *h)
{
    /* 101 is the answer itself; others only when the configuration hands them on. */
    if (!s->codec_done && s->info.protocol != MZ_HTTP10 && s->conn->cfg->proxy_100_continue)
        send_1xx(s, h);
}

void respond_continue(struct mz_stream *s)
{
    struct mz_headers *h = mz_headers_create(s->arena);
    mz_headers_set_status(h, 100);
    send_1xx(s, h);
}

/* Shall this be the last answer of the connection? HTTP/1 says so in the answer. */
static void decide_drain(struct mz_stream *s, struct mz_headers *h)
{
    struct hcm_conn *c = s->conn;
    if (c->drain == DRAIN_NONE && mz_downstream_draining(c->base.down)) {
        hcm_count(c, MZ_HS_CX_DRAIN_CLOSE);
        hcm_conn_start_drain(c);
    }
    if (c->codec->protocol >= MZ_HTTP2) {
        if (s->info.should_drain_connection)
            hcm_conn_start_drain(c);
        return;
    }
    if (s->saw_connection_close || s->info.should_drain_connection || s->needs_close)
        c->drain = DRAIN_CLOSING;
    if (!s->remote_end && !s->is_upgrade && !s->is_connect && s->resp.ended)
        c->drain =
            DRAIN_CLOSING; /* an early answer: what follows of the request cannot be told apart */
    if (c->drain != DRAIN_NONE && !(s->is_upgrade && mz_headers_get_id(h, MZ_H_UPGRADE)))
        mz_headers_set_id(h, MZ_H_CONNECTION, MZ_STR("close"));
}

void respond_headers(struct mz_stream *s, struct mz_headers *h, bool end)
{
    unsigned status = mz_headers_status(h);
    s->resp.headers = h;
    s->info.resp = h;
    s->info.status = status;
    s->responding = true;
    mutate_response(s, h);
    if (s->conn->cfg->tracing)
        tracing_response(s, h);
    decide_drain(s, h);
    count_status(s, status);
    s->info.tx_first_us = stream_now(s);
    if (MZ_UNLIKELY(s->trace || mz_log_on(MZ_LOG_C_http, MZ_LOG_DEBUG)))
        mz_log_write(MZ_LOG_C_http, MZ_LOG_DEBUG, s->info.conn_id, s->id, __FILE__, __LINE__,
                     "encoding headers via codec (end_stream=%s): ':status', '%u'",
                     end ? "true" : "false", status);
    if (s->codec_done)
        return;
    if (end) {
        s->local_end = true;
        s->info.tx_last_us = s->info.tx_first_us;
    }
    s->enc->ops->encode_headers(s->enc, h, end);
    log_tunnel(s);
}

void respond_data(struct mz_stream *s, struct mz_buf *data, bool end)
{
    if (s->codec_done || s->local_end) {
        mz_buf_drain(data, mz_buf_len(data));
        return;
    }
    s->info.tx_body += mz_buf_len(data);
    if (end) {
        s->local_end = true;
        s->info.tx_last_us = stream_now(s);
    }
    s->enc->ops->encode_data(s->enc, data, end);
}

void respond_trailers(struct mz_stream *s, struct mz_headers *h)
{
    if (s->codec_done || s->local_end)
        return;
    s->info.resp_trailers = h;
    s->local_end = true;
    s->info.tx_last_us = stream_now(s);
    s->enc->ops->encode_trailers(s->enc, h);
}
