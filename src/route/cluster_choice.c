#include "route/route_priv.h"

static uint64_t weight_now(const struct mz_weighted_cluster *w)
{
    return w->runtime_key.n ? mz_runtime_u64(mz_runtime_here(), w->runtime_key, w->weight)
                            : w->weight;
}

/* The stream's number, or the one that a single header of the configured name holds. */
static uint64_t number_of(const struct mz_route *r, const struct mz_route_query *q)
{
    uint64_t v;
    const struct mz_header *e =
        r->weighted_random_header.n ? mz_headers_get(q->h, r->weighted_random_header) : NULL;
    return e && !mz_headers_next(q->h, e) && mz_str_u64(e->value, &v) ? v : q->random;
}

static const struct mz_weighted_cluster *weighted_choose(const struct mz_route *r,
                                                         const struct mz_route_query *q)
{
    uint64_t total = r->total_weight;
    if (r->weighted[0].runtime_key.n) {
        total = 0;
        for (uint32_t i = 0; i < r->n_weighted; i++)
            total += weight_now(&r->weighted[i]);
    }
    uint64_t at = total ? number_of(r, q) % total : 0;
    for (uint32_t i = 0; i + 1 < r->n_weighted; i++) {
        uint64_t w = weight_now(&r->weighted[i]);
        if (at < w)
            return &r->weighted[i];
        at -= w;
    }
    return &r->weighted[r->n_weighted - 1];
}

bool mz_route_cluster(const struct mz_route *r, const struct mz_route_query *q,
                      struct mz_str *out_name, const struct mz_weighted_cluster **out_weighted)
{
    const struct mz_weighted_cluster *w = r->n_weighted ? weighted_choose(r, q) : NULL;
    struct mz_str header = w ? w->cluster_header : r->cluster_header;
    *out_weighted = w;
    *out_name = w ? w->name : r->cluster;
    if (!header.n)
        return true;
    const struct mz_header *e = mz_headers_get(q->h, header);
    *out_name = e ? e->value : (struct mz_str){ 0 };
    return out_name->n > 0;
}
