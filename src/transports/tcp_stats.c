/* envoy.transport_sockets.tcp_stats (U8): what the kernel knows of each connection, read at its end and in between. */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/mapper.h"
#include "transports/transports.h"
#include "transports/wrap.h"

#define MILLIONTHS 1000000 /* of a percentage histogram */
#define STATS(X)                                                                                   \
    X(TX_SEGMENTS, "cx_tx_segments", COUNTER, NONE)                                                \
    X(RX_SEGMENTS, "cx_rx_segments", COUNTER, NONE)                                                \
    X(TX_DATA, "cx_tx_data_segments", COUNTER, NONE)                                               \
    X(RX_DATA, "cx_rx_data_segments", COUNTER, NONE)                                               \
    X(TX_AGAIN, "cx_tx_retransmitted_segments", COUNTER, NONE)                                     \
    X(RX_BYTES, "cx_rx_bytes_received", COUNTER, BYTES)                                            \
    X(TX_BYTES, "cx_tx_bytes_sent", COUNTER, BYTES)                                                \
    X(UNSENT, "cx_tx_unsent_bytes", GAUGE, BYTES)                                                  \
    X(UNACKED, "cx_tx_unacked_segments", GAUGE, NONE)                                              \
    X(AGAIN_PERCENT, "cx_tx_percent_retransmitted_segments", HISTOGRAM, PERCENT)                   \
    X(RTT, "cx_rtt_us", HISTOGRAM, US)                                                             \
    X(RTT_VARIANCE, "cx_rtt_variance_us", HISTOGRAM, US)
enum {
#define X(id, name, type, unit) STAT_##id,
    STATS(X)
#undef X
        STAT__COUNT
};
static const struct mz_stat_def stat_defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "tcp_stats", stat_defs, STAT__COUNT };

struct stats_factory {
    struct mz_transport_factory base;
    struct mz_scope *scope;
    uint64_t period_ms; /* 0: at the end only */
};
struct stats_transport {
    struct wrap w;
    struct stats_factory *f; /* reference */
    struct mz_timer timer;
    struct tcp_info last;
    bool timed;
};

static struct stats_transport *of(const struct mz_transport *t)
{
    return (struct stats_transport *)(void *)wrap_of(t);
}

static void gauge_move(struct stats_transport *s, unsigned stat, uint32_t from, uint32_t to)
{
    if (from != to)
        mz_gauge_add(s->f->scope, stat, (int64_t)to - (int64_t)from);
}

/* Older kernels tell less: what they leave out stays 0. */
static void record(struct stats_transport *s)
{
    const struct mz_conn *c = s->w.base.conn;
    struct mz_scope *scope = s->f->scope;
    struct tcp_info now;
    socklen_t len = sizeof(now);
    memset(&now, 0, sizeof(now));
    if (c->io.fd < 0 || getsockopt(c->io.fd, IPPROTO_TCP, TCP_INFO, &now, &len) != 0)
        return; /* a UNIX socket */
    const struct tcp_info *last = &s->last;
    uint32_t data = now.tcpi_data_segs_out - last->tcpi_data_segs_out;
    uint32_t again = now.tcpi_total_retrans - last->tcpi_total_retrans;
    mz_count(scope, STAT_TX_SEGMENTS, now.tcpi_segs_out - last->tcpi_segs_out);
    mz_count(scope, STAT_RX_SEGMENTS, now.tcpi_segs_in - last->tcpi_segs_in);
    mz_count(scope, STAT_TX_DATA, data);
    mz_count(scope, STAT_RX_DATA, now.tcpi_data_segs_in - last->tcpi_data_segs_in);
    mz_count(scope, STAT_TX_AGAIN, again);
    mz_count(scope, STAT_RX_BYTES, now.tcpi_bytes_received - last->tcpi_bytes_received);
    mz_count(scope, STAT_TX_BYTES, now.tcpi_bytes_sent - last->tcpi_bytes_sent);
    gauge_move(s, STAT_UNSENT, last->tcpi_notsent_bytes, now.tcpi_notsent_bytes);
    gauge_move(s, STAT_UNACKED, last->tcpi_unacked, now.tcpi_unacked);
    if (data) {
        mz_hist_record(scope, STAT_AGAIN_PERCENT, (uint64_t)again * MILLIONTHS / data);
        mz_hist_record(scope, STAT_RTT, now.tcpi_rtt);
        mz_hist_record(scope, STAT_RTT_VARIANCE, now.tcpi_rttvar);
    }
    s->last = now;
}

