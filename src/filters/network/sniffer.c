#include "filters/network/sniffer.h"

#include "stats/stats.h"

struct mz_scope *sniffer_scope(const struct mz_factory *f, const struct mz_stat_kind *k,
                               const char *kind, const char *stat_prefix)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_str v[] = { mz_str_c(kind), mz_str_c(stat_prefix), MZ_STR(".") };
    struct mz_scope *s = mz_scope_create(f->stats, k, mz_arena_cat(a, MZ_COUNT(v), v));
    mz_arena_destroy(a);
    return s;
}

static void hear(struct sniffer *s, bool from_client, const struct mz_buf *data, size_t skip)
{
    for (uint32_t i = 0; i < data->n && !s->deaf; i++) {
        const struct mz_frag *f = mz_buf_frag(data, i);
        size_t over = skip < f->n ? skip : f->n;
        skip -= over;
        if (f->n > over)
            s->deaf = !s->feed(s, from_client, f->p + over, f->n - over);
    }
}

enum mz_net_flow sniffer_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct sniffer *s = (struct sniffer *)(void *)f;
    uint64_t fresh = f->down->conn->rx_bytes - s->seen; /* what later filters left was fed */
    size_t len = mz_buf_len(data);
    (void)end;
    s->seen = f->down->conn->rx_bytes;
    hear(s, true, data, fresh < len ? len - (size_t)fresh : 0);
    return MZ_NET_CONTINUE;
}

void sniffer_write(struct mz_net_filter *f, const struct mz_buf *data, bool end)
{
    (void)end;
    hear((struct sniffer *)(void *)f, false, data, 0);
}
