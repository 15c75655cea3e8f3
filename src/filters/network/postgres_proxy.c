/* envoy.filters.network.postgres_proxy: counts what passes between PostgreSQL clients and servers (L5), and begins TLS for those
 * that ask for it (terminate_ssl, with the transport socket starttls). */
#include "filters/network/postgres_decode.h"
#include "filters/network/sniffer.h"
#include "proto/mapper.h"
#include "stats/stats.h"

static const struct mz_stat_def stat_defs[] = {
#define X(id, name) { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    PG_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "postgres", stat_defs, PG__COUNT };

struct pg_cfg {
    struct mz_scope *scope;
    bool terminate_ssl;
};
struct pg_filter {
    struct sniffer sniffer;
    struct pg pg;
    bool asked; /* whether it asks for TLS first is known */
};

static void count(void *arg, enum pg_stat s)
{
    struct pg_filter *f = arg;
    mz_count(((const struct pg_cfg *)f->sniffer.base.cfg)->scope, s, 1);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_PostgresProxy *m = msg;
    struct pg_cfg *c = mz_new0(MZ_MEM_CONFIG, struct pg_cfg);
    c->terminate_ssl = m->terminate_ssl;
    c->scope = sniffer_scope(f, &stats, "postgres.", m->stat_prefix);
    (void)err;
    return c;
}

static void config_destroy(void *cfg)
{
    struct pg_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_CONFIG, c);
}

static bool feed(struct sniffer *s, bool from_client, const char *bytes, size_t n)
{
    struct pg *pg = &((struct pg_filter *)(void *)s)->pg;
    pg_feed(pg, from_client, bytes, n);
    return !pg->deaf;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct pg_filter *p = (struct pg_filter *)(void *)f;
    p->sniffer.feed = feed;
    p->pg.count = count;
    p->pg.arg = p;
    return MZ_NET_CONTINUE;
}

/* ---- terminate_ssl ---- */

/* What a client sends that wants TLS: a length and a code; the server answers with one letter. */
static const char ssl_request[8] = "\0\0\0\x8\x4\xd2\x16\x2f";

static void refuse(struct pg_filter *p, const char *why)
{
    mz_conn_close(p->sniffer.base.down->conn, MZ_CLOSE_NOW, why, 0);
}

static void tls_begin(struct pg_filter *p, struct mz_buf *data)
{
    struct mz_conn *conn = p->sniffer.base.down->conn;
    mz_buf_drain(data, sizeof(ssl_request));
    p->sniffer.seen = conn->rx_bytes;
    if (mz_buf_len(data)) { /* said before TLS could begin: by whom? */
        refuse(p, "postgres_plaintext_after_ssl_request");
        return;
    }
    mz_buf_append(mz_conn_out(conn), "S", 1);
    mz_conn_written(conn, false);
    if (mz_conn_start_secure(conn))
        count(p, PG_SESSIONS_TERMINATED);
    else
        refuse(p, "postgres_no_starttls");
}

/* False: not yet, or it is being answered. */
static bool first_message(struct pg_filter *p, struct mz_buf *data, bool end)
{
    size_t n = mz_buf_len(data) < sizeof(ssl_request) ? mz_buf_len(data) : sizeof(ssl_request);
    char head[sizeof(ssl_request)];
    (void)mz_buf_copyout(data, 0, head, n);
    if (memcmp(head, ssl_request, n) != 0 || (end && n < sizeof(ssl_request))) {
        p->asked = true;
        return true;
    }
    if (n == sizeof(ssl_request)) {
        p->asked = true;
        tls_begin(p, data);
    }
    return false;
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct pg_filter *p = (struct pg_filter *)(void *)f;
    if (((const struct pg_cfg *)f->cfg)->terminate_ssl && !p->asked && !first_message(p, data, end))
        return MZ_NET_STOP;
    return sniffer_data(f, data, end);
}

const struct mz_net_filter_type mz_net_filter_postgres_proxy = {
    .name = "envoy.filters.network.postgres_proxy",
    .config_type = "envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy",
    .size = sizeof(struct pg_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_data,
    .on_write = sniffer_write,
};
