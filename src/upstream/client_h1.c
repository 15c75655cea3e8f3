/* What a pool's connection does for HTTP/1: one stream at a time, and what it leaves behind decides on the next. */
#include "upstream/pool_priv.h"

static uint32_t limit(const struct mz_cluster *c)
{
    (void)c;
    return 1;
}

static void begin(struct mz_wcluster *w)
{
    (void)wcluster_http1_stats(w);
}

static struct mz_codec *codec(struct client *c, const struct mz_codec_sink *sink)
{
    struct mz_wcluster *w = c->pool->w;
    return mz_http1_client_create(&w->cluster->http1, wcluster_http1_stats(w), sink);
}

static struct mz_stream_enc *request(struct client *c, const struct mz_stream_in *in)
{
    return mz_http1_client_request(c->codec, in);
}

static bool says_close(const struct mz_headers *h)
{
    struct mz_str v = mz_headers_value_id(h, MZ_H_CONNECTION), part;
    while (mz_str_split(&v, ',', &part))
        if (mz_str_ieq(mz_str_trim(part), MZ_STR("close")))
            return true;
    return false;
}

static void answer_headers(struct client *c, const struct mz_headers *h)
{
    bool old = c->codec->protocol == MZ_HTTP10 && c->codec->must_close; /* said by saying nothing */
    if (!says_close(h) && !old)
        return;
    c->last = true;
    mz_count(pool_scope(c->pool), MZ_CS_CX_CLOSE_NOTIFY, 1);
}

/* The answer is whole; bytes behind it belong to nothing (F02). */
static void answer_ends(struct client *c)
{
    if (!c->conn || !mz_buf_len(mz_conn_in(c->conn)) || c->last)
        return;
    mz_count(pool_scope(c->pool), MZ_CS_CX_PROTOCOL_ERROR, 1);
    c->last = true;
}

const struct client_type client_http1 = { .protocol = MZ_HTTP11,
                                          .total = MZ_CS_CX_HTTP1_TOTAL,
                                          .limit = limit,
                                          .requests = UINT32_MAX,
                                          .begin = begin,
                                          .codec = codec,
                                          .request = request,
                                          .answer_headers = answer_headers,
                                          .answer_ends = answer_ends };
