/* envoy.filters.network.postgres_proxy: counts what passes between PostgreSQL clients and servers (L5). It changes nothing. */
#include "filters/network/network_filters.h"
#include "filters/network/postgres_decode.h"
#include "proto/mapper.h"
#include "stats/stats.h"

static const struct mz_stat_def stat_defs[] = {
#define X(id, name) { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    PG_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "postgres", stat_defs, PG__COUNT };

struct pg_filter {
    struct mz_net_filter base;
    struct pg pg;
    uint64_t seen; /* bytes of the client that were fed */
};

static void count(void *arg, enum pg_stat s)
{
    struct pg_filter *f = arg;
    mz_count((struct mz_scope *)(uintptr_t)f->base.cfg, s, 1);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_PostgresProxy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_scope *s = mz_scope_create(
        f->stats, &stats,
        mz_arena_cat(
            a, 3, (struct mz_str[]){ MZ_STR("postgres."), mz_str_c(m->stat_prefix), MZ_STR(".") }));
    mz_arena_destroy(a);
    (void)err;
    return s;
}

static void config_destroy(void *cfg)
{
    mz_scope_unref(cfg);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct pg_filter *p = (struct pg_filter *)(void *)f;
    p->pg.count = count;
    p->pg.arg = p;
    return MZ_NET_CONTINUE;
}

static void feed(struct pg *pg, bool frontend, const struct mz_buf *data, size_t skip)
{
    MZ_UNINIT struct iovec iov[64];
    unsigned n = mz_buf_iov(data, iov, MZ_COUNT(iov));
    for (unsigned i = 0; i < n; i++) {
        size_t over = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= over;
        pg_feed(pg, frontend, (const char *)iov[i].iov_base + over, iov[i].iov_len - over);
    }
    if (n == MZ_COUNT(iov))
        pg->deaf =
            true; /* more fragments than a connection's buffers have: not whole, so not understood */
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct pg_filter *p = (struct pg_filter *)(void *)f;
    uint64_t fresh =
        f->down->conn->rx_bytes - p->seen; /* what later filters left was fed already */
    size_t len = mz_buf_len(data);
    (void)end;
    p->seen = f->down->conn->rx_bytes;
    feed(&p->pg, true, data, fresh < len ? len - (size_t)fresh : 0);
    return MZ_NET_CONTINUE;
}

static void on_write(struct mz_net_filter *f, const struct mz_buf *data, bool end)
{
    (void)end;
    feed(&((struct pg_filter *)(void *)f)->pg, false, data, 0);
}

const struct mz_net_filter_type mz_net_filter_postgres_proxy = {
    .name = "envoy.filters.network.postgres_proxy",
    .config_type = "envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy",
    .size = sizeof(struct pg_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_data,
    .on_write = on_write,
};
