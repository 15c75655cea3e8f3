/*
 * envoy.filters.network.tcp_proxy (L6): bytes both ways between a downstream connection and one of a cluster.
 *
 * The client is not read until the upstream connection stands; then each end's bytes go into the other's output buffer, and
 * an output buffer above its limit stops reading from the other end (H7). Ends of input are handed on one by one.
 */
#include "filters/network/tcp_proxy.h"
#include "base/log.h"

#define SESSION_LOG(s, ...)                                                                        \
    MZ_LOG_FORCED((s)->base.down->conn->trace, DEBUG, filter, (s)->base.down->conn->id, 0,         \
                  __VA_ARGS__)

static struct mz_conn *down_of(const struct tcp_session *s)
{
    return s->base.down->conn;
}

void tcp_lease_closed(const struct tcp_lease *l, enum mz_conn_event ev)
{
    mz_tcp_pool_closed(l->cluster, l->host, MZ_PRIORITY_DEFAULT, l->conn,
                       ev == MZ_CONN_LOCAL_CLOSE);
}

/* One side has ended and the other not yet (D1): what bounds it is the idle time. */
static void half_closed(struct tcp_session *s, bool is)
{
    if (s->half_closed == is)
        return;
    s->half_closed = is;
    mz_gauge_add(tcp_cfg_of(s)->scope, TCP_STAT_CX_HALF_CLOSED, is ? 1 : -1);
}

/* ---- upstream ---- */

void tcp_from_upstream(struct tcp_session *s, struct mz_buf *data, bool end)
{
    s->info->tx_body += mz_buf_len(data);
    if (end)
        half_closed(s, true);
    mz_net_filter_written(&s->base, data, end);
    mz_conn_write(down_of(s), data, end);
}

static void up_data(struct mz_conn *c, void *arg, bool end)
{
    tcp_from_upstream(arg, mz_conn_in(c), end);
}

static void up_moved(void *arg, size_t n)
{
    struct tcp_session *s = arg;
    s->info->tx_body += n;
}

/* What it said still reaches the client, a reset is passed on as one. */
static void close_downstream(struct tcp_session *s, bool reset)
{
    mz_timer_stop(&s->idle);
    if (s->closed)
        return;
    if (reset) {
        mz_info_flag(s->info, MZ_FLAG(UPSTREAM_REMOTE_RESET));
        s->info->up.close_type = "RemoteReset";
        tcp_note(s, CONN_LOST, s->info->up.host_name, MZ_STR("reset by the upstream"),
                 (int64_t)s->info->up.conn_id, (int64_t)((tcp_now_us(s) - s->connected_us) / 1000));
        mz_conn_close(down_of(s), MZ_CLOSE_RESET, NULL, 0);
        return;
    }
    /* A client that does not read has the idle time for each part that it takes. */
    mz_conn_close(down_of(s), MZ_CLOSE_FLUSH, NULL,
                  s->idle_ms < UINT32_MAX ? (uint32_t)s->idle_ms : UINT32_MAX);
}

static void up_closed(struct tcp_session *s, enum mz_conn_event ev)
{
    const struct mz_conn *c = s->up.conn;
    s->info->up.wire_in = c->rx_bytes;
    s->info->up.wire_out = c->tx_bytes;
    tcp_lease_closed(&s->up, ev);
    s->up.conn = NULL;
    close_downstream(s, ev == MZ_CONN_REMOTE_CLOSE && c->error);
}

void tcp_upstream_gone(struct tcp_session *s, bool reset)
{
    s->tunnel = NULL;
    close_downstream(s, reset);
}

static void up_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    (void)c;
    if (ev != MZ_CONN_CONNECTED)
        up_closed(arg, ev);
}

void tcp_upstream_full(struct tcp_session *s, bool full)
{
    mz_count(tcp_cfg_of(s)->scope, full ? TCP_STAT_FLOW_PAUSED : TCP_STAT_FLOW_RESUMED, 1);
    mz_conn_read_disable(down_of(s), full);
}

static void up_above_high(struct mz_conn *c, void *arg)
{
    (void)c;
    tcp_upstream_full(arg, true);
}

static void up_below_low(struct mz_conn *c, void *arg)
{
    (void)c;
    tcp_upstream_full(arg, false);
}

static const struct mz_conn_ops up_ops = {
    .data = up_data, .event = up_event, .above_high = up_above_high, .below_low = up_below_low
};

/* ---- times ---- */

