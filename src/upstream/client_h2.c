/* What a pool's connection does for HTTP/2: many streams, settings and GOAWAY of the peer (U3, H2). */
#include "upstream/pool_priv.h"

static uint32_t limit(const struct mz_cluster *c)
{
    return c->http2_opts.max_concurrent_streams;
}

/* Streams above its last one have been reset; the others go on. */
static void goaway_received(void *arg)
{
    struct client *c = arg;
    if (c->goaway)
        return;
    c->goaway = c->last = true;
    mz_count(pool_scope(c->pool), MZ_CS_CX_CLOSE_NOTIFY, 1);
    MZ_LOG_IDS(DEBUG, pool, c->conn ? c->conn->id : 0, 0, "remote goaway");
    client_settle(c);
}

static void max_streams_changed(void *arg, uint32_t n)
{
    struct client *c = arg;
    uint32_t configured = limit(c->pool->w->cluster);
    c->limit = n < configured ? n : configured;
    c->greeted = true;
    client_settle(c);
}

static void keepalive_timeout(void *arg)
{
    client_close(arg, "http2_ping_timeout");
}

static const struct mz_codec_client_ops codec_ops = { .goaway_received = goaway_received,
                                                      .max_streams_changed = max_streams_changed,
                                                      .keepalive_timeout = keepalive_timeout };

static void begin(struct mz_wcluster *w)
{
    (void)wcluster_http2_stats(w);
}

static struct mz_codec *codec(struct client *c, const struct mz_codec_sink *sink)
{
    struct mz_wcluster *w = c->pool->w;
    return mz_http2_client_create(&w->cluster->http2_opts, wcluster_http2_stats(w), w->loop, sink,
                                  &codec_ops, c);
}

static struct mz_stream_enc *request(struct client *c, const struct mz_stream_in *in)
{
    return mz_http2_client_request(c->codec, in);
}

/* As Envoy counts them. */
static void reset(struct client *c, enum mz_reset_reason r)
{
    struct mz_scope *s = pool_scope(c->pool);
    switch (r) {
    case MZ_RESET_CONN_TERMINATED:
    case MZ_RESET_LOCAL_CONNECT_FAIL:
    case MZ_RESET_REMOTE_CONNECT_FAIL:
    case MZ_RESET_CONNECT_TIMEOUT:
        mz_count(s, MZ_CS_RQ_PENDING_FAILURE_EJECT, 1);
        c->stream_lost = true;
        break;
    case MZ_RESET_LOCAL:
    case MZ_RESET_PROTOCOL_ERROR:
    case MZ_RESET_OVERLOAD_MANAGER:
        mz_count(s, MZ_CS_RQ_TX_RESET, 1);
        break;
    case MZ_RESET_REMOTE:
        mz_count(s, MZ_CS_RQ_RX_RESET, 1);
        break;
    default:
        break;
    }
}

const struct client_type client_http2 = { .protocol = MZ_HTTP2,
                                          .total = MZ_CS_CX_HTTP2_TOTAL,
                                          .multiplex = true,
                                          .limit = limit,
                                          .before_settings =
                                              100, /* what a server should allow (RFC 9113 6.5.2) */
                                          .requests = 1u << 29, /* Envoy; stream ids end at 2^30 */
                                          .begin = begin,
                                          .codec = codec,
                                          .request = request,
                                          .reset = reset };
