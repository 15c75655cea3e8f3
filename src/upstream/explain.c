/* What a balancer would choose, asked on the main thread by /mizzen/explain (O5): a balancer of its own, whose counts vanish. */
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

bool mz_cluster_manager_explain(struct mz_cluster_manager *m, struct mz_str name,
                                struct mz_lb_ctx *ctx, struct mz_arena *a, struct mz_str *out_host)
{
    struct mz_cluster *c = cluster_find(m, name);
    const struct cluster_priv *p = c ? cluster_priv(c) : NULL;
    if (!c || p->lb.type->provided)
        return false;
    struct mz_stats *st = mz_stats_create(mz_stats_slot + 1);
    struct mz_scope *scope = mz_scope_create(st, &mz_cluster_stats, MZ_STR("explain."));
    struct lb b;
    lb_init(&b, &p->lb, &p->priorities, mz_loop_rand(cluster_loop(c)), scope);
    lb_set_hosts(&b, cluster_sets_peek(c));
    const struct mz_host *h = lb_choose(&b, ctx);
    *out_host = mz_arena_dup(a, h ? (struct mz_str){ h->addr_text, h->addr_text_n } : MZ_STR(""));
    ctx->where = mz_arena_dup(a, ctx->where);
    lb_fini(&b);
    mz_scope_unref(scope);
    mz_stats_destroy(st);
    return true;
}
