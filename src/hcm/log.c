#include "hcm/hcm_priv.h"

/* When a stream's access logs are written: at its end, and where the configuration says so also before (O2). */

void log_write(struct mz_stream *s, const char *type)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_stream_info *i = &s->info;
    bool cut = !s->remote_end && s->enc->wire_came > s->enc->wire_in;
    i->wire_in =
        cut ? s->enc->wire_came : s->enc->wire_in; /* what nobody read counts, too (Envoy) */
    i->wire_out = s->enc->wire_out;
    i->header_in = s->enc->header_in;
    i->header_out = s->enc->header_out;
    struct mz_format_ctx ctx = { .info = i,
                                 .req = i->req,
                                 .resp = i->resp,
                                 .trailers = i->resp_trailers,
                                 .log_type = type,
                                 .now_us = stream_now(s) };
    for (size_t k = 0; k < c->n_logs; k++)
        mz_access_log_write(c->logs[k], &ctx);
}

void log_end(struct mz_stream *s)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    log_write(s, "DownstreamEnd");
    chain_log(s);
    span_end(s);
    if (c->recorder && !c->admin)
        mz_recorder_offer(c->recorder, s->conn->base.worker->slot, &s->info);
}

static void on_interval(struct mz_timer *t)
{
    struct mz_stream *s = MZ_CONTAINER(t, struct mz_stream, log_timer);
    log_write(s, "DownstreamPeriodic");
    mz_timer_start_ms(t, s->conn->cfg->log_interval_ms);
}

void log_begin(struct mz_stream *s)
{
    uint64_t ms = s->conn->cfg->log_interval_ms;
    if (!ms)
        return;
    mz_timer_init(conn_loop(s->conn), &s->log_timer, on_interval);
    mz_timer_start_ms(&s->log_timer, ms);
}

void log_tunnel(struct mz_stream *s)
{
    unsigned status = s->info.status;
    bool stands = (s->is_upgrade && status == 101) || (s->is_connect && status / 100 == 2);
    if (stands && s->conn->cfg->log_on_tunnel)
        log_write(s, "DownstreamTunnelSuccessfullyEstablished");
}
