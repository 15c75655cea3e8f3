/* What is known of a session and who is told (O2). */
#include "filters/network/tcp_proxy.h"
#include "listener/listener_filter.h"

void tcp_info_start(struct tcp_session *s)
{
    struct mz_downstream *d = s->base.down;
    s->arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info *i = s->info = mz_arena_new0(s->arena, struct mz_stream_info);
    d->session = i;
    i->arena = s->arena;
    i->start_us = i->cx_start_us = d->start_us;
    i->start_wall_us = d->start_wall_us;
    i->secure = d->secure;
    i->conn_id = d->conn->id;
    i->local = d->local_restored;
    i->remote = d->conn->remote;
    i->direct_remote = d->conn->direct_remote;
    i->direct_local = d->conn->local;
    i->filter_chain_name = d->chain_name;
    i->listener_name = d->listener_name;
    i->listener_metadata = d->listener_metadata;
    i->listener_direction = d->direction;
    i->transport = d->conn->transport;
    if (d->info) { /* earlier filters' */
        mz_info_flag(i, d->info->flags);
        i->filter_state = d->info->filter_state;
        i->dynamic_metadata = d->info->dynamic_metadata;
    } else if (d->found && d->found->metadata) {
        i->dynamic_metadata = d->found->metadata;
    }
    i->ja3 = d->found ? d->found->ja3 : MZ_STR("");
    i->ja4 = d->found ? d->found->ja4 : MZ_STR("");
    if (tcp_cfg_of(s)->recorder)
        i->decision = mz_decision_create(s->arena, d->start_us);
    if (i->decision && d->found && d->found->hops) /* the story goes on from another's */
        mz_note(i->decision, d->start_us, ACCEPTED, d->listener_name,
                mz_downstream_caller(d, s->arena), (int64_t)d->conn->id, 0);
}

void tcp_log_write(struct tcp_session *s, const char *log_type)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    struct mz_stream_info *i = s->info;
    const struct mz_conn *down = s->base.down->conn;
    if (!c->n_logs)
        return;
    i->sni = s->base.down->sni;
    const struct mz_stream_info *before = s->base.down->info;
    if (before) { /* a filter before us may have spoken after we began */
        i->dynamic_metadata = before->dynamic_metadata;
        mz_info_flag(i, before->flags);
        if (!i->details)
            i->details = before->details;
    }
    if (s->base.down->termination)
        i->conn_termination = s->base.down->termination;
    i->wire_in = down->rx_bytes;
    i->wire_out = down->tx_bytes;
    if (s->up.conn) {
        i->up.wire_in = s->up.conn->rx_bytes;
        i->up.wire_out = s->up.conn->tx_bytes;
    }
    const struct mz_format_ctx ctx = { .info = i, .log_type = log_type, .now_us = tcp_now_us(s) };
    for (size_t k = 0; k < c->n_logs; k++)
        mz_access_log_write(c->logs[k], &ctx);
}

void tcp_info_end(struct tcp_session *s, enum mz_conn_event ev)
{
    struct mz_stream_info *i = s->info;
    const struct mz_conn *down = s->base.down->conn;
    i->end_us = i->cx_end_us = tcp_now_us(s);
    if (ev == MZ_CONN_REMOTE_CLOSE && down->error)
        i->close_type = "RemoteReset";
    if (ev == MZ_CONN_LOCAL_CLOSE)
        i->local_close_reason = down->close_reason;
    tcp_log_write(s, "TcpConnectionEnd");
    /* A connection that simply lasted is no news. */
    if (tcp_cfg_of(s)->recorder && i->flags)
        mz_recorder_offer(tcp_cfg_of(s)->recorder, s->base.worker->slot, i);
}
