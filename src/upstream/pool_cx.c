/* What every upstream connection does at its begin and end, whatever it carries: breaker, counters, socket. */
#include "http/h2/stats.h"
#include "net/eyeballs.h"
#include "upstream/pool_priv.h"

void cx_begin(struct pool *p)
{
    struct mz_scope *s = pool_scope(p);
    mz_circuit_force(p->w->cluster, p->prio, MZ_CIRCUIT_CX); /* cx_allowed() decided */
    mz_count(s, MZ_CS_CX_TOTAL, 1);
    mz_gauge_add(s, MZ_CS_CX_ACTIVE, 1);
    host_add(&p->host->stats.cx_total, 1);
    host_add(&p->host->stats.cx_active, 1);
}

static void another_attempt(void *arg)
{
    struct pool *p = arg;
    mz_count(pool_scope(p), MZ_CS_CX_TOTAL,
             1); /* Envoy: each attempt, though one connection comes of them */
    host_add(&p->host->stats.cx_total, 1);
}

/* A host of several addresses: the first to answer. */
static struct mz_conn *cx_race(struct pool *p, const struct mz_transport_opts *wanted,
                               const struct mz_conn_stats *stats, const struct mz_conn_ops *ops,
                               void *arg)
{
    struct mz_cluster *c = p->w->cluster;
    const struct cluster_priv *priv = cluster_priv(c);
    const struct mz_eyeballs_opts o = { .v = p->host->addrs,
                                        .n = p->host->n_addrs,
                                        .first_family = priv->first_family,
                                        .first_count = priv->first_count,
                                        .transport = mz_host_transport(p->host),
                                        .wanted = wanted,
                                        .sources = priv->sources,
                                        .stats = *stats,
                                        .another = another_attempt,
                                        .another_arg = p };
    return mz_eyeballs_connect(p->w->loop, &o, ops, arg);
}

/* What a pool's connections speak, as ALPN writes it (RFC 7301 3.1). */
static const struct mz_str alpn[] = { [POOL_HTTP1] = MZ_STR_INIT("\x08http/1.1"),
                                      [POOL_HTTP2] = MZ_STR_INIT("\x02h2"),
                                      [POOL_AUTO] = MZ_STR_INIT("\x02h2\x08http/1.1"),
                                      [POOL_TCP] = { NULL, 0 } };

struct mz_conn *cx_connect(struct pool *p, const struct mz_transport_opts *transport,
                           const struct mz_conn_ops *ops, void *arg)
{
    struct mz_cluster *c = p->w->cluster;
    const struct cluster_priv *priv = cluster_priv(c);
    const struct mz_transport_factory *f = mz_host_transport(p->host);
    struct mz_transport_opts wanted = transport ? *transport : (struct mz_transport_opts){ 0 };
    const struct mz_conn_source *from = mz_conn_source_for(priv->sources, &p->host->addr);
    const struct mz_conn_connect_opts o = { .to = &p->host->addr,
                                            .bind = wanted.bind ? wanted.bind : from->addr,
                                            .opts = from->opts,
                                            .foreign = wanted.bind != NULL,
                                            .mark = wanted.mark,
                                            .hops = wanted.hops };
    wanted.host_metadata = p->host->metadata;
    wanted.cluster_metadata = c->metadata;
    wanted.host_name = p->host->hostname;
    wanted.alpn_default = alpn[p->kind];
    const struct mz_conn_stats stats = { .scope = c->scope,
                                         .rx_total = MZ_CS_CX_RX_BYTES_TOTAL,
                                         .rx_buffered = MZ_CS_CX_RX_BYTES_BUFFERED,
                                         .tx_total = MZ_CS_CX_TX_BYTES_TOTAL,
                                         .tx_buffered = MZ_CS_CX_TX_BYTES_BUFFERED,
                                         .bind_errors = MZ_CS_BIND_ERRORS,
                                         .delayed_close_timeout = MZ_STAT_NONE };
    struct mz_conn *conn = p->host->n_addrs > 1
                               ? cx_race(p, &wanted, &stats, ops, arg)
                               : mz_conn_connect(p->w->loop, &o, f->create(f, &wanted), ops, arg);
    mz_conn_set_buffer_limit(conn, c->buffer_limit);
    conn->stats = stats;
    return conn;
}

void cx_ended(struct pool *p, const struct cx_end *e)
{
    struct mz_scope *s = pool_scope(p);
    mz_count(s, MZ_CS_CX_DESTROY, 1);
    mz_count(s, e->remote ? MZ_CS_CX_DESTROY_REMOTE : MZ_CS_CX_DESTROY_LOCAL, 1);
    if (e->with_stream) {
        mz_count(s, MZ_CS_CX_DESTROY_WITH_ACTIVE_RQ, 1);
        mz_count(s,
                 e->remote ? MZ_CS_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ
                           : MZ_CS_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
                 1);
    }
    mz_hist_record(s, MZ_CS_CX_LENGTH_MS, (mz_loop_now_us(p->w->loop) - e->start_us) / 1000);
    mz_gauge_add(s, MZ_CS_CX_ACTIVE, -1);
    host_add(&p->host->stats.cx_active, -1);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_CX);
}

const char *cx_error_text(const struct mz_conn *c, char out_text[CX_ERROR_TEXT])
{
    const char *why = c->error ? strerrordesc_np(c->error) : NULL;
    char at[MZ_ADDR_TEXT];
    why = why ? why : "unknown";
    if (c->bind_failed) {
        mz_addr_text(&c->local, at);
        (void)snprintf(out_text, CX_ERROR_TEXT, "failed to bind to %s: %s", at, why);
    } else if (c->failed_at_once) {
        mz_addr_text(&c->remote, at);
        (void)snprintf(out_text, CX_ERROR_TEXT, "immediate connect error: %s|remote address:%s",
                       why, at);
    } else {
        (void)snprintf(out_text, CX_ERROR_TEXT, "delayed connect error: %s", why);
    }
    return c->error ? out_text : "";
}

struct mz_scope *cluster_codec_scope(const struct mz_cluster *c, bool http2)
{
    char prefix[1024];
    int n = snprintf(prefix, sizeof(prefix), "cluster." MZ_STR_FMT ".%s.", MZ_STR_ARG(c->stat_name),
                     http2 ? "http2" : "http1");
    size_t len = (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1;
    return mz_scope_create(c->scope->store, http2 ? &mz_http2_codec_stats : &mz_http1_codec_stats,
                           (struct mz_str){ prefix, len });
}

struct mz_http1_stats cluster_http1_stats(struct mz_scope *scope)
{
    return (struct mz_http1_stats){ .scope = scope,
                                    .dropped_headers_with_underscores = MZ_HC_DROPPED,
                                    .metadata_not_supported = MZ_HC_METADATA,
                                    .requests_rejected_with_underscores = MZ_HC_REJECTED,
                                    .response_flood = MZ_HC_FLOOD };
}

const struct mz_http1_stats *wcluster_http1_stats(struct mz_wcluster *w)
{
    if (!w->http1_stats.scope)
        w->http1_stats = cluster_http1_stats(cluster_codec_scope(w->cluster, false));
    return &w->http1_stats;
}

const struct mz_http2_stats *wcluster_http2_stats(struct mz_wcluster *w)
{
    if (!w->http2_stats.scope)
        w->http2_stats.scope = cluster_codec_scope(w->cluster, true);
    return &w->http2_stats;
}