static void on_timer(struct mz_timer *t)
{
    struct stats_transport *s = MZ_CONTAINER(t, struct stats_transport, timer);
    record(s);
    mz_timer_start_ms(t, s->f->period_ms);
}

static void connected(struct mz_transport *t)
{
    struct stats_transport *s = of(t);
    mz_timer_init(t->conn->loop, &s->timer, on_timer);
    s->timed = true;
    if (s->f->period_ms)
        mz_timer_start_ms(&s->timer, s->f->period_ms);
    wrap_connected(t);
}

static void stats_close(struct mz_transport *t, bool reset)
{
    struct stats_transport *s = of(t);
    record(s);
    gauge_move(s, STAT_UNSENT, s->last.tcpi_notsent_bytes, 0);
    gauge_move(s, STAT_UNACKED, s->last.tcpi_unacked, 0);
    mz_timer_stop(&s->timer);
    wrap_close(t, reset);
}

static void transport_destroy(struct mz_transport *t)
{
    struct stats_transport *s = of(t);
    if (s->timed)
        mz_timer_stop(&s->timer);
    wrap_fini(&s->w);
    mz_transport_factory_unref(&s->f->base);
    mz_free(MZ_MEM_CONN, s);
}

static const struct mz_transport_ops ops = {
    .name = "tcp_stats",
    .read = wrap_read,
    .write = wrap_write,
    .connected = connected,
    .ready = wrap_ready,
    .failure = wrap_failure,
    .protocol = wrap_protocol,
    .tls = wrap_tls,
    .pending = wrap_pending,
    .raw = wrap_raw,
    .pass = wrap_pass,
    .close = stats_close,
    .destroy = transport_destroy,
};

static struct mz_transport *transport_create(const struct mz_transport_factory *base,
                                             const struct mz_transport_opts *o)
{
    struct stats_transport *s = mz_new0(MZ_MEM_CONN, struct stats_transport);
    s->f = (struct stats_factory *)(void *)mz_transport_factory_ref(base);
    wrap_init(&s->w, &ops, base->inner->create(base->inner, o));
    return &s->w.base;
}

static void factory_destroy(struct mz_transport_factory *base)
{
    struct stats_factory *f = (struct stats_factory *)(void *)base;
    mz_transport_factory_unref(base->inner);
    mz_scope_unref(f->scope);
    mz_free(MZ_MEM_CONFIG, f);
}

struct mz_transport_factory *
mz_transport_tcp_stats_create(const pb_tcp_stats_Config *m,
                              const struct mz_transport_factory *take_inner, struct mz_stats *st,
                              struct mz_str prefix, struct mz_err *err)
{
    struct stats_factory *f = mz_new0(MZ_MEM_CONFIG, struct stats_factory);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    wrap_factory_init(&f->base, "tcp_stats", take_inner);
    f->base.create = transport_create;
    f->base.destroy = factory_destroy;
    f->scope = mz_scope_create(
        st, &stats, mz_arena_cat(a, 2, (struct mz_str[]){ prefix, MZ_STR("tcp_stats.") }));
    mz_arena_destroy(a);
    if (mz_duration_ms(m->update_period, 0, &f->period_ms, err))
        return &f->base;
    mz_err_at(err, "update_period");
    mz_transport_factory_unref(&f->base);
    return NULL;
}