/* Looks only when the time has passed since it last looked: traffic costs nothing. */
static void on_idle(struct mz_timer *t)
{
    struct tcp_session *s = MZ_CONTAINER(t, struct tcp_session, idle);
    const struct mz_conn *down = down_of(s);
    uint64_t up = s->tunnel ? tcp_tunnel_activity_us(s->tunnel) : s->up.conn->last_activity_us;
    uint64_t idle_ms = s->idle_ms, last = s->connected_us;
    last = down->last_activity_us > last ? down->last_activity_us : last;
    last = up > last ? up : last;
    uint64_t quiet_ms = (tcp_now_us(s) - last) / 1000;
    if (quiet_ms < idle_ms) {
        mz_timer_start_ms(t, idle_ms - quiet_ms);
        return;
    }
    SESSION_LOG(s, "Session timed out");
    mz_count(tcp_cfg_of(s)->scope, TCP_STAT_IDLE_TIMEOUT, 1);
    /* A client that owes its end since ours may not know the connection any more. After a FIN the kernel would keep it for
     * another minute, in the way of the client's next one from that port (D2). */
    const bool owes = down->write_end && !down->read_end;
    mz_conn_close(down_of(s), owes ? MZ_CLOSE_RESET : MZ_CLOSE_NOW, "tcp_session_idle_timeout", 0);
}

static void on_max_duration(struct mz_timer *t)
{
    struct tcp_session *s = MZ_CONTAINER(t, struct tcp_session, duration);
    SESSION_LOG(s, "max connection duration reached");
    mz_info_flag(s->info, MZ_FLAG(DURATION_TIMEOUT));
    mz_count(tcp_cfg_of(s)->scope, TCP_STAT_MAX_DURATION, 1);
    tcp_note(s, TIMED_OUT, MZ_STR("the connection"), MZ_STR(""), 0,
             (int64_t)tcp_cfg_of(s)->max_duration_ms);
    mz_conn_close(down_of(s), MZ_CLOSE_NOW, "max_connection_duration_reached", 0);
}

static void on_log_interval(struct mz_timer *t)
{
    struct tcp_session *s = MZ_CONTAINER(t, struct tcp_session, log_interval);
    tcp_log_write(s, "TcpPeriodic");
    mz_timer_start_ms(t, tcp_cfg_of(s)->log_interval_ms);
}

/* An earlier filter may have said how long this connection may be idle. */
static uint64_t idle_of(const struct tcp_session *s)
{
    const struct mz_filter_object *o = mz_info_state(s->info, MZ_STR(TCP_STATE_IDLE));
    uint64_t ms;
    return o && o->text && mz_str_u64(o->text(o, s->arena), &ms) ? ms : tcp_cfg_of(s)->idle_ms;
}

static void timers_start(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    s->idle_ms = idle_of(s);
    struct mz_loop *l = s->base.worker->loop;
    mz_timer_init(l, &s->idle, on_idle);
    mz_timer_init(l, &s->duration, on_max_duration);
    mz_timer_init(l, &s->log_interval, on_log_interval);
    if (c->max_duration_ms)
        mz_timer_start_ms(&s->duration,
                          c->max_duration_ms +
                              (c->duration_jitter_ms
                                   ? mz_rand_below(mz_loop_rand(l), c->duration_jitter_ms + 1)
                                   : 0));
    if (c->log_interval_ms && c->n_logs)
        mz_timer_start_ms(&s->log_interval, c->log_interval_ms);
}

/* ---- downstream ---- */

static void down_moved(void *arg, size_t n)
{
    struct tcp_session *s = arg;
    s->info->rx_body += n;
}

static void hand_on(struct tcp_session *s, struct mz_buf *data, bool end)
{
    s->info->rx_body += mz_buf_len(data);
    if (end)
        half_closed(s, true);
    s->end_sent |= end;
    if (s->tunnel)
        tcp_tunnel_write(s->tunnel, data, end);
    else
        mz_conn_write(s->up.conn, data, end);
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct tcp_session *s = (struct tcp_session *)(void *)f;
    if (s->connected && (s->up.conn || s->tunnel))
        hand_on(s, data, end);
    return MZ_NET_STOP;
}

static void stands(struct tcp_session *s)
{
    struct mz_conn *down = down_of(s);
    s->connected = true;
    s->connected_us = tcp_now_us(s);
    tcp_note(s, CONN_NEW, s->info->up.host_name, MZ_STR(""), 0, 0);
    SESSION_LOG(s, "upstream connection C%llu stands", (unsigned long long)s->info->up.conn_id);
    if (s->idle_ms)
        mz_timer_start_ms(&s->idle, s->idle_ms);
    if (tcp_cfg_of(s)->log_on_connected)
        tcp_log_write(s, "TcpUpstreamConnected");
    mz_conn_read_disable(down, false);
    /* An end that an earlier filter saw alone is not told again. */
    if (down->read_end && !s->end_sent && mz_buf_len(mz_conn_in(down)) == 0)
        hand_on(s, mz_conn_in(down), true);
}

void tcp_connected(struct tcp_session *s, const struct mz_tcp_ready *r)
{
    struct mz_conn *down = down_of(s);
    s->up.conn = r->conn;
    mz_conn_set_ops(r->conn, &up_ops, s);
    mz_conn_set_half_close(r->conn, true);
    if (mz_net_filter_alone(
            &s->base)) { /* or the bytes take the way through the buffers, as they do with TLS */
        (void)mz_conn_join(down, r->conn, down_moved, s);
        (void)mz_conn_join(r->conn, down, up_moved, s);
    }
    stands(s);
}

