/* envoy.filters.network.mysql_proxy: counts logins between MySQL clients and servers (L5). It changes nothing. */
#include "filters/network/mysql_decode.h"
#include "filters/network/sniffer.h"
#include "proto/mapper.h"
#include "stats/stats.h"

static const struct mz_stat_def stat_defs[] = {
#define X(id, name) { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    MYSQL_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "mysql", stat_defs, MYSQL__COUNT };

struct mysql_filter {
    struct sniffer sniffer;
    struct mysql mysql;
};

static void count(void *arg, enum mysql_stat s)
{
    struct mysql_filter *f = arg;
    mz_count((struct mz_scope *)(uintptr_t)f->sniffer.base.cfg, s, 1);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    const pb_MySQLProxy *m = msg;
    return sniffer_scope(f, &stats, "mysql.", m->stat_prefix);
}

static void config_destroy(void *cfg)
{
    mz_scope_unref(cfg);
}

static bool feed(struct sniffer *s, bool from_client, const char *bytes, size_t n)
{
    struct mysql *m = &((struct mysql_filter *)(void *)s)->mysql;
    mysql_feed(m, from_client, bytes, n);
    return !m->deaf;
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *base)
{
    struct mysql_filter *f = (struct mysql_filter *)(void *)base;
    f->sniffer.feed = feed;
    f->mysql.count = count;
    f->mysql.arg = f;
    return MZ_NET_CONTINUE;
}

const struct mz_net_filter_type mz_net_filter_mysql_proxy = {
    .name = "envoy.filters.network.mysql_proxy",
    .config_type = "envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy",
    .size = sizeof(struct mysql_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = sniffer_data,
    .on_write = sniffer_write,
};
