/* What probes share: their connection, the search for expected bytes. */
#include "net/conn.h"
#include "upstream/health/check.h"

/* Counts nowhere: statistics of connections are those of requests (Envoy). */
struct mz_conn *check_connect(struct check_session *s, const struct mz_conn_ops *ops, void *arg)
{
    struct mz_cluster *c = s->checker->cluster;
    const struct mz_addr *to = &s->host->health_check_addr;
    const struct mz_conn_source *from = mz_conn_source_for(cluster_priv(c)->sources, to);
    const struct mz_conn_connect_opts o = { .to = to, .bind = from->addr, .opts = from->opts };
    const struct mz_transport_factory *f = mz_host_transport(s->host);
    const struct mz_transport_opts wanted = { .host_name = s->host->hostname };
    struct mz_conn *conn = mz_conn_connect(s->checker->main, &o, f->create(f, &wanted), ops, arg);
    mz_conn_set_buffer_limit(conn, c->buffer_limit);
    conn->stats = (struct mz_conn_stats){ .rx_total = MZ_STAT_NONE,
                                          .rx_buffered = MZ_STAT_NONE,
                                          .tx_total = MZ_STAT_NONE,
                                          .tx_buffered = MZ_STAT_NONE,
                                          .bind_errors = MZ_STAT_NONE,
                                          .delayed_close_timeout = MZ_STAT_NONE };
    mz_conn_no_delay(conn, true);
    return conn;
}

bool check_bytes_found(const struct check_bytes *b, struct mz_str in)
{
    for (size_t i = 0; i < b->n; i++) {
        ptrdiff_t at = mz_str_find(in, b->v[i]);
        if (at < 0)
            return false;
        in.p += (size_t)at + b->v[i].n;
        in.n -= (size_t)at + b->v[i].n;
    }
    return true;
}
