/* envoy.filters.network.postgres_proxy: counts what passes between PostgreSQL clients and servers (L5). It changes nothing. */
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

struct pg_filter {
    struct sniffer sniffer;
    struct pg pg;
};

static void count(void *arg, enum pg_stat s)
{
    struct pg_filter *f = arg;
    mz_count((struct mz_scope *)(uintptr_t)f->sniffer.base.cfg, s, 1);
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

const struct mz_net_filter_type mz_net_filter_postgres_proxy = {
    .name = "envoy.filters.network.postgres_proxy",
    .config_type = "envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy",
    .size = sizeof(struct pg_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = sniffer_data,
    .on_write = sniffer_write,
};
