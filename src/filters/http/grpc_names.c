#include "filters/http/grpc_names.h"

#define STATUS(n) [n] = { #n, MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY }
static const struct mz_stat_def stat_defs[GS__COUNT] = {
    STATUS(0),
    STATUS(1),
    STATUS(2),
    STATUS(3),
    STATUS(4),
    STATUS(5),
    STATUS(6),
    STATUS(7),
    STATUS(8),
    STATUS(9),
    STATUS(10),
    STATUS(11),
    STATUS(12),
    STATUS(13),
    STATUS(14),
    STATUS(15),
    STATUS(16),
    [GS_SUCCESS] = { "success", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_FAILURE] = { "failure", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_TOTAL] = { "total", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_REQUEST_MESSAGES] = { "request_message_count", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_RESPONSE_MESSAGES] = { "response_message_count", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_UPSTREAM_RQ_TIME] = { "upstream_rq_time", MZ_HISTOGRAM, MZ_UNIT_MS, MZ_STAT_LAZY },
};
static const struct mz_stat_kind kind = { "grpc", stat_defs, GS__COUNT };

struct known { /* a scope that a worker has met, behind it its key */
    struct mz_scope *scope;
};

void grpc_names_init(struct grpc_names *g, struct mz_stats *stats, const char *protocol,
                     unsigned workers, struct mz_arena *a)
{
    g->stats = stats;
    g->protocol = mz_str_c(protocol);
    g->n_slots = workers + 1;
    g->slots = mz_arena_alloc0(a, g->n_slots * sizeof(*g->slots));
    for (unsigned i = 0; i < g->n_slots; i++)
        mz_map_init(&g->slots[i].map, MZ_MEM_STATS);
}

void grpc_names_fini(struct grpc_names *g)
{
    for (unsigned i = 0; i < g->n_slots; i++) {
        struct mz_map *m = &g->slots[i].map;
        for (size_t k = 0; k < m->cap; k++)
            if (m->v[k].value) {
                mz_scope_unref(((struct known *)m->v[k].value)->scope);
                mz_free(MZ_MEM_STATS, m->v[k].value);
            }
        mz_map_fini(m);
    }
}

bool grpc_names_split(struct mz_str path, struct mz_str *out_service, struct mz_str *out_method)
{
    struct mz_str rest = path, part, parts[2];
    unsigned n = 0;
    ptrdiff_t query = mz_str_chr(path, '?');
    if (query >= 0)
        rest.n = (size_t)query;
    while (mz_str_split(&rest, '/', &part)) {
        if (!part.n)
            continue;
        if (n == 2)
            return false;
        parts[n++] = part;
    }
    if (n != 2)
        return false;
    *out_service = parts[0];
    *out_method = parts[1];
    return true;
}

struct mz_scope *grpc_names_scope(const struct grpc_names *g, struct mz_str cluster,
                                  struct mz_str names)
{
    char key[2 * GRPC_NAMES_BYTES];
    const struct mz_str parts[] = { cluster, g->protocol, names };
    if (mz_stats_slot >= g->n_slots || cluster.n + g->protocol.n + names.n > sizeof(key))
        return NULL;
    struct mz_map *mine = &g->slots[mz_stats_slot].map;
    size_t n = 0;
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        if (parts[i].n)
            memcpy(key + n, parts[i].p, parts[i].n);
        n += parts[i].n;
    }
    struct known *k = mz_map_get(mine, (struct mz_str){ key, n });
    if (k)
        return k->scope;
    if (names.n && g->slots[mz_stats_slot].n >= GRPC_NAMES_MAX)
        return grpc_names_scope(g, cluster, MZ_STR(""));
    g->slots[mz_stats_slot].n += names.n > 0;
    k = mz_alloc(MZ_MEM_STATS, sizeof(*k) + n);
    memcpy(k + 1, key, n);
    struct mz_str own = { (const char *)(k + 1), n };
    k->scope = mz_scope_create(g->stats, &kind, own);
    (void)mz_map_put(mine, own, k); /* it was not there */
    return k->scope;
}

void grpc_names_outcome(struct mz_scope *scope, const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_GRPC_STATUS);
    uint64_t status;
    if (!e || !scope)
        return;
    bool known = mz_str_u64(e->value, &status) && status <= 16;
    if (known)
        mz_count(scope, (unsigned)status, 1);
    mz_count(scope, known && status == 0 ? GS_SUCCESS : GS_FAILURE, 1);
    mz_count(scope, GS_TOTAL, 1);
}
