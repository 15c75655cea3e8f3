/* What a balancer would choose, asked on the main thread by /mizzen/explain (O5): a balancer of its own, whose counts vanish. */
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

const struct mz_cluster *mz_cluster_manager_peek(struct mz_cluster_manager *m, struct mz_str name)
{
    return cluster_find(m, name);
}

bool mz_cluster_is_passthrough(const struct mz_cluster *c)
{
    return cluster_priv(c)->lb.type == &lb_original_dst;
}

static void transport_of(const struct mz_cluster *c, const struct mz_transport_factory *f,
                         struct mz_imagined_host *out)
{
    out->transport = mz_str_c(f->name);
    out->secure = f->secure;
    out->socket = cluster_transport_index(c, f);
}

bool mz_cluster_manager_explain(struct mz_cluster_manager *m, struct mz_str name,
                                struct mz_lb_ctx *ctx, struct mz_arena *a,
                                struct mz_imagined_host *out)
{
    *out = (struct mz_imagined_host){ .address = MZ_STR(""), .socket = -1 };
    struct mz_cluster *c = cluster_find(m, name);
    const struct cluster_priv *p = c ? cluster_priv(c) : NULL;
    if (!c || p->lb.type->provided) {
        if (c)
            transport_of(c, c->transport, out);
        return false;
    }
    struct mz_stats *st = mz_stats_create(mz_stats_slot + 1);
    struct mz_scope *scope = mz_scope_create(st, &mz_cluster_stats, MZ_STR("explain."));
    struct lb b;
    lb_init(&b, &p->lb, &p->priorities, mz_loop_rand(cluster_loop(c)), scope);
    lb_set_hosts(&b, cluster_sets_peek(c));
    const struct mz_host *h = lb_choose(&b, ctx);
    if (h) {
        out->address = mz_arena_dup(a, (struct mz_str){ h->addr_text, h->addr_text_n });
        transport_of(c, mz_host_transport(h), out);
    }
    ctx->where = mz_arena_dup(a, ctx->where);
    lb_fini(&b);
    mz_scope_unref(scope);
    mz_stats_destroy(st);
    return true;
}