void tcp_tunnel_stands(struct tcp_session *s)
{
    stands(s);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct tcp_session *s = (struct tcp_session *)(void *)f;
    struct mz_conn *down = f->down->conn;
    struct mz_scope *scope = tcp_cfg_of(s)->scope;
    mz_count(scope, TCP_STAT_CX_TOTAL, 1);
    down->stats = (struct mz_conn_stats){ .scope = scope,
                                          .rx_total = TCP_STAT_CX_RX_BYTES_TOTAL,
                                          .rx_buffered = TCP_STAT_CX_RX_BYTES_BUFFERED,
                                          .tx_total = TCP_STAT_CX_TX_BYTES_TOTAL,
                                          .tx_buffered = TCP_STAT_CX_TX_BYTES_BUFFERED,
                                          .bind_errors = MZ_STAT_NONE,
                                          .delayed_close_timeout = TCP_STAT_IDLE_TIMEOUT };
    SESSION_LOG(s, "new tcp proxy session");
    mz_conn_set_half_close(down, true);
    mz_conn_read_disable(down, true);
    mz_conn_no_delay(down, true);
    tcp_info_start(s);
    timers_start(s);
    tcp_connect_start(s);
    return MZ_NET_STOP;
}

/* The upstream learns how the client went: a reset stays a reset, an end lets it have what was sent. */
static void end_upstream(struct tcp_session *s, enum mz_conn_event ev)
{
    const struct mz_conn *down = down_of(s);
    struct mz_conn *up = s->up.conn;
    if (s->tunnel)
        tcp_tunnel_end(s->tunnel);
    s->tunnel = NULL;
    if (!up)
        return;
    if (down->error) {
        mz_conn_close(up, MZ_CLOSE_RESET,
                      "closing_upstream_tcp_connection_due_to_downstream_reset_close", 0);
        return;
    }
    if (ev == MZ_CONN_LOCAL_CLOSE && !tcp_both_ended(down)) {
        mz_conn_close(up, MZ_CLOSE_NOW,
                      "closing_upstream_tcp_connection_due_to_downstream_local_close", 0);
        return;
    }
    mz_conn_flush_now(up);
    if (mz_conn_unsent(up))
        tcp_flush_start(s->base.worker, tcp_cfg_of(s), &s->up, s->idle_ms);
    else
        mz_conn_close(up, MZ_CLOSE_NOW,
                      "closing_upstream_tcp_connection_due_to_downstream_remote_close", 0);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct tcp_session *s = (struct tcp_session *)(void *)f;
    if (ev == MZ_CONN_CONNECTED || !s->info)
        return; /* or an earlier filter never let it begin */
    s->closed = true;
    half_closed(s, false);
    mz_timer_stop(&s->idle);
    mz_timer_stop(&s->duration);
    mz_timer_stop(&s->log_interval);
    tcp_connect_cancel(s);
    end_upstream(s, ev);
    tcp_info_end(s, ev);
}

/* The client takes no more for now. */
static void downstream_full(struct tcp_session *s, bool full)
{
    if (!s->connected || (!s->up.conn && !s->tunnel))
        return;
    mz_count(mz_wcluster_info(s->up.cluster)->scope, full ? MZ_CS_FLOW_PAUSED : MZ_CS_FLOW_RESUMED,
             1);
    if (s->tunnel)
        tcp_tunnel_read_disable(s->tunnel, full);
    else
        mz_conn_read_disable(s->up.conn, full);
}

static void on_above_high(struct mz_net_filter *f)
{
    downstream_full((struct tcp_session *)(void *)f, true);
}

static void on_below_low(struct mz_net_filter *f)
{
    downstream_full((struct tcp_session *)(void *)f, false);
}

static void on_destroy(struct mz_net_filter *f)
{
    struct tcp_session *s = (struct tcp_session *)(void *)f;
    mz_host_unref(s->up.host);
    mz_wcluster_unref(s->up.cluster);
    mz_arena_destroy(s->arena);
    mz_conn_state_unref(s->up_state);
}

static void imagine(struct mz_imagined_session *s)
{
    const struct tcp_cfg *c = s->cfg;
    uint64_t before = 0;
    s->targets = mz_arena_alloc0(s->info->arena, (c->n_clusters + 1) * sizeof(*s->targets));
    s->n_targets = c->n_clusters;
    for (size_t i = 0; i < c->n_clusters; i++) {
        const struct tcp_cluster *t = &c->clusters[i];
        s->targets[i] =
            (struct mz_imagined_target){ t->name, c->weighted ? t->weight_end - before : 0,
                                         t->metadata_match };
        before = t->weight_end;
    }
}

const struct mz_net_filter_type mz_net_filter_tcp_proxy = {
    .name = "envoy.filters.network.tcp_proxy",
    .config_type = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    .terminal = true,
    .size = sizeof(struct tcp_session),
    .config_build = tcp_config_build,
    .config_destroy = tcp_config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_data,
    .on_event = on_event,
    .above_high = on_above_high,
    .below_low = on_below_low,
    .destroy = on_destroy,
    .imagine = imagine,
    .worker_stop = tcp_flush_stop,
};
